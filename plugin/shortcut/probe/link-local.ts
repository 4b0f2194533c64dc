/**
 * Derives the link-local address of a direct interface from its public key: fe80::/64 and the key's
 * first eight bytes. Probes use it, since its scope binds them to the direct interface, and
 * WireGuard's AllowedIPs authenticate it.
 */
import { type Address, addressBytes, addressFromBytes } from "../../net/address.js";
import { keyBytes, type PublicKey } from "../../net/key.js";

export function linkLocalOf(key: PublicKey): Address {
  const bytes = new Uint8Array(16);
  bytes.set([0xfe, 0x80]);
  bytes.set(keyBytes(key).subarray(0, 8), 8);
  return addressFromBytes(bytes);
}

/** Returns whether an address is of fe80::/10. */
export const isLinkLocal = (a: Address): boolean => {
  const [first = 0, second = 0, ...rest] = addressBytes(a);
  return rest.length > 2 && first === 0xfe && (second & 0xc0) === 0x80;
};
