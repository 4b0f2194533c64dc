/**
 * Which way the traffic goes, by the kernel's own counters: packets that the hub sends on via its
 * overlay interface, and packets between the direct interfaces of A and C that the underlay's
 * router forwards.
 */
import type { Lab } from "../runner/lab.js";
import { DIRECT_PORT, OVERLAY, SPOKE } from "./triangle.js";

const TABLE = "story";

/** Counts WireGuard packets between the direct interfaces of A and C at the underlay's router. */
export async function countUnderlay(lab: Lab): Promise<void> {
  const between = (from: string, to: string, name: string): string =>
    `counter ${name} {}; chain ${name} { type filter hook forward priority 0; ip saddr ${from} ip daddr ${to} udp dport ${DIRECT_PORT} counter name ${name}; }`;
  const { a, c } = SPOKE;
  const both = `${between(a.underlay, c.underlay, "there")}\n${between(c.underlay, a.underlay, "back")}`;
  await lab.node("inet").must(["nft", "-f", "-"], { input: `table inet ${TABLE} {\n${both}\n}\n` });
}

export interface Counters {
  /** Milliseconds, monotonic. */
  readonly at: number;
  /** Packets and bytes that the hub's overlay interface sent. */
  readonly hubPackets: number;
  readonly hubBytes: number;
  /** Packets from A's direct interface to C's, and back, in the underlay. */
  readonly there: number;
  readonly back: number;
}

export function decodeCounters(json: string): Readonly<Record<string, number>> {
  const value: unknown = JSON.parse(json);
  const rows = typeof value === "object" && value !== null && "nftables" in value ? value.nftables : [];
  const out: Record<string, number> = {};
  for (const row of Array.isArray(rows) ? (rows as unknown[]) : []) {
    if (typeof row !== "object" || row === null || !("counter" in row)) continue;
    const c = row.counter;
    if (typeof c !== "object" || c === null || !("name" in c) || !("packets" in c)) continue;
    if (typeof c.packets === "number") out[String(c.name)] = c.packets;
  }
  return out;
}

const statistic = (lab: Lab, name: string): number =>
  Number(lab.node("b").readFile(`/sys/class/net/${OVERLAY}/statistics/${name}`));

export async function readCounters(lab: Lab): Promise<Counters> {
  const underlay = decodeCounters(
    await lab.node("inet").must(["nft", "-j", "list", "counters", "table", "inet", TABLE]),
  );
  return {
    at: performance.now(),
    hubPackets: statistic(lab, "tx_packets"),
    hubBytes: statistic(lab, "tx_bytes"),
    there: underlay.there ?? 0,
    back: underlay.back ?? 0,
  };
}

/** The hub's overlay interface alone, without starting a process. */
export const readHub = (lab: Lab): { readonly at: number; readonly bytes: number } => ({
  at: performance.now(),
  bytes: statistic(lab, "tx_bytes"),
});

/** Which way a flow of `sent` packets each way went between two readings. */
export type Way = "hub" | "direct" | "mixed";

/**
 * `hub`: the hub sent on at least 90 % of them, and the underlay carried next to none directly;
 * `direct`: the reverse. Forty packets a second are let pass for BGP, keepalives and probes.
 */
export function wayOf(before: Counters, after: Counters, sent: number): Way {
  const seconds = (after.at - before.at) / 1000;
  const noise = 40 * seconds + sent * 0.01;
  const byHub = after.hubPackets - before.hubPackets;
  const there = after.there - before.there;
  const back = after.back - before.back;
  if (byHub >= sent * 0.9 && there + back <= noise) return "hub";
  if (byHub <= noise && there >= sent * 0.45 && back >= sent * 0.45) return "direct";
  return "mixed";
}
