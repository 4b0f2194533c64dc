/**
 * The shipped examples of networks with an interface per tunnel, loaded as they are into real daemons:
 * a spoke and two hubs, BIRD and FRR on either side. Cables stand for the tunnels. The kernels' FIBs
 * show that the sessions carry both families by the preferred hub, and `check` finds no error.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { birdClient } from "../../plugin/adapters/daemons/bird.js";
import { frrClient } from "../../plugin/adapters/daemons/frr.js";
import type { DaemonExpectation } from "../../plugin/driver/ports.js";
import { address, prefix } from "../../plugin/net/address.js";
import { InterfaceNames } from "../../plugin/net/interface-names.js";
import { eventually, Namespace } from "./namespace.js";

type Daemon = "bird" | "frr";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

async function router(loopback: readonly string[]): Promise<Namespace> {
  const ns = await Namespace.create();
  cleanups.push(() => ns.destroy());
  for (const a of loopback) ns.run("ip", "address", "add", a, "dev", "lo");
  ns.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
  return ns;
}

/** Both ends have addresses of their own, and no automatic link-local one. */
function cable(a: readonly [Namespace, string, string[]], b: readonly [Namespace, string, string[]]): void {
  const end = ([ns, name]: typeof a): string[] => [name, "netns", String(ns.pid)];
  execFileSync("ip", ["link", "add", ...end(a), "type", "veth", "peer", "name", ...end(b)]);
  for (const [ns, name, addresses] of [a, b]) {
    ns.run("ip", "link", "set", name, "addrgenmode", "none");
    for (const at of addresses)
      ns.run("ip", "address", "add", at, "dev", name, ...(at.includes(":") ? ["nodad"] : []));
    ns.run("ip", "link", "set", name, "up");
  }
}

const shipped = (daemon: Daemon, name: string): string =>
  readFileSync(`${repository}${daemon}-config/${name}`, "utf8");

function start(ns: Namespace, daemon: Daemon, files: readonly string[]): void {
  const write = (path: string, text: string): void => {
    execFileSync("nsenter", ["-t", String(ns.pid), "-m", "-p", "--", "sh", "-c", `cat > ${path}`], {
      input: text,
    });
  };
  if (daemon === "bird") {
    ns.sh(
      `mkdir -p /run/etc /run/bird; mount -t tmpfs tmpfs /var/log; cp -r ${repository}bird-config /run/etc/shortcut`,
    );
    const [example = "", as] = files;
    if (as !== undefined)
      ns.sh(
        `sed -i 's/^define SHORTCUT_AS = .*/define SHORTCUT_AS = ${as};/' /run/etc/shortcut/shortcut-defines.conf`,
      );
    write("/run/etc/bird.conf", example);
    ns.run("bird", "-c", "/run/etc/bird.conf", "-s", "/run/bird/bird.ctl", "-P", "/run/bird/bird.pid");
    return;
  }
  ns.sh(
    "mount -t tmpfs tmpfs /etc/frr; touch /etc/frr/vtysh.conf; mount -t tmpfs tmpfs /var/log; mkdir -p /run/frr /var/log/frr; chown -R frr:frr /run/frr /var/log/frr",
  );
  for (const d of ["zebra", "bfdd", "bgpd"]) ns.run(`/usr/lib/frr/${d}`, "-d", "-i", `/run/frr/${d}.pid`);
  for (const [i, text] of files.entries()) {
    write(`/run/frr${i}.conf`, text);
    ns.run("vtysh", "-f", `/run/frr${i}.conf`);
  }
}

/** A hub's file for the second hub: its own addresses, and in the design over link-local addresses its own AS. */
const secondHub = (text: string, as: string): string =>
  text
    .replaceAll("10.255.0.1", "10.255.0.2")
    .replaceAll("fd00:255::1", "fd00:255::2")
    .replaceAll("10.254.1.", "10.254.2.")
    .replaceAll("fd00:254:1:", "fd00:254:2:")
    .replaceAll("fe80::1 as 65000", `fe80::2 as ${as}`)
    .replaceAll("router bgp 65000", `router bgp ${as}`);

interface Design {
  readonly hub: string;
  readonly spoke: string;
  readonly numbered: boolean;
  /** Every AS is 65000. */
  readonly reflector: boolean;
}

const DESIGNS: Readonly<Record<string, Design>> = {
  "an AS per spoke": { hub: "hub-interfaces", spoke: "two-hubs-spoke", numbered: true, reflector: false },
  "a route reflector": { hub: "hub-interfaces-rr", spoke: "two-hubs-spoke", numbered: true, reflector: true },
  "link-local addresses only": {
    hub: "unnumbered-hub",
    spoke: "unnumbered-spoke",
    numbered: false,
    reflector: false,
  },
};

const expectation: DaemonExpectation = {
  overlay: new InterfaceNames(["wg-hub*"]),
  overlayAddresses: [],
  hubs: [address("10.255.0.1"), address("10.255.0.2")],
  direct: "shortcut0",
  routerId: address("127.0.0.2"),
  blackboardTable: 4242,
  aliasPool4: prefix("198.18.0.0/16"),
  aliasPool6: prefix("fd53:4843:5554::/64"),
  offersSource: address("127.0.0.2"),
  feedSource: address("127.0.0.3"),
  localAs: 65001,
  password: "",
};

async function network({ hub, numbered, reflector, spoke }: Design, spokeDaemon: Daemon, hubDaemon: Daemon) {
  const a = await router(["10.255.1.1/32", "fd00:255:1::1/128"]);
  a.sh(
    "ip link add eth2 type veth peer name eth2x; ip link set eth2x up; ip address add 10.1.0.1/24 dev eth2; ip address add 2001:db8:1::1/64 dev eth2 nodad; ip link set eth2 up",
  );
  const hubs: Namespace[] = [];
  for (const n of [1, 2]) {
    const h = await router([`10.255.0.${n}/32`, `fd00:255::${n}/128`]);
    const [here, there] = numbered
      ? [
          [`10.254.${n}.1/31`, `fd00:254:${n}::1/127`, "fe80::a/64"],
          [`10.254.${n}.0/31`, `fd00:254:${n}::/127`, `fe80::${n}/64`],
        ]
      : [["fe80::a/64"], [`fe80::${n}/64`]];
    cable([a, `wg-hub${n}`, here], [h, "wg-a", there]);
    const text = shipped(hubDaemon, `examples/${hub}.conf`);
    start(h, hubDaemon, [n === 1 ? text : secondHub(text, numbered ? "65000" : "65100")]);
    hubs.push(h);
  }
  const own = (text: string): string => (reflector ? text.replaceAll("65001", "65000") : text);
  const example = own(shipped(spokeDaemon, `examples/${spoke}.conf`));
  const as = reflector ? "65000" : "65001";
  if (spokeDaemon === "bird") start(a, "bird", [example, as]);
  else {
    const more = reflector ? ["shortcut.conf"] : ["shortcut.conf", "shortcut-ebgp.conf"];
    const edited = more.map((f) => shipped("frr", f).replaceAll("65000", as).replaceAll("64999", "65000"));
    start(a, "frr", [example, ...edited]);
  }
  return { a, hubs };
}

const has = (ns: Namespace, to: string, dev: string): boolean =>
  ns.run("ip", to.includes(":") ? "-6" : "-4", "route", "show", to).includes(`dev ${dev} `);

it.each(
  Object.keys(DESIGNS).flatMap((name) =>
    (
      [
        ["bird", "frr"],
        ["frr", "bird"],
        ["bird", "bird"],
        ["frr", "frr"],
      ] as const
    ).map(([spoke, hub]) => [name, spoke, hub] as const),
  ),
)(
  "%s, %s at the spoke and %s at the hubs",
  async (name, spokeDaemon, hubDaemon) => {
    const design = DESIGNS[name];
    if (design === undefined) throw new Error(name);
    const { a, hubs } = await network(design, spokeDaemon, hubDaemon);
    for (const to of ["10.255.0.", "fd00:255::"])
      for (const n of [1, 2])
        await eventually(`${to}${n} by wg-hub${n}`, () => has(a, `${to}${n}`, `wg-hub${n}`), 30_000);
    for (const h of hubs)
      for (const to of ["10.255.1.1", "10.1.0.0/24", "fd00:255:1::1", "2001:db8:1::/64"])
        await eventually(`${to} by wg-a`, () => has(h, to, "wg-a"), 30_000);

    const run = `/proc/${a.pid}/root/run`;
    const client =
      spokeDaemon === "bird"
        ? birdClient({ socket: `${run}/bird/bird.ctl` })
        : frrClient({ directory: `${run}/frr`, offersAs: 65000 });
    cleanups.push(() => client.close());
    const { findings } = await client.check({ ...expectation, localAs: design.reflector ? 65000 : 65001 });
    expect(findings.filter((f) => f.severity === "error")).toEqual([]);

    if (spokeDaemon === "frr" && !design.numbered) {
      // identifiers of paths exist while a feed takes all paths
      const feed = `router id 127.0.0.3;
        protocol device {}
        protocol bgp taker { local 127.0.0.3 port 1179 as 65001; neighbor 10.255.1.1 as 65001; multihop;
          connect delay time 1; ipv4 { import all; export none; add paths rx; }; }`;
      a.sh(`echo '${feed}' > /run/feed.conf; bird -c /run/feed.conf -s /run/feed.ctl -P /run/feed.pid`);
      await eventually("bgpd names the interface", async () => {
        const interfaces = await client.pathInterfaces?.(prefix("10.255.0.1/32"));
        return [...(interfaces?.values() ?? [])].join() === "wg-hub1";
      });
    }
  },
  120_000,
);
