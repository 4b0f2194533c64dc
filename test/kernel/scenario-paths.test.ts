/**
 * Flips without a loss, and the hub path within half a second of a cut. The rest of the scenarios
 * is run by `npm run lab -- --scenario`.
 */
import { describe, it } from "vitest";
import { holds } from "./scenario-runs.js";

describe.each(["bird", "frr"] as const)("with %s on the spokes", (spokes) => {
  it("a purge loses and doubles nothing, there and back", () => holds("flips-purge", spokes, 2));
  it("the hub path is taken within 500 ms of a cut in one direction, by both ends", () =>
    holds("cut-one-way", spokes));
});

describe("with bird on the spokes", () => {
  it("a refusal by policy loses and doubles nothing, there and back", () => holds("flips-policy", "bird", 2));
  it("a source that the hub does not attest is carried via the hub", () =>
    holds("unattested-sources", "bird"));
  it("a shortcut outlives its hub", () => holds("hub-reboot", "bird"));
  it("the hub path is taken within 500 ms of a cut in both directions", () => holds("cut-both", "bird"));
});
