/** Every shell command of every document is in the list that says which test runs it, or why none does (commands.ts). */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { NOT_RUN, RUN } from "./commands.js";
import { codeBlocks, commandsOf, documents, root, textOf } from "./markdown.js";

const all = documents().flatMap((d) => commandsOf(d));

it("finds commands", () => expect(all.length).toBeGreaterThan(30));

it("every command is run by a test, or has a reason why not", () => {
  expect(all.filter((c) => RUN[c] === undefined && NOT_RUN[c] === undefined)).toEqual([]);
  expect(Object.keys(RUN).filter((c) => NOT_RUN[c] !== undefined)).toEqual([]);
});

it("the list has no command that is in no document, and names tests that exist", () => {
  expect([...Object.keys(RUN), ...Object.keys(NOT_RUN)].filter((c) => !all.includes(c))).toEqual([]);
  for (const file of Object.values(RUN)) expect(existsSync(join(root, file)), file).toBe(true);
});

it("every code block says its language", () => {
  const unknown = documents().flatMap((d) =>
    codeBlocks(textOf(d))
      .filter((b) => !["sh", "yaml", "text", "ts"].includes(b.language))
      .map((b) => `${d}, ${b.headings.at(-1) ?? ""}: ${b.language}`),
  );
  expect(unknown).toEqual([]);
});

it("a block of another language holds no command", () => {
  const command =
    /^(?:npm|npx|sh|ip|nft|birdc|vtysh|sed|cp|mkdir|rm|git|systemctl|shortcutctl (?:-|status$)) /;
  const hidden = documents().flatMap((d) =>
    codeBlocks(textOf(d))
      .filter((b) => b.language !== "sh")
      .flatMap((b) => b.lines.filter((l) => command.test(l)).map((l) => `${d}: ${l}`)),
  );
  expect(hidden).toEqual([]);
});
