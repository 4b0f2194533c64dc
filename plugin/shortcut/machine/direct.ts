/**
 * The stage `direct`, from the proof of the path on: the aliases point at the direct interface, probes watch the path, and offers follow the
 * routes underneath. It ends when the path fails or proves longer than it may be, when nothing goes by it, and when a route underneath goes; except that it may
 * outlive a hub that is gone, for a bounded time, while the owner confirms by the direct path that it still routes its prefixes.
 */
import { unreachable } from "../../net/result.js";
import { earliest } from "../deadlines.js";
import type { RouteState } from "../events.js";
import type { StreamEvent } from "../probe/stream.js";
import type { Presence } from "../spoke/hub-presence.js";
import type { Attempt, Ways } from "./attempt.js";
import type { Connecting } from "./connecting.js";
import type { Offered } from "./offered.js";
import type { PathForecast } from "./path-forecast.js";
import {
  clear as forgiveAll,
  hasFailures,
  PATH_FAILED,
  PEER_INITIATED,
  PLANNED,
  UNWANTED,
} from "./teardown-reasons.js";
import type { Tunnel } from "./tunnel.js";

/** Without a hub there is nothing to go back to: a path that is silent may come back for so many milliseconds more. */
const ORPHAN_PATIENCE = 3_000;

export class Direct {
  /** Whether the FIB was seen to have followed. */
  private shown = false;
  /** Since when offers stand without a route underneath: the hub may be gone. */
  private orphanedAt: number | undefined;

  constructor(
    private readonly attempt: Attempt,
    private readonly forecast: PathForecast,
    private readonly offered: Offered,
    private readonly path: Connecting,
    private readonly ways: Ways,
  ) {}

  handleProbe(now: number, event: StreamEvent): void {
    const { tunnel } = this.path;
    if (tunnel === undefined || !this.attempt.in("connecting", "direct")) return;
    tunnel.receive(event);
    this.judge(now, tunnel);
    this.path.announce(now);
  }

  private judge(now: number, tunnel: Tunnel): void {
    const { attempt, path } = this;
    const { prober } = tunnel;
    if (this.orphanedAt !== undefined && !prober.remoteKeeps) this.reconsider(now, false);
    const verdict = prober.verdict(attempt.ownGeneration(now));
    if (attempt.in("connecting")) {
      if (verdict === "proven" && tunnel.applied) this.weigh(now, tunnel);
      return;
    }
    if (!attempt.in("direct")) return;
    switch (verdict) {
      case "lost":
        if (now < (this.failureAt(tunnel) ?? now)) return;
        attempt.milestone("path-failed", prober.describeLoss());
        attempt.host.reobserve(now);
        this.ways.fallBackToHub(now, "the direct path failed", PATH_FAILED);
        return;
      case "down":
        this.ways.fallBackToHub(now, "the other end goes back", PEER_INITIATED);
        return;
      case "unaccepted":
        this.ways.fallBackToHub(now, "the owner no longer accepts our prefixes", PLANNED);
        return;
      case "waiting":
        return;
      case "proven": {
        const fits = path.stillFits(now, tunnel);
        if (fits.kind === "slow") this.ways.fallBackToHub(now, fits.reason, UNWANTED);
        return;
      }
      default:
        unreachable(verdict);
    }
  }

  /** A proven path is used, unless it is longer than it may be. */
  private weigh(now: number, tunnel: Tunnel): void {
    const fits = this.path.fits(now, tunnel);
    if (fits.kind === "fits") this.flip(now, tunnel);
    else if (fits.kind === "slow") this.ways.fallBackToHub(now, fits.reason, UNWANTED);
  }

  private flip(now: number, tunnel: Tunnel): void {
    const { attempt, path } = this;
    const { roundTrip } = tunnel.prober;
    const rtt = roundTrip === undefined ? "" : `round trip ${roundTrip.toFixed(1)} ms`;
    attempt.milestone("path-proven", rtt);
    attempt.enter(now, "direct", rtt);
    tunnel.busyAt = now;
    this.shown = false;
    attempt.milestone("flipping", "");
    attempt.offers.point("direct");
    path.announce(now);
    path.use(now, tunnel);
  }

  /** When silence counts as a failure: later while there is no hub to go back to. */
  private failureAt(tunnel: Tunnel): number | undefined {
    const at = tunnel.prober.lostAt;
    return at === undefined || this.orphanedAt === undefined ? at : at + ORPHAN_PATIENCE;
  }

  routeSeen(s: RouteState): void {
    if (!this.attempt.in("direct") || this.shown || s.path !== "direct") return;
    this.shown = true;
    this.attempt.milestone("flipped", s.prefix);
  }

  // ------------------------------------------------------------------------------------------ the routes underneath

  underneathChanged(now: number): void {
    if (this.attempt.in("offered", "refused", "connecting", "direct")) this.reconsider(now, true);
  }

  /** Offers follow the routes underneath; a shortcut whose hub is there and has taken remote away ends. */
  private reconsider(now: number, hubMayBeGone: boolean): void {
    const { attempt, forecast } = this;
    const { host, offers, prefixes } = attempt;
    const keeps = this.path.tunnel?.prober.remoteKeeps === true;
    const may = hubMayBeGone && attempt.in("direct") && keeps && host.parameters.outlive > 0;
    const { orphans } = offers.update(prefixes, forecast.classes(now), may);
    if (orphans === 0) {
      if (this.orphanedAt !== undefined) attempt.reason = "";
      this.orphanedAt = undefined;
    } else {
      this.orphanedAt ??= now;
      host.checkHubAlive(now);
    }
    this.offered.consider(now);
  }

  /** What has become of the suspicion that the hub is gone. */
  hubPresence(now: number, presence: Presence): void {
    const { attempt } = this;
    if (this.orphanedAt === undefined) return;
    if (presence === "present") this.reconsider(now, false);
    else if (presence === "absent") {
      const seconds = Math.round(attempt.host.parameters.outlive / 1000);
      attempt.reason = `the hub is gone: stays for up to ${seconds} s, while the owner confirms its prefixes`;
      attempt.milestone("outlives-hub", attempt.reason);
    }
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    const { attempt, path, orphanedAt } = this;
    const { tunnel } = path;
    if (tunnel === undefined || !attempt.in("direct")) return undefined;
    const { idleTimeout, outlive, forgive } = attempt.host.parameters;
    return earliest(
      this.failureAt(tunnel),
      tunnel.busyAt + idleTimeout,
      orphanedAt === undefined ? undefined : orphanedAt + outlive,
      hasFailures(attempt.failures) ? attempt.since + forgive : undefined,
    );
  }

  /** A path that nothing goes by, or that has proven itself for long enough. */
  watch(now: number): void {
    const { attempt, path, orphanedAt } = this;
    const { tunnel } = path;
    if (tunnel === undefined || !attempt.in("direct")) return;
    const { forgive, idleTimeout, outlive } = attempt.host.parameters;
    const seconds = (ms: number) => Math.round(ms / 1000);
    if (hasFailures(attempt.failures) && now >= attempt.since + forgive) forgiveAll(attempt.failures);
    if (now >= tunnel.busyAt + idleTimeout)
      this.ways.fallBackToHub(now, `idle for ${seconds(idleTimeout)} s`, PLANNED);
    else if (orphanedAt !== undefined && now >= orphanedAt + outlive)
      this.ways.fallBackToHub(now, `the hub has been away for ${seconds(outlive)} s`, PLANNED);
    else this.judge(now, tunnel);
  }

  reset(): void {
    this.shown = false;
    this.orphanedAt = undefined;
  }
}
