/**
 * Repeats a test, or a step of one, that failed on a starved machine; each repetition is printed
 * and kept for the summary.
 */
import { getCurrentTest } from "vitest/suite";
import { describeRepetition, type Repetition, repeatedWhenStarved } from "../../lab/runner/retry.js";

declare module "vitest" {
  interface TaskMeta {
    /** Why attempts of this test were repeated. `test/summary.js` prints them. */
    repeated?: string[];
  }
}

/** Keeps a repetition with the test that runs. */
export function note(repetition: Repetition): void {
  const text = describeRepetition(repetition);
  console.warn(text);
  const meta = getCurrentTest()?.meta;
  if (meta !== undefined) meta.repeated = [...(meta.repeated ?? []), text];
}

/**
 * Calls `attempt`, which cleans up after itself also when it fails, and repeats it at most twice
 * when starved.
 */
export async function unlessStarved<T>(attempt: () => Promise<T>): Promise<T> {
  return (await repeatedWhenStarved(attempt, { onRepeat: note })).value;
}
