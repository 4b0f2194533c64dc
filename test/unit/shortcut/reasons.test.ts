/**
 * Tests of the wording: each reason has one, as a sentence or phrase without code; and a few golden
 * texts that operators search for.
 */
import { describe, expect, it } from "vitest";
import { address, prefix } from "../../../plugin/net/address.js";
import { describeNat, describeReason, REASON_KINDS, type Reason } from "../../../plugin/shortcut/reasons.js";

const A = address("10.255.0.2");
const P = prefix("10.3.0.0/24");

describe("reasons", () => {
  it("have codes in kebab-case, each once", () => {
    expect(REASON_KINDS.length).toBeGreaterThan(80);
    for (const kind of REASON_KINDS) expect(kind).toMatch(/^[a-z]+(-[a-z]+)*$/);
    expect(new Set(REASON_KINDS).size).toBe(REASON_KINDS.length);
  });

  it.each<[Reason | undefined, string]>([
    [undefined, ""],
    [{ kind: "bird-rejected", filter: "shortcut_policy" }, "BIRD: rejected by import filter shortcut_policy"],
    [
      { kind: "frr-route-preferred", protocol: "OSPF", distance: [110, 200], metric: [20, 0] },
      "FRR: OSPF route preferred, distance 110 < 200",
    ],
    [
      { kind: "rp-filter-loose", devices: ["wg-hub1", "wg-hub2"] },
      "rp_filter is loose on wg-hub1 and wg-hub2 without an IPv4 address there: the kernel would drop IPv4 packets while only one end has flipped; set net.ipv4.conf.{all,wg-hub1,wg-hub2}.rp_filter to 0, or add an IPv4 address",
    ],
    [
      { kind: "owner-unanswering", owner: A },
      "10.255.0.2 does not answer, although it is registered at the hub: does the hub forward UDP control.port between spokes, and does no firewall drop it?",
    ],
    [
      { kind: "input-dropped", router: A },
      "the firewall of 10.255.0.2 drops input on its direct interface: packets reach WireGuard there, and no probe (UDP control.port) reaches shortcutd",
    ],
    [
      { kind: "hub-port-silent", hub: A, port: 4244, use: "observe" },
      "hub 10.255.0.2 does not answer on UDP 4244 (direct.observe-port) in the underlay: a firewall drops it, and how a NAT maps stays unknown",
    ],
    [
      { kind: "owner-withdrew", text: "idle for 60 s" },
      "the other end fell back to the hub path: idle for 60 s",
    ],
    // what travelled back is not said twice
    [
      { kind: "owner-withdrew", text: "the other end fell back to the hub path: idle for 60 s" },
      "the other end fell back to the hub path: idle for 60 s",
    ],
    [{ kind: "owner-refused", text: "" }, "the owner refused"],
    [
      { kind: "traffic-cooled", before: "traffic fell below the threshold; before that: resolved" },
      "traffic fell below the threshold",
    ],
    [
      { kind: "no-alias", prefix: P },
      "no alias next hop for 10.3.0.0/24: the pool is used up, or not configured for its family",
    ],
    [{ kind: "idle", timeout: 60_000 }, "idle for 60 s"],
    [{ kind: "path-lost", loss: undefined, silence: 0 }, "the direct path failed"],
    [
      { kind: "path-lost", loss: "silent", silence: 300.4 },
      "the direct path failed: no probe arrived for 300 ms",
    ],
    [
      { kind: "path-lost", loss: "unheard", silence: 400 },
      "the direct path failed: the owner has not heard our probes for 400 ms",
    ],
    [
      { kind: "path-lost", loss: "narrow", silence: 0 },
      "the direct path failed: full-size probes do not pass any more",
    ],
    [
      { kind: "no-answer", tried: "192.0.2.1 port 51821 (host)", untried: "", nat: undefined },
      "no answer from 192.0.2.1 port 51821 (host)",
    ],
    [
      {
        kind: "no-answer",
        tried: "192.0.2.1:51821 (host)",
        untried: "192.0.2.2:51821 (reached via the overlay)",
        nat: undefined,
      },
      "no answer from 192.0.2.1:51821 (host); not tried: 192.0.2.2:51821 (reached via the overlay)",
    ],
  ])("%o", (reason, text) => {
    expect(describeReason(reason)).toBe(text);
  });

  it("repeat no words of the stage beside which they stand", () => {
    const rate = 3e6;
    const threshold = 1e7;
    expect(describeReason({ kind: "below-threshold", rate, threshold })).not.toMatch(/below threshold/);
    expect(describeReason({ kind: "not-long-enough", since: 1, duration: 2, rate, threshold })).not.toMatch(
      /threshold/,
    );
  });

  it("say what the NATs of both ends let expect", () => {
    expect(describeNat({ here: "none", there: "address-and-port-dependent", prognosis: "doubtful" })).toBe(
      "NAT: no NAT here, address-and-port-dependent mapping at the owner: a direct path is doubtful",
    );
  });
});
