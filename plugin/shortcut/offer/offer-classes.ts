/**
 * The classes of an offer, for the operator's policy to match: the owner, the NAT forecast, the
 * traffic rate, and whether the direct path is slower than the hub path. The last two change with
 * time. They change in classes and slowly, since every change is an announcement and may reverse a
 * policy's decision.
 */
import type { OfferClasses, RoundTrip } from "../events.js";

export const sameClasses = (a: OfferClasses, b: OfferClasses): boolean =>
  a.owner === b.owner &&
  a.natPrognosis === b.natPrognosis &&
  a.rate === b.rate &&
  a.roundTrip === b.roundTrip;

/** Lower bounds of the rate classes, in bits per second that this router sends to the owner. */
export const RATE_CLASSES: readonly number[] = [0, 1e6, 3e6, 10e6, 30e6, 100e6, 300e6, 1e9, 3e9, 10e9];

const classOf = (bitsPerSecond: number): number =>
  Math.max(
    0,
    RATE_CLASSES.findLastIndex((least) => bitsPerSecond >= least),
  );

/**
 * Milliseconds after which a rate is in a higher class when it stays above its bound; and in a
 * lower class when it stays clearly below its own bound.
 */
const RISES_AFTER = 2_000;
const FALLS_AFTER = 10_000;
const CLEARLY_BELOW = 0.8;

/** The class of a rate that is read repeatedly. */
export class RateClass {
  private current: number | undefined;
  /** The class that the rate has not fallen below, or risen above, since then. */
  private drift: { readonly up: boolean; readonly since: number; to: number } | undefined;

  get value(): number {
    return this.current ?? 0;
  }

  read(now: number, bitsPerSecond: number): void {
    const seen = classOf(bitsPerSecond);
    const { current } = this;
    if (current === undefined) {
      this.current = seen;
      return;
    }
    const up = seen > current;
    const down = bitsPerSecond < (RATE_CLASSES[current] ?? 0) * CLEARLY_BELOW;
    if (!up && !down) {
      this.drift = undefined;
      return;
    }
    const { drift } = this;
    if (drift === undefined || drift.up !== up) {
      this.drift = { up, since: now, to: seen };
      return;
    }
    drift.to = up ? Math.min(drift.to, seen) : Math.max(drift.to, seen);
    if (now - drift.since < (up ? RISES_AFTER : FALLS_AFTER)) return;
    this.current = drift.to;
    this.drift = undefined;
  }
}

/** A direct path is slower when it is slower by a tenth and a millisecond for this long. */
const SLOWER = 1.1;
const SLOWER_MS = 1;
const CONVINCED = 3_000;
/** Milliseconds for which a measurement counts after the path was last measured. */
const BELIEVED = 600_000;

/**
 * The comparison of the two paths to one owner. It outlives the attempts, since without a tunnel
 * nothing can be measured.
 */
export class RoundTripClass {
  private state: RoundTrip = "unknown";
  private measured = Number.NEGATIVE_INFINITY;
  private otherwiseSince: number | undefined;

  at(now: number): RoundTrip {
    return now - this.measured < BELIEVED ? this.state : "unknown";
  }

  /** Takes the round trips of both paths, in milliseconds. */
  read(now: number, direct: number, hub: number): void {
    const before = this.at(now);
    this.measured = now;
    const slower = direct > hub * SLOWER + SLOWER_MS;
    const seen = slower ? "slower" : direct <= hub || before === "unknown" ? "not-slower" : before;
    if (seen === before) this.otherwiseSince = undefined;
    else this.otherwiseSince ??= now;
    if (this.otherwiseSince === undefined || now - this.otherwiseSince < CONVINCED) {
      this.state = before;
      return;
    }
    this.state = seen;
    this.otherwiseSince = undefined;
  }
}
