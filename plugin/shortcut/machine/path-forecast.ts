/**
 * What is to be expected of a direct path, before there is one and from former ones: whether the NATs of both ends let it through, how much traffic
 * wants it, and how its round trip compares. The offers say it as marks, by which the operator's policy may decide.
 */
import { contains } from "../../net/address.js";
import type { Candidate, Mapping } from "../../wire/control/message.js";
import { isPrivate } from "../nat/candidates.js";
import { type NatPrognosis, natPrognosisOf } from "../nat/mapping.js";
import { type OfferClasses, RateClass, type RoundTripClass } from "../offer/offer-classes.js";
import type { Attempt } from "./attempt.js";

export class PathForecast {
  natPrognosis: NatPrognosis = "likely";
  private readonly rate = new RateClass();

  constructor(
    private readonly attempt: Attempt,
    /** Of every attempt, here and in machines before this one. */
    private readonly roundTrip: RoundTripClass,
  ) {}

  /** What the NATs of both ends let expect: judged once an attempt. */
  judge(): void {
    this.natPrognosis = this.judged();
  }

  private judged(): NatPrognosis {
    const { host, remote } = this.attempt;
    const { peer } = remote;
    if (peer === undefined) return "likely";
    const open = (c: Candidate): boolean =>
      c.kind === "configured" || (c.kind === "host" && !isPrivate(c.address));
    const near = (c: Candidate): boolean => host.onLink().some((p) => contains(p, c.address));
    const otherWay =
      peer.candidates.some((c) => open(c) || near(c)) || host.candidates().some((c) => open(c));
    return natPrognosisOf(host.mapping, peer.mapping, otherWay);
  }

  classes(now: number): OfferClasses {
    const { owner } = this.attempt;
    return {
      owner,
      natPrognosis: this.natPrognosis,
      rate: this.rate.value,
      roundTrip: this.roundTrip.at(now),
    };
  }

  /** Bits per second to the owner, by all ways; and of a path in use, both round trips in milliseconds. */
  read(now: number, rate: number, direct: number | undefined, hub: number | undefined): void {
    this.rate.read(now, rate);
    if (direct !== undefined && hub !== undefined) this.roundTrip.read(now, direct, hub);
    this.attempt.offers.updateClasses(this.classes(now));
  }

  natText(): string {
    const { host, remote } = this.attempt;
    const name = (m: Mapping): string =>
      m === "none" ? "no NAT" : m === "unknown" ? "unknown" : `${m} mapping`;
    const there = remote.peer?.mapping ?? "unknown";
    return `NAT: ${name(host.mapping)} here, ${name(there)} at the owner: a direct path is ${this.natPrognosis}`;
  }
}
