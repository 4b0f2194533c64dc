/**
 * What lies underneath an offer where the feed is silent: a route of OSPF, IS-IS or a static one, which FRR tells no BGP session of. The FIB shows it
 * until the offer is selected; then zebra keeps it, and is asked now and then. Under BIRD the feed tells of such routes too.
 */
import {
  type Address,
  contains,
  familyOf,
  type Prefix,
  prefixAddress,
  prefixLength,
  prefixOf,
} from "../../net/address.js";
import type { FibView } from "../kernel/fib-view.js";

/** Numbers of RTA_PROTOCOL: babel, isis, ospf, rip, eigrp; zebra itself and its static routes (linux/rtnetlink.h, zebra/rt_netlink.h). */
const IGP_PROTOCOLS: ReadonlySet<number> = new Set([11, 42, 187, 188, 189, 192, 196]);

export interface IgpRoute {
  readonly prefix: Prefix;
  readonly nextHop: Address;
}

export class IgpRoutes {
  /** What lay underneath each prefix when the FIB last showed it. */
  private readonly held = new Map<Prefix, IgpRoute>();

  constructor(
    private readonly fib: FibView,
    private readonly pools: { readonly 4: Prefix; readonly 6: Prefix | undefined },
  ) {}

  private isAlias(a: Address | undefined): boolean {
    const pool = a === undefined ? undefined : this.pools[familyOf(a)];
    return a !== undefined && pool !== undefined && contains(pool, a);
  }

  /** The most specific route of that kind that covers `prefix`. */
  underneath(prefix: Prefix): IgpRoute | undefined {
    for (let of: Prefix | undefined = prefix; of !== undefined; ) {
      const match: Prefix | undefined = this.fib.lookup(of)?.prefix;
      if (match === undefined) return undefined;
      const route = this.fib.daemonBest(match);
      const gateway = route?.nextHops[0]?.gateway;
      if (this.isAlias(gateway)) {
        const held = this.held.get(match);
        if (held !== undefined) return held;
      } else if (route !== undefined && gateway !== undefined && IGP_PROTOCOLS.has(route.protocol)) {
        const found = { prefix: match, nextHop: gateway };
        this.held.set(prefix, found);
        return found;
      } else if (route !== undefined) return undefined;
      const length = prefixLength(match);
      of = length === 0 ? undefined : prefixOf(prefixAddress(match), length - 1);
    }
    return undefined;
  }

  /** What the FIB does not show any more, to be asked of the daemon; of the prefixes that stand offered, the others are forgotten. */
  hidden(offered: readonly Prefix[]): (readonly [Prefix, IgpRoute])[] {
    const standing = new Set(offered);
    for (const p of this.held.keys()) if (!standing.has(p)) this.held.delete(p);
    return [...this.held].filter(([p]) => this.isAlias(this.fib.daemonBest(p)?.nextHops[0]?.gateway));
  }

  /** Offers that rest on a route of this prefix. */
  restingOn(changed: Prefix): Prefix[] {
    return [...this.held].flatMap(([p, route]) => (p === changed || route.prefix === changed ? [p] : []));
  }

  /** The daemon's answer. Returns whether anything changed. */
  learn(prefix: Prefix, asked: IgpRoute, nextHops: readonly Address[]): boolean {
    if (this.held.get(prefix) !== asked || nextHops.includes(asked.nextHop)) return false;
    const [nextHop] = nextHops;
    if (nextHop === undefined) this.held.delete(prefix);
    else this.held.set(prefix, { ...asked, nextHop });
    return true;
  }
}
