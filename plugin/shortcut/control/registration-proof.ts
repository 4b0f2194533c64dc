/**
 * The proof that a spoke registers with: a MAC under X25519 of the private key of its overlay interface
 * and the public key of the hub's. Only a process that may read the overlay interface's key can make
 * it, so a host in the site, or a user without privileges on the router, cannot speak for the overlay
 * peer. It binds the direct key and the boot to the peer.
 */
import { type Address, addressBytes } from "../../net/address.js";
import { keyBytes, type PublicKey } from "../../net/key.js";
import { concat } from "../../wire/bytes.js";
import { id64Bytes } from "../../wire/control/codec.js";
import type { Id64 } from "../../wire/control/message.js";
import { type OverlaySecrets, sameBytes } from "./pair-secrets.js";

/** The statement that the proof makes. */
export interface ProvenRegistration {
  readonly spoke: Address;
  readonly hub: Address;
  readonly directKey: PublicKey;
  readonly bootId: Id64;
}

const DOMAIN: Uint8Array = new TextEncoder().encode("shortcutd register 1");

/** The bytes under the MAC; addresses are preceded by their length. */
function proofInput(r: ProvenRegistration): Uint8Array {
  const parts: Uint8Array[] = [DOMAIN];
  for (const a of [r.spoke, r.hub]) {
    const bytes = addressBytes(a);
    parts.push(Uint8Array.of(bytes.length), bytes);
  }
  parts.push(keyBytes(r.directKey), id64Bytes(r.bootId));
  return concat(parts);
}

/** The two ends of the overlay's tunnel: the key of the own interface, and that of its peer. */
export interface OverlayKeys {
  readonly own: PublicKey;
  readonly peer: PublicKey;
}

/**
 * Makes the proof, 16 bytes.
 * @returns undefined while the own overlay key is unknown
 */
export const registrationProof = (
  secrets: OverlaySecrets,
  { own, peer }: OverlayKeys,
  r: ProvenRegistration,
): Uint8Array | undefined => secrets.of(own).mac(peer, proofInput(r));

/** Whether the proof was made by the holder of the peer's overlay key; undefined while the own one is unknown. */
export function proves(
  secrets: OverlaySecrets,
  keys: OverlayKeys,
  r: ProvenRegistration,
  proof: Uint8Array,
): boolean | undefined {
  const expected = registrationProof(secrets, keys, r);
  return expected && sameBytes(expected, proof);
}
