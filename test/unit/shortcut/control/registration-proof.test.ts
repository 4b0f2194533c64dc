/** Shows what a registration proof binds, and that nobody makes one without a key of the overlay peer. */
import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { generatePrivateKey, publicKeyOf, sharedSecret } from "../../../../plugin/adapters/wireguard/keys.js";
import { address } from "../../../../plugin/net/address.js";
import type { PrivateKey, PublicKey } from "../../../../plugin/net/key.js";
import { OverlaySecrets } from "../../../../plugin/shortcut/control/pair-secrets.js";
import {
  type ProvenRegistration,
  proves,
  registrationProof,
} from "../../../../plugin/shortcut/control/registration-proof.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";

const hmac = (key: Uint8Array, data: Uint8Array): Uint8Array =>
  createHmac("sha256", key).update(data).digest();
/** The secrets of a router that has these private keys on its overlay interfaces. */
const secretsOf = (...keys: readonly PrivateKey[]): OverlaySecrets =>
  new OverlaySecrets({
    overlayShared: (own: PublicKey, theirs) => {
      const key = keys.find((k) => publicKeyOf(k) === own);
      return key && sharedSecret(key, theirs);
    },
    hmac,
  });

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
  const proof = registrationProof(secretsOf(own), { own: publicKeyOf(own), peer: publicKeyOf(hub) }, r);
  if (proof === undefined) throw new Error("no proof");
  return proof;
};
const holds = (proof: Uint8Array, r = registration, peer = publicKeyOf(spoke)): boolean | undefined =>
  proves(secretsOf(hub), { own: publicKeyOf(hub), peer }, r, proof);

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
    const own = publicKeyOf(hub);
    const keys = { own, peer: publicKeyOf(spoke) };
    expect(registrationProof(secretsOf(), keys, registration)).toBeUndefined();
    expect(proves(secretsOf(), keys, registration, made(spoke))).toBeUndefined();
    expect(proves(secretsOf(generatePrivateKey()), keys, registration, made(spoke))).toBeUndefined();
  });

  it("is made and judged under the key of the interface, where a router has several", () => {
    const other = generatePrivateKey();
    const secrets = secretsOf(other, hub);
    const peer = publicKeyOf(spoke);
    expect(proves(secrets, { own: publicKeyOf(hub), peer }, registration, made(spoke))).toBe(true);
    expect(proves(secrets, { own: publicKeyOf(other), peer }, registration, made(spoke))).toBe(false);
  });

  it("does not outlive the key of an interface that is made again with another", () => {
    let known = [hub];
    const secrets = new OverlaySecrets({
      overlayShared: (own, theirs) => {
        const key = known.find((k) => publicKeyOf(k) === own);
        return key && sharedSecret(key, theirs);
      },
      hmac,
    });
    const keys = { own: publicKeyOf(hub), peer: publicKeyOf(spoke) };
    expect(proves(secrets, keys, registration, made(spoke))).toBe(true);
    const next = generatePrivateKey();
    known = [next];
    secrets.keep([publicKeyOf(next)]);
    expect(proves(secrets, keys, registration, made(spoke))).toBeUndefined();
    expect(proves(secrets, { ...keys, own: publicKeyOf(next) }, registration, made(spoke))).toBe(false);
  });
});
