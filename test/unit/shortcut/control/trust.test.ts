/** Shows what pins and pre-shared keys refuse, and that a proof stands for one pair, one direction and one attempt. */
import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type Address, address } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { type Preshared, Trust } from "../../../../plugin/shortcut/control/trust.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";

const end = (n: number, a = `10.255.0.${n}`) => ({
  address: address(a),
  publicKey: publicKeyFromBytes(new Uint8Array(32).fill(n)),
  bootId: id64FromBytes(new Uint8Array(8).fill(n)),
});
const A = end(1);
const C = end(3);
const M = end(9);

const keyOf = (secret: string): Preshared => ({
  kind: "key",
  hmac: (data) => createHmac("sha256", secret).update(data).digest(),
});
const trust = (self: typeof A, secret: string | undefined, pins = new Map()) =>
  new Trust(self, pins, () => (secret === undefined ? { kind: "none" } : keyOf(secret)));

describe("pins", () => {
  it("refuse other keys of an owner that they name, and no key of another owner", () => {
    const t = trust(A, undefined, new Map<Address, unknown>([[C.address, [C.publicKey]]]));
    expect(t.keyRefusal(C.address, C.publicKey)).toBeUndefined();
    expect(t.keyRefusal(M.address, M.publicKey)).toBeUndefined();
    expect(t.keyRefusal(C.address, M.publicKey)).toEqual({
      kind: "key-not-pinned",
      router: A.address,
      owner: C.address,
      key: M.publicKey,
    });
    // with the right pre-shared key, too
    const both = trust(A, "k", new Map<Address, unknown>([[C.address, [C.publicKey]]]));
    const as = { ...C, publicKey: M.publicKey };
    const proof = trust(as, "k").prove(A.address, A.publicKey, 1);
    expect(both.refusal(as, 1, proof)?.kind).toBe("key-not-pinned");
  });
});

describe("a proof", () => {
  it("has 16 bytes, and none without a key", () => {
    expect(trust(C, "k").prove(A.address, A.publicKey, 1)).toHaveLength(16);
    expect(trust(C, undefined).prove(A.address, A.publicKey, 1)).toHaveLength(0);
  });

  it("is accepted by the end that it was made for", () => {
    expect(trust(A, "k").refusal(C, 7, trust(C, "k").prove(A.address, A.publicKey, 7))).toBeUndefined();
    const six = end(5, "fd00::5");
    expect(trust(A, "k").refusal(six, 7, trust(six, "k").prove(A.address, A.publicKey, 7))).toBeUndefined();
  });

  it("is refused when anything differs: key, epoch, direction, either direct key, boot, address", () => {
    const proof = trust(C, "k").prove(A.address, A.publicKey, 7);
    const at = trust(A, "k");
    const refused = { kind: "psk-differs" };
    expect(trust(A, "other").refusal(C, 7, proof)).toMatchObject(refused);
    expect(at.refusal(C, 8, proof)).toMatchObject(refused);
    expect(at.refusal({ ...C, publicKey: M.publicKey }, 7, proof)).toMatchObject(refused);
    expect(at.refusal({ ...C, bootId: M.bootId }, 7, proof)).toMatchObject(refused);
    expect(at.refusal({ ...C, address: M.address }, 7, proof)).toMatchObject(refused);
    expect(trust({ ...A, publicKey: M.publicKey }, "k").refusal(C, 7, proof)).toMatchObject(refused);
    // what A itself has sent does not come back as C's
    expect(at.refusal(C, 7, at.prove(C.address, C.publicKey, 7))).toMatchObject(refused);
  });

  it("is missing at one end: the reason names the end that has no key", () => {
    expect(trust(A, "k").refusal(C, 7, new Uint8Array(0))).toEqual({
      kind: "psk-missing",
      router: C.address,
      owner: A.address,
    });
    expect(trust(A, undefined).refusal(C, 7, new Uint8Array(16))).toEqual({
      kind: "psk-missing",
      router: A.address,
      owner: C.address,
    });
    expect(trust(A, undefined).refusal(C, 7, new Uint8Array(0))).toBeUndefined();
  });

  it("does not matter when the own key cannot be used: nothing is accepted", () => {
    const t = new Trust(A, new Map(), () => ({ kind: "unusable", problem: "mode 0644" }));
    expect(t.refusal(C, 7, new Uint8Array(0))).toMatchObject({ kind: "psk-unusable", problem: "mode 0644" });
    expect(t.prove(C.address, C.publicKey, 7)).toHaveLength(0);
  });
});
