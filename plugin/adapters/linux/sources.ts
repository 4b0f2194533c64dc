/**
 * {@link SourceGuardPort}: one nftables table of family netdev with a chain at the egress of the direct interface (Linux 5.16). The other end's
 * WireGuard drops a packet whose source the hub does not attest for this router, without a word. Such a packet is handed to the overlay
 * interface instead, as if it had been routed there, and its source is remembered.
 */
import { PortError, type SourceGuardPort } from "../../driver/ports.js";
import { addressFromBytes, familyOf, type Prefix } from "../../net/address.js";
import { decodeSetElements, dumpSetElements, NFPROTO_NETDEV } from "../../wire/netlink/nftables.js";
import { NETLINK_NETFILTER, netlinkDump } from "./netlink.js";
import { checkNames, OWN_COMMENT, OwnTable } from "./nft.js";

/** How many unattested sources are named; all are sent via the overlay. */
const NAMED = 64;

interface SourceGuardSpec {
  readonly table: string;
  readonly direct: string;
  readonly overlay: string;
  readonly sources: readonly Prefix[];
}

/** The input of `nft -f -`: the table is replaced as a whole, in one transaction. */
function sourceGuardScript({ table, direct, overlay, sources }: SourceGuardSpec): string {
  const of = (family: 4 | 6): string => sources.filter((p) => familyOf(p) === family).join(", ");
  const sets = ([4, 6] as const).map((family) => {
    const own = of(family);
    const elements = own === "" ? "" : ` elements = { ${own} }`;
    return `  set own${family} { type ipv${family}_addr; flags interval; auto-merge;${elements} }
  set unattested${family} { type ipv${family}_addr; size ${NAMED}; flags dynamic,timeout; timeout 10m; counter; }`;
  });
  // a full set ends its rule, so that the second must not depend on the first
  const rules = (["ip", "ip6"] as const).map((ip) => {
    const family = ip === "ip" ? 4 : 6;
    return `    ${ip} saddr != @own${family} update @unattested${family} { ${ip} saddr }
    ${ip} saddr != @own${family} fwd to "${overlay}"`;
  });
  return `add table netdev ${table}
delete table netdev ${table}
table netdev ${table} {
  ${OWN_COMMENT}
${sets.join("\n")}
  chain leave {
    type filter hook egress device "${direct}" priority 0; policy accept;
    ip daddr 224.0.0.0/4 return
    ip6 daddr ff00::/8 return
${rules.join("\n")}
  }
}
`;
}

/** {@link SourceGuardPort} of the network namespace that the process is in. */
export function sourceGuardAdapter(table: string): SourceGuardPort {
  const own = new OwnTable("netdev", table, "leave");
  const { place } = own;
  let made = false;
  return {
    async set(spec) {
      checkNames(table, [spec.direct, spec.overlay]);
      await own.make(
        sourceGuardScript({ ...spec, table }),
        "shortcutd needs Linux 5.16 for this: without it such packets are lost",
      );
      made = true;
    },
    intact: () => own.intact(),
    async unattestedSources() {
      const out: { source: ReturnType<typeof addressFromBytes>; packets: number }[] = [];
      if (!made) return out;
      for (const set of ["unattested4", "unattested6"])
        await netlinkDump(NETLINK_NETFILTER, dumpSetElements(table, set, NFPROTO_NETDEV), place, (m) => {
          const elements = decodeSetElements(m.payload);
          if (!elements.ok) throw new PortError(place, `${elements.error.at}: ${elements.error.problem}`);
          for (const e of elements.value)
            if (e.key.length === 4 || e.key.length === 16)
              out.push({ source: addressFromBytes(e.key), packets: e.packets });
        });
      return out;
    },
    async remove() {
      made = false;
      await own.remove();
    },
  };
}
