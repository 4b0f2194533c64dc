/**
 * Decides from byte counters which destinations deserve a shortcut. A destination is above the
 * threshold after its rate stayed at or above `rate` for `duration`. It falls below only under
 * `rate * hysteresis`, so a flow that oscillates around the threshold does not flap. Counters may
 * vanish (the set's timeout) and start again at zero; neither gives a negative rate.
 */
import type { Prefix } from "../../net/address.js";

export interface TriggerParameters {
  /** Threshold in bits per second. */
  readonly rate: number;
  /** Milliseconds at or above `rate` before a destination is above the threshold. */
  readonly duration: number;
  /** Fraction of `rate` below which a destination above the threshold falls below it: 0 < x < 1. */
  readonly hysteresis: number;
  /** Number of destinations remembered; beyond it those with the lowest rate are forgotten. */
  readonly capacity: number;
}

export interface DestinationRate {
  readonly destination: Prefix;
  /** Bits per second over the last interval between two readings. */
  readonly bitsPerSecond: number;
  readonly aboveThreshold: boolean;
  /** The time since when the rate is at or above the threshold; undefined below it. */
  readonly aboveSince: number | undefined;
}

interface Entry {
  bytes: number;
  rate: number;
  aboveSince: number | undefined;
  above: boolean;
}

export class Trigger {
  private readonly entries = new Map<Prefix, Entry>();
  private lastRead: number | undefined;
  /**
   * Whether something was forgotten at the last reading: then a counter that is unknown now is not
   * new.
   */
  private full = false;

  constructor(private readonly parameters: TriggerParameters) {}

  /**
   * Takes a reading of all counters at `now` (milliseconds). Returns the destinations that passed
   * the threshold with this reading.
   */
  read(now: number, samples: Iterable<{ readonly destination: Prefix; readonly bytes: number }>): Prefix[] {
    const interval = this.lastRead === undefined ? undefined : now - this.lastRead;
    if (interval !== undefined && interval <= 0) return [];
    this.lastRead = now;
    const seen = new Set<Prefix>();
    const heated: Prefix[] = [];
    for (const s of samples) {
      seen.add(s.destination);
      const e = this.entries.get(s.destination);
      if (e === undefined) {
        // bytes before the first reading have no known duration, unless the counter is newer than
        // the last reading
        const rate = interval === undefined || this.full ? 0 : (s.bytes * 8000) / interval;
        this.entries.set(s.destination, { bytes: s.bytes, rate, aboveSince: undefined, above: false });
        this.advance(now, s.destination, interval ?? 0, heated);
        continue;
      }
      const delta = s.bytes >= e.bytes ? s.bytes - e.bytes : s.bytes;
      e.bytes = s.bytes;
      e.rate = interval === undefined ? 0 : (delta * 8000) / interval;
      this.advance(now, s.destination, interval ?? 0, heated);
    }
    for (const d of this.entries.keys()) if (!seen.has(d)) this.entries.delete(d);
    this.shrink();
    return heated;
  }

  private advance(now: number, destination: Prefix, interval: number, heated: Prefix[]): void {
    const e = this.entries.get(destination);
    if (e === undefined) return;
    if (e.rate >= this.parameters.rate) {
      e.aboveSince ??= now - interval;
      if (!e.above && now - e.aboveSince >= this.parameters.duration) {
        e.above = true;
        heated.push(destination);
      }
      return;
    }
    if (!e.above || e.rate < this.parameters.rate * this.parameters.hysteresis) {
      e.aboveSince = undefined;
      e.above = false;
    }
  }

  private shrink(): void {
    const over = this.entries.size - this.parameters.capacity;
    this.full = over > 0;
    if (over <= 0) return;
    const coldest = [...this.entries].sort(
      ([, a], [, b]) => Number(a.above) - Number(b.above) || a.rate - b.rate,
    );
    for (const [d] of coldest.slice(0, over)) this.entries.delete(d);
  }

  aboveThreshold(destination: Prefix): boolean {
    return this.entries.get(destination)?.above ?? false;
  }

  *rates(): IterableIterator<DestinationRate> {
    for (const [destination, e] of this.entries)
      yield { destination, bitsPerSecond: e.rate, aboveThreshold: e.above, aboveSince: e.aboveSince };
  }
}
