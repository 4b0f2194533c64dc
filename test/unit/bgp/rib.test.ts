/** Adj-RIB-In: what UPDATEs change, with ADD-PATH, and what a reset leaves. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AdjRibIn, AdjRibOut } from "../../../plugin/bgp/rib.js";
import { address, type Prefix, prefix } from "../../../plugin/net/address.js";
import { attributesKey, type PathAttributes } from "../../../plugin/wire/bgp/attributes.js";
import { processorTime } from "../../sim/processor-time.js";
import { attributes } from "./support.js";

const p = prefix("10.20.0.0/16");
const A = attributes({ med: 1 });
const B = attributes({ med: 2 });
const update = (withdrawn: [Prefix, number][], reach: [Prefix, number, PathAttributes][]) => ({
  withdrawn: withdrawn.map(([prefix, pathId]) => ({ prefix, pathId })),
  reach: reach.map(([prefix, pathId, attributes]) => ({ attributes, nlri: [{ prefix, pathId }] })),
  endOfRib: undefined,
});

describe("Adj-RIB-Out", () => {
  it("sends differences only, and nothing for what was taken back in time", () => {
    const rib = new AdjRibOut();
    rib.announce({ prefix: p, attributes: A });
    rib.withdraw(p);
    expect(rib.pending([4, 6])).toBe(false);
    rib.announce({ prefix: p, attributes: A });
    expect(rib.takeDifference(4)).toEqual({
      withdrawn: [],
      reach: [{ attributes: A, nlri: [{ prefix: p, pathId: 0 }] }],
    });
    rib.announce({ prefix: p, attributes: B });
    rib.announce({ prefix: p, attributes: attributes({ med: 1 }) });
    expect(rib.pending([4])).toBe(false);
    rib.withdraw(p);
    rib.announce({ prefix: p, attributes: A });
    expect(rib.pending([4])).toBe(false);
    rib.withdraw(p);
    expect(rib.takeDifference(4)).toEqual({ withdrawn: [{ prefix: p, pathId: 0 }], reach: [] });
  });

  it("tells everything again for a refresh, and withdraws what goes before it was told", () => {
    const rib = new AdjRibOut();
    const other = prefix("10.21.0.0/16");
    for (const q of [p, other]) rib.announce({ prefix: q, attributes: A });
    rib.takeDifference(4);
    rib.tellAgain(4);
    rib.withdraw(other);
    expect(rib.takeDifference(4)).toEqual({
      withdrawn: [{ prefix: other, pathId: 0 }],
      reach: [{ attributes: A, nlri: [{ prefix: p, pathId: 0 }] }],
    });
  });

  it("tells again what is announced unchanged before the refresh was answered", () => {
    const rib = new AdjRibOut();
    rib.announce({ prefix: p, attributes: A });
    rib.takeDifference(4);
    rib.tellAgain(4);
    rib.announce({ prefix: p, attributes: A });
    expect(rib.takeDifference(4).reach).toHaveLength(1);
  });

  it("has all to send after the session went, and withdraws nothing then", () => {
    const rib = new AdjRibOut();
    rib.announce({ prefix: p, attributes: A });
    rib.takeDifference(4);
    rib.sessionDown();
    expect(rib.pending([4])).toBe(true);
    rib.withdraw(p);
    expect(rib.pending([4])).toBe(false);
  });

  it("whatever happens, the neighbour ends up with what is wanted", () => {
    const prefixes = [p, prefix("10.21.0.0/16"), prefix("2001:db8::/32")];
    const step = fc.record({
      op: fc.constantFrom("announce", "withdraw", "flush", "refresh", "down"),
      which: fc.nat(2),
      med: fc.nat(2),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const rib = new AdjRibOut();
        const wanted = new Map<Prefix, string>();
        const neighbour = new Map<Prefix, string>();
        const flush = (): void => {
          for (const f of [4, 6] as const) {
            const d = rib.takeDifference(f);
            for (const n of d.withdrawn) expect(neighbour.delete(n.prefix)).toBe(true);
            for (const r of d.reach)
              for (const n of r.nlri) neighbour.set(n.prefix, attributesKey(r.attributes));
          }
        };
        for (const { op, which, med } of steps) {
          const prefix = prefixes[which] ?? p;
          const a = attributes({ med });
          if (op === "announce") {
            rib.announce({ prefix, attributes: a });
            wanted.set(prefix, attributesKey(a));
          } else if (op === "withdraw") {
            rib.withdraw(prefix);
            wanted.delete(prefix);
          } else if (op === "flush") flush();
          else if (op === "refresh") rib.tellAgain(4);
          else {
            rib.sessionDown();
            neighbour.clear();
          }
        }
        flush();
        expect(neighbour).toEqual(wanted);
      }),
      { numRuns: 1000 },
    );
  });

  it("moves 100,000 routes in well under a second", () => {
    const rib = new AdjRibOut();
    const routes = Array.from({ length: 100_000 }, (_, i) => ({
      prefix: prefix(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`),
      attributes: i % 2 === 0 ? A : B,
    }));
    const took = processorTime(() => {
      for (const r of routes) rib.announce(r);
      expect(rib.takeDifference(4).reach).toHaveLength(2);
    });
    expect(took).toBeLessThan(1000);
  });
});

describe("Adj-RIB-In", () => {
  it("keeps a path for each path identifier, and reports changes only", () => {
    const rib = new AdjRibIn();
    expect(
      rib.apply(
        update(
          [],
          [
            [p, 1, A],
            [p, 2, B],
          ],
        ),
      ),
    ).toHaveLength(2);
    expect(rib.apply(update([[p, 9]], [[p, 1, attributes({ med: 1 })]]))).toEqual([]);
    expect(rib.apply(update([], [[p, 1, B]]))).toEqual([
      { kind: "announced", prefix: p, path: { pathId: 1, attributes: B } },
    ]);
    expect(rib.pathsOf(p)).toHaveLength(2);
    expect(rib.apply(update([[p, 2]], []))).toEqual([
      { kind: "withdrawn", prefix: p, path: { pathId: 2, attributes: B } },
    ]);
    expect(rib.size).toBe(1);
    expect(rib.apply(update([[p, 1]], []))).toHaveLength(1);
    expect(rib.pathsOf(p)).toEqual([]);
    expect(rib.longestMatch(p)).toBeUndefined();
  });

  it("announces a prefix that is withdrawn and announced in one message", () => {
    const rib = new AdjRibIn();
    rib.apply(update([], [[p, 0, A]]));
    rib.apply(update([[p, 0]], [[p, 0, B]]));
    expect(rib.pathsOf(p)).toEqual([{ pathId: 0, attributes: B }]);
  });

  it("finds the longest match", () => {
    const rib = new AdjRibIn();
    rib.apply(
      update(
        [],
        [
          [prefix("0.0.0.0/0"), 0, A],
          [p, 0, B],
          [prefix("2001:db8::/32"), 0, A],
        ],
      ),
    );
    expect(rib.longestMatch(address("10.20.3.4"))?.prefix).toBe(p);
    expect(rib.longestMatch(prefix("10.20.3.0/24"))?.prefix).toBe(p);
    expect(rib.longestMatch(address("10.21.3.4"))?.prefix).toBe("0.0.0.0/0");
    expect(rib.longestMatch(address("2001:db8::1"))?.prefix).toBe("2001:db8::/32");
    expect(rib.longestMatch(address("2001:db9::1"))).toBeUndefined();
  });

  it("drops at the end of a demarcated refresh what was not heard again (RFC 7313)", () => {
    const rib = new AdjRibIn();
    const v6 = prefix("2001:db8::/32");
    rib.apply(
      update(
        [],
        [
          [p, 1, A],
          [p, 2, A],
          [prefix("10.21.0.0/16"), 1, A],
          [v6, 1, A],
        ],
      ),
    );
    rib.beginRefresh(4);
    rib.apply(update([], [[p, 2, A]]));
    expect(rib.endRefresh(4).map((c) => `${c.kind} ${c.prefix} ${c.path.pathId}`)).toEqual([
      "withdrawn 10.20.0.0/16 1",
      "withdrawn 10.21.0.0/16 1",
    ]);
    expect(rib.size).toBe(2);
    expect(rib.endRefresh(4)).toEqual([]);
  });

  it("takes 100,000 routes in well under a second", () => {
    const nlri = Array.from({ length: 100_000 }, (_, i) => ({
      prefix: prefix(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`),
      pathId: 0,
    }));
    const rib = new AdjRibIn();
    const reach = [{ attributes: A, nlri }];
    const took = processorTime(() => {
      expect(rib.apply({ withdrawn: [], reach, endOfRib: undefined })).toHaveLength(100_000);
      expect(rib.apply({ withdrawn: nlri, reach: [], endOfRib: undefined })).toHaveLength(100_000);
    });
    expect(took).toBeLessThan(1000);
    expect(rib.size).toBe(0);
  });
});
