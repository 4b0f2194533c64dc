/**
 * Orders the paths of a prefix as the daemon does: RFC 4271 §9.1.2.2, as far as a feed shows it.
 */

import { learnedBy } from "../../bgp/offer.js";
import type { RibPath } from "../../bgp/rib.js";

const ORIGINS = ["igp", "egp", "incomplete"] as const;

const asPathLength = (p: RibPath): number =>
  p.attributes.asPath.reduce((n, s) => n + (s.type === "set" ? 1 : s.ases.length), 0);

/** Compares what decides before the identifiers of routers: 0 is a tie, as for multipath. */
const compare = (a: RibPath, b: RibPath): number =>
  (b.attributes.localPref ?? 100) - (a.attributes.localPref ?? 100) ||
  asPathLength(a) - asPathLength(b) ||
  ORIGINS.indexOf(a.attributes.origin) - ORIGINS.indexOf(b.attributes.origin) ||
  (a.attributes.med ?? 0) - (b.attributes.med ?? 0) ||
  internal(a) - internal(b);

/** A path of an external session is preferred to one of an internal session. */
const internal = (p: RibPath): number => (learnedBy(p.attributes).kind === "ibgp" ? 1 : 0);

/** Returns the paths in groups, the best first. Those of a group tie. */
export function byPreference(paths: readonly RibPath[]): readonly (readonly RibPath[])[] {
  const groups: RibPath[][] = [];
  for (const path of [...paths].sort((a, b) => compare(a, b) || a.pathId - b.pathId)) {
    const group = groups.at(-1);
    if (group?.[0] !== undefined && compare(group[0], path) === 0) group.push(path);
    else groups.push([path]);
  }
  return groups;
}
