/**
 * Why an offer is, or is not, FRR's choice, in FRR's own words. Pure. An offer passes the import route-map, wins in bgpd's best path
 * selection (RFC 4271 9.1, weight before everything), then zebra compares the distances of protocols and resolves the alias.
 */

import type { Address, Family } from "../../../net/address.js";
import type { BgpNeighbor, BgpPath, ZebraRoute } from "../../../wire/frr/json.js";
import type { DaemonExplanation } from "../../ports.js";

export type FrrFacts =
  | {
      readonly kind: "received";
      readonly alias: Address;
      /** All of bgpd's paths for the prefix, one of them by the alias. */
      readonly paths: readonly BgpPath[];
      /** What zebra has for the prefix. */
      readonly routes: readonly ZebraRoute[];
    }
  | {
      readonly kind: "absent";
      readonly family: Family;
      readonly source: Address;
      readonly neighbor: BgpNeighbor | undefined;
      /** Unknown without soft-reconfiguration inbound. */
      readonly filtered: "yes" | "no" | "unknown";
    };

const not = (reason: string): DaemonExplanation => ({ selected: false, reason: `FRR: ${reason}` });
const TIED =
  "tied: multipath with the route underneath, half the flows would go direct (`set weight` in the import route-map)";

export function explainFrr(facts: FrrFacts): DaemonExplanation {
  return facts.kind === "absent" ? explainAbsent(facts) : explainReceived(facts);
}

function explainAbsent({
  neighbor,
  source,
  family,
  filtered,
}: Extract<FrrFacts, { kind: "absent" }>): DaemonExplanation {
  if (neighbor === undefined) return not(`no session with ${source}`);
  if (neighbor.state !== "Established") {
    const last = neighbor.lastReset === undefined ? "" : `, last reset: ${neighbor.lastReset}`;
    return not(`session with ${source} is not established (${neighbor.state}${last})`);
  }
  const map = neighbor.routeMapIn[family];
  switch (filtered) {
    case "yes":
      return not(map === undefined ? "rejected by the import policy" : `rejected by route-map ${map}`);
    case "no":
      return not(`not received from ${source}`);
    case "unknown":
      return not(
        `not received from ${source}, or rejected by ${map === undefined ? "its import policy" : `route-map ${map}`}; \`soft-reconfiguration inbound\` would tell`,
      );
  }
}

function explainReceived({
  alias,
  paths,
  routes,
}: Extract<FrrFacts, { kind: "received" }>): DaemonExplanation {
  const offer = paths.find((p) => p.nextHop === alias);
  if (offer === undefined) return not(`no path by ${alias}`);
  if (!offer.accessible || !offer.valid) return not(`next hop ${alias} (the alias) is inaccessible`);
  const best = paths.find((p) => p.best);
  if (best === undefined) return not("bgpd has not selected a best path yet");
  if (paths.some((p) => p !== offer && (p.multipath || p === best)) && (offer.best || offer.multipath))
    return not(TIED);
  if (best !== offer) return not(preferred(best, offer));
  return explainZebra(alias, offer, routes);
}

const compared = (a: number, b: number): string => `${a} ${a > b ? ">" : a < b ? "<" : "="} ${b}`;

function preferred(best: BgpPath, offer: BgpPath): string {
  const whose =
    best.peer === "0.0.0.0" || best.peer === "::" ? "the router's own route" : `path of ${best.peer}`;
  const values = [`weight ${compared(best.weight, offer.weight)}`];
  if (best.weight === offer.weight && best.localPref !== undefined && offer.localPref !== undefined)
    values.push(`local preference ${compared(best.localPref, offer.localPref)}`);
  const reason = best.selectionReason === undefined ? "" : ` (${best.selectionReason})`;
  return `${whose} preferred${reason}: ${values.join(", ")}`;
}

const NAMES: Readonly<Record<string, string>> = {
  bgp: "BGP",
  ospf: "OSPF",
  ospf6: "OSPFv3",
  isis: "IS-IS",
  rip: "RIP",
  ripng: "RIPng",
  eigrp: "EIGRP",
};

function explainZebra(alias: Address, offer: BgpPath, routes: readonly ZebraRoute[]): DaemonExplanation {
  const bgp = routes.find((r) => r.protocol === "bgp");
  if (bgp === undefined) return not("best in bgpd, but zebra has no BGP route for it (table-map?)");
  const chosen = routes.find((r) => r.selected);
  if (chosen !== undefined && chosen !== bgp) {
    const name = NAMES[chosen.protocol] ?? chosen.protocol;
    return chosen.distance === bgp.distance
      ? not(
          `${name} route preferred at equal distance ${bgp.distance}, metric ${compared(chosen.metric, bgp.metric)}`,
        )
      : not(`${name} route preferred, distance ${compared(chosen.distance, bgp.distance)}`);
  }
  const gateways = new Set(bgp.nextHops.flatMap((h) => h.gateway ?? []));
  if (!gateways.has(alias)) return not("best in bgpd, zebra has not taken it over yet");
  if (gateways.size > 1) return not(TIED);
  if (chosen === undefined || !bgp.nextHops.some((h) => h.fib))
    return not(`best in bgpd, but zebra resolves next hop ${alias} (the alias) by nothing`);
  if (!bgp.installed) return not("selected by zebra, but not installed in the kernel");
  const reason = offer.weight > 0 ? `weight ${offer.weight}` : `distance ${bgp.distance}`;
  return { selected: true, reason: `FRR: selected, ${reason}` };
}
