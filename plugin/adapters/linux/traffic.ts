/**
 * {@link TrafficPort}: one nftables table of family inet. Two dynamic sets, keyed by the masked destination, count what
 * leaves via the overlay; a chain in forward drops control packets that a host behind this router forges (they do not
 * arrive via the overlay, yet would leave via it); forwarding.ts counts what is forwarded through the direct interface before
 * and after every filter, since probes cannot show that a firewall drops what hosts send. `nft` writes the table in one transaction; the counters, read every few
 * seconds, come by a raw netlink dump, which costs a fifth of `nft -j`.
 */
import {
  DIRECTIONS,
  type Direction,
  type ForwardingReading,
  type NewFlow,
  PortError,
  type TrafficPort,
  type TrafficSample,
} from "../../driver/ports.js";
import { addressFromBytes, prefixFromBytes } from "../../net/address.js";
import { ENOENT } from "../../wire/netlink/errno.js";
import { decodeSetElements, dumpSetElements } from "../../wire/netlink/nftables.js";
import {
  forwardingParts,
  type PassingFlows,
  type ReadSet,
  readHosts,
  readPassing,
  WITH_PORTS,
} from "./forwarding.js";
import { NETLINK_NETFILTER, NetlinkError, netlinkDump } from "./netlink.js";
import { checkNames, deviceMatches, OWN_COMMENT, OwnTable } from "./nft.js";

/** Elements per set: the destinations of a busy router; beyond it new ones are not counted. */
const SET_SIZE = 65536;
const SET4 = "dst4";
const SET6 = "dst6";
/** Flows that are told apart, per set; under a flood the rest is not. */
const FLOW_SET_SIZE = 8192;
/** Seconds after which what a drop or a pass of a new flow says is forgotten. */
const FLOW_SECONDS = 20;
/** Seconds for which a new flow that passed on the direct interface shows that no firewall drops the like: it may have come since. */
const FRESH_SECONDS = 5;
/** Bytes of repeated tries of one flow that are led via the overlay: a hundred SYNs or requests, and little of a stream without answers. */
const RETRY_BYTES = 8192;
/** Milliseconds between two readings of the flows that pass. */
const PASSING_EVERY_MS = 2_000;
/** After the destination has been translated: the routing decision uses what comes out. */
const AFTER_DNAT = -98;

/**
 * New flows, by protocol: their key is sender, receiver, protocol and port of the service. `answer` is the same key as an
 * answer has it.
 */
const FLOW_KINDS = [
  {
    ...WITH_PORTS[4],
    answer: "ip daddr . ip saddr . meta l4proto . th sport",
    answered: WITH_PORTS[4].match,
    size: 4,
  },
  {
    ...WITH_PORTS[6],
    answer: "ip6 daddr . ip6 saddr . meta l4proto . th sport",
    answered: WITH_PORTS[6].match,
    size: 16,
  },
  {
    name: "echo4",
    type: "ipv4_addr . ipv4_addr",
    match: "icmp type echo-request",
    key: "ip saddr . ip daddr",
    answer: "ip daddr . ip saddr",
    answered: "icmp type echo-reply",
    size: 4,
  },
  {
    name: "echo6",
    type: "ipv6_addr . ipv6_addr",
    match: "icmpv6 type echo-request",
    key: "ip6 saddr . ip6 daddr",
    answer: "ip6 daddr . ip6 saddr",
    answered: "icmpv6 type echo-reply",
    size: 16,
  },
] as const;
type FlowKind = (typeof FLOW_KINDS)[number];

/** `lost`: seen before the filters and not behind them; `dropped`: lost on the direct interface, and passed via the overlay since. */
const flowSet = (what: "lost" | "fresh" | "dropped", direction: Direction, kind: FlowKind): string =>
  `${what}_${direction}_${kind.name}`;
const waitingSet = (kind: FlowKind): string => `waiting_${kind.name}`;
const retriedSet = (kind: FlowKind): string => `retried_${kind.name}`;

export interface TrafficSpec {
  /** The user that shortcutd runs as: besides root, no other sends control packets. */
  readonly uid: number;
  readonly table: string;
  /** Names and patterns of the overlay interfaces. */
  readonly overlay: readonly string[];
  readonly direct: string;
  readonly inVrf?: boolean;
  readonly stateful: boolean;
  readonly divertMark: number;
  readonly controlPort: number;
  readonly mask4: number;
  readonly mask6: number;
  readonly timeoutSeconds: number;
}

const maskText = (bits: number, size: 4 | 16): string => {
  const ones = new Uint8Array(size).fill(0xff);
  const prefix = prefixFromBytes(ones, bits);
  return prefix.slice(0, prefix.indexOf("/"));
};

/** The input of `nft -f -`. The table is replaced as a whole, in one transaction, also when there was none. */
export function nftScript(spec: TrafficSpec, passing: PassingFlows = new Map()): string {
  const set = (name: string, type: string): string =>
    `  set ${name} { type ${type}; size ${SET_SIZE}; flags dynamic,timeout; timeout ${spec.timeoutSeconds}s; counter; }`;
  const { table, controlPort } = spec;
  const overlay = deviceMatches(spec.overlay);
  const each = (line: (dev: string) => string): string => overlay.map((dev) => `    ${line(dev)}`).join("\n");
  // where a packet is forwarded, it has arrived via the VRF; `sdif` tells which of its members (nft(8))
  const arrived = spec.inVrf === true ? "meta sdifname" : "iifname";
  const forwarding = forwardingParts(spec, arrived, passing);
  const flows = spec.inVrf === true ? NO_FLOWS : spec.stateful ? flowParts(spec, arrived) : retryParts(spec);
  return `add table inet ${table}
delete table inet ${table}
table inet ${table} {
  ${OWN_COMMENT}
${set(SET4, "ipv4_addr")}
${set(SET6, "ipv6_addr")}
${forwarding.sets}${flows.sets}
  chain count {
    type filter hook postrouting priority 300; policy accept;
${each((dev) => `oifname ${dev} jump destination`)}
  }
  chain destination {
    udp sport ${controlPort} return
    udp dport ${controlPort} return
    ip daddr { 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255 } return
    ip6 daddr { fe80::/10, ff00::/8 } return
    update @${SET4} { ip daddr & ${maskText(spec.mask4, 4)} }
    update @${SET6} { ip6 daddr & ${maskText(spec.mask6, 16)} }
  }
  chain control {
    type filter hook forward priority -5; policy accept;
${each((dev) => `oifname ${dev} udp dport ${controlPort} jump forged`)}
  }
  chain forged {
${each((dev) => `${arrived} ${dev} return`)}
    counter drop
  }
  chain control_out {
    type filter hook output priority -5; policy accept;
${each((dev) => `oifname ${dev} udp dport ${controlPort} jump own_users`)}
  }
  chain own_users {
    meta skuid != { ${[...new Set([0, spec.uid])].join(", ")} } counter drop
  }
  chain before_filters {
    type filter hook forward priority -400; policy accept;
${forwarding.before}${flows.before}
  }
  chain after_filters {
    type filter hook forward priority 400; policy accept;
${forwarding.after}${flows.after}
  }
${forwarding.chains}${flows.chains}
}
`;
}

const NO_FLOWS = { sets: "", before: "", after: "", chains: "" };

/** Packets that begin a connection, and answers to them, where connections are not tracked: of TCP and ICMP alone. */
const BEGINS: Readonly<Record<FlowKind["name"], readonly [first: string, answer: string]>> = {
  "4": ["meta nfproto ipv4 tcp flags & (syn | ack) == syn", "meta nfproto ipv4 tcp flags & (syn | rst) != 0"],
  "6": ["meta nfproto ipv6 tcp flags & (syn | ack) == syn", "meta nfproto ipv6 tcp flags & (syn | rst) != 0"],
  echo4: ["icmp type echo-request", "icmp type echo-reply"],
  echo6: ["icmpv6 type echo-request", "icmpv6 type echo-reply"],
};

/**
 * Rules that try new connections again via the overlay, where no firewall of this router looks at the state of connections: that
 * of the other end may, and judges by these tries.
 */
function retryParts(spec: TrafficSpec): typeof NO_FLOWS {
  const { direct, divertMark } = spec;
  const kinds = (line: (k: FlowKind, first: string, answer: string) => string): string =>
    FLOW_KINDS.map((k) => line(k, ...BEGINS[k.name])).join("\n");
  const there = `fib daddr oifname "${direct}"`;
  return {
    sets: `\n${kinds((k) => `${declareFlows(waitingSet(k), k)}\n${declareFlows(retriedSet(k), k)}`)}`,
    before: "",
    after: "",
    chains: `
  chain arrive {
    type filter hook prerouting priority ${AFTER_DNAT}; policy accept;
${byDevice([...spec.overlay, direct], "jump answered", "return")}
${kinds((k, first) => `    ${first} ${there} ${k.key} @${waitingSet(k)} update @${retriedSet(k)} { ${k.key} quota until ${RETRY_BYTES} bytes } meta mark set meta mark | ${divertMark}`)}
${kinds((k, first) => `    ${first} ${there} update @${waitingSet(k)} { ${k.key} }`)}
  }
  chain answered {
${kinds((k, _, answer) => `    ${answer} delete @${waitingSet(k)} { ${k.answer} }`)}
  }
${forgetMark(divertMark)}`,
  };
}

/** Rules for packets that arrive by one of these interfaces: every statement after another. */
const byDevice = (names: readonly string[], ...statements: readonly string[]): string =>
  deviceMatches(names)
    .flatMap((dev) => statements.map((statement) => `    iifname ${dev} ${statement}`))
    .join("\n");

const declareFlows = (name: string, { type }: FlowKind): string =>
  `  set ${name} { type ${type}; size ${FLOW_SET_SIZE}; flags dynamic,timeout; timeout ${FLOW_SECONDS}s; }`;

/** The mark leads to a route and has no other meaning: filters see packets without it. */
const forgetMark = (mark: number): string => `  chain forget {
    type filter hook forward priority -450; policy accept;
    meta mark & ${mark} == ${mark} meta mark set meta mark & ${~mark >>> 0}
  }`;

/**
 * Rules for new flows, where firewalls look at the state of connections. A flow of which a first packet got no answer on the
 * direct interface is tried again via the overlay. If it was dropped on the direct interface and passes via the overlay
 * afterwards, the firewall treats the two differently. No host can feign that: what a policy drops, it drops on both.
 */
function flowParts(spec: TrafficSpec, arrived: string): typeof NO_FLOWS {
  const { direct, divertMark } = spec;
  const fresh = "ct state != { established, related }";
  const set = (name: string, { type }: FlowKind, seconds = FLOW_SECONDS): string =>
    `  set ${name} { type ${type}; size ${FLOW_SET_SIZE}; flags dynamic,timeout; timeout ${seconds}s; counter; }`;
  const by = (direction: Direction, dev: string): string =>
    direction === "from" ? `${arrived} ${dev}` : `oifname ${dev}`;
  const [directly, overlay] = [`"${direct}"`, deviceMatches(spec.overlay)];
  const each = (line: (k: FlowKind, d: Direction) => string | readonly string[]): string =>
    `\n${FLOW_KINDS.flatMap((k) => DIRECTIONS.flatMap((d) => line(k, d))).join("\n")}`;
  const kinds = (line: (k: FlowKind) => string): string => FLOW_KINDS.map(line).join("\n");
  return {
    sets: `${each((k, d) => [set(flowSet("lost", d, k), k), set(flowSet("dropped", d, k), k), set(flowSet("fresh", d, k), k, FRESH_SECONDS)])}
${kinds((k) => `${set(waitingSet(k), k)}\n${set(retriedSet(k), k).replace(" counter;", "")}`)}`,
    before: each(
      (k, d) => `    ${by(d, directly)} ${fresh} ${k.match} update @${flowSet("lost", d, k)} { ${k.key} }`,
    ),
    after: each((k, d) => {
      const lost = flowSet("lost", d, k);
      const passed = flowSet("fresh", d, k);
      return [
        `    ${by(d, directly)} ${fresh} ${k.match} delete @${lost} { ${k.key} }`,
        `    ${by(d, directly)} ${fresh} ${k.match} update @${passed} { ${k.key} }`,
        ...overlay.map(
          (dev) =>
            `    ${by(d, dev)} ${fresh} ${k.match} ${k.key} @${lost} ${k.key} != @${passed} update @${flowSet("dropped", d, k)} { ${k.key} }`,
        ),
      ];
    }),
    chains: `
  chain arrive {
    type filter hook prerouting priority ${AFTER_DNAT}; policy accept;
${byDevice([...spec.overlay, direct], "ct state established ct direction reply jump answered", "return")}
    ${fresh} fib daddr oifname "${direct}" jump again
  }
  chain answered {
${kinds((k) => `    ${k.answered} delete @${waitingSet(k)} { ${k.answer} }`)}
  }
  chain again {
${kinds((k) => `    ${k.match} ${k.key} @${waitingSet(k)} update @${retriedSet(k)} { ${k.key} quota until ${RETRY_BYTES} bytes } meta mark set meta mark | ${divertMark}`)}
${kinds((k) => `    ${k.match} update @${waitingSet(k)} { ${k.key} }`)}
  }
${forgetMark(divertMark)}`,
  };
}

function checkSpec(spec: TrafficSpec): void {
  const place = `nftables table ${JSON.stringify(spec.table)}`;
  checkNames(spec.table, [...spec.overlay.map((name) => name.replace(/\*$/, "")), spec.direct]);
  const inRange = (n: number, low: number, high: number): boolean =>
    Number.isInteger(n) && n >= low && n <= high;
  if (!inRange(spec.controlPort, 1, 65535) || !inRange(spec.mask4, 1, 32) || !inRange(spec.mask6, 1, 128))
    throw new PortError(place, "control port or mask out of range");
  if (!inRange(spec.timeoutSeconds, 1, 86400)) throw new PortError(place, "timeout out of range");
}

type Element = { readonly key: Uint8Array; readonly bytes: number; readonly packets: number };

async function dumpSet(table: string, set: string, onElement: (e: Element) => void): Promise<void> {
  const place = `nftables set ${table} ${set}`;
  await netlinkDump(NETLINK_NETFILTER, dumpSetElements(table, set), place, (m) => {
    const elements = decodeSetElements(m.payload);
    if (!elements.ok) throw new PortError(place, `${elements.error.at}: ${elements.error.problem}`);
    for (const e of elements.value) onElement(e);
  });
}

async function readSet(table: string, set: string, bits: number, out: TrafficSample[]): Promise<void> {
  await dumpSet(table, set, (e) => {
    if (e.key.length !== 4 && e.key.length !== 16) return;
    out.push({ destination: prefixFromBytes(e.key, bits), bytes: e.bytes, packets: e.packets });
  });
}

async function readFlows(
  spec: TrafficSpec,
  what: "fresh" | "dropped",
): Promise<(NewFlow & { readonly packets: number })[]> {
  const out: (NewFlow & { readonly packets: number })[] = [];
  for (const kind of FLOW_KINDS)
    for (const direction of DIRECTIONS)
      await dumpSet(spec.table, flowSet(what, direction, kind), ({ key, packets }) => {
        const { size } = kind;
        if (key.length < 2 * size) return;
        const [from, to] = [key.slice(0, size), key.slice(size, 2 * size)].map(addressFromBytes);
        const remote = direction === "from" ? from : to;
        if (remote === undefined) return;
        // sender apart: what is offered at one address
        const service = Buffer.from(key.subarray(size)).toString("hex");
        out.push({ direction, remote, service, packets });
      });
  return out;
}

const setOf =
  (table: string): ReadSet =>
  (set, onElement) =>
    dumpSet(table, set, onElement);

async function readForwarding(spec: TrafficSpec): Promise<ForwardingReading> {
  const hosts = await readHosts(setOf(spec.table));
  if (!spec.stateful) return { hosts, dropped: [], passed: [] };
  const dropped = await readFlows(spec, "dropped");
  return { hosts, dropped, passed: dropped.length === 0 ? [] : await readFlows(spec, "fresh") };
}

const explained = (table: string, e: unknown): unknown =>
  e instanceof NetlinkError && e.errno === ENOENT
    ? new PortError(
        `nftables table inet ${table}`,
        "is gone",
        "something flushed the ruleset; shortcutd makes it again",
        "ENOENT",
      )
    : e;

/**
 * {@link TrafficPort} of the network namespace that the process is in. A counter that expired for want of traffic and came
 * back starts at zero: whoever takes differences must allow for it.
 */
export function trafficAdapter(uid: number): TrafficPort {
  let current: TrafficSpec | undefined;
  let own: OwnTable | undefined;
  /** Grows when the table is made, before and after: a reading in between would compare counters of two tables. */
  let generation = 0;
  /** The flows that passed when they were read last: a table that is made again, since somebody flushed it, begins with that. */
  let passing: { readonly flows: PassingFlows; readonly at: number } = {
    flows: new Map(),
    at: Number.NEGATIVE_INFINITY,
  };
  return {
    async setUp(wanted) {
      const spec = { ...wanted, uid };
      checkSpec(spec);
      own = new OwnTable("inet", spec.table, "before_filters");
      generation++;
      try {
        await own.make(nftScript(spec, passing.flows));
      } finally {
        generation++;
      }
      current = spec;
    },
    intact: async () => own === undefined || own.intact(),
    async read() {
      if (current === undefined) return [];
      const out: TrafficSample[] = [];
      try {
        await readSet(current.table, SET4, current.mask4, out);
        await readSet(current.table, SET6, current.mask6, out);
      } catch (e) {
        throw explained(current.table, e);
      }
      return out;
    },
    async readForwarding() {
      if (current === undefined) return { hosts: [], dropped: [], passed: [] };
      try {
        const began = generation;
        const reading = await readForwarding(current);
        if (began !== generation || began % 2 === 1) return { hosts: [], dropped: [], passed: [] };
        const now = performance.now();
        if (reading.hosts.length > 0 && now >= passing.at + PASSING_EVERY_MS)
          passing = { flows: await readPassing(setOf(current.table)), at: now };
        return reading;
      } catch (e) {
        throw explained(current.table, e);
      }
    },
    async tearDown() {
      current = undefined;
      await own?.remove();
      own = undefined;
    },
  };
}
