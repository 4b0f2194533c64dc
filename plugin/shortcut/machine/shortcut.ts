/**
 * One shortcut: everything between this router and one owner. The stages, and what ends each:
 *
 *   resolving   the hub says what the owner owns                      -> exchanging, or offered when the other end asked first
 *   exchanging  keys, epochs and candidates with the owner            -> offered
 *   offered     routes stand in the daemon; both daemons must select  -> connecting | refused at the deadline
 *   refused     a daemon said no; offers stand, so a change of policy is noticed at once -> connecting | backoff when it cools
 *   connecting  peers configured (responder first), handshake, probes -> direct | returning
 *   direct      aliases point at the direct interface, probes watch it -> returning
 *   returning   aliases point at the overlay; waits until the FIB shows it, overrides a frozen FIB -> draining
 *   draining    offers withdrawn; waits for the other end's `flipped` and the drain time, removes the peer -> backoff | gone
 *   backoff     waits, then starts again if the destination is still hot -> resolving | gone
 *
 * After RFC 2332 (resolution, purge) and RFC 5880 (probes). What a stage knows and does is in stages/: exchanging (the first two), offered (the
 * next two), path, direct, and teardown (the last three); here they are tied together. The machine is told facts and never
 * assumes that an effect happened. Invariants are numbered in doc/invariants.md.
 */
import type { Address, Endpoint, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { ExchangeBody, Id64, ReplyBody, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Correspondent } from "../control/link.js";
import { earliest } from "../deadlines.js";
import type { PeerStatus, RouteState, ShortcutStatus, Stage } from "../events.js";
import { describeClasses, type RoundTripClass } from "../offer/offer-classes.js";
import type { StreamEvent } from "../probe/stream.js";
import type { Presence } from "../spoke/hub-presence.js";
import type { Attested } from "../spoke/resolutions.js";
import { Attempt, type ShortcutHost, type Ways } from "./attempt.js";
import { Connecting } from "./connecting.js";
import { Direct } from "./direct.js";
import { Exchanging } from "./exchanging.js";
import { Offered } from "./offered.js";
import { PathForecast } from "./path-forecast.js";
import { stale } from "./remote.js";
import { Teardown } from "./teardown.js";
import {
  FAILED,
  type FailureHistory,
  PEER_INITIATED,
  PEER_INITIATED_FAILURE,
  PLANNED,
  type TeardownRule,
} from "./teardown-reasons.js";

export type { ShortcutHost as Host };

export class Shortcut {
  private readonly attempt: Attempt;
  private readonly exchanging: Exchanging;
  private readonly offered: Offered;
  private readonly path: Connecting;
  private readonly direct: Direct;
  private readonly teardown: Teardown;

  constructor(
    host: ShortcutHost,
    readonly owner: Address,
    origin: "local" | "remote",
    now: number,
    /** What went wrong in a row, here and in machines before this one: it lengthens the pause. */
    readonly failures: FailureHistory,
    /** The same, of what the two ways to the owner have been measured to be. */
    roundTrips: RoundTripClass,
  ) {
    const ways: Ways = {
      fallBackToHub: (t, reason, ending) => this.fallBackToHub(t, reason, ending),
      openNat: (t) => this.path.openNat(t),
      announceReachability: (t) => this.path.tellWhereabouts(t),
      connect: (t) => this.path.connect(t),
    };
    const attempt = new Attempt(host, owner, origin, now, failures);
    const forecast = new PathForecast(attempt, roundTrips);
    this.attempt = attempt;
    this.offered = new Offered(attempt, forecast, ways);
    this.path = new Connecting(attempt, forecast, this.offered, ways);
    this.direct = new Direct(attempt, forecast, this.offered, this.path, ways);
    this.teardown = new Teardown(attempt, forecast, this.path, this.direct);
    this.exchanging = new Exchanging(attempt, this.offered, this.teardown);
  }

  private fallBackToHub(now: number, reason: string, ending: TeardownRule): void {
    this.teardown.fallBackToHub(now, reason, ending);
  }

  // ------------------------------------------------------------------------------------------ what it is

  get stage(): Stage {
    return this.attempt.stage;
  }

  /** When it entered the stage. */
  get since(): number {
    return this.attempt.since;
  }

  get resting(): boolean {
    return this.attempt.in("backoff", "gone");
  }

  /** Nothing in the kernel needs this machine any more. */
  get finished(): boolean {
    return this.attempt.in("gone") && !this.attempt.offers.overriding;
  }

  get prefixes(): readonly Prefix[] {
    return this.attempt.prefixes;
  }

  get bootId(): Id64 | undefined {
    return this.attempt.remote.peer?.bootId;
  }

  get publicKey(): PublicKey | undefined {
    return this.attempt.remote.peer?.publicKey;
  }

  offersPrefix(prefix: Prefix): boolean {
    return this.attempt.offers.holds(prefix);
  }

  blockedBy(prefix: Prefix): boolean {
    return this.teardown.blockedBy(prefix);
  }

  /** Whether it stands on this attestation. */
  livesBy(generation: Id64): boolean {
    return this.attempt.attested?.generation === generation;
  }

  status(): ShortcutStatus {
    const { attempt, path } = this;
    const { classes } = attempt.offers;
    const { tunnel } = path;
    return {
      owner: this.owner,
      stage: attempt.stage,
      since: attempt.since,
      origin: attempt.origin,
      reason: attempt.reason,
      prefixes: attempt.offers.rows(),
      publicKey: this.publicKey,
      bootId: this.bootId,
      endpoint: tunnel?.endpoint,
      candidate: path.candidate,
      nat: this.teardown.natText,
      classes: classes === undefined ? "" : describeClasses(classes),
      retryAt: attempt.stage === "backoff" ? attempt.deadline : undefined,
      damping: this.failures.damping,
      roundTrip: tunnel?.prober.roundTrip,
      hubRoundTrip: path.hubRoundTrip,
      bitsPerSecond: tunnel?.rate,
      quiet: tunnel?.idle ?? false,
    };
  }

  // ------------------------------------------------------------------------------------------ beginning and end

  /** A destination of this owner is hot and the hub has said what the owner owns. */
  startLocal(now: number, attested: Attested, why: string): void {
    this.exchanging.startLocal(now, attested, why);
  }

  /** First exchanging by the other end. */
  accept(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    return this.exchanging.accept(now, from, b);
  }

  stop(now: number, reason: string): void {
    if (this.attempt.in("backoff")) this.attempt.enter(now, "gone", reason);
    else this.fallBackToHub(now, reason, PLANNED);
  }

  // ------------------------------------------------------------------------------------------ facts

  routeState(now: number, s: RouteState): void {
    const { offers } = this.attempt;
    if (!offers.observe(s)) return;
    this.direct.routeSeen(s);
    if (s.harmful && offers.stands(s.prefix)) {
      this.fallBackToHub(now, s.reason, FAILED);
      return;
    }
    this.teardown.checkReturned(now);
    this.offered.consider(now);
  }

  underneathChanged(now: number): void {
    this.direct.underneathChanged(now);
  }

  /** What has become of the suspicion that the hub is gone. */
  hubPresence(now: number, presence: Presence): void {
    this.direct.hubPresence(now, presence);
  }

  explained(prefix: Prefix, reason: string): void {
    this.offered.explained(prefix, reason);
  }

  /** An offer of the prefix does harm to a neighbour of the daemon. */
  offerBlocked(now: number, prefix: Prefix, reason: string): void {
    this.teardown.offerBlocked(now, prefix, reason);
  }

  offerUnblocked(now: number): void {
    this.teardown.offerUnblocked(now);
  }

  /** The offers session is gone: the daemon has dropped every offer. */
  sessionDown(now: number, reason: string): void {
    this.attempt.offers.dropped(reason);
    this.offered.consider(now);
  }

  /** A new attestation of the owner after a purge. */
  reattested(now: number, a: Attested | { readonly refusal: string }): void {
    if ("refusal" in a) {
      this.fallBackToHub(now, a.refusal, PLANNED);
      return;
    }
    if (this.attempt.attested === undefined || this.livesBy(a.generation)) return;
    // Further prefixes need both ends' offered before the first packet: go by the hub and come back with the new set.
    this.fallBackToHub(now, "the hub's routes to the owner changed", PLANNED);
  }

  directUnusable(now: number, reason: string): void {
    if (this.attempt.in("connecting", "direct")) this.fallBackToHub(now, reason, FAILED);
  }

  peerApplied(now: number, error: string | undefined): void {
    this.path.peerApplied(now, error);
  }

  peerStatus(now: number, s: PeerStatus): void {
    this.path.peerStatus(now, s);
  }

  handleProbe(now: number, event: StreamEvent): void {
    this.direct.handleProbe(now, event);
  }

  handlePing(now: number, from: Endpoint, at: Address, ping: Ping): void {
    this.path.handlePing(now, from, at, ping);
  }

  /** Where this end may be reached, or what it may reach, has changed. */
  candidatesChanged(now: number): void {
    this.teardown.candidatesChanged(now);
    this.path.candidatesChanged(now);
  }

  /** What this router sends to the owner by the overlay, bits per second: read again and again. */
  trafficRead(now: number, byOverlay: number): void {
    this.path.trafficRead(now, byOverlay);
  }

  // ------------------------------------------------------------------------------------------ the other end's messages

  handleRequest(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    const { attempt, offered, path, teardown } = this;
    const { remote } = attempt;
    if (body.kind === "exchange") return this.exchanging.handleExchange(now, from, body);
    // it overtook the reply to our exchange
    if (attempt.in("exchanging") && "epochs" in body && body.epochs.yours === remote.epochs.mine)
      return undefined;
    if (remote.isAnother(from)) {
      this.fallBackToHub(now, "the other end restarted", PEER_INITIATED);
      teardown.otherFlipped(now);
      return stale("another boot of this end is known");
    }
    if ("epochs" in body && !remote.isCurrent(body.epochs)) return stale(`${body.kind} of another epoch`);
    switch (body.kind) {
      case "selected":
        remote.oneWay = body.oneWay;
        offered.handleSelected(now, body.selected, body.reason);
        return { kind: "ack" };
      case "ready":
        remote.ready = true;
        remote.wantedAt = now;
        if (!remote.selected) offered.implied(now);
        if (attempt.in("connecting")) path.responderReady(now);
        return { kind: "ack" };
      case "update":
        remote.learn(body.candidates, body.mapping);
        path.learn(now, body.candidates);
        return { kind: "ack" };
      case "withdraw": {
        const ending = body.failed ? PEER_INITIATED_FAILURE : PEER_INITIATED;
        this.fallBackToHub(now, `the other end went back: ${body.reason}`, ending);
        return { kind: "ack" };
      }
      case "flipped":
        this.fallBackToHub(now, "the other end went back", PEER_INITIATED);
        teardown.otherFlipped(now);
        return { kind: "ack" };
      default:
        return { kind: "refused", code: "not-permitted", reason: `${body.kind} is for hubs` };
    }
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    const { deadline, refreshAt } = this.attempt;
    return earliest(deadline, refreshAt, this.path.pollTimeout(), this.direct.pollTimeout());
  }

  handleTimeout(now: number): void {
    const { attempt, offered, path, direct, teardown } = this;
    path.measureHub(now);
    direct.watch(now);
    path.check(now);
    if (attempt.refreshAt !== undefined && now >= attempt.refreshAt) offered.refresh(now);
    if (attempt.deadline === undefined || now < attempt.deadline) return;
    attempt.deadline = undefined;
    switch (attempt.stage) {
      case "offered":
        offered.refuse(now);
        return;
      case "connecting":
        path.giveUp(now);
        return;
      case "returning":
        teardown.override(now);
        return;
      case "draining":
        teardown.finishDrain(now);
        return;
      case "backoff":
        attempt.enter(now, "gone", attempt.reason);
        return;
      default:
    }
  }
}
