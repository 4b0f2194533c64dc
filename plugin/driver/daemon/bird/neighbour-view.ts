/**
 * Lists the protocols over which BIRD sends routes to others, and what a neighbour sees of an
 * exported route. shortcutd's own sessions, pipes and kernel protocols are left out. Pure.
 */
import { type Family, parseAddress } from "../../../net/address.js";
import type { BirdProtocol, BirdRoute } from "../../../wire/bird/show.js";
import type { Neighbour } from "../../ports.js";

/** Types of protocols that have neighbours (the second column of `show protocols`). */
const SPEAKING = new Set(["BGP", "OSPF", "RIP", "Babel"]);
const OWN = new Set(["shortcut", "shortcut_feed"]);

export interface Listener {
  readonly neighbour: Neighbour;
  readonly families: ReadonlySet<Family>;
}

/** Returns the protocols of `show protocols all` that are up, by name. */
export function listeners(protocols: readonly BirdProtocol[]): Map<string, Listener> {
  const out = new Map<string, Listener>();
  for (const p of protocols) {
    if (!SPEAKING.has(p.type) || p.state !== "up" || OWN.has(p.name)) continue;
    const at = (p.fields.get("Neighbor address") ?? "").replace(/%.*$/, "");
    const families = new Set<Family>();
    for (const c of p.channels)
      if (c.name === "ipv4" || c.name === "ipv6") families.add(c.name === "ipv4" ? 4 : 6);
    const filters = [...new Set(p.channels.flatMap((c) => c.exportFilter ?? []))];
    out.set(p.name, {
      neighbour: {
        name: at === "" ? `protocol ${p.name}` : `neighbor ${at} (protocol ${p.name})`,
        address: parseAddress(at),
        filter: `export filter ${filters.join(", ")} of protocol ${p.name}`,
      },
      families,
    });
  }
  return out;
}

/** Returns the exported attributes as one text, equal for equal routes. */
export const sentAttributes = (r: BirdRoute): string =>
  `from ${r.protocol}, ${[...r.attributes].map(([k, v]) => `${k} ${v}`).join(", ")}`;
