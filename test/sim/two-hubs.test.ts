/**
 * Shows spokes with two hubs: what is lost when a hub dies, at each step of a shortcut, what a hub that
 * returns changes, and hubs that attest different prefixes or are preferred by different spokes.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { type Address, address, prefix } from "../../plugin/net/address.js";
import { encodeEnvelope, id64FromBytes } from "../../plugin/wire/control/codec.js";
import type { Router } from "./router.js";
import { areDirect, checkedWorld, drive, statusOf, until } from "./script.js";
import type { World, WorldOptions } from "./world.js";

/** Milliseconds until a daemon finds out that a hub is dead: BFD. */
const DETECTION = 800;
/** Milliseconds that an offer may lengthen the daemon's own failover by. */
const EXTRA = 300;

let w: World;
let a: Router;
let c: Router;
let d: Router;
let hub1: Router;
let hub2: Router;

const make = (options: Partial<WorldOptions> = {}): void => {
  ({ w, a, c, d } = checkedWorld({
    seed: 31,
    spokes: 3,
    loss: 0,
    hubs: 2,
    interfacePerSpoke: true,
    ...options,
  }));
  const [first, second] = w.hubs;
  if (first === undefined || second === undefined) throw new Error("two hubs");
  [hub1, hub2] = [first, second];
  w.run(w.now + 5_000);
};
beforeEach(() => make());

const HUB1 = ["wg-hub1"];
const HUB2 = ["wg-hub2"];
const stage = (r: Router, owner: Router) => statusOf(r, owner)?.stage;
const registeredAt = (hub: Router): number => hub.engine.hub?.status().length ?? 0;
const leftDirect = (): string[] =>
  w.transitions.filter((t) => t.stage === "returning").map((t) => `${t.router}: ${t.reason}`);
const refuse = (...routers: readonly Router[]): void => {
  for (const r of routers) r.daemon.policy = () => false;
};

describe("with two hubs a spoke", () => {
  it.each([true, false])("registers with both; interface per spoke at the hubs: %s", (interfacePerSpoke) => {
    make({ interfacePerSpoke });
    expect([registeredAt(hub1), registeredAt(hub2)]).toEqual([3, 3]);
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
  });

  it("learns its endpoint from both", () => {
    const hubs = a.engine.spoke?.hubStatus() ?? [];
    expect(hubs.map((h) => [h.registered, h.reflexive])).toEqual([
      [true, a.endpoint],
      [true, a.endpoint],
    ]);
  });

  it("asks the hub of the daemon's best path, and both ends go direct where they prefer different hubs", () => {
    w.overlay.prefers.set(c, hub2);
    w.overlay.changed();
    const asked: string[] = [];
    w.passes = (from, to, kind) => {
      if (from !== hub1 && from !== hub2 && kind.startsWith("resolve"))
        asked.push(`${from.address} ${to.address}`);
      return true;
    };
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
    expect(new Set(asked)).toEqual(new Set([`${a.address} ${hub1.address}`, `${c.address} ${hub2.address}`]));
    w.run(w.now + 400_000);
    expect(areDirect(a, c)).toBe(true);
    expect(leftDirect()).toEqual([]);
  });

  it("asks the other hub where the first does not route the destination, or does not answer", () => {
    w.overlay.elsewhere.set(hub1, [c.site]);
    w.tellFib();
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
    make();
    w.passes = (_, to, kind) => !(to === hub1 && kind.startsWith("resolve"));
    drive(a, c);
    until(w, 40_000, () => areDirect(a, c), 10);
  });
});

describe("a hub that dies", () => {
  /** Kills the first hub, and returns for how long the FIB led into it beyond the daemon's own failover. */
  const kill = (r: Router, owner: Router): number => {
    w.overlay.kill(hub1, DETECTION);
    w.run(w.now + DETECTION);
    const from = w.now;
    until(w, 5_000, () => !r.via(owner.site).includes("wg-hub1"));
    return w.now - from;
  };

  it("does not lengthen the daemon's own failover where an offer stands and is not taken", () => {
    refuse(a, c);
    drive(a, c);
    until(w, 20_000, () => stage(a, c) === "offered");
    expect(kill(a, c)).toBeLessThanOrEqual(EXTRA);
    expect(a.via(c.site)).toEqual(HUB2);
  });

  it("does not where the daemon has selected, and the direct path is not used yet", () => {
    w.broken.add(w.linkKey(a, c));
    drive(a, c);
    until(w, 20_000, () => stage(a, c) === "connecting");
    expect(a.via(c.site)).toEqual(HUB1);
    expect(kill(a, c)).toBeLessThanOrEqual(EXTRA);
    expect([...a.aliasVia.values()]).toEqual([HUB2]);
  });

  it("does not where the path failed and the FIB still uses the alias", () => {
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
    const at = w.now;
    w.overlay.kill(hub1, DETECTION);
    w.run(at + DETECTION / 2);
    // the direct path fails while nobody knows yet that the hub is dead
    w.broken.add(w.linkKey(a, c));
    until(w, DETECTION / 2, () => a.path(c.site) === "overlay");
    w.run(at + DETECTION);
    expect(stage(a, c)).toBe("returning");
    expect([...a.aliasVia.values()]).toEqual([HUB2]);
    until(w, EXTRA, () => a.via(c.site).join() === "wg-hub2" && c.via(a.site).join() === "wg-hub2");
  });

  it("is not used where an offer is refused for long, nor where a policy takes it later", () => {
    refuse(a);
    drive(a, c);
    until(w, 30_000, () => stage(a, c) === "refused");
    expect(kill(a, c)).toBeLessThanOrEqual(EXTRA);
    a.daemon.policy = () => true;
    a.reconsider(c.site);
    until(w, 20_000, () => areDirect(a, c), 10);
    w.broken.add(w.linkKey(a, c));
    until(w, 5_000, () => a.path(c.site) === "overlay");
    expect(a.via(c.site)).toEqual(HUB2);
  });

  it("does not touch direct shortcuts, nor does its return, nor the renewal of what it attested", () => {
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
    w.overlay.kill(hub1, DETECTION);
    w.run(w.now + 700_000);
    expect(areDirect(a, c)).toBe(true);
    w.overlay.revive(hub1, 5_000);
    w.run(w.now + 700_000);
    expect(areDirect(a, c)).toBe(true);
    expect(leftDirect()).toEqual([]);
    expect(a.own).toEqual([a.site]);
    expect([...a.aliasVia.values()]).toEqual([HUB1]);
  });

  it("does not touch them where its memory is lost and its routes come late", () => {
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
    w.overlay.elsewhere.set(hub1, [a.site, c.site]);
    w.overlay.kill(hub1, DETECTION);
    w.run(w.now + 30_000);
    w.overlay.revive(hub1, 10_000);
    w.at(w.now + 8_000, () => {
      w.overlay.elsewhere.delete(hub1);
      w.tellFib();
    });
    w.run(w.now + 400_000);
    expect(areDirect(a, c)).toBe(true);
    expect(leftDirect()).toEqual([]);
  });

  it("leaves new shortcuts to the other", () => {
    drive(a, c);
    until(w, 20_000, () => stage(a, c) === "exchanging");
    const at = w.now;
    w.overlay.kill(hub1, DETECTION);
    until(w, 30_000, () => areDirect(a, c), 10);
    drive(a, d);
    until(w, 20_000, () => areDirect(a, d), 10);
    const late = w.overlay.wasted.filter((x) => x.at > at + DETECTION);
    expect(w.overlay.wasted.length).toBeGreaterThan(0);
    expect(late).toEqual([]);
  });

  it("and then another of three: direct shortcuts stay, and new ones are made with the last", () => {
    make({ hubs: 3 });
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
    w.overlay.kill(hub2, DETECTION);
    w.run(w.now + 40_000);
    w.overlay.kill(hub1, DETECTION);
    w.run(w.now + 400_000);
    expect(areDirect(a, c)).toBe(true);
    expect(leftDirect()).toEqual([]);
    drive(a, d);
    until(w, 20_000, () => areDirect(a, d), 10);
    expect([...a.aliasVia.values()]).toEqual([["wg-hub3"], ["wg-hub3"]]);
  });

  it("is an absence when it was the last: direct shortcuts outlive it", () => {
    drive(a, c);
    until(w, 20_000, () => areDirect(a, c), 10);
    w.overlay.kill(hub1, DETECTION);
    w.run(w.now + 60_000);
    w.overlay.kill(hub2, DETECTION);
    w.killHub();
    w.run(w.now + 120_000);
    expect(areDirect(a, c)).toBe(true);
    expect(statusOf(a, c)?.code).toBe("outlives-hub");
  });
});

describe("hubs that attest different prefixes of a spoke", () => {
  const half = prefix("10.0.3.0/25");
  /** The second hub does not route half of C's site to C. */
  const differ = (): void => {
    w.overlay.elsewhere.set(hub2, [prefix(`${c.site.split("/")[0]}/25`)]);
    w.tellFib();
  };

  it("let only what both attest go direct, and both ends go direct with the set that each has asked for", () => {
    differ();
    w.run(w.now + 30_000);
    expect(c.site).toBe(prefix("10.0.3.0/24"));
    expect(c.own).toEqual(["10.0.3.128/25"]);
    expect(c.own).not.toContain(half);
    drive(a, c);
    until(w, 30_000, () => areDirect(a, c), 10);
    expect(a.peers.get(c.key)?.allowedIps).toContain(c.site);
  });

  it("let a source go direct again when the hub that does not attest it is gone for good", () => {
    differ();
    w.run(w.now + 30_000);
    w.overlay.kill(hub2, DETECTION);
    w.run(w.now + 120_000);
    expect(c.own).toEqual(["10.0.3.128/25"]);
    w.run(w.now + 400_000);
    expect(c.own).toEqual([c.site]);
  });
});

describe("a datagram with the identity of another spoke", () => {
  const V6 = address("fd00:255::3");
  /** Lets a request come in at the hub by an interface; returns whether the hub answers. */
  const answered = (from: Address, dev: string): boolean => {
    const payload = encodeEnvelope({
      requestId: id64FromBytes(new Uint8Array(8).fill(9)),
      reply: false,
      cookie: new Uint8Array(0),
      publicKey: d.key,
      bootId: id64FromBytes(new Uint8Array(8).fill(8)),
      body: new Uint8Array(64),
      mac: new Uint8Array(0),
    });
    const { engine } = hub1;
    engine.handleInput(w.now, { kind: "datagram", dev, from: { address: from, port: 4243 }, payload });
    let sent = false;
    for (let o = engine.pollOutput(); o !== undefined; o = engine.pollOutput()) {
      sent ||= o.kind === "send";
      if (o.kind === "problem") problems.push(o.problem);
    }
    return sent;
  };
  let problems: string[];
  beforeEach(() => {
    problems = [];
    w.byAddress.set(V6, a);
  });

  it.each(["IPv4", "IPv6"])("is dropped at a hub with an interface for each: %s", (family) => {
    const identity = family === "IPv4" ? a.address : V6;
    const [its, another] = [w.overlay.dev(hub1, a), w.overlay.dev(hub1, d)];
    expect(answered(identity, its)).toBe(true);
    expect(problems).toEqual([]);
    expect(answered(identity, another)).toBe(false);
    expect(problems).toEqual([
      `it came in by ${another}, by which this hub does not reach ${identity}: dropped`,
    ]);
  });

  it("is reported a few times only, whoever sends it how often", () => {
    for (let i = 0; i < 1_000; i++) expect(answered(a.address, w.overlay.dev(hub1, d))).toBe(false);
    expect(problems.length).toBeLessThanOrEqual(5);
  });

  it("is dropped where no spoke has the address", () => {
    expect(answered(address("192.0.2.1"), w.overlay.dev(hub1, d))).toBe(false);
  });
});
