/**
 * No import cycles, type-only imports counted: files that need each other's types are one thing in two places. A cycle is printed as the
 * chain of files that it runs through.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, it } from "vitest";

/** Imports that close a cycle and still stand: only to become fewer. */
const KNOWN: readonly (readonly [from: string, to: string])[] = [];

function sources(dir: string): string[] {
  return readdirSync(dir).flatMap((name) => {
    const path = join(dir, name);
    if (statSync(path).isDirectory()) return name === "pb" || name === "out" ? [] : sources(path);
    return name.endsWith(".ts") && !name.endsWith(".d.ts") ? [path] : [];
  });
}

/** The files that a text imports, type-only imports and re-exports included. */
function importsOf(path: string, text: string): string[] {
  const specifiers = text.matchAll(
    /^(?:import|export|\})[^"]*\bfrom "(\.[^"]+)";|^import "(\.[^"]+)";|\bimport\("(\.[^"]+)"\)/gm,
  );
  return [...specifiers].map((m) => {
    const target = m[1] ?? m[2] ?? m[3] ?? "";
    return normalize(join(dirname(path), target)).replace(/\.js$/, ".ts");
  });
}

/** Strongly connected components of more than one file (Tarjan). */
function components(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (v: string): void => {
    index.set(v, index.size);
    low.set(v, index.get(v) ?? 0);
    stack.push(v);
    for (const w of graph.get(v) ?? []) {
      if (!graph.has(w)) continue;
      if (!index.has(w)) visit(w);
      if (stack.includes(w)) low.set(v, Math.min(low.get(v) ?? 0, low.get(w) ?? 0));
    }
    if (low.get(v) !== index.get(v)) return;
    const component = stack.splice(stack.indexOf(v)).sort();
    if (component.length > 1) found.push(component);
  };
  for (const v of graph.keys()) if (!index.has(v)) visit(v);
  return found;
}

/** One shortest way round: `a → b → a`. */
function cycleIn(graph: ReadonlyMap<string, readonly string[]>, files: readonly string[]): string {
  const start = files[0] ?? "";
  let ways: string[][] = [[start]];
  const seen = new Set<string>();
  while (ways.length > 0) {
    const next: string[][] = [];
    for (const way of ways)
      for (const w of graph.get(way.at(-1) ?? "") ?? []) {
        if (w === start) return [...way, start].join(" → ");
        if (!files.includes(w) || seen.has(w)) continue;
        seen.add(w);
        next.push([...way, w]);
      }
    ways = next;
  }
  return files.join(", ");
}

const isKnown = (from: string, to: string): boolean => KNOWN.some(([f, t]) => f === from && t === to);
const all = new Map(
  ["plugin", "lab"].flatMap(sources).map((path) => [path, importsOf(path, readFileSync(path, "utf8"))]),
);
const graph = new Map([...all].map(([from, to]) => [from, to.filter((t) => !isKnown(from, t))]));

describe("the import graph", () => {
  it("is read from imports of values, of types, and from re-exports", () => {
    const text = [
      'import type { A } from "./a.js";',
      'import {\n  type B,\n} from "../b.js";',
      'export { c } from "./c.js";',
      'import "./d.js";',
      'import { x } from "node:fs";',
    ].join("\n");
    expect(importsOf("p/q/r.ts", text)).toEqual(["p/q/a.ts", "p/b.ts", "p/q/c.ts", "p/q/d.ts"]);
    expect(graph.size).toBeGreaterThan(150);
  });

  it("shows a cycle as the chain that it is", () => {
    const round = new Map([
      ["a", ["b", "d"]],
      ["b", ["c"]],
      ["c", ["a"]],
      ["d", []],
    ]);
    expect(components(round)).toEqual([["a", "b", "c"]]);
    expect(cycleIn(round, ["a", "b", "c"])).toBe("a → b → c → a");
  });

  it("has no cycles", () => {
    expect(components(graph).map((files) => cycleIn(graph, files))).toEqual([]);
  });

  it("still has every import that is listed as known", () => {
    const mended = KNOWN.filter(([from, to]) => all.get(from)?.includes(to) !== true);
    expect(mended, "mended: take it off the list").toEqual([]);
  });
});
