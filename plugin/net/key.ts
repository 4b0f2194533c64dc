/**
 * WireGuard keys: 32 bytes of Curve25519, written in base64 as `wg(8)` does. A branded canonical string, so that
 * equal keys are `===`. Private keys have a brand of their own and must never reach a log line.
 */
declare const publicKeyBrand: unique symbol;
declare const privateKeyBrand: unique symbol;

export type PublicKey = string & { readonly [publicKeyBrand]: true };
export type PrivateKey = string & { readonly [privateKeyBrand]: true };

function canonical(text: string): string | undefined {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return undefined;
  const bytes = Buffer.from(text, "base64");
  return bytes.length === 32 && bytes.toString("base64") === text ? text : undefined;
}

export const parsePublicKey = (text: string): PublicKey | undefined =>
  canonical(text) as PublicKey | undefined;
export const parsePrivateKey = (text: string): PrivateKey | undefined =>
  canonical(text) as PrivateKey | undefined;

const encode = (bytes: Uint8Array): string => {
  if (bytes.length !== 32) throw new RangeError(`a WireGuard key has 32 bytes, not ${bytes.length}`);
  return Buffer.from(bytes).toString("base64");
};

/** @throws RangeError unless 32 bytes: decoders check the length before. */
export const publicKeyFromBytes = (bytes: Uint8Array): PublicKey => encode(bytes) as PublicKey;
export const privateKeyFromBytes = (bytes: Uint8Array): PrivateKey => encode(bytes) as PrivateKey;
export const keyBytes = (key: PublicKey | PrivateKey): Uint8Array =>
  new Uint8Array(Buffer.from(key, "base64"));
/** Lower-case hex, as the UAPI of wireguard-go wants it. */
export const keyHex = (key: PublicKey | PrivateKey): string => Buffer.from(key, "base64").toString("hex");

/** The first eight characters: enough to recognise a key in a log line. */
export const shortKey = (key: PublicKey): string => `${key.slice(0, 8)}…`;
