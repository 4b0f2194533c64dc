/**
 * Shows what an offer does to a real BIRD with bird-config/ as shipped, and that its neighbours
 * hear nothing of it.
 */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { until } from "../../lab/runner/lab.js";
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

const last: readonly ConfigCase[] = [
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
