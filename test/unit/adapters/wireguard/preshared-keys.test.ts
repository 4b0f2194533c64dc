/** Pre-shared keys: files named by overlay addresses, read again when they change, refused where others can read or replace them. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { generatePrivateKey } from "../../../../plugin/adapters/wireguard/keys.js";
import { presharedKeyFiles } from "../../../../plugin/adapters/wireguard/preshared-keys.js";

describe("pre-shared keys", () => {
  let keys: string;
  const file = (name: string) => join(keys, name);
  const put = (name: string, text: string, mode = 0o600) => {
    writeFileSync(file(name), text);
    chmodSync(file(name), mode);
  };
  const [one, two] = [generatePrivateKey(), generatePrivateKey()];
  beforeEach(() => {
    keys = mkdtempSync(join(tmpdir(), "shortcutd-psk-"));
  });
  afterEach(() => rmSync(keys, { recursive: true, force: true }));
  const read = async (port = presharedKeyFiles(keys)) => Object.fromEntries(await port.read());

  test("are files named by overlay addresses; others are passed over", async () => {
    put("10.255.0.4", `${one}\n`);
    put("fd00::4", two);
    put("README", "not a key");
    put("10.255.0.4.new", one);
    expect(await read()).toEqual({ "10.255.0.4": { ok: true, key: one }, "fd00::4": { ok: true, key: two } });
  });

  test("are read again when the file has changed, was replaced or has another mode", async () => {
    const port = presharedKeyFiles(keys);
    put("10.255.0.4", one);
    expect(await read(port)).toEqual({ "10.255.0.4": { ok: true, key: one } });
    put("10.255.0.4", two);
    expect(await read(port)).toEqual({ "10.255.0.4": { ok: true, key: two } });
    put("next", one);
    renameSync(file("next"), file("10.255.0.4"));
    expect(await read(port)).toEqual({ "10.255.0.4": { ok: true, key: one } });
    chmodSync(file("10.255.0.4"), 0o640);
    expect(await read(port)).toMatchObject({ "10.255.0.4": { ok: false } });
    rmSync(file("10.255.0.4"));
    expect(await read(port)).toEqual({});
  });

  test("that others can read, that are links or hold something else are refused, without their content", async () => {
    put("10.255.0.4", one, 0o644);
    put("10.255.0.5", "half-of-a-key");
    put("elsewhere", one);
    symlinkSync(file("elsewhere"), file("10.255.0.6"));
    execFileSync("mkfifo", ["-m", "600", file("10.255.0.7")]);
    const found = await read();
    expect(found).toMatchObject({
      "10.255.0.4": { ok: false, problem: expect.stringContaining("is accessible to others (mode 0644)") },
      "10.255.0.5": { ok: false, problem: expect.stringContaining("holds no WireGuard key") },
      "10.255.0.6": { ok: false, problem: expect.stringContaining("is a symbolic link") },
      "10.255.0.7": { ok: false, problem: expect.stringContaining("is not a regular file") },
    });
    expect(JSON.stringify(found)).not.toMatch(/half-of-a-key/);
    expect(JSON.stringify(found)).not.toContain(one);
  });

  test("come from no directory that others can write to, and from none that is not there", async () => {
    chmodSync(keys, 0o777);
    await expect(read()).rejects.toThrow("is writable by others (mode 0777)");
    rmSync(keys, { recursive: true });
    await expect(read()).rejects.toThrow("cannot be read: ENOENT (make the directory, mode 0700");
  });
});
