/**
 * Deaths of daemons and interfaces, while packets flow: the traffic goes on via the hub, and never
 * in the clear.
 */
import { describe, it } from "vitest";
import { holds } from "./scenario-runs.js";

describe("with bird on the spokes", () => {
  it("BIRD is killed and the direct path cut", () => holds("kill-bird", "bird"));
  it("the direct interface is deleted", () => holds("delete-direct", "bird"));
});

describe("with frr on the spokes", () => {
  it("bgpd is killed and the direct path cut", () => holds("kill-bgpd", "frr"));
  it("zebra is killed and the direct path cut", () => holds("kill-zebra", "frr"));
  it("wireguard-go of the direct interface is killed", () => holds("kill-wireguard-go", "frr"));
});
