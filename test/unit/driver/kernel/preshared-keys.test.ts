/** Shows that pre-shared keys follow their files, that a bad file takes no key away, and that each problem is said once. */
import { beforeEach, describe, expect, it } from "vitest";
import { PresharedKeys } from "../../../../plugin/driver/kernel/preshared-keys.js";
import type { PresharedFile } from "../../../../plugin/driver/ports.js";
import { type Address, address } from "../../../../plugin/net/address.js";
import { privateKeyFromBytes } from "../../../../plugin/net/key.js";

const A = address("10.255.0.2");
const C = address("10.255.0.4");
const key = (n: number) => privateKeyFromBytes(new Uint8Array(32).fill(n));
const good = (n: number): PresharedFile => ({ ok: true, key: key(n) });
const bad = (problem: string): PresharedFile => ({ ok: false, problem });

let files: Map<Address, PresharedFile>;
let changed: string[];
let problems: string[];
const make = (required = false) =>
  new PresharedKeys({ read: async () => files }, required, {
    hmac: (k) => k,
    changed: (owners) => void changed.push(owners.join()),
    problem: (place, text) => void problems.push(`${place}: ${text}`),
  });
beforeEach(() => {
  files = new Map();
  changed = [];
  problems = [];
});

describe("pre-shared keys", () => {
  it("are told when they come and when they change, and only then", async () => {
    const keys = make();
    await keys.read();
    expect(keys.of(A)).toEqual({ kind: "none" });
    files.set(A, good(1)).set(C, good(2));
    await keys.read();
    await keys.read();
    expect(changed).toEqual([`${A},${C}`]);
    files.set(A, good(3));
    await keys.read();
    expect(changed).toEqual([`${A},${C}`, A]);
    expect(keys.key(A)).toBe(key(3));
    const preshared = keys.of(A);
    expect(preshared.kind === "key" && preshared.hmac(new Uint8Array(0))).toEqual(new Uint8Array(32).fill(3));
    expect(problems).toEqual([]);
  });

  it("stay when a file is half written, wrong or gone, and the problem is said once", async () => {
    const keys = make();
    files.set(A, good(1));
    await keys.read();
    files.set(A, bad("holds no WireGuard key"));
    await keys.read();
    await keys.read();
    expect(keys.key(A)).toBe(key(1));
    files.delete(A);
    await keys.read();
    await keys.read();
    expect(keys.key(A)).toBe(key(1));
    expect(problems).toEqual([
      `pre-shared key of ${A}: holds no WireGuard key; the key that was read before stays in use`,
      `pre-shared key of ${A}: its file is gone; the key that was read before stays in use`,
    ]);
    expect(changed).toEqual([A]);
    files.set(A, good(2));
    await keys.read();
    expect(keys.key(A)).toBe(key(2));
  });

  it("that were never right leave the owner without a shortcut, not without the key", async () => {
    const keys = make();
    files.set(A, bad("mode 0644"));
    await keys.read();
    expect(keys.of(A)).toEqual({ kind: "unusable", problem: "mode 0644" });
    expect(keys.key(A)).toBeUndefined();
    expect(problems).toEqual([`pre-shared key of ${A}: mode 0644; there is no shortcut with it`]);
  });

  it("that are required leave an owner without a file without a shortcut", async () => {
    const keys = make(true);
    await keys.read();
    expect(keys.of(A)).toEqual({
      kind: "unusable",
      problem: `psk.required is set, and psk.directory has no file ${A}`,
    });
  });
});
