/**
 * Loaded before every test that works on a kernel: a test that failed while the machine was starved
 * is repeated, with all that runs before and after it, at most twice. Each repetition is printed,
 * and kept for test/summary.js. What failed on a machine that had time has failed.
 */
import { beforeAll, beforeEach, type RunnerTask, type RunnerTestCase, TestRunner } from "vitest";
import { Canary, describeStarvation, isStarved } from "../../lab/runner/canary.js";
import { describeRepetition, MOST_REPETITIONS, type Repetition } from "../../lab/runner/retry.js";

declare module "vitest" {
  interface TaskMeta {
    /** Why attempts of this test were repeated. */
    repeated?: string[];
  }
}

/** Keeps a repetition with the test that runs: also one that the lab itself has made. */
export function note(repetition: Repetition, test = TestRunner.getCurrentTest()): void {
  const text = describeRepetition(repetition);
  console.warn(text);
  if (test !== undefined) test.meta.repeated = [...(test.meta.repeated ?? []), text];
}

const canary = Canary.get();
/** When the attempt that runs began. */
let began = canary.now();
beforeEach(() => {
  began = canary.now();
});

/** Says whether a test that failed is to be repeated, and keeps why. */
function repeats(test: RunnerTestCase, problem: string): boolean {
  const starvation = canary.since(began);
  if (!isStarved(starvation) || (test.meta.repeated?.length ?? 0) >= MOST_REPETITIONS) return false;
  note({ problem: problem.split("\n")[0] ?? "", starvation: describeStarvation(starvation) }, test);
  return true;
}

const testsOf = (task: RunnerTask): RunnerTestCase[] =>
  task.type === "test" ? [task] : task.tasks.flatMap(testsOf);

// biome-ignore lint/correctness/noEmptyPattern: vitest wants a pattern, without a name in it
beforeAll(({}, file) => {
  for (const test of file.tasks.flatMap(testsOf))
    test.retry = { count: MOST_REPETITIONS, condition: (error) => repeats(test, error.message) };
});
