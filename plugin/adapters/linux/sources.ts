/**
 * {@link SourceGuardPort}: the other end's WireGuard drops a packet whose source the hub does not attest for this router, without a word.
 * Such a packet goes via the overlay instead. A table of family inet marks it before it is routed, so that a policy rule leads it
 * there by the overlay's own path, NAT included. A table of family netdev, at the egress of the direct interface (Linux 5.16), hands
 * over what was not marked, as if it had been routed there, or drops it while there is no overlay interface. Both remember the source.
 */
import { PortError, type SourceGuardPort, type UnattestedSource } from "../../driver/ports.js";
import { addressFromBytes, familyOf, type Prefix } from "../../net/address.js";
import {
  decodeSetElements,
  dumpSetElements,
  NFPROTO_INET,
  NFPROTO_NETDEV,
} from "../../wire/netlink/nftables.js";
import { NETLINK_NETFILTER, netlinkDump } from "./netlink.js";
import { checkNames, OWN_COMMENT, OwnTable } from "./nft.js";

/** How many unattested sources are named; all are sent via the overlay. */
const NAMED = 64;
/** After the destination has been translated: the routing decision uses what comes out. */
const AFTER_DNAT = -98;

interface SourceGuardSpec {
  readonly table: string;
  readonly direct: string;
  readonly to: string | undefined;
  readonly sources: readonly Prefix[];
  readonly mark: number | undefined;
}

/** The sets of both tables: the sources that may go direct, and those that would and may not. */
function sets(sources: readonly Prefix[]): string {
  const of = (family: 4 | 6): string => sources.filter((p) => familyOf(p) === family).join(", ");
  return ([4, 6] as const)
    .map((family) => {
      const own = of(family);
      const elements = own === "" ? "" : ` elements = { ${own} }`;
      return `  set own${family} { type ipv${family}_addr; flags interval; auto-merge;${elements} }
  set unattested${family} { type ipv${family}_addr; size ${NAMED}; flags dynamic,timeout; timeout 10m; counter; }`;
    })
    .join("\n");
}

const MULTICAST = `    ip daddr 224.0.0.0/4 return
    ip6 daddr ff00::/8 return`;

/** Rules for packets that would go direct with another source; a full set ends its rule, so that the next must not depend on it. */
const unattested = (where: string, then: string): string =>
  (["ip", "ip6"] as const)
    .map((ip) => {
      const family = ip === "ip" ? 4 : 6;
      const which = `    ${ip} saddr != @own${family}${where}`;
      return `${which} update @unattested${family} { ${ip} saddr }\n${which} ${then}`;
    })
    .join("\n");

/** The input of `nft -f -`: each table is replaced as a whole, in one transaction. */
function egressScript({ table, direct, to, sources }: SourceGuardSpec): string {
  return `add table netdev ${table}
delete table netdev ${table}
table netdev ${table} {
  ${OWN_COMMENT}
${sets(sources)}
  chain leave {
    type filter hook egress device "${direct}" priority 0; policy accept;
${MULTICAST}
${unattested("", to === undefined ? "drop" : `fwd to "${to}"`)}
  }
}
`;
}

function divertScript({ table, direct, sources }: SourceGuardSpec, mark: number): string {
  const set = `meta mark set meta mark | ${mark}`;
  // the mark leads to a route and has no other meaning: filters see packets without it
  return `add table inet ${table}
delete table inet ${table}
table inet ${table} {
  ${OWN_COMMENT}
${sets(sources)}
  chain arrive {
    type filter hook prerouting priority ${AFTER_DNAT}; policy accept;
    meta mark & ${mark} == ${mark} return
${MULTICAST}
${unattested(` fib daddr oifname "${direct}"`, set)}
  }
  chain send {
    type route hook output priority ${AFTER_DNAT}; policy accept;
    oifname != "${direct}" return
${MULTICAST}
${unattested("", set)}
  }
  chain forget {
    type filter hook forward priority -450; policy accept;
    meta mark & ${mark} == ${mark} meta mark set meta mark & ${(~mark >>> 0).toString()}
  }
}
`;
}

/** {@link SourceGuardPort} of the network namespace that the process is in. */
export function sourceGuardAdapter(table: string, divertTable: string): SourceGuardPort {
  const egress = new OwnTable("netdev", table, "leave");
  const divert = new OwnTable("inet", divertTable, "arrive");
  let made: readonly (readonly [number, string])[] = [];
  return {
    async set(spec) {
      const { mark } = spec;
      checkNames(divertTable, []);
      checkNames(table, [spec.direct, ...(spec.to === undefined ? [] : [spec.to])]);
      await egress.make(
        egressScript({ ...spec, table }),
        "shortcutd needs Linux 5.16 for this: without it such packets are lost",
      );
      made = [[NFPROTO_NETDEV, table]];
      if (mark === undefined) {
        await divert.remove();
        return;
      }
      await divert.make(
        divertScript({ ...spec, table: divertTable }, mark),
        "shortcutd needs a kernel with nft_fib_inet",
      );
      made = [
        [NFPROTO_NETDEV, table],
        [NFPROTO_INET, divertTable],
      ];
    },
    intact: async () => (await egress.intact()) && (await divert.intact()),
    async unattestedSources() {
      const out = new Map<string, UnattestedSource>();
      for (const [family, name] of made)
        for (const set of ["unattested4", "unattested6"])
          for (const e of await readSet(family, name, set)) {
            const packets = (out.get(e.source)?.packets ?? 0) + e.packets;
            out.set(e.source, { source: e.source, packets });
          }
      return [...out.values()];
    },
    async remove() {
      made = [];
      await egress.remove();
      await divert.remove();
    },
  };
}

async function readSet(family: number, table: string, set: string): Promise<UnattestedSource[]> {
  const place = `nftables set ${table} ${set}`;
  const out: UnattestedSource[] = [];
  await netlinkDump(NETLINK_NETFILTER, dumpSetElements(table, set, family), place, (m) => {
    const elements = decodeSetElements(m.payload);
    if (!elements.ok) throw new PortError(place, `${elements.error.at}: ${elements.error.problem}`);
    for (const e of elements.value)
      if (e.key.length === 4 || e.key.length === 16)
        out.push({ source: addressFromBytes(e.key), packets: e.packets });
  });
  return out;
}
