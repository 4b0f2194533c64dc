/** doc/configuration.md and the schema list the same keys, and the same defaults. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { schema, unwrapped } from "../../../plugin/config/schema.js";

interface Leaf {
  readonly key: string;
  readonly field: z.ZodType;
}

function leaves(of: z.ZodObject, above = ""): Leaf[] {
  return Object.entries(of.shape as Record<string, z.ZodType>).flatMap(([name, field]) => {
    const inner = unwrapped(field);
    const key = `${above}${name}`;
    return inner instanceof z.ZodObject ? leaves(inner, `${key}.`) : [{ key, field }];
  });
}

interface Row {
  readonly keys: readonly string[];
  readonly defaults: string;
  readonly meaning: string;
}

const code = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map((m) => m[1] ?? "");

const rows: Row[] = readFileSync("doc/configuration.md", "utf8")
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .map((line) => {
    const [, keys = "", defaults = "", meaning = ""] = line.split("|").map((cell) => cell.trim());
    return { keys: code(keys), defaults, meaning };
  });
const known = leaves(schema);

/** The row of a key, or of the group that it is in where the row's meaning names it. */
const rowOf = (key: string): Row | undefined =>
  rows.find((r) => r.keys.includes(key)) ??
  rows.find((r) => {
    const [group, name = ""] = /^(.*)\.([^.]+)$/.exec(key)?.slice(1) ?? [];
    return group !== undefined && r.keys.includes(group) && code(r.meaning).some((c) => c.includes(name));
  });

describe("doc/configuration.md", () => {
  it("has every key of the schema", () => {
    expect(known.length).toBeGreaterThan(50);
    expect(known.filter((leaf) => rowOf(leaf.key) === undefined).map((leaf) => leaf.key)).toEqual([]);
  });

  it("has no key that the schema does not have", () => {
    const allowed = (key: string) => known.some((l) => l.key === key || l.key.startsWith(`${key}.`));
    expect(rows.flatMap((r) => r.keys).filter((key) => !allowed(key))).toEqual([]);
  });

  it("has the defaults of the schema", () => {
    const wrong: string[] = [];
    for (const { key, field } of known) {
      const row = rows.find((r) => r.keys.includes(key));
      if (!(field instanceof z.ZodDefault) || row === undefined) continue;
      const written = code(row.defaults)[row.keys.indexOf(key)];
      const want: unknown = field.parse(undefined);
      const [none, required] = [row.defaults.startsWith("none"), row.defaults.startsWith("required")];
      if (Array.isArray(want) && want.length === 0 && (none || required)) continue;
      const number = Number(written);
      const read = field.safeParse(
        written === "true" || written === "false"
          ? written === "true"
          : Number.isNaN(number)
            ? written
            : number,
      );
      if (!read.success || read.data !== want) wrong.push(`${key}: ${written}, not ${String(want)}`);
    }
    expect(wrong).toEqual([]);
  });
});
