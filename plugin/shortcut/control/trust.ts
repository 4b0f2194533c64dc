/**
 * The other ends as this router's own configuration describes them, beside what the hub says: the direct keys
 * that may speak for an owner (`pins`), and pre-shared keys (`psk`). Both hold against a hub that substitutes
 * keys. A pre-shared key is never disclosed: each end sends a MAC under it over both direct keys, so that ends
 * with different keys have a reason instead of a handshake without an answer, and so that an end in the middle,
 * which has a key of its own towards each side, is noticed.
 */
import { type Address, addressBytes } from "../../net/address.js";
import { keyBytes, type PublicKey } from "../../net/key.js";
import { concat } from "../../wire/bytes.js";
import { id64Bytes } from "../../wire/control/codec.js";
import { type Id64, MAC_BYTES } from "../../wire/control/message.js";
import type { Reason } from "../reasons.js";
import type { Identity } from "./link.js";
import { sameBytes } from "./pair-secrets.js";

/** The pre-shared key that this router has with an owner. */
export type Preshared =
  | { readonly kind: "none" }
  /** HMAC-SHA256 under it. */
  | { readonly kind: "key"; readonly hmac: (data: Uint8Array) => Uint8Array }
  /** There should be one, and it cannot be used: there is no shortcut without it. */
  | { readonly kind: "unusable"; readonly problem: string };

/** Direct keys by owner; more than one while an owner changes its key. */
export type Pins = ReadonlyMap<Address, readonly PublicKey[]>;

/** An end of a pair, in one attempt. */
interface End {
  readonly address: Address;
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
}

const DOMAIN: Uint8Array = new TextEncoder().encode("shortcutd psk 1");
const NO_PROOF = new Uint8Array(0);

/** The bytes under the MAC; addresses are preceded by their length. */
function proofInput(from: End, epoch: number, to: Omit<End, "bootId">): Uint8Array {
  const parts: Uint8Array[] = [DOMAIN];
  for (const a of [from.address, to.address]) {
    const bytes = addressBytes(a);
    parts.push(Uint8Array.of(bytes.length), bytes);
  }
  const counter = new Uint8Array(4);
  new DataView(counter.buffer).setUint32(0, epoch);
  parts.push(keyBytes(from.publicKey), keyBytes(to.publicKey), id64Bytes(from.bootId), counter);
  return concat(parts);
}

export class Trust {
  constructor(
    private readonly self: Identity,
    public pins: Pins,
    private readonly preshared: (owner: Address) => Preshared,
  ) {}

  /** Returns why a direct key may not speak for an owner. */
  keyRefusal(owner: Address, key: PublicKey): Reason | undefined {
    const pinned = this.pins.get(owner);
    if (pinned === undefined || pinned.includes(key)) return undefined;
    return { kind: "key-not-pinned", router: this.self.address, owner, key };
  }

  /** Returns why no exchange with the owner begins: the key that a hub names is not pinned, or the own pre-shared key cannot be used. */
  obstacle(owner: Address, key: PublicKey): Reason | undefined {
    const unpinned = this.keyRefusal(owner, key);
    if (unpinned !== undefined) return unpinned;
    const preshared = this.preshared(owner);
    if (preshared.kind !== "unusable") return undefined;
    return { kind: "psk-unusable", router: this.self.address, owner, problem: preshared.problem };
  }

  /** Returns the proof that this end has the pre-shared key: 16 bytes, none without a key. */
  prove(owner: Address, theirs: PublicKey, epoch: number): Uint8Array {
    const key = this.preshared(owner);
    if (key.kind !== "key") return NO_PROOF;
    return key
      .hmac(proofInput(this.self, epoch, { address: owner, publicKey: theirs }))
      .subarray(0, MAC_BYTES);
  }

  /** Returns why the other end's exchange is not accepted: its key is not pinned, or the pre-shared keys do not agree. */
  refusal(from: End, epoch: number, proof: Uint8Array): Reason | undefined {
    const owner = from.address;
    const router = this.self.address;
    const unpinned = this.keyRefusal(owner, from.publicKey);
    if (unpinned !== undefined) return unpinned;
    const key = this.preshared(owner);
    switch (key.kind) {
      case "none":
        return proof.length === 0 ? undefined : { kind: "psk-missing", router, owner };
      case "unusable":
        return { kind: "psk-unusable", router, owner, problem: key.problem };
      case "key": {
        if (proof.length === 0) return { kind: "psk-missing", router: owner, owner: router };
        const expected = key.hmac(proofInput(from, epoch, this.self)).subarray(0, MAC_BYTES);
        return sameBytes(expected, proof) ? undefined : { kind: "psk-differs", router, owner };
      }
    }
  }
}
