/**
 * The order in which hubs are asked: the hub first whose answer is about the path that packets take
 * now, since that hub sends them on.
 */
import { type Address, type Prefix, prefixAddress } from "../../net/address.js";
import type { RoutingView } from "../events.js";

/**
 * Returns the hubs, those first by which the daemon's best path leads: the next hop itself, then those
 * that are reached through the same interfaces; otherwise in their order. Where the daemon has no route
 * of its own underneath, as for an overlay address, the FIB tells.
 */
export function byPath(
  hubs: readonly Address[],
  destination: Prefix,
  routing: Pick<RoutingView, "underneath" | "overlayTo">,
): Address[] {
  const under = routing.underneath(destination);
  const via = under.ok ? under.via : routing.overlayTo(prefixAddress(destination));
  const rank = (hub: Address): number => {
    if (under.ok && under.nextHop === hub) return 2;
    return routing.overlayTo(hub).some((dev) => via.includes(dev)) ? 1 : 0;
  };
  const ranked = hubs.map((hub) => ({ hub, rank: rank(hub) }));
  return ranked.sort((a, b) => b.rank - a.rank).map((r) => r.hub);
}
