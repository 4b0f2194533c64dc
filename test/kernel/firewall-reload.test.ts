/**
 * Shows that a firewall that is reloaded while traffic goes direct, and flushes everything first, takes
 * neither our tables nor the sites' traffic away.
 */
import { describe, it } from "vitest";
import { holds } from "./scenario-runs.js";

describe.each(["bird", "frr"] as const)("with %s on the spokes", (spokes) => {
  it("a flush loses nothing; rules that name only the overlay send the traffic back to the hub", () =>
    holds("firewall-reload", spokes));
});
