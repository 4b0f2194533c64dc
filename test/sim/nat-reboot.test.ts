/**
 * NATs that reboot: all mappings are lost, and the public address changes. Whichever end notices
 * it, one attempt between the new endpoints follows within seconds.
 */
import { describe, expect, it } from "vitest";
import type { Endpoint } from "../../plugin/net/address.js";
import { defaultParameters as p } from "../../plugin/shortcut/parameters.js";
import type { Nat, NatKind } from "./nat.js";
import type { Router } from "./router.js";
import { checkedWorld, areDirect as direct, drive as send } from "./script.js";
import type { World } from "./world.js";

const MASQUERADE: NatKind = { mapping: "endpoint-independent", filter: "port", open: false };
const OPEN: NatKind = { ...MASQUERADE, open: true };
const RANDOM: NatKind = { ...MASQUERADE, mapping: "address-and-port-dependent" };
const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);
/**
 * Drain, a pause of up to two seconds and a quarter more, and in the simulation 3 s until a
 * destination is above the threshold again.
 */
const SOON = 6_000;

function world(seed: number, kindA: NatKind, kindC: NatKind, loss = 0): { w: World; a: Router; c: Router } {
  const { w, a, c } = checkedWorld({ seed, spokes: 2, loss });
  w.setNat(a, kindA);
  w.setNat(c, kindC);
  w.run(w.now + 5_000);
  return { w, a, c };
}

const drive = (a: Router, c: Router): void => {
  send(a, c);
  send(c, a);
};
const attempts = (w: World, r: Router, since: number): number =>
  w.transitions.filter((t) => t.stage === "connecting" && t.router === r.address && t.at >= since).length;

/** Returns the milliseconds until both are direct. */
function untilDirect(w: World, a: Router, c: Router, most: number): number {
  const since = w.now;
  while (!direct(a, c) && w.now < since + most) w.run(w.now + 10);
  return w.now - since;
}

function isDirect(seed: number, kindA: NatKind, kindC: NatKind, loss = 0): ReturnType<typeof world> {
  const all = world(seed, kindA, kindC, loss);
  drive(all.a, all.c);
  all.w.run(all.w.now + 30_000);
  if (loss > 0) untilDirect(all.w, all.a, all.c, 600_000);
  expect(direct(all.a, all.c), `seed ${seed}`).toBe(true);
  // observations are made every 20 s: anywhere between two of them
  all.w.run(all.w.now + all.w.random() * 20_000);
  return all;
}

describe("a NAT that reboots while direct", () => {
  it.each([
    ["the initiator's", ["a"]],
    ["the responder's", ["c"]],
    ["both", ["a", "c"]],
  ] as const)("%s: via the hub at once, and direct again after one attempt, within seconds", (_, which) => {
    for (const seed of SEEDS) {
      const { w, a, c } = isDirect(seed, MASQUERADE, MASQUERADE);
      const at = w.now;
      for (const name of which) w.rebootNat(name === "a" ? a : c);
      w.run(at + 500);
      expect([a.path(c.site), c.path(a.site)], `seed ${seed}`).toEqual(["overlay", "overlay"]);
      const took = 500 + untilDirect(w, a, c, 60_000);
      expect(took, `seed ${seed}`).toBeLessThan(SOON);
      expect([attempts(w, a, at), attempts(w, c, at)], `seed ${seed}`).toEqual([1, 1]);
    }
  });

  it("with a tenth of all packets lost, too", () => {
    for (const seed of SEEDS) {
      const { w, a, c } = isDirect(seed, MASQUERADE, MASQUERADE, 0.1);
      w.rebootNat(seed % 2 === 0 ? a : c);
      w.run(w.now + 1_000);
      expect(untilDirect(w, a, c, 120_000), `seed ${seed}`).toBeLessThan(SOON);
    }
  });

  it("after an outage of a minute: once the hub is reached again, its answer is believed before the registration is renewed", () => {
    for (const seed of SEEDS) {
      const { w, a, c } = isDirect(seed, MASQUERADE, MASQUERADE);
      w.rebootNat(a);
      w.passes = (from, to) => from !== a && to !== a;
      for (const r of [c, w.hub]) w.broken.add(w.linkKey(a, r));
      w.run(w.now + 60_000);
      w.passes = undefined;
      w.broken.clear();
      // both ends have asked a silent end repeatedly, at most 16 s and a quarter apart
      expect(untilDirect(w, a, c, 600_000), `seed ${seed}`).toBeLessThan(30_000);
    }
  });
});

describe("a NAT that rebooted unnoticed", () => {
  it.each(["a", "c"] as const)(
    "before %s: the first attempt asks the hub, and no NAT mapping is broken by a ping from an unknown endpoint",
    (which) => {
      for (const seed of SEEDS) {
        const { w, a, c } = world(seed, which === "a" ? MASQUERADE : OPEN, which === "a" ? OPEN : MASQUERADE);
        w.run(w.now + w.random() * 20_000);
        const [moved, other] = which === "a" ? [a, c] : [c, a];
        w.rebootNat(moved);
        const at = w.now;
        drive(a, c);
        expect(untilDirect(w, a, c, 120_000), `seed ${seed}`).toBeLessThan(SOON);
        expect(attempts(w, a, at), `seed ${seed}`).toBe(1);
        const unsolicited = (n: Nat | undefined): Endpoint[] =>
          n?.unsolicited.filter((e) => e.address === moved.publicEndpoint.address) ?? [];
        expect(unsolicited(other.nat), `seed ${seed}`).toEqual([]);
      }
    },
  );
});

describe("an endpoint that changes", () => {
  it("brings the next attempt forward after a failure, although the change arrived during the teardown", () => {
    const { w, a, c } = world(1, MASQUERADE, MASQUERADE);
    drive(a, c);
    // the hub sees no spoke at first: the attempt begins between outdated endpoints
    w.rebootNat(a);
    w.broken.add(w.linkKey(a, w.hub));
    w.run(w.now + 2_500);
    while (!w.transitions.some((t) => t.stage === "returning" && t.router === a.address)) w.run(w.now + 10);
    w.broken.clear();
    const at = w.now;
    expect(a.engine.spoke?.shortcutStatus(a.world.now)[0]?.reason?.kind).toBe("no-answer");
    expect(untilDirect(w, a, c, 120_000)).toBeLessThan(SOON);
    expect(attempts(w, a, at)).toBe(1);
  });

  it.each(["a", "c"] as const)(
    "repeatedly, of %s, brings attempts forward less and less, where they fail",
    (which) => {
      const { w, a, c } = world(2, RANDOM, RANDOM);
      drive(a, c);
      const hour = 3_600_000;
      const until = w.now + hour;
      const halfway = w.now + hour / 2;
      while (w.now < until) {
        w.run(w.now + 21_000);
        w.rebootNat(which === "a" ? a : c);
      }
      expect(direct(a, c)).toBe(false);
      expect(attempts(w, a, 0)).toBeGreaterThan(4);
      // the endpoint changes 86 times; by then the pause is the longest, shortened at random
      expect(attempts(w, a, halfway)).toBeLessThan((4 * (hour / 2)) / p.backoffMax);
    },
  );
});
