/**
 * How an attempt at a shortcut ends, and how long the pause after it is. A failure doubles the pause; an end that is merely busy is asked
 * again less and less often, but never given up; what ends in good order costs nothing.
 */

import type { Parameters } from "../parameters.js";
import type { FlapDamping } from "./flap-damping.js";

export interface TeardownRule {
  /** A failure lengthens the pause before the next try. */
  readonly failure: boolean;
  /** Whether the other end shall hear of it. */
  readonly tell: boolean;
  /** Until the pause is over the other end is held back too, unless it restarts. */
  readonly hold?: boolean;
  /** The pause is as long as a NAT remembers what was not answered. */
  readonly forgotten?: boolean;
  /** There is no way as things are: the longest pause at once. */
  readonly hopeless?: boolean;
  /** An offer does blocked to a neighbour of the daemon. */
  readonly blocked?: boolean;
  /** The direct path itself failed: what a path that flaps is told from. */
  readonly path?: boolean;
}

export const PLANNED: TeardownRule = { failure: false, tell: true };
export const FAILED: TeardownRule = { failure: true, tell: true };
/** The direct path itself failed. */
export const PATH_FAILED: TeardownRule = { failure: true, tell: true, hold: true, path: true };
/** No pair of candidates answers. */
export const UNREACHABLE: TeardownRule = { failure: true, tell: true, hold: true, forgotten: true };
export const HOPELESS: TeardownRule = { ...UNREACHABLE, hopeless: true };
/** The direct path works and is not wanted: too slow. */
export const UNWANTED: TeardownRule = { failure: true, tell: true, hold: true };
/** A neighbour of the daemon would lose the route, or see the offer. */
export const OFFER_BLOCKED: TeardownRule = {
  failure: true,
  tell: true,
  hold: true,
  hopeless: true,
  blocked: true,
};
/** The other end fell silent. */
export const SILENT: TeardownRule = { failure: true, tell: false };
/** The other end went first. */
export const PEER_INITIATED: TeardownRule = { failure: false, tell: false };
/** The other end went first, since the path failed. */
export const PEER_INITIATED_FAILURE: TeardownRule = { failure: false, tell: false, path: true };

/** What went wrong in a row. */
export interface FailureHistory {
  failures: number;
  /** Times that the other end said "busy". */
  deferrals: number;
  /** Times that news of an endpoint has brought the next try forward. */
  broughtForward: number;
  /** Of failures of a path that traffic went by. */
  readonly damping: FlapDamping;
}

/** An end that is busy is asked again at least once in backoff x 2^(DEFERRALS - 1). */
const DEFERRALS = 4;

/** Whether there is something that a path which holds makes good. */
export const hasFailures = (s: FailureHistory): boolean => s.failures + s.broughtForward > 0;

export function clear(s: FailureHistory): void {
  s.failures = 0;
  s.broughtForward = 0;
}

/** The last try failed at an endpoint that was no longer there: that is none of its faults, once. */
export function discountOne(s: FailureHistory): void {
  if (s.broughtForward === 0 && s.failures > 0) s.failures--;
  s.broughtForward++;
}

/**
 * Milliseconds until the next try, once an end is found to be reachable elsewhere: at first soon, since the last try knew no better; an endpoint that
 * goes on changing brings it forward less and less.
 */
export function pauseAfterNews(
  failures: Pick<FailureHistory, "broughtForward">,
  p: Parameters,
  random: number,
): number {
  return Math.min(p.backoffMax, p.backoff * 2 ** Math.min(failures.broughtForward, 32)) * random;
}

/** Milliseconds until the next try: doubled with every setback, up to the maximum, and spread by a quarter both ways (`random` is in [0, 1)). */
export function pauseAfter(
  failures: Pick<FailureHistory, "failures" | "deferrals">,
  p: Parameters,
  random: number,
): number {
  const tries = Math.max(failures.failures, Math.min(failures.deferrals, DEFERRALS));
  const pause = Math.min(p.backoffMax, p.backoff * 2 ** Math.max(0, tries - 1));
  return pause * (0.75 + random * 0.5);
}
