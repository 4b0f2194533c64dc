/**
 * Shows what a member can make another router send to others: it names endpoints that are not its own,
 * again and again. Pings go there within a budget, handshakes go there rarely, and nothing goes to
 * addresses that are no router's.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { type Address, address, type Endpoint } from "../../plugin/net/address.js";
import type { Output } from "../../plugin/shortcut/events.js";
import type { Candidate } from "../../plugin/wire/control/message.js";
import type { Router } from "./router.js";
import { areDirect, checkedWorld, drive, until } from "./script.js";
import type { World, WorldOptions } from "./world.js";

let w: World;
let a: Router;
let c: Router;
let d: Router;
/** Endpoints to which A has sent pings, and endpoints of its WireGuard peers, in order. */
let pinged: Endpoint[];
let configured: Endpoint[];

const make = (options: Partial<WorldOptions> = {}): void => {
  ({ w, a, c, d } = checkedWorld({ seed: 23, spokes: 3, loss: 0, ...options }));
  pinged = [];
  configured = [];
  const apply = a.apply.bind(a);
  a.apply = (o: Output) => {
    if (o.kind === "ping") pinged.push(o.to);
    if (o.kind === "peer" && o.want.endpoint !== undefined) configured.push(o.want.endpoint);
    apply(o);
  };
  w.run(w.now + 5_000);
};
beforeEach(() => make());

/** From now on D says that these are its endpoints: its engine leaves out what it should. */
const claim = (...addresses: Address[]): void => {
  const spoke = d.engine.spoke as unknown as { reachability: { candidates(): Candidate[] } };
  spoke.reachability.candidates = () => addresses.map((x) => ({ address: x, port: 51821, kind: "host" }));
  // it announces what has changed when it looks
  w.input(d, { kind: "ways-changed" });
};
const victim = (n: number): Address => address(`203.0.113.${n % 250}`);
const isVictim = (e: Endpoint): boolean => e.address.startsWith("203.0.113.");

describe("a member that names others' endpoints as its own", () => {
  it("hundreds of times while direct, makes the other end send a few pings a second, and disturbs nobody", () => {
    drive(a, c);
    drive(a, d);
    until(w, 60_000, () => areDirect(a, c) && areDirect(a, d), 10);
    const before = pinged.length;
    const [minutes, start, transitions] = [5, w.now, w.transitions.length];
    for (let i = 0; w.now < start + minutes * 60_000; i++) {
      claim(...Array.from({ length: 10 }, (_, k) => victim(10 * i + k)));
      w.run(w.now + 500);
    }
    const sent = pinged.slice(before).filter(isVictim);
    expect(sent.length).toBeGreaterThan(0);
    expect(sent.length).toBeLessThanOrEqual(160 + 4 * 60 * minutes);
    const perVictim = new Map<string, number>();
    for (const e of sent) perVictim.set(e.address, (perVictim.get(e.address) ?? 0) + 1);
    expect(Math.max(...perVictim.values())).toBeLessThan(160);
    expect(areDirect(a, c)).toBe(true);
    const ended = w.transitions.slice(transitions).filter((t) => t.owner === c.address);
    expect(ended).toEqual([]);
  });

  it("in attempt after attempt, ten times a second, does not cause more, and is direct as soon as it names its own", () => {
    w.broken.add(w.linkKey(a, d));
    drive(d, a);
    const start = w.now;
    for (let i = 0; w.now < start + 300_000; i++) {
      claim(...Array.from({ length: 10 }, (_, k) => victim(10 * i + k)));
      w.run(w.now + 100);
    }
    const sent = pinged.filter(isVictim);
    expect(sent.length).toBeGreaterThan(0);
    expect(sent.length).toBeLessThanOrEqual(160 + (4 * (w.now - start)) / 1_000);
    w.broken.clear();
    claim(d.endpoint.address);
    until(w, 900_000, () => areDirect(a, d), 100);
  });
});

describe("addresses that are no other router's", () => {
  const never = ["127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "198.18.0.9"].map(address);
  const to = (): Endpoint[] => [...pinged, ...configured];

  it.each([true, false])("get neither pings nor handshakes (pings are possible: %s)", (pings) => {
    make({ pings });
    const own = address("192.0.2.77");
    w.input(a, { kind: "addresses", addresses: [{ dev: "eth0", address: own, length: 24 }] });
    const all = [...never, w.hubAddress, own, address("192.0.2.255"), d.address];
    claim(...all);
    drive(a, d);
    drive(d, a);
    w.run(w.now + 120_000);
    expect(w.transitions.some((t) => t.router === a.address && t.stage === "connecting")).toBe(true);
    expect(to().filter((e) => all.includes(e.address))).toEqual([]);
    // what is a router's gets something, from the same member
    claim(...all, victim(1));
    w.run(w.now + 400_000);
    expect(to().filter((e) => all.includes(e.address))).toEqual([]);
    expect(to().some(isVictim)).toBe(true);
  });
});
