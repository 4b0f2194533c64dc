/**
 * Logs events for people: one line per transition with the shortcut's identity, and a bounded history for
 * `shortcutctl timeline`. The same problem is logged once a minute, and at most a hundred different ones.
 */

import type { Address } from "../../net/address.js";
import type { Milestone, Stage, Transition } from "../../shortcut/events.js";
import { describeReason } from "../../shortcut/reasons.js";
import type { Clock, LogPort } from "../ports.js";

export interface JournalEntry {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly owner: Address;
  readonly event: Stage | Milestone;
  readonly detail: string;
}

const HISTORY = 1_000;
const REPEAT_MS = 60_000;
/** Different problems that are logged within REPEAT_MS. */
const BURST = 100;

export class Journal {
  private readonly entries: JournalEntry[] = [];
  private readonly problems = new Map<string, number>();
  private window = { since: Number.NEGATIVE_INFINITY, lines: 0 };

  constructor(
    private readonly clock: Clock,
    private readonly log: LogPort,
  ) {}

  private keep(owner: Address, event: Stage | Milestone, detail: string, ago = 0): void {
    this.entries.push({ at: this.clock.wall() - Math.round(ago), owner, event, detail });
    if (this.entries.length > HISTORY) this.entries.splice(0, this.entries.length - HISTORY);
  }

  transition(t: Transition): void {
    const reason = describeReason(t.reason);
    this.keep(t.owner, t.stage, reason);
    this.log.info(`shortcut ${t.stage}`, {
      owner: t.owner,
      from: t.previous,
      reason,
      code: t.reason?.kind,
      prefixes: t.prefixes,
    });
  }

  /** `ago`: milliseconds since it happened, when that is known only later. */
  milestone(owner: Address, milestone: Milestone, detail: string, ago = 0): void {
    this.keep(owner, milestone, detail, ago);
    this.log.info(`shortcut ${milestone}`, { owner, detail });
  }

  problem(place: string, problem: string): void {
    const key = `${place} ${problem}`;
    const now = this.clock.now();
    const before = this.problems.get(key);
    if (before !== undefined && now - before < REPEAT_MS) return;
    if (now - this.window.since >= REPEAT_MS) this.window = { since: now, lines: 0 };
    // a sender of garbage chooses what the lines say: their number must stay bounded
    if (++this.window.lines > BURST) {
      if (this.window.lines === BURST + 1)
        this.log.warn(`more than ${BURST} different problems in a minute: the rest is not logged`, {});
      return;
    }
    if (this.problems.size > HISTORY) this.problems.clear();
    this.problems.set(key, now);
    this.log.warn(problem, { place });
  }

  since(at: number): readonly JournalEntry[] {
    return this.entries.filter((e) => e.at >= at);
  }
}
