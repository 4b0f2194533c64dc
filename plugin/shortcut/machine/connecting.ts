/**
 * The stage `connecting`, and what it leaves to `direct`: the peers are configured (the responder's first), a pair of candidates is found that works
 * both ways, WireGuard shakes hands, and probes go over the tunnel. What the probes prove is judged elsewhere; here is the path itself: its
 * NAT openings, checks, tunnel, and how long the way by the hub is in comparison.
 */
import type { Address, Endpoint } from "../../net/address.js";
import { formatEndpoint, sameEndpoint } from "../../net/address.js";
import { ZERO_ID } from "../../wire/control/codec.js";
import type { Candidate } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import { earliest } from "../deadlines.js";
import type { PeerStatus } from "../events.js";
import { Checks } from "../nat/connectivity-checks.js";
import type { Attempt, Ways } from "./attempt.js";
import type { Offered } from "./offered.js";
import type { PathForecast } from "./path-forecast.js";
import { HubPath, RoundTripCheck, type RoundTripVerdict } from "./round-trip.js";
import { FAILED, HOPELESS, PATH_FAILED, UNREACHABLE } from "./teardown-reasons.js";
import { Tunnel } from "./tunnel.js";

export class Connecting {
  tunnel: Tunnel | undefined;
  /** From the own daemon's selection on, where both ends can send pings. */
  private checks: Checks | undefined;
  /** The other end's NAT is open to where it knows this end to be. */
  private otherOpen = false;
  private hubPath: HubPath | undefined;
  private roundTrips: RoundTripCheck;

  constructor(
    private readonly attempt: Attempt,
    private readonly forecast: PathForecast,
    private readonly offered: Offered,
    private readonly ways: Ways,
  ) {
    this.roundTrips = new RoundTripCheck(attempt.host.parameters.maxRoundTrip);
  }

  private get active(): boolean {
    return this.attempt.in("connecting", "direct");
  }

  // ------------------------------------------------------------------------------------------ the way there

  /** Before the other end may send: what arrives at a NAT that is not open harms it. Only once the own daemon has selected. */
  openNat(now: number): void {
    const { host, remote, prefixes } = this.attempt;
    const { peer, epochs } = remote;
    if (peer === undefined || !peer.pings || !host.pingsUsable) return;
    const { publicKey, candidates } = peer;
    this.checks ??= new Checks(host, { publicKey, candidates, epochs, prefixes }, now);
    if (!this.checks.stale(now)) return;
    this.checks.open(now);
    this.attempt.milestone("opened", `towards ${this.checks.list()}`);
  }

  connect(now: number): void {
    const { attempt, offered } = this;
    const { host, remote, owner, prefixes } = attempt;
    const { peer } = remote;
    if (peer === undefined) return;
    const { usable, reason } = host.directUsable();
    if (!usable || !remote.reachable) {
      const unknown = "neither end knows its public endpoint yet: no hub has heard the direct interfaces";
      this.ways.fallBackToHub(now, usable ? unknown : reason, FAILED);
      return;
    }
    const here = attempt.offers.selected;
    const both = here && remote.selected;
    const whose = here ? "this router's" : "the owner's";
    attempt.enter(now, "connecting", both ? "both daemons selected" : `one way: ${whose} daemon selected`);
    // the other end waits for our answer
    if (offered.oneWay && remote.told.selected === undefined) offered.tellSelected(now, true);
    const { connectTimeout, checkTimeout, maxRoundTrip } = host.parameters;
    attempt.deadline = now + connectTimeout;
    const { epochs, role } = remote;
    const accepted = attempt.attested?.generation ?? ZERO_ID;
    const tunnel = new Tunnel(host, { owner, peer, epochs, role, prefixes, accepted }, now);
    this.tunnel = tunnel;
    this.hubPath = new HubPath(host, owner, now, maxRoundTrip !== undefined);
    this.roundTrips = new RoundTripCheck(maxRoundTrip);
    this.openNat(now);
    const { checks } = this;
    if (checks === undefined) {
      if (role === "responder" || remote.ready) tunnel.configure(peer.candidates[0]);
      return;
    }
    // the responder learns where the initiator is from its handshake, so that two initiations cannot cross
    if (role === "responder") tunnel.configure(undefined);
    else attempt.deadline = now + checkTimeout;
    if (remote.open(now)) this.startChecks(now);
  }

  /** Not before the other end knows where this end is reached: its NAT is not open to pings from elsewhere. */
  private startChecks(now: number): void {
    this.otherOpen = true;
    if (!this.attempt.in("connecting") || this.attempt.remote.telling) return;
    this.checks?.start(now);
    this.advance(now);
  }

  /** The initiator takes the best pair that works, once the responder's peer is there; and a better one later. */
  private advance(now: number): void {
    const { checks, tunnel, attempt } = this;
    if (checks === undefined || tunnel?.role !== "initiator") return;
    if (attempt.in("connecting") && !tunnel.configured && attempt.remote.ready) {
      const found = checks.nominee(now);
      if (found === undefined) return;
      attempt.milestone("path-found", `${formatEndpoint(found)} (${checks.kindOf(found)})`);
      attempt.deadline = now + attempt.host.parameters.connectTimeout;
      checks.use(now, found, false);
      tunnel.configure(found);
    } else if (attempt.in("direct")) {
      const better = checks.better();
      if (better === undefined || sameEndpoint(better, tunnel.endpoint)) return;
      attempt.milestone("better-path", `${formatEndpoint(better)} (${checks.kindOf(better)})`);
      tunnel.move(better);
      checks.use(now, better, true);
    }
  }

  /** An authentic ping of the other end. */
  handlePing(now: number, from: Endpoint, at: Address, ping: Ping): void {
    const { attempt, offered } = this;
    if (!attempt.remote.isCurrent(ping.epochs)) return;
    if (ping.kind === "ping" && attempt.in("offered", "refused")) offered.implied(now);
    if (this.checks === undefined || !this.active || !offered.agreed) return;
    if (ping.ready) attempt.remote.ready = true;
    this.checks.receive(now, from, at, ping);
    this.advance(now);
  }

  /** The responder's peer is there. */
  responderReady(now: number): void {
    if (this.checks === undefined) this.tunnel?.configure(this.attempt.remote.peer?.candidates[0]);
    else this.startChecks(now);
  }

  /** Where the other end may be reached has changed. */
  learn(now: number, candidates: readonly Candidate[]): void {
    this.checks?.learn(now, candidates);
    this.checks?.improveNow(now);
  }

  /** Where this end may be reached, or what it may reach, has changed. */
  candidatesChanged(now: number): void {
    if (this.active) this.checks?.improveNow(now);
    if (this.active || this.attempt.in("offered", "refused")) this.tellWhereabouts(now);
  }

  /** Tells the other end, unless it knows. */
  tellWhereabouts(now: number): void {
    this.attempt.remote.announceReachability(now, (t) => {
      if (this.otherOpen) this.startChecks(t);
    });
  }

  peerApplied(now: number, error: string | undefined): void {
    const { tunnel, attempt } = this;
    if (tunnel === undefined || !tunnel.configured) return;
    const news = tunnel.markApplied();
    if (error !== undefined) {
      this.ways.fallBackToHub(now, `cannot configure the peer: ${error}`, FAILED);
      return;
    }
    if (!news) return;
    attempt.milestone("peer-created", tunnel.role);
    if (this.checks !== undefined) this.checks.ready = true;
    if (!attempt.in("connecting")) return;
    tunnel.startProbes(attempt.host.routesOwn(now));
    if (tunnel.role === "responder") {
      const { remote } = attempt;
      remote.send(now, "ready", { kind: "ready", epochs: remote.epochs }, (t, o) => {
        this.offered.afterTelling(t, o);
        // the other end has opened its NAT before it answered
        this.startChecks(t);
      });
    }
  }

  peerStatus(now: number, s: PeerStatus): void {
    this.tunnel?.observe(now, s, this.attempt.in("connecting"));
    if (s.endpoint !== undefined) this.checks?.seen(s.endpoint);
    this.advance(now);
    this.announce(now);
  }

  // ------------------------------------------------------------------------------------------ while it is there

  /** What our probes tell the other end, after anything that bears on it. */
  announce(now: number): void {
    const { tunnel, attempt } = this;
    if (tunnel === undefined) return;
    tunnel.announce({
      flipped: attempt.offers.onDirect,
      down: !this.active,
      ownsRoutes: attempt.host.routesOwn(now),
      idle: attempt.in("direct") && tunnel.quiet(now),
    });
  }

  /** Traffic goes by it from now on. */
  use(now: number, tunnel: Tunnel): void {
    tunnel.keepAlive();
    this.checks?.use(now, tunnel.endpoint, tunnel.role === "initiator");
  }

  /** What this router sends to the owner by the overlay, bits per second. */
  trafficRead(now: number, byOverlay: number): void {
    if (!this.attempt.in("direct")) this.forecast.read(now, byOverlay, undefined, undefined);
    else {
      const sent = byOverlay + (this.tunnel?.sentRate ?? 0);
      this.forecast.read(now, sent, this.tunnel?.prober.roundTrip, this.hubRoundTrip);
    }
  }

  /** Milliseconds by the hub. */
  get hubRoundTrip(): number | undefined {
    return this.hubPath?.roundTrip;
  }

  /** Whether its round trip is one to use it at. */
  fits(now: number, { prober }: Tunnel): RoundTripVerdict {
    return this.hubPath === undefined ? { kind: "fits" } : this.roundTrips.before(now, prober, this.hubPath);
  }

  /** Whether its round trip is one to stay on it at. */
  stillFits(now: number, { prober }: Tunnel): RoundTripVerdict {
    return this.roundTrips.during(now, prober.roundTrip, this.hubRoundTrip);
  }

  /** What kind of candidate the endpoint is. */
  get candidate(): string {
    const endpoint = this.tunnel?.endpoint;
    return endpoint === undefined ? "" : (this.checks?.kindOf(endpoint) ?? "");
  }

  /** Nothing is measured any more; the tunnel stays until it is drained. */
  leave(): void {
    this.hubPath?.stop();
  }

  reset(): void {
    this.tunnel = undefined;
    this.checks = undefined;
    this.otherOpen = false;
    this.hubPath = undefined;
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    return earliest(this.hubPath?.pollTimeout(), this.active ? this.checks?.pollTimeout() : undefined);
  }

  measureHub(now: number): void {
    this.hubPath?.handleTimeout(now);
  }

  check(now: number): void {
    if (!this.active) return;
    this.checks?.handleTimeout(now);
    this.advance(now);
  }

  /** The deadline has come before the path is proven. */
  giveUp(now: number): void {
    const { attempt, checks, forecast, tunnel } = this;
    const reason = tunnel?.describe(attempt.ownGeneration(now)) ?? "no tunnel";
    if (checks === undefined || tunnel?.heard === true) this.ways.fallBackToHub(now, reason, PATH_FAILED);
    else {
      attempt.host.reobserve(now);
      const because = forecast.natPrognosis === "likely" ? "" : `; ${forecast.natText()}`;
      const ending = forecast.natPrognosis === "hopeless" ? HOPELESS : UNREACHABLE;
      this.ways.fallBackToHub(now, `${checks.describe()}${because}`, ending);
    }
  }
}
