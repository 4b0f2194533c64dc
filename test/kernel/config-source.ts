/**
 * Stands in for shortcutd where only the daemons' configurations are tested: two more BIRDs in the
 * router, one offers (from 127.0.0.2), one listens to the feed (from 127.0.0.3). BIRD runs one
 * session per remote address only, so each has a process of its own. The direct interface is a real
 * point-to-point WireGuard one without peers.
 */
import { LabError, type Node, until } from "../../lab/runner/lab.js";

export const ALIAS4 = "198.18.0.1";
export const ALIAS6 = "fd53:4843:5554::1";
export const FAR4 = "10.3.0.0/24";
export const FAR6 = "2001:db8:3::/64";
export const DIRECT = "shortcut0";

interface Session {
  /** Where the daemon under test listens: 127.0.0.1 for BIRD, its overlay address for FRR. */
  readonly target: string;
  /** AS of the source's end; 65000 unless given. */
  readonly as?: number;
}

const head = (from: string, name: string): string => `
log "/run/${name}/log" all;
router id ${from};
protocol device {}
`;

const session = (from: string, { target, as = 65000 }: Session): string => `
  local ${from} port 1790 as ${as};
  neighbor ${target} as 65000;
  strict bind; multihop; hold time 9; connect delay time 1; connect retry time 1; error wait time 1, 2;
`;

/**
 * Offers FAR4 and FAR6 with the aliases; `marked` says whether they carry shortcutd's community.
 */
function offersConfig(s: Session, marked: boolean): string {
  const filter = marked ? "filter { bgp_large_community.add((65000, 1, 1)); accept; }" : "all";
  return `${head("127.0.0.2", "offers")}
protocol static { ipv4; route ${FAR4} blackhole; }
protocol static { ipv6; route ${FAR6} blackhole; }
protocol bgp offers { ${session("127.0.0.2", s)}
  ipv4 { import none; next hop address ${ALIAS4}; export ${filter}; };
  ipv6 { import none; next hop address ${ALIAS6}; export ${filter}; };
}`;
}

const feedConfig = (s: Session): string => `${head("127.0.0.3", "feed")}
protocol bgp feed { ${session("127.0.0.3", s)}
  ipv4 { import all; export none; add paths rx; };
  ipv6 { import all; export none; add paths rx; };
}`;

export class Source {
  constructor(
    private readonly node: Node,
    private readonly name: "offers" | "feed",
  ) {}

  static async start(node: Node, name: "offers" | "feed", config: string): Promise<Source> {
    await node.must(["mkdir", "-p", `/run/${name}`]);
    node.writeFile(`/run/${name}/bird.conf`, config);
    const files = ["-c", `/run/${name}/bird.conf`, "-s", `/run/${name}/ctl`, "-P", `/run/${name}/pid`];
    await node.must(["bird", ...files]);
    const source = new Source(node, name);
    await until(`${name} is established`, 15_000, async () =>
      (await source.birdc("show protocols", name)).includes("Established"),
    );
    return source;
  }

  birdc(...command: string[]): Promise<string> {
    return this.node.must(["birdc", "-s", `/run/${this.name}/ctl`, ...command]);
  }

  /** As a crash would end it. */
  async kill(): Promise<void> {
    await this.node.must(["sh", "-c", `kill -9 $(cat /run/${this.name}/pid)`]);
  }
}

export const startOffers = (node: Node, s: Session, marked = true): Promise<Source> =>
  Source.start(node, "offers", offersConfig(s, marked));
export const startFeed = (node: Node, s: Session): Promise<Source> =>
  Source.start(node, "feed", feedConfig(s));

/** The direct interface, with the addresses that the real one has. */
export async function addDirect(node: Node): Promise<void> {
  await node.must(["sh", "-c", `wireguard-go ${DIRECT} </dev/null >/dev/null 2>&1`]);
  await node.must(["ip", "address", "add", "10.255.0.1/32", "dev", DIRECT]);
  await node.must(["ip", "link", "set", DIRECT, "up"]);
}

/** Points both aliases at `dev`, in `table`. */
export async function pointAliases(node: Node, dev: string, table: string): Promise<void> {
  const route = ["dev", dev, "proto", "173", "table", table];
  await node.must(["ip", "route", "replace", `${ALIAS4}/32`, ...route]);
  await node.must(["ip", "-6", "route", "replace", `${ALIAS6}/128`, ...route]);
}

/** The main table's route for exactly `prefix`, as iproute2 prints it; empty when there is none. */
export async function fib(node: Node, prefix: string, table = "main"): Promise<string> {
  const family = prefix.includes(":") ? "-6" : "-4";
  const r = await node.exec(["ip", family, "route", "show", "exact", prefix, "table", table]);
  // A table without routes does not exist.
  if (r.status !== 0 && !r.stderr.includes("FIB table does not exist")) throw new LabError(r.stderr);
  return r.stdout.trim();
}

/**
 * Waits until the FIB sends both far prefixes by `dev`, and says how long it took in milliseconds.
 */
export async function fibFollows(node: Node, dev: string, timeout = 5_000): Promise<number> {
  const since = performance.now();
  await until(
    `the FIB of ${node.name} has ${FAR4} and ${FAR6} via ${dev}`,
    timeout,
    async () => {
      const lines = [await fib(node, FAR4), await fib(node, FAR6)];
      if (lines.every((l) => l.includes(`dev ${dev}`))) return true;
      throw new LabError(lines.join(" / "));
    },
    5,
  );
  return performance.now() - since;
}

/** Waits for the lab's own routing: both LANs reach each other through the hub. */
export async function converged(hostA: Node): Promise<void> {
  for (const far of ["10.3.0.10", "2001:db8:3::10"])
    await until(`${hostA.name} reaches ${far}`, 30_000, async () => {
      return (await hostA.exec(["ping", "-n", "-c", "1", "-W", "1", far])).status === 0;
    });
}
