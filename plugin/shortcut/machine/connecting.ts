/**
 * The stage `connecting`. The peers are configured, the responder's first. A pair of candidates
 * that works in both directions is found. WireGuard makes its handshake, and probes prove the
 * tunnel in both directions at full MTU.
 */

import type { Address, Endpoint } from "../../net/address.js";
import { ZERO_ID } from "../../wire/control/codec.js";
import type { Ping } from "../../wire/ping.js";
import { earliest } from "../deadlines.js";
import type { PeerStatus } from "../events.js";
import type { StreamEvent } from "../probe/stream.js";
import { describeReason, type Reason } from "../reasons.js";
import { Standing } from "./active.js";
import { fallBackToHub, type Step, type StepsFrom } from "./stage.js";
import { FAILED, HOPELESS, PATH_FAILED, PLANNED, UNREACHABLE, UNWANTED } from "./teardown-reasons.js";
import type { Tunnel } from "./tunnel.js";

/** Returns whether shortcutd itself restores what is wrong: that says nothing about the next attempt. */
const isRepaired = (r: Reason): boolean => r.kind === "direct-gone" || r.kind === "direct-changed";

/**
 * The common part of `connecting` and `direct`: a tunnel exists, and both daemons have selected.
 */
export abstract class Tunnelled<X extends Step> extends Standing<X> {
  override consider(now: number): X | Step<"returning"> | undefined {
    if (!this.c.agreed) return fallBackToHub(this.c.offers.refusal(), PLANNED);
    if (this.c.oneWay) this.tellSelected(now);
    return undefined;
  }

  protected override refusedThere(reason: Reason): Step<"returning"> {
    return fallBackToHub(reason, PLANNED);
  }

  override directUnusable(reason: Reason): Step<"returning"> {
    return fallBackToHub(reason, isRepaired(reason) ? PLANNED : FAILED);
  }

  override waysChanged(now: number): Step<"returning"> | undefined {
    this.c.attempt.path.reroute(now);
    return this.leaveTunnel();
  }

  /** Falls back when the tunnel's own packets go through the overlay, or to no other router. */
  protected leaveTunnel(): Step<"returning"> | undefined {
    const { c } = this;
    const permitted = c.attempt.path.endpointPermitted(c.prefixes);
    return permitted.ok ? undefined : fallBackToHub(permitted.reason, UNWANTED);
  }

  override ping(now: number, from: Endpoint, at: Address, ping: Ping): undefined {
    const { attempt, agreed } = this.c;
    const { checks } = attempt.path;
    if (checks === undefined || !agreed) return;
    if (ping.ready) attempt.remote.ready = true;
    checks.receive(now, from, at, ping);
    this.advance(now);
  }

  /** Takes a pair of candidates that works, or that works better. */
  protected abstract advance(now: number): void;

  override candidatesChanged(now: number): void {
    this.c.attempt.path.checks?.improveSoon(now);
    super.candidatesChanged(now);
  }

  override pollTimeout(): number | undefined {
    return earliest(this.deadline, this.c.attempt.path.pollTimeout());
  }

  protected check(now: number): void {
    this.c.attempt.path.checks?.handleTimeout(now);
    this.advance(now);
  }
}

export class Connecting extends Tunnelled<StepsFrom<"connecting">> {
  override readonly name = "connecting" as const;
  /** Whether the other end's NAT is open towards the candidates that it knows of this end. */
  private remoteOpen = false;

  override begin(now: number): Step<"returning"> | undefined {
    const { c } = this;
    const { host, owner, prefixes, attempt } = c;
    const { remote, path, attested } = attempt;
    const { peer, epochs, role, linkLocal } = remote;
    if (peer === undefined) return undefined;
    // the other end waits for our answer
    if (c.oneWay && remote.told.selected === undefined) this.tellSelected(now, true);
    const { connectTimeout, checkTimeout } = host.parameters;
    this.deadline = now + connectTimeout;
    const accepted = attested?.generation ?? ZERO_ID;
    const tunnel = path.establish(now, { owner, peer, epochs, role, linkLocal, prefixes, accepted });
    c.openNat(now);
    const inside = path.onlyInside(remote, prefixes);
    if (inside !== undefined) return fallBackToHub(inside, UNWANTED);
    if (path.checks === undefined) {
      if (role === "responder" || remote.ready) tunnel.configure(path.takeUntested(now, remote, prefixes));
      return undefined;
    }
    // the responder learns the initiator's endpoint from its handshake, so two initiations cannot
    // cross
    if (role === "responder") tunnel.configure(undefined);
    else this.deadline = now + checkTimeout;
    if (remote.open(now)) this.otherOpen(now);
    return undefined;
  }

  /**
   * Starts pings only when the other end knows the candidates of this end: its NAT is not open to
   * pings from elsewhere.
   */
  override otherOpen(now: number): void {
    this.remoteOpen = true;
    if (this.c.attempt.remote.telling) return;
    this.c.attempt.path.checks?.start(now);
    this.advance(now);
  }

  override reachabilityKnown(now: number): undefined {
    if (this.remoteOpen) this.otherOpen(now);
  }

  override ready(now: number): StepsFrom<"connecting"> | undefined {
    const step = super.ready(now);
    if (step !== undefined) return step;
    const { path, remote } = this.c.attempt;
    const { tunnel } = path;
    if (path.checks !== undefined) this.otherOpen(now);
    else if (tunnel?.configured === false) tunnel.configure(path.takeUntested(now, remote, this.c.prefixes));
    return undefined;
  }

  /** Takes, at the initiator, the best pair that works, once the responder's peer exists. */
  protected override advance(now: number): void {
    const { attempt, host } = this.c;
    const { checks, tunnel } = attempt.path;
    if (checks === undefined || tunnel?.role !== "initiator") return;
    if (tunnel.configured || !attempt.remote.ready) return;
    const found = checks.nominee(now);
    if (found === undefined) return;
    this.c.milestone("path-found", attempt.path.nameOf(found));
    this.deadline = now + host.parameters.connectTimeout;
    checks.use(now, found, false);
    tunnel.configure(found);
  }

  override peerApplied(now: number, error: string | undefined): Step<"returning"> | undefined {
    const { c } = this;
    const configured = c.attempt.path.tunnel?.configured === true;
    const tunnel = c.peerApplied(error);
    if (error !== undefined && configured)
      return fallBackToHub({ kind: "peer-not-configured", error }, FAILED);
    if (tunnel === undefined) return undefined;
    tunnel.startProbes(c.spoke.own.routes(now));
    const { remote } = c.attempt;
    if (tunnel.role === "responder")
      remote.send(now, "ready", { kind: "ready", epochs: remote.epochs }, (t, o) =>
        c.later.readyAnswered(t, o),
      );
    return undefined;
  }

  override peerStatus(now: number, s: PeerStatus): Step<"returning"> | undefined {
    this.c.attempt.path.observe(now, s, true);
    const step = this.leaveTunnel();
    if (step !== undefined) return step;
    this.advance(now);
    this.c.announceProbes(now, { down: false, idle: false });
    return undefined;
  }

  override probe(now: number, event: StreamEvent): StepsFrom<"connecting"> | undefined {
    const { c } = this;
    const { tunnel } = c.attempt.path;
    if (tunnel === undefined) return undefined;
    tunnel.receive(event);
    if (tunnel.prober.verdict(c.accepted(now)) === "proven" && tunnel.applied) {
      const step = this.weigh(now, tunnel);
      if (step !== undefined) return step;
    }
    c.announceProbes(now, { down: false, idle: false });
    return undefined;
  }

  /** Uses a proven path, unless its round trip is longer than allowed. */
  private weigh(now: number, tunnel: Tunnel): StepsFrom<"connecting"> | undefined {
    const fits = this.c.attempt.path.fits(now, tunnel);
    if (fits === "wait") return undefined;
    if (!fits.ok) return fallBackToHub(fits.reason, UNWANTED);
    const { roundTrip } = tunnel.prober;
    const reason: Reason | undefined =
      roundTrip === undefined ? undefined : { kind: "path-proven", roundTrip };
    this.c.milestone("path-proven", describeReason(reason));
    return { to: "direct", reason };
  }

  override handleTimeout(now: number): Step<"returning"> | undefined {
    this.c.attempt.path.measureHub(now);
    this.check(now);
    if (this.deadline === undefined || now < this.deadline) return undefined;
    this.deadline = undefined;
    return this.giveUp(now);
  }

  /** Gives up: the deadline has come before the path is proven. */
  private giveUp(now: number): Step<"returning"> {
    const { c } = this;
    const { checks, tunnel } = c.attempt.path;
    const reason: Reason = tunnel?.unproven(c.accepted(now)) ?? { kind: "no-tunnel" };
    if (checks === undefined || tunnel?.heard === true) return fallBackToHub(reason, PATH_FAILED);
    c.spoke.reachability.reobserve(now);
    const nat = c.nat();
    const rule = nat.prognosis === "hopeless" ? HOPELESS : UNREACHABLE;
    return fallBackToHub(checks.result(nat.prognosis === "likely" ? undefined : nat), rule);
  }
}
