/**
 * TCP sockets with options that `net` cannot set on one of its own; it takes one that was made here.
 * In a VRF (Documentation/networking/vrf.rst) a socket is bound to the VRF's device by SO_BINDTODEVICE
 * (socket(7)), so that addresses and routes are those of its table. With a password every segment is
 * signed (RFC 2385): the kernel drops what is not, from the first one on.
 */
import { Socket } from "node:net";
import { PortError } from "../../driver/ports.js";
import { type Address, familyOf } from "../../net/address.js";
import { errnoName } from "../../wire/netlink/errno.js";
import { AF_INET, AF_INET6 } from "../../wire/netlink/route.js";
import { encodeTcpMd5, IPPROTO_TCP, TCP_MD5SIG } from "../../wire/tcp-md5.js";
import { close, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET, setsockopt, setsockoptInt, socket } from "./libc.js";

const SOCK_STREAM = 1;
const SO_BINDTODEVICE = 25;
const IPPROTO_IP = 0;
const IP_TTL = 2;
const IPPROTO_IPV6 = 41;
const IPV6_UNICAST_HOPS = 16;
/** RFC 5082: a neighbour that asks for this hop limit hears nobody behind a router. */
const GTSM_HOP_LIMIT = 255;

export interface TcpOptions {
  readonly vrf: string | undefined;
  readonly password: string | undefined;
}

/** A TCP socket that is not yet connected. @throws PortError when there is no such VRF, or the kernel lacks TCP_MD5SIG. */
export function tcpSocket(remote: Address, { vrf, password }: TcpOptions): Socket {
  const place = `TCP socket${vrf === undefined ? "" : ` in VRF ${vrf}`}`;
  const v4 = familyOf(remote) === 4;
  const fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throw new PortError(place, `socket: ${errnoName(-fd)}`, "", errnoName(-fd));
  const set = (name: string, result: number, remedy: string): void => {
    if (result >= 0) return;
    close(fd);
    throw new PortError(place, `${name}: ${errnoName(-result)}`, remedy, errnoName(-result));
  };
  const [level, option] = v4 ? [IPPROTO_IP, IP_TTL] : [IPPROTO_IPV6, IPV6_UNICAST_HOPS];
  set("IP_TTL", setsockoptInt(fd, level, option, GTSM_HOP_LIMIT), "");
  if (vrf !== undefined) {
    const device = new TextEncoder().encode(`${vrf}\0`);
    set("SO_BINDTODEVICE", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device), "does it exist?");
  }
  if (password !== undefined)
    set(
      "TCP_MD5SIG",
      setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, encodeTcpMd5(remote, password)),
      "a password needs a kernel with CONFIG_TCP_MD5SIG; without one remove it here and from the daemon's configuration",
    );
  return new Socket({ fd, readable: true, writable: true });
}
