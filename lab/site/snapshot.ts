/**
 * Reads the state of a router before shortcutd starts and after it has stopped: links, addresses,
 * routes of all tables, rules, nftables, WireGuard's peers. Compared line by line, without what
 * changes by itself.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Node } from "../runner/node.js";
import { until } from "../runner/wait.js";

const COMMANDS: readonly (readonly [string, readonly string[]])[] = [
  ["link", ["ip", "-br", "link"]],
  ["address", ["ip", "-br", "address"]],
  ["route", ["ip", "-4", "-N", "route", "show", "table", "all"]],
  ["route6", ["ip", "-6", "-N", "route", "show", "table", "all"]],
  ["rule", ["ip", "-4", "rule"]],
  ["rule6", ["ip", "-6", "rule"]],
  ["nftables", ["nft", "-s", "list", "ruleset"]],
  ["peers", ["wg", "show", "all", "allowed-ips"]],
  ["sysctl", ["sh", "-c", "head -v /proc/sys/net/ipv4/conf/*/rp_filter"]],
];

/** Numbers that a daemon gives again (nexthop objects), and orders that mean nothing. */
export const normalise = (name: string, text: string): string[] =>
  text
    .replace(/ nhid \d+/g, "")
    .split("\n")
    .map((l) => l.trim())
    .filter((l) => l !== "")
    .map((l) => `${name}: ${l}`)
    .sort();

export type Snapshot = readonly string[];

export async function snapshot(node: Node): Promise<Snapshot> {
  const parts = await Promise.all(
    COMMANDS.map(async ([name, argv]) => normalise(name, await node.must(argv))),
  );
  return parts.flat();
}

export interface Settling<T> {
  /** Whether the state is complete; any state unless given. */
  readonly accepts?: (state: T) => boolean;
  readonly timeoutMs?: number;
  /** Milliseconds between the two readings that must be the same. */
  readonly apartMs?: number;
}

/**
 * Returns the state once it stands still: what `read` returned twice in a row, after duplicate address
 * detection had ended on every link. A detection that ends later adds local routes, so the order
 * matters.
 */
export function settled<T>(
  node: Node,
  read: () => Promise<T>,
  { accepts = () => true, timeoutMs = 30_000, apartMs = 0 }: Settling<T> = {},
): Promise<T> {
  return until(`${node.name} has settled`, timeoutMs, async () => {
    if ((await node.must(["ip", "-6", "address", "show", "tentative"])) !== "") return undefined;
    const first = await read();
    if (!accepts(first)) return undefined;
    await delay(apartMs);
    const second = await read();
    return JSON.stringify(first) === JSON.stringify(second) ? second : undefined;
  });
}

export const settledSnapshot = (node: Node, settling: Settling<Snapshot> = {}): Promise<Snapshot> =>
  settled(node, () => snapshot(node), settling);

/**
 * `+ line` that is only in the second, `- line` that is only in the first; each as often as it is.
 */
export function difference(before: Snapshot, after: Snapshot): string[] {
  const count = new Map<string, number>();
  for (const line of after) count.set(line, (count.get(line) ?? 0) + 1);
  for (const line of before) count.set(line, (count.get(line) ?? 0) - 1);
  return [...count]
    .flatMap(([line, n]) => Array<string>(Math.abs(n)).fill(`${n > 0 ? "+" : "-"} ${line}`))
    .sort();
}
