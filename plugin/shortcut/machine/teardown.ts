/**
 * The fall back to the hub path and the pause after it. `returning` lasts until the FIB shows the
 * overlay, and overrides a frozen FIB. After a failure of the direct path it lasts until something has
 * come over the hub path: a hub that died at the same moment, or was not yet missed, leaves nothing to
 * fall back to, and then the direct path is taken again as soon as it works. `draining` lasts until no packet can be in flight any more;
 * then the peer is removed. `backoff` lasts until the next attempt. `gone` is the end. The alias
 * moves first, before everything else: from that moment no new packet is sent on the direct path,
 * and the peer stays while a packet may arrive.
 */

import type { ExchangeBody, Id64 } from "../../wire/control/message.js";
import type { Correspondent } from "../control/link.js";
import type { PeerStatus, Stage } from "../events.js";
import type { StreamEvent } from "../probe/stream.js";
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

  /** Moves aliases that the FIB may still use with the hub path: a hub may be lost meanwhile. */
  override underneathChanged(_now: number): undefined {
    this.c.offers.followUnderneath();
  }
}

/** Milliseconds without a sign over the hub path, after which a direct path that works is taken again. */
const RETAKE_AFTER = 500;
/** Milliseconds that the other end may take to give a sign over the hub path, when the hub itself is alive. */
const HUB_PATH_PATIENCE = 3_000;

export class Returning extends Leaving<StepsFrom<"returning">> {
  override readonly name = "returning" as const;
  /** Whether the hub path may carry nothing: a failure ended the path, and no message of the other end has come since. */
  private doubtful = false;
  private flippedBack = false;

  /** Moves the alias first. */
  override prepare(now: number, from: Stage): void {
    const { spoke, attempt, failures, offers } = this.c;
    const { rule } = this.ending;
    attempt.remote.cancelRequests();
    // the other end noticed first: this end's endpoint may have changed
    const followed = rule === PEER_INITIATED || rule === PEER_INITIATED_FAILURE;
    if (followed && (from === "connecting" || from === "direct")) spoke.reachability.reobserve(now);
    const failed = rule.path === true || this.reason?.kind === "owner-going-back";
    this.doubtful = from === "direct" && failed && attempt.remote.peer !== undefined;
    if (rule.failure) failures.failures++;
    if (rule.path === true && from === "direct") failures.damping.fail(now);
    offers.point("overlay");
  }

  override begin(now: number): StepsFrom<"returning"> | undefined {
    const { c } = this;
    const { rule, reason } = this.ending;
    if (this.doubtful) c.spoke.presence.ask(now);
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
    return this.routeState(now);
  }

  /** Goes on when the FIB shows the overlay. */
  override routeState(now: number): StepsFrom<"returning"> | undefined {
    if (this.c.offers.stillDirect().length > 0) return undefined;
    if (!this.flippedBack) this.c.milestone("flipped-back", describeReason(this.reason));
    this.flippedBack = true;
    return this.weigh(now);
  }

  /** Leaves the direct path for good, or takes it again, or waits until it is known which. */
  private weigh(now: number): StepsFrom<"returning"> | undefined {
    const { attempt, spoke, host } = this.c;
    const { parameters } = host;
    const patience = spoke.presence.heardSince(this.since)
      ? HUB_PATH_PATIENCE
      : Math.max(HUB_PATH_PATIENCE, parameters.outlive);
    if (!this.doubtful || attempt.remote.flipped || now >= this.since + patience)
      return { to: "draining", reason: this.reason, ending: this.ending };
    const { hubRoundTrip = 0, tunnel } = attempt.path;
    const retakeAt = this.since + Math.max(RETAKE_AFTER, 2 * hubRoundTrip);
    this.deadline = now < retakeAt ? retakeAt : now + parameters.overrideAfter;
    if (now < retakeAt || tunnel === undefined) return undefined;
    // it is said that the path is wanted again; the other end says the same when it hears nothing over the hub path
    this.c.announceProbes(now, { down: false, idle: false });
    if (!this.c.agreed || tunnel.prober.verdict(this.c.accepted(now)) !== "proven") return undefined;
    return { to: "direct", reason: { kind: "hub-path-silent" } };
  }

  override ownerHeard(now: number): StepsFrom<"returning"> | undefined {
    this.doubtful = false;
    return this.routeState(now);
  }

  override otherFlipped(now: number): void {
    this.deadline = now;
  }

  override stop(now: number): StepsFrom<"returning"> | undefined {
    return this.ownerHeard(now);
  }

  override directUnusable(): undefined {
    this.doubtful = false;
    this.deadline = this.since;
  }

  override peerStatus(now: number, s: PeerStatus): StepsFrom<"returning"> | undefined {
    this.c.attempt.path.observe(now, s, false);
    return undefined;
  }

  override probe(now: number, event: StreamEvent): StepsFrom<"returning"> | undefined {
    this.c.attempt.path.tunnel?.receive(event);
    return this.flippedBack ? this.weigh(now) : undefined;
  }

  /**
   * Withdraws the offers: neither alias nor override took effect in time, or the daemon is dead.
   * Without the offer, a living daemon uses its own route again.
   */
  override handleTimeout(now: number): StepsFrom<"returning"> | undefined {
    if (this.deadline === undefined || now < this.deadline) return undefined;
    const { offers, host } = this.c;
    if (offers.stillDirect().length === 0) return this.routeState(now);
    const { overrideAfter } = host.parameters;
    if (now - this.since >= 2 * overrideAfter) offers.withdrawAll();
    offers.overrideStillDirect();
    this.deadline = now + overrideAfter;
    return undefined;
  }
}

export class Draining extends Leaving<StepsFrom<"draining">> {
  override readonly name = "draining" as const;
  private offered = false;

  override prepare(): void {
    this.c.attempt.path.leave();
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
