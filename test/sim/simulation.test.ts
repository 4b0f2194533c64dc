/**
 * Shows that no invariant breaks in simulated networks of routers, whatever is lost, late, refused
 * or restarted.
 */
import { describe, expect, it } from "vitest";
import { no, YES } from "../../plugin/shortcut/reasons.js";
import { checkRouter } from "./invariants.js";
import type { Router } from "./router.js";
import { drive, statusOf } from "./script.js";
import { World } from "./world.js";

/** Always the same, so that a run says the same each time; `SIM_SEED` looks at others. */
const seed = Number(process.env["SIM_SEED"] ?? 7);

function pick<T>(world: World, list: readonly T[]): T {
  const item = list[Math.floor(world.random() * list.length)];
  if (item === undefined) throw new Error("empty list");
  return item;
}

const stageOf = (a: Router, c: Router) => statusOf(a, c)?.stage;

describe("engines in a simulated network", () => {
  it("go direct for a destination above the threshold, and only by selection", () => {
    const world = new World({ seed: 1, spokes: 3, loss: 0 });
    world.check = (r) => checkRouter(world, r);
    const [a, c] = world.spokes as [Router, Router];
    world.run(world.now + 5_000);
    drive(a, c, 5e6);
    world.run(world.now + 8_000);
    expect(stageOf(a, c)).toBe("direct");
    expect(stageOf(c, a)).toBe("direct");
    expect(a.path(c.site)).toBe("direct");
    a.daemon.policy = () => false;
    a.reconsider(c.site);
    world.run(world.now + 4_000);
    expect(a.path(c.site)).toBe("overlay");
    expect(a.peers.has(c.key)).toBe(false);
    expect(c.peers.has(a.key)).toBe(false);
    for (let i = 0; i < 20 && stageOf(a, c) !== "refused"; i++) world.run(world.now + 1_000);
    expect(stageOf(a, c)).toBe("refused");
    a.daemon.policy = () => true;
    a.reconsider(c.site);
    world.run(world.now + 2_000);
    expect(a.path(c.site)).toBe("direct");
    expect(c.path(a.site)).toBe("direct");
    drive(a, c, 0);
    world.run(world.now + 70_000);
    expect(a.path(c.site)).toBe("overlay");
    expect(a.peers.size).toBe(1);
    expect(a.aliases.size).toBe(0);
  });

  it("hold every invariant with 200 routers, random traffic, policy, faults and loss", () => {
    const world = new World({ seed, spokes: 200, loss: 0.1 });
    let steps = 0;
    world.check = (r) => {
      steps++;
      checkRouter(world, r);
    };
    const refused = new Map<Router, Set<Router>>();
    const chaos = () => {
      const a = pick(world, world.spokes);
      // mostly among neighbours, so that traffic, policy and faults affect the same pairs
      const near = world.spokes.slice(a.index, a.index + 3);
      const c = pick(world, near.length > 0 && world.random() < 0.7 ? near : world.spokes);
      if (a !== c) {
        const what = world.random();
        if (what < 0.55)
          drive(a, c, world.random() < 0.7 ? 2e6 + world.random() * 2e7 : world.random() * 1e6);
        else if (what < 0.7) {
          const set = refused.get(a) ?? new Set();
          refused.set(a, set);
          if (!set.delete(c)) set.add(c);
          a.daemon.policy = (p) => ![...set].some((r) => r.site === p);
          a.reconsider(c.site);
        } else if (what < 0.8) {
          const link = world.linkKey(a, c);
          if (!world.broken.delete(link)) world.broken.add(link);
        } else if (what < 0.86) world.setRouted(c.site, !world.routed.has(c.site));
        else if (what < 0.9) {
          a.crash();
          world.start(a);
        } else if (what < 0.94) {
          a.daemon.sessionUp = !a.daemon.sessionUp;
          world.input(a, {
            kind: "offers-session",
            verdict: a.daemon.sessionUp ? YES : no({ kind: "session-cannot-carry", text: "session closed" }),
          });
          for (const p of [...a.daemon.offers.keys()]) a.reconsider(p);
        } else for (const p of [...a.rates.keys()]) if (world.random() < 0.5) a.rates.set(p, 0);
      }
      world.at(world.now + world.random() * 150, chaos);
    };
    world.at(world.now + 5_000, chaos);
    try {
      world.run(world.now + 60_000);
      // faults end: every pair that is above the threshold, allowed and routed must end in `direct`
      world.check = (r) => checkRouter(world, r);
      world.broken.clear();
      for (const r of world.spokes) {
        r.daemon.policy = () => true;
        if (!r.daemon.sessionUp) {
          r.daemon.sessionUp = true;
          world.input(r, { kind: "offers-session", verdict: YES });
        }
        for (const p of [...r.daemon.offers.keys()]) r.reconsider(p);
      }
    } catch (e) {
      throw new Error(`SIM_SEED=${seed}: ${e instanceof Error ? e.message : String(e)}`);
    }
    expect(steps).toBeGreaterThan(100_000);
    for (const stage of ["direct", "refused", "draining", "backoff"])
      expect(world.counts.get(stage) ?? 0, `SIM_SEED=${seed}: stage ${stage} never entered`).toBeGreaterThan(
        10,
      );
  });

  it("leave nothing behind after an orderly stop", () => {
    const world = new World({ seed: seed + 1, spokes: 12, loss: 0.05 });
    world.check = (r) => checkRouter(world, r);
    for (const a of world.spokes)
      for (const c of world.spokes) if (a !== c && world.random() < 0.4) drive(a, c, 5e6);
    world.run(world.now + 30_000);
    expect([...world.spokes].some((r) => r.aliases.size > 0)).toBe(true);
    for (const r of world.routers) world.input(r, { kind: "stop" });
    world.run(world.now + 30_000);
    for (const r of world.routers) {
      expect(r.stopped, `SIM_SEED=${seed}: ${r.address}`).toBe(true);
      expect(r.peers.size, `SIM_SEED=${seed}: ${r.address}`).toBe(0);
      expect(r.aliases.size).toBe(0);
      expect(r.daemon.offers.size).toBe(0);
      expect(r.overrides.size).toBe(0);
    }
  });
});
