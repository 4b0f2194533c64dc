/**
 * rtnetlink routes: `struct rtmsg` and its RTA_* attributes (linux/rtnetlink.h, rtnetlink(7)). Decoding keeps what the
 * kernel said, unresolved: next hops inline (RTA_OIF with RTA_GATEWAY or RTA_VIA), several in RTA_MULTIPATH, or by name
 * in RTA_NH_ID. The mirror resolves them.
 */
import {
  type Address,
  addressBytes,
  addressFromBytes,
  familyOf,
  type Prefix,
  prefixAddress,
  prefixFromBytes,
  prefixLength,
} from "../../net/address.js";
import { ok } from "../../net/result.js";
import {
  Attributes,
  align4,
  BodyWriter,
  type Decoded,
  HOST_LITTLE_ENDIAN,
  malformed,
  view,
} from "./attribute.js";
import type { NetlinkRequest } from "./message.js";
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE } from "./message.js";

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;

export const AF_INET = 2;
export const AF_INET6 = 10;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_MARK = 16;
const RTA_VIA = 18;
const RTA_UID = 25;
const RTA_IP_PROTO = 27;
const RTA_SPORT = 28;
const RTA_DPORT = 29;
const RTA_NH_ID = 30;
const IPPROTO_UDP = 17;
/** WireGuard's own socket belongs to root. */
const WIREGUARD_UID = 0;

const RT_TABLE_UNSPEC = 0;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTN_UNSPEC = 0;
const RTN_UNICAST = 1;
const RTN_UNREACHABLE = 7;
/** `rtm_flags`: a cached clone, not a FIB entry. */
export const RTM_F_CLONED = 0x200;
/** `rtm_flags` of RTM_GETROUTE: answer with the FIB entry that matches. */
const RTM_F_FIB_MATCH = 0x2000;
export const RTNH_F_DEAD = 1;
export const RTNH_F_LINKDOWN = 16;

/** RTM_GETROUTE, RTM_GETNEXTHOP, … share `struct rtmsg`: 12 bytes. */
const RTMSG_LENGTH = 12;
const RTNH_LENGTH = 8;

export type RouteType =
  | "unicast"
  | "local"
  | "broadcast"
  | "blackhole"
  | "unreachable"
  | "prohibit"
  | "throw"
  | "other";

const ROUTE_TYPES: readonly RouteType[] = [
  "other",
  "unicast",
  "local",
  "broadcast",
  "other",
  "other",
  "blackhole",
  "unreachable",
  "prohibit",
  "throw",
];

/** `struct rtnexthop` or the inline equivalent: ifindex 0 when the kernel named no interface. */
export interface RawNextHop {
  readonly ifindex: number;
  readonly gateway: Address | undefined;
  /** RTNH_F_* */
  readonly flags: number;
}

/** A route message as decoded, before links and nexthop objects are looked up. */
export interface RawRoute {
  readonly family: 4 | 6;
  readonly table: number;
  readonly prefix: Prefix;
  readonly tos: number;
  /** RTPROT_* */
  readonly protocol: number;
  readonly scope: number;
  readonly type: RouteType;
  /** RTM_F_* and RTNH_F_* of the route itself. */
  readonly flags: number;
  readonly metric: number;
  readonly prefsrc: Address | undefined;
  /** RTA_NH_ID, 0 when absent. */
  readonly nexthopId: number;
  readonly nextHops: readonly RawNextHop[];
}

function gatewayOf(attributes: Attributes): Address | undefined {
  const gateway = attributes.bytes(RTA_GATEWAY);
  if (gateway !== undefined && (gateway.length === 4 || gateway.length === 16))
    return addressFromBytes(gateway);
  const via = attributes.bytes(RTA_VIA);
  if (via === undefined || (via.length !== 6 && via.length !== 18)) return undefined;
  return addressFromBytes(via.subarray(2));
}

function decodeMultipath(bytes: Uint8Array): Decoded<RawNextHop[]> {
  const out: RawNextHop[] = [];
  const v = view(bytes);
  let i = 0;
  while (i + RTNH_LENGTH <= bytes.length) {
    const length = v.getUint16(i, HOST_LITTLE_ENDIAN);
    if (length < RTNH_LENGTH || i + length > bytes.length)
      return malformed("RTA_MULTIPATH", `rtnexthop of length ${length} at byte ${i} of ${bytes.length}`);
    const attributes = Attributes.decode(bytes.subarray(i, i + length), RTNH_LENGTH, "RTA_MULTIPATH");
    if (!attributes.ok) return attributes;
    out.push({
      ifindex: v.getUint32(i + 4, HOST_LITTLE_ENDIAN),
      gateway: gatewayOf(attributes.value),
      flags: bytes[i + 2] ?? 0,
    });
    i += align4(length);
  }
  return ok(out);
}

/** RTA_DST with its length from the header; a default route has none. */
function decodeDestination(a: Attributes, family: 4 | 6, length: number): Decoded<Prefix> {
  const size = family === 4 ? 4 : 16;
  const dst = a.bytes(RTA_DST);
  const fits = dst === undefined ? length === 0 : dst.length === size;
  if (!fits || length > size * 8)
    return malformed("RTA_DST", `destination of ${dst?.length ?? 0} bytes with prefix length ${length}`);
  return ok(prefixFromBytes(dst ?? new Uint8Array(size), length));
}

/** RTA_MULTIPATH, or the one next hop of RTA_OIF and gateway; none for blackhole and the like. */
function decodeNextHops(a: Attributes, flags: number): Decoded<readonly RawNextHop[]> {
  const multipath = a.bytes(RTA_MULTIPATH);
  if (multipath !== undefined) return decodeMultipath(multipath);
  const oif = a.u32(RTA_OIF);
  const gateway = gatewayOf(a);
  if (oif === undefined && gateway === undefined) return ok([]);
  return ok([{ ifindex: oif ?? 0, gateway, flags: flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) }]);
}

function preferredSource(a: Attributes, family: 4 | 6): Address | undefined {
  const source = a.bytes(RTA_PREFSRC);
  return source !== undefined && source.length === (family === 4 ? 4 : 16)
    ? addressFromBytes(source)
    : undefined;
}

/** The fixed header of a route message (`struct rtmsg`). */
function decodeHeader(payload: Uint8Array) {
  const [family = 0, length = 0, , tos = 0, table = 0, protocol = 0, scope = 0, type = 0] = payload;
  return {
    family,
    length,
    tos,
    table,
    protocol,
    scope,
    type,
    flags: view(payload).getUint32(8, HOST_LITTLE_ENDIAN),
  };
}

/** The payload of RTM_NEWROUTE or RTM_DELROUTE. A family other than IPv4 and IPv6 yields `undefined`. */
export function decodeRoute(payload: Uint8Array): Decoded<RawRoute | undefined> {
  if (payload.length < RTMSG_LENGTH) return malformed("rtmsg", `${payload.length} bytes are too short`);
  const header = decodeHeader(payload);
  if (header.family !== AF_INET && header.family !== AF_INET6) return ok(undefined);
  const family = header.family === AF_INET ? 4 : 6;
  const attributes = Attributes.decode(payload, RTMSG_LENGTH, "rtmsg");
  if (!attributes.ok) return attributes;
  const a = attributes.value;
  const destination = decodeDestination(a, family, header.length);
  if (!destination.ok) return destination;
  const nextHops = decodeNextHops(a, header.flags);
  if (!nextHops.ok) return nextHops;
  return ok({
    family,
    table: a.u32(RTA_TABLE) ?? header.table,
    prefix: destination.value,
    tos: header.tos,
    protocol: header.protocol,
    scope: header.scope,
    type: ROUTE_TYPES[header.type] ?? "other",
    flags: header.flags,
    metric: a.u32(RTA_PRIORITY) ?? 0,
    prefsrc: preferredSource(a, family),
    nexthopId: a.u32(RTA_NH_ID) ?? 0,
    nextHops: nextHops.value,
  });
}

interface RtMsg {
  family: 4 | 6;
  dstLength: number;
  table: number;
  protocol: number;
  scope: number;
  type: number;
  flags: number;
}

function rtmsg(m: RtMsg): BodyWriter {
  const b = new Uint8Array(RTMSG_LENGTH);
  b[0] = m.family === 4 ? AF_INET : AF_INET6;
  b[1] = m.dstLength;
  b[4] = m.table < 256 ? m.table : RT_TABLE_UNSPEC;
  b[5] = m.protocol;
  b[6] = m.scope;
  b[7] = m.type;
  view(b).setUint32(8, m.flags, HOST_LITTLE_ENDIAN);
  return new BodyWriter().raw(b);
}

/** The key of a route as the kernel compares it when it deletes. */
export interface RouteKey {
  readonly table: number;
  readonly prefix: Prefix;
  /** RTPROT_*; part of the key: the kernel deletes only what has it. */
  readonly protocol: number;
  readonly metric: number;
}

/** A route without gateways: through one interface, through several (RTA_MULTIPATH), or through none, unreachable. */
export interface DeviceRoute extends RouteKey {
  readonly ifindexes: readonly number[];
}

/** RTM_NEWROUTE with NLM_F_CREATE|NLM_F_REPLACE: `PREFIX dev IFACE`, scope link, no gateway; without interfaces `unreachable PREFIX`. */
export const replaceRoute = (route: DeviceRoute): NetlinkRequest =>
  newRoute(route, NLM_F_CREATE | NLM_F_REPLACE);

/** The same, but answers EEXIST when there is a route of this table, prefix and metric. */
export const addRoute = (route: DeviceRoute): NetlinkRequest => newRoute(route, NLM_F_CREATE | NLM_F_EXCL);

/** struct rtnexthop for each: length, flags, hops, ifindex. */
function nextHopsOf(ifindexes: readonly number[]): Uint8Array {
  const b = new Uint8Array(8 * ifindexes.length);
  for (const [i, ifindex] of ifindexes.entries()) {
    view(b).setUint16(8 * i, 8, HOST_LITTLE_ENDIAN);
    view(b).setInt32(8 * i + 4, ifindex, HOST_LITTLE_ENDIAN);
  }
  return b;
}

function newRoute(route: DeviceRoute, flags: number): NetlinkRequest {
  const { ifindexes } = route;
  const [ifindex] = ifindexes;
  const family = familyOf(route.prefix);
  const w = rtmsg({
    family,
    dstLength: prefixLength(route.prefix),
    table: route.table,
    protocol: route.protocol,
    // IPv6 knows no scope and the strict kernel wants it to be 0 in dumps only; `ip -6` sends universe.
    scope: family === 4 && ifindex !== undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
    type: ifindex === undefined ? RTN_UNREACHABLE : RTN_UNICAST,
    flags: 0,
  });
  w.bytes(RTA_DST, addressBytes(prefixAddress(route.prefix))).u32(RTA_TABLE, route.table);
  if (ifindexes.length > 1) w.bytes(RTA_MULTIPATH, nextHopsOf(ifindexes));
  else if (ifindex !== undefined) w.u32(RTA_OIF, ifindex);
  w.u32(RTA_PRIORITY, route.metric);
  return { type: RTM_NEWROUTE, flags, payload: w.finish() };
}

/** RTM_DELROUTE. The scope is RT_SCOPE_NOWHERE and the type RTN_UNSPEC, 'any', as `ip route del` has them. */
export function deleteRoute(route: RouteKey): NetlinkRequest {
  const w = rtmsg({
    family: familyOf(route.prefix),
    dstLength: prefixLength(route.prefix),
    table: route.table,
    protocol: route.protocol,
    scope: 255,
    type: RTN_UNSPEC,
    flags: 0,
  });
  w.bytes(RTA_DST, addressBytes(prefixAddress(route.prefix)))
    .u32(RTA_TABLE, route.table)
    .u32(RTA_PRIORITY, route.metric);
  return { type: RTM_DELROUTE, flags: 0, payload: w.finish() };
}

/** RTM_GETROUTE dump of one family, and of one table where the socket has NETLINK_GET_STRICT_CHK. */
export function dumpRoutes(family: 4 | 6, table: number): NetlinkRequest {
  const w = rtmsg({ family, dstLength: 0, table, protocol: 0, scope: 0, type: 0, flags: 0 });
  if (table !== RT_TABLE_UNSPEC) w.u32(RTA_TABLE, table);
  return { type: RTM_GETROUTE, flags: NLM_F_DUMP, payload: w.finish() };
}

/** The UDP packets of a WireGuard interface, as policy rules see them. */
export interface UdpFlow {
  readonly fromPort: number;
  readonly toPort: number;
  /** The mark of its socket; 0: no mark. */
  readonly mark: number;
}

const portBytes = (port: number): Uint8Array => Uint8Array.of(port >> 8, port & 0xff);

/**
 * RTM_GETROUTE for one destination; with a flow, for its packets. The answer is the FIB entry that matches, with all its
 * next hops, or the one path that is `chosen`.
 */
export function lookupRoute(
  destination: Address,
  flow?: UdpFlow,
  answer: "entry" | "chosen" = "entry",
): NetlinkRequest {
  const bytes = addressBytes(destination);
  const w = rtmsg({
    family: familyOf(destination),
    dstLength: bytes.length * 8,
    table: 0,
    protocol: 0,
    scope: 0,
    type: 0,
    flags: answer === "entry" ? RTM_F_FIB_MATCH : 0,
  });
  w.bytes(RTA_DST, bytes);
  if (flow !== undefined)
    w.u32(RTA_MARK, flow.mark)
      .u32(RTA_UID, WIREGUARD_UID)
      .u8(RTA_IP_PROTO, IPPROTO_UDP)
      .bytes(RTA_SPORT, portBytes(flow.fromPort))
      .bytes(RTA_DPORT, portBytes(flow.toPort));
  return { type: RTM_GETROUTE, flags: 0, payload: w.finish() };
}
