/** Every row of the tables of what others can send, in doc/security.md, names a test that exists. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { root, textOf } from "./markdown.js";

const rows = textOf("doc/security.md")
  .split("\n")
  .filter((line) => line.includes("| `test/"));

describe("what others can send", () => {
  it("is listed", () => {
    expect(rows.length).toBeGreaterThan(20);
  });

  it.each(rows)("%s", (row) => {
    const [, file = "", name = ""] = /\| `(test\/[^`]+)`: "(.+)" \|$/.exec(row) ?? [];
    expect(existsSync(join(root, file))).toBe(true);
    expect(textOf(file)).toContain(name);
  });
});
