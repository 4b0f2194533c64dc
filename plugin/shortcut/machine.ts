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
import { type Address, compareAddresses, type Endpoint, hostPrefix, type Prefix } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import { unreachable } from "../net/result.js";
import { ZERO_ID } from "../wire/control/codec.js";
import type { Epochs, ExchangeBody, Id64, ReplyBody, RequestBody } from "../wire/control/message.js";
import type { Probe } from "../wire/probe.js";
import type { Correspondent, Identity, Outcome } from "./control.js";
import type { Milestone, PeerStatus, RouteState, ShortcutStatus, Stage } from "./events.js";
import { linkLocalOf } from "./linklocal.js";
import { Offers, type OffersHost } from "./offers.js";
import type { Parameters } from "./parameters.js";
import { Prober } from "./prober.js";

/** What a machine needs of its engine. */
export interface Host extends OffersHost {
  readonly self: Identity;
  readonly parameters: Parameters;
  readonly overlayMtu: number;
  random(): number;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
  cancel(id: Id64): void;
  nextEpoch(): number;
  candidates(): readonly Endpoint[];
  /** Generation of this router's own prefixes, as the hub attests them; undefined until the hub said. */
  selfGeneration(): Id64 | undefined;
  /** Asks the hub what the owner owns. */
  resolveOwner(
    now: number,
    owner: Address,
    done: (now: number, r: Attested | { readonly refusal: string }) => void,
  ): void;
  /** Whether traffic still wants this owner. */
  isHot(prefixes: readonly Prefix[]): boolean;
  /** Bits per second below which a shortcut is idle. */
  readonly lowRate: number;
  directUsable(): { readonly usable: boolean; readonly reason: string };
}

export interface Attested {
  readonly prefixes: readonly Prefix[];
  readonly generation: Id64;
}

interface Peer {
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
  readonly candidates: readonly Endpoint[];
  readonly mtu: number;
}

/** Whether the other end shall hear of it, and what follows. */
interface Return {
  readonly reason: string;
  /** A failure lengthens the pause before the next try. */
  readonly failure: boolean;
  readonly tell: boolean;
  /** The direct path itself failed: until the pause is over the other end is held back too, unless it restarts. */
  readonly hold?: boolean;
}

export interface Setbacks {
  failures: number;
  /** Times that the other end said "busy". */
  deferrals: number;
}

/** An end that is busy is asked again less and less often, but at least once in backoff x 2^(DEFERRALS - 1). */
const DEFERRALS = 4;

export class Shortcut {
  stage: Stage = "resolving";
  since: number;
  reason = "";
  private epochs: { mine: number; yours: number };
  private peer: Peer | undefined;
  private attested: Attested | undefined;
  private readonly offers: Offers;
  private remoteSelected = false;
  private saidSelected: boolean | undefined;
  private remoteReason = "";
  private remoteReady = false;
  private remoteFlipped = false;
  private saidFlipped = false;
  private peerState: "none" | "wanted" | "applied" | "removing" = "none";
  private handshakeSeen = false;
  private prober: Prober | undefined;
  private flippedShown = false;
  private transfer: { at: number; bytes: number } | undefined;
  private rate: number | undefined;
  private busySince: number;
  private deadline: number | undefined;
  private refreshAt: number | undefined;
  private ending: Return | undefined;
  private readonly requests = new Map<string, Id64>();
  private endpointInUse: Endpoint | undefined;
  private offeredCandidates: readonly Endpoint[] = [];
  /** The boot of the other end with which the direct path failed, during the pause after it. */
  private held: Id64 | undefined;

  constructor(
    private readonly host: Host,
    readonly owner: Address,
    public origin: "local" | "remote",
    now: number,
    /** What went wrong in a row, here and in machines before this one: it lengthens the pause. */
    readonly setbacks: Setbacks,
  ) {
    this.since = now;
    this.busySince = now;
    this.epochs = { mine: host.nextEpoch(), yours: 0 };
    this.offers = new Offers(host, owner);
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
      if ("refusal" in r) this.fail(t, r.refusal);
      else {
        this.attested = r;
        if (this.peer === undefined) this.beginExchange(t, "resolved");
        else this.announce(t);
      }
    });
  }

  private beginExchange(now: number, why: string): void {
    this.enter(now, "exchanging", why);
    this.send(now, "exchange", { kind: "exchange", ...this.exchangeBody() }, (t, outcome) => {
      if (this.stage !== "exchanging") return;
      if (outcome.kind === "timeout")
        this.fail(t, `${this.owner} does not answer: is shortcutd running there?`);
      else if (outcome.body.kind === "exchanged") {
        const b = outcome.body;
        if (b.epochs.yours !== this.epochs.mine) this.fail(t, "the owner answered another attempt");
        else {
          this.adopt(outcome.from, b);
          this.announce(t);
        }
      } else {
        // an end that is busy will not be for long, and two that call each other busy must not wait ever longer
        const busyThere = outcome.body.kind === "refused" && outcome.body.code === "busy";
        if (busyThere) this.setbacks.deferrals++;
        this.fail(t, refusalText(outcome.body), !busyThere);
      }
    });
  }

  private exchangeBody(): ExchangeBody {
    // one list an attempt: the roles follow from what both ends know
    if (this.offeredCandidates.length === 0) this.offeredCandidates = this.host.candidates().slice(0, 8);
    return {
      epochs: { ...this.epochs },
      candidates: this.offeredCandidates,
      mtu: this.host.overlayMtu,
    };
  }

  private adopt(from: Correspondent, b: ExchangeBody): void {
    this.epochs = { mine: this.epochs.mine, yours: b.epochs.mine };
    this.peer = {
      publicKey: from.publicKey,
      bootId: from.bootId,
      candidates: b.candidates,
      mtu: b.mtu,
    };
    this.setbacks.deferrals = 0;
    this.milestone("exchanged", `key ${from.publicKey.slice(0, 8)}…, ${b.candidates.length} candidate(s)`);
  }

  /** Offers every attested prefix that has a route of the daemon's own underneath, by the overlay. */
  private announce(now: number): void {
    this.enter(now, "offered", "waiting for the daemons");
    this.deadline = now + this.host.parameters.offerTimeout;
    this.refreshAt = now + this.host.parameters.refresh;
    const refusals = this.offers.update(this.prefixes);
    if (this.offers.empty) this.fail(now, refusals[0] ?? `the hub attests no prefix for ${this.owner}`);
  }

  /** Something that bears on selection changed: tell the other end, go forth or back. */
  private consider(now: number): void {
    const { selected } = this.offers;
    switch (this.stage) {
      case "offered":
      case "refused": {
        if (this.offers.empty) {
          this.turnBack(now, { reason: this.offers.refusal(), failure: false, tell: true });
          return;
        }
        this.tellSelected(now);
        if (selected && this.remoteSelected) this.connect(now);
        return;
      }
      case "connecting":
      case "direct":
        if (!selected) this.turnBack(now, { reason: this.offers.refusal(), failure: false, tell: true });
        return;
      default:
        return;
    }
  }

  private tellSelected(now: number, again = false): void {
    const { selected } = this.offers;
    if (this.saidSelected === selected && !again) return;
    if (selected && this.saidSelected !== true) this.milestone("selected", this.offers.prefixes.join(", "));
    // before the deadline, "not yet" is no news
    if (!selected && this.saidSelected === undefined && !again) return;
    this.saidSelected = selected;
    const reason = selected ? "" : this.offers.refusal();
    this.send(now, "selected", { kind: "selected", epochs: this.epochs, selected, reason }, (t, o) =>
      this.afterTelling(t, o),
    );
  }

  private afterTelling(now: number, outcome: Outcome): void {
    if (outcome.kind === "timeout") {
      if (this.stage === "offered" || this.stage === "refused" || this.stage === "connecting")
        this.turnBack(now, { reason: `${this.owner} fell silent`, failure: true, tell: false });
    } else if (outcome.body.kind === "refused" && outcome.body.code === "stale") {
      this.turnBack(now, { reason: "the other end started anew", failure: false, tell: false });
    }
  }

  // ------------------------------------------------------------------------------------------ the tunnel

  /** The lower overlay address starts the handshake, unless only one end can be reached: then the other starts. */
  private get role(): "initiator" | "responder" {
    const here = this.offeredCandidates.length > 0;
    const there = (this.peer?.candidates.length ?? 0) > 0;
    if (here !== there) return there ? "initiator" : "responder";
    return compareAddresses(this.host.self.address, this.owner) < 0 ? "initiator" : "responder";
  }

  private connect(now: number): void {
    const usable = this.host.directUsable();
    const peer = this.peer;
    if (peer === undefined) return;
    if (!usable.usable) {
      this.turnBack(now, { reason: usable.reason, failure: true, tell: true });
      return;
    }
    if (this.offeredCandidates.length === 0 && peer.candidates.length === 0) {
      const reason = "neither end knows its public endpoint yet: no hub has heard the direct interfaces";
      this.turnBack(now, { reason, failure: true, tell: true });
      return;
    }
    this.enter(now, "connecting", "both daemons selected");
    this.deadline = now + this.host.parameters.connectTimeout;
    this.prober = new Prober({
      bootId: this.host.self.bootId,
      epochs: { ...this.epochs },
      peerBootId: peer.bootId,
      interval: this.host.parameters.probeInterval,
      multiplier: this.host.parameters.probeMultiplier,
      fullSize: Math.min(this.host.overlayMtu, peer.mtu) - 48, // IPv6 and UDP headers
    });
    this.handshakeSeen = false;
    if (this.role === "responder" || this.remoteReady) this.configurePeer();
  }

  private configurePeer(): void {
    const peer = this.peer;
    if (peer === undefined || this.peerState !== "none") return;
    this.peerState = "wanted";
    this.endpointInUse = peer.candidates[0];
    this.host.emit({
      kind: "peer",
      owner: this.owner,
      want: {
        publicKey: peer.publicKey,
        endpoint: this.endpointInUse,
        allowedIps: this.allowedIps(peer),
        // the initiator's keepalive is what starts the handshake; crossed initiations would cost five seconds
        keepalive: this.role === "initiator" ? this.host.parameters.peerKeepalive : 0,
      },
    });
  }

  private allowedIps(peer: Peer): readonly Prefix[] {
    const own = [hostPrefix(this.owner), hostPrefix(linkLocalOf(peer.publicKey))];
    return [...own, ...(this.attested?.prefixes ?? []).filter((p) => !own.includes(p))];
  }

  peerApplied(now: number, error: string | undefined): void {
    if (this.peerState === "removing" || this.peerState === "none") return;
    if (error !== undefined) {
      this.peerState = "applied"; // it may exist: it is removed on the way back
      this.turnBack(now, { reason: `cannot configure the peer: ${error}`, failure: true, tell: true });
      return;
    }
    if (this.peerState !== "wanted") return;
    this.peerState = "applied";
    this.milestone("peer-created", this.role);
    if (this.stage !== "connecting") return;
    if (this.role === "responder")
      this.send(now, "ready", { kind: "ready", epochs: this.epochs }, (t, o) => this.afterTelling(t, o));
    else this.prober?.start(now);
  }

  peerStatus(now: number, s: PeerStatus): void {
    if (s.lastHandshake > 0 && !this.handshakeSeen && this.stage === "connecting") {
      this.handshakeSeen = true;
      this.milestone(
        "handshake",
        s.endpoint === undefined ? "" : `${s.endpoint.address} port ${s.endpoint.port}`,
      );
    }
    if (s.endpoint !== undefined) this.endpointInUse = s.endpoint;
    const bytes = s.rxBytes + s.txBytes;
    const before = this.transfer;
    this.transfer = { at: now, bytes };
    if (before === undefined || now <= before.at || bytes < before.bytes) return;
    this.rate = ((bytes - before.bytes) * 8000) / (now - before.at);
    if (this.rate >= this.host.lowRate) this.busySince = now;
  }

  handleProbe(now: number, probe: Probe): void {
    const prober = this.prober;
    if (prober === undefined || (this.stage !== "connecting" && this.stage !== "direct")) return;
    if (!prober.receive(now, probe)) return;
    if (this.role === "responder" && this.stage === "connecting" && this.peerState === "applied")
      prober.start(now);
    this.judge(now);
  }

  private judge(now: number): void {
    const prober = this.prober;
    if (prober === undefined) return;
    const verdict = prober.verdict(now, this.host.selfGeneration() ?? ZERO_ID);
    if (this.stage === "connecting") {
      if (verdict === "proven" && this.peerState === "applied") this.flip(now, prober);
      return;
    }
    if (this.stage !== "direct") return;
    switch (verdict) {
      case "lost":
        this.milestone("path-failed", prober.describeLoss(now));
        this.turnBack(now, { reason: "the direct path failed", failure: true, tell: true, hold: true });
        return;
      case "down":
        this.turnBack(now, { reason: "the other end goes back", failure: false, tell: false });
        return;
      case "unaccepted":
        this.turnBack(now, {
          reason: "the owner no longer accepts our prefixes",
          failure: false,
          tell: true,
        });
        return;
      case "waiting":
      case "proven":
        return;
      default:
        unreachable(verdict);
    }
  }

  private flip(now: number, prober: Prober): void {
    const rtt = prober.roundTrip === undefined ? "" : `round trip ${prober.roundTrip.toFixed(1)} ms`;
    this.milestone("path-proven", rtt);
    this.enter(now, "direct", rtt);
    this.busySince = now;
    this.flippedShown = false;
    this.milestone("flipping", "");
    this.offers.point("direct");
    if (this.role === "responder" && this.peer !== undefined) {
      const want = {
        publicKey: this.peer.publicKey,
        endpoint: undefined,
        allowedIps: this.allowedIps(this.peer),
        keepalive: this.host.parameters.peerKeepalive,
      };
      this.host.emit({ kind: "peer", owner: this.owner, want });
    }
  }

  // ------------------------------------------------------------------------------------------ the way back

  /** From anywhere: first the alias, then everything else. */
  private turnBack(now: number, r: Return): void {
    switch (this.stage) {
      case "returning":
      case "draining":
      case "backoff":
      case "gone":
        return;
      default:
    }
    this.cancelRequests();
    this.ending = r;
    if (r.failure) this.setbacks.failures++;
    this.offers.point("overlay");
    if (this.prober !== undefined) this.sendProbe(now, this.prober, true);
    this.enter(now, "returning", r.reason);
    this.deadline = now + this.host.parameters.overrideAfter;
    if (this.peer === undefined) this.remoteFlipped = true;
    else if (r.tell) this.tell(now, { kind: "withdraw", epochs: this.epochs, reason: r.reason });
    this.checkReturned(now);
  }

  private checkReturned(now: number): void {
    if (this.stage !== "returning" || this.offers.stillDirect().length > 0) return;
    this.milestone("flipped-back", this.ending?.reason ?? "");
    this.offers.withdrawAll();
    this.enter(now, "draining", this.ending?.reason ?? "");
    if (this.peer !== undefined && !this.saidFlipped) {
      this.saidFlipped = true;
      this.tell(now, { kind: "flipped", epochs: this.epochs });
    }
    const awaited = this.remoteFlipped || this.peerState === "none" ? 0 : this.host.parameters.remoteHold;
    this.deadline = now + awaited + this.host.parameters.drain;
  }

  private otherFlipped(now: number): void {
    this.remoteFlipped = true;
    if (this.stage === "draining" && this.peerState !== "none")
      this.deadline = Math.min(this.deadline ?? Number.POSITIVE_INFINITY, now + this.host.parameters.drain);
  }

  /** The drain is over: the peer goes, unless a FIB route still points at it (a daemon that is dead and came back). */
  private finishDrain(now: number): void {
    if (this.offers.stillDirect().length > 0) {
      this.offers.overrideStillDirect();
      this.deadline = now + this.host.parameters.drain;
      return;
    }
    if (this.peer !== undefined && this.peerState !== "none" && this.peerState !== "removing") {
      this.peerState = "removing";
      this.host.emit({ kind: "unpeer", owner: this.owner, publicKey: this.peer.publicKey });
      this.milestone("peer-removed", "");
    }
    this.offers.release();
    this.rest(now);
  }

  private rest(now: number): void {
    const p = this.host.parameters;
    const reason = this.ending?.reason ?? this.reason;
    const held = this.ending?.hold === true ? this.peer?.bootId : undefined;
    this.reset();
    this.held = held;
    this.enter(now, "backoff", reason);
    const tries = Math.max(this.setbacks.failures, Math.min(this.setbacks.deferrals, DEFERRALS));
    const pause = Math.min(p.backoffMax, p.backoff * 2 ** Math.max(0, tries - 1));
    this.deadline = now + pause * (0.75 + this.host.random() * 0.5);
  }

  /** Before any offer was made. */
  private fail(now: number, reason: string, failure = true): void {
    this.turnBack(now, { reason, failure, tell: this.peer !== undefined });
  }

  private reset(): void {
    this.cancelRequests();
    this.prober?.stop();
    this.prober = undefined;
    this.peer = undefined;
    this.attested = undefined;
    this.peerState = "none";
    this.remoteSelected = false;
    this.remoteReason = "";
    this.remoteReady = false;
    this.remoteFlipped = false;
    this.saidFlipped = false;
    this.saidSelected = undefined;
    this.handshakeSeen = false;
    this.flippedShown = false;
    this.transfer = undefined;
    this.rate = undefined;
    this.ending = undefined;
    this.endpointInUse = undefined;
    this.offeredCandidates = [];
    this.epochs = { mine: this.host.nextEpoch(), yours: 0 };
  }

  // ------------------------------------------------------------------------------------------ facts

  routeState(now: number, s: RouteState): void {
    if (!this.offers.observe(s)) return;
    if (this.stage === "direct" && !this.flippedShown && s.path === "direct") {
      this.flippedShown = true;
      this.milestone("flipped", s.prefix);
    }
    if (s.harmful && this.offers.stands(s.prefix)) {
      this.turnBack(now, { reason: s.reason, failure: true, tell: true });
      return;
    }
    this.checkReturned(now);
    this.consider(now);
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
        this.offers.update(this.prefixes);
        this.consider(now);
        return;
      default:
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
      this.turnBack(now, { reason: a.refusal, failure: false, tell: true });
      return;
    }
    if (this.attested === undefined || a.generation === this.attested.generation) return;
    // Further prefixes need both ends' consent before the first packet: go by the hub and come back with the new set.
    this.turnBack(now, { reason: "the hub's routes to the owner changed", failure: false, tell: true });
  }

  directUnusable(now: number, reason: string): void {
    if (this.stage === "connecting" || this.stage === "direct")
      this.turnBack(now, { reason, failure: true, tell: true });
  }

  stop(now: number, reason: string): void {
    if (this.stage === "backoff") this.enter(now, "gone", reason);
    else this.turnBack(now, { reason, failure: false, tell: true });
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

  get publicKey(): PublicKey | undefined {
    return this.peer?.publicKey;
  }

  offersPrefix(prefix: Prefix): boolean {
    return this.offers.holds(prefix);
  }

  // ------------------------------------------------------------------------------------------ the other end's messages

  private current(e: Epochs): boolean {
    return e.mine === this.epochs.yours && e.yours === this.epochs.mine;
  }

  handleRequest(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    if (body.kind === "exchange") return this.handleExchange(now, from, body);
    // it overtook the reply to our exchange
    if (this.stage === "exchanging" && "epochs" in body && body.epochs.yours === this.epochs.mine)
      return undefined;
    if (
      this.peer !== undefined &&
      (from.bootId !== this.peer.bootId || from.publicKey !== this.peer.publicKey)
    ) {
      this.turnBack(now, { reason: "the other end restarted", failure: false, tell: false });
      this.otherFlipped(now);
      return stale("another boot of this end is known");
    }
    switch (body.kind) {
      case "selected":
        if (!this.current(body.epochs)) return stale("selected of another epoch");
        this.handleSelected(now, body.selected, body.reason);
        return { kind: "ack" };
      case "ready":
        if (!this.current(body.epochs)) return stale("ready of another epoch");
        this.remoteReady = true;
        if (!this.remoteSelected) this.handleSelected(now, true, "");
        if (this.stage === "connecting") this.configurePeer();
        return { kind: "ack" };
      case "withdraw":
        if (!this.current(body.epochs)) return stale("withdraw of another epoch");
        this.turnBack(now, {
          reason: `the other end went back: ${body.reason}`,
          failure: false,
          tell: false,
        });
        return { kind: "ack" };
      case "flipped":
        if (!this.current(body.epochs)) return stale("flipped of another epoch");
        this.turnBack(now, { reason: "the other end went back", failure: false, tell: false });
        this.otherFlipped(now);
        return { kind: "ack" };
      default:
        return { kind: "refused", code: "not-permitted", reason: `${body.kind} is for hubs` };
    }
  }

  private handleExchange(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const reply = (): ReplyBody => ({ kind: "exchanged", ...this.exchangeBody() });
    switch (this.stage) {
      case "resolving":
      case "exchanging":
        this.adopt(from, b);
        if (this.stage === "exchanging" && this.attested !== undefined) {
          this.cancelRequests();
          this.announce(now);
        }
        return this.stageNow() === "offered" || this.stageNow() === "resolving" ? reply() : busy(this.reason);
      case "backoff":
        if (this.held === from.bootId && this.deadline !== undefined && now < this.deadline)
          return busy(`holding back after: ${this.reason}`);
        this.origin = "remote";
        this.adopt(from, b);
        this.startRemote(now);
        return this.stageNow() === "backoff" ? busy(this.reason) : reply();
      case "offered":
      case "refused":
      case "connecting":
      case "direct": {
        const same = this.epochs.yours === b.epochs.mine && this.peer?.bootId === from.bootId;
        // a boot's epochs grow: what was delayed or is replayed must not take down what came after it
        if (this.peer?.bootId === from.bootId && b.epochs.mine < this.epochs.yours)
          return stale("exchange of an older epoch");
        if (same && this.peer?.publicKey === from.publicKey) return reply();
        this.turnBack(now, { reason: "the other end started anew", failure: false, tell: false });
        this.otherFlipped(now);
        return busy("the former attempt is being taken down");
      }
      case "returning":
      case "draining":
      case "gone":
        if (this.peer !== undefined && this.epochs.yours !== b.epochs.mine) this.otherFlipped(now);
        return busy("the former attempt is being taken down");
      default:
        return unreachable(this.stage);
    }
  }

  /** `stage` after calls that change it, out of reach of the compiler's narrowing. */
  private stageNow(): Stage {
    return this.stage;
  }

  private handleSelected(now: number, selected: boolean, reason: string): void {
    if (selected && !this.remoteSelected) this.milestone("selected-by-owner", "");
    this.remoteSelected = selected;
    this.remoteReason = reason;
    this.refreshedAt = now;
    if (selected) this.consider(now);
    else if (this.stage === "connecting" || this.stage === "direct")
      this.turnBack(now, { reason: `the owner's daemon: ${reason}`, failure: false, tell: true });
    else if (this.stage === "refused") this.reason = `the owner's daemon: ${reason}`;
  }
  private refreshedAt: number | undefined;

  /** First contact by the other end. */
  accept(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    this.adopt(from, b);
    this.startRemote(now);
    return this.stageNow() === "resolving" || this.stageNow() === "offered"
      ? { kind: "exchanged", ...this.exchangeBody() }
      : busy(this.reason);
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    let at = this.deadline;
    const sooner = (t: number | undefined) => {
      if (t !== undefined && (at === undefined || t < at)) at = t;
    };
    sooner(this.refreshAt);
    if (this.stage === "connecting" || this.stage === "direct") {
      sooner(this.prober?.nextAt);
      if (this.stage === "direct") {
        sooner(this.prober?.failureAt());
        sooner(this.busySince + this.host.parameters.idleTimeout);
        if (this.setbacks.failures > 0) sooner(this.since + this.host.parameters.forgive);
      }
    }
    return at;
  }

  handleTimeout(now: number): void {
    const prober = this.prober;
    if (
      prober?.nextAt !== undefined &&
      now >= prober.nextAt &&
      (this.stage === "connecting" || this.stage === "direct")
    ) {
      this.sendProbe(now, prober, false);
    }
    if (this.stage === "direct") {
      if (this.setbacks.failures > 0 && now >= this.since + this.host.parameters.forgive)
        this.setbacks.failures = 0;
      if (now >= this.busySince + this.host.parameters.idleTimeout) {
        const reason = `idle for ${Math.round(this.host.parameters.idleTimeout / 1000)} s`;
        this.turnBack(now, { reason, failure: false, tell: true });
        return;
      }
      this.judge(now);
    }
    if (this.refreshAt !== undefined && now >= this.refreshAt) this.refresh(now);
    if (this.deadline === undefined || now < this.deadline) return;
    this.deadline = undefined;
    switch (this.stage) {
      case "offered":
        this.refuse(now);
        return;
      case "connecting": {
        const generation = this.host.selfGeneration() ?? ZERO_ID;
        const reason = this.handshakeSeen
          ? (prober?.describe(generation) ?? "no probe")
          : `no WireGuard handshake with ${this.endpointInUse?.address ?? "an unknown endpoint"}`;
        this.turnBack(now, { reason, failure: true, tell: true, hold: true });
        return;
      }
      case "returning":
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

  private refuse(now: number): void {
    const local = this.offers.selected;
    const reason = local
      ? `the owner's daemon: ${this.remoteReason === "" ? "did not select our prefixes" : this.remoteReason}`
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
    const wantedThere = this.refreshedAt !== undefined && now - this.refreshedAt < 3 * p.refresh;
    if (!wantedHere && (this.origin === "local" || !wantedThere))
      this.turnBack(now, {
        reason: `below threshold; before that: ${this.reason}`,
        failure: false,
        tell: true,
      });
    else if (this.stage === "refused" && !this.offers.selected) this.offers.explainAll();
  }

  private sendProbe(now: number, prober: Prober, down: boolean): void {
    if (this.peer === undefined || this.peerState !== "applied") return;
    const probe = prober.next(now, this.host.random(), {
      accepted: this.attested?.generation ?? ZERO_ID,
      flipped: this.offers.onDirect,
      down,
    });
    this.host.emit({ kind: "probe", owner: this.owner, publicKey: this.peer.publicKey, probe });
  }

  private send(now: number, slot: string, body: RequestBody, done: (now: number, o: Outcome) => void): void {
    const before = this.requests.get(slot);
    if (before !== undefined) this.host.cancel(before);
    const id = this.host.request(now, this.owner, body, (t, o) => {
      if (this.requests.get(slot) === id) this.requests.delete(slot);
      done(t, o);
    });
    this.requests.set(slot, id);
  }

  /** A farewell: retransmitted even when this attempt is over, and answered by "stale" when the other end's is. */
  private tell(now: number, body: RequestBody): void {
    const epoch = this.epochs.mine;
    this.host.request(now, this.owner, body, (t, o) => {
      if (this.epochs.mine === epoch && o.kind === "reply" && o.body.kind === "refused") this.otherFlipped(t);
    });
  }

  private cancelRequests(): void {
    for (const id of this.requests.values()) this.host.cancel(id);
    this.requests.clear();
  }

  private milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.owner, milestone, detail });
  }

  status(): ShortcutStatus {
    return {
      owner: this.owner,
      stage: this.stage,
      since: this.since,
      origin: this.origin,
      reason: this.reason,
      prefixes: this.offers.rows(),
      publicKey: this.peer?.publicKey,
      bootId: this.peer?.bootId,
      endpoint: this.endpointInUse,
      retryAt: this.stage === "backoff" ? this.deadline : undefined,
      roundTrip: this.prober?.roundTrip,
      bitsPerSecond: this.rate,
    };
  }
}

const stale = (reason: string): ReplyBody => ({ kind: "refused", code: "stale", reason });
const busy = (reason: string): ReplyBody => ({ kind: "refused", code: "busy", reason });

function refusalText(b: ReplyBody): string {
  return b.kind === "refused" ? `the owner refused: ${b.reason}` : `unexpected ${b.kind} of the owner`;
}
