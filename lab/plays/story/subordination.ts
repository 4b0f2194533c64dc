/**
 * The first invariant, checked on every sample: no peer but the rendezvous peers is on a direct
 * interface unless the router's own daemon has selected an offer, or had until a bounded drain ago.
 * Pure: samples and kernel events in, violations out.
 */
import type { PublicKey } from "../../../plugin/net/key.js";
import { defaultParameters } from "../../../plugin/shortcut/parameters.js";
import type { PeerSample } from "../../site/peers.js";
import type { Interval } from "../../site/routes.js";
import type { RouterName } from "../../site/triangle.js";

/**
 * How long a peer may outlive the selection, milliseconds: the other end's flip-back (at most its
 * override's wait, and FRR's rewriting), then the drain; a second for the kernel, wireguard-go and
 * this observer.
 */
export const DRAIN_BOUND = defaultParameters.overrideAfter * 2 + defaultParameters.drain + 1_000;

/**
 * `ip monitor` stamps a change when it reads it, which on a busy machine is some milliseconds after
 * it happened.
 */
export const STAMP_LAG = 20;

export interface Violation {
  readonly router: RouterName;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly key: PublicKey;
  readonly problem: string;
}

export interface Subordination {
  readonly samples: number;
  /** Samples in which a peer of a shortcut was there. */
  readonly withShortcut: number;
  readonly violations: readonly Violation[];
}

/**
 * `rendezvous`: the keys that may always be there. `selected`: empty on a hub, which never has a
 * shortcut.
 */
export function checkSubordination(
  samples: readonly PeerSample[],
  rendezvous: ReadonlySet<PublicKey>,
  selected: readonly Interval[],
): Subordination {
  const violations: Violation[] = [];
  let withShortcut = 0;
  for (const s of samples) {
    const extra = s.keys.filter((k) => !rendezvous.has(k));
    if (extra.length > 0) withShortcut++;
    // The peer was there at some moment of the reading: only if no moment of it is allowed is it a
    // violation.
    const allowed = selected.some(
      (i) => s.answered >= i.from - STAMP_LAG && (i.until === undefined || s.asked <= i.until + DRAIN_BOUND),
    );
    if (allowed) continue;
    for (const key of extra) {
      const before = selected.filter((i) => i.until !== undefined && i.until < s.asked).at(-1);
      const since = before?.until === undefined ? undefined : Math.round(s.asked - before.until);
      const problem =
        since === undefined
          ? "a peer before the daemon selected an offer"
          : `a peer ${since} ms after the daemon's selection ended`;
      violations.push({ router: s.router, at: s.answered, key, problem });
    }
  }
  return { samples: samples.length, withShortcut, violations };
}
