/**
 * Shows through which tunnels of the overlay a spoke looks for a hub, and how it proves the keys of
 * several: those that the FIB uses, one after the other.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { type Address, address, prefix } from "../../../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import type { Outcome } from "../../../../plugin/shortcut/control/link.js";
import { OverlaySecrets } from "../../../../plugin/shortcut/control/pair-secrets.js";
import type { Output, OverlayDevice } from "../../../../plugin/shortcut/events.js";
import { BootIds } from "../../../../plugin/shortcut/nat/boot-ids.js";
import { defaultParameters } from "../../../../plugin/shortcut/parameters.js";
import { HubLink, tunnelsTo } from "../../../../plugin/shortcut/spoke/hub-link.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { ReplyBody, RequestBody } from "../../../../plugin/wire/control/message.js";

const key = (n: number): PublicKey => publicKeyFromBytes(new Uint8Array(32).fill(n));
const HUB = address("10.255.0.1");
const SELF = address("10.255.3.1");
const BOOT = id64FromBytes(new Uint8Array(8).fill(1));
const ANY = [prefix("0.0.0.0/0"), prefix("::/0")];
const endpoint = (n: number) => ({ address: address(`192.0.2.${n}`), port: 51820 });
const device = (dev: string, own: number, peer: number, allowedIps = ANY): OverlayDevice => ({
  dev,
  key: key(own),
  peers: [{ publicKey: key(peer), allowedIps, endpoint: endpoint(peer), rxBytes: 0 }],
});

describe("the tunnels that may lead to a hub", () => {
  const ends = (fib: readonly string[], ...devices: readonly OverlayDevice[]) =>
    tunnelsTo({ overlayTo: () => fib }, devices, HUB).map(
      (t) => `${t.own === key(1) ? 1 : 2} ${t.used ? "used" : "possible"}`,
    );
  const [one, two] = [device("wg-1", 1, 11), device("wg-2", 2, 12)];

  it("are those first that the FIB uses; the others are possible", () => {
    expect(ends(["wg-2"], one, two)).toEqual(["2 used", "1 possible"]);
    expect(ends(["wg-1", "wg-2"], one, two)).toEqual(["1 used", "2 used"]);
    expect(ends([], one, two)).toEqual(["1 possible", "2 possible"]);
  });

  it("are none where AllowedIPs do not hold the hub, or the interface has no key", () => {
    expect(ends(["wg-1"], device("wg-1", 1, 11, [prefix("10.1.0.0/16")]))).toEqual([]);
    expect(ends(["wg-1"], { ...one, key: undefined })).toEqual([]);
  });
});

let now: number;
let out: Output[];
let fib: readonly string[];
let link: HubLink;
/** Requests that wait, each with the own key that proves it. */
let asked: { body: RequestBody; by: number; done: (now: number, o: Outcome) => void }[];
let settled: Address[];

beforeEach(() => {
  now = 0;
  out = [];
  asked = [];
  settled = [];
  fib = ["wg-1", "wg-2"];
  const host = {
    self: { address: SELF, publicKey: key(9), bootId: BOOT },
    // the first byte of the "MAC" is the own key
    overlaySecrets: new OverlaySecrets({
      overlayShared: (own) => Uint8Array.of(own === key(1) ? 1 : 2),
      hmac: (secret) => new Uint8Array(32).fill(secret[0] ?? 0),
    }),
    parameters: defaultParameters,
    listenPort: () => 51821,
    routing: { wayTo: () => "other" as const, overlayTo: () => fib },
    bootIds: new BootIds<Address>(),
    random: () => 0.5,
    emit: (o: Output) => void out.push(o),
    request: (_: number, __: Address, body: RequestBody, done: (t: number, o: Outcome) => void) => {
      asked.push({ body, by: body.kind === "register" ? (body.proof[0] ?? 0) : 0, done });
      return BOOT;
    },
    pingsUsable: false,
    sendPing: () => {},
    randomId: () => BOOT,
  };
  link = new HubLink(host, HUB, now, {
    heard: () => {},
    told: () => {},
    restarted: (_, hub) => void settled.push(hub),
  });
  link.overlayPeers(now, [device("wg-1", 1, 11), device("wg-2", 2, 12)]);
});

const REGISTERED: ReplyBody = { kind: "registered", listenPort: 51821, lifetime: 30, observePort: 0 };
const REFUSED: ReplyBody = { kind: "refused", code: "not-permitted", reason: "not proven" };
const KEPT: ReplyBody = { kind: "kept", reflexive: endpoint(9), age: 0, generation: BOOT };
/** Answers the next request; returns its kind and the own key that proved it. */
const answer = (body: ReplyBody, bootId = BOOT): string => {
  link.handleTimeout(now);
  const next = asked.shift();
  if (next === undefined) return "nothing";
  next.done(now, { kind: "reply", from: { address: HUB, publicKey: key(3), bootId }, body });
  return next.by === 0 ? next.body.kind : `${next.body.kind} by ${next.by}`;
};

describe("a registration of a spoke with two tunnels to a hub", () => {
  it("is proven by the key of each that the FIB uses, and is kept alive then", () => {
    expect([answer(REGISTERED), answer(REGISTERED), answer(KEPT)]).toEqual([
      "register by 1",
      "register by 2",
      "keepalive",
    ]);
  });

  it("is proven by the other key when the hub does not take the first, and is refused when it takes none", () => {
    expect([answer(REFUSED), answer(REGISTERED)]).toEqual(["register by 1", "register by 2"]);
    expect(link.registered).toBeDefined();
    expect(out.filter((o) => o.kind === "problem")).toEqual([]);
  });

  it("is a problem when the hub takes neither", () => {
    expect([answer(REFUSED), answer(REFUSED), answer(REFUSED)]).toEqual([
      "register by 1",
      "register by 2",
      "nothing",
    ]);
    expect(link.status().problem).toMatchObject({ kind: "hub-refuses" });
    now += 10_000;
    expect(answer(REGISTERED)).toBe("register by 1");
  });

  it("is proven under the other end's key of each, where both tunnels have one own key", () => {
    link.overlayPeers(now, [device("wg-1", 1, 11), device("wg-2", 1, 12)]);
    expect([answer(REFUSED), answer(REGISTERED), answer(KEPT)]).toEqual([
      "register by 1",
      "register by 1",
      "keepalive",
    ]);
  });

  it("stays when the second proof is refused, which is tried again later", () => {
    answer(REGISTERED);
    expect([answer(REFUSED), answer(KEPT)]).toEqual(["register by 2", "keepalive"]);
    expect(link.registered).toBeDefined();
    now += 31_000;
    expect(answer(REGISTERED)).toBe("register by 2");
  });

  it("takes the tunnel that the FIB does not use only where the other is not taken", () => {
    fib = ["wg-2"];
    link.waysChanged(now);
    expect([answer(REGISTERED), answer(KEPT)]).toEqual(["register by 2", "keepalive"]);
  });

  it("is proven further when the FIB begins to use another tunnel", () => {
    fib = ["wg-1"];
    link.waysChanged(now);
    expect([answer(REGISTERED), answer(KEPT)]).toEqual(["register by 1", "keepalive"]);
    fib = ["wg-1", "wg-2"];
    link.waysChanged(now);
    expect(answer(REGISTERED)).toBe("register by 2");
  });

  it("begins with all proofs when the hub has forgotten it", () => {
    answer(REGISTERED);
    answer(REGISTERED);
    answer(KEPT);
    now += 10_000;
    answer({ kind: "refused", code: "not-registered", reason: "who?" });
    expect([answer(REGISTERED), answer(REGISTERED)]).toEqual(["register by 1", "register by 2"]);
  });
});

describe("a hub that comes back", () => {
  beforeEach(() => {
    fib = ["wg-1"];
    link.waysChanged(now);
    answer(REGISTERED);
    answer(KEPT);
  });
  const silent = (): void => {
    now += 10_000;
    link.handleTimeout(now);
    asked.shift()?.done(now, { kind: "timeout" });
    now += 5_000;
  };

  it("is unsettled for a while after it was silent, and was not before", () => {
    expect(link.unsettled(now)).toBe(false);
    silent();
    answer(REGISTERED);
    expect(link.unsettled(now)).toBe(true);
    expect(link.unsettled(now + 30_000)).toBe(false);
    expect(settled).toEqual([]);
  });

  it("is unsettled, and has forgotten what it answered, after a restart", () => {
    now += 10_000;
    answer({ kind: "refused", code: "not-registered", reason: "who?" });
    answer(REGISTERED, id64FromBytes(new Uint8Array(8).fill(2)));
    expect(link.unsettled(now)).toBe(true);
    expect(settled).toEqual([HUB]);
  });
});
