/** Shows what a hub attests and whom it names as owner, also against a brute-force search. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Address,
  address,
  addressBytes,
  addressFromBytes,
  contains,
  hostPrefix,
  overlaps,
  type Prefix,
  prefix,
  prefixLength,
  prefixOf,
} from "../../../../plugin/net/address.js";
import type { PublicKey } from "../../../../plugin/net/key.js";
import type { FibEntry } from "../../../../plugin/shortcut/events.js";
import { type AllowedIp, Attestation } from "../../../../plugin/shortcut/hub/attestation.js";
import { processorTime } from "../../../sim/processor-time.js";

type Fib = (readonly [Prefix, FibEntry])[];

const VIA = { overlay: ["wg0"], elsewhere: [] };
const fib = (table: Readonly<Record<string, keyof typeof VIA>>): Fib =>
  Object.entries(table).map(([p, by]) => [prefix(p), { via: VIA[by] }]);
const keyOf = (name: string): PublicKey => name as PublicKey;
const allowed = (table: Readonly<Record<string, readonly string[]>>, dev = "wg0"): AllowedIp[] =>
  Object.entries(table).flatMap(([peer, list]) =>
    list.map((p) => ({ dev, prefix: prefix(p), peer: keyOf(peer) })),
  );
/** The keys of the peers to which the hub sends packets for an address. */
const peerOf = (h: Attestation, a: Address): string | undefined => h.peersOf(a)[0]?.key;
/** The spokes of these addresses are registered. */
const at =
  (h: Attestation, ...spokes: readonly Address[]) =>
  (peer: string): Address | undefined =>
    spokes.find((a) => h.peersOf(a).some((p) => p.id === peer));

const A = address("10.255.0.2");
const C = address("10.255.0.3");
const D = address("10.255.0.4");

/**
 * Makes a hub with A, C and D, their overlay addresses, and the routes and AllowedIPs of the case.
 */
const hub = (routes: Parameters<typeof fib>[0], ips: Readonly<Record<string, readonly string[]>>) =>
  new Attestation({
    fib: fib({ "10.255.0.0/24": "overlay", ...routes }),
    allowedIps: allowed({
      a: ["10.255.0.2/32", ...(ips["a"] ?? [])],
      c: ["10.255.0.3/32", ...(ips["c"] ?? [])],
      d: ["10.255.0.4/32", ...(ips["d"] ?? [])],
    }),
  });

describe("what a hub attests", () => {
  const cases: [string, Parameters<typeof fib>[0], Record<string, string[]>, Record<string, string[]>][] = [
    [
      "a route via the overlay and the same AllowedIPs",
      { "10.1.0.0/24": "overlay" },
      { c: ["10.1.0.0/24"] },
      { c: ["10.1.0.0/24"] },
    ],
    ["AllowedIPs without a route", {}, { c: ["10.1.0.0/24"] }, { c: [] }],
    ["a route without AllowedIPs", { "10.1.0.0/24": "overlay" }, {}, { c: [] }],
    ["a route that leaves elsewhere", { "10.1.0.0/24": "elsewhere" }, { c: ["10.1.0.0/24"] }, { c: [] }],
    [
      "an aggregate in the FIB: AllowedIPs are the smaller",
      { "10.0.0.0/8": "overlay" },
      { c: ["10.1.0.0/24"] },
      { c: ["10.1.0.0/24"] },
    ],
    [
      "an aggregate in AllowedIPs: the FIB is the smaller",
      { "10.1.0.0/24": "overlay", "10.1.1.0/24": "overlay" },
      { c: ["10.1.0.0/16"] },
      { c: ["10.1.0.0/24", "10.1.1.0/24"] },
    ],
    [
      "a /16 with another spoke's /24 inside, in both tables",
      { "10.1.0.0/16": "overlay", "10.1.0.0/24": "overlay" },
      { c: ["10.1.0.0/16"], d: ["10.1.0.0/24"] },
      {
        c: [
          "10.1.1.0/24",
          "10.1.2.0/23",
          "10.1.4.0/22",
          "10.1.8.0/21",
          "10.1.16.0/20",
          "10.1.32.0/19",
          "10.1.64.0/18",
          "10.1.128.0/17",
        ],
        d: ["10.1.0.0/24"],
      },
    ],
    [
      "a /30 with another spoke's /32 inside, only in AllowedIPs",
      { "10.1.0.0/30": "overlay" },
      { c: ["10.1.0.0/30"], d: ["10.1.0.1/32"] },
      { c: ["10.1.0.0/32", "10.1.0.2/31"], d: ["10.1.0.1/32"] },
    ],
    [
      "a /30 with a /32 that leaves elsewhere",
      { "10.1.0.0/30": "overlay", "10.1.0.3/32": "elsewhere" },
      { c: ["10.1.0.0/30"] },
      { c: ["10.1.0.0/31", "10.1.0.2/32"] },
    ],
    [
      "a more specific route of the same spoke changes nothing",
      { "10.1.0.0/16": "overlay", "10.1.5.0/24": "overlay" },
      { c: ["10.1.0.0/16", "10.1.5.0/24"] },
      { c: ["10.1.0.0/16"] },
    ],
    [
      "default AllowedIPs: what the FIB sends via the overlay and to no other spoke",
      { "0.0.0.0/0": "elsewhere", "10.1.0.0/24": "overlay", "10.2.0.0/24": "overlay" },
      { c: ["0.0.0.0/0"], d: ["10.2.0.0/24"] },
      { c: ["10.1.0.0/24"], d: ["10.2.0.0/24"] },
    ],
    [
      "nested prefixes: C in D in C",
      { "10.1.0.0/29": "overlay" },
      { c: ["10.1.0.0/29", "10.1.0.0/31"], d: ["10.1.0.0/30"] },
      { c: ["10.1.0.0/31", "10.1.0.4/30"], d: ["10.1.0.2/31"] },
    ],
    [
      "IPv6 beside IPv4",
      { "2001:db8:1::/48": "overlay", "2001:db8:1:1::/64": "elsewhere", "10.1.0.0/24": "overlay" },
      { c: ["2001:db8:1::/63", "10.1.0.0/24"] },
      { c: ["10.1.0.0/24", "2001:db8:1::/64"] },
    ],
  ];
  it.each(cases)("%s", (_name, routes, ips, want) => {
    const h = hub(routes, ips);
    // the overlay's own /24 is routed too: with default AllowedIPs its free addresses are C's; left
    // out here
    const site = (owner: Address) => h.prefixesOf(owner).filter((p) => !overlaps(p, prefix("10.255.0.0/24")));
    if (want["c"] !== undefined) expect(site(C)).toEqual(want["c"]);
    if (want["d"] !== undefined) expect(site(D)).toEqual(want["d"]);
    expect(site(A)).toEqual([]);
  });

  it("leaves out the owner's own host route, and nothing else of the overlay", () => {
    const h = hub({ "10.1.0.0/24": "overlay" }, { c: ["10.1.0.0/24", "10.255.0.77/32"] });
    expect(h.prefixesOf(C)).toEqual(["10.1.0.0/24", "10.255.0.77/32"]);
    expect(h.peersOf(C)).toEqual([{ id: "wg0 c", dev: "wg0", key: "c" }]);
    expect(h.prefixesOf(address("10.255.0.99"))).toEqual([]);
  });

  it("gives the same generation for the same set, and a different one for another set", () => {
    const one = hub({ "10.1.0.0/24": "overlay" }, { c: ["10.1.0.0/24"] });
    const two = hub({ "10.0.0.0/8": "overlay", "10.1.0.0/24": "overlay" }, { c: ["10.1.0.0/24"] });
    const three = hub({ "10.1.0.0/24": "overlay" }, { c: ["10.1.0.0/25"] });
    expect(one.generationOf(C)).toBe(two.generationOf(C));
    expect(one.generationOf(C)).not.toBe(three.generationOf(C));
  });
});

describe("the owner that a hub names", () => {
  const h = hub(
    {
      "10.1.0.0/24": "overlay",
      "10.2.0.0/25": "overlay",
      "10.2.0.128/25": "overlay",
      "10.3.0.0/24": "overlay",
    },
    { c: ["10.1.0.0/24", "10.2.0.0/25"], d: ["10.2.0.128/25"], a: ["10.3.0.0/24"] },
  );
  const registered = at(h, C, D);

  it.each([
    ["10.1.0.0/24", C],
    ["10.1.0.7/32", C],
    ["10.2.0.1/32", C],
    ["10.2.0.129/32", D],
    ["10.255.0.3/32", C],
    ["10.1.0.0/16", C],
  ])("%s belongs to %s", (destination, owner) => {
    expect(h.resolve(prefix(destination), registered)).toEqual({ kind: "owner", owner });
  });

  it("says when a counted prefix holds destinations of several", () => {
    expect(h.resolve(prefix("10.2.0.0/24"), registered)).toEqual({
      kind: "ambiguous",
      reason: "10.2.0.0/24 holds destinations of 2 spokes",
    });
  });

  it("says when there is no route, and when the spoke does not take part", () => {
    expect(h.resolve(prefix("192.0.2.0/24"), registered)).toEqual({
      kind: "none",
      reason: "the hub does not route 192.0.2.0/24 to a spoke",
    });
    expect(h.resolve(prefix("10.3.0.0/24"), registered)).toEqual({
      kind: "none",
      reason: "the spoke behind 10.3.0.0/24 does not run shortcutd",
    });
  });
});

const low = (family: 4 | 6, n: number): Address => {
  const bytes = addressBytes(address(family === 4 ? "10.0.0.0" : "2001:db8::"));
  bytes[bytes.length - 1] = n;
  return addressFromBytes(bytes);
};
const aPrefix = fc
  .tuple(fc.constantFrom(4 as const, 6 as const), fc.nat(31), fc.nat(6))
  .map(([family, n, bits]) => prefixOf(low(family, n), (family === 4 ? 32 : 128) - bits));

const longest = <T>(table: readonly (readonly [Prefix, T])[], a: Address): T | undefined => {
  let best: readonly [Prefix, T] | undefined;
  for (const e of table)
    if (contains(e[0], a) && (best === undefined || prefixLength(e[0]) >= prefixLength(best[0]))) best = e;
  return best?.[1];
};

describe("what a hub with several interfaces attests", () => {
  const ANY = ["0.0.0.0/0", "::/0"];
  /** A hub with one interface for each tunnel, where any prefix is allowed, and one multipoint interface. */
  const hubOf = (routes: Readonly<Record<string, readonly string[]>>): Attestation =>
    new Attestation({
      fib: Object.entries(routes).map(([p, via]) => [prefix(p), { via }] as const),
      allowedIps: [
        ...allowed({ a: ANY }, "wg-a"),
        ...allowed({ c: ANY }, "wg-c"),
        ...allowed({ c: ANY }, "wg-c2"),
        ...allowed({ d: ["10.255.0.4/32", "10.4.0.0/24"], e: ["10.255.0.5/32", "10.5.0.0/16"] }, "wg0"),
      ],
    });
  const E = address("10.255.0.5");
  const IDENTITIES = {
    "10.255.0.2/32": ["wg-a"],
    "10.255.0.3/32": ["wg-c"],
    "10.255.0.4/32": ["wg0"],
    "10.255.0.5/32": ["wg0"],
  };
  const TWO_PATHS = { ...IDENTITIES, "10.255.0.3/32": ["wg-c", "wg-c2"] };

  it("with one peer on each, the FIB alone decides; beside a multipoint interface with exact AllowedIPs", () => {
    const h = hubOf({
      ...IDENTITIES,
      "10.1.0.0/24": ["wg-a"],
      "10.3.0.0/24": ["wg-c"],
      "10.4.0.0/16": ["wg0"],
      "10.5.0.0/16": ["wg0"],
      "10.5.9.0/24": ["wg-a"],
    });
    expect(h.prefixesOf(A)).toEqual(["10.1.0.0/24", "10.5.9.0/24"]);
    expect(h.prefixesOf(C)).toEqual(["10.3.0.0/24"]);
    expect(h.prefixesOf(D)).toEqual(["10.4.0.0/24"]);
    expect(h.prefixesOf(E)).toHaveLength(8);
    expect(h.prefixesOf(E).some((p) => overlaps(p, prefix("10.5.9.0/24")))).toBe(false);
    const registered = at(h, A, C, D, E);
    expect(h.resolve(prefix("10.5.9.0/24"), registered)).toEqual({ kind: "owner", owner: A });
    expect(h.resolve(prefix("10.5.0.0/16"), registered)).toMatchObject({ kind: "ambiguous" });
  });

  it("with equal paths by two interfaces to one spoke, attests what goes by both or by either", () => {
    const h = hubOf({
      ...TWO_PATHS,
      "10.3.0.0/16": ["wg-c2", "wg-c"],
      "10.3.1.0/24": ["wg-c"],
      "10.6.0.0/24": ["wg-c2"],
    });
    expect(h.prefixesOf(C)).toEqual(["10.3.0.0/16", "10.6.0.0/24"]);
    expect(h.resolve(prefix("10.3.1.0/24"), at(h, C))).toEqual({ kind: "owner", owner: C });
    expect(h.resolve(prefix("10.3.0.0/16"), at(h, C))).toEqual({ kind: "owner", owner: C });
  });

  it("does not attest what goes by an interface that the owner's address does not use", () => {
    const h = hubOf({ ...IDENTITIES, "10.3.0.0/16": ["wg-c", "wg-c2"], "10.6.0.0/24": ["wg-c2"] });
    expect(h.prefixesOf(C)).toEqual([]);
  });

  it("attests a dual-homed site to neither spoke, and says why", () => {
    const h = hubOf({ ...IDENTITIES, "10.9.0.0/16": ["wg-a", "wg-c"], "10.9.1.0/24": ["wg-c"] });
    expect(h.prefixesOf(A)).toEqual([]);
    expect(h.prefixesOf(C)).toEqual(["10.9.1.0/24"]);
    expect(h.resolve(prefix("10.9.7.0/24"), at(h, A, C))).toEqual({
      kind: "ambiguous",
      reason: "10.9.7.0/24 is routed by equal paths to 2 spokes",
    });
    // one of the two does not run shortcutd
    expect(h.resolve(prefix("10.9.7.0/24"), at(h, A))).toMatchObject({ kind: "ambiguous" });
    expect(h.resolve(prefix("10.9.7.0/24"), at(h))).toMatchObject({ kind: "none" });
  });

  it("attests nothing of a route that also leaves elsewhere, and nothing by an interface without peers", () => {
    const h = hubOf({ ...IDENTITIES, "10.1.0.0/24": [], "10.2.0.0/24": ["wg-new"] });
    expect(h.prefixesOf(A)).toEqual([]);
    expect(h.resolve(prefix("10.2.0.0/24"), at(h, A))).toMatchObject({ kind: "none" });
  });

  it("tells the set of a spoke by what is attested, not by the interface", () => {
    const before = hubOf({ ...IDENTITIES, "10.3.0.0/24": ["wg-c"] });
    const after = hubOf({ ...IDENTITIES, "10.255.0.3/32": ["wg-c2"], "10.3.0.0/24": ["wg-c2"] });
    const moved = hubOf({ ...IDENTITIES, "10.3.0.0/24": ["wg-a"] });
    expect(after.generationOf(C)).toBe(before.generationOf(C));
    expect(moved.generationOf(C)).not.toBe(before.generationOf(C));
  });
});

describe("attestation against brute force", () => {
  it("attests an address to a spoke exactly if the FIB sends it to the overlay and AllowedIPs pick that spoke", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(aPrefix, fc.boolean()), { maxLength: 12 }),
        fc.array(fc.tuple(aPrefix, fc.constantFrom("a", "c", "d")), { maxLength: 10 }),
        (routes, ips) => {
          const overlayNet = prefix("10.255.0.0/24");
          const tableFib = [...routes, [overlayNet, true] as const];
          const owners: [string, Address][] = [
            ["a", A],
            ["c", C],
            ["d", D],
          ];
          const tableIps = [...ips, ...owners.map(([peer, o]) => [hostPrefix(o), peer] as const)];
          const h = new Attestation({
            fib: tableFib.map(([p, overlay]) => [p, { via: overlay ? ["wg0"] : [] }] as const),
            allowedIps: tableIps.map(([p, peer]) => ({ dev: "wg0", prefix: p, peer: keyOf(peer) })),
          });
          for (const family of [4, 6] as const)
            for (let n = 0; n < 64; n++) {
              const a = low(family, n);
              const overlay = longest(tableFib, a) ?? false;
              const expected = overlay ? longest(tableIps, a) : undefined;
              for (const [peer, owner] of owners) {
                const holders = h.prefixesOf(owner).filter((p) => contains(p, a));
                expect(holders.length, `${a} to ${peer}`).toBe(expected === peer ? 1 : 0);
              }
              const r = h.resolve(hostPrefix(a), at(h, A, C, D));
              expect(r.kind === "owner" ? peerOf(h, r.owner) : undefined).toBe(expected);
            }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("attestation over several interfaces, against brute force", () => {
  it("attests an address to the owner to whom all equal paths lead", () => {
    const DEVS = ["wg-a", "wg-c", "wg0"] as const;
    const via = fc.subarray([...DEVS], { minLength: 0 });
    const ip = fc.record({ dev: fc.constantFrom(...DEVS), p: aPrefix, peer: fc.constantFrom("a", "c", "d") });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(aPrefix, via), { maxLength: 10 }),
        fc.array(ip, { maxLength: 12 }),
        fc.subarray([...DEVS], { minLength: 1 }),
        (routes, ips, toC) => {
          const tableFib: [Prefix, readonly string[]][] = [...routes, [hostPrefix(C), toC]];
          const tableIps = [...ips, ...DEVS.map((dev) => ({ dev, p: hostPrefix(C), peer: "c" }))];
          const h = new Attestation({
            fib: tableFib.map(([p, devs]) => [p, { via: devs }] as const),
            allowedIps: tableIps.map(({ dev, p, peer }) => ({ dev, prefix: p, peer: keyOf(peer) })),
          });
          const peersAt = (a: Address): string[] =>
            (longest(tableFib, a) ?? []).flatMap((dev) => {
              const table = tableIps.filter((e) => e.dev === dev).map((e) => [e.p, e.peer] as const);
              const peer = longest(table, a);
              return peer === undefined ? [] : [`${dev} ${peer}`];
            });
          const its = peersAt(C);
          expect(
            h
              .peersOf(C)
              .map((p) => p.id)
              .sort(),
          ).toEqual([...new Set(its)].sort());
          for (const family of [4, 6] as const)
            for (let n = 0; n < 64; n++) {
              const peers = peersAt(low(family, n));
              const attested = peers.length > 0 && peers.every((p) => its.includes(p));
              const holders = h.prefixesOf(C).filter((p) => contains(p, low(family, n)));
              expect(holders.length, `${low(family, n)}`).toBe(attested ? 1 : 0);
            }
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe("attestation of a large hub", () => {
  it("is rebuilt quickly: 500 spokes with 4 prefixes each, 20,000 other routes", () => {
    const routes: Fib = [];
    const ips: AllowedIp[] = [];
    for (let i = 0; i < 20_000; i++)
      routes.push([prefix(`${20 + (i >> 14)}.${(i >> 6) & 255}.${(i & 63) * 4}.0/22`), { via: [] }]);
    routes.push([prefix("0.0.0.0/0"), { via: [] }], [prefix("10.255.0.0/16"), { via: ["wg0"] }]);
    for (let s = 0; s < 500; s++) {
      const peer = keyOf(`peer${s}`);
      ips.push({ dev: "wg0", prefix: prefix(`10.255.${s >> 8}.${s & 255}/32`), peer });
      for (let k = 0; k < 4; k++) {
        const p = prefix(`10.${(s >> 8) * 4 + k}.${s & 255}.0/24`);
        routes.push([p, { via: ["wg0"] }]);
        ips.push({ dev: "wg0", prefix: p, peer });
      }
    }
    const build = () => new Attestation({ fib: routes, allowedIps: ips });
    build();
    const times = Array.from({ length: 5 }, () => processorTime(build));
    const h = build();
    expect(h.prefixesOf(address("10.255.1.7"))).toHaveLength(4);
    // 50 ms is the target; the bound leaves room for a slow machine, and excludes a quadratic algorithm
    expect(Math.min(...times)).toBeLessThan(200);
    if (process.env["SHOW_TIMES"] !== undefined) console.log(times.map((t) => t.toFixed(1)).join(" "));
  });

  it("is rebuilt quickly: 10,000 spokes, each with two interfaces of its own and a prefix", () => {
    const routes: Fib = [];
    const ips: AllowedIp[] = [];
    for (let s = 0; s < 10_000; s++) {
      const devs = [`wg-a${s}`, `wg-b${s}`];
      for (const dev of devs)
        for (const any of ["0.0.0.0/0", "::/0"])
          ips.push({ dev, prefix: prefix(any), peer: keyOf(`peer${s}`) });
      routes.push([prefix(`10.${100 + (s >> 8)}.${s & 255}.0/24`), { via: devs }]);
      routes.push([prefix(`10.99.${s >> 8}.${s & 255}/32`), { via: devs }]);
    }
    const build = () => {
      const h = new Attestation({ fib: routes, allowedIps: ips });
      for (let s = 0; s < 1_000; s++) h.generationOf(address(`10.99.${s >> 8}.${s & 255}`));
      return h;
    };
    expect(build().prefixesOf(address("10.99.1.7"))).toEqual(["10.101.7.0/24"]);
    const times = Array.from({ length: 3 }, () => processorTime(build));
    // a quadratic algorithm takes minutes
    expect(Math.min(...times)).toBeLessThan(2_000);
    if (process.env["SHOW_TIMES"] !== undefined) console.log(times.map((t) => t.toFixed(1)).join(" "));
  });
});
