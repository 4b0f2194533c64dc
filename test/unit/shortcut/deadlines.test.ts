/** Shows that the earliest deadline is that of a plain search, whatever is set and taken out. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Deadlines } from "../../../plugin/shortcut/deadlines.js";

describe("deadlines", () => {
  it("are those of a plain search, whatever is set, changed, taken out and asked", () => {
    const key = fc.integer({ min: 0, max: 9 });
    const time = fc.integer({ min: 0, max: 50 });
    const step = fc.oneof(
      fc.record({ set: key, at: fc.option(time, { nil: undefined }) }),
      fc.record({ now: time }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const d = new Deadlines<number>();
        const plain = new Map<number, number>();
        for (const s of steps) {
          if ("set" in s) {
            d.set(s.set, s.at);
            if (s.at === undefined) plain.delete(s.set);
            else plain.set(s.set, s.at);
          } else {
            const due = [...plain].filter(([, at]) => at <= s.now).map(([k]) => k);
            expect(d.due(s.now).sort()).toEqual(due.sort());
            for (const k of due) plain.delete(k);
          }
          expect(d.first()).toBe(plain.size === 0 ? undefined : Math.min(...plain.values()));
        }
      }),
    );
  });

  it("come in order", () => {
    const d = new Deadlines<string>();
    for (const [k, at] of [
      ["c", 3],
      ["a", 1],
      ["b", 2],
      ["d", 9],
    ] as const)
      d.set(k, at);
    expect(d.due(3)).toEqual(["a", "b", "c"]);
    expect(d.due(3)).toEqual([]);
    expect(d.first()).toBe(9);
  });
});
