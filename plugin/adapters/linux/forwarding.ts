/**
 * The counters of what a router forwards through its direct interface, before and behind every filter.
 * Counted are only the packets that should pass: those of flows of which a packet has passed within the
 * last minute, via the overlay or on the direct interface. A host can send what its router drops, as often
 * as it likes, without a counter that moves.
 */
import { DIRECTIONS, type Direction, type HostForwarding } from "../../driver/ports.js";
import { type Address, addressFromBytes } from "../../net/address.js";
import { deviceMatches } from "./nft.js";

const PORTS = "{ tcp, udp, udplite, sctp, dccp }";

/** Flows of protocols with ports: sender, receiver, protocol and port of the service. */
export const WITH_PORTS = {
  4: {
    name: "4",
    type: "ipv4_addr . ipv4_addr . inet_proto . inet_service",
    match: `meta nfproto ipv4 meta l4proto ${PORTS}`,
    key: "ip saddr . ip daddr . meta l4proto . th dport",
  },
  6: {
    name: "6",
    type: "ipv6_addr . ipv6_addr . inet_proto . inet_service",
    match: `meta nfproto ipv6 meta l4proto ${PORTS}`,
    key: "ip6 saddr . ip6 daddr . meta l4proto . th dport",
  },
} as const;

/** Packets by protocol: the flow that one belongs to. `parts` are the lengths in bytes of the parts of the key. */
const PACKET_KINDS = [
  { ...WITH_PORTS[4], parts: [4, 4, 1, 2] },
  { ...WITH_PORTS[6], parts: [16, 16, 1, 2] },
  {
    name: "icmp4",
    type: "ipv4_addr . ipv4_addr . icmp_type",
    match: "meta nfproto ipv4 meta l4proto icmp",
    key: "ip saddr . ip daddr . icmp type",
    parts: [4, 4, 1],
  },
  {
    name: "icmp6",
    type: "ipv6_addr . ipv6_addr . icmpv6_type",
    match: "meta nfproto ipv6 meta l4proto icmpv6",
    key: "ip6 saddr . ip6 daddr . icmpv6 type",
    parts: [16, 16, 1],
  },
  {
    name: "other4",
    type: "ipv4_addr . ipv4_addr . inet_proto",
    match: "meta nfproto ipv4 meta l4proto != { tcp, udp, udplite, sctp, dccp, icmp }",
    key: "ip saddr . ip daddr . meta l4proto",
    parts: [4, 4, 1],
  },
  {
    name: "other6",
    type: "ipv6_addr . ipv6_addr . inet_proto",
    match: "meta nfproto ipv6 meta l4proto != { tcp, udp, udplite, sctp, dccp, icmpv6 }",
    key: "ip6 saddr . ip6 daddr . meta l4proto",
    parts: [16, 16, 1],
  },
] as const;
type PacketKind = (typeof PACKET_KINDS)[number];

const FAMILIES = [4, 6] as const;
/** Hosts of remote sites that are counted, and flows that are known to pass: a sample, where there are more. */
const HOSTS = 1024;
const FLOWS = 2048;
/** Flows that are known again when the table is made again, for each set. */
const MOST_SEEDS = 512;
const SECONDS = 60;

const hostSet = (what: "seen" | "passed", direction: Direction, family: 4 | 6): string =>
  `${what}_${direction}${family}`;
const passingSet = (kind: Pick<PacketKind, "name">): string => `passing_${kind.name}`;
const familyOfKind = ({ parts }: PacketKind): 4 | 6 => (parts[0] === 4 ? 4 : 6);

/** Flows that are known to pass, by set: keys as the kernel has them. */
export type PassingFlows = ReadonlyMap<string, readonly Uint8Array[]>;

/** One element in the language of nft; undefined for a key of another length. */
function element(kind: PacketKind, key: Uint8Array): string | undefined {
  const out: string[] = [];
  let at = 0;
  for (const length of kind.parts) {
    const part = key.slice(at, at + length);
    if (part.length !== length) return undefined;
    out.push(length > 2 ? addressFromBytes(part) : String(part.reduce((n, b) => n * 256 + b, 0)));
    // each part begins at a multiple of four bytes
    at += (length + 3) & ~3;
  }
  return out.join(" . ");
}

function passingSets(passing: PassingFlows): string[] {
  return PACKET_KINDS.map((kind) => {
    const name = passingSet(kind);
    const known = (passing.get(name) ?? []).slice(0, MOST_SEEDS).flatMap((k) => element(kind, k) ?? []);
    const elements = known.length === 0 ? "" : ` elements = { ${known.join(", ")} }`;
    return `  set ${name} { type ${kind.type}; size ${FLOWS}; flags dynamic,timeout; timeout ${SECONDS}s;${elements} }`;
  });
}

export interface ForwardingSpec {
  /** Names and patterns of the overlay interfaces. */
  readonly overlay: readonly string[];
  readonly direct: string;
  readonly stateful: boolean;
}

/** Parts of the script: declarations of sets, rules before and behind the filters, and chains. */
export function forwardingParts(
  spec: ForwardingSpec,
  arrived: string,
  passing: PassingFlows,
): { readonly sets: string; readonly before: string; readonly after: string; readonly chains: string } {
  const direct = `"${spec.direct}"`;
  const sets = (["seen", "passed"] as const).flatMap((what) =>
    DIRECTIONS.flatMap((d) =>
      FAMILIES.map(
        (f) =>
          `  set ${hostSet(what, d, f)} { type ipv${f}_addr; size ${HOSTS}; flags dynamic,timeout; timeout ${SECONDS}s; counter; }`,
      ),
    ),
  );
  const by = (direction: Direction, dev: string): string =>
    direction === "from" ? `${arrived} ${dev}` : `oifname ${dev}`;
  // a packet that belongs to no connection passes no stateful filter, whatever its interface
  const valid = spec.stateful ? "    ct state invalid return\n" : "";
  const counting = (what: "seen" | "passed", d: Direction): string => {
    const rules = PACKET_KINDS.map((k) => {
      const f = familyOfKind(k);
      const remote = `${f === 4 ? "ip" : "ip6"} ${d === "from" ? "saddr" : "daddr"}`;
      return `    ${k.match} ${k.key} @${passingSet(k)} update @${hostSet(what, d, f)} { ${remote} }`;
    });
    return `  chain ${what}_${d} {\n${valid}${rules.join("\n")}\n  }`;
  };
  const jumps = (what: "seen" | "passed"): string =>
    DIRECTIONS.map((d) => `    ${by(d, direct)} jump ${what}_${d}`).join("\n");
  const note = [...deviceMatches(spec.overlay), direct].flatMap((dev) =>
    DIRECTIONS.map((d) => `    ${by(d, dev)} jump passes`),
  );
  const passes = PACKET_KINDS.map((k) => `    ${k.match} update @${passingSet(k)} { ${k.key} }`);
  return {
    sets: [...sets, ...passingSets(passing)].join("\n"),
    before: jumps("seen"),
    after: `${jumps("passed")}\n${note.join("\n")}`,
    chains: [
      ...(["seen", "passed"] as const).flatMap((what) => DIRECTIONS.map((d) => counting(what, d))),
      `  chain passes {\n${passes.join("\n")}\n  }`,
    ].join("\n"),
  };
}

/** Reads the elements of a set. */
export type ReadSet = (
  set: string,
  onElement: (e: { readonly key: Uint8Array; readonly packets: number }) => void,
) => Promise<void>;

type Counts = { seen: number; seenAfter: number; passed: number };

/** The counters of one family and direction, the packets before the filters read first and last. */
async function readHostsOf(read: ReadSet, direction: Direction, family: 4 | 6): Promise<HostForwarding[]> {
  const hosts = new Map<Address, Counts>();
  const take = (what: "seen" | "passed", note: (h: Counts, packets: number) => void): Promise<void> =>
    read(hostSet(what, direction, family), ({ key, packets }) => {
      if (key.length !== 4 && key.length !== 16) return;
      const host = addressFromBytes(key);
      const of = hosts.get(host) ?? { seen: 0, seenAfter: 0, passed: 0 };
      note(of, packets);
      hosts.set(host, of);
    });
  await take("seen", (h, packets) => {
    h.seen = packets;
  });
  await take("passed", (h, packets) => {
    h.passed = packets;
  });
  await take("seen", (h, packets) => {
    h.seenAfter = packets;
  });
  return [...hosts].map(([remote, h]) => ({ direction, remote, ...h }));
}

export async function readHosts(read: ReadSet): Promise<HostForwarding[]> {
  const out: HostForwarding[] = [];
  for (const direction of DIRECTIONS)
    for (const family of FAMILIES) out.push(...(await readHostsOf(read, direction, family)));
  return out;
}

/** The flows that are known to pass now: a table that is made again begins with them. */
export async function readPassing(read: ReadSet): Promise<PassingFlows> {
  const out = new Map<string, Uint8Array[]>();
  for (const kind of PACKET_KINDS) {
    const keys: Uint8Array[] = [];
    await read(passingSet(kind), ({ key }) => {
      if (keys.length < MOST_SEEDS) keys.push(key.slice());
    });
    out.set(passingSet(kind), keys);
  }
  return out;
}
