/**
 * Tests that classes change slowly: an offer is announced again with every change, and a policy may
 * reverse its decision.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { communitiesOf, ownerValue } from "../../../../plugin/driver/daemon/communities.js";
import { address } from "../../../../plugin/net/address.js";
import { RATE_CLASSES, RateClass, RoundTripClass } from "../../../../plugin/shortcut/offer/offer-classes.js";
import { largeCommunity } from "../../../../plugin/wire/bgp/community.js";

/** Reads a rate once a second, from `at` on. */
function feed(c: RateClass, at: number, seconds: number, rate: number | ((i: number) => number)): number {
  for (let i = 0; i < seconds; i++) c.read(at + i * 1000, typeof rate === "number" ? rate : rate(i));
  return at + seconds * 1000;
}

describe("the rate class", () => {
  it("is known with the first reading, at each bound", () => {
    for (const [i, least] of RATE_CLASSES.entries()) {
      const c = new RateClass();
      c.read(0, least);
      expect(c.value).toBe(i);
      const d = new RateClass();
      d.read(0, Math.max(0, least - 1));
      expect(d.value).toBe(Math.max(0, i - 1));
    }
  });

  it("rises after 2 s above its bound, to the class that it has not fallen below", () => {
    const c = new RateClass();
    let t = feed(c, 0, 3, 2e6);
    t = feed(c, t, 2, 200e6);
    expect(c.value).toBe(1);
    t = feed(c, t, 1, 50e6);
    expect(c.value).toBe(4);
    t = feed(c, t, 3, 200e6);
    expect(c.value).toBe(5);
  });

  it("falls after 10 s clearly below its bound, and not after a short pause", () => {
    const c = new RateClass();
    let t = feed(c, 0, 2, 12e6);
    t = feed(c, t, 30, 8.5e6);
    expect(c.value).toBe(3);
    t = feed(c, t, 9, 0);
    t = feed(c, t, 1, 12e6);
    t = feed(c, t, 10, 5e6);
    expect(c.value).toBe(3);
    feed(c, t, 1, 5e6);
    expect(c.value).toBe(2);
  });

  it("does not follow a rate that oscillates around a bound", () => {
    const c = new RateClass();
    let changes = 0;
    let before = 1;
    for (let i = 0; i < 600; i++) {
      c.read(i * 1000, i % 2 === 0 ? 9e6 : 11e6);
      if (c.value !== before) changes++;
      before = c.value;
    }
    expect(changes).toBeLessThanOrEqual(1);
  });

  it("never changes more often than once in 2 s, for any rates", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 2e10, noNaN: true }), { maxLength: 200 }), (rates) => {
        const c = new RateClass();
        let changed = Number.NEGATIVE_INFINITY;
        let before: number | undefined;
        for (const [i, r] of rates.entries()) {
          c.read(i * 500, r);
          if (before !== undefined && c.value !== before) {
            expect(i * 500 - changed).toBeGreaterThanOrEqual(2_000);
            changed = i * 500;
          }
          before = c.value;
        }
      }),
    );
  });
});

describe("the round-trip class", () => {
  it("is slower after 3 s of a direct path that is clearly slower, and returns when it is not", () => {
    const c = new RoundTripClass();
    expect(c.at(0)).toBe("unknown");
    for (let t = 0; t < 3_000; t += 1000) c.read(t, 30, 10);
    expect(c.at(2_000)).toBe("unknown");
    c.read(3_000, 30, 10);
    expect(c.at(3_000)).toBe("slower");
    // neither slower nor not slower
    for (let t = 4_000; t < 20_000; t += 1000) c.read(t, 10.5, 10);
    expect(c.at(20_000)).toBe("slower");
    for (let t = 20_000; t <= 23_000; t += 1000) c.read(t, 9, 10);
    expect(c.at(23_000)).toBe("not-slower");
  });

  it("is forgotten ten minutes after the last measurement, so that the path is tried again", () => {
    const c = new RoundTripClass();
    for (let t = 0; t <= 3_000; t += 1000) c.read(t, 30, 10);
    expect(c.at(602_000)).toBe("slower");
    expect(c.at(603_000)).toBe("unknown");
    c.read(700_000, 5, 10);
    expect(c.at(700_000)).toBe("unknown");
  });
});

describe("classes as large communities", () => {
  const classes = { natPrognosis: "likely", rate: 3, roundTrip: "not-slower" } as const;

  it("are the table of doc/communities.md", () => {
    expect(communitiesOf(65001, { ...classes, owner: address("10.255.0.2") })).toEqual(
      ["1:1", "1:20", "1:33", "1:41", "2:184483842"].map((c) => largeCommunity(`65001:${c}`)),
    );
  });

  it("name an owner by 32 bits", () => {
    expect(ownerValue(address("10.255.0.2"))).toBe(0x0aff0002);
    expect(ownerValue(address("255.255.255.255"))).toBe(0xffffffff);
    expect(ownerValue(address("fd00:255::1:2"))).toBe(0x00010002);
  });
});
