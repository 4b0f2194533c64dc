/** Multiprotocol reachability from bytes (RFC 4760), for the families that the session has. */
import { type Address, addressFromBytes, type Family } from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import type { Nlri, UpdateContext } from "./attributes.js";
import { Cursor } from "./bytes.js";
import { decodeNlri, familyOfAfi, SAFI_UNICAST } from "./nlri.js";

export interface MpReach {
  readonly family: Family;
  readonly nextHop: Address;
  readonly linkLocalNextHop: Address | undefined;
  readonly nlri: readonly Nlri[];
}

export interface MpUnreach {
  readonly family: Family;
  readonly nlri: readonly Nlri[];
}

/** Undefined for a family that was not negotiated. */
export function decodeMpReach(
  value: Uint8Array,
  context: UpdateContext,
): Result<MpReach | undefined, string> {
  const cursor = new Cursor(value);
  const afi = cursor.u16();
  const safi = cursor.u8();
  const length = cursor.u8();
  if (afi === undefined || safi === undefined || length === undefined) return err("the header is cut off");
  const family = familyOfAfi(afi);
  const hop = cursor.take(length);
  if (hop === undefined) return err(`a next hop of ${length} octets overruns the attribute`);
  if (family === undefined || safi !== SAFI_UNICAST || !context.families.has(family)) return ok(undefined);
  if (family === 4 ? length !== 4 : length !== 16 && length !== 32)
    return err(`a next hop of ${length} octets for IPv${family}`);
  if (cursor.u8() === undefined) return err("the reserved octet is missing");
  const nlri = decodeNlri(cursor.rest(), family, context.addPath.has(family));
  if (!nlri.ok) return nlri;
  return ok({
    family,
    nextHop: addressFromBytes(hop.subarray(0, family === 4 ? 4 : 16)),
    linkLocalNextHop: length === 32 ? addressFromBytes(hop.subarray(16)) : undefined,
    nlri: nlri.value,
  });
}

/** Undefined for a family that was not negotiated. */
export function decodeMpUnreach(
  value: Uint8Array,
  context: UpdateContext,
): Result<MpUnreach | undefined, string> {
  const cursor = new Cursor(value);
  const afi = cursor.u16();
  const safi = cursor.u8();
  if (afi === undefined || safi === undefined) return err("the header is cut off");
  const family = familyOfAfi(afi);
  if (family === undefined || safi !== SAFI_UNICAST || !context.families.has(family)) return ok(undefined);
  const nlri = decodeNlri(cursor.rest(), family, context.addPath.has(family));
  return nlri.ok ? ok({ family, nlri: nlri.value }) : nlri;
}
