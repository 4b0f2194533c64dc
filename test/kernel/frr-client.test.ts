/**
 * Shows what the client finds missing in FRR's configuration and how it explains FRR's decisions,
 * on a real FRR.
 */
import { expect } from "vitest";
import { type Node, until } from "../../lab/runner/lab.js";
import { frrClient } from "../../plugin/adapters/daemons/frr.js";
import { PortError } from "../../plugin/driver/ports.js";
import { address, prefix } from "../../plugin/net/address.js";
import { describeReason } from "../../plugin/shortcut/reasons.js";
import { type ClientBench, type ClientCase, describeClient, type Flaw } from "./client-suite.js";
import { ALIAS4, ALIAS6, FAR4, FAR6, pointAliases } from "./config-source.js";

const BGP = "router bgp 65000";
const AF4 = [BGP, "address-family ipv4 unicast"];
const AF6 = [BGP, "address-family ipv6 unicast"];
const SELECTED = "FRR: selected, weight 100";

/** Lines for the running configuration, and those that undo them. */
interface Lines {
  readonly break: readonly string[];
  readonly mend: readonly string[];
}

const within = (context: readonly string[], line: string): Lines => ({
  break: [...context, `no ${line}`],
  mend: [...context, line],
});

async function configure({ node }: ClientBench, ...lines: string[]): Promise<void> {
  await node.must(["vtysh", ...["configure terminal", ...lines].flatMap((l) => ["-c", l])]);
}

/**
 * Runs a case that changes the running configuration, and undoes that with these lines, also when
 * it fails.
 */
const undone =
  (undo: readonly (readonly string[])[], run: (bench: ClientBench) => Promise<void>) =>
  async (bench: ClientBench): Promise<void> => {
    try {
      await run(bench);
    } finally {
      // Lines that the case has undone itself are refused here.
      for (const lines of undo) await configure(bench, ...lines).catch(() => undefined);
    }
  };

const flaws: readonly Flaw<Lines>[] = [
  {
    what: "no listen range for offers",
    change: within([BGP], "bgp listen range 127.0.0.2/32 peer-group SHORTCUT"),
    problem: /bgpd accepts no session from 127\.0\.0\.2: the offers session cannot come up/,
    remedy: /shortcut\.conf, router bgp 65000: `bgp listen range 127\.0\.0\.2\/32 peer-group SHORTCUT`/,
  },
  {
    what: "no listen range for the feed",
    change: within([BGP], "bgp listen range 127.0.0.3/32 peer-group SHORTCUT-FEED"),
    problem: /bgpd accepts no session from 127\.0\.0\.3: the feed cannot come up/,
    remedy: /`bgp listen range 127\.0\.0\.3\/32 peer-group SHORTCUT-FEED`/,
  },
  {
    what: "an eBGP offers group without multihop",
    change: {
      break: [
        BGP,
        "no bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
        "neighbor SHORTCUT remote-as 64999",
        "bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
      ],
      mend: [
        BGP,
        "no bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
        "neighbor SHORTCUT remote-as 65000",
        "bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
      ],
    },
    problem: /peer group SHORTCUT is eBGP without ebgp-multihop/,
    remedy: /neighbor SHORTCUT ebgp-multihop 2/,
  },
  {
    what: "graceful restart",
    change: within([BGP], "neighbor SHORTCUT graceful-restart-disable"),
    severity: "warning",
    problem: /graceful restart is not disabled for peer group SHORTCUT/,
    remedy: /neighbor SHORTCUT graceful-restart-disable/,
  },
  {
    what: "offers not activated for IPv6",
    change: within(AF6, "neighbor SHORTCUT activate"),
    severity: "warning",
    problem: /peer group SHORTCUT is not activated for IPv6 unicast/,
    remedy: /address-family ipv6 unicast: `neighbor SHORTCUT activate`/,
  },
  {
    what: "offers not activated for IPv4",
    change: within(AF4, "neighbor SHORTCUT activate"),
    problem: /peer group SHORTCUT is not activated for IPv4 unicast/,
    remedy: /address-family ipv4 unicast: `neighbor SHORTCUT activate`/,
  },
  {
    what: "no import policy",
    change: within(AF4, "neighbor SHORTCUT route-map SHORTCUT-IN in"),
    problem: /peer group SHORTCUT has no import policy for IPv4/,
    remedy: /neighbor SHORTCUT route-map SHORTCUT-IN in/,
  },
  {
    what: "an import policy that is not defined",
    change: {
      break: [...AF4, "neighbor SHORTCUT route-map NOWHERE in"],
      mend: [...AF4, "neighbor SHORTCUT route-map SHORTCUT-IN in"],
    },
    problem: /route-map NOWHERE, the import policy of offers, is not defined/,
    remedy: /route-map NOWHERE permit 10/,
  },
  {
    what: "an import policy without weight",
    change: within(["route-map SHORTCUT-IN permit 10"], "set weight 100"),
    problem: /route-map SHORTCUT-IN does not make an IPv4 offer win/,
    remedy: /route-map SHORTCUT-IN permit 10: `set weight 100`/,
  },
  {
    what: "an import policy that leaves our communities",
    change: {
      break: ["route-map SHORTCUT-IN permit 20", "no set large-comm-list SHORTCUT-OWN delete"],
      mend: ["route-map SHORTCUT-IN permit 20", "set large-comm-list SHORTCUT-OWN delete"],
    },
    severity: "warning",
    problem: /route-map SHORTCUT-IN leaves shortcutd's large communities on IPv6 offers/,
    remedy: /route-map SHORTCUT-IN permit 20: `set large-comm-list SHORTCUT-OWN delete`/,
  },
  {
    what: "refused offers that are not kept",
    change: within(AF4, "neighbor SHORTCUT soft-reconfiguration inbound"),
    severity: "warning",
    problem: /refused IPv4 offers of peer group SHORTCUT are not kept/,
    remedy: /soft-reconfiguration inbound/,
  },
  {
    what: "an offers session that exports",
    change: within(AF4, "neighbor SHORTCUT route-map SHORTCUT-DENY out"),
    severity: "warning",
    problem: /bgpd sends its whole IPv4 table on the offers session/,
    remedy: /neighbor SHORTCUT route-map SHORTCUT-DENY out/,
  },
  {
    what: "a feed that is not a route reflector client",
    change: within(AF4, "neighbor SHORTCUT-FEED route-reflector-client"),
    problem: /peer group SHORTCUT-FEED is not a route reflector client for IPv4/,
    remedy: /neighbor SHORTCUT-FEED route-reflector-client/,
  },
  {
    what: "a feed of best paths only",
    change: within(AF4, "neighbor SHORTCUT-FEED addpath-tx-all-paths"),
    problem: /peer group SHORTCUT-FEED is sent only best IPv4 paths/,
    remedy: /neighbor SHORTCUT-FEED addpath-tx-all-paths/,
  },
  {
    what: "a feed that gives offers back",
    change: within(AF6, "neighbor SHORTCUT-FEED route-map SHORTCUT-FEED-OUT out"),
    severity: "warning",
    problem: /the IPv6 feed has no export policy/,
    remedy: /neighbor SHORTCUT-FEED route-map SHORTCUT-FEED-OUT out/,
  },
  {
    what: "an alias list for another pool",
    change: {
      break: [
        "no ip prefix-list SHORTCUT-ALIASES seq 10",
        "ip prefix-list SHORTCUT-ALIASES seq 20 permit 198.19.0.0/16 le 32",
      ],
      mend: [
        "no ip prefix-list SHORTCUT-ALIASES seq 20",
        "ip prefix-list SHORTCUT-ALIASES seq 10 permit 198.18.0.0/16 le 32",
      ],
    },
    problem: /prefix-list SHORTCUT-ALIASES does not cover the alias pool 198\.18\.0\.0\/16/,
    remedy: /ip prefix-list SHORTCUT-ALIASES seq 10 permit 198\.18\.0\.0\/16 le 32/,
  },
  {
    what: "redistributed aliases",
    change: { break: [...AF4, "redistribute kernel"], mend: [...AF4, "no redistribute kernel"] },
    problem:
      /router bgp 65000, address-family ipv4 unicast redistributes kernel routes without a route-map: alias/,
    remedy: /redistribute kernel route-map SHORTCUT-NO-ALIAS/,
  },
  {
    what: "a redistributed direct interface",
    change: {
      break: [...AF4, "redistribute connected route-map SHORTCUT-FEED-OUT"],
      mend: [...AF4, "no redistribute connected"],
    },
    problem: /redistributes connected routes by route-map SHORTCUT-FEED-OUT: the direct interface's address/,
    remedy: /redistribute connected route-map SHORTCUT-NO-ALIAS/,
  },
  ...(
    [
      [4, AF4, "10.255.0.3"],
      [6, AF6, "fd00:255::3"],
    ] as const
  ).map(
    ([family, context, hub]): Flaw<Lines> => ({
      what: `a hub that hears offers of IPv${family}`,
      change: within(context, `neighbor ${hub} route-map SHORTCUT-NOT-TO-HUB out`),
      severity: "warning",
      problem: new RegExp(
        `^${hub} has no outgoing route-map for IPv${family}: the hub would receive the offer`,
      ),
      remedy: /SHORTCUT-NOT-TO-HUB out/,
    }),
  ),
  {
    what: "a hub whose own route-map does not call ours",
    change: {
      break: ["route-map MINE permit 10", "exit", ...AF4, "neighbor 10.255.0.3 route-map MINE out"],
      mend: [
        ...AF4,
        "neighbor 10.255.0.3 route-map SHORTCUT-NOT-TO-HUB out",
        "exit",
        "exit",
        "no route-map MINE",
      ],
    },
    severity: "warning",
    problem: /^the outgoing route-map MINE of 10\.255\.0\.3 does not filter offers for IPv4/,
    remedy: /`call SHORTCUT-NOT-TO-HUB` in each permit entry of route-map MINE/,
  },
  {
    what: "another AS in the list of offers",
    change: {
      break: [
        "no bgp large-community-list standard SHORTCUT-OFFER",
        "bgp large-community-list standard SHORTCUT-OFFER seq 10 permit 65001:1:1",
      ],
      mend: [
        "no bgp large-community-list standard SHORTCUT-OFFER",
        "bgp large-community-list standard SHORTCUT-OFFER seq 10 permit 65000:1:1",
      ],
    },
    problem:
      /SHORTCUT-IN asks for large-community-list SHORTCUT-OFFER, which has 65001:1:1; offers carry 65000:1:1/,
    remedy: /bgp large-community-list standard SHORTCUT-OFFER seq 10 permit 65000:1:1/,
  },
  {
    what: "another AS in the list of our own communities",
    change: {
      break: [
        "no bgp large-community-list expanded SHORTCUT-OWN",
        "bgp large-community-list expanded SHORTCUT-OWN seq 10 permit ^65001:[1-4]:[0-9]+$",
      ],
      mend: [
        "no bgp large-community-list expanded SHORTCUT-OWN",
        "bgp large-community-list expanded SHORTCUT-OWN seq 10 permit ^65000:[1-4]:[0-9]+$",
      ],
    },
    severity: "warning",
    problem: /deletes what large-community-list SHORTCUT-OWN matches, and that does not match 65000:1:1/,
    remedy: /SHORTCUT-OWN seq 10 permit \^65000:\[1-4\]/,
  },
  {
    what: "redistributed routes that hold prefixes on the overlay",
    change: {
      break: [
        "no route-map SHORTCUT-NO-ALIAS deny 40",
        ...AF4,
        "redistribute kernel route-map SHORTCUT-NO-ALIAS",
      ],
      mend: [
        ...AF4,
        "no redistribute kernel",
        "exit",
        "exit",
        "route-map SHORTCUT-NO-ALIAS deny 40",
        "match interface wg0",
        "match metric 1",
      ],
    },
    problem:
      /redistributes kernel routes by route-map SHORTCUT-NO-ALIAS: routes with which shortcutd keeps a prefix/,
    remedy: /`match interface wg0` and `match metric 1`/,
  },
  {
    what: "a feed that permits nothing",
    change: {
      break: ["no route-map SHORTCUT-FEED-OUT permit 1000"],
      mend: ["route-map SHORTCUT-FEED-OUT permit 1000"],
    },
    problem:
      /route-map SHORTCUT-FEED-OUT, the export policy of the feed, permits no route: shortcutd is fed none/,
    remedy: /route-map SHORTCUT-FEED-OUT permit 1000/,
  },
];

const checks: readonly ClientCase[] = [
  {
    what: "finds another AS, and a peer group for another AS than we speak as",
    run: async (bench) => {
      const { findings } = await bench.client.check({ ...bench.expectation, localAs: 65001 });
      expect(findings.map((f) => f.problem)).toEqual([
        "bgpd runs AS 65000; shortcutd's configuration says AS 65001",
      ]);
      const same = await bench.client.check({ ...bench.expectation, routerId: address("10.255.0.1") });
      expect(same.findings.map((f) => f.problem)).toEqual([
        expect.stringMatching(
          /^bgpd's router ID 10\.255\.0\.1 is also the BGP identifier of the offers session/,
        ),
      ]);
      const external = bench.keep(frrClient({ directory: directoryOf(bench.node), offersAs: 64999 }));
      expect(await bench.findings(external)).toEqual([
        {
          severity: "error",
          problem:
            "peer group SHORTCUT has remote AS 65000; shortcutd speaks as AS 64999 on the offers session",
          remedy: "shortcut.conf, router bgp 65000: `neighbor SHORTCUT remote-as 64999`",
        },
      ]);
    },
  },
  {
    what: "accepts the shipped eBGP variant, and redistribution through the shipped route-map",
    run: async (bench) => {
      try {
        await bench.node.must(["vtysh", "-f", "/run/lab/frr-config/shortcut-ebgp.conf"]);
        await configure(bench, ...AF4, "redistribute kernel route-map SHORTCUT-NO-ALIAS");
        await configure(bench, ...AF4, "redistribute connected route-map SHORTCUT-NO-ALIAS");
        const external = bench.keep(frrClient({ directory: directoryOf(bench.node), offersAs: 64999 }));
        expect(await bench.findings(external)).toEqual([]);
        expect(await bench.findings()).toEqual([]);
      } finally {
        await configure(bench, ...AF4, "no redistribute kernel", "no redistribute connected");
        await configure(
          bench,
          BGP,
          "no bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
          "no neighbor SHORTCUT ebgp-multihop 2",
          "neighbor SHORTCUT remote-as 65000",
          "bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
        );
      }
      expect(await bench.findings()).toEqual([]);
    },
  },
];

const ENTRY = "route-map SHORTCUT-IN permit 10";
const SOFT = "clear bgp ipv4 unicast 127.0.0.2 soft in";

const explanations: readonly ClientCase[] = [
  {
    what: "explains what was never offered",
    run: async (bench) => {
      expect(await bench.reasonOf("10.77.0.0/24")).toBe("FRR: not received from 127.0.0.2");
    },
  },
  {
    what: "explains a refusal by the route-map, also when refused offers are not kept",
    run: undone(
      [
        ["no ip prefix-list SHORTCUT-ELIGIBLE seq 5"],
        [...AF4, "neighbor SHORTCUT soft-reconfiguration inbound"],
      ],
      async (bench) => {
        await configure(bench, `ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny ${FAR4} le 32`);
        await bench.explained("FRR: rejected by route-map SHORTCUT-IN");
        await bench.explained(SELECTED, FAR6, ALIAS6);
        await configure(bench, ...AF4, "no neighbor SHORTCUT soft-reconfiguration inbound");
        await bench.explained(/^FRR: not received from 127\.0\.0\.2, or rejected by route-map SHORTCUT-IN/);
      },
    ),
  },
  {
    what: "explains a tie and a preferred path in bgpd",
    run: undone(
      [
        [ENTRY, "no set local-preference", "set weight 100"],
        [BGP, "bgp network import-check", ...AF4, `no network ${FAR4}`],
      ],
      async (bench) => {
        await configure(bench, ENTRY, "no set weight 100");
        await bench.explained(/^FRR: tied: multipath/);
        await configure(bench, ENTRY, "set local-preference 50");
        await bench.explained(
          "FRR: path of 10.255.0.3 preferred (Local Pref): weight 0 = 0, local preference 100 > 50",
        );
        await configure(bench, ENTRY, "no set local-preference 50", "set weight 100");
        await bench.explained(SELECTED);
        await configure(bench, BGP, "no bgp network import-check", ...AF4, `network ${FAR4}`);
        await bench.explained("FRR: the router's own route preferred (Weight): weight 32768 > 100");
      },
    ),
  },
  {
    what: "explains a route of another protocol, and the distance that beats it",
    run: async (bench) => {
      const again = () => bench.node.must(["vtysh", "-c", SOFT]);
      await undone([[ENTRY, "no set distance"], [`no ip route ${FAR4} 10.255.0.3 110`]], async () => {
        await configure(bench, `ip route ${FAR4} 10.255.0.3 110`);
        await bench.explained("FRR: static route preferred, distance 110 < 200");
        await configure(bench, ENTRY, "set distance 105");
        await again();
        await bench.explained(SELECTED);
      })(bench);
      await again();
    },
  },
  {
    what: "explains an alias that nothing resolves",
    run: async (bench) => {
      const { node } = bench;
      await node.must(["ip", "route", "del", `${ALIAS4}/32`, "proto", "173"]);
      // a's default route would resolve it
      const route = (await node.must(["ip", "route", "show", "default"])).trim();
      await node.must(["ip", "route", "del", "default"]);
      try {
        await bench.explained("FRR: next hop 198.18.0.1 (the alias) is inaccessible");
      } finally {
        await node.must(["ip", "route", "add", ...route.split(/\s+/)]);
        await pointAliases(node, "wg0", "main");
      }
    },
  },
];

const last: readonly ClientCase[] = [
  {
    what: "says which daemon is not running, and works again on the same client after a restart",
    run: async (bench) => {
      const { client, expectation, node } = bench;
      await client.check(expectation);
      await node.must(["kill", "-9", await bench.pid()]);
      await until("bgpd is gone", 5_000, () =>
        client.check(expectation).then(
          () => false,
          (e: unknown) => e instanceof PortError && e.code === "ECONNREFUSED",
        ),
      );
      await expect(client.explain(prefix(FAR4), address(ALIAS4))).rejects.toMatchObject({
        name: "PortError",
        place: `FRR vty socket ${socketOf(node)}`,
        remedy: "bgpd is not running: systemctl restart frr",
      });
      await node.must(["sh", "-c", "/usr/lib/frr/bgpd -d -A 127.0.0.1 < /dev/null > /dev/null 2>&1"]);
      await until("vtysh loads the saved configuration", 10_000, async () => {
        const r = await node.exec(["sh", "-c", "vtysh -b < /dev/null > /dev/null 2>&1"]);
        return r.status === 0;
      });
      await until("bgpd has its configuration", 10_000, async () => (await bench.findings()).length === 0);
      await bench.explained(SELECTED);
      await bench.offers.kill();
      await bench.explained("FRR: no session with 127.0.0.2");
    },
  },
  {
    what: "asks vtysh where the socket cannot be used, and says so when that fails too",
    run: async (bench) => {
      const { node, expectation } = bench;
      const enter = ["nsenter", "-t", String(node.pid), "-m", "-n", "-p", "--", "vtysh"] as const;
      // a directory of the sockets that only the router knows: here it does not exist
      await node.must(["ln", "-sfn", "/run/frr", "/run/frr-only-here"]);
      const fallback = bench.keep(frrClient({ directory: "/run/frr-only-here", vtysh: enter }));
      expect(await fallback.check(expectation)).toEqual({ version: "8.4.4", findings: [] });
      const { reason } = await fallback.explain(prefix(FAR4), address(ALIAS4));
      expect(describeReason(reason)).toBe("FRR: no session with 127.0.0.2");
      const directory = `${directoryOf(node)}/nowhere`;
      const neither = bench.keep(frrClient({ directory, vtysh: ["/nonexistent/vtysh"] }));
      await expect(neither.check(expectation)).rejects.toMatchObject({
        code: "ENOENT",
        problem: expect.stringContaining("vtysh does not help"),
        remedy: expect.stringContaining("daemon-socket"),
      });
    },
  },
  {
    what: "says one thing when nothing of ours is there, and another when there is no BGP",
    run: async (bench) => {
      await configure(
        bench,
        BGP,
        "no bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
        "no bgp listen range 127.0.0.3/32 peer-group SHORTCUT-FEED",
        "no neighbor SHORTCUT peer-group",
        "no neighbor SHORTCUT-FEED peer-group",
      );
      await configure(bench, "no route-map SHORTCUT-IN");
      const findings = await bench.findings();
      expect(findings).toHaveLength(1);
      expect(findings[0]?.problem).toContain("nothing of shortcutd's configuration");
      expect(findings[0]?.remedy).toContain("vtysh -f /tmp/s.conf");
      await configure(bench, "no router bgp 65000");
      expect((await bench.findings()).map((f) => f.problem)).toEqual([
        "bgpd has no BGP instance in the default VRF",
      ]);
    },
  },
];

const directoryOf = (node: Node): string => `/proc/${node.pid}/root/run/frr`;
const socketOf = (node: Node): string => `${directoryOf(node)}/bgpd.vty`;

describeClient<Lines>({
  name: "FRR",
  daemon: "frr",
  version: "8.4.4",
  blackboardTable: 254,
  table: "main",
  targets: { offers: "10.255.0.1", feed: "10.1.0.1" },
  sessionsFirst: false,
  selected: SELECTED,
  noSession: /^FRR: no session with 127\.0\.0\.2$/,
  open: (node, options = {}) => frrClient({ directory: directoryOf(node), ...options }),
  pidFile: "/run/frr/bgpd.pid",
  socket: socketOf,
  askByHand: "vtysh -d bgpd",
  sessionsUp: ({ node }) =>
    until("both sessions are established", 20_000, async () => {
      const text = await node.must(["vtysh", "-c", "show bgp summary established"]);
      return ["127.0.0.2", "127.0.0.3"].every((n) => text.includes(n));
    }),
  apply: (bench, lines) => configure(bench, ...lines.break),
  undo: (bench, lines) => configure(bench, ...lines.mend),
  flaws,
  checks,
  explanations,
  last,
  // zebra replaces an IPv6 route by delete and add: for a moment it is not installed
  questions: { count: 200, checkEvery: 0, patience: 15_000 },
});
