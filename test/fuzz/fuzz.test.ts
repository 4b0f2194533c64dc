/**
 * Shows that no input from outside makes a decoder or a machine throw, loop or contradict itself: the corpus, and
 * mutations of it from a seed that each failure names. `FUZZ_SEED` sets the seed.
 */
import { expect, test } from "vitest";
import { corpusOf, counterexamplesOf } from "./corpus.js";
import { describeFailure, failureOf, fuzz } from "./loop.js";
import { holds, type Target, textOf, utf8 } from "./target.js";
import { targets } from "./targets.js";

const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 32);

/** Milliseconds of processor time for all targets. */
const ALL = 60_000;
const BUDGET = { inputs: 200_000, processorTime: ALL / targets.length };

for (const target of targets) {
  test(`${target.name}: mutated inputs`, async () => {
    const { inputs, failure } = await fuzz(target, [...target.seeds(), ...corpusOf(target)], seed, BUDGET);
    if (failure !== undefined) throw new Error(describeFailure(target, seed, failure));
    expect(inputs).toBeGreaterThan(0);
  });
  for (const [remark, input] of counterexamplesOf(target))
    test(`${target.name}: ${remark.slice(1).trim()}`, async () => {
      expect(await failureOf(target, input)).toBeUndefined();
    });
}

test("a planted fault is found, made short, and told with its seed", async () => {
  const planted: Target = {
    name: "planted",
    longest: 100,
    seeds: () => [utf8("a long beginning, then BAG, and an end")],
    run: (input) => holds("a bug", !textOf(input).includes("BUG")),
  };
  const budget = { inputs: 1_000_000, processorTime: 60_000 };
  const { failure } = await fuzz(planted, planted.seeds(), 7, budget);
  expect(failure && textOf(failure.input)).toBe("BUG");
  const again = await fuzz(planted, planted.seeds(), 7, budget);
  expect(again.failure?.input).toEqual(failure?.input);
  expect(failure && describeFailure(planted, 7, failure)).toMatch(/planted: .*a bug.*seed 7.*\n425547$/s);
});
