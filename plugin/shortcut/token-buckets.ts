/**
 * Token buckets, one for each key: how often something may happen on behalf of somebody. The number
 * of buckets is bounded. The least recently used one is forgotten first, which is then mostly full.
 */
export interface BucketRule {
  readonly perSecond: number;
  /** Number of tokens of a full bucket. */
  readonly burst: number;
  /** Number of keys. */
  readonly most: number;
}

interface Bucket {
  tokens: number;
  at: number;
}

export class TokenBuckets<K> {
  /** In the order of their last use. */
  private readonly buckets = new Map<K, Bucket>();

  constructor(private readonly rule: BucketRule) {}

  private filled(now: number, b: Bucket): number {
    const { burst, perSecond } = this.rule;
    return Math.min(burst, b.tokens + (Math.max(0, now - b.at) * perSecond) / 1000);
  }

  private use(now: number, key: K): Bucket {
    const before = this.buckets.get(key);
    const bucket = { tokens: before === undefined ? this.rule.burst : this.filled(now, before), at: now };
    this.buckets.delete(key);
    if (this.buckets.size >= this.rule.most) {
      const [oldest] = this.buckets.keys();
      if (oldest !== undefined) this.buckets.delete(oldest);
    }
    this.buckets.set(key, bucket);
    return bucket;
  }

  /** Takes tokens. Returns whether there were enough; otherwise none is taken. */
  take(now: number, key: K, count = 1): boolean {
    const bucket = this.use(now, key);
    if (bucket.tokens < count) return false;
    bucket.tokens -= count;
    return true;
  }

  /** Gives a token back: what it was taken for turned out to be wanted. */
  giveBack(now: number, key: K): void {
    const bucket = this.buckets.get(key);
    if (bucket === undefined) return;
    bucket.tokens = Math.min(this.rule.burst, this.filled(now, bucket) + 1);
    bucket.at = now;
  }

  /** Number of buckets that are kept. */
  get size(): number {
    return this.buckets.size;
  }
}
