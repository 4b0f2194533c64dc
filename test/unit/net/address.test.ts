/** Addresses, prefixes and endpoints: canonical text, containment and set difference. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Address,
  address,
  addressBits,
  addressBytes,
  addressFromBytes,
  compareAddresses,
  comparePrefixes,
  contains,
  difference,
  familyOf,
  formatEndpoint,
  halves,
  hostPrefix,
  overlaps,
  type Prefix,
  parseAddress,
  parseEndpoint,
  parsePrefix,
  prefix,
  prefixAddress,
  prefixFromBytes,
  prefixLength,
  prefixOf,
  sameEndpoint,
} from "../../../plugin/net/address.js";

const bytesOf = (n: number) => fc.uint8Array({ minLength: n, maxLength: n });
const anyAddress = fc.oneof(bytesOf(4), bytesOf(16)).map(addressFromBytes);
const anyPrefix = fc
  .tuple(anyAddress, fc.nat(128))
  .map(([a, n]) => prefixOf(a, n % (addressBits(familyOf(a)) + 1)));

/** A /24 is a small family: 256 addresses, which brute force can visit one by one. */
const small4 = fc
  .tuple(fc.nat(255), fc.integer({ min: 24, max: 32 }))
  .map(([low, length]) => prefixOf(address(`192.0.2.${low}`), length));
const small6 = fc
  .tuple(fc.nat(255), fc.integer({ min: 120, max: 128 }))
  .map(([low, length]) => prefixOf(address(`2001:db8::${low.toString(16)}`), length));

const all = (p: Prefix): Address[] => {
  const out: Address[] = [];
  const base = addressBytes(prefixAddress(p));
  const count = 2 ** (base.length * 8 - prefixLength(p));
  for (let i = 0; i < count; i++) {
    const b = base.slice();
    b[b.length - 1] = (b[b.length - 1] ?? 0) + i;
    out.push(addressFromBytes(b));
  }
  return out;
};

describe("addresses", () => {
  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["::", "::"],
    ["::1", "::1"],
    ["fe80::", "fe80::"],
  ])("%s is written %s (RFC 5952 §4)", (text, canonical) => {
    expect(parseAddress(text)).toBe(canonical);
  });

  it.each([
    "",
    "192.0.2",
    "192.0.2.256",
    "192.0.2.01",
    "0x7f.1.1.1",
    "3221225985",
    "192.0.2.1 ",
    "192.0.2.1/32",
    "fe80::1%eth0",
    "1::2::3",
    ":",
    ":::",
    "12345::",
    "[::1]",
    "host",
  ])("%j is no address", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  it("are the same text for the same bytes, whatever was written", () => {
    fc.assert(
      fc.property(anyAddress, (a) => {
        expect(parseAddress(a)).toBe(a);
        expect(addressFromBytes(addressBytes(a))).toBe(a);
        if (familyOf(a) === 6) {
          const groups = Array.from({ length: 8 }, (_, i) => {
            const b = addressBytes(a);
            return (((b[2 * i] ?? 0) << 8) | (b[2 * i + 1] ?? 0)).toString(16).padStart(4, "0");
          });
          expect(parseAddress(groups.join(":").toUpperCase())).toBe(a);
        }
      }),
    );
  });

  it("refuse other lengths than 4 and 16 bytes", () => {
    expect(() => addressFromBytes(new Uint8Array(5))).toThrow("4 or 16 bytes, not 5");
  });

  it("have one order: IPv4 first, then by value", () => {
    fc.assert(
      fc.property(fc.array(anyAddress, { maxLength: 20 }), (list) => {
        const sorted = [...list].sort(compareAddresses);
        for (let i = 1; i < sorted.length; i++) {
          const [a, b] = [sorted[i - 1], sorted[i]] as [Address, Address];
          const key = (x: Address) => `${familyOf(x)} ${Buffer.from(addressBytes(x)).toString("hex")}`;
          expect(key(a) <= key(b)).toBe(true);
          expect(Math.sign(compareAddresses(a, b))).toBe(-Math.sign(compareAddresses(b, a)) || 0);
        }
      }),
    );
  });
});

describe("prefixes", () => {
  it.each(["192.0.2.0/24", "0.0.0.0/0", "192.0.2.255/32", "::/0", "2001:db8::/32", "2001:db8::1/128"])(
    "%s stands as written",
    (text) => {
      expect(parsePrefix(text)).toBe(text);
    },
  );

  it.each([
    "192.0.2.1/24",
    "192.0.2.0",
    "192.0.2.0/",
    "192.0.2.0/33",
    "192.0.2.0/-1",
    "192.0.2.0/024",
    "192.0.2.0/24/24",
    "192.0.2.0/2 4",
    "2001:db8::1/64",
    "::/129",
    "/24",
  ])("%j is no prefix", (text) => {
    expect(parsePrefix(text)).toBeUndefined();
  });

  it("name the place when a literal is wrong", () => {
    expect(() => prefix("192.0.2.1/24")).toThrow('not an IP prefix: "192.0.2.1/24"');
    expect(() => address("x")).toThrow('not an IP address: "x"');
  });

  it("survive formatting, and clear host bits when made", () => {
    fc.assert(
      fc.property(anyAddress, fc.nat(128), (a, n) => {
        const length = n % (addressBits(familyOf(a)) + 1);
        const bytes = addressBytes(a);
        const before = bytes.slice();
        const p = prefixFromBytes(bytes, length);
        expect(bytes).toEqual(before);
        expect(parsePrefix(p)).toBe(p);
        expect(prefixLength(p)).toBe(length);
        expect(contains(p, a)).toBe(true);
        expect(contains(p, hostPrefix(a))).toBe(true);
        const bits = (x: Address) => [...addressBytes(x)].map((b) => b.toString(2).padStart(8, "0")).join("");
        expect(bits(prefixAddress(p))).toBe(bits(a).slice(0, length).padEnd(bits(a).length, "0"));
      }),
    );
  });

  it("contain what shares their bits: against the bits themselves", () => {
    const text = (p: Address | Prefix) =>
      [...addressBytes(p.includes("/") ? prefixAddress(p as Prefix) : (p as Address))]
        .map((b) => b.toString(2).padStart(8, "0"))
        .join("");
    fc.assert(
      fc.property(fc.oneof(small4, small6, anyPrefix), fc.oneof(small4, small6, anyPrefix), (p, q) => {
        const expected =
          familyOf(p) === familyOf(q) &&
          prefixLength(q) >= prefixLength(p) &&
          text(q).startsWith(text(p).slice(0, prefixLength(p)));
        expect(contains(p, q)).toBe(expected);
        expect(overlaps(p, q)).toBe(contains(p, q) || contains(q, p));
      }),
      { numRuns: 500 },
    );
  });

  it("split into halves that are disjoint and whole", () => {
    fc.assert(
      fc.property(anyPrefix, (p) => {
        if (prefixLength(p) === addressBits(familyOf(p))) {
          expect(() => halves(p)).toThrow("has no halves");
          return;
        }
        const [low, high] = halves(p);
        expect(contains(p, low) && contains(p, high)).toBe(true);
        expect(overlaps(low, high)).toBe(false);
        expect(prefixLength(low)).toBe(prefixLength(p) + 1);
        expect(comparePrefixes(low, high)).toBeLessThan(0);
      }),
    );
  });

  it("leave by difference exactly the addresses that brute force leaves, in the fewest pieces", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.tuple(small4, fc.array(small4, { maxLength: 6 })),
          fc.tuple(small6, fc.array(small6, { maxLength: 6 })),
        ),
        ([from, minus]) => {
          const rest = difference(from, minus);
          const want = all(from).filter((a) => !minus.some((m) => contains(m, a)));
          const got = rest.flatMap(all);
          expect(new Set(got)).toEqual(new Set(want));
          expect(got.length).toBe(new Set(got).size);
          for (const a of rest)
            for (const b of rest)
              if (a !== b && prefixLength(a) === prefixLength(b) && prefixLength(a) > 0)
                expect(
                  prefixOf(prefixAddress(a), prefixLength(a) - 1) ===
                    prefixOf(prefixAddress(b), prefixLength(b) - 1),
                ).toBe(false);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("takes a /24 out of a /16 in eight pieces", () => {
    expect(difference(prefix("10.1.0.0/16"), [prefix("10.1.7.0/24")])).toEqual(
      [
        "10.1.0.0/22",
        "10.1.4.0/23",
        "10.1.6.0/24",
        "10.1.8.0/21",
        "10.1.16.0/20",
        "10.1.32.0/19",
        "10.1.64.0/18",
        "10.1.128.0/17",
      ].map(prefix),
    );
    expect(difference(prefix("10.1.0.0/16"), [prefix("10.0.0.0/8")])).toEqual([]);
    expect(difference(prefix("10.1.0.0/16"), [prefix("2001:db8::/32")])).toEqual([prefix("10.1.0.0/16")]);
  });
});

describe("endpoints", () => {
  it("are read back as written", () => {
    fc.assert(
      fc.property(anyAddress, fc.integer({ min: 1, max: 65535 }), (a, port) => {
        const e = { address: a, port };
        expect(parseEndpoint(formatEndpoint(e))).toEqual(e);
        expect(sameEndpoint(e, { ...e })).toBe(true);
        expect(sameEndpoint(e, undefined)).toBe(false);
      }),
    );
  });

  it.each([
    "192.0.2.1",
    "192.0.2.1:0",
    "192.0.2.1:65536",
    "2001:db8::1:443",
    "[192.0.2.1]:443",
    "[::1]",
    ":1",
  ])("%j is none", (text) => {
    expect(parseEndpoint(text)).toBeUndefined();
  });
});
