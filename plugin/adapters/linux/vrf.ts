/**
 * Sockets in a VRF (Documentation/networking/vrf.rst): bound to the VRF's device by SO_BINDTODEVICE (socket(7)), so that addresses and
 * routes are those of its table. `net` cannot do that to a socket of its own; it takes one that was made here.
 */
import { Socket } from "node:net";
import { PortError } from "../../driver/ports.js";
import type { Family } from "../../net/address.js";
import { errnoName } from "../../wire/netlink/errno.js";
import { AF_INET, AF_INET6 } from "../../wire/netlink/route.js";
import { close, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET, setsockopt, socket } from "./libc.js";

const SOCK_STREAM = 1;
const SO_BINDTODEVICE = 25;

/** A TCP socket that is in the VRF and not yet connected. @throws PortError when there is no such VRF. */
export function socketInVrf(vrf: string, family: Family): Socket {
  const place = `TCP socket in VRF ${vrf}`;
  const fd = socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) throw new PortError(place, `socket: ${errnoName(-fd)}`, "", errnoName(-fd));
  const bound = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, new TextEncoder().encode(`${vrf}\0`));
  if (bound < 0) {
    close(fd);
    throw new PortError(place, `SO_BINDTODEVICE: ${errnoName(-bound)}`, "does it exist?", errnoName(-bound));
  }
  return new Socket({ fd, readable: true, writable: true });
}
