/**
 * Shows what an offer does to a real BIRD with bird-config/ as shipped, and that its neighbours
 * hear nothing of it.
 */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { until } from "../../lab/runner/lab.js";
import { difference, settled } from "../../lab/site/snapshot.js";
import { DIRECT, FAR4, FAR6, fib, fibFollows } from "./config-source.js";
import { type ConfigBench, type ConfigCase, describeConfig } from "./config-suite.js";

const BOARD = "4242";
const POLICY = "/etc/bird/shortcut/policy.conf";
const [COMMENT, ACTIVE] = ["  # 10.3.0.0/24+,", "  10.3.0.0/24+,"];

/**
 * Every update and withdrawal that a neighbour of A has heard since its start, from BIRD's own
 * statistics.
 */
async function heard(bench: ConfigBench, node: string, ...protocols: string[]): Promise<string> {
  let all = "";
  for (const protocol of protocols) {
    const text = await bench.lab.node(node).must(["birdc", "show", "protocols", "all", protocol]);
    const lines = text.split("\n").filter((l) => /Import (updates|withdraws):/.test(l));
    expect(lines.length).toBeGreaterThanOrEqual(2);
    all += lines.join("\n");
  }
  return all;
}

/** Replaces one line of the policy that is there once, and reconfigures. */
async function policy({ node }: ConfigBench, from: string, to: string): Promise<void> {
  const text = node.readFile(POLICY);
  expect(text.split("\n").filter((l) => l === from)).toHaveLength(1);
  node.writeFile(POLICY, text.replace(from, to));
  expect(await node.must(["birdc", "configure"])).toContain("Reconfigured");
}

const best = ({ node }: ConfigBench): Promise<string> =>
  node.must(["birdc", "show", "route", "table", "fib4", "primary", FAR4]);

const whileSelected: readonly ConfigCase[] = [
  {
    what: "falls back to the hub, not to `unreachable`, when the direct interface goes down",
    run: async (bench) => {
      await bench.flip(DIRECT);
      await bench.node.must(["ip", "link", "set", DIRECT, "down"]);
      await fibFollows(bench.node, "wg0");
      expect(await best(bench)).toContain("[shortcut ");
      await bench.node.must(["ip", "link", "set", DIRECT, "up"]);
      await bench.flip(DIRECT);
    },
  },
  {
    what: "is back on the hub route after `birdc disable shortcut`, and takes offers again after `enable`",
    run: async (bench) => {
      const before = await bench.neighbours();
      await bench.node.must(["birdc", "disable", "shortcut"]);
      await bench.untilOnHub();
      await bench.node.must(["birdc", "enable", "shortcut"]);
      await fibFollows(bench.node, DIRECT, 15_000);
      expect(await bench.neighbours()).toBe(before);
    },
  },
];

/** Routes that a program of the router's own has put into its kernel: BIRD learns them. */
const LEARNED = [
  ["-4", "203.0.113.0/24", "dev", "eth2", "proto", "77"],
  ["-6", "2001:db8:77::/48", "dev", "eth2", "proto", "77"],
] as const;
/** Routes of shortcutd's shape: an override and a guard route. */
const HELD = [
  ["-4", "10.77.0.0/24", "dev", "wg0", "proto", "173", "metric", "1"],
  ["-4", "10.78.0.0/24", "dev", "wg0", "proto", "173", "metric", "4278190081"],
  ["-6", "2001:db8:78::/48", "dev", "wg0", "proto", "173", "metric", "1"],
] as const;
const OSPF =
  'protocol ospf v2 { ipv4 { import all; export where source = RTS_INHERIT; }; area 0 { interface "IFACE" { hello 1; dead 4; wait 2; }; }; }\n';

/**
 * A's configuration where its kernel protocols learn, and its neighbours hear of it by BGP (the hub, ra) and OSPF (ra), with and without
 * shortcutd's part.
 */
function learning(withShortcutd: boolean): string {
  const shipped = readFileSync(new URL("../../bird-config/examples/spoke.conf", import.meta.url), "utf8");
  const own = withShortcutd ? shipped : shipped.replaceAll(/^.*\(shortcutd\).*\n/gm, "");
  return `${own
    .replaceAll("protocol kernel {\n", "protocol kernel {\n  learn;\n  scan time 1;\n")
    .replaceAll(/^( {4})import none;/gm, "$1import all;")
    .replace(
      "return source = RTS_DEVICE ||",
      "return source = RTS_INHERIT || source = RTS_DEVICE ||",
    )}${OSPF.replace("IFACE", "eth3")}`;
}

const last: readonly ConfigCase[] = [
  {
    what: "lets neighbours hear routes that BIRD learns from the kernel as they do without it, by BGP and OSPF",
    run: async (bench) => {
      const { lab, node } = bench;
      const [ra, b] = [lab.node("ra"), lab.node("b")];
      const raConfig = ra.readFile("/etc/bird/bird.conf");
      ra.writeFile("/etc/bird/bird.conf", `${raConfig}${OSPF.replace("IFACE", "eth1")}`);
      await ra.must(["birdc", "configure"]);
      for (const route of LEARNED) await node.must(["ip", route[0], "route", "replace", ...route.slice(1)]);
      const told = async (): Promise<string> => {
        let all = "";
        for (const [from, protocol] of [
          [ra, "a"],
          [ra, "ospf1"],
          [b, "spoke_a"],
          [b, "spoke_a6"],
        ] as const)
          all += await from.must(["birdc", "show", "route", "all", "protocol", protocol]);
        return all.replaceAll(/ \d\d:\d\d:\d\d\.\d+/g, "");
      };
      const load = async (text: string): Promise<void> => {
        node.writeFile("/etc/bird/bird.conf", text);
        await node.must(["birdc", "configure"]);
      };
      /** By ra on both protocols, by the hub in both families. */
      const all = (text: string): boolean =>
        text.match(/^203\.0\.113\.0\/24/gm)?.length === 3 && text.includes("2001:db8:77::/48");
      await load(learning(false));
      const without = await settled(node, told, { accepts: all, apartMs: 1_500 });

      for (const route of HELD) await node.must(["ip", route[0], "route", "replace", ...route.slice(1)]);
      await load(learning(true));
      await until(
        "neighbours hear the same with it, and nothing of shortcutd's own routes",
        30_000,
        async () => {
          const changes = difference(without.split("\n"), (await told()).split("\n"));
          if (changes.length > 0) throw new Error(changes.join("\n"));
          const seen = await node.must(["birdc", "show", "route", "table", "fib4"]);
          return seen.includes("10.77.0.0/24") && seen.includes("203.0.113.0/24");
        },
      );
      const log = await node.must(["sh", "-c", "grep -c 'Pipe collision' /var/log/bird.log || true"]);
      expect(log.trim()).toBe("0");

      // Without the way back they lose it: the test can tell.
      const shortcut = node.readFile("/etc/bird/shortcut/shortcut.conf");
      node.writeFile(
        "/etc/bird/shortcut/shortcut.conf",
        shortcut.replaceAll(/^protocol pipe shortcut_learned[46] .*$/gm, ""),
      );
      await load(learning(true));
      await until(
        "neighbours do not hear what is learned",
        30_000,
        async () => !/203\.0\.113|db8:77/.test(await told()),
      );
      node.writeFile("/etc/bird/shortcut/shortcut.conf", shortcut);
      for (const route of [...LEARNED, ...HELD])
        await node.must(["ip", route[0], "route", "del", ...route.slice(1)]);
      ra.writeFile("/etc/bird/bird.conf", raConfig);
      await ra.must(["birdc", "configure"]);
    },
  },
  {
    what: "ships only files that the examples include",
    run: async () => {
      const spoke = readFileSync(new URL("../../bird-config/examples/spoke.conf", import.meta.url), "utf8");
      expect(spoke).toContain('include "shortcut/shortcut.conf";');
      const main = readFileSync(new URL("../../bird-config/shortcut.conf", import.meta.url), "utf8");
      for (const file of ["shortcut-defines.conf", "policy.conf"])
        expect(main).toContain(`include "${file}";`);
    },
  },
];

describeConfig({
  name: "BIRD",
  daemon: "bird",
  table: BOARD,
  targets: { offers: "127.0.0.1", feed: "127.0.0.4" },
  neighbours: async (bench) =>
    (await heard(bench, "ra", "a")) + (await heard(bench, "b", "spoke_a", "spoke_a6")),
  onHub: async ({ node }) =>
    (await fib(node, FAR4)).includes("via 10.255.0.2") && (await fib(node, FAR6)).includes("via fd00:255::2"),
  selected: async ({ node }) =>
    (await fib(node, FAR4, BOARD)).includes("proto bird") &&
    (await fib(node, FAR6, BOARD)).includes("proto bird"),
  saysSelected: async (bench) => {
    expect(await best(bench)).toContain("[shortcut ");
    // master4, and so everything that is announced from it, knows nothing of offers.
    const master = await bench.node.must(["birdc", "show", "route", "table", "master4", "all"]);
    expect(master).not.toContain("[shortcut ");
  },
  refuse: (bench) => policy(bench, COMMENT, ACTIVE),
  allow: (bench) => policy(bench, ACTIVE, COMMENT),
  saysRefused: async ({ node }) => {
    await until("the blackboard is clear", 5_000, async () => (await fib(node, FAR4, BOARD)) === "");
  },
  refusesUnmarked: async ({ node }) => {
    const session = await until("the offers were received", 5_000, async () => {
      const text = await node.must(["birdc", "show", "protocols", "all", "shortcut"]);
      // of each family: BIRD shows a channel for each
      return text.match(/Import updates:\s+1 /g)?.length === 2 ? text : undefined;
    });
    expect(session.match(/Import updates:\s+1\s+0\s+1\s/g)).toHaveLength(2);
  },
  // A's own LAN and the router behind A are not underneath anything.
  notFed: "10.1.",
  before: [],
  whileSelected,
  last,
});
