/**
 * Phrases over which readers have stumbled (phrases.ts) are in no document, no comment of the shipped configuration, no unit file
 * and no comment of the protocol's schema. Source folders are added to SOURCES one by one, when their comments and messages are done.
 */
import { describe, expect, it } from "vitest";
import { documents, filesBelow, proseOf, textOf } from "./markdown.js";
import { commentsOf, proseOfSource, stumbles } from "./phrases.js";

/** Folders of TypeScript whose comments and string literals are held to the list. */
const SOURCES: readonly string[] = ["plugin", "lab"];

const files: readonly (readonly [string, (text: string) => readonly string[]])[] = [
  ...documents().map((p) => [p, (t: string) => [proseOf(t)]] as const),
  ...filesBelow("bird-config", ".conf").map((p) => [p, (t: string) => [commentsOf(t, /# ?(.*)$/)]] as const),
  ...filesBelow("frr-config", ".conf").map(
    (p) => [p, (t: string) => [commentsOf(t, /^\s*! ?(.*)$/)]] as const,
  ),
  ...filesBelow("doc", ".service").map((p) => [p, (t: string) => [t]] as const),
  ...filesBelow("proto", ".proto").map((p) => [p, (t: string) => [commentsOf(t, /\/\/ ?(.*)$/)]] as const),
  ...SOURCES.flatMap((folder) => filesBelow(folder, ".ts").map((p) => [p, proseOfSource] as const)),
];

describe("phrases", () => {
  it("finds the files", () => {
    const paths = files.map(([p]) => p);
    for (const p of [
      "README.md",
      "bird-config/shortcut.conf",
      "frr-config/remove.conf",
      "proto/shortcutd.proto",
    ])
      expect(paths).toContain(p);
  });

  it.each(files)("%s", (path, prose) => {
    expect(prose(textOf(path)).flatMap(stumbles)).toEqual([]);
  });

  it("finds what it looks for, also across lines, and lets the rest pass", () => {
    for (const bad of [
      "This is no valid prefix.",
      "Packets go by\nthe hub.",
      "It starts anew.",
      "Done. What it does is unknown.",
      "- x: Whose key this is.",
    ])
      expect(stumbles(bad), bad).toHaveLength(1);
    for (const good of [
      "It is no longer valid.",
      "Packets go via the hub.",
      "What is an offer? A route.",
      "That is what matters.",
    ])
      expect(stumbles(good), good).toEqual([]);
  });

  it("reads comments and strings of a source, not its code", () => {
    const source = [
      "/** A first\n * comment, with `by the hub` as code. */",
      'const anew = "a string"; // a second',
      'const r = /is "no regex/; const t = `one $'.concat("{anew} two`;"),
    ].join("\n");
    expect(proseOfSource(source)).toEqual([
      "A first\n comment, with CODE as code.",
      "a string",
      "a second",
      "one $".concat("{anew} two"),
    ]);
  });
});
