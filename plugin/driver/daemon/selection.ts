/**
 * Reads from the kernel whether the daemon has selected an offer; nothing is guessed. The two
 * definitions are the design's:
 *
 * - BIRD: three conditions hold. The offer is in the blackboard table: BIRD writes there what it
 *   selected. The session is Established: after a kill -9 the blackboard keeps stale routes. The
 *   main FIB has exactly this prefix via the overlay or the direct interface: an export filter of
 *   the operator may have dropped the offer, and the hub route with it.
 * - FRR: in the main FIB the alias is the only next hop of exactly this prefix. Several next hops
 *   are a tie, and half the flows would go direct.
 *
 * A daemon that replaces a route by delete and add leaves a gap of some milliseconds. An absent
 * route therefore counts only after `SETTLE`. A present route counts at once.
 */

import type { Address, Prefix } from "../../net/address.js";
import type { RouteState } from "../../shortcut/events.js";
import { no, type Reason, type Verdict } from "../../shortcut/reasons.js";
import { type FibView, RTPROT_BIRD } from "../kernel/fib-view.js";

export interface StandingOffer {
  readonly prefix: Prefix;
  readonly alias: Address;
  /** Aliases that the offer had before: the FIB shows one until the daemon has taken the new one. */
  readonly former?: readonly Address[];
}

/** Former aliases that an offer remembers. */
const MOST_FORMER = 4;

/** The result of a definition at this moment. */
export interface Decision {
  readonly selected: boolean;
  /** The reason in the daemon's terms, when the offer is not selected. */
  readonly reason: Reason | undefined;
  /** Whether the offer must be withdrawn at once: it has removed the hub route. */
  readonly harmful: boolean;
  /** Whether the result follows from an absent route: it is rechecked before it counts. */
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

/**
 * Makes the selection rule of BIRD; `blackboard` is the kernel table of its shortcut_k4 and
 * shortcut_k6.
 */
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
  const ours = gateways.filter((g) => g !== undefined && (g === offer.alias || offer.former?.includes(g)));
  if (ours.length === 0) return not({ kind: "frr-not-selected" });
  if (ours.length < gateways.length) return not({ kind: "frr-tied-fib" });
  const path = fib.pathOf(best);
  return path === "overlay" || path === "direct"
    ? selected
    : not({ kind: "frr-alias-elsewhere", devices: devices(best) });
};

const devices = (route: { readonly nextHops: readonly { readonly dev: string }[] } | undefined): string =>
  [...new Set(route?.nextHops.map((n) => n.dev) ?? [])].join(", ") || "nothing";

/** Milliseconds that an absence must last before it counts. */
export const SETTLE = 100;

interface Watched extends StandingOffer {
  told: string;
  withdrawn: boolean;
  /** The end of the wait for an absence. */
  doubtUntil: number | undefined;
}

/** Turns facts of the FIB and the session into changes of RouteState for every announced offer. */
export class SelectionWatcher {
  private readonly offers = new Map<Prefix, Watched>();
  private readonly doubtful = new Set<Watched>();
  private session: Verdict = no({ kind: "offers-not-established" });

  constructor(
    private readonly rule: SelectionRule,
    private readonly fib: FibView,
  ) {}

  stand(offer: StandingOffer): void {
    const before = this.offers.get(offer.prefix);
    this.forget(offer.prefix);
    const former =
      before === undefined || before.withdrawn
        ? []
        : [before.alias, ...(before.former ?? [])].filter((a) => a !== offer.alias).slice(0, MOST_FORMER);
    this.offers.set(offer.prefix, { ...offer, former, told: "", withdrawn: false, doubtUntil: undefined });
  }

  private forget(prefix: Prefix): void {
    const w = this.offers.get(prefix);
    if (w !== undefined) this.doubtful.delete(w);
    this.offers.delete(prefix);
  }

  /** Withdraws the offer: its path is still reported until its alias is {@link release}d. */
  withdraw(prefix: Prefix): void {
    const w = this.offers.get(prefix);
    if (w !== undefined) w.withdrawn = true;
  }

  watches(prefix: Prefix): boolean {
    return this.offers.has(prefix);
  }

  /**
   * Releases an alias and the offers with it; prefixes for which `keep` holds are still watched.
   */
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

  /** Returns the state; undefined while it is pending. */
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

  /** Returns the prefixes to recheck. */
  inDoubt(): Prefix[] {
    return [...this.doubtful].map((w) => w.prefix);
  }

  /**
   * Returns when pending prefixes are due for a recheck. It may be in the past, since only a
   * recheck ends the wait.
   */
  pollTimeout(): number | undefined {
    let at: number | undefined;
    for (const { doubtUntil } of this.doubtful)
      if (doubtUntil !== undefined && (at === undefined || doubtUntil < at)) at = doubtUntil;
    return at;
  }
}
