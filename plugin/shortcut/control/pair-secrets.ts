/**
 * The secrets that this router shares with others: cached X25519 results of the direct keys, and
 * the MACs under them.
 */
import type { PublicKey } from "../../net/key.js";
import { MAC_BYTES } from "../../wire/control/message.js";

/** The two cryptographic primitives, injected from outside. */
export interface Crypto {
  /** Computes X25519 with the own direct private key; undefined for a low-order point. */
  shared(theirs: PublicKey): Uint8Array | undefined;
  /**
   * X25519 of the private key of the overlay interface that has this public key; undefined while that
   * key is unknown, and for a low-order point.
   */
  overlayShared(own: PublicKey, theirs: PublicKey): Uint8Array | undefined;
  /** Computes HMAC-SHA256. */
  hmac(key: Uint8Array, data: Uint8Array): Uint8Array;
}

/** Number of cached secrets: an X25519 costs 50 µs, and a hub talks to all its spokes every few seconds. */
const CACHE = 16_384;

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => {
  if (a.length !== b.length) return false;
  let diff = 0;
  for (let i = 0; i < a.length; i++) diff |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return diff === 0;
};

export class PairSecrets {
  private readonly secrets = new Map<PublicKey, Uint8Array>();

  constructor(
    private readonly shared: (theirs: PublicKey) => Uint8Array | undefined,
    private readonly hash: Crypto["hmac"],
  ) {}

  /** Returns whether a MAC with this key costs no X25519. */
  has(theirs: PublicKey): boolean {
    return this.secrets.has(theirs);
  }

  private secretWith(theirs: PublicKey): Uint8Array | undefined {
    const cached = this.secrets.get(theirs);
    if (cached !== undefined) return cached;
    const secret = this.shared(theirs);
    if (secret === undefined) return undefined;
    if (this.secrets.size >= CACHE) {
      const [oldest] = this.secrets.keys();
      if (oldest !== undefined) this.secrets.delete(oldest);
    }
    this.secrets.set(theirs, secret);
    return secret;
  }

  /** Returns 16 bytes; undefined for an invalid public key. */
  mac(theirs: PublicKey, data: Uint8Array): Uint8Array | undefined {
    const secret = this.secretWith(theirs);
    return secret && this.hash(secret, data).subarray(0, MAC_BYTES);
  }

  hmac(key: Uint8Array, data: Uint8Array): Uint8Array {
    return this.hash(key, data);
  }
}

/** Secrets under several own keys: those of the overlay interfaces, which may be made again with another. */
export class OverlaySecrets {
  private readonly byKey = new Map<PublicKey, PairSecrets>();

  constructor(private readonly crypto: Pick<Crypto, "overlayShared" | "hmac">) {}

  /** Takes the keys that the overlay interfaces have now. */
  keep(own: readonly PublicKey[]): void {
    for (const key of [...this.byKey.keys()]) if (!own.includes(key)) this.byKey.delete(key);
  }

  of(own: PublicKey): PairSecrets {
    let secrets = this.byKey.get(own);
    if (secrets === undefined) {
      const { crypto } = this;
      secrets = new PairSecrets(
        (theirs) => crypto.overlayShared(own, theirs),
        (key, data) => crypto.hmac(key, data),
      );
      this.byKey.set(own, secrets);
    }
    return secrets;
  }
}
