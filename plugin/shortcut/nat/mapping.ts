/**
 * Judges what a NAT does with the direct port, from what hubs see (RFC 4787 §4.1, by the method of
 * RFC 5780 §4.3). The same endpoint at two ports of one hub and at another hub is
 * endpoint-independent mapping. A mapping that changes with the port is the hardest kind.
 */

import type { Address, Endpoint } from "../../net/address.js";
import { familyOf, sameEndpoint } from "../../net/address.js";
import type { Mapping } from "../../wire/control/message.js";
import type { NatPrognosis } from "../reasons.js";

/** The endpoint of this router as one endpoint of a hub sees it. */
export interface Observation {
  readonly hub: Endpoint;
  readonly observed: Endpoint;
}

export interface NatVerdict {
  readonly mapping: Mapping;
  /** Whether the NAT keeps the port number (RFC 4787 §4.2.1). */
  readonly preservesPort: boolean;
  /**
   * Whether every hub that answers has one address only: an address-dependent mapping would look
   * the same.
   */
  readonly oneAddress: boolean;
}

export const NO_VERDICT: NatVerdict = { mapping: "unknown", preservesPort: false, oneAddress: true };

/** Judges the mapping, for IPv4 only: a NAT of IPv6 needs no treatment here. */
export function judgeMapping(
  observations: readonly Observation[],
  own: readonly Address[],
  port: number,
): NatVerdict {
  const seen = observations.filter((o) => familyOf(o.observed.address) === 4);
  const [first] = seen;
  if (first === undefined) return NO_VERDICT;
  const preservesPort = seen.every((o) => o.observed.port === port);
  const addresses = new Set(seen.map((o) => o.hub.address));
  const oneAddress = addresses.size < 2;
  const verdict = (mapping: Mapping): NatVerdict => ({ mapping, preservesPort, oneAddress });
  if (seen.every((o) => own.includes(o.observed.address) && o.observed.port === port)) return verdict("none");
  if (seen.length < 2) return verdict("unknown");
  const differs = (a: Observation, b: Observation): boolean => !sameEndpoint(a.observed, b.observed);
  const pairs = seen.flatMap((a, i) => seen.slice(i + 1).map((b) => [a, b] as const));
  if (pairs.some(([a, b]) => a.hub.address === b.hub.address && differs(a, b)))
    return verdict("address-and-port-dependent");
  if (pairs.some(([a, b]) => differs(a, b))) return verdict("address-dependent");
  return verdict("endpoint-independent");
}

/** Describes the behaviour in words, for status and `explain`. */
export function describeMapping(v: NatVerdict): string {
  switch (v.mapping) {
    case "unknown":
      return "NAT behaviour unknown";
    case "none":
      return "no NAT";
    default: {
      const notes = [v.preservesPort ? "keeps the port" : "", v.oneAddress ? "seen by one hub address" : ""];
      const told = notes.filter((n) => n !== "").join(", ");
      return `${v.mapping} mapping${told === "" ? "" : ` (${told})`}`;
    }
  }
}

const hard = (m: Mapping): boolean => m === "address-dependent" || m === "address-and-port-dependent";

/**
 * Forecasts a direct path. Two mappings that change with the destination tell neither end where to
 * send: hopeless, unless an endpoint exists that is not behind a NAT. One such mapping passes where
 * the other NAT filters by address at most: doubtful.
 */
export function natPrognosisOf(here: Mapping, there: Mapping, otherWay: boolean): NatPrognosis {
  if (otherWay) return hard(here) && hard(there) ? "doubtful" : "likely";
  if (hard(here) && hard(there)) return "hopeless";
  const open = here === "none" || there === "none";
  return (hard(here) || hard(there)) && !open ? "doubtful" : "likely";
}
