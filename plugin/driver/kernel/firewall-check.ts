/**
 * Do packets that a flip sends over the direct interface get through this router's own firewall? Probes cannot tell: they are the
 * router's own packets, and a ruleset that names only the overlay passes them and drops the LAN's. So what the forward hook sees is compared with what
 * it lets pass. A verdict needs some packets; while it stands no shortcut is made, and it is forgotten after a pause that doubles, since
 * rulesets get corrected.
 */
import type { ForwardingCount } from "../ports.js";

type Counts = { readonly arrived: ForwardingCount; readonly leaving: ForwardingCount };

/** Packets in one interval below which nothing is concluded. */
const ENOUGH = 5;
/** More than this share dropped is a firewall, not a rate limit of a few. */
const SHARE = 0.5;
const PAUSE_MS = 30_000;
const PAUSE_MAX_MS = 600_000;

export class ForwardingCheck {
  private before: Counts | undefined;
  private blocked: { readonly reason: string; readonly until: number } | undefined;
  private pause = PAUSE_MS;

  constructor(
    private readonly dev: string,
    /** The reason travels to the other end: it names the router by its overlay address. */
    private readonly router: string,
  ) {}

  /** A reading of the counters. Returns why the direct interface is unusable, or an empty string. */
  read(now: number, counts: Counts): string {
    const before = this.before;
    this.before = counts;
    if (before !== undefined) {
      const reason =
        this.judge("from", before.arrived, counts.arrived) ??
        this.judge("to", before.leaving, counts.leaving);
      if (reason !== undefined && (this.blocked === undefined || now >= this.blocked.until)) {
        this.blocked = { reason, until: now + this.pause };
        this.pause = Math.min(PAUSE_MAX_MS, this.pause * 2);
      }
    }
    return this.verdict(now);
  }

  verdict(now: number): string {
    if (this.blocked !== undefined && now >= this.blocked.until) this.blocked = undefined;
    return this.blocked?.reason ?? "";
  }

  private judge(direction: "from" | "to", before: ForwardingCount, now: ForwardingCount): string | undefined {
    // the counters are not read at one moment: both are what is certain, and no packet in flight counts as dropped
    const seen = now.seen - before.seenAfter;
    const dropped = seen - (now.passed - before.passed);
    if (seen < ENOUGH || dropped <= seen * SHARE) return undefined;
    return `the firewall of ${this.router} drops forwarded packets ${direction} ${this.dev} (${dropped} of ${seen}): allow ${this.dev} where the overlay is allowed`;
  }
}
