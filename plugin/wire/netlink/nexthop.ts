/**
 * Nexthop objects: `struct nhmsg` and its NHA_* attributes (linux/nexthop.h). FRR installs every route through them, so
 * a route says only RTA_NH_ID and the object, which may change under the route, says where packets go. A group is a
 * list of other objects. Only what routing needs is decoded; bridge FDB nexthops carry no route.
 */
import { type Address, addressFromBytes } from "../../net/address.js";
import { ok } from "../../net/result.js";
import { Attributes, BodyWriter, type Decoded, HOST_LITTLE_ENDIAN, malformed, view } from "./attribute.js";
import { type NetlinkRequest, NLM_F_DUMP } from "./message.js";

export const RTM_NEWNEXTHOP = 104;
export const RTM_DELNEXTHOP = 105;
const RTM_GETNEXTHOP = 106;

const NHA_ID = 1;
const NHA_GROUP = 2;
const NHA_BLACKHOLE = 4;
const NHA_OIF = 5;
const NHA_GATEWAY = 6;

const NHMSG_LENGTH = 8;
/** sizeof(struct nexthop_grp) */
const NEXTHOP_GRP_LENGTH = 8;

export type NexthopObject = { readonly id: number /** RTNH_F_* */; readonly flags: number } & (
  | { readonly kind: "hop"; readonly ifindex: number; readonly gateway: Address | undefined }
  | { readonly kind: "blackhole" }
  /** Ids of the members, weights left out: an equal-cost path is an equal-cost path. */
  | { readonly kind: "group"; readonly members: readonly number[] }
);

/** The payload of RTM_NEWNEXTHOP or RTM_DELNEXTHOP. */
export function decodeNexthop(payload: Uint8Array): Decoded<NexthopObject> {
  if (payload.length < NHMSG_LENGTH) return malformed("nhmsg", `${payload.length} bytes are too short`);
  const decoded = Attributes.decode(payload, NHMSG_LENGTH, "nhmsg");
  if (!decoded.ok) return decoded;
  const a = decoded.value;
  const id = a.u32(NHA_ID);
  if (id === undefined || id === 0) return malformed("NHA_ID", "missing");
  const flags = view(payload).getUint32(4, HOST_LITTLE_ENDIAN);
  const group = a.bytes(NHA_GROUP);
  if (group !== undefined) {
    if (group.length % NEXTHOP_GRP_LENGTH !== 0) return malformed("NHA_GROUP", `${group.length} bytes`);
    const members: number[] = [];
    for (let i = 0; i < group.length; i += NEXTHOP_GRP_LENGTH)
      members.push(view(group).getUint32(i, HOST_LITTLE_ENDIAN));
    return ok({ id, flags, kind: "group", members });
  }
  if (a.has(NHA_BLACKHOLE)) return ok({ id, flags, kind: "blackhole" });
  const gateway = a.bytes(NHA_GATEWAY);
  if (gateway !== undefined && gateway.length !== 4 && gateway.length !== 16)
    return malformed("NHA_GATEWAY", `${gateway.length} bytes`);
  return ok({
    id,
    flags,
    kind: "hop",
    ifindex: a.u32(NHA_OIF) ?? 0,
    gateway: gateway === undefined ? undefined : addressFromBytes(gateway),
  });
}

/** RTM_GETNEXTHOP dump of all objects. */
export const dumpNexthops = (): NetlinkRequest => ({
  type: RTM_GETNEXTHOP,
  flags: NLM_F_DUMP,
  payload: new Uint8Array(NHMSG_LENGTH),
});

/** RTM_GETNEXTHOP of one object. */
export const getNexthop = (id: number): NetlinkRequest => ({
  type: RTM_GETNEXTHOP,
  flags: 0,
  payload: new BodyWriter().raw(new Uint8Array(NHMSG_LENGTH)).u32(NHA_ID, id).finish(),
});
