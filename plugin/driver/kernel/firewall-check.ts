/**
 * Do packets that a flip sends over the direct interface get through this router's own firewall? Probes cannot tell: they are the
 * router's own packets, and a ruleset that names only the overlay passes them and drops the LAN's. So what the forward hook sees is compared with what
 * it lets pass. A verdict needs some packets; while it stands no shortcut is made, and it is forgotten after a pause that doubles, since
 * rulesets get corrected.
 */
import { no, type Reason, type Verdict, YES } from "../../shortcut/reasons.js";
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
  private blocked: { readonly reason: Reason; readonly until: number } | undefined;
  private pause = PAUSE_MS;

  constructor(
    private readonly dev: string,
    /** The reason travels to the other end: it names the router by its overlay address. */
    private readonly router: string,
  ) {}

  /** Takes a reading of the counters. Returns whether the direct interface is usable. */
  read(now: number, counts: Counts): Verdict {
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

  verdict(now: number): Verdict {
    if (this.blocked !== undefined && now >= this.blocked.until) this.blocked = undefined;
    return this.blocked === undefined ? YES : no(this.blocked.reason);
  }

  private judge(direction: "from" | "to", before: ForwardingCount, now: ForwardingCount): Reason | undefined {
    // the counters are not read at one moment: both are what is certain, and no packet in flight counts as dropped
    const seen = now.seen - before.seenAfter;
    const dropped = seen - (now.passed - before.passed);
    if (seen < ENOUGH || dropped <= seen * SHARE) return undefined;
    const { router, dev } = this;
    return { kind: "firewall-drops", router, direction, dev, dropped, seen };
  }
}
