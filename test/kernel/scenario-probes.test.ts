/**
 * Shows what probes notice, and what they do not mistake: with the event loops of real daemons
 * blocked, and with a path that becomes narrow.
 */
import { describe, it } from "vitest";
import { holds } from "./scenario-runs.js";

describe("with bird on the spokes", () => {
  it("an event loop that is busy for a second, at either end or both, moves nobody and loses nothing", () =>
    holds("blocked-loop", "bird"));
});

describe("with frr on the spokes", () => {
  it("a path that drops large packets after it was proven is left, and used again when it is whole", () =>
    holds("mtu-shrink", "frr"));
});
