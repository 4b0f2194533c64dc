/**
 * The direct path of one attempt, as far as it exists: openings of the own NAT and connectivity
 * checks, the tunnel, and the hub path's round trip for comparison. It does not depend on any
 * stage. The stages `connecting` and `direct` decide when a pair of candidates is taken and when
 * the path is used.
 */

import { type Address, type Endpoint, formatEndpoint, type Prefix } from "../../net/address.js";
import type { Candidate } from "../../wire/control/message.js";
import { earliest } from "../deadlines.js";
import type { PairKind, PeerStatus } from "../events.js";
import { Checks, type ChecksHost } from "../nat/connectivity-checks.js";
import { endpointFault, outside } from "../nat/endpoint-check.js";
import { no, type Reason, type Verdict, YES } from "../reasons.js";
import type { Collaborators } from "./collaborators.js";
import type { Remote } from "./remote.js";
import { HubPath, RoundTripCheck } from "./round-trip.js";
import { Tunnel, type TunnelEnds } from "./tunnel.js";

export class DirectPath {
  tunnel: Tunnel | undefined;
  /**
   * The connectivity checks: from the own daemon's selection on, where both ends can send pings.
   */
  checks: Checks | undefined;
  private hubPath: HubPath | undefined;
  private roundTrips: RoundTripCheck;

  constructor(
    private readonly spoke: Collaborators,
    private readonly owner: Address,
  ) {
    this.roundTrips = new RoundTripCheck(spoke.engine.parameters.maxRoundTrip);
  }

  /**
   * Opens the own NAT towards the other end's candidates. Returns their list, or undefined when
   * nothing had to be opened.
   */
  openNat(now: number, remote: Remote, prefixes: readonly Prefix[]): string | undefined {
    const { peer, epochs } = remote;
    if (peer === undefined || !peer.pings || !this.spoke.engine.pingsUsable) return undefined;
    const { publicKey, candidates } = peer;
    this.checks ??= new Checks(this.checksHost(prefixes), { publicKey, candidates, epochs }, now);
    if (!this.checks.stale(now)) return undefined;
    this.checks.open(now);
    return this.checks.list();
  }

  /** Makes the tunnel, not yet configured, and starts to measure the hub path. */
  establish(now: number, ends: TunnelEnds): Tunnel {
    const { engine, traffic } = this.spoke;
    const { maxRoundTrip } = engine.parameters;
    this.tunnel = new Tunnel(engine, ends, traffic.lowRate, now);
    this.hubPath = new HubPath(engine, this.owner, now, maxRoundTrip !== undefined);
    this.roundTrips = new RoundTripCheck(maxRoundTrip);
    return this.tunnel;
  }

  private checksHost(prefixes: readonly Prefix[]): ChecksHost {
    const { owner } = this;
    const { engine, reachability } = this.spoke;
    const { pingBudget } = engine;
    return {
      get openTtl() {
        return reachability.openTtl;
      },
      onLink: () => reachability.onLink(),
      sendPing: (now, theirs, ping, target) => {
        const { kind } = ping;
        const paid =
          kind === "pong" ? pingBudget.answer(now, owner) : pingBudget.spend(now, owner, target.to.address);
        if (paid) engine.sendPing(theirs, ping, target);
      },
      answered: (now, from) => pingBudget.answered(now, owner, from.address),
      randomId: () => engine.randomId(),
      permits: (to) => this.permits(to, prefixes),
    };
  }

  /**
   * Returns whether something may be sent to an endpoint of the other end: whatever told it, it must be
   * one of another router, and the path to it must run outside the tunnels of the overlay.
   */
  private permits(to: Endpoint, prefixes: readonly Prefix[]): Verdict {
    const { engine, reachability } = this.spoke;
    const fault = endpointFault(to, reachability.view, { address: this.owner, prefixes });
    if (fault !== undefined) return no({ kind: "endpoint-refused", endpoint: formatEndpoint(to), fault });
    return outside(engine.self.address, engine.routing, to);
  }

  /** The first candidate that may be taken without a ping, for ends that cannot send pings. */
  private untested(remote: Remote, prefixes: readonly Prefix[]): Endpoint | undefined {
    return remote.peer?.candidates.find((c) => this.permits(c, prefixes).ok);
  }

  /** Returns the candidate that WireGuard tries without a ping; undefined when none may be tried, or the budget is used up. */
  takeUntested(now: number, remote: Remote, prefixes: readonly Prefix[]): Endpoint | undefined {
    const found = this.untested(remote, prefixes);
    const { pingBudget } = this.spoke.engine;
    const paid = found !== undefined && pingBudget.spendUntested(now, this.owner, found.address);
    return paid ? found : undefined;
  }

  /** The reason why no candidate of the other end may be tried. */
  onlyInside(remote: Remote, prefixes: readonly Prefix[]): Reason | undefined {
    if (this.checks !== undefined) return this.checks.onlyInside;
    const [first] = remote.peer?.candidates ?? [];
    if (first === undefined || this.untested(remote, prefixes) !== undefined) return undefined;
    const verdict = this.permits(first, prefixes);
    return verdict.ok ? undefined : verdict.reason;
  }

  /** Returns whether the endpoint in use may be used: the other end's packets may have moved it. */
  endpointPermitted(prefixes: readonly Prefix[]): Verdict {
    const endpoint = this.tunnel?.endpoint;
    return endpoint === undefined ? YES : this.permits(endpoint, prefixes);
  }

  /** Follows a change of routes. */
  reroute(now: number): void {
    this.checks?.reroute(now);
  }

  /** Takes the other end's candidates in the place of earlier ones. */
  learn(now: number, candidates: readonly Candidate[]): void {
    if (this.checks?.learn(now, candidates) === true) this.checks.improveSoon(now);
  }

  /** Takes the kernel's state of the peer; `awaited` while its handshake is pending. */
  observe(now: number, s: PeerStatus, awaited: boolean): void {
    this.tunnel?.observe(now, s, awaited);
    if (s.endpoint !== undefined) this.checks?.seen(s.endpoint);
  }

  /** Starts to use the path for traffic. */
  use(now: number, tunnel: Tunnel): void {
    tunnel.keepAlive();
    this.checks?.use(now, tunnel.endpoint, tunnel.role === "initiator");
  }

  /** Round trip of the hub path, in milliseconds. */
  get hubRoundTrip(): number | undefined {
    return this.hubPath?.roundTrip;
  }

  /** Returns whether the round trip allows the path to be used. */
  fits(now: number, { prober }: Tunnel): Verdict | "wait" {
    return this.hubPath === undefined ? YES : this.roundTrips.before(now, prober, this.hubPath);
  }

  /** Returns whether the round trip still allows the path to be used. */
  stillFits(now: number, { prober }: Tunnel): Verdict {
    return this.roundTrips.during(now, prober.roundTrip, this.hubRoundTrip);
  }

  /** The kind of candidate of the endpoint in use. */
  get candidate(): PairKind | undefined {
    const endpoint = this.tunnel?.endpoint;
    return endpoint === undefined ? undefined : this.checks?.kindOf(endpoint);
  }

  /** Returns ADDRESS:PORT and the kind of candidate, for milestones. */
  nameOf(e: NonNullable<Tunnel["endpoint"]>): string {
    return `${formatEndpoint(e)} (${this.checks?.kindOf(e) ?? "unknown"})`;
  }

  /** Stops the measurements; the tunnel stays until it is drained. */
  leave(): void {
    this.hubPath?.stop();
  }

  measureHub(now: number): void {
    this.hubPath?.handleTimeout(now);
  }

  /** Returns the next deadline of measurements and checks. */
  pollTimeout(): number | undefined {
    return earliest(this.hubPath?.pollTimeout(), this.checks?.pollTimeout());
  }
}
