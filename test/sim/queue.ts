/**
 * The events of a simulated world in order of time; events of the same time in order of insertion.
 */
import TinyQueue from "tinyqueue";

export interface Event {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export class EventQueue {
  private readonly queue = new TinyQueue<Event>([], (a, b) => a.at - b.at || a.order - b.order);
  private order = 0;

  add(time: number, run: () => void): void {
    this.queue.push({ at: time, order: this.order++, run });
  }

  /** Removes and returns the first event, unless it is later than `until`. */
  next(until: number): Event | undefined {
    const first = this.queue.peek();
    return first === undefined || first.at > until ? undefined : this.queue.pop();
  }
}
