/** Shows when the owner of a destination is asked for, and how refusals are remembered. */

import { beforeEach, describe, expect, it } from "vitest";
import { address, type Prefix, prefix } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { describeReason, type Reason } from "../../../../plugin/shortcut/reasons.js";
import { Destinations, type NotNow } from "../../../../plugin/shortcut/spoke/destinations.js";
import type { Owned, Refusal } from "../../../../plugin/shortcut/spoke/resolutions.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";

const C = address("10.255.0.3");
const D = prefix("10.1.0.0/24");
const OWNED: Owned = {
  owner: C,
  by: address("10.255.0.1"),
  publicKey: publicKeyFromBytes(new Uint8Array(32)),
  prefixes: [D],
  generation: id64FromBytes(new Uint8Array(8)),
};

let asked: {
  destination: Prefix;
  answer: (now: number, r: ({ readonly ok: true } & Owned) | Refusal) => void;
}[];
let known: Owned | undefined;
let taken: Set<Prefix>;
let begun: { at: number; ago: number }[];
let not: NotNow | undefined;
let d: Destinations;
let bytes: Map<Prefix, number>;
let now: number;

beforeEach(() => {
  asked = [];
  known = undefined;
  taken = new Set();
  begun = [];
  not = undefined;
  bytes = new Map();
  now = 0;
  d = new Destinations(
    {
      resolutions: {
        ownerOf: () => known,
        ofDestination: (_, destination, answer) => void asked.push({ destination, answer }),
      },
      backoffMax: 60_000,
      taken: (p) => taken.has(p),
      begin: (at, _, __, ago) => {
        begun.push({ at, ago });
        return not;
      },
    },
    { rate: 1e6, duration: 2_000, hysteresis: 0.5, capacity: 1_000 },
  );
  read(0, [D]);
});

/** Reads counters with `mbit` towards each, for as long as it takes to be above the threshold. */
function read(mbit: number, to: readonly Prefix[], seconds = 1): void {
  for (let i = 0; i < seconds; i++) {
    now += 1_000;
    for (const p of to) bytes.set(p, (bytes.get(p) ?? 0) + mbit * 125_000);
    d.read(
      now,
      [...bytes].map(([destination, n]) => ({ destination, bytes: n })),
    );
  }
}
const reason = (obstacle?: Reason) => describeReason(d.status(now, obstacle)[0]?.reason);
const NOBODY = {
  ok: false,
  reason: { kind: "resolution-refused", text: "nobody owns it" },
  unanswered: false,
  by: OWNED.by,
} as const;

describe("a destination", () => {
  it("is not asked for before it is above the threshold, and shows the missing time", () => {
    read(2, [D]);
    d.pursue(now);
    expect(asked).toEqual([]);
    expect(d.aboveThreshold([D])).toBe(false);
    expect(reason()).toBe("for 1.0 of 2 s: 2.0 of 1.0 Mbit/s");
  });

  it("above the threshold is asked for once, and begins with its owner and the time that took", () => {
    read(2, [D], 4);
    d.pursue(now);
    d.pursue(now);
    expect(asked.map((a) => a.destination)).toEqual([D]);
    expect(reason()).toBe("asking the hub who owns it");
    expect(reason({ kind: "not-connected" })).toBe("not yet connected to the daemon");
    asked[0]?.answer(now + 70, { ok: true, ...OWNED });
    expect(begun).toEqual([{ at: now + 70, ago: 70 }]);
    expect(reason()).toBe("");
    known = OWNED;
    d.pursue(now + 100);
    expect(begun[1]).toEqual({ at: now + 100, ago: 0 });
    expect(asked).toHaveLength(1);
  });

  it("that has a shortcut already is not asked for", () => {
    taken.add(D);
    read(2, [D], 4);
    d.pursue(now);
    expect(asked).toEqual([]);
  });

  it("that is refused is asked for again after pauses that double up to the longest", () => {
    read(2, [D], 4);
    const pauses: number[] = [];
    for (let i = 0; i < 6; i++) {
      d.pursue(now);
      asked.at(-1)?.answer(now, NOBODY);
      expect(reason()).toBe("hub: nobody owns it");
      const since = now;
      const before = asked.length;
      while (asked.length === before) {
        read(2, [D]);
        d.pursue(now);
      }
      pauses.push(now - since);
    }
    expect(pauses).toEqual([5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
  });

  it("loses its refusal when it falls below the threshold", () => {
    read(2, [D], 4);
    d.pursue(now);
    asked[0]?.answer(now, NOBODY);
    read(0, [D]);
    read(2, [D], 4);
    d.pursue(now);
    expect(asked).toHaveLength(2);
  });

  it("that may not begin keeps the reason", () => {
    not = { reason: { kind: "maximum-reached", most: 3 }, pause: 2_000 };
    known = OWNED;
    read(2, [D], 4);
    d.pursue(now);
    expect(reason()).toBe("the maximum of 3 shortcuts is reached");
  });
});

it("of many, the busiest are asked for first, and no more than 32 at a time", () => {
  const many = Array.from({ length: 50 }, (_, i) => prefix(`10.2.${i}.0/24`));
  for (let s = 0; s < 5; s++) {
    for (const [i, p] of many.entries()) bytes.set(p, (bytes.get(p) ?? 0) + (i + 10) * 125_000);
    read(0, []);
  }
  d.pursue(now);
  expect(asked.map((a) => a.destination)).toEqual(many.slice(18).reverse());
  asked[0]?.answer(now, { ok: true, ...OWNED });
  d.pursue(now);
  // one has been answered: there is room for one more
  expect(asked).toHaveLength(33);
});
