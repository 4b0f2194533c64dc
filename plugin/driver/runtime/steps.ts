/**
 * Bring-up and take-down as one list: each step says what it makes and how that is unmade. Taking down runs backwards through the steps that
 * were begun, so the one list states both orders, and a bring-up that fails half way undoes exactly what it has done.
 */
import type { PortError } from "../ports.js";
import { asPortError } from "./task-queue.js";

export interface Step {
  /** Names the step in errors. */
  readonly place: string;
  /** Undefined: there is nothing to make; what `down` removes comes into being later. */
  readonly up?: () => void | Promise<void>;
  /** Also called when `up` failed half way. Undefined: there is nothing to unmake. */
  readonly down?: () => void | Promise<void>;
}

export class Steps {
  private readonly begun: Step[] = [];

  constructor(
    private readonly steps: readonly Step[],
    private readonly onError: (error: PortError) => void,
  ) {}

  /** Takes the steps in order. Stops at the first that fails and passes its error on: the caller takes down. */
  async up(): Promise<void> {
    for (const step of this.steps) {
      this.begun.push(step);
      await step.up?.();
    }
  }

  /** Undoes the steps that were begun, the last one first. A failure is reported, and the next step is undone. */
  async down(): Promise<void> {
    for (const step of this.begun.splice(0).reverse())
      try {
        await step.down?.();
      } catch (e) {
        this.onError(asPortError(step.place, e));
      }
  }
}
