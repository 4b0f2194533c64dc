/**
 * Runs tasks later or periodically, until the end: then everything is cancelled, and failures are no longer reported. A
 * periodic task is due a pause after it has finished, so that a slow kernel is never asked twice at a time.
 */
import type { Milliseconds } from "../../net/units.js";
import type { Clock, PortError } from "../ports.js";
import { asPortError } from "./task-queue.js";

export class Schedule {
  private readonly cancels = new Set<() => void>();
  private over = false;

  constructor(
    private readonly clock: Clock,
    private readonly onError: (place: string, error: PortError) => void,
  ) {}

  get ended(): boolean {
    return this.over;
  }

  end(): void {
    this.over = true;
    for (const cancel of this.cancels) cancel();
    this.cancels.clear();
  }

  /** Once, after `ms` milliseconds. */
  later(ms: Milliseconds, run: () => void): void {
    const cancel = this.clock.after(ms, () => {
      this.cancels.delete(cancel);
      if (!this.over) run();
    });
    this.cancels.add(cancel);
  }

  /** Periodically, `pause` milliseconds after the last run; a function is asked each time. */
  every(place: string, pause: Milliseconds | (() => Milliseconds), task: () => Promise<void>): void {
    this.later(typeof pause === "number" ? pause : pause(), () => {
      void this.attempt(place, task).finally(() => {
        if (!this.over) this.every(place, pause, task);
      });
    });
  }

  /** At once; a failure is reported. */
  async attempt(place: string, task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (e) {
      if (!this.over) this.onError(place, asPortError(place, e));
    }
  }
}
