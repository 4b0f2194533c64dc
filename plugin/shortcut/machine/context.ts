/**
 * What all stages of one shortcut share: the engine behind it, the owner, the offers and the forecast,
 * which outlive an attempt, and the attempt that is under way. It knows no stage.
 */

import type { Address, Prefix } from "../../net/address.js";
import { ZERO_ID } from "../../wire/control/codec.js";
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

/** Delivers what is answered later, to the stage that the shortcut is in by then. */
export interface Later {
  resolved(now: number, r: Resolution): void;
  exchanged(now: number, outcome: Outcome): void;
  tellingAnswered(now: number, outcome: Outcome): void;
  readyAnswered(now: number, outcome: Outcome): void;
  reachabilityKnown(now: number): void;
  /** The other end does not know this attempt any longer: it has gone back to the hub path. */
  otherFlipped(now: number, attempt: Attempt): void;
}

export class Context {
  readonly host: EngineHost;
  readonly offers: Offers;
  readonly forecast: PathForecast;
  /** One try; replaced by a fresh one when it is over. */
  attempt: Attempt;

  constructor(
    readonly spoke: Collaborators,
    readonly owner: Address,
    origin: "local" | "remote",
    /** What went wrong in a row, here and in shortcuts with this owner before: it lengthens the pause. */
    readonly failures: FailureHistory,
    roundTrips: RoundTripClass,
    readonly later: Later,
  ) {
    this.host = spoke.engine;
    this.attempt = new Attempt(spoke, owner, origin);
    this.offers = new Offers(spoke.engine, owner, (p) => spoke.offeredFor(p));
    this.forecast = new PathForecast(spoke.reachability, owner, roundTrips);
  }

  /** What the hub attests for the owner, in this attempt. */
  get prefixes(): readonly Prefix[] {
    return this.attempt.attested?.prefixes ?? [];
  }

  /** The generation of this router's own prefixes that the other end must accept. */
  ownGeneration(now: number): Id64 {
    return this.spoke.own.generation(now) ?? ZERO_ID;
  }

  milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.owner, milestone, detail });
  }

  /** Bits per second to the owner, by all paths; and of a path in use, both round trips in milliseconds. */
  trafficRead(now: number, rate: number, direct: number | undefined, hub: number | undefined): void {
    this.forecast.read(now, rate, direct, hub);
    this.offers.updateClasses(this.forecast.classes(now));
  }

  /** What the NATs of both ends let expect. */
  nat(): NatForecast {
    return this.forecast.nat(this.attempt.remote.peer);
  }

  /** Both operators let one daemon's selection be enough. */
  get oneWay(): boolean {
    return this.host.parameters.oneWay && this.attempt.remote.oneWay;
  }

  /** Both daemons have selected; or one, where that is enough. */
  get agreed(): boolean {
    const { offers, oneWay } = this;
    const [here, there] = [offers.selected, this.attempt.remote.selected];
    return oneWay ? !offers.empty && (here || there) : here && there;
  }

  /** What our probes tell the other end, after anything that bears on it. */
  announceProbes(now: number, said: { readonly down: boolean; readonly idle: boolean }): void {
    const { tunnel } = this.attempt.path;
    if (tunnel === undefined) return;
    const ownsRoutes = this.spoke.own.routes(now);
    tunnel.announce({ flipped: this.offers.onDirect, ownsRoutes, ...said });
  }

  /** Tells the other end where this end is reached, unless it knows. */
  announceReachability(now: number): void {
    this.attempt.remote.announceReachability(now, (t) => this.later.reachabilityKnown(t));
  }

  /** Before the other end may send: a packet that arrives at a NAT that is not open harms it. Only once the own daemon has selected. */
  openNat(now: number): void {
    const opened = this.attempt.path.openNat(now, this.attempt.remote, this.prefixes);
    if (opened !== undefined) this.milestone("opened", `towards ${opened}`);
  }

  /** The kernel has the peer, or answered with an error. Returns the tunnel when it is there, and that is news. */
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

  /** Notes that the other end's peer exists. Returns whether it thereby says that its daemon has selected. */
  heardReady(now: number): boolean {
    const { remote } = this.attempt;
    remote.ready = true;
    remote.wantedAt = now;
    return !remote.selected && this.heardImplied(now);
  }

  /** An end that sends pings, or is ready, has selected, unless one selection is enough. Returns whether that counts. */
  heardImplied(now: number): boolean {
    if (this.host.parameters.oneWay) return false;
    this.heardSelection(now, true, "");
    return true;
  }

  /** A farewell of the attempt under way. */
  farewell(now: number, body: RequestBody): void {
    const { attempt } = this;
    attempt.remote.farewell(now, body, (t) => this.later.otherFlipped(t, attempt));
  }
}
