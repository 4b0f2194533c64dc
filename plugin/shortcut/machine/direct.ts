/**
 * The stage `direct`: the aliases point at the direct interface, probes watch the path, and offers
 * follow the routes underneath. It ends when the path fails, when its round trip is too long, when
 * it carries no traffic, or when a route underneath disappears. It may outlive a hub that is gone,
 * for a bounded time, while the owner confirms over the direct path that it still routes its
 * prefixes.
 */

import { sameEndpoint } from "../../net/address.js";
import { unreachable } from "../../net/result.js";
import type { Outcome } from "../control/link.js";
import { earliest } from "../deadlines.js";
import type { PeerStatus, Presence, RouteState } from "../events.js";
import type { StreamEvent } from "../probe/stream.js";
import { describeReason } from "../reasons.js";
import { Tunnelled } from "./connecting.js";
import { fallBackToHub, type Step, type StepsFrom } from "./stage.js";
import {
  clear as clearFailures,
  hasFailures,
  PATH_FAILED,
  PEER_INITIATED,
  PLANNED,
  UNWANTED,
} from "./teardown-reasons.js";
import type { Tunnel } from "./tunnel.js";

/** Milliseconds for which a silent path may recover while it is being found out whether the hub is gone. */
const ORPHAN_PATIENCE = 3_000;

export class Direct extends Tunnelled<StepsFrom<"direct">> {
  override readonly name = "direct" as const;
  /** Whether the FIB has shown the direct path. */
  private shown = false;
  /** The time at which the daemon is asked about prefixes that it refuses: policy may change while others are direct. */
  private explainAt = 0;
  /** The time since when offers stand without a route underneath: the hub may be gone. */
  private orphanedAt: number | undefined;

  /** Makes the flip. Where the hub is gone, routes underneath may be gone with it. */
  override begin(now: number): Step<"returning"> | undefined {
    const { c } = this;
    const { tunnel } = c.attempt.path;
    if (tunnel === undefined) return undefined;
    tunnel.busyAt = now;
    c.milestone("flipping", "");
    c.offers.point("direct");
    this.explainAt = now + c.host.parameters.offerTimeout;
    this.announce(now, tunnel);
    c.attempt.path.use(now, tunnel);
    return this.reason?.kind === "hub-path-silent" ? this.reconsider(now, true) : undefined;
  }

  private announce(now: number, tunnel: Tunnel): void {
    this.c.announceProbes(now, { down: false, idle: tunnel.quiet(now) });
  }

  override routeSeen(s: RouteState): void {
    if (this.shown || s.path !== "direct") return;
    this.shown = true;
    this.c.milestone("flipped", s.prefix);
  }

  /** Ignores a request that was not answered: the probes notice an end that does not answer. */
  override tellingAnswered(now: number, outcome: Outcome): Step<"returning"> | undefined {
    return outcome.kind === "timeout" ? undefined : super.tellingAnswered(now, outcome);
  }

  /** Takes, at the initiator, a better pair of candidates. */
  protected override advance(now: number): void {
    const { checks, tunnel } = this.c.attempt.path;
    if (checks === undefined || tunnel?.role !== "initiator") return;
    const better = checks.better();
    if (better === undefined || sameEndpoint(better, tunnel.endpoint)) return;
    this.c.milestone("better-path", this.c.attempt.path.nameOf(better));
    tunnel.move(better);
    checks.use(now, better, true);
  }

  override peerStatus(now: number, s: PeerStatus): Step<"returning"> | undefined {
    const { path } = this.c.attempt;
    path.observe(now, s, false);
    // the other end's packets may have moved the endpoint
    const step = this.leaveTunnel();
    if (step !== undefined) return step;
    this.advance(now);
    if (path.tunnel !== undefined) this.announce(now, path.tunnel);
    return undefined;
  }

  override trafficRead(now: number, viaOverlay: number): void {
    const { tunnel, hubRoundTrip } = this.c.attempt.path;
    const sent = viaOverlay + (tunnel?.sentRate ?? 0);
    this.c.trafficRead(now, sent, tunnel?.prober.roundTrip, hubRoundTrip);
  }

  // -------------------------------------------------------------------------- the path

  override probe(now: number, event: StreamEvent): Step<"returning"> | undefined {
    const { tunnel } = this.c.attempt.path;
    if (tunnel === undefined) return undefined;
    tunnel.receive(event);
    const step = this.judge(now, tunnel);
    if (step === undefined) this.announce(now, tunnel);
    return step;
  }

  private judge(now: number, tunnel: Tunnel): Step<"returning"> | undefined {
    const { c } = this;
    const { prober } = tunnel;
    if (this.orphanedAt !== undefined && !prober.remoteKeeps) {
      const step = this.reconsider(now, false);
      if (step !== undefined) return step;
    }
    const verdict = prober.verdict(c.accepted(now));
    switch (verdict) {
      case "lost":
        if (now < (this.failureAt(tunnel) ?? Number.POSITIVE_INFINITY)) return undefined;
        c.milestone("path-failed", prober.describeLoss());
        c.spoke.reachability.reobserve(now);
        return fallBackToHub(prober.lost, PATH_FAILED);
      case "down":
        return fallBackToHub({ kind: "owner-going-back" }, PEER_INITIATED);
      case "unaccepted":
        return fallBackToHub({ kind: "owner-unaccepting" }, PLANNED);
      case "waiting":
        return undefined;
      case "proven": {
        const fits = c.attempt.path.stillFits(now, tunnel);
        return fits.ok ? undefined : fallBackToHub(fits.reason, UNWANTED);
      }
      default:
        return unreachable(verdict);
    }
  }

  /**
   * Returns when silence counts as a failure: later while it is not known whether the hub is gone, and never while it is gone,
   * since nothing is left to fall back to.
   */
  private failureAt(tunnel: Tunnel): number | undefined {
    const at = tunnel.prober.lostAt;
    if (at === undefined || this.orphanedAt === undefined) return at;
    return this.c.spoke.presence.presence === "absent" ? undefined : at + ORPHAN_PATIENCE;
  }

  // ------------------------------------------------------------------------- the routes underneath

  override underneathChanged(now: number): Step<"returning"> | undefined {
    return this.reconsider(now, true);
  }

  /**
   * Lets offers follow the routes underneath. The shortcut ends when the hub is present and has
   * withdrawn the routes.
   */
  private reconsider(now: number, hubMayBeGone: boolean): Step<"returning"> | undefined {
    const { host, spoke, offers, prefixes, forecast, attempt } = this.c;
    const keeps = attempt.path.tunnel?.prober.remoteKeeps === true;
    const may = hubMayBeGone && keeps && host.parameters.outlive > 0;
    const { orphans } = offers.update(prefixes, forecast.classes(now), may);
    if (orphans === 0) {
      if (this.orphanedAt !== undefined) this.reason = undefined;
      this.orphanedAt = undefined;
    } else {
      this.orphanedAt ??= now;
      spoke.presence.checkHubAlive(now);
    }
    return this.consider(now);
  }

  override hubPresence(now: number, presence: Presence): Step<"returning"> | undefined {
    if (this.orphanedAt === undefined) return undefined;
    if (presence === "present") return this.reconsider(now, false);
    if (presence === "absent") {
      const { outlive } = this.c.host.parameters;
      this.reason = { kind: "outlives-hub", outlive };
      this.c.milestone("outlives-hub", describeReason(this.reason));
    }
    return undefined;
  }

  // -------------------------------------------------------------------------- time

  override pollTimeout(): number | undefined {
    const { orphanedAt, since } = this;
    const { path } = this.c.attempt;
    const { idleTimeout, outlive, forgive } = this.c.host.parameters;
    const { tunnel } = path;
    if (tunnel === undefined) return path.pollTimeout();
    return earliest(
      path.pollTimeout(),
      this.failureAt(tunnel),
      tunnel.busyAt + idleTimeout,
      this.explainAt,
      orphanedAt === undefined ? undefined : orphanedAt + outlive,
      hasFailures(this.c.failures) ? since + forgive : undefined,
    );
  }

  override handleTimeout(now: number): Step<"returning"> | undefined {
    const { path } = this.c.attempt;
    path.measureHub(now);
    const step = path.tunnel === undefined ? undefined : this.watch(now, path.tunnel);
    if (step === undefined) this.check(now);
    return step;
  }

  /** Handles a path that carries no traffic, or that has worked for long enough. */
  private watch(now: number, tunnel: Tunnel): Step<"returning"> | undefined {
    const { orphanedAt, since } = this;
    const { failures, host } = this.c;
    const { forgive, idleTimeout, outlive } = host.parameters;
    if (hasFailures(failures) && now >= since + forgive) clearFailures(failures);
    if (now >= this.explainAt) {
      this.explainAt = now + host.parameters.refresh;
      this.c.offers.explainRefused();
    }
    if (now >= tunnel.busyAt + idleTimeout)
      return fallBackToHub({ kind: "idle", timeout: idleTimeout }, PLANNED);
    if (orphanedAt !== undefined && now >= orphanedAt + outlive)
      return fallBackToHub({ kind: "hub-away", outlive }, PLANNED);
    return this.judge(now, tunnel);
  }
}
