/**
 * One shortcut: everything between this router and one owner, as a state machine. Its stages:
 *
 *   resolving   the hub tells the owner's prefixes
 *   exchanging  both ends exchange keys, epochs and candidates
 *   offered     routes stand in the daemon; both daemons must select
 *   refused     a daemon did not select; offers stand, so a change of policy is noticed at once
 *   connecting  peers configured (responder first), handshake, probes
 *   direct      aliases point at the direct interface, probes watch the path
 *   returning   aliases point at the overlay; waits until the FIB shows it, overrides a frozen FIB.
 *               After a failure of the direct path it lasts until something came over the hub path,
 *               and goes back to direct when the direct path works and the hub path does not
 *   draining    offers withdrawn; waits for the other end's `flipped` and the drain time, then
 *               removes the peer
 *   backoff     waits before the next attempt
 *   gone        nothing is left
 *
 * The allowed changes of stage are `NEXT` in stage.ts. A fact is given to the stage, which returns
 * the step into the next stage, or nothing; {@link Shortcut.take} makes the step. After RFC 2332
 * (resolution, purge) and RFC 5880 (probes). The shortcut is told facts and never assumes that an
 * effect happened. Invariants are numbered in doc/invariants.md.
 */

import type { Address, Endpoint, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { unreachable } from "../../net/result.js";
import type { ExchangeBody, Id64, ReplyBody, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Correspondent } from "../control/link.js";
import type { PeerStatus, Presence, RouteState, ShortcutStatus, Stage } from "../events.js";
import type { RoundTripClass } from "../offer/offer-classes.js";
import type { StreamEvent } from "../probe/stream.js";
import { describeReason, type Reason } from "../reasons.js";
import type { Attested, Resolution } from "../spoke/resolutions.js";
import type { Collaborators } from "./collaborators.js";
import { Connecting } from "./connecting.js";
import { Context, type Later } from "./context.js";
import { Direct } from "./direct.js";
import { adopt, distrust, Exchanging, Resolving, speaksForOwner } from "./exchanging.js";
import { Offered, Refused } from "./offered.js";
import { busy, stale } from "./remote.js";
import type { Step } from "./stage.js";
import { Backoff, Draining, Gone, Returning } from "./teardown.js";
import {
  FAILED,
  type FailureHistory,
  FIREWALLED,
  OFFER_BLOCKED,
  PEER_INITIATED,
  PEER_INITIATED_FAILURE,
  PLANNED,
  type TeardownRule,
} from "./teardown-reasons.js";

type AnyStage =
  | Resolving
  | Exchanging
  | Offered
  | Refused
  | Connecting
  | Direct
  | Returning
  | Draining
  | Backoff
  | Gone;

/** To a router whose key is not the one that the owner registered at the hub. */
const UNREGISTERED: ReplyBody = {
  kind: "refused",
  code: "not-permitted",
  reason: "the hub attests another key for this owner",
};

const TAKEN_DOWN = "the former attempt is being taken down";

export class Shortcut {
  private readonly c: Context;
  private current: AnyStage;

  constructor(
    spoke: Collaborators,
    readonly owner: Address,
    origin: "local" | "remote",
    now: number,
    /**
     * The consecutive failures, here and in earlier shortcuts with this owner: they lengthen the
     * pause.
     */
    readonly failures: FailureHistory,
    /** The measurements of both paths to the owner, here and in earlier shortcuts. */
    roundTrips: RoundTripClass,
  ) {
    this.c = new Context(spoke, owner, origin, failures, roundTrips, this.later());
    this.current = new Resolving(this.c, now, undefined);
  }

  // -------------------------------------------------------------------------- steps

  /** Gives a fact to the stage, and takes the steps that follow. */
  private take(now: number, fact: (stage: AnyStage) => Step | undefined): void {
    for (let step = fact(this.current); step !== undefined; ) step = this.enter(now, step);
  }

  private enter(now: number, step: Step): Step | undefined {
    const previous: Stage = this.current.name;
    const stage = this.stageFor(now, step);
    stage.prepare(now, previous);
    this.current = stage;
    const { host, owner, offers } = this.c;
    const { prefixes } = offers;
    const transition = { owner, stage: stage.name, previous, reason: step.reason, prefixes };
    host.emit({ kind: "transition", transition });
    return stage.begin(now);
  }

  private stageFor(now: number, step: Step): AnyStage {
    const { c } = this;
    switch (step.to) {
      case "resolving":
        return new Resolving(c, now, step.reason);
      case "exchanging":
        return new Exchanging(c, now, step.reason);
      case "offered":
        return new Offered(c, now, step.reason);
      case "refused":
        return new Refused(c, now, step.reason);
      case "connecting":
        return new Connecting(c, now, step.reason);
      case "direct":
        return new Direct(c, now, step.reason);
      case "returning":
        return new Returning(c, now, step.ending);
      case "draining":
        return new Draining(c, now, step.ending);
      case "backoff":
        return new Backoff(c, now, step.ending);
      case "gone":
        return new Gone(c, now, step.reason);
      default:
        return unreachable(step);
    }
  }

  private fallBack(now: number, reason: Reason, rule: TeardownRule, blocked?: Prefix): void {
    this.take(now, (s) => s.fallBack(reason, rule, blocked));
  }

  /**
   * Makes callbacks for later answers: they go to the stage of that time. Requests are cancelled
   * with their attempt.
   */
  private later(): Later {
    return {
      resolved: (t, r) => this.take(t, (s) => s.resolved(t, r)),
      exchanged: (t, o) => this.take(t, (s) => s.exchanged(t, o)),
      tellingAnswered: (t, o) => this.take(t, (s) => s.tellingAnswered(t, o)),
      readyAnswered: (t, o) => {
        this.take(t, (s) => s.tellingAnswered(t, o));
        // the other end has opened its NAT before it answered
        this.current.otherOpen(t);
      },
      reachabilityKnown: (t) => this.take(t, (s) => s.reachabilityKnown(t)),
      ownerHeard: (t, attempt) => {
        if (attempt === this.c.attempt) this.take(t, (s) => s.ownerHeard(t));
      },
      otherFlipped: (t, attempt) => {
        if (attempt === this.c.attempt) this.otherFlipped(t);
      },
    };
  }

  /** Notes that the other end has fallen back to the hub path, too. */
  private otherFlipped(now: number): void {
    this.c.attempt.remote.flipped = true;
    this.current.otherFlipped(now);
  }

  // -------------------------------------------------------------------------- state

  get stage(): Stage {
    return this.current.name;
  }

  /** The time at which the shortcut entered the stage, in milliseconds. */
  get since(): number {
    return this.current.since;
  }

  /** Whether nothing of an attempt is left in kernel or daemon. */
  get resting(): boolean {
    return this.stage === "backoff" || this.stage === "gone";
  }

  /** Whether nothing in the kernel needs this shortcut any more. */
  get finished(): boolean {
    return this.stage === "gone" && !this.c.offers.overriding;
  }

  get prefixes(): readonly Prefix[] {
    return this.c.prefixes;
  }

  get bootId(): Id64 | undefined {
    return this.c.attempt.remote.peer?.bootId;
  }

  get publicKey(): PublicKey | undefined {
    return this.c.attempt.remote.peer?.publicKey;
  }

  offersPrefix(prefix: Prefix): boolean {
    return this.c.offers.holds(prefix);
  }

  /** Returns whether the pause waits until an offer of the prefix is unblocked. */
  blockedBy(prefix: Prefix): boolean {
    return "ending" in this.current && this.current.ending.blocked === prefix;
  }

  /** Returns whether the attempt uses this attestation. */
  livesBy(a: Pick<Attested, "generation" | "publicKey">): boolean {
    const { attested } = this.c.attempt;
    return attested?.generation === a.generation && attested.publicKey === a.publicKey;
  }

  status(now: number): ShortcutStatus {
    const { c, current } = this;
    const { damping } = this.failures;
    const { path, origin, remote } = c.attempt;
    const { tunnel } = path;
    return {
      owner: this.owner,
      stage: current.name,
      since: current.since,
      origin,
      reason: current.reason,
      prefixes: c.offers.rows(),
      publicKey: this.publicKey,
      bootId: this.bootId,
      endpoint: tunnel?.endpoint,
      candidate: path.candidate,
      nat: current.name === "backoff" ? current.nat : remote.peer === undefined ? undefined : c.nat(),
      classes: c.offers.classes,
      retryAt: current.name === "backoff" ? current.deadline : undefined,
      damping: { penalty: damping.penalty(now), suppressedFor: damping.suppressedFor(now) },
      roundTrip: tunnel?.prober.roundTrip,
      hubRoundTrip: path.hubRoundTrip,
      bitsPerSecond: tunnel?.rate,
      quiet: tunnel?.idle ?? false,
    };
  }

  // -------------------------------------------------------------------------- beginning and end

  /**
   * Begins an attempt: a destination of this owner is above the threshold, and the hub has told the
   * owner's prefixes.
   */
  startLocal(now: number, attested: Attested, reason: Reason): void {
    this.c.attempt.attested = attested;
    this.take(now, () => ({ to: "exchanging", reason }));
  }

  /** Answers the first exchange of the other end, or the first after a pause. */
  accept(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const distrusted = distrust(this.c, from, b);
    if (distrusted !== undefined) return this.refuse(now, distrusted);
    adopt(this.c, from, b);
    this.c.spoke.reachability.observeAgain(now);
    this.take(now, () => ({ to: "resolving", reason: { kind: "asked-by-owner" } }));
    return this.answerExchange();
  }

  /** Refuses the other end for a reason of this router's own configuration, which status then shows. */
  private refuse(now: number, reason: Reason): ReplyBody {
    this.fallBack(now, reason, FAILED);
    return { kind: "refused", code: "not-permitted", reason: describeReason(reason) };
  }

  stop(now: number, reason: Reason): void {
    this.take(now, (s) => s.stop(now, reason));
  }

  // -------------------------------------------------------------------------- facts

  routeState(now: number, s: RouteState): void {
    const { offers } = this.c;
    if (!offers.observe(s)) return;
    this.current.routeSeen(s);
    if (s.harmful && offers.stands(s.prefix))
      this.fallBack(now, s.reason ?? { kind: "not-selected" }, FAILED);
    else this.take(now, (stage) => stage.routeState(now));
  }

  underneathChanged(now: number): void {
    this.take(now, (s) => s.underneathChanged(now));
  }

  /** Takes the result of the check whether the hub is gone. */
  hubPresence(now: number, presence: Presence): void {
    this.take(now, (s) => s.hubPresence(now, presence));
  }

  explained(prefix: Prefix, reason: Reason): void {
    if (this.c.offers.explained(prefix, reason)) this.current.explained(reason);
  }

  /**
   * Withdraws the offer of the prefix until it is unblocked: a neighbour of the daemon would see
   * it, or lose the route.
   */
  offerBlocked(now: number, prefix: Prefix, reason: Reason): void {
    if (this.c.offers.stands(prefix)) this.fallBack(now, reason, OFFER_BLOCKED, prefix);
  }

  offerUnblocked(now: number): void {
    this.current.offerUnblocked(now);
  }

  /** Handles the end of the offers session: the daemon has dropped every offer. */
  sessionDown(now: number, reason: Reason): void {
    this.c.offers.dropped(reason);
    this.take(now, (s) => s.consider(now));
  }

  /** Takes a new attestation of the owner after a purge. */
  reattested(now: number, a: Resolution): void {
    if (!a.ok) this.fallBack(now, a.reason, PLANNED);
    // Further prefixes need the selection of both ends before the first packet: fall back, and
    // return with the new set.
    else if (this.c.attempt.attested !== undefined && !this.livesBy(a))
      this.fallBack(now, { kind: "attestation-changed" }, PLANNED);
  }

  /** Handles the loss of the own link-local address. An attempt that has agreed on its use begins again without. */
  linkLocalGone(now: number): void {
    if (this.c.attempt.remote.linkLocal) this.fallBack(now, { kind: "link-local-gone" }, PLANNED);
  }

  /** This router's firewall drops packets of the owner on the direct interface alone. */
  directBlocked(now: number, reason: Reason): void {
    if (this.stage === "direct") this.fallBack(now, reason, FIREWALLED);
  }

  /** Ends a shortcut whose key the operator does not pin any more. */
  pinsChanged(now: number): void {
    const { host, attempt } = this.c;
    const key = this.publicKey ?? attempt.attested?.publicKey;
    const unpinned = key && host.trust.keyRefusal(this.owner, key);
    if (unpinned !== undefined) this.fallBack(now, unpinned, PLANNED);
  }

  directUnusable(now: number, reason: Reason): void {
    this.take(now, (s) => s.directUnusable(reason));
  }

  /** Follows a change of routes or policy rules: the other end may be reached another way. */
  waysChanged(now: number): void {
    this.take(now, (s) => s.waysChanged(now));
  }

  peerApplied(now: number, error: string | undefined): void {
    this.take(now, (s) => s.peerApplied(now, error));
  }

  peerStatus(now: number, status: PeerStatus): void {
    this.take(now, (s) => s.peerStatus(now, status));
  }

  handleProbe(now: number, event: StreamEvent): void {
    this.take(now, (s) => s.probe(now, event));
  }

  handlePing(now: number, from: Endpoint, at: Address, ping: Ping): void {
    if (!this.c.attempt.remote.isCurrent(ping.epochs)) return;
    const before = this.current;
    this.take(now, (s) => s.ping(now, from, at, ping));
    // the ping that completed the agreement is the first to be answered
    if (this.current !== before) this.take(now, (s) => s.ping(now, from, at, ping));
  }

  /** Handles a change of this end's candidates, or of what this end can reach. */
  candidatesChanged(now: number): void {
    this.current.candidatesChanged(now);
  }

  /**
   * Takes the bits per second that this router sends to the owner via the overlay; called
   * repeatedly.
   */
  trafficRead(now: number, viaOverlay: number): void {
    this.current.trafficRead(now, viaOverlay);
  }

  // ---------------------------------------------------------------------- the other end's messages

  handleRequest(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    const { remote, path } = this.c.attempt;
    if (body.kind === "exchange") return this.handleExchange(now, from, body);
    // the message overtook the reply to our exchange
    if (this.stage === "exchanging" && "epochs" in body && body.epochs.yours === remote.epochs.mine)
      return undefined;
    if (!speaksForOwner(this.c, from)) return UNREGISTERED;
    if (remote.isAnother(from)) {
      this.fallBack(now, { kind: "owner-restarted" }, PEER_INITIATED);
      this.otherFlipped(now);
      return stale("another boot of this end is known");
    }
    if ("epochs" in body && !remote.isCurrent(body.epochs)) return stale(`${body.kind} of another epoch`);
    this.take(now, (s) => s.ownerHeard(now));
    switch (body.kind) {
      case "selected":
        remote.oneWay = body.oneWay;
        this.take(now, (s) => s.selected(now, body.selected, body.reason));
        return { kind: "ack" };
      case "ready": {
        const before = this.current;
        this.take(now, (s) => s.ready(now));
        if (this.current !== before) this.take(now, (s) => s.ready(now));
        return { kind: "ack" };
      }
      case "update":
        remote.learn(body.candidates, body.mapping);
        path.learn(now, body.candidates);
        return { kind: "ack" };
      case "withdraw":
        this.fallBack(
          now,
          { kind: "owner-withdrew", text: body.reason },
          body.failed ? PEER_INITIATED_FAILURE : PEER_INITIATED,
        );
        return { kind: "ack" };
      case "flipped":
        this.fallBack(now, { kind: "owner-flipped" }, PEER_INITIATED);
        this.otherFlipped(now);
        return { kind: "ack" };
      default:
        return { kind: "refused", code: "not-permitted", reason: `${body.kind} is for hubs` };
    }
  }

  private answerExchange(): ReplyBody {
    const { remote } = this.c.attempt;
    const { peer } = remote;
    return (this.stage === "resolving" || this.stage === "offered") && peer !== undefined
      ? { kind: "exchanged", ...remote.exchangeBody(peer.publicKey) }
      : busy(describeReason(this.current.reason));
  }

  private handleExchange(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const { c, current } = this;
    const { remote } = c.attempt;
    if (!speaksForOwner(c, from)) return UNREGISTERED;
    switch (current.name) {
      case "resolving":
      case "exchanging": {
        const distrusted = distrust(c, from, b);
        if (distrusted !== undefined) return this.refuse(now, distrusted);
        adopt(c, from, b);
        if (current.name === "resolving") return this.answerExchange();
        this.take(now, () => current.crossed());
        return this.answerExchange();
      }
      case "backoff":
        if (current.holdsBack(now, from, b))
          return busy(`holding back after: ${describeReason(current.reason)}`);
        c.attempt.origin = "remote";
        return this.accept(now, from, b);
      case "offered":
      case "refused":
      case "connecting":
      case "direct": {
        const { epochs, peer } = remote;
        // Epochs of one boot only grow: a delayed or replayed exchange must not tear down a later
        // attempt.
        if (peer?.bootId === from.bootId && b.epochs.mine < epochs.yours)
          return stale("exchange of an older epoch");
        if (!remote.isAnother(from) && epochs.yours === b.epochs.mine)
          return { kind: "exchanged", ...remote.exchangeBody(from.publicKey) };
        this.fallBack(now, { kind: "owner-started-again" }, PEER_INITIATED);
        this.otherFlipped(now);
        return busy(TAKEN_DOWN);
      }
      case "returning":
      case "draining":
      case "gone":
        if (remote.peer !== undefined && remote.epochs.yours !== b.epochs.mine) this.otherFlipped(now);
        return busy(TAKEN_DOWN);
      default:
        return unreachable(current);
    }
  }

  // -------------------------------------------------------------------------- time

  pollTimeout(): number | undefined {
    return this.current.pollTimeout();
  }

  handleTimeout(now: number): void {
    this.take(now, (s) => s.handleTimeout(now));
  }
}
