/**
 * Every key that the configuration file may have is in doc/configuration.md, and every key in there exists. The parser is asked
 * which keys it allows, so the test needs no second list of them.
 */
import { expect, it } from "vitest";
import { parseConfig } from "../../../plugin/config/config.js";
import { textOf } from "./markdown.js";

/** The keys that are allowed below a path; none where the value is not a mapping. */
function allowedBelow(path: readonly string[]): string[] {
  const text = [...path, "no-such-key"].map((key, depth) => `${"  ".repeat(depth)}${key}:`).join("\n");
  const parsed = parseConfig(`${text} 1\n`);
  if (parsed.ok) return [];
  const key = [...path, "no-such-key"].join(".");
  const problem = parsed.error.find((e) => e.key === key)?.problem ?? "";
  return /allowed here: (.*)$/.exec(problem)?.[1]?.split(", ") ?? [];
}

function leaves(path: readonly string[]): string[] {
  const below = allowedBelow(path);
  return below.length === 0 ? [path.join(".")] : below.flatMap((key) => leaves([...path, key]));
}

const rows = textOf("doc/configuration.md")
  .split("\n")
  .filter((l) => l.startsWith("| `"));
const documented = rows.flatMap((row) =>
  [...(row.split(" | ")[0] ?? "").matchAll(/`([^`]+)`/g)].map((m) => m[1] ?? ""),
);

it("finds keys of every depth", () => {
  const all = leaves([]);
  for (const key of ["role", "bgp.as", "direct.max-round-trip.ratio"]) expect(all).toContain(key);
});

it("every key is documented", () => {
  const missing = leaves([]).filter((key) => {
    if (documented.includes(key)) return false;
    // a key of a small mapping is explained in the row of that mapping
    const [, parent = "", name = ""] = /^(.*)\.([^.]+)$/.exec(key) ?? [];
    return !rows.some((r) => r.startsWith(`| \`${parent}\``) && r.includes(`${name}`));
  });
  expect(missing).toEqual([]);
});

it("every documented key exists", () => {
  const all = leaves([]);
  expect(documented.filter((d) => !all.some((key) => key === d || key.startsWith(`${d}.`)))).toEqual([]);
});

it("no key is documented twice", () => {
  expect(documented.filter((d, i) => documented.indexOf(d) !== i)).toEqual([]);
});
