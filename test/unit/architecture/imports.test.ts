/** The layers of the program: imports point one way, the core is free of I/O, and nothing escapes from the type system or the linters unsaid. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { describe, expect, it } from "vitest";

const root = "plugin";
/** Each layer and what it may import from, besides itself. */
const arrows: Readonly<Record<string, readonly string[]>> = {
  net: [],
  wire: ["net"],
  bgp: ["net", "wire"],
  shortcut: ["net", "wire"],
  config: ["net", "shortcut"],
  driver: ["net", "wire", "bgp", "shortcut", "config"],
  adapters: ["net", "wire", "bgp", "shortcut", "config", "driver"],
  status: ["net", "wire", "bgp", "shortcut", "config", "driver"],
};
const core = ["net", "wire", "bgp", "shortcut", "config", "driver"];
/** Packages that are computation only. */
const pure = ["ipaddr.js", "yaml", "zod", "protobufjs/minimal.js", "tinyqueue"];

function sources(dir: string): string[] {
  return readdirSync(dir).flatMap((name) => {
    const path = join(dir, name);
    if (statSync(path).isDirectory()) return name === "pb" ? [] : sources(path);
    return name.endsWith(".ts") ? [path] : [];
  });
}

const files = sources(root).map((path) => ({
  path,
  layer: relative(root, path).split("/")[0] ?? "",
  text: readFileSync(path, "utf8"),
}));
const importsOf = (text: string): string[] =>
  [
    ...text.matchAll(
      /^(?:import|export|\})[^"]*\bfrom "([^"]+)";|^import "([^"]+)";|\bimport\("([^"]+)"\)/gm,
    ),
  ].map((m) => m[1] ?? m[2] ?? m[3] ?? "");

/** Code without comments and string contents. */
const bare = (text: string): string =>
  text
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/(^|[^:])\/\/.*$/gm, "$1")
    .replace(/`(?:\\.|[^`\\])*`|"(?:\\.|[^"\\])*"/g, '""');

describe("the shape of the code", () => {
  it("finds the sources", () => {
    expect(files.length).toBeGreaterThan(50);
    for (const layer of Object.keys(arrows)) expect(files.some((f) => f.layer === layer)).toBe(true);
  });

  it("imports point one way", () => {
    const wrong: string[] = [];
    for (const f of files) {
      const allowed = arrows[f.layer];
      if (allowed === undefined) continue; // main.ts and ctl.ts
      for (const spec of importsOf(f.text)) {
        if (!spec.startsWith(".")) continue;
        const target = relative(root, normalize(join(dirname(f.path), spec))).split("/")[0] ?? "";
        if (target !== f.layer && !allowed.includes(target)) wrong.push(`${f.path} imports ${spec}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it("the core has no I/O, clock, timer, randomness or process", () => {
    const wrong: string[] = [];
    const forbidden =
      /\b(Date\.now|new Date\b|setTimeout|setInterval|setImmediate|queueMicrotask|Math\.random|process\.|performance\.|console\.|fetch\()/;
    for (const f of files.filter((x) => core.includes(x.layer))) {
      for (const spec of importsOf(f.text))
        if (!spec.startsWith(".") && !pure.includes(spec)) wrong.push(`${f.path} imports ${spec}`);
      const hit = forbidden.exec(bare(f.text));
      if (hit !== null) wrong.push(`${f.path} uses ${hit[1]}`);
    }
    expect(wrong).toEqual([]);
  });

  it("no escape from the type system", () => {
    const wrong = files.flatMap((f) => {
      const hit =
        /\bas any\b|: any\b|as unknown as/.exec(bare(f.text)) ??
        /@ts-(?:ignore|nocheck|expect-error)/.exec(f.text);
      return hit === null ? [] : [`${f.path}: ${hit[0]}`];
    });
    expect(wrong).toEqual([]);
  });

  it("every disabled lint rule has its reason beside it", () => {
    const wrong = files.flatMap((f) =>
      f.text
        .split("\n")
        .filter((line) => /eslint-disable/.test(line) && !/ -- \S/.test(line))
        .map((line) => `${f.path}: ${line.trim()}`),
    );
    expect(wrong).toEqual([]);
  });
});
