/**
 * A simulated WireGuard network for engines: one hub, many spokes, a routing daemon with a policy and a delay on each, a kernel with
 * FIB, aliases and peers, and links that lose, delay and duplicate. Virtual time; everything follows from one seed.
 */
import {
  type Address,
  address,
  type Endpoint,
  hostPrefix,
  type Prefix,
  prefix,
} from "../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../plugin/net/key.js";
import type { HubSession } from "../../plugin/shortcut/absence.js";
import { Engine, type EngineConfig } from "../../plugin/shortcut/engine.js";
import type { Output, Path, PeerWant, RoutingView, Transition } from "../../plugin/shortcut/events.js";
import { defaultParameters } from "../../plugin/shortcut/parameters.js";
import { ProbeRelay } from "../../plugin/shortcut/probe-relay.js";
import { decodeBody, decodeEnvelope, id64FromBytes } from "../../plugin/wire/control/codec.js";
import { decodeProbe, encodeProbe } from "../../plugin/wire/probe.js";
import { Nat, type NatKind } from "./nat.js";

/** mulberry32: small, fast, and the same everywhere. */
export function generator(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const fnv = (seed: number, data: Uint8Array): number => {
  let h = (0x811c9dc5 ^ seed) >>> 0;
  for (const b of data) h = Math.imul(h ^ b, 0x01000193) >>> 0;
  return h;
};

/** Stands in for HMAC: right length, depends on every byte; the simulation attacks nobody's cryptography. */
function fakeHmac(key: Uint8Array, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(32);
  const k = fnv(1, key);
  const view = new DataView(out.buffer);
  const d = fnv(k, data);
  for (let i = 0; i < 8; i++) view.setUint32(4 * i, Math.imul(d ^ i, 0x9e3779b1) >>> 0);
  return out;
}

interface Daemon {
  sessionUp: boolean;
  /** Prefixes that policy lets through. */
  policy: (p: Prefix) => boolean;
  readonly offers: Map<Prefix, Address>;
  readonly selected: Map<Prefix, Address>;
  delay: number;
  /** A dead daemon follows nothing. */
  alive: boolean;
}

export class Router {
  engine: Engine;
  relay: ProbeRelay;
  /** While set, the main loop does nothing; what waits for it, in order. */
  blocked: (() => void)[] | undefined;
  /** Probes sent so far. */
  probesSent = 0;
  readonly daemon: Daemon;
  readonly aliases = new Map<Address, "overlay" | "direct">();
  readonly peers = new Map<PublicKey, PeerWant & { since: number }>();
  readonly overrides = new Set<Prefix>();
  readonly bytes = new Map<Prefix, number>();
  readonly rates = new Map<Prefix, number>();
  readonly transfer = new Map<PublicKey, number>();
  /** Last time at which the daemon selected something of the peer's owner. */
  readonly selectedAt = new Map<Address, number>();
  startedAt = 0;
  stopped = false;
  boot = 0;
  /** Whether it has a route of its own to its site. */
  routesSite = true;
  /** What the hub attests for it, as it learnt. */
  own: readonly Prefix[] = [];
  /** False: a router of the VPN that does not run shortcutd. */
  runs = true;
  /** What stands before it; the router then has a private address. */
  nat: Nat | undefined;
  /** When its NAT rebooted: WireGuard peers of before send to where it was, and their NATs take nothing from where it is. */
  movedAt = 0;
  /** False: raw sockets are not allowed there. */
  pings: boolean;
  /** The daemon's export filter drops offers from the FIB, and the hub route with them. */
  dropsOffers = false;
  readonly problems: string[] = [];

  constructor(
    readonly world: World,
    readonly index: number,
    readonly address: Address,
    readonly key: PublicKey,
    readonly site: Prefix,
    readonly hub: boolean,
  ) {
    this.pings = world.options.pings ?? true;
    this.daemon = {
      sessionUp: true,
      policy: () => true,
      offers: new Map(),
      selected: new Map(),
      delay: 1 + Math.floor(world.random() * 70),
      alive: true,
    };
    this.engine = this.makeEngine();
    this.relay = new ProbeRelay(world.random, world.now);
  }

  /** From where the underlay sees it. */
  get publicEndpoint(): Endpoint {
    return this.nat?.publicEndpoint ?? this.endpoint;
  }

  get endpoint(): Endpoint {
    return { address: address(`192.0.${this.index >> 8}.${this.index & 255}`), port: 51821 };
  }

  makeEngine(): Engine {
    const w = this.world;
    this.startedAt = w.now;
    this.boot++;
    const config: EngineConfig = {
      self: { address: this.address, publicKey: this.key, bootId: id64FromBytes(w.bytes(8)) },
      role: this.hub
        ? { kind: "hub", maxSpokes: 10_000 }
        : {
            kind: "spoke",
            hubs: [w.hubAddress],
            trigger: { rate: 1e6, duration: 2000, hysteresis: 0.2, capacity: 1000 },
            publicEndpoints: [],
            maxShortcuts: w.options.maxShortcuts ?? 20,
            port: 51821,
            denied: [],
            excludedDevices: ["wg0", "shortcut0"],
          },
      controlPort: 4243,
      listenPort: 51821,
      observePort: 4244,
      overlayMtu: 1420,
      aliasPools: { 4: prefix("198.18.0.0/16"), 6: undefined },
      parameters: { ...defaultParameters, ...w.options.parameters },
    };
    const routing: RoutingView = {
      wayTo: () => "other",
      underneath: (p) => {
        const owner = w.ownerOf.get(p);
        return owner !== undefined && w.routed.has(p)
          ? { prefix: p, nextHop: w.nextHop(this, owner).address }
          : { refusal: `no route for ${p}`, gone: true };
      },
      routesItself: (p) => p === this.site && this.routesSite,
    };
    const crypto = {
      shared: (theirs: PublicKey) =>
        fakeHmac(new Uint8Array(1), Buffer.from([this.key, theirs].sort().join(""))),
      hmac: fakeHmac,
    };
    return new Engine(config, { crypto, randomBytes: (n) => w.bytes(n), routing }, w.now);
  }

  /** What the FIB does with a prefix: the override, else what the daemon installed. */
  path(p: Prefix): Path {
    return this.overrides.has(p) ? "overlay" : this.daemonPath(p);
  }

  daemonPath(p: Prefix): Path {
    const alias = this.daemon.selected.get(p);
    if (alias !== undefined) return this.dropsOffers ? "none" : (this.fibAlias.get(alias) ?? "none");
    return this.world.routed.has(p) ? "overlay" : "none";
  }
  /** The alias as the daemon last resolved it: a dead daemon keeps the old. */
  readonly fibAlias = new Map<Address, "overlay" | "direct">();

  ownerOfPeer(key: PublicKey): Router | undefined {
    return this.world.byKey.get(key);
  }

  report(p: Prefix): void {
    const selected = this.daemon.sessionUp && this.daemon.selected.has(p);
    this.world.input(this, {
      kind: "route-state",
      state: {
        prefix: p,
        selected: selected && !this.dropsOffers,
        reason: selected
          ? this.dropsOffers
            ? "an export filter drops it"
            : ""
          : "rejected by import filter",
        path: this.path(p),
        daemonPath: this.daemonPath(p),
        harmful: selected && this.dropsOffers,
      },
    });
  }

  /** The daemon reconsiders an offer after its delay. */
  reconsider(p: Prefix): void {
    const w = this.world;
    const boot = this.boot;
    w.at(w.now + this.daemon.delay * w.random(), () => {
      if (!this.daemon.alive || boot !== this.boot) return;
      const alias = this.daemon.offers.get(p);
      if (alias !== undefined && this.daemon.sessionUp && this.daemon.policy(p)) {
        this.daemon.selected.set(p, alias);
        const to = this.aliases.get(alias);
        if (to !== undefined) this.fibAlias.set(alias, to);
      } else this.daemon.selected.delete(p);
      this.report(p);
    });
  }

  apply(o: Output): void {
    const w = this.world;
    switch (o.kind) {
      case "send":
        w.datagram(this, o.to, o.payload);
        return;
      case "probing":
        if (o.session === undefined) this.relay.unset(o.publicKey);
        else this.relay.set(w.now, o.publicKey, o.session);
        w.settleProbes(this);
        return;
      case "ping":
        w.ping(this, o);
        return;
      case "alias": {
        if (o.to === "absent") this.aliases.delete(o.alias);
        else this.aliases.set(o.alias, o.to);
        const boot = this.boot;
        w.at(w.now + this.daemon.delay * w.random(), () => {
          if (!this.daemon.alive || boot !== this.boot) return;
          const to = this.aliases.get(o.alias);
          if (to === undefined) return;
          this.fibAlias.set(o.alias, to);
          for (const [p, a] of this.daemon.selected) if (a === o.alias) this.report(p);
        });
        return;
      }
      case "offer":
        this.daemon.offers.set(o.prefix, o.alias);
        this.reconsider(o.prefix);
        return;
      case "remark":
        this.reconsider(o.prefix);
        return;
      case "withdraw":
        this.daemon.offers.delete(o.prefix);
        this.reconsider(o.prefix);
        return;
      case "peer": {
        const before = this.peers.get(o.want.publicKey);
        const endpoint = o.want.endpoint ?? before?.endpoint;
        this.peers.set(o.want.publicKey, { ...o.want, endpoint, since: before?.since ?? w.now });
        w.at(w.now + 2, () =>
          w.input(this, { kind: "peer-applied", publicKey: o.want.publicKey, error: undefined }),
        );
        return;
      }
      case "unpeer":
        this.peers.delete(o.publicKey);
        this.transfer.delete(o.publicKey);
        for (const other of w.routers) if (other.peers.has(this.key)) w.check(other);
        return;
      case "own-prefixes":
        this.own = o.prefixes;
        return;
      case "inspect-hubs":
        w.at(w.now + 2, () => {
          w.tellOverlay(this);
          w.input(this, { kind: "hub-session", session: w.hubSession() });
        });
        return;
      case "override":
        if (o.want) this.overrides.add(o.prefix);
        else this.overrides.delete(o.prefix);
        w.at(w.now + 1, () => this.report(o.prefix));
        return;
      case "explain":
        w.at(w.now + 5, () =>
          w.input(this, { kind: "explained", prefix: o.prefix, reason: "rejected by import filter" }),
        );
        return;
      case "transition":
        w.transitions.push({ at: w.now, router: this.address, ...o.transition });
        w.counts.set(o.transition.stage, (w.counts.get(o.transition.stage) ?? 0) + 1);
        return;
      case "stopped":
        this.stopped = true;
        return;
      case "milestone":
        w.milestones.push({ at: w.now, router: this.address, owner: o.owner, milestone: o.milestone });
        return;
      case "problem":
        this.problems.push(o.problem);
        return;
    }
  }

  /** kill -9 and a restart that removes what was left, as main.ts does it. */
  crash(): void {
    this.relay = new ProbeRelay(this.world.random, this.world.now);
    this.daemon.offers.clear();
    for (const p of [...this.daemon.selected.keys()]) {
      if (this.daemon.alive) this.daemon.selected.delete(p);
    }
    this.engine = this.makeEngine();
    this.aliases.clear();
    this.fibAlias.clear();
    this.overrides.clear();
    this.peers.clear();
    this.transfer.clear();
  }
}

interface Event {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export interface WorldOptions {
  readonly seed: number;
  readonly spokes: number;
  /** Share of control datagrams and of probes that are lost, and of datagrams that arrive twice. */
  readonly loss: number;
  readonly maxShortcuts?: number;
  /** Whether raw sockets are allowed; they are unless it is said. */
  readonly pings?: boolean;
  readonly parameters?: Partial<typeof defaultParameters>;
}

export class World {
  now = 1_000_000;
  readonly random: () => number;
  readonly hubAddress = address("10.255.0.1");
  readonly routers: Router[] = [];
  readonly byAddress = new Map<Address, Router>();
  readonly byKey = new Map<PublicKey, Router>();
  readonly ownerOf = new Map<Prefix, Router>();
  /** Prefixes that the hub routes at this moment. */
  readonly routed = new Set<Prefix>();
  readonly broken = new Set<string>();
  readonly transitions: (Transition & { at: number; router: Address })[] = [];
  readonly counts = new Map<string, number>();
  readonly milestones: { at: number; router: Address; owner: Address; milestone: string }[] = [];
  /** Directions in which the underlay carries nothing: {@link directed}. */
  readonly brokenOneWay = new Set<string>();
  /** Set: control datagrams for which it says false are lost. The kind is that of the body. */
  passes: ((from: Router, to: Router, kind: string) => boolean) | undefined;
  /** The router whose overlay address is the next hop underneath. */
  nextHop: (at: Router, owner: Router) => Router = (_at, owner) => owner;
  /** Pings sent so far. */
  pings = 0;
  /** Milliseconds that a packet takes longer by the direct path. */
  detour = 0;
  /** UDP payload that passes the underlay. */
  largestProbe = Number.POSITIVE_INFINITY;
  /** Whether rendezvous handshakes arrive, so that the hub knows reflexive endpoints. */
  rendezvous = true;
  hubDiedAt: number | undefined;
  private hubAway = 0;
  private queue: Event[] = [];
  private order = 0;
  private sameInstant = 0;
  /** Called after every step. */
  check: (router: Router) => void = () => {};

  constructor(readonly options: WorldOptions) {
    this.random = generator(options.seed);
    for (let i = 0; i <= options.spokes; i++) {
      const hub = i === 0;
      const n = i + 1;
      const a = address(`10.255.${n >> 8}.${n & 255}`);
      const site = prefix(`10.${i >> 8}.${i & 255}.0/24`);
      const router = new Router(this, n, a, publicKeyFromBytes(this.bytes(32)), site, hub);
      this.routers.push(router);
      this.byAddress.set(a, router);
      this.byKey.set(router.key, router);
      if (!hub) {
        this.ownerOf.set(site, router);
        this.routed.add(site);
      }
    }
    for (const r of this.routers) {
      this.start(r);
      this.tick(r);
    }
  }

  /** Puts a NAT before a router, which notices that its addresses are others. */
  setNat(r: Router, kind: NatKind): Nat {
    const nat = new Nat(kind, r.endpoint);
    r.nat = nat;
    const addresses = [{ dev: "eth0", address: address(`192.168.${r.index & 255}.2`), length: 32 }];
    this.input(r, { kind: "addresses", addresses });
    return nat;
  }

  /** A NAT loses all mappings and comes back with another public address; the router before it is told nothing. */
  rebootNat(r: Router): void {
    if (r.nat === undefined) throw new Error(`no NAT before ${r.address}`);
    const [, moves, ...rest] = r.nat.publicEndpoint.address.split(".");
    const elsewhere = address(`193.${(Number(moves) + 1) & 255}.${rest.join(".")}`);
    r.nat = new Nat(r.nat.kind, { address: elsewhere, port: 51821 });
    r.movedAt = this.now;
  }

  get hub(): Router {
    const h = this.routers[0];
    if (h === undefined) throw new Error("no hub");
    return h;
  }
  get spokes(): Router[] {
    return this.routers.slice(1);
  }

  bytes(n: number): Uint8Array {
    const out = new Uint8Array(n);
    for (let i = 0; i < n; i++) out[i] = Math.floor(this.random() * 256);
    return out;
  }

  /** What a driver tells a fresh engine. */
  start(r: Router): void {
    this.input(r, { kind: "pings", obstacle: r.pings ? "" : "EPERM" });
    const inside = address(`192.168.${r.index & 255}.2`);
    const underlay = { dev: "eth0", address: r.nat === undefined ? r.endpoint.address : inside, length: 32 };
    this.input(r, { kind: "addresses", addresses: [underlay] });
    if (r.hub) {
      this.tellFib();
      const peers = this.spokes.map((s) => ({
        publicKey: s.key,
        allowedIps: [hostPrefix(s.address), s.site],
        endpoint: s.endpoint,
        rxBytes: 0,
      }));
      this.input(r, { kind: "overlay-peers", peers });
      return;
    }
    this.input(r, { kind: "offers-session", established: true, reason: "" });
    this.input(r, { kind: "direct-usable", usable: true, reason: "" });
    this.tellOverlay(r);
  }

  /** What daemons say of their session with the hub: none, where they have no session with it. */
  hubSession: () => HubSession = () => (this.hubDiedAt === undefined ? "up" : "down");

  /** A spoke reads its overlay peer, the hub: what it has received grows while the hub is there. */
  tellOverlay(r: Router): void {
    const overlayHub = {
      publicKey: this.hub.key,
      allowedIps: [prefix("0.0.0.0/0")],
      endpoint: this.hub.endpoint,
      rxBytes: (this.hubDiedAt ?? this.now) - this.hubAway,
    };
    this.input(r, { kind: "overlay-peers", peers: [overlayHub] });
  }

  /** The hub, and with it the overlay, is gone: every daemon loses its routes. */
  killHub(): void {
    this.hubDiedAt = this.now;
    for (const p of [...this.routed]) this.setRouted(p, false, false);
  }

  /** The hub is back, its daemon as well, and after `later` its routes. Its shortcutd has forgotten everything. */
  reviveHub(later: number): void {
    this.hubAway += this.now - (this.hubDiedAt ?? this.now);
    this.hubDiedAt = undefined;
    this.hub.crash();
    this.start(this.hub);
    this.at(this.now + later, () => {
      for (const p of this.ownerOf.keys()) this.setRouted(p, true);
    });
  }

  tellFib(): void {
    const routes = [...this.routed].map((p) => [p, { overlay: true }] as const);
    this.input(this.hub, { kind: "fib", routes });
  }

  /** The hub's routing changes, and a moment later every spoke's. */
  setRouted(p: Prefix, routed: boolean, hubKnows = true): void {
    if (routed) this.routed.add(p);
    else this.routed.delete(p);
    if (hubKnows) this.tellFib();
    for (const r of this.spokes) {
      this.input(r, { kind: "underneath-changed", prefixes: [p] });
      if (r.daemon.alive && r.daemon.offers.has(p)) r.reconsider(p);
      r.report(p);
    }
  }

  at(time: number, run: () => void): void {
    const e = { at: time, order: this.order++, run };
    const q = this.queue;
    q.push(e);
    let i = q.length - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const p = q[parent];
      if (p === undefined || !before(e, p)) break;
      q[i] = p;
      q[parent] = e;
      i = parent;
    }
  }

  private pop(): Event | undefined {
    const q = this.queue;
    const top = q[0];
    const last = q.pop();
    if (top === undefined || last === undefined || top === last) return top;
    q[0] = last;
    for (let i = 0; ; ) {
      let child = 2 * i + 1;
      const left = q[child];
      const right = q[child + 1];
      if (left === undefined) break;
      let c = left;
      if (right !== undefined && before(right, left)) {
        child++;
        c = right;
      }
      if (!before(c, last)) break;
      q[i] = c;
      q[child] = last;
      i = child;
    }
    return top;
  }

  run(until: number): void {
    for (;;) {
      const next = this.queue[0];
      if (next === undefined || next.at > until) break;
      this.pop();
      if (next.at > this.now) this.sameInstant = 0;
      else if (++this.sameInstant > 200_000)
        throw new Error(`time stands still at ${this.now}: a timer is never handled`);
      this.now = Math.max(this.now, next.at);
      next.run();
    }
    this.now = until;
  }

  input(r: Router, input: Parameters<Engine["handleInput"]>[1]): void {
    if (r.blocked !== undefined) {
      r.blocked.push(() => this.input(r, input));
      return;
    }
    r.engine.handleInput(this.now, input);
    this.settle(r);
  }

  private settle(r: Router): void {
    for (;;) {
      const o = r.engine.pollOutput();
      if (o === undefined) break;
      r.apply(o);
    }
    this.arm(r);
    this.check(r);
  }

  private readonly armed = new Map<Router, number>();
  private arm(r: Router): void {
    const at = r.engine.pollTimeout();
    if (at === undefined) return;
    const due = Math.max(at, this.now);
    const before = this.armed.get(r);
    if (before !== undefined && before <= due) return;
    this.armed.set(r, due);
    this.at(due, () => {
      if (this.armed.get(r) !== due) return;
      this.armed.delete(r);
      if (r.blocked !== undefined) {
        r.blocked.push(() => this.arm(r));
        return;
      }
      r.engine.handleTimeout(this.now);
      this.settle(r);
    });
  }

  linkKey(a: Router, b: Router): string {
    return a.index < b.index ? `${a.index}-${b.index}` : `${b.index}-${a.index}`;
  }

  directed(from: Router, to: Router): string {
    return `${from.index}>${to.index}`;
  }

  datagram(from: Router, to: Endpoint, payload: Uint8Array): void {
    const target = this.byAddress.get(to.address);
    if (target?.runs !== true || this.hubDiedAt !== undefined) return;
    const kind = bodyKind(payload);
    if (kind === "ping") this.pings++;
    if (this.passes !== undefined && !this.passes(from, target, kind)) return;
    const copies = this.random() < this.options.loss ? 0 : this.random() < this.options.loss ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      this.at(this.now + 5 + this.random() * 60, () => {
        // the hub carries it, or sent it
        if (this.hubDiedAt === undefined)
          this.input(target, { kind: "datagram", from: { address: from.address, port: 4243 }, payload });
      });
    }
  }

  /** The underlay carries a ping to the router that has the address, unless it shall die on the way. */
  ping(from: Router, o: Extract<Output, { kind: "ping" }>): void {
    // behind a NAT the public endpoint is not the router's own
    const source = from.nat?.out(this.now, o.to) ?? { address: from.endpoint.address, port: o.fromPort };
    if (o.ttl !== undefined) return;
    const target = this.routers.find((r) => r.publicEndpoint.address === o.to.address);
    if (target?.runs !== true || !target.pings || this.broken.has(this.linkKey(from, target))) return;
    if (this.brokenOneWay.has(this.directed(from, target)) || this.random() < this.options.loss) return;
    this.at(this.now + 3 + this.random() * 20, () => {
      if (target.nat?.in(this.now, source, o.to.port) === false) return;
      this.input(target, { kind: "ping", from: source, to: o.to, payload: o.payload });
    });
  }

  /** WireGuard: both ends must have the other as a peer, and the underlay must carry it. */
  probe(from: Router, to: PublicKey, payload: Uint8Array): void {
    const target = this.byKey.get(to);
    if (target === undefined || this.broken.has(this.linkKey(from, target))) return;
    if (this.brokenOneWay.has(this.directed(from, target))) return;
    if (payload.length > this.largestProbe || this.random() < this.options.loss / 4) return;
    const there = from.peers.get(to);
    const back = target.peers.get(from.key);
    if (there === undefined || back === undefined) return;
    if (Math.min(there.since, back.since) < Math.max(from.movedAt, target.movedAt)) return;
    const probe = decodeProbe(payload);
    if (!probe.ok) throw new Error(probe.error);
    this.at(this.now + 3 + this.detour + this.random() * 20, () => {
      if (target.peers.get(from.key) === undefined) return;
      target.relay.receive(this.now, from.key, probe.value);
      this.settleProbes(target);
    });
  }

  /** The thread of probes, which a blocked main loop does not block. */
  settleProbes(r: Router): void {
    const { relay } = r;
    for (;;) {
      const o = relay.pollOutput();
      if (o === undefined) break;
      if (o.kind === "send") {
        r.probesSent++;
        this.probe(r, o.key, encodeProbe(o.probe));
        continue;
      }
      const { key, ...event } = o.event;
      const owner = this.byKey.get(key);
      // as a message between threads, never inside a call of the engine
      if (owner !== undefined)
        this.at(this.now, () => this.input(r, { kind: "probe", owner: owner.address, event }));
    }
    this.armProbes(r);
  }

  private readonly armedProbes = new Map<Router, number>();
  private armProbes(r: Router): void {
    const at = r.relay.pollTimeout(this.now);
    if (at === undefined) return;
    const due = Math.max(at, this.now);
    const before = this.armedProbes.get(r);
    if (before !== undefined && before <= due) return;
    this.armedProbes.set(r, due);
    this.at(due, () => {
      if (this.armedProbes.get(r) !== due) return;
      this.armedProbes.delete(r);
      r.relay.handleTimeout(this.now);
      this.settleProbes(r);
    });
  }

  /** The main loop of a router does nothing for `ms`. */
  block(r: Router, ms: number): void {
    const waiting: (() => void)[] = [];
    r.blocked = waiting;
    this.at(this.now + ms, () => {
      r.blocked = undefined;
      for (const run of waiting) run();
    });
  }

  /** Once a second every router reads its counters and its peers. */
  private tick(r: Router): void {
    const step = () => {
      if (r.blocked !== undefined) {
        r.blocked.push(step);
        return;
      }
      r.relay.renew(this.now);
      this.settleProbes(r);
      for (const [p, rate] of r.rates) {
        const owner = this.ownerOf.get(p);
        const path = r.path(p);
        if (owner === undefined || path === "none") continue;
        if (path === "direct") r.transfer.set(owner.key, (r.transfer.get(owner.key) ?? 0) + rate / 8);
        else r.bytes.set(p, (r.bytes.get(p) ?? 0) + rate / 8);
      }
      const samples = [...r.bytes].map(([destination, bytes]) => ({ destination, bytes }));
      this.input(r, { kind: "traffic", samples });
      const peers = [...r.peers.values()].map((p) => {
        const other = this.byKey.get(p.publicKey);
        const meets = this.rendezvous || !(r.hub || other?.hub === true);
        const up = meets && (other?.peers.has(r.key) ?? false);
        return {
          publicKey: p.publicKey,
          endpoint: up && other !== undefined ? other.publicEndpoint : p.endpoint,
          lastHandshake: up ? this.now : 0,
          rxBytes: up ? 100 + (other?.transfer.get(r.key) ?? 0) : 0,
          txBytes: r.transfer.get(p.publicKey) ?? 0,
        };
      });
      this.input(r, { kind: "peers", readAt: this.now, peers });
      this.at(this.now + 1000, step);
    };
    this.at(this.now + this.random() * 1000, step);
  }
}

function bodyKind(payload: Uint8Array): string {
  const e = decodeEnvelope(payload);
  const b = e.ok ? decodeBody(e.value.body) : e;
  return b.ok && "kind" in b.value ? b.value.kind : "undecodable";
}

const before = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
