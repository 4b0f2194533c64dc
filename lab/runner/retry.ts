/**
 * Repeats what failed on a starved machine: at most twice, never where the machine had time, and
 * never silently. A failure on a machine that is not starved is a failure.
 */
import { Canary, describeStarvation, isStarved, type Starvation } from "./canary.js";

/** One attempt that did not count. */
export interface Repetition {
  /** The failure. */
  readonly problem: string;
  /** The canary's figures meanwhile. */
  readonly starvation: string;
}

export interface Attempted<T> {
  readonly value: T;
  /** Attempts before the last one; empty when the first one counts. */
  readonly repetitions: readonly Repetition[];
  /** During the last attempt. */
  readonly starvation: Starvation;
}

export interface RetryOptions<T> {
  /** Says why a result counts as a failure; undefined when it does not. */
  readonly problem?: (value: T) => string | undefined;
  /** Called before each repetition. */
  readonly onRepeat?: (repetition: Repetition) => void;
  /** How often it may be repeated; 2 unless given. */
  readonly most?: number;
  /** Stands in for the machine's canary in tests. */
  readonly canary?: Pick<Canary, "now" | "since">;
}

export const MOST_REPETITIONS = 2;

/**
 * Calls `attempt` until it succeeds, or fails while the machine was not starved, or has been
 * repeated `most` times.
 * @throws what the last attempt threw; its message says how often it was repeated.
 */
export async function repeatedWhenStarved<T>(
  attempt: () => Promise<T>,
  options: RetryOptions<T> = {},
): Promise<Attempted<T>> {
  const { canary = Canary.get(), most = MOST_REPETITIONS } = options;
  const repetitions: Repetition[] = [];
  for (;;) {
    const since = canary.now();
    const outcome = await settle(attempt);
    const starvation = canary.since(since);
    const problem = outcome.ok ? options.problem?.(outcome.value) : messageOf(outcome.error);
    if (problem === undefined || repetitions.length >= most || !isStarved(starvation)) {
      if (outcome.ok) return { value: outcome.value, repetitions, starvation };
      throw repetitions.length === 0 ? outcome.error : told(outcome.error, repetitions);
    }
    const repetition = { problem, starvation: describeStarvation(starvation) };
    repetitions.push(repetition);
    options.onRepeat?.(repetition);
  }
}

export const describeRepetition = (r: Repetition): string =>
  `repeated, the machine was starved: ${r.starvation}. It had failed: ${r.problem}`;

type Settled<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown };

async function settle<T>(attempt: () => Promise<T>): Promise<Settled<T>> {
  try {
    return { ok: true, value: await attempt() };
  } catch (error) {
    return { ok: false, error };
  }
}

const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

/** The same error, which also says what was before. */
function told(error: unknown, repetitions: readonly Repetition[]): unknown {
  if (!(error instanceof Error)) return error;
  error.message += `\n(after ${repetitions.length} repetitions: ${repetitions.map(describeRepetition).join("; ")})`;
  return error;
}
