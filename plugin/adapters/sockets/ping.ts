/**
 * {@link PingPort}: raw sockets that send from the UDP port of a WireGuard interface, kernel's or wireguard-go's, and receive what
 * is sent to it, so that pings use the NAT mappings which WireGuard will use. A BPF filter keeps all of WireGuard's
 * own packets in the kernel. IPv4 packets are made whole (IP_HDRINCL, raw(7)): the time to live and the source are the caller's.
 */
import {
  type ExceededHop,
  type OutgoingPing,
  type PingPort,
  type PingSocket,
  PortError,
} from "../../driver/ports.js";
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
  sendto,
  setsockopt,
  setsockoptInt,
  socket,
} from "../linux/libc.js";

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

interface Descriptor {
  readonly fd: number;
  readonly poll: ReturnType<typeof pollReadable>;
}

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
  async open(ports, onPing, onExceeded, onError): Promise<PingSocket> {
    const all = [ports.wireguard, ...ports.extra];
    const at = place(ports.wireguard);
    const opened: number[] = [];
    const polls: Descriptor[] = [];
    const keep = (fd: number): number => {
      opened.push(fd);
      return fd;
    };
    const buffer = new Uint8Array(2048);
    const from = new Uint8Array(28);
    const read = (fd: number, use: (bytes: Uint8Array) => void): void => {
      for (let i = 0; i < BATCH; i++) {
        const n = recvfrom(fd, buffer, MSG_DONTWAIT, from);
        if (n < 0) return;
        use(buffer.subarray(0, n));
      }
    };
    const watch = (fd: number, use: (bytes: Uint8Array) => void): void => {
      polls.push({ fd, poll: pollReadable(fd, () => read(fd, use)) });
    };
    const raw = (family: 4 | 6): number | undefined => {
      try {
        const fd = made(at, family === 4 ? AF_INET : AF_INET6, SOCK_RAW, IPPROTO_UDP);
        return keep(
          prepared(at, fd, [
            ["SO_ATTACH_FILTER", () => attachFilter(fd, udpFilter(family, all, PING_MAGIC))],
            family === 4
              ? ["IP_HDRINCL", () => setsockoptInt(fd, IPPROTO_IP, IP_HDRINCL, 1)]
              : ["IPV6_CHECKSUM", () => setsockoptInt(fd, IPPROTO_IPV6, IPV6_CHECKSUM, UDP_CHECKSUM_OFFSET)],
          ]),
        );
      } catch (e) {
        // a kernel without IPv6
        if (family === 6 && e instanceof PortError && e.code === errnoName(EAFNOSUPPORT)) return undefined;
        throw e;
      }
    };
    let raw4: number | undefined;
    let raw6: number | undefined;
    let chooser: number;
    try {
      raw4 = raw(4);
      raw6 = raw(6);
      for (const port of ports.extra) {
        keep(holdPort(port, 4));
        if (raw6 !== undefined) keep(holdPort(port, 6));
      }
      chooser = keep(made(at, AF_INET, SOCK_DGRAM, 0));
      const icmp = keep(made("raw ICMP socket", AF_INET, SOCK_RAW, IPPROTO_ICMP));
      const others = new Uint8Array(Uint32Array.of(~(1 << ICMP_TIME_EXCEEDED) >>> 0).buffer);
      const filtered = setsockopt(icmp, SOL_RAW, ICMP_FILTER, others);
      if (filtered < 0) throw failure("raw ICMP socket", "ICMP_FILTER", -filtered);
      watch(icmp, (bytes) => {
        const e = decodeTimeExceeded(bytes);
        if (e === undefined || e.fromPort !== ports.wireguard || (e.id & 0xff00) !== ID_MARK) return;
        const exceeded: ExceededHop = { hop: e.hop, to: e.to, ttl: e.id & 0xff };
        onExceeded(exceeded);
      });
    } catch (e) {
      for (const d of polls) d.poll.close();
      for (const fd of opened) close(fd);
      throw e;
    }
    if (raw4 !== undefined)
      watch(raw4, (bytes) => {
        const d = decodeUdp4(bytes);
        if (d !== undefined && all.includes(d.to.port)) onPing(d.from, d.to, d.payload);
      });
    if (raw6 !== undefined)
      watch(raw6, (bytes) => {
        const d = decodeUdp6(bytes);
        if (d === undefined || !all.includes(d.toPort)) return;
        const address = addressFromBytes(from.slice(8, 24));
        const here = wildcards[6];
        if (here !== undefined)
          onPing({ address, port: d.fromPort }, { address: here, port: d.toPort }, d.payload);
      });

    const report = (what: string, errno: number): void => {
      if (errno !== ENETUNREACH && errno !== EHOSTUNREACH) onError(failure(at, what, errno));
    };
    const send4 = (fd: number, p: OutgoingPing): void => {
      const address = p.source ?? sourceFor(chooser, p.to);
      if (address === undefined) return;
      const ttl = p.ttl ?? USUAL_TTL;
      const packet = encodeUdp4({
        from: { address, port: p.fromPort },
        to: p.to,
        payload: p.payload,
        ttl,
        id: p.ttl === undefined ? 0 : ID_MARK | ttl,
      });
      const r = sendto(fd, packet, encodeSockaddr({ address: p.to.address, port: p.to.port }));
      if (r < 0) report(`send to ${p.to.address}`, -r);
    };
    const send6 = (fd: number, p: OutgoingPing): void => {
      // -1 is the interface's default
      setsockoptInt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, p.ttl ?? -1);
      const to = encodeSockaddr({ address: p.to.address, port: 0 });
      const r = sendto(fd, encodeUdp6(p.fromPort, p.to.port, p.payload), to);
      if (r < 0) report(`send to ${p.to.address}`, -r);
    };
    let closed = false;
    return {
      send(p) {
        if (closed) return;
        const fd = familyOf(p.to.address) === 4 ? raw4 : raw6;
        if (fd === undefined) return;
        if (familyOf(p.to.address) === 4) send4(fd, p);
        else send6(fd, p);
      },
      async close() {
        if (closed) return;
        closed = true;
        for (const d of polls) d.poll.close();
        for (const fd of opened) close(fd);
      },
    };
  },
});
