/**
 * ROUTE-REFRESH (RFC 2918), with the demarcation of RFC 7313: a request, or the beginning (BoRR) and the end (EoRR) of
 * the routes that answer one.
 *
 *     AFI: 2  subtype: 1  SAFI: 1
 */
import type { Family } from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import { concat } from "../bytes.js";
import { u16 } from "./bytes.js";
import { frame, MESSAGE } from "./framer.js";
import { afiOf, familyOfAfi, SAFI_UNICAST } from "./nlri.js";
import { type Notification, notification } from "./notification.js";

export interface RouteRefresh {
  /** Undefined for an address family that this speaker does not have. */
  readonly family: Family | undefined;
  readonly subtype: "request" | "begin" | "end" | "unknown";
}

const SUBTYPES = ["request", "begin", "end"] as const;

export const encodeRouteRefresh = (family: Family, subtype: (typeof SUBTYPES)[number]): Uint8Array =>
  frame(
    MESSAGE.ROUTE_REFRESH,
    concat([u16(afiOf(family)), Uint8Array.of(SUBTYPES.indexOf(subtype), SAFI_UNICAST)]),
  );

/**
 * RFC 7313 §5: a BoRR or EoRR of wrong length is an error of its own. A request may be longer: it then carries an
 * outbound route filter (RFC 5291), which was not negotiated and is ignored.
 */
export function decodeRouteRefresh(
  body: Uint8Array,
): Result<RouteRefresh, { notification: Notification; reason: string }> {
  const [high = 0, low = 0, subtype = 0, safi = 0] = body;
  if (body.length < 4 || (body.length > 4 && subtype !== 0))
    return err({
      notification: notification(7, 1, body.slice()),
      reason: `ROUTE-REFRESH with ${body.length} bytes instead of 4`,
    });
  return ok({
    family: safi === SAFI_UNICAST ? familyOfAfi(high * 256 + low) : undefined,
    subtype: SUBTYPES[subtype] ?? "unknown",
  });
}
