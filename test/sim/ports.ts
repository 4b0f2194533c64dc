/**
 * The outside world in memory: a kernel with routes, links and WireGuard devices, sockets, sessions
 * and a clock that stands still until it is moved. Every call is recorded; any call can be made to
 * fail.
 */
import { AdjRibIn } from "../../plugin/bgp/rib.js";
import type { Ports } from "../../plugin/driver/driver.js";
import { lengthOf } from "../../plugin/driver/kernel/interface-state.js";
import {
  type BgpPort,
  type Claim,
  type Clock,
  type DaemonExplanation,
  type DaemonFinding,
  type InterfaceSpec,
  type InterfaceState,
  type OutgoingPing,
  PortError,
  type SpeakerEvents,
  type TrafficSample,
  type WireGuardDevice,
  type WireGuardPeer,
} from "../../plugin/driver/ports.js";
import {
  type Address,
  contains,
  type Endpoint,
  type Prefix,
  prefix,
  prefixAddress,
} from "../../plugin/net/address.js";
import { keyBytes, type PrivateKey, type PublicKey, privateKeyFromBytes } from "../../plugin/net/key.js";
import type { ProbeEvent } from "../../plugin/shortcut/probe/relay.js";
import type { ProbeSession } from "../../plugin/shortcut/probe/stream.js";
import type { PathAttributes } from "../../plugin/wire/bgp/attributes.js";
import type { KernelLink, KernelRoute, RouteEvent } from "../../plugin/wire/netlink/fib.js";

class VirtualClock implements Clock {
  private time = 1_000_000;
  private readonly timers = new Set<{ at: number; run: () => void }>();

  now(): number {
    return this.time;
  }
  wall(): number {
    return 1_700_000_000_000 + this.time;
  }
  after(ms: number, run: () => void): () => void {
    const timer = { at: this.time + ms, run };
    this.timers.add(timer);
    return () => {
      this.timers.delete(timer);
    };
  }
  afterReading(run: () => void): void {
    run();
  }
  get pending(): number {
    return this.timers.size;
  }

  /** Moves time forward, timer by timer; promises settle in between. */
  async advance(ms: number): Promise<void> {
    const until = this.time + ms;
    await settled();
    for (;;) {
      let next: { at: number; run: () => void } | undefined;
      for (const t of this.timers) if (t.at <= until && (next === undefined || t.at < next.at)) next = t;
      if (next === undefined) break;
      this.timers.delete(next);
      this.time = Math.max(this.time, next.at);
      next.run();
      await settled();
    }
    this.time = until;
  }

  /** Moves time until the promise is settled. */
  async during<T>(promise: Promise<T>, limit = 60_000): Promise<T> {
    let done = false;
    const watched = promise.finally(() => {
      done = true;
    });
    watched.catch(() => {});
    for (let t = 0; !done && t < limit; t += 10) await this.advance(10);
    if (!done) throw new Error(`not settled within ${limit} ms`);
    return watched;
  }
}

/** Waits until all promise reactions that can run have run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Device {
  readonly publicKey: PublicKey | undefined;
  readonly peers: Map<PublicKey, WireGuardPeer>;
  /** What is wanted of it, once it is ours; and what somebody has changed since. */
  readonly spec?: InterfaceSpec | undefined;
  changed?: Partial<InterfaceState>;
}

interface OpenSession {
  readonly name: string;
  readonly events: SpeakerEvents;
  readonly rib: AdjRibIn;
  readonly announced: Map<Prefix, PathAttributes>;
  started: boolean;
  stopped: boolean;
}

interface OpenSocket {
  readonly dev: string;
  readonly address: Address;
  readonly port: number;
  readonly onDatagram: (from: Endpoint, payload: Uint8Array) => void;
  readonly sent: { readonly to: Endpoint; readonly payload: Uint8Array }[];
}

interface OpenProbes {
  readonly dev: string;
  readonly addresses: readonly Address[];
  readonly port: number;
  readonly onEvent: (event: ProbeEvent) => void;
  readonly sessions: Map<PublicKey, { readonly to: Endpoint; readonly session: ProbeSession }>;
}

/** As WireGuard has it: the key of zeros is none. */
const keyOf = (key: PrivateKey | undefined): { readonly presharedKey?: PrivateKey } =>
  key === undefined || keyBytes(key).every((b) => b === 0) ? {} : { presharedKey: key };

export class MemoryWorld {
  readonly clock = new VirtualClock();
  readonly calls: string[] = [];
  /** Calls that reject, by their name in `calls`. */
  readonly failing = new Set<string>();
  readonly routes: KernelRoute[] = [];
  readonly devices = new Map<string, Device>();
  readonly sockets = new Set<OpenSocket>();
  readonly probeSockets = new Set<OpenProbes>();
  readonly sessions: OpenSession[] = [];
  readonly log: { readonly level: string; readonly message: string; readonly fields: unknown }[] = [];
  readonly reversePath = new Map<string, number>();
  /** The index of the direct interface: another one each time that it is made. */
  private indexes = 9;
  links: readonly KernelLink[] = [{ ifindex: 3, name: "wg0", up: true, mtu: 1420 }];
  overlayAddresses: readonly Prefix[] = [prefix("10.255.0.2/32")];
  samples: readonly TrafficSample[] = [];
  /** Content of the file of guarded prefixes. */
  guardFile: string | undefined;
  readonly pings: OutgoingPing[] = [];
  counters = false;
  private guardSet = false;
  private tellDeletion: (() => void) | undefined;
  private tellRules: (() => void) | undefined;
  /** The rules of others, as libnftables-json(5). */
  ruleset: readonly unknown[] = [];
  /** Whether the policy rule stands. */
  diverts = false;
  /** Sources that the guard allows on the direct path. */
  guarded: readonly Prefix[] | undefined;
  daemonClosed = false;
  findings: readonly DaemonFinding[] = [];
  explanation: DaemonExplanation = {
    selected: false,
    reason: { kind: "bird-rejected", filter: "shortcut_policy" },
  };
  private readonly watchers = new Set<{
    readonly tables: readonly number[];
    readonly on: (e: RouteEvent) => void;
  }>();

  /** Writes a route into the kernel, as another process (a daemon, an operator) does. */
  put(route: KernelRoute): void {
    const same = (r: KernelRoute) =>
      r.table === route.table && r.prefix === route.prefix && r.metric === route.metric;
    const at = this.routes.findIndex(same);
    if (at < 0) this.routes.push(route);
    else this.routes[at] = route;
    for (const w of this.watchers) if (w.tables.includes(route.table)) w.on({ kind: "set", route });
  }

  drop(which: (r: KernelRoute) => boolean): void {
    for (const route of this.routes.filter(which)) {
      this.routes.splice(this.routes.indexOf(route), 1);
      for (const w of this.watchers) if (w.tables.includes(route.table)) w.on({ kind: "gone", route });
    }
  }

  /** The routes as `TABLE PREFIX dev DEV proto P metric M`, sorted. */
  get table(): string[] {
    return this.routes
      .map(
        (r) =>
          `${r.table} ${r.prefix} dev ${r.nextHops.map((n) => n.dev).join("+")} proto ${r.protocol} metric ${r.metric}`,
      )
      .sort();
  }

  session(name: string): OpenSession {
    const s = this.sessions.find((x) => x.name === name);
    if (s === undefined) throw new Error(`no session ${name}`);
    return s;
  }

  /** Something happens to a link or an address. */
  notify(event: RouteEvent): void {
    for (const w of this.watchers) w.on(event);
  }

  /** Another program deletes all nftables tables. */
  flushRuleset(): void {
    this.counters = false;
    this.guarded = undefined;
    this.tellDeletion?.();
  }

  /** Another program changes its rules. */
  setRuleset(rules: readonly unknown[]): void {
    this.ruleset = rules;
    this.tellRules?.();
  }

  private async call(name: string): Promise<void> {
    this.calls.push(name);
    await settled();
    if (this.failing.has(name)) throw new PortError(name, "made to fail", "let it succeed");
  }

  get ports(): Ports {
    return {
      clock: this.clock,
      host: {
        reversePathFilter: (dev) => this.reversePath.get(dev) ?? 2,
        ipv6Enabled: () => true,
      },
      log: {
        info: (message, fields) => this.log.push({ level: "info", message, fields }),
        warn: (message, fields) => this.log.push({ level: "warn", message, fields }),
        error: (message, fields) => this.log.push({ level: "error", message, fields }),
      },
      routes: {
        watch: async (tables, keep, on) => {
          await this.call("routes.watch");
          const w = { tables, on };
          this.watchers.add(w);
          const snapshot = () =>
            on({
              kind: "snapshot",
              routes: this.routes.filter((r) => tables.includes(r.table) && keep(r)),
              links: this.links,
            });
          snapshot();
          return {
            close: async () => {
              this.watchers.delete(w);
            },
            resync: async () => snapshot(),
          };
        },
        dump: async (table) => {
          await this.call("routes.dump");
          return this.routes.filter((r) => r.table === table);
        },
        lookup: async (destination) => this.routes.find((r) => contains(r.prefix, destination)),
        ways: () => ["eth0"],
        replace: async (r) => {
          await this.call("routes.replace");
          const { via, ...route } = r;
          const nextHops = via.map((dev, i) => ({ ifindex: 9 + i, dev, gateway: undefined, dead: false }));
          this.put({ ...route, type: via.length === 0 ? "unreachable" : "unicast", nextHops, nexthopId: 0 });
        },
        remove: async (r) => {
          await this.call("routes.remove");
          this.drop(
            (x) =>
              x.table === r.table &&
              x.prefix === r.prefix &&
              x.metric === r.metric &&
              x.protocol === r.protocol,
          );
        },
        links: async () => this.links,
        addresses: async () => this.overlayAddresses,
        allAddresses: async () =>
          this.overlayAddresses.map((p) => ({ dev: "wg0", address: prefixAddress(p), length: 24 })),
      },
      wireguard: {
        claim: async (spec) => {
          await this.call("wireguard.claim");
          return this.claim(spec);
        },
        ensure: async (spec) => {
          await this.call("wireguard.ensure");
          const before = this.devices.get(spec.name);
          const peers = before?.peers ?? new Map<PublicKey, WireGuardPeer>();
          this.devices.set(spec.name, { publicKey: spec.publicKey, peers, spec });
          if (before === undefined) this.indexes++;
          return { created: before === undefined, backend: "uapi" };
        },
        device: async (name): Promise<WireGuardDevice | undefined> => {
          await this.call("wireguard.device");
          const d = this.devices.get(name);
          return (
            d && { name, publicKey: d.publicKey, listenPort: 51821, fwmark: 0, peers: [...d.peers.values()] }
          );
        },
        privateKey: async () => privateKeyFromBytes(new Uint8Array(32).fill(8)),
        setPeer: async (name, p) => {
          await this.call("wireguard.setPeer");
          const before = this.devices.get(name)?.peers.get(p.publicKey);
          this.devices.get(name)?.peers.set(p.publicKey, {
            publicKey: p.publicKey,
            endpoint: p.endpoint ?? before?.endpoint,
            allowedIps: p.allowedIps ?? before?.allowedIps ?? [],
            keepalive: p.keepalive ?? before?.keepalive ?? 0,
            ...keyOf(p.presharedKey ?? before?.presharedKey),
            lastHandshake: 0,
            rxBytes: 0,
            txBytes: 0,
          });
        },
        removePeer: async (name, key) => {
          await this.call("wireguard.removePeer");
          this.devices.get(name)?.peers.delete(key);
        },
        destroy: async (name) => {
          await this.call("wireguard.destroy");
          this.devices.delete(name);
          // the kernel removes the routes of an interface with it
          this.drop((r) => r.nextHops.some((n) => n.dev === name));
        },
      },
      traffic: {
        setUp: async () => {
          await this.call("traffic.setUp");
          this.counters = true;
        },
        intact: async () => this.counters,
        read: async () => {
          await this.call("traffic.read");
          return this.samples;
        },
        readForwarding: async () => ({ hosts: [], dropped: [], passed: [] }),
        tearDown: async () => {
          await this.call("traffic.tearDown");
          this.counters = false;
        },
      },
      sources: {
        set: async ({ sources }) => {
          await this.call("sources.set");
          this.guarded = sources;
          this.guardSet = true;
        },
        intact: async () => this.guarded !== undefined || !this.guardSet,
        unattestedSources: async () => [],
        remove: async () => {
          await this.call("sources.remove");
          this.guarded = undefined;
          this.guardSet = false;
        },
      },
      guardFile: {
        load: async () => this.guardFile,
        save: async (text) => {
          this.guardFile = text;
        },
      },
      divert: {
        ensure: async () => {
          await this.call("divert.ensure");
          this.diverts = true;
        },
        remove: async () => {
          await this.call("divert.remove");
          this.diverts = false;
        },
      },
      ruleset: { read: async () => this.ruleset },
      tableWatch: {
        watch: (_, onDeletion, onChange) => {
          this.tellRules = onChange;
          this.tellDeletion = onDeletion;
          return { close: () => (this.tellDeletion = undefined) };
        },
      },
      datagrams: {
        open: async (bind, onDatagram) => {
          await this.call(`datagrams.open ${bind.dev}`);
          const socket: OpenSocket = { ...bind, onDatagram, sent: [] };
          this.sockets.add(socket);
          return {
            send: (to, payload) => {
              socket.sent.push({ to, payload });
            },
            close: async () => {
              this.sockets.delete(socket);
            },
          };
        },
      },
      probes: {
        open: async (bind, onEvent) => {
          await this.call(`probes.open ${bind.dev}`);
          const socket: OpenProbes = { ...bind, onEvent, sessions: new Map() };
          this.probeSockets.add(socket);
          return {
            set: (key, to, session) => {
              socket.sessions.set(key, { to, session });
            },
            unset: (key) => {
              socket.sessions.delete(key);
            },
            close: async () => {
              this.probeSockets.delete(socket);
            },
          };
        },
      },
      pings: {
        open: async () => {
          await this.call("pings.open");
          return {
            send: (ping) => void this.pings.push(ping),
            close: async () => this.call("pings.close"),
          };
        },
      },
      bgp: this.bgp,
      daemon: {
        kind: "bird",
        check: async () => ({ version: "2.0.12", findings: this.findings }),
        explain: async () => this.explanation,
        igpNextHops: undefined,
        pathInterfaces: undefined,
        hubSession: async () => "up",
        neighbourView: async () => ({ configuration: "", neighbours: new Map(), sent: new Map() }),
        close: async () => {
          this.daemonClosed = true;
        },
      },
    };
  }

  /** A device with another key than ours is somebody else's. */
  private claim(spec: InterfaceSpec): Claim {
    const device = this.devices.get(spec.name);
    if (device === undefined) return { kind: "absent" };
    if (device.spec === undefined && device.publicKey !== spec.publicKey)
      return { kind: "foreign", problem: "is somebody else's" };
    const state: InterfaceState = {
      ifindex: this.indexes,
      up: true,
      mtu: spec.mtu,
      master: spec.vrf,
      publicKey: spec.publicKey,
      listenPort: spec.listenPort,
      fwmark: spec.fwmark ?? 0,
      peers: [...device.peers.values()],
      addresses: spec.addresses.map(prefixAddress).map((a) => ({ address: a, length: lengthOf(a) })),
      reversePathFilter: 2,
      ipv6: "on",
    };
    return { kind: "ours", state: { ...state, ...device.changed } };
  }

  private get bgp(): BgpPort {
    return {
      open: (spec, events) => {
        const session: OpenSession = {
          name: spec.name,
          events,
          rib: new AdjRibIn(),
          announced: new Map(),
          started: false,
          stopped: false,
        };
        this.sessions.push(session);
        return {
          rib: session.rib,
          speaker: {
            start: () => {
              session.started = true;
            },
            stop: async () => {
              await this.call(`bgp.stop ${spec.name}`);
              session.stopped = true;
            },
            announce: (routes) => {
              for (const r of routes) session.announced.set(r.prefix, r.attributes);
            },
            withdraw: (prefixes) => {
              for (const p of prefixes) session.announced.delete(p);
            },
          },
        };
      },
    };
  }

  /** Brings both sessions up and completes the feed. */
  establish(family: 4 | 6 = 4): void {
    for (const s of this.sessions) s.events.onState({ established: true, reason: "" });
    this.session("feed").events.onEndOfRib(family);
  }
}
