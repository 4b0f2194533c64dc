/**
 * Tracks whether the hubs are present. This is checked only when it matters: the daemon has lost a
 * route underneath a shortcut that is direct. Either the hub withdrew the route, and the shortcut
 * must end. Or the hub itself is gone, and its routes with it: then the shortcut may outlive it.
 *
 *   present   nothing is known to be wrong
 *             -> checking, when a route underneath disappeared
 *   checking  the daemon is asked for its session with the hubs
 *             -> present | absent, after CHECK at the latest
 *   absent    the session is down
 *             -> returned, when it is up again
 *   returned  the hub is back, and its routes take their time
 *             -> present after the grace
 *
 * A daemon without a session with a hub (static routes, a route reflector elsewhere) cannot tell.
 * Then signs of life count: answers on the control port, and bytes received from the hub's overlay
 * peer. An ICMP error for a control port on which nothing listens counts too.
 */
import type { HubSession, Presence } from "../events.js";
import type { Parameters } from "../parameters.js";

/**
 * Returns whether a session with any of the hubs is up; the argument has one entry for each
 * session.
 */
export function summarySession(up: readonly boolean[]): HubSession {
  return up.length === 0 ? "none" : up.includes(true) ? "up" : "down";
}

/**
 * Milliseconds in which the daemon may answer, and a hub may give a sign of life: longer than a
 * busy daemon needs.
 */
const CHECK = 3_000;
/**
 * Milliseconds between readings of session and counters: while checking, and while no hub is
 * present.
 */
const READ_CHECKING = 250;
const READ_ABSENT = 1_000;
/**
 * Number of keepalives after which a hub that was away or was restarted has its routes and its
 * spokes again.
 */
const GRACE_KEEPALIVES = 3;

/** Milliseconds for which the answers of a hub that has come back may be incomplete. */
export const graceOf = ({ hubKeepalive }: Pick<Parameters, "hubKeepalive">): number =>
  GRACE_KEEPALIVES * hubKeepalive;

export interface HubPresenceHost {
  readonly parameters: Pick<Parameters, "hubKeepalive">;
  /** Asks every hub for a sign of life. */
  ask(now: number): void;
  /**
   * Requests a reading of session and overlay peers: {@link HubPresence.session} and
   * {@link HubPresence.received} are told.
   */
  inspect(): void;
  /** Reports a changed presence. */
  changed(now: number, presence: Presence): void;
}

export class HubPresence {
  private state: Presence = "present";
  private deadline = Number.POSITIVE_INFINITY;
  private readAt = Number.POSITIVE_INFINITY;
  private graceUntil = Number.NEGATIVE_INFINITY;
  /** Bytes received from the hubs' overlay peers at the first reading after the check began. */
  private baseline: number | undefined;
  private daemonSays: HubSession | undefined;
  private sign = false;
  private heardAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly host: HubPresenceHost) {}

  get presence(): Presence {
    return this.state;
  }

  /**
   * Returns whether the hubs' answers may be incomplete: they are away, or have only just come back.
   */
  unsettled(now: number): boolean {
    return this.state !== "present" || now < this.graceUntil;
  }

  private enter(now: number, state: Presence, lasts: number): void {
    this.state = state;
    this.deadline = now + lasts;
    this.readAt = state === "checking" ? now + READ_CHECKING : now + READ_ABSENT;
    this.host.changed(now, state);
  }

  /** Starts a check: a route underneath disappeared. */
  checkHubAlive(now: number): void {
    if (this.state !== "present") return;
    this.baseline = undefined;
    this.daemonSays = undefined;
    this.sign = false;
    this.enter(now, "checking", CHECK);
    this.host.inspect();
    this.host.ask(now);
  }

  /** Notes that a hub answered. */
  heard(now: number): void {
    this.heardAt = now;
    this.sign = true;
    this.conclude(now);
  }

  /** Asks every hub for a sign of life. */
  ask(now: number): void {
    this.host.ask(now);
  }

  /** Returns whether a hub has given a sign of life since `at`. */
  heardSince(at: number): boolean {
    return this.heardAt >= at;
  }

  /** Takes the count of all bytes ever received from the hubs' overlay peers. */
  received(now: number, bytes: number): void {
    const before = this.baseline;
    this.baseline = bytes;
    // less than before: the interface was created again
    if (before !== undefined && bytes > before) this.heard(now);
  }

  /** Takes the daemon's report about its session with the hubs. */
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

  /** Ends the wait for a daemon that has not answered in time. */
  private expire(now: number): void {
    if (this.daemonSays === undefined && this.sign) this.enter(now, "present", Number.POSITIVE_INFINITY);
    else this.goAway(now);
  }

  private comeBack(now: number): void {
    this.graceUntil = now + graceOf(this.host.parameters);
    this.enter(now, "returned", this.graceUntil - now);
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
