/**
 * The routes of one router as its kernel tells them: a dump and then every change, from `ip
 * monitor`, with the time at which the change was read. Independent of shortcutd's own netlink
 * code, and exact where polling would miss states that last some milliseconds. The questions are
 * those of the story: is the offer selected, where does the FIB point.
 */
import { contains, hostPrefix, type Prefix, parseAddress, parsePrefix } from "../../plugin/net/address.js";
import { ALIAS_POOLS, BLACKBOARD, type Daemon } from "./triangle.js";

/** linux/rtnetlink.h; 173 is shortcutd's. */
const PROTOCOL = { bird: 12, bgp: 186, shortcutd: 173 } as const;
const MAIN = 254;

export interface RouteChange {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly deleted: boolean;
  readonly prefix: Prefix;
  readonly table: number;
  readonly protocol: number | undefined;
  readonly devices: readonly string[];
  readonly gateways: readonly string[];
  readonly metric: number;
}

/**
 * One line of `ip -o -N [-ts] route show` or `monitor route`; undefined for anything but a unicast
 * route.
 */
export function parseRouteLine(line: string, now: number): RouteChange | undefined {
  const stamp = /^\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{6})\] +/.exec(line);
  const at = stamp === null ? now : Date.parse(`${stamp[1]}Z`) + Number(stamp[2]) / 1000;
  const words = line
    .slice(stamp?.[0].length ?? 0)
    .replaceAll("\\", " ")
    .trim()
    .split(/\s+/);
  const deleted = words[0] === "Deleted";
  if (deleted) words.shift();
  const head = words.shift() ?? "";
  const host = parseAddress(head);
  // A default route does not say its family; its gateway does.
  const all = words.some((w) => w.includes(":")) ? "::/0" : "0.0.0.0/0";
  const prefix = host === undefined ? parsePrefix(head === "default" ? all : head) : hostPrefix(host);
  if (prefix === undefined) return undefined;
  const values = (key: string): string[] => words.flatMap((w, i) => (w === key ? (words[i + 1] ?? []) : []));
  const number = (key: string): number | undefined => {
    const v = values(key)[0];
    return v === undefined ? undefined : Number(v);
  };
  return {
    at,
    deleted,
    prefix,
    table: number("table") ?? MAIN,
    protocol: number("proto"),
    devices: values("dev"),
    gateways: values("via").map((g, i, all) => (g === "inet" || g === "inet6" ? (all[i + 1] ?? g) : g)),
    metric: number("metric") ?? 0,
  };
}

const isAlias = (text: string): boolean => {
  const a = parseAddress(text);
  return a !== undefined && ALIAS_POOLS.some((pool) => contains(pool, a));
};

/** The alias next hop's own host route, written by shortcutd. */
export const isAliasRoute = (r: RouteChange): boolean =>
  r.protocol === PROTOCOL.shortcutd && ALIAS_POOLS.some((p) => contains(p, r.prefix));

/**
 * Whether this route is the daemon's selection of an offer: BIRD writes what it selected to the
 * blackboard; in FRR's FIB the alias is the only next hop.
 */
export const isSelection = (daemon: Daemon, r: RouteChange): boolean => {
  if (r.deleted) return false;
  switch (daemon) {
    case "bird":
      return r.table === BLACKBOARD && r.protocol === PROTOCOL.bird;
    case "frr":
      return r.table === MAIN && r.gateways.length > 0 && r.gateways.every(isAlias);
  }
};

const slot = (r: RouteChange): string => `${r.table} ${r.prefix} ${r.metric} ${r.protocol ?? ""}`;

/** A time during which something was so; `until` is undefined while it still is. */
export interface Interval {
  readonly from: number;
  readonly until: number | undefined;
}

/** A daemon replaces a route by delete and add: a shorter gap than this does not count. Milliseconds. */
const REPLACEMENT = 100;

/** When the daemon had selected at least one offer. */
export function selectionIntervals(daemon: Daemon, changes: readonly RouteChange[]): Interval[] {
  const selected = new Set<string>();
  const out: { from: number; until: number | undefined }[] = [];
  for (const r of changes) {
    const key = `${r.table} ${r.prefix}`;
    const before = selected.size;
    if (isSelection(daemon, r)) selected.add(key);
    else if (r.protocol !== PROTOCOL.shortcutd) selected.delete(key);
    const last = out.at(-1);
    if (before === 0 && selected.size > 0) {
      if (last?.until !== undefined && r.at - last.until < REPLACEMENT) last.until = undefined;
      else out.push({ from: r.at, until: undefined });
    } else if (before > 0 && selected.size === 0 && last !== undefined) last.until = r.at;
  }
  return out;
}

/** Everything that was heard of one router, oldest first, and what stands now. */
export class RouteLog {
  readonly changes: RouteChange[] = [];
  readonly #standing = new Map<string, RouteChange>();

  hear(r: RouteChange): void {
    this.changes.push(r);
    if (r.deleted) this.#standing.delete(slot(r));
    else this.#standing.set(slot(r), r);
  }

  /** A route of the dump: older than everything that the monitor said. */
  found(r: RouteChange): void {
    if (this.#standing.has(slot(r))) return;
    this.#standing.set(slot(r), r);
    this.changes.unshift(r);
  }

  first(since: number, matches: (r: RouteChange) => boolean): RouteChange | undefined {
    return this.changes.find((r) => r.at >= since && matches(r));
  }

  /**
   * The interfaces through which the main table sends exactly this prefix now, by the route of the
   * best metric.
   */
  devices(prefix: Prefix): readonly string[] {
    const routes = [...this.#standing.values()].filter((r) => r.table === MAIN && r.prefix === prefix);
    return routes.sort((x, y) => x.metric - y.metric)[0]?.devices ?? [];
  }

  standing(matches: (r: RouteChange) => boolean): RouteChange | undefined {
    return [...this.#standing.values()].find(matches);
  }
}

/** A change as one would write it to `ip route`. */
export const describeRoute = (r: RouteChange): string =>
  [
    r.prefix.replace(/\/(32|128)$/, ""),
    ...r.gateways.map((g) => `via ${g}`),
    ...r.devices.map((d) => `dev ${d}`),
    ...(r.table === MAIN ? [] : [`table ${r.table}`]),
  ].join(" ");

export const inMain = (prefix: Prefix, dev: string) => (r: RouteChange) =>
  !r.deleted && r.table === MAIN && r.prefix === prefix && r.devices.length === 1 && r.devices[0] === dev;
