/** A firewall that drops what the direct interface forwards is concluded from counters, and forgotten after a pause. */
import { describe, expect, it } from "vitest";
import { ForwardingCheck } from "../../../../plugin/driver/kernel/firewall-check.js";
import type { ForwardingCount } from "../../../../plugin/driver/ports.js";
import { describeReason, type Verdict } from "../../../../plugin/shortcut/reasons.js";

const none: ForwardingCount = { seen: 0, passed: 0, seenAfter: 0 };
const at = (seen: number, passed: number, seenAfter = seen): ForwardingCount => ({ seen, passed, seenAfter });

const textOf = (v: Verdict): string => (v.ok ? "" : describeReason(v.reason));

describe("the firewall", () => {
  const read = (...arrived: ForwardingCount[]): string[] => {
    const check = new ForwardingCheck("shortcut0", "10.255.0.1");
    return arrived.map((a, i) => textOf(check.read(i * 500, { arrived: a, leaving: none })));
  };

  it("drops what was seen and did not pass", () => {
    const [, verdict] = read(none, at(100, 10));
    expect(verdict).toContain("drops forwarded packets from shortcut0 (90 of 100)");
  });

  it("is not accused of packets that came between two readings of one look", () => {
    // 500 packets a second, all passed; each look takes 20 ms between one counter and the next
    expect(read(none, at(100, 110, 120), at(105, 115, 125), at(110, 130, 140))).toEqual(["", "", "", ""]);
  });

  it("is not accused for a few, nor when less than half are dropped", () => {
    expect(read(none, at(4, 0))).toEqual(["", ""]);
    expect(read(none, at(100, 60))).toEqual(["", ""]);
  });

  it("is given another chance after a pause that doubles", () => {
    const check = new ForwardingCheck("shortcut0", "10.255.0.1");
    let seen = 0;
    const drop = (now: number) => {
      seen += 100;
      return textOf(check.read(now, { arrived: none, leaving: at(seen, 0) }));
    };
    drop(0);
    expect(drop(1)).toContain("to shortcut0");
    expect(textOf(check.verdict(30_000))).not.toBe("");
    expect(textOf(check.verdict(30_002))).toBe("");
    expect(drop(30_003)).not.toBe("");
    expect(textOf(check.verdict(60_004))).not.toBe("");
    expect(textOf(check.verdict(90_004))).toBe("");
  });
});
