/**
 * What a hub attests: for every spoke, the prefixes that the hub itself routes to that spoke and to nobody else. A
 * WireGuard hub decides in two steps: its FIB sends a packet to the overlay interface, then the interface's AllowedIPs pick the
 * peer by longest match. Attestation is the intersection of the two, as a set difference where more specific entries of others lie
 * inside: no spoke can attract more than the hub already sends it.
 */
import {
  type Address,
  comparePrefixes,
  contains,
  difference,
  familyOf,
  hostPrefix,
  overlaps,
  type Prefix,
  prefixLength,
} from "../net/address.js";
import { PrefixMap } from "../net/lpm.js";

/** One AllowedIPs entry of the overlay interface; `peer` is any stable identity of the WireGuard peer. */
export interface AllowedIp {
  readonly prefix: Prefix;
  readonly peer: string;
}

export interface HubTables {
  /** The hub's main FIB: for each prefix whether it leaves by the overlay interface. */
  readonly fib: Iterable<readonly [Prefix, { readonly overlay: boolean }]>;
  readonly allowedIps: Iterable<AllowedIp>;
}

export type OwnerAnswer =
  | { readonly kind: "owner"; readonly owner: Address; readonly prefixes: readonly Prefix[] }
  | { readonly kind: "none"; readonly reason: string }
  | { readonly kind: "ambiguous"; readonly reason: string };

const siblingMerge = (sorted: Prefix[]): Prefix[] => {
  const out: Prefix[] = [];
  for (const p of sorted) if (!out.some((o) => contains(o, p))) out.push(p);
  return out.sort(comparePrefixes);
};

export class Attestation {
  private readonly fib = new PrefixMap<boolean>();
  private readonly allowed = new PrefixMap<string>();
  private readonly byPeer = new Map<string, Prefix[]>();
  private readonly peerPrefixes: { readonly prefix: Prefix; readonly peer: string }[] = [];

  constructor(tables: HubTables) {
    for (const [prefix, route] of tables.fib) this.fib.set(prefix, route.overlay);
    for (const a of tables.allowedIps) this.allowed.set(a.prefix, a.peer);
    this.build();
  }

  /**
   * Every (FIB entry by the overlay) x (AllowedIPs entry) pair that overlaps contributes its more specific side, minus more specific
   * FIB entries that leave elsewhere and more specific AllowedIPs of other peers. Host routes of the overlay itself are left to
   * {@link overlayOwner}: an owner's own overlay address always belongs to it.
   */
  private build(): void {
    const raw = new Map<string, Set<Prefix>>();
    const fibEntries = [...this.fib];
    const allowedEntries = [...this.allowed];
    const fibElsewhere = fibEntries.filter(([, overlay]) => !overlay).map(([p]) => p);
    const add = (peer: string, p: Prefix) => {
      let set = raw.get(peer);
      if (set === undefined) {
        set = new Set();
        raw.set(peer, set);
      }
      set.add(p);
    };
    for (const [route, overlay] of fibEntries) {
      if (!overlay) continue;
      const candidates = allowedEntries.filter(
        ([a]) => familyOf(a) === familyOf(route) && overlaps(a, route),
      );
      for (const [a, peer] of candidates) {
        const common = prefixLength(a) > prefixLength(route) ? a : route;
        // a longer FIB entry inside `common` speaks for itself, in its own turn
        const others = candidates.filter(([b, q]) => q !== peer && contains(a, b) && b !== a).map(([b]) => b);
        const elsewhere = fibElsewhere.filter(
          (p) => contains(common, p) && prefixLength(p) > prefixLength(route),
        );
        if (this.allowed.longestMatch(common)?.value !== peer && prefixLength(a) <= prefixLength(route))
          continue;
        if (this.fib.longestMatch(common)?.value !== true) continue;
        for (const p of difference(common, [...others, ...elsewhere])) add(peer, p);
      }
    }
    for (const [peer, set] of raw) {
      const list = siblingMerge([...set].sort((x, y) => prefixLength(x) - prefixLength(y)));
      this.byPeer.set(peer, list);
      for (const prefix of list) this.peerPrefixes.push({ prefix, peer });
    }
  }

  /** The WireGuard peer to which the overlay sends packets for this address, whatever the FIB says. */
  peerOf(overlayAddress: Address): string | undefined {
    return this.allowed.longestMatch(overlayAddress)?.value;
  }

  /** The site prefixes of the peer behind an overlay address: without host routes of the overlay's own addresses. */
  prefixesOf(owner: Address): readonly Prefix[] {
    const peer = this.peerOf(owner);
    if (peer === undefined) return [];
    return (this.byPeer.get(peer) ?? []).filter((p) => p !== hostPrefix(owner));
  }

  /**
   * Who owns a destination, which may be a counted (masked) prefix: the registered spoke to whose peer all of it goes.
   * `registered` are the overlay addresses of the spokes that speak shortcutd.
   */
  resolve(destination: Prefix, registered: readonly Address[]): OwnerAnswer {
    const hits = new Set(this.peerPrefixes.filter((e) => overlaps(e.prefix, destination)).map((e) => e.peer));
    const [peer] = hits;
    if (peer === undefined)
      return { kind: "none", reason: `the hub does not route ${destination} to a spoke` };
    if (hits.size > 1) {
      return { kind: "ambiguous", reason: `${destination} holds destinations of ${hits.size} spokes` };
    }
    const owner = registered.find((a) => this.peerOf(a) === peer);
    if (owner === undefined)
      return { kind: "none", reason: `the spoke behind ${destination} does not run shortcutd` };
    return { kind: "owner", owner, prefixes: this.prefixesOf(owner) };
  }
}
