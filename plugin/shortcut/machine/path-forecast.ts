/**
 * The forecast of a direct path, before it exists and from earlier ones: whether the NATs of both
 * ends let it pass, how much traffic wants it, and how its round trip compares. The offers carry it
 * as classes, and the operator's policy may decide by them.
 */

import { type Address, contains, type Prefix } from "../../net/address.js";
import type { Candidate, Mapping } from "../../wire/control/message.js";
import type { OfferClasses } from "../events.js";
import { isPrivate } from "../nat/candidates.js";
import { natPrognosisOf } from "../nat/mapping.js";
import { RateClass, type RoundTripClass } from "../offer/offer-classes.js";
import type { NatForecast, NatPrognosis } from "../reasons.js";

/** The known facts of this end. */
export interface ForecastHost {
  readonly mapping: Mapping;
  candidates(): readonly Candidate[];
  onLink(): readonly Prefix[];
}

/** The facts of the other end, from the exchange. */
export interface ForecastPeer {
  readonly mapping: Mapping;
  readonly candidates: readonly Candidate[];
}

export class PathForecast {
  natPrognosis: NatPrognosis = "likely";
  private readonly rate = new RateClass();

  constructor(
    private readonly host: ForecastHost,
    private readonly owner: Address,
    /** The round-trip class, of every attempt here and in earlier shortcuts with this owner. */
    private readonly roundTrip: RoundTripClass,
  ) {}

  /** Judges the NATs of both ends, once per attempt. */
  judge(peer: ForecastPeer | undefined): void {
    this.natPrognosis = peer === undefined ? "likely" : this.judged(peer);
  }

  private judged(peer: ForecastPeer): NatPrognosis {
    const { host } = this;
    const open = (c: Candidate): boolean =>
      c.kind === "configured" || (c.kind === "host" && !isPrivate(c.address));
    const near = (c: Candidate): boolean => host.onLink().some((p) => contains(p, c.address));
    const otherWay =
      peer.candidates.some((c) => open(c) || near(c)) || host.candidates().some((c) => open(c));
    return natPrognosisOf(host.mapping, peer.mapping, otherWay);
  }

  classes(now: number): OfferClasses {
    const { owner, natPrognosis } = this;
    return { owner, natPrognosis, rate: this.rate.value, roundTrip: this.roundTrip.at(now) };
  }

  /**
   * Notes the bits per second to the owner on all paths, and both round trips (milliseconds) of a
   * path in use.
   */
  read(now: number, rate: number, direct: number | undefined, hub: number | undefined): void {
    this.rate.read(now, rate);
    if (direct !== undefined && hub !== undefined) this.roundTrip.read(now, direct, hub);
  }

  /** Returns the known mappings of the NATs, and the forecast. */
  nat(peer: ForecastPeer | undefined): NatForecast {
    const there = peer?.mapping ?? "unknown";
    return { here: this.host.mapping, there, prognosis: this.natPrognosis };
  }
}
