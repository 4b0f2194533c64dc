/**
 * The way back and the pause after it: `returning` until the FIB shows the overlay, overriding one that is frozen; `draining` until nothing can be under
 * way any more, when the peer goes; `backoff` until the next try. First the alias, then everything else: from the first moment no new
 * packet is sent by the direct path, and the peer stays while one may come.
 */
import type { Prefix } from "../../net/address.js";
import type { ExchangeBody, Id64, RequestBody } from "../../wire/control/message.js";
import type { Correspondent } from "../control/link.js";
import type { Attempt } from "./attempt.js";
import type { Connecting } from "./connecting.js";
import type { Direct } from "./direct.js";
import type { PathForecast } from "./path-forecast.js";
import { type BothEnds, textOf } from "./remote.js";
import {
  discountOne,
  OFFER_BLOCKED,
  PEER_INITIATED,
  PEER_INITIATED_FAILURE,
  pauseAfter,
  pauseAfterNews,
  type TeardownRule,
} from "./teardown-reasons.js";

export class Teardown {
  private ending: (TeardownRule & { readonly reason: string }) | undefined;
  /** What was known of the NATs in the attempt before, during the pause after it. */
  private lastNat = "";
  /** The boot of the other end with which the direct path failed, during the pause after it, and between which endpoints. */
  private held: (BothEnds & { readonly bootId: Id64 }) | undefined;
  /** The pause is for a path that is another one when an end is reachable elsewhere ... */
  private mayMove = false;
  /** ... and is shortened when one is found to be; once. */
  private waitsForNews = false;
  /** The pause ends when an offer of this prefix does no harm any more. */
  private blocked: Prefix | undefined;

  constructor(
    private readonly attempt: Attempt,
    private readonly forecast: PathForecast,
    private readonly path: Connecting,
    private readonly direct: Direct,
  ) {}

  // ------------------------------------------------------------------------------------------ returning

  fallBackToHub(now: number, reason: string, ending: TeardownRule): void {
    const { attempt } = this;
    const { host, remote, failures } = attempt;
    if (attempt.in("returning", "draining", "backoff", "gone")) return;
    remote.cancelRequests();
    // the other end noticed first: it may be this end that is reachable elsewhere
    const followed = ending === PEER_INITIATED || ending === PEER_INITIATED_FAILURE;
    if (followed && attempt.in("connecting", "direct")) host.reobserve(now);
    this.path.leave();
    this.ending = { ...ending, reason };
    if (ending.failure) failures.failures++;
    if (ending.path === true && attempt.in("direct")) failures.damping.fail(now);
    attempt.offers.point("overlay");
    attempt.enter(now, "returning", reason);
    this.path.announce(now);
    attempt.deadline = now + host.parameters.overrideAfter;
    const { peer, epochs } = remote;
    if (peer === undefined) remote.flipped = true;
    else if (ending.tell)
      this.farewell(now, { kind: "withdraw", epochs, reason, failed: ending.path === true });
    this.checkReturned(now);
  }

  /** The FIB may show the overlay by now. */
  checkReturned(now: number): void {
    const { attempt, path } = this;
    const { host, offers, remote } = attempt;
    if (!attempt.in("returning") || offers.stillDirect().length > 0) return;
    const reason = this.ending?.reason ?? "";
    attempt.milestone("flipped-back", reason);
    const offered = !offers.empty;
    offers.withdrawAll();
    attempt.enter(now, "draining", reason);
    const { peer, told, epochs } = remote;
    if (peer !== undefined && !told.flipped) {
      told.flipped = true;
      this.farewell(now, { kind: "flipped", epochs });
    }
    const { remoteHold, drain } = host.parameters;
    const configured = path.tunnel?.configured === true;
    const awaited = remote.flipped || !configured ? 0 : remoteHold;
    // what was refused before anything stood has nothing to drain, and must not make the other end wait
    attempt.deadline = configured || offered ? now + awaited + drain : now;
  }

  /** Neither alias nor override did it in time, or the daemon is dead: without the offer a daemon that lives has its own route again. */
  override(now: number): void {
    const { attempt } = this;
    const { overrideAfter } = attempt.host.parameters;
    if (now - attempt.since >= 2 * overrideAfter) attempt.offers.withdrawAll();
    attempt.offers.overrideStillDirect();
    attempt.deadline = now + overrideAfter;
  }

  private farewell(now: number, body: RequestBody): void {
    this.attempt.remote.farewell(now, body, (t) => this.otherFlipped(t));
  }

  // ------------------------------------------------------------------------------------------ draining

  /** The other end has gone back, too: nothing comes any more but what is under way. */
  otherFlipped(now: number): void {
    const { attempt, path } = this;
    attempt.remote.flipped = true;
    if (attempt.in("draining") && path.tunnel?.configured === true)
      attempt.deadline = Math.min(
        attempt.deadline ?? Number.POSITIVE_INFINITY,
        now + attempt.host.parameters.drain,
      );
  }

  /** The drain is over: the peer goes, unless a FIB route still points at it (a daemon that is dead and came back). */
  finishDrain(now: number): void {
    const { attempt, path } = this;
    const { host, offers } = attempt;
    if (offers.stillDirect().length > 0) {
      offers.overrideStillDirect();
      attempt.deadline = now + host.parameters.drain;
      return;
    }
    path.tunnel?.remove();
    offers.release();
    this.rest(now);
  }

  private rest(now: number): void {
    const { attempt, ending } = this;
    const { host, failures, remote } = attempt;
    const reason = ending?.reason ?? attempt.reason;
    const suppressed = failures.damping.suppressedFor(now) > 0;
    const { peer } = remote;
    const held = suppressed || ending?.hold === true ? peer : undefined;
    const { began, moved } = remote;
    this.lastNat = this.natText;
    this.forgetAttempt();
    this.held = held && { bootId: held.bootId, ...began };
    this.mayMove = ending?.hold === true && ending.blocked !== true && !suppressed;
    this.waitsForNews = this.mayMove;
    attempt.enter(now, "backoff", reason);
    const p = host.parameters;
    const pauses =
      ending?.hopeless === true && (ending.blocked !== true || this.blocked !== undefined)
        ? { ...p, backoff: p.backoffMax }
        : ending?.forgotten === true
          ? { ...p, backoff: p.checkPause }
          : p;
    const pause = pauseAfter(failures, pauses, host.random());
    attempt.deadline = now + Math.max(pause, failures.damping.suppressedFor(now));
    // the news came while the attempt was taken down
    if (moved) this.news(now);
  }

  private forgetAttempt(): void {
    const { attempt, path, direct } = this;
    attempt.remote.startAnew();
    attempt.attested = undefined;
    path.reset();
    direct.reset();
    this.ending = undefined;
  }

  // ------------------------------------------------------------------------------------------ backoff

  /**
   * The other end is not to begin before the pause is over: not one that started anew. When either end is reachable elsewhere than where the path
   * failed it may at once; where that was in vain before, when the news has brought the end of the pause.
   */
  holdsBack(now: number, from: Correspondent, b: ExchangeBody): boolean {
    const { held, attempt, mayMove } = this;
    if (held?.bootId !== from.bootId) return false;
    const here = held.ours !== textOf(attempt.host.candidates());
    const there = held.theirs !== textOf(b.candidates);
    if (there) this.news(now);
    if (mayMove ? (here || there) && attempt.failures.broughtForward <= 1 : there) return false;
    return attempt.deadline !== undefined && now < attempt.deadline;
  }

  private retrySoon(now: number, pause: number): void {
    const { attempt } = this;
    attempt.deadline = Math.min(attempt.deadline ?? now, now + pause);
  }

  /** An end is reachable elsewhere: the last try was at the wrong place. */
  private news(now: number): void {
    const { host, failures } = this.attempt;
    if (!this.waitsForNews) return;
    this.waitsForNews = false;
    this.retrySoon(now, pauseAfterNews(failures, host.parameters, host.random()));
    discountOne(failures);
  }

  /** Where this router may be reached has changed. */
  candidatesChanged(now: number): void {
    if (this.attempt.in("backoff")) this.news(now);
  }

  /** An offer of the prefix does harm to a neighbour of the daemon: it goes, and comes back when that has changed. */
  offerBlocked(now: number, prefix: Prefix, reason: string): void {
    if (!this.attempt.offers.stands(prefix)) return;
    this.blocked = prefix;
    this.fallBackToHub(now, reason, OFFER_BLOCKED);
  }

  blockedBy(prefix: Prefix): boolean {
    return this.blocked === prefix;
  }

  offerUnblocked(now: number): void {
    this.blocked = undefined;
    const { host } = this.attempt;
    if (this.attempt.in("backoff")) this.retrySoon(now, host.parameters.backoff * host.random());
  }

  /** Of this attempt, or of the last. */
  get natText(): string {
    return this.attempt.remote.peer === undefined ? this.lastNat : this.forecast.natText();
  }
}
