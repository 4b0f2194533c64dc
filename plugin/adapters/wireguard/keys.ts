/**
 * WireGuard keys (Curve25519, RFC 7748) with node:crypto, and the file that holds the private one: base64 and a line
 * feed, as `wg genkey` writes it, mode 0600. A file that others can read is refused: its key is no longer private.
 * Nothing here ever puts key material into an error.
 */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject, randomBytes } from "node:crypto";
import { link, open, unlink } from "node:fs/promises";
import { PortError } from "../../driver/ports.js";
import {
  keyBytes,
  type PrivateKey,
  type PublicKey,
  parsePrivateKey,
  privateKeyFromBytes,
  publicKeyFromBytes,
} from "../../net/key.js";
import { codeOf } from "../error-code.js";
import { ownUser, readSecret, requireOwnDirectory, type SecretKind } from "../process/secret-file.js";

/** DER headers of RFC 8410: an X25519 private key (PKCS #8) and public key (SPKI) are these and 32 raw bytes. */
const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI_X25519 = Buffer.from("302a300506032b656e032100", "hex");

const privateObject = (key: PrivateKey): KeyObject =>
  createPrivateKey({ key: Buffer.concat([PKCS8_X25519, keyBytes(key)]), format: "der", type: "pkcs8" });
const publicObject = (key: PublicKey): KeyObject =>
  createPublicKey({ key: Buffer.concat([SPKI_X25519, keyBytes(key)]), format: "der", type: "spki" });

/** A new private key, clamped as RFC 7748 section 5 and `wg genkey` have it. */
export function generatePrivateKey(): PrivateKey {
  const bytes = randomBytes(32);
  bytes[0] = (bytes[0] ?? 0) & 248;
  bytes[31] = ((bytes[31] ?? 0) & 127) | 64;
  return privateKeyFromBytes(bytes);
}

export function publicKeyOf(key: PrivateKey): PublicKey {
  const spki = createPublicKey(privateObject(key)).export({ format: "der", type: "spki" });
  return publicKeyFromBytes(spki.subarray(SPKI_X25519.length));
}

/** X25519 of one's own private and the other's public key: 32 bytes. Undefined for a low-order public key (all-zero result). */
export function sharedSecret(own: PrivateKey, other: PublicKey): Uint8Array | undefined {
  let secret: Buffer;
  try {
    secret = diffieHellman({ privateKey: privateObject(own), publicKey: publicObject(other) });
  } catch {
    // OpenSSL itself refuses the all-zero result.
    return undefined;
  }
  return secret.every((b) => b === 0) ? undefined : new Uint8Array(secret);
}

const PRIVATE_KEY: SecretKind = {
  what: "private key",
  setting: "direct.key",
  renew: "delete it, and a new one is made at the next start",
};

/** The file appears complete or not at all, and never over another one: link(2) is exclusive. */
async function createKeyFile(path: string): Promise<PrivateKey> {
  const key = generatePrivateKey();
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    const file = await open(draft, "wx", 0o600);
    try {
      await file.writeFile(`${key}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await link(draft, path);
  } finally {
    await unlink(draft).catch(() => undefined);
  }
  return key;
}

/**
 * The key in `path`; undefined when there is no such file.
 * @throws PortError when the file is refused (secret-file.ts), malformed, or cannot be read.
 */
export function readPrivateKey(path: string, user = ownUser()): PrivateKey | undefined {
  const text = readSecret(path, PRIVATE_KEY, user);
  if (text === undefined) return undefined;
  const key = parsePrivateKey(text.trim());
  if (key !== undefined) return key;
  throw new PortError(
    `private key ${path}`,
    "holds no WireGuard key",
    "it must be one line of base64 as `wg genkey` prints",
    "EINVAL",
  );
}

/**
 * The key in `path`; made on first use (mode 0600, never over an existing file).
 * @throws PortError when the file is readable by group or others, malformed, or cannot be read or written.
 */
export async function loadOrCreatePrivateKey(path: string): Promise<{ key: PrivateKey; created: boolean }> {
  const place = `private key ${path}`;
  for (let attempt = 0; ; attempt++) {
    const key = readPrivateKey(path);
    if (key !== undefined) return { key, created: false };
    requireOwnDirectory(path, PRIVATE_KEY);
    try {
      return { key: await createKeyFile(path), created: true };
    } catch (e) {
      // Another process made it in between: read that one.
      if (codeOf(e) === "EEXIST" && attempt === 0) continue;
      throw new PortError(
        place,
        `cannot be created: ${codeOf(e) ?? String(e)}`,
        "the directory must exist and be writable",
        codeOf(e),
      );
    }
  }
}
