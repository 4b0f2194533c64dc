/**
 * The result of the probes of one shortcut's path: whether it is proven, why not yet, or how it was
 * lost. Probes are sent and received by a {@link ProbeStream}, which decides when silence is a
 * failure. This class draws the conclusions from their content.
 */

import type { Id64 } from "../../wire/control/message.js";
import type { Probe } from "../../wire/probe.js";
import type { Reason } from "../reasons.js";
import type { Loss } from "./stream.js";

export type Proof =
  /** Nothing is conclusive yet. */
  | "waiting"
  /** Probes are heard in both directions at full size, and our sources are accepted. */
  | "proven"
  | "unaccepted"
  /** The other end falls back on purpose (RFC 5880's AdminDown): not a failure of the path. */
  | "down"
  | "lost";

export class Prober {
  private hears = false;
  private heardFullHere = false;
  private heardFullThere = false;
  private remoteDown = false;
  private loss: { readonly at: number; readonly loss: Loss; readonly silence: number } | undefined;
  heard = false;
  accepted: Id64 | undefined;
  remoteFlipped = false;
  /**
   * Whether the other end itself still routes everything that this end accepts from it:
   * {@link Probe.ownsRoutes}.
   */
  remoteKeeps = false;
  /** Round trip smoothed as in RFC 6298, in milliseconds. */
  roundTrip: number | undefined;
  /** Number of measurements in `roundTrip`. */
  samples = 0;

  /** @param fullSize UDP payload that fills the overlay's MTU */
  constructor(private readonly fullSize: number) {}

  /** Takes a probe of this attempt that arrived at `at`. */
  receive(at: number, p: Probe): void {
    this.heard = true;
    this.remoteDown = p.down;
    if (p.size >= this.fullSize) this.heardFullHere = true;
    if (p.heardFull !== 0) this.heardFullThere = true;
    this.accepted = p.accepted;
    this.remoteFlipped = p.flipped;
    this.remoteKeeps = p.ownsRoutes;
    if (p.hearYou) {
      this.hears = true;
      if (this.loss?.loss !== "narrow") this.loss = undefined;
    }
    if (p.echo === 0) return;
    const sample = ((Math.round(at * 1000) - p.echo - p.held) >>> 0) / 1000;
    if (sample >= 10_000) return;
    this.samples++;
    this.roundTrip = this.roundTrip === undefined ? sample : this.roundTrip * 0.875 + sample * 0.125;
  }

  lose(at: number, loss: Loss, silence: number): void {
    this.loss = { at, loss, silence };
  }

  /** The time at which the path was lost, while it is lost. */
  get lostAt(): number | undefined {
    return this.loss?.at;
  }

  /**
   * Returns the result; `accepts` tells whether an end that accepts a generation accepts what this router
   * sends.
   */
  verdict(accepts: (generation: Id64) => boolean): Proof {
    if (this.remoteDown) return "down";
    if (this.loss !== undefined) return "lost";
    if (!this.hears) return "waiting";
    if (this.accepted === undefined || !accepts(this.accepted)) return "unaccepted";
    return this.heardFullHere && this.heardFullThere ? "proven" : "waiting";
  }

  /** Describes in words how the path was lost. */
  describeLoss(): string {
    if (this.loss === undefined) return "nothing was lost";
    const silence = `${Math.round(this.loss.silence)} ms`;
    switch (this.loss.loss) {
      case "silent":
        return `no probe arrived for ${silence}`;
      case "unheard":
        return `the owner has not heard our probes for ${silence}`;
      case "narrow":
        return `probes of the full size (${this.fullSize} bytes of UDP) do not pass any more`;
    }
  }

  /** The reason when the path was lost. */
  get lost(): Reason {
    return { kind: "path-lost", loss: this.loss?.loss, silence: this.loss?.silence ?? 0 };
  }

  /** Returns why the path is not proven yet. */
  unproven(accepts: (generation: Id64) => boolean): Reason {
    if (!this.heard) return { kind: "no-probe" };
    if (!this.hears) return { kind: "probes-unheard" };
    if (!this.heardFullHere || !this.heardFullThere)
      return { kind: "full-size-dropped", bytes: this.fullSize };
    if (this.accepted === undefined || !accepts(this.accepted)) return { kind: "not-accepted-yet" };
    return { kind: "proven" };
  }
}
