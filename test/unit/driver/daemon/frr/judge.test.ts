/** The audit and the explanations, on recorded replies and on modified ones. */

import { describe, expect, it } from "vitest";
import { auditFrr } from "../../../../../plugin/driver/daemon/frr/audit.js";
import { explainFrr, type FrrFacts } from "../../../../../plugin/driver/daemon/frr/explain.js";
import type { DaemonExpectation } from "../../../../../plugin/driver/ports.js";
import { address, prefix } from "../../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../../plugin/net/interface-names.js";
import { describeReason } from "../../../../../plugin/shortcut/reasons.js";
import { decodeBgpRoute, decodeNeighbor, decodeZebraRoutes } from "../../../../../plugin/wire/frr/json.js";
import { parseRunningConfig } from "../../../../../plugin/wire/frr/running-config.js";
import { must, recorded } from "../../../wire/frr/support.js";

const expectation: DaemonExpectation = {
  overlay: new InterfaceNames(["wg0"]),
  overlayAddresses: [
    { address: address("10.255.0.1"), length: 24 },
    { address: address("fd00:255::1"), length: 64 },
  ],
  hubs: [address("10.255.0.3")],
  direct: "shortcut0",
  routerId: address("127.0.0.2"),
  blackboardTable: 254,
  aliasPool4: prefix("198.18.0.0/16"),
  aliasPool6: prefix("fd53:4843:5554::/64"),
  offersSource: address("127.0.0.2"),
  feedSource: address("127.0.0.3"),
  localAs: 65000,
  password: "",
};
const shipped = recorded("running-config");
const problems = (
  text: string,
  e = expectation,
  elsewhere = "",
  offersAs?: number,
  routerId = address("10.255.0.1"),
  version = "8.4.4",
): string[] =>
  auditFrr(
    {
      config: parseRunningConfig(text),
      elsewhere: [parseRunningConfig(elsewhere)],
      routerId,
      resolvesViaDefault: parseRunningConfig(text).resolvesViaDefault,
      version,
    },
    e,
    offersAs,
  ).map((f) => f.problem);
const edited = (from: string, to: string): string => {
  expect(shipped).toContain(from);
  return shipped.replaceAll(from, to);
};

describe("the audit of FRR", () => {
  it("finds nothing in what is shipped", () => expect(problems(shipped)).toEqual([]));

  it("judges what peer groups do, not their names", () => {
    const renamed = shipped
      .replaceAll(/\bSHORTCUT-FEED\b(?!-)/g, "UNDER")
      .replaceAll(/\b(neighbor|peer-group) SHORTCUT\b(?!-)/g, "$1 DIRECT");
    expect(renamed).toContain("neighbor DIRECT route-map SHORTCUT-IN in");
    expect(problems(renamed)).toEqual([]);
  });

  it.each([
    [
      "a pool that the alias list does not cover",
      edited("198.18.0.0/16 le 32", "198.18.0.0/17 le 32"),
      /alias pool/,
    ],
    [
      "an alias list of the network only",
      edited("permit 198.18.0.0/16 le 32", "permit 198.18.0.0/16"),
      /alias pool/,
    ],
    [
      "an import map that sets nothing for IPv6",
      shipped.replace(/(permit 20[\s\S]*?) set weight 100\n/, "$1"),
      /IPv6 offer win/,
    ],
    ["weight 0", shipped.replace("set weight 100", "set weight 0"), /IPv4 offer win/],
    [
      "a feed in another AS",
      edited("neighbor SHORTCUT-FEED remote-as 65000", "neighbor SHORTCUT-FEED remote-as 65010"),
      /remote AS 65010; the feed is always iBGP/,
    ],
    [
      "an AS forgotten in the list of offers",
      edited("SHORTCUT-OFFER seq 10 permit 65000:1:1", "SHORTCUT-OFFER seq 10 permit 65001:1:1"),
      /route-map SHORTCUT-IN asks for large-community-list SHORTCUT-OFFER, which has 65001:1:1; offers carry 65000:1:1: no offer passes/,
    ],
    [
      "an AS forgotten in the list of our own",
      edited("permit ^65000:[12]:[0-9]+$", "permit ^65001:[12]:[0-9]+$"),
      /deletes what large-community-list SHORTCUT-OWN matches, and that does not match 65000:1:1/,
    ],
    [
      "a missing list of offers",
      edited("bgp large-community-list standard SHORTCUT-OFFER seq 10 permit 65000:1:1\n", ""),
      /SHORTCUT-OFFER, which does not exist/,
    ],
    [
      "an IPv6 hub session without the route-map",
      edited("  neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out\n", ""),
      /^fd00:255::3 has no outgoing route-map for IPv6: the hub would receive/,
    ],
    [
      "an IPv4 hub session whose route-map does not call ours",
      `${edited("10.255.0.3 route-map SHORTCUT-NOT-TO-HUB out", "10.255.0.3 route-map MINE out")}route-map MINE permit 10\nexit\n`,
      /^the outgoing route-map MINE of 10\.255\.0\.3 does not filter offers for IPv4/,
    ],
    [
      "a hub session whose route-map is not defined",
      edited("10.255.0.3 route-map SHORTCUT-NOT-TO-HUB out", "10.255.0.3 route-map NOWHERE out"),
      /^the outgoing route-map NOWHERE of 10\.255\.0\.3 is not defined: the hub is sent no IPv4 route/,
    ],
    [
      "a feed that permits nothing",
      edited("route-map SHORTCUT-FEED-OUT permit 1000\n", "route-map SHORTCUT-FEED-OUT deny 1000\n"),
      /SHORTCUT-FEED-OUT, the export policy of the feed, permits no route: shortcutd is fed none/,
    ],
    [
      "an entry for IPv6 that takes any next hop",
      shipped.replace(" match ipv6 next-hop prefix-list SHORTCUT-ALIASES\n", ""),
      /^route-map SHORTCUT-IN permit 20 takes IPv6 offers with any next hop: a local user/,
    ],
    [
      "a password that shortcutd does not have",
      edited(
        " neighbor SHORTCUT-FEED remote-as 65000\n",
        " neighbor SHORTCUT-FEED remote-as 65000\n neighbor SHORTCUT-FEED password secret1\n",
      ),
      /^peer group SHORTCUT-FEED has a password, and shortcutd has none: the session cannot come up$/,
    ],
    ["no remote AS", edited(" neighbor SHORTCUT remote-as 65000\n", ""), /SHORTCUT has no remote AS/],
  ])("finds %s, and nothing else", (_, text, problem) => {
    expect(problems(text)).toEqual([expect.stringMatching(problem)]);
  });

  it("compares passwords, and names none", () => {
    const withPassword = (text: string, password: string): string =>
      text.replaceAll(/^ neighbor (SHORTCUT\S*) remote-as 65000$/gm, `$&\n neighbor $1 password ${password}`);
    const own = { ...expectation, password: "secret1" };
    expect(problems(withPassword(shipped, "secret1"), own)).toEqual([]);
    const other = problems(withPassword(shipped, "secret2"), own);
    expect(other).toEqual(
      ["SHORTCUT", "SHORTCUT-FEED"].map(
        (g) => `peer group ${g} has another password than shortcutd: the session cannot come up`,
      ),
    );
    expect(problems(shipped, own)).toHaveLength(2);
    expect(problems(shipped, { ...expectation, password: undefined })).toEqual([]);
    const findings = auditFrr(
      {
        config: parseRunningConfig(withPassword(shipped, "secret2")),
        elsewhere: [],
        routerId: undefined,
        resolvesViaDefault: [],
        version: undefined,
      },
      own,
    );
    expect(JSON.stringify(findings)).not.toMatch(/secret2|secret1/);
  });

  it("takes a hub for one by its address, its subnet, its interface and its peer group", () => {
    const without = edited("  neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out\n", "");
    const far = without.replaceAll("fd00:255::3", "fd00:9::3");
    expect(problems(far)).toEqual([]);
    expect(problems(far, { ...expectation, hubs: [address("fd00:9::3")] })).toHaveLength(1);
    const unnumbered = without
      .replaceAll("fd00:255::3", "wg0")
      .replace("wg0 remote-as", "wg0 interface remote-as");
    expect(problems(unnumbered)).toEqual([expect.stringMatching(/^wg0 has no outgoing route-map for IPv6/)]);
    const grouped = without
      .replace(
        " neighbor fd00:255::3 remote-as 65000\n",
        " neighbor HUBS peer-group\n neighbor HUBS remote-as 65000\n neighbor fd00:255::3 peer-group HUBS\n",
      )
      .replace(
        "  neighbor fd00:255::3 activate\n",
        "  neighbor HUBS activate\n  neighbor HUBS route-map SHORTCUT-NOT-TO-HUB out\n",
      );
    expect(problems(grouped)).toEqual([]);
    expect(problems(grouped.replace("  neighbor HUBS route-map SHORTCUT-NOT-TO-HUB out\n", ""))).toHaveLength(
      1,
    );
    const external = without.replace(
      " neighbor fd00:255::3 remote-as 65000\n",
      " neighbor fd00:255::3 remote-as 64999\n",
    );
    expect(problems(external)).toEqual([]);
  });

  it("asks redistribution to keep the routes that shortcutd holds on the overlay, of this overlay", () => {
    const old = edited(" match interface wg0\n match metric 1\n", " match interface wg9\n match metric 1\n");
    const ospf = "router ospf\n redistribute kernel route-map SHORTCUT-NO-ALIAS\nexit\n";
    expect(problems(old)).toEqual([]);
    expect(problems(old, expectation, ospf)).toEqual([
      "router ospf redistributes kernel routes by route-map SHORTCUT-NO-ALIAS: routes with which shortcutd keeps a prefix on wg0 would leak to neighbours",
    ]);
    expect(problems(old, { ...expectation, overlay: new InterfaceNames(["wg9"]) }, ospf)).toEqual([]);
    const ospf6 = "router ospf6\n redistribute kernel route-map MINE\nexit\n";
    const only4 = `${shipped}route-map MINE deny 10\n match ip address prefix-list SHORTCUT-ALIASES\nexit\nroute-map MINE deny 20\n match interface wg0\nexit\n`;
    expect(problems(only4, expectation, ospf6)).toEqual([
      "router ospf6 redistributes kernel routes by route-map MINE: alias next hops would leak to neighbours",
    ]);
    expect(problems(only4, expectation, ospf6.replace("ospf6", "ospf"))).toEqual([]);
  });

  it("asks redistribution for every overlay interface of the configuration, or for all by the metric", () => {
    const ospf = "router ospf\n redistribute kernel route-map SHORTCUT-NO-ALIAS\nexit\n";
    const at = (...names: string[]) => ({ ...expectation, overlay: new InterfaceNames(names) });
    expect(problems(shipped, at("wg0", "wg-hub2"), ospf)).toEqual([
      "router ospf redistributes kernel routes by route-map SHORTCUT-NO-ALIAS: routes with which shortcutd keeps a prefix on wg0, wg-hub2 would leak to neighbours",
    ]);
    expect(problems(shipped, at("wg*"), ospf)).toEqual([]);
    const both = `${shipped}route-map SHORTCUT-NO-ALIAS deny 41\n match interface wg-hub2\n match metric 1\nexit\n`;
    expect(problems(both, at("wg0", "wg-hub2"), ospf)).toEqual([]);
    const all = edited(" match interface wg0\n match metric 1\n", " match metric 1\n");
    expect(problems(all, at("wg-hub1", "wg-hub2"), ospf)).toEqual([]);
  });

  it("refuses a default route that resolves next hops", () => {
    const line = "ip nht resolve-via-default\n";
    expect(problems(`${line}${shipped}`)).toEqual([
      expect.stringMatching(/^zebra resolves IPv4 next hops by a default route: where an alias has gone/),
    ]);
    expect(problems(`${line}${shipped}`, { ...expectation, vrf: "red" })).toHaveLength(1);
    const datacenter = shipped.replace("frr defaults traditional", "frr defaults datacenter");
    expect(problems(datacenter)).toHaveLength(2);
    expect(problems(`${datacenter}no ip nht resolve-via-default\nno ipv6 nht resolve-via-default\n`)).toEqual(
      [],
    );
    const inVrf = `vrf red\n${" "}ip nht resolve-via-default\nexit-vrf\n`;
    expect(problems(`${inVrf}${shipped}`)).toEqual([]);
    expect(parseRunningConfig(inVrf, "red").resolvesViaDefault).toEqual([4]);
  });

  describe("on an eBGP session", () => {
    const external = shipped.replace(
      " neighbor SHORTCUT remote-as 65000\n",
      " neighbor SHORTCUT remote-as 64999\n neighbor SHORTCUT ebgp-multihop 2\n neighbor wg-hub1 interface remote-as 64999\n neighbor wg-hub2 interface remote-as 64998\n",
    );
    const e = { ...expectation, overlay: new InterfaceNames(["wg-hub*", "wg0"]) };
    const found = (text: string, version: string) =>
      problems(text, e, "", 64999, undefined, version).filter((p) => !p.includes("outgoing route-map"));

    it("asks FRR 10 and later not to enforce the first AS, where a hub has another one", () => {
      expect(found(external, "8.4.4")).toEqual([]);
      expect(found(external, "10.3")).toEqual([
        "bgpd refuses offers over the routes of wg-hub2, whose AS is not that of peer group SHORTCUT, 64999: FRR 10.3 enforces the first AS",
      ]);
      const told = external.replace(
        " neighbor SHORTCUT ebgp-multihop 2\n",
        " neighbor SHORTCUT ebgp-multihop 2\n no neighbor SHORTCUT enforce-first-as\n",
      );
      expect(found(told, "10.3")).toEqual([]);
      expect(found(external.replace("remote-as 64998", "remote-as external"), "10.3")).toEqual([
        expect.stringContaining("if its AS is not that of peer group SHORTCUT"),
      ]);
      expect(found(external.replace("remote-as 64998", "remote-as 64999"), "10.3")).toEqual([]);
    });

    it("asks for every LOCAL_PREF that the router's own route-maps set", () => {
      const prefers = external
        .replace(
          "  neighbor SHORTCUT activate\n",
          "  neighbor SHORTCUT activate\n  neighbor wg-hub1 route-map HUB1 in\n",
        )
        .concat("route-map HUB1 permit 10\n set local-preference 200\nexit\n");
      expect(prefers).toContain("HUB1 in");
      expect(found(prefers, "8.4.4")).toEqual([
        expect.stringMatching(/^route-map SHORTCUT-IN does not delete 65000:4:200/),
        expect.stringMatching(/^route-map SHORTCUT-IN does not restore local-preference 200/),
      ]);
      const restored = prefers
        .replace("^65000:[12]:[0-9]+$", "^65000:[1-4]:[0-9]+$")
        .concat(
          "bgp large-community-list standard SHORTCUT-LP-200 seq 10 permit 65000:4:200\n",
          "route-map SHORTCUT-IN permit 1\n match large-community SHORTCUT-LP-200\n set local-preference 200\n on-match next\nexit\n",
        );
      expect(found(restored, "8.4.4")).toEqual([]);
      expect(found(restored.replace("permit 65000:4:200", "permit 65000:4:300"), "8.4.4")).toHaveLength(1);
    });
  });

  it("finds OSPF on a network that the direct interface is in too, and a router ID that is ours", () => {
    const ospf = (net: string): string => `router ospf\n network ${net} area 0\nexit\n`;
    expect(problems(shipped, expectation, ospf("10.255.0.0/24"))).toEqual([
      "router ospf runs on every interface with an address of 10.255.0.0/24, so on shortcut0 too: spokes would become OSPF neighbours there",
    ]);
    expect(problems(shipped, expectation, ospf("10.1.0.0/24"))).toEqual([]);
    expect(problems(shipped, { ...expectation, routerId: address("10.255.0.1") })).toEqual([
      expect.stringMatching(
        /^bgpd's router ID 10\.255\.0\.1 is also the BGP identifier of the offers session/,
      ),
    ]);
  });

  it("counts graceful restart as an error where the router enables it", () => {
    const text = edited(" neighbor SHORTCUT graceful-restart-disable\n", "").replace(
      "router bgp 65000\n",
      "router bgp 65000\n bgp graceful-restart\n",
    );
    expect(
      auditFrr(
        {
          config: parseRunningConfig(text),
          elsewhere: [],
          routerId: undefined,
          resolvesViaDefault: [],
          version: undefined,
        },
        expectation,
      ).map((f) => f.severity),
    ).toEqual(["error"]);
  });

  it("follows calls between route-maps, and looks at other daemons' redistribution", () => {
    const mine = `${shipped}route-map MINE permit 10\n call SHORTCUT-NO-ALIAS\nexit\n`;
    const ospf = (map: string): string => `router ospf\n redistribute kernel${map}\nexit\n`;
    expect(problems(mine, expectation, ospf(" route-map MINE"))).toEqual([]);
    expect(problems(mine, expectation, ospf(""))).toEqual([
      "router ospf redistributes kernel routes without a route-map: alias next hops would leak to neighbours",
    ]);
    const loop = `${shipped}route-map MINE permit 10\n call MINE\nexit\n`;
    expect(problems(loop, expectation, ospf(" route-map MINE"))).toHaveLength(1);
  });

  it("does not ask for IPv6 without a pool, and warns only with one", () => {
    const only4 = shipped.replace(/ address-family ipv6 unicast[\s\S]*?exit-address-family\n/, "");
    expect(problems(only4, { ...expectation, aliasPool6: undefined })).toEqual([]);
    expect(problems(only4)).toEqual([
      "peer group SHORTCUT is not activated for IPv6 unicast",
      "peer group SHORTCUT-FEED is not activated for IPv6 unicast",
    ]);
  });

  it("compares our AS on the offers session only where it is told", () => {
    const external = edited(
      " neighbor SHORTCUT remote-as 65000\n",
      " neighbor SHORTCUT remote-as 64999\n neighbor SHORTCUT ebgp-multihop 2\n",
    );
    expect(problems(external)).toEqual([]);
    expect(problems(external, expectation, "", 64999)).toEqual([]);
    expect(problems(external, expectation, "", 65000)).toEqual([
      "peer group SHORTCUT has remote AS 64999; shortcutd speaks as AS 65000 on the offers session",
    ]);
  });
});

const FAR = prefix("10.3.0.0/24");
const alias = address("198.18.0.1");
const source = address("127.0.0.2");
const received = (bgp: string, zebra: string): FrrFacts => ({
  kind: "received",
  alias,
  paths: must(decodeBgpRoute(recorded(bgp))),
  routes: must(decodeZebraRoutes(recorded(zebra), FAR)),
});
const neighbor = must(decodeNeighbor(recorded("neighbor"), source));
const absent = (
  filtered: "yes" | "no" | "unknown",
  change: Partial<NonNullable<typeof neighbor>> | null = {},
): FrrFacts => ({
  kind: "absent",
  family: 4,
  source,
  neighbor: change === null || neighbor === undefined ? undefined : { ...neighbor, ...change },
  filtered,
});
const ospf = must(decodeZebraRoutes(recorded("zebra-static").replaceAll('"static"', '"ospf"'), FAR));

describe("FRR's reasons", () => {
  it.each<[string, FrrFacts, boolean]>([
    ["FRR: selected, weight 100", received("bgp-selected", "zebra-selected"), true],
    ["FRR: static route preferred, distance 110 < 200", received("bgp-selected", "zebra-static"), false],
    [
      "FRR: OSPF route preferred, distance 110 < 200",
      { kind: "received", alias, paths: must(decodeBgpRoute(recorded("bgp-selected"))), routes: ospf },
      false,
    ],
    [
      "FRR: tied: multipath with the route underneath, half the flows would go direct (`set weight` in the import route-map)",
      received("bgp-tied", "zebra-tied"),
      false,
    ],
    [
      "FRR: tied: multipath with the route underneath, half the flows would go direct (`set weight` in the import route-map)",
      received("bgp-selected", "zebra-tied"),
      false,
    ],
    [
      "FRR: next hop 198.18.0.1 (the alias) is inaccessible",
      received("bgp-inaccessible", "zebra-static"),
      false,
    ],
    [
      "FRR: the router's own route preferred (Weight): weight 32768 > 100",
      received("bgp-own", "zebra-absent"),
      false,
    ],
    [
      "FRR: best in bgpd, but zebra has no BGP route for it (table-map?)",
      received("bgp-selected", "zebra-absent"),
      false,
    ],
    ["FRR: no path by 198.18.0.1", received("bgp-refused", "zebra-absent"), false],
    ["FRR: rejected by route-map SHORTCUT-IN", absent("yes"), false],
    ["FRR: not received from 127.0.0.2", absent("no"), false],
    [
      "FRR: not received from 127.0.0.2, or rejected by route-map SHORTCUT-IN; `soft-reconfiguration inbound` would tell",
      absent("unknown"),
      false,
    ],
    ["FRR: no session with 127.0.0.2", absent("unknown", null), false],
    [
      "FRR: session with 127.0.0.2 is not established (Active, last reset: Peer closed the session)",
      absent("unknown", { state: "Active", lastReset: "Peer closed the session" }),
      false,
    ],
  ])("%s", (reason, facts, selected) => {
    const e = explainFrr(facts);
    expect({ selected: e.selected, reason: describeReason(e.reason) }).toEqual({ selected, reason });
  });
});
