/**
 * rtnetlink links (`struct ifinfomsg`, IFLA_*) and addresses (`struct ifaddrmsg`, IFA_*): linux/rtnetlink.h,
 * linux/if_link.h, linux/if_addr.h. Requests create, set up and delete an interface and its addresses, as
 * `ip link` and `ip address` would.
 */
import { type Address, addressBytes, addressFromBytes, familyOf } from "../../net/address.js";
import { ok } from "../../net/result.js";
import { Attributes, BodyWriter, type Decoded, HOST_LITTLE_ENDIAN, malformed, view } from "./attribute.js";
import { type NetlinkRequest, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE } from "./message.js";
import { AF_INET, AF_INET6 } from "./route.js";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
/** linux/if_link.h, IFLA_VRF_* */
const IFLA_VRF_TABLE = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;

const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const IFF_LOWER_UP = 0x10000;
export const IFA_F_NODAD = 0x02;
export const IFA_F_NOPREFIXROUTE = 0x200;

const IFINFOMSG_LENGTH = 16;
const IFADDRMSG_LENGTH = 8;

export interface RawLink {
  readonly ifindex: number;
  readonly name: string;
  /** IFF_UP */
  readonly up: boolean;
  /** IFF_RUNNING or IFF_LOWER_UP: what the FIB calls 'not RTNH_F_LINKDOWN'. */
  readonly carrier: boolean;
  readonly mtu: number;
  /** IFLA_INFO_KIND: `wireguard`, `veth`, `tun`; undefined for hardware. */
  readonly kind: string | undefined;
  /** IFLA_MASTER: the interface index of the VRF or bridge that it is a member of. */
  readonly master: number | undefined;
  /** IFLA_VRF_TABLE, of a VRF. */
  readonly vrfTable: number | undefined;
  /** IFLA_IFALIAS: a text that whoever made the interface gave it. */
  readonly alias: string | undefined;
}

/** The payload of RTM_NEWLINK or RTM_DELLINK. A message of another family (a bridge port) yields `undefined`. */
export function decodeLink(payload: Uint8Array): Decoded<RawLink | undefined> {
  if (payload.length < IFINFOMSG_LENGTH)
    return malformed("ifinfomsg", `${payload.length} bytes are too short`);
  if (payload[0] !== 0) return ok(undefined);
  const v = view(payload);
  const decoded = Attributes.decode(payload, IFINFOMSG_LENGTH, "ifinfomsg");
  if (!decoded.ok) return decoded;
  const a = decoded.value;
  const ifindex = v.getInt32(4, HOST_LITTLE_ENDIAN);
  const name = a.string(IFLA_IFNAME);
  if (name === undefined || ifindex <= 0)
    return malformed("ifinfomsg", `no IFLA_IFNAME or ifindex ${ifindex}`);
  const flags = v.getUint32(8, HOST_LITTLE_ENDIAN);
  const info = a.nested(IFLA_LINKINFO);
  if (info !== undefined && !info.ok) return info;
  const kind = info?.value.string(IFLA_INFO_KIND);
  const data = kind === "vrf" ? info?.value.nested(IFLA_INFO_DATA) : undefined;
  if (data !== undefined && !data.ok) return data;
  return ok({
    ifindex,
    name,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & (IFF_RUNNING | IFF_LOWER_UP)) !== 0,
    mtu: a.u32(IFLA_MTU) ?? 0,
    kind,
    master: a.u32(IFLA_MASTER),
    vrfTable: data?.value.u32(IFLA_VRF_TABLE),
    alias: a.string(IFLA_IFALIAS),
  });
}

export interface RawAddress {
  readonly ifindex: number;
  /** IFA_LOCAL: on a point-to-point interface IFA_ADDRESS is the other end. */
  readonly address: Address;
  readonly prefixLength: number;
  /** IFA_F_* */
  readonly flags: number;
}

/** The payload of RTM_NEWADDR or RTM_DELADDR; `undefined` for a family other than IPv4 and IPv6. */
export function decodeAddress(payload: Uint8Array): Decoded<RawAddress | undefined> {
  if (payload.length < IFADDRMSG_LENGTH)
    return malformed("ifaddrmsg", `${payload.length} bytes are too short`);
  const family = payload[0];
  if (family !== AF_INET && family !== AF_INET6) return ok(undefined);
  const decoded = Attributes.decode(payload, IFADDRMSG_LENGTH, "ifaddrmsg");
  if (!decoded.ok) return decoded;
  const a = decoded.value;
  const bytes = a.bytes(IFA_LOCAL) ?? a.bytes(IFA_ADDRESS);
  const size = family === AF_INET ? 4 : 16;
  const length = payload[1] ?? 0;
  if (bytes?.length !== size || length > size * 8)
    return malformed("IFA_ADDRESS", `${bytes?.length ?? 0} bytes with prefix length ${length}`);
  return ok({
    ifindex: view(payload).getUint32(4, HOST_LITTLE_ENDIAN),
    address: addressFromBytes(bytes),
    prefixLength: length,
    flags: a.u32(IFA_FLAGS) ?? payload[2] ?? 0,
  });
}

function ifinfomsg(ifindex: number, flags: number, change: number): BodyWriter {
  const b = new Uint8Array(IFINFOMSG_LENGTH);
  const v = view(b);
  v.setInt32(4, ifindex, HOST_LITTLE_ENDIAN);
  v.setUint32(8, flags, HOST_LITTLE_ENDIAN);
  v.setUint32(12, change, HOST_LITTLE_ENDIAN);
  return new BodyWriter().raw(b);
}

export const dumpLinks = (): NetlinkRequest => ({
  type: RTM_GETLINK,
  flags: NLM_F_DUMP,
  payload: ifinfomsg(0, 0, 0).finish(),
});

export const getLink = (name: string): NetlinkRequest => ({
  type: RTM_GETLINK,
  flags: 0,
  payload: ifinfomsg(0, 0, 0).string(IFLA_IFNAME, name).finish(),
});

export const getLinkByIndex = (ifindex: number): NetlinkRequest => ({
  type: RTM_GETLINK,
  flags: 0,
  payload: ifinfomsg(ifindex, 0, 0).finish(),
});

/** RTM_NEWLINK of a kind without further parameters: `ip link add NAME type KIND`. */
export const createLink = (name: string, kind: string): NetlinkRequest => ({
  type: RTM_NEWLINK,
  flags: NLM_F_CREATE | NLM_F_EXCL,
  payload: ifinfomsg(0, 0, 0)
    .string(IFLA_IFNAME, name)
    .nested(IFLA_LINKINFO, (w) => w.string(IFLA_INFO_KIND, kind))
    .finish(),
});

export const deleteLink = (ifindex: number): NetlinkRequest => ({
  type: RTM_DELLINK,
  flags: 0,
  payload: ifinfomsg(ifindex, 0, 0).finish(),
});

export interface LinkChange {
  /** A new name: older kernels want the interface down for it. */
  readonly name?: string;
  readonly mtu?: number;
  readonly up?: boolean;
  /** Index of the master; 0: none. */
  readonly master?: number;
  readonly alias?: string;
}

/** RTM_NEWLINK on an existing interface. */
export const setLink = (ifindex: number, to: LinkChange): NetlinkRequest => {
  const w = ifinfomsg(ifindex, to.up === true ? IFF_UP : 0, to.up === undefined ? 0 : IFF_UP);
  if (to.mtu !== undefined) w.u32(IFLA_MTU, to.mtu);
  if (to.master !== undefined) w.u32(IFLA_MASTER, to.master);
  if (to.name !== undefined) w.string(IFLA_IFNAME, to.name);
  // the kernel keeps every byte of it, a NUL too
  if (to.alias !== undefined) w.bytes(IFLA_IFALIAS, new TextEncoder().encode(to.alias));
  return { type: RTM_NEWLINK, flags: 0, payload: w.finish() };
};

/** RTM_GETADDR dump of one interface (strict checking), or of all with ifindex 0. */
export function dumpAddresses(ifindex: number): NetlinkRequest {
  const b = new Uint8Array(IFADDRMSG_LENGTH);
  view(b).setUint32(4, ifindex, HOST_LITTLE_ENDIAN);
  return { type: RTM_GETADDR, flags: NLM_F_DUMP, payload: b };
}

function ifaddrmsg(ifindex: number, address: Address, length: number, flags: number): BodyWriter {
  const b = new Uint8Array(IFADDRMSG_LENGTH);
  b[0] = familyOf(address) === 4 ? AF_INET : AF_INET6;
  b[1] = length;
  b[3] = familyOf(address) === 6 && address.startsWith("fe80:") ? 253 : 0;
  view(b).setUint32(4, ifindex, HOST_LITTLE_ENDIAN);
  const bytes = addressBytes(address);
  const w = new BodyWriter().raw(b).bytes(IFA_LOCAL, bytes).bytes(IFA_ADDRESS, bytes);
  return flags === 0 ? w : w.u32(IFA_FLAGS, flags);
}

/** RTM_NEWADDR, replacing the flags of one that exists. `flags` are IFA_F_*. */
export const addAddress = (
  ifindex: number,
  address: Address,
  length: number,
  flags: number,
): NetlinkRequest => ({
  type: RTM_NEWADDR,
  flags: NLM_F_CREATE | NLM_F_REPLACE,
  payload: ifaddrmsg(ifindex, address, length, flags).finish(),
});

export const deleteAddress = (ifindex: number, address: Address, length: number): NetlinkRequest => ({
  type: RTM_DELADDR,
  flags: 0,
  payload: ifaddrmsg(ifindex, address, length, 0).finish(),
});
