/**
 * WireGuard keys (Curve25519, RFC 7748) with node:crypto, and the file that holds the private one: base64 and a line
 * feed, as `wg genkey` writes it, mode 0600. A file that others can read is refused: its key is no longer private.
 * Nothing here ever puts key material into an error.
 */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, lstat, open, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { PortError, type PresharedFile, type PresharedKeyPort } from "../../driver/ports.js";
import { type Address, parseAddress } from "../../net/address.js";
import {
  keyBytes,
  type PrivateKey,
  type PublicKey,
  parsePrivateKey,
  privateKeyFromBytes,
  publicKeyFromBytes,
} from "../../net/key.js";

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

/** Bytes of a key file, with room for a line feed and blanks. */
const LONGEST = 256;

const codeOf = (e: unknown): string | undefined =>
  e instanceof Error && "code" in e && typeof e.code === "string" ? e.code : undefined;

/** The words for a key file in errors. */
interface KeyFile {
  /** The remedy for a symbolic link. */
  readonly file: string;
  /** `private key PATH` */
  readonly place: string;
  readonly name: string;
  /** The remedy where others could read it. */
  readonly renew: string;
}

const privateKeyFile = (path: string): KeyFile => ({
  place: `private key ${path}`,
  name: "name a file in `direct.key`",
  file: "name the file itself in `direct.key`",
  renew: "delete it, and a new one is made at the next start",
});

const presharedKeyFile = (path: string): KeyFile => ({
  place: `pre-shared key ${path}`,
  name: "put a file there",
  file: "put the file itself there",
  renew: "put a new key into it, at both ends",
});

async function readKeyFile(file: FileHandle, { place, name, renew }: KeyFile): Promise<PrivateKey> {
  const stat = await file.stat();
  const { mode, uid } = stat;
  if (!stat.isFile()) throw new PortError(place, "is not a regular file", name, "EINVAL");
  const self = process.geteuid?.() ?? 0;
  if (uid !== self && uid !== 0)
    throw new PortError(
      place,
      `belongs to uid ${uid}, who can read it: shortcutd runs as uid ${self}`,
      `if nobody read it: chown ${self}; else ${renew}`,
      "EPERM",
    );
  if ((mode & 0o077) !== 0)
    throw new PortError(
      place,
      `is accessible to others (mode ${(mode & 0o777).toString(8).padStart(4, "0")})`,
      `if nobody read it: chmod 600; else ${renew}`,
      "EPERM",
    );
  const key = stat.size > LONGEST ? undefined : parsePrivateKey((await file.readFile("utf8")).trim());
  if (key === undefined)
    throw new PortError(
      place,
      "holds no WireGuard key",
      "it must be one line of base64 as `wg genkey` prints",
      "EINVAL",
    );
  return key;
}

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
 * The key in `path`; undefined when there is no such file. A symbolic link is refused, since it is its owner who decides which file is read, and a
 * FIFO or device is not waited for.
 * @throws PortError when the file is readable by group or others, not a regular file, somebody else's, malformed, or cannot be read.
 */
export const readPrivateKey = (path: string): Promise<PrivateKey | undefined> =>
  readSecret(path, privateKeyFile(path));

async function readSecret(path: string, what: KeyFile): Promise<PrivateKey | undefined> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      return await readKeyFile(file, what);
    } finally {
      await file.close();
    }
  } catch (e) {
    if (e instanceof PortError) throw e;
    if (codeOf(e) === "ENOENT") return undefined;
    if (codeOf(e) === "ELOOP") throw new PortError(what.place, "is a symbolic link", what.file, "ELOOP");
    throw new PortError(
      what.place,
      `cannot be read: ${codeOf(e) ?? String(e)}`,
      "check the path and its owner",
      codeOf(e),
    );
  }
}

/**
 * The key in `path`; made on first use (mode 0600, never over an existing file).
 * @throws PortError when the file is readable by group or others, malformed, or cannot be read or written.
 */
export async function loadOrCreatePrivateKey(path: string): Promise<{ key: PrivateKey; created: boolean }> {
  const place = `private key ${path}`;
  for (let attempt = 0; ; attempt++) {
    const key = await readPrivateKey(path);
    if (key !== undefined) return { key, created: false };
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

/** The directory itself: who may replace files in it decides about the keys. */
async function checkDirectory(directory: string): Promise<void> {
  const place = `pre-shared keys ${directory}`;
  const s = await stat(directory).catch((e: unknown) => {
    const code = codeOf(e);
    throw new PortError(place, `cannot be read: ${code ?? String(e)}`, "make the directory, mode 0700", code);
  });
  const self = process.geteuid?.() ?? 0;
  if (!s.isDirectory())
    throw new PortError(place, "is not a directory", "name a directory in `psk.directory`", "ENOTDIR");
  if ((s.uid !== self && s.uid !== 0) || (s.mode & 0o022) !== 0)
    throw new PortError(
      place,
      "can be written by others, who can replace keys",
      `chown ${self}; chmod 700`,
      "EPERM",
    );
}

/** {@link PresharedKeyPort}: files named by overlay addresses; others are passed over. Unchanged files are not read again. */
export function presharedKeyFiles(directory: string): PresharedKeyPort {
  const known = new Map<Address, { readonly state: string; readonly file: PresharedFile }>();
  const readOne = async (path: string): Promise<PresharedFile> => {
    try {
      const key = await readSecret(path, presharedKeyFile(path));
      return key === undefined ? { ok: false, problem: `${path} is gone` } : { ok: true, key };
    } catch (e) {
      if (!(e instanceof PortError)) throw e;
      return { ok: false, problem: e.message };
    }
  };
  return {
    async read() {
      await checkDirectory(directory);
      const out = new Map<Address, PresharedFile>();
      for (const name of await readdir(directory)) {
        const owner = parseAddress(name);
        if (owner === undefined) continue;
        const path = join(directory, name);
        // of the entry itself: a symbolic link is refused when it is read
        const s = await lstat(path, { bigint: true }).catch(() => undefined);
        if (s === undefined) continue;
        const state = [s.ino, s.size, s.mtimeNs, s.ctimeNs, s.mode, s.uid].join();
        const before = known.get(owner);
        const file = before?.state === state ? before.file : await readOne(path);
        known.set(owner, { state, file });
        out.set(owner, file);
      }
      return out;
    },
  };
}
