/** Files that hold a secret: refused where another user could read or replace them, as file or by a directory, and never quoted. */
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  readSecret,
  requireOwnDirectory,
  userOfDirectory,
} from "../../../../plugin/adapters/process/secret-file.js";

const KIND = { what: "password", setting: "bgp.password-file", renew: "make a new one" };
const SECRET = "aVerySecretLine";
const isRoot = process.getuid?.() === 0;
let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "secret-"));
  path = join(directory, "file");
  writeFileSync(path, `${SECRET}\n`, { mode: 0o600 });
});
afterEach(() => rmSync(directory, { recursive: true }));

const refusal = (of = path, user?: number): string => {
  try {
    readSecret(of, KIND, user);
  } catch (e) {
    expect(String(e)).not.toContain(SECRET);
    return String(e);
  }
  return "";
};

test("a file that is ours alone is read, and one that is not there is undefined", () => {
  expect(readSecret(path, KIND)).toBe(`${SECRET}\n`);
  expect(readSecret(join(directory, "none"), KIND)).toBeUndefined();
});

test.each([0o640, 0o604, 0o610, 0o601])("mode %o of the file is refused", (mode) => {
  chmodSync(path, mode);
  expect(refusal()).toMatch(/password \S+\/file: is accessible to others \(mode 06\d\d\) .*chmod 600/);
});

test.each([0o770, 0o707, 0o1777])("mode %o of its directory is refused", (mode) => {
  chmodSync(directory, mode);
  expect(refusal()).toMatch(/directory \S+ of password \S+: is writable by others \(mode [01]7\d\d\)/);
  expect(() => requireOwnDirectory(join(directory, "new"), KIND)).toThrow(/is writable by others/);
});

test("a directory above it that others can write to is refused, unless it is sticky", () => {
  const below = join(directory, "below");
  mkdirSync(below, { mode: 0o700 });
  const deep = join(below, "file");
  writeFileSync(deep, SECRET, { mode: 0o600 });
  chmodSync(directory, 0o777);
  expect(refusal(deep)).toMatch(/directory \S+ of password \S+\/below\/file: is writable by others/);
  chmodSync(directory, 0o1777);
  expect(readSecret(deep, KIND)).toBe(SECRET);
});

test("a link, a FIFO, a device, a directory and a large file are refused, and not waited for", () => {
  const link = join(directory, "link");
  symlinkSync(path, link);
  expect(refusal(link)).toMatch(/is a symbolic link \(name the file itself in `bgp.password-file`/);
  const fifo = join(directory, "fifo");
  execFileSync("mkfifo", ["-m", "600", fifo]);
  for (const other of [fifo, directory, "/dev/null"]) expect(refusal(other)).toMatch(/is not a regular file/);
  writeFileSync(path, SECRET.repeat(20));
  expect(refusal()).toMatch(/is larger than 256 bytes/);
});

test.runIf(isRoot)("another user's file, and another user's directory, are refused", () => {
  chownSync(path, 65534, 65534);
  expect(refusal()).toMatch(/belongs to uid 65534, who can read it: shortcutd runs as uid 0/);
  chownSync(path, 0, 0);
  chownSync(directory, 65534, 65534);
  expect(refusal()).toMatch(/directory \S+ of password .* belongs to uid 65534, who can replace the file/);
  // Root judges for the service's user, whose directory it is.
  expect(userOfDirectory(path)).toBe(65534);
  expect(refusal(path, 65534)).toMatch(
    /belongs to root alone: shortcutd, which runs as uid 65534, cannot read it \(chown 65534/,
  );
  chownSync(path, 65534, 65534);
  expect(readSecret(path, KIND, 65534)).toBe(`${SECRET}\n`);
});
