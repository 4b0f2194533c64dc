/**
 * The content of a BGP UPDATE about a route, as values: path attributes (RFC 4271 §5 and the RFCs named at each field) and
 * NLRI. IPv4 and IPv6 routes have the same shape: the next hop is a field here, whichever attribute carried it.
 * Values are immutable; `attributesKey` decides equality.
 */
import type { Address, Family, Prefix } from "../../net/address.js";
import { hex } from "./bytes.js";
import type { Community, LargeCommunity } from "./community.js";

export type SessionType = "ibgp" | "ebgp";
export type Origin = "igp" | "egp" | "incomplete";

/** RFC 4271 §4.3 and RFC 5065 §3. */
export interface AsPathSegment {
  readonly type: "sequence" | "set" | "confed-sequence" | "confed-set";
  readonly ases: readonly number[];
}

/** An attribute that this speaker does not interpret, as received, without its length field. */
export interface RawAttribute {
  /** Attribute flags octet with the Extended Length bit cleared. */
  readonly flags: number;
  readonly type: number;
  readonly value: Uint8Array;
}

export interface PathAttributes {
  readonly origin: Origin;
  readonly asPath: readonly AsPathSegment[];
  /** NEXT_HOP, or the global address of MP_REACH_NLRI (RFC 2545 §3). */
  readonly nextHop: Address;
  /** The second address of a 32-byte IPv6 next hop. Never sent. */
  readonly linkLocalNextHop: Address | undefined;
  /** MULTI_EXIT_DISC. */
  readonly med: number | undefined;
  readonly localPref: number | undefined;
  readonly atomicAggregate: boolean;
  readonly aggregator: { readonly as: number; readonly address: Address } | undefined;
  readonly communities: readonly Community[];
  /** RFC 8092; without duplicates. */
  readonly largeCommunities: readonly LargeCommunity[];
  /** RFC 4456. */
  readonly originatorId: Address | undefined;
  readonly clusterList: readonly Address[];
  /** Unrecognised optional transitive attributes, in the order received. */
  readonly unknown: readonly RawAttribute[];
}

/** Path attributes with everything optional absent, IGP origin and an empty AS_PATH, except what is given. */
export const pathAttributes = (
  given: Partial<PathAttributes> & { readonly nextHop: Address },
): PathAttributes => ({
  origin: "igp",
  asPath: [],
  linkLocalNextHop: undefined,
  med: undefined,
  localPref: undefined,
  atomicAggregate: false,
  aggregator: undefined,
  communities: [],
  largeCommunities: [],
  originatorId: undefined,
  clusterList: [],
  unknown: [],
  ...given,
});

const keys = new WeakMap<PathAttributes, string>();

/** Equal for equal attributes, and only then. */
export function attributesKey(a: PathAttributes): string {
  const known = keys.get(a);
  if (known !== undefined) return known;
  const key = [
    a.origin,
    a.asPath.map((s) => `${s.type} ${s.ases.join(",")}`).join(";"),
    a.nextHop,
    a.linkLocalNextHop ?? "",
    a.med ?? "",
    a.localPref ?? "",
    a.atomicAggregate ? "1" : "",
    a.aggregator === undefined ? "" : `${a.aggregator.as} ${a.aggregator.address}`,
    a.communities.join(","),
    a.largeCommunities.join(","),
    a.originatorId ?? "",
    a.clusterList.join(","),
    a.unknown.map((u) => `${u.flags}.${u.type}.${hex(u.value)}`).join(","),
  ].join("|");
  keys.set(a, key);
  return key;
}

const BRACKETS = {
  sequence: ["", ""],
  set: ["{", "}"],
  "confed-sequence": ["(", ")"],
  "confed-set": ["({", "})"],
} as const;

/** AS_PATH as `65001 65002 {65003 65004}`; confederation segments in parentheses. */
export const formatAsPath = (path: readonly AsPathSegment[]): string =>
  path.map(({ type, ases }) => `${BRACKETS[type][0]}${ases.join(" ")}${BRACKETS[type][1]}`).join(" ");

/** One route in an UPDATE. `pathId` is 0 when the session has no ADD-PATH (RFC 7911) for the family. */
export interface Nlri {
  readonly prefix: Prefix;
  readonly pathId: number;
}

/** The agreement of both ends, as far as it changes how an UPDATE reads. */
export interface UpdateContext {
  readonly sessionType: SessionType;
  /** Both ends have the 4-octet AS capability (RFC 6793). */
  readonly fourOctetAs: boolean;
  readonly families: ReadonlySet<Family>;
  /** Families whose NLRI carry path identifiers in this direction (RFC 7911). */
  readonly addPath: ReadonlySet<Family>;
}

/** AS_TRANS (RFC 6793 §9): stands for an AS number that does not fit into two octets. */
export const AS_TRANS = 23456;
