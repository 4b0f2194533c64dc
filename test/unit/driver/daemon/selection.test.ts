/** Selection is read from the kernel: which routes and events mean that the daemon has selected an offer. */
import { describe, expect, it } from "vitest";
import { birdRule, frrRule, SETTLE, SelectionWatcher } from "../../../../plugin/driver/daemon/selection.js";
import type { FibView } from "../../../../plugin/driver/kernel/fib-view.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import { no, YES } from "../../../../plugin/shortcut/reasons.js";
import { BGP, BLACKBOARD, DIRECT, fibOf, OVERLAY, ours, route } from "../support.js";

const P = prefix("10.1.0.0/24");
const ALIAS = address("198.18.0.1");
const OTHER = address("10.255.0.2");
const offer = { prefix: P, alias: ALIAS };
const bird = birdRule(BLACKBOARD);
const chosen = route("10.1.0.0/24", OVERLAY, { table: BLACKBOARD });

describe("BIRD's decision", () => {
  it("is read from the blackboard and the main table together", () => {
    expect(bird(fibOf(chosen, route("10.1.0.0/24", OVERLAY)), offer)).toMatchObject({
      selected: true,
      reason: undefined,
    });
    expect(bird(fibOf(chosen, route("10.1.0.0/24", DIRECT)), offer).selected).toBe(true);
    expect(bird(fibOf(route("10.1.0.0/24", OVERLAY)), offer)).toMatchObject({
      selected: false,
      reason: { kind: "bird-not-selected" },
      harmful: false,
      fromAbsence: true,
    });
  });

  it("is not an alias of our own that stands in the blackboard, nor a longer or shorter prefix", () => {
    const main = route("10.1.0.0/24", OVERLAY);
    expect(bird(fibOf(main, ours("10.1.0.0/24", OVERLAY, { table: BLACKBOARD })), offer).selected).toBe(
      false,
    );
    expect(bird(fibOf(main, route("10.1.0.0/25", OVERLAY, { table: BLACKBOARD })), offer).selected).toBe(
      false,
    );
    expect(bird(fibOf(main, route("10.1.0.0/16", OVERLAY, { table: BLACKBOARD })), offer).selected).toBe(
      false,
    );
  });

  it("is harmful when the operator's export filter drops the offer, and the hub route with it", () => {
    const d = bird(fibOf(chosen, route("10.0.0.0/8", OVERLAY)), offer);
    expect(d).toMatchObject({ selected: false, harmful: true, fromAbsence: true });
    expect(d.reason?.kind).toBe("bird-kernel-filter");
  });

  it("does not count an override of our own", () => {
    expect(bird(fibOf(chosen, ours("10.1.0.0/24", OVERLAY)), offer)).toMatchObject({
      selected: false,
      harmful: true,
    });
  });

  it("is not ours when the main table has another path", () => {
    expect(bird(fibOf(chosen, route("10.1.0.0/24", "eth0")), offer)).toMatchObject({
      selected: false,
      harmful: false,
      reason: { kind: "bird-other-device", prefix: "10.1.0.0/24", devices: "eth0" },
    });
  });
});

describe("FRR's decision", () => {
  const by = (gateways: readonly ReturnType<typeof address>[], dev = OVERLAY) =>
    fibOf(
      route("10.1.0.0/24", [], {
        protocol: BGP,
        nextHops: gateways.map((gateway) => ({ ifindex: 3, dev, gateway, dead: false })),
      }),
    );

  it("is read from the next hop: the alias, and the alias alone", () => {
    expect(frrRule(by([ALIAS]), offer)).toMatchObject({ selected: true, reason: undefined });
    expect(frrRule(by([ALIAS], DIRECT), offer).selected).toBe(true);
    expect(frrRule(by([ALIAS, ALIAS]), offer).selected).toBe(true);
    expect(frrRule(by([OTHER]), offer)).toMatchObject({
      selected: false,
      reason: { kind: "frr-not-selected" },
    });
  });

  it("is a tie, not a selection, when the alias is one of several next hops", () => {
    const d = frrRule(by([ALIAS, OTHER]), offer);
    expect(d.selected).toBe(false);
    expect(d.reason?.kind).toBe("frr-tied-fib");
  });

  it("is not a selection while the prefix is not in the FIB", () => {
    expect(frrRule(fibOf(route("10.0.0.0/8", OVERLAY, { gateway: ALIAS })), offer)).toMatchObject({
      selected: false,
      fromAbsence: true,
      harmful: false,
    });
  });

  it("is not a selection when the alias resolves via another interface", () => {
    expect(frrRule(by([ALIAS], "eth0"), offer)).toMatchObject({
      selected: false,
      reason: { kind: "frr-alias-elsewhere", devices: "eth0" },
    });
  });

  it("holds while the FIB still shows the alias that the offer had before", () => {
    const w = new SelectionWatcher(frrRule, by([ALIAS]));
    w.setSession(YES);
    w.stand(offer);
    w.stand({ ...offer, alias: OTHER });
    expect(w.examine(0, "all")).toMatchObject([{ selected: true }]);
    // not that of an offer that was withdrawn
    w.withdraw(offer.prefix);
    w.stand({ ...offer, alias: address("198.18.0.9") });
    expect(w.examine(0, "all")).toMatchObject([{ selected: false, reason: { kind: "frr-not-selected" } }]);
  });

  it("does not count an override of our own", () => {
    const fib = by([ALIAS], DIRECT);
    fib.apply({ kind: "set", route: ours("10.1.0.0/24", OVERLAY) });
    expect(frrRule(fib, offer).selected).toBe(true);
  });
});

describe("the watcher", () => {
  const watch = (fib: FibView) => {
    const w = new SelectionWatcher(bird, fib);
    w.stand(offer);
    return w;
  };
  const main = route("10.1.0.0/24", OVERLAY);
  /** Selects the offer and reports it. */
  const told = () => {
    const fib = fibOf(chosen, main);
    const w = watch(fib);
    w.setSession(YES);
    w.examine(0, "all");
    return { fib, w };
  };

  it("believes nothing while the session is down: table 4242 keeps stale routes", () => {
    const fib = fibOf(chosen, main);
    const w = watch(fib);
    expect(w.examine(0, "all")).toMatchObject([
      { selected: false, reason: { kind: "offers-not-established" } },
    ]);
    w.setSession(YES);
    expect(w.examine(1, "all")).toMatchObject([{ selected: true, path: "overlay", daemonPath: "overlay" }]);
    w.setSession(no({ kind: "session-down", session: "offers", text: "closed" }));
    expect(w.examine(2, "all")).toMatchObject([{ selected: false, reason: { kind: "session-down" } }]);
  });

  it("reports a state once, and every change", () => {
    const fib = fibOf(main);
    const w = watch(fib);
    w.setSession(YES);
    expect(w.examine(-SETTLE, "all")).toEqual([]);
    expect(w.examine(0, "all")).toMatchObject([{ selected: false, reason: { kind: "bird-not-selected" } }]);
    expect(w.examine(1, "all")).toEqual([]);
    fib.apply({ kind: "set", route: chosen });
    expect(w.examine(2, [P])).toMatchObject([{ selected: true }]);
    fib.apply({ kind: "set", route: route("10.1.0.0/24", DIRECT) });
    expect(w.examine(3, [P])).toMatchObject([{ selected: true, path: "direct", daemonPath: "direct" }]);
    fib.apply({ kind: "set", route: ours("10.1.0.0/24", OVERLAY) });
    expect(w.examine(4, [P])).toMatchObject([{ selected: true, path: "overlay", daemonPath: "direct" }]);
    expect(w.examine(5, [prefix("10.9.0.0/24")])).toEqual([]);
  });

  it("waits out a gap of delete and add that is shorter than SETTLE", () => {
    const { fib, w } = told();
    fib.apply({ kind: "gone", route: main });
    expect(w.examine(10, [P])).toEqual([]);
    expect(w.pollTimeout()).toBe(10 + SETTLE);
    expect(w.examine(10 + SETTLE - 1, "all")).toEqual([]);
    fib.apply({ kind: "set", route: main });
    expect(w.examine(10 + SETTLE - 1, [P])).toEqual([]);
    expect(w.pollTimeout()).toBeUndefined();
    expect(w.examine(10 + 5 * SETTLE, "all")).toEqual([]);
  });

  it("waits out a gap on the blackboard too: BIRD replaces an IPv6 route by delete and add", () => {
    const { fib, w } = told();
    fib.apply({ kind: "gone", route: chosen });
    expect(w.examine(10, [P])).toEqual([]);
    fib.apply({ kind: "set", route: chosen });
    expect(w.examine(20, [P])).toEqual([]);
    fib.apply({ kind: "gone", route: chosen });
    w.examine(30, [P]);
    expect(w.examine(30 + SETTLE, "all")).toMatchObject([
      { selected: false, reason: { kind: "bird-not-selected" } },
    ]);
  });

  it("believes an absence that lasts", () => {
    const { fib, w } = told();
    fib.apply({ kind: "gone", route: main });
    w.examine(10, [P]);
    expect(w.examine(10 + SETTLE, "all")).toMatchObject([{ selected: false, harmful: true, path: "none" }]);
    fib.apply({ kind: "set", route: main });
    expect(w.examine(10 + SETTLE + 1, "all")).toMatchObject([{ selected: true, harmful: false }]);
    // a new gap starts a new wait
    fib.apply({ kind: "gone", route: main });
    expect(w.examine(500, "all")).toEqual([]);
    expect(w.pollTimeout()).toBe(500 + SETTLE);
  });

  it("stays due until it was rechecked: a timer that is armed again when the time is past must still be armed", () => {
    const { fib, w } = told();
    fib.apply({ kind: "gone", route: chosen });
    w.examine(10, [P]);
    // another prefix is examined, late
    expect(w.examine(10 + SETTLE + 5, [prefix("10.9.0.0/24")])).toEqual([]);
    expect(w.pollTimeout()).toBe(10 + SETTLE);
    expect(w.examine(10 + SETTLE + 6, w.inDoubt())).toMatchObject([
      { selected: false, reason: { kind: "bird-not-selected" } },
    ]);
    expect(w.pollTimeout()).toBeUndefined();
    expect(w.inDoubt()).toEqual([]);
  });

  it("does not wait for an offer that was withdrawn, or whose session ended", () => {
    for (const end of [
      (w: SelectionWatcher) => w.withdraw(P),
      (w: SelectionWatcher) => w.setSession(no({ kind: "session-down", session: "offers", text: "closed" })),
    ]) {
      const { fib, w } = told();
      fib.apply({ kind: "gone", route: chosen });
      w.examine(10, [P]);
      end(w);
      w.examine(20, "all");
      expect(w.pollTimeout()).toBeUndefined();
    }
  });

  it("sees the direct interface go down: the kernel removes routes without a message", () => {
    const direct = route("10.1.0.0/24", DIRECT);
    const fib = fibOf(chosen, direct);
    const w = watch(fib);
    w.setSession(YES);
    w.examine(0, "all");
    fib.apply({
      kind: "set",
      route: { ...direct, nextHops: direct.nextHops.map((n) => ({ ...n, dead: true })) },
    });
    w.examine(1, "all");
    expect(w.examine(1 + SETTLE, "all")).toMatchObject([{ selected: false, path: "none" }]);
  });

  it("reports the path of a withdrawn offer until the FIB is free of it, and never as selected", () => {
    const fib = fibOf(chosen, route("10.1.0.0/24", DIRECT));
    const w = watch(fib);
    w.setSession(YES);
    w.examine(0, "all");
    w.withdraw(P);
    expect(w.examine(1, "all")).toMatchObject([
      { selected: false, reason: { kind: "withdrawn" }, path: "direct" },
    ]);
    fib.apply({ kind: "set", route: main });
    expect(w.examine(2, [P])).toMatchObject([{ selected: false, path: "overlay" }]);
    w.release(ALIAS, () => true);
    expect(w.watches(P)).toBe(true);
    w.release(ALIAS, () => false);
    expect(w.watches(P)).toBe(false);
    fib.apply({ kind: "gone", route: main });
    expect(w.examine(3, "all")).toEqual([]);
  });
});
