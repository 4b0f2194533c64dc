/**
 * The shortcuts of a spoke, one per owner, and the data that outlives them: failures, which are
 * cleared with time, and the measured round trips. The number of active shortcuts is limited. A
 * destination with a clearly higher rate evicts the least used shortcut. Deadlines are computed
 * again only for shortcuts that received an event, since probes for one shortcut are a thousand
 * times as frequent as events for all.
 */
import { type Address, overlaps, type Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { PrefixMap } from "../../net/lpm.js";
import { Deadlines } from "../deadlines.js";
import type { Collaborators } from "../machine/collaborators.js";
import { FlapDamping } from "../machine/flap-damping.js";
import { Shortcut } from "../machine/shortcut.js";
import { type FailureHistory, hasFailures } from "../machine/teardown-reasons.js";
import { RoundTripClass } from "../offer/offer-classes.js";
import type { DestinationRate } from "./trigger.js";

/** Bits per second below which a destination does not count for the rate class of its owner. */
const LEAST_RATE = 10_000;
/**
 * A shortcut younger than this is not evicted, nor by a destination with less than the factor below
 * times its rate: otherwise the two would alternate.
 */
const EVICTION_AGE = 10_000;
const EVICTION_RATIO = 2;

/** Number of owners whose failures are remembered: the oldest are dropped first. */
const MOST_FAILURES = 1_024;
/** Number of shortcuts, those in a pause included: beyond it the one that is in a pause for longest goes. */
const MOST_KEPT = 1_024;
/** Number of routers that have asked, and of which the hub is being asked whether they are registered. */
const MOST_ASKING = 32;
/** Milliseconds between two looks for what may be forgotten. */
const FORGET_EVERY = 60_000;

export class ShortcutTable {
  private readonly byOwner = new Map<Address, Shortcut>();
  private readonly deadlines = new Deadlines<Address>();
  /** Shortcuts whose deadlines may have changed since they were computed. */
  private touched: Set<Address> | "all" = "all";
  /** The failures of removed shortcuts: cleared with time. */
  private readonly failures = new Map<Address, { readonly history: FailureHistory; readonly at: number }>();
  /** The round trips of every owner to which a direct path was measured. */
  private readonly roundTrips = new Map<Address, RoundTripClass>();
  private forgetAt = 0;

  constructor(
    private readonly spoke: Omit<Collaborators, "offeredFor">,
    private readonly most: number,
  ) {}

  get(owner: Address): Shortcut | undefined {
    return this.byOwner.get(owner);
  }

  /** Returns a copy of the present shortcuts: an action on one may end another. */
  all(): Shortcut[] {
    return [...this.byOwner.values()];
  }

  find(which: (m: Shortcut) => boolean): Shortcut | undefined {
    for (const m of this.byOwner.values()) if (which(m)) return m;
    return undefined;
  }

  /** Returns the shortcut with the holder of this key. */
  ofKey(key: PublicKey): Shortcut | undefined {
    return this.find((m) => m.publicKey === key);
  }

  /** Returns whether a shortcut that is not resting has a prefix that overlaps the destination. */
  take(destination: Prefix): boolean {
    const its = (m: Shortcut) => !m.resting && m.prefixes.some((p) => overlaps(p, destination));
    return this.find(its) !== undefined;
  }

  /** Whether nothing of any shortcut is left in kernel or daemon. */
  get resting(): boolean {
    return this.find((m) => !m.resting) === undefined;
  }

  /** Returns the owner whose shortcut offers a prefix, or is still withdrawing its offer. */
  offeredFor(prefix: Prefix): Address | undefined {
    return this.find((m) => m.offersPrefix(prefix))?.owner;
  }

  /** Whether another router may ask for a shortcut: anybody in the overlay may, until the hub has said who is registered. */
  get mayBeAsked(): boolean {
    let asking = 0;
    for (const m of this.byOwner.values()) if (m.stage === "resolving") asking++;
    return asking < MOST_ASKING;
  }

  get hasRoom(): boolean {
    let active = 0;
    for (const m of this.byOwner.values()) if (!m.resting) active++;
    return active < this.most;
  }

  /**
   * Evicts the least used shortcut for a destination with a clearly higher rate. The new
   * destination is tried again when the eviction is complete.
   */
  evict(now: number, r: DestinationRate): void {
    let least: { readonly shortcut: Shortcut; readonly rate: number } | undefined;
    for (const shortcut of this.byOwner.values()) {
      // an eviction is already in progress
      if (shortcut.stage === "returning" || shortcut.stage === "draining") return;
      if (shortcut.stage !== "direct" || now - shortcut.since < EVICTION_AGE) continue;
      const rate = shortcut.status(now).bitsPerSecond ?? 0;
      if (least === undefined || rate < least.rate) least = { shortcut, rate };
    }
    if (least === undefined || least.rate * EVICTION_RATIO > r.bitsPerSecond) return;
    least.shortcut.stop(now, { kind: "evicted", destination: r.destination, most: this.most });
  }

  create(now: number, owner: Address, origin: "local" | "remote"): Shortcut {
    if (this.byOwner.size >= Math.max(MOST_KEPT, 2 * this.most)) this.dropPausing(now);
    const { backoffMax, damping: rules } = this.spoke.engine.parameters;
    const f = this.failures.get(owner);
    const fresh = f === undefined || now - f.at >= backoffMax;
    const damping = f?.history.damping ?? new FlapDamping(rules);
    const history = fresh ? { failures: 0, deferrals: 0, broughtForward: 0, damping } : f.history;
    const roundTrip = this.roundTrips.get(owner) ?? new RoundTripClass();
    this.roundTrips.set(owner, roundTrip);
    const shortcut = new Shortcut(
      { ...this.spoke, offeredFor: (p) => this.offeredFor(p) },
      owner,
      origin,
      now,
      history,
      roundTrip,
    );
    this.byOwner.set(owner, shortcut);
    return shortcut;
  }

  private dropPausing(now: number): void {
    const oldest = this.find((m) => m.stage === "backoff");
    oldest?.stop(now, { kind: "maximum-reached", most: this.most });
    this.removeFinished(now);
  }

  /** Forgets the failures and measurements of former shortcuts, when time has made them irrelevant. */
  private forget(now: number): void {
    if (now < this.forgetAt) return;
    this.forgetAt = now + FORGET_EVERY;
    const { backoffMax } = this.spoke.engine.parameters;
    for (const [owner, { history, at }] of this.failures)
      if (now - at >= backoffMax && history.damping.forgotten(now)) this.failures.delete(owner);
    for (const [owner, measured] of this.roundTrips)
      if (!this.byOwner.has(owner) && measured.at(now) === "unknown") this.roundTrips.delete(owner);
  }

  /** Number of former owners of which something is remembered. */
  get remembered(): number {
    return new Set([...this.failures.keys(), ...this.roundTrips.keys()]).size;
  }

  /** Removes finished shortcuts, after anything that may have changed any of them. */
  removeFinished(now: number): void {
    this.touched = "all";
    for (const [owner, m] of this.byOwner) {
      if (!m.finished) continue;
      this.byOwner.delete(owner);
      this.spoke.engine.bootIds.release(owner);
      this.deadlines.set(owner, undefined);
      const { deferrals, damping } = m.failures;
      this.failures.delete(owner);
      if (deferrals > 0 || hasFailures(m.failures) || !damping.forgotten(now))
        this.failures.set(owner, { history: m.failures, at: now });
      const [oldest] = this.failures.keys();
      if (oldest !== undefined && this.failures.size > MOST_FAILURES) this.failures.delete(oldest);
      if (this.roundTrips.get(owner)?.at(now) === "unknown") this.roundTrips.delete(owner);
    }
  }

  /** Marks the deadlines of one shortcut as changed. */
  touch(owner: Address): void {
    if (this.touched !== "all") this.touched.add(owner);
  }

  /** Tells every shortcut the rate that this router sends to its owner via the overlay. */
  tellRates(now: number, rates: Iterable<DestinationRate>): void {
    if (this.byOwner.size === 0) return;
    const busy = [...rates].filter((r) => r.bitsPerSecond >= LEAST_RATE);
    const byOwner = new Map<Address, number>();
    if (busy.length > 0) {
      const byPrefix = new PrefixMap<Address>();
      for (const m of this.byOwner.values()) for (const p of m.prefixes) byPrefix.set(p, m.owner);
      for (const { destination, bitsPerSecond } of busy) {
        const owner = byPrefix.longestMatch(destination)?.value;
        if (owner !== undefined) byOwner.set(owner, (byOwner.get(owner) ?? 0) + bitsPerSecond);
      }
    }
    for (const m of this.byOwner.values()) m.trafficRead(now, byOwner.get(m.owner) ?? 0);
  }

  // ------------------------------------------------------------------------------------------ time

  /** Updates the deadlines. Returns whether any shortcut may have changed. */
  recomputeDeadlines(): boolean {
    const { touched } = this;
    this.touched = new Set();
    for (const owner of touched === "all" ? this.byOwner.keys() : touched)
      this.deadlines.set(owner, this.byOwner.get(owner)?.pollTimeout());
    return touched === "all";
  }

  /** Returns the first of all deadlines, as of the last {@link recomputeDeadlines}. */
  pollTimeout(): number | undefined {
    return this.deadlines.first();
  }

  handleTimeout(now: number): void {
    this.forget(now);
    for (const owner of this.deadlines.due(now)) this.byOwner.get(owner)?.handleTimeout(now);
  }
}
