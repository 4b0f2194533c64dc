/** Shows how failures of a path add up, fade, and suppress it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FlapDamping, PENALTY } from "../../../../plugin/shortcut/machine/flap-damping.js";

const p = { halfLife: 30_000, suppress: 2_500, reuse: 750, longest: 300_000 };

describe("flap damping", () => {
  it("tolerates one failure, and two", () => {
    const d = new FlapDamping(p);
    d.fail(0);
    expect([d.penalty(0), d.suppressedFor(0)]).toEqual([PENALTY, 0]);
    d.fail(1_000);
    expect(d.suppressedFor(1_000)).toBe(0);
  });

  it("halves the penalty in a half-life", () => {
    const d = new FlapDamping(p);
    d.fail(5_000);
    expect(d.penalty(35_000)).toBeCloseTo(PENALTY / 2, 9);
    expect(d.penalty(65_000)).toBeCloseTo(PENALTY / 4, 9);
  });

  it("suppresses the third failure in a short time, until the penalty is below the reuse threshold", () => {
    const d = new FlapDamping(p);
    for (let i = 0; i < 3; i++) d.fail(0);
    const left = d.suppressedFor(0);
    expect(left).toBeCloseTo(60_000, 6);
    expect(d.penalty(left)).toBeCloseTo(p.reuse, 6);
    expect(d.suppressedFor(left - 1)).toBeCloseTo(1, 6);
    expect(d.suppressedFor(left + 1)).toBe(0);
  });

  it("suppresses a path that fails as soon as it is used again ever longer, up to the maximum", () => {
    const d = new FlapDamping(p);
    let now = 0;
    const times: number[] = [];
    for (let i = 0; i < 60; i++) {
      d.fail(now);
      const left = d.suppressedFor(now);
      if (left > 0) times.push(left);
      now += left + 1_000;
    }
    for (const [i, t] of times.entries())
      if (i > 1) expect(t).toBeGreaterThanOrEqual((times[i - 1] ?? 0) - 1e-6);
    expect(times[6]).toBeGreaterThan((times[1] ?? 0) * 2);
    expect(times.at(-1)).toBeCloseTo(p.longest, 3);
  });

  it("forgets", () => {
    const d = new FlapDamping(p);
    for (let i = 0; i < 10; i++) d.fail(0);
    expect(d.forgotten(0)).toBe(false);
    expect(d.forgotten(600_000)).toBe(true);
    d.fail(600_000);
    expect(d.penalty(600_000)).toBeLessThan(PENALTY + p.reuse / 2);
    expect(d.suppressedFor(600_000)).toBe(0);
  });

  it("keeps penalty and suppression bounded for any sequence of failures", () => {
    fc.assert(
      fc.property(
        fc.record({
          halfLife: fc.integer({ min: 1_000, max: 600_000 }),
          reuse: fc.integer({ min: 100, max: 2_000 }),
          above: fc.integer({ min: 1, max: 5_000 }),
          halves: fc.integer({ min: 1, max: 20 }),
        }),
        fc.array(fc.integer({ min: 0, max: 1_000_000 }), { maxLength: 100 }),
        ({ halfLife, reuse, above, halves }, gaps) => {
          const d = new FlapDamping({ halfLife, reuse, suppress: reuse + above, longest: halfLife * halves });
          let now = 0;
          for (const gap of gaps) {
            now += gap;
            const before = d.penalty(now);
            d.fail(now);
            expect(d.penalty(now)).toBeLessThanOrEqual(d.ceiling);
            expect(d.penalty(now)).toBeGreaterThanOrEqual(Math.min(before, d.ceiling));
            expect(d.suppressedFor(now)).toBeLessThanOrEqual(halfLife * halves + 1e-6);
          }
        },
      ),
    );
  });
});
