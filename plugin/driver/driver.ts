/**
 * The driver: it feeds one engine with what the ports observe, carries out what the engine wants, and keeps what should be in the kernel as a declared state
 * that is compared with the kernel again and again. No I/O here: every port comes from outside, time included.
 */
import { type Address, type Endpoint, familyOf, hostPrefix, type Prefix } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import { unreachable } from "../net/result.js";
import { Engine, type EngineConfig } from "../shortcut/engine.js";
import type { Input, Output, PeerWant } from "../shortcut/events.js";
import { linkLocalOf } from "../shortcut/linklocal.js";
import { largeCommunityFromParts } from "../wire/bgp/community.js";
import type { RouteEvent } from "../wire/netlink/fib.js";
import { decodeProbe, encodeProbe } from "../wire/probe.js";
import { type Config, MAIN_TABLE } from "./config.js";
import { FibView, RTPROT_SHORTCUTD } from "./fibview.js";
import { ForwardingCheck } from "./forwarding.js";
import { Journal } from "./journal.js";
import type {
  BgpPort,
  Clock,
  DaemonPort,
  DatagramPort,
  DatagramSocket,
  HostPort,
  LogPort,
  PortError,
  RoutePort,
  SpeakerPort,
  TrafficPort,
  WireGuardPort,
} from "./ports.js";
import { reconcilePeers, reconcileRoutes, type WantedRoute } from "./reconcile.js";
import { Routing } from "./routing.js";
import { birdRule, frrRule, SelectionWatcher } from "./selection.js";
import { asPortError, TaskQueue } from "./tasks.js";

export interface Ports {
  readonly clock: Clock;
  readonly host: HostPort;
  readonly routes: RoutePort;
  readonly wireguard: WireGuardPort;
  readonly traffic: TrafficPort;
  readonly datagrams: DatagramPort;
  readonly bgp: BgpPort;
  /** Undefined on a hub. */
  readonly daemon: DaemonPort | undefined;
  readonly log: LogPort;
}

/** What main found out before it made a driver. */
export interface Router {
  readonly self: EngineConfig["self"];
  readonly privateKey: Parameters<WireGuardPort["ensure"]>[0]["privateKey"];
  /** All addresses of the overlay interface. */
  readonly overlayAddresses: readonly Address[];
  readonly overlayMtu: number;
  readonly crypto: ConstructorParameters<typeof Engine>[1]["crypto"];
  readonly randomBytes: (n: number) => Uint8Array;
}

/** Metric of alias routes; of overrides, lower than BIRD's 32 and FRR's 20. */
const ALIAS_METRIC = 99;
const OVERRIDE_METRIC = 1;
/**
 * Metric of the net that is held under a prefix while its route changes: FRR replaces an IPv6 route by delete and add, and in between
 * the packet would follow a default route into the underlay, in the clear. The highest byte is what zebra takes for
 * a kernel route's distance (zebra/zebra_rib.c): 255 is never used.
 */
const NET_METRIC = 0xff000000;
/** How long a change may take. Milliseconds. */
const NET_HOLD = 1_500;
/**
 * How long the net stays when the daemon itself went: zebra takes a dead bgpd's routes out of the FIB at once, BIRD does when it starts
 * again, and until the hub's routes are learnt anew there would be none. Milliseconds.
 */
const NET_HOLD_DEAD = 30_000;
/** How often peers are read while a handshake is awaited, and otherwise. */
const FAST_POLL = 100;
const SLOW_POLL = 1_000;
const OVERLAY_POLL = 3_000;
/** How often forwarded packets are compared with those that pass the firewall: soon after a flip, and otherwise. */
const FORWARDING_FAST = 150;
const FORWARDING_SLOW = 500;
const FRESH = 3_000;
const RECONCILE = 10_000;
/** A stop that takes longer gives up waiting for the other ends. */
const STOP_DEADLINE = 15_000;

export class Driver {
  readonly engine: Engine;
  readonly fib: FibView;
  readonly journal: Journal;
  readonly routing: Routing | undefined;
  private readonly selection: SelectionWatcher | undefined;
  private readonly routeTasks: TaskQueue;
  private readonly tunnelTasks: TaskQueue;
  private readonly aliases = new Map<Address, WantedRoute>();
  private readonly overrides = new Map<Prefix, WantedRoute>();
  private readonly nets = new Map<Prefix, { readonly route: WantedRoute; until: number }>();
  private readonly peers = new Map<PublicKey, PeerWant>();
  private readonly owners = new Map<Address, Address>();
  private readonly standing = new Map<Prefix, Address>();
  private control: DatagramSocket | undefined;
  private probes: { readonly socket: DatagramSocket; readonly linkLocal: boolean } | undefined;
  private offers: SpeakerPort | undefined;
  private feed: SpeakerPort | undefined;
  private watch: Awaited<ReturnType<RoutePort["watch"]>> | undefined;
  private session = { offers: false, feed: false, reason: "not yet connected to the daemon" };
  private told: string | undefined;
  private usable: string | undefined;
  private readonly forwarding: ForwardingCheck;
  private directGone = false;
  private cancelTimer: (() => void) | undefined;
  private timerAt = Number.POSITIVE_INFINITY;
  private readonly cancels = new Set<() => void>();
  private hubDirty = false;
  private stopping: (() => void) | undefined;
  private ended = false;

  constructor(
    readonly config: Config,
    private readonly router: Router,
    private readonly ports: Ports,
  ) {
    const { clock, log } = ports;
    this.journal = new Journal(clock, log);
    this.forwarding = new ForwardingCheck(config.direct.interface, router.self.address);
    this.fib = new FibView(config.overlay, config.direct.interface, MAIN_TABLE);
    const onError = (e: PortError) => this.journal.problem(e.place, e.message);
    this.routeTasks = new TaskQueue(onError);
    this.tunnelTasks = new TaskQueue(onError);
    const d = config.daemon;
    if (d !== undefined) {
      const { speaker: offers } = this.openOffers(d);
      const { speaker: feed, rib } = this.openFeed(d);
      this.offers = offers;
      this.feed = feed;
      this.routing = new Routing({
        fib: this.fib,
        feed: rib,
        pools: config.aliases,
        session: { localAs: d.offersAs, remoteAs: d.as },
        anyType: d.kind === "bird",
        offerCommunity: largeCommunityFromParts(d.as, 1, 1),
      });
      this.selection = new SelectionWatcher(d.kind === "bird" ? birdRule(d.table) : frrRule, this.fib);
    }
    this.engine = new Engine(
      engineConfig(config, router),
      {
        crypto: router.crypto,
        randomBytes: router.randomBytes,
        routing: this.routing ?? { underneath: () => ({ refusal: "a hub offers nothing" }) },
      },
      clock.now(),
    );
  }

  // ------------------------------------------------------------------------------------------ start and stop

  /**
   * Removes leftovers, then brings everything up. On failure everything that was brought up is taken down again before
   * the error is passed on.
   */
  async start(): Promise<void> {
    try {
      await this.bringUp();
    } catch (e) {
      await this.takeDown();
      throw asPortError("start", e);
    }
  }

  private async bringUp(): Promise<void> {
    const { config, ports, router } = this;
    await this.openControl();
    await this.clearLeftovers();
    await this.ensureDirect();
    await ports.traffic.setUp({
      table: config.control.table,
      overlay: config.overlay,
      direct: config.direct.interface,
      controlPort: config.control.port,
      mask4: config.trigger.mask4,
      mask6: config.trigger.mask6,
      timeoutSeconds: 60,
    });
    const tables =
      config.daemon === undefined ? [MAIN_TABLE] : [...new Set([MAIN_TABLE, config.daemon.table])];
    this.watch = await ports.routes.watch(
      tables,
      () => true,
      (event) => this.routeEvent(event),
    );
    await this.openProbes();
    await this.pollOverlay();
    await this.pollDirect();
    this.checkUsable();
    this.offers?.start();
    this.feed?.start();
    this.every(OVERLAY_POLL, () => this.pollOverlay());
    this.every(RECONCILE, () => this.reconcile());
    this.pollPeersLater();
    if (config.role === "spoke") {
      this.every(config.trigger.interval, () => this.readTraffic());
      this.checkForwardingLater();
    }
    this.arm();
    ports.log.info("started", {
      role: config.role,
      address: router.self.address,
      daemon: config.daemon?.kind,
    });
  }

  /** Leaves the router as it was. Resolves when that is so, or when the deadline has passed and everything was removed by force. */
  async stop(): Promise<void> {
    if (this.ended) return;
    await new Promise<void>((resolve) => {
      const cancel = this.ports.clock.after(STOP_DEADLINE, () => {
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
    if (this.ended) return;
    const attempt = async (place: string, step: () => Promise<void>) => {
      try {
        await step();
      } catch (e) {
        this.journal.problem(place, asPortError(place, e).message);
      }
    };
    const { config, ports } = this;
    await this.routeTasks.drained();
    await this.tunnelTasks.drained();
    this.ended = true;
    for (const cancel of this.cancels) cancel();
    this.cancelTimer?.();
    await attempt("offers session", async () => this.offers?.stop());
    await attempt("feed session", async () => this.feed?.stop());
    await attempt("aliases", async () => {
      const nets = [...this.nets.values()].map((n) => n.route);
      for (const r of [...this.aliases.values(), ...nets])
        await ports.routes.remove({ ...r, protocol: RTPROT_SHORTCUTD });
    });
    let pointing: readonly Prefix[] = [];
    await attempt("overrides", async () => {
      pointing = await this.daemonPointsDirect();
      // deleting the interface would send this traffic to the underlay's default route, in the clear
      for (const p of pointing) {
        this.overrides.delete(p);
        await ports.routes.replace({ ...this.overrideRoute(p), protocol: RTPROT_SHORTCUTD });
      }
      for (const r of this.overrides.values())
        await ports.routes.remove({ ...r, protocol: RTPROT_SHORTCUTD });
    });
    if (pointing.length > 0)
      this.journal.problem(
        "stop",
        `the daemon still routes ${pointing.join(", ")} by ${config.direct.interface}; a route of ours holds it on ${config.overlay} until the next start`,
      );
    await attempt("watch", async () => this.watch?.close());
    await attempt("control socket", async () => this.control?.close());
    await attempt("probe socket", async () => this.probes?.socket.close());
    await attempt("counters", () => ports.traffic.tearDown());
    if (this.directMade)
      await attempt("direct interface", () => ports.wireguard.destroy(config.direct.interface));
    await attempt("daemon", async () => ports.daemon?.close());
  }

  private directMade = false;

  /** Read afresh: what was watched may be behind, or not yet begun. Also where an override hides it. */
  private async daemonPointsDirect(): Promise<readonly Prefix[]> {
    const { config, ports } = this;
    const view = new FibView(config.overlay, config.direct.interface, MAIN_TABLE);
    view.apply({ kind: "snapshot", routes: await ports.routes.dump(MAIN_TABLE), links: [] });
    return view.daemonPointingDirect().map((r) => r.prefix);
  }

  private async openControl(): Promise<void> {
    const { config, ports, router } = this;
    this.control = await ports.datagrams.open(
      { dev: config.overlay, address: router.self.address, port: config.control.port },
      (from, payload) => this.input({ kind: "datagram", from, payload }),
      (e) => this.journal.problem(e.place, e.message),
    );
  }

  /**
   * After a crash: aliases go back to the overlay first, then they and the overrides go, then the peers. The daemon
   * withdrew the offers when the session died, so nothing points at them for long.
   */
  private async clearLeftovers(): Promise<void> {
    const { config, ports } = this;
    const table = config.daemon?.table ?? MAIN_TABLE;
    const tables = [...new Set([MAIN_TABLE, table])];
    const found = (await Promise.all(tables.map((t) => ports.routes.dump(t)))).flat();
    const steps = reconcileRoutes([], found);
    for (const s of steps)
      if (s.dev === config.direct.interface && s.metric === ALIAS_METRIC)
        await ports.routes.replace({ ...s, dev: config.overlay, protocol: RTPROT_SHORTCUTD });
    const device = await ports.wireguard.device(config.direct.interface);
    if (device !== undefined && device.peers.length > 0) await this.awaitFibFree(tables);
    const view = new FibView(config.overlay, config.direct.interface, MAIN_TABLE);
    view.apply({ kind: "snapshot", routes: await ports.routes.dump(MAIN_TABLE), links: [] });
    for (const s of steps) {
      if (s.table === MAIN_TABLE && s.metric === OVERRIDE_METRIC && this.overrideNeeded(view, s.prefix))
        this.overrides.set(s.prefix, this.overrideRoute(s.prefix));
      else await ports.routes.remove({ ...s, protocol: RTPROT_SHORTCUTD });
    }
    for (const p of device?.peers ?? [])
      await ports.wireguard.removePeer(config.direct.interface, p.publicKey);
    if (steps.length + (device?.peers.length ?? 0) > 0)
      ports.log.warn("removed what a former run left", {
        routes: steps.length,
        peers: device?.peers.length ?? 0,
      });
  }

  /** Waits until no FIB route points at the direct interface; after a second overrides those that do. */
  private async awaitFibFree(tables: readonly number[]): Promise<void> {
    const { config, ports } = this;
    const view = new FibView(config.overlay, config.direct.interface, MAIN_TABLE);
    for (let i = 0; ; i++) {
      const routes = (await Promise.all(tables.map((t) => ports.routes.dump(t)))).flat();
      view.apply({ kind: "snapshot", routes, links: [] });
      const pointing = view.pointingDirect().filter((r) => r.protocol !== RTPROT_SHORTCUTD);
      if (pointing.length === 0) return;
      if (i >= 20) {
        for (const r of pointing) {
          const wanted = this.overrideRoute(r.prefix);
          this.overrides.set(r.prefix, wanted);
          await ports.routes.replace({ ...wanted, protocol: RTPROT_SHORTCUTD });
        }
        return;
      }
      await new Promise<void>((resolve) => ports.clock.after(50, resolve));
    }
  }

  /**
   * Without the override the prefix would go by the direct interface, or nowhere but the underlay's default route: a daemon that is dead lost its
   * route with the interface. One that is alive and has no route wants none.
   */
  private overrideNeeded(view: FibView, prefix: Prefix): boolean {
    const path = view.pathOf(view.daemonBest(prefix));
    return path === "direct" || (path === "none" && !(this.session.offers && this.session.feed));
  }

  private async ensureDirect(): Promise<void> {
    const { config, ports, router } = this;
    // When an interface goes, bgpd (FRR 8.4 to 10.6 at least; FRRouting/frr pull request 23054) takes the IPv6 addresses that it carried away from
    // its sessions, though another interface still has them, and announces every IPv6 route with a next hop that hubs refuse.
    // IPv6 has no rp_filter, so only the source of the router's own packets is left to the kernel's choice.
    const carries6 = config.daemon?.kind === "bird";
    const own = router.overlayAddresses.filter((a) => carries6 || familyOf(a) === 4).map(hostPrefix);
    const linkLocal = hostPrefix(linkLocalOf(router.self.publicKey));
    const made = await ports.wireguard.ensure({
      name: config.direct.interface,
      privateKey: router.privateKey,
      listenPort: config.direct.port,
      mtu: router.overlayMtu,
      addresses: [...own, linkLocal],
    });
    this.directMade = true;
    if (made.created)
      ports.log.info("direct interface created", {
        interface: config.direct.interface,
        backend: made.backend,
      });
  }

  private async openProbes(): Promise<void> {
    const { config, ports, router } = this;
    const dev = config.direct.interface;
    const linkLocal = ports.host.ipv6Enabled(dev);
    const address = linkLocal ? linkLocalOf(router.self.publicKey) : router.self.address;
    const socket = await ports.datagrams.open(
      { dev, address, port: config.control.port },
      (from, payload) => this.probeArrived(from, payload),
      (e) => {
        // a probe that cannot be sent is a probe that is lost; the machine notices
        if (e.code !== "EMSGSIZE") this.journal.probeProblem(e);
      },
    );
    this.probes = { socket, linkLocal };
  }

  // ------------------------------------------------------------------------------------------ the daemon's sessions

  private openOffers(d: NonNullable<Config["daemon"]>): ReturnType<BgpPort["open"]> {
    return this.ports.bgp.open(this.sessionSpec(d, "offers"), {
      onState: (s) => {
        this.session = {
          ...this.session,
          offers: s.established,
          reason: s.established ? "" : `offers session: ${s.reason}`,
        };
        this.sessionChanged();
      },
      onRoutes: () => {},
      onEndOfRib: () => {},
      onProblem: (text) => this.journal.problem("offers session", text),
    });
  }

  private openFeed(d: NonNullable<Config["daemon"]>): ReturnType<BgpPort["open"]> {
    return this.ports.bgp.open(this.sessionSpec(d, "feed"), {
      onState: (s) => {
        if (!s.established)
          this.session = { ...this.session, feed: false, reason: `feed session: ${s.reason}` };
        this.sessionChanged();
        if (!s.established) this.input({ kind: "underneath-changed", prefixes: "all" });
      },
      onRoutes: (prefixes) => this.underneathChanged(prefixes),
      onEndOfRib: (family) => {
        if (family !== familyOf(this.router.self.address)) return;
        this.session = { ...this.session, feed: true };
        this.sessionChanged();
        this.input({ kind: "underneath-changed", prefixes: "all" });
      },
      onProblem: (text) => this.journal.problem("feed session", text),
    });
  }

  private sessionSpec(d: NonNullable<Config["daemon"]>, name: "offers" | "feed") {
    const localAddress = name === "offers" ? d.offers : d.feed;
    return {
      name,
      localAddress,
      remoteAddress: d.peer ?? this.router.self.address,
      port: d.port,
      localAs: name === "offers" ? d.offersAs : d.as,
      remoteAs: d.as,
      routerId: name === "offers" ? d.routerId : d.feed,
      holdTime: d.holdTime,
      receives: name === "feed",
    };
  }

  private sessionChanged(): void {
    const established = this.session.offers && this.session.feed;
    const reason = established ? "" : this.session.reason || "waiting for the daemon to send its routes";
    this.selection?.setSession(this.session.offers, this.session.reason);
    const told = `${established} ${reason}`;
    if (told !== this.told) {
      this.told = told;
      this.ports.log.info(established ? "sessions with the daemon are up" : "no session with the daemon", {
        reason,
      });
      if (!established) for (const prefix of this.standing.keys()) this.spreadNet(prefix, NET_HOLD_DEAD);
      this.input({ kind: "offers-session", established, reason });
      if (established) void this.run("resync", async () => this.watch?.resync());
    }
    this.dropOverrides();
    this.examine("all");
  }

  private underneathChanged(prefixes: readonly Prefix[]): void {
    if (!this.session.feed) return;
    // attributes may have changed while the route stays: the offer follows
    this.refreshOffers();
    this.input({ kind: "underneath-changed", prefixes });
  }

  /** For status: the state of the sessions with the daemon, in words. */
  get sessionText(): string {
    return this.session.offers && this.session.feed
      ? "sessions established"
      : this.session.reason || "waiting for the daemon to send its routes";
  }

  private refreshOffers(): void {
    for (const [prefix, alias] of this.standing) this.announce(prefix, alias);
  }

  private announce(prefix: Prefix, alias: Address): void {
    const attributes = this.routing?.attributes(prefix, alias);
    if (attributes === undefined || !attributes.ok) return;
    this.offers?.announce([{ prefix, attributes: attributes.value }]);
  }

  // ------------------------------------------------------------------------------------------ facts from the kernel

  private routeEvent(event: RouteEvent): void {
    const touched = this.fib.apply(event);
    if (
      event.kind === "link" &&
      (event.link.name === this.config.overlay || event.link.name === this.config.direct.interface)
    )
      this.checkUsable();
    if (this.config.role === "hub") this.tellHub();
    if (touched !== "all" && touched.length === 0) return;
    this.dropOverrides();
    this.examine(touched);
  }

  /** Many routes change at once: one attestation for all of them. */
  private tellHub(): void {
    if (this.hubDirty) return;
    this.hubDirty = true;
    this.later(20, () => {
      this.hubDirty = false;
      this.input({ kind: "fib", routes: this.fib.attestable() });
    });
  }

  /** Overrides that no machine knows (found at start) go when the daemon's own route is right. */
  private dropOverrides(): void {
    for (const prefix of [...this.overrides.keys()]) {
      if (this.engine?.spoke?.shortcuts().some((s) => s.prefixes.some((p) => p.prefix === prefix))) continue;
      if (!this.overrideNeeded(this.fib, prefix) && !this.machineOverrides.has(prefix))
        this.setOverride(prefix, false);
    }
  }
  private readonly machineOverrides = new Set<Prefix>();

  private examine(prefixes: readonly Prefix[] | "all"): void {
    if (this.selection === undefined || this.engine === undefined) return;
    for (const state of this.selection.examine(this.ports.clock.now(), prefixes))
      this.input({ kind: "route-state", state });
    this.arm();
  }

  private async pollOverlay(): Promise<void> {
    const device = await this.ports.wireguard.device(this.config.overlay);
    if (device === undefined) {
      this.journal.problem(
        `interface ${this.config.overlay}`,
        "no WireGuard answers for the overlay interface",
      );
      return;
    }
    this.input({ kind: "overlay-peers", peers: device.peers });
    this.checkUsable();
  }

  private async pollDirect(): Promise<void> {
    const readAt = this.ports.clock.now();
    const device = await this.ports.wireguard.device(this.config.direct.interface);
    this.directGone = device === undefined;
    this.checkUsable();
    if (device !== undefined) this.input({ kind: "peers", readAt, peers: device.peers });
  }

  private pollPeersLater(): void {
    const fast = this.engine.spoke?.shortcuts().some((s) => s.stage === "connecting") ?? false;
    this.later(fast ? FAST_POLL : SLOW_POLL, () => {
      void this.run("read peers", async () => {
        await this.pollDirect();
      }).finally(() => {
        if (!this.ended) this.pollPeersLater();
      });
    });
  }

  private async readTraffic(): Promise<void> {
    this.input({ kind: "traffic", samples: await this.ports.traffic.read() });
  }

  /** Why no packet should use the direct interface now, or that it may. */
  private checkUsable(): void {
    const { host } = this.ports;
    const { overlay, direct } = this.config;
    const strict = [overlay, direct.interface].filter((dev) => host.reversePathFilter(dev) === 1);
    if (this.directGone) this.setUsable(`the direct interface ${direct.interface} is gone`);
    else if (strict.length > 0)
      this.setUsable(
        `rp_filter is strict on ${strict.join(" and ")}: it would drop packets while only one end has flipped; set net.ipv4.conf.{all,${strict.join(",")}}.rp_filter to 2 or 0`,
      );
    else this.setUsable(this.forwarding.verdict(this.ports.clock.now()));
  }

  /** Soon after a flip often, later now and then. */
  private checkForwardingLater(): void {
    const direct = this.engine.spoke?.shortcuts().filter((s) => s.stage === "direct") ?? [];
    const now = this.ports.clock.now();
    const fresh = direct.some((s) => now - s.since < FRESH);
    this.later(fresh ? FORWARDING_FAST : FORWARDING_SLOW, () => {
      void this.run("read forwarding counters", async () => {
        const counts = await this.ports.traffic.readForwarding();
        this.forwarding.read(this.ports.clock.now(), counts);
        this.checkUsable();
      }).finally(() => {
        if (!this.ended) this.checkForwardingLater();
      });
    });
  }

  private setUsable(reason: string): void {
    if (reason === this.usable) return;
    this.usable = reason;
    if (reason !== "") this.journal.problem("direct interface", reason);
    this.input({ kind: "direct-usable", usable: reason === "", reason });
  }

  private probeArrived(from: Endpoint, payload: Uint8Array): void {
    const owner = this.probes?.linkLocal === true ? this.owners.get(from.address) : from.address;
    const probe = decodeProbe(payload);
    if (owner === undefined || !probe.ok) return;
    this.input({ kind: "probe", owner, probe: probe.value });
  }

  // ------------------------------------------------------------------------------------------ the engine

  input(input: Input): void {
    if (this.ended) return;
    this.engine.handleInput(this.ports.clock.now(), input);
    this.settle();
  }

  private settle(): void {
    for (;;) {
      const o = this.engine.pollOutput();
      if (o === undefined) break;
      this.perform(o);
    }
    this.arm();
  }

  private arm(): void {
    if (this.ended || this.engine === undefined) return;
    const now = this.ports.clock.now();
    const at = Math.min(
      this.engine.pollTimeout() ?? Number.POSITIVE_INFINITY,
      this.selection?.pollTimeout(now) ?? Number.POSITIVE_INFINITY,
    );
    if (at === this.timerAt) return;
    this.cancelTimer?.();
    this.timerAt = at;
    if (at === Number.POSITIVE_INFINITY) return;
    this.cancelTimer = this.ports.clock.after(Math.max(0, at - now), () =>
      this.ports.clock.afterReading(() => {
        this.timerAt = Number.POSITIVE_INFINITY;
        if (this.ended) return;
        this.engine.handleTimeout(this.ports.clock.now());
        this.settle();
        this.examine("all");
        this.arm();
      }),
    );
  }

  private perform(o: Output): void {
    switch (o.kind) {
      case "send":
        this.control?.send(o.to, o.payload);
        return;
      case "probe": {
        const probes = this.probes;
        if (probes === undefined) return;
        const address = probes.linkLocal ? linkLocalOf(o.publicKey) : o.owner;
        probes.socket.send({ address, port: this.config.control.port }, encodeProbe(o.probe));
        return;
      }
      case "alias":
        this.setAlias(o.alias, o.to);
        return;
      case "offer":
        this.standing.set(o.prefix, o.alias);
        this.holdNet(o.prefix);
        this.selection?.stand({ prefix: o.prefix, alias: o.alias });
        this.routeTasks.add("offers", async () => this.announce(o.prefix, o.alias));
        this.routeTasks.add("selection", async () => this.examine([o.prefix]));
        return;
      case "withdraw":
        this.standing.delete(o.prefix);
        this.holdNet(o.prefix);
        this.selection?.withdraw(o.prefix);
        this.routeTasks.add("offers", async () => this.offers?.withdraw([o.prefix]));
        return;
      case "explain":
        this.explain(o.prefix, o.alias);
        return;
      case "peer":
        this.setPeer(o.owner, o.want);
        return;
      case "unpeer":
        this.peers.delete(o.publicKey);
        this.owners.delete(linkLocalOf(o.publicKey));
        this.tunnelTasks.add("peer", () =>
          this.ports.wireguard.removePeer(this.config.direct.interface, o.publicKey),
        );
        return;
      case "override":
        if (o.want) this.machineOverrides.add(o.prefix);
        else {
          this.machineOverrides.delete(o.prefix);
          // BIRD and zebra, when they have just come back, clear the FIB before they have learnt the hub's routes
          if (this.fib.daemonBest(o.prefix) === undefined) this.spreadNet(o.prefix, NET_HOLD_DEAD);
        }
        this.setOverride(o.prefix, o.want);
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

  private setAlias(alias: Address, to: "overlay" | "direct" | "absent"): void {
    const { config, ports } = this;
    const table = config.daemon?.table ?? MAIN_TABLE;
    const dev = to === "direct" ? config.direct.interface : config.overlay;
    const route: WantedRoute = { table, prefix: hostPrefix(alias), dev, metric: ALIAS_METRIC };
    if (to === "absent") {
      this.aliases.delete(alias);
      this.selection?.release(alias, (prefix) => this.overrides.has(prefix));
      this.routeTasks.add("alias", () => ports.routes.remove({ ...route, protocol: RTPROT_SHORTCUTD }));
    } else {
      if (this.aliases.has(alias))
        for (const [prefix, a] of this.standing) if (a === alias) this.holdNet(prefix);
      this.aliases.set(alias, route);
      this.routeTasks.add("alias", () => ports.routes.replace({ ...route, protocol: RTPROT_SHORTCUTD }));
    }
  }

  /** Holds a prefix on the overlay while the daemon changes its route; not when there is no route underneath. */
  private holdNet(prefix: Prefix): void {
    const held = this.nets.get(prefix);
    const under = this.routing?.underneath(prefix);
    if (under === undefined || "refusal" in under) {
      // a daemon that went may have come back without the route as yet
      if (held !== undefined && held.until - this.ports.clock.now() <= NET_HOLD)
        this.dropNet(prefix, held.route);
      return;
    }
    this.spreadNet(prefix, NET_HOLD);
  }

  private spreadNet(prefix: Prefix, ms: number): void {
    const held = this.nets.get(prefix);
    const until = this.ports.clock.now() + ms;
    if (held !== undefined) {
      held.until = Math.max(held.until, until);
      return;
    }
    const route: WantedRoute = { table: MAIN_TABLE, prefix, dev: this.config.overlay, metric: NET_METRIC };
    this.nets.set(prefix, { route, until });
    this.routeTasks.add("net", () => this.ports.routes.replace({ ...route, protocol: RTPROT_SHORTCUTD }));
    this.later(ms, () => this.releaseNet(prefix));
  }

  private releaseNet(prefix: Prefix): void {
    const held = this.nets.get(prefix);
    if (held === undefined) return;
    const wait = held.until - this.ports.clock.now();
    if (wait > 0) this.later(wait, () => this.releaseNet(prefix));
    else this.dropNet(prefix, held.route);
  }

  private dropNet(prefix: Prefix, route: WantedRoute): void {
    this.nets.delete(prefix);
    this.routeTasks.add("net", () => this.ports.routes.remove({ ...route, protocol: RTPROT_SHORTCUTD }));
  }

  private overrideRoute(prefix: Prefix): WantedRoute {
    return { table: MAIN_TABLE, prefix, dev: this.config.overlay, metric: OVERRIDE_METRIC };
  }

  private setOverride(prefix: Prefix, want: boolean): void {
    const route = this.overrideRoute(prefix);
    if (want) this.overrides.set(prefix, route);
    else this.overrides.delete(prefix);
    const { routes } = this.ports;
    this.routeTasks.add("override", () =>
      want
        ? routes.replace({ ...route, protocol: RTPROT_SHORTCUTD })
        : routes.remove({ ...route, protocol: RTPROT_SHORTCUTD }),
    );
  }

  private setPeer(owner: Address, want: PeerWant): void {
    const before = this.peers.get(want.publicKey);
    this.peers.set(want.publicKey, { ...want, endpoint: want.endpoint ?? before?.endpoint });
    this.owners.set(linkLocalOf(want.publicKey), owner);
    const { publicKey } = want;
    this.tunnelTasks.add("peer", async () => {
      let error: string | undefined;
      try {
        await this.ports.wireguard.setPeer(this.config.direct.interface, want);
      } catch (e) {
        error = asPortError("peer", e).message;
        this.journal.problem("peer", error);
      }
      this.input({ kind: "peer-applied", publicKey, error });
    });
  }

  private explain(prefix: Prefix, alias: Address): void {
    const { daemon } = this.ports;
    if (daemon === undefined) return;
    void this.run("explain", async () => {
      const e = await daemon.explain(prefix, alias);
      if (!e.selected) this.input({ kind: "explained", prefix, reason: e.reason });
    });
  }

  // ------------------------------------------------------------------------------------------ reconciliation

  /** Declared against actual: a peer or an alias that somebody removed comes back, what nobody wants goes. */
  private async reconcile(): Promise<void> {
    const { config, ports } = this;
    if (this.stopping !== undefined) return;
    await this.routeTasks.drained();
    await this.tunnelTasks.drained();
    const table = config.daemon?.table ?? MAIN_TABLE;
    const found: Awaited<ReturnType<RoutePort["dump"]>>[number][] = [];
    for (const t of new Set([table, ...(this.overrides.size + this.nets.size > 0 ? [MAIN_TABLE] : [])]))
      found.push(...(await ports.routes.dump(t)));
    const nets = [...this.nets.values()].map((n) => n.route);
    const wanted = [...this.aliases.values(), ...this.overrides.values(), ...nets];
    for (const s of reconcileRoutes(wanted, found)) {
      this.journal.problem("reconcile", `route ${s.prefix} in table ${s.table}: ${s.kind}`);
      const route = { ...s, protocol: RTPROT_SHORTCUTD };
      await (s.kind === "set" ? ports.routes.replace(route) : ports.routes.remove(route));
    }
    if ((await ports.wireguard.device(config.direct.interface)) === undefined) await this.remakeDirect();
    const device = await ports.wireguard.device(config.direct.interface);
    if (device === undefined) return;
    const steps = reconcilePeers(this.peers.values(), device.peers);
    for (const p of steps.set) await ports.wireguard.setPeer(config.direct.interface, p);
    for (const k of steps.remove) await ports.wireguard.removePeer(config.direct.interface, k);
    this.examine("all");
  }

  private async remakeDirect(): Promise<void> {
    await this.ensureDirect();
    await this.probes?.socket.close();
    await this.openProbes();
    this.usable = undefined;
    this.checkUsable();
  }

  // ------------------------------------------------------------------------------------------ timers

  private later(ms: number, run: () => void): void {
    const cancel = this.ports.clock.after(ms, () => {
      this.cancels.delete(cancel);
      if (!this.ended) run();
    });
    this.cancels.add(cancel);
  }

  private every(ms: number, task: () => Promise<void>): void {
    this.later(ms, () => {
      void this.run("periodic", task).finally(() => {
        if (!this.ended) this.every(ms, task);
      });
    });
  }

  private async run(place: string, task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (e) {
      if (!this.ended) this.journal.problem(place, asPortError(place, e).message);
    }
  }
}

function engineConfig(config: Config, router: Router): EngineConfig {
  return {
    self: router.self,
    role:
      config.role === "hub"
        ? { kind: "hub", maxSpokes: config.maxSpokes }
        : {
            kind: "spoke",
            hubs: config.hubs,
            trigger: {
              rate: config.trigger.rate,
              duration: config.trigger.duration,
              hysteresis: config.trigger.hysteresis,
              capacity: 20_000,
            },
            publicEndpoints: config.publicEndpoints,
            maxShortcuts: config.maxShortcuts,
          },
    controlPort: config.control.port,
    listenPort: config.direct.port,
    overlayMtu: router.overlayMtu,
    aliasPools: config.aliases,
    parameters: config.parameters,
  };
}
