/**
 * Traffic between two hosts of a lab, in both directions at once, as live figures: runs
 * `traffic.js` in each host and keeps its lines. A packet is lost when the other end has not
 * received it although it should have by now.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Address } from "../../plugin/net/address.js";
import type { Lab } from "../runner/lab.js";
import { LabError, type NodeProcess } from "../runner/node.js";
import { until } from "../runner/wait.js";
import { type TrafficLine, trafficArguments } from "./main.js";
import type { PathCount, PathName } from "./paths.js";

export interface FlowEnd {
  readonly node: string;
  readonly address: Address;
}

export interface FlowOptions {
  /** UDP port on both hosts. */
  readonly port?: number;
  /** Packets per second, each way. */
  readonly rate?: number;
  /** Bytes of UDP payload. */
  readonly size?: number;
  /** Called with every line of either host. */
  readonly onLine?: (node: string, line: TrafficLine) => void;
  /** The built `traffic.js`, when it is not beside this module or in `dist/`. */
  readonly program?: string;
  /**
   * Milliseconds: account for the paths in slices of this width. The hosts mark what came directly
   * (`markDirect`).
   */
  readonly paths?: number;
  /** Both directions' flow numbers; 1 and 2 unless another pair of flows has them. */
  readonly flows?: readonly [number, number];
}

/** One direction since its start. */
export interface DirectionCount {
  readonly from: string;
  readonly to: string;
  readonly sent: number;
  readonly received: number;
  /**
   * Known to be missing at the receiver. In {@link Flows.stop}'s result: everything sent and not
   * received.
   */
  readonly lost: number;
  readonly duplicated: number;
  readonly reordered: number;
  /**
   * Lost in the receiving host's socket buffer: the measurement's own loss, contained in `lost`.
   */
  readonly kernelDrops: number;
  /** Milliseconds. */
  readonly longestSilence: number;
}

/** One direction over some span of time. */
export type DirectionTotal = Omit<DirectionCount, "longestSilence">;

/** The path of the packets of one direction: packets sent by its sender, and received by its receiver. */
export interface DirectionPaths {
  readonly width: number;
  readonly sent: readonly (readonly [number, number])[];
  readonly received: PathCount;
}

export interface Flows {
  /** Both directions as of the latest lines. `longestSilence` is that of the whole time so far. */
  read(): readonly [DirectionCount, DirectionCount];
  /** Ends the senders, lets the last packets arrive, and gives the final account. */
  stop(): Promise<readonly [DirectionCount, DirectionCount]>;
  /** Holds both senders, or lets them go on. */
  toggle(): Promise<void>;
  /**
   * With `paths`: the way of each direction's newest packet, and when (milliseconds since the
   * epoch) that was said.
   */
  ways(): readonly { readonly at: number; readonly way: PathName | undefined }[];
  /** With `paths`, after {@link Flows.stop}. */
  paths(): readonly [DirectionPaths, DirectionPaths] | undefined;
}

function builtProgram(): string {
  const here = fileURLToPath(new URL("./main.js", import.meta.url));
  const built = fileURLToPath(new URL("../../dist/lab/traffic/main.js", import.meta.url));
  const found = [here, built].find((p) => existsSync(p));
  if (found === undefined) throw new LabError(`${built} does not exist: run npm run build`);
  return found;
}

/** One host's program, which sends one flow and receives the other. */
class End {
  latest: TrafficLine | undefined;
  /** Longest silence of what it receives, milliseconds. */
  silence = 0;
  readonly process: NodeProcess;

  constructor(
    lab: Lab,
    readonly from: FlowEnd,
    to: FlowEnd,
    readonly flow: number,
    isOver: () => boolean,
    options: FlowOptions,
  ) {
    const { port = 7000, rate = 2000, size = 1000 } = options;
    const argv = trafficArguments({ address: to.address, port }, port, rate, size, flow);
    if (options.paths !== undefined) argv.push("--paths", String(options.paths));
    const program = options.program ?? builtProgram();
    this.process = lab.node(from.node).spawn([process.execPath, program, ...argv], {
      onLine: (text) => {
        const line = decodeLine(text);
        if (line === undefined) return;
        this.latest = line;
        if (!isOver())
          for (const r of line.received)
            if (r.flow !== flow) this.silence = Math.max(this.silence, r.longestSilence);
        options.onLine?.(from.node, line);
      },
    });
  }
}

/** Counts one direction from both ends. */
function count(from: End, to: End, final: boolean): DirectionCount {
  const sent = from.latest?.sent?.packets ?? 0;
  const r = to.latest?.received.find((f) => f.flow === from.flow);
  const received = r?.received ?? 0;
  return {
    from: from.from.node,
    to: to.from.node,
    sent,
    received,
    lost: final ? sent - received : (r?.missing ?? 0),
    duplicated: r?.duplicated ?? 0,
    reordered: r?.reordered ?? 0,
    kernelDrops: to.latest?.kernelDrops ?? 0,
    longestSilence: to.silence,
  };
}

function pathsOf(from: End, to: End): DirectionPaths | undefined {
  const sent = from.latest?.paths;
  const received = to.latest?.paths?.received.find((r) => r.flow === from.flow);
  return sent === undefined || received === undefined
    ? undefined
    : { width: sent.width, sent: sent.sent, received };
}

/** Both ends, running. */
class RunningFlows implements Flows {
  readonly #ends: readonly [End, End];
  #over = false;

  constructor(lab: Lab, a: FlowEnd, b: FlowEnd, options: FlowOptions) {
    const [there, back] = options.flows ?? [1, 2];
    const isOver = (): boolean => this.#over;
    this.#ends = [new End(lab, a, b, there, isOver, options), new End(lab, b, a, back, isOver, options)];
  }

  async begin(): Promise<void> {
    // Neither sends before the other listens.
    await until("both traffic programs run", 10_000, () => this.#ends.every((e) => e.latest !== undefined));
    await this.toggle();
    await until("both hosts receive the other's traffic", 10_000, () =>
      this.read().every((d) => d.received > 0),
    );
  }

  read(): readonly [DirectionCount, DirectionCount] {
    return this.#counts(false);
  }

  async toggle(): Promise<void> {
    await this.#signal("SIGUSR2");
  }

  async stop(): Promise<readonly [DirectionCount, DirectionCount]> {
    this.#over = true;
    // Stops the sending only, so that what is under way still counts.
    await this.toggle();
    let before = -1;
    await until(
      "the last packets have arrived",
      5_000,
      () => {
        const now = this.read().reduce((sum, d) => sum + d.received, 0);
        const settled = now === before;
        before = now;
        return settled;
      },
      300,
    );
    await this.#signal("SIGTERM");
    await Promise.all(this.#ends.map((e) => e.process.exited));
    await until("the last lines are read", 2_000, () => this.#ends.every((e) => e.latest?.last === true));
    return this.#counts(true);
  }

  /** Ends both programs without an account. */
  async kill(): Promise<void> {
    await this.#signal("SIGKILL");
  }

  ways(): readonly { readonly at: number; readonly way: PathName | undefined }[] {
    const [a, b] = this.#ends;
    return [
      [a, b],
      [b, a],
    ].map(([from, to]) => {
      const line = to?.latest;
      return { at: line?.at ?? 0, way: line?.ways?.find((w) => w.flow === from?.flow)?.way };
    });
  }

  paths(): readonly [DirectionPaths, DirectionPaths] | undefined {
    const [a, b] = this.#ends;
    const [x, y] = [pathsOf(a, b), pathsOf(b, a)];
    return x === undefined || y === undefined ? undefined : [x, y];
  }

  #counts(final: boolean): readonly [DirectionCount, DirectionCount] {
    const [a, b] = this.#ends;
    return [count(a, b, final), count(b, a, final)];
  }

  async #signal(signal: NodeJS.Signals): Promise<void> {
    await Promise.all(this.#ends.map((e) => e.process.kill(signal)));
  }
}

/**
 * Starts both directions and waits until each has received something. @throws Error when that takes
 * 10 s.
 */
export async function startFlows(
  lab: Lab,
  a: FlowEnd,
  b: FlowEnd,
  options: FlowOptions = {},
): Promise<Flows> {
  const flows = new RunningFlows(lab, a, b, options);
  try {
    await flows.begin();
  } catch (e) {
    await flows.kill();
    throw e;
  }
  return flows;
}

function decodeLine(text: string): TrafficLine | undefined {
  try {
    const value: unknown = JSON.parse(text);
    // Our own program wrote it; a line cut off at its end does not parse.
    return typeof value === "object" && value !== null && "at" in value ? (value as TrafficLine) : undefined;
  } catch {
    return undefined;
  }
}
