/** {@link StatePort}: a file that is replaced by rename(2), readable by its owner alone. */
import { mkdir, open, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { PortError, type StatePort } from "../../driver/ports.js";
import { codeOf } from "../error-code.js";

/** Bytes. */
const MAX_SIZE = 1 << 20;

export function stateFile(path: string): StatePort {
  const place = `state file ${path}`;
  const failed = (e: unknown): PortError =>
    e instanceof PortError
      ? e
      : new PortError(place, e instanceof Error ? e.message : String(e), "", codeOf(e));
  return {
    async load(): Promise<string | undefined> {
      try {
        const s = await stat(path);
        if (!s.isFile()) throw new PortError(place, "is not a regular file", "remove it");
        if (s.size > MAX_SIZE) throw new PortError(place, `has ${s.size} bytes`, "remove it");
        const file = await open(path, "r");
        try {
          return await file.readFile("utf8");
        } finally {
          await file.close();
        }
      } catch (e) {
        if (codeOf(e) === "ENOENT") return undefined;
        throw failed(e);
      }
    },
    async save(text: string): Promise<void> {
      try {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        const next = `${path}.new`;
        const file = await open(next, "w", 0o600);
        try {
          await file.writeFile(text);
          await file.sync();
        } finally {
          await file.close();
        }
        await rename(next, path);
      } catch (e) {
        throw failed(e);
      }
    },
  };
}
