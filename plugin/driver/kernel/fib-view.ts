/**
 * The kernel's routes, kept current from RouteEvents: the main table (and the blackboard), with the questions that the
 * driver asks of them. The path of a prefix is the interface that its best route leaves through; routes of our own
 * protocol number are overrides and aliases.
 */
import {
  type Address,
  familyOf,
  type Prefix,
  prefixAddress,
  prefixLength,
  prefixOf,
} from "../../net/address.js";
import type { InterfaceNames } from "../../net/interface-names.js";
import { PrefixMap } from "../../net/lpm.js";
import type { FibEntry, Path } from "../../shortcut/events.js";
import type { KernelLink, KernelRoute, RouteEvent } from "../../wire/netlink/fib.js";

/**
 * Our number in RTA_PROTOCOL. Neither rtnetlink.h nor iproute2's rt_protos has it, nor BIRD (12), FRR (186 to 198), Calico (80) or OVN (84).
 * doc/rt_protos.d/shortcutd.conf names it for `ip route`.
 */
export const RTPROT_SHORTCUTD = 173;
/** The number of earlier versions. It is Open/R's. */
export const RTPROT_FORMER = 99;
/** linux/rtnetlink.h */
export const RTPROT_BIRD = 12;
export const RTPROT_KERNEL = 2;
/** A VRF's table also has what is in the local table otherwise: the router's own addresses. */
const NO_DESTINATIONS: ReadonlySet<KernelRoute["type"]> = new Set(["local", "broadcast", "other"]);

const sameSlot = (a: KernelRoute, b: KernelRoute): boolean =>
  a.metric === b.metric && a.protocol === b.protocol;

export class FibView {
  private readonly tables = new Map<number, PrefixMap<readonly KernelRoute[]>>();
  /** The overlay interfaces that exist, by index. */
  private readonly overlayLinks = new Map<number, KernelLink>();

  constructor(
    readonly overlay: InterfaceNames,
    readonly direct: string,
    /** The table that routes packets: the main one, or a VRF's. */
    readonly main: number,
  ) {}

  private table(id: number): PrefixMap<readonly KernelRoute[]> {
    let t = this.tables.get(id);
    if (t === undefined) {
      t = new PrefixMap();
      this.tables.set(id, t);
    }
    return t;
  }

  /** Applies an event and returns the prefixes that it touched, or "all". */
  apply(event: RouteEvent): readonly Prefix[] | "all" {
    switch (event.kind) {
      case "snapshot":
        this.tables.clear();
        this.overlayLinks.clear();
        for (const l of event.links) this.linkSeen(l, false);
        for (const r of event.routes) this.put(r);
        return "all";
      case "set":
        this.put(event.route);
        return [event.route.prefix];
      case "gone":
        this.remove(event.route);
        return [event.route.prefix];
      case "address":
      case "elsewhere":
        return [];
      case "link":
        this.linkSeen(event.link, event.gone);
        return this.overlay.has(event.link.name) || event.link.name === this.direct ? "all" : [];
    }
  }

  private linkSeen(link: KernelLink, gone: boolean): void {
    if (gone || !this.overlay.has(link.name)) this.overlayLinks.delete(link.ifindex);
    else this.overlayLinks.set(link.ifindex, link);
  }

  /** The names of the overlay interfaces that exist, those first that are up. */
  get overlayDevices(): readonly string[] {
    const links = [...this.overlayLinks.values()];
    return [...links.filter((l) => l.up), ...links.filter((l) => !l.up)].map((l) => l.name);
  }

  /** Returns the name of the overlay interface with this index; undefined when it is another interface's. */
  overlayDevice(ifindex: number): string | undefined {
    return this.overlayLinks.get(ifindex)?.name;
  }

  private put(route: KernelRoute): void {
    if (NO_DESTINATIONS.has(route.type)) return;
    const t = this.table(route.table);
    const others = (t.get(route.prefix) ?? []).filter((r) => r.metric !== route.metric);
    t.set(
      route.prefix,
      [...others, route].sort((a, b) => a.metric - b.metric),
    );
  }

  private remove(route: KernelRoute): void {
    const t = this.table(route.table);
    const rest = (t.get(route.prefix) ?? []).filter((r) => !sameSlot(r, route));
    if (rest.length === 0) t.delete(route.prefix);
    else t.set(route.prefix, rest);
  }

  routes(table: number, prefix: Prefix): readonly KernelRoute[] {
    return this.table(table).get(prefix) ?? [];
  }

  *all(table: number): IterableIterator<KernelRoute> {
    for (const [, routes] of this.table(table)) yield* routes;
  }

  /** The route of exactly this prefix that the kernel uses. */
  best(prefix: Prefix): KernelRoute | undefined {
    return this.routes(this.main, prefix)[0];
  }

  /** The same without routes of our own. */
  daemonBest(prefix: Prefix): KernelRoute | undefined {
    return this.routes(this.main, prefix).find((r) => r.protocol !== RTPROT_SHORTCUTD);
  }

  /** That table's longest match. Rules and other tables are not considered. */
  lookup(of: Address | Prefix): KernelRoute | undefined {
    return this.table(this.main).longestMatch(of)?.value[0];
  }

  /** The longest match of a prefix, routes of our own left out. */
  daemonLookup(prefix: Prefix): KernelRoute | undefined {
    for (const wider of this.upwards(prefix)) {
      const route = this.daemonBest(wider);
      if (route !== undefined) return route;
    }
    return undefined;
  }

  /**
   * Whether a less specific route than `prefix` covers it: any but a default route, or a default route via the overlay; routes of our
   * own left out.
   */
  covered(prefix: Prefix): boolean {
    for (const wider of this.upwards(prefix)) {
      const route = wider === prefix ? undefined : this.daemonBest(wider);
      if (route === undefined) continue;
      return prefixLength(wider) > 0 || this.pathOf(route) === "overlay";
    }
    return false;
  }

  /** The prefix and all that contain it, the longest first. */
  private *upwards(prefix: Prefix): IterableIterator<Prefix> {
    const a = prefixAddress(prefix);
    for (let length = prefixLength(prefix); length >= 0; length--) yield prefixOf(a, length);
  }

  pathOf(route: KernelRoute | undefined): Path {
    if (route === undefined) return "none";
    const devs = new Set(route.nextHops.filter((n) => !n.dead).map((n) => n.dev));
    if (route.type !== "unicast" || devs.size === 0) return "none";
    // a route that uses the direct interface for any of its flows points at it
    if (devs.has(this.direct)) return "direct";
    return [...devs].every((dev) => this.overlay.has(dev)) ? "overlay" : "other";
  }

  /**
   * Returns the overlay interfaces through which a route leaves: empty without a route, and when it has
   * another next hop too.
   */
  via(route: KernelRoute | undefined): readonly string[] {
    if (route === undefined || this.pathOf(route) !== "overlay") return [];
    return [...new Set(route.nextHops.filter((n) => !n.dead).map((n) => n.dev))];
  }

  /** Whether a route of the main table leads IPv4 packets to an interface, also while another hides it. */
  carriesIpv4(dev: string): boolean {
    for (const [prefix, routes] of this.table(this.main))
      if (familyOf(prefix) === 4 && routes.some((r) => r.nextHops.some((n) => n.dev === dev))) return true;
    return false;
  }

  /** Routes of the main table that are in use and leave via the direct interface. */
  pointingDirect(): KernelRoute[] {
    return this.byDirect((routes) => routes[0]);
  }

  /** The same, also where a route of our own hides them. */
  daemonPointingDirect(): KernelRoute[] {
    return this.byDirect((routes) => routes.find((r) => r.protocol !== RTPROT_SHORTCUTD));
  }

  private byDirect(choose: (routes: readonly KernelRoute[]) => KernelRoute | undefined): KernelRoute[] {
    const out: KernelRoute[] = [];
    for (const [prefix, routes] of this.table(this.main)) {
      const r = choose(routes);
      if (r === undefined || prefix.startsWith("fe80:") || r.protocol === RTPROT_KERNEL) continue;
      if (this.pathOf(r) === "direct") out.push(r);
    }
    return out;
  }

  /** For the hub's attestation: every unicast prefix of the main table and the overlay interfaces that it leaves through. */
  attestable(): (readonly [Prefix, FibEntry])[] {
    const out: (readonly [Prefix, FibEntry])[] = [];
    for (const [prefix, routes] of this.table(this.main)) {
      const best = routes[0];
      if (best === undefined || prefix.startsWith("fe80:") || prefix.startsWith("ff")) continue;
      out.push([prefix, { via: this.via(best) }]);
    }
    return out;
  }
}
