/**
 * Tests of the stages: the table in doc/operation.md equals NEXT, and every stage can be reached
 * and left.
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { NEXT } from "../../../../plugin/shortcut/machine/stage.js";

const operation = readFileSync(new URL("../../../../doc/operation.md", import.meta.url), "utf8");

/** Rows of `| stage | waits for | next |`: the stage, and the names in the third column. */
const rows = [...operation.matchAll(/^\| `(\w+)` \|[^|]*\|([^|]*)\|$/gm)].map(
  ([, stage = "", next = ""]) => [stage, [...next.matchAll(/`(\w+)`/g)].map((m) => m[1])] as const,
);

describe("the stages of a shortcut", () => {
  it("are in doc/operation.md as NEXT has them", () => {
    expect(Object.fromEntries(rows)).toEqual(NEXT);
  });

  it("all lead to gone, and gone is the only end", () => {
    const next: Readonly<Record<string, readonly string[]>> = NEXT;
    const reaches = (from: string, seen: Set<string> = new Set()): Set<string> => {
      for (const to of next[from] ?? []) if (!seen.has(to)) reaches(to, seen.add(to));
      return seen;
    };
    for (const stage of Object.keys(NEXT)) {
      if (stage === "gone") expect(NEXT.gone).toEqual([]);
      else expect(reaches(stage), stage).toContain("gone");
    }
    expect(reaches("resolving").size).toBe(Object.keys(NEXT).length);
  });
});
