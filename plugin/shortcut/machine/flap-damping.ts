/**
 * Flap damping in RFC 2439's terms. Every failure of a path that carried traffic costs a penalty,
 * which decays by half in a half-life. Above the cutoff the path is suppressed until the penalty
 * has decayed below the reuse threshold. A route can flap while it is suppressed, but a suppressed
 * path cannot fail: every suppression would last equally long. Therefore each suppression doubles
 * the cost of the failures after it, until the history is forgotten (§4.3: below half of the
 * reuse threshold). The penalty has a ceiling, from which it takes the longest suppression to decay
 * (§4.2).
 */
import type { DampingParameters } from "../parameters.js";

/** Penalty of one failure: RFC 2439's example and the default of routers. */
export const PENALTY = 1_000;

export class FlapDamping {
  private figure = 0;
  private at = 0;
  private suppressed = false;
  private suppressions = 0;

  constructor(private readonly p: DampingParameters) {}

  get ceiling(): number {
    return this.p.reuse * 2 ** (this.p.longest / this.p.halfLife);
  }

  penalty(now: number): number {
    return this.figure * 2 ** (-Math.max(0, now - this.at) / this.p.halfLife);
  }

  /** Notes that a path that carried traffic has failed. */
  fail(now: number): void {
    if (this.forgotten(now)) this.suppressions = 0;
    const cost = PENALTY * 2 ** Math.min(this.suppressions, 32);
    this.figure = Math.min(this.ceiling, this.penalty(now) + cost);
    this.at = now;
    if (this.suppressed || this.figure < this.p.suppress) return;
    this.suppressed = true;
    this.suppressions++;
  }

  /** Returns the milliseconds until the path may be used again; 0 when it may. */
  suppressedFor(now: number): number {
    if (!this.suppressed) return 0;
    const left = this.p.halfLife * Math.log2(this.penalty(now) / this.p.reuse);
    if (left > 0) return left;
    this.suppressed = false;
    return 0;
  }

  /** Returns whether nothing needs to be remembered. */
  forgotten(now: number): boolean {
    return this.suppressedFor(now) === 0 && this.penalty(now) < this.p.reuse / 2;
  }
}
