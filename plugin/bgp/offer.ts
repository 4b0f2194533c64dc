/**
 * The path attributes of an offer. An offer has to be invisible: where the daemon selects it, every neighbour of the
 * router must hear what it would hear of the route underneath. So it copies that path, attribute by attribute, and changes
 * the next hop alone; ORIGINATOR_ID and CLUSTER_LIST stay out (the daemon writes its own), and the session that carries
 * it must be of the type of the session that the route underneath was learned from.
 */
import type { Address } from "../net/address.js";
import { err, ok, type Result } from "../net/result.js";
import {
  type AsPathSegment,
  formatAsPath,
  type PathAttributes,
  pathAttributes,
} from "../wire/bgp/attributes.js";
import { type LargeCommunity, NO_ADVERTISE } from "../wire/bgp/community.js";

/** How the daemon came by a path that it reflects to the feed, an internal session with this speaker as its client. */
export type LearnedBy =
  | { readonly kind: "ibgp" }
  | { readonly kind: "ebgp"; readonly neighbourAs: number }
  /** Originated by the router itself, or redistributed into BGP. */
  | { readonly kind: "local" }
  /** The AS_PATH begins with a set or a confederation segment: the neighbour cannot be told. */
  | { readonly kind: "unknown"; readonly asPath: string };

/**
 * A route reflector adds ORIGINATOR_ID to what it learned by iBGP (RFC 4456 §8) and to nothing else. Without one, an empty
 * AS_PATH is the router's own route and the first AS of any other is the external neighbour's (RFC 4271 §5.1.2).
 */
export function learnedBy(path: PathAttributes): LearnedBy {
  if (path.originatorId !== undefined) return { kind: "ibgp" };
  const first = path.asPath[0];
  if (first === undefined) return { kind: "local" };
  const neighbourAs = first.ases[0];
  return first.type === "sequence" && neighbourAs !== undefined
    ? { kind: "ebgp", neighbourAs }
    : { kind: "unknown", asPath: formatAsPath(path.asPath) };
}

export interface OfferSpec {
  /** The path as the feed brought it; undefined when the route underneath is not a BGP route (OSPF, static). */
  readonly underneath: PathAttributes | undefined;
  /** The offers session: internal when both are equal. */
  readonly session: { readonly localAs: number; readonly remoteAs: number };
  readonly alias: Address;
  /** Added after those of the path. */
  readonly largeCommunities: readonly LargeCommunity[];
  /** Adds NO_ADVERTISE: the offer is a new prefix, which no neighbour may hear. */
  readonly noAdvertise: boolean;
  /** The daemon shows offers to no neighbour whatever their type (BIRD's table between RIB and kernel). */
  readonly anyType?: boolean;
}

export interface OfferRefusal {
  readonly kind: "session-type" | "as-path";
  /** In words, with the AS to configure. */
  readonly reason: string;
  /** The `local AS` that the offers session would need; undefined when no AS would do. */
  readonly wantedLocalAs: number | undefined;
}

const union = <T>(a: readonly T[], b: readonly T[]): readonly T[] => [...new Set([...a, ...b])];

/** LOCAL_PREF where a path has none (the default of BIRD and FRR): an internal session must carry one (RFC 4271 §5.1.5). */
const DEFAULT_LOCAL_PREF = 100;

function refusal(by: LearnedBy, { localAs, remoteAs }: OfferSpec["session"]): OfferRefusal | undefined {
  const internal = localAs === remoteAs;
  const now = `the offers session is ${internal ? "internal" : "external"} (AS ${localAs} towards AS ${remoteAs})`;
  switch (by.kind) {
    case "local":
      return undefined;
    case "ibgp":
      return internal
        ? undefined
        : {
            kind: "session-type",
            reason: `the route underneath was learned by iBGP, but ${now}: configure AS ${remoteAs} for it at both ends`,
            wantedLocalAs: remoteAs,
          };
    case "ebgp":
      // the AS of the session may be another hub's: nothing compares it where enforce-first-as is off
      if (!internal) return undefined;
      return {
        kind: "session-type",
        reason: `the route underneath was learned by eBGP from AS ${by.neighbourAs}, but ${now}: configure AS ${by.neighbourAs} as shortcutd's AS at both ends`,
        wantedLocalAs: by.neighbourAs,
      };
    case "unknown":
      return {
        kind: "as-path",
        reason: `the AS_PATH of the route underneath, ${by.asPath}, does not begin with a neighbour's AS`,
        wantedLocalAs: undefined,
      };
  }
}

/** RFC 4271 §5.1.2: what an external session announces begins with the speaker's own AS. */
function asPathOf(
  by: LearnedBy,
  path: readonly AsPathSegment[],
  { localAs, remoteAs }: OfferSpec["session"],
): readonly AsPathSegment[] {
  return by.kind === "local" && localAs !== remoteAs ? [{ type: "sequence", ases: [localAs] }] : path;
}

/** The attributes of the offer, or why this session cannot carry it. */
export function offerAttributes(spec: OfferSpec): Result<PathAttributes, OfferRefusal> {
  const path = spec.underneath ?? pathAttributes({ nextHop: spec.alias });
  const by = learnedBy(path);
  const refused = spec.anyType === true ? undefined : refusal(by, spec.session);
  if (refused !== undefined) return err(refused);
  const internal = spec.session.localAs === spec.session.remoteAs;
  return ok({
    origin: path.origin,
    asPath: asPathOf(by, path.asPath, spec.session),
    nextHop: spec.alias,
    linkLocalNextHop: undefined,
    med: path.med,
    localPref: internal ? (path.localPref ?? DEFAULT_LOCAL_PREF) : undefined,
    atomicAggregate: path.atomicAggregate,
    aggregator: path.aggregator,
    communities: spec.noAdvertise ? union(path.communities, [NO_ADVERTISE]) : path.communities,
    largeCommunities: union(path.largeCommunities, spec.largeCommunities),
    originatorId: undefined,
    clusterList: [],
    unknown: path.unknown,
  });
}
