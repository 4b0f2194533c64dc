/** Shows when an attestation is asked for again, and which answers of a hub are believed. */
import { beforeEach, expect, it } from "vitest";
import { address, type Prefix, prefix } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { generationOf } from "../../../../plugin/shortcut/control/generation.js";
import type { Outcome } from "../../../../plugin/shortcut/control/link.js";
import type { Shortcut } from "../../../../plugin/shortcut/machine/shortcut.js";
import { AttestationRenewal } from "../../../../plugin/shortcut/spoke/attestation-renewal.js";
import { type Resolution, Resolutions } from "../../../../plugin/shortcut/spoke/resolutions.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";

const C = address("10.255.0.3");
const HUB = {
  address: address("10.255.0.1"),
  publicKey: publicKeyFromBytes(new Uint8Array(32).fill(1)),
  bootId: id64FromBytes(new Uint8Array(8)),
};
const HAS = [prefix("10.1.0.0/24")];
const MORE = [...HAS, prefix("10.9.0.0/24")];

let asked: ((now: number, o: Outcome) => void)[];
let unsettled: boolean;
let resting: boolean;
let told: Resolution[];
let resolutions: Resolutions;
let r: AttestationRenewal;

const resolved = (prefixes: readonly Prefix[]): Outcome => ({
  kind: "reply",
  from: HUB,
  body: {
    kind: "resolved",
    owner: C,
    publicKey: HUB.publicKey,
    prefixes,
    generation: generationOf(prefixes),
    lifetime: 60,
    pages: 1,
  },
});
const answer = (now: number, o: Outcome) => asked.shift()?.(now, o);

beforeEach(() => {
  asked = [];
  unsettled = false;
  resting = false;
  told = [];
  resolutions = new Resolutions({
    hubs: () => [HUB.address],
    attested: () => {},
    request: (_, __, ___, done) => {
      asked.push(done);
      return HUB.bootId;
    },
  });
  const machine: Pick<Shortcut, "owner" | "resting" | "livesBy" | "reattested"> = {
    owner: C,
    get resting() {
      return resting;
    },
    livesBy: (a) => a.generation === generationOf(HAS),
    reattested: (_, a) => void told.push(a),
  };
  const machines = {
    get: () => machine as Shortcut,
    all: () => [machine as Shortcut],
    removeFinished: () => {},
  };
  r = new AttestationRenewal({ unsettled: () => unsettled }, machines, resolutions);
  resolutions.ofOwner(0, C, () => {});
  answer(0, resolved(HAS));
});

const dueAt = (): number | undefined => {
  r.recomputeDeadlines();
  return r.pollTimeout();
};

it("an attestation that runs out is asked for again, once", () => {
  expect(dueAt()).toBe(60_000);
  r.handleTimeout(59_999);
  expect(asked).toHaveLength(0);
  r.handleTimeout(60_000);
  r.handleTimeout(60_001);
  expect(asked).toHaveLength(1);
  answer(60_010, resolved(HAS));
  expect(told).toMatchObject([{ prefixes: HAS }]);
  expect(dueAt()).toBe(120_010);
});

it("nothing is asked for a shortcut that rests", () => {
  resting = true;
  expect(dueAt()).toBeUndefined();
  r.handleTimeout(70_000);
  expect(asked).toHaveLength(0);
});

it("a hub that does not answer is asked again, and its last answer holds meanwhile", () => {
  r.handleTimeout(60_000);
  answer(61_000, { kind: "timeout" });
  expect(told).toEqual([]);
  expect(dueAt()).toBe(66_000);
  expect(resolutions.known(C)?.prefixes).toEqual(HAS);
});

it("a changed answer is not believed from a hub that has only just come back, and is believed from a settled hub", () => {
  unsettled = true;
  r.handleTimeout(60_000);
  answer(60_010, resolved(MORE));
  expect(told).toEqual([]);
  expect(resolutions.known(C)?.prefixes).toEqual(HAS);
  unsettled = false;
  r.handleTimeout(65_010);
  answer(65_020, resolved(MORE));
  expect(told).toMatchObject([{ prefixes: MORE }]);
});

it("an owner that the hub no longer knows is forgotten", () => {
  r.handleTimeout(60_000);
  answer(60_010, {
    kind: "reply",
    from: HUB,
    body: { kind: "refused", code: "not-found", reason: "nobody" },
  });
  const reason = { kind: "resolution-refused", text: "nobody" };
  expect(told).toEqual([{ ok: false, reason, unanswered: false, by: HUB.address }]);
  expect(resolutions.known(C)).toBeUndefined();
});
