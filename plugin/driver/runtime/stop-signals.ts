/** Decides what a signal to stop means: the first stops in order; one soon after it is a repetition; a later one gives up. */
import type { Milliseconds } from "../../net/units.js";

/** Terminals and service managers send a signal twice within moments; an operator who has waited this long means it. */
export const STOP_PATIENCE: Milliseconds = 5_000;

export type StopDecision = "stop" | "ignore" | "give-up";

export class StopSignals {
  private firstAt: Milliseconds | undefined;

  /** @param now monotonic. */
  received(now: Milliseconds): StopDecision {
    if (this.firstAt === undefined) {
      this.firstAt = now;
      return "stop";
    }
    return now - this.firstAt < STOP_PATIENCE ? "ignore" : "give-up";
  }
}
