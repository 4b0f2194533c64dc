/**
 * The alias pool: addresses that never receive a packet, used as BGP next hops of offers, one per
 * owner and next hop underneath. The lowest free address of the pool is taken, so that a restart
 * tends to assign the same addresses. The network address and, for IPv4, the last address of the
 * pool are not used.
 */
import {
  type Address,
  addressBits,
  addressBytes,
  addressFromBytes,
  contains,
  type Family,
  familyOf,
  type Prefix,
  prefixAddress,
  prefixLength,
} from "../../net/address.js";
import type { Underneath } from "../events.js";

/** A next hop underneath, with the overlay interfaces that it is reached through. */
export type UnderlyingHop = Pick<Underneath, "nextHop" | "via">;

const useOf = (owner: Address, { nextHop, via }: UnderlyingHop, family: Family): string =>
  `${owner} ${nextHop}%${[...via].sort().join("+")} ${family}`;

export class AliasPool {
  private readonly byUse = new Map<string, Address>();
  private readonly taken = new Map<Address, string>();

  constructor(private readonly pools: { readonly 4: Prefix; readonly 6: Prefix | undefined }) {}

  /**
   * Returns the alias for an owner's prefixes over one next hop; undefined when the family has no
   * pool or the pool is used up.
   */
  acquire(owner: Address, hop: UnderlyingHop, family: Family): Address | undefined {
    const use = useOf(owner, hop, family);
    const existing = this.byUse.get(use);
    if (existing !== undefined) return existing;
    const pool = this.pools[family];
    if (pool === undefined) return undefined;
    const size = 2 ** Math.min(20, addressBits(family) - prefixLength(pool));
    for (let i = 1; i < size - 1; i++) {
      const candidate = nth(pool, i);
      if (this.taken.has(candidate)) continue;
      this.taken.set(candidate, use);
      this.byUse.set(use, candidate);
      return candidate;
    }
    return undefined;
  }

  /** Lets an alias stand for another next hop of its owner. Returns whether it does: not when that one has another alias. */
  move(alias: Address, owner: Address, hop: UnderlyingHop): boolean {
    const use = useOf(owner, hop, familyOf(alias));
    const former = this.taken.get(alias);
    if (former === use) return true;
    if (former === undefined || this.byUse.has(use)) return false;
    this.byUse.delete(former);
    this.taken.set(alias, use);
    this.byUse.set(use, alias);
    return true;
  }

  release(alias: Address): void {
    const use = this.taken.get(alias);
    if (use === undefined) return;
    this.taken.delete(alias);
    this.byUse.delete(use);
  }

  contains(a: Address): boolean {
    const pool = this.pools[familyOf(a)];
    return pool !== undefined && contains(pool, a);
  }
}

function nth(pool: Prefix, n: number): Address {
  const bytes = addressBytes(prefixAddress(pool));
  let carry = n;
  for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
    carry += bytes[i] ?? 0;
    bytes[i] = carry & 0xff;
    carry >>= 8;
  }
  return addressFromBytes(bytes);
}
