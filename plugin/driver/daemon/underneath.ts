/**
 * Shows what the daemon itself routes: the feed's Adj-RIB-In beside the FIB. Answers which route
 * lies underneath an offer and which overlay interfaces it leaves through, and derives the offer's
 * attributes from it.
 */

import { type OfferSpec, offerAttributes } from "../../bgp/offer.js";
import type { AdjRibIn, RibPath as BgpPath } from "../../bgp/rib.js";
import {
  type Address,
  addressBytes,
  addressFromBytes,
  contains,
  familyOf,
  hostPrefix,
  type Prefix,
  prefixAddress,
  prefixLength,
  prefixOf,
} from "../../net/address.js";
import { PrefixMap } from "../../net/lpm.js";
import { err, ok, type Result } from "../../net/result.js";
import type { OfferClasses, RoutingView, UnderneathVerdict } from "../../shortcut/events.js";
import { no } from "../../shortcut/reasons.js";
import { attributesKey, type PathAttributes } from "../../wire/bgp/attributes.js";
import type { KernelRoute } from "../../wire/netlink/fib.js";
import { type FibView, RTPROT_BIRD, RTPROT_KERNEL, RTPROT_SHORTCUTD } from "../kernel/fib-view.js";
import { byPreference } from "./best-path.js";
import { communitiesOf, interfaceMark, localPrefMark, withoutFeedMarks } from "./communities.js";
import type { IgpRoutes } from "./igp-routes.js";
import type { PathInterfaces } from "./path-interfaces.js";

export interface RoutingOptions {
  readonly fib: FibView;
  readonly feed: AdjRibIn;
  /** Routes that the feed does not carry; undefined where it carries all. */
  readonly igp: IgpRoutes | undefined;
  /** The interfaces of paths that the feed does not name; undefined where it names them. */
  readonly interfaces: PathInterfaces | undefined;
  readonly pools: { readonly 4: Prefix; readonly 6: Prefix | undefined };
  /** The table in which BIRD shows what it selected; undefined for FRR, whose FIB shows aliases. */
  readonly blackboard: number | undefined;
  readonly session: { readonly localAs: number; readonly remoteAs: number };
  /** Whether the session type does not matter: BIRD announces offers to no neighbour. */
  readonly anyType: boolean;
  /** This router's own addresses: its identity, and those on the overlay, also while it is down. */
  readonly addresses: readonly Address[];
  readonly hubs: readonly Address[];
  /** The daemon's AS, for shortcutd's own large communities. */
  readonly as: number;
}

/** The way that a next hop leads. */
type Hop =
  | { readonly kind: "via"; readonly devices: readonly string[] }
  /** The daemon is asked for the interface. */
  | { readonly kind: "unknown" }
  | { readonly kind: "unreached" }
  | { readonly kind: "elsewhere" };

const UNKNOWN: Hop = { kind: "unknown" };
const UNREACHED: Hop = { kind: "unreached" };
const ELSEWHERE: Hop = { kind: "elsewhere" };

/** A route underneath; without attributes when it is not a BGP route. */
interface Route {
  readonly prefix: Prefix;
  readonly nextHop: Address;
  readonly attributes: PathAttributes | undefined;
  readonly hop: Hop;
}

/** The interfaces that the FIB showed for a prefix when no offer hid it. */
interface Seen {
  readonly devices: readonly string[];
  /** The feed's paths at that time. */
  readonly paths: readonly BgpPath[];
}

/** The last result for a prefix. */
interface Answer {
  readonly text: string;
  readonly devices: readonly string[];
  /** Prefixes and addresses whose routes it follows from. */
  readonly rests: readonly Prefix[];
}

/** Next hops that are themselves reached by offered routes are followed so far. */
const DEEPEST = 3;
/** Prefixes of which something is remembered. */
const MOST_PREFIXES = 16_384;

function remember<T>(map: Map<Prefix, T>, prefix: Prefix, value: T): void {
  map.delete(prefix);
  map.set(prefix, value);
  for (const oldest of map.keys()) {
    if (map.size <= MOST_PREFIXES) return;
    map.delete(oldest);
  }
}

/** The IPv4 address of an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2), as FRR writes its own into IPv6 routes. */
function unmapped(a: Address): Address {
  const bytes = addressBytes(a);
  const isMapped = bytes.length === 16 && bytes.every((byte, i) => i >= 12 || byte === (i < 10 ? 0 : 0xff));
  return isMapped ? addressFromBytes(bytes.slice(12)) : a;
}

const intersects = (devices: readonly string[], hop: Hop): boolean =>
  hop.kind === "via" && hop.devices.some((d) => devices.includes(d));

export class Routing implements Omit<RoutingView, "wayTo"> {
  /** Whether the feed has sent everything once. */
  feedComplete = false;
  private readonly seen = new Map<Prefix, Seen>();
  private readonly answers = new Map<Prefix, Answer>();
  /** The answers of offered prefixes by what they rest on; undefined when it is to be made again. */
  private resting: PrefixMap<readonly Prefix[]> | undefined;

  constructor(private readonly options: RoutingOptions) {}

  private isAlias(a: Address | undefined): boolean {
    const pool = a === undefined ? undefined : this.options.pools[familyOf(a)];
    return a !== undefined && pool !== undefined && contains(pool, a);
  }

  // ------------------------------------------------------------------------------------- next hops

  /** Returns whether a route of the daemon's in the main table is an offer of ours that it has selected. */
  private isOffered(route: KernelRoute): boolean {
    const { blackboard, fib } = this.options;
    return (
      fib.pathOf(route) === "direct" ||
      route.nextHops.some((h) => this.isAlias(h.gateway)) ||
      (blackboard !== undefined &&
        fib.routes(blackboard, route.prefix).some((r) => r.protocol === RTPROT_BIRD))
    );
  }

  /** Returns the way to an address: by the FIB, or by the feed where an offer hides it in the FIB. */
  private hopTo(to: Address, depth: number, rests: Set<Prefix>): Hop {
    const { fib } = this.options;
    rests.add(hostPrefix(to));
    const found = fib.lookup(to);
    const route = found?.protocol === RTPROT_SHORTCUTD ? fib.daemonLookup(hostPrefix(to)) : found;
    if (route === undefined) return UNREACHED;
    if (!this.isOffered(route)) {
      const devices = fib.via(route);
      if (devices.length > 0) return { kind: "via", devices };
      return fib.pathOf(route) === "none" ? UNREACHED : ELSEWHERE;
    }
    if (depth >= DEEPEST) return UNREACHED;
    return this.find(route.prefix, depth + 1, rests)?.hop ?? UNREACHED;
  }

  overlayTo(to: Address): readonly string[] {
    const hop = this.hopTo(to, 0, new Set());
    return hop.kind === "via" ? hop.devices : [];
  }

  /** Returns the way of one path: by the mark on it, by its next hop in the FIB, or by the daemon's answer. */
  private hopOf(prefix: Prefix, path: BgpPath, depth: number, rests: Set<Prefix>): Hop {
    const { as, fib, interfaces } = this.options;
    const ifindex = interfaceMark(as, path.attributes);
    const marked = ifindex === undefined ? undefined : fib.overlayDevice(ifindex);
    if (marked !== undefined) return { kind: "via", devices: [marked] };
    const { nextHop } = path.attributes;
    const isNameless = this.isNameless(nextHop);
    const hop = isNameless ? UNREACHED : this.hopTo(nextHop, depth, rests);
    if (hop.kind === "via" || hop.kind === "unknown" || interfaces === undefined) return hop;
    const answer = interfaces.of(prefix, path.pathId);
    if (answer === undefined && isNameless) return UNKNOWN;
    return answer?.dev !== undefined && fib.overlay.has(answer.dev)
      ? { kind: "via", devices: [answer.dev] }
      : hop;
  }

  /**
   * Returns whether a next hop names no other router: link-local, or an address of this router, which FRR writes
   * where the path's next hop is link-local.
   */
  private isNameless(nextHop: Address): boolean {
    const { addresses, fib } = this.options;
    if (nextHop.startsWith("fe80:") || addresses.includes(unmapped(nextHop))) return true;
    const own = fib.daemonBest(hostPrefix(nextHop));
    return own?.protocol === RTPROT_KERNEL && fib.via(own).length === 0;
  }

  // ------------------------------------------------------------------------------- the route itself

  private find(prefix: Prefix, depth: number, rests: Set<Prefix>): Route | undefined {
    const fed = this.fed(prefix);
    const other = this.options.igp?.underneath(prefix);
    if (other !== undefined && (fed === undefined || prefixLength(other.prefix) > prefixLength(fed.prefix))) {
      rests.add(other.prefix);
      const { via } = other;
      const known = via.length > 0 && via.every((dev) => this.options.fib.overlay.has(dev));
      const hop: Hop = known ? { kind: "via", devices: via } : this.hopTo(other.nextHop, depth, rests);
      return { ...other, attributes: undefined, hop };
    }
    return fed === undefined ? undefined : this.choose(fed, depth, rests);
  }

  /** Returns the most specific route of the feed that covers the prefix, with its paths. */
  private fed(prefix: Prefix): { readonly prefix: Prefix; readonly paths: readonly BgpPath[] } | undefined {
    // an add-path feed brings our own offers back: what they hide may be a shorter prefix
    for (let of: Prefix | undefined = prefix; of !== undefined; ) {
      const match = this.options.feed.longestMatch(of);
      if (match === undefined) return undefined;
      if (match.paths.some((p) => !this.isAlias(p.attributes.nextHop))) return match;
      const length = prefixLength(match.prefix);
      of = length === 0 ? undefined : prefixOf(prefixAddress(match.prefix), length - 1);
    }
    return undefined;
  }

  /**
   * Returns the path that the daemon uses, or would use without our offer. The FIB tells where the
   * feed does not decide, or has not changed since the FIB last showed the daemon's own choice.
   */
  private choose(
    { prefix, paths }: { readonly prefix: Prefix; readonly paths: readonly BgpPath[] },
    depth: number,
    rests: Set<Prefix>,
  ): Route | undefined {
    rests.add(prefix);
    const groups = byPreference(paths.filter((p) => !this.isAlias(p.attributes.nextHop))).map((group) =>
      group.map((path) => ({ path, hop: this.hopOf(prefix, path, depth, rests) })),
    );
    const used = this.usedBy(prefix, paths);
    const route = (path: BgpPath, hop: Hop): Route => {
      const { attributes } = path;
      return { prefix, nextHop: attributes.nextHop, attributes, hop };
    };
    if (used.certain)
      for (const group of groups) {
        const hit = group.find((c) => intersects(used.devices, c.hop));
        if (hit !== undefined) return route(hit.path, this.united(group, used.devices));
      }
    let pending: BgpPath | undefined;
    for (const group of groups) {
      const hit =
        group.find((c) => intersects(used.devices, c.hop)) ?? group.find((c) => c.hop.kind === "via");
      if (hit !== undefined)
        return route(
          pending ?? hit.path,
          intersects(used.devices, hit.hop) ? this.united(group, used.devices) : hit.hop,
        );
      const unknown = group.find((c) => c.hop.kind === "unknown");
      if (unknown === undefined && group.some((c) => c.hop.kind === "elsewhere")) break;
      pending ??= unknown?.path;
    }
    const first = groups[0]?.[0];
    if (pending !== undefined) return route(pending, UNKNOWN);
    return (
      first && route(first.path, groups.flat().find((c) => c.hop.kind === "elsewhere")?.hop ?? UNREACHED)
    );
  }

  /**
   * Returns the interfaces of a group of paths, of which at least one leaves through `devices`. A feed
   * of the best path alone does not tell when another one of a multipath ends: the routes of the hubs
   * do.
   */
  private united(
    group: readonly { readonly path: BgpPath; readonly hop: Hop }[],
    devices: readonly string[],
  ): Hop {
    const { fib, hubs } = this.options;
    const own = group.flatMap((c) => (c.hop.kind === "via" ? c.hop.devices : []));
    const allPaths = group.some((c) => c.path.pathId !== 0);
    const isAlive = (dev: string): boolean => hubs.some((hub) => fib.via(fib.lookup(hub)).includes(dev));
    const first = own.find((d) => devices.includes(d));
    const rest = devices.filter((d) => d !== first && (own.includes(d) || (!allPaths && isAlive(d))));
    return { kind: "via", devices: first === undefined ? rest : [first, ...rest] };
  }

  /** Returns the interfaces that the daemon's own route for the prefix leaves through, as last seen. */
  private usedBy(
    prefix: Prefix,
    paths: readonly BgpPath[],
  ): { readonly devices: readonly string[]; readonly certain: boolean } {
    const { fib } = this.options;
    const route = fib.daemonBest(prefix);
    if (route !== undefined && !this.isOffered(route)) {
      const devices = fib.via(route);
      if (devices.length > 0) remember(this.seen, prefix, { devices, paths });
      else this.seen.delete(prefix);
      return { devices, certain: true };
    }
    const before = this.seen.get(prefix);
    return { devices: before?.devices ?? [], certain: before?.paths === paths };
  }

  // ---------------------------------------------------------------------------------------- answers

  underneath(prefix: Prefix): UnderneathVerdict {
    const rests = new Set<Prefix>();
    const verdict = this.verdict(prefix, rests);
    const text = verdict.ok
      ? `${verdict.prefix} ${verdict.nextHop} ${[...verdict.via].sort().join()}`
      : verdict.reason.kind;
    const before = this.answers.get(prefix);
    if (before?.text !== text || before.rests.join() !== [...rests].join()) this.resting = undefined;
    // an answer that is still to come takes nothing away
    const devices = verdict.ok ? verdict.via : (before?.devices ?? []);
    remember(this.answers, prefix, { text, devices, rests: [...rests] });
    return verdict;
  }

  private verdict(prefix: Prefix, rests: Set<Prefix>): UnderneathVerdict {
    const { fib } = this.options;
    const overlay = fib.overlay.toString();
    const under = this.find(prefix, 0, rests);
    if (under === undefined) return { ...no({ kind: "nothing-underneath", prefix }), gone: true };
    const { hop, nextHop } = under;
    const via = hop.kind === "unknown" ? this.lastDevices(prefix) : hop.kind === "via" ? hop.devices : [];
    if (via.length === 0)
      return hop.kind === "unknown"
        ? { ...no({ kind: "interface-unknown", prefix }), gone: false }
        : { ...no({ kind: "underneath-unreached", prefix, nextHop, overlay }), gone: true };
    if (fib.pathOf(fib.daemonBest(prefix)) === "other")
      return { ...no({ kind: "underneath-elsewhere", prefix, overlay }), gone: false };
    const attributes = this.attributesOver(under, prefix, nextHop, undefined);
    if (!attributes.ok)
      return { ...no({ kind: "session-cannot-carry", text: attributes.error }), gone: false };
    return { ok: true, prefix: under.prefix, nextHop, via };
  }

  /** Returns the interfaces of the last answer that still exist: they count until the daemon has answered. */
  private lastDevices(prefix: Prefix): readonly string[] {
    const there = this.options.fib.overlayDevices;
    return (this.answers.get(prefix)?.devices ?? []).filter((dev) => there.includes(dev));
  }

  /** Returns those of the offered prefixes whose route underneath is another one after a change in the FIB. */
  changedBy(touched: readonly Prefix[] | "all", offered: readonly Prefix[]): Prefix[] {
    const candidates = touched === "all" ? offered : this.restingOn(touched, offered);
    return candidates.filter((prefix) => {
      const before = this.answers.get(prefix)?.text;
      this.underneath(prefix);
      return before !== undefined && this.answers.get(prefix)?.text !== before;
    });
  }

  private restingOn(touched: readonly Prefix[], offered: readonly Prefix[]): readonly Prefix[] {
    if (offered.length === 0) return [];
    // the routes of the hubs tell which of them are alive
    if (touched.some((t) => this.options.hubs.some((hub) => contains(t, hub)))) return offered;
    this.resting ??= this.indexOf(offered);
    const found = new Set<Prefix>();
    for (const t of touched)
      for (const [, list] of this.resting.inside(t)) for (const p of list) found.add(p);
    return offered.filter((p) => found.has(p));
  }

  private indexOf(offered: readonly Prefix[]): PrefixMap<readonly Prefix[]> {
    const index = new PrefixMap<readonly Prefix[]>();
    for (const p of offered)
      for (const on of this.answers.get(p)?.rests ?? []) index.set(on, [...(index.get(on) ?? []), p]);
    return index;
  }

  /** Takes note that the set of offered prefixes has changed. */
  offersChanged(): void {
    this.resting = undefined;
  }

  /**
   * Returns the route underneath as text, attributes included: equal texts are equal routes. Empty
   * without one.
   */
  fingerprint(prefix: Prefix): string {
    const under = this.find(prefix, 0, new Set());
    if (under === undefined) return "";
    const { nextHop, attributes } = under;
    return `${under.prefix} ${nextHop} ${attributes === undefined ? "" : attributesKey(attributes)}`;
  }

  routesItself(prefix: Prefix): boolean {
    const { fib, addresses } = this.options;
    if (addresses.some((a) => hostPrefix(a) === prefix)) return true;
    const route = fib.lookup(prefix);
    if (route === undefined || route.protocol === RTPROT_SHORTCUTD || prefixLength(route.prefix) === 0)
      return false;
    // an aggregate is an unreachable or a blackhole route: it is the site's nevertheless
    return route.type !== "unicast" || fib.pathOf(route) === "other";
  }

  // ------------------------------------------------------------------------------------- attributes

  /**
   * Returns the attributes of an offer for `prefix` with this alias, copied from the route
   * underneath.
   */
  attributes(
    prefix: Prefix,
    alias: Address,
    classes: OfferClasses | undefined,
  ): Result<PathAttributes, string> {
    const under = this.find(prefix, 0, new Set());
    return under === undefined
      ? err(`no route underneath ${prefix}`)
      : this.attributesOver(under, prefix, alias, classes);
  }

  private attributesOver(
    under: Route,
    prefix: Prefix,
    alias: Address,
    classes: OfferClasses | undefined,
  ): Result<PathAttributes, string> {
    const { anyType, as, session } = this.options;
    const underneath = under.attributes && withoutFeedMarks(as, under.attributes);
    const isExternal = !anyType && session.localAs !== session.remoteAs;
    const spec: OfferSpec = {
      underneath,
      session,
      alias,
      largeCommunities: [
        ...(classes === undefined ? [] : communitiesOf(as, classes)),
        ...(isExternal ? localPrefMark(as, underneath) : []),
      ],
      // for BGP, a prefix that only an IGP has is also new
      noAdvertise: under.attributes === undefined || under.prefix !== prefix,
      anyType,
    };
    const made = offerAttributes(spec);
    return made.ok ? ok(made.value) : err(made.error.reason);
  }
}
