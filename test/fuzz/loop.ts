/**
 * Runs mutated inputs through a target. What is run follows from the seed and the corpus alone. The budget is
 * a number of inputs and processor time, so that a busy machine does not matter.
 */
import { generator } from "../sim/random.js";
import { mutated, type Random } from "./mutate.js";
import { hexOf, type Target, utf8 } from "./target.js";

export interface Budget {
  readonly inputs: number;
  /** Milliseconds of the process, on all processors. */
  readonly processorTime: number;
}

export interface Failure {
  readonly input: Uint8Array;
  readonly error: Error;
}

export interface Outcome {
  readonly inputs: number;
  readonly failure: Failure | undefined;
}

/** One input: undefined when the target holds. */
export async function failureOf(target: Target, input: Uint8Array): Promise<Failure | undefined> {
  try {
    const pending = target.run(input);
    if (pending !== undefined) await pending;
    return undefined;
  } catch (e) {
    return { input, error: e instanceof Error ? e : new Error(String(e)) };
  }
}

/** Makes the inputs of one run, one after the other. */
export class Inputs {
  private readonly random: Random;
  private readonly words: readonly Uint8Array[];

  constructor(
    private readonly target: Target,
    readonly pool: Uint8Array[],
    seed: number,
  ) {
    this.random = generator(seed);
    this.words = (target.words ?? []).map(utf8);
  }

  next(): Uint8Array {
    const { pool, random } = this;
    // what came last has been looked at least
    const recent = random() < 0.3 ? Math.max(0, pool.length - 8) : 0;
    const from = pool[recent + Math.floor(random() * (pool.length - recent))] ?? new Uint8Array(0);
    return mutated(random, from, pool, this.words, this.target.longest);
  }
}

const CHECKED_EVERY = 64;

/** Runs the corpus as it is, then mutations of it. */
export async function fuzz(
  target: Target,
  corpus: readonly Uint8Array[],
  seed: number,
  budget: Budget,
): Promise<Outcome> {
  const inputs = new Inputs(target, [...corpus], seed);
  const before = process.cpuUsage();
  let run = 0;
  for (const input of corpus) {
    const failure = await failureOf(target, input);
    run++;
    if (failure !== undefined) return { inputs: run, failure };
  }
  while (run < budget.inputs) {
    if (run % CHECKED_EVERY === 0) {
      const { user, system } = process.cpuUsage(before);
      if ((user + system) / 1000 > budget.processorTime) break;
    }
    const failure = await failureOf(target, inputs.next());
    run++;
    if (failure !== undefined)
      return { inputs: run, failure: { ...failure, input: await shortened(target, failure) } };
  }
  return { inputs: run, failure: undefined };
}

/** What tells one failure from another: numbers and data in its message do not. */
const kindOf = (error: Error): string =>
  `${error.name} ${error.message.replaceAll(/[^A-Za-z ]/g, "").slice(0, 40)}`;

/** Removes parts of an input while it fails in the same way. */
export async function shortened(target: Target, failure: Failure): Promise<Uint8Array> {
  const kind = kindOf(failure.error);
  let { input } = failure;
  for (let size = input.length >> 1; size >= 1; size >>= 1)
    for (let at = 0; at + size <= input.length; ) {
      const less = Uint8Array.from([...input.subarray(0, at), ...input.subarray(at + size)]);
      const still = await failureOf(target, less);
      if (still !== undefined && kindOf(still.error) === kind) input = less;
      else at += size;
    }
  return input;
}

/** How a failure is told: what to run again, and what to keep. */
export const describeFailure = (target: Target, seed: number, f: Failure): string =>
  [
    `${target.name}: ${f.error.stack ?? f.error.message}`,
    `seed ${seed}: again with FUZZ_SEED=${seed}, or npm run fuzz -- ${target.name} 60 --seed ${seed}`,
    `input of ${f.input.length} bytes, for test/fuzz/corpus/${target.name}.hex:`,
    hexOf(f.input),
  ].join("\n");
