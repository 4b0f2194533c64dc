/** Private keys: created with mode 0600, refused when others can read them; public keys and shared secrets. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  generatePrivateKey,
  loadOrCreatePrivateKey,
  presharedKeyFiles,
  publicKeyOf,
  sharedSecret,
} from "../../../../plugin/adapters/wireguard/keys.js";
import { keyBytes, privateKeyFromBytes, publicKeyFromBytes } from "../../../../plugin/net/key.js";

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

describe("X25519", () => {
  test("the base point times 9, and the vector of RFC 7748 section 5.2", () => {
    // Section 5.2, first iteration: k = u = 9 gives this; the public key of the clamped scalar 9 is the same.
    const nine = new Uint8Array(32);
    nine[0] = 9;
    expect(Buffer.from(keyBytes(publicKeyOf(privateKeyFromBytes(nine)))).toString("hex")).toBe(
      "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
    );
    const scalar = privateKeyFromBytes(
      bytes("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
    );
    const u = publicKeyFromBytes(bytes("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"));
    expect(Buffer.from(sharedSecret(scalar, u) ?? []).toString("hex")).toBe(
      "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    );
  });

  test("both sides agree; generated keys are clamped and differ", () => {
    const a = generatePrivateKey();
    const c = generatePrivateKey();
    expect(a).not.toBe(c);
    expect(sharedSecret(a, publicKeyOf(c))).toEqual(sharedSecret(c, publicKeyOf(a)));
    expect(sharedSecret(a, publicKeyOf(c))).toHaveLength(32);
    for (let i = 0; i < 50; i++) {
      const k = keyBytes(generatePrivateKey());
      expect((k[0] ?? 0) & 7).toBe(0);
      expect((k[31] ?? 0) & 0xc0).toBe(0x40);
    }
  });

  test("a low-order public key yields nothing", () => {
    const zero = publicKeyFromBytes(new Uint8Array(32));
    const one = new Uint8Array(32);
    one[0] = 1;
    expect(sharedSecret(generatePrivateKey(), zero)).toBeUndefined();
    expect(sharedSecret(generatePrivateKey(), publicKeyFromBytes(one))).toBeUndefined();
  });
});

describe("key file", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "keys-"));
    path = join(directory, "private.key");
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test("made on first use with mode 0600, whatever the umask; the same afterwards", async () => {
    const before = process.umask(0);
    try {
      const first = await loadOrCreatePrivateKey(path);
      expect(first.created).toBe(true);
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(readFileSync(path, "utf8")).toBe(`${first.key}\n`);
      expect(await loadOrCreatePrivateKey(path)).toEqual({ key: first.key, created: false });
    } finally {
      process.umask(before);
    }
  });

  test("two at once agree on one key", async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => loadOrCreatePrivateKey(path)));
    expect(new Set(all.map((k) => k.key)).size).toBe(1);
    expect(all.filter((k) => k.created)).toHaveLength(1);
    expect(readdirSync(directory)).toEqual(["private.key"]);
  });

  test("a file that others can read is refused, and not changed", async () => {
    const { key } = await loadOrCreatePrivateKey(path);
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(path, mode);
      const error = await loadOrCreatePrivateKey(path).catch((e: unknown) => e);
      expect(String(error)).toMatch(/is accessible to others \(mode 06[046][04]\).*chmod 600/);
      expect(String(error)).not.toContain(key);
    }
    expect(readFileSync(path, "utf8")).toBe(`${key}\n`);
  });

  test("what is no key is refused without repeating it", async () => {
    writeFileSync(path, "c2VjcmV0\n", { mode: 0o600 });
    const error = await loadOrCreatePrivateKey(path).catch((e: unknown) => e);
    expect(String(error)).toMatch(/holds no WireGuard key/);
    expect(String(error)).not.toContain("c2VjcmV0");
  });

  test("a symbolic link, a FIFO, a directory and a large file are refused, and not waited for", async () => {
    const { key } = await loadOrCreatePrivateKey(path);
    const other = join(directory, "other.key");
    symlinkSync(path, other);
    await expect(loadOrCreatePrivateKey(other)).rejects.toThrow(/is a symbolic link \(name the file itself/);
    execFileSync("mkfifo", ["-m", "600", join(directory, "fifo")]);
    for (const name of ["fifo", "."])
      await expect(loadOrCreatePrivateKey(join(directory, name))).rejects.toThrow(/is not a regular file/);
    writeFileSync(join(directory, "large"), `${key}\n${" ".repeat(1000)}`, { mode: 0o600 });
    await expect(loadOrCreatePrivateKey(join(directory, "large"))).rejects.toThrow(/holds no WireGuard key/);
  });

  test.runIf(process.getuid?.() === 0)("a file of another user is refused", async () => {
    await loadOrCreatePrivateKey(path);
    chownSync(path, 65534, 65534);
    await expect(loadOrCreatePrivateKey(path)).rejects.toThrow(
      /belongs to uid 65534, who can read it: shortcutd runs as uid 0 \(if nobody read it: chown 0/,
    );
  });

  test("an absent directory, and a dangling link, are clear errors", async () => {
    await expect(loadOrCreatePrivateKey(join(directory, "no", "key"))).rejects.toThrow(
      /cannot be created: ENOENT/,
    );
    symlinkSync(join(directory, "nowhere"), path);
    await expect(loadOrCreatePrivateKey(path)).rejects.toThrow(/private key/);
    expect(existsSync(join(directory, "nowhere"))).toBe(false);
  });
});

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
    await expect(read()).rejects.toThrow("can be written by others");
    rmSync(keys, { recursive: true });
    await expect(read()).rejects.toThrow("ENOENT (make the directory, mode 0700)");
  });
});
