/**
 * The data that all stages of one shortcut share: the engine, the owner, the offers and the
 * forecast, which outlive an attempt, and the current attempt. It does not depend on any stage.
 */

import type { Address, Prefix } from "../../net/address.js";
import type { Id64, RequestBody } from "../../wire/control/message.js";
import type { Outcome } from "../control/link.js";
import type { Milestone } from "../events.js";
import type { RoundTripClass } from "../offer/offer-classes.js";
import { Offers } from "../offer/offers.js";
import type { NatForecast } from "../reasons.js";
import type { Resolution } from "../spoke/resolutions.js";
import { Attempt } from "./attempt.js";
import type { Collaborators, EngineHost } from "./collaborators.js";
import { PathForecast } from "./path-forecast.js";
import type { FailureHistory } from "./teardown-reasons.js";
import type { Tunnel } from "./tunnel.js";

/** Delivers later answers to the stage that the shortcut is in by then. */
export interface Later {
  resolved(now: number, r: Resolution): void;
  exchanged(now: number, outcome: Outcome): void;
  tellingAnswered(now: number, outcome: Outcome): void;
  readyAnswered(now: number, outcome: Outcome): void;
  reachabilityKnown(now: number): void;
  /** Notes an answer of the other end to a farewell: the hub path carries it. */
  ownerHeard(now: number, attempt: Attempt): void;
  /** Notes that the other end no longer knows this attempt: it has fallen back to the hub path. */
  otherFlipped(now: number, attempt: Attempt): void;
}

export class Context {
  readonly host: EngineHost;
  readonly offers: Offers;
  readonly forecast: PathForecast;
  /** The current attempt; replaced by a new one when it is over. */
  attempt: Attempt;

  constructor(
    readonly spoke: Collaborators,
    readonly owner: Address,
    origin: "local" | "remote",
    /**
     * The consecutive failures, here and in earlier shortcuts with this owner: they lengthen the
     * pause.
     */
    readonly failures: FailureHistory,
    roundTrips: RoundTripClass,
    readonly later: Later,
  ) {
    this.host = spoke.engine;
    this.attempt = new Attempt(spoke, owner, origin);
    this.offers = new Offers(spoke.engine, owner, (p) => spoke.offeredFor(p));
    this.forecast = new PathForecast(spoke.reachability, owner, roundTrips);
  }

  /** The prefixes that the hub attests for the owner, in this attempt. */
  get prefixes(): readonly Prefix[] {
    return this.attempt.attested?.prefixes ?? [];
  }

  /** Returns the test whether the other end, which accepts a generation, accepts this router's own prefixes. */
  accepted(now: number): (generation: Id64) => boolean {
    return (generation) => this.spoke.own.accepts(now, generation);
  }

  milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.owner, milestone, detail });
  }

  /**
   * Takes the bits per second to the owner on all paths, and both round trips (milliseconds) of a
   * path in use.
   */
  trafficRead(now: number, rate: number, direct: number | undefined, hub: number | undefined): void {
    this.forecast.read(now, rate, direct, hub);
    this.offers.updateClasses(this.forecast.classes(now));
  }

  /** Returns the NAT forecast of both ends. */
  nat(): NatForecast {
    return this.forecast.nat(this.attempt.remote.peer);
  }

  /** Whether both operators accept the selection of one daemon as enough. */
  get oneWay(): boolean {
    return this.host.parameters.oneWay && this.attempt.remote.oneWay;
  }

  /** Whether both daemons have selected; or one, where one is enough. */
  get agreed(): boolean {
    const { offers, oneWay } = this;
    const [here, there] = [offers.selected, this.attempt.remote.selected];
    return oneWay ? !offers.empty && (here || there) : here && there;
  }

  /** Updates what our probes tell the other end, after any relevant change. */
  announceProbes(now: number, said: { readonly down: boolean; readonly idle: boolean }): void {
    const { tunnel } = this.attempt.path;
    if (tunnel === undefined) return;
    const ownsRoutes = this.spoke.own.routes(now);
    tunnel.announce({ flipped: this.offers.onDirect, ownsRoutes, ...said });
  }

  /** Tells the other end the candidates of this end, unless it knows them. */
  announceReachability(now: number): void {
    this.attempt.remote.announceReachability(now, (t) => this.later.reachabilityKnown(t));
  }

  /**
   * Opens the own NAT before the other end may send: a packet that arrives at a closed NAT breaks
   * its mapping. Done only once the own daemon has selected.
   */
  openNat(now: number): void {
    const opened = this.attempt.path.openNat(now, this.attempt.remote, this.prefixes);
    if (opened !== undefined) this.milestone("opened", `towards ${opened}`);
  }

  /**
   * Notes that the kernel has the peer, or answered with an error. Returns the tunnel when it
   * exists and did not exist before.
   */
  peerApplied(error: string | undefined): Tunnel | undefined {
    const { tunnel, checks } = this.attempt.path;
    if (tunnel?.configured !== true) return undefined;
    const news = tunnel.markApplied();
    if (error !== undefined || !news) return undefined;
    this.milestone("peer-created", tunnel.role);
    if (checks !== undefined) checks.ready = true;
    return tunnel;
  }

  /** Notes the decision of the other end's daemon. */
  heardSelection(now: number, selected: boolean, reason: string): void {
    const { remote } = this.attempt;
    if (selected && !remote.selected) this.milestone("selected-by-owner", "");
    remote.selected = selected;
    remote.reason = reason;
    remote.wantedAt = now;
  }

  /**
   * Notes that the other end's peer exists. Returns whether this implies that its daemon has
   * selected.
   */
  heardReady(now: number): boolean {
    const { remote } = this.attempt;
    remote.ready = true;
    remote.wantedAt = now;
    return !remote.selected && this.heardImplied(now);
  }

  /**
   * Notes that an end that sends pings, or is ready, has selected, unless one selection is enough.
   * Returns whether that counts.
   */
  heardImplied(now: number): boolean {
    if (this.host.parameters.oneWay) return false;
    this.heardSelection(now, true, "");
    return true;
  }

  /** Sends a farewell of the current attempt. */
  farewell(now: number, body: RequestBody): void {
    const { attempt } = this;
    attempt.remote.farewell(now, body, (t, over) => {
      this.later.ownerHeard(t, attempt);
      if (over) this.later.otherFlipped(t, attempt);
    });
  }
}
