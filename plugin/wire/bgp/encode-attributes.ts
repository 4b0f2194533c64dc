/**
 * Path attributes to bytes (RFC 4271 §4.3), in ascending order of type as RFC 4271 §5 asks. Towards a neighbour without
 * 4-octet AS numbers, AS_TRANS stands in AS_PATH and AGGREGATOR and the true numbers go into AS4_PATH and
 * AS4_AGGREGATOR (RFC 6793 §4.2.2).
 */
import { addressBytes } from "../../net/address.js";
import { concat } from "../bytes.js";
import {
  ATTRIBUTE,
  FLAG_EXTENDED_LENGTH,
  FLAG_OPTIONAL,
  FLAG_PARTIAL,
  FLAG_TRANSITIVE,
} from "./attribute-codes.js";
import {
  AS_TRANS,
  type AsPathSegment,
  type PathAttributes,
  type RawAttribute,
  type UpdateContext,
} from "./attributes.js";
import { u16, u32 } from "./bytes.js";
import { communityNumber, largeCommunityParts } from "./community.js";

const SEGMENT_CODES = { set: 1, sequence: 2, "confed-sequence": 3, "confed-set": 4 } as const;

function encodeAttribute(flags: number, type: number, value: Uint8Array): Uint8Array {
  return value.length > 255
    ? concat([Uint8Array.of(flags | FLAG_EXTENDED_LENGTH, type), u16(value.length), value])
    : concat([Uint8Array.of(flags, type, value.length), value]);
}

function encodeAsPath(path: readonly AsPathSegment[], octets: 2 | 4): Uint8Array {
  const out: Uint8Array[] = [];
  // A segment holds at most 255 ASes.
  for (const { type, ases } of path)
    for (let i = 0; i < ases.length; i += 255) {
      const part = ases.slice(i, i + 255);
      out.push(Uint8Array.of(SEGMENT_CODES[type], part.length));
      for (const as of part) out.push(octets === 4 ? u32(as) : u16(as > 0xffff ? AS_TRANS : as));
    }
  return concat(out);
}

/**
 * The Path Attributes field without MP_REACH_NLRI. NEXT_HOP is included for IPv4; LOCAL_PREF, ORIGINATOR_ID and
 * CLUSTER_LIST only towards internal neighbours.
 */
export function encodeAttributes(
  a: PathAttributes,
  context: UpdateContext,
  withNextHop: boolean,
): Uint8Array {
  const out: RawAttribute[] = [];
  const internal = context.sessionType === "ibgp";
  const wellKnown = (type: number, value: Uint8Array): void => {
    out.push({ flags: FLAG_TRANSITIVE, type, value });
  };
  const optional = (type: number, value: Uint8Array): void => {
    out.push({ flags: FLAG_OPTIONAL, type, value });
  };
  const transitive = (type: number, value: Uint8Array): void => {
    out.push({ flags: FLAG_OPTIONAL | FLAG_TRANSITIVE, type, value });
  };
  const octets = context.fourOctetAs ? 4 : 2;
  wellKnown(ATTRIBUTE.ORIGIN, Uint8Array.of({ igp: 0, egp: 1, incomplete: 2 }[a.origin]));
  wellKnown(ATTRIBUTE.AS_PATH, encodeAsPath(a.asPath, octets));
  if (withNextHop) wellKnown(ATTRIBUTE.NEXT_HOP, addressBytes(a.nextHop));
  if (a.med !== undefined) optional(ATTRIBUTE.MULTI_EXIT_DISC, u32(a.med));
  if (internal && a.localPref !== undefined) wellKnown(ATTRIBUTE.LOCAL_PREF, u32(a.localPref));
  if (a.atomicAggregate) wellKnown(ATTRIBUTE.ATOMIC_AGGREGATE, new Uint8Array(0));
  if (a.aggregator !== undefined) {
    const address = addressBytes(a.aggregator.address);
    const as = a.aggregator.as;
    transitive(
      ATTRIBUTE.AGGREGATOR,
      concat([octets === 4 ? u32(as) : u16(as > 0xffff ? AS_TRANS : as), address]),
    );
    if (octets === 2 && as > 0xffff) transitive(ATTRIBUTE.AS4_AGGREGATOR, concat([u32(as), address]));
  }
  if (a.communities.length > 0)
    transitive(ATTRIBUTE.COMMUNITIES, concat(a.communities.map((c) => u32(communityNumber(c)))));
  if (internal && a.originatorId !== undefined)
    optional(ATTRIBUTE.ORIGINATOR_ID, addressBytes(a.originatorId));
  if (internal && a.clusterList.length > 0)
    optional(ATTRIBUTE.CLUSTER_LIST, concat(a.clusterList.map(addressBytes)));
  const plain = a.asPath.filter((s) => s.type === "sequence" || s.type === "set");
  if (octets === 2 && plain.some((s) => s.ases.some((as) => as > 0xffff)))
    transitive(ATTRIBUTE.AS4_PATH, encodeAsPath(plain, 4));
  if (a.largeCommunities.length > 0)
    transitive(
      ATTRIBUTE.LARGE_COMMUNITY,
      concat(a.largeCommunities.flatMap((c) => largeCommunityParts(c).map(u32))),
    );
  // Passed on without being understood: Partial (RFC 4271 §5). Extended communities are only carried, not unknown.
  for (const raw of a.unknown)
    out.push(raw.type === ATTRIBUTE.EXTENDED_COMMUNITIES ? raw : { ...raw, flags: raw.flags | FLAG_PARTIAL });
  out.sort((x, y) => x.type - y.type);
  return concat(out.map((x) => encodeAttribute(x.flags, x.type, x.value)));
}
