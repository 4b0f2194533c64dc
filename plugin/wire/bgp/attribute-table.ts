/**
 * The recognised path attributes as one table: name, fixed flags, and how the value is decoded. Each fault carries the approach
 * that RFC 7606 §7 prescribes for that attribute.
 */
import { type Address, addressFromBytes } from "../../net/address.js";
import { type Aggregator, decodeAggregator, decodeAsPath } from "./as-path.js";
import { ATTRIBUTE, FLAG_OPTIONAL, FLAG_TRANSITIVE } from "./attribute-codes.js";
import type { AsPathSegment, PathAttributes, UpdateContext } from "./attributes.js";
import { Cursor } from "./bytes.js";
import {
  type Community,
  communityFromNumber,
  type LargeCommunity,
  largeCommunityFromParts,
} from "./community.js";
import { decodeMpReach, decodeMpUnreach, type MpReach, type MpUnreach } from "./multiprotocol.js";

/** The approaches of RFC 7606 §2, mildest first. */
export type FaultHandling = "attribute-discard" | "treat-as-withdraw" | "session-reset";

/** A fault of one attribute, in words. */
export interface ValueFault {
  readonly handling: FaultHandling;
  readonly problem: string;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Collects what the attributes of one UPDATE say. */
export interface Collected {
  readonly attributes: Mutable<Omit<PathAttributes, "nextHop" | "linkLocalNextHop">>;
  nextHop: Address | undefined;
  mpReach: MpReach | undefined;
  mpUnreach: MpUnreach | undefined;
  as4Path: readonly AsPathSegment[] | undefined;
  as4Aggregator: Aggregator | undefined;
}

export const collectNothing = (): Collected => ({
  attributes: {
    origin: "incomplete",
    asPath: [],
    med: undefined,
    localPref: undefined,
    atomicAggregate: false,
    aggregator: undefined,
    communities: [],
    largeCommunities: [],
    originatorId: undefined,
    clusterList: [],
    unknown: [],
  },
  nextHop: undefined,
  mpReach: undefined,
  mpUnreach: undefined,
  as4Path: undefined,
  as4Aggregator: undefined,
});

/** Decodes the value of one attribute into `to`. */
type Decode = (value: Uint8Array, to: Collected, context: UpdateContext) => ValueFault | undefined;

export interface KnownAttribute {
  readonly name: string;
  /** The Optional and Transitive bits that it must have. */
  readonly flags: number;
  readonly decode: Decode;
}

const WELL_KNOWN = FLAG_TRANSITIVE;
const OPTIONAL = FLAG_OPTIONAL;
export const OPTIONAL_TRANSITIVE = FLAG_OPTIONAL | FLAG_TRANSITIVE;

const discard = (problem: string): ValueFault => ({ handling: "attribute-discard", problem });
const withdraw = (problem: string): ValueFault => ({ handling: "treat-as-withdraw", problem });
const resetSession = (problem: string): ValueFault => ({ handling: "session-reset", problem });
const wrongLength = (value: Uint8Array, wanted: string): string =>
  `length ${value.length}, must be ${wanted}`;

/** Requires a length; any other withdraws the routes. */
const exactly =
  (length: number, decode: Decode): Decode =>
  (value, to, context) =>
    value.length === length ? decode(value, to, context) : withdraw(wrongLength(value, `${length}`));

/** Requires a list of items of `size` octets, and at least one. */
const listOf =
  (size: number, decode: Decode): Decode =>
  (value, to, context) =>
    value.length > 0 && value.length % size === 0
      ? decode(value, to, context)
      : withdraw(wrongLength(value, `a multiple of ${size}`));

/** RFC 4271 §5.1.5, RFC 4456: only internal neighbours may send it. */
const internalOnly =
  (decode: Decode): Decode =>
  (value, to, context) =>
    context.sessionType === "ibgp"
      ? decode(value, to, context)
      : discard("received from an external neighbour");

/** RFC 6793 §6: only a neighbour with 2-octet AS numbers may send it. */
const twoOctetOnly =
  (decode: Decode): Decode =>
  (value, to, context) =>
    context.fourOctetAs ? discard("from a neighbour with 4-octet AS numbers") : decode(value, to, context);

const ORIGINS = ["igp", "egp", "incomplete"] as const;

const origin = exactly(1, (value, { attributes }) => {
  const known = ORIGINS[value[0] ?? ORIGINS.length];
  if (known === undefined) return withdraw(`undefined value ${value[0]}`);
  attributes.origin = known;
  return undefined;
});

const asPath: Decode = (value, { attributes }, { fourOctetAs }) => {
  const path = decodeAsPath(value, fourOctetAs ? 4 : 2);
  if (!path.ok) return withdraw(path.error);
  attributes.asPath = path.value;
  return undefined;
};

const unusableNextHop = (b: Uint8Array): boolean => b[0] === 0 || (b[0] ?? 0) >= 224;

const nextHop = exactly(4, (value, to) => {
  to.nextHop = addressFromBytes(value);
  return unusableNextHop(value) ? withdraw(`${to.nextHop} is not a host address`) : undefined;
});

const multiExitDisc = exactly(4, (value, { attributes }) => {
  attributes.med = new Cursor(value).u32();
  return undefined;
});

const localPref = internalOnly(
  exactly(4, (value, { attributes }) => {
    attributes.localPref = new Cursor(value).u32();
    return undefined;
  }),
);

const atomicAggregate: Decode = (value, { attributes }) => {
  if (value.length !== 0) return discard(wrongLength(value, "0"));
  attributes.atomicAggregate = true;
  return undefined;
};

const aggregator: Decode = (value, { attributes }, { fourOctetAs }) => {
  const decoded = decodeAggregator(value, fourOctetAs ? 4 : 2);
  if (decoded === undefined) return discard(wrongLength(value, fourOctetAs ? "8" : "6"));
  attributes.aggregator = decoded;
  return undefined;
};

const communities = listOf(4, (value, { attributes }) => {
  const cursor = new Cursor(value);
  const list: Community[] = [];
  for (let v = cursor.u32(); v !== undefined; v = cursor.u32()) list.push(communityFromNumber(v));
  attributes.communities = list;
  return undefined;
});

const originatorId = internalOnly(
  exactly(4, (value, { attributes }) => {
    attributes.originatorId = addressFromBytes(value);
    return undefined;
  }),
);

const clusterList = internalOnly(
  listOf(4, (value, { attributes }) => {
    const cursor = new Cursor(value);
    const ids: Address[] = [];
    for (let id = cursor.take(4); id !== undefined; id = cursor.take(4)) ids.push(addressFromBytes(id));
    attributes.clusterList = ids;
    return undefined;
  }),
);

const NOT_NEGOTIATED = "for an address family that was not negotiated";

const mpReach: Decode = (value, to, context) => {
  const reach = decodeMpReach(value, context);
  if (!reach.ok) return resetSession(reach.error);
  if (reach.value === undefined) return discard(NOT_NEGOTIATED);
  to.mpReach = reach.value;
  return undefined;
};

const mpUnreach: Decode = (value, to, context) => {
  const unreach = decodeMpUnreach(value, context);
  if (!unreach.ok) return resetSession(unreach.error);
  if (unreach.value === undefined) return discard(NOT_NEGOTIATED);
  to.mpUnreach = unreach.value;
  return undefined;
};

/** RFC 4360: passed on as received. */
const extendedCommunities = listOf(8, (value, { attributes }) => {
  const raw = { flags: OPTIONAL_TRANSITIVE, type: ATTRIBUTE.EXTENDED_COMMUNITIES, value: value.slice() };
  attributes.unknown = [...attributes.unknown, raw];
  return undefined;
});

const as4Path = twoOctetOnly((value, to) => {
  const path = decodeAsPath(value, 4);
  if (!path.ok) return discard(path.error);
  to.as4Path = path.value;
  return undefined;
});

const as4Aggregator = twoOctetOnly((value, to) => {
  to.as4Aggregator = decodeAggregator(value, 4);
  return to.as4Aggregator === undefined ? discard(wrongLength(value, "8")) : undefined;
});

const largeCommunities = listOf(12, (value, { attributes }) => {
  const cursor = new Cursor(value);
  const list = new Set<LargeCommunity>();
  while (cursor.left > 0)
    list.add(largeCommunityFromParts(cursor.u32() ?? 0, cursor.u32() ?? 0, cursor.u32() ?? 0));
  attributes.largeCommunities = [...list];
  return undefined;
});

/** By type code. */
export const KNOWN_ATTRIBUTES: Readonly<Record<number, KnownAttribute>> = {
  [ATTRIBUTE.ORIGIN]: { name: "ORIGIN", flags: WELL_KNOWN, decode: origin },
  [ATTRIBUTE.AS_PATH]: { name: "AS_PATH", flags: WELL_KNOWN, decode: asPath },
  [ATTRIBUTE.NEXT_HOP]: { name: "NEXT_HOP", flags: WELL_KNOWN, decode: nextHop },
  [ATTRIBUTE.MULTI_EXIT_DISC]: { name: "MULTI_EXIT_DISC", flags: OPTIONAL, decode: multiExitDisc },
  [ATTRIBUTE.LOCAL_PREF]: { name: "LOCAL_PREF", flags: WELL_KNOWN, decode: localPref },
  [ATTRIBUTE.ATOMIC_AGGREGATE]: { name: "ATOMIC_AGGREGATE", flags: WELL_KNOWN, decode: atomicAggregate },
  [ATTRIBUTE.AGGREGATOR]: { name: "AGGREGATOR", flags: OPTIONAL_TRANSITIVE, decode: aggregator },
  [ATTRIBUTE.COMMUNITIES]: { name: "COMMUNITIES", flags: OPTIONAL_TRANSITIVE, decode: communities },
  [ATTRIBUTE.ORIGINATOR_ID]: { name: "ORIGINATOR_ID", flags: OPTIONAL, decode: originatorId },
  [ATTRIBUTE.CLUSTER_LIST]: { name: "CLUSTER_LIST", flags: OPTIONAL, decode: clusterList },
  [ATTRIBUTE.MP_REACH_NLRI]: { name: "MP_REACH_NLRI", flags: OPTIONAL, decode: mpReach },
  [ATTRIBUTE.MP_UNREACH_NLRI]: { name: "MP_UNREACH_NLRI", flags: OPTIONAL, decode: mpUnreach },
  [ATTRIBUTE.EXTENDED_COMMUNITIES]: {
    name: "EXTENDED_COMMUNITIES",
    flags: OPTIONAL_TRANSITIVE,
    decode: extendedCommunities,
  },
  [ATTRIBUTE.AS4_PATH]: { name: "AS4_PATH", flags: OPTIONAL_TRANSITIVE, decode: as4Path },
  [ATTRIBUTE.AS4_AGGREGATOR]: { name: "AS4_AGGREGATOR", flags: OPTIONAL_TRANSITIVE, decode: as4Aggregator },
  [ATTRIBUTE.LARGE_COMMUNITY]: {
    name: "LARGE_COMMUNITY",
    flags: OPTIONAL_TRANSITIVE,
    decode: largeCommunities,
  },
};
