/**
 * Judges whether packets that a flip sends over the direct interface get through this router's own firewall. Probes cannot tell:
 * they are the router's own packets, and a ruleset that names only the overlay passes them and drops the LAN's.
 *
 * A host may send what every policy drops, so drops alone prove nothing. Two facts do, each for one remote network:
 *
 *   nothing passes   of several packets none passes, although packets of the same network and direction passed via the overlay
 *                    within a minute, or on the direct interface within seconds
 *   new flows        connections that were dropped on the direct interface passed via the overlay afterwards, and no other new
 *                    one passed on the direct interface meanwhile
 */
import type { Prefix } from "../../net/address.js";
import type { Reason } from "../../shortcut/reasons.js";
import type { Direction, ForwardingReading, NetForwarding } from "../ports.js";

/** Packets in one interval below which nothing is concluded. */
const ENOUGH = 5;
/** New flows that prove it for a network, and for one service while others pass. */
const FLOWS = 2;
const FLOWS_OF_SERVICE = 3;
/** Milliseconds for which a pass on the direct interface shows that packets should pass. */
const PASSED_MS = 10_000;
/** Milliseconds for which a verdict is not repeated: the shortcut falls back meanwhile, and what was counted expires. */
const QUIET_MS = 20_000;

export interface Blocked {
  /** The remote network whose packets are dropped. */
  readonly remote: Prefix;
  readonly reason: Reason;
}

const keyOf = (n: { readonly direction: Direction; readonly remote: Prefix }): string =>
  `${n.direction} ${n.remote}`;

export class ForwardingCheck {
  private before = new Map<string, NetForwarding>();
  private readonly passedAt = new Map<string, number>();
  private readonly toldAt = new Map<string, number>();
  /** Dropped flows that have led to a verdict, by network and service: they stand for a while, and prove something once. */
  private judged = new Map<string, number>();

  constructor(
    private readonly dev: string,
    /** The reason travels to the other end: it names the router by its overlay address. */
    private readonly router: string,
  ) {}

  /** Takes a reading. Returns the networks whose packets this router's firewall drops on the direct interface alone. */
  read(now: number, reading: ForwardingReading): Blocked[] {
    const found = [...this.nothingPasses(now, reading.nets), ...this.newFlows(reading)];
    for (const [key, at] of this.toldAt) if (now >= at + QUIET_MS) this.toldAt.delete(key);
    return found.filter(({ direction, remote }) => {
      const key = keyOf({ direction, remote });
      const told = this.toldAt.has(key);
      if (!told) this.toldAt.set(key, now);
      return !told;
    });
  }

  private nothingPasses(now: number, nets: readonly NetForwarding[]): (Blocked & { direction: Direction })[] {
    const { before } = this;
    this.before = new Map(nets.map((n) => [keyOf(n), n]));
    for (const key of this.passedAt.keys()) if (!this.before.has(key)) this.passedAt.delete(key);
    return nets.flatMap((n) => {
      const key = keyOf(n);
      const was = before.get(key);
      // a counter that expired begins again
      const base = was === undefined || was.seen > n.seen || was.passed > n.passed ? ZERO : was;
      if (n.passed > base.passed) {
        this.passedAt.set(key, now);
        return [];
      }
      // the counters are not read at one moment: both are certain, and no packet in flight counts as dropped
      const dropped = n.seen - base.seenAfter;
      const should = n.overlay || now - (this.passedAt.get(key) ?? Number.NEGATIVE_INFINITY) <= PASSED_MS;
      if (dropped < ENOUGH || !should) return [];
      const { direction, remote } = n;
      const { dev, router } = this;
      return [
        {
          direction,
          remote,
          reason: { kind: "firewall-drops", router, direction, dev, dropped, seen: dropped },
        },
      ];
    });
  }

  private newFlows({ dropped, passed }: ForwardingReading): (Blocked & { direction: Direction })[] {
    const nets = new Map(dropped.map((f) => [keyOf(f), f]));
    const judged = new Map<string, number>();
    const before = this.judged;
    this.judged = judged;
    return [...nets].flatMap(([key, { direction, remote }]) => {
      const mine = dropped.filter((f) => keyOf(f) === key);
      const through = passed.filter((f) => keyOf(f) === key);
      const services = new Map<string, number>();
      for (const f of mine) services.set(f.service, (services.get(f.service) ?? 0) + f.packets);
      const flows = [...services.values()].reduce((a, b) => a + b, 0);
      const known = (service: string): number => before.get(`${key} ${service}`) ?? 0;
      const one = [...services].some(
        ([service, packets]) => packets >= FLOWS_OF_SERVICE && through.every((f) => f.service !== service),
      );
      const proven = one || (flows >= FLOWS && through.length === 0);
      const news = [...services].some(([service, packets]) => packets > known(service));
      for (const [service, packets] of services)
        judged.set(`${key} ${service}`, proven ? packets : Math.min(packets, known(service)));
      if (!proven || !news) return [];
      const { dev, router } = this;
      return [{ direction, remote, reason: { kind: "firewall-drops-new", router, direction, dev, flows } }];
    });
  }
}

const ZERO = { seen: 0, seenAfter: 0, passed: 0 } as const;
