/** The kernel's routes and links with everything looked up: what the rest of the program sees of rtnetlink. */
import type { Address, Prefix } from "../../net/address.js";
import type { RouteType } from "./route.js";

export interface NextHop {
  readonly ifindex: number;
  /** Interface name, or `if<index>` when the kernel no longer knows it. */
  readonly dev: string;
  /** RTA_GATEWAY or RTA_VIA; undefined when the route is `dev IFACE` alone. */
  readonly gateway: Address | undefined;
  /** RTNH_F_DEAD or RTNH_F_LINKDOWN. */
  readonly dead: boolean;
}

/** A route as the kernel holds it (`struct rtmsg` and its attributes, linux/rtnetlink.h). */
export interface KernelRoute {
  readonly table: number;
  readonly prefix: Prefix;
  /** RTPROT_*: 12 BIRD, 186 BGP, 188 OSPF, 196 static (FRR), 173 ours. */
  readonly protocol: number;
  readonly metric: number;
  readonly type: RouteType;
  /** RTA_MULTIPATH and nexthop objects are resolved; empty for blackhole and the like. */
  readonly nextHops: readonly NextHop[];
  /** RTA_NH_ID, 0 when the route has its next hops inline. */
  readonly nexthopId: number;
}

export interface KernelLink {
  readonly ifindex: number;
  readonly name: string;
  readonly up: boolean;
  readonly mtu: number;
  /** Index of the VRF or bridge that it is a member of. */
  readonly master?: number | undefined;
  /** The table of a VRF. */
  readonly vrfTable?: number | undefined;
}

export type RouteEvent =
  /** A full snapshot replaces everything known before: at start, and after an overrun (ENOBUFS). */
  | {
      readonly kind: "snapshot";
      readonly routes: readonly KernelRoute[];
      readonly links: readonly KernelLink[];
    }
  /** `gone` is the last known form of a removed route. A changed nexthop object is reported as `set` of every route that uses it. */
  | { readonly kind: "set"; readonly route: KernelRoute }
  | { readonly kind: "gone"; readonly route: KernelRoute }
  | {
      readonly kind: "link";
      readonly link: KernelLink;
      readonly gone: boolean;
      /** The name that it had before, when it was renamed. */
      readonly formerName?: string | undefined;
    }
  /** An address came, changed or went. */
  | { readonly kind: "address"; readonly dev: string; readonly address: Address; readonly gone: boolean }
  /** A policy rule, or a route of a table that is not watched, has changed. */
  | { readonly kind: "elsewhere" };
