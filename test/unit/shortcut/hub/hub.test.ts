/**
 * Shows who may register at a hub: only a holder of an overlay peer's key, one owner per peer, what a change of key takes back,
 * and what one member costs at most.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { type Address, address, hostPrefix, type Prefix, prefix } from "../../../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { OverlaySecrets } from "../../../../plugin/shortcut/control/pair-secrets.js";
import { registrationProof } from "../../../../plugin/shortcut/control/registration-proof.js";
import type { Output, OverlayDevice } from "../../../../plugin/shortcut/events.js";
import { Hub } from "../../../../plugin/shortcut/hub/hub.js";
import { BootIds } from "../../../../plugin/shortcut/nat/boot-ids.js";
import { PingBudget } from "../../../../plugin/shortcut/nat/ping-budget.js";
import { defaultParameters } from "../../../../plugin/shortcut/parameters.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { ReplyBody, RequestBody } from "../../../../plugin/wire/control/message.js";
import type { Ping } from "../../../../plugin/wire/ping.js";

const key = (n: number): PublicKey => publicKeyFromBytes(new Uint8Array(32).fill(n));
const HUB = address("10.255.0.3");
const A = address("10.255.0.1");
const C = address("10.255.0.2");
const LAN_HOST = address("10.1.0.10");
const OVERLAY = { hub: key(10), a: key(11), c: key(12), d: key(13), a2: key(14), hub2: key(15) };

/** A secret that two keys share, whichever end computes it. */
const shared = (own: PublicKey, theirs: PublicKey): Uint8Array =>
  new TextEncoder().encode([own, theirs].sort().join());
const hmac = (k: Uint8Array, data: Uint8Array): Uint8Array => {
  const out = new Uint8Array(32);
  [...k, ...data].forEach((b, i) => {
    out[i % 32] = Math.imul((out[i % 32] ?? 0) ^ b, 31) & 255;
  });
  return out;
};
/** The secrets of a router that has the private keys of these interfaces. */
const secrets = (...known: readonly PublicKey[]): OverlaySecrets =>
  new OverlaySecrets({
    overlayShared: (own, theirs) => (known.includes(own) ? shared(own, theirs) : undefined),
    hmac,
  });

let hub: Hub;
let out: Output[];
let purges: { to: Address; owner: Address }[];
let answers: { to: PublicKey; ping: Omit<Ping, "bootId"> }[];
let bootIds: BootIds<Address>;
const overlayTo = new Map<Address, readonly string[]>();
/** `keyKnown`: the hub has read the private key of its overlay interface. */
const make = ({ keyKnown = true, maxSpokes = 10 } = {}): void => {
  out = [];
  purges = [];
  answers = [];
  bootIds = new BootIds();
  hub = new Hub({
    self: { address: HUB, publicKey: key(3), bootId: id64FromBytes(new Uint8Array(8)) },
    overlaySecrets: keyKnown ? secrets(OVERLAY.hub, OVERLAY.hub2) : secrets(),
    routing: { overlayTo: (to) => overlayTo.get(to) ?? [] },
    parameters: defaultParameters,
    listenPort: () => 51821,
    observePort: 4244,
    pingsUsable: true,
    sendPing: (to, ping) => void answers.push({ to, ping }),
    maxSpokes,
    pingBudget: new PingBudget(),
    bootIds,
    emit: (o) => void out.push(o),
    request: (_, to, body) => {
      if (body.kind === "purge") purges.push({ to, owner: body.owner });
      return id64FromBytes(new Uint8Array(8));
    },
  });
};
/** An interface of the hub, with the AllowedIPs of its peers. */
const device = (
  dev: string,
  peers: Partial<Record<keyof typeof OVERLAY, readonly Prefix[]>>,
  own = OVERLAY.hub,
): OverlayDevice => ({
  dev,
  key: own,
  peers: (Object.keys(peers) as (keyof typeof OVERLAY)[]).map((name) => ({
    publicKey: OVERLAY[name],
    allowedIps: peers[name] ?? [],
    endpoint: undefined,
    rxBytes: 0,
  })),
});
const wg0 = (peers: Parameters<typeof device>[1]): OverlayDevice => device("wg0", peers);
const overlay = (...devices: readonly OverlayDevice[]): void => hub.updateOverlay(0, devices);
const readTables = (): void => {
  hub.updateFib(0, [[prefix("10.0.0.0/8"), { via: ["wg0"] }]]);
  overlay(
    wg0({
      a: [hostPrefix(A), prefix("10.1.0.0/24")],
      c: [hostPrefix(C), prefix("10.3.0.0/24")],
      d: [prefix("10.4.0.0/24")],
    }),
  );
};
beforeEach(() => {
  make();
  readTables();
});

const boot = (n: number) => id64FromBytes(new Uint8Array(8).fill(n));
/** Registers from `at` with the direct key `direct`, proven by the holder of `by`. */
function register(
  at: Address,
  direct: number,
  by: PublicKey,
  bootId = boot(1),
  now = 0,
): ReplyBody | undefined {
  const publicKey = key(direct);
  const registration = { spoke: at, hub: HUB, directKey: publicKey, bootId };
  const proof =
    registrationProof(secrets(by), { own: by, peer: OVERLAY.hub }, registration) ?? new Uint8Array(16);
  const from = { address: at, publicKey, bootId };
  const body: RequestBody = { kind: "register", listenPort: 51821, handshakeAge: 0, proof };
  const first = hub.handle(now, from, body);
  if (first !== undefined) return first;
  hub.peerApplied(publicKey, undefined);
  return hub.handle(now, from, body);
}
const resolveBy = (at: Address, direct: number, owner: Address): ReplyBody | undefined =>
  hub.handle(
    0,
    { address: at, publicKey: key(direct), bootId: boot(1) },
    { kind: "resolve-owner", owner, page: 0 },
  );
const registered = () => hub.status().map((r) => `${r.address} ${r.publicKey === key(1) ? 1 : 2}`);

describe("a registration", () => {
  it("with the key of its overlay peer is accepted, and resolutions carry its direct key", () => {
    expect(register(A, 1, OVERLAY.a)).toMatchObject({ kind: "registered" });
    expect(register(C, 2, OVERLAY.c)).toMatchObject({ kind: "registered" });
    expect(resolveBy(A, 1, C)).toMatchObject({ kind: "resolved", owner: C, publicKey: key(2) });
  });

  it.each([
    ["a process without the overlay key, from the router's own address", A, key(99)],
    ["a host of the site, from its address inside AllowedIPs", LAN_HOST, key(99)],
    ["another member, with its own overlay key", A, OVERLAY.c],
    ["an address of no peer", address("192.0.2.1"), OVERLAY.a],
  ])("of %s is refused, and changes nothing", (_, at, overlay) => {
    register(A, 1, OVERLAY.a);
    const before = out.length;
    expect(register(at, 2, overlay)).toMatchObject({ kind: "refused", code: "not-permitted" });
    expect(registered()).toEqual([`${A} 1`]);
    expect(out).toHaveLength(before);
  });

  it("is not answered before the peers of the overlay were read: the spoke asks again", () => {
    make();
    expect(register(A, 1, OVERLAY.a)).toBeUndefined();
    readTables();
    expect(register(A, 1, OVERLAY.a)).toMatchObject({ kind: "registered" });
  });

  it("is put off while the hub does not know its own overlay key", () => {
    make({ keyKnown: false });
    readTables();
    expect(register(A, 1, OVERLAY.a)).toMatchObject({ kind: "refused", code: "busy" });
  });

  it("at a second address of the same peer takes the place of the first: one owner per peer", () => {
    register(A, 1, OVERLAY.a);
    expect(register(LAN_HOST, 2, OVERLAY.a)).toMatchObject({ kind: "registered" });
    expect(registered()).toEqual([`${LAN_HOST} 2`]);
    expect(out).toContainEqual({ kind: "unpeer", owner: A, publicKey: key(1) });
  });

  it("with another direct key purges what others resolved of the owner", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    resolveBy(A, 1, C);
    expect(register(C, 4, OVERLAY.c)).toMatchObject({ kind: "registered" });
    expect(purges).toEqual([{ to: A, owner: C }]);
    expect(resolveBy(A, 1, C)).toMatchObject({ publicKey: key(4) });
  });

  it("is known to explain: the owner, its prefixes, and the spokes that have resolved it and still hold the answer", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    const site = prefix("10.3.0.10/32");
    expect(hub.explain(site)).toMatchObject({ kind: "owner", owner: C, resolvedBy: [], endpoint: undefined });
    hub.handle(
      7,
      { address: A, publicKey: key(1), bootId: boot(1) },
      { kind: "resolve", destination: site, page: 0 },
    );
    expect(hub.explain(site)).toMatchObject({
      owner: C,
      prefixes: expect.arrayContaining(["10.3.0.0/24"]),
      resolvedBy: [{ spoke: A, at: 7 }],
    });
    resolveBy(C, 2, C);
    expect(hub.explain(site)).toMatchObject({ resolvedBy: [{ spoke: A, at: 7 }] });
    register(C, 4, OVERLAY.c);
    expect(hub.explain(site)).toMatchObject({ owner: C, resolvedBy: [] });
    expect(hub.explain(prefix("203.0.113.0/24"))).toMatchObject({ kind: "none" });
    make();
    expect(hub.explain(site)).toEqual({ kind: "none", text: "the hub has not read its FIB yet" });
  });

  it("again with the same key and boot costs nothing and purges nothing", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    resolveBy(A, 1, C);
    register(C, 2, OVERLAY.c);
    expect(purges).toEqual([]);
  });
});

describe("what one member costs a hub", () => {
  it("is one registration for each of its overlay peers, whatever it registers", () => {
    for (let i = 0; i < 250; i++) register(address(`10.1.0.${i + 1}`), i + 1, OVERLAY.a);
    expect(hub.status()).toHaveLength(1);
    expect(register(C, 2, OVERLAY.c)).toMatchObject({ kind: "registered" });
  });

  it("is not a full hub: its place is its own, and it may take another address there", () => {
    make({ maxSpokes: 2 });
    readTables();
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    expect(register(LAN_HOST, 1, OVERLAY.a)).toMatchObject({ kind: "registered" });
    expect(register(address("10.4.0.1"), 4, OVERLAY.d)).toMatchObject({ kind: "refused", code: "busy" });
    expect(hub.status()).toHaveLength(2);
  });

  it("is a few changes of the registration, each of which changes a peer in the kernel", () => {
    const refused: unknown[] = [];
    for (let i = 0; i < 100; i++) {
      const r = register(A, i + 20, OVERLAY.a);
      if (r?.kind === "refused") refused.push(r);
    }
    expect(refused).toHaveLength(90);
    expect(out.filter((o) => o.kind === "peer").length).toBeLessThanOrEqual(10);
    expect(refused[0]).toMatchObject({ code: "busy", reason: expect.stringContaining("too often") });
    // others are not held up
    expect(register(C, 9, OVERLAY.c)).toMatchObject({ kind: "registered" });
    expect(register(A, 7, OVERLAY.a, boot(1), 60_000)).toMatchObject({ kind: "registered" });
  });

  it("is a number of resolutions a second; others' are answered meanwhile", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    let answered = 0;
    for (let i = 0; i < 10_000; i++) if (resolveBy(A, 1, C) !== undefined) answered++;
    expect(answered).toBe(400);
    expect(resolveBy(C, 2, A)).toMatchObject({ kind: "resolved" });
  });

  it("ends with its registration, when the registration is not renewed", () => {
    register(A, 1, OVERLAY.a);
    const at = hub.pollTimeout();
    expect(at).toBe(30_000);
    hub.handleTimeout(29_999);
    expect(registered()).toHaveLength(1);
    hub.handleTimeout(30_000);
    expect(registered()).toEqual([]);
    expect(bootIds.keysOf(boot(1))).toEqual([]);
    expect(hub.pollTimeout()).toBeUndefined();
  });
});

describe("a registration whose address has gone to another peer of the overlay", () => {
  it("is forgotten, and purged where it was resolved", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    resolveBy(A, 1, C);
    overlay(wg0({ a: [hostPrefix(A)], d: [hostPrefix(C)] }));
    expect(registered()).toEqual([`${A} 1`]);
    expect(purges).toContainEqual({ to: A, owner: C });
  });

  it("stays while the peers are not there for a moment", () => {
    register(A, 1, OVERLAY.a);
    overlay();
    readTables();
    expect(registered()).toEqual([`${A} 1`]);
  });
});

describe("a hub with an interface for each tunnel", () => {
  const ANY = [prefix("0.0.0.0/0"), prefix("::/0")];
  const SITE = prefix("10.1.0.0/24");
  type Peers = Parameters<typeof device>[1];
  const tunnels = (extra: Readonly<Record<string, Peers>> = {}): void =>
    overlay(
      ...Object.entries({ "wg-a": { a: ANY }, "wg-a2": { a2: ANY }, "wg-c": { c: ANY }, ...extra }).map(
        ([dev, peers]) => device(dev, peers),
      ),
    );
  const fib = (routes: Readonly<Record<string, readonly string[]>>): void =>
    hub.updateFib(
      0,
      Object.entries(routes).map(([p, via]) => [prefix(p), { via }] as const),
    );
  const ONE = { [hostPrefix(A)]: ["wg-a"], [hostPrefix(C)]: ["wg-c"], [SITE]: ["wg-a"] };
  const BOTH = { ...ONE, [hostPrefix(A)]: ["wg-a", "wg-a2"], [SITE]: ["wg-a", "wg-a2"] };
  const prefixesOf = (at: Address) => hub.status().find((r) => r.address === at)?.prefixes;
  beforeEach(() => {
    make();
    tunnels();
    fib(ONE);
  });

  it("believes a datagram only by the interface to which the FIB routes its source", () => {
    const V6 = address("fd00:255::1");
    overlayTo.set(A, ["wg-a", "wg-a2"]).set(V6, ["wg-a"]);
    expect(["wg-a", "wg-a2", "wg-c"].map((dev) => hub.believes(A, dev))).toEqual([true, true, false]);
    expect(["wg-a", "wg-a2", "wg-c"].map((dev) => hub.believes(V6, dev))).toEqual([true, false, false]);
    expect(hub.believes(LAN_HOST, "wg-a")).toBe(false);
  });

  it("registers the holder of the peer by which it reaches the address, and nobody else", () => {
    expect(register(A, 1, OVERLAY.c)).toMatchObject({ code: "not-permitted" });
    expect(register(A, 1, OVERLAY.a2)).toMatchObject({ code: "not-permitted" });
    expect(register(A, 1, OVERLAY.a)).toMatchObject({ kind: "registered" });
    expect(prefixesOf(A)).toEqual([SITE]);
  });

  it("refuses a spoke that comes through another router, and says so", () => {
    // the address is behind the peer C, as where C is another hub
    fib({ ...ONE, [hostPrefix(A)]: ["wg-c"] });
    expect(register(A, 1, OVERLAY.a)).toEqual({
      kind: "refused",
      code: "not-permitted",
      reason:
        `${A} has not proven the key of its overlay peer on wg-c: ` +
        "a spoke must be the WireGuard peer by which this hub reaches it",
    });
  });

  it("attests what goes by equal paths once the spoke has proven the key of each", () => {
    fib(BOTH);
    register(C, 2, OVERLAY.c);
    register(A, 1, OVERLAY.a2);
    expect(prefixesOf(A)).toEqual([]);
    expect(resolveBy(C, 2, A)).toMatchObject({ prefixes: [] });
    register(A, 1, OVERLAY.a);
    expect(prefixesOf(A)).toEqual([SITE]);
    // what was answered before is not right any more
    expect(purges).toEqual([{ to: C, owner: A }]);
    // and neither proof has to be repeated in any order
    register(A, 1, OVERLAY.a2);
    expect(hub.status()).toHaveLength(2);
    expect(prefixesOf(A)).toEqual([SITE]);
  });

  it("takes one proof for two tunnels of one key, whichever own key it has there", () => {
    overlay(
      device("wg-a", { a: ANY }),
      device("wg-a2", { a: ANY }, OVERLAY.hub2),
      device("wg-c", { c: ANY }),
    );
    fib(BOTH);
    expect(register(A, 1, OVERLAY.a)).toMatchObject({ kind: "registered" });
    expect(prefixesOf(A)).toEqual([SITE]);
  });

  it("lets no other spoke that draws equal paths to the address take its registration or its prefixes", () => {
    register(A, 1, OVERLAY.a);
    fib({ ...ONE, [hostPrefix(A)]: ["wg-a", "wg-c"] });
    expect(register(A, 2, OVERLAY.c)).toMatchObject({ code: "not-permitted" });
    expect(registered()).toEqual([`${A} 1`]);
    expect(prefixesOf(A)).toEqual([SITE]);
    expect(register(A, 1, OVERLAY.a)).toMatchObject({ kind: "registered" });
  });

  it("revokes when the address has moved to another spoke's interface, and not when its route is gone", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    resolveBy(C, 2, A);
    fib({ [hostPrefix(C)]: ["wg-c"], [SITE]: ["wg-a"] });
    expect(registered()).toContain(`${A} 1`);
    expect(purges).toEqual([]);
    fib({ ...ONE, [hostPrefix(A)]: ["wg-c"] });
    expect(registered()).toEqual([`${C} 2`]);
    expect(purges).toEqual([{ to: C, owner: A }]);
  });

  it("keeps a registration whose equal paths become one, and that whose one path moves to its other tunnel", () => {
    fib(BOTH);
    register(A, 1, OVERLAY.a);
    register(A, 1, OVERLAY.a2);
    fib({ ...ONE, [hostPrefix(A)]: ["wg-a2"], [SITE]: ["wg-a2"] });
    expect(registered()).toEqual([`${A} 1`]);
    expect(prefixesOf(A)).toEqual([SITE]);
  });

  it("purges when a prefix moves from one spoke's interface to another's", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    resolveBy(C, 2, A);
    fib({ ...ONE, [SITE]: ["wg-c"] });
    expect(purges).toEqual([{ to: C, owner: A }]);
    expect(prefixesOf(C)).toEqual([SITE]);
  });

  it("does not purge when an interface is made again with the same name and peer", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c);
    resolveBy(C, 2, A);
    tunnels({ "wg-a": {} });
    fib({ [hostPrefix(C)]: ["wg-c"] });
    purges = [];
    tunnels();
    fib(ONE);
    expect(registered()).toContain(`${A} 1`);
    expect(resolveBy(C, 2, A)).toMatchObject({ prefixes: [SITE] });
  });

  it("does not purge an owner that is merely silent", () => {
    register(A, 1, OVERLAY.a);
    register(C, 2, OVERLAY.c, boot(1), 20_000);
    hub.handle(
      20_000,
      { address: C, publicKey: key(2), bootId: boot(1) },
      { kind: "resolve-owner", owner: A, page: 0 },
    );
    hub.handleTimeout(30_000);
    expect(registered()).toEqual([`${C} 2`]);
    fib({ ...ONE, "10.77.0.0/24": ["wg-c"] });
    expect(purges).toEqual([]);
  });
});

describe("an endpoint that a spoke asks for", () => {
  const asked: Ping = {
    kind: "observe",
    ready: false,
    transaction: boot(5),
    bootId: boot(1),
    epochs: { mine: 1, yours: 0 },
    observed: undefined,
  };
  const to = { address: address("192.0.2.66"), port: 51821 };
  const ask = (from: string, by = 1) =>
    hub.handlePing(0, { address: address(from), port: 51821 }, to, asked, key(by));

  it("is told to the holder of the key, at the rate of a spoke", () => {
    register(A, 1, OVERLAY.a);
    ask("192.0.2.2");
    expect(answers).toEqual([
      { to: key(1), ping: expect.objectContaining({ kind: "observed", transaction: boot(5) }) },
    ]);
    for (let i = 0; i < 10_000; i++) ask("192.0.2.2");
    expect(answers).toHaveLength(160);
  });

  it.each(["127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.0.9", "::ffff:7f00:1"])(
    "is not told to %s, nor to a key that is not registered",
    (from) => {
      register(A, 1, OVERLAY.a);
      ask(from);
      ask("192.0.2.2", 9);
      expect(answers).toEqual([]);
    },
  );
});
