/** Shows who may register at a hub: only a holder of an overlay peer's key, one owner per peer, and what a change of key takes back. */
import { beforeEach, describe, expect, it } from "vitest";
import { type Address, address, hostPrefix, prefix } from "../../../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { PairSecrets } from "../../../../plugin/shortcut/control/pair-secrets.js";
import { registrationProof } from "../../../../plugin/shortcut/control/registration-proof.js";
import type { Output } from "../../../../plugin/shortcut/events.js";
import { Hub } from "../../../../plugin/shortcut/hub/hub.js";
import { defaultParameters } from "../../../../plugin/shortcut/parameters.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { ReplyBody, RequestBody } from "../../../../plugin/wire/control/message.js";

const key = (n: number): PublicKey => publicKeyFromBytes(new Uint8Array(32).fill(n));
const HUB = address("10.255.0.3");
const A = address("10.255.0.1");
const C = address("10.255.0.2");
const LAN_HOST = address("10.1.0.10");
const OVERLAY = { hub: key(10), a: key(11), c: key(12) };

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
const secrets = (own: PublicKey | undefined): PairSecrets =>
  new PairSecrets((theirs) => (own === undefined ? undefined : shared(own, theirs)), hmac);

let hub: Hub;
let out: Output[];
let purges: { to: Address; owner: Address }[];
/** `keyKnown`: the hub has read the private key of its overlay interface. */
const make = (keyKnown = true): void => {
  out = [];
  purges = [];
  hub = new Hub({
    self: { address: HUB, publicKey: key(3), bootId: id64FromBytes(new Uint8Array(8)) },
    overlaySecrets: secrets(keyKnown ? OVERLAY.hub : undefined),
    parameters: defaultParameters,
    listenPort: () => 51821,
    observePort: 4244,
    pingsUsable: true,
    sendPing: () => {},
    maxSpokes: 10,
    emit: (o) => void out.push(o),
    request: (_, to, body) => {
      if (body.kind === "purge") purges.push({ to, owner: body.owner });
      return id64FromBytes(new Uint8Array(8));
    },
  });
};
const readTables = (): void => {
  hub.updateFib(0, [[prefix("10.0.0.0/8"), { overlay: true }]]);
  hub.updateAllowedIps(0, [
    { prefix: hostPrefix(A), peer: OVERLAY.a },
    { prefix: prefix("10.1.0.0/24"), peer: OVERLAY.a },
    { prefix: hostPrefix(C), peer: OVERLAY.c },
    { prefix: prefix("10.3.0.0/24"), peer: OVERLAY.c },
  ]);
};
beforeEach(() => {
  make();
  readTables();
});

const boot = (n: number) => id64FromBytes(new Uint8Array(8).fill(n));
/** Registers from `at` with the direct key `direct`, proven by the holder of `overlay`. */
function register(at: Address, direct: number, overlay: PublicKey, bootId = boot(1)): ReplyBody | undefined {
  const publicKey = key(direct);
  const registration = { spoke: at, hub: HUB, directKey: publicKey, bootId };
  const proof = registrationProof(secrets(overlay), OVERLAY.hub, registration) ?? new Uint8Array(16);
  const from = { address: at, publicKey, bootId };
  const body: RequestBody = { kind: "register", listenPort: 51821, handshakeAge: 0, proof };
  const first = hub.handle(0, from, body);
  if (first !== undefined) return first;
  hub.peerApplied(publicKey, undefined);
  return hub.handle(0, from, body);
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
    make(false);
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
