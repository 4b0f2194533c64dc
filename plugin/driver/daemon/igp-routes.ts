/**
 * Keeps the routes underneath offers that the feed does not carry: routes of OSPF, IS-IS or static
 * routes, which FRR does not announce on the feed. The FIB shows such a route until the offer is
 * selected. After that only zebra has it, and zebra is asked periodically. Under BIRD the feed
 * carries such routes too.
 */
import {
  type Address,
  address,
  contains,
  familyOf,
  type Prefix,
  prefixAddress,
  prefixLength,
  prefixOf,
} from "../../net/address.js";
import type { KernelRoute } from "../../wire/netlink/fib.js";
import type { FibView } from "../kernel/fib-view.js";
import type { IgpNextHop } from "../ports.js";

/**
 * Numbers of RTA_PROTOCOL: babel, isis, ospf, rip, eigrp; zebra itself and its static routes
 * (linux/rtnetlink.h, zebra/rt_netlink.h).
 */
const IGP_PROTOCOLS: ReadonlySet<number> = new Set([11, 42, 187, 188, 189, 192, 196]);

export interface IgpRoute {
  readonly prefix: Prefix;
  readonly nextHop: Address;
  /** The interfaces that it leaves through; empty when they are not known. */
  readonly via: readonly string[];
}

/** Stands for the next hop of a route that names an interface alone, such as `ip route P wg-hub1`. */
const NO_NEXT_HOP = { 4: address("0.0.0.0"), 6: address("::") } as const;

export class IgpRoutes {
  /** The route underneath each prefix when the FIB last showed it. */
  private readonly held = new Map<Prefix, IgpRoute>();

  constructor(
    private readonly fib: FibView,
    private readonly pools: { readonly 4: Prefix; readonly 6: Prefix | undefined },
  ) {}

  private isAlias(a: Address | undefined): boolean {
    const pool = a === undefined ? undefined : this.pools[familyOf(a)];
    return a !== undefined && pool !== undefined && contains(pool, a);
  }

  /** Returns the most specific route of that kind that covers `prefix`. */
  underneath(prefix: Prefix): IgpRoute | undefined {
    for (let of: Prefix | undefined = prefix; of !== undefined; ) {
      const match: Prefix | undefined = this.fib.lookup(of)?.prefix;
      if (match === undefined) return undefined;
      const route = this.fib.daemonBest(match);
      const gateway = route?.nextHops[0]?.gateway;
      if (this.isAlias(gateway)) {
        const held = this.held.get(match);
        if (held !== undefined) return held;
      } else if (route !== undefined && IGP_PROTOCOLS.has(route.protocol) && this.leads(route)) {
        const via = this.fib.via(route);
        const found = { prefix: match, nextHop: gateway ?? NO_NEXT_HOP[familyOf(match)], via };
        this.held.set(prefix, found);
        return found;
      } else if (route !== undefined) return undefined;
      const length = prefixLength(match);
      of = length === 0 ? undefined : prefixOf(prefixAddress(match), length - 1);
    }
    return undefined;
  }

  /** Returns whether a route has a gateway, or leaves through overlay interfaces alone. */
  private leads(route: KernelRoute): boolean {
    return route.nextHops[0]?.gateway !== undefined || this.fib.via(route).length > 0;
  }

  /**
   * Returns the routes underneath offered prefixes that the FIB no longer shows: the daemon must be
   * asked for them. Routes of other prefixes are forgotten.
   */
  hidden(offered: readonly Prefix[]): (readonly [Prefix, IgpRoute])[] {
    const standing = new Set(offered);
    for (const p of this.held.keys()) if (!standing.has(p)) this.held.delete(p);
    return [...this.held].filter(([p]) => this.isAlias(this.fib.daemonBest(p)?.nextHops[0]?.gateway));
  }

  /** Returns the offers whose route underneath has this prefix. */
  restingOn(changed: Prefix): Prefix[] {
    return [...this.held].flatMap(([p, route]) => (p === changed || route.prefix === changed ? [p] : []));
  }

  /** Takes the daemon's answer. Returns whether anything changed. */
  learn(prefix: Prefix, asked: IgpRoute, nextHops: readonly IgpNextHop[]): boolean {
    if (this.held.get(prefix) !== asked) return false;
    const used = nextHops.find((h) => h.nextHop === asked.nextHop) ?? nextHops[0];
    if (used === undefined) {
      this.held.delete(prefix);
      return true;
    }
    const devices = [...new Set(nextHops.flatMap((h) => h.dev ?? []))];
    const same = [...devices].sort().join() === [...asked.via].sort().join();
    if (used.nextHop === asked.nextHop && (same || devices.length === 0)) return false;
    this.held.set(prefix, { prefix: asked.prefix, nextHop: used.nextHop, via: devices });
    return true;
  }
}
