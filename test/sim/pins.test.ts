/**
 * Shows that a spoke's own configuration holds against a hub: a direct key that is not pinned, or an end without
 * the pair's pre-shared key, gets no shortcut, with a reason at both ends; and keys that change at different
 * moments cost nothing.
 */
import { describe, expect, it } from "vitest";
import type { Router } from "./router.js";
import { areDirect, areOnHub, checkedWorld, drive, statusOf, until } from "./script.js";
import type { World } from "./world.js";

function three(): ReturnType<typeof checkedWorld> {
  const t = checkedWorld({ seed: 5, spokes: 3, loss: 0 });
  t.w.run(t.w.now + 5_000);
  return t;
}

const share = (w: World, a: Router, c: Router, here: string | undefined, there: string | undefined): void => {
  for (const [r, o, key] of [
    [a, c, here],
    [c, a, there],
  ] as const)
    if (key === undefined) w.preshared.delete(`${r.address} ${o.address}`);
    else w.preshared.set(`${r.address} ${o.address}`, key);
};

const codes = (w: World, r: Router): (string | undefined)[] =>
  w.transitions.filter((t) => t.router === r.address).map((t) => t.code);

/** The hub names another key for an owner than the owner's, to everybody who asks. */
function substitute(w: World, owner: Router, key: Router["key"]): void {
  const hub = w.routers[0]?.engine.hub;
  if (hub === undefined) throw new Error("no hub");
  const handle = hub.handle.bind(hub);
  hub.handle = (now, from, body) => {
    const reply = handle(now, from, body);
    return reply?.kind === "resolved" && reply.owner === owner.address ? { ...reply, publicKey: key } : reply;
  };
}

describe("pinned keys", () => {
  it("that agree change nothing", () => {
    const { w, a, c } = three();
    a.pins.set(c.address, [c.key]);
    c.pins.set(a.address, [a.key]);
    drive(a, c);
    until(w, 60_000, () => areDirect(a, c));
  });

  it("refuse the key that a hub names, at the end that asks, and nothing is sent to it", () => {
    const { w, a, c, d } = three();
    a.pins.set(c.address, [c.key]);
    substitute(w, c, d.key);
    drive(a, c);
    until(w, 60_000, () => statusOf(a, c)?.code === "key-not-pinned");
    expect(statusOf(a, c)?.why).toMatch(
      /pins of \S+ do not have the direct key \S+ for \S+: add it there if/,
    );
    w.run(w.now + 120_000);
    expect(codes(w, a)).not.toContain("waiting-for-daemons");
    expect(codes(w, c)).toEqual([]);
  });

  it("refuse the key that asks, at the end that is asked; the other end is told why", () => {
    const { w, a, c, d } = three();
    c.pins.set(a.address, [d.key]);
    drive(a, c);
    until(w, 60_000, () => codes(w, c).includes("key-not-pinned"));
    until(w, 60_000, () => statusOf(a, c)?.code === "owner-refused");
    expect(statusOf(a, c)?.why).toContain("do not have the direct key");
    w.run(w.now + 60_000);
    expect(codes(w, c)).not.toContain("waiting-for-daemons");
  });

  it("that change while it runs end the shortcut of a key that is not among them, and no other", () => {
    const { w, a, c, d } = three();
    drive(a, c);
    until(w, 60_000, () => areDirect(a, c));
    w.input(a, { kind: "pins", pins: new Map([[c.address, [d.key, c.key]]]) });
    w.run(w.now + 10_000);
    expect(areDirect(a, c)).toBe(true);
    w.input(a, { kind: "pins", pins: new Map([[c.address, [d.key]]]) });
    until(w, 20_000, () => areOnHub(a, c));
    until(w, 60_000, () => statusOf(a, c)?.code === "key-not-pinned");
    w.input(a, { kind: "pins", pins: new Map() });
    until(w, 400_000, () => areDirect(a, c));
  });

  it("may be two, while an owner changes its key", () => {
    const { w, a, c, d } = three();
    a.pins.set(c.address, [d.key, c.key]);
    drive(a, c);
    until(w, 60_000, () => areDirect(a, c));
  });
});

describe("a pre-shared key", () => {
  it("that both ends have leads to the direct path", () => {
    const { w, a, c } = three();
    share(w, a, c, "secret", "secret");
    drive(a, c);
    until(w, 60_000, () => areDirect(a, c));
  });

  it.each([
    ["differs", "one", "another", "psk-differs"],
    ["is missing at the end that asks", undefined, "another", "psk-missing"],
    ["is missing at the end that is asked", "one", undefined, "psk-missing"],
    ["cannot be read at the end that asks", "unusable", "another", "psk-unusable"],
    ["cannot be read at the end that is asked", "one", "unusable", "psk-unusable"],
  ] as const)("that %s is a reason at both ends", (_, here, there, code) => {
    const { w, a, c } = three();
    share(w, a, c, here, there);
    drive(a, c);
    const told = () => [statusOf(a, c), statusOf(c, a)].map((s) => s?.why ?? "");
    until(w, 60_000, () => [...codes(w, a), ...codes(w, c)].includes(code));
    until(w, 60_000, () => told()[0]?.includes("pre-shared key") === true);
    w.run(w.now + 60_000);
    for (const r of [a, c]) expect(codes(w, r)).not.toContain("both-selected");
    expect(areDirect(a, c)).toBe(false);
    expect(JSON.stringify([w.transitions, w.milestones, told()])).not.toMatch(/"one"|another"/);
    // and once both have the same, it works without a restart
    share(w, a, c, "same", "same");
    until(w, 400_000, () => areDirect(a, c));
  });

  it.each([
    [0, "psk-missing"],
    [16, "psk-differs"],
  ])("whose proof of %i bytes in the answer is wrong is refused by the end that asked", (length, code) => {
    const { w, a, c } = three();
    share(w, a, c, "secret", "secret");
    const { spoke } = c.engine;
    if (spoke === undefined) throw new Error("no spoke");
    const handle = spoke.handleRequest.bind(spoke);
    spoke.handleRequest = (now, from, body) => {
      const reply = handle(now, from, body);
      return reply?.kind === "exchanged" ? { ...reply, pskProof: new Uint8Array(length) } : reply;
    };
    drive(a, c);
    until(w, 60_000, () => codes(w, a).includes(code));
    w.run(w.now + 30_000);
    expect(codes(w, a)).not.toContain("waiting-for-daemons");
  });

  it("that the two ends change one after the other does not disturb the path in use", () => {
    const { w, a, c } = three();
    share(w, a, c, "old", "old");
    drive(a, c);
    until(w, 60_000, () => areDirect(a, c));
    share(w, a, c, "new", "old");
    w.run(w.now + 30_000);
    expect(areDirect(a, c)).toBe(true);
    share(w, a, c, "new", "new");
    w.run(w.now + 30_000);
    expect(areDirect(a, c)).toBe(true);
    expect(codes(w, a).filter((k) => k?.startsWith("psk") === true)).toEqual([]);
  });
});
