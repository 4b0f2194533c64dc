/** The password of the sessions: one line of its file, which may be absent unless the configuration names it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readPassword } from "../../../../plugin/adapters/daemons/password.js";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "password-"));
  file = join(directory, "bgp-password");
});
afterEach(() => rmSync(directory, { recursive: true }));

const written = (text: string) => {
  writeFileSync(file, text, { mode: 0o600 });
  return readPassword({ file, required: false });
};

test("is a line, with or without its end", () => {
  for (const end of ["", "\n", "\r\n"]) expect(written(`q1/+w==${end}`)).toBe("q1/+w==");
  expect(written("x".repeat(80))).toBe("x".repeat(80));
});

test("may be absent, unless the configuration names the file", () => {
  expect(readPassword({ file, required: false })).toBeUndefined();
  expect(() => readPassword({ file, required: true })).toThrow(/password \S+: does not exist/);
});

test.each(["", "\n", "two words", "two\nlines", 'a"quote', "back\\slash", "ümlaut", "x".repeat(81)])(
  "%j is none, and is not repeated",
  (text) => {
    let said = "";
    try {
      written(text);
    } catch (e) {
      said = String(e);
    }
    expect(said).toMatch(/holds no password \(it must be one line of 1 to 80 printable characters/);
    if (text.trim() !== "") expect(said).not.toContain(text.trim());
  },
);
