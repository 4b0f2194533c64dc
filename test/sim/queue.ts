/**
 * The events of a simulated world in order of time; events of the same time in order of insertion.
 */

export interface Event {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

const before = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

/** A queue of events as a binary heap. */
export class EventQueue {
  private readonly heap: Event[] = [];
  private order = 0;

  add(time: number, run: () => void): void {
    const e = { at: time, order: this.order++, run };
    const q = this.heap;
    q.push(e);
    let i = q.length - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const p = q[parent];
      if (p === undefined || !before(e, p)) break;
      q[i] = p;
      q[parent] = e;
      i = parent;
    }
  }

  /** Removes and returns the first event, unless it is later than `until`. */
  next(until: number): Event | undefined {
    const first = this.heap[0];
    return first === undefined || first.at > until ? undefined : this.pop();
  }

  private pop(): Event | undefined {
    const q = this.heap;
    const top = q[0];
    const last = q.pop();
    if (top === undefined || last === undefined || top === last) return top;
    q[0] = last;
    for (let i = 0; ; ) {
      let child = 2 * i + 1;
      const left = q[child];
      const right = q[child + 1];
      if (left === undefined) break;
      let c = left;
      if (right !== undefined && before(right, left)) {
        child++;
        c = right;
      }
      if (!before(c, last)) break;
      q[i] = c;
      q[child] = last;
      i = child;
    }
    return top;
  }
}
