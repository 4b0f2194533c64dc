/**
 * Shows which of this router's own prefixes may go direct, and which acceptance of the other end counts,
 * where several hubs attest different sets.
 */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { type Address, address, contains, type Prefix, prefix } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { generationOf } from "../../../../plugin/shortcut/control/generation.js";
import { OwnPrefixes } from "../../../../plugin/shortcut/spoke/own-prefixes.js";
import type { Resolution } from "../../../../plugin/shortcut/spoke/resolutions.js";

const [H1, H2] = [address("10.255.0.1"), address("10.255.0.2")];
const KEY = publicKeyFromBytes(new Uint8Array(32));
const LIFETIME = 300_000;
const list = (...texts: readonly string[]): Prefix[] => texts.map(prefix);
const [SITE, MORE, HALF] = [
  list("10.1.0.0/24"),
  list("10.1.0.0/24", "10.9.0.0/16"),
  list("10.1.0.0/25", "10.9.3.0/24"),
];

let own: OwnPrefixes;
/** What each hub attests; undefined before it has told. */
let hubs: Map<Address, { set: readonly Prefix[] | undefined; registered: boolean }>;
let unsettled: Set<Address>;
let asked: { hub: Address; done: (now: number, r: Resolution) => void }[];
let direct: readonly Prefix[] | undefined;
let elsewhere: Set<Prefix>;

beforeEach(() => {
  hubs = new Map();
  unsettled = new Set();
  asked = [];
  direct = undefined;
  elsewhere = new Set();
  own = new OwnPrefixes({
    hubs: () =>
      [...hubs].map(([hub, { set, registered }]) => ({
        address: hub,
        registered,
        generation: set && generationOf(set),
      })),
    unsettled: (_, hub) => unsettled.has(hub),
    ask: (_, hub, done) => void asked.push({ hub, done }),
    routesItself: (p) => !elsewhere.has(p),
    changed: (prefixes) => {
      direct = prefixes;
    },
    lifetime: LIFETIME,
  });
});

const tell = (hub: Address, set: readonly Prefix[] | undefined, registered = true): void =>
  void hubs.set(hub, { set, registered });
/** Lets every question be answered. */
const learn = (now = 0): void => {
  own.learn(now);
  for (const { hub, done } of asked.splice(0)) {
    const prefixes = hubs.get(hub)?.set ?? [];
    done(now, { ok: true, by: hub, publicKey: KEY, prefixes, generation: generationOf(prefixes) });
  }
};
const accepts = (set: readonly Prefix[], now = 0): boolean => own.accepts(now, generationOf(set));

describe("with one hub", () => {
  it("what it attests may go direct, and its generation is the acceptance", () => {
    tell(H1, SITE);
    expect(accepts(SITE)).toBe(false);
    learn();
    expect(direct).toEqual(SITE);
    expect(accepts(SITE)).toBe(true);
    expect(accepts(MORE)).toBe(false);
  });

  it("a change counts at once, and what has changed is learned before its acceptance counts", () => {
    tell(H1, SITE);
    learn();
    tell(H1, MORE);
    expect([accepts(SITE), accepts(MORE)]).toEqual([false, false]);
    learn();
    expect([accepts(SITE), accepts(MORE)]).toEqual([false, true]);
    expect(direct).toEqual(MORE);
  });

  it("a hub that has only just come back changes nothing", () => {
    tell(H1, MORE);
    learn();
    unsettled.add(H1);
    tell(H1, []);
    learn(10_000);
    expect(accepts(MORE)).toBe(true);
    expect(direct).toEqual(MORE);
    unsettled.clear();
    learn(20_000);
    expect(accepts(MORE)).toBe(false);
    expect(direct).toEqual([]);
  });

  it("that is away for long, what it attested still counts: nobody else could say more", () => {
    tell(H1, SITE);
    learn();
    tell(H1, SITE, false);
    expect(accepts(SITE, 10 * LIFETIME)).toBe(true);
  });

  it("an unanswered question is repeated after a pause", () => {
    tell(H1, SITE);
    own.learn(0);
    own.learn(4_999);
    expect(asked).toHaveLength(1);
    own.learn(5_000);
    expect(asked).toHaveLength(2);
  });
});

describe("with two hubs that attest different sets", () => {
  beforeEach(() => {
    tell(H1, MORE);
    tell(H2, HALF);
    learn();
  });

  it("either acceptance counts, and only what is in both may go direct", () => {
    expect([accepts(MORE), accepts(HALF), accepts(SITE)]).toEqual([true, true, false]);
    expect(direct).toEqual(HALF);
  });

  it("the loss of one changes nothing while others may hold its answer, and then it counts no more", () => {
    tell(H1, MORE, false);
    expect(accepts(MORE, 1_000)).toBe(true);
    expect(accepts(MORE, LIFETIME)).toBe(true);
    expect(direct).toEqual(HALF);
    expect(accepts(MORE, LIFETIME + 61_001)).toBe(false);
    expect(accepts(HALF, LIFETIME + 61_001)).toBe(true);
    // the smaller set is lost instead
    tell(H1, MORE, true);
    learn(LIFETIME + 70_000);
    tell(H2, HALF, false);
    own.learn(3 * LIFETIME);
    expect(direct).toEqual(MORE);
  });

  it("while both are away nothing is forgotten, for as long as it lasts", () => {
    tell(H1, MORE, false);
    tell(H2, HALF, false);
    expect([accepts(MORE, 9 * LIFETIME), accepts(HALF, 9 * LIFETIME)]).toEqual([true, true]);
    tell(H2, HALF, true);
    expect(accepts(MORE, 9 * LIFETIME + 1_000)).toBe(true);
  });

  it("this router keeps its routes only if it has one to everything that either attests", () => {
    expect(own.routes(0)).toBe(true);
    elsewhere.add(prefix("10.9.0.0/16"));
    expect(own.routes(1_000)).toBe(false);
  });

  it("each hub is asked for its own set", () => {
    tell(H2, SITE);
    own.learn(10_000);
    expect(asked.map((a) => a.hub)).toEqual([H2]);
  });
});

it("whatever hubs attest, what may go direct lies inside every set whose acceptance counts", () => {
  const aPrefix = fc
    .tuple(fc.nat(15), fc.integer({ min: 28, max: 32 }))
    .map(([n, length]) => prefix(`10.0.0.${(n >> (32 - length)) << (32 - length)}/${length}`));
  const disjoint = (all: readonly Prefix[]): Prefix[] =>
    all.filter((p, i) => !all.some((q, k) => k !== i && (contains(q, p) ? q !== p || k < i : false)));
  const aSet = fc.array(aPrefix, { maxLength: 6 }).map(disjoint);
  fc.assert(
    fc.property(aSet, aSet, (one, two) => {
      hubs.clear();
      own = new OwnPrefixes({
        hubs: () => [
          { address: H1, registered: true, generation: generationOf(one) },
          { address: H2, registered: true, generation: generationOf(two) },
        ],
        unsettled: () => false,
        ask: (now, hub, done) => {
          const prefixes = hub === H1 ? one : two;
          done(now, { ok: true, by: hub, publicKey: KEY, prefixes, generation: generationOf(prefixes) });
        },
        routesItself: () => true,
        changed: (prefixes) => {
          direct = prefixes;
        },
        lifetime: LIFETIME,
      });
      own.learn(0);
      for (let n = 0; n < 16; n++) {
        const a = address(`10.0.0.${n}`);
        const has = (set: readonly Prefix[]): boolean => set.some((p) => contains(p, a));
        expect(has(direct ?? [])).toBe(has(one) && has(two));
      }
    }),
  );
});
