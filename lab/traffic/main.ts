/**
 * Sequence-numbered UDP traffic, run inside the LAN hosts of a lab.
 *   traffic.js send   --to 10.3.0.10:7000 --rate 2000 --size 1000 --flow 1 [--seconds 10]
 *   traffic.js recv   --port 7000 [--report FILE]
 *   traffic.js duplex --to 10.3.0.10:7000 --port 7000 --rate 2000 --size 1000 --flow 1 [--report FILE]
 * Each prints one JSON line per `--interval` (100 ms): a {@link TrafficLine}. SIGUSR2 stops and starts the sending
 * (with `--wait` it is not started yet); SIGTERM ends everything, with a last line.
 * With `--paths MS` it also tells by which way packets came, in slices of so many milliseconds (paths.ts).
 * `kernelDrops` counts what this host's UDP sockets had no room for: loss of the measurement, not of the network.
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
  /** What this process has sent since its start; undefined when it only receives. */
  readonly sent: { readonly flow: number; readonly packets: number; readonly errors: number } | undefined;
  /** One per flow that arrived. */
  readonly received: readonly FlowCount[];
  readonly kernelDrops: number;
  readonly last: boolean;
  /** With `--paths`: the way of the newest packet of each flow, and in the last line the whole account. */
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

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      to: { type: "string" },
      port: { type: "string" },
      rate: { type: "string" },
      size: { type: "string" },
      flow: { type: "string" },
      seconds: { type: "string" },
      interval: { type: "string" },
      report: { type: "string" },
      paths: { type: "string" },
      wait: { type: "boolean", default: false },
    },
  });
  const mode = positionals[0];
  if (mode !== "send" && mode !== "recv" && mode !== "duplex") usage("the mode is send, recv or duplex");
  const interval = whole(values.interval, "interval", 100, 10, 60_000);
  const seconds = whole(values.seconds, "seconds", 0, 0, 86_400);

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
  // One socket for both directions; an IPv6 one takes IPv4 as well, unless it sends to IPv4.
  const socket = createSocket(sender?.to.address.includes(":") === false ? "udp4" : "udp6");
  const accounts = new Map<number, FlowAccount>();
  const width = values.paths === undefined ? undefined : whole(values.paths, "paths", undefined, 1, 10_000);
  const ways = new Map<number, PathAccount>();
  const sentBySlice = width === undefined ? undefined : new SentAccount(width);
  const lines: TrafficLine[] = [];
  let packets = 0;
  let errors = 0;

  socket.on("message", (bytes, from) => {
    const packet = readPacket(bytes);
    if (packet === undefined) return;
    let account = accounts.get(packet.flow);
    if (account === undefined) {
      account = new FlowAccount(packet.flow);
      accounts.set(packet.flow, account);
    }
    const delay = Number(process.hrtime.bigint() - packet.sentAt) / 1e6;
    const fresh = account.arrive(packet.number, bytes.length, performance.now(), delay);
    if (width === undefined) return;
    let way = ways.get(packet.flow);
    if (way === undefined) {
      way = new PathAccount(packet.flow, width);
      ways.set(packet.flow, way);
    }
    way.arrive(packet.number, packet.sentAt, from.port === MARK ? "direct" : "hub", fresh);
  });
  // ICMP errors come up here; they are the network's, and counted as what they are: packets that do not arrive.
  socket.on("error", () => errors++);
  const port = mode === "send" ? 0 : whole(values.port, "port", undefined, 1, 65_535);
  await new Promise<void>((done, fail) => {
    socket.once("error", fail);
    socket.bind(port, () => {
      socket.removeListener("error", fail);
      done();
    });
  });
  socket.setRecvBufferSize(8 << 20);
  socket.setSendBufferSize(4 << 20);

  const dropsBefore = kernelDrops();
  const report = (last: boolean): void => {
    const line: TrafficLine = {
      at: Date.now(),
      sent: sender === undefined ? undefined : { flow: sender.flow, packets, errors },
      received: [...accounts.values()].map((a) => a.read(performance.now())),
      kernelDrops: kernelDrops() - dropsBefore,
      last,
      ...(width === undefined
        ? {}
        : { ways: [...ways.values()].map((w) => ({ flow: w.flow, way: w.latest })) }),
      ...(width === undefined || !last
        ? {}
        : {
            paths: {
              width,
              sent: sentBySlice?.read() ?? [],
              received: [...ways.values()].map((w) => w.read()),
            },
          }),
    };
    if (values.report !== undefined) lines.push(line);
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  const timers = [setInterval(() => report(false), interval)];
  if (sender !== undefined) {
    const { rate } = sender;
    const send = packetSender(
      socket,
      sender,
      () => errors++,
      (sentAt) => sentBySlice?.send(sentAt),
    );
    let sending: NodeJS.Timeout | undefined;
    let began = 0;
    const tick = (): void => {
      for (let due = packetsDue(performance.now() - began, rate, packets, BURST); due > 0; due--)
        send(packets++);
    };
    const toggle = (): void => {
      if (sending === undefined) {
        // What was sent before counts as sent in time: the pace goes on from here.
        began = performance.now() - (packets * 1000) / rate;
        sending = setInterval(tick, TICK_MS);
        timers.push(sending);
      } else {
        clearInterval(sending);
        sending = undefined;
      }
    };
    process.on("SIGUSR2", toggle);
    if (!values.wait) toggle();
  }
  let ended = false;
  const end = (): void => {
    if (ended) return;
    ended = true;
    for (const timer of timers) clearInterval(timer);
    report(true);
    socket.close();
    if (values.report !== undefined) writeFileSync(values.report, `${JSON.stringify(lines, null, 1)}\n`);
  };
  process.once("SIGTERM", end);
  process.once("SIGINT", end);
  if (seconds > 0) setTimeout(end, seconds * 1000);
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
