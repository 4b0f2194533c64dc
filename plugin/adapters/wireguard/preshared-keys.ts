/**
 * {@link PresharedKeyPort}: a directory with a file for each owner, named by its overlay address. The files are judged as other secrets
 * are (secret-file.ts). A tool that renews keys may write them at any time.
 */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { PortError, type PresharedFile, type PresharedKeyPort } from "../../driver/ports.js";
import { type Address, parseAddress } from "../../net/address.js";
import { parsePrivateKey } from "../../net/key.js";
import { codeOf } from "../error-code.js";
import { readSecret, requireOwnDirectory, type SecretKind } from "../process/secret-file.js";

const PRESHARED_KEY: SecretKind = {
  what: "pre-shared key",
  setting: "psk.directory",
  renew: "put a new key into it, at both ends",
};

function readKey(path: string): PresharedFile {
  try {
    const text = readSecret(path, PRESHARED_KEY);
    if (text === undefined) return { ok: false, problem: `${path} is gone` };
    const key = parsePrivateKey(text.trim());
    if (key !== undefined) return { ok: true, key };
    const remedy = "it must be one line of base64 as `wg genpsk` prints";
    return {
      ok: false,
      problem: new PortError(`pre-shared key ${path}`, "holds no WireGuard key", remedy).message,
    };
  } catch (e) {
    if (!(e instanceof PortError)) throw e;
    return { ok: false, problem: e.message };
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (e) {
    const code = codeOf(e) ?? String(e);
    throw new PortError(
      `pre-shared keys ${directory}`,
      code === "ENOTDIR" ? "is not a directory" : `cannot be read: ${code}`,
      "make the directory, mode 0700, and name it in `psk.directory`",
      code,
    );
  }
}

/** Files with other names are passed over, and files that have not changed are not read again. */
export function presharedKeyFiles(directory: string): PresharedKeyPort {
  const known = new Map<Address, { readonly state: string; readonly file: PresharedFile }>();
  return {
    async read() {
      const out = new Map<Address, PresharedFile>();
      const names = await namesIn(directory);
      requireOwnDirectory(join(directory, "key"), PRESHARED_KEY);
      for (const name of names) {
        const owner = parseAddress(name);
        if (owner === undefined) continue;
        const path = join(directory, name);
        // of the entry itself: a symbolic link is refused when it is read
        const s = await lstat(path, { bigint: true }).catch(() => undefined);
        if (s === undefined) continue;
        const state = [s.ino, s.size, s.mtimeNs, s.ctimeNs, s.mode, s.uid].join();
        const before = known.get(owner);
        const file = before?.state === state ? before.file : readKey(path);
        known.set(owner, { state, file });
        out.set(owner, file);
      }
      return out;
    },
  };
}
