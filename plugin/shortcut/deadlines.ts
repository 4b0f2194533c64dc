/**
 * Finds the first of many deadlines, in a priority queue. A changed entry stays in the queue and is
 * skipped when it comes up. With hundreds of shortcuts, looking at all of them for every probe
 * would be most of the work.
 */
import TinyQueue from "tinyqueue";

/** Returns the first of some times; undefined means never. */
export function earliest(...times: readonly (number | undefined)[]): number | undefined {
  let at: number | undefined;
  for (const t of times) if (t !== undefined && (at === undefined || t < at)) at = t;
  return at;
}

interface Entry<K> {
  readonly key: K;
  readonly at: number;
}

export class Deadlines<K> {
  private readonly current = new Map<K, number>();
  private queue = this.empty();

  /** Sets a deadline in milliseconds; undefined means never. */
  set(key: K, at: number | undefined): void {
    if (this.current.get(key) === at) return;
    if (at === undefined) {
      this.current.delete(key);
      return;
    }
    this.current.set(key, at);
    this.queue.push({ key, at });
    // skipped entries must not outnumber the valid ones
    if (this.queue.length > 2 * this.current.size + 64) {
      this.queue = this.empty();
      for (const [k, t] of this.current) this.queue.push({ key: k, at: t });
    }
  }

  /** Returns the first time at which something is due. */
  first(): number | undefined {
    for (let top = this.queue.peek(); top !== undefined; top = this.queue.peek()) {
      if (this.current.get(top.key) === top.at) return top.at;
      this.queue.pop();
    }
    return undefined;
  }

  /** Removes everything that is due at `now` and returns it, in order. */
  due(now: number): K[] {
    const out: K[] = [];
    for (let at = this.first(); at !== undefined && at <= now; at = this.first()) {
      const key = this.queue.pop()?.key;
      if (key === undefined) break;
      this.current.delete(key);
      out.push(key);
    }
    return out;
  }

  private empty(): TinyQueue<Entry<K>> {
    return new TinyQueue<Entry<K>>([], (a, b) => a.at - b.at);
  }
}
