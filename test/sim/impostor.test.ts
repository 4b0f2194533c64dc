/**
 * Shows that only the direct key that the owner has registered at the hub speaks for it: an impostor at
 * the owner's address, with a cookie and a right MAC under a key of its own, neither begins a shortcut
 * nor changes or ends one.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";
import type { RequestBody } from "../../plugin/wire/control/message.js";
import type { Router } from "./router.js";
import { checkedWorld, areDirect as direct, drive, statusOf, until } from "./script.js";
import type { World } from "./world.js";

let w: World;
let a: Router;
let c: Router;
let d: Router;

beforeEach(() => {
  ({ w, a, c, d } = checkedWorld({ seed: 11, spokes: 3, loss: 0 }));
  w.run(w.now + 5_000);
});

const boot = id64FromBytes(new Uint8Array(8).fill(0xee));
/** A request that the control link of `a` believes: from C's address, under D's key. */
const impostor = (body: RequestBody) => {
  const reply = a.engine.spoke?.handleRequest(
    w.now,
    { address: c.address, publicKey: d.key, bootId: boot },
    body,
  );
  w.run(w.now + 1);
  return reply;
};
const exchange = (): RequestBody => ({
  kind: "exchange",
  epochs: { mine: 1_000_000, yours: 0 },
  candidates: [{ ...d.publicEndpoint, kind: "host" }],
  mtu: 1420,
  pings: true,
  mapping: "none",
  linkLocal: true,
  pskProof: new Uint8Array(0),
});

describe("an impostor at the owner's address", () => {
  it("that asks first gets no shortcut, and the owner itself gets one", () => {
    impostor(exchange());
    w.run(w.now + 60_000);
    expect(a.peers.has(d.key)).toBe(false);
    expect(w.transitions.filter((t) => t.router === a.address).map((t) => t.code)).toContain(
      "owner-unregistered-key",
    );
    expect(w.transitions.some((t) => t.router === a.address && t.stage === "offered")).toBe(false);
    drive(a, c);
    until(w, 120_000, () => direct(a, c), 10);
    expect(a.peers.has(c.key)).toBe(true);
  });

  it("does not take the owner's place while the exchange is under way", () => {
    drive(a, c);
    until(w, 20_000, () => statusOf(a, c)?.stage === "exchanging");
    expect(impostor(exchange())).toMatchObject({ kind: "refused", code: "not-permitted" });
    until(w, 20_000, () => direct(a, c));
    expect(a.peers.has(d.key)).toBe(false);
  });

  it.each<[string, () => RequestBody]>([
    ["an exchange", exchange],
    ["a withdrawal", () => ({ kind: "withdraw", epochs: { mine: 1, yours: 1 }, reason: "x", failed: false })],
    ["flipped", () => ({ kind: "flipped", epochs: { mine: 1, yours: 1 } })],
    ["an update", () => ({ kind: "update", epochs: { mine: 1, yours: 1 }, candidates: [], mapping: "none" })],
  ])("does not end or move a direct path by %s", (_, body) => {
    drive(a, c);
    until(w, 20_000, () => direct(a, c));
    w.run(w.now + 2_000);
    const before = w.transitions.length;
    expect(impostor(body())).toMatchObject({ kind: "refused" });
    w.run(w.now + 5_000);
    expect(w.transitions.slice(before)).toEqual([]);
    expect(direct(a, c)).toBe(true);
    expect(a.peers.has(d.key)).toBe(false);
  });
});
