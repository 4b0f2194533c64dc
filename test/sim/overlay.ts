/**
 * The overlay of a simulated world: the interfaces of each router, the hubs that are dead, and the hub by
 * which each daemon's best path leads. With several hubs a spoke has an interface for each, where any
 * prefix is allowed.
 */
import { type Address, hostPrefix, type Prefix, prefix } from "../../plugin/net/address.js";
import type { FibEntry, OverlayDevice, OverlayPeer } from "../../plugin/shortcut/events.js";
import type { Router } from "./router.js";
import type { World } from "./world.js";

const ANY = [prefix("0.0.0.0/0"), prefix("::/0")];

export class Overlay {
  /** Hubs that are dead, and since when. */
  readonly down = new Map<Router, number>();
  /** The hubs that a spoke's daemon has lost. */
  private readonly lost = new Map<Router, Set<Router>>();
  /** The hub that a spoke's daemon prefers, where it is not the first. */
  readonly prefers = new Map<Router, Router>();
  /** Prefixes that a hub does not route to their owner, but elsewhere. */
  readonly elsewhere = new Map<Router, readonly Prefix[]>();
  /** Datagrams to another spoke that were sent by way of a dead hub, and when. */
  readonly wasted: { readonly at: number; readonly from: Router }[] = [];

  constructor(private readonly world: World) {}

  private get several(): boolean {
    return this.world.hubs.length > 1;
  }

  /** Returns the interface of a router on which another one is its neighbour. */
  dev(r: Router, neighbour: Router): string {
    if (r.hub) return this.world.options.interfacePerSpoke === true ? `wg-s${neighbour.index}` : "wg0";
    return this.several ? `wg-hub${neighbour.index}` : "wg0";
  }

  /** Returns the hub by which the daemon's best path leads. */
  hubOf(r: Router): Router | undefined {
    const preferred = this.prefers.get(r);
    const order = preferred === undefined ? this.world.hubs : [preferred, ...this.world.hubs];
    return order.find((h) => this.lost.get(r)?.has(h) !== true);
  }

  /** Returns the interfaces by which the FIB reaches an overlay address. */
  to(r: Router, to: Address): string[] {
    const target = this.world.byAddress.get(to);
    if (target === undefined || target === r) return [];
    if (r.hub) return target.hub ? [] : [this.dev(r, target)];
    const hub = target.hub ? target : this.hubOf(r);
    return hub === undefined || this.lost.get(r)?.has(hub) === true ? [] : [this.dev(r, hub)];
  }

  /** Returns the interface by which a datagram comes in; undefined when a dead hub would have to carry it. */
  carry(from: Router, target: Router): string | undefined {
    const hub = from.hub ? from : target.hub ? target : this.hubOf(from);
    if (hub === undefined || this.down.has(hub)) {
      if (hub !== undefined && !target.hub) this.wasted.push({ at: this.world.now, from });
      return undefined;
    }
    return this.dev(target, target === hub ? from : hub);
  }

  /** Lets a hub die; the daemons find out after `detection`. */
  kill(hub: Router, detection: number): void {
    const { world } = this;
    this.down.set(hub, world.now);
    world.at(world.now + detection, () => {
      for (const r of world.spokes) this.lost.set(r, new Set([...(this.lost.get(r) ?? []), hub]));
      this.changed();
    });
  }

  /** Brings a hub back, without its memory, and after `later` its routes. */
  revive(hub: Router, later: number): void {
    const { world } = this;
    this.down.delete(hub);
    hub.crash();
    world.start(hub);
    world.at(world.now + later, () => {
      for (const r of world.spokes) this.lost.get(r)?.delete(hub);
      this.changed();
    });
  }

  /** Tells every spoke that its routes may lead elsewhere. */
  changed(): void {
    for (const r of this.world.spokes) {
      this.world.input(r, { kind: "underneath-changed", prefixes: "all" });
      this.world.input(r, { kind: "ways-changed" });
    }
  }

  /** Returns the overlay interfaces of a hub with their peers. */
  ofHub(hub: Router): OverlayDevice[] {
    const { spokes, options } = this.world;
    const apart = options.interfacePerSpoke === true;
    const peer = (s: Router): OverlayPeer => ({
      publicKey: s.key,
      allowedIps: apart ? ANY : [hostPrefix(s.address), s.site],
      endpoint: s.endpoint,
      rxBytes: 0,
    });
    return apart
      ? spokes.map((s) => ({ dev: this.dev(hub, s), key: hub.key, peers: [peer(s)] }))
      : [{ dev: "wg0", key: hub.key, peers: spokes.map(peer) }];
  }

  /** Returns the overlay interfaces of a spoke; a hub that is alive sends all the time. */
  ofSpoke(r: Router, receivedUntil: number): OverlayDevice[] {
    return this.world.hubs.map((hub) => ({
      dev: this.dev(r, hub),
      key: r.key,
      peers: [
        {
          publicKey: hub.key,
          allowedIps: ANY,
          endpoint: hub.endpoint,
          rxBytes: this.down.get(hub) ?? receivedUntil,
        },
      ],
    }));
  }

  /** Returns the FIB of a hub. */
  fib(hub: Router): (readonly [Prefix, FibEntry])[] {
    const { spokes, routed, ownerOf } = this.world;
    const identities = spokes.map((s) => [hostPrefix(s.address), { via: [this.dev(hub, s)] }] as const);
    const sites = [...routed].map((p) => {
      const owner = ownerOf.get(p);
      return [p, { via: owner === undefined ? [] : [this.dev(hub, owner)] }] as const;
    });
    const others = (this.elsewhere.get(hub) ?? []).map((p) => [p, { via: [] }] as const);
    return [...identities, ...sites, ...others];
  }
}
