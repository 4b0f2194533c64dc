/**
 * Whether the hubs are there, asked only when it matters: the daemon has lost a route underneath a shortcut that is direct. Either the
 * hub took the route away, and the shortcut has to go; or the hub itself is gone, and its routes with it: then the shortcut may outlive it.
 *
 *   present   nothing is known to be wrong                                  -> checking, when a route underneath went
 *   checking  the daemon is asked for its session with the hubs             -> present | absent, after CHECK at the latest
 *   absent    the session is down                                           -> returned, when it is up again
 *   returned  the hub is back, and its routes take their time               -> present after the grace
 *
 * A daemon that has no session with a hub (static routes, a route reflector elsewhere) cannot say. Then signs of life count: answers on
 * the control port, and bytes received from the hub's overlay peer, be it an ICMP error for a control port where nothing listens.
 */
import type { HubSession, Presence } from "../events.js";
import type { Parameters } from "../parameters.js";

/** Of the sessions with the hubs, whether each is up. */
export function summarySession(up: readonly boolean[]): HubSession {
  return up.length === 0 ? "none" : up.includes(true) ? "up" : "down";
}

/** How long the daemon may take to answer, and a hub to give a sign: longer than a busy daemon is waited for. Milliseconds. */
const CHECK = 3_000;
/** How often session and counters are read meanwhile, and while no hub is there. */
const READ_CHECKING = 250;
const READ_ABSENT = 1_000;
/** A hub that was away or was started anew has its routes and its spokes again after this many keepalives. */
const GRACE_KEEPALIVES = 3;

export interface HubPresenceHost {
  readonly parameters: Pick<Parameters, "hubKeepalive">;
  /** Asks every hub for a sign. */
  ask(now: number): void;
  /** Has session and overlay peers read: {@link HubPresence.session} and {@link HubPresence.received} are told. */
  inspect(): void;
  /** Another presence than before. */
  changed(now: number, presence: Presence): void;
}

export class HubPresence {
  private state: Presence = "present";
  private deadline = Number.POSITIVE_INFINITY;
  private readAt = Number.POSITIVE_INFINITY;
  private graceUntil = Number.NEGATIVE_INFINITY;
  /** Bytes received from the hubs' overlay peers at the first reading after the suspicion. */
  private baseline: number | undefined;
  private daemonSays: HubSession | undefined;
  private sign = false;

  constructor(private readonly host: HubPresenceHost) {}

  get presence(): Presence {
    return this.state;
  }

  /** Whether what the hub says may be the half of it: it is away, or has not been back for long. */
  unsettled(now: number): boolean {
    return this.state !== "present" || now < this.graceUntil;
  }

  private enter(now: number, state: Presence, lasts: number): void {
    this.state = state;
    this.deadline = now + lasts;
    this.readAt = state === "checking" ? now + READ_CHECKING : now + READ_ABSENT;
    this.host.changed(now, state);
  }

  /** A route underneath went. */
  checkHubAlive(now: number): void {
    if (this.state !== "present") return;
    this.baseline = undefined;
    this.daemonSays = undefined;
    this.sign = false;
    this.enter(now, "checking", CHECK);
    this.host.inspect();
    this.host.ask(now);
  }

  /** A hub answered. */
  heard(now: number): void {
    this.sign = true;
    this.conclude(now);
  }

  /** All bytes ever received from the overlay peers behind which the hubs are. */
  received(now: number, bytes: number): void {
    const before = this.baseline;
    this.baseline = bytes;
    // less than before: the interface was made anew
    if (before !== undefined && bytes > before) this.heard(now);
  }

  /** What the daemon says of its session with the hubs. */
  session(now: number, session: HubSession): void {
    this.daemonSays = session;
    this.conclude(now);
  }

  private conclude(now: number): void {
    const there = this.daemonSays === "up" || (this.daemonSays === "none" && this.sign);
    if (this.state === "checking") {
      if (there) this.enter(now, "present", Number.POSITIVE_INFINITY);
      else if (this.daemonSays === "down") this.goAway(now);
    } else if (this.state === "absent" && there) this.comeBack(now);
  }

  private goAway(now: number): void {
    this.sign = false;
    this.enter(now, "absent", Number.POSITIVE_INFINITY);
  }

  /** A daemon that has not answered in time is no witness. */
  private expire(now: number): void {
    if (this.daemonSays === undefined && this.sign) this.enter(now, "present", Number.POSITIVE_INFINITY);
    else this.goAway(now);
  }

  private comeBack(now: number): void {
    this.restarted(now);
    this.enter(now, "returned", this.graceUntil - now);
  }

  /** A hub was started anew. */
  restarted(now: number): void {
    this.graceUntil = now + GRACE_KEEPALIVES * this.host.parameters.hubKeepalive;
  }

  pollTimeout(): number | undefined {
    switch (this.state) {
      case "present":
        return undefined;
      case "returned":
        return this.deadline;
      default:
        return Math.min(this.deadline, this.readAt);
    }
  }

  handleTimeout(now: number): void {
    if (this.state === "checking" && now >= this.deadline) this.expire(now);
    else if (this.state === "returned" && now >= this.deadline)
      this.enter(now, "present", Number.POSITIVE_INFINITY);
    if ((this.state !== "checking" && this.state !== "absent") || now < this.readAt) return;
    this.readAt = now + (this.state === "checking" ? READ_CHECKING : READ_ABSENT);
    this.host.inspect();
  }
}
