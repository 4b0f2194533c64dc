/** Shows how a shortcut comes up, why it may not, and how it is taken down. */
import { beforeEach, describe, expect, it } from "vitest";
import { defaultParameters as p } from "../../../../plugin/shortcut/parameters.js";
import { describeReason, no, YES } from "../../../../plugin/shortcut/reasons.js";
import { checkRouter } from "../../../sim/invariants.js";
import { DROPPED, REJECTED, type Router } from "../../../sim/router.js";
import {
  checkedWorld,
  areDirect as direct,
  drive,
  areOnHub as onHub,
  statusOf as status,
  until,
} from "../../../sim/script.js";
import { World, type WorldOptions } from "../../../sim/world.js";

/**
 * Makes three spokes and a hub, without random loss; the invariants hold after every step of every
 * script.
 */
function world(given: Partial<WorldOptions> = {}): ReturnType<typeof checkedWorld> {
  const all = checkedWorld({ seed: 42, spokes: 3, loss: 0, ...given });
  all.w.run(all.w.now + 5_000);
  return all;
}

const stage = (a: Router, c: Router) => status(a, c)?.stage;
const bothDirect = (w: World, a: Router, c: Router, limit = 15_000) =>
  until(w, limit, () => direct(a, c), 10);
const stages = (w: World, a: Router, c: Router) =>
  w.transitions.filter((t) => t.router === a.address && t.owner === c.address).map((t) => t.stage);

let w: World;
let a: Router;
let c: Router;
let d: Router;
beforeEach(() => {
  ({ w, a, c, d } = world());
});

describe("a shortcut comes up", () => {
  it("through its stages in order, once", () => {
    drive(a, c);
    bothDirect(w, a, c);
    expect(stages(w, a, c)).toEqual(["exchanging", "offered", "connecting", "direct"]);
    expect(stages(w, c, a)).toEqual(["resolving", "offered", "connecting", "direct"]);
    expect(status(a, c)?.origin).toBe("local");
    expect(status(c, a)?.origin).toBe("remote");
    const of = (r: Router) => w.milestones.filter((m) => m.router === r.address).map((m) => m.milestone);
    const order = [
      "over-threshold",
      "resolved",
      "exchanged",
      "selected",
      "peer-created",
      "path-proven",
      "flipping",
      "flipped",
    ];
    expect(of(a).filter((m) => order.includes(m))).toEqual(order);
  });

  it("also when both ends trigger at once (glare)", () => {
    drive(a, c);
    drive(c, a);
    bothDirect(w, a, c);
    w.run(w.now + 20_000);
    expect(direct(a, c)).toBe(true);
    for (const [x, y] of [
      [a, c],
      [c, a],
    ] as const)
      expect(
        stages(w, x, y).filter((s) => s === "direct"),
        `${x.address}`,
      ).toHaveLength(1);
  });

  it("with the responder's peer before the initiator's", () => {
    drive(c, a);
    const made = new Map<Router, number>();
    w.check = (r) => {
      checkRouter(w, r);
      for (const [x, y] of [
        [a, c],
        [c, a],
      ] as const)
        if (x.peers.has(y.key) && !made.has(x)) made.set(x, w.now);
    };
    bothDirect(w, a, c);
    // the lower address starts
    expect(a.address < c.address).toBe(true);
    expect(made.get(c)).toBeLessThan(made.get(a) ?? 0);
  });

  const STEPS = ["exchange", "exchanged", "selected", "ready", "ack", "resolve", "resolve-owner", "resolved"];
  it.each(STEPS)("although the first two of every %s are lost", (kind) => {
    // a ping tells it too, before two were sent
    if (kind === "ready" || kind === "ack") ({ w, a, c, d } = world({ pings: false }));
    const lost = new Map<string, number>();
    w.passes = (from, to, k) => {
      const key = w.directed(from, to);
      if (k !== kind || (lost.get(key) ?? 0) >= 2) return true;
      lost.set(key, (lost.get(key) ?? 0) + 1);
      return false;
    };
    drive(a, c);
    bothDirect(w, a, c, 40_000);
    // an unanswered statement is repeated, also after the flip
    w.run(w.now + 2_000);
    expect([...lost.values()].some((n) => n === 2)).toBe(true);
  });

  it("for many owners of one spoke at a time", () => {
    drive(a, c);
    drive(a, d);
    bothDirect(w, a, c);
    until(w, 5_000, () => direct(a, d), 10);
    expect(a.aliases.size).toBe(2);
  });
});

describe("a shortcut does not come up, and says why", () => {
  const never = (ms: number) => {
    const from = w.transitions.length;
    w.run(w.now + ms);
    for (const t of w.transitions.slice(from)) expect(t.stage).not.toBe("direct");
    expect(a.peers.has(c.key)).toBe(false);
    expect(c.peers.has(a.key)).toBe(false);
    expect(a.path(c.site)).toBe("overlay");
  };
  const reasons = () =>
    w.transitions.filter((t) => t.router === a.address && t.owner === c.address).map((t) => t.code);

  it("when the owner has no shortcutd: the hub says so, and nothing is offered", () => {
    c.runs = false;
    w.run(w.now + 40_000);
    drive(a, c);
    never(20_000);
    const row = a.engine.spoke?.destinationStatus(w.now).find((x) => x.rate.destination === c.site);
    expect(row?.reason).toMatchObject({ kind: "resolution-refused" });
    expect(a.daemon.offers.size).toBe(0);
  });

  it("when the owner does not answer any more: backoff, no offer", () => {
    c.runs = false;
    drive(a, c);
    never(20_000);
    expect(reasons()).toContain("owner-unanswering");
    expect(a.daemon.offers.size).toBe(0);
  });

  it("when the hub cannot be reached", () => {
    w.passes = (from, to) => !(from.hub || to.hub);
    w.run(w.now + 40_000);
    drive(a, c);
    never(20_000);
    expect(a.engine.spoke?.hubStatus()[0]?.registered).toBe(false);
    expect(a.engine.spoke?.hubStatus()[0]?.problem?.kind).toBe("hub-silent");
    const row = a.engine.spoke?.destinationStatus(w.now).find((x) => x.rate.destination === c.site);
    expect(row?.reason).toMatchObject({ kind: "hub-silent" });
    w.passes = undefined;
    bothDirect(w, a, c, 120_000);
  });

  it.each(["A", "C"])("when the policy of %s refuses: offered, refused, no peer on either end", (who) => {
    const r = who === "A" ? a : c;
    r.daemon.policy = () => false;
    drive(a, c);
    never(15_000);
    expect(stage(a, c)).toBe("refused");
    expect(status(a, c)?.reason).toEqual(
      who === "A" ? REJECTED : { kind: "owner-not-selected", text: describeReason(REJECTED) },
    );
    expect(stage(c, a)).toBe("refused");
    r.daemon.policy = () => true;
    r.reconsider(who === "A" ? c.site : a.site);
    expect(bothDirect(w, a, c)).toBeLessThan(3_000);
  });

  it("when packets may not use the direct interface (strict rp_filter), until they may", () => {
    w.input(a, { kind: "direct-usable", verdict: no({ kind: "rp-filter-strict", devices: ["wg0"] }) });
    drive(a, c);
    never(10_000);
    const row = a.engine.spoke?.destinationStatus(w.now).find((x) => x.rate.destination === c.site);
    expect(row?.reason).toMatchObject({ kind: "rp-filter-strict" });
    drive(c, a);
    never(10_000);
    expect(
      w.transitions.some((t) => t.router === c.address && t.reason.includes("rp_filter is strict on wg0")),
    ).toBe(true);
    w.input(a, { kind: "direct-usable", verdict: YES });
    bothDirect(w, a, c, 60_000);
  });

  it("when no hub has heard the direct interfaces: there is no endpoint to try", () => {
    const quiet = new World({ seed: 7, spokes: 2, loss: 0, pings: false });
    quiet.rendezvous = false;
    quiet.check = (r) => checkRouter(quiet, r);
    const [x, y] = quiet.spokes;
    if (x === undefined || y === undefined) throw new Error("two spokes");
    quiet.run(quiet.now + 5_000);
    drive(x, y);
    quiet.run(quiet.now + 20_000);
    expect(x.peers.has(y.key)).toBe(false);
    const why = quiet.transitions.filter((t) => t.router === x.address).map((t) => t.code);
    expect(why).toContain("no-endpoint");
    quiet.rendezvous = true;
    until(quiet, 60_000, () => direct(x, y), 10);
  });

  it("when the underlay carries nothing between the two: no pair answers, and the pause lasts until the NATs have forgotten", () => {
    w.broken.add(w.linkKey(a, c));
    drive(a, c);
    w.run(w.now + 200_000);
    expect(reasons()).toContain("no-answer");
    const tries = w.transitions.filter((t) => t.router === a.address && t.stage === "connecting");
    expect(tries.length).toBeGreaterThanOrEqual(2);
    expect(tries.length).toBeLessThanOrEqual(4);
    tries.forEach((t, i) => {
      const before = tries[i - 1];
      if (before !== undefined) expect(t.at - before.at).toBeGreaterThan(0.75 * p.checkPause);
    });
    // a peer is never created at the initiator when nothing answers
    expect(w.milestones.some((m) => m.router === a.address && m.milestone === "peer-created")).toBe(false);
    expect(onHub(a, c)).toBe(true);
    w.broken.clear();
    bothDirect(w, a, c, 400_000);
  });

  it("without pings, when the underlay carries nothing between the two: handshake or probes fail, backoff doubles", () => {
    ({ w, a, c, d } = world({ pings: false }));
    w.broken.add(w.linkKey(a, c));
    drive(a, c);
    w.run(w.now + 200_000);
    const waits = w.transitions
      .filter((t) => t.router === a.address && t.owner === c.address)
      .flatMap((t, i, all) => {
        const next = all[i + 1];
        return t.stage === "backoff" && next !== undefined ? [next.at - t.at] : [];
      });
    expect(waits.length).toBeGreaterThanOrEqual(4);
    expect(waits.at(-1) ?? 0).toBeGreaterThan(3 * (waits[0] ?? 0));
    expect(waits[0]).toBeGreaterThanOrEqual(p.backoff * 0.75);
    expect(onHub(a, c)).toBe(true);
    w.broken.clear();
    // both hold each other back for no longer than their own pauses
    expect(bothDirect(w, a, c, 200_000)).toBeLessThan(200_000);
  });

  /** Runs, and checks that nothing flips, although peers may exist for a while. */
  const unproven = (ms: number) => {
    const from = w.now;
    w.check = (r) => {
      checkRouter(w, r);
      for (const site of [a.site, c.site]) expect(r.path(site)).not.toBe("direct");
    };
    w.run(from + ms);
    expect(w.transitions.some((t) => t.at >= from && t.stage === "connecting")).toBe(true);
    w.check = (r) => checkRouter(w, r);
  };

  it.each(["A", "C"])("when the underlay loses everything from %s: one direction proves nothing", (who) => {
    ({ w, a, c, d } = world({ pings: false }));
    w.brokenOneWay.add(who === "A" ? w.directed(a, c) : w.directed(c, a));
    drive(a, c);
    unproven(40_000);
    expect(reasons().some((r) => r === "probes-unheard" || r === "no-probe")).toBe(true);
    w.brokenOneWay.clear();
    bothDirect(w, a, c, 200_000);
  });

  it("when full-size packets do not pass", () => {
    w.largestProbe = 1_300;
    drive(a, c);
    unproven(40_000);
    expect(reasons()).toContain("full-size-dropped");
  });

  it("when the hub attests other prefixes to the owner than to us: our sources are not accepted", () => {
    // the hub attests to A more prefixes for the owner than C was told
    w.passes = (_from, to, kind) => !(to === a && kind === "kept");
    w.routed.delete(a.site);
    w.tellFib();
    w.routed.add(a.site);
    drive(a, c);
    w.run(w.now + 12_000);
    expect(a.path(c.site)).toBe("overlay");
    expect(c.path(a.site)).toBe("overlay");
  });

  it("beyond the maximum of shortcuts, on either side", () => {
    ({ w, a, c, d } = world({ maxShortcuts: 1 }));
    drive(a, c);
    bothDirect(w, a, c);
    drive(a, d);
    w.run(w.now + 10_000);
    expect(stage(a, d)).toBeUndefined();
    const row = a.engine.spoke?.destinationStatus(w.now).find((x) => x.rate.destination === d.site);
    expect(row?.reason).toEqual({ kind: "maximum-reached", most: 1 });
    drive(d, c);
    w.run(w.now + 10_000);
    expect(d.path(c.site)).toBe("overlay");
    expect(c.peers.has(d.key)).toBe(false);
    expect(
      w.transitions.some((t) => t.router === d.address && t.reason.includes("its maximum of shortcuts")),
    ).toBe(true);
    expect(direct(a, c)).toBe(true);
  });
});

describe("at the maximum of shortcuts", () => {
  it("the least used is evicted by one with a clearly higher rate, and by no other", () => {
    ({ w, a, c, d } = world({ maxShortcuts: 1 }));
    drive(a, c, 2e6);
    bothDirect(w, a, c);
    w.run(w.now + 15_000);
    drive(a, d, 3e6);
    w.run(w.now + 15_000);
    expect(direct(a, c)).toBe(true);
    expect(stage(a, d)).toBeUndefined();
    drive(a, d, 9e6);
    until(w, 30_000, () => direct(a, d));
    expect(a.path(c.site)).toBe("overlay");
    expect(a.peers.has(c.key)).toBe(false);
    w.run(w.now + 30_000);
    expect(direct(a, d)).toBe(true);
  });
});

describe("an offer that takes the hub route away", () => {
  it("is withdrawn at once: an export filter drops the hub route with it", () => {
    a.dropsOffers = true;
    drive(a, c);
    until(w, 15_000, () => a.daemon.offers.size > 0);
    const stood = until(w, 2_000, () => a.daemon.offers.size === 0);
    expect(stood).toBeLessThanOrEqual(a.daemon.delay + 1);
    const first = w.transitions.find((t) => t.router === a.address && t.stage === "returning");
    expect(first?.reason).toBe(describeReason(DROPPED));
    expect(a.peers.has(c.key)).toBe(false);
    until(w, 1_000, () => a.path(c.site) === "overlay");
  });
});
