/**
 * Explains, in BIRD's terms, why BIRD has selected an offer or not. Pure. The checks follow a route
 * through BIRD: session, import filter, best route of the table (preference first, RFC 4271
 * §9.1 only among equals), resolution of the next hop, export filter of the kernel protocol.
 */

import { type Address, familyOf, type Prefix } from "../../../net/address.js";
import type { Reason } from "../../../shortcut/reasons.js";
import type { BirdProtocol, BirdRoute } from "../../../wire/bird/show.js";
import type { DaemonExplanation } from "../../ports.js";

export interface OfferFacts {
  /** Protocol `shortcut`; undefined when it does not exist. */
  readonly session: BirdProtocol | undefined;
  /** All routes for the prefix in fib4 or fib6. */
  readonly routes: readonly BirdRoute[];
  /** Whether the offer is among the filtered routes (`import keep filtered`). */
  readonly filtered: boolean;
  /** The route on the blackboard that resolves the alias. */
  readonly aliasRoute: BirdRoute | undefined;
  /** Kernel protocols on fib4 or fib6, and whether each exports the prefix. */
  readonly kernels: readonly {
    readonly name: string;
    readonly filter: string;
    readonly exported: boolean;
  }[];
}

const not = (reason: Reason): DaemonExplanation => ({ selected: false, reason });

export function explainBird(prefix: Prefix, alias: Address, facts: OfferFacts): DaemonExplanation {
  const family = familyOf(prefix);
  const { session } = facts;
  if (session === undefined) return not({ kind: "bird-no-protocol" });
  if (session.state === "down" && session.info === "") return not({ kind: "bird-disabled" });
  if (session.info.split(" ")[0] !== "Established") {
    const error = session.fields.get("Last error");
    return not({ kind: "bird-session-down", state: session.info || session.state, error });
  }
  const channel = session.channels.find((c) => c.name === `ipv${family}`);
  const filter = channel?.importFilter ?? "(unknown)";
  const ours = facts.routes.filter((r) => r.protocol === "shortcut");
  const offer = ours.find((r) => r.attributes.get("BGP.next_hop")?.split(" ")[0] === alias) ?? ours[0];
  if (offer === undefined) {
    if (channel === undefined) return not({ kind: "bird-no-channel", family });
    if (facts.filtered) return not({ kind: "bird-rejected", filter });
    // Without `import keep filtered` BIRD does not keep filtered routes: it only counts them.
    const counts = channel.importUpdates;
    if (counts !== undefined && counts.filtered > 0) return not({ kind: "bird-rejected", filter });
    if (counts !== undefined && counts.rejected > 0) return not({ kind: "bird-invalid" });
    return not({ kind: "bird-not-received" });
  }
  const best = facts.routes.find((r) => r.primary);
  if (best === undefined) return not({ kind: "bird-no-route", prefix });
  if (best.protocol !== "shortcut") {
    const { protocol, preference } = best;
    return not({ kind: "bird-other-preferred", protocol, preference, offer: offer.preference, filter });
  }
  if (best.type !== "unicast")
    return not({ kind: "bird-alias-unresolved", alias, type: best.type, family: familyOf(alias) });
  if (facts.kernels.length === 0) return not({ kind: "bird-no-kernel-protocol", family });
  const drops = facts.kernels.filter((k) => !k.exported);
  if (drops.length === facts.kernels.length)
    return not({ kind: "bird-kernel-drops", family, kernels: drops });
  if (best.syncError) return not({ kind: "bird-kernel-refused", family });
  const resolver = facts.aliasRoute?.protocol;
  const fallback =
    resolver?.startsWith("shortcut_fallback") === true
      ? { alias, by: resolver, family: familyOf(alias) }
      : undefined;
  return {
    selected: true,
    reason: { kind: "bird-selected", preference: best.preference, fallback },
  };
}
