/**
 * Shows, with simulated routers, that a path that fails is left, that a path that does not is
 * kept, and what the probes cost.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { defaultParameters as p } from "../../plugin/shortcut/parameters.js";
import { LEASE } from "../../plugin/shortcut/probe/relay.js";
import type { Router } from "./router.js";
import { areDirect, areOnHub, checkedWorld, drive as send, statusOf, until as within } from "./script.js";
import type { World } from "./world.js";

/**
 * How a direct shortcut is watched: the probe rate, the detection of failures, and false alarms.
 */
const DETECTION = p.probeInterval * p.probeMultiplier;
/** A packet takes up to this long in the simulated world. */
const FLIGHT = 23;

let w: World;
let a: Router;
let c: Router;

const direct = () => areDirect(a, c);
const onHub = () => areOnHub(a, c);
const ends = () => w.transitions.filter((t) => t.stage === "returning").map((t) => `${t.router}: ${t.code}`);
const status = () => statusOf(a, c);
const slowest = () => Math.max(a.daemon.delay, c.daemon.delay);

const until = (limit: number, holds: () => boolean) => within(w, limit, holds);

function begin(loss = 0, parameters: Partial<typeof p> = {}, seed = 11): void {
  ({ w, a, c } = checkedWorld({ seed, spokes: 2, loss, parameters }));
  w.run(w.now + 5_000);
  drive(5e6);
}

const drive = (rate: number) => send(a, c, rate);

beforeEach(() => {
  begin();
  until(60_000, direct);
});

/** Returns the probes per second of one router over the next ten seconds. */
function rate(r: Router): number {
  const before = r.probesSent;
  w.run(w.now + 10_000);
  return (r.probesSent - before) / 10;
}

describe("while traffic goes direct", () => {
  it("probes go at the fast rate", () => {
    expect(rate(a)).toBeGreaterThan(10);
    expect(rate(a)).toBeLessThan(14);
  });

  it.each(["A", "C", "both"])("a main loop of %s that is blocked for a second causes no alarm", (who) => {
    for (let i = 0; i < 20; i++) {
      if (who !== "C") w.block(a, 1_000);
      if (who !== "A") w.block(c, 1_000);
      w.run(w.now + 1_700);
    }
    expect(ends()).toEqual([]);
    expect(direct()).toBe(true);
  });

  it("a main loop that hangs is noticed by the other end when the lease is over", () => {
    w.block(c, 30_000);
    const took = until(LEASE + 2_000, () => a.path(c.site) === "overlay");
    // it was renewed up to a second before, in the simulated world
    expect(took).toBeGreaterThan(LEASE - 1_000);
    expect(took).toBeLessThan(LEASE + DETECTION + FLIGHT + slowest());
  });

  it("a loss of one probe in a hundred causes no alarm in ten minutes", () => {
    // probes are lost a quarter as often as control datagrams; one seed in twenty has three losses in a row
    begin(0.04, {}, 12);
    until(60_000, direct);
    w.run(w.now + 600_000);
    expect(ends()).toEqual([]);
  });

  it("a path that no longer carries full-size packets is left with the reason, and used again when it carries them", () => {
    w.largestProbe = 1_000;
    const took = until(5_000, onHub);
    expect(took).toBeLessThan(3_000 + slowest());
    const failed = w.milestones.filter((m) => m.milestone === "path-failed");
    expect(failed.length).toBeGreaterThanOrEqual(1);
    const from = w.transitions.length;
    w.run(w.now + 60_000);
    expect(w.transitions.slice(from).filter((t) => t.stage === "direct")).toEqual([]);
    expect(w.transitions.some((t) => t.stage === "returning" && t.code === "full-size-dropped")).toBe(true);
    w.largestProbe = Number.POSITIVE_INFINITY;
    until(120_000, direct);
  });
});

describe("a path that fails", () => {
  const damping = () => {
    const s = status();
    return { penalty: s?.damping.penalty ?? 0, left: s?.damping.suppressedFor ?? 0 };
  };
  const flap = () => {
    w.broken.add(w.linkKey(a, c));
    until(2_000, onHub);
    w.broken.clear();
  };

  it("once is used again after the ordinary pause", () => {
    flap();
    expect(damping().penalty).toBeGreaterThan(900);
    expect(damping().left).toBe(0);
    // drain, a pause of 2 s and a quarter more, and the other end's
    expect(until(60_000, direct)).toBeLessThan(10_000);
  });

  it("repeatedly, although it works between long enough to clear its failures, is suppressed ever longer", () => {
    const away: number[] = [];
    const left: number[] = [];
    for (let i = 0; i < 10; i++) {
      w.run(w.now + p.forgive + 5_000);
      flap();
      w.run(w.now + 100);
      // the end that suppresses it holds the other back
      const there = c.engine.spoke?.shortcutStatus(a.world.now)[0]?.damping.suppressedFor ?? 0;
      left.push(Math.max(damping().left, there));
      away.push(until(2_000_000, direct));
    }
    expect(left.slice(0, 2)).toEqual([0, 0]);
    expect(Math.max(...away.slice(0, 2))).toBeLessThan(10_000);
    const suppressed = left.filter((x) => x > 0);
    expect(suppressed.length).toBeGreaterThanOrEqual(3);
    expect(suppressed.at(-1)).toBeGreaterThan((suppressed[0] ?? 0) * 1.5);
    expect(Math.max(...away)).toBeGreaterThan(200_000);
    expect(Math.max(...away)).toBeLessThan(p.damping.longest + 20_000);
    w.run(w.now + 1_800_000);
    expect(direct()).toBe(true);
    flap();
    expect(damping().penalty).toBeLessThan(1_200);
    expect(damping().left).toBe(0);
  });
});

describe("while nothing goes by the path", () => {
  beforeEach(() => {
    drive(0);
    w.run(w.now + 10_000);
  });

  it("probes go at the slow rate, and the shortcut ends at its idle timeout as before", () => {
    expect(rate(a)).toBeLessThan(2);
    expect(rate(c)).toBeLessThan(2);
    expect(direct()).toBe(true);
    // thirty seconds of the idle time have passed
    const left = until(p.idleTimeout, onHub);
    expect(left).toBeGreaterThan(p.idleTimeout - 30_000 - 3_000);
    expect(ends().some((e) => e.endsWith(": idle"))).toBe(true);
  });

  it("a cut is noticed in the detection time of the slow rate", () => {
    w.broken.add(w.linkKey(a, c));
    const took = until(p.probeIdle * p.probeMultiplier + 500, onHub);
    expect(took).toBeGreaterThan(DETECTION);
    expect(took).toBeLessThan(p.probeIdle * p.probeMultiplier + 2 * FLIGHT + slowest());
  });

  it("traffic makes the rate fast again, and a cut is noticed as fast", () => {
    drive(5e6);
    // its counters are read once a second
    w.run(w.now + 2_000 + FLIGHT);
    w.broken.add(w.linkKey(a, c));
    expect(until(1_000, onHub)).toBeLessThan(DETECTION + 2 * FLIGHT + slowest());
  });
});

describe("the round trip", () => {
  it("is measured on both paths, repeatedly", () => {
    w.run(w.now + 60_000);
    expect(status()?.roundTrip).toBeGreaterThan(2 * 3);
    expect(status()?.roundTrip).toBeLessThan(2 * FLIGHT);
    // control datagrams take 5 to 65 ms each way, and the shortest of five counts
    expect(status()?.hubRoundTrip).toBeGreaterThan(2 * 5);
    expect(status()?.hubRoundTrip).toBeLessThan(2 * 65);
    const before = w.pings;
    w.run(w.now + 100_000);
    // from both ends
    expect(w.pings - before).toBeGreaterThanOrEqual(14);
    expect(w.pings - before).toBeLessThanOrEqual(30);
  });

  /** Lengthens the detour slowly enough that no gap between probes is a failure. */
  const stretch = (to: number) => {
    while (w.detour !== to) {
      w.detour += Math.sign(to - w.detour) * 50;
      w.run(w.now + 300);
    }
  };
  const rule = { maxRoundTrip: { ratio: 1, margin: 2 } };

  it("of a direct path that is slower keeps the shortcut on the hub, with the reason, when the rule is set", () => {
    begin(0, rule);
    w.detour = 100;
    w.run(w.now + 60_000);
    expect(w.transitions.filter((t) => t.stage === "direct")).toEqual([]);
    expect(onHub()).toBe(true);
    expect(w.transitions.some((t) => t.code === "slower")).toBe(true);
    // and it is tried less and less often
    const tries = w.transitions.filter((t) => t.router === a.address && t.stage === "connecting").length;
    expect(tries).toBeLessThan(8);
    w.detour = 0;
    until(300_000, direct);
  });

  it("of a direct path that is not slower changes nothing", () => {
    begin(0, { maxRoundTrip: { ratio: 1, margin: 50 } });
    until(15_000, direct);
    w.run(w.now + 300_000);
    expect(ends()).toEqual([]);
  });

  it("that grows while direct ends it after ten seconds, and not for a short delay", () => {
    begin(0, { maxRoundTrip: { ratio: 1, margin: 50 } });
    until(15_000, direct);
    w.run(w.now + 5_000);
    stretch(300);
    w.run(w.now + 3_000);
    stretch(0);
    w.run(w.now + 20_000);
    expect(ends()).toEqual([]);
    stretch(300);
    expect(until(30_000, onHub)).toBeGreaterThan(8_000);
    expect(ends()[0]).toContain(": slower");
  });

  it("does not matter without the rule, nor when the hub does not carry the request", () => {
    begin();
    w.detour = 300;
    until(15_000, direct);
    begin(0, rule);
    w.detour = 100;
    w.passes = (_from, _to, kind) => kind !== "ping";
    until(30_000, direct);
  });
});
