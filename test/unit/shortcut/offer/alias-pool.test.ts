/** Shows that an alias belongs to one owner and next hop at a time, and how generations come about. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Address, address, contains, prefix } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { generationOf } from "../../../../plugin/shortcut/control/generation.js";
import { AliasPool, type UnderlyingHop } from "../../../../plugin/shortcut/offer/alias-pool.js";
import { linkLocalOf } from "../../../../plugin/shortcut/probe/link-local.js";

const owner = (n: number) => address(`10.255.${n >> 8}.${n & 255}`);
const hop = (nextHop: Address, ...via: string[]): UnderlyingHop => ({ nextHop, via });
const HUB = hop(address("10.255.0.1"), "wg0");

describe("the alias pool", () => {
  const pool = () => new AliasPool({ 4: prefix("198.18.0.0/29"), 6: prefix("fd00:1::/64") });

  it("gives one address per owner, next hop and family, always the same", () => {
    const p = pool();
    expect(p.acquire(owner(3), HUB, 4)).toBe("198.18.0.1");
    expect(p.acquire(owner(3), HUB, 4)).toBe("198.18.0.1");
    expect(p.acquire(owner(3), hop(owner(9), "wg0"), 4)).toBe("198.18.0.2");
    expect(p.acquire(owner(4), HUB, 4)).toBe("198.18.0.3");
    expect(p.acquire(owner(3), HUB, 6)).toBe("fd00:1::1");
  });

  it("gives the lowest free address again after a release", () => {
    const p = pool();
    const first = p.acquire(owner(3), HUB, 4);
    p.acquire(owner(4), HUB, 4);
    if (first !== undefined) p.release(first);
    expect(p.acquire(owner(5), HUB, 4)).toBe("198.18.0.1");
    expect(p.acquire(owner(3), HUB, 4)).toBe("198.18.0.3");
  });

  it("tells equal next hops on two interfaces apart, and knows ECMP in any order", () => {
    const p = pool();
    const linkLocal = address("fe80::1");
    expect(p.acquire(owner(3), hop(linkLocal, "wg-hub1"), 4)).toBe("198.18.0.1");
    expect(p.acquire(owner(3), hop(linkLocal, "wg-hub2"), 4)).toBe("198.18.0.2");
    expect(p.acquire(owner(3), hop(linkLocal, "wg-hub1", "wg-hub2"), 4)).toBe("198.18.0.3");
    expect(p.acquire(owner(3), hop(linkLocal, "wg-hub2", "wg-hub1"), 4)).toBe("198.18.0.3");
  });

  it("lets an alias stand for another next hop, unless that has one already", () => {
    const p = pool();
    const [one, two] = [hop(owner(8), "wg-hub1"), hop(owner(9), "wg-hub2")];
    const alias = address("198.18.0.1");
    expect(p.move(alias, owner(3), two)).toBe(false);
    expect(p.acquire(owner(3), one, 4)).toBe(alias);
    expect(p.move(alias, owner(3), two)).toBe(true);
    expect(p.acquire(owner(3), two, 4)).toBe(alias);
    expect(p.acquire(owner(3), one, 4)).toBe("198.18.0.2");
    expect(p.move(alias, owner(3), one)).toBe(false);
    expect(p.move(alias, owner(3), two)).toBe(true);
    p.release(alias);
    expect(p.acquire(owner(4), two, 4)).toBe(alias);
  });

  it("is used up without its network address and its last", () => {
    const p = pool();
    const got = Array.from({ length: 8 }, (_, i) => p.acquire(owner(i + 2), HUB, 4));
    expect(got).toEqual([
      "198.18.0.1",
      "198.18.0.2",
      "198.18.0.3",
      "198.18.0.4",
      "198.18.0.5",
      "198.18.0.6",
      undefined,
      undefined,
    ]);
    expect(
      new AliasPool({ 4: prefix("198.18.0.0/29"), 6: undefined }).acquire(owner(2), HUB, 6),
    ).toBeUndefined();
  });

  it("recognizes its own addresses", () => {
    expect(pool().contains(address("198.18.0.7"))).toBe(true);
    expect(pool().contains(address("198.18.0.8"))).toBe(false);
    expect(pool().contains(address("fd00:1::ffff"))).toBe(true);
  });

  it("never gives one address twice at a time, in any order of acquire and release", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(400), fc.boolean()), { maxLength: 80 }), (steps) => {
        const p = new AliasPool({ 4: prefix("198.18.0.0/23"), 6: undefined });
        const held = new Map<number, string>();
        for (const [n, take] of steps) {
          const alias = p.acquire(owner(n), HUB, 4);
          if (alias === undefined) throw new Error("512 addresses are enough for 401 owners");
          expect(contains(prefix("198.18.0.0/23"), alias)).toBe(true);
          expect(held.get(n) ?? alias).toBe(alias);
          if (take) held.set(n, alias);
          else {
            p.release(alias);
            held.delete(n);
          }
        }
        expect(new Set(held.values()).size).toBe(held.size);
      }),
    );
  });
});

describe("generations", () => {
  it("are FNV-1a over the sorted text", () => {
    expect(generationOf([])).toBe("cbf29ce484222325");
    // echo -n 10.1.0.0/24 through a reference FNV-1a 64
    let h = 0xcbf29ce484222325n;
    for (const c of Buffer.from("10.1.0.0/24,10.2.0.0/24"))
      h = ((h ^ BigInt(c)) * 0x100000001b3n) & 0xffffffffffffffffn;
    expect(generationOf([prefix("10.2.0.0/24"), prefix("10.1.0.0/24")])).toBe(
      h.toString(16).padStart(16, "0"),
    );
  });

  it("do not depend on the order, and differ for any other set", () => {
    const one = generationOf([prefix("10.1.0.0/24"), prefix("2001:db8::/32")]);
    expect(generationOf([prefix("2001:db8::/32"), prefix("10.1.0.0/24")])).toBe(one);
    expect(generationOf([prefix("10.1.0.0/24")])).not.toBe(one);
    expect(generationOf([prefix("10.1.0.0/25"), prefix("2001:db8::/32")])).not.toBe(one);
  });
});

describe("the link-local address of a direct interface", () => {
  it("is fe80::/64 and the key's first eight bytes", () => {
    const key = publicKeyFromBytes(Uint8Array.from({ length: 32 }, (_, i) => i + 1));
    expect(linkLocalOf(key)).toBe("fe80::102:304:506:708");
  });
});
