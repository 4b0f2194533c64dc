/**
 * NLRI: the list of prefixes in UPDATE (RFC 4271 §4.3), MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760 §5), with path
 * identifiers where ADD-PATH is in use (RFC 7911 §3). AFI 1 and 2, SAFI 1.
 *
 *     [path identifier: 4]  length in bits: 1  prefix: (length + 7) / 8
 */
import {
  addressBytes,
  type Family,
  type Prefix,
  prefixAddress,
  prefixFromBytes,
  prefixLength,
} from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import { concat } from "../bytes.js";
import type { Nlri } from "./attributes.js";
import { Cursor, u32 } from "./bytes.js";

export const SAFI_UNICAST = 1;
export const afiOf = (family: Family): 1 | 2 => (family === 4 ? 1 : 2);
export const familyOfAfi = (afi: number): Family | undefined => (afi === 1 ? 4 : afi === 2 ? 6 : undefined);

/** Bits beyond the prefix length are irrelevant (RFC 4271 §4.3) and cleared. */
export function decodeNlri(bytes: Uint8Array, family: Family, addPath: boolean): Result<Nlri[], string> {
  const cursor = new Cursor(bytes);
  const size = family === 4 ? 4 : 16;
  const out: Nlri[] = [];
  while (cursor.left > 0) {
    const pathId = addPath ? cursor.u32() : 0;
    if (pathId === undefined) return err(`NLRI ${out.length + 1}: the path identifier is cut off`);
    const length = cursor.u8();
    if (length === undefined) return err(`NLRI ${out.length + 1}: no prefix length`);
    if (length > size * 8) return err(`NLRI ${out.length + 1}: prefix length ${length} exceeds ${size * 8}`);
    const octets = cursor.take((length + 7) >> 3);
    if (octets === undefined) return err(`NLRI ${out.length + 1}: the prefix is cut off`);
    const whole = new Uint8Array(size);
    whole.set(octets);
    out.push({ prefix: prefixFromBytes(whole, length), pathId });
  }
  return ok(out);
}

function encodePrefix(prefix: Prefix): Uint8Array {
  const length = prefixLength(prefix);
  const octets = (length + 7) >> 3;
  const out = new Uint8Array(1 + octets);
  out[0] = length;
  out.set(addressBytes(prefixAddress(prefix)).subarray(0, octets), 1);
  return out;
}

/** The NLRI cut into fields of at most `room` bytes each; none when the list is empty. `room` must hold one NLRI. */
export function packNlri(nlri: Iterable<Nlri>, addPath: boolean, room: number): Uint8Array[] {
  const fields: Uint8Array[] = [];
  let field: Uint8Array[] = [];
  let used = 0;
  for (const { prefix, pathId } of nlri) {
    const encoded = addPath ? concat([u32(pathId), encodePrefix(prefix)]) : encodePrefix(prefix);
    if (used + encoded.length > room && used > 0) {
      fields.push(concat(field));
      field = [];
      used = 0;
    }
    field.push(encoded);
    used += encoded.length;
  }
  if (used > 0) fields.push(concat(field));
  return fields;
}

/** The longest encoding of one NLRI of the family. */
export const longestNlri = (family: Family, addPath: boolean): number =>
  1 + (family === 4 ? 4 : 16) + (addPath ? 4 : 0);
