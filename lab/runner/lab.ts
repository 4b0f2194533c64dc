/**
 * Brings a topology up on this machine, in namespaces, without a container engine: nodes in
 * parallel, then links (veth pairs made directly between the nodes' network namespaces: nothing
 * ever appears in the host's), then every node's `exec` lines in order, nodes in parallel. Several
 * labs may run at once. A lab ends with `stop()`, with the process that started it, or, when it was
 * kept, with `stopKept()`.
 */
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { LabError, Node, signalQuietly, startTime } from "./node.js";
import { parseTopology, type Topology } from "./topology.js";
import { until } from "./wait.js";

export { LabError, Node } from "./node.js";
export { until } from "./wait.js";

export interface LabOptions {
  /** Variables for the topology file, before those of the process. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Directory for keys, logs and state; a new one under the system's temporary directory unless
   * given.
   */
  readonly runDir?: string;
  /** The lab outlives this process. */
  readonly keep?: boolean;
}

export interface Lab {
  readonly topology: Topology;
  readonly runDir: string;
  readonly nodes: readonly Node[];
  /** @throws LabError when there is no such node. */
  node(name: string): Node;
  /** Ends every process of every node and removes `runDir` unless it was given. Idempotent. */
  stop(): Promise<void>;
}

const RUN_PREFIX = "shortcutd-lab-";
const STATE_FILE = "lab.json";

interface Running {
  readonly runDir: string;
  readonly ownsRunDir: boolean;
  readonly nodes: Node[];
}

/**
 * Labs to end when this process ends. Their nodes die with it anyway; this also removes the
 * directories.
 */
const running = new Set<Running>();
let hooked = false;

function endNow(lab: Running): void {
  for (const node of lab.nodes) signalQuietly(node.pid, "SIGKILL");
  if (lab.ownsRunDir) rmSync(lab.runDir, { recursive: true, force: true });
  running.delete(lab);
}

function hookProcessEnd(): void {
  if (hooked) return;
  hooked = true;
  // Also runs after an uncaught exception.
  process.once("exit", () => {
    for (const lab of running) endNow(lab);
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      for (const lab of running) endNow(lab);
      // Nobody else wants to handle it: do what the signal does by default.
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    });
  }
}

const run = (argv: readonly [string, ...string[]]): Promise<void> =>
  new Promise((done, fail) => {
    const [command, ...rest] = argv;
    const child = spawn(command, rest, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    child.once("error", (e) => fail(new LabError(`${argv.join(" ")}: ${e.message}`)));
    child.once("close", (status) =>
      status === 0 ? done() : fail(new LabError(`${argv.join(" ")}: status ${status}: ${said.trim()}`)),
    );
  });

/**
 * All of them to their end, and then the first failure: nothing is still being set up when the lab
 * is torn down.
 */
async function all(work: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((r) => r.status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}

async function connect(topology: Topology, nodes: ReadonlyMap<string, Node>): Promise<void> {
  const pid = (name: string): string => String(nodes.get(name)?.pid ?? 0);
  for (const { ends, mtu } of topology.links) {
    const [a, b] = ends;
    const size = mtu === undefined ? [] : ["mtu", String(mtu)];
    const peer = ["peer", "name", b.dev, ...size, "netns", pid(b.node)];
    await run(["ip", "link", "add", a.dev, ...size, "netns", pid(a.node), "type", "veth", ...peer]);
  }
  const up = topology.links.flatMap(({ ends }) => ends);
  await all(
    [...nodes.values()].map((node) => {
      const mine = up.filter((end) => end.node === node.name);
      return node.must(["ip", "-batch", "-"], { input: mine.map((e) => `link set ${e.dev} up\n`).join("") });
    }),
  );
}

/**
 * Reads `file` and brings it up. Variable SHORTCUTD_LAB_KEYS is a new directory under `runDir`.
 * @throws TopologyError for a file that cannot be brought up; LabError when the machine or a
 * command says no, with everything taken down again.
 */
export async function startLab(file: string, options: LabOptions = {}): Promise<Lab> {
  if (process.getuid?.() !== 0)
    throw new LabError("a lab needs root: it makes network namespaces and interfaces");
  const keep = options.keep ?? false;
  const runDir = options.runDir ?? mkdtempSync(join(tmpdir(), RUN_PREFIX));
  const lab: Running = { runDir, ownsRunDir: options.runDir === undefined, nodes: [] };
  hookProcessEnd();
  running.add(lab);
  try {
    const keys = join(runDir, "keys");
    mkdirSync(keys, { recursive: true, mode: 0o700 });
    const env = { ...process.env, SHORTCUTD_LAB_KEYS: keys, ...options.env };
    const parsed = parseTopology(readFileSync(file, "utf8"), file, env);
    if (!parsed.ok) throw parsed.error;
    const topology = parsed.value;
    for (const { source } of topology.nodes.flatMap((n) => n.binds)) {
      if (!existsSync(source)) throw new LabError(`${file}: the bind source ${source} does not exist`);
      if (!relative("/run", source).startsWith(".."))
        throw new LabError(`${file}: the bind source ${source} is under /run, which is private to each node`);
    }
    await all(topology.nodes.map(async (spec) => lab.nodes.push(await Node.start(spec, keep))));
    const byName = new Map(lab.nodes.map((n) => [n.name, n]));
    await connect(topology, byName);
    await all(
      topology.nodes.map(async (spec) => {
        for (const argv of spec.exec) await byName.get(spec.name)?.must(argv, { timeout: 60_000 });
      }),
    );
    const ordered = topology.nodes.flatMap((spec) => byName.get(spec.name) ?? []);
    if (keep) {
      const state = ordered.map((n) => ({ name: n.name, pid: n.pid, startTime: startTime(n.pid) }));
      writeFileSync(
        join(runDir, STATE_FILE),
        `${JSON.stringify({ name: topology.name, nodes: state }, null, 2)}\n`,
      );
      running.delete(lab);
    }
    return {
      topology,
      runDir,
      nodes: ordered,
      node: (name) => {
        const node = byName.get(name);
        if (node === undefined)
          throw new LabError(`no node ${name}; nodes are ${ordered.map((n) => n.name).join(", ")}`);
        return node;
      },
      stop: async () => {
        const alive = lab.nodes.map((n) => ({ pid: n.pid, started: startTime(n.pid) }));
        endNow(lab);
        await until("every node has ended", 10_000, () =>
          alive.every((n) => n.started === undefined || startTime(n.pid) !== n.started),
        );
      },
    };
  } catch (e) {
    endNow(lab);
    throw e;
  }
}

export interface KeptLab {
  readonly runDir: string;
  readonly name: string;
  /** Nodes of it that still run. */
  readonly nodes: readonly { readonly name: string; readonly pid: number }[];
}

/**
 * Kept labs whose run directories are in `directory`; without an argument, where `startLab` puts
 * them.
 */
export function keptLabs(directory: string = tmpdir()): KeptLab[] {
  return readdirSync(directory)
    .filter((name) => basename(name).startsWith(RUN_PREFIX))
    .flatMap((name) => readKept(join(directory, name)) ?? []);
}

/** Reads the kept lab of one run directory; undefined without one. */
export function readKept(runDir: string): KeptLab | undefined {
  let state: unknown;
  try {
    state = JSON.parse(readFileSync(join(runDir, STATE_FILE), "utf8"));
  } catch {
    return undefined;
  }
  if (typeof state !== "object" || state === null || !("nodes" in state) || !Array.isArray(state.nodes))
    return undefined;
  const nodes = state.nodes.flatMap((n: unknown) => {
    if (typeof n !== "object" || n === null || !("name" in n) || !("pid" in n) || !("startTime" in n))
      return [];
    const { name, pid } = n;
    if (typeof name !== "string" || typeof pid !== "number" || startTime(pid) !== n.startTime) return [];
    return [{ name, pid }];
  });
  return { runDir, name: "name" in state ? String(state.name) : "", nodes };
}

/** Ends a kept lab and removes its run directory. */
export async function stopKept(lab: KeptLab): Promise<void> {
  const alive = readKept(lab.runDir)?.nodes ?? [];
  for (const { pid } of alive) signalQuietly(pid, "SIGKILL");
  await until("every node has ended", 10_000, () => (readKept(lab.runDir)?.nodes.length ?? 0) === 0);
  rmSync(lab.runDir, { recursive: true, force: true });
}
