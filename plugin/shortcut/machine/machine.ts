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
 * After RFC 2332 (resolution, purge) and RFC 5880 (probes). What a stage knows and does is in stages/: contact (the first two), consent (the
 * next two), path, direct, and retreat (the last three); here they are tied together. The machine is told facts and never
 * assumes that an effect happened. Invariants are numbered in doc/invariants.md.
 */
import type { Address, Endpoint, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { ExchangeBody, Id64, ReplyBody, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Correspondent } from "../control/link.js";
import { earliest } from "../deadlines.js";
import type { PeerStatus, RouteState, ShortcutStatus, Stage } from "../events.js";
import { describeMarks, type RoundTripClass } from "../offer/offer-classes.js";
import type { StreamEvent } from "../probe/stream.js";
import type { Presence } from "../spoke/hub-presence.js";
import type { Attested } from "../spoke/resolutions.js";
import { Course, type Host, type Ways } from "./attempt.js";
import { Path } from "./connecting.js";
import { Direct } from "./direct.js";
import { Contact } from "./exchanging.js";
import { Consent } from "./offered.js";
import { Outlook } from "./path-forecast.js";
import { stale } from "./remote.js";
import { Retreat } from "./teardown.js";
import {
  type Ending,
  FAILED,
  FOLLOWED,
  FOLLOWED_FAILURE,
  ORDERLY,
  type Setbacks,
} from "./teardown-reasons.js";

export type { Host };

export class Shortcut {
  private readonly course: Course;
  private readonly contact: Contact;
  private readonly consent: Consent;
  private readonly path: Path;
  private readonly direct: Direct;
  private readonly retreat: Retreat;

  constructor(
    host: Host,
    readonly owner: Address,
    origin: "local" | "remote",
    now: number,
    /** What went wrong in a row, here and in machines before this one: it lengthens the pause. */
    readonly setbacks: Setbacks,
    /** The same, of what the two ways to the owner have been measured to be. */
    roundTrips: RoundTripClass,
  ) {
    const ways: Ways = {
      turnBack: (t, reason, ending) => this.turnBack(t, reason, ending),
      openNat: (t) => this.path.openNat(t),
      tellWhereabouts: (t) => this.path.tellWhereabouts(t),
      connect: (t) => this.path.connect(t),
    };
    const course = new Course(host, owner, origin, now, setbacks);
    const outlook = new Outlook(course, roundTrips);
    this.course = course;
    this.consent = new Consent(course, outlook, ways);
    this.path = new Path(course, outlook, this.consent, ways);
    this.direct = new Direct(course, outlook, this.consent, this.path, ways);
    this.retreat = new Retreat(course, outlook, this.path, this.direct);
    this.contact = new Contact(course, this.consent, this.retreat);
  }

  private turnBack(now: number, reason: string, ending: Ending): void {
    this.retreat.turnBack(now, reason, ending);
  }

  // ------------------------------------------------------------------------------------------ what it is

  get stage(): Stage {
    return this.course.stage;
  }

  /** When it entered the stage. */
  get since(): number {
    return this.course.since;
  }

  get resting(): boolean {
    return this.course.in("backoff", "gone");
  }

  /** Nothing in the kernel needs this machine any more. */
  get finished(): boolean {
    return this.course.in("gone") && !this.course.offers.overriding;
  }

  get prefixes(): readonly Prefix[] {
    return this.course.prefixes;
  }

  get bootId(): Id64 | undefined {
    return this.course.them.peer?.bootId;
  }

  get publicKey(): PublicKey | undefined {
    return this.course.them.peer?.publicKey;
  }

  offersPrefix(prefix: Prefix): boolean {
    return this.course.offers.holds(prefix);
  }

  harmedBy(prefix: Prefix): boolean {
    return this.retreat.harmedBy(prefix);
  }

  /** Whether it stands on this attestation. */
  livesBy(generation: Id64): boolean {
    return this.course.attested?.generation === generation;
  }

  status(): ShortcutStatus {
    const { course, path } = this;
    const { marks } = course.offers;
    const { tunnel } = path;
    return {
      owner: this.owner,
      stage: course.stage,
      since: course.since,
      origin: course.origin,
      reason: course.reason,
      prefixes: course.offers.rows(),
      publicKey: this.publicKey,
      bootId: this.bootId,
      endpoint: tunnel?.endpoint,
      candidate: path.candidate,
      nat: this.retreat.natText,
      marks: marks === undefined ? "" : describeMarks(marks),
      retryAt: course.stage === "backoff" ? course.deadline : undefined,
      damping: this.setbacks.damping,
      roundTrip: tunnel?.prober.roundTrip,
      hubRoundTrip: path.hubRoundTrip,
      bitsPerSecond: tunnel?.rate,
      quiet: tunnel?.idle ?? false,
    };
  }

  // ------------------------------------------------------------------------------------------ beginning and end

  /** A destination of this owner is hot and the hub has said what the owner owns. */
  startLocal(now: number, attested: Attested, why: string): void {
    this.contact.startLocal(now, attested, why);
  }

  /** First contact by the other end. */
  accept(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    return this.contact.accept(now, from, b);
  }

  stop(now: number, reason: string): void {
    if (this.course.in("backoff")) this.course.enter(now, "gone", reason);
    else this.turnBack(now, reason, ORDERLY);
  }

  // ------------------------------------------------------------------------------------------ facts

  routeState(now: number, s: RouteState): void {
    const { offers } = this.course;
    if (!offers.observe(s)) return;
    this.direct.routeSeen(s);
    if (s.harmful && offers.stands(s.prefix)) {
      this.turnBack(now, s.reason, FAILED);
      return;
    }
    this.retreat.checkReturned(now);
    this.consent.consider(now);
  }

  underneathChanged(now: number): void {
    this.direct.underneathChanged(now);
  }

  /** What has become of the suspicion that the hub is gone. */
  hubPresence(now: number, presence: Presence): void {
    this.direct.hubPresence(now, presence);
  }

  explained(prefix: Prefix, reason: string): void {
    this.consent.explained(prefix, reason);
  }

  /** An offer of the prefix does harm to a neighbour of the daemon. */
  harm(now: number, prefix: Prefix, reason: string): void {
    this.retreat.harm(now, prefix, reason);
  }

  harmOver(now: number): void {
    this.retreat.harmOver(now);
  }

  /** The offers session is gone: the daemon has dropped every offer. */
  sessionDown(now: number, reason: string): void {
    this.course.offers.dropped(reason);
    this.consent.consider(now);
  }

  /** A new attestation of the owner after a purge. */
  reattested(now: number, a: Attested | { readonly refusal: string }): void {
    if ("refusal" in a) {
      this.turnBack(now, a.refusal, ORDERLY);
      return;
    }
    if (this.course.attested === undefined || this.livesBy(a.generation)) return;
    // Further prefixes need both ends' consent before the first packet: go by the hub and come back with the new set.
    this.turnBack(now, "the hub's routes to the owner changed", ORDERLY);
  }

  directUnusable(now: number, reason: string): void {
    if (this.course.in("connecting", "direct")) this.turnBack(now, reason, FAILED);
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
    this.retreat.candidatesChanged(now);
    this.path.candidatesChanged(now);
  }

  /** What this router sends to the owner by the overlay, bits per second: read again and again. */
  trafficRead(now: number, byOverlay: number): void {
    this.path.trafficRead(now, byOverlay);
  }

  // ------------------------------------------------------------------------------------------ the other end's messages

  handleRequest(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    const { course, consent, path, retreat } = this;
    const { them } = course;
    if (body.kind === "exchange") return this.contact.handleExchange(now, from, body);
    // it overtook the reply to our exchange
    if (course.in("exchanging") && "epochs" in body && body.epochs.yours === them.epochs.mine)
      return undefined;
    if (them.isAnother(from)) {
      this.turnBack(now, "the other end restarted", FOLLOWED);
      retreat.otherFlipped(now);
      return stale("another boot of this end is known");
    }
    if ("epochs" in body && !them.isCurrent(body.epochs)) return stale(`${body.kind} of another epoch`);
    switch (body.kind) {
      case "selected":
        them.oneWay = body.oneWay;
        consent.handleSelected(now, body.selected, body.reason);
        return { kind: "ack" };
      case "ready":
        them.ready = true;
        them.wantedAt = now;
        if (!them.selected) consent.implied(now);
        if (course.in("connecting")) path.responderReady(now);
        return { kind: "ack" };
      case "update":
        them.learn(body.candidates, body.mapping);
        path.learn(now, body.candidates);
        return { kind: "ack" };
      case "withdraw": {
        const ending = body.failed ? FOLLOWED_FAILURE : FOLLOWED;
        this.turnBack(now, `the other end went back: ${body.reason}`, ending);
        return { kind: "ack" };
      }
      case "flipped":
        this.turnBack(now, "the other end went back", FOLLOWED);
        retreat.otherFlipped(now);
        return { kind: "ack" };
      default:
        return { kind: "refused", code: "not-permitted", reason: `${body.kind} is for hubs` };
    }
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    const { deadline, refreshAt } = this.course;
    return earliest(deadline, refreshAt, this.path.pollTimeout(), this.direct.pollTimeout());
  }

  handleTimeout(now: number): void {
    const { course, consent, path, direct, retreat } = this;
    path.measureHub(now);
    direct.watch(now);
    path.check(now);
    if (course.refreshAt !== undefined && now >= course.refreshAt) consent.refresh(now);
    if (course.deadline === undefined || now < course.deadline) return;
    course.deadline = undefined;
    switch (course.stage) {
      case "offered":
        consent.refuse(now);
        return;
      case "connecting":
        path.giveUp(now);
        return;
      case "returning":
        retreat.override(now);
        return;
      case "draining":
        retreat.finishDrain(now);
        return;
      case "backoff":
        course.enter(now, "gone", course.reason);
        return;
      default:
    }
  }
}
