/**
 * Shows what shortcuts do on routers where others own rules and routes: full tunnels, with and without a
 * firewall mark for the direct interface, NAT that names the overlay alone, and stateful firewalls that do.
 */
import { describe, it } from "vitest";
import { holds } from "./scenario-runs.js";

describe.each(["bird", "frr"] as const)("with %s on the spokes", (spokes) => {
  it("a path that would run inside the overlay is not used, and the reason is said", () =>
    holds("full-tunnel", spokes));

  it("a stateful firewall that drops new connections alone is noticed, and a host's own drops are not", () =>
    holds("firewall-stateful", spokes));

  it("guests that are masqueraded on the overlay get through; other NAT that names it alone keeps the pair there", () =>
    holds("guests", spokes));
});
