import { beforeEach, describe, expect, it } from "vitest";
import { defaultParameters as p } from "../../../plugin/shortcut/parameters.js";
import { LEASE } from "../../../plugin/shortcut/probe-relay.js";
import { checkRouter } from "../../sim/invariants.js";
import { type Router, World } from "../../sim/world.js";

/** How a shortcut that is direct is watched: at which rate, what is noticed when, and what is not mistaken for a failure. */
const DETECTION = p.probeInterval * p.probeMultiplier;
/** A packet takes up to this long in the simulated world. */
const FLIGHT = 23;

let w: World;
let a: Router;
let c: Router;

const direct = () => a.path(c.site) === "direct" && c.path(a.site) === "direct";
const onHub = () => a.path(c.site) === "overlay" && c.path(a.site) === "overlay";
const ends = () =>
  w.transitions.filter((t) => t.stage === "returning").map((t) => `${t.router}: ${t.reason}`);
const slowest = () => Math.max(a.daemon.delay, c.daemon.delay);

function until(limit: number, holds: () => boolean): number {
  const from = w.now;
  while (!holds()) {
    if (w.now - from >= limit) throw new Error(`not within ${limit} ms: ${ends().join("; ")}`);
    w.run(w.now + 1);
  }
  return w.now - from;
}

function begin(loss = 0): void {
  w = new World({ seed: 11, spokes: 2, loss });
  w.check = (r) => checkRouter(w, r);
  const [x, y] = w.spokes;
  if (x === undefined || y === undefined) throw new Error("two spokes");
  [a, c] = [x, y];
  w.run(w.now + 5_000);
  drive(5e6);
  until(60_000, direct);
}

function drive(rate: number): void {
  a.rates.set(c.site, rate);
  if (!a.bytes.has(c.site)) a.bytes.set(c.site, 0);
}

beforeEach(() => begin());

/** Probes a second of one router over the next ten seconds. */
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

  it.each(["A", "C", "both"])("a main loop of %s that is blocked for a second alarms nobody", (who) => {
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

  it("a loss of one probe in a hundred alarms nobody in ten minutes", () => {
    // probes are lost a quarter as often as control datagrams
    begin(0.04);
    w.run(w.now + 600_000);
    expect(ends()).toEqual([]);
  });

  it("a path that becomes narrow is left with the reason, not used while it is, and used again after", () => {
    w.largestProbe = 1_000;
    const took = until(5_000, onHub);
    expect(took).toBeLessThan(3_000 + slowest());
    const failed = w.milestones.filter((m) => m.milestone === "path-failed");
    expect(failed.length).toBeGreaterThanOrEqual(1);
    const from = w.transitions.length;
    w.run(w.now + 60_000);
    expect(w.transitions.slice(from).filter((t) => t.stage === "direct")).toEqual([]);
    expect(w.transitions.some((t) => t.stage === "returning" && /full size/.test(t.reason))).toBe(true);
    w.largestProbe = Number.POSITIVE_INFINITY;
    until(120_000, direct);
  });
});

describe("while nothing goes by the path", () => {
  beforeEach(() => {
    drive(0);
    w.run(w.now + 10_000);
  });

  it("probes go at the slow rate, and the shortcut goes when it always went", () => {
    expect(rate(a)).toBeLessThan(2);
    expect(rate(c)).toBeLessThan(2);
    expect(direct()).toBe(true);
    // thirty seconds of it have passed
    const left = until(p.idleTimeout, onHub);
    expect(left).toBeGreaterThan(p.idleTimeout - 30_000 - 3_000);
    expect(ends().some((e) => e.includes("idle for 60 s"))).toBe(true);
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
