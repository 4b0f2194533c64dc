/** Waiting for a condition with a deadline: what labs and their tests do instead of sleeping. */
import { setTimeout as delay } from "node:timers/promises";

/**
 * Calls `probe` every `everyMs` until it returns something other than undefined or false, and
 * returns that.
 * @throws Error naming `what` and the last error of the probe when `timeoutMs` has passed.
 */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  everyMs = 25,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
      last = undefined;
    } catch (e) {
      last = e;
    }
    if (performance.now() >= deadline) {
      const why = last instanceof Error ? `: ${last.message}` : "";
      throw new Error(`not within ${timeoutMs / 1000} s: ${what}${why}`);
    }
    await delay(everyMs);
  }
}
