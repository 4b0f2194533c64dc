/**
 * {@link TrafficPort}: one nftables table of family inet. Two dynamic sets, keyed by the masked destination, count what
 * leaves via the overlay; a chain in forward drops control packets that a host behind this router forges (they do not
 * arrive via the overlay, yet would leave via it); two chains count what is forwarded through the direct interface before
 * and after every filter, since probes cannot show that a firewall drops what hosts send. `nft` writes the table in one transaction; the counters, read every few
 * seconds, come by a raw netlink dump, which costs a fifth of `nft -j`.
 */
import { PortError, type TrafficPort, type TrafficSample } from "../../driver/ports.js";
import { prefixFromBytes } from "../../net/address.js";
import { ENOENT } from "../../wire/netlink/errno.js";
import { decodeSetElements, dumpSetElements } from "../../wire/netlink/nftables.js";
import { NETLINK_NETFILTER, NetlinkError, netlinkDump } from "./netlink.js";
import { checkNames, OWN_COMMENT, OwnTable } from "./nft.js";

/** Elements per set: the destinations of a busy router; beyond it new ones are not counted. */
const SET_SIZE = 65536;
const SET4 = "dst4";
const SET6 = "dst6";
/** Forwarded packets that arrived or would leave via the direct interface: before every filter, and after. */
const SEEN_SETS = ["in_seen", "out_seen"] as const;
const FORWARD_SETS = [...SEEN_SETS, "in_passed", "out_passed"] as const;

export interface TrafficSpec {
  /** The user that shortcutd runs as: besides root, no other sends control packets. */
  readonly uid: number;
  readonly table: string;
  readonly overlay: string;
  readonly direct: string;
  readonly inVrf?: boolean;
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
export function nftScript(spec: TrafficSpec): string {
  const set = (name: string, type: string): string =>
    `  set ${name} { type ${type}; size ${SET_SIZE}; flags dynamic,timeout; timeout ${spec.timeoutSeconds}s; counter; }`;
  const { table, overlay, direct, controlPort } = spec;
  // where a packet is forwarded, it has arrived via the VRF; `sdif` tells which of its members (nft(8))
  const arrived = spec.inVrf === true ? "meta sdifname" : "iifname";
  const forward = (suffix: "seen" | "passed"): string =>
    `    ${arrived} "${direct}" update @in_${suffix} { iif }\n    oifname "${direct}" update @out_${suffix} { oif }`;
  return `add table inet ${table}
delete table inet ${table}
table inet ${table} {
  ${OWN_COMMENT}
${set(SET4, "ipv4_addr")}
${set(SET6, "ipv6_addr")}
${FORWARD_SETS.map((name) => `  set ${name} { type iface_index; size 64; flags dynamic; counter; }`).join("\n")}
  chain count {
    type filter hook postrouting priority 300; policy accept;
    oifname != "${overlay}" return
    udp sport ${controlPort} return
    udp dport ${controlPort} return
    ip daddr { 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255 } return
    ip6 daddr { fe80::/10, ff00::/8 } return
    update @${SET4} { ip daddr & ${maskText(spec.mask4, 4)} }
    update @${SET6} { ip6 daddr & ${maskText(spec.mask6, 16)} }
  }
  chain control {
    type filter hook forward priority -5; policy accept;
    ${arrived} != "${overlay}" oifname "${overlay}" udp dport ${controlPort} counter drop
  }
  chain control_out {
    type filter hook output priority -5; policy accept;
    oifname "${overlay}" udp dport ${controlPort} meta skuid != { ${[...new Set([0, spec.uid])].join(", ")} } counter drop
  }
  chain before_filters {
    type filter hook forward priority -400; policy accept;
${forward("seen")}
  }
  chain after_filters {
    type filter hook forward priority 400; policy accept;
${forward("passed")}
  }
}
`;
}

function checkSpec(spec: TrafficSpec): void {
  const place = `nftables table ${JSON.stringify(spec.table)}`;
  checkNames(spec.table, [spec.overlay, spec.direct]);
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
  return {
    async setUp(wanted) {
      const spec = { ...wanted, uid };
      checkSpec(spec);
      own = new OwnTable("inet", spec.table, "before_filters");
      await own.make(nftScript(spec));
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
      const zero = { in_seen: 0, in_passed: 0, out_seen: 0, out_passed: 0 };
      const counts = { ...zero };
      const after = { ...zero };
      if (current !== undefined) {
        const { table } = current;
        try {
          for (const name of FORWARD_SETS)
            await dumpSet(table, name, (e) => {
              counts[name] += e.packets;
            });
          for (const name of SEEN_SETS)
            await dumpSet(table, name, (e) => {
              after[name] += e.packets;
            });
        } catch (e) {
          throw explained(table, e);
        }
      }
      return {
        arrived: { seen: counts.in_seen, passed: counts.in_passed, seenAfter: after.in_seen },
        leaving: { seen: counts.out_seen, passed: counts.out_passed, seenAfter: after.out_seen },
      };
    },
    async tearDown() {
      current = undefined;
      await own?.remove();
      own = undefined;
    },
  };
}
