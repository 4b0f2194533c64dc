/**
 * One router of the simulated world: its engine and probes, its daemon with a policy and a delay,
 * and its kernel with FIB, aliases and peers.
 */

import { type Address, address, type Endpoint, type Prefix, prefix } from "../../plugin/net/address.js";
import { InterfaceNames } from "../../plugin/net/interface-names.js";
import type { PublicKey } from "../../plugin/net/key.js";
import type { Preshared } from "../../plugin/shortcut/control/trust.js";
import { Engine, type EngineConfig } from "../../plugin/shortcut/engine.js";
import type { Output, Path, PeerWant, RoutingView } from "../../plugin/shortcut/events.js";
import { defaultParameters } from "../../plugin/shortcut/parameters.js";
import { ProbeRelay } from "../../plugin/shortcut/probe/relay.js";
import { describeReason, type Reason } from "../../plugin/shortcut/reasons.js";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";
import type { Nat } from "./nat.js";
import type { World } from "./world.js";

const fnv = (seed: number, data: Uint8Array): number => {
  let h = (0x811c9dc5 ^ seed) >>> 0;
  for (const b of data) h = Math.imul(h ^ b, 0x01000193) >>> 0;
  return h;
};

/**
 * Replaces HMAC: right length, depends on every byte. Nothing in the simulation attacks the
 * cryptography.
 */
function fakeHmac(key: Uint8Array, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(32);
  const k = fnv(1, key);
  const view = new DataView(out.buffer);
  const d = fnv(k, data);
  for (let i = 0; i < 8; i++) view.setUint32(4 * i, Math.imul(d ^ i, 0x9e3779b1) >>> 0);
  return out;
}

/** Makes the reason that the simulated daemons give. */
const said = (text: string): Reason => ({ kind: "session-cannot-carry", text });
export const REJECTED = said("rejected by import filter");
export const DROPPED = said("an export filter drops it");
const noRoute = (p: Prefix): Reason => said(`no route for ${p}`);

interface Daemon {
  sessionUp: boolean;
  /** Returns whether the policy accepts a prefix. */
  policy: (p: Prefix) => boolean;
  readonly offers: Map<Prefix, Address>;
  readonly selected: Map<Prefix, Address>;
  delay: number;
  /** Whether the daemon is alive; a dead daemon follows no change. */
  alive: boolean;
}

export class Router {
  engine: Engine;
  relay: ProbeRelay;
  /** While set, the main loop is blocked; the pending calls, in order. */
  blocked: (() => void)[] | undefined;
  /** Number of probes sent so far. */
  probesSent = 0;
  readonly daemon: Daemon;
  readonly aliases = new Map<Address, "overlay" | "direct">();
  readonly peers = new Map<PublicKey, PeerWant & { since: number }>();
  readonly overrides = new Set<Prefix>();
  readonly bytes = new Map<Prefix, number>();
  readonly rates = new Map<Prefix, number>();
  readonly transfer = new Map<PublicKey, number>();
  /** The last time at which the daemon had an offer of this owner selected. */
  readonly selectedAt = new Map<Address, number>();
  startedAt = 0;
  stopped = false;
  boot = 0;
  /** Whether it has a route of its own to its site. */
  routesSite = true;
  /** The prefixes that the hub attests for it, as it has learned them. */
  own: readonly Prefix[] = [];
  /** Whether it runs shortcutd; false for another router of the VPN. */
  runs = true;
  /** The NAT before it; the router then has a private address. */
  nat: Nat | undefined;
  /**
   * The time of its NAT's reboot. Earlier WireGuard peers send to the old endpoint, and their NATs
   * accept nothing from the new one.
   */
  movedAt = 0;
  /** Whether IPv6 is on there: the direct interface has its link-local address. */
  ipv6 = true;
  /** The peers that it probes: whether at their link-local addresses, or at their overlay addresses. */
  readonly probesLinkLocal = new Map<PublicKey, boolean>();
  /** Whether raw sockets are allowed there. */
  pings: boolean;
  /** Whether the daemon's export filter drops offers from the FIB, and the hub route with them. */
  dropsOffers = false;
  /** The direct keys that it pins, by owner. */
  readonly pins = new Map<Address, readonly PublicKey[]>();
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

  /** The endpoint at which the underlay sees it. */
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
            hubs: Array.from({ length: w.hubCount }, (_, i) => address(`10.255.0.${i + 1}`)),
            trigger: { rate: 1e6, duration: 2000, hysteresis: 0.2, capacity: 1000 },
            publicEndpoints: [],
            maxShortcuts: w.options.maxShortcuts ?? 20,
            port: 51821,
            denied: [],
            excludedDevices: new InterfaceNames(["wg*", "shortcut0"]),
          },
      controlPort: 4243,
      listenPort: 51821,
      observePort: 4244,
      overlayMtu: 1420,
      aliasPools: { 4: prefix("198.18.0.0/16"), 6: undefined },
      parameters: { ...defaultParameters, ...w.options.parameters },
      pins: this.pins,
    };
    const routing: RoutingView = {
      wayTo: (to) => this.wayTo(to),
      underneath: (p) => {
        const owner = w.ownerOf.get(p);
        const hub = w.overlay.hubOf(this);
        const nextHop = owner && (w.hubCount > 1 ? hub : w.nextHop(this, owner));
        return nextHop !== undefined && hub !== undefined && w.routed.has(p)
          ? { ok: true, prefix: p, nextHop: nextHop.address, via: [w.overlay.dev(this, hub)] }
          : { ok: false, reason: noRoute(p), gone: true };
      },
      overlayTo: (to) => w.overlay.to(this, to),
      routesItself: (p) => p === this.site && this.routesSite,
    };
    const shared = (theirs: PublicKey) =>
      fakeHmac(new Uint8Array(1), Buffer.from([this.key, theirs].sort().join("")));
    const crypto = {
      shared,
      // overlay and direct interface have the same key here
      overlayShared: (_: PublicKey, theirs: PublicKey) => shared(theirs),
      hmac: fakeHmac,
    };
    const preshared = (owner: Address): Preshared => {
      const key = w.preshared.get(`${this.address} ${owner}`);
      if (key === "unusable") return { kind: "unusable", problem: "it holds no WireGuard key" };
      return key === undefined
        ? { kind: "none" }
        : { kind: "key", hmac: (data) => fakeHmac(Buffer.from(key), data) };
    };
    return new Engine(config, { crypto, randomBytes: (n) => w.bytes(n), routing, preshared }, w.now);
  }

  /** The path of the direct interface's own packets to an endpoint. */
  wayTo: (to: Endpoint) => Path = () => "other";

  /** Returns the path that the FIB uses for a prefix: the override, else the daemon's route. */
  path(p: Prefix): Path {
    return this.overrides.has(p) ? "overlay" : this.daemonPath(p);
  }

  daemonPath(p: Prefix): Path {
    const alias = this.daemon.selected.get(p);
    if (alias !== undefined) return this.dropsOffers ? "none" : (this.fibAlias.get(alias) ?? "none");
    return this.world.routed.has(p) ? "overlay" : "none";
  }
  /** The alias as the daemon last resolved it: a dead daemon keeps the old path. */
  readonly fibAlias = new Map<Address, "overlay" | "direct">();
  /** The interfaces of each alias on the overlay, in the kernel and as the daemon last resolved it. */
  readonly aliasVia = new Map<Address, readonly string[]>();
  private readonly fibVia = new Map<Address, readonly string[]>();

  /** Returns the overlay interfaces by which the FIB sends a prefix; none when it goes direct. */
  via(p: Prefix): readonly string[] {
    if (this.path(p) !== "overlay") return [];
    const alias = this.daemon.selected.get(p);
    const hub = this.world.overlay.hubOf(this);
    if (alias !== undefined) return this.fibVia.get(alias) ?? [];
    return hub === undefined ? [] : [this.world.overlay.dev(this, hub)];
  }

  private follow(alias: Address, to: "overlay" | "direct"): void {
    this.fibAlias.set(alias, to);
    this.fibVia.set(alias, this.aliasVia.get(alias) ?? []);
  }

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
        reason: selected ? (this.dropsOffers ? DROPPED : undefined) : REJECTED,
        path: this.path(p),
        daemonPath: this.daemonPath(p),
        harmful: selected && this.dropsOffers,
      },
    });
  }

  /** Lets the daemon decide again about an offer after its delay. */
  reconsider(p: Prefix): void {
    const w = this.world;
    const boot = this.boot;
    w.at(w.now + this.daemon.delay * w.random(), () => {
      if (!this.daemon.alive || boot !== this.boot) return;
      const alias = this.daemon.offers.get(p);
      if (alias !== undefined && this.daemon.sessionUp && this.daemon.policy(p)) {
        this.daemon.selected.set(p, alias);
        const to = this.aliases.get(alias);
        if (to !== undefined) this.follow(alias, to);
      } else this.daemon.selected.delete(p);
      this.report(p);
    });
  }

  // eslint-disable-next-line complexity -- one case for each kind of output
  apply(o: Output): void {
    const w = this.world;
    switch (o.kind) {
      case "send":
        w.datagram(this, o.to, o.payload);
        return;
      case "probing":
        this.probesLinkLocal.set(o.publicKey, o.linkLocal);
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
        this.aliasVia.set(o.alias, o.via);
        const boot = this.boot;
        w.at(w.now + this.daemon.delay * w.random(), () => {
          if (!this.daemon.alive || boot !== this.boot) return;
          const to = this.aliases.get(o.alias);
          if (to === undefined) return;
          this.follow(o.alias, to);
          for (const [p, a] of this.daemon.selected) if (a === o.alias) this.report(p);
        });
        return;
      }
      case "offer":
        this.daemon.offers.set(o.prefix, o.alias);
        this.reconsider(o.prefix);
        return;
      case "update-classes":
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
      case "attested":
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
        w.at(w.now + 5, () => w.input(this, { kind: "explained", prefix: o.prefix, reason: REJECTED }));
        return;
      case "transition":
        w.transitions.push({
          ...o.transition,
          at: w.now,
          router: this.address,
          reason: describeReason(o.transition.reason),
          code: o.transition.reason?.kind,
        });
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

  /** Simulates kill -9 and a restart that removes what was left, as main.ts does it. */
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
