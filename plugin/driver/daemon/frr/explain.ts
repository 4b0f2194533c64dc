/**
 * Explains, in FRR's terms, why FRR has selected an offer or not. Pure. An offer passes the import
 * route-map and wins in bgpd's best path selection (RFC 4271 §9.1, weight before
 * everything). Then zebra compares the distances of protocols and resolves the alias.
 */

import type { Address, Family } from "../../../net/address.js";
import type { Reason } from "../../../shortcut/reasons.js";
import type { BgpNeighbor, BgpPath, ZebraRoute } from "../../../wire/frr/json.js";
import type { DaemonExplanation } from "../../ports.js";

export type FrrFacts =
  | {
      readonly kind: "received";
      readonly alias: Address;
      /** All of bgpd's paths for the prefix; one of them has the alias as its next hop. */
      readonly paths: readonly BgpPath[];
      /** The routes that zebra has for the prefix. */
      readonly routes: readonly ZebraRoute[];
    }
  | {
      readonly kind: "absent";
      readonly family: Family;
      readonly source: Address;
      readonly neighbor: BgpNeighbor | undefined;
      /**
       * Whether the import policy filtered the offer; unknown without soft-reconfiguration inbound.
       */
      readonly filtered: "yes" | "no" | "unknown";
    };

const not = (reason: Reason): DaemonExplanation => ({ selected: false, reason });

export function explainFrr(facts: FrrFacts): DaemonExplanation {
  return facts.kind === "absent" ? explainAbsent(facts) : explainReceived(facts);
}

function explainAbsent({
  neighbor,
  source,
  family,
  filtered,
}: Extract<FrrFacts, { kind: "absent" }>): DaemonExplanation {
  if (neighbor === undefined) return not({ kind: "frr-no-session", source });
  if (neighbor.state !== "Established") {
    const { state, lastReset } = neighbor;
    return not({ kind: "frr-session-down", source, state, lastReset });
  }
  const map = neighbor.routeMapIn[family];
  switch (filtered) {
    case "yes":
      return not({ kind: "frr-rejected", map });
    case "no":
      return not({ kind: "frr-not-received", source });
    case "unknown":
      return not({ kind: "frr-not-received-or-rejected", source, map });
  }
}

function explainReceived({
  alias,
  paths,
  routes,
}: Extract<FrrFacts, { kind: "received" }>): DaemonExplanation {
  const offer = paths.find((p) => p.nextHop === alias);
  if (offer === undefined) return not({ kind: "frr-no-path", alias });
  if (!offer.accessible || !offer.valid) return not({ kind: "frr-inaccessible", alias });
  const best = paths.find((p) => p.best);
  if (best === undefined) return not({ kind: "frr-no-best" });
  if (paths.some((p) => p !== offer && (p.multipath || p === best)) && (offer.best || offer.multipath))
    return not({ kind: "frr-tied" });
  if (best !== offer) return not(preferred(best, offer));
  return explainZebra(alias, offer, routes);
}

function preferred(best: BgpPath, offer: BgpPath): Reason {
  const own = best.peer === "0.0.0.0" || best.peer === "::";
  const both = best.localPref !== undefined && offer.localPref !== undefined;
  return {
    kind: "frr-path-preferred",
    peer: own ? undefined : best.peer,
    selection: best.selectionReason,
    weight: [best.weight, offer.weight],
    localPref: best.weight === offer.weight && both ? [best.localPref ?? 0, offer.localPref ?? 0] : undefined,
  };
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
  if (bgp === undefined) return not({ kind: "frr-no-bgp-route" });
  const chosen = routes.find((r) => r.selected);
  if (chosen !== undefined && chosen !== bgp) {
    return not({
      kind: "frr-route-preferred",
      protocol: NAMES[chosen.protocol] ?? chosen.protocol,
      distance: [chosen.distance, bgp.distance],
      metric: [chosen.metric, bgp.metric],
    });
  }
  const gateways = new Set(bgp.nextHops.flatMap((h) => h.gateway ?? []));
  if (!gateways.has(alias)) return not({ kind: "frr-not-taken-over" });
  if (gateways.size > 1) return not({ kind: "frr-tied" });
  if (chosen === undefined || !bgp.nextHops.some((h) => h.fib))
    return not({ kind: "frr-alias-unresolved", alias });
  if (!bgp.installed) return not({ kind: "frr-not-installed" });
  const { weight } = offer;
  return { selected: true, reason: { kind: "frr-selected", weight, distance: bgp.distance } };
}
