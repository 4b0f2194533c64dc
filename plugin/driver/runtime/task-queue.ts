/** Effects in order: one task at a time, none lost, a failure reported and followed by the next. */
import { PortError } from "../ports.js";

export class TaskQueue {
  private tail: Promise<void> = Promise.resolve();
  private pending = 0;

  constructor(private readonly onError: (error: PortError) => void) {}

  add(place: string, task: () => Promise<void>): void {
    this.pending++;
    this.tail = this.tail.then(async () => {
      try {
        await task();
      } catch (e) {
        this.onError(asPortError(place, e));
      } finally {
        this.pending--;
      }
    });
  }

  /** Whether everything that was added is done. */
  get idle(): boolean {
    return this.pending === 0;
  }

  /** Resolves when everything that was added before is done. */
  async drained(): Promise<void> {
    await this.tail;
  }
}

export const asPortError = (place: string, e: unknown): PortError =>
  e instanceof PortError ? e : new PortError(place, e instanceof Error ? e.message : String(e));
