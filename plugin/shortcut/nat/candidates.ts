/**
 * The candidates of a direct interface, and the order in which they are tried. A router offers the
 * endpoints that its operator configured, its own addresses, and the endpoints that hubs see (RFC
 * 8445's host and server-reflexive candidates). The source address of an authentic ping is a
 * further candidate (peer-reflexive). An address that belongs to the overlay, or is reached through
 * it or through a shortcut, is not a candidate: a tunnel inside itself carries nothing. The
 * candidates of others are checked in endpoint-check.ts.
 */

import {
  type Address,
  contains,
  type Endpoint,
  familyOf,
  type Prefix,
  prefix,
  prefixOf,
} from "../../net/address.js";
import { type Candidate, type CandidateKind, MAX_CANDIDATES } from "../../wire/control/message.js";
import type { InterfaceAddress } from "../events.js";
import { addressFault, remoteFault } from "./endpoint-check.js";

const PRIVATE: readonly Prefix[] = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "fc00::/7",
].map(prefix);

const inside = (a: Address, prefixes: readonly Prefix[]): boolean => prefixes.some((p) => contains(p, a));

/**
 * Returns whether an address is of RFC 1918, RFC 6598 or RFC 4193: behind a NAT, or not the same
 * everywhere.
 */
export const isPrivate = (a: Address): boolean => inside(a, PRIVATE);

export interface CandidateSources {
  /** Endpoints that the operator configured: offered first. */
  readonly configured: readonly Endpoint[];
  readonly addresses: readonly InterfaceAddress[];
  /** Overlay and direct interface: their addresses are not candidates. */
  readonly excludedDevices: { has(dev: string): boolean };
  /**
   * The operator's deny list, alias pools, and the prefixes that the hub attests for this router:
   * others reach these via the overlay.
   */
  readonly denied: readonly Prefix[];
  readonly reflexive: readonly Endpoint[];
  /** UDP port of the direct interface. */
  readonly port: number;
}

/** Returns this router's candidates, best first, at most the number that an exchange carries. */
export function ownCandidates(s: CandidateSources): Candidate[] {
  const out = new Map<string, Candidate>();
  const add = (e: Endpoint, kind: CandidateKind): void => {
    const key = `${e.address} ${e.port}`;
    if (remoteFault(e) === undefined && !out.has(key))
      out.set(key, { address: e.address, port: e.port, kind });
  };
  for (const e of s.configured) add(e, "configured");
  const hosts = s.addresses.filter(
    (a) =>
      !s.excludedDevices.has(a.dev) && addressFault(a.address) === undefined && !inside(a.address, s.denied),
  );
  // public addresses are worth more than private ones, which many networks share
  const rank = (a: InterfaceAddress): number =>
    (isPrivate(a.address) ? 2 : 0) + (familyOf(a.address) === 4 ? 1 : 0);
  // room for the endpoints that hubs see
  const room = MAX_CANDIDATES - Math.min(s.reflexive.length, 3) - out.size;
  for (const a of [...hosts].sort((x, y) => rank(x) - rank(y)).slice(0, Math.max(0, room)))
    add({ address: a.address, port: s.port }, "host");
  for (const e of s.reflexive) if (!inside(e.address, s.denied)) add(e, "reflexive");
  return [...out.values()].slice(0, MAX_CANDIDATES);
}

/** Returns the prefixes that are on-link here. */
export const onLink = (
  addresses: readonly InterfaceAddress[],
  excludedDevices: { has(dev: string): boolean },
): Prefix[] =>
  addresses
    .filter((a) => !excludedDevices.has(a.dev) && addressFault(a.address) === undefined)
    .map((a) => prefixOf(a.address, a.length));

/** Returns the priority: a higher one is preferred. */
export function priorityOf(
  e: Endpoint,
  kind: CandidateKind | "peer-reflexive",
  onLinkHere: readonly Prefix[],
): number {
  if (kind !== "configured" && inside(e.address, onLinkHere)) return 100;
  const family = familyOf(e.address) === 6 ? 5 : 0;
  switch (kind) {
    case "configured":
      return 80 + family;
    case "host":
      return (isPrivate(e.address) ? 60 : 70) + family;
    case "peer-reflexive":
      return 45 + family;
    case "reflexive":
      return 40 + family;
  }
}
