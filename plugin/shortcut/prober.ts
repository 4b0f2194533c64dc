/**
 * The probe session of one shortcut: what is sent, what was heard, and whether the path is proven or lost. RFC 5880's
 * asynchronous mode with a fixed role: both ends send at `interval`, jittered down by up to a quarter (§6.8.7); a
 * path is up while probes that say "I hear you" keep arriving within interval x multiplier. Every fourth probe is as large as the overlay's MTU until the
 * other end has confirmed one.
 */
import type { Id64 } from "../wire/control/message.js";
import { PROBE_BYTES, type Probe } from "../wire/probe.js";

export interface ProberConfig {
  readonly bootId: Id64;
  readonly epochs: { readonly mine: number; readonly yours: number };
  readonly peerBootId: Id64;
  readonly interval: number;
  readonly multiplier: number;
  /** UDP payload that fills the overlay's MTU. */
  readonly fullSize: number;
}

export type Verdict =
  /** Nothing conclusive yet. */
  | "waiting"
  /** Heard, hears us, full size both ways, and our sources are accepted. */
  | "proven"
  | "unaccepted"
  /** The other end goes back on purpose (RFC 5880's AdminDown): no failure of the path. */
  | "down"
  | "lost";

export class Prober {
  private lastHeard: number | undefined;
  private lastHearYou: number | undefined;
  private echo = 0;
  private heardFullHere = false;
  private heardFullThere = false;
  private sequence = 0;
  private started: number | undefined;
  private remoteDown = false;
  accepted: Id64 | undefined;
  remoteFlipped = false;
  /** The other end still routes, by itself, everything that this end accepts from it: {@link Probe.keeps}. */
  remoteKeeps = false;
  /** Smoothed as in RFC 6298, milliseconds. */
  roundTrip: number | undefined;
  nextAt: number | undefined;

  constructor(readonly config: ProberConfig) {}

  get heard(): boolean {
    return this.lastHeard !== undefined;
  }

  start(now: number): void {
    if (this.started !== undefined) return;
    this.started = now;
    this.nextAt = now;
  }

  stop(): void {
    this.nextAt = undefined;
  }

  /** The probe that is due; the caller asks when `nextAt` has come. */
  next(
    now: number,
    random: number,
    state: { accepted: Id64; flipped: boolean; down: boolean; keeps: boolean },
  ): Probe {
    this.nextAt = now + this.config.interval * (1 - random * 0.25);
    this.sequence++;
    const full = !this.heardFullThere ? this.sequence % 2 === 1 : this.sequence % 16 === 0;
    const sentAt = micros(now);
    return {
      bootId: this.config.bootId,
      accepted: state.accepted,
      epochs: this.config.epochs,
      hearYou: this.hears(now),
      heardFull: this.heardFullHere,
      flipped: state.flipped,
      down: state.down,
      keeps: state.keeps,
      sequence: this.sequence,
      sentAt,
      echo: this.echo,
      held: this.lastHeard === undefined ? 0 : micros(now - this.lastHeard),
      size: full ? this.config.fullSize : PROBE_BYTES,
    };
  }

  /** A received probe; false when it is of another boot or epoch and therefore ignored. */
  receive(now: number, p: Probe): boolean {
    const c = this.config;
    if (p.bootId !== c.peerBootId || p.epochs.mine !== c.epochs.yours || p.epochs.yours !== c.epochs.mine)
      return false;
    this.lastHeard = now;
    this.echo = p.sentAt;
    this.remoteDown = p.down;
    if (p.size >= c.fullSize) this.heardFullHere = true;
    if (p.heardFull) this.heardFullThere = true;
    this.accepted = p.accepted;
    this.remoteFlipped = p.flipped;
    this.remoteKeeps = p.keeps;
    if (p.hearYou) this.lastHearYou = now;
    if (p.echo !== 0) {
      const sample = ((micros(now) - p.echo - p.held) >>> 0) / 1000;
      if (sample < 10_000)
        this.roundTrip = this.roundTrip === undefined ? sample : this.roundTrip * 0.875 + sample * 0.125;
    }
    return true;
  }

  private get detection(): number {
    return this.config.interval * this.config.multiplier;
  }

  private hears(now: number): boolean {
    return this.lastHeard !== undefined && now - this.lastHeard <= this.detection;
  }

  /** When silence becomes a failure; undefined before the first probe was heard. */
  failureAt(): number | undefined {
    return this.lastHearYou === undefined ? undefined : this.lastHearYou + this.detection;
  }

  /** `mine` is the generation that the hub attests for this router: what the other end must accept. */
  verdict(now: number, mine: Id64): Verdict {
    if (this.remoteDown) return "down";
    if (this.lastHearYou === undefined) return "waiting";
    // the same sum as failureAt(), or rounding would leave a timer that never fires
    if (now >= this.lastHearYou + this.detection) return "lost";
    if (this.accepted !== mine) return "unaccepted";
    return this.heardFullHere && this.heardFullThere ? "proven" : "waiting";
  }

  /** In words, why the verdict is `lost`. */
  describeLoss(now: number): string {
    const silence = (since: number | undefined) => `${Math.round(now - (since ?? now))} ms`;
    return this.hears(now)
      ? `the owner has not heard our probes for ${silence(this.lastHearYou)}`
      : `no probe arrived for ${silence(this.lastHeard)}`;
  }

  /** In words, for `explain`, while not proven. */
  describe(mine: Id64): string {
    if (this.lastHeard === undefined) return "no probe arrived by the direct path";
    if (this.lastHearYou === undefined) return "the owner does not hear our probes on the direct path";
    if (!this.heardFullHere || !this.heardFullThere)
      return `probes of the full size (${this.config.fullSize} bytes of UDP) do not pass the direct path`;
    if (this.accepted !== mine) return "the owner does not accept our prefixes yet";
    return "proven";
  }
}

const micros = (ms: number): number => Math.round(ms * 1000) >>> 0;
