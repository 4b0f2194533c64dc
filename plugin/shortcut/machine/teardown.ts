/**
 * The fall back to the hub path and the pause after it. `returning` lasts until the FIB shows the
 * overlay, and overrides a frozen FIB. `draining` lasts until no packet can be in flight any more;
 * then the peer is removed. `backoff` lasts until the next attempt. `gone` is the end. The alias
 * moves first, before everything else: from that moment no new packet is sent on the direct path,
 * and the peer stays while a packet may arrive.
 */

import type { ExchangeBody, Id64 } from "../../wire/control/message.js";
import type { Correspondent } from "../control/link.js";
import type { Stage } from "../events.js";
import { describeReason, type NatForecast, type Reason } from "../reasons.js";
import { Attempt } from "./attempt.js";
import type { Context } from "./context.js";
import { type BothEnds, textOf } from "./remote.js";
import { type Ending, StageState, type Step, type StepsFrom } from "./stage.js";
import {
  discountOne,
  PEER_INITIATED,
  PEER_INITIATED_FAILURE,
  pauseAfter,
  pauseAfterNews,
} from "./teardown-reasons.js";

/** The common part of `returning`, `draining` and `backoff`: the attempt ends. */
abstract class Leaving<X extends Step> extends StageState<X> {
  constructor(
    c: Context,
    now: number,
    public ending: Ending,
  ) {
    super(c, now, ending.reason);
  }

  override stop(_now: number, _reason: Reason): X | undefined {
    return undefined;
  }

  override offerUnblocked(_now: number): void {
    this.ending = { ...this.ending, blocked: undefined };
  }
}

export class Returning extends Leaving<StepsFrom<"returning">> {
  override readonly name = "returning" as const;

  /** Moves the alias first. */
  override prepare(now: number, from: Stage): void {
    const { spoke, attempt, failures, offers } = this.c;
    const { rule } = this.ending;
    attempt.remote.cancelRequests();
    // the other end noticed first: this end's endpoint may have changed
    const followed = rule === PEER_INITIATED || rule === PEER_INITIATED_FAILURE;
    if (followed && (from === "connecting" || from === "direct")) spoke.reachability.reobserve(now);
    attempt.path.leave();
    if (rule.failure) failures.failures++;
    if (rule.path === true && from === "direct") failures.damping.fail(now);
    offers.point("overlay");
  }

  override begin(now: number): Step<"draining"> | undefined {
    const { c } = this;
    const { rule, reason } = this.ending;
    const { remote } = c.attempt;
    c.announceProbes(now, { down: true, idle: false });
    this.deadline = now + c.host.parameters.overrideAfter;
    if (remote.peer === undefined) remote.flipped = true;
    else if (rule.tell)
      c.farewell(now, {
        kind: "withdraw",
        epochs: remote.epochs,
        reason: describeReason(reason),
        failed: rule.path === true,
      });
    return this.routeState();
  }

  /** Goes on when the FIB shows the overlay. */
  override routeState(): Step<"draining"> | undefined {
    if (this.c.offers.stillDirect().length > 0) return undefined;
    this.c.milestone("flipped-back", describeReason(this.reason));
    return { to: "draining", reason: this.reason, ending: this.ending };
  }

  /**
   * Withdraws the offers: neither alias nor override took effect in time, or the daemon is dead.
   * Without the offer, a living daemon uses its own route again.
   */
  override handleTimeout(now: number): undefined {
    if (this.deadline === undefined || now < this.deadline) return;
    const { offers, host } = this.c;
    const { overrideAfter } = host.parameters;
    if (now - this.since >= 2 * overrideAfter) offers.withdrawAll();
    offers.overrideStillDirect();
    this.deadline = now + overrideAfter;
  }
}

export class Draining extends Leaving<StepsFrom<"draining">> {
  override readonly name = "draining" as const;
  private offered = false;

  override prepare(): void {
    this.offered = !this.c.offers.empty;
    this.c.offers.withdrawAll();
  }

  override begin(now: number): undefined {
    const { c } = this;
    const { remote, path } = c.attempt;
    const { peer, told, epochs } = remote;
    if (peer !== undefined && !told.flipped) {
      told.flipped = true;
      c.farewell(now, { kind: "flipped", epochs });
    }
    const { remoteHold, drain } = c.host.parameters;
    const configured = path.tunnel?.configured === true;
    const awaited = remote.flipped || !configured ? 0 : remoteHold;
    // An attempt that was refused before anything stood has nothing to drain, and must not make the
    // other end wait.
    this.deadline = configured || this.offered ? now + awaited + drain : now;
  }

  /** Shortens the wait: only packets in flight can still arrive. */
  override otherFlipped(now: number): void {
    const { attempt, host } = this.c;
    if (attempt.path.tunnel?.configured !== true) return;
    this.deadline = Math.min(this.deadline ?? Number.POSITIVE_INFINITY, now + host.parameters.drain);
  }

  /**
   * Removes the peer after the drain, unless a FIB route still points at it (a daemon that was dead
   * and is back).
   */
  override handleTimeout(now: number): Step<"backoff"> | undefined {
    if (this.deadline === undefined || now < this.deadline) return undefined;
    const { offers, host, attempt } = this.c;
    if (offers.stillDirect().length > 0) {
      offers.overrideStillDirect();
      this.deadline = now + host.parameters.drain;
      return undefined;
    }
    attempt.path.tunnel?.remove();
    offers.release();
    return { to: "backoff", reason: this.reason, ending: this.ending };
  }
}

export class Backoff extends Leaving<StepsFrom<"backoff">> {
  override readonly name = "backoff" as const;
  /** The NAT forecast of the attempt that is over. */
  nat: NatForecast | undefined;
  /**
   * The boot of the other end that is held back until the pause is over, and the endpoints between
   * which the path failed.
   */
  private held: (BothEnds & { readonly bootId: Id64 }) | undefined;
  /** Whether a changed endpoint of either end would make it another path ... */
  private mayMove = false;
  /** ... and whether such a change shortens the pause; once. */
  private waitsForNews = false;
  private moved = false;

  /** Drops the attempt: the next one has its own epoch. */
  override prepare(now: number): void {
    const { c, ending } = this;
    const { rule } = ending;
    const { remote, origin } = c.attempt;
    const suppressed = c.failures.damping.suppressedFor(now) > 0;
    const held = suppressed || rule.hold === true ? remote.peer : undefined;
    this.nat = remote.peer === undefined ? undefined : c.nat();
    this.held = held && { bootId: held.bootId, ...remote.began };
    this.moved = remote.moved;
    this.mayMove = rule.hold === true && rule.blocked !== true && !suppressed;
    this.waitsForNews = this.mayMove;
    remote.cancelRequests();
    c.attempt = new Attempt(c.spoke, c.owner, origin);
  }

  override begin(now: number): undefined {
    const { failures, host } = this.c;
    const { rule, blocked } = this.ending;
    const p = host.parameters;
    const pauses =
      rule.hopeless === true && (rule.blocked !== true || blocked !== undefined)
        ? { ...p, backoff: p.backoffMax }
        : rule.forgotten === true
          ? { ...p, backoff: p.checkPause }
          : p;
    const pause = pauseAfter(failures, pauses, host.random());
    this.deadline = now + Math.max(pause, failures.damping.suppressedFor(now));
    // the change came while the attempt was torn down
    if (this.moved) this.news(now);
  }

  override stop(_now: number, reason: Reason): Step<"gone"> {
    return { to: "gone", reason };
  }

  /**
   * Returns whether an exchange is refused until the pause is over. An exchange of a restarted end
   * is not refused. When either end has another endpoint than where the path failed, the exchange
   * may begin at once. If such an attempt has failed before, it may begin when the pause, shortened
   * by the change, is over.
   */
  holdsBack(now: number, from: Correspondent, b: ExchangeBody): boolean {
    const { held, mayMove } = this;
    const { spoke, failures } = this.c;
    if (held?.bootId !== from.bootId) return false;
    const here = held.ours !== textOf(spoke.reachability.candidates());
    const there = held.theirs !== textOf(b.candidates);
    if (there) this.news(now);
    if (mayMove ? (here || there) && failures.broughtForward <= 1 : there) return false;
    return this.deadline !== undefined && now < this.deadline;
  }

  private retrySoon(now: number, pause: number): void {
    this.deadline = Math.min(this.deadline ?? now, now + pause);
  }

  /**
   * Brings the next attempt forward: an end has another endpoint, so the last attempt used an
   * outdated one.
   */
  private news(now: number): void {
    const { host, failures } = this.c;
    if (!this.waitsForNews) return;
    this.waitsForNews = false;
    this.retrySoon(now, pauseAfterNews(failures, host.parameters, host.random()));
    discountOne(failures);
  }

  override candidatesChanged(now: number): void {
    this.news(now);
  }

  override offerUnblocked(now: number): void {
    super.offerUnblocked(now);
    const { host } = this.c;
    this.retrySoon(now, host.parameters.backoff * host.random());
  }

  override handleTimeout(now: number): Step<"gone"> | undefined {
    if (this.deadline === undefined || now < this.deadline) return undefined;
    this.deadline = undefined;
    return { to: "gone", reason: this.reason };
  }
}

export class Gone extends StageState<StepsFrom<"gone">> {
  override readonly name = "gone" as const;

  override stop(): undefined {}
}
