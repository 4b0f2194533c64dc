/**
 * Finds the first of many deadlines: a binary heap. A changed entry stays in the heap and is
 * skipped when it comes up. With hundreds of shortcuts, looking at all of them for every probe
 * would be most of the work.
 */

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
  private heap: Entry<K>[] = [];

  /** Sets a deadline in milliseconds; undefined means never. */
  set(key: K, at: number | undefined): void {
    if (this.current.get(key) === at) return;
    if (at === undefined) {
      this.current.delete(key);
      return;
    }
    this.current.set(key, at);
    this.push({ key, at });
    // skipped entries must not outnumber the valid ones
    if (this.heap.length > 2 * this.current.size + 64) {
      this.heap = [];
      for (const [k, t] of this.current) this.push({ key: k, at: t });
    }
  }

  /** Returns the first time at which something is due. */
  first(): number | undefined {
    for (let top = this.heap[0]; top !== undefined; top = this.heap[0]) {
      if (this.current.get(top.key) === top.at) return top.at;
      this.pop();
    }
    return undefined;
  }

  /** Removes everything that is due at `now` and returns it, in order. */
  due(now: number): K[] {
    const out: K[] = [];
    for (let at = this.first(); at !== undefined && at <= now; at = this.first()) {
      const key = this.pop()?.key;
      if (key === undefined) break;
      this.current.delete(key);
      out.push(key);
    }
    return out;
  }

  private push(e: Entry<K>): void {
    const h = this.heap;
    let i = h.length;
    h.push(e);
    while (i > 0) {
      const up = (i - 1) >> 1;
      const parent = h[up];
      if (parent === undefined || parent.at <= e.at) break;
      h[i] = parent;
      h[up] = e;
      i = up;
    }
  }

  private pop(): Entry<K> | undefined {
    const h = this.heap;
    const top = h[0];
    const last = h.pop();
    if (top === undefined || last === undefined || h.length === 0) return top;
    let i = 0;
    h[0] = last;
    for (;;) {
      let down = 2 * i + 1;
      const left = h[down];
      const right = h[down + 1];
      if (left === undefined) break;
      if (right !== undefined && right.at < left.at) down++;
      const child = h[down];
      if (child === undefined || child.at >= last.at) break;
      h[i] = child;
      h[down] = last;
      i = down;
    }
    return top;
  }
}
