/**
 * Path attributes, decoded with the error handling of RFC 7606: a fault in one attribute costs the routes of this
 * UPDATE or the attribute, not the session. Each fault names the approach that the RFC prescribes for it; the UPDATE
 * decoder applies the strictest. What an attribute is allowed to be comes from one table.
 */
import { type Address, addressFromBytes, type Family } from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import {
  AS_TRANS,
  type AsPathSegment,
  type Nlri,
  type PathAttributes,
  type RawAttribute,
  type UpdateContext,
} from "./attributes.js";
import { Cursor, concat, u16 } from "./bytes.js";
import {
  type Community,
  communityFromNumber,
  type LargeCommunity,
  largeCommunityFromParts,
} from "./community.js";
import { decodeNlri, familyOfAfi, SAFI_UNICAST } from "./nlri.js";
import { type Notification, notification } from "./notification.js";

/** The approaches of RFC 7606 §2, mildest first. */
export type FaultHandling = "attribute-discard" | "treat-as-withdraw" | "session-reset";

export interface AttributeFault {
  readonly handling: FaultHandling;
  /** In words, with the attribute's name first. */
  readonly reason: string;
  /** What to send if the session is reset. */
  readonly notification: Notification;
}

export const FLAG_OPTIONAL = 0x80;
export const FLAG_TRANSITIVE = 0x40;
export const FLAG_PARTIAL = 0x20;
export const FLAG_EXTENDED_LENGTH = 0x10;

export const ATTRIBUTE = {
  ORIGIN: 1,
  AS_PATH: 2,
  NEXT_HOP: 3,
  MULTI_EXIT_DISC: 4,
  LOCAL_PREF: 5,
  ATOMIC_AGGREGATE: 6,
  AGGREGATOR: 7,
  COMMUNITIES: 8,
  ORIGINATOR_ID: 9,
  CLUSTER_LIST: 10,
  MP_REACH_NLRI: 14,
  MP_UNREACH_NLRI: 15,
  EXTENDED_COMMUNITIES: 16,
  AS4_PATH: 17,
  AS4_AGGREGATOR: 18,
  LARGE_COMMUNITY: 32,
} as const;

const WELL_KNOWN = FLAG_TRANSITIVE;
const OPTIONAL = FLAG_OPTIONAL;
const OPTIONAL_TRANSITIVE = FLAG_OPTIONAL | FLAG_TRANSITIVE;

/** Name and the fixed Optional and Transitive bits of what is recognised. */
const KNOWN: Readonly<Record<number, readonly [name: string, flags: number]>> = {
  1: ["ORIGIN", WELL_KNOWN],
  2: ["AS_PATH", WELL_KNOWN],
  3: ["NEXT_HOP", WELL_KNOWN],
  4: ["MULTI_EXIT_DISC", OPTIONAL],
  5: ["LOCAL_PREF", WELL_KNOWN],
  6: ["ATOMIC_AGGREGATE", WELL_KNOWN],
  7: ["AGGREGATOR", OPTIONAL_TRANSITIVE],
  8: ["COMMUNITIES", OPTIONAL_TRANSITIVE],
  9: ["ORIGINATOR_ID", OPTIONAL],
  10: ["CLUSTER_LIST", OPTIONAL],
  14: ["MP_REACH_NLRI", OPTIONAL],
  15: ["MP_UNREACH_NLRI", OPTIONAL],
  16: ["EXTENDED_COMMUNITIES", OPTIONAL_TRANSITIVE],
  17: ["AS4_PATH", OPTIONAL_TRANSITIVE],
  18: ["AS4_AGGREGATOR", OPTIONAL_TRANSITIVE],
  32: ["LARGE_COMMUNITY", OPTIONAL_TRANSITIVE],
};

export interface MpReach {
  readonly family: Family;
  readonly nextHop: Address;
  readonly linkLocalNextHop: Address | undefined;
  readonly nlri: readonly Nlri[];
}

export interface DecodedAttributes {
  /** Valid only when neither `treat-as-withdraw` nor `session-reset` is among the faults. */
  readonly attributes: Omit<PathAttributes, "nextHop" | "linkLocalNextHop">;
  readonly nextHop: Address | undefined;
  readonly mpReach: MpReach | undefined;
  readonly mpUnreach: { readonly family: Family; readonly nlri: readonly Nlri[] } | undefined;
  /** Types that were present, recognised or not, faulty or not. */
  readonly present: ReadonlySet<number>;
  readonly faults: readonly AttributeFault[];
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Aggregator = { readonly as: number; readonly address: Address };

interface Work {
  readonly context: UpdateContext;
  readonly attributes: Mutable<DecodedAttributes["attributes"]>;
  nextHop: Address | undefined;
  mpReach: MpReach | undefined;
  mpUnreach: { readonly family: Family; readonly nlri: readonly Nlri[] } | undefined;
  as4Path: readonly AsPathSegment[] | undefined;
  as4Aggregator: Aggregator | undefined;
  readonly faults: AttributeFault[];
}

const SEGMENT_TYPES = ["set", "sequence", "confed-sequence", "confed-set"] as const;

function decodeAsPath(value: Uint8Array, octets: 2 | 4): Result<AsPathSegment[], string> {
  const cursor = new Cursor(value);
  const out: AsPathSegment[] = [];
  while (cursor.left > 0) {
    const typeCode = cursor.u8() ?? 0;
    const count = cursor.u8();
    const type = SEGMENT_TYPES[typeCode - 1];
    if (type === undefined) return err(`unrecognised segment type ${typeCode}`);
    if (count === undefined) return err("one octet is left over");
    if (count === 0) return err("a segment of length zero");
    const ases: number[] = [];
    for (let i = 0; i < count; i++) {
      const as = octets === 2 ? cursor.u16() : cursor.u32();
      if (as === undefined) return err(`a segment of ${count} ASes overruns the attribute`);
      ases.push(as);
    }
    out.push({ type, ases });
  }
  return ok(out);
}

function decodeAggregator(value: Uint8Array, octets: 2 | 4): Aggregator | undefined {
  const cursor = new Cursor(value);
  if (value.length !== octets + 4) return undefined;
  const as = octets === 2 ? cursor.u16() : cursor.u32();
  return as === undefined ? undefined : { as, address: addressFromBytes(cursor.rest()) };
}

/** Segments count as in RFC 4271 §9.1.2.2 and RFC 5065 §5.3: a set is one, confederation segments are nothing. */
const pathLength = (path: readonly AsPathSegment[]): number =>
  path.reduce((n, s) => n + (s.type === "sequence" ? s.ases.length : s.type === "set" ? 1 : 0), 0);

/** RFC 6793 §4.2.3: the leading part that only AS_PATH has, then AS4_PATH. */
export function mergeAs4Path(
  asPath: readonly AsPathSegment[],
  as4Path: readonly AsPathSegment[],
): readonly AsPathSegment[] {
  const tail = as4Path.filter((s) => s.type === "sequence" || s.type === "set");
  let missing = pathLength(asPath) - pathLength(tail);
  if (missing < 0) return asPath;
  const head: AsPathSegment[] = [];
  for (const s of asPath) {
    if (s.type === "confed-sequence" || s.type === "confed-set") {
      if (missing > 0 || head.length === 0) head.push(s);
      continue;
    }
    if (missing === 0) break;
    const taken = s.type === "sequence" ? s.ases.slice(0, missing) : s.ases;
    head.push({ type: s.type, ases: taken });
    missing -= s.type === "sequence" ? taken.length : 1;
  }
  const last = head.at(-1);
  const first = tail[0];
  if (last?.type === "sequence" && first?.type === "sequence" && last.ases.length + first.ases.length < 256)
    return [
      ...head.slice(0, -1),
      { type: "sequence", ases: [...last.ases, ...first.ases] },
      ...tail.slice(1),
    ];
  return [...head, ...tail];
}

const unusableNextHop = (b: Uint8Array): boolean => b[0] === 0 || (b[0] ?? 0) >= 224;

function decodeMpReach(value: Uint8Array, context: UpdateContext): Result<MpReach | undefined, string> {
  const cursor = new Cursor(value);
  const afi = cursor.u16();
  const safi = cursor.u8();
  const length = cursor.u8();
  if (afi === undefined || safi === undefined || length === undefined) return err("the header is cut off");
  const family = familyOfAfi(afi);
  const hop = cursor.take(length);
  if (hop === undefined) return err(`a next hop of ${length} octets overruns the attribute`);
  if (family === undefined || safi !== SAFI_UNICAST || !context.families.has(family)) return ok(undefined);
  if (family === 4 ? length !== 4 : length !== 16 && length !== 32)
    return err(`a next hop of ${length} octets for IPv${family}`);
  if (cursor.u8() === undefined) return err("the reserved octet is missing");
  const nlri = decodeNlri(cursor.rest(), family, context.addPath.has(family));
  if (!nlri.ok) return nlri;
  return ok({
    family,
    nextHop: addressFromBytes(hop.subarray(0, family === 4 ? 4 : 16)),
    linkLocalNextHop: length === 32 ? addressFromBytes(hop.subarray(16)) : undefined,
    nlri: nlri.value,
  });
}

function decodeMpUnreach(
  value: Uint8Array,
  context: UpdateContext,
): Result<{ family: Family; nlri: readonly Nlri[] } | undefined, string> {
  const cursor = new Cursor(value);
  const afi = cursor.u16();
  const safi = cursor.u8();
  if (afi === undefined || safi === undefined) return err("the header is cut off");
  const family = familyOfAfi(afi);
  if (family === undefined || safi !== SAFI_UNICAST || !context.families.has(family)) return ok(undefined);
  const nlri = decodeNlri(cursor.rest(), family, context.addPath.has(family));
  return nlri.ok ? ok({ family, nlri: nlri.value }) : nlri;
}

/** One attribute whose flags are right. Returns the handling and the words when something is wrong with it. */
function decodeOne(
  work: Work,
  type: number,
  value: Uint8Array,
): readonly [FaultHandling, string] | undefined {
  const { context, attributes } = work;
  const cursor = new Cursor(value);
  const length = value.length;
  const internal = context.sessionType === "ibgp";
  const wrongLength = (handling: FaultHandling, wanted: string): readonly [FaultHandling, string] => [
    handling,
    `length ${length}, must be ${wanted}`,
  ];
  switch (type) {
    case ATTRIBUTE.ORIGIN: {
      const origin = (["igp", "egp", "incomplete"] as const)[value[0] ?? 3];
      if (length !== 1) return wrongLength("treat-as-withdraw", "1");
      if (origin === undefined) return ["treat-as-withdraw", `undefined value ${value[0]}`];
      attributes.origin = origin;
      return undefined;
    }
    case ATTRIBUTE.AS_PATH: {
      const path = decodeAsPath(value, context.fourOctetAs ? 4 : 2);
      if (!path.ok) return ["treat-as-withdraw", path.error];
      attributes.asPath = path.value;
      return undefined;
    }
    case ATTRIBUTE.NEXT_HOP:
      if (length !== 4) return wrongLength("treat-as-withdraw", "4");
      work.nextHop = addressFromBytes(value);
      if (unusableNextHop(value)) return ["treat-as-withdraw", `${work.nextHop} is no host address`];
      return undefined;
    case ATTRIBUTE.MULTI_EXIT_DISC:
      if (length !== 4) return wrongLength("treat-as-withdraw", "4");
      attributes.med = cursor.u32();
      return undefined;
    case ATTRIBUTE.LOCAL_PREF:
      if (!internal) return ["attribute-discard", "received from an external neighbour"];
      if (length !== 4) return wrongLength("treat-as-withdraw", "4");
      attributes.localPref = cursor.u32();
      return undefined;
    case ATTRIBUTE.ATOMIC_AGGREGATE:
      if (length !== 0) return wrongLength("attribute-discard", "0");
      attributes.atomicAggregate = true;
      return undefined;
    case ATTRIBUTE.AGGREGATOR: {
      const aggregator = decodeAggregator(value, context.fourOctetAs ? 4 : 2);
      if (aggregator === undefined) return wrongLength("attribute-discard", context.fourOctetAs ? "8" : "6");
      attributes.aggregator = aggregator;
      return undefined;
    }
    case ATTRIBUTE.COMMUNITIES: {
      if (length === 0 || length % 4 !== 0) return wrongLength("treat-as-withdraw", "a multiple of 4");
      const communities: Community[] = [];
      for (let v = cursor.u32(); v !== undefined; v = cursor.u32()) communities.push(communityFromNumber(v));
      attributes.communities = communities;
      return undefined;
    }
    case ATTRIBUTE.ORIGINATOR_ID:
      if (!internal) return ["attribute-discard", "received from an external neighbour"];
      if (length !== 4) return wrongLength("treat-as-withdraw", "4");
      attributes.originatorId = addressFromBytes(value);
      return undefined;
    case ATTRIBUTE.CLUSTER_LIST: {
      if (!internal) return ["attribute-discard", "received from an external neighbour"];
      if (length === 0 || length % 4 !== 0) return wrongLength("treat-as-withdraw", "a multiple of 4");
      const ids: Address[] = [];
      for (let id = cursor.take(4); id !== undefined; id = cursor.take(4)) ids.push(addressFromBytes(id));
      attributes.clusterList = ids;
      return undefined;
    }
    case ATTRIBUTE.MP_REACH_NLRI: {
      const reach = decodeMpReach(value, context);
      if (!reach.ok) return ["session-reset", reach.error];
      if (reach.value === undefined)
        return ["attribute-discard", "for an address family that was not negotiated"];
      work.mpReach = reach.value;
      return undefined;
    }
    case ATTRIBUTE.MP_UNREACH_NLRI: {
      const unreach = decodeMpUnreach(value, context);
      if (!unreach.ok) return ["session-reset", unreach.error];
      if (unreach.value === undefined)
        return ["attribute-discard", "for an address family that was not negotiated"];
      work.mpUnreach = unreach.value;
      return undefined;
    }
    case ATTRIBUTE.EXTENDED_COMMUNITIES:
      if (length === 0 || length % 8 !== 0) return wrongLength("treat-as-withdraw", "a multiple of 8");
      attributes.unknown = [
        ...attributes.unknown,
        { flags: OPTIONAL_TRANSITIVE, type, value: value.slice() },
      ];
      return undefined;
    case ATTRIBUTE.AS4_PATH: {
      if (context.fourOctetAs) return ["attribute-discard", "from a neighbour with 4-octet AS numbers"];
      const path = decodeAsPath(value, 4);
      if (!path.ok) return ["attribute-discard", path.error];
      work.as4Path = path.value;
      return undefined;
    }
    case ATTRIBUTE.AS4_AGGREGATOR:
      if (context.fourOctetAs) return ["attribute-discard", "from a neighbour with 4-octet AS numbers"];
      work.as4Aggregator = decodeAggregator(value, 4);
      return work.as4Aggregator === undefined ? wrongLength("attribute-discard", "8") : undefined;
    case ATTRIBUTE.LARGE_COMMUNITY: {
      if (length === 0 || length % 12 !== 0) return wrongLength("treat-as-withdraw", "a multiple of 12");
      const large = new Set<LargeCommunity>();
      while (cursor.left > 0)
        large.add(largeCommunityFromParts(cursor.u32() ?? 0, cursor.u32() ?? 0, cursor.u32() ?? 0));
      attributes.largeCommunities = [...large];
      return undefined;
    }
    default:
      return undefined;
  }
}

/** RFC 4271 §6.3: the subcode that says best what is wrong; used only when the session is reset. */
function notificationFor(handling: FaultHandling, whole: Uint8Array): Notification {
  if (handling !== "session-reset") return notification(3, 1);
  return notification(3, 9, whole.slice());
}

/** RFC 6793 §4.2.3. A true 4-octet aggregator AS makes the AS4 attributes of a 2-octet neighbour obsolete. */
function mergeAs4(work: Work): void {
  const { attributes } = work;
  if (work.as4Aggregator !== undefined && attributes.aggregator !== undefined) {
    if (attributes.aggregator.as !== AS_TRANS) return;
    attributes.aggregator = work.as4Aggregator;
  }
  if (work.as4Path !== undefined) attributes.asPath = mergeAs4Path(attributes.asPath, work.as4Path);
}

/** Decodes the Path Attributes field of an UPDATE. Never throws; faults are values. */
export function decodeAttributes(bytes: Uint8Array, context: UpdateContext): DecodedAttributes {
  const work: Work = {
    context,
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
    faults: [],
  };
  const present = new Set<number>();
  const cursor = new Cursor(bytes);
  const fault = (handling: FaultHandling, reason: string, n: Notification): void => {
    work.faults.push({ handling, reason, notification: n });
  };
  while (cursor.left > 0) {
    const flags = cursor.u8() ?? 0;
    const type = cursor.u8();
    const length = (flags & FLAG_EXTENDED_LENGTH) !== 0 ? cursor.u16() : cursor.u8();
    const value = length === undefined ? undefined : cursor.take(length);
    if (type === undefined || length === undefined || value === undefined) {
      // RFC 7606 §4: the NLRI is still found by Total Attribute Length, so the session may live.
      fault(
        "treat-as-withdraw",
        `attribute ${type ?? "header"}: overruns the path attributes`,
        notification(3, 1),
      );
      break;
    }
    const known = KNOWN[type];
    const name = known?.[0] ?? `attribute ${type}`;
    const whole = concat([
      Uint8Array.of(flags, type),
      (flags & FLAG_EXTENDED_LENGTH) !== 0 ? u16(length) : Uint8Array.of(length),
      value,
    ]);
    if (present.has(type)) {
      if (type === ATTRIBUTE.MP_REACH_NLRI || type === ATTRIBUTE.MP_UNREACH_NLRI)
        fault("session-reset", `${name}: appears twice`, notification(3, 1));
      else fault("attribute-discard", `${name}: appears again`, notification(3, 1));
      continue;
    }
    present.add(type);
    if (known === undefined) {
      if ((flags & FLAG_OPTIONAL) === 0)
        fault("session-reset", `${name}: unrecognised, but flagged well-known`, notification(3, 2, whole));
      else if ((flags & FLAG_TRANSITIVE) !== 0) {
        const raw: RawAttribute = { flags: flags & ~FLAG_EXTENDED_LENGTH & 0xf0, type, value: value.slice() };
        work.attributes.unknown = [...work.attributes.unknown, raw];
      }
      continue;
    }
    if ((flags & OPTIONAL_TRANSITIVE) !== known[1]) {
      fault("treat-as-withdraw", `${name}: flags 0x${flags.toString(16)}`, notification(3, 4, whole));
      // Its NLRI are needed to treat them as withdrawn.
      if (type === ATTRIBUTE.MP_REACH_NLRI || type === ATTRIBUTE.MP_UNREACH_NLRI) {
        const wrong = decodeOne(work, type, value);
        if (wrong !== undefined) fault(wrong[0], `${name}: ${wrong[1]}`, notificationFor(wrong[0], whole));
      }
      continue;
    }
    const wrong = decodeOne(work, type, value);
    if (wrong !== undefined) fault(wrong[0], `${name}: ${wrong[1]}`, notificationFor(wrong[0], whole));
  }
  mergeAs4(work);
  return {
    attributes: work.attributes,
    nextHop: work.nextHop,
    mpReach: work.mpReach,
    mpUnreach: work.mpUnreach,
    present,
    faults: work.faults,
  };
}
