/**
 * Generations: a 64-bit digest of a set of prefixes, equal on every router that holds the same set.
 * It is not a secret and not a signature (the MAC of the datagram protects it), so FNV-1a is
 * enough.
 */
import { comparePrefixes, type Prefix } from "../../net/address.js";
import type { Id64 } from "../../wire/control/message.js";

const OFFSET = 0xcbf29ce484222325n;
const PRIME = 0x100000001b3n;
const MASK = 0xffffffffffffffffn;

/** Computes FNV-1a (64 bits) over the canonical text of the sorted prefixes, comma separated. */
export function generationOf(prefixes: Iterable<Prefix>): Id64 {
  let h = OFFSET;
  for (const c of [...prefixes].sort(comparePrefixes).join(",")) {
    h ^= BigInt(c.charCodeAt(0));
    h = (h * PRIME) & MASK;
  }
  return h.toString(16).padStart(16, "0") as Id64;
}
