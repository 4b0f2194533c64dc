/**
 * The session that two OPENs agree on (RFC 4271 §4.2 and §6.2, RFC 5492): hold time, families, ADD-PATH, or the NOTIFICATION
 * that refuses it.
 */

import type { Address, Family } from "../net/address.js";
import { err, ok, type Result } from "../net/result.js";
import type { Seconds } from "../net/units.js";
import type { SessionType, UpdateContext } from "../wire/bgp/attributes.js";
import { type Notification, notification } from "../wire/bgp/notification.js";
import type { AddPathMode, Open } from "../wire/bgp/open.js";
import type { BgpProblem } from "./problem.js";

export interface SessionConfig {
  /** For logs: `offers`, `feed`. */
  readonly name: string;
  readonly localAs: number;
  /** Equal to `localAs` for an internal session. */
  readonly remoteAs: number;
  /** BGP identifier; must differ from the daemon's (RFC 6286 §2.2). */
  readonly routerId: Address;
  /** Seconds, at least 3. The smaller of both ends' counts. */
  readonly holdTime: Seconds;
  readonly families: readonly Family[];
  /** Receive all paths of a prefix (RFC 7911). */
  readonly addPathReceive: boolean;
  /**
   * Tell the neighbour that End-of-RIB is wanted, by a graceful restart capability without address families (RFC 4724 §3).
   * bgpd sends none otherwise, and ignores route refresh requests until it has sent one (bgpd/bgp_packet.c,
   * bgp_route_refresh_receive). For sessions that receive; nothing is retained when they end.
   */
  readonly askEndOfRib: boolean;
  readonly backoff: { readonly minMs: number; readonly maxMs: number };
}

/** The outcome of the negotiation. */
export interface Agreement {
  readonly remoteId: Address;
  readonly sessionType: SessionType;
  /** Seconds. */
  readonly holdTime: Seconds;
  readonly families: readonly Family[];
  readonly routeRefresh: boolean;
  readonly enhancedRouteRefresh: boolean;
  /** How UPDATEs that arrive read. */
  readonly receive: UpdateContext;
  /** How UPDATEs that leave are written: never with path identifiers. */
  readonly send: UpdateContext;
}

export const openOf = (c: SessionConfig): Open => ({
  as: c.localAs,
  holdTime: c.holdTime,
  bgpIdentifier: c.routerId,
  capabilities: {
    families: new Set(c.families),
    fourOctetAs: true,
    routeRefresh: true,
    enhancedRouteRefresh: true,
    addPath: new Map<Family, AddPathMode>(
      c.addPathReceive ? c.families.map((f): [Family, AddPathMode] => [f, "receive"]) : [],
    ),
    gracefulRestart: c.askEndOfRib ? "end-of-rib" : "none",
  },
});

export interface OpenRefusal {
  readonly notification: Notification;
  readonly problem: BgpProblem;
}

/** Compares the neighbour's OPEN with the configuration. */
export function negotiate(c: SessionConfig, peer: Open): Result<Agreement, OpenRefusal> {
  const refuse = (n: Notification, reason: string): Result<Agreement, OpenRefusal> =>
    err({ notification: n, problem: { kind: "protocol-error", notification: n, reason } });
  if (peer.as !== c.remoteAs)
    return err({
      notification: notification(2, 2),
      problem: { kind: "wrong-as", expected: c.remoteAs, received: peer.as },
    });
  const sessionType = c.localAs === c.remoteAs ? "ibgp" : "ebgp";
  if (peer.bgpIdentifier === c.routerId && sessionType === "ibgp")
    return refuse(
      notification(2, 3),
      `both ends have the BGP identifier ${c.routerId}: give shortcutd another router ID`,
    );
  if (peer.holdTime === 0)
    return refuse(
      notification(2, 6),
      "the daemon's hold time is 0: it would never notice that shortcutd hangs; set it to 9 s",
    );
  const { capabilities } = peer;
  const families = c.families.filter((f) => capabilities.families.has(f));
  if (families.length === 0) {
    const wanted = c.families.flatMap((f) => [1, 4, 0, f === 4 ? 1 : 2, 0, 1]);
    return refuse(
      notification(2, 7, Uint8Array.from(wanted)),
      `the daemon has none of ${c.families.map((f) => `IPv${f} unicast`).join(", ")} on this session`,
    );
  }
  const addPath = new Set(
    families.filter((f) => c.addPathReceive && ["send", "both"].includes(capabilities.addPath.get(f) ?? "")),
  );
  const common = { sessionType, fourOctetAs: capabilities.fourOctetAs, families: new Set(families) } as const;
  return ok({
    remoteId: peer.bgpIdentifier,
    sessionType,
    holdTime: Math.min(c.holdTime, peer.holdTime),
    families,
    routeRefresh: capabilities.routeRefresh,
    enhancedRouteRefresh: capabilities.enhancedRouteRefresh,
    receive: { ...common, addPath },
    send: { ...common, addPath: new Set<Family>() },
  });
}

/** @throws RangeError for values that no session can have: the configuration is validated before. */
export function checkConfig(c: SessionConfig): void {
  const wrong = (what: string): never => {
    throw new RangeError(`BGP session ${c.name}: ${what}`);
  };
  for (const as of [c.localAs, c.remoteAs])
    if (!Number.isInteger(as) || as < 1 || as > 0xffffffff) wrong(`AS ${as}`);
  if (!Number.isInteger(c.holdTime) || c.holdTime < 3 || c.holdTime > 0xffff)
    wrong(`hold time ${c.holdTime} s; 3 to 65535 s are possible`);
  if (c.routerId.includes(":") || c.routerId === "0.0.0.0") wrong(`router ID ${c.routerId}`);
  if (c.families.length === 0) wrong("no address family");
  if (c.backoff.minMs <= 0 || c.backoff.maxMs < c.backoff.minMs) wrong("reconnect backoff");
}
