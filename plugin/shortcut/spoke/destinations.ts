/**
 * The destinations that this router sends to: which are above the threshold, their owners, and why
 * a destination has no shortcut. Resolutions are bounded in number and remembered, refusals
 * included. Everything is derived again from the trigger at the next reading, so no queue is
 * needed.
 */

import { type Address, overlaps, type Prefix } from "../../net/address.js";
import type { Reason } from "../reasons.js";
import type { Owned, Resolutions } from "./resolutions.js";
import { type DestinationRate, Trigger, type TriggerParameters } from "./trigger.js";

/** The known facts of a destination without a shortcut. */
interface Unresolved {
  readonly reason: Reason;
  readonly retryAt: number;
  readonly failures: number;
}

/** The reason why no shortcut is begun, and the milliseconds until the next try. */
export interface NotNow {
  readonly reason: Reason;
  readonly pause: number;
}

export interface DestinationsHost {
  readonly resolutions: Pick<Resolutions, "ownerOf" | "ofDestination">;
  /** The longest pause after a failed resolution, in milliseconds. */
  readonly backoffMax: number;
  /** Returns whether a shortcut has the destination already. */
  taken(destination: Prefix): boolean;
  /**
   * Begins a shortcut: the owner of a destination above the threshold was found `ago` milliseconds
   * after the question.
   */
  begin(now: number, owned: Owned, rate: DestinationRate, ago: number): NotNow | undefined;
}

export interface DestinationStatus {
  readonly rate: DestinationRate;
  readonly owner: Address | undefined;
  readonly reason: Reason | undefined;
}

const IN_FLIGHT = 32;
const PAUSE = 5_000;

export class Destinations {
  private readonly trigger: Trigger;
  private readonly resolving = new Set<Prefix>();
  private readonly unresolved = new Map<Prefix, Unresolved>();

  constructor(
    private readonly host: DestinationsHost,
    private readonly parameters: TriggerParameters,
  ) {
    this.trigger = new Trigger(parameters);
  }

  /** Takes a reading of all counters. */
  read(now: number, samples: Parameters<Trigger["read"]>[1]): void {
    this.trigger.read(now, samples);
    for (const d of this.unresolved.keys()) if (!this.trigger.aboveThreshold(d)) this.unresolved.delete(d);
  }

  rates(): Iterable<DestinationRate> {
    return this.trigger.rates();
  }

  /** Bits per second below which traffic no longer wants a shortcut. */
  get lowRate(): number {
    return this.parameters.rate * this.parameters.hysteresis;
  }

  /** Returns whether traffic to one of these prefixes is above the threshold. */
  aboveThreshold(prefixes: readonly Prefix[]): boolean {
    for (const r of this.trigger.rates())
      if (r.aboveThreshold && prefixes.some((p) => overlaps(p, r.destination))) return true;
    return false;
  }

  /** Gives every destination above the threshold a shortcut, or a reason. */
  pursue(now: number): void {
    const above = [...this.trigger.rates()].filter((r) => r.aboveThreshold);
    for (const r of above.sort((x, y) => y.bitsPerSecond - x.bitsPerSecond)) {
      const known = this.host.resolutions.ownerOf(now, r.destination);
      if (known !== undefined) this.begin(now, known, r, 0);
      else this.lookUp(now, r);
    }
  }

  private lookUp(now: number, r: DestinationRate): void {
    const { host, resolving, unresolved } = this;
    const { destination } = r;
    if (resolving.has(destination) || resolving.size >= IN_FLIGHT) return;
    const before = unresolved.get(destination);
    if (before !== undefined && before.retryAt > now) return;
    if (host.taken(destination)) return;
    resolving.add(destination);
    host.resolutions.ofDestination(now, destination, (t, result) => {
      resolving.delete(destination);
      if (!result.ok) {
        const failures = (before?.failures ?? 0) + 1;
        const pause = Math.min(host.backoffMax, PAUSE * 2 ** Math.min(failures - 1, 6));
        unresolved.set(destination, { reason: result.reason, retryAt: t + pause, failures });
        return;
      }
      unresolved.delete(destination);
      this.begin(t, result, r, t - now);
    });
  }

  private begin(now: number, owned: Owned, r: DestinationRate, ago: number): void {
    const not = this.host.begin(now, owned, r, ago);
    if (not !== undefined)
      this.unresolved.set(r.destination, { reason: not.reason, retryAt: now + not.pause, failures: 1 });
  }

  /**
   * Returns the rows for `status`; `obstacle` is what keeps every destination from a shortcut, if
   * anything.
   */
  status(now: number, obstacle: Reason | undefined): DestinationStatus[] {
    return [...this.trigger.rates()].map((rate) => {
      const owner = this.host.resolutions.ownerOf(now, rate.destination)?.owner;
      return { rate, owner, reason: this.reasonFor(now, rate, obstacle) };
    });
  }

  private reasonFor(now: number, r: DestinationRate, obstacle: Reason | undefined): Reason | undefined {
    const { rate: threshold, duration } = this.parameters;
    const rate = r.bitsPerSecond;
    if (!r.aboveThreshold)
      return r.aboveSince === undefined
        ? { kind: "below-threshold", rate, threshold }
        : { kind: "not-long-enough", since: now - r.aboveSince, duration, rate, threshold };
    if (obstacle !== undefined) return obstacle;
    return (
      this.unresolved.get(r.destination)?.reason ??
      (this.resolving.has(r.destination) ? { kind: "resolving" } : undefined)
    );
  }
}
