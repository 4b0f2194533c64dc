/**
 * One BGP session as a machine without I/O (RFC 4271 §8). It always dials: towards a daemon on the same host there is
 * nothing to listen for, so the states are Idle, Connect, OpenSent, OpenConfirm and Established, and neither Active nor
 * connection collisions occur. Each state is a function from an event to the next state.
 *
 *     Idle --start/backoff over--> Connect --connected, OPEN--> OpenSent --OPEN, KEEPALIVE--> OpenConfirm --KEEPALIVE--> Established
 *     any --error, close, stop--> Idle (stopped, or until the backoff is over)
 *
 * Time is milliseconds of a monotonic clock and comes in; bytes, connection requests and events are polled. Routes
 * for the neighbour are kept in Adj-RIB-Out across sessions and sent when outputs are polled, so that changes made
 * together leave together. There is no graceful restart: a session that ends takes its routes along, at both ends.
 */
import type { Family, Prefix } from "../net/address.js";
import { unreachable } from "../net/result.js";
import { encodeKeepalive, type Frame, Framer, frame, MESSAGE, type MessageType } from "../wire/bgp/framer.js";
import {
  administrativeShutdown,
  decodeNotification,
  describeNotification,
  encodeNotification,
  type Notification,
  notification,
} from "../wire/bgp/notification.js";
import { decodeOpen, encodeOpen } from "../wire/bgp/open.js";
import { decodeRouteRefresh, encodeRouteRefresh } from "../wire/bgp/route-refresh.js";
import { decodeUpdate } from "../wire/bgp/update.js";
import { type Agreement, checkConfig, negotiate, openOf, type SessionConfig } from "./negotiation.js";
import { updatesFor } from "./outbound.js";
import { type BgpProblem, describeProblem } from "./problem.js";
import { AdjRibIn, AdjRibOut, type Route } from "./rib.js";
import type { SessionInput, SessionOutput } from "./session-io.js";

export type { SessionInput, SessionOutput } from "./session-io.js";

export type StateName = "Idle" | "Connect" | "OpenSent" | "OpenConfirm" | "Established";

interface Idle {
  readonly name: "Idle";
  /** IdleHoldTimer; undefined when stopped. */
  readonly retryAt: number | undefined;
}
interface Connect {
  readonly name: "Connect";
  readonly giveUpAt: number;
}
interface OpenSent {
  readonly name: "OpenSent";
  readonly holdAt: number;
}
interface OpenConfirm {
  readonly name: "OpenConfirm";
  readonly agreement: Agreement;
  readonly holdAt: number;
  readonly keepaliveAt: number;
}
interface Established {
  readonly name: "Established";
  readonly agreement: Agreement;
  readonly since: number;
  readonly holdAt: number;
  readonly keepaliveAt: number;
}
type State = Idle | Connect | OpenSent | OpenConfirm | Established;

type Event =
  | Exclude<SessionInput, { kind: "bytes" }>
  | { readonly kind: "message"; readonly type: MessageType; readonly body: Uint8Array }
  | Extract<Frame, { kind: "error" }>;

/** A connection on the same host is there at once or never; this covers a listener that does not accept. */
const CONNECT_TIMEOUT_MS = 5_000;
/** RFC 4271 §8.2.2 suggests 4 minutes for the OPEN; a local daemon that needs longer than this hangs. */
const OPEN_TIMEOUT_MS = 30_000;

export class Session {
  readonly ribIn = new AdjRibIn();
  readonly ribOut = new AdjRibOut();
  private state: State = { name: "Idle", retryAt: undefined };
  private framer = new Framer();
  private readonly outputs: SessionOutput[] = [];
  private nextOutput = 0;
  private failures = 0;
  private readonly unsentEndOfRib = new Set<Family>();

  /** @param random uniform in [0, 1), for the jitter of RFC 4271 §10. @throws RangeError for an impossible configuration. */
  constructor(
    readonly config: SessionConfig,
    private readonly random: () => number,
  ) {
    checkConfig(config);
  }

  get stateName(): StateName {
    return this.state.name;
  }

  /** The agreement with the neighbour; undefined unless Established. */
  get agreement(): Agreement | undefined {
    return this.state.name === "Established" ? this.state.agreement : undefined;
  }

  announce(routes: Iterable<Route>): void {
    for (const r of routes) this.ribOut.announce(r);
  }

  withdraw(prefixes: Iterable<Prefix>): void {
    for (const p of prefixes) this.ribOut.withdraw(p);
  }

  /** Asks the neighbour for all routes of the family again. False when it cannot (RFC 2918) or there is no session. */
  requestRefresh(family: Family): boolean {
    const a = this.agreement;
    if (a === undefined || !a.routeRefresh || !a.families.includes(family)) return false;
    this.send(encodeRouteRefresh(family, "request"));
    return true;
  }

  /** `now` in milliseconds, never going back. */
  handleInput(now: number, input: SessionInput): void {
    if (input.kind !== "bytes") {
      this.step(now, input);
      return;
    }
    if (!this.connected()) return;
    this.framer.push(input.bytes);
    for (let f = this.framer.next(); f !== undefined; f = this.framer.next()) {
      this.step(now, f);
      if (!this.connected()) return;
    }
  }

  /** The next thing to do, in order; undefined when there is nothing. */
  pollOutput(): SessionOutput | undefined {
    if (this.nextOutput === this.outputs.length) this.flush();
    const out = this.outputs[this.nextOutput];
    if (out === undefined) {
      this.outputs.length = 0;
      this.nextOutput = 0;
      return undefined;
    }
    this.nextOutput++;
    return out;
  }

  /** When `timeout` is due next, in the milliseconds of `now`; undefined when nothing is. */
  pollTimeout(): number | undefined {
    const s = this.state;
    switch (s.name) {
      case "Idle":
        return s.retryAt;
      case "Connect":
        return s.giveUpAt;
      case "OpenSent":
        return s.holdAt;
      case "OpenConfirm":
      case "Established":
        return Math.min(s.holdAt, s.keepaliveAt);
      default:
        return unreachable(s);
    }
  }

  private connected(): boolean {
    return this.state.name !== "Idle" && this.state.name !== "Connect";
  }

  private step(now: number, event: Event): void {
    const s = this.state;
    switch (s.name) {
      case "Idle":
        this.state = this.idle(s, now, event);
        return;
      case "Connect":
        this.state = this.connect(s, now, event);
        return;
      case "OpenSent":
        this.state = this.openSent(s, now, event);
        return;
      case "OpenConfirm":
        this.state = this.openConfirm(s, now, event);
        return;
      case "Established":
        this.state = this.established(s, now, event);
        return;
      default:
        unreachable(s);
    }
  }

  private emit(output: SessionOutput): void {
    this.outputs.push(output);
  }
  private send(bytes: Uint8Array): void {
    this.emit({ kind: "send", bytes });
  }
  private problem(problem: BgpProblem): void {
    this.emit({ kind: "problem", problem });
  }
  private notify(n: Notification): void {
    this.send(frame(MESSAGE.NOTIFICATION, encodeNotification(n)));
  }
  /** RFC 4271 §10: a factor between 0.75 and 1. */
  private jitter(ms: number): number {
    return ms * (0.75 + 0.25 * this.random());
  }
  private keepaliveAfter(now: number, a: Agreement): number {
    return now + this.jitter((a.holdTime * 1000) / 3);
  }

  // ------------------------------------------------------------------------------------------------ states

  private idle(s: Idle, now: number, event: Event): State {
    switch (event.kind) {
      case "start":
        return s.retryAt === undefined ? this.dial(now) : s;
      case "stop":
        return { name: "Idle", retryAt: undefined };
      case "timeout":
        return s.retryAt !== undefined && now >= s.retryAt ? this.dial(now) : s;
      // A connection that was ordered closed may still have said something.
      case "connected":
      case "closed":
      case "message":
      case "error":
        return s;
      default:
        return unreachable(event);
    }
  }

  private dial(now: number): State {
    this.emit({ kind: "connect" });
    return { name: "Connect", giveUpAt: now + CONNECT_TIMEOUT_MS };
  }

  private connect(s: Connect, now: number, event: Event): State {
    switch (event.kind) {
      case "connected":
        this.framer = new Framer();
        this.send(encodeOpen(openOf(this.config)));
        return { name: "OpenSent", holdAt: now + OPEN_TIMEOUT_MS };
      case "closed":
        this.problem({ kind: "connect-failed", reason: event.reason });
        return this.backOff(now);
      case "timeout":
        if (now < s.giveUpAt) return s;
        this.problem({
          kind: "connect-failed",
          reason: `no answer in ${CONNECT_TIMEOUT_MS / 1000} s: does a firewall drop the session, or is its password another one?`,
        });
        this.emit({ kind: "close" });
        return this.backOff(now);
      case "stop":
        this.emit({ kind: "close" });
        return { name: "Idle", retryAt: undefined };
      case "start":
      case "message":
      case "error":
        return s;
      default:
        return unreachable(event);
    }
  }

  private openSent(s: OpenSent, now: number, event: Event): State {
    switch (event.kind) {
      case "timeout":
        return now < s.holdAt ? s : this.holdExpired(s, now, OPEN_TIMEOUT_MS / 1000);
      case "message": {
        if (event.type === "NOTIFICATION") return this.notified(s, now, event.body);
        if (event.type !== "OPEN") return this.unexpected(s, now, event.type, 1);
        const open = decodeOpen(event.body);
        if (!open.ok) {
          const { notification: n, reason } = open.error;
          return this.fail(s, now, n, { kind: "protocol-error", notification: n, reason });
        }
        const agreed = negotiate(this.config, open.value);
        if (!agreed.ok) return this.fail(s, now, agreed.error.notification, agreed.error.problem);
        this.send(encodeKeepalive());
        const agreement = agreed.value;
        return {
          name: "OpenConfirm",
          agreement,
          holdAt: now + agreement.holdTime * 1000,
          keepaliveAt: this.keepaliveAfter(now, agreement),
        };
      }
      default:
        return this.common(s, now, event);
    }
  }

  private openConfirm(s: OpenConfirm, now: number, event: Event): State {
    switch (event.kind) {
      case "timeout":
        if (now >= s.holdAt) return this.holdExpired(s, now, s.agreement.holdTime);
        return this.keepalive(s, now);
      case "message":
        if (event.type === "NOTIFICATION") return this.notified(s, now, event.body);
        if (event.type !== "KEEPALIVE") return this.unexpected(s, now, event.type, 2);
        return this.establish(s, now);
      default:
        return this.common(s, now, event);
    }
  }

  private establish(s: OpenConfirm, now: number): State {
    const { agreement } = s;
    this.emit({ kind: "established", agreement });
    const missing = this.config.families.filter((f) => !agreement.families.includes(f));
    if (missing.length > 0) this.problem({ kind: "family-missing", families: missing });
    for (const f of agreement.families) this.unsentEndOfRib.add(f);
    return {
      name: "Established",
      agreement,
      since: now,
      holdAt: now + agreement.holdTime * 1000,
      keepaliveAt: s.keepaliveAt,
    };
  }

  private established(s: Established, now: number, event: Event): State {
    switch (event.kind) {
      case "timeout":
        if (now >= s.holdAt) return this.holdExpired(s, now, s.agreement.holdTime);
        return this.keepalive(s, now);
      case "message": {
        const heard: Established = { ...s, holdAt: now + s.agreement.holdTime * 1000 };
        switch (event.type) {
          case "KEEPALIVE":
            return heard;
          case "UPDATE":
            return this.update(heard, now, event.body);
          case "ROUTE_REFRESH":
            return this.routeRefresh(s, now, event.body);
          case "NOTIFICATION":
            return this.notified(s, now, event.body);
          case "OPEN":
            return this.unexpected(s, now, event.type, 3);
          default:
            return unreachable(event.type);
        }
      }
      default:
        return this.common(s, now, event);
    }
  }

  private update(s: Established, now: number, body: Uint8Array): State {
    const outcome = decodeUpdate(body, s.agreement.receive);
    if (outcome.kind === "session-reset") {
      const n = outcome.notification;
      const reason = outcome.reasons.join("; ");
      return this.fail(s, now, n, { kind: "protocol-error", notification: n, reason });
    }
    const { update } = outcome;
    if (outcome.kind === "treat-as-withdraw")
      this.problem({
        kind: "treat-as-withdraw",
        reasons: outcome.reasons,
        prefixes: update.withdrawn.map((n) => n.prefix),
      });
    if (outcome.kind === "attribute-discard")
      this.problem({ kind: "attribute-discard", reasons: outcome.reasons });
    const changes = this.ribIn.apply(update);
    if (changes.length > 0) this.emit({ kind: "routes", changes });
    if (update.endOfRib !== undefined && s.agreement.families.includes(update.endOfRib))
      this.emit({ kind: "end-of-rib", family: update.endOfRib });
    return s;
  }

  /** RFC 2918 §4, RFC 7313 §4. */
  private routeRefresh(s: Established, now: number, body: Uint8Array): State {
    const decoded = decodeRouteRefresh(body);
    if (!decoded.ok) {
      const { notification: n, reason } = decoded.error;
      // RFC 7313 §5 sends this error only where the enhanced refresh was agreed; elsewhere the message is ignored.
      if (!s.agreement.enhancedRouteRefresh) return s;
      return this.fail(s, now, n, { kind: "protocol-error", notification: n, reason });
    }
    const { family, subtype } = decoded.value;
    if (family === undefined || !s.agreement.families.includes(family)) return s;
    switch (subtype) {
      case "request":
        if (s.agreement.enhancedRouteRefresh) this.send(encodeRouteRefresh(family, "begin"));
        this.ribOut.tellAgain(family);
        this.flush();
        if (s.agreement.enhancedRouteRefresh) this.send(encodeRouteRefresh(family, "end"));
        return s;
      case "begin":
        this.ribIn.beginRefresh(family);
        return s;
      case "end": {
        const changes = this.ribIn.endRefresh(family);
        if (changes.length > 0) this.emit({ kind: "routes", changes });
        this.emit({ kind: "end-of-rib", family });
        return s;
      }
      case "unknown":
        return s;
      default:
        return unreachable(subtype);
    }
  }

  // ------------------------------------------------------------------------------------------------ common

  /** Handles the events that OpenSent, OpenConfirm and Established treat alike. */
  private common(
    s: OpenSent | OpenConfirm | Established,
    now: number,
    event: Exclude<Event, { kind: "timeout" | "message" }>,
  ): State {
    switch (event.kind) {
      case "start":
      case "connected":
        return s;
      case "stop":
        this.notify(administrativeShutdown(event.reason));
        this.emit({ kind: "close" });
        this.down(s, event.reason);
        this.failures = 0;
        return { name: "Idle", retryAt: undefined };
      case "closed": {
        const problem: BgpProblem = { kind: "connection-lost", reason: event.reason };
        this.problem(problem);
        this.down(s, describeProblem(problem));
        return this.backOff(now, s);
      }
      case "error": {
        const { notification: n, reason } = event;
        return this.fail(s, now, n, { kind: "protocol-error", notification: n, reason });
      }
      default:
        return unreachable(event);
    }
  }

  private keepalive<S extends OpenConfirm | Established>(s: S, now: number): S {
    if (now < s.keepaliveAt) return s;
    this.send(encodeKeepalive());
    return { ...s, keepaliveAt: this.keepaliveAfter(now, s.agreement) };
  }

  private holdExpired(s: OpenSent | OpenConfirm | Established, now: number, holdTime: number): State {
    return this.fail(s, now, notification(4, 0), { kind: "hold-timer-expired", holdTime });
  }

  /** RFC 6608. */
  private unexpected(
    s: OpenSent | OpenConfirm | Established,
    now: number,
    type: MessageType,
    subcode: 1 | 2 | 3,
  ): State {
    const n = notification(5, subcode, Uint8Array.of(MESSAGE[type]));
    return this.fail(s, now, n, { kind: "protocol-error", notification: n, reason: `${type} in ${s.name}` });
  }

  private notified(s: OpenSent | OpenConfirm | Established, now: number, body: Uint8Array): State {
    const decoded = decodeNotification(body);
    const problem: BgpProblem = decoded.ok
      ? { kind: "notification-received", notification: decoded.value }
      : { kind: "connection-lost", reason: decoded.error };
    this.problem(problem);
    this.emit({ kind: "close" });
    this.down(s, decoded.ok ? describeNotification(decoded.value) : decoded.error);
    return this.backOff(now, s);
  }

  /** Ends the session because of what the neighbour did, and says so to it. */
  private fail(
    s: OpenSent | OpenConfirm | Established,
    now: number,
    n: Notification,
    problem: BgpProblem,
  ): State {
    this.notify(n);
    this.emit({ kind: "close" });
    this.problem(problem);
    this.down(s, describeProblem(problem));
    return this.backOff(now, s);
  }

  private down(s: OpenSent | OpenConfirm | Established, reason: string): void {
    this.unsentEndOfRib.clear();
    if (s.name !== "Established") return;
    this.ribIn.clear();
    this.ribOut.sessionDown();
    this.emit({ kind: "down", reason });
  }

  /** Doubles with each failure in a row; a session that lasted its hold time starts over. */
  private backOff(now: number, s?: OpenSent | OpenConfirm | Established): Idle {
    if (s?.name === "Established" && now - s.since >= s.agreement.holdTime * 1000) this.failures = 0;
    const { minMs, maxMs } = this.config.backoff;
    const wait = Math.min(maxMs, minMs * 2 ** Math.min(this.failures, 30));
    this.failures++;
    return { name: "Idle", retryAt: now + this.jitter(wait) };
  }

  /** Queues what Adj-RIB-Out has that the neighbour has not, then End-of-RIB if it is due. */
  private flush(): void {
    const a = this.agreement;
    if (a === undefined || !(this.ribOut.pending(a.families) || this.unsentEndOfRib.size > 0)) return;
    const { chunks, problems } = updatesFor(this.ribOut, a, this.unsentEndOfRib);
    this.unsentEndOfRib.clear();
    for (const bytes of chunks) this.send(bytes);
    for (const problem of problems) this.problem(problem);
  }
}
