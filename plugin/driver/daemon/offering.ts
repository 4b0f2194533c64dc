/**
 * Keeps what is offered to the local daemon, and observes the result: the two sessions, the
 * daemon's routes underneath, its selections, and what its neighbours see. The order of steps
 * matters. A guard route is installed before the daemon hears of a change, and an offer is watched
 * before it is announced.
 */

import type { Config, DaemonConfig } from "../../config/config.js";
import {
  type Address,
  addressBits,
  familyOf,
  hostPrefix,
  type Prefix,
  prefixLength,
} from "../../net/address.js";
import { unreachable } from "../../net/result.js";
import type { Input, Output } from "../../shortcut/events.js";
import { describeReason } from "../../shortcut/reasons.js";
import { type FibView, RTPROT_KERNEL } from "../kernel/fib-view.js";
import type { OwnRoutes } from "../kernel/own-routes.js";
import type { BgpPort, Clock, DaemonNeighbour, DaemonPort, LogPort } from "../ports.js";
import type { Journal } from "../runtime/journal.js";
import type { Schedule } from "../runtime/schedule.js";
import type { TaskQueue } from "../runtime/task-queue.js";
import { IgpRoutes } from "./igp-routes.js";
import { NeighbourGuard } from "./neighbour-guard.js";
import { PathInterfaces } from "./path-interfaces.js";
import { birdRule, frrRule, SelectionWatcher } from "./selection.js";
import { DaemonSessions } from "./sessions.js";
import { Routing } from "./underneath.js";

export interface OfferingHost {
  readonly self: Address;
  /** All addresses of the overlay interface. */
  readonly overlayAddresses: readonly Address[];
  readonly bgp: BgpPort;
  readonly daemon: DaemonPort | undefined;
  readonly clock: Clock;
  readonly log: LogPort;
  readonly journal: Journal;
  readonly schedule: Schedule;
  /** The queue of route changes, in order. */
  readonly tasks: TaskQueue;
  readonly fib: FibView;
  readonly routes: OwnRoutes;
  input(input: Input): void;
  /** Reads the kernel's tables again, because the daemon is back. */
  resync(): void;
  /** Rechecks everything that depends on the sessions with the daemon, after they have changed. */
  sessionsChanged(): void;
  /** Arms the timer again, because {@link Offering.pollTimeout} may have changed. */
  arm(): void;
}

/** The engine's outputs that concern the daemon. */
export type OfferOutput = Extract<
  Output,
  { kind: "alias" | "offer" | "update-classes" | "withdraw" | "explain" }
>;

/** Milliseconds within which the loss of an IGP route is noticed while an offer hides it. */
const IGP_POLL = 1_000;

export class Offering {
  readonly routing: Routing;
  private readonly sessions: DaemonSessions;
  private readonly igp: IgpRoutes | undefined;
  private readonly interfaces: PathInterfaces | undefined;
  private asking = false;
  private readonly neighbourGuard: NeighbourGuard | undefined;
  private readonly selection: SelectionWatcher;
  /** The state of the sessions that the engine was last told. */
  private told: string | undefined;

  constructor(
    config: Config,
    d: DaemonConfig,
    private readonly host: OfferingHost,
  ) {
    const { fib } = host;
    this.sessions = new DaemonSessions(
      d,
      host.self,
      host.bgp,
      host.tasks,
      {
        onChange: () => this.sessionChanged(),
        onUnderneath: (prefixes) => {
          if (prefixes === "all") this.interfaces?.clear();
          else this.interfaces?.feedChanged(prefixes);
          host.routes.follow(prefixes);
          host.input({ kind: "underneath-changed", prefixes });
          this.neighbourGuard?.underneathChanged();
        },
        onProblem: (place, text) => host.journal.problem(place, text),
      },
      (prefix, alias, classes) => this.routing.attributes(prefix, alias, classes),
    );
    this.igp = d.kind === "frr" ? new IgpRoutes(fib, config.aliases) : undefined;
    this.interfaces =
      host.daemon?.pathInterfaces === undefined
        ? undefined
        : new PathInterfaces(this.sessions.feed, () => this.askInterfaces());
    this.routing = new Routing({
      fib,
      feed: this.sessions.feed,
      igp: this.igp,
      interfaces: this.interfaces,
      pools: config.aliases,
      blackboard: d.kind === "bird" ? d.table : undefined,
      session: { localAs: d.offersAs, remoteAs: d.as },
      anyType: d.kind === "bird",
      addresses: [
        ...new Set([host.self, ...(d.peer === undefined ? [] : [d.peer]), ...host.overlayAddresses]),
      ],
      hubs: config.hubs,
      as: d.as,
    });
    if (host.daemon !== undefined)
      this.neighbourGuard = new NeighbourGuard(
        host.daemon,
        host.clock,
        { acceptVisible: d.acceptVisible, hubs: config.hubs },
        {
          onBlocked: (prefix, reason) => host.input({ kind: "offer-blocked", prefix, reason }),
          onUnblocked: (prefixes) => host.input({ kind: "offer-unblocked", prefixes }),
          onProblem: (text) => host.journal.problem("daemon's neighbours", text),
        },
        (prefix) => this.routing.fingerprint(prefix),
      );
    this.selection = new SelectionWatcher(d.kind === "bird" ? birdRule(d.table) : frrRule, fib);
  }

  // ---------------------------------------------------------------------------------- the sessions

  start(): void {
    this.sessions.start();
  }

  /** Starts to ask repeatedly for what the daemon does not announce by itself. */
  poll(): void {
    const { igp, host, interfaces } = this;
    if (igp !== undefined) host.schedule.every("read IGP routes", IGP_POLL, () => this.readIgp(igp));
    // asks again after a question that failed
    if (interfaces !== undefined)
      host.schedule.every("read interfaces of paths", IGP_POLL, async () => this.askInterfaces());
  }

  /** Stops all comparisons. */
  end(): void {
    this.neighbourGuard?.end();
  }

  stopOffers(): Promise<void> {
    return this.sessions.stopOffers();
  }

  stopFeed(): Promise<void> {
    return this.sessions.stopFeed();
  }

  get established(): boolean {
    return this.sessions.established.ok;
  }

  /** The state of the sessions with the daemon, in words. */
  get sessionText(): string {
    const { established } = this.sessions;
    return established.ok ? "sessions established" : describeReason(established.reason);
  }

  private sessionChanged(): void {
    const { sessions, host } = this;
    const verdict = sessions.established;
    const established = verdict.ok;
    const reason = verdict.ok ? "" : describeReason(verdict.reason);
    this.selection.setSession(sessions.offersUp);
    const told = `${established} ${reason}`;
    if (told !== this.told) {
      this.told = told;
      host.log.info(established ? "sessions with the daemon are up" : "no session with the daemon", {
        reason,
      });
      if (!established) for (const prefix of sessions.offered()) host.routes.holdNetOfDead(prefix);
      host.input({ kind: "offers-session", verdict });
      if (established) host.resync();
    }
    host.sessionsChanged();
  }

  // ------------------------------------------------------------------------- what the engine wants

  perform(o: OfferOutput): void {
    const { routes, tasks } = this.host;
    switch (o.kind) {
      case "alias":
        this.setAlias(o.alias, o.to, o.via);
        return;
      case "offer":
        routes.holdNet(o.prefix, routes.pointsDirect(o.alias));
        this.selection.stand({ prefix: o.prefix, alias: o.alias });
        this.sessions.offer(o.prefix, o.alias, o.classes, this.neighbourGuard?.permits(o.prefix));
        this.routing.offersChanged();
        tasks.add("selection", async () => this.examine([o.prefix]));
        return;
      case "update-classes":
        // the daemon may replace its route
        routes.holdNet(o.prefix, routes.pointsDirect(o.alias));
        this.sessions.updateClasses(o.prefix, o.classes);
        return;
      case "withdraw":
        routes.holdNet(o.prefix, false);
        this.selection.withdraw(o.prefix);
        this.neighbourGuard?.withdraw(o.prefix);
        this.sessions.withdraw(o.prefix);
        this.routing.offersChanged();
        return;
      case "explain":
        this.explain(o.prefix, o.alias);
        return;
      default:
        unreachable(o);
    }
  }

  private setAlias(alias: Address, to: "overlay" | "direct" | "absent", via: readonly string[]): void {
    const { routes } = this.host;
    if (to === "absent") this.selection.release(alias, (prefix) => routes.holdsOverride(prefix));
    // the daemon resolves again what this alias resolves
    else if (routes.hasAlias(alias))
      for (const prefix of this.sessions.offered(alias)) routes.holdNet(prefix, to === "direct");
    routes.setAlias(alias, to, via);
  }

  private explain(prefix: Prefix, alias: Address): void {
    const { daemon, schedule } = this.host;
    if (daemon === undefined) return;
    void schedule.attempt("explain", async () => {
      const e = await daemon.explain(prefix, alias);
      if (!e.selected) this.host.input({ kind: "explained", prefix, reason: e.reason });
    });
  }

  /** Asks the daemon for its session with the hubs. */
  inspectHubs(hubs: readonly Address[]): void {
    const { daemon, schedule } = this.host;
    if (daemon !== undefined)
      void schedule.attempt("the daemon's session with the hub", async () =>
        this.host.input({
          kind: "hub-session",
          session: await daemon.hubSession(hubs, (neighbour) => this.isOnLink(neighbour)),
        }),
      );
  }

  /**
   * Returns whether a neighbour is the other end of a tunnel: on an overlay interface by name, or by an address of a link of two. On a
   * larger subnet another spoke may be a neighbour too.
   */
  private isOnLink({ address, dev }: DaemonNeighbour): boolean {
    const { fib } = this.host;
    if (dev !== undefined) return fib.overlay.has(dev);
    if (address === undefined) return false;
    const route = fib.daemonLookup(hostPrefix(address));
    if (route?.protocol !== RTPROT_KERNEL || fib.via(route).length === 0) return false;
    return prefixLength(route.prefix) >= addressBits(familyOf(address)) - 2;
  }

  // --------------------------------------------------------------------------------------- results

  /** Looks at the FIB for the offered prefixes, and tells the engine every change. */
  examine(prefixes: readonly Prefix[] | "all"): void {
    for (const state of this.selection.examine(this.host.clock.now(), prefixes)) {
      this.neighbourGuard?.observe(state.prefix, state.selected);
      this.host.input({ kind: "route-state", state });
    }
    this.host.arm();
  }

  /**
   * Handles changes in the FIB of IGP routes that lie underneath offers, and of the routes that lead to next hops
   * underneath: an offer's alias follows at once.
   */
  igpTouched(touched: readonly Prefix[] | "all"): void {
    const byIgp = touched === "all" ? [] : touched.flatMap((p) => this.igp?.restingOn(p) ?? []);
    const byNextHop = this.routing.changedBy(touched, this.sessions.offered());
    const prefixes = [...new Set([...byIgp, ...byNextHop])];
    if (prefixes.length > 0) this.host.input({ kind: "underneath-changed", prefixes });
  }

  /** Asks the daemon for the interfaces of paths, one prefix at a time, until nothing is due. */
  private askInterfaces(): void {
    if (this.asking) return;
    this.asking = true;
    void this.host.schedule
      .attempt("read interfaces of paths", () => this.readInterfaces())
      .finally(() => {
        this.asking = false;
      });
  }

  private async readInterfaces(): Promise<void> {
    const { host, interfaces } = this;
    const ask = host.daemon?.pathInterfaces;
    if (interfaces === undefined || ask === undefined) return;
    // the caller is in the middle of its own look-up
    await Promise.resolve();
    for (let prefix = interfaces.next(); prefix !== undefined; prefix = interfaces.next()) {
      try {
        if (interfaces.learn(prefix, await ask(prefix))) this.pathsKnown(prefix);
      } catch (e) {
        interfaces.failed(prefix);
        throw e;
      }
    }
  }

  private pathsKnown(prefix: Prefix): void {
    this.sessions.announceAgain();
    this.host.input({ kind: "underneath-changed", prefixes: [prefix] });
  }

  /** Asks the daemon for the routes that its FIB does not show while an offer is selected. */
  private async readIgp(igp: IgpRoutes): Promise<void> {
    const { igpNextHops } = this.host.daemon ?? {};
    if (igpNextHops === undefined) return;
    const prefixes: Prefix[] = [];
    for (const [prefix, asked] of igp.hidden(this.sessions.offered()))
      if (igp.learn(prefix, asked, await igpNextHops(asked.prefix))) prefixes.push(prefix);
    if (prefixes.length > 0) this.host.input({ kind: "underneath-changed", prefixes });
  }

  /** Returns when pending decisions are to be rechecked. */
  pollTimeout(): number | undefined {
    return this.selection.pollTimeout();
  }

  recheckPending(): void {
    this.examine(this.selection.inDoubt());
  }
}
