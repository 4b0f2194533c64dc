/**
 * What bgpd's neighbours would see of an offer that has the attributes of the route underneath. An external neighbour sees nothing: what it
 * hears is written anew. An internal one sees the alias next hop, unless bgpd puts itself there; and whatever bgpd
 * reflects (RFC 4456) tells by ORIGINATOR_ID and CLUSTER_LIST who announced it. Pure.
 */
import type { Address } from "../../../net/address.js";
import { parseAddress } from "../../../net/address.js";
import type { Neighbour } from "../../ports.js";

export interface NeighbourDetail {
  readonly internal: boolean;
  readonly reflectorClient: boolean;
  readonly nextHopSelf: boolean;
  /** `route-map X`, `prefix-list Y`. */
  readonly outgoing: readonly string[];
}

export interface PrefixFacts {
  /** Neighbours by name, which is an address or an interface, and how many paths each is sent. */
  readonly advertisedTo: ReadonlyMap<string, number>;
  /** Neighbours by whom bgpd has a path. */
  readonly tellers: ReadonlySet<string>;
  /** bgpd has a path; without one an offer would be a prefix that is new. */
  readonly known: boolean;
  /** The best path was learned by iBGP. */
  readonly internal: boolean;
}

export function neighbourOf(key: string, d: NeighbourDetail): Neighbour {
  const address: Address | undefined = parseAddress(key);
  const filter = d.outgoing.length === 0 ? "" : `outgoing ${d.outgoing.join(", ")}`;
  return { name: `neighbor ${key}`, address, filter };
}

/** Why an offer in the place of this path would be seen there; empty when it would not. */
export function visibleReason(d: NeighbourDetail, { internal }: PrefixFacts): string {
  if (!d.internal) return "";
  if (internal)
    return "this router reflects routes to it, and ORIGINATOR_ID, CLUSTER_LIST and next hop would be those of the offer";
  return d.nextHopSelf ? "" : "iBGP without next-hop-self, so that it would hear the alias next hop";
}
