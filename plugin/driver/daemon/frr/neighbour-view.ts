/**
 * Tells what bgpd's neighbours would see of an offer that has the attributes of the route
 * underneath. An external neighbour sees nothing, because bgpd rewrites what it sends there. An
 * internal neighbour sees the alias next hop, unless bgpd sets itself as the next hop. In a
 * reflected route (RFC 4456), ORIGINATOR_ID and CLUSTER_LIST show who announced it. Pure.
 */
import type { Address } from "../../../net/address.js";
import { parseAddress } from "../../../net/address.js";
import type { Neighbour } from "../../ports.js";

export interface NeighbourDetail {
  readonly internal: boolean;
  readonly reflectorClient: boolean;
  readonly nextHopSelf: boolean;
  /** The outgoing policy: `route-map X`, `prefix-list Y`. */
  readonly outgoing: readonly string[];
}

export interface PrefixFacts {
  /** The neighbours, by address or interface, and the number of paths that each is sent. */
  readonly advertisedTo: ReadonlyMap<string, number>;
  /** The neighbours from which bgpd has a path. */
  readonly tellers: ReadonlySet<string>;
  /** Whether bgpd has a path. Without a path, an offer would be a new prefix. */
  readonly known: boolean;
  /** Whether the best path was learned over iBGP. */
  readonly internal: boolean;
}

export function neighbourOf(key: string, d: NeighbourDetail): Neighbour {
  const address: Address | undefined = parseAddress(key);
  const filter = d.outgoing.length === 0 ? "" : `outgoing ${d.outgoing.join(", ")}`;
  return { name: `neighbor ${key}`, address, filter };
}

/** Returns why an offer in place of this path would be seen there; empty when it would not. */
export function visibleReason(d: NeighbourDetail, { internal }: PrefixFacts): string {
  if (!d.internal) return "";
  if (internal)
    return "this router reflects routes to it, and ORIGINATOR_ID, CLUSTER_LIST and next hop would be those of the offer";
  return d.nextHopSelf ? "" : "iBGP without next-hop-self, so it would receive the alias next hop";
}
