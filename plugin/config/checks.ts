/** Rules between keys: each value is valid by itself, and together they are not. */
import { type Address, contains, familyOf } from "../net/address.js";
import { InterfaceNames } from "../net/interface-names.js";
import type { Parsed } from "./schema.js";

export interface Finding {
  /** Of the key that is to change. */
  readonly path: readonly PropertyKey[];
  readonly problem: string;
}

/** RT_TABLE_MAIN, linux/rtnetlink.h; FRR knows the main table by this number. */
export const MAIN_TABLE = 254;
/** RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL */
const RESERVED_TABLES: ReadonlySet<number> = new Set([253, MAIN_TABLE, 255]);

type Has = (path: readonly PropertyKey[]) => boolean;

/** `has` tells whether the file itself sets a key: of two that contradict each other, the default is not the one to blame. */
export const findContradictions = (c: Parsed, has: Has): Finding[] => [
  ...(c.role === "spoke" ? spokeNeeds(c) : hubHasNot(has)),
  ...hubList(c),
  ...preshared(c),
  ...thresholds(c, has),
  ...tables(c, has),
  ...pools(c),
  ...sessions(c, has),
  ...interfacesAndPorts(c, has),
];

function spokeNeeds(c: Parsed): Finding[] {
  const out: Finding[] = [];
  if (c.hubs.length === 0)
    out.push({
      path: ["hubs"],
      problem: "a spoke needs the overlay address of at least one hub: hubs: [10.255.0.1]",
    });
  if (c.daemon === undefined)
    out.push({ path: ["daemon"], problem: "a spoke needs its routing daemon: bird or frr" });
  if (c.bgp === undefined)
    out.push({ path: ["bgp"], problem: "a spoke needs the daemon's AS: bgp: { as: 65000 }" });
  return out;
}

const hubHasNot = (has: Has): Finding[] => [
  ...["hubs", "daemon", "bgp"]
    .filter((key) => has([key]))
    .map((key) => ({ path: [key], problem: "is for spokes; a hub reads its FIB, not its daemon" })),
  ...["pins", "psk"]
    .filter((key) => has([key]))
    .map((key) => ({ path: [key], problem: "is for spokes: a hub has no direct path" })),
];

const preshared = ({ psk }: Parsed): Finding[] =>
  psk.required && psk.directory === undefined
    ? [{ path: ["psk", "required"], problem: "needs psk.directory, where the keys are" }]
    : [];

function hubList(c: Parsed): Finding[] {
  const out: Finding[] = [];
  for (const [i, hub] of c.hubs.entries()) {
    if (hub === c.address) out.push({ path: ["hubs", i], problem: `${hub} is this router itself` });
    if (c.hubs.indexOf(hub) < i) out.push({ path: ["hubs", i], problem: `${hub} is listed twice` });
  }
  return out;
}

/** The alias pools are names for next hops: no address of the network may be in one. */
function pools(c: Parsed): Finding[] {
  const out: Finding[] = [];
  const addresses: (readonly [readonly PropertyKey[], Address | undefined])[] = [
    ...c.hubs.map((hub, i) => [["hubs", i], hub] as const),
    [["address"], c.address],
    [["bgp", "peer"], c.bgp?.peer],
    [["bgp", "offers"], c.bgp?.offers],
    [["bgp", "feed"], c.bgp?.feed],
  ];
  for (const [path, address] of addresses)
    for (const pool of [c.aliases.ipv4, c.aliases.ipv6])
      if (address !== undefined && contains(pool, address))
        out.push({
          path,
          problem: `${address} is in the alias pool ${pool}, whose addresses are only names`,
        });
  return out;
}

/** The two sessions are told apart by the address that they come from. */
function sessions({ bgp }: Parsed, has: Has): Finding[] {
  if (bgp === undefined) return [];
  const out: Finding[] = [];
  if (bgp.offers === bgp.feed)
    out.push({
      path: ["bgp", has(["bgp", "feed"]) ? "feed" : "offers"],
      problem: `offers and feed need two addresses: both are ${bgp.feed}`,
    });
  if (familyOf(bgp["router-id"]) === 6 || bgp["router-id"] === "0.0.0.0")
    out.push({ path: ["bgp", "router-id"], problem: "must be an IPv4 address other than 0.0.0.0" });
  return out;
}

function thresholds(c: Parsed, has: Has): Finding[] {
  if (c.damping.reuse < c.damping.suppress) return [];
  const key = has(["damping", "reuse"]) ? "reuse" : "suppress";
  return [{ path: ["damping", key], problem: "reuse must be below suppress" }];
}

function tables(c: Parsed, has: Has): Finding[] {
  const out: Finding[] = [];
  if (RESERVED_TABLES.has(c.aliases.table) && c.daemon !== "frr")
    out.push({
      path: ["aliases", "table"],
      problem: "must be a table that routes no packets, the same as SHORTCUT_TABLE: not 253, 254 or 255",
    });
  if (c.daemon === "frr" && has(["aliases", "table"]))
    out.push({
      path: ["aliases", "table"],
      problem: "is for BIRD: with FRR the aliases stand in the table that routes packets",
    });
  if (c.vrf !== undefined && RESERVED_TABLES.has(c.vrf.table))
    out.push({ path: ["vrf", "table"], problem: "must be a table of the VRF's own: not 253, 254 or 255" });
  if (c.daemon === "bird" && c.vrf?.table === c.aliases.table)
    out.push({
      path: ["vrf", "table"],
      problem: "must not be BIRD's blackboard table (aliases.table)",
    });
  return out;
}

function interfacesAndPorts(c: Parsed, has: Has): Finding[] {
  const out: Finding[] = [];
  if (new InterfaceNames(c.overlay).has(c.direct.interface))
    out.push({
      path: has(["direct", "interface"]) ? ["direct", "interface"] : ["overlay"],
      problem: "overlay and direct interface must be two interfaces",
    });
  const observe = c.direct["observe-port"] ?? c.control.port + 1;
  if (c.role === "hub" && (observe === c.direct.port || observe === c.control.port))
    out.push({
      path: has(["direct", "observe-port"]) ? ["direct", "observe-port"] : ["direct", "port"],
      problem: `the hub's port for pings, direct.observe-port (${observe}), must differ from ${observe === c.direct.port ? "direct.port" : "control.port"}`,
    });
  if (c.control.port === c.direct.port)
    out.push(
      has(["control", "port"])
        ? { path: ["control", "port"], problem: "must differ from the port of the direct interface" }
        : { path: ["direct", "port"], problem: "must differ from the port of the control protocol" },
    );
  return out;
}
