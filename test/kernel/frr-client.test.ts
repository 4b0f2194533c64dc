/** The FRR client against frr-config/ as shipped on a real FRR in the triangle: what it finds missing, and how it explains. */
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Lab, type Node, startLab, until } from "../../lab/runner/lab.js";
import { frrClient } from "../../plugin/adapters/daemons/frr.js";
import { type DaemonExpectation, type DaemonPort, PortError } from "../../plugin/driver/ports.js";
import { address, prefix } from "../../plugin/net/address.js";
import { describeReason } from "../../plugin/shortcut/reasons.js";
import {
  ALIAS4,
  ALIAS6,
  addDirect,
  converged,
  FAR4,
  FAR6,
  pointAliases,
  type Source,
  startFeed,
  startOffers,
} from "./config-source.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));

const expectation: DaemonExpectation = {
  overlay: "wg0",
  blackboardTable: 254,
  aliasPool4: prefix("198.18.0.0/16"),
  aliasPool6: prefix("fd53:4843:5554::/64"),
  offersSource: address("127.0.0.2"),
  feedSource: address("127.0.0.3"),
  localAs: 65000,
};

const BGP = "router bgp 65000";
const AF4 = [BGP, "address-family ipv4 unicast"];
const AF6 = [BGP, "address-family ipv6 unicast"];

/** One thing changed in the running configuration, how it is undone, and the one finding that it must lead to. */
interface Flaw {
  readonly what: string;
  readonly break: readonly string[];
  readonly mend: readonly string[];
  readonly severity?: "warning";
  readonly problem: RegExp;
  readonly remedy: RegExp;
}

const within = (context: readonly string[], line: string) => ({
  break: [...context, `no ${line}`],
  mend: [...context, line],
});

const flaws: readonly Flaw[] = [
  {
    what: "no listen range for offers",
    ...within([BGP], "bgp listen range 127.0.0.2/32 peer-group SHORTCUT"),
    problem: /bgpd accepts no session from 127\.0\.0\.2: the offers session cannot come up/,
    remedy: /shortcut\.conf, router bgp 65000: `bgp listen range 127\.0\.0\.2\/32 peer-group SHORTCUT`/,
  },
  {
    what: "no listen range for the feed",
    ...within([BGP], "bgp listen range 127.0.0.3/32 peer-group SHORTCUT-FEED"),
    problem: /bgpd accepts no session from 127\.0\.0\.3: the feed cannot come up/,
    remedy: /`bgp listen range 127\.0\.0\.3\/32 peer-group SHORTCUT-FEED`/,
  },
  {
    what: "an eBGP offers group without multihop",
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
    problem: /peer group SHORTCUT is eBGP without ebgp-multihop/,
    remedy: /neighbor SHORTCUT ebgp-multihop 2/,
  },
  {
    what: "graceful restart",
    ...within([BGP], "neighbor SHORTCUT graceful-restart-disable"),
    severity: "warning",
    problem: /graceful restart is not disabled for peer group SHORTCUT/,
    remedy: /neighbor SHORTCUT graceful-restart-disable/,
  },
  {
    what: "offers not activated for IPv6",
    ...within(AF6, "neighbor SHORTCUT activate"),
    severity: "warning",
    problem: /peer group SHORTCUT is not activated for IPv6 unicast/,
    remedy: /address-family ipv6 unicast: `neighbor SHORTCUT activate`/,
  },
  {
    what: "offers not activated for IPv4",
    ...within(AF4, "neighbor SHORTCUT activate"),
    problem: /peer group SHORTCUT is not activated for IPv4 unicast/,
    remedy: /address-family ipv4 unicast: `neighbor SHORTCUT activate`/,
  },
  {
    what: "no import policy",
    ...within(AF4, "neighbor SHORTCUT route-map SHORTCUT-IN in"),
    problem: /peer group SHORTCUT has no import policy for IPv4/,
    remedy: /neighbor SHORTCUT route-map SHORTCUT-IN in/,
  },
  {
    what: "an import policy that is not defined",
    break: [...AF4, "neighbor SHORTCUT route-map NOWHERE in"],
    mend: [...AF4, "neighbor SHORTCUT route-map SHORTCUT-IN in"],
    problem: /route-map NOWHERE, the import policy of offers, is not defined/,
    remedy: /route-map NOWHERE permit 10/,
  },
  {
    what: "an import policy without weight",
    ...within(["route-map SHORTCUT-IN permit 10"], "set weight 100"),
    problem: /route-map SHORTCUT-IN does not make an IPv4 offer win/,
    remedy: /route-map SHORTCUT-IN permit 10: `set weight 100`/,
  },
  {
    what: "an import policy that leaves our communities",
    break: ["route-map SHORTCUT-IN permit 20", "no set large-comm-list SHORTCUT-OWN delete"],
    mend: ["route-map SHORTCUT-IN permit 20", "set large-comm-list SHORTCUT-OWN delete"],
    severity: "warning",
    problem: /route-map SHORTCUT-IN leaves shortcutd's large communities on IPv6 offers/,
    remedy: /route-map SHORTCUT-IN permit 20: `set large-comm-list SHORTCUT-OWN delete`/,
  },
  {
    what: "refused offers that are not kept",
    ...within(AF4, "neighbor SHORTCUT soft-reconfiguration inbound"),
    severity: "warning",
    problem: /refused IPv4 offers of peer group SHORTCUT are not kept/,
    remedy: /soft-reconfiguration inbound/,
  },
  {
    what: "an offers session that exports",
    ...within(AF4, "neighbor SHORTCUT route-map SHORTCUT-DENY out"),
    severity: "warning",
    problem: /bgpd sends its whole IPv4 table on the offers session/,
    remedy: /neighbor SHORTCUT route-map SHORTCUT-DENY out/,
  },
  {
    what: "a feed that is no route reflector client",
    ...within(AF4, "neighbor SHORTCUT-FEED route-reflector-client"),
    problem: /peer group SHORTCUT-FEED is not a route reflector client for IPv4/,
    remedy: /neighbor SHORTCUT-FEED route-reflector-client/,
  },
  {
    what: "a feed of best paths only",
    ...within(AF4, "neighbor SHORTCUT-FEED addpath-tx-all-paths"),
    problem: /peer group SHORTCUT-FEED is sent only best IPv4 paths/,
    remedy: /neighbor SHORTCUT-FEED addpath-tx-all-paths/,
  },
  {
    what: "a feed that gives offers back",
    ...within(AF6, "neighbor SHORTCUT-FEED route-map SHORTCUT-FEED-OUT out"),
    severity: "warning",
    problem: /the IPv6 feed has no export policy/,
    remedy: /neighbor SHORTCUT-FEED route-map SHORTCUT-FEED-OUT out/,
  },
  {
    what: "an alias list for another pool",
    break: [
      "no ip prefix-list SHORTCUT-ALIASES seq 10",
      "ip prefix-list SHORTCUT-ALIASES seq 20 permit 198.19.0.0/16 le 32",
    ],
    mend: [
      "no ip prefix-list SHORTCUT-ALIASES seq 20",
      "ip prefix-list SHORTCUT-ALIASES seq 10 permit 198.18.0.0/16 le 32",
    ],
    problem: /prefix-list SHORTCUT-ALIASES does not cover the alias pool 198\.18\.0\.0\/16/,
    remedy: /ip prefix-list SHORTCUT-ALIASES seq 10 permit 198\.18\.0\.0\/16 le 32/,
  },
  {
    what: "redistributed aliases",
    break: [...AF4, "redistribute kernel"],
    mend: [...AF4, "no redistribute kernel"],
    problem:
      /router bgp 65000, address-family ipv4 unicast redistributes kernel routes without a route-map: alias/,
    remedy: /redistribute kernel route-map SHORTCUT-NO-ALIAS/,
  },
  {
    what: "a redistributed direct interface",
    break: [...AF4, "redistribute connected route-map SHORTCUT-FEED-OUT"],
    mend: [...AF4, "no redistribute connected"],
    problem: /redistributes connected routes by route-map SHORTCUT-FEED-OUT: the direct interface's address/,
    remedy: /redistribute connected route-map SHORTCUT-NO-ALIAS/,
  },
  {
    what: "a hub that hears offers",
    break: [
      ...AF4,
      "no neighbor 10.255.0.3 route-map SHORTCUT-NOT-TO-HUB out",
      "exit-address-family",
      "address-family ipv6 unicast",
      "no neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out",
    ],
    mend: [
      ...AF4,
      "neighbor 10.255.0.3 route-map SHORTCUT-NOT-TO-HUB out",
      "exit-address-family",
      "address-family ipv6 unicast",
      "neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out",
    ],
    severity: "warning",
    problem: /no neighbour's outgoing route-map filters offers/,
    remedy: /SHORTCUT-NOT-TO-HUB out/,
  },
];

describe("the client on FRR", () => {
  let lab: Lab;
  let a: Node;
  let directory: string;
  let client: DaemonPort;
  let offers: Source;
  const more: DaemonPort[] = [];

  const configure = async (...lines: string[]): Promise<void> => {
    await a.must(["vtysh", ...["configure terminal", ...lines].flatMap((l) => ["-c", l])]);
  };
  const reasonOf = async (p = FAR4, alias = ALIAS4): Promise<string> =>
    describeReason((await client.explain(prefix(p), address(alias))).reason);
  const explained = (reason: string | RegExp, p = FAR4, alias = ALIAS4): Promise<unknown> => {
    let said = "";
    return until(`explained by ${String(reason)}`, 15_000, async () => {
      said = await reasonOf(p, alias);
      return typeof reason === "string" ? said === reason : reason.test(said);
    }).catch((e: unknown) => {
      throw new Error(`${String(e)}; last: ${said}`);
    });
  };
  const pidOf = async (daemon: string): Promise<string> =>
    (await a.must(["cat", `/run/frr/${daemon}.pid`])).trim();

  beforeAll(async () => {
    lab = await startLab(topology, { env: { DAEMON_A: "frr", DAEMON_B: "bird", DAEMON_C: "bird" } });
    a = lab.node("a");
    await converged(lab.node("host-a"));
    await addDirect(a);
    await pointAliases(a, "wg0", "main");
    directory = `/proc/${a.pid}/root/run/frr`;
    client = frrClient({ directory });
  });
  afterAll(async () => {
    await client?.close();
    await lab?.stop();
  });
  /** Undoes what the explaining tests change, also when they fail. */
  const undo: (readonly string[])[] = [];
  afterEach(async () => {
    for (const c of more.splice(0)) await c.close();
    for (const lines of undo.splice(0)) await configure(...lines).catch(() => undefined);
  });

  it("finds nothing missing in what is shipped", async () => {
    expect(await client.check(expectation)).toEqual({ version: "8.4.4", findings: [] });
    expect(await reasonOf()).toBe("FRR: no session with 127.0.0.2");
  });

  it.each(flaws)("finds $what, and nothing else", async (flaw) => {
    try {
      await configure(...flaw.break);
      const { findings } = await client.check(expectation);
      expect(findings).toEqual([
        {
          severity: flaw.severity ?? "error",
          problem: expect.stringMatching(flaw.problem),
          remedy: expect.stringMatching(flaw.remedy),
        },
      ]);
    } finally {
      await configure(...flaw.mend);
    }
    expect((await client.check(expectation)).findings).toEqual([]);
  });

  it("finds another AS, and a peer group for another AS than we speak as", async () => {
    const { findings } = await client.check({ ...expectation, localAs: 65001 });
    expect(findings.map((f) => f.problem)).toEqual([
      "bgpd runs AS 65000; shortcutd's configuration says AS 65001",
    ]);
    const external = frrClient({ directory, offersAs: 64999 });
    more.push(external);
    expect((await external.check(expectation)).findings).toEqual([
      {
        severity: "error",
        problem:
          "peer group SHORTCUT has remote AS 65000; shortcutd speaks as AS 64999 on the offers session",
        remedy: "shortcut.conf, router bgp 65000: `neighbor SHORTCUT remote-as 64999`",
      },
    ]);
  });

  it("accepts the shipped eBGP variant, and redistribution through the shipped route-map", async () => {
    try {
      await a.must(["vtysh", "-f", "/run/lab/frr-config/shortcut-ebgp.conf"]);
      await configure(...AF4, "redistribute kernel route-map SHORTCUT-NO-ALIAS");
      await configure(...AF4, "redistribute connected route-map SHORTCUT-NO-ALIAS");
      const external = frrClient({ directory, offersAs: 64999 });
      more.push(external);
      expect((await external.check(expectation)).findings).toEqual([]);
      expect((await client.check(expectation)).findings).toEqual([]);
    } finally {
      await configure(...AF4, "no redistribute kernel", "no redistribute connected");
      await configure(
        BGP,
        "no bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
        "no neighbor SHORTCUT ebgp-multihop 2",
        "neighbor SHORTCUT remote-as 65000",
        "bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
      );
    }
    expect((await client.check(expectation)).findings).toEqual([]);
  });

  it("explains a selected offer in both families, and what was never offered", async () => {
    offers = await startOffers(a, { target: "10.255.0.1" });
    await startFeed(a, { target: "10.1.0.1" });
    await explained("FRR: selected, weight 100");
    await explained("FRR: selected, weight 100", FAR6, ALIAS6);
    expect((await client.explain(prefix(FAR4), address(ALIAS4))).selected).toBe(true);
    expect(await reasonOf("10.77.0.0/24")).toBe("FRR: not received from 127.0.0.2");
    expect((await client.check(expectation)).findings).toEqual([]);
  });

  it("explains a refusal by the route-map, also when refused offers are not kept", async () => {
    undo.push(["no ip prefix-list SHORTCUT-ELIGIBLE seq 5"]);
    undo.push([...AF4, "neighbor SHORTCUT soft-reconfiguration inbound"]);
    await configure(`ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny ${FAR4} le 32`);
    await explained("FRR: rejected by route-map SHORTCUT-IN");
    await explained("FRR: selected, weight 100", FAR6, ALIAS6);
    await configure(...AF4, "no neighbor SHORTCUT soft-reconfiguration inbound");
    await explained(/^FRR: not received from 127\.0\.0\.2, or rejected by route-map SHORTCUT-IN/);
    await configure(...AF4, "neighbor SHORTCUT soft-reconfiguration inbound");
    await configure("no ip prefix-list SHORTCUT-ELIGIBLE seq 5");
    await explained("FRR: selected, weight 100");
  });

  it("explains a tie and a preferred path in bgpd", async () => {
    const entry = "route-map SHORTCUT-IN permit 10";
    undo.push([entry, "no set local-preference", "set weight 100"], [...AF4, `no network ${FAR4}`]);
    await configure(entry, "no set weight 100");
    await explained(/^FRR: tied: multipath/);
    await configure(entry, "set local-preference 50");
    await explained(
      "FRR: path of 10.255.0.3 preferred (Local Pref): weight 0 = 0, local preference 100 > 50",
    );
    await configure(entry, "no set local-preference 50", "set weight 100");
    await explained("FRR: selected, weight 100");
    await configure(BGP, "no bgp network import-check", ...AF4, `network ${FAR4}`);
    await explained("FRR: the router's own route preferred (Weight): weight 32768 > 100");
    await configure(BGP, "bgp network import-check", ...AF4, `no network ${FAR4}`);
    await explained("FRR: selected, weight 100");
  });

  it("explains a route of another protocol, and the distance that beats it", async () => {
    const entry = "route-map SHORTCUT-IN permit 10";
    undo.push([entry, "no set distance"], [`no ip route ${FAR4} 10.255.0.3 110`]);
    await configure(`ip route ${FAR4} 10.255.0.3 110`);
    await explained("FRR: static route preferred, distance 110 < 200");
    await configure(entry, "set distance 105");
    await a.must(["vtysh", "-c", "clear bgp ipv4 unicast 127.0.0.2 soft in"]);
    await explained("FRR: selected, weight 100");
    await configure(entry, "no set distance 105");
    await configure(`no ip route ${FAR4} 10.255.0.3 110`);
    await a.must(["vtysh", "-c", "clear bgp ipv4 unicast 127.0.0.2 soft in"]);
    await explained("FRR: selected, weight 100");
  });

  it("explains an alias that nothing resolves", async () => {
    await a.must(["ip", "route", "del", `${ALIAS4}/32`, "proto", "99"]);
    // a's default route would resolve it
    const route = (await a.must(["ip", "route", "show", "default"])).trim();
    await a.must(["ip", "route", "del", "default"]);
    try {
      await explained("FRR: next hop 198.18.0.1 (the alias) is inaccessible");
    } finally {
      await a.must(["ip", "route", "add", ...route.split(/\s+/)]);
      await pointAliases(a, "wg0", "main");
    }
    await explained("FRR: selected, weight 100");
  });

  it("answers many questions at once, each with its own answer", async () => {
    await explained("FRR: selected, weight 100");
    await explained("FRR: selected, weight 100", FAR6, ALIAS6);
    let took = 0;
    // zebra replaces an IPv6 route by delete and add: for a moment it is not installed
    await until("both routes to stay for the time of 200 questions", 15_000, async () => {
      const since = performance.now();
      const answers = await Promise.all(
        Array.from({ length: 200 }, (_, i) =>
          reasonOf(i % 2 === 0 ? FAR4 : FAR6, i % 2 === 0 ? ALIAS4 : ALIAS6),
        ),
      );
      took = performance.now() - since;
      return new Set(answers).size === 1 && answers[0] === "FRR: selected, weight 100";
    });
    // A vtysh for each of the 400 questions would take 12 s.
    expect(took).toBeLessThan(2_000);
  });

  it("gives up on a hung bgpd after the timeout, and goes on when bgpd does", async () => {
    const short = frrClient({ directory, timeoutMs: 300 });
    more.push(short);
    await short.check(expectation);
    const pid = await pidOf("bgpd");
    await a.must(["kill", "-STOP", pid]);
    const since = performance.now();
    try {
      const asked = await Promise.allSettled([
        short.check(expectation),
        short.explain(prefix(FAR4), address(ALIAS4)),
        short.explain(prefix(FAR6), address(ALIAS6)),
      ]);
      expect(performance.now() - since).toBeLessThan(900);
      for (const r of asked) {
        expect(r.status).toBe("rejected");
        if (r.status !== "rejected") continue;
        expect(r.reason).toBeInstanceOf(PortError);
        expect(String(r.reason)).toContain(`${directory}/bgpd.vty`);
        expect(String(r.reason)).toContain("within 300 ms");
        expect(String(r.reason)).toContain("vtysh -d bgpd");
      }
    } finally {
      await a.must(["kill", "-CONT", pid]);
    }
    await until("it answers again", 5_000, () =>
      short.check(expectation).then(
        (r) => r.version === "8.4.4",
        () => false,
      ),
    );
  });

  it("says which daemon is not running, and works again on the same client after a restart", async () => {
    await client.check(expectation);
    await a.must(["kill", "-9", await pidOf("bgpd")]);
    await until("bgpd is gone", 5_000, () =>
      client.check(expectation).then(
        () => false,
        (e: unknown) => e instanceof PortError && e.code === "ECONNREFUSED",
      ),
    );
    await expect(client.explain(prefix(FAR4), address(ALIAS4))).rejects.toMatchObject({
      name: "PortError",
      place: `FRR vty socket ${directory}/bgpd.vty`,
      remedy: "bgpd is not running: systemctl restart frr",
    });
    await a.must(["sh", "-c", "/usr/lib/frr/bgpd -d -A 127.0.0.1 < /dev/null > /dev/null 2>&1"]);
    await until("vtysh loads the saved configuration", 10_000, async () => {
      const r = await a.exec(["sh", "-c", "vtysh -b < /dev/null > /dev/null 2>&1"]);
      return r.status === 0;
    });
    await until("bgpd has its configuration", 10_000, async () => {
      const { findings } = await client.check(expectation);
      return findings.length === 0;
    });
    await explained("FRR: selected, weight 100");
    await offers.kill();
    await explained("FRR: no session with 127.0.0.2");
  });

  it("asks vtysh where the socket cannot be used, and says so when that fails too", async () => {
    const enter = ["nsenter", "-t", String(a.pid), "-m", "-n", "-p", "--", "vtysh"] as const;
    // a directory of the sockets that only the router knows: here it does not exist
    await a.must(["ln", "-sfn", "/run/frr", "/run/frr-only-here"]);
    const fallback = frrClient({ directory: "/run/frr-only-here", vtysh: enter });
    more.push(fallback);
    expect(await fallback.check(expectation)).toEqual({ version: "8.4.4", findings: [] });
    expect((await fallback.explain(prefix(FAR4), address(ALIAS4))).reason).toBe(
      "FRR: no session with 127.0.0.2",
    );
    const neither = frrClient({ directory: `${directory}/nowhere`, vtysh: ["/nonexistent/vtysh"] });
    more.push(neither);
    await expect(neither.check(expectation)).rejects.toMatchObject({
      code: "ENOENT",
      problem: expect.stringContaining("vtysh does not help"),
      remedy: expect.stringContaining("daemon-socket"),
    });
  });

  it("says one thing when nothing of ours is there, and another when there is no BGP", async () => {
    await configure(
      BGP,
      "no bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
      "no bgp listen range 127.0.0.3/32 peer-group SHORTCUT-FEED",
      "no neighbor SHORTCUT peer-group",
      "no neighbor SHORTCUT-FEED peer-group",
    );
    await configure("no route-map SHORTCUT-IN");
    const { findings } = await client.check(expectation);
    expect(findings).toHaveLength(1);
    expect(findings[0]?.problem).toContain("nothing of shortcutd's configuration");
    expect(findings[0]?.remedy).toContain("vtysh -f /tmp/s.conf");
    await configure("no router bgp 65000");
    expect((await client.check(expectation)).findings.map((f) => f.problem)).toEqual([
      "bgpd has no BGP instance in the default VRF",
    ]);
  });
});
