/**
 * {@link DatagramPort}: UDP sockets bound to an interface (SO_BINDTODEVICE, socket(7)), which `dgram` cannot make, handed
 * to `dgram` by descriptor for everything else. Packets are never fragmented (IP_PMTUDISC_PROBE, ip(7); IPV6_DONTFRAG,
 * RFC 3542): what does not fit the interface is an EMSGSIZE, so a full-size probe proves the MTU.
 */
import { createSocket } from "node:dgram";
import { type DatagramPort, type DatagramSocket, PortError } from "../../driver/ports.js";
import { type Address, type Endpoint, familyOf, parseAddress } from "../../net/address.js";
import { EADDRINUSE, EADDRNOTAVAIL, ENODEV, EPERM, errnoName } from "../../wire/netlink/errno.js";
import { AF_INET, AF_INET6 } from "../../wire/netlink/route.js";
import { encodeSockaddr } from "../../wire/netlink/wireguard.js";
import {
  bind,
  close,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  setsockopt,
  setsockoptInt,
  socket,
} from "../linux/libc.js";
import { requireLink } from "../linux/links.js";

const SO_REUSEADDR = 2;
const SO_RCVBUF = 8;
const SO_BINDTODEVICE = 25;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_PROBE = 3;
const IPV6_MTU_DISCOVER = 23;
const IPV6_V6ONLY = 26;
const IPV6_DONTFRAG = 62;

/** Room for a burst of registrations while the event loop is busy. */
const RECEIVE_BUFFER = 1 << 20;

const remedies: Readonly<Record<number, string>> = {
  [EADDRINUSE]: "another shortcutd on this router?",
  [EADDRNOTAVAIL]: "the address is not on the interface; is the overlay up?",
  [EPERM]: "run as root or with CAP_NET_RAW",
  [ENODEV]: "the interface does not exist",
};

const failure = (place: string, what: string, errno: number): PortError =>
  new PortError(place, `${what}: ${errnoName(errno)}`, remedies[errno] ?? "", errnoName(errno));

const isLinkLocal = (a: Address): boolean => /^fe[89ab]/.test(a);

function openDescriptor(dev: string, ifindex: number, at: Endpoint, place: string): number {
  const v6 = familyOf(at.address) === 6;
  const fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throw failure(place, "socket", -fd);
  const steps: readonly (readonly [string, () => number])[] = [
    [
      "SO_BINDTODEVICE",
      () => setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, new TextEncoder().encode(`${dev}\0`)),
    ],
    ["SO_RCVBUF", () => setsockoptInt(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER)],
    ...(v6
      ? ([
          ["IPV6_V6ONLY", () => setsockoptInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)],
          ["IPV6_MTU_DISCOVER", () => setsockoptInt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE)],
          ["IPV6_DONTFRAG", () => setsockoptInt(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1)],
        ] as const)
      : ([
          ["IP_MTU_DISCOVER", () => setsockoptInt(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)],
        ] as const)),
    ["bind", () => bind(fd, encodeSockaddr(at, isLinkLocal(at.address) ? ifindex : 0))],
  ];
  for (const [what, step] of steps) {
    const r = step();
    if (r < 0) {
      close(fd);
      throw failure(place, what, -r);
    }
  }
  return fd;
}

/** @throws PortError when the UDP port is taken on this router, by IPv4 or IPv6. */
export function requireFreePort(port: number, place: string): void {
  for (const address of ["0.0.0.0", "::"] as const) {
    const wildcard = parseAddress(address);
    if (wildcard === undefined) continue;
    const fd = socket(wildcard === "::" ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    // Without IPv6 in the kernel there is nothing to collide with.
    if (fd < 0) continue;
    if (wildcard === "::") setsockoptInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    const bound = bind(fd, encodeSockaddr({ address: wildcard, port }));
    close(fd);
    if (bound === -EADDRINUSE)
      throw new PortError(
        place,
        `UDP port ${port} is in use`,
        "another shortcutd on this router? else choose another port",
        "EADDRINUSE",
      );
  }
}

const parseSender = (address: string, port: number): Endpoint | undefined => {
  const percent = address.indexOf("%");
  const a = parseAddress(percent < 0 ? address : address.slice(0, percent));
  return a === undefined || port === 0 ? undefined : { address: a, port };
};

/** {@link DatagramPort} of the network namespace that the process is in. */
export const datagramAdapter = (): DatagramPort => ({
  async open(at, onDatagram, onError): Promise<DatagramSocket> {
    const place = `UDP socket ${at.address} port ${at.port} on ${at.dev}`;
    const { ifindex } = await requireLink(at.dev);
    const fd = openDescriptor(at.dev, ifindex, at, place);
    const v6 = familyOf(at.address) === 6;
    const report = (what: string, e: Error & { code?: string }): void =>
      onError(new PortError(place, `${what}: ${e.code ?? e.message}`, "", e.code));
    const s = createSocket({
      type: v6 ? "udp6" : "udp4",
      // Destinations are addresses: nothing to look up, and no thread to wait for.
      lookup: (host, _options, done) => done(null, host, v6 ? 6 : 4),
    });
    await new Promise<void>((resolve, reject) => {
      s.once("error", (e) => {
        close(fd);
        reject(new PortError(place, e.message));
      });
      s.bind({ fd, exclusive: true }, () => {
        s.removeAllListeners("error");
        // libuv switches it on for every socket that it is given; a second owner of the port must fail.
        setsockoptInt(fd, SOL_SOCKET, SO_REUSEADDR, 0);
        resolve();
      });
    });
    let closed = false;
    s.on("error", (e: Error & { code?: string }) => report("receive", e));
    s.on("message", (payload, rinfo) => {
      const from = parseSender(rinfo.address, rinfo.port);
      if (from !== undefined && !closed) onDatagram(from, payload);
    });
    return {
      send(to, payload) {
        if (closed) return;
        const host = isLinkLocal(to.address) ? `${to.address}%${at.dev}` : to.address;
        try {
          s.send(payload, to.port, host, (e: (Error & { code?: string }) | null) => {
            if (e !== null && !closed) report(`send of ${payload.length} bytes to ${to.address}`, e);
          });
        } catch (e) {
          onError(new PortError(place, e instanceof Error ? e.message : String(e)));
        }
      },
      close: () =>
        new Promise((resolve) => {
          if (closed) return resolve();
          closed = true;
          s.close(() => resolve());
        }),
    };
  },
});
