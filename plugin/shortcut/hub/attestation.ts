/**
 * A hub's attestation: for every spoke, the prefixes that the hub itself routes to that spoke and
 * to no other. A WireGuard hub decides in two steps. Its FIB sends a packet to an overlay interface,
 * or to one of several; then the interface's AllowedIPs pick the peer by longest match. With one peer
 * per interface the FIB alone decides. A prefix therefore has a set of peers: it is attested to the
 * owner to whom all of them belong. No spoke can attract more than the hub already sends it.
 */
import {
  type Address,
  addressBytes,
  compareAddresses,
  familyOf,
  hostPrefix,
  type Prefix,
  prefixAddress,
  prefixFromBytes,
  prefixLength,
} from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { PrefixMap } from "../../net/lpm.js";
import type { Id64 } from "../../wire/control/message.js";
import { generationOf } from "../control/generation.js";
import type { FibEntry } from "../events.js";

/** One AllowedIPs entry of the overlay interface `dev`. */
export interface AllowedIp {
  readonly dev: string;
  readonly prefix: Prefix;
  readonly peer: PublicKey;
}

export interface HubTables {
  /** The hub's main FIB: for each prefix, the overlay interfaces that it leaves through. */
  readonly fib: Iterable<readonly [Prefix, FibEntry]>;
  readonly allowedIps: Iterable<AllowedIp>;
}

/** A WireGuard peer of an overlay interface. The same key on another interface is another peer. */
export interface HubPeer {
  /** Tells peers apart; the same after the tables were read again. */
  readonly id: string;
  readonly dev: string;
  readonly key: PublicKey;
}

export type OwnerAnswer =
  | { readonly kind: "owner"; readonly owner: Address }
  | { readonly kind: "none"; readonly reason: string }
  | { readonly kind: "ambiguous"; readonly reason: string };

/** Peers among which the hub divides packets. Equal sets are one object. */
interface PeerSet {
  readonly id: string;
  readonly peers: readonly HubPeer[];
}

const NOBODY: PeerSet = { id: "", peers: [] };

/**
 * A prefix at which the result of the two look-ups may change, and that result.
 */
interface Change {
  readonly prefix: Prefix;
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly to: PeerSet;
  /** The nearest change around it, which has another result. */
  outer: Change | undefined;
  /** More specific prefixes with another result: disjoint, in order. */
  readonly exceptions: Change[];
}

/** The AllowedIPs of one interface. Most hubs with many interfaces allow any prefix on each: that costs no trie. */
class AllowedIps {
  private readonly any: { 4?: HubPeer; 6?: HubPeer } = {};
  private more: PrefixMap<HubPeer> | undefined;

  set(prefix: Prefix, peer: HubPeer): void {
    if (prefixLength(prefix) === 0) this.any[familyOf(prefix)] = peer;
    else {
      this.more ??= new PrefixMap();
      this.more.set(prefix, peer);
    }
  }

  peerFor(to: Prefix): HubPeer | undefined {
    return this.more?.longestMatch(to)?.value ?? this.any[familyOf(to)];
  }
}

export class Attestation {
  private readonly fib: PrefixMap<readonly string[]>;
  /** AllowedIPs by interface. */
  private readonly allowed = new Map<string, AllowedIps>();
  private readonly sets = new Map<string, PeerSet>();
  /** The changes that lead to a peer, alone or with others. */
  private readonly byPeer = new Map<string, Change[]>();
  /** Disjoint prefixes, and the peers to which each goes. */
  private readonly destinations = new PrefixMap<PeerSet>();
  private readonly attested = new Map<string, readonly Prefix[]>();
  private readonly generations = new Map<string, Id64>();

  constructor(tables: HubTables) {
    const peers = new Map<string, HubPeer>();
    const prefixes = new Set<Prefix>();
    for (const { dev, prefix, peer: key } of tables.allowedIps) {
      const id = `${dev} ${key}`;
      const peer = peers.get(id) ?? { id, dev, key };
      peers.set(id, peer);
      const map = this.allowed.get(dev) ?? new AllowedIps();
      this.allowed.set(dev, map);
      map.set(prefix, peer);
      prefixes.add(prefix);
    }
    this.fib = relevant(tables.fib);
    for (const [p] of this.fib) prefixes.add(p);
    this.build(prefixes);
  }

  /** Returns the peers to which the hub sends packets for a prefix or an address. */
  private peersFor(to: Prefix): PeerSet {
    const found = new Map<string, HubPeer>();
    for (const dev of this.fib.longestMatch(to)?.value ?? []) {
      const peer = this.allowed.get(dev)?.peerFor(to);
      if (peer !== undefined) found.set(peer.id, peer);
    }
    if (found.size === 0) return NOBODY;
    const ids = [...found.keys()];
    const id = setId(ids);
    let set = this.sets.get(id);
    if (set === undefined) {
      set = { id, peers: [...found.values()] };
      this.sets.set(id, set);
    }
    return set;
  }

  /**
   * Builds the disjoint set of prefixes by peers. At every prefix of either table the result of the
   * two look-ups may change. A prefix whose result equals that of the nearest prefix around it
   * changes nothing. Each remaining entry covers its prefix minus the more specific entries inside
   * it.
   */
  private build(prefixes: ReadonlySet<Prefix>): void {
    const changes: Change[] = [];
    for (const prefix of prefixes) {
      const to = this.peersFor(prefix);
      const bytes = addressBytes(prefixAddress(prefix));
      const length = prefixLength(prefix);
      changes.push({ prefix, bytes, length, to, outer: undefined, exceptions: [] });
    }
    changes.sort(inOrder);
    const around: Change[] = [];
    const kept: Change[] = [];
    for (const c of changes) {
      let outer = around.at(-1);
      while (outer !== undefined && !holds(outer, c)) {
        around.pop();
        outer = around.at(-1);
      }
      if (outer?.to === c.to) continue;
      outer?.exceptions.push(c);
      c.outer = outer;
      around.push(c);
      kept.push(c);
    }
    for (const c of kept) {
      for (const { id } of c.to.peers) {
        const list = this.byPeer.get(id) ?? [];
        this.byPeer.set(id, list);
        list.push(c);
      }
      if (c.to !== NOBODY) for (const p of without(c, c.exceptions)) this.destinations.set(p, c.to);
    }
  }

  /** Returns the peers to which the hub sends packets for this address: more than one under ECMP. */
  peersOf(overlayAddress: Address): readonly HubPeer[] {
    return this.peersFor(hostPrefix(overlayAddress)).peers;
  }

  /**
   * Returns the prefixes that go to these peers alone: those of the owner who has them, without the host
   * route of its overlay address.
   */
  prefixesOf(owner: Address, peers: readonly HubPeer[] = this.peersOf(owner)): readonly Prefix[] {
    return this.attestedTo(peers).filter((p) => p !== hostPrefix(owner));
  }

  private attestedTo(peers: readonly HubPeer[]): readonly Prefix[] {
    const theirs = new Set(peers.map((p) => p.id));
    const key = setId([...theirs]);
    const known = this.attested.get(key);
    if (known !== undefined) return known;
    const alone = ({ to }: Change): boolean => to !== NOBODY && to.peers.every((p) => theirs.has(p.id));
    // others' prefixes inside; a prefix that goes to some of the peers belongs to it, too
    const others = (c: Change): Change[] => c.exceptions.flatMap((e) => (alone(e) ? others(e) : [e]));
    const list: Prefix[] = [];
    for (const c of new Set([...theirs].flatMap((id) => this.byPeer.get(id) ?? [])))
      if (alone(c) && (c.outer === undefined || !alone(c.outer))) list.push(...without(c, others(c)));
    list.sort((a, b) => compareAddresses(prefixAddress(a), prefixAddress(b)));
    this.attested.set(key, list);
    return list;
  }

  /** Returns the {@link generationOf} the prefixes of an owner, computed once. */
  generationOf(owner: Address, peers: readonly HubPeer[] = this.peersOf(owner)): Id64 {
    const key = `${owner} ${setId(peers.map((p) => p.id))}`;
    let g = this.generations.get(key);
    if (g === undefined) {
      g = generationOf(this.prefixesOf(owner, peers));
      this.generations.set(key, g);
    }
    return g;
  }

  /**
   * Finds the owner of a destination, which may be a counted (masked) prefix. The owner is the
   * registered spoke to whose peers goes everything of the destination that goes to any spoke.
   * `registeredAt` returns the overlay address at which the spoke behind a peer is registered.
   */
  resolve(destination: Prefix, registeredAt: (peer: string) => Address | undefined): OwnerAnswer {
    const around = this.destinations.longestMatch(destination);
    const hits = new Set<PeerSet>();
    if (around !== undefined) hits.add(around.value);
    else for (const [, set] of this.destinations.inside(destination)) hits.add(set);
    if (hits.size === 0) return { kind: "none", reason: `the hub does not route ${destination} to a spoke` };
    const spokes = new Set<string>();
    let owner: Address | undefined;
    for (const { id } of [...hits].flatMap((set) => set.peers)) {
      const at = registeredAt(id);
      owner ??= at;
      spokes.add(at ?? id);
    }
    if (owner === undefined)
      return { kind: "none", reason: `the spoke behind ${destination} does not run shortcutd` };
    if (spokes.size > 1) {
      const how = hits.size > 1 ? "holds destinations of" : "is routed by equal paths to";
      return { kind: "ambiguous", reason: `${destination} ${how} ${spokes.size} spokes` };
    }
    return { kind: "owner", owner };
  }
}

const setId = (ids: readonly string[]): string => [...ids].sort().join(",");

/**
 * Returns the FIB without routes that leave elsewhere and are not inside a route via the overlay: a
 * full table costs little.
 */
function relevant(fib: HubTables["fib"]): PrefixMap<readonly string[]> {
  const out = new PrefixMap<readonly string[]>();
  const elsewhere = new Set<Prefix>();
  for (const [prefix, { via }] of fib) {
    if (via.length > 0) {
      out.set(prefix, via);
      elsewhere.delete(prefix);
    } else {
      elsewhere.add(prefix);
      out.delete(prefix);
    }
  }
  const inside = [...elsewhere].filter((p) => out.longestMatch(p) !== undefined);
  for (const p of inside) out.set(p, []);
  return out;
}

/** Compares by family and address, shorter first: a prefix comes before everything inside it. */
function inOrder(a: Change, b: Change): number {
  if (a.bytes.length !== b.bytes.length) return a.bytes.length - b.bytes.length;
  for (let i = 0; i < a.bytes.length; i++) {
    const d = (a.bytes[i] ?? 0) - (b.bytes[i] ?? 0);
    if (d !== 0) return d;
  }
  return a.length - b.length;
}

const bit = (bytes: Uint8Array, i: number): number => ((bytes[i >> 3] ?? 0) >> (7 - (i & 7))) & 1;

function holds(outer: Change, inner: Change): boolean {
  if (outer.bytes.length !== inner.bytes.length || outer.length > inner.length) return false;
  for (let i = 0; i < outer.length >> 3; i++) if (outer.bytes[i] !== inner.bytes[i]) return false;
  for (let i = outer.length & ~7; i < outer.length; i++)
    if (bit(outer.bytes, i) !== bit(inner.bytes, i)) return false;
  return true;
}

/**
 * Returns the fewest prefixes that cover a change's addresses minus the exceptions: `difference` for
 * sorted and disjoint exceptions.
 */
function without(c: Change, exceptions: readonly Change[]): Prefix[] {
  const out: Prefix[] = [];
  const split = (bytes: Uint8Array, length: number, from: number, to: number): void => {
    const first = exceptions[from];
    if (from === to || first === undefined) {
      out.push(prefixFromBytes(bytes, length));
      return;
    }
    if (first.length === length) return;
    let middle = from;
    while (middle < to && bit(exceptions[middle]?.bytes ?? bytes, length) === 0) middle++;
    split(bytes, length + 1, from, middle);
    const upper = bytes.slice();
    upper[length >> 3] = (upper[length >> 3] ?? 0) | (0x80 >> (length & 7));
    split(upper, length + 1, middle, to);
  };
  split(c.bytes, c.length, 0, exceptions.length);
  return out;
}
