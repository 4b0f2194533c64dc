/**
 * Watches our own nftables tables and restores them. Other programs own the router too: a firewall that
 * is reloaded begins with `flush ruleset`, and our counters, the guard of control packets and the
 * source guard go with it. As long as one of them cannot be restored, nothing judges whether the
 * firewall forwards what goes direct, so the direct interface counts as unusable.
 */
import { no, type Verdict, YES } from "../../shortcut/reasons.js";
import type { TableWatchPort } from "../ports.js";
import type { Schedule } from "../runtime/schedule.js";

/** A reload deletes much at once; milliseconds until it is looked at. */
const SETTLE_MS = 20;
/** Milliseconds until a restoration that failed is tried again. */
const RETRY_MS = 500;

export interface GuardedTable {
  /** Names it in the log. */
  readonly place: string;
  intact(): Promise<boolean>;
  restore(): Promise<void>;
}

export class OwnTables {
  private watch: { close(): void } | undefined;
  private pending = false;
  private running: Promise<void> = Promise.resolve();
  private missing: string | undefined;

  constructor(
    private readonly port: TableWatchPort,
    private readonly names: readonly string[],
    private readonly tables: readonly GuardedTable[],
    private readonly schedule: Pick<Schedule, "later" | "attempt">,
    private readonly problem: (place: string, text: string) => void,
    /** {@link verdict} may have changed. */
    private readonly changed: () => void,
  ) {}

  /** `onChange`: rules of others, or our own, have changed. */
  begin(onChange: () => void): void {
    this.watch = this.port.watch(this.names, () => this.suspect(SETTLE_MS), onChange);
  }

  /** Ends the watch, and waits for what is under way: tables are removed after this, not made again. */
  async end(): Promise<void> {
    this.watch?.close();
    this.watch = undefined;
    await this.running;
  }

  /** Whether every table stands. */
  get verdict(): Verdict {
    return this.missing === undefined ? YES : no({ kind: "table-missing", table: this.missing });
  }

  /** Looks at the tables soon: something of theirs was deleted. */
  private suspect(ms: number): void {
    if (this.pending || this.watch === undefined) return;
    this.pending = true;
    this.schedule.later(ms, () => {
      this.pending = false;
      void this.schedule.attempt("nftables", () => this.check());
    });
  }

  /** Restores what is not as it was made. */
  check(): Promise<void> {
    this.running = this.running.then(() => this.checkAll());
    return this.running;
  }

  private async checkAll(): Promise<void> {
    const before = this.missing;
    let missing: string | undefined;
    for (const table of this.tables) {
      if (this.watch === undefined || (await table.intact())) continue;
      this.problem(table.place, "was changed or deleted by another program; it is made again");
      try {
        await table.restore();
      } catch (e) {
        missing = table.place;
        this.problem(table.place, `cannot be made again: ${e instanceof Error ? e.message : String(e)}`);
        this.suspect(RETRY_MS);
      }
    }
    this.missing = missing;
    if (missing !== before) this.changed();
  }
}
