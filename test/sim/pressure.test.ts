/**
 * Load tests: what a spoke and a hub send, and how often anything changes, stays within the bounds
 * written here.
 */
import { describe, expect, it } from "vitest";
import { type Prefix, prefix } from "../../plugin/net/address.js";
import { checkRouter } from "./invariants.js";
import type { Router } from "./router.js";
import { drive } from "./script.js";
import { World } from "./world.js";

/** Counts control datagrams by second and kind; pings and their answers only on request. */
function counted(w: World, of: (from: Router, to: Router, kind: string) => boolean) {
  const perSecond = new Map<number, number>();
  const kinds = new Map<string, number>();
  w.passes = (from, to, kind) => {
    if (of(from, to, kind)) {
      const second = Math.floor(w.now / 1000);
      perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    return true;
  };
  return { worst: () => Math.max(0, ...perSecond.values()), kinds };
}

const first = (w: World): Router => {
  const [a] = w.spokes;
  if (a === undefined) throw new Error("no spoke");
  return a;
};
const directs = (a: Router) =>
  a.engine.spoke?.shortcutStatus(a.world.now).filter((s) => s.stage === "direct").length ?? 0;

describe("500 shortcuts on one spoke", () => {
  it("come up, stay, and cost little when nothing changes", () => {
    const w = new World({ seed: 3, spokes: 501, loss: 0.01, maxShortcuts: 600 });
    const a = first(w);
    w.run(w.now + 30_000);
    const ping = (kind: string) => kind === "ping" || kind === "pong";
    const count = counted(w, (from, to, kind) => !ping(kind) && (from === a || to === a));
    for (const s of w.spokes.slice(1)) drive(a, s);
    for (let t = 0; t < 60 && directs(a) < 500; t++) w.run(w.now + 1_000);
    expect(directs(a)).toBe(500);
    // resolve, exchange, selected, ready with their replies, challenges, and retransmissions
    expect([...count.kinds.values()].reduce((n, k) => n + k, 0)).toBeLessThan(500 * 20);
    for (const s of w.spokes.slice(0, 20)) checkRouter(w, s);
    const transitions = w.transitions.length;
    const quiet = counted(w, (from, to, kind) => !ping(kind) && (from === a || to === a));
    w.run(w.now + 8_000);
    expect(directs(a)).toBe(500);
    expect(w.transitions.length).toBe(transitions);
    expect(quiet.worst()).toBeLessThanOrEqual(10);
    // each end measures the hub path once in 10 s: 100 pings a second and their answers, spread
    const pings = counted(w, (from, to, kind) => ping(kind) && (from === a || to === a));
    w.run(w.now + 8_000);
    expect([...pings.kinds.values()].reduce((n, k) => n + k, 0) / 20).toBeLessThan(250);
    expect(pings.worst()).toBeLessThan(350);
  });
});

describe("1,000 destinations over the threshold in the same second", () => {
  it("of as many owners: the hub is asked for a few at a time, the maximum is kept, and owners do not alternate", () => {
    const w = new World({ seed: 4, spokes: 1001, loss: 0, maxShortcuts: 100 });
    const a = first(w);
    w.run(w.now + 30_000);
    const toHub = counted(w, (from, to) => from === a && to.hub);
    for (const s of w.spokes.slice(1)) drive(a, s);
    w.run(w.now + 15_000);
    expect(directs(a)).toBe(100);
    expect(toHub.worst()).toBeLessThanOrEqual(2 * 32 + 10);
    const ups = () => w.transitions.filter((t) => t.router === a.address && t.stage === "direct").length;
    const before = ups();
    const later = counted(w, (from, to) => from === a && to.hub);
    w.run(w.now + 12_000);
    expect(ups()).toBe(before);
    expect(later.worst()).toBeLessThanOrEqual(2 * 32 + 10);
  });

  it("of one owner: one shortcut, and no more requests than may be pending", () => {
    const w = new World({ seed: 5, spokes: 3, loss: 0 });
    const a = first(w);
    const c = w.spokes[1];
    if (c === undefined) throw new Error("no owner");
    w.run(w.now + 10_000);
    const asked = counted(w, (from, to) => from === a && to.hub);
    const hosts: Prefix[] = [];
    for (let i = 0; i < 250; i++) hosts.push(prefix(c.site.replace(/0\/24$/, `${i}/32`)));
    for (let second = 0; second <= 10; second++) {
      for (const host of hosts) a.bytes.set(host, second * 1_000_000);
      w.run(w.now + 1_000);
    }
    expect(a.engine.spoke?.shortcutStatus(a.world.now).map((s) => s.owner)).toEqual([c.address]);
    expect(asked.kinds.get("resolve") ?? 0).toBeLessThanOrEqual(32);
  });
});

describe("a flow that oscillates around the threshold", () => {
  it.each([
    ["just above and just below", 1.3e6, 0.9e6, 3_000],
    ["far above and below the hysteresis", 4e6, 0.1e6, 7_000],
  ])("%s: one shortcut, once", (_, high, low, period) => {
    const w = new World({ seed: 6, spokes: 3, loss: 0 });
    const a = first(w);
    const c = w.spokes[1];
    if (c === undefined) throw new Error("no owner");
    w.run(w.now + 5_000);
    for (let i = 0; i < 40; i++) {
      drive(a, c, i % 2 === 0 ? high : low);
      w.run(w.now + period);
    }
    const stages = w.transitions.filter((t) => t.router === a.address).map((t) => t.stage);
    expect(stages).toEqual(["exchanging", "offered", "connecting", "direct"]);
  });
});

describe("a hub that restarts", () => {
  it("is not overloaded by 500 spokes, and has registered them all again", () => {
    const w = new World({ seed: 8, spokes: 500, loss: 0 });
    w.run(w.now + 30_000);
    w.hub.crash();
    w.start(w.hub);
    const count = counted(w, (_, to) => to.hub);
    w.run(w.now + 40_000);
    expect(w.hub.engine.hub?.status().length).toBe(500);
    // keepalive, cookie, register, keepalive, and the resolution of the own prefixes: spread over
    // the jitter of keepalives
    expect(count.worst()).toBeLessThanOrEqual(1_000);
  });
});
