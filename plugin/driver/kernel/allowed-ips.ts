/**
 * Compares the AllowedIPs that a peer should have with those that it has; pure. Only the differences are written to a live peer:
 * a replacement of the whole list empties it first, and packets in between have no peer.
 */
import type { Prefix } from "../../net/address.js";

export interface AllowedIpsChange {
  readonly add: readonly Prefix[];
  readonly drop: readonly Prefix[];
}

/** The prefixes to add to a peer and to take from it, in the order in which they are given. */
export function allowedIpsChange(wanted: readonly Prefix[], actual: readonly Prefix[]): AllowedIpsChange {
  const [want, have] = [new Set(wanted), new Set(actual)];
  return {
    add: [...want].filter((p) => !have.has(p)),
    drop: [...have].filter((p) => !want.has(p)),
  };
}
