/**
 * The driver feeds one engine with what the ports observe, and carries out what the engine wants. OwnRoutes and
 * DirectInterface keep the declared state of the kernel, Offering what stands offered to the daemon, Pollers read what is
 * not announced; here are start and stop, and the loop. No I/O: every port comes from outside, time included.
 */

import type { Config, DaemonConfig } from "../config/config.js";
import { hostPrefix } from "../net/address.js";
import type { PrivateKey, PublicKey } from "../net/key.js";
import { unreachable } from "../net/result.js";
import type { Crypto } from "../shortcut/control/pair-secrets.js";
import { Engine } from "../shortcut/engine.js";
import type { Input, Output } from "../shortcut/events.js";
import { no } from "../shortcut/reasons.js";
import type { RouteEvent } from "../wire/netlink/fib.js";
import { Offering } from "./daemon/offering.js";
import type { Routing } from "./daemon/underneath.js";
import { applyReload, engineConfig } from "./engine-config.js";
import { type DirectEnds, DirectInterface, type DirectPorts } from "./kernel/direct-interface.js";
import { FibView } from "./kernel/fib-view.js";
import { OwnRoutes } from "./kernel/own-routes.js";
import { OwnTables } from "./kernel/own-tables.js";
import { SourceGuard } from "./kernel/source-guard.js";
import { Pollers } from "./pollers.js";
import type {
  BgpPort,
  DaemonPort,
  DatagramSocket,
  RoutePort,
  SourceGuardPort,
  TableWatchPort,
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
  readonly tableWatch: TableWatchPort;
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
/** A stop that takes longer gives up waiting for the other ends. */
const STOP_DEADLINE_MS = 15_000;

export class Driver {
  readonly engine: Engine;
  readonly fib: FibView;
  readonly journal: Journal;
  /** Undefined on a hub. */
  private readonly offering: Offering | undefined;
  private readonly routes: OwnRoutes;
  private readonly direct: DirectInterface;
  readonly sources: SourceGuard;
  private readonly tables: OwnTables;
  private readonly schedule: Schedule;
  /** The private key of the overlay interface: it proves the registration. */
  private overlayKey: PrivateKey | undefined;
  private readonly pollers: Pollers;
  private readonly steps: Steps;
  /** Aliases, offers and whatever else must follow them, in order. */
  private readonly routeTasks: TaskQueue;
  private control: DatagramSocket | undefined;
  private watch: Awaited<ReturnType<RoutePort["watch"]>> | undefined;
  private cancelTimer: (() => void) | undefined;
  private timerAt = Number.POSITIVE_INFINITY;
  private hubDirty = false;
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
    this.direct = new DirectInterface(config, router, ports, journal, input, () => this.tables.verdict);
    this.sources = new SourceGuard(
      ports.sources,
      { direct: config.direct.interface, overlay: config.overlay },
      router.overlayAddresses.map(hostPrefix),
      (place, text) => journal.problem(place, text),
    );
    this.tables = this.ownTables();
    this.routes = new OwnRoutes({
      routes,
      clock,
      schedule: this.schedule,
      tasks: this.routeTasks,
      fib: this.fib,
      aliasTable: config.daemon?.table ?? config.fibTable,
      hasUnderneath: (prefix) => {
        const under = this.routing?.underneath(prefix);
        return under?.ok === true;
      },
      daemonUp: () => this.offering?.established ?? false,
    });
    if (config.daemon !== undefined) this.offering = this.offeringTo(config.daemon);
    this.engine = new Engine(
      engineConfig(config, router),
      {
        crypto: {
          shared: (theirs) => router.crypto.shared(theirs),
          overlayShared: (theirs) => this.overlayKey && router.crypto.x25519(this.overlayKey, theirs),
          hmac: (key, data) => router.crypto.hmac(key, data),
        },
        randomBytes: router.randomBytes,
        routing: this.routing ?? {
          underneath: () => ({ ...no({ kind: "hub-offers-nothing" }), gone: false }),
          routesItself: () => false,
          wayTo: () => "other",
        },
      },
      clock.now(),
    );
    this.pollers = new Pollers(config, {
      ...ports,
      journal,
      schedule: this.schedule,
      direct: this.direct,
      sources: this.sources,
      overlayKey: (key) => {
        this.overlayKey = key;
      },
      shortcuts: () => this.engine.spoke?.shortcutStatus(this.ports.clock.now()) ?? [],
      reconcile: () => this.reconcile(),
      input,
    });
    this.steps = new Steps(this.bringUpSteps(), (e) => journal.problem(e.place, e.message));
  }

  /** The tables that other programs flush, each with its check and its restoration. */
  private ownTables(): OwnTables {
    const { config, ports, journal } = this;
    return new OwnTables(
      ports.tableWatch,
      [config.control.table],
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

  /** The routes that the daemon has itself; undefined on a hub. */
  get routing(): Routing | undefined {
    return this.offering?.routing;
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
    this.arm();
  }

  /** Leaves the router as it was. Resolves when that is so, or when the deadline has passed and everything was removed by force. */
  async stop(): Promise<void> {
    if (this.schedule.ended) return;
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
      { place: "control socket", up: () => this.openControl(), down: () => this.control?.close() },
      { place: "leftovers", up: () => this.clearLeftovers() },
      { place: "source guard", up: () => sources.begin(), down: () => sources.remove() },
      { place: "direct interface", up: () => direct.ensure(), down: () => direct.destroy() },
      { place: "overrides", down: () => this.removeOverrides() },
      { place: "aliases", down: () => this.routes.removeAliasesAndNets() },
      { place: "counters", up: () => this.setUpCounters(), down: () => ports.traffic.tearDown() },
      { place: "table watch", up: () => this.tables.begin(), down: () => this.tables.end() },
      { place: "watch", up: () => this.openWatch(), down: () => this.watch?.close() },
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

  private setUpCounters(): Promise<void> {
    const { config } = this;
    return this.ports.traffic.setUp({
      table: config.control.table,
      overlay: config.overlay,
      direct: config.direct.interface,
      inVrf: config.vrf !== undefined,
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
  }

  /** Reads once what the pollers read later, so that the engine knows the router before the daemon's sessions start. */
  private async readFirst(): Promise<void> {
    await this.pollers.readAddresses();
    await this.pollers.readOverlay();
    await this.direct.poll();
    this.direct.checkUsable();
  }

  private async removeOverrides(): Promise<void> {
    const pointing = await this.routes.daemonPointingDirect();
    await this.routes.removeOverrides(pointing);
    if (pointing.length === 0) return;
    const { direct, overlay } = this.config;
    this.journal.problem(
      "stop",
      `the daemon still routes ${pointing.join(", ")} via ${direct.interface}; a route of shortcutd's keeps it on ${overlay} until the next start`,
    );
  }

  private async openControl(): Promise<void> {
    const { config, ports, router } = this;
    this.control = await ports.datagrams.open(
      { dev: config.overlay, address: router.self.address, port: config.control.port },
      (from, payload) => this.input({ kind: "datagram", from, payload }),
      (e) => this.journal.problem(e.place, e.message),
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
    if (
      event.kind === "link" &&
      (event.link.name === this.config.overlay || event.link.name === this.config.direct.interface)
    )
      this.direct.checkUsable();
    if (this.config.role === "hub") this.tellHub();
    else if (event.kind === "link" || (event.kind !== "snapshot" && event.route.protocol <= RTPROT_STATIC))
      this.pollers.addressesChanged();
    if (touched !== "all" && touched.length === 0) return;
    this.dropOverrides();
    this.offering?.examine(touched);
    if (touched !== "all") this.offering?.igpTouched(touched);
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
        this.control?.send(o.to, o.payload);
        return;
      case "probing":
        this.direct.probe(o.owner, o.publicKey, o.session);
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
        this.direct.setPeer(o.want);
        return;
      case "unpeer":
        this.direct.removePeer(o.publicKey);
        return;
      case "own-prefixes":
        this.sources.attested(o.prefixes);
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

  /** Declared against actual: a peer or an alias that somebody removed comes back, what nobody wants goes. */
  private async reconcile(): Promise<void> {
    if (this.stopping !== undefined) return;
    await this.routeTasks.drained();
    await this.direct.tasks.drained();
    await this.routes.reconcile((text) => this.journal.problem("reconcile", text));
    await this.direct.reconcile();
    await this.tables.check();
    this.offering?.examine("all");
  }
}
