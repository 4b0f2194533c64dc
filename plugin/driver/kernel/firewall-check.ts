/**
 * Judges whether packets that a flip sends over the direct interface get through this router's own firewall. Probes cannot tell:
 * they are the router's own packets, and a ruleset that names only the overlay passes them and drops the LAN's.
 *
 * A host may send what every policy drops, so drops alone prove nothing. Two facts do, each for one owner and one of its prefixes:
 *
 *   nothing passes   of several packets that should pass none does. Those are packets of flows of which some have passed within a
 *                    minute, via the overlay or on the direct interface; no others are counted (adapters/linux/forwarding.ts)
 *   new flows        connections that were dropped on the direct interface passed via the overlay afterwards, and no other new
 *                    one passed on the direct interface meanwhile
 *
 * A rule that passes a number of packets a second may look as if nothing passed. When packets pass again after that verdict, although
 * no rule has changed, the verdict was wrong: the next one about the same prefix needs a longer silence, twice as long each time.
 */
import { type Address, hostPrefix } from "../../net/address.js";
import type { PrefixMap } from "../../net/lpm.js";
import type { Reason } from "../../shortcut/reasons.js";
import type { Direction, ForwardingReading, HostForwarding, NewFlow } from "../ports.js";

/** Packets in one interval below which nothing is concluded. */
const ENOUGH = 5;
/** New flows that prove it for a prefix, and for one service while others pass. */
const FLOWS = 2;
const FLOWS_OF_SERVICE = 3;
/** Milliseconds for which a verdict that nothing passes is not repeated: the shortcut falls back meanwhile, and what was counted expires. */
const QUIET_MS = 20_000;
/** Milliseconds without a packet that passes, after the first wrong verdict; doubled with each. */
const PATIENCE_MS = 3_000;
const MOST_PATIENCE_MS = 60_000;
/** Milliseconds after which a verdict is forgotten, right or wrong. */
const REMEMBERED_MS = 3_600_000;
/** Milliseconds after a verdict in which packets in flight may still pass. */
const SETTLED_MS = 1_000;

export interface Blocked {
  readonly owner: Address;
  readonly reason: Reason;
}

/** The prefixes that go direct now, with their owners. */
export type DirectSites = PrefixMap<Address>;

/** The subject of a verdict: packets of one prefix of one owner, in one direction. */
interface Subject {
  readonly key: string;
  readonly direction: Direction;
  readonly owner: Address;
}

interface Finding {
  readonly subject: Subject;
  readonly reason: Reason;
}

interface FreshFlows {
  readonly subject: Subject;
  /** Packets by service. */
  readonly services: Map<string, number>;
  /** The counters as they are now. */
  readonly counts: Map<string, number>;
}

interface Told {
  readonly at: number;
  /** Number of verdicts before this one that were wrong. */
  readonly wrong: number;
  /** Whether this one was found to be wrong. */
  readonly refuted: boolean;
}

interface Interval {
  readonly subject: Subject;
  dropped: number;
  passed: number;
}

const ZERO = { seen: 0, seenAfter: 0, passed: 0 } as const;
/** A counter's own key. */
const hostKey = (n: { readonly direction: Direction; readonly remote: Address }): string =>
  `${n.direction} ${n.remote}`;

const flowKey = (f: NewFlow): string => `${f.direction} ${f.remote} ${f.service}`;

export class ForwardingCheck {
  private before = new Map<string, HostForwarding>();
  private readonly passedAt = new Map<string, number>();
  /** Verdicts that nothing passes. */
  private readonly told = new Map<string, Told>();
  /** Packets of new flows that were dropped before a path went direct, or were part of a verdict. */
  private readonly known = new Map<string, number>();

  constructor(
    private readonly dev: string,
    /** The reason travels to the other end: it names the router by its overlay address. */
    private readonly router: string,
  ) {}

  /** Other programs' rules have changed: what passes now was perhaps dropped before, and the other way round. */
  rulesChanged(): void {
    for (const [key, t] of this.told) this.told.set(key, { ...t, wrong: 0, refuted: true });
  }

  /** Takes a reading. Returns the owners whose packets this router's firewall drops on the direct interface alone. */
  read(now: number, reading: ForwardingReading, sites: DirectSites): Blocked[] {
    this.forget(now);
    const nothing = this.nothingPasses(now, reading, sites).flatMap(({ subject, reason }) => {
      const before = this.told.get(subject.key);
      if (before !== undefined && now < before.at + QUIET_MS) return [];
      this.told.set(subject.key, { at: now, wrong: before?.wrong ?? 0, refuted: false });
      return [{ owner: subject.owner, reason }];
    });
    return [...nothing, ...this.newFlows(reading, sites)];
  }

  private forget(now: number): void {
    for (const [key, t] of this.told) if (now >= t.at + REMEMBERED_MS) this.told.delete(key);
    for (const [key, at] of this.passedAt) if (now >= at + REMEMBERED_MS) this.passedAt.delete(key);
  }

  private subjectOf(
    n: { readonly direction: Direction; readonly remote: Address },
    sites: DirectSites,
  ): Subject | undefined {
    const { direction, remote } = n;
    const site = sites.longestMatch(hostPrefix(remote));
    return site && { key: `${direction} ${site.value} ${site.prefix}`, direction, owner: site.value };
  }

  /** Number of verdicts in a row that were wrong. */
  private wrong({ key }: Subject): number {
    return this.told.get(key)?.wrong ?? 0;
  }

  private passes(now: number, { key }: Subject): void {
    this.passedAt.set(key, now);
    const t = this.told.get(key);
    if (t !== undefined && !t.refuted && now >= t.at + SETTLED_MS)
      this.told.set(key, { at: t.at, wrong: t.wrong + 1, refuted: true });
  }

  private nothingPasses(now: number, { hosts }: ForwardingReading, sites: DirectSites): Finding[] {
    const { before } = this;
    this.before = new Map(hosts.map((h) => [hostKey(h), h]));
    const intervals = new Map<string, Interval>();
    for (const h of hosts) {
      const subject = this.subjectOf(h, sites);
      // a counter that began again while it was read says nothing
      if (subject === undefined || h.seenAfter < h.seen) continue;
      const was = before.get(hostKey(h));
      // a counter that expired begins again
      const base = was === undefined || was.seen > h.seen || was.passed > h.passed ? ZERO : was;
      const i = intervals.get(subject.key) ?? { subject, dropped: 0, passed: 0 };
      // the counters are not read at one moment: what counts as dropped is certain, and no packet in flight does
      i.dropped += Math.max(0, h.seen - base.seenAfter);
      i.passed += h.passed - base.passed;
      intervals.set(subject.key, i);
    }
    const { dev, router } = this;
    return [...intervals.values()].flatMap(({ subject, dropped, passed }) => {
      if (passed > 0) {
        this.passes(now, subject);
        return [];
      }
      if (dropped < ENOUGH || now < this.believedAt(subject)) return [];
      const { direction } = subject;
      return [
        { subject, reason: { kind: "firewall-drops", router, direction, dev, dropped, seen: dropped } },
      ];
    });
  }

  /** The time until which something that passes may be expected. */
  private believedAt(subject: Subject): number {
    const wrong = this.wrong(subject);
    if (wrong === 0) return Number.NEGATIVE_INFINITY;
    const patience = Math.min(MOST_PATIENCE_MS, PATIENCE_MS * 2 ** (wrong - 1));
    return (this.passedAt.get(subject.key) ?? Number.NEGATIVE_INFINITY) + patience;
  }

  /**
   * Returns the new flows of each subject that were dropped since it went direct, and since its last verdict: what was counted
   * before that is known already.
   */
  private freshFlows(dropped: ForwardingReading["dropped"], sites: DirectSites): Map<string, FreshFlows> {
    const counted = new Map<string, { readonly flow: NewFlow; packets: number }>();
    for (const flow of dropped) {
      const c = counted.get(flowKey(flow));
      if (c === undefined) counted.set(flowKey(flow), { flow, packets: flow.packets });
      else c.packets += flow.packets;
    }
    for (const key of this.known.keys()) if (!counted.has(key)) this.known.delete(key);
    const fresh = new Map<string, FreshFlows>();
    for (const [key, { flow, packets }] of counted) {
      const subject = this.subjectOf(flow, sites);
      const known = subject === undefined ? packets : Math.min(packets, this.known.get(key) ?? 0);
      this.known.set(key, known);
      if (subject === undefined || packets === known) continue;
      const f = fresh.get(subject.key) ?? { subject, services: new Map<string, number>(), counts: new Map() };
      f.services.set(flow.service, (f.services.get(flow.service) ?? 0) + packets - known);
      f.counts.set(key, packets);
      fresh.set(subject.key, f);
    }
    return fresh;
  }

  private newFlows({ dropped, passed }: ForwardingReading, sites: DirectSites): Blocked[] {
    const through = passed.map((f) => ({ key: this.subjectOf(f, sites)?.key, service: f.service }));
    const { dev, router } = this;
    return [...this.freshFlows(dropped, sites).values()].flatMap(({ subject, services, counts }) => {
      const here = through.filter((t) => t.key === subject.key).map((t) => t.service);
      const flows = [...services.values()].reduce((a, b) => a + b, 0);
      const one = [...services].some(
        ([service, packets]) => packets >= FLOWS_OF_SERVICE && !here.includes(service),
      );
      if (!one && (flows < FLOWS || here.length > 0)) return [];
      for (const [key, packets] of counts) this.known.set(key, packets);
      const { direction, owner } = subject;
      return [{ owner, reason: { kind: "firewall-drops-new", router, direction, dev, flows } }];
    });
  }
}
