/**
 * Names and addresses of lab/topologies/triangle.clab.yml: names and addresses, and what each
 * router's daemon can be told.
 */
import { type Address, address, type Prefix, prefix } from "../../plugin/net/address.js";

export type Daemon = "bird" | "frr";
export type Spoke = "a" | "c";
export type RouterName = Spoke | "b";
export const ROUTERS: readonly RouterName[] = ["a", "b", "c"];
export const SPOKES: readonly Spoke[] = ["a", "c"];

export const OVERLAY = "wg0";
export const DIRECT = "shortcut0";
/** UDP port of every direct interface. */
export const DIRECT_PORT = 51821;
/** BIRD's blackboard. */
export const BLACKBOARD = 4242;
export const ALIAS_POOLS: readonly Prefix[] = [prefix("198.18.0.0/16"), prefix("fd53:4843:5554::/64")];

/** Each spoke's overlay address, the host on its LAN, that LAN, and its address in the underlay. */
export const SPOKE: Readonly<
  Record<
    Spoke,
    {
      readonly overlay: Address;
      readonly host: string;
      readonly hostAddress: Address;
      readonly lan: Prefix;
      readonly underlay: Address;
    }
  >
> = {
  a: {
    overlay: address("10.255.0.1"),
    host: "host-a",
    hostAddress: address("10.1.0.10"),
    lan: prefix("10.1.0.0/24"),
    underlay: address("192.0.2.2"),
  },
  c: {
    overlay: address("10.255.0.2"),
    host: "host-c",
    hostAddress: address("10.3.0.10"),
    lan: prefix("10.3.0.0/24"),
    underlay: address("192.0.2.130"),
  },
};

export const NODES: readonly string[] = [...ROUTERS, "inet", "host-a", "host-c"];

export const other = (spoke: Spoke): Spoke => (spoke === "a" ? "c" : "a");

/**
 * The lines of bird-config/policy.conf that refuse C's site, IPv4 and IPv6, once they are not
 * comments.
 */
const BIRD_LINES = ["10.3.0.0/24+,", "2001:db8:3::/48+,"] as const;
const FRR_LINES = [
  "ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny 10.3.0.0/24 le 32",
  "ipv6 prefix-list SHORTCUT-ELIGIBLE seq 5 deny 2001:db8:3::/48 le 128",
] as const;

/**
 * policy.conf with C's site refused, or allowed again. @throws Error when the file has no such
 * line.
 */
export function birdPolicy(file: string, refused: boolean): string {
  return BIRD_LINES.reduce((text, line) => {
    const [comment, active] = [`  # ${line}`, `  ${line}`];
    const [from, to] = refused ? [comment, active] : [active, comment];
    if (!text.includes(`\n${from}\n`)) throw new Error(`policy.conf has no line "${from}"`);
    return text.replace(`\n${from}\n`, `\n${to}\n`);
  }, file);
}

export const frrPolicy = (refused: boolean): string[] => [
  "vtysh",
  ...["configure terminal", ...FRR_LINES.map((l) => (refused ? l : `no ${l}`))].flatMap((l) => ["-c", l]),
];
