/**
 * Shows what an offer does to a real FRR with frr-config/ as shipped, and that its neighbours keep
 * the routes they have.
 */
import { expect } from "vitest";
import { until } from "../../lab/runner/lab.js";
import { ALIAS4, ALIAS6, FAR4, FAR6, fib } from "./config-source.js";
import { type ConfigBench, type ConfigCase, describeConfig } from "./config-suite.js";

const AF4 = ["configure terminal", "router bgp 65000", "address-family ipv4 unicast"];
const DENY = `ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny ${FAR4} le 32`;

const vtysh = ({ node }: ConfigBench, ...commands: string[]): Promise<string> =>
  node.must(["vtysh", ...commands.flatMap((c) => ["-c", c])]);

/** Routes with their attributes, without the times. */
async function routes(bench: ConfigBench, node: string, ...protocols: string[]): Promise<string> {
  let all = "";
  for (const p of protocols)
    all += await bench.lab.node(node).must(["birdc", "show", "route", "all", "protocol", p]);
  return all.replaceAll(/\d\d:\d\d:\d\d\.\d+/g, "TIME");
}

const filtered = (bench: ConfigBench): Promise<string> =>
  vtysh(bench, "show bgp ipv4 unicast neighbors 127.0.0.2 filtered-routes");

const before: readonly ConfigCase[] = [
  {
    what: "is saved by `write memory` as an operator would keep it",
    run: async ({ node }) => {
      const saved = node.readFile("/etc/frr/frr.conf");
      for (const line of [
        " bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
        " bgp listen range 127.0.0.3/32 peer-group SHORTCUT-FEED",
        "  neighbor SHORTCUT route-map SHORTCUT-IN in",
        "  neighbor SHORTCUT-FEED addpath-tx-all-paths",
        "  neighbor 10.255.0.3 route-map SHORTCUT-NOT-TO-HUB out",
      ])
        expect(saved).toContain(`${line}\n`);
    },
  },
];

const whileSelected: readonly ConfigCase[] = [
  {
    what: "keeps our large communities to itself",
    run: async (bench) => {
      const detail = await vtysh(bench, `show bgp ipv4 unicast ${FAR4}`, `show bgp ipv6 unicast ${FAR6}`);
      expect(detail).toContain(ALIAS4);
      expect(detail).toContain(ALIAS6);
      expect(detail).not.toContain("65000:1:1");
    },
  },
  {
    what: "does not leak aliases or the direct interface's address by redistribution",
    run: async (bench) => {
      const { node, lab } = bench;
      const heardBefore = await bench.neighbours();
      const heard = (): Promise<string> =>
        lab.node("b").must(["birdc", "show", "route", "protocol", "spoke_a"]);
      // One that has the number of shortcutd's, and the shape of nothing that shortcutd makes; an override; a guard route; a clear guard.
      const kernelRoutes = [
        ["203.0.113.0/24", "dev", "eth2", "proto", "173"],
        ["10.77.0.0/24", "dev", "wg0", "proto", "173", "metric", "1"],
        ["10.78.0.0/24", "dev", "wg0", "proto", "173", "metric", "4278190081"],
        ["unreachable", "10.79.0.0/24", "proto", "173", "metric", "4278190082"],
      ];
      for (const route of kernelRoutes) await node.must(["ip", "route", "add", ...route]);
      await vtysh(bench, ...AF4, "redistribute kernel route-map SHORTCUT-NO-ALIAS");
      await vtysh(bench, ...AF4, "redistribute connected route-map SHORTCUT-NO-ALIAS");
      // Other kernel and connected routes do pass: the redistribution works.
      await until("the hub hears the other kernel route", 5_000, async () => {
        const text = await heard();
        return text.includes("203.0.113.0/24") && text.includes("192.0.2.0/26");
      });
      expect(await heard()).not.toMatch(/198\.18|10\.255\.0\.1\/32|10\.7[789]\.0\.0/);
      // Without the route-maps they would leak: the test can tell.
      for (const source of ["kernel", "connected"])
        await vtysh(bench, ...AF4, `no redistribute ${source}`, `redistribute ${source}`);
      await until("both leak without the route-map", 5_000, async () => {
        const text = await heard();
        return ["198.18.0.1/32", "10.255.0.1/32", "10.77.0.0/24", "10.78.0.0/24"].every((p) =>
          text.includes(p),
        );
      });
      await vtysh(bench, ...AF4, "no redistribute kernel", "no redistribute connected");
      for (const route of kernelRoutes) await node.must(["ip", "route", "del", ...route]);
      await until(
        "the hub hears what it heard before",
        5_000,
        async () => (await bench.neighbours()) === heardBefore,
      );
    },
  },
];

const last: readonly ConfigCase[] = [
  {
    what: "takes eBGP offers after shortcut-ebgp.conf",
    run: async (bench) => {
      const { node } = bench;
      await until(
        "the old session is gone",
        5_000,
        async () => !(await vtysh(bench, "show bgp summary")).includes("127.0.0.2"),
      );
      await node.must(["vtysh", "-f", "/run/lab/frr-config/shortcut-ebgp.conf"]);
      await bench.startOffers({ as: 64999 });
      await until("the offer is selected", 5_000, async () => (await fib(node, FAR4)).includes(ALIAS4));
      expect(await vtysh(bench, `show bgp ipv4 unicast ${FAR4}`)).toMatch(/external, best \(Weight\)/);
      await bench.killOffers();
      await bench.untilOnHub();
    },
  },
];

describeConfig({
  name: "FRR",
  daemon: "frr",
  table: "main",
  // The feed goes to another of the router's own addresses: BIRD runs one session per remote
  // address.
  targets: { offers: "10.255.0.1", feed: "10.1.0.1" },
  neighbours: async (bench) => {
    const text = (await routes(bench, "ra", "a")) + (await routes(bench, "b", "spoke_a", "spoke_a6"));
    expect(text).toContain(FAR4);
    return text;
  },
  // In IPv6 zebra prefers the link-local next hop that BIRD as route reflector passes on.
  onHub: async ({ node }) =>
    (await fib(node, FAR4)).includes("via 10.255.0.2") &&
    /via (fd00:255::2|fe80::\S+) dev wg0/.test(await fib(node, FAR6)),
  selected: async ({ node }) =>
    (await fib(node, FAR4)).includes(ALIAS4) && (await fib(node, FAR6)).includes(ALIAS6),
  saysSelected: async (bench) => {
    expect(await vtysh(bench, `show bgp ipv4 unicast ${FAR4}`)).toContain("best (Weight)");
  },
  refuse: async (bench) => void (await vtysh(bench, "configure terminal", DENY)),
  allow: async (bench) =>
    void (await vtysh(bench, "configure terminal", "no ip prefix-list SHORTCUT-ELIGIBLE seq 5")),
  saysRefused: async (bench) => {
    expect(await filtered(bench)).toContain(FAR4);
  },
  refusesUnmarked: async (bench) => {
    await until("the offer is refused", 5_000, async () => (await filtered(bench)).includes(FAR4));
  },
  before,
  whileSelected,
  last,
});
