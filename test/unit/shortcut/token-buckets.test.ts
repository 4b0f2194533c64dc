/** Token buckets: what they let through, what they give back, and that their number is bounded. */
import { describe, expect, it } from "vitest";
import { TokenBuckets } from "../../../plugin/shortcut/token-buckets.js";

const rule = { perSecond: 2, burst: 4, most: 3 };
/** The number of tokens that are there. */
const left = (b: TokenBuckets<string>, now: number, key: string): number => {
  let n = 0;
  while (b.take(now, key)) n++;
  return n;
};

describe("a bucket", () => {
  it("is full at first, and fills with time up to its burst", () => {
    const b = new TokenBuckets<string>(rule);
    expect(left(b, 0, "a")).toBe(4);
    expect(left(b, 499, "a")).toBe(0);
    expect(left(b, 1_000, "a")).toBe(2);
    expect(left(b, 1_000_000, "a")).toBe(4);
  });

  it("gives several or none", () => {
    const b = new TokenBuckets<string>(rule);
    expect(b.take(0, "a", 5)).toBe(false);
    expect(b.take(0, "a", 3)).toBe(true);
    expect(b.take(0, "a", 2)).toBe(false);
    expect(left(b, 0, "a")).toBe(1);
  });

  it("takes back what was not needed, and holds no more than its burst", () => {
    const b = new TokenBuckets<string>(rule);
    expect(left(b, 0, "a")).toBe(4);
    b.giveBack(0, "a");
    expect(left(b, 0, "a")).toBe(1);
    for (let i = 0; i < 10; i++) b.giveBack(0, "a");
    expect(left(b, 0, "a")).toBe(4);
  });

  it("is its key's own", () => {
    const b = new TokenBuckets<string>(rule);
    left(b, 0, "a");
    expect(left(b, 0, "b")).toBe(4);
  });

  it("is forgotten when there are too many, the least recently used first", () => {
    const b = new TokenBuckets<string>(rule);
    for (let i = 0; i < 1_000; i++) {
      b.take(0, "a", 4);
      b.take(0, `other ${i}`);
    }
    expect(b.size).toBe(3);
    expect(left(b, 0, "a")).toBe(0);
  });

  it("does not go back with a clock that does", () => {
    const b = new TokenBuckets<string>(rule);
    left(b, 1_000, "a");
    expect(left(b, 0, "a")).toBe(0);
  });
});
