/**
 * Sequence-numbered UDP traffic, run inside the LAN hosts of a lab.
 *   traffic.js send   --to 10.3.0.10:7000 --rate 2000 --size 1000 --flow 1 [--seconds 10]
 *   traffic.js recv   --port 7000 [--report FILE]
 *   traffic.js duplex --to 10.3.0.10:7000 --port 7000 --rate 2000 --size 1000 --flow 1 [--report FILE]
 * Each prints one JSON line per `--interval` (100 ms): a {@link TrafficLine}. SIGUSR2 stops and
 * starts the sending (with `--wait` it is not started yet); SIGTERM ends everything, with a last
 * line. With `--paths MS` it also tells which way packets came, in slices of that width (paths.ts).
 * `kernelDrops` counts what this host's UDP sockets had no room for: loss of the measurement, not
 * of the network.
 */
import { createSocket, type Socket } from "node:dgram";
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../../plugin/net/address.js";
import { MARK, PathAccount, type PathCount, type PathName, SentAccount } from "./paths.js";
import {
  FlowAccount,
  type FlowCount,
  HEADER_BYTES,
  packetsDue,
  readPacket,
  writePacket,
} from "./sequence.js";

export interface TrafficLine {
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Packets that this process has sent since its start; undefined when it only receives. */
  readonly sent: { readonly flow: number; readonly packets: number; readonly errors: number } | undefined;
  /** One per flow that arrived. */
  readonly received: readonly FlowCount[];
  readonly kernelDrops: number;
  readonly last: boolean;
  /**
   * With `--paths`: the way of the newest packet of each flow, and in the last line the whole
   * account.
   */
  readonly ways?: readonly { readonly flow: number; readonly way: PathName | undefined }[];
  readonly paths?: {
    /** Milliseconds. */
    readonly width: number;
    /** Slice number and packets sent in it. */
    readonly sent: readonly (readonly [number, number])[];
    readonly received: readonly PathCount[];
  };
}

const TICK_MS = 2;
/** Packets in one tick at most: a stalled sender catches up without flooding a queue on the way. */
const BURST = 64;

interface Sender {
  readonly to: Endpoint;
  readonly rate: number;
  readonly size: number;
  readonly flow: number;
}

function usage(problem: string): never {
  process.stderr.write(
    `traffic: ${problem}\nusage: traffic send|recv|duplex [--to ADDRESS:PORT] [--port N] [--rate PER_SECOND] [--size BYTES] [--flow N] [--seconds N] [--interval MS] [--report FILE] [--paths MS] [--wait]\n`,
  );
  process.exit(2);
}

function whole(
  text: string | undefined,
  name: string,
  fallback: number | undefined,
  min: number,
  max: number,
): number {
  if (text === undefined && fallback !== undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max)
    usage(`--${name} must be a whole number from ${min} to ${max}`);
  return value;
}

/** RcvbufErrors of this network namespace (`/proc/net/snmp`, `/proc/net/snmp6`). */
function kernelDrops(): number {
  let drops = 0;
  const [head, values] = readFileSync("/proc/net/snmp", "utf8")
    .split("\n")
    .filter((l) => l.startsWith("Udp:"));
  const at = head?.split(" ").indexOf("RcvbufErrors") ?? -1;
  if (at >= 0) drops += Number(values?.split(" ")[at] ?? 0);
  try {
    drops += Number(/^Udp6RcvbufErrors\s+(\d+)/m.exec(readFileSync("/proc/net/snmp6", "utf8"))?.[1] ?? 0);
  } catch {
    // No IPv6 on this host.
  }
  return drops;
}

interface Settings {
  /** Undefined for `recv`. */
  readonly sender: Sender | undefined;
  /** 0, any free one, for `send`. */
  readonly port: number;
  readonly interval: number;
  /** 0: until a signal. */
  readonly seconds: number;
  readonly report: string | undefined;
  /** Width of the slices of `--paths`, milliseconds. */
  readonly width: number | undefined;
  /** Sending waits for the first SIGUSR2. */
  readonly wait: boolean;
}

/** Reads the command line; what it cannot read ends the program. */
function settings(): Settings {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      to: text,
      port: text,
      rate: text,
      size: text,
      flow: text,
      seconds: text,
      interval: text,
      report: text,
      paths: text,
      wait: { type: "boolean", default: false },
    },
  });
  const mode = positionals[0];
  if (mode !== "send" && mode !== "recv" && mode !== "duplex") usage("the mode is send, recv or duplex");
  let sender: Sender | undefined;
  if (mode !== "recv") {
    const to = parseEndpoint(values.to ?? "");
    if (to === undefined) usage("--to must be ADDRESS:PORT");
    sender = {
      to,
      rate: whole(values.rate, "rate", 2000, 1, 100_000),
      size: whole(values.size, "size", 1000, HEADER_BYTES, 65_000),
      flow: whole(values.flow, "flow", 1, 0, 0xffff_ffff),
    };
  }
  return {
    sender,
    port: mode === "send" ? 0 : whole(values.port, "port", undefined, 1, 65_535),
    interval: whole(values.interval, "interval", 100, 10, 60_000),
    seconds: whole(values.seconds, "seconds", 0, 0, 86_400),
    report: values.report,
    width: values.paths === undefined ? undefined : whole(values.paths, "paths", undefined, 1, 10_000),
    wait: values.wait,
  };
}

/** Gets the value of a key, which is made when it is not there yet. */
function made<V>(map: Map<number, V>, key: number, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

/** Counts what arrives, flow by flow. */
class Receiver {
  readonly #flows = new Map<number, FlowAccount>();
  readonly #ways = new Map<number, PathAccount>();

  constructor(private readonly width: number | undefined) {}

  take(bytes: Uint8Array, fromPort: number): void {
    const packet = readPacket(bytes);
    if (packet === undefined) return;
    const { flow, number, sentAt } = packet;
    const delay = Number(process.hrtime.bigint() - sentAt) / 1e6;
    const account = made(this.#flows, flow, () => new FlowAccount(flow));
    const fresh = account.arrive(number, bytes.length, performance.now(), delay);
    const { width } = this;
    if (width === undefined) return;
    const way = made(this.#ways, flow, () => new PathAccount(flow, width));
    way.arrive(number, sentAt, fromPort === MARK ? "direct" : "hub", fresh);
  }

  received(): FlowCount[] {
    return [...this.#flows.values()].map((a) => a.read(performance.now()));
  }

  ways(): { flow: number; way: PathName | undefined }[] {
    return [...this.#ways.values()].map((w) => ({ flow: w.flow, way: w.latest }));
  }

  paths(): PathCount[] {
    return [...this.#ways.values()].map((w) => w.read());
  }
}

/** Sends at an even pace; {@link toggle} holds it and lets it go on. */
class Pacer {
  packets = 0;
  #timer: NodeJS.Timeout | undefined;
  #began = 0;

  constructor(
    private readonly rate: number,
    private readonly send: (number: number) => void,
  ) {}

  toggle(): void {
    if (this.#timer !== undefined) {
      this.stop();
      return;
    }
    // Earlier packets count as sent in time: the pace goes on from here.
    this.#began = performance.now() - (this.packets * 1000) / this.rate;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  #tick(): void {
    const due = packetsDue(performance.now() - this.#began, this.rate, this.packets, BURST);
    for (let i = 0; i < due; i++) this.send(this.packets++);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/**
 * Opens the one socket of both directions; an IPv6 one takes IPv4 as well, unless it sends to IPv4.
 */
async function openSocket({ sender, port }: Settings, take: Receiver["take"]): Promise<Socket> {
  const socket = createSocket(sender?.to.address.includes(":") === false ? "udp4" : "udp6");
  socket.on("message", (bytes, from) => take(bytes, from.port));
  await new Promise<void>((done, fail) => {
    socket.once("error", fail);
    socket.bind(port, () => {
      socket.removeListener("error", fail);
      done();
    });
  });
  socket.setRecvBufferSize(8 << 20);
  socket.setSendBufferSize(4 << 20);
  return socket;
}

async function main(): Promise<void> {
  const s = settings();
  const { sender, width } = s;
  const receiver = new Receiver(width);
  const sentBySlice = width === undefined ? undefined : new SentAccount(width);
  let errors = 0;
  let over = false;
  const socket = await openSocket(s, (bytes, port) => receiver.take(bytes, port));
  // ICMP errors come up here; they are the network's, and counted as what they are: packets that do
  // not arrive.
  socket.on("error", () => errors++);
  const pacer =
    sender === undefined
      ? undefined
      : new Pacer(
          sender.rate,
          packetSender(
            socket,
            sender,
            () => errors++,
            (sentAt) => sentBySlice?.send(sentAt),
          ),
        );
  const dropsBefore = kernelDrops();
  const lines: TrafficLine[] = [];
  const report = (last: boolean): void => {
    const line: TrafficLine = {
      at: Date.now(),
      sent: sender === undefined ? undefined : { flow: sender.flow, packets: pacer?.packets ?? 0, errors },
      received: receiver.received(),
      kernelDrops: kernelDrops() - dropsBefore,
      last,
      ...(width === undefined ? {} : { ways: receiver.ways() }),
      ...(width === undefined || !last
        ? {}
        : { paths: { width, sent: sentBySlice?.read() ?? [], received: receiver.paths() } }),
    };
    if (s.report !== undefined) lines.push(line);
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  const reports = setInterval(() => report(false), s.interval);
  if (pacer !== undefined) {
    process.on("SIGUSR2", () => {
      if (!over) pacer.toggle();
    });
    if (!s.wait) pacer.toggle();
  }
  onEnd(s.seconds, () => {
    over = true;
    clearInterval(reports);
    pacer?.stop();
    report(true);
    socket.close();
    if (s.report !== undefined) writeFileSync(s.report, `${JSON.stringify(lines, null, 1)}\n`);
  });
}

/** Calls `end` once: at a signal, or after this time unless that is 0. */
function onEnd(seconds: number, end: () => void): void {
  let ended = false;
  const once = (): void => {
    if (ended) return;
    ended = true;
    end();
  };
  process.once("SIGTERM", once);
  process.once("SIGINT", once);
  if (seconds > 0) setTimeout(once, seconds * 1000);
}

function packetSender(
  socket: Socket,
  to: Sender,
  onError: () => void,
  onSent: (sentAt: bigint) => void,
): (number: number) => void {
  return (number) => {
    // A buffer of its own: the kernel may read it after this call.
    const buffer = new Uint8Array(to.size);
    const sentAt = process.hrtime.bigint();
    writePacket(buffer, { flow: to.flow, number, sentAt });
    onSent(sentAt);
    socket.send(buffer, to.to.port, to.to.address, (e) => {
      if (e !== null) onError();
    });
  };
}

/** Both directions on one port, waiting to be started. */
export const trafficArguments = (
  to: Endpoint,
  port: number,
  rate: number,
  size: number,
  flow: number,
): string[] => [
  ...["duplex", "--wait", "--to", formatEndpoint(to), "--port", String(port)],
  ...["--rate", String(rate), "--size", String(size), "--flow", String(flow)],
];

const [, entry] = process.argv;
if (entry !== undefined && realpathSync(entry) === fileURLToPath(import.meta.url))
  main().catch((e: unknown) => {
    process.stderr.write(`traffic: ${e instanceof Error ? e.message : String(e)}\n`);
    process.exitCode = 1;
  });
