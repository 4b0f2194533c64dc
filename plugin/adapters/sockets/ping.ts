/**
 * {@link PingPort}: raw sockets that send from the UDP port of a WireGuard interface, kernel's or wireguard-go's, and receive what
 * is sent to it, so that pings use the NAT mappings which WireGuard will use. A BPF filter keeps all of WireGuard's
 * own packets in the kernel. IPv4 packets are made whole (IP_HDRINCL, raw(7)): the time to live and the source are the caller's.
 */
import { type OutgoingPing, type PingPort, type PingSocket, PortError } from "../../driver/ports.js";
import { type Address, addressFromBytes, type Endpoint, familyOf, parseAddress } from "../../net/address.js";
import { EADDRINUSE, EHOSTUNREACH, EINVAL, ENETUNREACH, EPERM, errnoName } from "../../wire/netlink/errno.js";
import { AF_INET, AF_INET6 } from "../../wire/netlink/route.js";
import { encodeSockaddr } from "../../wire/netlink/wireguard.js";
import { PING_MAGIC } from "../../wire/ping.js";
import {
  decodeTimeExceeded,
  decodeUdp4,
  decodeUdp6,
  encodeUdp4,
  encodeUdp6,
  IPPROTO_UDP,
  nothingFilter,
  udpFilter,
} from "../../wire/udp.js";
import {
  attachFilter,
  bind,
  close,
  connect,
  getsockname,
  MSG_DONTWAIT,
  pollReadable,
  recvfrom,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_SOCKET,
  sendto,
  setsockopt,
  setsockoptInt,
  socket,
} from "../linux/libc.js";

const SO_MARK = 36;
const IPPROTO_IP = 0;
const IPPROTO_ICMP = 1;
const IPPROTO_IPV6 = 41;
const SOL_RAW = 255;
const IP_HDRINCL = 3;
const IPV6_UNICAST_HOPS = 16;
const IPV6_V6ONLY = 26;
/** RFC 3542 §3.1: where in the payload the checksum is. */
const IPV6_CHECKSUM = 7;
const UDP_CHECKSUM_OFFSET = 6;
const ICMP_FILTER = 1;
const ICMP_TIME_EXCEEDED = 11;
const EAFNOSUPPORT = 97;

const USUAL_TTL = 64;
/** Marks an IPv4 ID as one of ours; its low byte is the TTL, which an ICMP error brings back. */
const ID_MARK = 0x5c00;
/** Datagrams read before other callbacks have their turn. */
const BATCH = 64;

const place = (port: number): string => `raw UDP socket for port ${port}`;
const failure = (at: string, what: string, errno: number): PortError =>
  new PortError(
    at,
    `${what}: ${errnoName(errno)}`,
    errno === EPERM ? "run as root or with CAP_NET_RAW" : errno === EADDRINUSE ? "choose another port" : "",
    errnoName(errno),
  );

function made(at: string, family: number, type: number, protocol: number): number {
  const fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) throw failure(at, "socket", -fd);
  return fd;
}

/** Every step in order; the descriptor is closed when one fails. */
function prepared(at: string, fd: number, steps: readonly (readonly [string, () => number])[]): number {
  for (const [what, step] of steps) {
    const r = step();
    if (r >= 0) continue;
    close(fd);
    throw failure(at, what, -r);
  }
  return fd;
}

const wildcards = { 4: parseAddress("0.0.0.0"), 6: parseAddress("::") } as const;

/** A UDP socket that nobody reads: without one the kernel answers "port unreachable". */
function holdPort(port: number, family: 4 | 6): number {
  const wildcard = wildcards[family];
  const at = `UDP port ${port}`;
  const fd = made(at, family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
  return prepared(at, fd, [
    ["IPV6_V6ONLY", () => (family === 6 ? setsockoptInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0)],
    ["SO_ATTACH_FILTER", () => attachFilter(fd, nothingFilter())],
    [
      "bind",
      () => (wildcard === undefined ? -EINVAL : bind(fd, encodeSockaddr({ address: wildcard, port }))),
    ],
  ]);
}

/** The source that the kernel would choose: what connect(2) finds, without a packet. */
function sourceFor(fd: number, to: Endpoint): Address | undefined {
  const none = new Uint8Array(16); // AF_UNSPEC dissolves the association (connect(2))
  connect(fd, none);
  if (connect(fd, encodeSockaddr(to)) < 0) return undefined;
  const name = new Uint8Array(16);
  if (getsockname(fd, name) < 0) return undefined;
  return addressFromBytes(name.slice(4, 8));
}

/** {@link PingPort} of the network namespace that the process is in. */
export const pingAdapter = (): PingPort => ({
  open: async (...args): Promise<PingSocket> => new RawPingSocket(...args),
});

class RawPingSocket implements PingSocket {
  private readonly place: string;
  /** The ports whose datagrams are pings: WireGuard's and those of our own. */
  private readonly ports: readonly number[];
  private readonly raw4: number;
  /** Undefined in a kernel without IPv6. */
  private readonly raw6: number | undefined;
  /** Tells the source address that the kernel would choose. */
  private readonly chooser: number;
  private readonly opened: number[] = [];
  private readonly polls: ReturnType<typeof pollReadable>[] = [];
  private readonly buffer = new Uint8Array(2048);
  private readonly from = new Uint8Array(28);
  private closed = false;

  /** @throws PortError; everything that was opened is closed then. */
  constructor(
    private readonly bound: Parameters<PingPort["open"]>[0],
    private readonly onPing: Parameters<PingPort["open"]>[1],
    private readonly onExceeded: Parameters<PingPort["open"]>[2],
    private readonly onError: Parameters<PingPort["open"]>[3],
  ) {
    this.place = place(bound.wireguard);
    this.ports = [bound.wireguard, ...bound.extra];
    try {
      this.raw4 = this.openRaw(4);
      this.raw6 = this.openRaw6();
      this.holdOwnPorts();
      const chooser = made(this.place, AF_INET, SOCK_DGRAM, 0);
      this.chooser = this.keep(prepared(this.place, chooser, [["SO_MARK", () => this.mark(chooser)]]));
      this.watchExceeded();
    } catch (e) {
      this.release();
      throw e;
    }
    this.watch(this.raw4, (bytes) => this.received4(bytes));
    if (this.raw6 !== undefined) this.watch(this.raw6, (bytes) => this.received6(bytes));
  }

  private keep(fd: number): number {
    this.opened.push(fd);
    return fd;
  }

  private openRaw(family: 4 | 6): number {
    const at = this.place;
    const fd = made(at, family === 4 ? AF_INET : AF_INET6, SOCK_RAW, IPPROTO_UDP);
    return this.keep(
      prepared(at, fd, [
        ["SO_ATTACH_FILTER", () => attachFilter(fd, udpFilter(family, this.ports, PING_MAGIC))],
        ["SO_MARK", () => this.mark(fd)],
        family === 4
          ? ["IP_HDRINCL", () => setsockoptInt(fd, IPPROTO_IP, IP_HDRINCL, 1)]
          : ["IPV6_CHECKSUM", () => setsockoptInt(fd, IPPROTO_IPV6, IPV6_CHECKSUM, UDP_CHECKSUM_OFFSET)],
      ]),
    );
  }

  /** Marks what a socket sends like WireGuard's own packets. */
  private mark(fd: number): number {
    const { mark = 0 } = this.bound;
    return mark === 0 ? 0 : setsockoptInt(fd, SOL_SOCKET, SO_MARK, mark);
  }

  private openRaw6(): number | undefined {
    try {
      return this.openRaw(6);
    } catch (e) {
      if (e instanceof PortError && e.code === errnoName(EAFNOSUPPORT)) return undefined;
      throw e;
    }
  }

  private holdOwnPorts(): void {
    for (const port of this.bound.extra) {
      this.keep(holdPort(port, 4));
      if (this.raw6 !== undefined) this.keep(holdPort(port, 6));
    }
  }

  /** Watches for routers that let one of our pings die (ICMP Time Exceeded). */
  private watchExceeded(): void {
    const at = "raw ICMP socket";
    const icmp = this.keep(made(at, AF_INET, SOCK_RAW, IPPROTO_ICMP));
    const others = new Uint8Array(Uint32Array.of(~(1 << ICMP_TIME_EXCEEDED) >>> 0).buffer);
    const filtered = setsockopt(icmp, SOL_RAW, ICMP_FILTER, others);
    if (filtered < 0) throw failure(at, "ICMP_FILTER", -filtered);
    this.watch(icmp, (bytes) => {
      const e = decodeTimeExceeded(bytes);
      if (e === undefined || e.fromPort !== this.bound.wireguard || (e.id & 0xff00) !== ID_MARK) return;
      this.onExceeded({ hop: e.hop, to: e.to, ttl: e.id & 0xff });
    });
  }

  private watch(fd: number, use: (bytes: Uint8Array) => void): void {
    this.polls.push(pollReadable(fd, () => this.read(fd, use)));
  }

  private read(fd: number, use: (bytes: Uint8Array) => void): void {
    for (let i = 0; i < BATCH; i++) {
      const n = recvfrom(fd, this.buffer, MSG_DONTWAIT, this.from);
      if (n < 0) return;
      use(this.buffer.subarray(0, n));
    }
  }

  private received4(bytes: Uint8Array): void {
    const d = decodeUdp4(bytes);
    if (d !== undefined && this.ports.includes(d.to.port)) this.onPing(d.from, d.to, d.payload);
  }

  /** Without the IPv6 header: its source comes with the datagram, its destination is not known. */
  private received6(bytes: Uint8Array): void {
    const d = decodeUdp6(bytes);
    if (d === undefined || !this.ports.includes(d.toPort)) return;
    const address = addressFromBytes(this.from.slice(8, 24));
    const here = wildcards[6];
    if (here !== undefined)
      this.onPing({ address, port: d.fromPort }, { address: here, port: d.toPort }, d.payload);
  }

  send(ping: OutgoingPing): void {
    if (this.closed) return;
    if (familyOf(ping.to.address) === 4) this.send4(this.raw4, ping);
    else if (this.raw6 !== undefined) this.send6(this.raw6, ping);
  }

  private send4(fd: number, p: OutgoingPing): void {
    const address = p.source ?? sourceFor(this.chooser, p.to);
    if (address === undefined) return;
    const ttl = p.ttl ?? USUAL_TTL;
    const packet = encodeUdp4({
      from: { address, port: p.fromPort },
      to: p.to,
      payload: p.payload,
      ttl,
      id: p.ttl === undefined ? 0 : ID_MARK | ttl,
    });
    this.report(p.to.address, sendto(fd, packet, encodeSockaddr(p.to)));
  }

  private send6(fd: number, p: OutgoingPing): void {
    // -1 is the interface's default
    setsockoptInt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, p.ttl ?? -1);
    const to = encodeSockaddr({ address: p.to.address, port: 0 });
    this.report(p.to.address, sendto(fd, encodeUdp6(p.fromPort, p.to.port, p.payload), to));
  }

  private report(to: Address, result: number): void {
    if (result >= 0 || result === -ENETUNREACH || result === -EHOSTUNREACH) return;
    this.onError(failure(this.place, `send to ${to}`, -result));
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.release();
  }

  private release(): void {
    for (const p of this.polls.splice(0)) p.close();
    for (const fd of this.opened.splice(0)) close(fd);
  }
}
