/**
 * Measures the round trip of the hub path, and decides whether the direct path may be used with its
 * own round trip. The hub path is measured by requests on the control port, which always go via the
 * overlay. One is made before the flip, or three when a rule waits for them, and further ones
 * periodically afterwards. The shortest of the last few counts. A request may be retransmitted
 * (Karn's algorithm would discard it) or wait in a busy event loop; neither makes it shorter.
 */

import type { Address } from "../../net/address.js";
import type { Id64, RequestBody } from "../../wire/control/message.js";
import type { Outcome } from "../control/link.js";
import type { RoundTripRule } from "../parameters.js";
import { no, type Verdict, YES } from "../reasons.js";

/** Milliseconds between measurements: while the flip waits for them, and otherwise. */
const FIRST = 100;
const LATER = 10_000;
const ENOUGH = 3;
const KEPT = 5;

export interface HubPathHost {
  random(): number;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
  cancel(id: Id64): void;
}

export class HubPath {
  private readonly samples: number[] = [];
  private pending: Id64 | undefined;
  private at: number | undefined;

  constructor(
    private readonly host: HubPathHost,
    private readonly owner: Address,
    now: number,
    /** Whether a rule waits for the result: otherwise one measurement at first is enough. */
    private readonly urgent: boolean,
  ) {
    this.at = now;
  }

  /** The round trip in milliseconds, once it is known. */
  get roundTrip(): number | undefined {
    return this.samples.length === 0 ? undefined : Math.min(...this.samples);
  }

  get known(): boolean {
    return this.samples.length >= ENOUGH;
  }

  stop(): void {
    if (this.pending !== undefined) this.host.cancel(this.pending);
    this.pending = undefined;
    this.at = undefined;
  }

  pollTimeout(): number | undefined {
    return this.at;
  }

  handleTimeout(now: number): void {
    if (this.at === undefined || now < this.at) return;
    this.at = undefined;
    this.pending = this.host.request(now, this.owner, { kind: "ping" }, (t, o) => {
      this.pending = undefined;
      if (o.kind === "reply" && o.body.kind === "pong") {
        this.samples.push(t - now);
        if (this.samples.length > KEPT) this.samples.shift();
      }
      const soon = this.urgent && !this.known && o.kind !== "timeout";
      this.at = t + (soon ? FIRST : LATER * (0.75 + 0.5 * this.host.random()));
    });
  }
}

/**
 * A path in use is left when its round trip exceeds the limit by this factor, for the time below.
 */
const SLACK = 1.25;
const SLACK_MS = 1;
const PATIENCE = 10_000;
/**
 * Milliseconds to wait for the hub path's round trip. A hub that does not carry requests must not
 * hold a shortcut on the hub path.
 */
const WAIT = 3_000;

/** Applies the rule to one path, over time. */
export class RoundTripCheck {
  private slowSince: number | undefined;
  private asked: number | undefined;

  constructor(private readonly rule: RoundTripRule | undefined) {}

  private limit(hub: number): number {
    return this.rule === undefined ? Number.POSITIVE_INFINITY : hub * this.rule.ratio + this.rule.margin;
  }

  private slow(direct: number, hub: number): Verdict {
    return no({ kind: "slower", direct, hub, limit: this.limit(hub) });
  }

  /** Judges a path that is proven and not used yet. */
  before(
    now: number,
    direct: { readonly roundTrip: number | undefined; readonly samples: number },
    hub: HubPath,
  ): Verdict | "wait" {
    if (this.rule === undefined) return YES;
    this.asked ??= now;
    if ((!hub.known || direct.samples < ENOUGH) && now < this.asked + WAIT) return "wait";
    if (direct.roundTrip === undefined || hub.roundTrip === undefined) return YES;
    return direct.roundTrip > this.limit(hub.roundTrip) ? this.slow(direct.roundTrip, hub.roundTrip) : YES;
  }

  /** Judges a path in use. */
  during(now: number, direct: number | undefined, hub: number | undefined): Verdict {
    if (this.rule === undefined || direct === undefined || hub === undefined) return YES;
    if (direct <= this.limit(hub) * SLACK + SLACK_MS) this.slowSince = undefined;
    else this.slowSince ??= now;
    return this.slowSince !== undefined && now >= this.slowSince + PATIENCE ? this.slow(direct, hub) : YES;
  }
}
