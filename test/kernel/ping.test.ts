/** Raw sockets beside UDP sockets, as pings use them beside WireGuard's. */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { afterEach, beforeEach, expect, test } from "vitest";
import { pingAdapter } from "../../plugin/adapters/sockets/ping.js";
import type { ExceededHop, PingSocket, PortError } from "../../plugin/driver/ports.js";
import { type Address, address, type Endpoint, formatEndpoint } from "../../plugin/net/address.js";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";
import { encodePing } from "../../plugin/wire/ping.js";
import { eventually, Namespace } from "./namespace.js";

let ns: Namespace;
let leave: () => void;
const closers: (() => Promise<void> | void)[] = [];

beforeEach(async () => {
  ns = await Namespace.create();
  leave = ns.enterNetwork();
});
afterEach(async () => {
  for (const c of closers.splice(0)) await c();
  leave();
  await ns.destroy();
});

const ping = encodePing({
  kind: "ping",
  ready: false,
  transaction: id64FromBytes(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)),
  bootId: id64FromBytes(new Uint8Array(8)),
  epochs: { mine: 1, yours: 2 },
  observed: undefined,
});

interface End {
  readonly socket: PingSocket;
  readonly got: { readonly from: string; readonly to: string; readonly payload: Uint8Array }[];
  readonly exceeded: ExceededHop[];
  readonly errors: PortError[];
}

async function end(wireguard: number, extra: readonly number[] = []): Promise<End> {
  const got: End["got"] = [];
  const exceeded: ExceededHop[] = [];
  const errors: PortError[] = [];
  const socket = await pingAdapter().open(
    { wireguard, extra },
    (from, to, payload) => got.push({ from: formatEndpoint(from), to: formatEndpoint(to), payload }),
    (e) => exceeded.push(e),
    (e) => errors.push(e),
  );
  closers.push(() => socket.close());
  return { socket, got, exceeded, errors };
}

/** Stands for WireGuard: a UDP socket that has the port. */
async function owner(
  type: "udp4" | "udp6",
  port: number,
): Promise<{ readonly got: number[]; send(to: Endpoint, bytes: Uint8Array): void }> {
  const s = createSocket({ type, ipv6Only: type === "udp6" });
  const got: number[] = [];
  s.on("message", (m) => got.push(m.length));
  await new Promise<void>((resolve, reject) => {
    s.once("error", reject);
    s.bind(port, resolve);
  });
  closers.push(() => new Promise<void>((resolve) => s.close(() => resolve())));
  return { got, send: (to, bytes) => s.send(bytes, to.port, to.address) };
}

const to = (a: Address, port: number, more: { ttl?: number; source?: Address } = {}) => ({
  to: { address: a, port },
  fromPort: 51821,
  source: more.source,
  ttl: more.ttl,
  payload: ping,
});

test.each([
  ["udp4", "127.0.0.1", "127.0.0.1:51821"],
  ["udp6", "::1", "[::1]:51821"],
] as const)(
  "pings leave from a port that %s has, with a checksum that the kernel takes",
  async (type, at, from) => {
    await owner(type, 51821);
    const wireguard = await owner(type, 51822);
    const a = await end(51821);
    const b = await end(51822);
    a.socket.send(to(address(at), 51822));
    const [first] = await eventually("a ping", () => b.got.length > 0 && b.got);
    expect(first?.from).toBe(from);
    expect([...(first?.payload ?? [])]).toEqual([...ping]);
    // the kernel drops what has a wrong checksum before a UDP socket sees it
    await eventually("WireGuard's socket has it too", () => wireguard.got.length > 0);
    expect(wireguard.got).toEqual([ping.length]);
    expect(a.errors).toEqual([]);
  },
);

test("what is not a ping stays in the kernel, as does what is for another port", async () => {
  const wireguard = await owner("udp4", 51821);
  const other = await owner("udp4", 51823);
  const b = await end(51821);
  const noise = ping.slice();
  noise[0] = 4;
  other.send({ address: address("127.0.0.1"), port: 51821 }, noise);
  other.send({ address: address("127.0.0.1"), port: 51823 }, ping);
  other.send({ address: address("127.0.0.1"), port: 51821 }, ping);
  await eventually("both for WireGuard", () => wireguard.got.length === 2);
  await eventually("the ping", () => b.got.length > 0);
  expect(b.got.map((g) => g.from)).toEqual(["127.0.0.1:51823"]);
});

test("the extra port is held: its pings are seen, and another owner is refused with EADDRINUSE", async () => {
  await owner("udp4", 51821);
  const b = await end(51821, [4244]);
  const a = await end(51822);
  a.socket.send(to(address("127.0.0.1"), 4244, { source: address("127.0.0.9") }));
  await eventually("a ping to the extra port", () => b.got.length > 0);
  expect(b.got.map((g) => [g.from, g.to])).toEqual([["127.0.0.9:51821", "127.0.0.1:4244"]]);
  await expect(end(51823, [4244])).rejects.toMatchObject({ code: "EADDRINUSE" });
});

test("a router that lets a ping die is known by its address and the ping's time to live", async () => {
  const far = await Namespace.create();
  closers.push(() => far.destroy());
  const link = ["ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", String(far.pid)];
  // process ids are the host's
  execFileSync("nsenter", ["-t", String(ns.pid), "-n", ...link]);
  ns.sh(`
    ip address add 10.9.0.1/24 dev near; ip link set near up; ip route add default via 10.9.0.2`);
  far.sh(
    "sysctl -qw net.ipv4.ip_forward=1; ip address add 10.9.0.2/24 dev far; ip link set far up; ip route add 192.0.2.0/24 dev lo",
  );
  await owner("udp4", 51821);
  const a = await end(51821);
  const sent = to(address("192.0.2.7"), 51822, { ttl: 1 });
  a.socket.send(sent);
  await eventually("time exceeded", () => a.exceeded.length > 0);
  expect(a.exceeded).toEqual([{ hop: "10.9.0.2", to: sent.to, ttl: 1 }]);
});
