/**
 * Shows what the daemon itself routes: the feed's Adj-RIB-In beside the FIB. Answers which route
 * lies underneath an offer, and derives the offer's attributes from it.
 */

import { type OfferSpec, offerAttributes } from "../../bgp/offer.js";
import type { AdjRibIn, RibPath as BgpPath } from "../../bgp/rib.js";
import {
  type Address,
  contains,
  familyOf,
  hostPrefix,
  type Prefix,
  prefixAddress,
  prefixLength,
  prefixOf,
} from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import type { OfferClasses, RoutingView, UnderneathVerdict } from "../../shortcut/events.js";
import { no } from "../../shortcut/reasons.js";
import { attributesKey, type PathAttributes } from "../../wire/bgp/attributes.js";
import { type FibView, RTPROT_SHORTCUTD } from "../kernel/fib-view.js";
import { communitiesOf } from "./communities.js";
import type { IgpRoutes } from "./igp-routes.js";

export interface RoutingOptions {
  readonly fib: FibView;
  readonly feed: AdjRibIn;
  /** Routes that the feed does not carry; undefined where it carries all. */
  readonly igp: IgpRoutes | undefined;
  readonly pools: { readonly 4: Prefix; readonly 6: Prefix | undefined };
  readonly session: { readonly localAs: number; readonly remoteAs: number };
  /** Whether the session type does not matter: BIRD announces offers to no neighbour. */
  readonly anyType: boolean;
  /** This router's own addresses on the overlay, also while it is down. */
  readonly addresses: readonly Address[];
  /** The daemon's AS, for shortcutd's own large communities. */
  readonly as: number;
}

/**
 * Returns which of several paths the daemon most likely uses: RFC 4271 §9.1.2.2, as far as a
 * feed shows it.
 */
function preferred(paths: readonly BgpPath[]): BgpPath | undefined {
  const length = (p: BgpPath) =>
    p.attributes.asPath.reduce((n, s) => n + (s.type === "set" ? 1 : s.ases.length), 0);
  return [...paths].sort(
    (a, b) =>
      (b.attributes.localPref ?? 100) - (a.attributes.localPref ?? 100) ||
      length(a) - length(b) ||
      (a.attributes.med ?? 0) - (b.attributes.med ?? 0) ||
      a.pathId - b.pathId,
  )[0];
}

/** A route underneath; without attributes when it is not a BGP route. */
interface Route {
  readonly prefix: Prefix;
  readonly nextHop: Address;
  readonly attributes: PathAttributes | undefined;
}

export class Routing implements Omit<RoutingView, "wayTo"> {
  /** Whether the feed has sent everything once. */
  feedComplete = false;

  constructor(private readonly options: RoutingOptions) {}

  private isAlias(a: Address): boolean {
    const pool = this.options.pools[familyOf(a)];
    return pool !== undefined && contains(pool, a);
  }

  private underneathOf(prefix: Prefix): Route | undefined {
    const fed = this.pathUnderneath(prefix);
    const other = this.options.igp?.underneath(prefix);
    if (other !== undefined && (fed === undefined || prefixLength(other.prefix) > prefixLength(fed.prefix)))
      return { ...other, attributes: undefined };
    if (fed === undefined) return undefined;
    const { attributes } = fed.path;
    return { prefix: fed.prefix, nextHop: attributes.nextHop, attributes };
  }

  private pathUnderneath(prefix: Prefix): { readonly prefix: Prefix; readonly path: BgpPath } | undefined {
    // an add-path feed brings our own offers back: what they hide may be a shorter prefix
    for (let of: Prefix | undefined = prefix; of !== undefined; ) {
      const match = this.options.feed.longestMatch(of);
      if (match === undefined) return undefined;
      const path = preferred(match.paths.filter((p) => !this.isAlias(p.attributes.nextHop)));
      if (path !== undefined) return { prefix: match.prefix, path };
      const length = prefixLength(match.prefix);
      of = length === 0 ? undefined : prefixOf(prefixAddress(match.prefix), length - 1);
    }
    return undefined;
  }

  underneath(prefix: Prefix): UnderneathVerdict {
    const { fib } = this.options;
    const under = this.underneathOf(prefix);
    if (under === undefined) return { ...no({ kind: "nothing-underneath", prefix }), gone: true };
    const { nextHop } = under;
    const byNextHop = fib.pathOf(fib.lookup(nextHop));
    if (byNextHop !== "overlay")
      return {
        ...no({ kind: "underneath-unreached", prefix, nextHop, overlay: fib.overlay }),
        gone: true,
      };
    if (fib.pathOf(fib.daemonBest(prefix)) === "other")
      return { ...no({ kind: "underneath-elsewhere", prefix, overlay: fib.overlay }), gone: false };
    const attributes = this.attributes(prefix, nextHop, undefined);
    if (!attributes.ok)
      return { ...no({ kind: "session-cannot-carry", text: attributes.error }), gone: false };
    return { ok: true, prefix: under.prefix, nextHop };
  }

  /**
   * Returns the route underneath as text, attributes included: equal texts are equal routes. Empty
   * without one.
   */
  fingerprint(prefix: Prefix): string {
    const under = this.underneathOf(prefix);
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

  /**
   * Returns the attributes of an offer for `prefix` with this alias, copied from the route
   * underneath.
   */
  attributes(
    prefix: Prefix,
    alias: Address,
    classes: OfferClasses | undefined,
  ): Result<PathAttributes, string> {
    const under = this.underneathOf(prefix);
    if (under === undefined) return err(`no route underneath ${prefix}`);
    const spec: OfferSpec = {
      underneath: under.attributes,
      session: this.options.session,
      alias,
      largeCommunities: classes === undefined ? [] : communitiesOf(this.options.as, classes),
      // for BGP, a prefix that only an IGP has is also new
      noAdvertise: under.attributes === undefined || under.prefix !== prefix,
      anyType: this.options.anyType,
    };
    const made = offerAttributes(spec);
    return made.ok ? ok(made.value) : err(made.error.reason);
  }
}
