/**
 * Compares the declared state with the kernel's, and gives the steps to take; pure. At start everything of ours that
 * the kernel still has is left over from a crash, since nothing is wanted yet; later a difference is what somebody
 * else removed or added.
 */
import { type Address, contains, hostPrefix, type Prefix, prefixAddress } from "../../net/address.js";
import type { InterfaceNames } from "../../net/interface-names.js";
import { type PrivateKey, type PublicKey, privateKeyFromBytes } from "../../net/key.js";
import type { PeerWant } from "../../shortcut/events.js";
import type { KernelRoute } from "../../wire/netlink/fib.js";
import type { PeerSpec, WireGuardPeer } from "../ports.js";
import { RTPROT_FORMER, RTPROT_SHORTCUTD } from "./fib-view.js";

export interface RouteStep {
  readonly kind: "set" | "remove";
  readonly table: number;
  readonly prefix: Prefix;
  readonly via: readonly string[];
  readonly metric: number;
}

export interface WantedRoute {
  readonly table: number;
  readonly prefix: Prefix;
  /** The interfaces that it leaves through; none: an unreachable route. */
  readonly via: readonly string[];
  readonly metric: number;
}

const slot = (r: { readonly table: number; readonly prefix: Prefix; readonly metric: number }): string =>
  `${r.table} ${r.prefix} ${r.metric}`;

const same = (wanted: WantedRoute, have: KernelRoute): boolean =>
  wanted.via.length === 0
    ? have.type === "unreachable"
    : have.type === "unicast" &&
      sameNames(
        wanted.via,
        have.nextHops.map((n) => n.dev),
      );

const sameNames = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && [...a].sort().join() === [...b].sort().join();

/** Routes of our protocol number: sets what is missing or points elsewhere, removes what is not wanted. */
export function reconcileRoutes(wanted: readonly WantedRoute[], actual: readonly KernelRoute[]): RouteStep[] {
  const ours = new Map(actual.filter((r) => r.protocol === RTPROT_SHORTCUTD).map((r) => [slot(r), r]));
  const steps: RouteStep[] = [];
  for (const w of wanted) {
    const have = ours.get(slot(w));
    ours.delete(slot(w));
    if (have === undefined || !same(w, have)) steps.push({ kind: "set", ...w });
  }
  for (const r of ours.values()) {
    const { table, prefix, metric } = r;
    steps.push({ kind: "remove", table, prefix, metric, via: r.nextHops.map((n) => n.dev) });
  }
  return steps;
}

/** The shape of the routes of an earlier version: host routes in the alias pools, and routes of these metrics on the overlay. */
export interface FormerShape {
  readonly overlay: InterfaceNames;
  readonly direct: string;
  /** The overlay interfaces that they are to lead to. */
  readonly to: readonly string[];
  readonly pools: { readonly 4: Prefix; readonly 6: Prefix | undefined };
  readonly aliasMetric: number;
  /** Of overrides and guard routes. */
  readonly overlayMetrics: readonly number[];
}

/** Finds routes that an earlier version left. Open/R has the same protocol number, so that a route must also have the shape of ours. */
export const formerRoutes = (actual: readonly KernelRoute[], shape: FormerShape): WantedRoute[] => {
  const isOverlay = (dev: string | undefined): boolean => dev !== undefined && shape.overlay.has(dev);
  return actual
    .filter((r) => r.protocol === RTPROT_FORMER && r.nextHops.length === 1)
    .filter((r) => {
      const dev = r.nextHops[0]?.dev;
      return isAliasRoute(r, shape.pools)
        ? r.metric === shape.aliasMetric && (isOverlay(dev) || dev === shape.direct)
        : shape.overlayMetrics.includes(r.metric) && isOverlay(dev);
    })
    .map(({ table, prefix, metric }) => ({ table, prefix, metric, via: shape.to }));
};

/** A peer that is wanted, with its pre-shared key; undefined: none. */
export interface WantedPeer extends PeerWant {
  readonly presharedKey?: PrivateKey | undefined;
}

/** WireGuard takes a key of zeros as the absence of a key. */
const NO_KEY = privateKeyFromBytes(new Uint8Array(32));

export interface PeerSteps {
  readonly set: readonly PeerSpec[];
  readonly remove: readonly PublicKey[];
}

const sameSet = (a: readonly Prefix[], b: readonly Prefix[]): boolean =>
  a.length === b.length && [...a].sort().join() === [...b].sort().join();

/** Peers of the direct interface. An endpoint that roamed does not count as a difference. */
export function reconcilePeers(wanted: Iterable<WantedPeer>, actual: readonly WireGuardPeer[]): PeerSteps {
  const have = new Map(actual.map((p) => [p.publicKey, p]));
  const set: PeerSpec[] = [];
  for (const w of wanted) {
    const p = have.get(w.publicKey);
    have.delete(w.publicKey);
    const otherKey = p !== undefined && p.presharedKey !== w.presharedKey;
    if (otherKey) set.push({ ...w, presharedKey: w.presharedKey ?? NO_KEY });
    else if (p === undefined || !sameSet(p.allowedIps, w.allowedIps) || p.keepalive !== w.keepalive)
      set.push(w);
  }
  return { set, remove: [...have.keys()] };
}

/** Alias routes among our routes: those whose host address is in a pool. Everything else of ours is an override. */
const isAliasRoute = (
  r: KernelRoute,
  pools: { readonly 4: Prefix; readonly 6: Prefix | undefined },
): boolean => {
  const a: Address = prefixAddress(r.prefix);
  return r.prefix === hostPrefix(a) && [pools[4], pools[6]].some((p) => p !== undefined && contains(p, a));
};
