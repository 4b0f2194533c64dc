/**
 * The driver feeds one engine with what the ports observe, and carries out what the engine wants. OwnRoutes and
 * DirectInterface keep the declared state of the kernel, Offering what stands offered to the daemon, Pollers read what is
 * not announced; here are start and stop, and the loop. No I/O: every port comes from outside, time included.
 */

import type { Config, DaemonConfig } from "../config/config.js";
import { type Address, hostPrefix, type Prefix } from "../net/address.js";
import type { PrivateKey, PublicKey } from "../net/key.js";
import { PrefixMap } from "../net/lpm.js";
import { unreachable } from "../net/result.js";
import type { Crypto } from "../shortcut/control/pair-secrets.js";
import { Engine } from "../shortcut/engine.js";
import type { Input, Output, RoutingView } from "../shortcut/events.js";
import { no, type Reason, type Verdict } from "../shortcut/reasons.js";
import type { RouteEvent } from "../wire/netlink/fib.js";
import { Offering } from "./daemon/offering.js";
import type { Routing } from "./daemon/underneath.js";
import { applyReload, engineConfig } from "./engine-config.js";
import { ClearGuard } from "./kernel/clear-guard.js";
import { type DirectEnds, DirectInterface, type DirectPorts } from "./kernel/direct-interface.js";
import { FibView, RTPROT_SHORTCUTD } from "./kernel/fib-view.js";
import { OthersRules } from "./kernel/others-rules.js";
import { OverlayBinding } from "./kernel/overlay-binding.js";
import { OwnRoutes } from "./kernel/own-routes.js";
import { OwnTables } from "./kernel/own-tables.js";
import { PresharedKeys } from "./kernel/preshared-keys.js";
import type { WantedRoute } from "./kernel/reconcile.js";
import { SourceGuard } from "./kernel/source-guard.js";
import { Ways } from "./kernel/ways.js";
import { Pollers } from "./pollers.js";
import {
  type BgpPort,
  type DaemonPort,
  type DivertPort,
  PortError,
  type PresharedKeyPort,
  type RoutePort,
  type RulesetPort,
  type SourceGuardPort,
  type StatePort,
  type TableWatchPort,
} from "./ports.js";
import { Journal } from "./runtime/journal.js";
import { Schedule } from "./runtime/schedule.js";
import { type Step, Steps } from "./runtime/steps.js";
import { asPortError, TaskQueue } from "./runtime/task-queue.js";

export interface Ports extends DirectPorts {
  readonly routes: RoutePort;
  readonly bgp: BgpPort;
  /** Undefined on a hub. */
  readonly sources: SourceGuardPort;
  readonly divert: DivertPort;
  readonly tableWatch: TableWatchPort;
  /** Where {@link ClearGuard} remembers prefixes. */
  readonly guardFile: StatePort;
  readonly ruleset: RulesetPort;
  /** Undefined where no pre-shared keys are configured. */
  readonly presharedKeys?: PresharedKeyPort | undefined;
  readonly daemon: DaemonPort | undefined;
}

/** This router, as main found it before it made a driver. */
export interface ThisRouter extends DirectEnds {
  readonly crypto: Omit<Crypto, "overlayShared"> & {
    /** X25519 of any private key; undefined for a low-order point. */
    x25519(own: PrivateKey, theirs: PublicKey): Uint8Array | undefined;
  };
  readonly randomBytes: (n: number) => Uint8Array;
}

/** linux/rtnetlink.h: redirect, kernel, boot and static are the numbers up to this one. */
const RTPROT_STATIC = 4;
/** Many routes change at once: one attestation for all of them. */
const ATTESTATION_DELAY_MS = 20;
/** The same for the paths to endpoints. */
const WAYS_DELAY_MS = 50;
/** The same for own routes that follow the daemon's to another overlay interface. */
const OWN_ROUTES_DELAY_MS = 20;
/** A stop that takes longer gives up waiting for the other ends. */
const STOP_DEADLINE_MS = 15_000;
/** Prefixes that are attested one after another are written at once. */
const GUARD_SAVE_DELAY_MS = 500;

/** Whether the event is about one of these interfaces. */
function concerns(event: RouteEvent, has: (name: string) => boolean): boolean {
  if (event.kind === "link")
    return has(event.link.name) || (event.formerName !== undefined && has(event.formerName));
  return event.kind === "snapshot" || (event.kind === "address" && has(event.dev));
}

/** Whether an address or an uplink of the router may have changed. */
function changesAddresses(event: RouteEvent): boolean {
  if (event.kind === "link" || event.kind === "address") return true;
  return "route" in event && event.route.protocol <= RTPROT_STATIC;
}

export class Driver {
  readonly engine: Engine;
  readonly fib: FibView;
  readonly journal: Journal;
  /** Undefined on a hub. */
  private readonly offering: Offering | undefined;
  private readonly routes: OwnRoutes;
  readonly clearGuard: ClearGuard;
  private readonly direct: DirectInterface;
  private readonly preshared: PresharedKeys;
  readonly sources: SourceGuard;
  private readonly tables: OwnTables;
  private readonly others: OthersRules;
  private readonly schedule: Schedule;
  /** The private keys of the overlay interfaces: they prove the registration. */
  private overlayKeys: ReadonlyMap<PublicKey, PrivateKey> = new Map();
  private readonly pollers: Pollers;
  private readonly steps: Steps;
  /** Aliases, offers and whatever else must follow them, in order. */
  private readonly routeTasks: TaskQueue;
  private readonly overlay: OverlayBinding;
  private watch: Awaited<ReturnType<RoutePort["watch"]>> | undefined;
  private cancelTimer: (() => void) | undefined;
  private timerAt = Number.POSITIVE_INFINITY;
  private hubDirty = false;
  /** The content of the guard's file that is to be written. */
  private guardText: string | undefined;
  private waysDirty = false;
  private ownRoutesDirty = false;
  /** Whether new flows are judged for themselves: firewalls here look at the state of connections. */
  private stateful = false;
  private stopping: (() => void) | undefined;

  constructor(
    readonly config: Config,
    private readonly router: ThisRouter,
    private readonly ports: Ports,
  ) {
    const { clock, log, routes } = ports;
    const journal = new Journal(clock, log);
    const input = (i: Input) => this.input(i);
    this.journal = journal;
    this.fib = new FibView(config.overlay, config.direct.interface, config.fibTable);
    this.schedule = new Schedule(clock, (place, e) => journal.problem(place, e.message));
    this.routeTasks = new TaskQueue((e) => journal.problem(e.place, e.message));
    this.preshared = this.presharedKeys();
    this.direct = this.directInterface();
    this.sources = new SourceGuard(
      ports.sources,
      ports.divert,
      { ...config.divert, vrf: config.vrf?.name, protocol: RTPROT_SHORTCUTD },
      config.direct.interface,
      () => this.hubDevices().find((dev) => this.fib.overlayDevices.includes(dev)),
      router.overlayAddresses.map(hostPrefix),
      (place, text) => journal.problem(place, text),
    );
    this.tables = this.ownTables();
    this.clearGuard = this.makeClearGuard();
    this.overlay = this.overlayBinding();
    this.others = this.othersRules();
    this.routes = new OwnRoutes({
      routes,
      clearGuard: this.clearGuard,
      clock,
      schedule: this.schedule,
      tasks: this.routeTasks,
      fib: this.fib,
      aliasTable: config.daemon?.table ?? config.fibTable,
      aliasPools: config.aliases,
      hasUnderneath: (prefix) => {
        const under = this.routing?.underneath(prefix);
        return under?.ok === true;
      },
      overlayWay: (prefix) => this.overlayWay(prefix),
      daemonUp: () => this.offering?.established ?? false,
    });
    if (config.daemon !== undefined) this.offering = this.offeringTo(config.daemon);
    this.engine = new Engine(
      engineConfig(config, router),
      {
        crypto: {
          shared: (theirs) => router.crypto.shared(theirs),
          overlayShared: (own, theirs) => {
            const key = this.overlayKeys.get(own);
            return key && router.crypto.x25519(key, theirs);
          },
          hmac: (key, data) => router.crypto.hmac(key, data),
        },
        randomBytes: router.randomBytes,
        routing: this.routingView(),
        preshared: (owner) => this.preshared.of(owner),
      },
      clock.now(),
    );
    this.pollers = new Pollers(config, {
      ...ports,
      journal,
      schedule: this.schedule,
      direct: this.direct,
      sources: this.sources,
      preshared: this.preshared,
      overlayDevices: () => this.fib.overlayDevices,
      overlayKeys: (keys) => {
        this.overlayKeys = keys;
      },
      shortcuts: () => this.engine.spoke?.shortcutStatus(this.ports.clock.now()) ?? [],
      overlay: this.overlay,
      reconcile: () => this.reconcile(),
      input,
    });
    this.steps = new Steps(this.bringUpSteps(), (e) => journal.problem(e.place, e.message));
  }

  /** The rules of other programs that may stop or translate what goes direct. */
  private othersRules(): OthersRules {
    const { config, ports, router } = this;
    return new OthersRules(
      {
        port: ports.ruleset,
        schedule: this.schedule,
        now: () => ports.clock.now(),
        changed: () => this.othersChanged(),
      },
      () => ({ overlay: this.fib.overlayDevices, direct: config.direct.interface }),
      router.self.address,
      router.overlayAddresses,
    );
  }

  private directInterface(): DirectInterface {
    const { config, router, ports, journal } = this;
    return new DirectInterface(
      config,
      router,
      ports,
      journal,
      (i) => this.input(i),
      () => (this.tables.verdict.ok ? this.others.verdict : this.tables.verdict),
      () => this.restoreRoutes(),
      () => this.engine.spoke?.directSites() ?? new PrefixMap(),
      () => this.fib.overlayDevices,
      // where no IPv4 packets go it does not matter how they are judged
      (dev) => this.pollers.hasIpv4(dev) || !this.fib.carriesIpv4(dev),
      // the rendezvous with a hub is not a pair of spokes
      (owner) => (config.hubs.includes(owner) ? undefined : this.preshared.key(owner)),
    );
  }

  private presharedKeys(): PresharedKeys {
    const { config, ports, router, journal } = this;
    return new PresharedKeys(ports.presharedKeys, config.psk.required, {
      hmac: (key, data) => router.crypto.hmac(key, data),
      changed: (owners) => this.direct.presharedKeysChanged(owners),
      problem: (place, text) => journal.problem(place, text),
    });
  }

  private makeClearGuard(): ClearGuard {
    const host = {
      fib: this.fib,
      put: (route: WantedRoute) => this.routes.guardClear(route, true),
      take: (route: WantedRoute) => this.routes.guardClear(route, false),
      save: (text: string) => this.saveGuard(text),
    };
    return new ClearGuard(host, this.config.guard);
  }

  private overlayBinding(): OverlayBinding {
    return new OverlayBinding(this.config, this.router.self.address, {
      ...this.ports,
      overlayTo: (to) => this.overlayTo(to),
      datagram: (dev, from, payload) => this.input({ kind: "datagram", dev, from, payload }),
      problem: (place, text) => this.journal.problem(place, text),
      changed: (verdict) => this.overlayChanged(verdict),
    });
  }

  /** The tables that other programs flush, each with its check and its restoration. */
  private ownTables(): OwnTables {
    const { config, ports, journal } = this;
    return new OwnTables(
      ports.tableWatch,
      [config.control.table, config.control.sourcesTable],
      [
        {
          place: `nftables table inet ${config.control.table}`,
          intact: () => ports.traffic.intact(),
          restore: () => this.setUpCounters(),
        },
        {
          place: `nftables table netdev ${config.control.table}`,
          intact: () => this.sources.intact(),
          restore: () => this.sources.restore(),
        },
      ],
      this.schedule,
      (place, text) => journal.problem(place, text),
      () => this.direct.checkUsable(),
    );
  }

  private routingView(): RoutingView {
    const { config, fib, journal, ports, routing } = this;
    // a hub sends nothing to candidates
    if (routing === undefined)
      return {
        underneath: () => ({ ...no({ kind: "hub-offers-nothing" }), gone: false }),
        routesItself: () => false,
        overlayTo: (to) => this.overlayTo(to),
        wayTo: () => "other",
      };
    const { fwmark: mark, port } = config.direct;
    const ways = new Ways(ports.routes, fib, { mark, port, vrf: config.vrf?.name }, (place, text) =>
      journal.problem(place, text),
    );
    return {
      underneath: (prefix) => routing.underneath(prefix),
      routesItself: (prefix) => routing.routesItself(prefix),
      overlayTo: (to) => routing.overlayTo(to),
      wayTo: (to) => ways.to(to),
    };
  }

  /** The overlay interfaces through which the FIB reaches an overlay address. */
  private overlayTo(to: Address): readonly string[] {
    return this.routing?.overlayTo(to) ?? this.fib.via(this.fib.lookup(to));
  }

  /** The overlay interfaces that lead to the hubs, that of the hub in use first. */
  private hubDevices(): readonly string[] {
    const { hubs, overlay } = this.config;
    const ways = [...new Set(hubs.flatMap((h) => this.overlayTo(h)))];
    if (ways.length > 0) return ways;
    // while no hub is routed, any interface is better than the underlay
    const { overlayDevices } = this.fib;
    return overlayDevices.length > 0 ? overlayDevices : overlay.patterns.filter((p) => !p.endsWith("*"));
  }

  /** The overlay interfaces that packets for a prefix leave through when they do not go direct. */
  private overlayWay(prefix: Prefix | undefined): readonly string[] {
    if (prefix !== undefined) {
      const under = this.routing?.underneath(prefix);
      if (under?.ok === true) return under.via;
    }
    return this.hubDevices();
  }

  private offeringTo(daemon: DaemonConfig): Offering {
    const { config, ports, router, journal } = this;
    return new Offering(config, daemon, {
      self: router.self.address,
      overlayAddresses: router.overlayAddresses,
      bgp: ports.bgp,
      daemon: ports.daemon,
      clock: ports.clock,
      log: ports.log,
      journal,
      schedule: this.schedule,
      tasks: this.routeTasks,
      fib: this.fib,
      routes: this.routes,
      input: (i) => this.input(i),
      resync: () => void this.schedule.attempt("resync", async () => this.watch?.resync()),
      sessionsChanged: () => {
        this.dropOverrides();
        this.offering?.examine("all");
      },
      arm: () => this.arm(),
    });
  }

  /** This router's own addresses on the overlay. */
  get overlayAddresses(): readonly Address[] {
    return this.router.overlayAddresses;
  }

  /** The routes that the daemon has itself; undefined on a hub. */
  get routing(): Routing | undefined {
    return this.offering?.routing;
  }

  /** For status: faults of this router's own interfaces that keep it from its work. */
  get problems(): readonly Reason[] {
    const { direct, overlay } = this;
    return [...overlay.problems, ...(direct.usable.ok ? [] : [direct.usable.reason])];
  }

  /** For status: the state of the sessions with the daemon, in words. */
  get sessionText(): string {
    return this.offering?.sessionText ?? "sessions established";
  }

  // ------------------------------------------------------------------------------------------ start and stop

  /**
   * Removes leftovers, then brings everything up. On failure everything that was brought up is taken down again before
   * the error is passed on.
   */
  async start(): Promise<void> {
    try {
      await this.steps.up();
    } catch (e) {
      await this.takeDown();
      throw asPortError("start", e);
    }
    const { config, ports, router } = this;
    ports.log.info("started", {
      role: config.role,
      address: router.self.address,
      daemon: config.daemon?.kind,
    });
  }

  /** Puts in force what may change while it runs; everything else of the configuration stays as it was at the start. */
  reload(config: Config): void {
    applyReload(this.engine.config, config);
    this.pollers.trafficInterval = config.trigger.interval;
    this.input({ kind: "pins", pins: config.pins });
    this.arm();
  }

  /** Leaves the router as it was. Resolves when that is so, or when the deadline has passed and everything was removed by force. */
  async stop(): Promise<void> {
    if (this.schedule.ended) return;
    this.direct.end();
    await new Promise<void>((resolve) => {
      const cancel = this.ports.clock.after(STOP_DEADLINE_MS, () => {
        this.journal.problem("stop", "the other ends did not answer in time");
        resolve();
      });
      this.stopping = () => {
        cancel();
        resolve();
      };
      this.input({ kind: "stop" });
    });
    await this.takeDown();
  }

  private async takeDown(): Promise<void> {
    if (this.schedule.ended) return;
    this.direct.end();
    await this.routeTasks.drained();
    await this.direct.tasks.drained();
    this.schedule.end();
    this.offering?.end();
    this.cancelTimer?.();
    await this.steps.down();
  }

  /**
   * Everything that a running shortcutd has made, in the order of bring-up. The control port comes first, so that a second
   * shortcutd disturbs nothing. Our routes stand after the direct interface and before the sessions: on the way down the
   * daemon withdraws first, then our routes go, and then the interface that they pointed at.
   */
  private bringUpSteps(): Step[] {
    const { direct, ports, sources } = this;
    return [
      { place: "daemon", down: () => ports.daemon?.close() },
      { place: "control socket", up: () => this.overlay.open(), down: () => this.overlay.close() },
      { place: "guard", up: () => this.loadGuard() },
      { place: "pre-shared keys", up: () => this.preshared.read() },
      { place: "leftovers", up: () => this.clearLeftovers() },
      { place: "guard routes", down: () => this.routes.removeClearGuard() },
      { place: "source guard", up: () => sources.begin(), down: () => sources.remove() },
      { place: "direct interface", up: () => direct.ensure(), down: () => direct.destroy() },
      { place: "overrides", down: () => this.removeOverrides() },
      { place: "aliases", down: () => this.routes.removeAliasesAndNets() },
      { place: "counters", up: () => this.setUpCounters(), down: () => ports.traffic.tearDown() },
      { place: "watch", up: () => this.openWatch(), down: () => this.watch?.close() },
      // rules are read as they apply to the overlay interfaces, which the watch has told
      { place: "table watch", up: () => this.watchRules(), down: () => this.tables.end() },
      { place: "probe socket", up: () => direct.openProbes(), down: () => direct.closeProbes() },
      { place: "ping socket", up: () => direct.openPings(), down: () => direct.closePings() },
      { place: "first reading", up: () => this.readFirst() },
      { place: "feed session", down: () => this.offering?.stopFeed() },
      { place: "offers session", up: () => this.offering?.start(), down: () => this.offering?.stopOffers() },
      {
        place: "pollers",
        up: () => {
          this.pollers.start();
          this.offering?.poll();
          this.arm();
        },
      },
    ];
  }

  /** A hub forwards nothing between direct paths: others' rules do not matter there. */
  private async watchRules(): Promise<void> {
    const hub = this.config.role === "hub";
    this.tables.begin(() => hub || this.others.changedSoon());
    if (!hub) await this.schedule.attempt("nftables ruleset", () => this.others.read());
  }

  private othersChanged(): void {
    this.direct.rulesChanged();
    this.sources.natCoversDirect(this.others.translatesDirect);
    // in a VRF packets pass the first hook twice, and a first packet would look like a second one
    const stateful = this.others.stateful && this.config.vrf === undefined;
    if (stateful !== this.stateful) {
      this.stateful = stateful;
      void this.schedule.attempt("counters", () => this.setUpCounters());
    }
    this.direct.checkUsable();
  }

  private setUpCounters(): Promise<void> {
    const { config } = this;
    return this.ports.traffic.setUp({
      table: config.control.table,
      overlay: config.overlay.patterns,
      direct: config.direct.interface,
      inVrf: config.vrf !== undefined,
      stateful: this.stateful,
      divertMark: config.divert.mark,
      controlPort: config.control.port,
      mask4: config.trigger.mask4,
      mask6: config.trigger.mask6,
      timeoutSeconds: 60,
    });
  }

  private async openWatch(): Promise<void> {
    const { daemon, fibTable } = this.config;
    const tables = daemon === undefined ? [fibTable] : [...new Set([fibTable, daemon.table])];
    this.watch = await this.ports.routes.watch(
      tables,
      () => true,
      (event) => this.routeEvent(event),
    );
    this.clearGuard.begin();
    this.clearGuard.attested(this.config.hubs.map(hostPrefix));
  }

  /** Reads once what the pollers read later, so that the engine knows the router before the daemon's sessions start. */
  private async readFirst(): Promise<void> {
    await this.pollers.readAddresses();
    await this.pollers.readOverlay();
    await this.direct.poll();
    this.direct.checkUsable();
  }

  /** Reads what former runs have remembered. A file that cannot be used is said, and begun again. */
  private async loadGuard(): Promise<void> {
    const { guard } = this.config;
    try {
      const text = await this.ports.guardFile.load();
      const loaded = text === undefined ? undefined : this.clearGuard.load(text);
      if (loaded?.ok === false) throw new PortError(guard.file, loaded.error, "it is written again");
    } catch (e) {
      this.journal.problem("guard", asPortError("guard", e).message);
    }
  }

  private saveGuard(text: string): void {
    this.guardText = text;
    this.schedule.later(GUARD_SAVE_DELAY_MS, () => {
      if (this.guardText !== text) return;
      void this.schedule.attempt("guard", () => this.ports.guardFile.save(text));
    });
  }

  private async removeOverrides(): Promise<void> {
    const pointing = await this.routes.daemonPointingDirect();
    await this.routes.removeOverrides(pointing);
    if (pointing.length === 0) return;
    const { direct, overlay } = this.config;
    this.journal.problem(
      "stop",
      `the daemon still routes ${pointing.join(", ")} via ${direct.interface}; a route of shortcutd's keeps it on ${overlay.toString()} until the next start`,
    );
  }

  /** Removes what a crash left: routes first, then the peers that they pointed at. */
  private async clearLeftovers(): Promise<void> {
    const peers = await this.direct.leftoverPeers();
    const routes = await this.routes.clearLeftovers(peers.length > 0);
    await this.direct.removeLeftovers(peers);
    if (routes + peers.length > 0)
      this.ports.log.warn("removed what a former run left", { routes, peers: peers.length });
  }

  // ------------------------------------------------------------------------------------------ facts from the kernel

  private routeEvent(event: RouteEvent): void {
    const touched = this.fib.apply(event);
    for (const link of event.kind === "link" ? [event.link] : event.kind === "snapshot" ? event.links : [])
      this.sources.linkSeen(link.name, link.ifindex);
    if (event.kind === "link" || event.kind === "snapshot") this.others.linksChanged();
    const { direct, overlay } = this.config;
    if (concerns(event, (name) => name === direct.interface))
      void this.schedule.attempt("direct interface", () => this.direct.poll());
    if (concerns(event, (name) => overlay.has(name))) {
      this.direct.checkUsable();
      void this.schedule.attempt("overlay interface", () => this.overlay.follow());
    }
    if (this.config.role === "hub") this.tellHub();
    else this.tellSpoke(event);
    if (touched !== "all" && touched.length === 0) return;
    this.clearGuard.touched(touched);
    this.followHub();
    this.dropOverrides();
    this.offering?.examine(touched);
    this.offering?.igpTouched(touched);
  }

  /** Own routes that hold a prefix on the overlay go where the daemon's would: to another hub when one is lost. */
  private followHub(): void {
    if (this.ownRoutesDirty) return;
    this.ownRoutesDirty = true;
    this.schedule.later(OWN_ROUTES_DELAY_MS, () => {
      this.ownRoutesDirty = false;
      this.routes.follow("all");
    });
  }

  /** The overlay interface went, or is there again: its peers are read first, then the hubs are asked. */
  private overlayChanged(verdict: Verdict): void {
    if (!verdict.ok) {
      this.input({ kind: "overlay", verdict });
      return;
    }
    void this.schedule.attempt("overlay interface", async () => {
      await this.pollers.readOverlay();
      this.input({ kind: "overlay", verdict });
    });
    this.restoreRoutes();
  }

  private tellSpoke(event: RouteEvent): void {
    if (changesAddresses(event)) this.pollers.addressesChanged();
    if (this.waysDirty) return;
    this.waysDirty = true;
    this.schedule.later(WAYS_DELAY_MS, () => {
      this.waysDirty = false;
      this.sources.routesChanged();
      this.input({ kind: "ways-changed" });
    });
  }

  private tellHub(): void {
    if (this.hubDirty) return;
    this.hubDirty = true;
    this.schedule.later(ATTESTATION_DELAY_MS, () => {
      this.hubDirty = false;
      this.input({ kind: "fib", routes: this.fib.attestable() });
    });
  }

  /** Overrides that no machine knows (found at start) go when they are not needed any more. */
  private dropOverrides(): void {
    this.routes.dropFound((prefix) =>
      (this.engine.spoke?.shortcutStatus(this.ports.clock.now()) ?? []).some((s) =>
        s.prefixes.some((p) => p.prefix === prefix),
      ),
    );
  }

  // ------------------------------------------------------------------------------------------ the engine

  input(input: Input): void {
    if (this.schedule.ended) return;
    this.engine.handleInput(this.ports.clock.now(), input);
    this.drainOutputs();
  }

  private drainOutputs(): void {
    for (;;) {
      const o = this.engine.pollOutput();
      if (o === undefined) break;
      this.perform(o);
    }
    this.arm();
  }

  private arm(): void {
    if (this.schedule.ended) return;
    const now = this.ports.clock.now();
    const at = Math.min(
      this.engine.pollTimeout() ?? Number.POSITIVE_INFINITY,
      this.offering?.pollTimeout() ?? Number.POSITIVE_INFINITY,
    );
    if (at === this.timerAt) return;
    this.cancelTimer?.();
    this.timerAt = at;
    if (at === Number.POSITIVE_INFINITY) return;
    this.cancelTimer = this.ports.clock.after(Math.max(0, at - now), () =>
      this.ports.clock.afterReading(() => {
        this.timerAt = Number.POSITIVE_INFINITY;
        if (this.schedule.ended) return;
        this.engine.handleTimeout(this.ports.clock.now());
        this.drainOutputs();
        this.offering?.recheckPending();
        this.arm();
      }),
    );
  }

  private perform(o: Output): void {
    switch (o.kind) {
      case "send":
        this.overlay.send(o.to, o.payload);
        return;
      case "probing":
        this.direct.probe(o);
        return;
      case "ping":
        this.direct.sendPing(o);
        return;
      case "alias":
      case "offer":
      case "update-classes":
      case "withdraw":
      case "explain":
        this.offering?.perform(o);
        return;
      case "peer":
        this.direct.setPeer(o.owner, o.want);
        return;
      case "unpeer":
        this.direct.removePeer(o.publicKey);
        return;
      case "attested":
        this.clearGuard.attested(o.prefixes);
        // the daemon is asked early for what the feed does not tell
        for (const p of o.prefixes) this.routing?.underneath(p);
        return;
      case "own-prefixes":
        this.sources.attested(o.prefixes);
        this.others.own(o.prefixes);
        return;
      case "inspect-hubs":
        void this.schedule.attempt("read the overlay's peers", () => this.pollers.readOverlay());
        this.offering?.inspectHubs(o.hubs);
        return;
      case "override":
        this.routes.setOverride(o.prefix, o.want);
        return;
      case "transition":
        this.journal.transition(o.transition);
        return;
      case "milestone":
        this.journal.milestone(o.owner, o.milestone, o.detail, o.ago);
        return;
      case "problem":
        this.journal.problem(o.place, o.problem);
        return;
      case "stopped":
        this.stopping?.();
        return;
      default:
        unreachable(o);
    }
  }

  // ------------------------------------------------------------------------------------------ reconciliation

  /** Sets the routes again that went with an interface. */
  private restoreRoutes(): void {
    void this.schedule.attempt("reconcile", async () => {
      await this.routeTasks.drained();
      await this.routes.reconcile((text) => this.journal.problem("reconcile", text));
      this.offering?.examine("all");
    });
  }

  /** Declared against actual: a peer or an alias that somebody removed comes back, what nobody wants goes. */
  private async reconcile(): Promise<void> {
    if (this.stopping !== undefined) return;
    await this.routeTasks.drained();
    await this.direct.tasks.drained();
    await this.routes.reconcile((text) => this.journal.problem("reconcile", text));
    await this.direct.reconcile();
    await this.tables.check();
    this.offering?.examine("all");
    this.sources.routesChanged();
    this.input({ kind: "ways-changed" });
  }
}
