/**
 * Why an offer is, or is not, BIRD's choice, in BIRD's own words. Pure. The order of the questions is the way of a route through
 * BIRD: session, import filter, best route of the table (preference first, RFC 4271 9.1 only among equals), resolution of the next
 * hop, export filter of the kernel protocol.
 */

import { type Address, familyOf, type Prefix } from "../../../net/address.js";
import type { BirdProtocol, BirdRoute } from "../../../wire/bird/show.js";
import type { DaemonExplanation } from "../../ports.js";

export interface OfferFacts {
  /** Protocol `shortcut`; undefined when there is none. */
  readonly session: BirdProtocol | undefined;
  /** All routes for the prefix in fib4 or fib6. */
  readonly routes: readonly BirdRoute[];
  /** The offer is among the filtered routes (`import keep filtered`). */
  readonly filtered: boolean;
  /** What the alias resolves by on the blackboard. */
  readonly aliasRoute: BirdRoute | undefined;
  /** Kernel protocols on fib4 or fib6, and whether each exports the prefix. */
  readonly kernels: readonly {
    readonly name: string;
    readonly filter: string;
    readonly exported: boolean;
  }[];
}

const not = (reason: string): DaemonExplanation => ({ selected: false, reason: `BIRD: ${reason}` });

export function explainBird(prefix: Prefix, alias: Address, facts: OfferFacts): DaemonExplanation {
  const family = familyOf(prefix);
  const { session } = facts;
  if (session === undefined) return not("there is no protocol shortcut");
  if (session.state === "down" && session.info === "") return not("protocol shortcut is disabled");
  if (session.info.split(" ")[0] !== "Established") {
    const error = session.fields.get("Last error");
    return not(
      `session shortcut is not established (${session.info || session.state}${error === undefined ? "" : `, last error: ${error}`})`,
    );
  }
  const channel = session.channels.find((c) => c.name === `ipv${family}`);
  const filter = channel?.importFilter ?? "(unknown)";
  const ours = facts.routes.filter((r) => r.protocol === "shortcut");
  const offer = ours.find((r) => r.attributes.get("BGP.next_hop")?.split(" ")[0] === alias) ?? ours[0];
  if (offer === undefined) {
    if (channel === undefined) return not(`protocol shortcut has no ipv${family} channel`);
    if (facts.filtered) return not(`rejected by import filter ${filter}`);
    // Without `import keep filtered` BIRD forgets what it filtered, and only counts it.
    const counts = channel.importUpdates;
    if (counts !== undefined && counts.filtered > 0) return not(`rejected by import filter ${filter}`);
    if (counts !== undefined && counts.rejected > 0) return not("received on session shortcut and invalid");
    return not("not received on session shortcut");
  }
  const best = facts.routes.find((r) => r.primary);
  if (best === undefined) return not(`no route for ${prefix} is valid`);
  if (best.protocol !== "shortcut") {
    if (best.preference > offer.preference)
      return not(
        `route of protocol ${best.protocol} preferred, preference ${best.preference} > ${offer.preference}`,
      );
    return not(
      `route of protocol ${best.protocol} preferred at equal preference ${offer.preference}; import filter ${filter} does not raise the offer's preference`,
    );
  }
  if (best.type !== "unicast")
    return not(
      `selected, but alias ${alias} is unresolved and the route is ${best.type}: no route for it in shortcut${familyOf(alias)}, not even the fallback`,
    );
  if (facts.kernels.length === 0)
    return not(`selected in fib${family}, but no kernel protocol takes routes from fib${family}`);
  const drops = facts.kernels.filter((k) => !k.exported);
  if (drops.length === facts.kernels.length)
    return not(
      `selected in fib${family}, but ${drops.map((k) => `kernel protocol ${k.name} drops it (export filter ${k.filter})`).join(", ")}`,
    );
  if (best.syncError) return not(`selected in fib${family}, but the kernel refused the route`);
  const resolver = facts.aliasRoute?.protocol;
  const fallback =
    resolver?.startsWith("shortcut_fallback") === true
      ? `; alias ${alias} resolves by ${resolver} only (\`learn\` in shortcut_k${familyOf(alias)}?)`
      : "";
  return { selected: true, reason: `BIRD: selected, preference ${best.preference}${fallback}` };
}
