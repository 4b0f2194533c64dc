/**
 * Shows that the lab's rooms import one way, types counted, and that no file or play of it imports
 * itself in a circle.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { describe, expect, it } from "vitest";

const root = "lab";
/**
 * Each room and what it may import from, besides itself. `main.ts`, the command line, imports all
 * of them.
 */
const rooms: Readonly<Record<string, readonly string[]>> = {
  runner: [],
  traffic: ["runner"],
  site: ["runner", "traffic"],
  plays: ["runner", "traffic", "site"],
};
/** The parts of the product that a room may use; the rooms that are not named may use all of it. */
const product: Readonly<Record<string, readonly string[]>> = {
  // The runner knows nothing of shortcutd: addresses and results are general.
  runner: ["net"],
  traffic: ["net"],
};

interface Source {
  readonly path: string;
  readonly imports: readonly string[];
}

/** Paths, from the repository's root, that a source imports; packages are left out. */
function importsOf(path: string): string[] {
  const text = readFileSync(path, "utf8");
  return [...text.matchAll(/(?:\bfrom |\bimport\(|^import )"(\.[^"]+)"/gm)].map((m) =>
    normalize(join(dirname(path), m[1] ?? "")).replace(/\.js$/, ".ts"),
  );
}

const sources: readonly Source[] = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts") && !name.startsWith("out/"))
  .map((name) => join(root, name))
  .map((path) => ({ path, imports: importsOf(path) }));

const roomOf = (path: string): string => relative(root, path).split("/")[0] ?? "";

/** One way round a circle of this graph; undefined when there is none. */
function circle(graph: ReadonlyMap<string, readonly string[]>): readonly string[] | undefined {
  const done = new Set<string>();
  const visit = (at: string, way: readonly string[]): readonly string[] | undefined => {
    const seen = way.indexOf(at);
    if (seen >= 0) return [...way.slice(seen), at];
    if (done.has(at)) return undefined;
    for (const next of graph.get(at) ?? []) {
      const found = visit(next, [...way, at]);
      if (found !== undefined) return found;
    }
    done.add(at);
    return undefined;
  };
  for (const start of graph.keys()) {
    const found = visit(start, []);
    if (found !== undefined) return found;
  }
  return undefined;
}

describe("the rooms of the lab", () => {
  it("are all there", () => {
    expect(sources.length).toBeGreaterThan(30);
    for (const room of Object.keys(rooms)) expect(sources.some((s) => roomOf(s.path) === room)).toBe(true);
  });

  it("import one way", () => {
    const wrong = sources.flatMap(({ path, imports }) => {
      const [room, allowed] = [roomOf(path), rooms[roomOf(path)]];
      return imports
        .filter((target) => {
          if (target.startsWith("plugin/"))
            return product[room]?.includes(target.split("/")[1] ?? "") === false;
          if (!target.startsWith("lab/")) return true;
          return allowed !== undefined && roomOf(target) !== room && !allowed.includes(roomOf(target));
        })
        .map((target) => `${path} imports ${target}`);
    });
    expect(wrong).toEqual([]);
  });

  it("have no circle of files", () => {
    expect(circle(new Map(sources.map((s) => [s.path, s.imports])))).toBeUndefined();
  });

  it("have no circle of plays", () => {
    const playOf = (path: string): string => /^lab\/plays\/([^/]+)\//.exec(path)?.[1] ?? "";
    const graph = new Map<string, string[]>();
    for (const { path, imports } of sources) {
      const from = playOf(path);
      if (from === "") continue;
      const to = imports.map(playOf).filter((p) => p !== "" && p !== from);
      graph.set(from, [...(graph.get(from) ?? []), ...to]);
    }
    expect(circle(graph)).toBeUndefined();
  });

  it("would show a circle", () => {
    const graph = new Map([
      ["a", ["b"]],
      ["b", ["c"]],
      ["c", ["b"]],
    ]);
    expect(circle(graph)).toEqual(["b", "c", "b"]);
  });
});
