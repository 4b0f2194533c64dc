/**
 * A simulated WireGuard network for engines: hubs, many spokes, and links that lose, delay and
 * duplicate. Virtual time; everything follows from one seed.
 */

import { type Address, address, type Endpoint, type Prefix, prefix } from "../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../plugin/net/key.js";
import type { Engine } from "../../plugin/shortcut/engine.js";
import type { HubSession, Output, Transition } from "../../plugin/shortcut/events.js";
import type { Parameters as Timers } from "../../plugin/shortcut/parameters.js";
import { no, type ReasonKind, YES } from "../../plugin/shortcut/reasons.js";
import { decodeBody, decodeEnvelope } from "../../plugin/wire/control/codec.js";
import { decodeProbe, encodeProbe } from "../../plugin/wire/probe.js";
import { Nat, type NatKind } from "./nat.js";
import { Overlay } from "./overlay.js";
import { EventQueue } from "./queue.js";
import { generator } from "./random.js";
import { Router } from "./router.js";

export interface WorldOptions {
  readonly seed: number;
  readonly spokes: number;
  /** Number of hubs; 1 by default. */
  readonly hubs?: number;
  /** Whether a hub has an interface for each spoke, where any prefix is allowed; otherwise one with exact AllowedIPs. */
  readonly interfacePerSpoke?: boolean;
  /** Share of control datagrams and of probes that are lost, and of datagrams that arrive twice. */
  readonly loss: number;
  readonly maxShortcuts?: number;
  /** Whether raw sockets are allowed; true by default. */
  readonly pings?: boolean;
  readonly parameters?: Partial<Timers>;
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
  readonly transitions: (Omit<Transition, "reason"> & {
    at: number;
    router: Address;
    /** The reason in words, and as its code. */
    reason: string;
    code: ReasonKind | undefined;
  })[] = [];
  readonly counts = new Map<string, number>();
  readonly milestones: { at: number; router: Address; owner: Address; milestone: string }[] = [];
  /** Directions in which the underlay carries nothing: {@link directed}. */
  readonly brokenOneWay = new Set<string>();
  /**
   * A filter of control datagrams: those for which it returns false are lost. The kind is that of
   * the body.
   */
  passes: ((from: Router, to: Router, kind: string) => boolean) | undefined;
  /** Returns the router whose overlay address is the next hop underneath. */
  nextHop: (at: Router, owner: Router) => Router = (_at, owner) => owner;
  /** The pre-shared keys, by the addresses of a router and an owner. */
  readonly preshared = new Map<string, string>();
  /** Number of pings sent so far. */
  pings = 0;
  /** Milliseconds by which a packet takes longer on the direct path. */
  detour = 0;
  /** Largest UDP payload that passes the underlay. */
  largestProbe = Number.POSITIVE_INFINITY;
  /** Whether rendezvous handshakes arrive, so that the hub knows reflexive endpoints. */
  rendezvous = true;
  /** The time at which all hubs died. */
  hubDiedAt: number | undefined;
  readonly overlay = new Overlay(this);
  private hubAway = 0;
  private readonly queue = new EventQueue();
  private sameInstant = 0;
  /** A check that is called after every step. */
  check: (router: Router) => void = () => {};

  constructor(readonly options: WorldOptions) {
    this.random = generator(options.seed);
    for (let i = 0; i < this.hubCount + options.spokes; i++) {
      const hub = i < this.hubCount;
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

  /** Puts a NAT before a router, which notices that its addresses have changed. */
  setNat(r: Router, kind: NatKind): Nat {
    const nat = new Nat(kind, r.endpoint);
    r.nat = nat;
    const addresses = [{ dev: "eth0", address: address(`192.168.${r.index & 255}.2`), length: 32 }];
    this.input(r, { kind: "addresses", addresses });
    return nat;
  }

  /**
   * Reboots a NAT: it loses all mappings and has another public address. The router behind it is
   * told nothing.
   */
  rebootNat(r: Router): void {
    if (r.nat === undefined) throw new Error(`no NAT before ${r.address}`);
    const [, moves, ...rest] = r.nat.publicEndpoint.address.split(".");
    const elsewhere = address(`193.${(Number(moves) + 1) & 255}.${rest.join(".")}`);
    r.nat = new Nat(r.nat.kind, { address: elsewhere, port: 51821 });
    r.movedAt = this.now;
  }

  /** Switches IPv6 off or on at a router. */
  setIpv6(r: Router, on: boolean): void {
    r.ipv6 = on;
    this.input(r, { kind: "link-local", present: on });
  }

  get hub(): Router {
    const h = this.routers[0];
    if (h === undefined) throw new Error("no hub");
    return h;
  }
  get spokes(): Router[] {
    return this.routers.slice(this.hubCount);
  }
  get hubs(): Router[] {
    return this.routers.slice(0, this.hubCount);
  }
  get hubCount(): number {
    return this.options.hubs ?? 1;
  }

  bytes(n: number): Uint8Array {
    const out = new Uint8Array(n);
    for (let i = 0; i < n; i++) out[i] = Math.floor(this.random() * 256);
    return out;
  }

  /** Gives a new engine the inputs that a driver gives at the start. */
  start(r: Router): void {
    this.input(r, {
      kind: "pings",
      verdict: r.pings ? YES : no({ kind: "pings-unavailable", error: "EPERM" }),
    });
    const inside = address(`192.168.${r.index & 255}.2`);
    const underlay = { dev: "eth0", address: r.nat === undefined ? r.endpoint.address : inside, length: 32 };
    this.input(r, { kind: "addresses", addresses: [underlay] });
    if (r.hub) {
      this.input(r, { kind: "fib", routes: this.overlay.fib(r) });
      this.input(r, { kind: "overlay-peers", devices: this.overlay.ofHub(r) });
      return;
    }
    this.input(r, { kind: "offers-session", verdict: YES });
    this.input(r, { kind: "link-local", present: r.ipv6 });
    this.input(r, { kind: "direct-usable", verdict: YES });
    this.tellOverlay(r);
  }

  /**
   * Returns the daemons' state of the session with the hub; `none` where they have no session with
   * it.
   */
  hubSession: () => HubSession = () => (this.hubDiedAt === undefined ? "up" : "down");

  /**
   * Lets a spoke read its overlay peers, the hubs: the counts of received bytes grow while the hubs are
   * present.
   */
  tellOverlay(r: Router): void {
    const received = (this.hubDiedAt ?? this.now) - this.hubAway;
    this.input(r, { kind: "overlay-peers", devices: this.overlay.ofSpoke(r, received) });
  }

  /** Removes the hub, and the overlay with it: every daemon loses its routes. */
  killHub(): void {
    this.hubDiedAt = this.now;
    for (const p of [...this.routed]) this.setRouted(p, false, false);
  }

  /**
   * Brings the hub back, its daemon as well, and after `later` its routes. Its shortcutd has lost
   * its state.
   */
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
    for (const h of this.hubs) this.input(h, { kind: "fib", routes: this.overlay.fib(h) });
  }

  /** Changes the hub's routing, and a moment later every spoke's. */
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
    this.queue.add(time, run);
  }

  run(until: number): void {
    for (let next = this.queue.next(until); next !== undefined; next = this.queue.next(until)) {
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
    const dev = this.overlay.carry(from, target);
    if (dev === undefined) return;
    const copies = this.random() < this.options.loss ? 0 : this.random() < this.options.loss ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      this.at(this.now + 5 + this.random() * 60, () => {
        // the hub carries it, or sent it
        if (this.hubDiedAt === undefined)
          this.input(target, { kind: "datagram", dev, from: { address: from.address, port: 4243 }, payload });
      });
    }
  }

  /**
   * Carries a ping through the underlay to the router that has the address, unless its time to live
   * expires on the way.
   */
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

  /**
   * Carries a probe: both ends must have the other as a WireGuard peer, and the underlay must carry
   * it.
   */
  probe(from: Router, to: PublicKey, payload: Uint8Array): void {
    const target = this.byKey.get(to);
    if (target === undefined || this.broken.has(this.linkKey(from, target))) return;
    if (this.brokenOneWay.has(this.directed(from, target))) return;
    if (payload.length > this.largestProbe || this.random() < this.options.loss / 4) return;
    const there = from.peers.get(to);
    const back = target.peers.get(from.key);
    if (there === undefined || back === undefined) return;
    if (Math.min(there.since, back.since) < Math.max(from.movedAt, target.movedAt)) return;
    // a probe to an address that the other end does not listen at, or that it does not expect as a source
    const linkLocal = from.probesLinkLocal.get(to);
    if (linkLocal !== target.probesLinkLocal.get(from.key)) return;
    if (linkLocal === true && !(from.ipv6 && target.ipv6)) return;
    const probe = decodeProbe(payload);
    if (!probe.ok) throw new Error(probe.error);
    this.at(this.now + 3 + this.detour + this.random() * 20, () => {
      if (target.peers.get(from.key) === undefined) return;
      target.relay.receive(this.now, from.key, probe.value);
      this.settleProbes(target);
    });
  }

  /** Runs the probe thread, which a blocked main loop does not block. */
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

  /** Blocks the main loop of a router for `ms`. */
  block(r: Router, ms: number): void {
    const waiting: (() => void)[] = [];
    r.blocked = waiting;
    this.at(this.now + ms, () => {
      r.blocked = undefined;
      for (const run of waiting) run();
    });
  }

  /** Lets every router read its counters and its peers, once a second. */
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
