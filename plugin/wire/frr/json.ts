/**
 * The JSON of `show ... json` in bgpd and zebra, as far as it is needed. FRR's JSON is not a stable interface: unknown members are
 * ignored, optional ones may be absent, and what is there must have the right type. Recorded from 8.4.4 (sources:
 * `bgpd/bgp_route.c` route_vty_out_detail, `bgpd/bgp_vty.c` bgp_show_peer, `zebra/zebra_vty.c` vty_show_ip_route).
 */
import { z } from "zod";
import { type Address, type Prefix, parseAddress, parsePrefix } from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";

export interface BgpPath {
  /** Undefined for a path without a usable next hop. */
  readonly nextHop: Address | undefined;
  /** Every next hop is accessible. */
  readonly accessible: boolean;
  readonly valid: boolean;
  readonly weight: number;
  readonly localPref: number | undefined;
  readonly best: boolean;
  readonly multipath: boolean;
  /** Why the best path is the best: `Weight`, `Local Pref`, `First path received`. */
  readonly selectionReason: string | undefined;
  /** The neighbour; 0.0.0.0 for bgpd's own routes. */
  readonly peer: string;
}

export interface BgpNeighbor {
  /** `Established`, `Active`, `Idle`. */
  readonly state: string;
  readonly lastReset: string | undefined;
  readonly peerGroup: string | undefined;
  readonly routeMapIn: { readonly 4: string | undefined; readonly 6: string | undefined };
}

export interface ZebraRoute {
  /** `bgp`, `ospf`, `static`, `connected`, `kernel`. */
  readonly protocol: string;
  readonly selected: boolean;
  readonly installed: boolean;
  readonly distance: number;
  readonly metric: number;
  readonly nextHops: readonly {
    readonly gateway: Address | undefined;
    readonly dev: string | undefined;
    /** In the FIB; of a recursive next hop only what it resolves to is. */
    readonly fib: boolean;
  }[];
}

const nextHop = z.object({
  ip: z.string().optional(),
  afi: z.string().optional(),
  scope: z.string().optional(),
  accessible: z.boolean().optional(),
  used: z.boolean().optional(),
});

const path = z.object({
  valid: z.boolean().optional(),
  weight: z.number().optional(),
  locPrf: z.number().optional(),
  multipath: z.boolean().optional(),
  bestpath: z.object({ overall: z.boolean().optional(), selectionReason: z.string().optional() }).optional(),
  nexthops: z.array(nextHop).optional(),
  peer: z.object({ peerId: z.string().optional() }).optional(),
});
const bgpRoute = z.object({ paths: z.array(path).optional() });

const family = z.object({ routeMapForIncomingAdvertisements: z.string().optional() }).optional();
const neighbor = z.object({
  bgpState: z.string(),
  peerGroup: z.string().optional(),
  lastResetDueTo: z.string().optional(),
  addressFamilyInfo: z.object({ ipv4Unicast: family, ipv6Unicast: family }).optional(),
});

const receivedRoutes = z.object({
  receivedRoutes: z.record(z.string(), z.unknown()).optional(),
  warning: z.string().optional(),
});

const zebraRoute = z.object({
  protocol: z.string(),
  selected: z.boolean().optional(),
  installed: z.boolean().optional(),
  distance: z.number().optional(),
  metric: z.number().optional(),
  nexthops: z
    .array(
      z.object({
        ip: z.string().optional(),
        interfaceName: z.string().optional(),
        fib: z.boolean().optional(),
      }),
    )
    .optional(),
});
const zebraRoutes = z.record(z.string(), z.array(zebraRoute));

function decode<T>(text: string, what: string, schema: z.ZodType<T>): Result<T, string> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return err(`${what}: no JSON: ${JSON.stringify(text.slice(0, 120))}`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  return err(`${what}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "of another shape"}`);
}

/** `show bgp ipv4 unicast PREFIX json`: every path; none when bgpd does not know the prefix. */
export function decodeBgpRoute(text: string): Result<readonly BgpPath[], string> {
  const r = decode(text, "show bgp PREFIX json", bgpRoute);
  if (!r.ok) return r;
  return ok(
    (r.value.paths ?? []).map((p) => {
      const hops = p.nexthops ?? [];
      // IPv6 paths may carry a link-local next hop beside the global one: `used` says which counts.
      const named = hops.find((h) => h.scope === "global") ?? hops.find((h) => h.used === true) ?? hops[0];
      return {
        nextHop: parseAddress(named?.ip ?? ""),
        accessible: hops.length > 0 && hops.every((h) => h.accessible === true),
        valid: p.valid ?? false,
        weight: p.weight ?? 0,
        localPref: p.locPrf,
        best: p.bestpath?.overall ?? false,
        multipath: p.multipath ?? false,
        selectionReason: p.bestpath?.selectionReason,
        peer: p.peer?.peerId ?? "0.0.0.0",
      };
    }),
  );
}

const pathInterfaces = z.object({
  paths: z
    .array(
      z.object({
        addpathTxIdAll: z.number().optional(),
        nexthops: z.array(nextHop).optional(),
        peer: z.object({ peerId: z.string().optional(), interface: z.string().optional() }).optional(),
      }),
    )
    .optional(),
});

/** A path that came over a session on link-local addresses. */
export interface PathInterface {
  /** The identifier with which the path is announced to neighbours that are sent all paths. */
  readonly pathId: number;
  /** The neighbour: an interface's address is link-local. */
  readonly peer: string;
  /** Undefined when the neighbour is configured by its address. */
  readonly dev: string | undefined;
}

/**
 * `show bgp ipv4 unicast PREFIX json`: the paths whose next hop is link-local, each with its neighbour's interface. One that
 * keeps a global next hop of another router is resolved by the FIB.
 */
export function decodePathInterfaces(text: string): Result<readonly PathInterface[], string> {
  const r = decode(text, "show bgp PREFIX json", pathInterfaces);
  if (!r.ok) return r;
  return ok(
    (r.value.paths ?? []).flatMap(({ addpathTxIdAll: pathId, nexthops, peer }) => {
      const isLocal = (nexthops ?? []).some(
        (h) => h.scope === "link-local" || h.ip?.startsWith("fe80:") === true,
      );
      if (pathId === undefined || peer?.peerId === undefined || !isLocal) return [];
      return [{ pathId, peer: peer.peerId, dev: peer.interface }];
    }),
  );
}

/** `show bgp neighbors ADDRESS json`; undefined when bgpd has no such neighbour (a dynamic one exists only while it is connected). */
export function decodeNeighbor(text: string, address: Address): Result<BgpNeighbor | undefined, string> {
  const what = "show bgp neighbors json";
  const all = decode(text, what, z.record(z.string(), z.unknown()));
  if (!all.ok) return all;
  const entry = all.value[address];
  if (entry === undefined) return ok(undefined);
  const r = neighbor.safeParse(entry);
  if (!r.success) return err(`${what}: ${r.error.issues[0]?.message ?? "of another shape"}`);
  const { bgpState, lastResetDueTo, peerGroup, addressFamilyInfo } = r.data;
  return ok({
    state: bgpState,
    lastReset: lastResetDueTo,
    peerGroup,
    routeMapIn: {
      4: addressFamilyInfo?.ipv4Unicast?.routeMapForIncomingAdvertisements,
      6: addressFamilyInfo?.ipv6Unicast?.routeMapForIncomingAdvertisements,
    },
  });
}

/** `show bgp neighbors json`: whether the session with each neighbour is up. The key is its address or its interface. */
export function decodeSessions(text: string): Result<ReadonlyMap<string, boolean>, string> {
  const r = decode(text, "show bgp neighbors json", z.record(z.string(), z.unknown()));
  if (!r.ok) return r;
  const state = z.object({ bgpState: z.string() });
  return ok(
    new Map(
      Object.entries(r.value).flatMap(([key, value]) => {
        const n = state.safeParse(value);
        return n.success ? [[key, n.data.bgpState === "Established"] as const] : [];
      }),
    ),
  );
}

const advertised = z.object({
  advertisedTo: z.record(z.string(), z.unknown()).optional(),
  paths: z
    .array(
      z.object({
        advertisedTo: z.record(z.string(), z.unknown()).optional(),
        bestpath: z.object({ overall: z.boolean().optional() }).optional(),
        peer: z.object({ type: z.string().optional(), peerId: z.string().optional() }).optional(),
      }),
    )
    .optional(),
});

/**
 * `show bgp ipv4 unicast PREFIX json`: to whom it is sent, by how many paths, and whether the best path is internal; nobody when bgpd does not
 * know the prefix. bgpd tells it path by path as soon as it has one neighbour with add-path.
 */
export function decodeAdvertised(text: string): Result<
  {
    readonly advertisedTo: ReadonlyMap<string, number>;
    readonly tellers: ReadonlySet<string>;
    readonly known: boolean;
    readonly internal: boolean;
  },
  string
> {
  const r = decode(text, "show bgp PREFIX json", advertised);
  if (!r.ok) return r;
  const paths = r.value.paths ?? [];
  const advertisedTo = new Map<string, number>();
  for (const to of [r.value.advertisedTo, ...paths.map((p) => p.advertisedTo)])
    for (const key of Object.keys(to ?? {})) advertisedTo.set(key, (advertisedTo.get(key) ?? 0) + 1);
  const best = paths.find((p) => p.bestpath?.overall === true);
  const tellers = new Set(paths.flatMap((p) => p.peer?.peerId ?? []));
  return ok({ advertisedTo, tellers, known: paths.length > 0, internal: best?.peer?.type === "internal" });
}

const summary = z.object({ peers: z.record(z.string(), z.object({ state: z.string() })).optional() });

/** `show bgp ipv4 unicast summary json`: the neighbours whose sessions are Established. */
export function decodeEstablished(text: string): Result<readonly string[], string> {
  const r = decode(text, "show bgp summary json", summary);
  if (!r.ok) return r;
  return ok(
    Object.entries(r.value.peers ?? {}).flatMap(([key, p]) => (p.state === "Established" ? [key] : [])),
  );
}

const outgoingFamily = z
  .object({
    routeReflectorClient: z.boolean().optional(),
    routerAlwaysNextHop: z.boolean().optional(),
    routeMapForOutgoingAdvertisements: z.string().optional(),
    outgoingUpdatePrefixFilterList: z.string().optional(),
    outgoingUpdateAsPathFilterList: z.string().optional(),
    outgoingUpdateNetworkFilterList: z.string().optional(),
  })
  .optional();
const outgoing = z.object({
  nbrInternalLink: z.boolean().optional(),
  remoteAs: z.number().optional(),
  localAs: z.number().optional(),
  addressFamilyInfo: z.object({ ipv4Unicast: outgoingFamily, ipv6Unicast: outgoingFamily }).optional(),
});

/** `show bgp neighbors KEY json`: what bears on what it is sent. */
export function decodeOutgoing(
  text: string,
  key: string,
  family: 4 | 6,
): Result<
  {
    readonly internal: boolean;
    readonly reflectorClient: boolean;
    readonly nextHopSelf: boolean;
    readonly outgoing: readonly string[];
  },
  string
> {
  const all = decode(text, "show bgp neighbors json", z.record(z.string(), z.unknown()));
  if (!all.ok) return all;
  const r = outgoing.safeParse(all.value[key] ?? {});
  if (!r.success) return err(`show bgp neighbors json: ${r.error.issues[0]?.message ?? "of another shape"}`);
  const { nbrInternalLink, remoteAs, localAs, addressFamilyInfo } = r.data;
  const f = family === 4 ? addressFamilyInfo?.ipv4Unicast : addressFamilyInfo?.ipv6Unicast;
  const filters: readonly (readonly [string, string | undefined])[] = [
    ["route-map", f?.routeMapForOutgoingAdvertisements],
    ["prefix-list", f?.outgoingUpdatePrefixFilterList],
    ["filter-list", f?.outgoingUpdateAsPathFilterList],
    ["distribute-list", f?.outgoingUpdateNetworkFilterList],
  ];
  return ok({
    internal: nbrInternalLink ?? (remoteAs !== undefined && remoteAs === localAs),
    reflectorClient: f?.routeReflectorClient ?? false,
    nextHopSelf: f?.routerAlwaysNextHop ?? false,
    outgoing: filters.flatMap(([what, name]) => (name === undefined ? [] : [`${what} ${name}`])),
  });
}

const externalLsas = z.object({
  asExternalLinkStates: z
    .array(
      z.object({
        lsaAge: z.number().optional(),
        networkMask: z.number().optional(),
        metricType: z.string().optional(),
        metric: z.number().optional(),
        forwardAddress: z.string().optional(),
        externalRouteTag: z.number().optional(),
      }),
    )
    .optional(),
});
/** RFC 2328 appendix B: an LSA of this age is being flushed. */
const MAX_AGE = 3600;

/** `show ip ospf database external ADDRESS self-originate json`: what ospfd tells of the prefix; undefined when nothing. */
export function decodeExternalLsa(text: string, prefix: Prefix): Result<string | undefined, string> {
  const r = decode(text, "show ip ospf database external json", externalLsas);
  if (!r.ok) return r;
  const length = Number(prefix.split("/")[1]);
  const lsa = (r.value.asExternalLinkStates ?? []).find(
    (l) => l.networkMask === length && (l.lsaAge ?? 0) < MAX_AGE,
  );
  return ok(
    lsa &&
      `metric type ${lsa.metricType ?? ""}, metric ${lsa.metric ?? ""}, tag ${lsa.externalRouteTag ?? ""}, forward address ${lsa.forwardAddress ?? ""}`,
  );
}

/**
 * `show bgp ... neighbors ADDRESS filtered-routes json`: prefixes that the import policy refused; undefined when bgpd does not keep
 * them (no soft-reconfiguration inbound).
 */
export function decodeFilteredRoutes(text: string): Result<ReadonlySet<Prefix> | undefined, string> {
  const r = decode(text, "filtered-routes json", receivedRoutes);
  if (!r.ok) return r;
  if (r.value.receivedRoutes === undefined)
    return r.value.warning === undefined
      ? err("filtered-routes json: receivedRoutes is missing")
      : ok(undefined);
  return ok(new Set(Object.keys(r.value.receivedRoutes).flatMap((p) => parsePrefix(p) ?? [])));
}

/** zebra's `show ip route PREFIX json`: what each protocol has for exactly this prefix. */
export function decodeZebraRoutes(text: string, prefix: Prefix): Result<readonly ZebraRoute[], string> {
  const r = decode(text, "show ip route PREFIX json", zebraRoutes);
  if (!r.ok) return r;
  return ok(
    (r.value[prefix] ?? []).map((route) => ({
      protocol: route.protocol,
      selected: route.selected ?? false,
      installed: route.installed ?? false,
      distance: route.distance ?? 0,
      metric: route.metric ?? 0,
      nextHops: (route.nexthops ?? []).map((h) => ({
        gateway: parseAddress(h.ip ?? ""),
        dev: h.interfaceName,
        fib: h.fib ?? false,
      })),
    })),
  );
}

/** `8.4.4` of `show version`; undefined when it is not FRR. */
/** `show bgp vrfs json`: the BGP identifier of a VRF's instance; undefined when the reply has none. */
export function decodeRouterId(text: string, vrf: string): Address | undefined {
  const shape = z.object({ vrfs: z.record(z.string(), z.object({ routerId: z.string().optional() })) });
  const r = decode(text, "show bgp vrfs json", shape);
  return r.ok ? parseAddress(r.value.vrfs[vrf]?.routerId ?? "") : undefined;
}

export const parseFrrVersion = (text: string): string | undefined => /^FRRouting (\S+)/m.exec(text)?.[1];
