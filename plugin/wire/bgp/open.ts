/**
 * OPEN (RFC 4271 §4.2) and its capabilities (RFC 5492): multiprotocol (RFC 4760), route refresh (RFC 2918, RFC 7313),
 * 4-octet AS (RFC 6793), ADD-PATH (RFC 7911). Graceful restart (RFC 4724) is never asked for, because a daemon must drop the
 * offers the moment the session ends; of it, only the form without address families can be sent, which retains nothing
 * and says that End-of-RIB is understood.
 *
 *     version: 1  my AS: 2  hold time: 2  BGP identifier: 4  parameters length: 1  parameters
 */

import { type Address, addressBytes, addressFromBytes, type Family } from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import type { Seconds } from "../../net/units.js";
import { concat } from "../bytes.js";
import { AS_TRANS } from "./attributes.js";
import { Cursor, u16, u32 } from "./bytes.js";
import { frame, MESSAGE } from "./framer.js";
import { afiOf, familyOfAfi, SAFI_UNICAST } from "./nlri.js";
import { type Notification, notification } from "./notification.js";

export type AddPathMode = "receive" | "send" | "both";

export interface Capabilities {
  /** IPv4 unicast is implied when a neighbour names no family at all. */
  readonly families: ReadonlySet<Family>;
  readonly fourOctetAs: boolean;
  readonly routeRefresh: boolean;
  readonly enhancedRouteRefresh: boolean;
  readonly addPath: ReadonlyMap<Family, AddPathMode>;
  /** `end-of-rib` names no address family (RFC 4724 §3): nothing is retained when the session ends. */
  readonly gracefulRestart: "none" | "end-of-rib" | "forwarding";
}

export interface Open {
  /** The true AS number, from the capability where there is one. */
  readonly as: number;
  /** Seconds; 0 means no keepalives. */
  readonly holdTime: Seconds;
  readonly bgpIdentifier: Address;
  readonly capabilities: Capabilities;
}

export interface OpenError {
  readonly notification: Notification;
  readonly reason: string;
}

const CAPABILITY = {
  MULTIPROTOCOL: 1,
  ROUTE_REFRESH: 2,
  GRACEFUL_RESTART: 64,
  FOUR_OCTET_AS: 65,
  ADD_PATH: 69,
  ENHANCED_ROUTE_REFRESH: 70,
} as const;
const PARAMETER_CAPABILITIES = 2;
const ADD_PATH_MODES = ["receive", "send", "both"] as const;

const capability = (code: number, value: Uint8Array): Uint8Array =>
  concat([Uint8Array.of(code, value.length), value]);

/** The whole message. All capabilities go into one optional parameter, in ascending order of code. */
export function encodeOpen(open: Open): Uint8Array {
  const { capabilities: c } = open;
  const list: Uint8Array[] = [];
  const none = new Uint8Array(0);
  for (const family of c.families)
    list.push(
      capability(CAPABILITY.MULTIPROTOCOL, concat([u16(afiOf(family)), Uint8Array.of(0, SAFI_UNICAST)])),
    );
  if (c.routeRefresh) list.push(capability(CAPABILITY.ROUTE_REFRESH, none));
  if (c.gracefulRestart === "end-of-rib") list.push(capability(CAPABILITY.GRACEFUL_RESTART, u16(0)));
  if (c.fourOctetAs) list.push(capability(CAPABILITY.FOUR_OCTET_AS, u32(open.as)));
  if (c.addPath.size > 0) {
    const entries = [...c.addPath].map(([family, mode]) =>
      concat([u16(afiOf(family)), Uint8Array.of(SAFI_UNICAST, ADD_PATH_MODES.indexOf(mode) + 1)]),
    );
    list.push(capability(CAPABILITY.ADD_PATH, concat(entries)));
  }
  if (c.enhancedRouteRefresh) list.push(capability(CAPABILITY.ENHANCED_ROUTE_REFRESH, none));
  const all = concat(list);
  const parameters =
    all.length === 0 ? none : concat([Uint8Array.of(PARAMETER_CAPABILITIES, all.length), all]);
  return frame(
    MESSAGE.OPEN,
    concat([
      Uint8Array.of(4),
      u16(open.as > 0xffff ? AS_TRANS : open.as),
      u16(open.holdTime),
      addressBytes(open.bgpIdentifier),
      Uint8Array.of(parameters.length),
      parameters,
    ]),
  );
}

interface Found {
  as: number | undefined;
  families: Set<Family>;
  anyFamily: boolean;
  routeRefresh: boolean;
  enhancedRouteRefresh: boolean;
  addPath: Map<Family, AddPathMode>;
  gracefulRestart: Capabilities["gracefulRestart"];
}

/** One capability. A known one of wrong length is ignored like an unknown one (RFC 5492 §4 leaves it open), except the AS. */
function decodeCapability(found: Found, code: number, value: Uint8Array): string | undefined {
  const cursor = new Cursor(value);
  switch (code) {
    case CAPABILITY.MULTIPROTOCOL: {
      if (value.length !== 4) return undefined;
      found.anyFamily = true;
      const family = familyOfAfi(cursor.u16() ?? 0);
      cursor.u8();
      if (family !== undefined && cursor.u8() === SAFI_UNICAST) found.families.add(family);
      return undefined;
    }
    case CAPABILITY.ROUTE_REFRESH:
      found.routeRefresh = true;
      return undefined;
    case CAPABILITY.ENHANCED_ROUTE_REFRESH:
      found.enhancedRouteRefresh = true;
      return undefined;
    case CAPABILITY.GRACEFUL_RESTART:
      found.gracefulRestart = value.length > 2 ? "forwarding" : "end-of-rib";
      return undefined;
    case CAPABILITY.FOUR_OCTET_AS:
      if (value.length !== 4) return `4-octet AS capability with ${value.length} bytes`;
      found.as = cursor.u32();
      return undefined;
    case CAPABILITY.ADD_PATH:
      while (cursor.left >= 4) {
        const family = familyOfAfi(cursor.u16() ?? 0);
        const safi = cursor.u8();
        const mode = ADD_PATH_MODES[(cursor.u8() ?? 0) - 1];
        if (family !== undefined && safi === SAFI_UNICAST && mode !== undefined)
          found.addPath.set(family, mode);
      }
      return undefined;
    default:
      return undefined;
  }
}

function decodeParameters(found: Found, bytes: Uint8Array, extended: boolean): OpenError | undefined {
  const cursor = new Cursor(bytes);
  const malformed = (reason: string): OpenError => ({ notification: notification(2, 0), reason });
  while (cursor.left > 0) {
    const type = cursor.u8() ?? 0;
    const length = extended ? cursor.u16() : cursor.u8();
    const value = length === undefined ? undefined : cursor.take(length);
    if (value === undefined) return malformed("an optional parameter overruns the OPEN");
    if (type !== PARAMETER_CAPABILITIES)
      return { notification: notification(2, 4), reason: `optional parameter ${type}` };
    const list = new Cursor(value);
    while (list.left > 0) {
      const code = list.u8() ?? 0;
      const size = list.u8();
      const content = size === undefined ? undefined : list.take(size);
      if (content === undefined) return malformed(`capability ${code} overruns its parameter`);
      const wrong = decodeCapability(found, code, content);
      if (wrong !== undefined) return malformed(wrong);
    }
  }
  return undefined;
}

/** Decodes the body and checks what is wrong in itself (RFC 4271 §6.2); the session compares AS and identifier with its own. */
export function decodeOpen(body: Uint8Array): Result<Open, OpenError> {
  const cursor = new Cursor(body);
  const version = cursor.u8();
  const as2 = cursor.u16();
  const holdTime = cursor.u16();
  const id = cursor.take(4);
  const short = cursor.u8();
  if (as2 === undefined || holdTime === undefined || id === undefined || short === undefined)
    return err({ notification: notification(2, 0), reason: "an OPEN that is cut off" });
  if (version !== 4)
    return err({ notification: notification(2, 1, u16(4)), reason: `BGP version ${version}` });
  let parameters = cursor.rest();
  // RFC 9072: a first parameter of type 255 announces two-octet lengths.
  const extended = short !== 0 && parameters[0] === 255 && parameters.length >= 3;
  const length = extended ? ((parameters[1] ?? 0) << 8) | (parameters[2] ?? 0) : short;
  if (extended) parameters = parameters.subarray(3);
  if (length !== parameters.length)
    return err({
      notification: notification(2, 0),
      reason: `optional parameters of ${length} bytes, but ${parameters.length} follow`,
    });
  const found: Found = {
    as: undefined,
    families: new Set(),
    anyFamily: false,
    routeRefresh: false,
    enhancedRouteRefresh: false,
    addPath: new Map(),
    gracefulRestart: "none",
  };
  const wrong = decodeParameters(found, parameters, extended);
  if (wrong !== undefined) return err(wrong);
  if (!found.anyFamily) found.families.add(4);
  const as = found.as ?? as2;
  if (as === 0) return err({ notification: notification(2, 2), reason: "AS 0 (RFC 7607)" });
  if (holdTime === 1 || holdTime === 2)
    return err({ notification: notification(2, 6), reason: `a hold time of ${holdTime} s` });
  if (id.every((b) => b === 0))
    return err({ notification: notification(2, 3), reason: "BGP identifier 0.0.0.0" });
  return ok({
    as,
    holdTime,
    bgpIdentifier: addressFromBytes(id),
    capabilities: {
      families: found.families,
      fourOctetAs: found.as !== undefined,
      routeRefresh: found.routeRefresh,
      enhancedRouteRefresh: found.enhancedRouteRefresh,
      addPath: found.addPath,
      gracefulRestart: found.gracefulRestart,
    },
  });
}
