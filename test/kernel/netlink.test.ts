/**
 * Shows that routes, links and addresses are read, written and watched as the kernel has them,
 * also when it drops messages.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DumpCost } from "../../plugin/adapters/linux/netlink.js";
import { type RouteAdapterOptions, routeAdapter } from "../../plugin/adapters/linux/routes.js";
import type { KernelRoute, RouteEvent, RoutePort } from "../../plugin/driver/ports.js";
import { address, prefix } from "../../plugin/net/address.js";
import { eventually, Namespace } from "./namespace.js";

const OURS = 173;
const MAIN = 254;
const BLACKBOARD = 4242;

let ns: Namespace;
let leave: () => void;
let port: RoutePort;
let closers: (() => Promise<void>)[];

beforeEach(async () => {
  ns = await Namespace.create();
  ns.sh(`
    ip link add ve0 type veth peer name ve1
    ip addr add 10.255.0.1/24 dev ve0
    ip addr add 2001:db8:ff::1/64 dev ve0 nodad
    ip link set ve0 up; ip link set ve1 up
    ip link add vf0 type veth peer name vf1
    ip addr add 10.254.0.1/24 dev vf0
    ip link set vf0 up; ip link set vf1 up`);
  leave = ns.enterNetwork();
  port = routeAdapter();
  closers = [];
});

afterEach(async () => {
  for (const close of closers) await close();
  leave();
  await ns.destroy();
});

const hops = (r: KernelRoute): string[] =>
  r.nextHops.map((h) => `${h.gateway ?? "-"} ${h.dev}${h.dead ? " dead" : ""}`).sort();

const text = (r: KernelRoute): string =>
  `${r.prefix} ${r.metric} ${r.protocol} ${r.type} nhid ${r.nexthopId} [${hops(r).join(", ")}]`;

/** A watcher that keeps, from events alone, what its reader would believe. */
async function believe(
  tables: readonly number[],
  keep: (r: KernelRoute) => boolean = () => true,
  options: RouteAdapterOptions = {},
): Promise<{ events: RouteEvent[]; routes: Map<string, KernelRoute>; resync(): Promise<void> }> {
  const events: RouteEvent[] = [];
  const routes = new Map<string, KernelRoute>();
  const key = (r: KernelRoute): string => `${r.table} ${r.prefix} ${r.metric}`;
  const watch = await routeAdapter(options).watch(tables, keep, (e) => {
    events.push(e);
    if (e.kind === "snapshot") {
      routes.clear();
      for (const r of e.routes) routes.set(key(r), r);
    } else if (e.kind === "set") routes.set(key(e.route), e.route);
    else if (e.kind === "gone") {
      expect(routes.has(key(e.route))).toBe(true);
      routes.delete(key(e.route));
    }
  });
  closers.push(() => watch.close());
  return { events, routes, resync: () => watch.resync() };
}

/**
 * Lists the routes that forward: of routes with the same table, prefix and metric the kernel lists
 * the first one first.
 */
async function kernelHeads(...tables: number[]): Promise<string[]> {
  const heads = new Map<string, string>();
  for (const table of tables)
    for (const r of await port.dump(table)) {
      const key = `${r.table} ${r.prefix} ${r.metric}`;
      if (!heads.has(key)) heads.set(key, text(r));
    }
  return [...heads.values()].sort();
}

const beliefs = (seen: { routes: Map<string, KernelRoute> }): string[] =>
  [...seen.routes.values()].map(text).sort();

/** Waits until the two agree; shows the difference when they do not. */
async function agree(seen: { routes: Map<string, KernelRoute> }, ...tables: number[]): Promise<void> {
  await eventually(
    "the mirror to agree with the kernel",
    async () => JSON.stringify(await kernelHeads(...tables)) === JSON.stringify(beliefs(seen)),
    3_000,
  ).catch(() => undefined);
  expect(beliefs(seen)).toEqual(await kernelHeads(...tables));
}

/**
 * Notifications that the kernel dropped on netlink sockets of the namespace: the column Drops of
 * /proc/net/netlink.
 */
const dropped = (): number =>
  readFileSync("/proc/thread-self/net/netlink", "utf8")
    .trim()
    .split("\n")
    .slice(1)
    .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[8]), 0);

describe("routes", () => {
  test("replace, lookup with FIB match, move to another interface, remove", async () => {
    const alias = { table: BLACKBOARD, prefix: prefix("198.18.0.1/32"), protocol: OURS, metric: 0 };
    await port.replace({ ...alias, via: ["ve0"] });
    expect(ns.sh("ip -N route show table 4242").trim()).toBe("198.18.0.1 dev ve0 proto 173 scope 253");
    await port.replace({ ...alias, via: ["vf0"] });
    expect((await port.dump(BLACKBOARD)).map(text)).toEqual(["198.18.0.1/32 0 173 unicast nhid 0 [- vf0]"]);
    await port.remove({ ...alias, protocol: 12 });
    expect(await port.dump(BLACKBOARD)).toHaveLength(1);
    await port.remove(alias);
    await port.remove(alias);
    expect(await port.dump(BLACKBOARD)).toEqual([]);

    await port.replace({
      table: MAIN,
      prefix: prefix("10.9.0.0/16"),
      via: ["ve0"],
      protocol: OURS,
      metric: 7,
    });
    const hit = await port.lookup(address("10.9.3.4"));
    expect(hit === undefined ? undefined : text(hit)).toBe("10.9.0.0/16 7 173 unicast nhid 0 [- ve0]");
    expect(await port.lookup(address("203.0.113.1"))).toBeUndefined();
  });

  test("the same over IPv6", async () => {
    const alias = { table: BLACKBOARD, prefix: prefix("fd00:198:18::1/128"), protocol: OURS, metric: 5 };
    await port.replace({ ...alias, via: ["ve0"] });
    await port.replace({ ...alias, via: ["vf0"] });
    expect((await port.dump(BLACKBOARD)).map(text)).toEqual([
      "fd00:198:18::1/128 5 173 unicast nhid 0 [- vf0]",
    ]);
    await port.remove(alias);
    await port.remove(alias);
    expect(await port.dump(BLACKBOARD)).toEqual([]);
    const hit = await port.lookup(address("2001:db8:ff::9"));
    expect(hit?.prefix).toBe("2001:db8:ff::/64");
    expect(await port.lookup(address("2001:db8:1::1"))).toBeUndefined();
  });

  test("the way of a WireGuard interface's packets follows policy rules and its mark, in both families", () => {
    const direct = { port: 51821, mark: 0 };
    const marked = { ...direct, mark: 0xca6c };
    const far4 = { address: address("203.0.113.9"), port: 51821 };
    const far6 = { address: address("2001:db8:9::9"), port: 51821 };
    expect(port.ways(far4, direct)).toEqual([]);
    // as wg-quick makes a full tunnel
    for (const [family, via] of [
      ["-4", "10.255.0.2"],
      ["-6", "2001:db8:ff::2"],
    ])
      ns.sh(`
        ip ${family} route add default via ${via} dev ve0
        ip ${family} route add default dev vf0 table 51820
        ip ${family} rule add not fwmark 0xca6c table 51820
        ip ${family} rule add table main suppress_prefixlength 0`);
    for (const far of [far4, far6]) {
      expect(port.ways(far, direct)).toEqual(["vf0"]);
      expect(port.ways(far, marked)).toEqual(["ve0"]);
    }
    expect(port.ways({ ...far4, address: address("10.255.0.7") }, direct)).toEqual(["ve0"]);
    ns.sh("ip rule add ipproto 17 dport 51821 lookup main pref 10");
    expect(port.ways(far4, direct)).toEqual(["ve0"]);
    expect(port.ways({ ...far4, port: 1 }, direct)).toEqual(["vf0"]);
    ns.sh("ip route add blackhole 203.0.113.0/24");
    expect(port.ways(far4, direct)).toEqual([]);
  });

  test("the way by a nexthop object, also without compatibility mode, and by several next hops", () => {
    ns.sh(`
      ip nexthop add id 5 via 10.255.0.2 dev ve0
      ip route add 203.0.113.0/24 nhid 5
      ip route add 198.51.100.0/24 nexthop via 10.255.0.2 nexthop via 10.254.0.2
      sysctl -qw net.ipv4.nexthop_compat_mode=0`);
    const from = { port: 51821, mark: 0 };
    expect(port.ways({ address: address("203.0.113.9"), port: 1 }, from)).toEqual(["ve0"]);
    const several = port.ways({ address: address("198.51.100.9"), port: 1 }, from);
    expect([...several].sort()).toEqual(["ve0", "vf0"]);
  });

  test("routes that refuse are not routes", async () => {
    ns.sh(
      "ip route add blackhole 10.1.0.0/16; ip route add unreachable 10.2.0.0/16; ip route add prohibit 10.3.0.0/16",
    );
    for (const a of ["10.1.0.1", "10.2.0.1", "10.3.0.1"])
      expect(await port.lookup(address(a))).toBeUndefined();
    expect((await port.dump(MAIN)).filter((r) => r.type !== "unicast").map((r) => r.type)).toEqual([
      "blackhole",
      "unreachable",
      "prohibit",
    ]);
  });

  test("errors carry the kernel's own words and name the interface", async () => {
    const missing = { table: MAIN, prefix: prefix("10.9.0.0/16"), protocol: OURS, metric: 0 };
    await expect(port.replace({ ...missing, via: ["nope0"] })).rejects.toThrow(
      /interface nope0: does not exist/,
    );
    ns.sh("ip link set vf0 down");
    await expect(port.replace({ ...missing, via: ["vf0"] })).rejects.toThrow(
      /RTM_NEWROUTE 10\.9\.0\.0\/16.*Device for nexthop is not up/,
    );
    await expect(port.addresses("nope0")).rejects.toThrow(/does not exist/);
  });

  test("links and addresses", async () => {
    const links = await port.links();
    expect(links.map((l) => l.name).sort()).toEqual(["lo", "ve0", "ve1", "vf0", "vf1"]);
    expect(links.find((l) => l.name === "ve0")).toMatchObject({ up: true, mtu: 1500 });
    const own = await port.addresses("ve0");
    expect(own).toContain("10.255.0.1/32");
    expect(own).toContain("2001:db8:ff::1/128");
    expect(own).not.toContain("10.254.0.1/32");
  });

  test("a dump of table 4242 does not read 50,000 routes in main", async () => {
    ns.sh(`
      i=0; while [ $i -lt 50000 ]; do echo "route add 20.$((i>>8)).$((i&255)).0/24 via 10.255.0.2"; i=$((i+1)); done |
      ip -batch -`);
    await port.replace({
      table: BLACKBOARD,
      prefix: prefix("198.18.0.1/32"),
      via: ["ve0"],
      protocol: OURS,
      metric: 0,
    });
    const costs: DumpCost[] = [];
    const counting = routeAdapter({ onDump: (what, cost) => what.includes("GETROUTE") && costs.push(cost) });
    expect(await counting.dump(BLACKBOARD)).toHaveLength(1);
    const read = costs.reduce((n, c) => n + c.messages, 0);
    const bytes = costs.reduce((n, c) => n + c.bytes, 0);
    expect(read).toBe(1);
    expect(bytes).toBeLessThan(500);
    // The measure itself works: main costs what it holds.
    costs.length = 0;
    expect((await counting.dump(MAIN)).length).toBeGreaterThan(50_000);
    expect(costs.reduce((n, c) => n + c.bytes, 0)).toBeGreaterThan(2_500_000);
  });
});

/**
 * Lines for `ip -batch`: 50,000 routes are added, a fifth of them is replaced and the rest deleted;
 * one more at the end.
 */
function hundredThousandChanges(): string {
  const lines: string[] = [];
  const to = (i: number): string => `20.${i >> 8}.${i & 255}.0/24`;
  for (let i = 0; i < 50_000; i++) lines.push(`route add ${to(i)} via 10.255.0.2`);
  for (let i = 0; i < 50_000; i++)
    lines.push(i % 5 === 0 ? `route replace ${to(i)} via 10.254.0.2` : `route del ${to(i)}`);
  lines.push("route add 30.0.0.0/8 via 10.255.0.2");
  return `${lines.join("\n")}\n`;
}

describe("watch", () => {
  test("set, changed and gone, in the chosen tables and as `keep` says", async () => {
    const seen = await believe([MAIN, BLACKBOARD], (r) => r.protocol === OURS || r.protocol === 186);
    expect(seen.events[0]).toMatchObject({ kind: "snapshot", routes: [] });
    ns.sh(`
      ip route add 10.9.0.0/16 via 10.255.0.2 proto bgp
      ip route add 10.8.0.0/16 via 10.255.0.2 proto static
      ip route add 10.9.0.0/16 via 10.255.0.2 proto bgp table 77
      ip route add 198.18.0.1/32 dev ve0 proto 173 table 4242
      ip route replace 10.9.0.0/16 via 10.254.0.2 proto bgp
      ip route del 198.18.0.1/32 table 4242
      ip route replace 10.9.0.0/16 via 10.254.0.2 proto static
      ip route add 10.7.0.0/16 dev ve0 proto 173`);
    await eventually("the last route", () => seen.routes.has("254 10.7.0.0/16 0"));
    const told = seen.events
      .slice(1)
      .filter((e) => e.kind !== "elsewhere")
      .map((e) => (e.kind === "set" || e.kind === "gone" ? `${e.kind} ${text(e.route)}` : e.kind));
    expect(told).toEqual([
      "set 10.9.0.0/16 0 186 unicast nhid 0 [10.255.0.2 ve0]",
      "set 198.18.0.1/32 0 173 unicast nhid 0 [- ve0]",
      "set 10.9.0.0/16 0 186 unicast nhid 0 [10.254.0.2 vf0]",
      "gone 198.18.0.1/32 0 173 unicast nhid 0 [- ve0]",
      "gone 10.9.0.0/16 0 186 unicast nhid 0 [10.254.0.2 vf0]",
      "set 10.7.0.0/16 0 173 unicast nhid 0 [- ve0]",
    ]);
  });

  test("a policy rule, or a route of another table, is told as a change elsewhere", async () => {
    const seen = await believe([MAIN], () => true);
    const elsewhere = (): number => seen.events.filter((e) => e.kind === "elsewhere").length;
    for (const change of [
      "ip rule add not fwmark 0xca6c table 51820",
      "ip -6 rule add not fwmark 0xca6c table 51820",
      "ip route add default dev ve0 table 51820",
      "ip -6 route add default dev ve0 table 51820",
      "ip rule del not fwmark 0xca6c table 51820",
    ]) {
      const before = elsewhere();
      ns.sh(change);
      await eventually(change, () => elsewhere() > before);
    }
  });

  test("multipath, RTA_VIA and nexthop objects are resolved; a changed object is a changed route", async () => {
    ns.sh(`
      ip nexthop add id 5 via 10.255.0.2 dev ve0
      ip nexthop add id 6 via 10.254.0.2 dev vf0
      ip nexthop add id 10 group 5/6
      ip route add 10.1.0.0/16 nhid 10 proto bgp
      ip route add 10.2.0.0/16 nhid 5 proto bgp
      ip route add 10.3.0.0/16 proto bgp nexthop via 10.255.0.2 nexthop via 10.254.0.2
      ip route add 10.4.0.0/16 proto bgp via inet6 fe80::2 dev ve0`);
    const seen = await believe([MAIN], (r) => r.protocol === 186);
    const of = (p: string): string | undefined => {
      const r = seen.routes.get(`254 ${p} 0`);
      return r === undefined ? undefined : `${r.nexthopId} ${hops(r).join(", ")}`;
    };
    expect(of("10.1.0.0/16")).toBe("10 10.254.0.2 vf0, 10.255.0.2 ve0");
    expect(of("10.2.0.0/16")).toBe("5 10.255.0.2 ve0");
    expect(of("10.3.0.0/16")).toBe("0 10.254.0.2 vf0, 10.255.0.2 ve0");
    expect(of("10.4.0.0/16")).toBe("0 fe80::2 ve0");

    // Without compatibility mode the kernel sends no RTM_NEWROUTE for the routes of a changed
    // object.
    ns.sh("sysctl -qw net.ipv4.nexthop_compat_mode=0; ip nexthop replace id 5 via 10.254.0.9 dev vf0");
    await eventually("the changed object", () => of("10.2.0.0/16") === "5 10.254.0.9 vf0");
    expect(of("10.1.0.0/16")).toBe("10 10.254.0.2 vf0, 10.254.0.9 vf0");
    expect(
      (await port.dump(MAIN))
        .filter((r) => r.protocol === 186)
        .map(text)
        .sort(),
    ).toEqual([...seen.routes.values()].map(text).sort());
    expect(await port.lookup(address("10.2.0.1")).then((r) => r && hops(r))).toEqual(["10.254.0.9 vf0"]);

    ns.sh("ip nexthop replace id 10 group 6");
    await eventually("the smaller group", () => of("10.1.0.0/16") === "10 10.254.0.2 vf0");
    // The kernel removes the routes of a deleted object without RTM_DELROUTE.
    ns.sh("ip nexthop del id 5");
    await eventually("the deleted object's route to go", () => of("10.2.0.0/16") === undefined);
    expect(of("10.1.0.0/16")).toBe("10 10.254.0.2 vf0");
  });

  test("a changed nexthop object may bring a route into what is kept", async () => {
    ns.sh(`
      ip nexthop add id 5 via 10.255.0.2 dev ve0
      ip route add 10.1.0.0/16 nhid 5`);
    for (const compat of [1, 0]) {
      ns.sh(
        `sysctl -qw net.ipv4.nexthop_compat_mode=${compat}; ip nexthop replace id 5 via 10.255.0.2 dev ve0`,
      );
      const seen = await believe([MAIN], (r) => r.nextHops.some((h) => h.dev === "vf0"));
      expect(seen.routes.has("254 10.1.0.0/16 0")).toBe(false);
      ns.sh("ip nexthop replace id 5 via 10.254.0.2 dev vf0");
      await eventually("the route by vf0", () => seen.routes.has("254 10.1.0.0/16 0"));
      ns.sh("ip nexthop replace id 5 via 10.255.0.2 dev ve0");
      await eventually("the route to leave", () => !seen.routes.has("254 10.1.0.0/16 0"));
    }
  });

  for (const [how, command] of [
    ["down", "ip link set ve0 down"],
    ["deleted", "ip link del ve0"],
    ["without its last IPv4 address", "ip addr del 10.255.0.1/24 dev ve0"],
  ] as const)
    test(`a link that is ${how} takes its routes along, although the kernel says nothing`, async () => {
      ns.sh(`
        ip nexthop add id 5 via 10.255.0.2 dev ve0
        ip route add 10.1.0.0/16 via 10.255.0.2
        ip route add 10.2.0.0/16 nexthop via 10.255.0.2 nexthop via 10.254.0.2
        ip route add 10.3.0.0/16 nhid 5
        ip route add 198.18.0.1/32 dev ve0 proto 173 table 4242
        ip route add 10.4.0.0/16 via 10.254.0.2
        ip -6 route add 2001:db8:1::/48 via 2001:db8:ff::2`);
      const seen = await believe([MAIN, BLACKBOARD]);
      const before = seen.events.length;
      expect(seen.routes.has("4242 198.18.0.1/32 0")).toBe(true);
      ns.sh(command);
      await eventually("the alias to go", () => !seen.routes.has("4242 198.18.0.1/32 0"));
      await agree(seen, MAIN, BLACKBOARD);
      expect(seen.events.slice(before).some((e) => e.kind === "snapshot")).toBe(false);
      expect(seen.routes.has("254 10.4.0.0/16 0")).toBe(true);
    });

  test("a route takes the place of one with another protocol number, the same prefix and metric", async () => {
    ns.sh(
      "ip route add 198.18.0.1/32 dev ve0 proto 99 metric 99; ip -6 route add fd00:198:18::1/128 dev ve0 proto 99 metric 99",
    );
    for (const to of ["198.18.0.1/32", "fd00:198:18::1/128"])
      await port.replace({ table: MAIN, prefix: prefix(to), via: ["ve0"], protocol: OURS, metric: 99 });
    expect(
      ns.sh("ip -N route show 198.18.0.1; ip -6 -N route show fd00:198:18::1").match(/proto \d+/g),
    ).toEqual([`proto ${OURS}`, `proto ${OURS}`]);
  });

  test("a route goes with the address in its `src`", async () => {
    ns.sh("ip addr add 10.99.0.1/32 dev ve0; ip route add 10.1.0.0/16 via 10.255.0.2 src 10.99.0.1");
    const seen = await believe([MAIN]);
    expect(seen.routes.has("254 10.1.0.0/16 0")).toBe(true);
    ns.sh("ip addr del 10.99.0.1/32 dev ve0");
    await eventually("the route to go", () => !seen.routes.has("254 10.1.0.0/16 0"));
    expect((await port.dump(MAIN)).some((r) => r.prefix === "10.1.0.0/16")).toBe(false);
  });

  test("random changes of both families leave the mirror equal to the kernel", async () => {
    const seen = await believe([MAIN]);
    let seed = 20240607;
    const pick = <T>(of: readonly T[]): T => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      const x = of[(seed >>> 8) % of.length];
      if (x === undefined) throw new Error("nothing to pick from");
      return x;
    };
    const lines: string[] = [];
    for (let i = 0; i < 3000; i++) {
      const v6 = pick([true, false]);
      const destination = v6
        ? `2001:db8:${pick(["1", "2", "3"])}::/48`
        : `10.${pick(["1", "2", "3"])}.0.0/16`;
      const dev = pick(["ve0", "vf0"]);
      const gateway = v6
        ? `fe80::${pick(["2", "3", "4"])}`
        : `${dev === "ve0" ? "10.255" : "10.254"}.0.${pick([2, 3])}`;
      const verb = pick(["add", "append", "prepend", "replace", "replace", "del", "del"]);
      const via = pick([true, true, false]) ? `via ${gateway} ` : "";
      lines.push(
        `route ${verb} ${destination} ${via}dev ${dev} metric ${pick([10, 20])} proto ${v6 ? 173 : pick([173, 186])}`,
      );
      if (pick([...Array(60).keys()]) === 0) lines.push(`link set ${dev} down`, `link set ${dev} up`);
    }
    const directory = mkdtempSync(join(tmpdir(), "routes-"));
    try {
      writeFileSync(join(directory, "batch"), `${lines.join("\n")}\n`);
      ns.sh(`ip -force -batch ${join(directory, "batch")} >/dev/null 2>&1; true`);
    } finally {
      rmSync(directory, { recursive: true });
    }
    await agree(seen, MAIN);
    expect(seen.events.filter((e) => e.kind === "snapshot")).toHaveLength(1);
  });

  test("100,000 changes while the event loop is blocked: an overrun, a new snapshot, and the truth", async () => {
    let overruns = 0;
    const errors: unknown[] = [];
    const seen = await believe([MAIN], (r) => r.prefix.startsWith("20.") || r.prefix.startsWith("30."), {
      onOverrun: () => overruns++,
      onError: (e) => errors.push(e),
    });
    // Written beforehand: a shell that writes it line by line may be slower than the socket is
    // read.
    const dir = mkdtempSync(join(tmpdir(), "shortcutd-netlink-"));
    closers.push(async () => rmSync(dir, { recursive: true, force: true }));
    writeFileSync(join(dir, "batch"), hundredThousandChanges());
    const done = ns.start("ip", "-batch", join(dir, "batch"));
    const exited = new Promise<number | null>((resolve) => done.once("exit", resolve));
    // Blocked for a second at least, and until the kernel has thrown notifications away. Asleep:
    // this thread must not
    // take the processor from the one that makes the changes.
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    const from = Date.now();
    while (Date.now() - from < 1_000 || (dropped() === 0 && Date.now() - from < 30_000))
      Atomics.wait(sleeper, 0, 0, 5);
    expect(dropped()).toBeGreaterThan(0);
    await eventually("the overrun", () => overruns > 0);
    expect(await exited).toBe(0);
    await eventually("the last route", () => seen.routes.has("254 30.0.0.0/8 0"), 60_000);
    const listed: unknown = JSON.parse(ns.sh("ip -j route show table main"));
    if (!Array.isArray(listed)) throw new Error("ip -j route printed no list");
    const kernel = listed
      .map((r: { dst: string; gateway?: string; dev: string }) => `${r.dst} ${r.gateway ?? "-"} ${r.dev}`)
      .filter((line) => line.startsWith("20.") || line.startsWith("30."))
      .sort();
    expect(kernel).toHaveLength(10_001);
    const have = [...seen.routes.values()].map((r) => `${r.prefix} ${hops(r).join()}`).sort();
    expect(have).toEqual(kernel);
    expect(seen.events.filter((e) => e.kind === "snapshot").length).toBeGreaterThan(1);
    expect(errors).toEqual([]);
  });

  test("resync tells a snapshot again, and a closed watch tells nothing", async () => {
    const seen = await believe([BLACKBOARD]);
    await seen.resync();
    await Promise.all([seen.resync(), seen.resync()]);
    expect(seen.events.filter((e) => e.kind === "snapshot").length).toBeGreaterThanOrEqual(3);
    for (const close of closers.splice(0)) await close();
    const before = seen.events.length;
    const other = await believe([BLACKBOARD]);
    ns.sh("ip route add 198.18.0.1/32 dev ve0 table 4242");
    await eventually("another watch to hear it", () => other.routes.size === 1);
    expect(seen.events.length).toBe(before);
  });
});
