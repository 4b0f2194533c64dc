/**
 * Compares what the daemon's neighbours are sent for an offered prefix, before the offer and after
 * the daemon has selected it. A neighbour loses a route when it was sent the prefix and is not sent
 * it any more: an operator's filter does not recognize the offer. A neighbour sees the offer when
 * it is newly sent the prefix, or with other attributes. In both cases the offer is withdrawn. It
 * is not made again until the daemon's configuration or the route underneath has changed, or an
 * hour has passed. If either has changed between the two comparisons, the change may come from
 * there: the offer is withdrawn too, but made and compared again at once.
 *
 * Questions to the daemon are collected and asked one at a time. After each question comes a pause
 * as long as the question took.
 */

import type { Address, Prefix } from "../../net/address.js";
import type { Reason } from "../../shortcut/reasons.js";
import type { Clock, DaemonPort, Neighbour, NeighbourView, Sent } from "../ports.js";
import { asPortError } from "../runtime/task-queue.js";

/**
 * Milliseconds until a second comparison: an operator's filter may take effect late (OSPF), and a
 * session may be about to send.
 */
const LATER = 1_000;
/** Milliseconds within which questions are merged into one. */
const GATHER = 5;
/** Milliseconds after which a loss is confirmed by a second look. */
const CONFIRM = 150;
/** Interval of looking for a change of the daemon's configuration, while an offer is blocked. */
const CONFIGURATION_POLL = 5_000;
const FORGET = 3_600_000;
/** Time after a change of configuration in which sessions may restart. */
const SESSIONS_RESTART = 60_000;

export interface NeighbourGuardRules {
  readonly acceptVisible: boolean;
  /** The hubs. Their loss of the prefix is ignored: hubs originate these prefixes. */
  readonly hubs: readonly Address[];
}

const named = (n: Neighbour | undefined, key: string): string => n?.name ?? key;

/**
 * Returns why an offer would be seen wherever the prefix is sent; undefined when it would not, or
 * when the operator accepts it.
 */
export function visibleTo(
  prefix: Prefix,
  before: NeighbourView,
  rules: NeighbourGuardRules,
): Reason | undefined {
  if (rules.acceptVisible) return undefined;
  for (const [key, { visibleReason }] of before.sent.get(prefix) ?? [])
    if (visibleReason !== "")
      return {
        kind: "neighbour-would-see",
        neighbour: named(before.neighbours.get(key), key),
        prefix,
        because: visibleReason,
      };
  return undefined;
}

/**
 * Returns what changed for the neighbours that were or are sent the prefix; undefined when no
 * neighbour sees or loses anything.
 */
export function changeSeen(
  prefix: Prefix,
  before: NeighbourView,
  now: NeighbourView,
  rules: NeighbourGuardRules,
): Reason | undefined {
  const was: ReadonlyMap<string, Sent> = before.sent.get(prefix) ?? new Map();
  const is: ReadonlyMap<string, Sent> = now.sent.get(prefix) ?? new Map();
  for (const [key, { attributes, isOrigin }] of was) {
    if (isOrigin || attributes === undefined || is.get(key)?.attributes !== undefined) continue;
    // a session that is down receives nothing, with or without the offer
    const n = now.neighbours.get(key);
    if (n === undefined || (n.address !== undefined && rules.hubs.includes(n.address))) continue;
    return { kind: "neighbour-loses", neighbour: n.name, prefix, filter: n.filter };
  }
  if (rules.acceptVisible) return undefined;
  for (const [key, { attributes: sent }] of is) {
    if (sent === undefined) continue;
    const n = now.neighbours.get(key);
    const had = was.get(key)?.attributes;
    if (had === undefined) {
      // a session that came up meanwhile is sent everything
      if (before.neighbours.has(key))
        return { kind: "neighbour-gains", neighbour: named(n, key), prefix, filter: n?.filter ?? "" };
    } else if (had !== sent)
      return { kind: "neighbour-sees-change", neighbour: named(n, key), prefix, sent, had };
  }
  return undefined;
}

interface Watched {
  readonly before: NeighbourView;
  /** The route underneath when the neighbours were looked at. */
  readonly underneath: string;
  /** The configuration at the last comparison. */
  configuration: string;
  /** Until this time, sessions may restart with the changed configuration. */
  suspectUntil: number;
  selected: boolean;
}

interface Held {
  readonly reason: Reason;
  readonly configuration: string;
  readonly underneath: string;
  readonly since: number;
}

export interface NeighbourGuardEvents {
  onBlocked(prefix: Prefix, reason: Reason): void;
  onUnblocked(prefixes: readonly Prefix[]): void;
  onProblem(text: string): void;
}

export class NeighbourGuard {
  private readonly watched = new Map<Prefix, Watched>();
  private readonly held = new Map<Prefix, Held>();
  private waiting: { readonly prefixes: Set<Prefix>; readonly answer: Promise<NeighbourView> } | undefined;
  private free: Promise<void> = Promise.resolve();
  private ended = false;
  private polling = false;

  constructor(
    private readonly daemon: Pick<DaemonPort, "neighbourView">,
    private readonly clock: Clock,
    private readonly rules: NeighbourGuardRules,
    private readonly on: NeighbourGuardEvents,
    /** The route underneath, as text: a blocked offer is tried again when the text changes. */
    private readonly underneath: (prefix: Prefix) => string,
  ) {}

  /**
   * Returns whether the offer may be announced. It may when the daemon does not answer: then
   * nothing is compared.
   */
  async permits(prefix: Prefix): Promise<boolean> {
    this.watched.delete(prefix);
    const underneath = this.underneath(prefix);
    let before: NeighbourView;
    try {
      before = await this.ask(prefix);
    } catch (e) {
      this.on.onProblem(
        `what neighbours are sent of ${prefix} is unknown: ${asPortError("neighbourView", e).message}`,
      );
      return true;
    }
    if (this.ended) return false;
    const held = this.held.get(prefix);
    if (held !== undefined && this.stillHeld(prefix, held, before.configuration)) {
      this.on.onBlocked(prefix, held.reason);
      return false;
    }
    const reason = visibleTo(prefix, before, this.rules);
    if (reason !== undefined) {
      this.refuse(prefix, reason, { configuration: before.configuration, underneath }, before);
      return false;
    }
    this.watched.set(prefix, {
      before,
      underneath,
      configuration: before.configuration,
      suspectUntil: 0,
      selected: false,
    });
    return true;
  }

  /** Notes whether the daemon has selected the offer. */
  observe(prefix: Prefix, selected: boolean): void {
    const w = this.watched.get(prefix);
    if (w === undefined || w.selected === selected) return;
    w.selected = selected;
    if (!selected) return;
    void this.check(prefix, w, true);
    this.clock.after(LATER, () => void this.check(prefix, w, true));
    this.poll();
  }

  withdraw(prefix: Prefix): void {
    this.watched.delete(prefix);
  }

  /** Unblocks an offer when the route underneath has changed. */
  underneathChanged(): void {
    const changed = [...this.held].filter(([p, h]) => this.underneath(p) !== h.underneath).map(([p]) => p);
    this.release(changed);
  }

  end(): void {
    this.ended = true;
    this.watched.clear();
  }

  private async check(prefix: Prefix, w: Watched, again: boolean): Promise<void> {
    const stands = (): boolean => !this.ended && w.selected && this.watched.get(prefix) === w;
    if (!stands()) return;
    try {
      const now = await this.ask(prefix);
      if (!stands()) return;
      const reason = changeSeen(prefix, w.before, now, this.rules);
      if (reason === undefined) return;
      if (again) this.clock.after(CONFIRM, () => void this.check(prefix, w, false));
      else
        this.refuse(prefix, reason, { configuration: w.before.configuration, underneath: w.underneath }, now);
    } catch (e) {
      this.on.onProblem(
        `what neighbours are sent of ${prefix} is unknown: ${asPortError("neighbourView", e).message}`,
      );
    }
  }

  private refuse(
    prefix: Prefix,
    reason: Reason,
    before: Pick<Held, "configuration" | "underneath">,
    { configuration }: NeighbourView,
  ): void {
    this.watched.delete(prefix);
    const underneath = this.underneath(prefix);
    this.on.onBlocked(prefix, reason);
    if (configuration === before.configuration && underneath === before.underneath) {
      this.held.set(prefix, { reason, configuration, underneath, since: this.clock.now() });
      this.poll();
    } else this.on.onUnblocked([prefix]);
  }

  private stillHeld(prefix: Prefix, h: Held, configuration: string): boolean {
    return (
      h.configuration === configuration &&
      h.underneath === this.underneath(prefix) &&
      this.clock.now() < h.since + FORGET
    );
  }

  private release(prefixes: readonly Prefix[]): void {
    for (const p of prefixes) this.held.delete(p);
    if (prefixes.length > 0 && !this.ended) this.on.onUnblocked(prefixes);
  }

  /** Looks for a change of the daemon's configuration, while anything depends on it. */
  private poll(): void {
    if (this.polling || this.ended) return;
    const selected = [...this.watched].filter(([, w]) => w.selected);
    if (this.held.size + selected.length === 0) return;
    this.polling = true;
    this.clock.after(CONFIGURATION_POLL, () => void this.readConfiguration());
  }

  private async readConfiguration(): Promise<void> {
    try {
      if (this.ended) return;
      const { configuration } = await this.daemon.neighbourView([]);
      for (const [prefix, w] of [...this.watched]) {
        if (w.configuration !== configuration) w.suspectUntil = this.clock.now() + SESSIONS_RESTART;
        w.configuration = configuration;
        if (w.selected && this.clock.now() < w.suspectUntil) void this.check(prefix, w, true);
      }
      this.release([...this.held].flatMap(([p, h]) => (this.stillHeld(p, h, configuration) ? [] : [p])));
    } catch {
      // the sessions with the daemon show whether it is there
    } finally {
      this.polling = false;
      this.poll();
    }
  }

  private ask(prefix: Prefix): Promise<NeighbourView> {
    if (this.waiting === undefined) {
      const prefixes = new Set<Prefix>();
      const answer = this.free.then(async () => {
        await this.pause(GATHER);
        this.waiting = undefined;
        const since = this.clock.now();
        const a = this.daemon.neighbourView([...prefixes]);
        this.free = a.then(
          () => this.pause(this.clock.now() - since),
          () => this.pause(this.clock.now() - since),
        );
        return a;
      });
      this.waiting = { prefixes, answer };
    }
    this.waiting.prefixes.add(prefix);
    return this.waiting.answer;
  }

  private pause(ms: number): Promise<void> {
    return ms <= 0 ? Promise.resolve() : new Promise((resolve) => void this.clock.after(ms, resolve));
  }
}
