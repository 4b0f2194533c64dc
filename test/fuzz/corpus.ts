/**
 * The committed corpus: one file for each target, one input a line in hexadecimal. Lines that begin with `#` say
 * what follows; a counterexample stays under such a line when the corpus is written again.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hexOf, type Target } from "./target.js";

/** From the top of the source tree, where npm runs scripts and tests. */
const FOLDER = "test/fuzz/corpus";

const fileOf = (target: Target): string => join(FOLDER, `${target.name}.hex`);

/** A line of the file, decoded. */
type Entry = { readonly remark: string } | { readonly input: Uint8Array };

function entriesOf(target: Target): readonly Entry[] {
  const file = fileOf(target);
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) =>
      line.startsWith("#") ? { remark: line } : { input: new Uint8Array(Buffer.from(line, "hex")) },
    );
}

/** All inputs of the file. */
export const corpusOf = (target: Target): readonly Uint8Array[] =>
  entriesOf(target).flatMap((e) => ("input" in e ? [e.input] : []));

/** The counterexamples: inputs that follow a remark. They are kept whatever they cover. */
export function counterexamplesOf(target: Target): readonly (readonly [string, Uint8Array])[] {
  const entries = entriesOf(target);
  return entries.flatMap((e, i) => {
    const before = entries[i - 1];
    return "input" in e && before !== undefined && "remark" in before
      ? [[before.remark, e.input] as const]
      : [];
  });
}

/** Writes the corpus, the counterexamples first. */
export function writeCorpus(target: Target, inputs: readonly Uint8Array[]): void {
  const kept = counterexamplesOf(target);
  const known = new Set(kept.map(([, input]) => hexOf(input)));
  const lines = inputs.map(hexOf).filter((h) => h !== "" && !known.has(h));
  const text = [...kept.flatMap(([remark, input]) => [remark, hexOf(input)]), ...new Set(lines), ""];
  writeFileSync(fileOf(target), text.join("\n"));
}
