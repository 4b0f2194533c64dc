/**
 * A hub's attestation: for every spoke, the prefixes that the hub itself routes to that spoke and
 * to no other. A WireGuard hub decides in two steps. Its FIB sends a packet to the overlay
 * interface; then the interface's AllowedIPs pick the peer by longest match. The attestation is the
 * intersection of the two, minus more specific entries of others. No spoke can attract more than
 * the hub already sends it.
 */
import {
  type Address,
  addressBytes,
  compareAddresses,
  hostPrefix,
  type Prefix,
  prefixAddress,
  prefixFromBytes,
  prefixLength,
} from "../../net/address.js";
import { PrefixMap } from "../../net/lpm.js";
import type { Id64 } from "../../wire/control/message.js";
import { generationOf } from "../control/generation.js";

/**
 * One AllowedIPs entry of the overlay interface; `peer` is any stable identity of the WireGuard
 * peer.
 */
export interface AllowedIp {
  readonly prefix: Prefix;
  readonly peer: string;
}

export interface HubTables {
  /** The hub's main FIB: for each prefix, whether it leaves via the overlay interface. */
  readonly fib: Iterable<readonly [Prefix, { readonly overlay: boolean }]>;
  readonly allowedIps: Iterable<AllowedIp>;
}

export type OwnerAnswer =
  | { readonly kind: "owner"; readonly owner: Address; readonly prefixes: readonly Prefix[] }
  | { readonly kind: "none"; readonly reason: string }
  | { readonly kind: "ambiguous"; readonly reason: string };

/**
 * A prefix at which the result of the two look-ups may change, and that result: a peer, or none.
 */
interface Change {
  readonly prefix: Prefix;
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly peer: string | undefined;
  /** More specific prefixes with another result: disjoint, in order. */
  readonly exceptions: Change[];
}

export class Attestation {
  private readonly allowed = new PrefixMap<string>();
  private readonly byPeer = new Map<string, Prefix[]>();
  private readonly peers = new PrefixMap<string>();
  private readonly generations = new Map<Address, Id64>();

  constructor(tables: HubTables) {
    for (const a of tables.allowedIps) this.allowed.set(a.prefix, a.peer);
    this.build(relevant(tables.fib));
  }

  /**
   * Builds the disjoint set of prefixes by owner. At every prefix of either table the result of the
   * two look-ups may change. A prefix whose result equals that of the nearest prefix around it
   * changes nothing. Each remaining entry covers its prefix minus the more specific entries inside
   * it.
   */
  private build(fib: PrefixMap<boolean>): void {
    const prefixes = new Set<Prefix>();
    for (const [p] of fib) prefixes.add(p);
    for (const [p] of this.allowed) prefixes.add(p);
    const changes: Change[] = [];
    for (const prefix of prefixes) {
      const overlay = fib.longestMatch(prefix)?.value ?? false;
      const peer = overlay ? this.allowed.longestMatch(prefix)?.value : undefined;
      const bytes = addressBytes(prefixAddress(prefix));
      changes.push({ prefix, bytes, length: prefixLength(prefix), peer, exceptions: [] });
    }
    changes.sort(inOrder);
    const around: Change[] = [];
    const roots: Change[] = [];
    for (const c of changes) {
      let outer = around.at(-1);
      while (outer !== undefined && !holds(outer, c)) {
        around.pop();
        outer = around.at(-1);
      }
      if (outer?.peer === c.peer) continue;
      if (outer === undefined) roots.push(c);
      else outer.exceptions.push(c);
      around.push(c);
    }
    const visit = (c: Change): void => {
      if (c.peer !== undefined) {
        const list = this.byPeer.get(c.peer) ?? [];
        this.byPeer.set(c.peer, list);
        for (const p of without(c)) {
          list.push(p);
          this.peers.set(p, c.peer);
        }
      }
      for (const e of c.exceptions) visit(e);
    };
    for (const c of roots) visit(c);
    for (const list of this.byPeer.values())
      list.sort((a, b) => compareAddresses(prefixAddress(a), prefixAddress(b)));
  }

  /**
   * Returns the WireGuard peer to which the overlay sends packets for this address, whatever the
   * FIB says.
   */
  peerOf(overlayAddress: Address): string | undefined {
    return this.allowed.longestMatch(overlayAddress)?.value;
  }

  /**
   * Returns the site prefixes of the peer behind an overlay address, without host routes of the
   * overlay's own addresses.
   */
  prefixesOf(owner: Address): readonly Prefix[] {
    const peer = this.peerOf(owner);
    if (peer === undefined) return [];
    return (this.byPeer.get(peer) ?? []).filter((p) => p !== hostPrefix(owner));
  }

  /** Returns the {@link generationOf} the site prefixes, computed once. */
  generationOf(owner: Address): Id64 {
    let g = this.generations.get(owner);
    if (g === undefined) {
      g = generationOf(this.prefixesOf(owner));
      this.generations.set(owner, g);
    }
    return g;
  }

  /**
   * Finds the owner of a destination, which may be a counted (masked) prefix. The owner is the
   * registered spoke to whose peer goes everything of the destination that goes to any spoke.
   * `registeredAt` returns the overlay address at which the spoke behind a peer is registered.
   */
  resolve(destination: Prefix, registeredAt: (peer: string) => Address | undefined): OwnerAnswer {
    const around = this.peers.longestMatch(destination);
    const hits = new Set<string>();
    if (around !== undefined) hits.add(around.value);
    else for (const [, peer] of this.peers.inside(destination)) hits.add(peer);
    const [peer] = hits;
    if (peer === undefined)
      return { kind: "none", reason: `the hub does not route ${destination} to a spoke` };
    if (hits.size > 1) {
      return { kind: "ambiguous", reason: `${destination} holds destinations of ${hits.size} spokes` };
    }
    const owner = registeredAt(peer);
    if (owner === undefined)
      return { kind: "none", reason: `the spoke behind ${destination} does not run shortcutd` };
    return { kind: "owner", owner, prefixes: this.prefixesOf(owner) };
  }
}

/**
 * Returns the FIB without routes that leave elsewhere and are not inside a route via the overlay: a
 * full table costs little.
 */
function relevant(fib: HubTables["fib"]): PrefixMap<boolean> {
  const out = new PrefixMap<boolean>();
  const elsewhere = new Set<Prefix>();
  for (const [prefix, route] of fib) {
    if (route.overlay) {
      out.set(prefix, true);
      elsewhere.delete(prefix);
    } else {
      elsewhere.add(prefix);
      out.delete(prefix);
    }
  }
  const inside = [...elsewhere].filter((p) => out.longestMatch(p) !== undefined);
  for (const p of inside) out.set(p, false);
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
 * Returns the fewest prefixes that cover a change's own addresses: `difference` for sorted and
 * disjoint exceptions.
 */
function without(c: Change): Prefix[] {
  const out: Prefix[] = [];
  const split = (bytes: Uint8Array, length: number, from: number, to: number): void => {
    const first = c.exceptions[from];
    if (from === to || first === undefined) {
      out.push(prefixFromBytes(bytes, length));
      return;
    }
    if (first.length === length) return;
    let middle = from;
    while (middle < to && bit(c.exceptions[middle]?.bytes ?? bytes, length) === 0) middle++;
    split(bytes, length + 1, from, middle);
    const upper = bytes.slice();
    upper[length >> 3] = (upper[length >> 3] ?? 0) | (0x80 >> (length & 7));
    split(upper, length + 1, middle, to);
  };
  split(c.bytes, c.length, 0, c.exceptions.length);
  return out;
}
