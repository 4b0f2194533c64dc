/**
 * The way back and the pause after it: `returning` until the FIB shows the overlay, overriding one that is frozen; `draining` until nothing can be under
 * way any more, when the peer goes; `backoff` until the next try. First the alias, then everything else: from the first moment no new
 * packet is sent by the direct path, and the peer stays while one may come.
 */
import type { Prefix } from "../../net/address.js";
import type { ExchangeBody, Id64, RequestBody } from "../../wire/control/message.js";
import type { Correspondent } from "../control/link.js";
import type { Course } from "./attempt.js";
import type { Path } from "./connecting.js";
import type { Direct } from "./direct.js";
import type { Outlook } from "./path-forecast.js";
import { type BothEnds, textOf } from "./remote.js";
import {
  type Ending,
  excuse,
  FOLLOWED,
  FOLLOWED_FAILURE,
  HARMFUL,
  pauseAfter,
  pauseAfterNews,
} from "./teardown-reasons.js";

export class Retreat {
  private ending: (Ending & { readonly reason: string }) | undefined;
  /** What was known of the NATs in the attempt before, during the pause after it. */
  private lastNat = "";
  /** The boot of the other end with which the direct path failed, during the pause after it, and between which endpoints. */
  private held: (BothEnds & { readonly bootId: Id64 }) | undefined;
  /** The pause is for a path that is another one when an end is reachable elsewhere ... */
  private mayMove = false;
  /** ... and is shortened when one is found to be; once. */
  private waitsForNews = false;
  /** The pause ends when an offer of this prefix does no harm any more. */
  private harmed: Prefix | undefined;

  constructor(
    private readonly course: Course,
    private readonly outlook: Outlook,
    private readonly path: Path,
    private readonly direct: Direct,
  ) {}

  // ------------------------------------------------------------------------------------------ returning

  turnBack(now: number, reason: string, ending: Ending): void {
    const { course } = this;
    const { host, them, setbacks } = course;
    if (course.in("returning", "draining", "backoff", "gone")) return;
    them.cancelRequests();
    // the other end noticed first: it may be this end that is reachable elsewhere
    const followed = ending === FOLLOWED || ending === FOLLOWED_FAILURE;
    if (followed && course.in("connecting", "direct")) host.reobserve(now);
    this.path.leave();
    this.ending = { ...ending, reason };
    if (ending.failure) setbacks.failures++;
    if (ending.path === true && course.in("direct")) setbacks.damping.fail(now);
    course.offers.point("overlay");
    course.enter(now, "returning", reason);
    this.path.say(now);
    course.deadline = now + host.parameters.overrideAfter;
    const { peer, epochs } = them;
    if (peer === undefined) them.flipped = true;
    else if (ending.tell)
      this.farewell(now, { kind: "withdraw", epochs, reason, failed: ending.path === true });
    this.checkReturned(now);
  }

  /** The FIB may show the overlay by now. */
  checkReturned(now: number): void {
    const { course, path } = this;
    const { host, offers, them } = course;
    if (!course.in("returning") || offers.stillDirect().length > 0) return;
    const reason = this.ending?.reason ?? "";
    course.milestone("flipped-back", reason);
    const offered = !offers.empty;
    offers.withdrawAll();
    course.enter(now, "draining", reason);
    const { peer, told, epochs } = them;
    if (peer !== undefined && !told.flipped) {
      told.flipped = true;
      this.farewell(now, { kind: "flipped", epochs });
    }
    const { remoteHold, drain } = host.parameters;
    const configured = path.tunnel?.configured === true;
    const awaited = them.flipped || !configured ? 0 : remoteHold;
    // what was refused before anything stood has nothing to drain, and must not make the other end wait
    course.deadline = configured || offered ? now + awaited + drain : now;
  }

  /** Neither alias nor override did it in time, or the daemon is dead: without the offer a daemon that lives has its own route again. */
  override(now: number): void {
    const { course } = this;
    const { overrideAfter } = course.host.parameters;
    if (now - course.since >= 2 * overrideAfter) course.offers.withdrawAll();
    course.offers.overrideStillDirect();
    course.deadline = now + overrideAfter;
  }

  private farewell(now: number, body: RequestBody): void {
    this.course.them.farewell(now, body, (t) => this.otherFlipped(t));
  }

  // ------------------------------------------------------------------------------------------ draining

  /** The other end has gone back, too: nothing comes any more but what is under way. */
  otherFlipped(now: number): void {
    const { course, path } = this;
    course.them.flipped = true;
    if (course.in("draining") && path.tunnel?.configured === true)
      course.deadline = Math.min(
        course.deadline ?? Number.POSITIVE_INFINITY,
        now + course.host.parameters.drain,
      );
  }

  /** The drain is over: the peer goes, unless a FIB route still points at it (a daemon that is dead and came back). */
  finishDrain(now: number): void {
    const { course, path } = this;
    const { host, offers } = course;
    if (offers.stillDirect().length > 0) {
      offers.overrideStillDirect();
      course.deadline = now + host.parameters.drain;
      return;
    }
    path.tunnel?.remove();
    offers.release();
    this.rest(now);
  }

  private rest(now: number): void {
    const { course, ending } = this;
    const { host, setbacks, them } = course;
    const reason = ending?.reason ?? course.reason;
    const suppressed = setbacks.damping.suppressedFor(now) > 0;
    const { peer } = them;
    const held = suppressed || ending?.hold === true ? peer : undefined;
    const { began, moved } = them;
    this.lastNat = this.natText;
    this.forgetAttempt();
    this.held = held && { bootId: held.bootId, ...began };
    this.mayMove = ending?.hold === true && ending.harm !== true && !suppressed;
    this.waitsForNews = this.mayMove;
    course.enter(now, "backoff", reason);
    const p = host.parameters;
    const pauses =
      ending?.hopeless === true && (ending.harm !== true || this.harmed !== undefined)
        ? { ...p, backoff: p.backoffMax }
        : ending?.forgotten === true
          ? { ...p, backoff: p.checkPause }
          : p;
    const pause = pauseAfter(setbacks, pauses, host.random());
    course.deadline = now + Math.max(pause, setbacks.damping.suppressedFor(now));
    // the news came while the attempt was taken down
    if (moved) this.news(now);
  }

  private forgetAttempt(): void {
    const { course, path, direct } = this;
    course.them.startAnew();
    course.attested = undefined;
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
    const { held, course, mayMove } = this;
    if (held?.bootId !== from.bootId) return false;
    const here = held.ours !== textOf(course.host.candidates());
    const there = held.theirs !== textOf(b.candidates);
    if (there) this.news(now);
    if (mayMove ? (here || there) && course.setbacks.hastened <= 1 : there) return false;
    return course.deadline !== undefined && now < course.deadline;
  }

  private hasten(now: number, pause: number): void {
    const { course } = this;
    course.deadline = Math.min(course.deadline ?? now, now + pause);
  }

  /** An end is reachable elsewhere: the last try was at the wrong place. */
  private news(now: number): void {
    const { host, setbacks } = this.course;
    if (!this.waitsForNews) return;
    this.waitsForNews = false;
    this.hasten(now, pauseAfterNews(setbacks, host.parameters, host.random()));
    excuse(setbacks);
  }

  /** Where this router may be reached has changed. */
  candidatesChanged(now: number): void {
    if (this.course.in("backoff")) this.news(now);
  }

  /** An offer of the prefix does harm to a neighbour of the daemon: it goes, and comes back when that has changed. */
  harm(now: number, prefix: Prefix, reason: string): void {
    if (!this.course.offers.stands(prefix)) return;
    this.harmed = prefix;
    this.turnBack(now, reason, HARMFUL);
  }

  harmedBy(prefix: Prefix): boolean {
    return this.harmed === prefix;
  }

  harmOver(now: number): void {
    this.harmed = undefined;
    const { host } = this.course;
    if (this.course.in("backoff")) this.hasten(now, host.parameters.backoff * host.random());
  }

  /** Of this attempt, or of the last. */
  get natText(): string {
    return this.course.them.peer === undefined ? this.lastNat : this.outlook.natText();
  }
}
