/**
 * The routes that are ours in the kernel, as a declared state that is compared with the kernel periodically:
 *
 *   aliases    host routes of alias next hops, in the table where the daemon resolves them; they say overlay or direct
 *   overrides  a prefix held on the overlay, better than the daemon's route, because the FIB did not follow
 *   guard routes  the same under the daemon's route, worse than any: while it points at the direct interface, which may vanish, while it changes,
 *              and while its daemon is dead
 *
 * All have our protocol number, so that what a crash left is found and nothing else is touched.
 */
import { type Address, hostPrefix, overlaps, type Prefix } from "../../net/address.js";
import type { Clock, KernelRoute, RoutePort } from "../ports.js";
import type { Schedule } from "../runtime/schedule.js";
import { asPortError, type TaskQueue } from "../runtime/task-queue.js";
import { CLEAR_GUARD_METRIC, type ClearGuard } from "./clear-guard.js";
import { FibView, RTPROT_SHORTCUTD } from "./fib-view.js";
import { formerRoutes, reconcileRoutes, type WantedRoute } from "./reconcile.js";

/** Metric of alias routes; of overrides, lower than BIRD's 32 and FRR's 20. */
const ALIAS_METRIC = 99;
/**
 * Metric of the second route of an alias. When the interface of the first goes, the kernel removes that route without
 * a message, and the daemon resolves the alias by the second.
 */
const ALIAS_BACKUP_METRIC = 199;
const OVERRIDE_METRIC = 1;
/**
 * Metric of the net that is held under a prefix while its route changes: FRR replaces an IPv6 route by delete and add, and in between
 * the packet would follow a default route into the underlay, in the clear. The highest byte is what zebra takes for
 * a kernel route's distance (zebra/zebra_rib.c): any other route of the prefix is better. The rest is its metric, 1 as that of overrides:
 * by it the route-map SHORTCUT-NO-ALIAS refuses both to `redistribute kernel`.
 */
const NET_METRIC = 0xff000001;
/** The same of versions before protocol number 173. */
const FORMER_NET_METRIC = 0xff000000;
/** How long a change may take. */
const NET_HOLD_MS = 1_500;
/**
 * How long the net stays when the daemon itself went: zebra takes a dead bgpd's routes out of the FIB at once, BIRD does when it starts
 * again, and until the hub's routes are learnt again there would be none.
 */
const NET_HOLD_DEAD_MS = 30_000;
/** How often, and how many times, a FIB that a crash left on the direct interface is looked at before it is overridden. */
const LEFTOVER_POLL_MS = 50;
const LEFTOVER_POLLS = 20;

export interface OwnRoutesHost {
  readonly routes: RoutePort;
  readonly clock: Clock;
  readonly schedule: Schedule;
  /** Changes of routes, in order. */
  readonly tasks: TaskQueue;
  readonly fib: FibView;
  /** Where the aliases stand. */
  readonly aliasTable: number;
  readonly aliasPools: { readonly 4: Prefix; readonly 6: Prefix | undefined };
  /** Whether the daemon itself has a route underneath the prefix. */
  hasUnderneath(prefix: Prefix): boolean;
  /**
   * The overlay interfaces that packets for the prefix leave through when they do not go direct; undefined: those of
   * the hubs. Never empty.
   */
  readonly overlayWay: (prefix: Prefix | undefined) => readonly string[];
  /** Whether the sessions with the daemon are up, and it has told what it routes. */
  daemonUp(): boolean;
  readonly clearGuard: ClearGuard;
}

export class OwnRoutes {
  private readonly aliases = new Map<Address, readonly WantedRoute[]>();
  private readonly overrides = new Map<Prefix, WantedRoute>();
  /** Overrides that a machine wants; the others were found at start. */
  private readonly wantedOverrides = new Set<Prefix>();
  private readonly guardRoutes = new Map<Prefix, { readonly route: WantedRoute; until: number }>();
  /** Prefixes that go direct: their nets stay. */
  private readonly standing = new Set<Prefix>();

  constructor(private readonly host: OwnRoutesHost) {}

  private get main(): number {
    return this.host.fib.main;
  }

  private put(r: WantedRoute): Promise<void> {
    return this.host.routes.replace({ ...r, protocol: RTPROT_SHORTCUTD });
  }

  private take(r: WantedRoute): Promise<void> {
    return this.host.routes.remove({ ...r, protocol: RTPROT_SHORTCUTD });
  }

  private async dump(tables: Iterable<number>): Promise<KernelRoute[]> {
    return (await Promise.all([...new Set(tables)].map((t) => this.host.routes.dump(t)))).flat();
  }

  /** Routes that may be ours, without those of the clear guard, which looks after its own: the number is also another program's, and another instance's overlay has routes of its own. */
  private async dumpOwn(tables: Iterable<number>): Promise<KernelRoute[]> {
    const { overlay, direct } = this.host.fib;
    return (await this.dump(tables)).filter(
      (r) =>
        r.metric !== CLEAR_GUARD_METRIC && r.nextHops.every((h) => overlay.has(h.dev) || h.dev === direct),
    );
  }

  /** The main table read afresh: what is watched may be behind, or not yet begun. */
  private async readFib(tables: Iterable<number> = [this.main]): Promise<FibView> {
    const view = new FibView(this.host.fib.overlay, this.host.fib.direct, this.main);
    const [routes, links] = await Promise.all([this.dump(tables), this.host.routes.links()]);
    view.apply({ kind: "snapshot", routes, links });
    return view;
  }

  // ------------------------------------------------------------------------------------------ aliases

  hasAlias(alias: Address): boolean {
    return this.aliases.has(alias);
  }

  /** Whether it points at the direct interface. */
  pointsDirect(alias: Address): boolean {
    return this.aliases.get(alias)?.[0]?.via.includes(this.host.fib.direct) === true;
  }

  /** @param via the overlay interfaces that the alias leads through unless it points at the direct interface */
  setAlias(alias: Address, to: "overlay" | "direct" | "absent", via: readonly string[]): void {
    const { tasks } = this.host;
    const former = this.aliases.get(alias) ?? [];
    const routes = to === "absent" ? [] : this.aliasRoutes(alias, to, via);
    if (to === "absent") this.aliases.delete(alias);
    else this.aliases.set(alias, routes);
    // zebra takes a replaced IPv6 route for a deleted and a new one, and may leave what rests on it inactive
    const stands = (r: WantedRoute): boolean =>
      former.some((f) => f.metric === r.metric && f.via.join() === r.via.join());
    for (const r of routes) if (!stands(r)) tasks.add("alias", () => this.put(r));
    const metrics = new Set(routes.map((r) => r.metric));
    for (const r of former) if (!metrics.has(r.metric)) tasks.add("alias", () => this.take(r));
  }

  /** The route of an alias, and one of a worse metric through another overlay interface, where there is one. */
  private aliasRoutes(
    alias: Address,
    to: "overlay" | "direct",
    via: readonly string[],
  ): readonly WantedRoute[] {
    const { aliasTable: table, fib, overlayWay } = this.host;
    const prefix = hostPrefix(alias);
    const first: WantedRoute = {
      table,
      prefix,
      via: to === "direct" ? [fib.direct] : via,
      metric: ALIAS_METRIC,
    };
    const others = [...via, ...overlayWay(undefined)].filter((dev) => !first.via.includes(dev));
    return others[0] === undefined
      ? [first]
      : [first, { table, prefix, via: [others[0]], metric: ALIAS_BACKUP_METRIC }];
  }

  // ------------------------------------------------------------------------------------------ overrides

  holdsOverride(prefix: Prefix): boolean {
    return this.overrides.has(prefix);
  }

  private overrideOf(prefix: Prefix): WantedRoute {
    return { table: this.main, prefix, via: this.host.overlayWay(prefix), metric: OVERRIDE_METRIC };
  }

  /** Takes what a shortcut wants. */
  setOverride(prefix: Prefix, want: boolean): void {
    if (want) {
      const route = this.overrideOf(prefix);
      this.wantedOverrides.add(prefix);
      this.overrides.set(prefix, route);
      this.host.tasks.add("override", () => this.put(route));
    } else {
      this.wantedOverrides.delete(prefix);
      // BIRD and zebra, when they have just come back, clear the FIB before they have learnt the hub's routes
      if (this.host.fib.daemonBest(prefix) === undefined) this.holdNetOfDead(prefix);
      this.dropOverride(prefix);
    }
  }

  private dropOverride(prefix: Prefix): void {
    this.overrides.delete(prefix);
    this.host.tasks.add("override", () => this.take(this.overrideOf(prefix)));
  }

  /** Overrides that no machine knows (found at start) go when the daemon's own route is right. */
  dropFound(known: (prefix: Prefix) => boolean): void {
    for (const prefix of [...this.overrides.keys()])
      if (!this.wantedOverrides.has(prefix) && !known(prefix) && !this.overrideNeeded(this.host.fib, prefix))
        this.dropOverride(prefix);
  }

  /**
   * Without the override the prefix would go via the direct interface, or follow the underlay's default route: a daemon that is dead lost its
   * route with the interface. One that is alive and has no route wants none.
   */
  private overrideNeeded(view: FibView, prefix: Prefix): boolean {
    const path = view.pathOf(view.daemonBest(prefix));
    return path === "direct" || (path === "none" && !this.host.daemonUp());
  }

  // ------------------------------------------------------------------------------------------ nets

  /** Holds a prefix on the overlay while the daemon changes its route, or as long as it goes direct (`standing`); not when there is no route underneath. */
  holdNet(prefix: Prefix, standing: boolean): void {
    if (standing) this.standing.add(prefix);
    else if (this.standing.delete(prefix)) this.limitNet(prefix);
    if (this.host.hasUnderneath(prefix)) this.spreadNet(prefix, NET_HOLD_MS);
    else {
      const held = this.guardRoutes.get(prefix);
      // a daemon that went may have come back without the route as yet
      if (held !== undefined && !standing && held.until - this.host.clock.now() <= NET_HOLD_MS)
        this.dropNet(prefix);
    }
  }

  /** A net that stood ends soon, unless something else holds it for longer. */
  private limitNet(prefix: Prefix): void {
    const held = this.guardRoutes.get(prefix);
    if (held === undefined) return;
    held.until = Math.max(held.until, this.host.clock.now() + NET_HOLD_MS);
    this.host.schedule.later(NET_HOLD_MS, () => this.releaseNet(prefix));
  }

  /** Holds it until a daemon that is dead has had time to come back. */
  holdNetOfDead(prefix: Prefix): void {
    this.spreadNet(prefix, NET_HOLD_DEAD_MS);
  }

  private spreadNet(prefix: Prefix, ms: number): void {
    const held = this.guardRoutes.get(prefix);
    const until = this.host.clock.now() + ms;
    if (held !== undefined) {
      held.until = Math.max(held.until, until);
      return;
    }
    const { overlayWay, tasks, schedule } = this.host;
    const route: WantedRoute = { table: this.main, prefix, via: overlayWay(prefix), metric: NET_METRIC };
    this.guardRoutes.set(prefix, { route, until });
    tasks.add("guard route", () => this.put(route));
    schedule.later(ms, () => this.releaseNet(prefix));
  }

  private releaseNet(prefix: Prefix): void {
    const held = this.guardRoutes.get(prefix);
    if (held === undefined || this.standing.has(prefix)) return;
    const wait = held.until - this.host.clock.now();
    if (wait > 0) this.host.schedule.later(wait, () => this.releaseNet(prefix));
    else this.dropNet(prefix);
  }

  private dropNet(prefix: Prefix): void {
    const held = this.guardRoutes.get(prefix);
    if (held === undefined) return;
    this.guardRoutes.delete(prefix);
    this.host.tasks.add("guard route", () => this.take(held.route));
  }

  /** Rewrites the routes that hold a prefix on the overlay where the way there has changed; only those of `prefixes`. */
  follow(prefixes: readonly Prefix[] | "all"): void {
    const { overlayWay, tasks } = this.host;
    const moved = (r: WantedRoute): WantedRoute | undefined => {
      if (prefixes !== "all" && !prefixes.some((p) => overlaps(p, r.prefix))) return undefined;
      const via = overlayWay(r.prefix);
      return via.join() === r.via.join() ? undefined : { ...r, via };
    };
    for (const [prefix, route] of this.overrides) {
      const next = moved(route);
      if (next === undefined) continue;
      this.overrides.set(prefix, next);
      tasks.add("override", () => this.put(next));
    }
    for (const [prefix, { route, until }] of this.guardRoutes) {
      const next = moved(route);
      if (next === undefined) continue;
      this.guardRoutes.set(prefix, { route: next, until });
      tasks.add("guard route", () => this.put(next));
    }
    for (const [alias, [first, ...backup]] of this.aliases) this.followBackup(alias, first, backup);
  }

  /** Lets the second route of an alias lead to a hub that is still there. */
  private followBackup(alias: Address, first: WantedRoute | undefined, backup: readonly WantedRoute[]): void {
    if (first === undefined) return;
    const direct = first.via.includes(this.host.fib.direct);
    const routes = this.aliasRoutes(alias, direct ? "direct" : "overlay", direct ? [] : first.via);
    const [, next] = routes;
    if (next === undefined || next.via.join() === backup[0]?.via.join()) return;
    this.aliases.set(alias, [first, next]);
    this.host.tasks.add("alias", () => this.put(next));
  }

  // ------------------------------------------------------------------------------------------ all of them

  private netRoutes(): WantedRoute[] {
    return [...this.guardRoutes.values()].map((n) => n.route);
  }

  /** Declared against actual: what somebody removed comes back, what nobody wants goes. */
  async reconcile(report: (text: string) => void): Promise<void> {
    const inMain = this.overrides.size + this.guardRoutes.size > 0 ? [this.main] : [];
    const found = await this.dumpOwn([this.host.aliasTable, ...inMain]);
    const wanted = [...[...this.aliases.values()].flat(), ...this.overrides.values(), ...this.netRoutes()];
    for (const s of reconcileRoutes(wanted, found)) {
      report(`route ${s.prefix} in table ${s.table}: ${s.kind}`);
      // one that the kernel refuses, because its interface is down, must not keep the others from it
      await (s.kind === "set" ? this.put(s) : this.take(s)).catch((e: unknown) =>
        report(asPortError("netlink", e).message),
      );
    }
  }

  /**
   * After a crash: aliases go back to the overlay first, and where the FIB still `points` at peers it is waited for; then they go, and
   * the overrides, unless still needed. The daemon withdrew the offers when the session died, so nothing points at the
   * aliases for long. Returns how many routes were found.
   */
  async clearLeftovers(points: boolean): Promise<number> {
    const { aliasTable, fib } = this.host;
    const tables = [this.main, aliasTable];
    await this.takeOverFormer(tables);
    const leftovers = reconcileRoutes([], await this.dumpOwn(tables));
    const before = await this.readFib();
    for (const s of leftovers) {
      if (!s.via.includes(fib.direct) || s.metric !== ALIAS_METRIC) continue;
      const backup = leftovers.find((r) => r.prefix === s.prefix && r.metric === ALIAS_BACKUP_METRIC);
      const via = this.existing(before, backup?.via ?? []);
      if (via.length > 0) await this.put({ ...s, via });
    }
    if (points) await this.awaitFibFree(tables);
    const view = await this.readFib();
    for (const { table, prefix, metric, via } of leftovers) {
      const route = { table, prefix, metric, via: this.existing(view, via) };
      if (table === this.main && metric === OVERRIDE_METRIC && this.overrideNeeded(view, prefix))
        this.overrides.set(prefix, route);
      else await this.take(route);
    }
    return leftovers.length;
  }

  /**
   * Returns those overlay interfaces that exist; if none of them does, another. At the start nothing is watched
   * as yet, so the way to the hubs is not known.
   */
  private existing(view: FibView, via: readonly string[]): readonly string[] {
    const there = view.overlayDevices;
    const kept = via.filter((dev) => there.includes(dev));
    return kept.length > 0 ? kept : there.slice(0, 1);
  }

  /**
   * Gives routes of an earlier version our protocol number, and points them at the overlay. The kernel replaces a route of the same prefix and
   * metric whatever its protocol number is, so that no packet meets a gap. From then on they are leftovers like others.
   */
  private async takeOverFormer(tables: readonly number[]): Promise<void> {
    const { overlay, direct } = this.host.fib;
    const to = this.existing(await this.readFib(), []);
    if (to.length === 0) return;
    const former = formerRoutes(await this.dump(tables), {
      overlay,
      direct,
      to,
      pools: this.host.aliasPools,
      aliasMetric: ALIAS_METRIC,
      overlayMetrics: [OVERRIDE_METRIC, FORMER_NET_METRIC],
    });
    for (const r of former) await this.put(r);
  }

  /** Waits until no FIB route points at the direct interface; after a second overrides those that do. */
  private async awaitFibFree(tables: readonly number[]): Promise<void> {
    for (let i = 0; ; i++) {
      const view = await this.readFib(tables);
      const pointing = view.pointingDirect().filter((r) => r.protocol !== RTPROT_SHORTCUTD);
      if (pointing.length === 0) return;
      if (i >= LEFTOVER_POLLS) {
        for (const { prefix } of pointing) {
          const route = { ...this.overrideOf(prefix), via: this.existing(view, []) };
          this.overrides.set(prefix, route);
          await this.put(route);
        }
        return;
      }
      await new Promise<void>((resolve) => this.host.clock.after(LEFTOVER_POLL_MS, resolve));
    }
  }

  /** Puts one route that {@link ClearGuard} wants, or takes it away. */
  guardClear(route: WantedRoute, wanted: boolean): void {
    this.host.tasks.add("guard route", () => (wanted ? this.put(route) : this.take(route)));
  }

  /** At the end, once nothing of the product can lead packets away from the daemon's routes. */
  async removeClearGuard(): Promise<void> {
    for (const r of this.host.clearGuard.end()) await this.take(r);
  }

  /** At the end. */
  async removeAliasesAndNets(): Promise<void> {
    for (const r of [...[...this.aliases.values()].flat(), ...this.netRoutes()]) await this.take(r);
  }

  /** Prefixes that the daemon itself still routes via the direct interface, also where an override hides it. */
  async daemonPointingDirect(): Promise<readonly Prefix[]> {
    return (await this.readFib()).daemonPointingDirect().map((r) => r.prefix);
  }

  /**
   * At the end, before the direct interface goes: deleting it would send what the daemon still routes via it (`pointing`) to the underlay's
   * default route, in the clear. That is overridden; all other overrides go.
   */
  async removeOverrides(pointing: readonly Prefix[]): Promise<void> {
    for (const p of pointing) {
      this.overrides.delete(p);
      await this.put(this.overrideOf(p));
    }
    for (const r of this.overrides.values()) await this.take(r);
  }
}
