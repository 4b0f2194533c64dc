/** Shows when the rate of a destination crosses the thresholds. */
import { describe, expect, it } from "vitest";
import { type Prefix, prefix } from "../../../../plugin/net/address.js";
import { Trigger, type TriggerParameters } from "../../../../plugin/shortcut/spoke/trigger.js";

const P = prefix("10.1.0.0/24");
const parameters: TriggerParameters = { rate: 8_000, duration: 3_000, hysteresis: 0.5, capacity: 3 };

/**
 * Feeds one reading a second; each number is bytes per second for P. Returns whether P is above the
 * threshold after each reading.
 */
function feed(rates: readonly number[], given: Partial<TriggerParameters> = {}): boolean[] {
  const t = new Trigger({ ...parameters, ...given });
  let bytes = 0;
  t.read(0, [{ destination: P, bytes }]);
  return rates.map((r, i) => {
    bytes += r;
    t.read((i + 1) * 1000, [{ destination: P, bytes }]);
    return t.aboveThreshold(P);
  });
}

const only = (t: Trigger, p: Prefix = P) => [...t.rates()].find((r) => r.destination === p);

describe("the trigger", () => {
  it("is above the threshold once the rate was at the threshold for the duration, not before", () => {
    expect(feed([1000, 1000, 1000, 1000])).toEqual([false, false, true, true]);
    expect(feed([999, 999, 999, 999, 999])).toEqual([false, false, false, false, false]);
    expect(feed([1000, 1000, 999, 1000, 1000, 1000])).toEqual([false, false, false, false, false, true]);
  });

  it("passes the threshold at once when no duration is asked for", () => {
    expect(feed([1000], { duration: 0 })).toEqual([true]);
  });

  it("falls below only under the hysteresis", () => {
    expect(feed([1000, 1000, 1000, 600, 500, 501, 499, 1000])).toEqual([
      false,
      false,
      true,
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it("reports once which destinations passed the threshold", () => {
    const t = new Trigger({ ...parameters, duration: 1000 });
    t.read(0, [{ destination: P, bytes: 0 }]);
    expect(t.read(1000, [{ destination: P, bytes: 5000 }])).toEqual([P]);
    expect(t.read(2000, [{ destination: P, bytes: 10_000 }])).toEqual([]);
  });

  it("measures bits per second over the real interval", () => {
    const t = new Trigger(parameters);
    t.read(1_000, [{ destination: P, bytes: 500 }]);
    // bytes of before the first reading have no known duration
    expect(only(t)?.bitsPerSecond).toBe(0);
    t.read(3_500, [{ destination: P, bytes: 3_000 }]);
    expect(only(t)?.bitsPerSecond).toBe(8_000);
    expect(only(t)?.aboveSince).toBe(1_000);
    t.read(4_500, [{ destination: P, bytes: 3_000 }]);
    expect(only(t)).toMatchObject({ bitsPerSecond: 0, aboveSince: undefined });
  });

  it("ignores a second reading at the same instant", () => {
    const t = new Trigger(parameters);
    t.read(0, [{ destination: P, bytes: 0 }]);
    t.read(1000, [{ destination: P, bytes: 2000 }]);
    expect(t.read(1000, [{ destination: P, bytes: 9000 }])).toEqual([]);
    expect(only(t)?.bitsPerSecond).toBe(16_000);
  });

  it("takes a counter that is new since the last reading for what it counted since", () => {
    const t = new Trigger(parameters);
    t.read(0, []);
    t.read(1000, [{ destination: P, bytes: 1000 }]);
    expect(only(t)?.bitsPerSecond).toBe(8_000);
  });

  it("has no negative rate when a counter vanished and starts again", () => {
    const t = new Trigger(parameters);
    t.read(0, [{ destination: P, bytes: 1_000_000 }]);
    t.read(1000, [{ destination: P, bytes: 1_001_000 }]);
    t.read(2000, [{ destination: P, bytes: 500 }]); // restarted between two readings
    expect(only(t)?.bitsPerSecond).toBe(4_000);
    t.read(3000, []);
    expect(only(t)).toBeUndefined();
    expect(t.aboveThreshold(P)).toBe(false);
    t.read(4000, [{ destination: P, bytes: 1_500 }]);
    expect(only(t)?.bitsPerSecond).toBe(12_000);
  });

  it("remembers no more than its capacity, and forgets the lowest rate first", () => {
    const t = new Trigger(parameters);
    const sample = (i: number, bytes: number) => ({ destination: prefix(`10.0.${i}.0/24`), bytes });
    t.read(0, []);
    t.read(1000, [sample(1, 10), sample(2, 5000), sample(3, 20), sample(4, 4000), sample(5, 30)]);
    expect([...t.rates()].map((r) => r.destination).sort()).toEqual([
      "10.0.2.0/24",
      "10.0.4.0/24",
      "10.0.5.0/24",
    ]);
  });

  it("stays within its capacity when everything is above the threshold, and keeps the highest rates", () => {
    const t = new Trigger({ ...parameters, duration: 0 });
    const samples = (n: number) =>
      Array.from({ length: 10 }, (_, i) => ({
        destination: prefix(`10.0.${i}.0/24`),
        bytes: n * (i + 1) * 10_000,
      }));
    for (let n = 0; n < 5; n++) t.read(n * 1000, samples(n));
    expect([...t.rates()]).toHaveLength(3);
    expect(t.aboveThreshold(prefix("10.0.9.0/24"))).toBe(true);
  });

  it("does not take a forgotten counter for a new one", () => {
    const t = new Trigger(parameters);
    // ten old counters, all slow: seven of them do not fit, and must not return with all their
    // bytes as those of one second
    for (let n = 0; n < 6; n++) {
      t.read(
        n * 1000,
        Array.from({ length: 10 }, (_, i) => ({
          destination: prefix(`10.0.${i}.0/24`),
          bytes: 1_000_000 + n * (i + 1),
        })),
      );
      for (const r of t.rates()) expect(r.bitsPerSecond).toBeLessThanOrEqual(80);
    }
  });
});
