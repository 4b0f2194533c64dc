/** Shows what ends a direct shortcut, and that its peer stays while the FIB points at it. */
import { beforeEach, describe, expect, it } from "vitest";
import { defaultParameters as p } from "../../../../plugin/shortcut/parameters.js";
import { no } from "../../../../plugin/shortcut/reasons.js";
import type { Router } from "../../../sim/router.js";
import {
  checkedWorld,
  areDirect as direct,
  drive,
  areOnHub as onHub,
  statusOf as status,
  until,
} from "../../../sim/script.js";
import type { World } from "../../../sim/world.js";

const stage = (a: Router, c: Router) => status(a, c)?.stage;
const bothDirect = (w: World, a: Router, c: Router, limit = 15_000) =>
  until(w, limit, () => direct(a, c), 10);
/**
 * Three spokes and a hub, without random loss; the invariants hold after every step of every
 * script.
 */
let w: World;
let a: Router;
let c: Router;
beforeEach(() => {
  ({ w, a, c } = checkedWorld({ seed: 42, spokes: 3, loss: 0 }));
  w.run(w.now + 5_000);
});

describe("IPv6 that is off", () => {
  const cases = ["A", "C"] as const;
  const of = (who: "A" | "C") => (who === "A" ? a : c);

  it.each(cases)("at %s alone: both ends probe at overlay addresses", (who) => {
    w.setIpv6(of(who), false);
    drive(a, c);
    bothDirect(w, a, c);
    expect([a.probesLinkLocal.get(c.key), c.probesLinkLocal.get(a.key)]).toEqual([false, false]);
  });

  it.each(cases)("switched off at %s while direct: on the hub at once, and direct again", (who) => {
    drive(a, c);
    bothDirect(w, a, c);
    expect(a.probesLinkLocal.get(c.key)).toBe(true);
    w.setIpv6(of(who), false);
    until(w, p.probeInterval * p.probeMultiplier, () => stage(of(who), who === "A" ? c : a) !== "direct", 5);
    until(w, 2_000, () => onHub(a, c), 5);
    bothDirect(w, a, c, 10_000);
    expect([a.probesLinkLocal.get(c.key), c.probesLinkLocal.get(a.key)]).toEqual([false, false]);
  });

  it.each(cases)("switched on at %s while direct: nothing changes", (who) => {
    w.setIpv6(of(who), false);
    drive(a, c);
    bothDirect(w, a, c);
    w.setIpv6(of(who), true);
    w.run(w.now + 20_000);
    expect(direct(a, c)).toBe(true);
    expect(w.transitions.filter((t) => t.stage === "returning")).toEqual([]);
  });

  it("at any moment of an attempt: both ends are direct in the end", () => {
    for (let wait = 0; wait < 600; wait += 10) {
      const world = checkedWorld({ seed: 7, spokes: 2, loss: 0 });
      world.w.run(world.w.now + 5_000);
      drive(world.a, world.c);
      world.w.run(world.w.now + wait);
      world.w.setIpv6(world.c, false);
      until(world.w, 20_000, () => direct(world.a, world.c), 20);
      expect(world.a.probesLinkLocal.get(world.c.key), `${wait} ms`).toBe(false);
    }
  });
});

describe("a direct shortcut", () => {
  beforeEach(() => {
    drive(a, c);
    bothDirect(w, a, c);
    w.run(w.now + 1_000);
  });
  const gone = (limit: number) => until(w, limit, () => !a.peers.has(c.key) && !c.peers.has(a.key));

  /** Returns why each end fell back. */
  const ends = () =>
    w.transitions.filter((t) => t.stage === "returning").map((t) => `${t.router}: ${t.reason}`);

  it.each(["A", "C"])("ends when the policy of %s no longer accepts the prefix", (who) => {
    const r = who === "A" ? a : c;
    r.daemon.policy = () => false;
    r.reconsider(who === "A" ? c.site : a.site);
    expect(until(w, 1_500, () => onHub(a, c))).toBeLessThan(1_500);
    gone(5_000);
    expect(a.daemon.offers.size + c.daemon.offers.size).toBeLessThanOrEqual(2);
    until(w, 60_000, () => stage(a, c) === "refused", 50);
    expect(onHub(a, c)).toBe(true);
  });

  it.each(["A", "C"])("ends when the routes of %s lead its packets into the overlay", (who) => {
    const r = who === "A" ? a : c;
    const other = who === "A" ? c : a;
    r.wayTo = () => "overlay";
    w.input(r, { kind: "ways-changed" });
    until(w, 1_500, () => onHub(a, c));
    const said = w.transitions.findLast((t) => t.router === r.address && t.stage === "returning");
    expect(said?.reason).toMatch(/^the endpoint .* is reached via the overlay of /);
    expect(
      w.transitions.findLast((t) => t.router === other.address && t.stage === "returning")?.reason,
    ).toMatch(/is reached via the overlay of /);
    w.run(w.now + 60_000);
    expect(onHub(a, c)).toBe(true);
    r.wayTo = () => "other";
    w.input(r, { kind: "ways-changed" });
    bothDirect(w, a, c, 400_000);
  });

  it("ends when this router's firewall drops the owner's packets, and no other shortcut does", () => {
    const reason = {
      kind: "firewall-drops-new",
      router: a.address,
      direction: "from",
      dev: "shortcut0",
      flows: 2,
    } as const;
    w.input(a, { kind: "direct-blocked", owner: a.address, reason });
    w.run(w.now + 2_000);
    expect(direct(a, c)).toBe(true);
    w.input(a, { kind: "direct-blocked", owner: c.address, reason });
    until(w, 1_500, () => onHub(a, c));
    expect(ends().some((e) => e.includes("drops new connections from shortcut0"))).toBe(true);
    // a firewall is not corrected in seconds
    w.run(w.now + 15_000);
    expect(onHub(a, c)).toBe(true);
    bothDirect(w, a, c, 120_000);
  });

  it("ends when the other end's packets move the endpoint into the overlay", () => {
    a.wayTo = () => "overlay";
    until(w, 5_000, () => onHub(a, c));
    expect(ends().some((e) => e.includes("is reached via the overlay"))).toBe(true);
  });

  const detection = p.probeInterval * p.probeMultiplier;
  it.each(["both ways", "from A", "from C"])(
    "is left by both ends in time when the path is cut %s",
    (how) => {
      if (how === "both ways") w.broken.add(w.linkKey(a, c));
      if (how === "from A") w.brokenOneWay.add(w.directed(a, c));
      if (how === "from C") w.brokenOneWay.add(w.directed(c, a));
      const took = until(w, 5_000, () => onHub(a, c));
      // packets in flight, one end detects and tells the other, then the daemons' delay
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
    // overrides do not help here: the kernel refuses them; C, which hears nothing, falls back after
    // the hold time
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
    // another process deletes the override, and a dead daemon's route takes effect
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

  it("ends at once when the route underneath disappears", () => {
    w.setRouted(c.site, false);
    until(w, 500, () => !a.daemon.offers.has(c.site));
    gone(p.remoteHold + 3_000);
    expect(stage(a, c)).not.toBe("direct");
    w.setRouted(c.site, true);
    bothDirect(w, a, c, 60_000);
  });

  it("ends when the hub purges what it attested", () => {
    const before = w.transitions.length;
    // the hub no longer routes C's site, and only the hub notices
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
    expect(status(a, c)?.code).toBe("attestation-changed");
  });

  it("outlives a restart of the hub that attests the same", () => {
    w.hub.crash();
    w.start(w.hub);
    w.run(w.now + 60_000);
    expect(ends()).toEqual([]);
    expect(direct(a, c)).toBe(true);
  });

  it("ends after a restart of the hub that attests something else, although no purge is sent", () => {
    w.passes = (_f, to, kind) => !(to === c && kind === "kept");
    w.hub.crash();
    w.routed.delete(c.site);
    w.start(w.hub);
    w.routed.add(c.site);
    until(w, 60_000, () => stage(a, c) !== "direct", 50);
    expect(status(a, c)?.code).toMatch(/^(attestation-changed|resolution-refused)$/);
  });

  it("has its attestation renewed when it runs out", () => {
    const kinds: string[] = [];
    w.passes = (from, to, kind) => {
      if (from === a && to.hub) kinds.push(kind);
      return true;
    };
    w.run(w.now + p.resolutionLifetime + 20_000);
    expect(kinds).toContain("resolve-owner");
    expect(ends()).toEqual([]);
  });

  it.each(["A", "C"])("is torn down by the other end when %s restarts, and comes back", (who) => {
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
    w.input(a, {
      kind: "offers-session",
      verdict: no({ kind: "session-down", session: "offers", text: "hold timer expired" }),
    });
    for (const pfx of [...a.daemon.offers.keys()]) a.reconsider(pfx);
    expect(stage(a, c)).toBe("returning");
    expect(status(a, c)?.code).toBe("session-down");
    until(w, 2_000, () => onHub(a, c));
  });

  it("ends when packets may no longer use the direct interface", () => {
    w.input(c, { kind: "direct-usable", verdict: no({ kind: "direct-gone", name: "shortcut0" }) });
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
    // one more round, so that the captured exchange is of an older epoch
    capture = false;
    w.input(a, { kind: "purge", owner: "all" });
    until(w, 30_000, () => onHub(a, c) && stage(a, c) !== "direct");
    bothDirect(w, a, c, 60_000);
    expect(replay.length).toBeGreaterThan(3);
    for (const r of replay)
      w.input(c, {
        kind: "datagram",
        dev: "wg0",
        from: { address: a.address, port: 4243 },
        payload: r.payload,
      });
    w.run(w.now + 2_000);
    expect(direct(a, c)).toBe(true);
    expect(stage(c, a)).toBe("direct");
  });

  it("ends by stop: both ends on the hub path, then nothing is left of it", () => {
    w.input(a, { kind: "stop" });
    until(w, 8_000, () => a.stopped);
    expect(a.peers.size + a.aliases.size + a.daemon.offers.size + a.overrides.size).toBe(0);
    until(w, 8_000, () => !c.peers.has(a.key));
    expect(c.path(a.site)).toBe("overlay");
  });
});

describe("a change of the next hop underneath", () => {
  it("moves the offers to another alias, and leaves no old alias behind", () => {
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
