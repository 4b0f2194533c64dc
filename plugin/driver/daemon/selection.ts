/**
 * Has the daemon selected the offer? Read from the kernel, never guessed. The two definitions are the design's:
 *
 *   BIRD  the offer stands in the blackboard table (BIRD writes there what it selected), and the session is Established (the blackboard keeps
 *         residue after a kill -9), and the main FIB has exactly this prefix by the overlay or the direct interface (an export
 *         filter of the operator's may have dropped the offer, and the hub route with it).
 *   FRR   in the main FIB the alias is the only next hop of exactly this prefix; among several it is a tie, and half the flows would go direct.
 *
 * A daemon that replaces a route by delete and add leaves a gap of some milliseconds; what an absence says therefore counts
 * only after `SETTLE`. Everything that a present route says counts at once.
 */

import type { Address, Prefix } from "../../net/address.js";
import type { RouteState } from "../../shortcut/events.js";
import { no, type Reason, type Verdict } from "../../shortcut/reasons.js";
import { type FibView, RTPROT_BIRD } from "../kernel/fib-view.js";

export interface StandingOffer {
  readonly prefix: Prefix;
  readonly alias: Address;
}

/** What a definition says at this moment. */
export interface Decision {
  readonly selected: boolean;
  /** In the daemon's own terms, when it is not selected. */
  readonly reason: Reason | undefined;
  /** The offer does harm as long as it stands: the hub route is gone because of it. */
  readonly harmful: boolean;
  /** Follows from a route that is not there: to be looked at again before it is believed. */
  readonly fromAbsence: boolean;
}

export type SelectionRule = (fib: FibView, offer: StandingOffer) => Decision;

const selected: Decision = { selected: true, reason: undefined, harmful: false, fromAbsence: false };
const not = (reason: Reason): Decision => ({ selected: false, reason, harmful: false, fromAbsence: false });
const absent = (reason: Reason, harmful = false): Decision => ({
  selected: false,
  reason,
  harmful,
  fromAbsence: true,
});

/** The selection rule of BIRD; `blackboard` is the kernel table of its shortcut_k4 and shortcut_k6. */
export const birdRule =
  (blackboard: number): SelectionRule =>
  (fib, offer) => {
    const chosen = fib.routes(blackboard, offer.prefix).some((r) => r.protocol === RTPROT_BIRD);
    if (!chosen) return absent({ kind: "bird-not-selected" });
    const best = fib.daemonBest(offer.prefix);
    switch (fib.pathOf(best)) {
      case "overlay":
      case "direct":
        return selected;
      case "none":
        return absent({ kind: "bird-kernel-filter" }, true);
      case "other":
        return not({ kind: "bird-other-device", prefix: offer.prefix, devices: devices(best) });
    }
  };

/** The selection rule of FRR (bgpd and zebra). */
export const frrRule: SelectionRule = (fib, offer) => {
  const best = fib.daemonBest(offer.prefix);
  if (best === undefined) return absent({ kind: "frr-no-route" });
  const gateways = best.nextHops.map((n) => n.gateway);
  if (!gateways.includes(offer.alias)) return not({ kind: "frr-not-selected" });
  if (gateways.some((g) => g !== offer.alias)) return not({ kind: "frr-tied-fib" });
  const path = fib.pathOf(best);
  return path === "overlay" || path === "direct"
    ? selected
    : not({ kind: "frr-alias-elsewhere", devices: devices(best) });
};

const devices = (route: { readonly nextHops: readonly { readonly dev: string }[] } | undefined): string =>
  [...new Set(route?.nextHops.map((n) => n.dev) ?? [])].join(", ") || "nothing";

/** Milliseconds for which an absence may last before it counts. */
export const SETTLE = 100;

interface Watched extends StandingOffer {
  told: string;
  withdrawn: boolean;
  /** An absence that is waited out, and until when. */
  doubtUntil: number | undefined;
}

/** Turns facts of the FIB and the session into changes of RouteState for every standing offer. */
export class SelectionWatcher {
  private readonly offers = new Map<Prefix, Watched>();
  private readonly doubtful = new Set<Watched>();
  private session: Verdict = no({ kind: "offers-not-established" });

  constructor(
    private readonly rule: SelectionRule,
    private readonly fib: FibView,
  ) {}

  stand(offer: StandingOffer): void {
    this.forget(offer.prefix);
    this.offers.set(offer.prefix, { ...offer, told: "", withdrawn: false, doubtUntil: undefined });
  }

  private forget(prefix: Prefix): void {
    const w = this.offers.get(prefix);
    if (w !== undefined) this.doubtful.delete(w);
    this.offers.delete(prefix);
  }

  /** The offer was withdrawn: its path is still reported until its alias is {@link release}d. */
  withdraw(prefix: Prefix): void {
    const w = this.offers.get(prefix);
    if (w !== undefined) w.withdrawn = true;
  }

  watches(prefix: Prefix): boolean {
    return this.offers.has(prefix);
  }

  /** An alias is gone, and with it what was offered by it; prefixes for which `keep` holds are still looked at. */
  release(alias: Address, keep: (prefix: Prefix) => boolean): void {
    for (const w of [...this.offers.values()])
      if (w.alias === alias && w.withdrawn && !keep(w.prefix)) this.forget(w.prefix);
  }

  setSession(session: Verdict): void {
    this.session = session;
  }

  /** Looks at the given prefixes (or all) and returns the states that changed. */
  examine(now: number, prefixes: readonly Prefix[] | "all"): RouteState[] {
    const out: RouteState[] = [];
    const list =
      prefixes === "all" ? [...this.offers.values()] : prefixes.flatMap((p) => this.offers.get(p) ?? []);
    for (const w of list) {
      const state = this.stateOf(now, w);
      if (state === undefined) {
        this.doubtful.add(w);
        continue;
      }
      this.doubtful.delete(w);
      const told = JSON.stringify(state);
      if (told === w.told) continue;
      w.told = told;
      out.push(state);
    }
    return out;
  }

  /** Undefined while in doubt. */
  private stateOf(now: number, w: Watched): RouteState | undefined {
    const path = this.fib.pathOf(this.fib.best(w.prefix));
    const daemonPath = this.fib.pathOf(this.fib.daemonBest(w.prefix));
    const base = { prefix: w.prefix, path, daemonPath };
    if (w.withdrawn) return { ...base, selected: false, harmful: false, reason: { kind: "withdrawn" } };
    if (!this.session.ok) return { ...base, selected: false, harmful: false, reason: this.session.reason };
    const d = this.rule(this.fib, w);
    if (!d.fromAbsence) w.doubtUntil = undefined;
    else {
      w.doubtUntil ??= now + SETTLE;
      if (now < w.doubtUntil) return undefined;
    }
    return { ...base, selected: d.selected, harmful: d.harmful, reason: d.reason };
  }

  /** What is to be looked at again. */
  inDoubt(): Prefix[] {
    return [...this.doubtful].map((w) => w.prefix);
  }

  /** When something in doubt is due to be looked at again: also when that is past, since only a look ends it. */
  pollTimeout(): number | undefined {
    let at: number | undefined;
    for (const { doubtUntil } of this.doubtful)
      if (doubtUntil !== undefined && (at === undefined || doubtUntil < at)) at = doubtUntil;
    return at;
  }
}
