/**
 * Shows what shortcuts do on routers where others own rules and routes: full tunnels, with and without a
 * firewall mark for the direct interface.
 */
import { describe, it } from "vitest";
import { holds } from "./scenario-runs.js";

describe.each(["bird", "frr"] as const)("with %s on the spokes", (spokes) => {
  it("a path that would run inside the overlay is not used, and the reason is said", () =>
    holds("full-tunnel", spokes));
});
