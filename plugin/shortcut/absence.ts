/**
 * Whether the hubs are there, asked only when it matters: the daemon has lost a route underneath a shortcut that is direct. Either the
 * hub took the route away, and the shortcut has to go; or the hub itself is gone, and the shortcut may outlive it.
 *
 *   present   nothing is known to be wrong                                  -> checking, when a route underneath went
 *   checking  the hubs were asked; what comes from one settles it           -> present | absent after CHECK
 *   absent    no hub is heard                                               -> returned, at the first sign of one
 *   returned  a hub is heard again, and its routes take their time          -> present after the grace
 *
 * Signs of a hub are answers on the control port, and bytes received from its overlay peer: an ICMP error for a control
 * port where nothing listens, forwarded packets, WireGuard's own keepalives. So a hub whose shortcutd alone is dead counts as there.
 */
import type { Parameters } from "./parameters.js";

export type Presence = "present" | "checking" | "absent" | "returned";

/** How long a hub may take to give a sign: three transmissions of a request. Milliseconds. */
const CHECK = 1_000;
/** How often the overlay's counters are read meanwhile, and while no hub is there. */
const READ_CHECKING = 250;
const READ_ABSENT = 1_000;
/** A hub that was away or was started anew has its routes and its spokes again after this many keepalives. */
const GRACE_KEEPALIVES = 3;

export interface AbsenceHost {
  readonly parameters: Pick<Parameters, "hubKeepalive">;
  /** Asks every hub for a sign. */
  ask(now: number): void;
  /** Has the overlay's peers read: {@link HubAbsence.received} is told. */
  readOverlay(): void;
  /** Another presence than before. */
  changed(now: number, presence: Presence): void;
}

export class HubAbsence {
  private state: Presence = "present";
  private deadline = Number.POSITIVE_INFINITY;
  private readAt = Number.POSITIVE_INFINITY;
  private graceUntil = Number.NEGATIVE_INFINITY;
  /** Bytes received from the hubs' overlay peers at the first reading after the suspicion. */
  private baseline: number | undefined;

  constructor(private readonly host: AbsenceHost) {}

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
  suspect(now: number): void {
    if (this.state !== "present") return;
    this.baseline = undefined;
    this.enter(now, "checking", CHECK);
    this.host.readOverlay();
    this.host.ask(now);
  }

  /** A hub answered. */
  heard(now: number): void {
    if (this.state === "checking") this.enter(now, "present", Number.POSITIVE_INFINITY);
    else if (this.state === "absent") this.comeBack(now);
  }

  /** All bytes ever received from the overlay peers behind which the hubs are. */
  received(now: number, bytes: number): void {
    const before = this.baseline;
    this.baseline = bytes;
    // less than before: the interface was made anew
    if (before !== undefined && bytes > before) this.heard(now);
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
    if (this.state === "checking" && now >= this.deadline)
      this.enter(now, "absent", Number.POSITIVE_INFINITY);
    else if (this.state === "returned" && now >= this.deadline)
      this.enter(now, "present", Number.POSITIVE_INFINITY);
    if ((this.state !== "checking" && this.state !== "absent") || now < this.readAt) return;
    this.readAt = now + (this.state === "checking" ? READ_CHECKING : READ_ABSENT);
    this.host.readOverlay();
  }
}
