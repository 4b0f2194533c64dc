/** Longest-prefix match, against a linear search. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Address,
  address,
  comparePrefixes,
  contains,
  type Prefix,
  prefix,
  prefixLength,
  prefixOf,
} from "../../../plugin/net/address.js";
import { PrefixMap } from "../../../plugin/net/lpm.js";

const at = (family: 4 | 6, low: number): Address =>
  family === 4 ? address(`10.0.0.${low}`) : address(`2001:db8::${low.toString(16)}`);
const aPrefix = fc
  .tuple(fc.constantFrom(4 as const, 6 as const), fc.nat(255), fc.nat(8), fc.boolean())
  .map(([family, low, bits, short]) => {
    const max = family === 4 ? 32 : 128;
    return prefixOf(at(family, low), short ? bits * 3 : max - bits);
  });
const step = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), prefix: aPrefix, value: fc.nat(1000) }),
  fc.record({ kind: fc.constant("delete" as const), prefix: aPrefix }),
);

const naive = (model: Map<Prefix, number>, of: Address | Prefix) => {
  let best: { prefix: Prefix; value: number } | undefined;
  for (const [p, value] of model)
    if (contains(p, of) && (best === undefined || prefixLength(p) > prefixLength(best.prefix)))
      best = { prefix: p, value };
  return best;
};

describe("PrefixMap", () => {
  it("answers as a list that is searched would: insert, replace, delete and insert again, both families", () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.array(fc.tuple(fc.constantFrom(4 as const, 6 as const), fc.nat(255)), {
          minLength: 5,
          maxLength: 20,
        }),
        fc.array(aPrefix, { maxLength: 10 }),
        (steps, hosts, prefixes) => {
          const map = new PrefixMap<number>();
          const model = new Map<Prefix, number>();
          for (const s of steps) {
            if (s.kind === "set") {
              map.set(s.prefix, s.value);
              model.set(s.prefix, s.value);
            } else expect(map.delete(s.prefix)).toBe(model.delete(s.prefix));
            expect(map.size).toBe(model.size);
          }
          for (const [p, v] of model) expect(map.get(p)).toBe(v);
          expect(new Map(map)).toEqual(model);
          for (const [family, low] of hosts) {
            const a = at(family, low);
            expect(map.longestMatch(a)).toEqual(naive(model, a));
          }
          for (const p of prefixes) {
            expect(map.has(p)).toBe(model.has(p));
            expect(map.longestMatch(p)).toEqual(naive(model, p));
            expect([...map.inside(p)]).toEqual(
              [...model].filter(([q]) => contains(p, q)).sort(([a], [b]) => comparePrefixes(a, b)),
            );
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it("matches a default route, and keeps the families apart", () => {
    const map = new PrefixMap<string>();
    map.set(prefix("0.0.0.0/0"), "four");
    expect(map.longestMatch(address("203.0.113.9"))).toEqual({ prefix: "0.0.0.0/0", value: "four" });
    expect(map.longestMatch(address("2001:db8::1"))).toBeUndefined();
    map.set(prefix("::/0"), "six");
    expect(map.longestMatch(address("2001:db8::1"))?.value).toBe("six");
    expect(map.size).toBe(2);
  });

  it("keeps no value of a deleted prefix, and uses its place again", () => {
    const map = new PrefixMap<number>();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 256; i++) map.set(prefix(`10.0.${i}.0/24`), i);
      for (let i = 0; i < 256; i++) expect(map.delete(prefix(`10.0.${i}.0/24`))).toBe(true);
      expect(map.size).toBe(0);
      expect([...map]).toEqual([]);
      expect(map.longestMatch(address("10.0.3.1"))).toBeUndefined();
    }
  });

  it("counts an entry whose value is undefined", () => {
    const map = new PrefixMap<string | undefined>();
    map.set(prefix("10.0.0.0/8"), undefined);
    map.set(prefix("10.0.0.0/8"), undefined);
    expect(map.size).toBe(1);
    expect(map.has(prefix("10.0.0.0/8"))).toBe(true);
    expect(map.longestMatch(address("10.0.0.1"))).toEqual({ prefix: "10.0.0.0/8", value: undefined });
    expect(map.delete(prefix("10.0.0.0/8"))).toBe(true);
    expect(map.size).toBe(0);
  });
});
