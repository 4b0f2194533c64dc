/**
 * One node of a lab: a process with namespaces of its own (network, mount, PID, UTS, IPC) whose PID
 * 1 does nothing but hold them. It reads a pipe from the runner, so the node, and everything
 * started in it, dies with the runner, however that dies; a kept node sleeps instead. `/run` is its
 * own, `/etc` and `/var` are the host's with a private layer on top (overlayfs in memory), as a
 * container would have them; the rest of the file system, `/tmp` included, is shared.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { TopologyNode } from "./topology.js";
import { until } from "./wait.js";

/** A node or a command in it failed: which, and what it said. */
export class LabError extends Error {
  override readonly name = "LabError";
}

export interface ExecResult {
  /** Exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly input?: string;
  /** Milliseconds, 30,000 unless given; then the command is killed and the call rejects. */
  readonly timeout?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Host path; output is appended. Without it and without `onLine`, stdout is dropped. */
  readonly stdoutFile?: string;
  /** Host path; without it stderr goes where stdout goes. */
  readonly stderrFile?: string;
  /** Called for each line of stdout; exclusive of `stdoutFile`. */
  readonly onLine?: (line: string) => void;
}

/** A long-running command in a node. */
export interface NodeProcess {
  /**
   * The `nsenter` that runs the command; killing it does not kill the command: use {@link
   * NodeProcess.kill}.
   */
  readonly child: ChildProcess;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Process id of the command itself, as the host counts. @throws Error when it has ended. */
  hostPid(): Promise<number>;
  /**
   * Signals the command itself. SIGSTOP and SIGCONT work too. Nothing happens when it has ended.
   */
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** For namespaces and mounts: an emulated machine takes its time. */
const READY_MS = 60_000;

const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** Writes the script that PID 1 of a node runs. */
export function initScript(node: TopologyNode, keep: boolean): string {
  const lines = [
    "set -e",
    `hostname ${quote(node.name)}`,
    "mount -t tmpfs -o mode=755 tmpfs /run",
    "for d in etc var; do",
    "  mkdir -p /run/.layers/$d/upper /run/.layers/$d/work",
    "  mount -t overlay overlay -o lowerdir=/$d,upperdir=/run/.layers/$d/upper,workdir=/run/.layers/$d/work /$d",
    "done",
    "mount -t sysfs sysfs /sys",
    "ip link set lo up",
  ];
  for (const [name, value] of Object.entries(node.sysctls))
    lines.push(`echo ${quote(value)} > ${quote(`/proc/sys/${name.replaceAll(".", "/")}`)}`);
  for (const { source, target, readOnly } of node.binds) {
    const [from, to] = [quote(source), quote(target)];
    lines.push(
      `if [ -d ${from} ]; then mkdir -p ${to}; else mkdir -p "$(dirname ${to})"; [ -e ${to} ] || : > ${to}; fi`,
      `mount --bind ${from} ${to}`,
    );
    if (readOnly) lines.push(`mount -o remount,bind,ro ${to}`);
  }
  // With SIGCHLD ignored the kernel reaps what is left to PID 1: a daemon that died must not linger
  // as a zombie.
  // (This is why it is bash: dash cannot ignore SIGCHLD.)
  lines.push(
    "echo ready",
    "trap '' CHLD",
    keep ? "exec sleep infinity >/dev/null 2>&1" : "exec cat >/dev/null",
  );
  return lines.join("\n");
}

/** Host process ids of the children of one process. Empty when it has ended. */
function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/**
 * Field 22 of /proc/PID/stat: tells a process from a later one with the same id. Undefined when
 * the process is gone.
 */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

const text = (stream: NodeJS.ReadableStream | null): { value: string } => {
  const out = { value: "" };
  stream?.setEncoding("utf8");
  stream?.on("data", (chunk: string) => {
    out.value += chunk;
  });
  return out;
};

export class Node {
  readonly name: string;
  readonly #env: Readonly<Record<string, string>>;

  constructor(
    name: string,
    /** PID 1 of the node, as the host counts. */
    readonly pid: number,
    env: Readonly<Record<string, string>>,
  ) {
    this.name = name;
    this.#env = env;
  }

  /**
   * Starts a node; resolves when its namespaces and mounts are there. @throws LabError with what
   * the init said.
   */
  static async start(spec: TopologyNode, keep: boolean): Promise<Node> {
    const flags = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"];
    // A session of its own: Ctrl-C reaches the runner, and the runner decides.
    // --norc: its stdin is a socket, and bash then takes itself for a remote shell and reads
    // ~/.bashrc.
    const child = spawn("unshare", [...flags, "bash", "--norc", "-c", initScript(spec, keep)], {
      detached: true,
      stdio: [keep ? "ignore" : "pipe", "pipe", "pipe"],
      env: { ...baseEnvironment(), ...spec.env },
    });
    const said = text(child.stderr);
    const out = text(child.stdout);
    const ended = new Promise<string>((done) => {
      child.once("error", (e) => done(e.message));
      child.once("close", (code) => done(said.value.trim() || `its init ended with status ${code}`));
    });
    const ready = until(`node ${spec.name} is ready`, READY_MS, () => out.value.includes("ready\n"), 5);
    const problem = await Promise.race([ready.then(() => undefined), ended]);
    const init = child.pid === undefined ? undefined : childrenOf(child.pid)[0];
    if (problem !== undefined || init === undefined) {
      ready.catch(() => undefined);
      throw new LabError(`node ${spec.name} did not start: ${problem ?? "its PID 1 is not to be found"}`);
    }
    // Nothing of a running node holds the runner's event loop.
    child.unref();
    for (const stream of [child.stdin, child.stdout, child.stderr]) unref(stream);
    child.stdin?.on("error", () => undefined);
    return new Node(spec.name, init, spec.env);
  }

  #nsenter(argv: readonly string[]): string[] {
    return ["-t", String(this.pid), "-m", "-u", "-i", "-n", "-p", "--", ...argv];
  }

  /** How an operator enters the node. */
  get enterCommand(): string {
    return `nsenter -t ${this.pid} -m -u -i -n -p -- bash`;
  }

  /**
   * Runs a command to its end, without a shell. Rejects only when it cannot be started or exceeds
   * its time.
   */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const child = spawn("nsenter", this.#nsenter(argv), {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...baseEnvironment(), ...this.#env, ...options.env },
    });
    const stdout = text(child.stdout);
    const stderr = text(child.stderr);
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
    const timeout = options.timeout ?? 30_000;
    return new Promise((done, fail) => {
      const timer = setTimeout(() => {
        // The streams of something left behind may never close: do not wait for them.
        if (child.pid !== undefined) for (const pid of childrenOf(child.pid)) signalQuietly(pid, "SIGKILL");
        child.kill("SIGKILL");
        fail(new LabError(`${this.name}: ${argv.join(" ")}: not done after ${timeout} ms: ${stderr.value}`));
      }, timeout);
      child.once("error", (e) => {
        clearTimeout(timer);
        fail(new LabError(`${this.name}: ${argv.join(" ")}: ${e.message}`));
      });
      child.once("close", (status, signal) => {
        clearTimeout(timer);
        done({ status, signal, stdout: stdout.value, stderr: stderr.value });
      });
    });
  }

  /** As {@link exec}, and returns stdout. @throws LabError unless the status is 0. */
  async must(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
    const r = await this.exec(argv, options);
    if (r.status === 0) return r.stdout;
    const said = (r.stderr.trim() || r.stdout.trim()).slice(-2000);
    throw new LabError(`${this.name}: ${argv.join(" ")}: status ${r.status ?? r.signal}: ${said}`);
  }

  /** Starts a command that stays. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): NodeProcess {
    const out = options.stdoutFile === undefined ? undefined : openSync(options.stdoutFile, "a");
    const errors = options.stderrFile === undefined ? out : openSync(options.stderrFile, "a");
    const child = spawn("nsenter", this.#nsenter(argv), {
      stdio: ["ignore", out ?? (options.onLine === undefined ? "ignore" : "pipe"), errors ?? "ignore"],
      env: { ...baseEnvironment(), ...this.#env, ...options.env },
    });
    if (out !== undefined) closeSync(out);
    if (errors !== undefined && errors !== out) closeSync(errors);
    const { onLine } = options;
    if (child.stdout !== null && onLine !== undefined)
      createInterface({ input: child.stdout }).on("line", (line) => onLine(line));
    const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((done) => {
      child.once("error", () => done({ code: 127, signal: null }));
      child.once("exit", (code, signal) => done({ code, signal }));
    });
    const over = (): boolean =>
      child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
    const hostPid = (): Promise<number> =>
      until(
        `${this.name}: ${argv.join(" ")} runs`,
        5_000,
        () => {
          if (over()) return -1;
          return child.pid === undefined ? undefined : childrenOf(child.pid)[0];
        },
        2,
      ).then((pid) => {
        if (pid < 0) throw new LabError(`${this.name}: ${argv.join(" ")} has ended`);
        return pid;
      });
    return {
      child,
      exited,
      hostPid,
      kill: async (signal) => {
        if (over()) return;
        const pid = await hostPid().catch(() => undefined);
        if (pid === undefined) return;
        signalQuietly(pid, signal);
        // nsenter stops itself when its child stops, and then has to be woken first.
        if (signal === "SIGCONT") child.kill("SIGCONT");
      },
    };
  }

  /**
   * Host path of a file in the node, for absolute paths without symbolic links (`/run/...`, not
   * `/var/run/...`).
   */
  path(inside: string): string {
    return `/proc/${this.pid}/root${inside}`;
  }

  /** Costs no process: also for sampling `/sys/class/net/wg0/statistics/tx_bytes`. */
  readFile(inside: string): string {
    return readFileSync(this.path(inside), "utf8");
  }

  writeFile(inside: string, content: string): void {
    writeFileSync(this.path(inside), content);
  }
}

function baseEnvironment(): Record<string, string> {
  return {
    // /run is the node's own: a command there takes the place of the host's
    PATH: "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: process.env.HOME ?? "/root",
    LANG: "C.UTF-8",
    ...(process.env.TERM === undefined ? {} : { TERM: process.env.TERM }),
  };
}

function unref(stream: unknown): void {
  if (
    typeof stream === "object" &&
    stream !== null &&
    "unref" in stream &&
    typeof stream.unref === "function"
  )
    stream.unref();
}

export function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}
