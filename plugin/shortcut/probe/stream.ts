/**
 * The probes of one path: when they are sent, their content, what was heard, and when silence is a
 * failure. It follows RFC 5880's asynchronous mode. Each end announces the interval at which it
 * wants to send, the shortest interval at which it can receive, and a multiplier. It sends at the
 * larger of its own interval and the other end's bound, jittered down by up to a quarter (§6.8.7).
 * A path has failed when nothing came for the other end's multiplier times the agreed interval
 * (§6.8.4). A path without traffic is probed slowly. A slower rate is announced first, and used
 * when the other end has answered a probe that announces it (§6.8.3). A faster rate is used at
 * once.
 *
 * Every second probe is as large as the overlay's MTU until one was confirmed, then one a second. A
 * large probe that does not arrive although a later small one did is a miss. Several misses in a
 * row mean that the path no longer carries full-size packets.
 *
 * Sans-I/O, and separate from the engine, so that a busy engine does not delay it.
 */
import type { Id64 } from "../../wire/control/message.js";
import { PROBE_BYTES, type Probe } from "../../wire/probe.js";

/** The engine's parameters of a probed path. Times in milliseconds. */
export interface ProbeSession {
  readonly bootId: Id64;
  readonly peerBootId: Id64;
  readonly epochs: { readonly mine: number; readonly yours: number };
  readonly accepted: Id64;
  readonly flipped: boolean;
  readonly down: boolean;
  readonly ownsRoutes: boolean;
  /** Whether the path carries no traffic: the slow rate is enough. */
  readonly idle: boolean;
  /** Whether it sends nothing before the other end's first probe. */
  readonly answers: boolean;
  readonly interval: number;
  readonly idleInterval: number;
  readonly multiplier: number;
  /** UDP payload that fills the overlay's MTU. */
  readonly fullSize: number;
}

export type Loss =
  /** Nothing arrives here. */
  | "silent"
  /** The other end does not hear us. */
  | "unheard"
  /** Large probes do not arrive there any more. */
  | "narrow";

export type StreamEvent =
  /** A probe of this path, which arrived at `at`. */
  | { readonly kind: "heard"; readonly at: number; readonly probe: Probe }
  /** The failure of the path, `silence` milliseconds after the last sign of life. */
  | { readonly kind: "lost"; readonly at: number; readonly loss: Loss; readonly silence: number };

/** Interval at which a proven path is tried at full size. */
const FULL_PACE = 1_000;
/**
 * Number of full-size probes in a row that did not arrive although smaller ones did. At 1% random
 * loss, the probability of this is 1 in 10^8.
 */
const FULL_MISSES = 4;

export class ProbeStream {
  readonly events: StreamEvent[] = [];
  private nextAt: number | undefined;
  /**
   * The sequence number. It also grows across a restart of the relay, so that the other end knows
   * new probes from old ones.
   */
  private sequence: number;
  private remote: Probe | undefined;
  private lastHeard: number | undefined;
  private lastHearYou: number | undefined;
  private lost = false;
  /** The urgent content of the last probe sent. */
  private said = "";
  private inUse: number;
  private announced: { readonly interval: number; readonly sentAt: number; confirmed: boolean } | undefined;
  private heardFullHere = 0;
  private unconfirmed: { readonly sequence: number; readonly sentAt: number }[] = [];
  /** The last full-size probe that the other end is known to have received. */
  private fullConfirmed = 0;
  private fullAt = Number.NEGATIVE_INFINITY;
  private lastWasFull = false;
  private misses = 0;

  constructor(
    private session: ProbeSession,
    now: number,
  ) {
    this.sequence = Math.floor(now) >>> 0;
    this.inUse = session.interval;
    if (!session.answers) this.nextAt = now;
  }

  /** Returns whether this is the same attempt with the same boot of the other end. */
  continues(s: ProbeSession): boolean {
    const { bootId, peerBootId, epochs } = this.session;
    return (
      s.bootId === bootId &&
      s.peerBootId === peerBootId &&
      s.epochs.mine === epochs.mine &&
      s.epochs.yours === epochs.yours
    );
  }

  update(now: number, session: ProbeSession): void {
    this.session = session;
    this.hurry(now);
  }

  // --------------------------------------------------------------------------------------- sending

  private get desired(): number {
    const { idle, interval, idleInterval } = this.session;
    const calm = idle && this.remote?.busy === false && this.misses === 0;
    return calm ? Math.max(interval, idleInterval) : interval;
  }

  /** The interval between probes: RFC 5880 §6.8.7, after §6.8.3's rule for a slower one. */
  get pace(): number {
    const { desired } = this;
    const known = this.announced?.interval === desired && this.announced.confirmed;
    if (desired < this.inUse || known) this.inUse = desired;
    return Math.max(this.inUse, (this.remote?.requires ?? 0) / 1000);
  }

  private state(now: number): string {
    const { accepted, flipped, down, ownsRoutes: keeps, idle } = this.session;
    return `${accepted} ${flipped} ${down} ${keeps} ${idle} ${this.desired} ${this.hears(now)} ${this.heardFullHere !== 0}`;
  }

  /** Sends changed content at once (RFC 5880 §6.8.7). */
  private hurry(now: number): void {
    if (this.nextAt !== undefined && this.state(now) !== this.said) this.nextAt = Math.min(this.nextAt, now);
  }

  /** Returns the probe that is due, if any. `random` is in [0, 1). */
  next(now: number, random: number): Probe | undefined {
    if (this.nextAt === undefined || now < this.nextAt) return undefined;
    const { session: s, desired } = this;
    this.sequence = (this.sequence + 1) >>> 0;
    const sentAt = micros(now);
    if (this.announced?.interval !== desired)
      this.announced = { interval: desired, sentAt, confirmed: false };
    const full = this.fullIsDue(now);
    if (full) {
      this.fullAt = now;
      this.unconfirmed.push({ sequence: this.sequence, sentAt });
      if (this.unconfirmed.length > 2 * FULL_MISSES) this.unconfirmed.shift();
    }
    this.lastWasFull = full;
    this.said = this.state(now);
    this.nextAt = now + this.pace * (1 - random * 0.25);
    return {
      bootId: s.bootId,
      accepted: s.accepted,
      epochs: s.epochs,
      hearYou: this.hears(now),
      busy: !s.idle,
      flipped: s.flipped,
      down: s.down,
      ownsRoutes: s.ownsRoutes,
      sequence: this.sequence,
      sentAt,
      echo: this.remote?.sentAt ?? 0,
      held: this.lastHeard === undefined ? 0 : micros(now - this.lastHeard),
      interval: Math.round(desired * 1000),
      requires: Math.round(s.interval * 1000),
      multiplier: s.multiplier,
      heardFull: this.heardFullHere,
      size: full ? s.fullSize : PROBE_BYTES,
    };
  }

  private fullIsDue(now: number): boolean {
    if (this.fullConfirmed === 0 || this.misses > 0) return !this.lastWasFull;
    return this.unconfirmed.length === 0 && now >= this.fullAt + FULL_PACE;
  }

  // ------------------------------------------------------------------------------------- receiving

  private hears(now: number): boolean {
    return this.lastHeard !== undefined && now < this.lastHeard + this.detection;
  }

  /** Detection time (RFC 5880 §6.8.4), in milliseconds. */
  get detection(): number {
    const { remote, session } = this;
    if (remote === undefined) return Number.POSITIVE_INFINITY;
    return remote.multiplier * Math.max(session.interval, remote.interval / 1000);
  }

  /**
   * Takes a probe that arrived at `at`. Returns false when it is of another boot or epoch and
   * therefore ignored.
   */
  receive(at: number, p: Probe): boolean {
    const s = this.session;
    if (p.bootId !== s.peerBootId || p.epochs.mine !== s.epochs.yours || p.epochs.yours !== s.epochs.mine)
      return false;
    const newest = this.remote === undefined || after(p.sequence, this.remote.sequence);
    this.lastHeard = at;
    if (newest) {
      this.remote = p;
      if (this.announced !== undefined && p.echo !== 0 && !after(this.announced.sentAt, p.echo))
        this.announced.confirmed = true;
      this.countFullSize(at, p);
    }
    if (p.size >= s.fullSize) this.heardFullHere = p.sequence;
    this.events.push({ kind: "heard", at, probe: p });
    if (p.hearYou) {
      this.lastHearYou = at;
      this.lost = false;
    } else if (newest && this.lastHearYou !== undefined) this.fail(at, "unheard", at - this.lastHearYou);
    if (this.nextAt === undefined) this.nextAt = at;
    this.hurry(at);
    return true;
  }

  /** Takes the other end's report about our full-size probes. */
  private countFullSize(at: number, p: Probe): void {
    if (p.heardFull !== 0 && p.heardFull !== this.fullConfirmed) {
      this.fullConfirmed = p.heardFull;
      this.unconfirmed = this.unconfirmed.filter((u) => after(u.sequence, p.heardFull));
      this.misses = 0;
    }
    // a later probe has arrived, and these have not
    const missed = this.unconfirmed.filter((u) => p.echo !== 0 && after(p.echo, u.sentAt));
    if (missed.length === 0) return;
    this.unconfirmed = this.unconfirmed.filter((u) => !missed.includes(u));
    const before = this.misses;
    this.misses += missed.length;
    if (this.fullConfirmed !== 0 && before < FULL_MISSES && this.misses >= FULL_MISSES)
      this.events.push({ kind: "lost", at, loss: "narrow", silence: 0 });
  }

  private fail(at: number, loss: Loss, silence: number): void {
    if (this.lost) return;
    this.lost = true;
    this.events.push({ kind: "lost", at, loss, silence });
  }

  // ------------------------------------------------------------------------------------------ time

  private get failureAt(): number | undefined {
    return this.lost || this.lastHearYou === undefined ? undefined : this.lastHearYou + this.detection;
  }

  /** Returns when something is due; probes count only while they may be sent. */
  pollTimeout(maySend: boolean): number | undefined {
    const { failureAt } = this;
    const nextAt = maySend ? this.nextAt : undefined;
    if (failureAt === undefined || nextAt === undefined) return failureAt ?? nextAt;
    return Math.min(failureAt, nextAt);
  }

  /**
   * Turns silence that has lasted too long into a failure. Everything that has arrived must have
   * been received before.
   */
  handleTimeout(now: number): void {
    const { failureAt } = this;
    if (failureAt === undefined || now < failureAt) return;
    const since = (t: number | undefined) => now - (t ?? now);
    if (this.hears(now)) this.fail(now, "unheard", since(this.lastHearYou));
    else this.fail(now, "silent", since(this.lastHeard));
    this.hurry(now);
  }
}

/** Returns microseconds modulo 2^32. */
const micros = (ms: number): number => Math.round(ms * 1000) >>> 0;
/** Compares in the circular order of 32-bit numbers (RFC 1982). */
const after = (a: number, b: number): boolean => a !== b && (a - b) >>> 0 < 0x80000000;
