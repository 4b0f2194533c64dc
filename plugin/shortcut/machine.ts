/**
 * One shortcut: everything between this router and one owner. The stages, and what ends each:
 *
 *   resolving   the hub says what the owner owns                      -> exchanging, or offered when the other end asked first
 *   exchanging  keys, epochs and candidates with the owner            -> offered
 *   offered     routes stand in the daemon; both daemons must select  -> connecting | refused at the deadline
 *   refused     a daemon said no; offers stand, so a change of policy is noticed at once -> connecting | backoff when it cools
 *   connecting  peers configured (responder first), handshake, probes -> direct | returning
 *   direct      aliases point at the direct interface, probes watch it -> returning
 *   returning   aliases point at the overlay; waits until the FIB shows it, overrides a frozen FIB -> draining
 *   draining    offers withdrawn; waits for the other end's `flipped` and the drain time, removes the peer -> backoff | gone
 *   backoff     waits, then starts again if the destination is still hot -> resolving | gone
 *
 * After RFC 2332 (resolution, purge) and RFC 5880 (probes). The machine is told facts and never assumes that an effect
 * happened. Invariants are numbered in doc/invariants.md.
 */
import {
  type Address,
  contains,
  type Endpoint,
  formatEndpoint,
  type Prefix,
  sameEndpoint,
} from "../net/address.js";
import { type PublicKey, shortKey } from "../net/key.js";
import { unreachable } from "../net/result.js";
import { ZERO_ID } from "../wire/control/codec.js";
import type {
  Candidate,
  ExchangeBody,
  Id64,
  Mapping,
  ReplyBody,
  RequestBody,
} from "../wire/control/message.js";
import type { Ping } from "../wire/ping.js";
import type { Presence } from "./absence.js";
import { isPrivate } from "./candidates.js";
import { Checks, type ChecksHost } from "./checks.js";
import type { Correspondent, Outcome } from "./control.js";
import {
  type Ending,
  FAILED,
  FOLLOWED,
  FOLLOWED_FAILURE,
  HARMFUL,
  HOPELESS,
  ORDERLY,
  PATH_FAILED,
  pauseAfter,
  type Setbacks,
  SILENT,
  UNREACHABLE,
  UNWANTED,
} from "./endings.js";
import type { Milestone, PeerStatus, RouteState, ShortcutStatus, Stage } from "./events.js";
import { type Prospect, prospectOf } from "./mapping.js";
import { describeMarks, type Marks, RateClass, type RoundTripClass } from "./marks.js";
import { Offers, type OffersHost } from "./offers.js";
import { busy, OtherEnd, type OtherEndHost, stale } from "./otherend.js";
import type { StreamEvent } from "./probe-stream.js";
import { HubPath, RoundTripCheck } from "./roundtrip.js";
import { Tunnel, type TunnelHost } from "./tunnel.js";

export type { Setbacks };

/** What a machine needs of its engine. */
export interface Host extends OffersHost, OtherEndHost, TunnelHost, ChecksHost {
  random(): number;
  /** Whether this router has routes of its own to all prefixes that the hub attests for it. */
  routesOwn(now: number): boolean;
  /** Generation of this router's own prefixes, as the hub attests them; undefined until the hub said. */
  selfGeneration(now: number): Id64 | undefined;
  /** A route underneath went: is it the hub that went? {@link Shortcut.hubPresence} is told. */
  suspectHub(now: number): void;
  /** Asks the hub what the owner owns. */
  resolveOwner(
    now: number,
    owner: Address,
    done: (now: number, r: Attested | { readonly refusal: string }) => void,
  ): void;
  /** Whether traffic still wants this owner. */
  isHot(prefixes: readonly Prefix[]): boolean;
  /** Asks the hubs anew from where they see this router. */
  reobserve(now: number): void;
  directUsable(): { readonly usable: boolean; readonly reason: string };
}

export interface Attested {
  readonly prefixes: readonly Prefix[];
  readonly generation: Id64;
}

/** Without a hub there is nothing to go back to: a path that is silent may come back for so many milliseconds more. */
const ORPHAN_PATIENCE = 3_000;

export class Shortcut {
  stage: Stage = "resolving";
  since: number;
  reason = "";
  private attested: Attested | undefined;
  private readonly offers: Offers;
  private readonly them: OtherEnd;
  private tunnel: Tunnel | undefined;
  /** From the own daemon's selection on, where both ends can send pings. */
  private checks: Checks | undefined;
  private prospect: Prospect = "likely";
  private readonly rateClass = new RateClass();
  private hubPath: HubPath | undefined;
  private roundTrips: RoundTripCheck;
  /** {@link natText} of the attempt before, during the pause after it. */
  private lastNat = "";
  private flippedShown = false;
  private deadline: number | undefined;
  /** Since when offers stand without a route underneath: the hub may be gone. */
  private orphanedAt: number | undefined;
  private refreshAt: number | undefined;
  private ending: (Ending & { readonly reason: string }) | undefined;
  /** The boot of the other end with which the direct path failed, during the pause after it. */
  private held: { readonly bootId: Id64; readonly candidates: string } | undefined;
  /** The pause ends when this router is found to be reachable elsewhere. */
  private waitsForNat = false;
  /** The pause ends when an offer of this prefix does no harm any more. */
  private harmed: Prefix | undefined;

  constructor(
    private readonly host: Host,
    readonly owner: Address,
    public origin: "local" | "remote",
    now: number,
    /** What went wrong in a row, here and in machines before this one: it lengthens the pause. */
    readonly setbacks: Setbacks,
    /** The same, of what the two ways to the owner have been measured to be. */
    private readonly roundTripClass: RoundTripClass,
  ) {
    this.since = now;
    this.them = new OtherEnd(host, owner);
    this.offers = new Offers(host, owner);
    this.roundTrips = new RoundTripCheck(host.parameters.maxRoundTrip);
  }

  // ------------------------------------------------------------------------------------------ stages

  private enter(now: number, stage: Stage, reason: string): void {
    const previous = this.stage;
    this.stage = stage;
    this.since = now;
    this.reason = reason;
    this.deadline = undefined;
    this.refreshAt = undefined;
    const transition = { owner: this.owner, stage, previous, reason, prefixes: this.offers.prefixes };
    this.host.emit({ kind: "transition", transition });
  }

  /** A destination of this owner is hot and the hub has said what the owner owns. */
  startLocal(now: number, attested: Attested, why: string): void {
    this.attested = attested;
    this.beginExchange(now, why);
  }

  /** The other end asked first; what it owns is still to be learnt from the hub, never from itself. */
  private startRemote(now: number): void {
    this.enter(now, "resolving", "the other end asked for a shortcut");
    this.host.resolveOwner(now, this.owner, (t, r) => {
      if (this.stage !== "resolving") return;
      if ("refusal" in r) this.turnBack(t, r.refusal, FAILED);
      else {
        this.attested = r;
        if (this.them.peer === undefined) this.beginExchange(t, "resolved");
        else this.announce(t);
      }
    });
  }

  private beginExchange(now: number, why: string): void {
    this.enter(now, "exchanging", why);
    this.them.send(now, "exchange", { kind: "exchange", ...this.them.exchangeBody() }, (t, outcome) => {
      if (this.stage !== "exchanging") return;
      if (outcome.kind === "timeout")
        this.turnBack(t, `${this.owner} does not answer: is shortcutd running there?`, FAILED);
      else if (outcome.body.kind === "exchanged") {
        const b = outcome.body;
        if (b.epochs.yours !== this.them.epochs.mine)
          this.turnBack(t, "the owner answered another attempt", FAILED);
        else {
          this.adopt(outcome.from, b);
          this.announce(t);
        }
      } else {
        // an end that is busy will not be for long, and two that call each other busy must not wait ever longer
        const busyThere = outcome.body.kind === "refused" && outcome.body.code === "busy";
        if (busyThere) this.setbacks.deferrals++;
        this.turnBack(t, refusalText(outcome.body), busyThere ? ORDERLY : FAILED);
      }
    });
  }

  private adopt(from: Correspondent, b: ExchangeBody): void {
    this.them.adopt(from, b);
    this.setbacks.deferrals = 0;
    this.milestone("exchanged", `key ${shortKey(from.publicKey)}, ${b.candidates.length} candidate(s)`);
  }

  /** Offers every attested prefix that has a route of the daemon's own underneath, by the overlay. */
  private announce(now: number): void {
    this.enter(now, "offered", "waiting for the daemons");
    this.deadline = now + this.host.parameters.offerTimeout;
    this.refreshAt = now + this.host.parameters.refresh;
    this.prospect = this.judgeProspect();
    const { refusals } = this.offers.update(this.prefixes, this.marks(now));
    if (this.offers.empty)
      this.turnBack(now, refusals[0] ?? `the hub attests no prefix for ${this.owner}`, FAILED);
  }

  /** Something that bears on selection changed: tell the other end, go forth or back. */
  private consider(now: number): void {
    switch (this.stage) {
      case "offered":
      case "refused": {
        if (this.offers.empty) {
          this.turnBack(now, this.offers.refusal(), ORDERLY);
          return;
        }
        this.tellSelected(now);
        if (this.agreed) this.connect(now);
        return;
      }
      case "connecting":
      case "direct":
        if (!this.agreed) this.turnBack(now, this.offers.refusal(), ORDERLY);
        else if (this.oneWay) this.tellSelected(now);
        return;
      default:
        return;
    }
  }

  /** Both operators let one daemon's selection be enough. */
  private get oneWay(): boolean {
    return this.host.parameters.oneWay && this.them.oneWay;
  }

  /** Both daemons have selected; or one, and that is enough. */
  private get agreed(): boolean {
    const here = this.offers.selected;
    const there = this.them.selected;
    return this.oneWay ? !this.offers.empty && (here || there) : here && there;
  }

  private tellSelected(now: number, again = false): void {
    const { selected } = this.offers;
    const { told } = this.them;
    if (told.selected === selected && !again) return;
    if (selected && told.selected !== true) this.milestone("selected", this.offers.prefixes.join(", "));
    // before the deadline, "not yet" is no news
    if (!selected && told.selected === undefined && !again) return;
    told.selected = selected;
    if (selected) this.openNat(now);
    const reason = selected ? "" : this.offers.refusal();
    const { epochs } = this.them;
    const { oneWay } = this.host.parameters;
    this.them.send(now, "selected", { kind: "selected", epochs, selected, reason, oneWay }, (t, o) =>
      this.afterTelling(t, o),
    );
  }

  private afterTelling(now: number, outcome: Outcome): void {
    if (outcome.kind === "timeout") {
      if (this.stage === "offered" || this.stage === "refused" || this.stage === "connecting")
        this.turnBack(now, `${this.owner} fell silent`, SILENT);
    } else if (outcome.body.kind === "refused" && outcome.body.code === "stale") {
      this.turnBack(now, "the other end started anew", FOLLOWED);
    }
  }

  // ------------------------------------------------------------------------------------------ the tunnel

  /** Before the other end may send: what arrives at a NAT that is not open harms it. Only once the own daemon has selected. */
  private openNat(now: number): void {
    const { peer, epochs } = this.them;
    if (peer === undefined || !peer.pings || !this.host.pingsUsable) return;
    const { publicKey, candidates } = peer;
    this.checks ??= new Checks(this.host, { publicKey, candidates, epochs, prefixes: this.prefixes });
    if (!this.checks.stale(now)) return;
    this.checks.open(now);
    this.milestone("opened", `towards ${this.checks.list()}`);
  }

  private connect(now: number): void {
    const { peer } = this.them;
    if (peer === undefined) return;
    const { usable, reason } = this.host.directUsable();
    if (!usable || !this.them.reachable) {
      const unknown = "neither end knows its public endpoint yet: no hub has heard the direct interfaces";
      this.turnBack(now, usable ? unknown : reason, FAILED);
      return;
    }
    const here = this.offers.selected;
    const both = here && this.them.selected;
    this.enter(
      now,
      "connecting",
      both ? "both daemons selected" : `one way: ${here ? "this router's" : "the owner's"} daemon selected`,
    );
    // the other end waits for our answer
    if (this.oneWay && this.them.told.selected === undefined) this.tellSelected(now, true);
    this.deadline = now + this.host.parameters.connectTimeout;
    const { owner, prefixes } = this;
    const { epochs, role } = this.them;
    const accepted = this.attested?.generation ?? ZERO_ID;
    const tunnel = new Tunnel(this.host, { owner, peer, epochs, role, prefixes, accepted }, now);
    this.tunnel = tunnel;
    this.hubPath = new HubPath(this.host, owner, now, this.host.parameters.maxRoundTrip !== undefined);
    this.roundTrips = new RoundTripCheck(this.host.parameters.maxRoundTrip);
    this.openNat(now);
    const { checks } = this;
    if (checks === undefined) {
      if (role === "responder" || this.them.ready) tunnel.configure(peer.candidates[0]);
      return;
    }
    // the responder learns where the initiator is from its handshake, so that two initiations cannot cross
    if (role === "responder") tunnel.configure(undefined);
    else this.deadline = now + this.host.parameters.checkTimeout;
    if (this.them.open(now)) checks.start(now);
    this.advance(now);
  }

  /** The initiator takes the best pair that works, once the responder's peer is there; and a better one later. */
  private advance(now: number): void {
    const { checks, tunnel } = this;
    if (checks === undefined || tunnel?.role !== "initiator") return;
    if (this.stage === "connecting" && !tunnel.configured && this.them.ready) {
      const found = checks.nominee(now);
      if (found === undefined) return;
      this.milestone("path-found", `${formatEndpoint(found)} (${checks.kindOf(found)})`);
      this.deadline = now + this.host.parameters.connectTimeout;
      checks.use(now, found, false);
      tunnel.configure(found);
    } else if (this.stage === "direct") {
      const better = checks.better();
      if (better === undefined || sameEndpoint(better, tunnel.endpoint)) return;
      this.milestone("better-path", `${formatEndpoint(better)} (${checks.kindOf(better)})`);
      tunnel.move(better);
      checks.use(now, better, true);
    }
  }

  /** An authentic ping of the other end; false when it is of another attempt. */
  handlePing(now: number, from: Endpoint, at: Address, ping: Ping): boolean {
    if (!this.them.isCurrent(ping.epochs)) return false;
    // who sends pings has selected, unless one selection is enough
    if (
      ping.kind === "ping" &&
      (this.stage === "offered" || this.stage === "refused") &&
      !this.host.parameters.oneWay
    )
      this.handleSelected(now, true, "");
    const { checks } = this;
    const active = this.stage === "connecting" || this.stage === "direct";
    if (checks === undefined || !active || !this.agreed) return true;
    if (ping.ready) this.them.ready = true;
    checks.receive(now, from, at, ping);
    this.advance(now);
    return true;
  }

  /** What the NATs of both ends let expect. */
  private judgeProspect(): Prospect {
    const { peer } = this.them;
    if (peer === undefined) return "likely";
    const open = (c: Candidate): boolean =>
      c.kind === "configured" || (c.kind === "host" && !isPrivate(c.address));
    const near = (c: Candidate): boolean => this.host.onLink().some((p) => contains(p, c.address));
    const otherWay =
      peer.candidates.some((c) => open(c) || near(c)) || this.host.candidates().some((c) => open(c));
    return prospectOf(this.host.mapping, peer.mapping, otherWay);
  }

  private marks(now: number): Marks {
    const { owner, prospect } = this;
    return { owner, prospect, rate: this.rateClass.value, roundTrip: this.roundTripClass.at(now) };
  }

  /** What this router sends to the owner by the overlay, bits per second: read again and again. */
  trafficRead(now: number, byOverlay: number): void {
    this.rateClass.read(now, byOverlay + (this.stage === "direct" ? (this.tunnel?.sentRate ?? 0) : 0));
    const [direct, hub] = [this.tunnel?.prober.roundTrip, this.hubPath?.roundTrip];
    if (this.stage === "direct" && direct !== undefined && hub !== undefined)
      this.roundTripClass.read(now, direct, hub);
    this.offers.remark(this.marks(now));
  }

  private get hopeless(): boolean {
    return this.prospect === "hopeless";
  }

  private natText(): string {
    const name = (m: Mapping): string =>
      m === "none" ? "no NAT" : m === "unknown" ? "unknown" : `${m} mapping`;
    const there = this.them.peer?.mapping ?? "unknown";
    return `NAT: ${name(this.host.mapping)} here, ${name(there)} at the owner: a direct path is ${this.prospect}`;
  }

  /** Where this end may be reached, or what it may reach, has changed. */
  candidatesChanged(now: number): void {
    if (this.stage === "backoff" && this.waitsForNat) {
      this.waitsForNat = false;
      this.deadline = Math.min(this.deadline ?? now, now + this.host.parameters.backoff * this.host.random());
      return;
    }
    if (this.stage !== "connecting" && this.stage !== "direct") return;
    this.checks?.improveNow(now);
    this.them.send(now, "update", { kind: "update", ...this.them.update() }, () => {});
  }

  peerApplied(now: number, error: string | undefined): void {
    const { tunnel } = this;
    if (tunnel === undefined || !tunnel.configured) return;
    const news = tunnel.markApplied();
    if (error !== undefined) {
      this.turnBack(now, `cannot configure the peer: ${error}`, FAILED);
      return;
    }
    if (!news) return;
    this.milestone("peer-created", tunnel.role);
    if (this.checks !== undefined) this.checks.ready = true;
    if (this.stage !== "connecting") return;
    tunnel.startProbes(this.host.routesOwn(now));
    if (tunnel.role === "responder") {
      const { epochs } = this.them;
      this.them.send(now, "ready", { kind: "ready", epochs }, (t, o) => {
        this.afterTelling(t, o);
        // the other end has opened its NAT before it answered
        if (this.stage === "connecting") this.checks?.start(t);
      });
    }
  }

  peerStatus(now: number, s: PeerStatus): void {
    this.tunnel?.observe(now, s, this.stage === "connecting");
    this.sayProbes(now);
  }

  handleProbe(now: number, event: StreamEvent): void {
    if (this.tunnel === undefined || (this.stage !== "connecting" && this.stage !== "direct")) return;
    this.tunnel.receive(event);
    this.judge(now, this.tunnel);
    this.sayProbes(now);
  }

  /** What our probes tell the other end, after anything that bears on it. */
  private sayProbes(now: number): void {
    const { tunnel } = this;
    if (tunnel === undefined) return;
    const flipped = this.offers.onDirect;
    const down = this.stage !== "connecting" && this.stage !== "direct";
    const idle = this.stage === "direct" && tunnel.quiet(now);
    tunnel.say({ flipped, down, keeps: this.host.routesOwn(now), idle });
  }

  private judge(now: number, tunnel: Tunnel): void {
    const { prober } = tunnel;
    if (this.orphanedAt !== undefined && !prober.remoteKeeps) {
      this.updateOffers(now, false);
      this.consider(now);
    }
    const verdict = prober.verdict(this.host.selfGeneration(now) ?? ZERO_ID);
    if (this.stage === "connecting") {
      if (verdict === "proven" && tunnel.applied) this.weigh(now, tunnel);
      return;
    }
    if (this.stage !== "direct") return;
    switch (verdict) {
      case "lost":
        if (now < (this.failureAt(tunnel) ?? now)) return;
        this.milestone("path-failed", prober.describeLoss());
        this.host.reobserve(now);
        this.turnBack(now, "the direct path failed", PATH_FAILED);
        return;
      case "down":
        this.turnBack(now, "the other end goes back", FOLLOWED);
        return;
      case "unaccepted":
        this.turnBack(now, "the owner no longer accepts our prefixes", ORDERLY);
        return;
      case "waiting":
        return;
      case "proven": {
        const fits = this.roundTrips.during(now, prober.roundTrip, this.hubPath?.roundTrip);
        if (fits.kind === "slow") this.turnBack(now, fits.reason, UNWANTED);
        return;
      }
      default:
        unreachable(verdict);
    }
  }

  /** A proven path is used, unless it is longer than it may be. */
  private weigh(now: number, tunnel: Tunnel): void {
    const fits =
      this.hubPath === undefined
        ? ({ kind: "fits" } as const)
        : this.roundTrips.before(now, tunnel.prober, this.hubPath);
    if (fits.kind === "fits") this.flip(now, tunnel);
    else if (fits.kind === "slow") this.turnBack(now, fits.reason, UNWANTED);
  }

  /** When silence counts as a failure: later while there is no hub to go back to. */
  private failureAt(tunnel: Tunnel): number | undefined {
    const at = tunnel.prober.lostAt;
    return at === undefined || this.orphanedAt === undefined ? at : at + ORPHAN_PATIENCE;
  }

  private flip(now: number, tunnel: Tunnel): void {
    const { roundTrip } = tunnel.prober;
    const rtt = roundTrip === undefined ? "" : `round trip ${roundTrip.toFixed(1)} ms`;
    this.milestone("path-proven", rtt);
    this.enter(now, "direct", rtt);
    tunnel.busyAt = now;
    this.flippedShown = false;
    this.milestone("flipping", "");
    this.offers.point("direct");
    this.sayProbes(now);
    tunnel.keepAlive();
    this.checks?.use(now, tunnel.endpoint, tunnel.role === "initiator");
  }

  // ------------------------------------------------------------------------------------------ the way back

  /** From anywhere: first the alias, then everything else. */
  private turnBack(now: number, reason: string, ending: Ending): void {
    switch (this.stage) {
      case "returning":
      case "draining":
      case "backoff":
      case "gone":
        return;
      default:
    }
    this.them.cancelRequests();
    this.hubPath?.stop();
    this.ending = { ...ending, reason };
    if (ending.failure) this.setbacks.failures++;
    if (ending.path === true && this.stage === "direct") this.setbacks.damping.fail(now);
    this.offers.point("overlay");
    this.enter(now, "returning", reason);
    this.sayProbes(now);
    this.deadline = now + this.host.parameters.overrideAfter;
    const { peer, epochs } = this.them;
    if (peer === undefined) this.them.flipped = true;
    else if (ending.tell)
      this.farewell(now, { kind: "withdraw", epochs, reason, failed: ending.path === true });
    this.checkReturned(now);
  }

  private checkReturned(now: number): void {
    if (this.stage !== "returning" || this.offers.stillDirect().length > 0) return;
    this.milestone("flipped-back", this.ending?.reason ?? "");
    this.offers.withdrawAll();
    this.enter(now, "draining", this.ending?.reason ?? "");
    const { peer, told, epochs } = this.them;
    if (peer !== undefined && !told.flipped) {
      told.flipped = true;
      this.farewell(now, { kind: "flipped", epochs });
    }
    const awaited =
      this.them.flipped || this.tunnel?.configured !== true ? 0 : this.host.parameters.remoteHold;
    this.deadline = now + awaited + this.host.parameters.drain;
  }

  private otherFlipped(now: number): void {
    this.them.flipped = true;
    if (this.stage === "draining" && this.tunnel?.configured === true)
      this.deadline = Math.min(this.deadline ?? Number.POSITIVE_INFINITY, now + this.host.parameters.drain);
  }

  /** The drain is over: the peer goes, unless a FIB route still points at it (a daemon that is dead and came back). */
  private finishDrain(now: number): void {
    if (this.offers.stillDirect().length > 0) {
      this.offers.overrideStillDirect();
      this.deadline = now + this.host.parameters.drain;
      return;
    }
    this.tunnel?.remove();
    this.offers.release();
    this.rest(now);
  }

  private rest(now: number): void {
    const reason = this.ending?.reason ?? this.reason;
    const suppressed = this.setbacks.damping.suppressedFor(now) > 0;
    const { peer } = this.them;
    const { ending } = this;
    const held = suppressed || ending?.hold === true ? peer : undefined;
    const nat = peer === undefined ? this.lastNat : this.natText();
    this.reset();
    this.lastNat = nat;
    this.held = held && { bootId: held.bootId, candidates: textOf(held.candidates) };
    this.waitsForNat = ending?.hold === true && ending.harm !== true && !suppressed;
    this.enter(now, "backoff", reason);
    const p = this.host.parameters;
    const pauses =
      ending?.hopeless === true && (ending.harm !== true || this.harmed !== undefined)
        ? { ...p, backoff: p.backoffMax }
        : ending?.forgotten === true
          ? { ...p, backoff: p.checkPause }
          : p;
    const pause = pauseAfter(this.setbacks, pauses, this.host.random());
    this.deadline = now + Math.max(pause, this.setbacks.damping.suppressedFor(now));
  }

  private reset(): void {
    this.them.startAnew();
    this.tunnel = undefined;
    this.checks = undefined;
    this.hubPath = undefined;
    this.attested = undefined;
    this.flippedShown = false;
    this.orphanedAt = undefined;
    this.ending = undefined;
  }

  private farewell(now: number, body: RequestBody): void {
    this.them.farewell(now, body, (t) => this.otherFlipped(t));
  }

  // ------------------------------------------------------------------------------------------ facts

  routeState(now: number, s: RouteState): void {
    if (!this.offers.observe(s)) return;
    if (this.stage === "direct" && !this.flippedShown && s.path === "direct") {
      this.flippedShown = true;
      this.milestone("flipped", s.prefix);
    }
    if (s.harmful && this.offers.stands(s.prefix)) {
      this.turnBack(now, s.reason, FAILED);
      return;
    }
    this.checkReturned(now);
    this.consider(now);
  }

  /** An offer of the prefix does harm to a neighbour of the daemon: it goes, and comes back when that has changed. */
  harm(now: number, prefix: Prefix, reason: string): void {
    if (!this.offers.stands(prefix)) return;
    this.harmed = prefix;
    this.turnBack(now, reason, HARMFUL);
  }

  harmedBy(prefix: Prefix): boolean {
    return this.harmed === prefix;
  }

  harmOver(now: number): void {
    this.harmed = undefined;
    if (this.stage === "backoff")
      this.deadline = Math.min(this.deadline ?? now, now + this.host.parameters.backoff * this.host.random());
  }

  explained(prefix: Prefix, reason: string): void {
    if (this.offers.explained(prefix, reason) && this.stage === "refused") this.reason = reason;
  }

  underneathChanged(now: number): void {
    switch (this.stage) {
      case "offered":
      case "refused":
      case "connecting":
      case "direct":
        this.updateOffers(now, true);
        this.consider(now);
        return;
      default:
    }
  }

  /**
   * A shortcut that is direct may outlive the hub's routes, for a bounded time, while the owner confirms by the direct path that it still routes its prefixes;
   * not when the hub is there and has taken the routes away.
   */
  private updateOffers(now: number, hubMayBeGone: boolean): void {
    const may =
      hubMayBeGone && this.stage === "direct" && this.ownerKeeps && this.host.parameters.outlive > 0;
    const { orphans } = this.offers.update(this.prefixes, this.marks(now), may);
    if (orphans === 0) {
      if (this.orphanedAt !== undefined) this.reason = "";
      this.orphanedAt = undefined;
    } else {
      this.orphanedAt ??= now;
      this.host.suspectHub(now);
    }
  }

  private get ownerKeeps(): boolean {
    return this.tunnel?.prober.remoteKeeps === true;
  }

  /** What has become of the suspicion that the hub is gone. */
  hubPresence(now: number, presence: Presence): void {
    if (this.orphanedAt === undefined) return;
    if (presence === "present") {
      this.updateOffers(now, false);
      this.consider(now);
    } else if (presence === "absent") {
      this.reason = `the hub is gone: stays for up to ${Math.round(this.host.parameters.outlive / 1000)} s, while the owner confirms its prefixes`;
      this.milestone("outlives-hub", this.reason);
    }
  }

  /** The offers session is gone: the daemon has dropped every offer. */
  sessionDown(now: number, reason: string): void {
    this.offers.dropped(reason);
    this.consider(now);
  }

  /** A new attestation of the owner after a purge. */
  reattested(now: number, a: Attested | { readonly refusal: string }): void {
    if ("refusal" in a) {
      this.turnBack(now, a.refusal, ORDERLY);
      return;
    }
    if (this.attested === undefined || this.livesBy(a.generation)) return;
    // Further prefixes need both ends' consent before the first packet: go by the hub and come back with the new set.
    this.turnBack(now, "the hub's routes to the owner changed", ORDERLY);
  }

  /** Whether it stands on this attestation. */
  livesBy(generation: Id64): boolean {
    return this.attested?.generation === generation;
  }

  directUnusable(now: number, reason: string): void {
    if (this.stage === "connecting" || this.stage === "direct") this.turnBack(now, reason, FAILED);
  }

  stop(now: number, reason: string): void {
    if (this.stage === "backoff") this.enter(now, "gone", reason);
    else this.turnBack(now, reason, ORDERLY);
  }

  get resting(): boolean {
    return this.stage === "backoff" || this.stage === "gone";
  }

  /** Nothing in the kernel needs this machine any more. */
  get finished(): boolean {
    return this.stage === "gone" && !this.offers.overriding;
  }

  get prefixes(): readonly Prefix[] {
    return this.attested?.prefixes ?? [];
  }

  get bootId(): Id64 | undefined {
    return this.them.peer?.bootId;
  }

  get publicKey(): PublicKey | undefined {
    return this.them.peer?.publicKey;
  }

  offersPrefix(prefix: Prefix): boolean {
    return this.offers.holds(prefix);
  }

  // ------------------------------------------------------------------------------------------ the other end's messages

  handleRequest(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    if (body.kind === "exchange") return this.handleExchange(now, from, body);
    // it overtook the reply to our exchange
    if (this.stage === "exchanging" && "epochs" in body && body.epochs.yours === this.them.epochs.mine)
      return undefined;
    if (this.them.isAnother(from)) {
      this.turnBack(now, "the other end restarted", FOLLOWED);
      this.otherFlipped(now);
      return stale("another boot of this end is known");
    }
    if ("epochs" in body && !this.them.isCurrent(body.epochs)) return stale(`${body.kind} of another epoch`);
    switch (body.kind) {
      case "selected":
        this.them.oneWay = body.oneWay;
        this.handleSelected(now, body.selected, body.reason);
        return { kind: "ack" };
      case "ready":
        this.them.ready = true;
        this.them.wantedAt = now;
        if (!this.them.selected && !this.host.parameters.oneWay) this.handleSelected(now, true, "");
        if (this.stage === "connecting") this.responderReady(now);
        return { kind: "ack" };
      case "update":
        this.them.learn(body.candidates, body.mapping);
        this.checks?.learn(body.candidates);
        this.checks?.improveNow(now);
        return { kind: "ack" };
      case "withdraw":
        this.turnBack(
          now,
          `the other end went back: ${body.reason}`,
          body.failed ? FOLLOWED_FAILURE : FOLLOWED,
        );
        return { kind: "ack" };
      case "flipped":
        this.turnBack(now, "the other end went back", FOLLOWED);
        this.otherFlipped(now);
        return { kind: "ack" };
      default:
        return { kind: "refused", code: "not-permitted", reason: `${body.kind} is for hubs` };
    }
  }

  private responderReady(now: number): void {
    if (this.checks === undefined) this.tunnel?.configure(this.them.peer?.candidates[0]);
    else {
      this.checks.start(now);
      this.advance(now);
    }
  }

  private handleExchange(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const reply = (): ReplyBody => ({ kind: "exchanged", ...this.them.exchangeBody() });
    switch (this.stage) {
      case "resolving":
      case "exchanging":
        this.adopt(from, b);
        if (this.stage === "exchanging" && this.attested !== undefined) {
          this.them.cancelRequests();
          this.announce(now);
        }
        return this.stageNow() === "offered" || this.stageNow() === "resolving" ? reply() : busy(this.reason);
      case "backoff":
        if (this.holdsBack(from, b) && this.deadline !== undefined && now < this.deadline)
          return busy(`holding back after: ${this.reason}`);
        this.origin = "remote";
        this.adopt(from, b);
        this.startRemote(now);
        return this.stageNow() === "backoff" ? busy(this.reason) : reply();
      case "offered":
      case "refused":
      case "connecting":
      case "direct": {
        const { epochs, peer } = this.them;
        // a boot's epochs grow: what was delayed or is replayed must not take down what came after it
        if (peer?.bootId === from.bootId && b.epochs.mine < epochs.yours)
          return stale("exchange of an older epoch");
        if (!this.them.isAnother(from) && epochs.yours === b.epochs.mine) return reply();
        this.turnBack(now, "the other end started anew", FOLLOWED);
        this.otherFlipped(now);
        return busy("the former attempt is being taken down");
      }
      case "returning":
      case "draining":
      case "gone":
        if (this.them.peer !== undefined && this.them.epochs.yours !== b.epochs.mine) this.otherFlipped(now);
        return busy("the former attempt is being taken down");
      default:
        return unreachable(this.stage);
    }
  }

  /** Not one that started anew, or that is reachable elsewhere than where the path failed. */
  private holdsBack(from: Correspondent, b: ExchangeBody): boolean {
    return this.held?.bootId === from.bootId && this.held.candidates === textOf(b.candidates);
  }

  /** `stage` after calls that change it, out of reach of the compiler's narrowing. */
  private stageNow(): Stage {
    return this.stage;
  }

  private handleSelected(now: number, selected: boolean, reason: string): void {
    if (selected && !this.them.selected) this.milestone("selected-by-owner", "");
    this.them.selected = selected;
    this.them.reason = reason;
    this.them.wantedAt = now;
    if (selected || this.agreed) this.consider(now);
    else if (this.stage === "connecting" || this.stage === "direct")
      this.turnBack(now, `the owner's daemon: ${reason}`, ORDERLY);
    else if (this.stage === "refused") this.reason = `the owner's daemon: ${reason}`;
  }

  /** First contact by the other end. */
  accept(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    this.adopt(from, b);
    this.startRemote(now);
    return this.stageNow() === "resolving" || this.stageNow() === "offered"
      ? { kind: "exchanged", ...this.them.exchangeBody() }
      : busy(this.reason);
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    let at = this.deadline;
    const sooner = (t: number | undefined) => {
      if (t !== undefined && (at === undefined || t < at)) at = t;
    };
    sooner(this.refreshAt);
    sooner(this.hubPath?.pollTimeout());
    const { tunnel } = this;
    if (this.stage === "connecting" || this.stage === "direct") sooner(this.checks?.pollTimeout());
    if (tunnel !== undefined && this.stage === "direct") {
      if (tunnel.prober.lostAt !== undefined) sooner(this.failureAt(tunnel));
      sooner(tunnel.busyAt + this.host.parameters.idleTimeout);
      if (this.orphanedAt !== undefined) sooner(this.orphanedAt + this.host.parameters.outlive);
      if (this.setbacks.failures > 0) sooner(this.since + this.host.parameters.forgive);
    }
    return at;
  }

  handleTimeout(now: number): void {
    this.hubPath?.handleTimeout(now);
    if (this.tunnel !== undefined && this.stage === "direct") this.watch(now, this.tunnel);
    if (this.stage === "connecting" || this.stage === "direct") {
      this.checks?.handleTimeout(now);
      this.advance(now);
    }
    if (this.refreshAt !== undefined && now >= this.refreshAt) this.refresh(now);
    if (this.deadline === undefined || now < this.deadline) return;
    this.deadline = undefined;
    switch (this.stage) {
      case "offered":
        this.refuse(now);
        return;
      case "connecting": {
        const reason = this.tunnel?.describe(this.host.selfGeneration(now) ?? ZERO_ID) ?? "no tunnel";
        if (this.checks === undefined || this.tunnel?.heard === true) this.turnBack(now, reason, PATH_FAILED);
        else {
          this.host.reobserve(now);
          const because = this.prospect === "likely" ? "" : `; ${this.natText()}`;
          this.turnBack(now, `${this.checks.describe()}${because}`, this.hopeless ? HOPELESS : UNREACHABLE);
        }
        return;
      }
      case "returning":
        // neither alias nor override did it, or the daemon is dead: without the offer a daemon that lives has its own route again
        if (now - this.since >= 2 * this.host.parameters.overrideAfter) this.offers.withdrawAll();
        this.offers.overrideStillDirect();
        this.deadline = now + this.host.parameters.overrideAfter;
        return;
      case "draining":
        this.finishDrain(now);
        return;
      case "backoff":
        this.enter(now, "gone", this.reason);
        return;
      default:
    }
  }

  /** A path that nothing goes by, or that has proven itself for long enough. */
  private watch(now: number, tunnel: Tunnel): void {
    const { forgive, idleTimeout, outlive } = this.host.parameters;
    if (this.setbacks.failures > 0 && now >= this.since + forgive) this.setbacks.failures = 0;
    if (now >= tunnel.busyAt + idleTimeout)
      this.turnBack(now, `idle for ${Math.round(idleTimeout / 1000)} s`, ORDERLY);
    else if (this.orphanedAt !== undefined && now >= this.orphanedAt + outlive)
      this.turnBack(now, `the hub has been away for ${Math.round(outlive / 1000)} s`, ORDERLY);
    else this.judge(now, tunnel);
  }

  private refuse(now: number): void {
    const local = this.offers.selected;
    const reason = local
      ? `the owner's daemon: ${this.them.reason === "" ? "did not select our prefixes" : this.them.reason}`
      : this.offers.refusal();
    this.enter(now, "refused", reason);
    this.refreshAt = now + this.host.parameters.refresh;
    if (!local) this.offers.explainAll();
    this.tellSelected(now, true);
  }

  /** Offers that stand are renewed while traffic wants them, or while the other end says that its does. */
  private refresh(now: number): void {
    const p = this.host.parameters;
    this.refreshAt = now + p.refresh;
    if (this.stage !== "offered" && this.stage !== "refused") return;
    const wantedHere = this.host.isHot(this.prefixes);
    if (wantedHere) this.tellSelected(now, true);
    const wantedThere = this.them.wantedAt !== undefined && now - this.them.wantedAt < 3 * p.refresh;
    if (!wantedHere && (this.origin === "local" || !wantedThere))
      this.turnBack(now, `below threshold; before that: ${this.reason}`, ORDERLY);
    else if (this.stage === "refused" && !this.offers.selected) this.offers.explainAll();
  }

  private milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.owner, milestone, detail });
  }

  status(): ShortcutStatus {
    const { marks } = this.offers;
    return {
      owner: this.owner,
      stage: this.stage,
      since: this.since,
      origin: this.origin,
      reason: this.reason,
      prefixes: this.offers.rows(),
      publicKey: this.them.peer?.publicKey,
      bootId: this.them.peer?.bootId,
      endpoint: this.tunnel?.endpoint,
      candidate: this.tunnel?.endpoint === undefined ? "" : (this.checks?.kindOf(this.tunnel.endpoint) ?? ""),
      nat: this.them.peer === undefined ? this.lastNat : this.natText(),
      marks: marks === undefined ? "" : describeMarks(marks),
      retryAt: this.stage === "backoff" ? this.deadline : undefined,
      damping: this.setbacks.damping,
      roundTrip: this.tunnel?.prober.roundTrip,
      hubRoundTrip: this.hubPath?.roundTrip,
      bitsPerSecond: this.tunnel?.rate,
      quiet: this.tunnel?.idle ?? false,
    };
  }
}

const textOf = (candidates: readonly Endpoint[]): string => candidates.map(formatEndpoint).sort().join(" ");

function refusalText(b: ReplyBody): string {
  return b.kind === "refused" ? `the owner refused: ${b.reason}` : `unexpected ${b.kind} of the owner`;
}
