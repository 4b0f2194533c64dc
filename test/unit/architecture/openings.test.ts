/** Shows that every test file opens with a comment that says what its tests show. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

const files = readdirSync("test", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => join("test", name));

it("finds the test files", () => {
  expect(files.length).toBeGreaterThan(90);
});

it.each(files)("%s says what it shows", (file) => {
  const opening = /^\/\*\*([\s\S]*?)\*\//.exec(readFileSync(file, "utf8"))?.[1];
  const words = (opening ?? "").replaceAll(/^\s*\*/gm, "").trim();
  expect(words.length, `${file} opens with /** what its tests show */`).toBeGreaterThan(20);
});
