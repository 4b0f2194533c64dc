/**
 * {@link RoutePort} over rtnetlink. A watch is a subscription and a {@link FibMirror}: subscribe, discard what came
 * before, dump, then apply what arrived during the dump. An overrun repeats that from the start.
 */
import { readFileSync } from "node:fs";
import {
  type KernelLink,
  type KernelRoute,
  PortError,
  type RouteEvent,
  type RoutePort,
} from "../../driver/ports.js";
import { type Address, type Endpoint, familyOf, type Prefix } from "../../net/address.js";
import {
  EACCES,
  EHOSTUNREACH,
  EINVAL,
  ENETUNREACH,
  ENODEV,
  ENOENT,
  ESRCH,
} from "../../wire/netlink/errno.js";
import { dumpAddresses, dumpLinks, getLinkByIndex } from "../../wire/netlink/link.js";
import type { NetlinkMessage, NetlinkRequest } from "../../wire/netlink/message.js";
import { FibMirror } from "../../wire/netlink/mirror.js";
import { dumpNexthops } from "../../wire/netlink/nexthop.js";
import { RouteResolver } from "../../wire/netlink/resolver.js";
import {
  decodeRoute,
  deleteRoute,
  dumpRoutes,
  lookupRoute,
  type RawRoute,
  type RouteKey,
  RTM_NEWROUTE,
  replaceRoute,
  type UdpFlow,
} from "../../wire/netlink/route.js";
import { interfaceName } from "./libc.js";
import { hostPrefixes, listAddresses, listAllAddresses, listLinks, requireLink } from "./links.js";
import {
  type DumpCost,
  NETLINK_ROUTE,
  NetlinkError,
  netlinkAsk,
  netlinkDump,
  netlinkRequest,
  subscribe,
} from "./netlink.js";

const RTNLGRP_LINK = 1;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV4_ROUTE = 7;
const RTNLGRP_IPV4_RULE = 8;
const RTNLGRP_IPV6_IFADDR = 9;
const RTNLGRP_IPV6_ROUTE = 11;
const RTNLGRP_IPV6_RULE = 19;
const RTNLGRP_NEXTHOP = 32;
const GROUPS = [
  RTNLGRP_LINK,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_NEXTHOP,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_RULE,
];

/** About 10,000 notifications; see doc/decisions/001-netlink-transport.md. */
const DEFAULT_RECEIVE_BUFFER = 8 << 20;
/** Dumps that the kernel marks as interrupted are repeated this often before they are taken as they are. */
const DUMP_ATTEMPTS = 5;
/** Pause before a failed synchronisation is tried again. */
const RETRY_MS = 250;

export interface RouteAdapterOptions {
  /** SO_RCVBUFFORCE of the subscription, in bytes. */
  readonly receiveBuffer?: number;
  /** A synchronisation failed and will be repeated; a notification could not be decoded. */
  readonly onError?: (error: PortError) => void;
  /** Notifications were lost and a new snapshot follows. */
  readonly onOverrun?: () => void;
  /** The messages and bytes that each dump read. */
  readonly onDump?: (what: string, cost: DumpCost) => void;
}

const asPortError = (place: string, e: unknown): PortError =>
  e instanceof PortError ? e : new PortError(place, e instanceof Error ? e.message : String(e));

/** A table that nobody has used yet does not exist: empty. */
async function dumpInto(
  request: NetlinkRequest,
  place: string,
  onMessage: (m: NetlinkMessage) => void,
): Promise<DumpCost> {
  try {
    return await netlinkDump(NETLINK_ROUTE, request, place, onMessage);
  } catch (e) {
    if (e instanceof NetlinkError && e.errno === ENOENT) return { messages: 0, bytes: 0, interrupted: false };
    throw e;
  }
}

const tableDumps = (table: number): readonly { request: NetlinkRequest; place: string }[] =>
  ([4, 6] as const).map((family) => ({
    request: dumpRoutes(family, table),
    place: `netlink RTM_GETROUTE table ${table} IPv${family}`,
  }));

const contextDumps = (): readonly { request: NetlinkRequest; place: string }[] => [
  { request: dumpLinks(), place: "netlink RTM_GETLINK" },
  { request: dumpNexthops(), place: "netlink RTM_GETNEXTHOP" },
];

/** The kernel sends RTM_NEWROUTE for the routes of a changed nexthop object (its default). */
function repeatsRoutes(): boolean {
  try {
    return readFileSync("/proc/sys/net/ipv4/nexthop_compat_mode", "utf8").trim() !== "0";
  } catch {
    return true;
  }
}

class Watch {
  private readonly mirror: FibMirror;
  private readonly subscription;
  private closed = false;
  /** The synchronisation that runs, and whether another must follow it. */
  private running: Promise<void> | undefined;
  private again = false;

  constructor(
    private readonly tables: readonly number[],
    keep: (route: KernelRoute) => boolean,
    private readonly onEvent: (event: RouteEvent) => void,
    private readonly options: RouteAdapterOptions,
  ) {
    this.mirror = new FibMirror(tables, keep);
    this.subscription = subscribe(GROUPS, options.receiveBuffer ?? DEFAULT_RECEIVE_BUFFER, {
      onMessage: (m) => this.notified(m),
      onOverrun: () => {
        options.onOverrun?.();
        this.repair();
      },
    });
  }

  private notified(m: NetlinkMessage): void {
    const events = this.mirror.apply(m);
    if (!events.ok) {
      const { at, problem } = events.error;
      this.options.onError?.(new PortError(`netlink notification type ${m.type}`, `${at}: ${problem}`));
      return;
    }
    for (const event of events.value) this.onEvent(event);
    if (this.mirror.takeObjectReplaced() && !repeatsRoutes()) this.repair();
  }

  private repair(): void {
    this.sync().catch((e: unknown) => {
      this.options.onError?.(asPortError("netlink resynchronisation", e));
      if (!this.closed) setTimeout(() => !this.closed && this.repair(), RETRY_MS).unref();
    });
  }

  /** Coalesces: a caller during a run waits for that run and one more. */
  sync(): Promise<void> {
    if (this.running !== undefined) {
      this.again = true;
      return this.running;
    }
    this.running = (async () => {
      do {
        this.again = false;
        await this.synchronise();
      } while (this.again && !this.closed);
    })().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async synchronise(): Promise<void> {
    this.subscription.pause();
    for (let attempt = 1; ; attempt++) {
      if (this.closed) return;
      this.subscription.discard();
      this.mirror.begin();
      let interrupted = false;
      const dumps = [
        { request: dumpLinks(), place: "netlink RTM_GETLINK" },
        { request: dumpAddresses(0), place: "netlink RTM_GETADDR" },
        { request: dumpNexthops(), place: "netlink RTM_GETNEXTHOP" },
        ...this.tables.flatMap(tableDumps),
      ];
      for (const { request, place } of dumps) {
        const cost = await dumpInto(request, place, (m) => {
          const loaded = this.mirror.load(m);
          if (!loaded.ok)
            this.options.onError?.(new PortError(place, `${loaded.error.at}: ${loaded.error.problem}`));
        });
        interrupted ||= cost.interrupted;
        this.options.onDump?.(place, cost);
        if (this.closed) return;
      }
      if (!interrupted || attempt === DUMP_ATTEMPTS) break;
    }
    this.onEvent(this.mirror.finish());
    if (!this.closed) this.subscription.resume();
  }

  async close(): Promise<void> {
    this.closed = true;
    this.subscription.close();
    await this.running?.catch(() => undefined);
  }
}

/** Dumps of one table with links and nexthop objects looked up. */
async function readTable(table: number, options: RouteAdapterOptions): Promise<KernelRoute[]> {
  for (let attempt = 1; ; attempt++) {
    const resolver = new RouteResolver();
    const raw: RawRoute[] = [];
    let interrupted = false;
    for (const { request, place } of [...contextDumps(), ...tableDumps(table)]) {
      const cost = await dumpInto(request, place, (m) => {
        const loaded = resolver.load(m);
        if (!loaded.ok) throw new PortError(place, `${loaded.error.at}: ${loaded.error.problem}`);
        if (m.type !== RTM_NEWROUTE) return;
        const route = decodeRoute(m.payload);
        if (!route.ok) throw new PortError(place, `${route.error.at}: ${route.error.problem}`);
        // A kernel without strict checking dumps every table.
        if (route.value !== undefined && route.value.table === table) raw.push(route.value);
      });
      interrupted ||= cost.interrupted;
      options.onDump?.(place, cost);
    }
    if (!interrupted || attempt === DUMP_ATTEMPTS) return raw.map((r) => resolver.resolve(r));
  }
}

/** Answers into a resolver. An interface that went meanwhile stays unnamed. */
async function load(
  resolver: RouteResolver,
  what: { request: NetlinkRequest; place: string },
): Promise<void> {
  try {
    await netlinkDump(NETLINK_ROUTE, what.request, what.place, (m) => {
      const loaded = resolver.load(m);
      if (!loaded.ok) throw new PortError(what.place, `${loaded.error.at}: ${loaded.error.problem}`);
    });
  } catch (e) {
    if (!(e instanceof NetlinkError && e.errno === ENODEV)) throw e;
  }
}

/** No route, or one that refuses: IPv4 tells `unreachable`, `prohibit` and `blackhole` by an errno only. */
const NO_ROUTE: ReadonlySet<number> = new Set([ENETUNREACH, EHOSTUNREACH, EACCES]);

/** Whether the kernel's answer means that it has no route there. */
const meansNoRoute = (e: unknown): boolean =>
  e instanceof NetlinkError &&
  // A blackhole route answers EINVAL without a word; a malformed request answers it with an explanation.
  (NO_ROUTE.has(e.errno) || (e.errno === EINVAL && e.problem === "EINVAL"));

function askRoute(to: Address, request: NetlinkRequest): RawRoute | undefined {
  try {
    const answer = netlinkAsk(NETLINK_ROUTE, request, `netlink RTM_GETROUTE ${to}`);
    const route = answer?.type === RTM_NEWROUTE ? decodeRoute(answer.payload) : undefined;
    return route?.ok === true ? route.value : undefined;
  } catch (e) {
    if (meansNoRoute(e)) return undefined;
    throw e;
  }
}

/** The names of the interfaces through which the packets of a flow leave; none without a route. */
function waysOf(to: Endpoint, from: { readonly port: number; readonly mark: number }): readonly string[] {
  const flow: UdpFlow = { fromPort: from.port, toPort: to.port, mark: from.mark };
  // without net.ipv4.nexthop_compat_mode the entry names a nexthop object alone
  for (const kind of ["entry", "chosen"] as const) {
    const route = askRoute(to.address, lookupRoute(to.address, flow, kind));
    const names = (route?.nextHops ?? []).flatMap((n) => interfaceName(n.ifindex) ?? []);
    if (route === undefined || names.length > 0) return names;
  }
  return [];
}

async function fibLookup(destination: Address): Promise<KernelRoute | undefined> {
  const place = `netlink RTM_GETROUTE ${destination}`;
  let answer: NetlinkMessage[];
  try {
    answer = await netlinkRequest(NETLINK_ROUTE, lookupRoute(destination), place);
  } catch (e) {
    if (meansNoRoute(e)) return undefined;
    throw e;
  }
  const resolver = new RouteResolver();
  for (const m of answer) {
    if (m.type !== RTM_NEWROUTE) continue;
    const route = decodeRoute(m.payload);
    if (!route.ok) throw new PortError(place, `${route.error.at}: ${route.error.problem}`);
    if (route.value === undefined) continue;
    // Asking for one interface beats listing those of a router with thousands of them.
    if (route.value.nexthopId !== 0) for (const dump of contextDumps()) await load(resolver, dump);
    else
      for (const { ifindex } of route.value.nextHops)
        await load(resolver, { request: getLinkByIndex(ifindex), place: `netlink RTM_GETLINK ${ifindex}` });
    return resolver.resolve(route.value);
  }
  return undefined;
}

/** Removes a route; also when it does not exist. */
export async function removeRoute(route: RouteKey): Promise<void> {
  try {
    await netlinkRequest(
      NETLINK_ROUTE,
      deleteRoute(route),
      `netlink RTM_DELROUTE ${route.prefix} table ${route.table} metric ${route.metric}`,
    );
  } catch (e) {
    if (!(e instanceof NetlinkError && (e.errno === ESRCH || e.errno === ENOENT))) throw e;
  }
}

/** {@link RoutePort} of the network namespace that the process is in. */
export function routeAdapter(options: RouteAdapterOptions = {}): RoutePort {
  return {
    async watch(tables, keep, onEvent) {
      const watch = new Watch(tables, keep, onEvent, options);
      try {
        await watch.sync();
      } catch (e) {
        await watch.close();
        throw asPortError("netlink", e);
      }
      return { close: () => watch.close(), resync: () => watch.sync() };
    },
    dump: (table: number): Promise<readonly KernelRoute[]> => readTable(table, options),
    lookup: fibLookup,
    ways: waysOf,
    async replace(route): Promise<void> {
      const via = familyOf(route.prefix) === 6 ? route.via.slice(0, 1) : route.via;
      const ifindexes = await Promise.all(via.map(async (dev) => (await requireLink(dev)).ifindex));
      const to = via.length === 0 ? "unreachable" : via.map((dev) => `dev ${dev}`).join(" ");
      await netlinkRequest(
        NETLINK_ROUTE,
        replaceRoute({ ...route, ifindexes }),
        `netlink RTM_NEWROUTE ${route.prefix} ${to} table ${route.table} metric ${route.metric}`,
      );
    },
    remove: removeRoute,
    async links(): Promise<readonly KernelLink[]> {
      return (await listLinks()).map(({ ifindex, name, up, mtu, master, vrfTable }) => ({
        ifindex,
        name,
        up,
        mtu,
        master,
        vrfTable,
      }));
    },
    async addresses(dev: string): Promise<readonly Prefix[]> {
      return hostPrefixes(await listAddresses(await requireLink(dev)));
    },
    allAddresses: listAllAddresses,
  };
}
