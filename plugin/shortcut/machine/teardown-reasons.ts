/**
 * The rules for the end of an attempt, and for the pause after it. A failure doubles the pause. A
 * busy end is asked again less and less often, but never given up. An orderly end has no cost.
 */

import type { Parameters } from "../parameters.js";
import type { FlapDamping } from "./flap-damping.js";

export interface TeardownRule {
  /** Whether it is a failure: a failure lengthens the pause before the next attempt. */
  readonly failure: boolean;
  /** Whether the other end is told. */
  readonly tell: boolean;
  /** Whether the other end is held back too until the pause is over, unless it restarts. */
  readonly hold?: boolean;
  /** Whether the pause is as long as a NAT remembers an unanswered packet. */
  readonly forgotten?: boolean;
  /** Whether no path is possible at present: the longest pause at once. */
  readonly hopeless?: boolean;
  /** Whether an offer is blocked: a neighbour of the daemon would see it, or lose the route. */
  readonly blocked?: boolean;
  /** Whether the direct path itself failed: flap damping counts these. */
  readonly path?: boolean;
}

export const PLANNED: TeardownRule = { failure: false, tell: true };
export const FAILED: TeardownRule = { failure: true, tell: true };
/** The direct path itself failed. */
export const PATH_FAILED: TeardownRule = { failure: true, tell: true, hold: true, path: true };
/** No pair of candidates answers. */
export const UNREACHABLE: TeardownRule = { failure: true, tell: true, hold: true, forgotten: true };
export const HOPELESS: TeardownRule = { ...UNREACHABLE, hopeless: true };
/** The direct path is not wanted: it is too slow, or it runs inside the overlay. */
export const UNWANTED: TeardownRule = { failure: true, tell: true, hold: true };
/** A firewall drops what the direct interface forwards: rules are not corrected in seconds. */
export const FIREWALLED: TeardownRule = { failure: true, tell: true, hold: true, forgotten: true };
/** A neighbour of the daemon would lose the route, or see the offer. */
export const OFFER_BLOCKED: TeardownRule = {
  failure: true,
  tell: true,
  hold: true,
  hopeless: true,
  blocked: true,
};
/** The other end does not answer any more. */
export const SILENT: TeardownRule = { failure: true, tell: false };
/** The other end fell back first. */
export const PEER_INITIATED: TeardownRule = { failure: false, tell: false };
/** The other end fell back first, since the path failed. */
export const PEER_INITIATED_FAILURE: TeardownRule = { failure: false, tell: false, path: true };

/** The history of consecutive failures. */
export interface FailureHistory {
  failures: number;
  /** Number of times that the other end said "busy". */
  deferrals: number;
  /** Number of times that a changed endpoint has brought the next attempt forward. */
  broughtForward: number;
  /** The damping of failures of a path that carried traffic. */
  readonly damping: FlapDamping;
}

/** A busy end is asked again at least once in backoff x 2^(DEFERRALS - 1). */
const DEFERRALS = 4;

/** Returns whether a path that works would clear anything. */
export const hasFailures = (s: FailureHistory): boolean => s.failures + s.broughtForward > 0;

export function clear(s: FailureHistory): void {
  s.failures = 0;
  s.broughtForward = 0;
}

/** Discounts one failure, once: the last attempt failed at an endpoint that no longer existed. */
export function discountOne(s: FailureHistory): void {
  if (s.broughtForward === 0 && s.failures > 0) s.failures--;
  s.broughtForward++;
}

/**
 * Returns the milliseconds until the next attempt, once an end is found at another endpoint. The
 * first time the pause is short, since the last attempt did not know that endpoint. An endpoint
 * that changes repeatedly brings the attempt forward less and less.
 */
export function pauseAfterNews(
  failures: Pick<FailureHistory, "broughtForward">,
  p: Parameters,
  random: number,
): number {
  return Math.min(p.backoffMax, p.backoff * 2 ** Math.min(failures.broughtForward, 32)) * random;
}

/**
 * Returns the milliseconds until the next attempt: doubled with every failure, up to the maximum,
 * and spread by a quarter both ways (`random` is in [0, 1)).
 */
export function pauseAfter(
  failures: Pick<FailureHistory, "failures" | "deferrals">,
  p: Parameters,
  random: number,
): number {
  const tries = Math.max(failures.failures, Math.min(failures.deferrals, DEFERRALS));
  const pause = Math.min(p.backoffMax, p.backoff * 2 ** Math.max(0, tries - 1));
  return pause * (0.75 + random * 0.5);
}
