/** Shows what a registration proof binds, and that nobody makes one without a key of the overlay peer. */
import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { generatePrivateKey, publicKeyOf, sharedSecret } from "../../../../plugin/adapters/wireguard/keys.js";
import { address } from "../../../../plugin/net/address.js";
import type { PrivateKey } from "../../../../plugin/net/key.js";
import { PairSecrets } from "../../../../plugin/shortcut/control/pair-secrets.js";
import {
  type ProvenRegistration,
  proves,
  registrationProof,
} from "../../../../plugin/shortcut/control/registration-proof.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";

const hmac = (key: Uint8Array, data: Uint8Array): Uint8Array =>
  createHmac("sha256", key).update(data).digest();
const secretsOf = (own: PrivateKey | undefined): PairSecrets =>
  new PairSecrets((theirs) => own && sharedSecret(own, theirs), hmac);

const spoke = generatePrivateKey();
const hub = generatePrivateKey();
const direct = publicKeyOf(generatePrivateKey());
const registration: ProvenRegistration = {
  spoke: address("10.255.0.1"),
  hub: address("10.255.0.3"),
  directKey: direct,
  bootId: id64FromBytes(new Uint8Array(8).fill(7)),
};
const made = (own: PrivateKey, r = registration): Uint8Array => {
  const proof = registrationProof(secretsOf(own), publicKeyOf(hub), r);
  if (proof === undefined) throw new Error("no proof");
  return proof;
};
const holds = (proof: Uint8Array, r = registration, peer = publicKeyOf(spoke)): boolean | undefined =>
  proves(secretsOf(hub), peer, r, proof);

describe("a registration proof", () => {
  it("is 16 bytes that the hub can verify with its own overlay key", () => {
    expect(made(spoke)).toHaveLength(16);
    expect(holds(made(spoke))).toBe(true);
  });

  it("of another key does not hold for the peer", () => {
    expect(holds(made(generatePrivateKey()))).toBe(false);
    expect(holds(made(spoke), registration, publicKeyOf(generatePrivateKey()))).toBe(false);
    expect(holds(new Uint8Array(16))).toBe(false);
    expect(holds(new Uint8Array(0))).toBe(false);
  });

  it.each<[string, Partial<ProvenRegistration>]>([
    ["another address of the spoke", { spoke: address("10.1.0.10") }],
    ["another hub", { hub: address("10.255.0.4") }],
    ["another direct key", { directKey: publicKeyOf(generatePrivateKey()) }],
    ["another boot", { bootId: id64FromBytes(new Uint8Array(8).fill(8)) }],
    ["an address of the other family", { spoke: address("fd00:255::1") }],
  ])("does not hold for %s", (_, other) => {
    expect(holds(made(spoke), { ...registration, ...other })).toBe(false);
  });

  it("is neither made nor judged while the own overlay key is unknown", () => {
    expect(registrationProof(secretsOf(undefined), publicKeyOf(hub), registration)).toBeUndefined();
    expect(proves(secretsOf(undefined), publicKeyOf(spoke), registration, made(spoke))).toBeUndefined();
  });

  it("follows an overlay key that has changed, once the secrets are cleared", () => {
    let own: PrivateKey = hub;
    const secrets = new PairSecrets((theirs) => sharedSecret(own, theirs), hmac);
    expect(proves(secrets, publicKeyOf(spoke), registration, made(spoke))).toBe(true);
    own = generatePrivateKey();
    secrets.clear();
    expect(proves(secrets, publicKeyOf(spoke), registration, made(spoke))).toBe(false);
  });
});
