/**
 * Steps of tests with two spokes of a simulated world: one sends to the other, and the test waits
 * for a result.
 */

import type { ShortcutStatus } from "../../plugin/shortcut/events.js";
import { describeReason } from "../../plugin/shortcut/reasons.js";
import { checkRouter } from "./invariants.js";
import type { Router } from "./router.js";
import { World, type WorldOptions } from "./world.js";

/**
 * Makes a world whose invariants are checked after every step of every script, and returns its
 * first spokes.
 */
export function checkedWorld(options: WorldOptions): { w: World; a: Router; c: Router; d: Router } {
  const w = new World(options);
  w.check = (r) => checkRouter(w, r);
  const [a, c, d = c] = w.spokes;
  if (a === undefined || c === undefined || d === undefined) throw new Error("two spokes at least");
  return { w, a, c, d };
}

/** Sends traffic; bits per second. */
export function drive(from: Router, to: Router, rate = 5e6): void {
  from.rates.set(to.site, rate);
  if (!from.bytes.has(to.site)) from.bytes.set(to.site, 0);
}

/**
 * Returns the status of the shortcut of `a` with the owner `c`; the reason in words, and as its
 * code.
 */
export function statusOf(a: Router, c: Router): (ShortcutStatus & { why: string; code: string }) | undefined {
  const s = a.engine.spoke?.shortcutStatus(a.world.now).find((x) => x.owner === c.address);
  return s && { ...s, why: describeReason(s.reason), code: s.reason?.kind ?? "" };
}

export const areDirect = (a: Router, c: Router): boolean =>
  a.path(c.site) === "direct" && c.path(a.site) === "direct";
export const areOnHub = (a: Router, c: Router): boolean =>
  a.path(c.site) === "overlay" && c.path(a.site) === "overlay";

/** Runs until `holds`, or fails after `limit`. Returns the time it took. Milliseconds. */
export function until(w: World, limit: number, holds: () => boolean, step = 1): number {
  const from = w.now;
  while (!holds()) {
    if (w.now - from >= limit) {
      const ends = w.transitions
        .filter((t) => t.stage === "returning")
        .map((t) => `${t.router}: ${t.reason}`);
      throw new Error(`not within ${limit} ms: ${ends.join("; ")}`);
    }
    w.run(w.now + step);
  }
  return w.now - from;
}
