/** The differences between wanted and actual AllowedIPs: applied, they give the wanted list, and nothing that stays is touched. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { allowedIpsChange } from "../../../../plugin/driver/kernel/allowed-ips.js";
import { type Prefix, prefix } from "../../../../plugin/net/address.js";

const A = prefix("10.1.0.0/16");
const B = prefix("10.1.2.0/24");
const C = prefix("2001:db8::/32");

test("nothing to do where the lists are the same, in whatever order", () => {
  expect(allowedIpsChange([A, C], [C, A])).toEqual({ add: [], drop: [] });
  expect(allowedIpsChange([], [])).toEqual({ add: [], drop: [] });
});

test("a prefix within another is another prefix; one that is wanted twice is added once", () => {
  expect(allowedIpsChange([B, B, C], [A, C])).toEqual({ add: [B], drop: [A] });
});

test("an empty list takes all", () => {
  expect(allowedIpsChange([], [A, B])).toEqual({ add: [], drop: [A, B] });
});

test("applied, the differences give the wanted list; what stays is neither added nor dropped", () => {
  const list = fc.array(fc.constantFrom<Prefix>(A, B, C, prefix("0.0.0.0/0"), prefix("::/0")));
  fc.assert(
    fc.property(list, list, (wanted, actual) => {
      const { add, drop } = allowedIpsChange(wanted, actual);
      const after = new Set(actual);
      for (const p of drop) expect(after.delete(p)).toBe(true);
      for (const p of add) {
        expect(after.has(p)).toBe(false);
        after.add(p);
      }
      expect([...after].sort()).toEqual([...new Set(wanted)].sort());
      const stays = wanted.filter((p) => actual.includes(p));
      expect([...add, ...drop].filter((p) => stays.includes(p))).toEqual([]);
    }),
  );
});
