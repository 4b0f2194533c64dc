import { beforeEach, describe, expect, it } from "vitest";
import { defaultParameters as p } from "../../../plugin/shortcut/parameters.js";
import { checkRouter } from "../../sim/invariants.js";
import { type Router, World, type WorldOptions } from "../../sim/world.js";

/** Three spokes and a hub, no random loss; the invariants hold after every step of every script. */
function world(given: Partial<WorldOptions> = {}): { w: World; a: Router; c: Router; d: Router } {
  const w = new World({ seed: 42, spokes: 3, loss: 0, ...given });
  w.check = (r) => checkRouter(w, r);
  const [a, c, d] = w.spokes;
  if (a === undefined || c === undefined || d === undefined) throw new Error("three spokes");
  w.run(w.now + 5_000);
  return { w, a, c, d };
}

const drive = (from: Router, to: Router, rate = 5e6) => {
  from.rates.set(to.site, rate);
  if (!from.bytes.has(to.site)) from.bytes.set(to.site, 0);
};
const status = (a: Router, c: Router) => a.engine.spoke?.shortcuts().find((s) => s.owner === c.address);
const stage = (a: Router, c: Router) => status(a, c)?.stage;

/** Runs until `holds`, or fails after `limit`; returns how long it took. */
function until(w: World, limit: number, holds: () => boolean, step = 1): number {
  const from = w.now;
  while (!holds()) {
    if (w.now - from >= limit) throw new Error(`not within ${limit} ms`);
    w.run(w.now + step);
  }
  return w.now - from;
}

const direct = (a: Router, c: Router) => a.path(c.site) === "direct" && c.path(a.site) === "direct";
const onHub = (a: Router, c: Router) => a.path(c.site) === "overlay" && c.path(a.site) === "overlay";
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
    // a ping says it too, before two were sent
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
    // what was answered by nothing is said again, also after the flip
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
    w.transitions.filter((t) => t.router === a.address && t.owner === c.address).map((t) => t.reason);

  it("when the owner has no shortcutd: the hub says so, and nothing is offered", () => {
    c.runs = false;
    w.run(w.now + 40_000);
    drive(a, c);
    never(20_000);
    const row = a.engine.spoke?.destinations(w.now).find((x) => x.rate.destination === c.site);
    expect(row?.reason).toContain("does not run shortcutd");
    expect(a.daemon.offers.size).toBe(0);
  });

  it("when the owner fell silent: no answer, backoff, no offer", () => {
    c.runs = false;
    drive(a, c);
    never(20_000);
    expect(
      reasons().some((r) => r.includes(`${c.address} does not answer: is shortcutd running there?`)),
    ).toBe(true);
    expect(a.daemon.offers.size).toBe(0);
  });

  it("when the hub cannot be reached", () => {
    w.passes = (from, to) => !(from.hub || to.hub);
    w.run(w.now + 40_000);
    drive(a, c);
    never(20_000);
    expect(a.engine.spoke?.hubs()[0]?.registered).toBe(false);
    expect(a.engine.spoke?.hubs()[0]?.problem).toContain("does not answer on the control port");
    const row = a.engine.spoke?.destinations(w.now).find((x) => x.rate.destination === c.site);
    expect(row?.reason).toContain("does not answer");
    w.passes = undefined;
    bothDirect(w, a, c, 120_000);
  });

  it.each(["A", "C"])("when the policy of %s refuses: offered, refused, no peer on either end", (who) => {
    const r = who === "A" ? a : c;
    r.daemon.policy = () => false;
    drive(a, c);
    never(15_000);
    expect(stage(a, c)).toBe("refused");
    expect(status(a, c)?.reason).toBe(
      who === "A" ? "rejected by import filter" : "the owner's daemon: rejected by import filter",
    );
    expect(stage(c, a)).toBe("refused");
    r.daemon.policy = () => true;
    r.reconsider(who === "A" ? c.site : a.site);
    expect(bothDirect(w, a, c)).toBeLessThan(3_000);
  });

  it("when packets may not use the direct interface (strict rp_filter), until they may", () => {
    w.input(a, { kind: "direct-usable", usable: false, reason: "rp_filter is strict on wg0" });
    drive(a, c);
    never(10_000);
    const row = a.engine.spoke?.destinations(w.now).find((x) => x.rate.destination === c.site);
    expect(row?.reason).toBe("rp_filter is strict on wg0");
    drive(c, a);
    never(10_000);
    expect(
      w.transitions.some((t) => t.router === c.address && t.reason.includes("rp_filter is strict on wg0")),
    ).toBe(true);
    w.input(a, { kind: "direct-usable", usable: true, reason: "" });
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
    const why = quiet.transitions.filter((t) => t.router === x.address).map((t) => t.reason);
    expect(why.some((r) => r.includes("neither end knows its public endpoint"))).toBe(true);
    quiet.rendezvous = true;
    until(quiet, 60_000, () => direct(x, y), 10);
  });

  it("when the underlay carries nothing between the two: no pair answers, and no NAT is asked before it has forgotten", () => {
    w.broken.add(w.linkKey(a, c));
    drive(a, c);
    w.run(w.now + 200_000);
    expect(reasons().some((r) => r.startsWith("no answer from "))).toBe(true);
    const tries = w.transitions.filter((t) => t.router === a.address && t.stage === "connecting");
    expect(tries.length).toBeGreaterThanOrEqual(2);
    expect(tries.length).toBeLessThanOrEqual(4);
    tries.forEach((t, i) => {
      const before = tries[i - 1];
      if (before !== undefined) expect(t.at - before.at).toBeGreaterThan(0.75 * p.checkPause);
    });
    // a peer that nothing answers is never made at the initiator
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

  /** Peers may exist for a while, but nothing flips. */
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
    expect(reasons().some((r) => /does not hear our probes|no probe arrived/.test(r))).toBe(true);
    w.brokenOneWay.clear();
    bothDirect(w, a, c, 200_000);
  });

  it("when packets of the full size do not pass", () => {
    w.largestProbe = 1_300;
    drive(a, c);
    unproven(40_000);
    expect(reasons().some((r) => r.includes("probes of the full size (1372 bytes of UDP) do not pass"))).toBe(
      true,
    );
  });

  it("when the hub attests other prefixes to the owner than to us: our sources are not accepted", () => {
    // the hub tells A that it owns more than what C was told
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
    const row = a.engine.spoke?.destinations(w.now).find((x) => x.rate.destination === d.site);
    expect(row?.reason).toBe("the maximum of 1 shortcuts is reached");
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
  it("the least used makes room for one that deserves it clearly more, and for no other", () => {
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

describe("a harmful offer", () => {
  it("is withdrawn at once: an export filter takes the hub route away with it", () => {
    a.dropsOffers = true;
    drive(a, c);
    until(w, 15_000, () => a.daemon.offers.size > 0);
    const stood = until(w, 2_000, () => a.daemon.offers.size === 0);
    expect(stood).toBeLessThanOrEqual(a.daemon.delay + 1);
    const first = w.transitions.find((t) => t.router === a.address && t.stage === "returning");
    expect(first?.reason).toBe("an export filter drops it");
    expect(a.peers.has(c.key)).toBe(false);
    until(w, 1_000, () => a.path(c.site) === "overlay");
  });
});

describe("a direct shortcut", () => {
  beforeEach(() => {
    drive(a, c);
    bothDirect(w, a, c);
    w.run(w.now + 1_000);
  });
  const gone = (limit: number) => until(w, limit, () => !a.peers.has(c.key) && !c.peers.has(a.key));

  /** Why either end went back. */
  const ends = () =>
    w.transitions.filter((t) => t.stage === "returning").map((t) => `${t.router}: ${t.reason}`);

  it.each(["A", "C"])("ends when the policy of %s takes the prefix out", (who) => {
    const r = who === "A" ? a : c;
    r.daemon.policy = () => false;
    r.reconsider(who === "A" ? c.site : a.site);
    expect(until(w, 1_500, () => onHub(a, c))).toBeLessThan(1_500);
    gone(5_000);
    expect(a.daemon.offers.size + c.daemon.offers.size).toBeLessThanOrEqual(2);
    until(w, 60_000, () => stage(a, c) === "refused", 50);
    expect(onHub(a, c)).toBe(true);
  });

  const detection = p.probeInterval * p.probeMultiplier;
  it.each(["both ways", "from A", "from C"])(
    "is left by both ends in time when the path is cut %s",
    (how) => {
      if (how === "both ways") w.broken.add(w.linkKey(a, c));
      if (how === "from A") w.brokenOneWay.add(w.directed(a, c));
      if (how === "from C") w.brokenOneWay.add(w.directed(c, a));
      const took = until(w, 5_000, () => onHub(a, c));
      // what was in flight, one end detects and tells the other, then the daemons' delay
      expect(took).toBeLessThanOrEqual(23 + detection + 23 + Math.max(a.daemon.delay, c.daemon.delay));
      const first = w.milestones.filter((m) => m.milestone === "path-failed").at(-1);
      expect(first).toBeDefined();
      w.broken.clear();
      w.brokenOneWay.clear();
      bothDirect(w, a, c, 60_000);
    },
  );

  it("with a dead daemon: its frozen FIB is overridden in a quarter of a second, and freed when the daemon is back", () => {
    a.daemon.alive = false;
    w.broken.add(w.linkKey(a, c));
    const cut = w.now;
    until(w, 3_000, () => a.overrides.has(c.site));
    const left = w.transitions.findLast((t) => t.router === a.address && t.stage === "returning");
    expect(left?.at).toBeGreaterThanOrEqual(cut);
    expect(w.now - (left?.at ?? 0)).toBeLessThanOrEqual(p.overrideAfter + 1);
    expect(a.daemonPath(c.site)).toBe("direct");
    expect(a.path(c.site)).toBe("overlay");
    w.run(w.now + 30_000);
    expect(a.overrides.has(c.site)).toBe(true);
    a.daemon.alive = true;
    a.reconsider(c.site);
    until(w, 1_000, () => !a.overrides.has(c.site));
    expect(a.path(c.site)).toBe("overlay");
    w.broken.clear();
    bothDirect(w, a, c, 400_000);
  });

  it("keeps its peer while the FIB points at it, however long the daemon takes", () => {
    // overrides do not help here: the kernel refuses them; C, which hears nothing, goes after the hold time
    w.check = () => {};
    const apply = a.apply.bind(a);
    a.apply = (o) => {
      if (o.kind !== "override") apply(o);
    };
    a.daemon.alive = false;
    a.daemon.policy = () => false;
    w.input(a, { kind: "purge", owner: "all" });
    w.run(w.now + 20_000);
    expect(a.path(c.site)).toBe("direct");
    expect(a.peers.has(c.key)).toBe(true);
    a.daemon.alive = true;
    a.reconsider(c.site);
    a.reconsider(c.site);
    until(w, 30_000, () => !a.peers.has(c.key));
    expect(a.path(c.site)).toBe("overlay");
  });

  it("keeps its peer at the end of the drain when the FIB points at it again", () => {
    a.daemon.alive = false;
    w.input(a, { kind: "purge", owner: "all" });
    until(w, 3_000, () => stage(a, c) === "draining");
    // somebody deletes the override, and a dead daemon's route shows through
    w.check = () => {};
    a.overrides.delete(c.site);
    a.report(c.site);
    w.run(w.now + p.remoteHold + 3 * p.drain);
    expect(a.path(c.site)).toBe("direct");
    expect(a.peers.has(c.key)).toBe(true);
    a.overrides.add(c.site);
    a.report(c.site);
    until(w, 3 * p.drain, () => !a.peers.has(c.key));
  });

  it("ends at once when the route underneath goes", () => {
    w.setRouted(c.site, false);
    until(w, 500, () => !a.daemon.offers.has(c.site));
    gone(p.remoteHold + 3_000);
    expect(stage(a, c)).not.toBe("direct");
    w.setRouted(c.site, true);
    bothDirect(w, a, c, 60_000);
  });

  it("ends when the hub purges what it attested", () => {
    const before = w.transitions.length;
    // the hub routes C's site no longer, and only the hub notices
    w.routed.delete(c.site);
    w.tellFib();
    w.routed.add(c.site);
    until(w, 3_000, () => stage(a, c) !== "direct");
    expect(w.transitions.slice(before).find((t) => t.router === a.address)?.reason).toBe(
      "the hub's routes to the owner changed",
    );
    until(w, 2_000, () => onHub(a, c));
  });

  it("ends on a purge although the first ones are lost", () => {
    let lost = 0;
    // a keepalive tells C of its new generation, which ends it too
    w.passes = (_f, _t, kind) => kind !== "kept" && (kind !== "purge" || ++lost > 3);
    w.routed.delete(c.site);
    w.tellFib();
    w.routed.add(c.site);
    until(w, 10_000, () => stage(a, c) !== "direct");
    expect(lost).toBeGreaterThan(3);
  });

  it("ends on a purge although the spoke could not be reached for longer than a request is repeated", () => {
    w.passes = (_f, to, kind) => kind !== "purge" && !(to === c && kind === "kept");
    w.routed.delete(c.site);
    w.tellFib();
    w.routed.add(c.site);
    w.run(w.now + 15_000);
    expect(stage(a, c)).toBe("direct");
    w.passes = (_f, to, kind) => !(to === c && kind === "kept");
    until(w, 8_000, () => stage(a, c) !== "direct");
    expect(status(a, c)?.reason).toBe("the hub's routes to the owner changed");
  });

  it("outlives a restart of the hub that attests the same", () => {
    w.hub.crash();
    w.start(w.hub);
    w.run(w.now + 60_000);
    expect(ends()).toEqual([]);
    expect(direct(a, c)).toBe(true);
  });

  it("ends after a restart of the hub that attests otherwise, although nobody purges", () => {
    w.passes = (_f, to, kind) => !(to === c && kind === "kept");
    w.hub.crash();
    w.routed.delete(c.site);
    w.start(w.hub);
    w.routed.add(c.site);
    until(w, 60_000, () => stage(a, c) !== "direct", 50);
    expect(status(a, c)?.reason).toMatch(/^(the hub's routes to the owner changed|hub: )/);
  });

  it("has its attestation renewed when it runs out", () => {
    const kinds: string[] = [];
    w.passes = (from, to, kind) => {
      if (from === a && to.hub) kinds.push(kind);
      return true;
    };
    w.run(w.now + p.resolutionLifetime * 1000 + 20_000);
    expect(kinds).toContain("resolve-owner");
    expect(ends()).toEqual([]);
  });

  it.each(["A", "C"])("is left by the other end when %s restarts, and comes back", (who) => {
    const [r, other] = who === "A" ? [a, c] : [c, a];
    r.crash();
    w.start(r);
    const took = until(w, 2_000, () => onHub(a, c));
    expect(took).toBeLessThanOrEqual(2 * detection + p.probeInterval + 23 + other.daemon.delay);
    expect(until(w, p.remoteHold, () => !other.peers.has(r.key))).toBeLessThan(p.remoteHold - 1_000);
    drive(a, c);
    bothDirect(w, a, c, 60_000);
  });

  it("is torn down when idle, by both ends, and not before", () => {
    drive(a, c, 0);
    const idleFrom = w.now;
    until(w, p.idleTimeout + 10_000, () => stage(a, c) !== "direct" || stage(c, a) !== "direct", 20);
    expect(w.now - idleFrom).toBeGreaterThan(p.idleTimeout - 2_000);
    until(w, 2_000, () => onHub(a, c));
    gone(5_000);
    w.run(w.now + 10_000);
    expect(a.aliases.size + c.aliases.size + a.daemon.offers.size + c.daemon.offers.size).toBe(0);
    expect(stage(a, c)).toBeUndefined();
  });

  it("ends when the session with the daemon ends, with the daemon's reason", () => {
    a.daemon.sessionUp = false;
    w.input(a, { kind: "offers-session", established: false, reason: "offers session: hold timer expired" });
    for (const pfx of [...a.daemon.offers.keys()]) a.reconsider(pfx);
    expect(stage(a, c)).toBe("returning");
    expect(status(a, c)?.reason).toBe("offers session: hold timer expired");
    until(w, 2_000, () => onHub(a, c));
  });

  it("ends when packets may no longer use the direct interface", () => {
    w.input(c, { kind: "direct-usable", usable: false, reason: "the direct interface shortcut0 is gone" });
    until(w, 1_000, () => onHub(a, c));
    gone(5_000);
  });

  it("waits for the other end's `flipped` before its peer goes, but no longer than the BGP hold time", () => {
    w.passes = (from) => from !== c;
    w.brokenOneWay.add(w.directed(c, a));
    w.input(a, { kind: "purge", owner: "all" });
    const left = w.now;
    until(w, 20_000, () => !a.peers.has(c.key), 10);
    expect(w.now - left).toBeGreaterThanOrEqual(p.remoteHold);
    expect(w.now - left).toBeLessThanOrEqual(p.remoteHold + p.drain + 2 * a.daemon.delay + 50);
  });

  it("drains: the peer stays a second after both ends flipped", () => {
    w.input(a, { kind: "purge", owner: "all" });
    until(w, 1_000, () => onHub(a, c));
    const back = w.now;
    gone(3_000);
    expect(w.now - back).toBeGreaterThanOrEqual(p.drain - 150);
    expect(w.now - back).toBeLessThanOrEqual(p.drain + 500);
  });

  it("is not disturbed by an old exchange that arrives again", () => {
    const replay: { from: Router; payload: Uint8Array }[] = [];
    w.input(a, { kind: "purge", owner: "all" });
    const apply = a.apply.bind(a);
    let capture = true;
    a.apply = (o) => {
      if (o.kind === "send" && o.to.address === c.address && capture)
        replay.push({ from: a, payload: o.payload });
      apply(o);
    };
    until(w, 30_000, () => onHub(a, c) && stage(a, c) !== "direct");
    bothDirect(w, a, c, 60_000);
    // one more round, so that what was captured is of an older epoch
    capture = false;
    w.input(a, { kind: "purge", owner: "all" });
    until(w, 30_000, () => onHub(a, c) && stage(a, c) !== "direct");
    bothDirect(w, a, c, 60_000);
    expect(replay.length).toBeGreaterThan(3);
    for (const r of replay)
      w.input(c, { kind: "datagram", from: { address: a.address, port: 4243 }, payload: r.payload });
    w.run(w.now + 2_000);
    expect(direct(a, c)).toBe(true);
    expect(stage(c, a)).toBe("direct");
  });

  it("goes by stop: both ends on the hub path, then nothing is left of it", () => {
    w.input(a, { kind: "stop" });
    until(w, 8_000, () => a.stopped);
    expect(a.peers.size + a.aliases.size + a.daemon.offers.size + a.overrides.size).toBe(0);
    until(w, 8_000, () => !c.peers.has(a.key));
    expect(c.path(a.site)).toBe("overlay");
  });
});

describe("a change of the next hop underneath", () => {
  it("moves the offers to another alias, and leaves none behind", () => {
    const hops = new Map<Router, Router>();
    w.nextHop = (r, owner) => hops.get(r) ?? owner;
    drive(a, c);
    bothDirect(w, a, c);
    hops.set(a, w.hub);
    w.input(a, { kind: "underneath-changed", prefixes: [c.site] });
    w.run(w.now + 2_000);
    expect(a.path(c.site)).toBe("direct");
    drive(a, c, 0);
    w.input(a, { kind: "purge", owner: "all" });
    w.run(w.now + 20_000);
    expect(onHub(a, c)).toBe(true);
    expect(a.aliases.size).toBe(0);
  });
});
