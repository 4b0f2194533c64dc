/**
 * Finds how many hops an opening has to travel: to the last NAT before this router and not beyond.
 * Datagrams with growing time to live go towards a hub, and the routers at which they expire answer
 * with their address (RFC 792). NATs stand where private addresses end (RFC 1918, RFC 6598), so the
 * first public hop is the first behind the last NAT. IPv4 only. Where no router answers, one NAT is
 * assumed.
 */
import type { Address, Endpoint } from "../../net/address.js";
import { familyOf, sameEndpoint } from "../../net/address.js";
import { isPrivate } from "./candidates.js";

/** Hops of one NAT, and the router behind it. */
const ASSUMED = 2;
export const MOST_HOPS = 5;

export class HopCount {
  private towards: Endpoint | undefined;
  private readonly seen = new Map<number, Address>();

  /** Begins again; the caller sends a datagram of each time to live up to {@link MOST_HOPS}. */
  begin(to: Endpoint): boolean {
    if (familyOf(to.address) !== 4) return false;
    this.towards = to;
    this.seen.clear();
    return true;
  }

  /** Notes the router at which a datagram expired. */
  exceeded(hop: Address, to: Endpoint, ttl: number): void {
    if (ttl >= 1 && ttl <= MOST_HOPS && sameEndpoint(to, this.towards)) this.seen.set(ttl, hop);
  }

  /** The time to live of an opening. */
  get openTtl(): number {
    let passed = 0;
    for (let ttl = 1; ttl <= MOST_HOPS; ttl++) {
      const hop = this.seen.get(ttl);
      if (hop === undefined) continue;
      if (!isPrivate(hop)) return ttl;
      passed = ttl;
    }
    return passed === 0 ? ASSUMED : Math.min(passed + 1, MOST_HOPS);
  }

  /** The hops, as addresses for display; a NAT may stand before each of them. */
  get hops(): readonly Address[] {
    return [...this.seen].sort(([a], [b]) => a - b).map(([, hop]) => hop);
  }
}
