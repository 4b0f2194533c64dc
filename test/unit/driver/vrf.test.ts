/** A VRF: its key in the configuration, its table in place of the main one, and what else the kernel keeps in that table. */
import { describe, expect, it } from "vitest";
import { nftScript } from "../../../plugin/adapters/linux/traffic.js";
import { parseConfig } from "../../../plugin/config/config.js";
import { auditFrr } from "../../../plugin/driver/daemon/frr/audit.js";
import { FibView } from "../../../plugin/driver/kernel/fib-view.js";
import { address, prefix } from "../../../plugin/net/address.js";
import { InterfaceNames } from "../../../plugin/net/interface-names.js";
import { parseRunningConfig } from "../../../plugin/wire/frr/running-config.js";
import type { KernelRoute } from "../../../plugin/wire/netlink/fib.js";

const spoke = (daemon: string, ...more: string[]): string =>
  [
    "role: spoke",
    "overlay: wg-red",
    "hubs: [10.255.0.3]",
    `daemon: ${daemon}`,
    "bgp: { as: 65000 }",
    ...more,
    "",
  ].join("\n");
const VRF = "vrf: { name: red, table: 101 }";

function parsed(text: string) {
  const c = parseConfig(text);
  if (!c.ok) throw new Error(JSON.stringify(c.error));
  return c.value;
}
const problems = (text: string): string[] => {
  const c = parseConfig(text);
  return c.ok ? [] : c.error.map((e) => `${e.key}: ${e.problem}`);
};

describe("vrf in the configuration", () => {
  it("is none by default: the main table", () => {
    expect(parsed(spoke("bird"))).toMatchObject({
      vrf: undefined,
      fibTable: 254,
      daemon: { vrf: undefined },
    });
  });

  it("gives its table to the FIB, and on FRR to the aliases", () => {
    const vrf = { name: "red", table: 101 };
    expect(parsed(spoke("bird", VRF))).toMatchObject({
      vrf,
      fibTable: 101,
      daemon: { vrf: "red", table: 4242 },
    });
    expect(parsed(spoke("frr", VRF))).toMatchObject({
      vrf,
      fibTable: 101,
      daemon: { vrf: "red", table: 101 },
    });
  });

  it("must have a table of its own", () => {
    expect(problems(spoke("frr", "vrf: { name: red, table: 254 }"))).toEqual([
      "vrf.table: must be a table of the VRF's own: not 253, 254 or 255",
    ]);
    expect(problems(spoke("bird", "vrf: { name: red, table: 4242 }"))).toEqual([
      "vrf.table: must not be BIRD's blackboard table (aliases.table)",
    ]);
    expect(problems(spoke("frr", "vrf: { name: red, table: 4242 }"))).toEqual([]);
    expect(problems(spoke("bird", "vrf: { name: red }"))).toHaveLength(1);
  });
});

describe("the FIB of a VRF", () => {
  const route = (p: string, type: KernelRoute["type"], dev: string, table = 101): KernelRoute => ({
    table,
    prefix: prefix(p),
    protocol: type === "unicast" ? 12 : 2,
    metric: 0,
    type,
    nextHops: [{ ifindex: 3, dev, gateway: undefined, dead: false }],
    nexthopId: 0,
  });

  it("is its table, without the router's own addresses that are in it", () => {
    const fib = new FibView(new InterfaceNames(["wg-red"]), "sc-red", 101);
    const routes = [
      route("10.3.0.0/24", "unicast", "wg-red"),
      route("10.3.0.1/32", "local", "lan-red"),
      route("10.3.0.255/32", "broadcast", "lan-red"),
      route("ff00::/8", "other", "wg-red"),
      route("10.4.0.0/24", "unicast", "wg-red", 254),
    ];
    fib.apply({ kind: "snapshot", routes, links: [] });
    expect(fib.lookup(address("10.3.0.1"))?.prefix).toBe("10.3.0.0/24");
    expect(fib.lookup(address("10.4.0.1"))).toBeUndefined();
    expect(fib.attestable()).toEqual([["10.3.0.0/24", { via: ["wg-red"] }]]);
    fib.apply({ kind: "gone", route: route("10.3.0.1/32", "local", "lan-red") });
    expect(fib.best(prefix("10.3.0.0/24"))).toBeDefined();
  });
});

describe("nftables in a VRF", () => {
  const spec = {
    uid: 990,
    table: "t",
    overlay: ["wg-red"],
    direct: "sc-red",
    controlPort: 4243,
    mask4: 24,
    mask6: 64,
    timeoutSeconds: 60,
    stateful: false,
    divertMark: 0x20000000,
  };

  it("asks by which member of the VRF a packet arrived", () => {
    const script = nftScript({ ...spec, inVrf: true });
    expect(script).toContain('oifname "wg-red" udp dport 4243 jump forged');
    expect(script).toContain('chain forged {\n    meta sdifname "wg-red" return\n    counter drop');
    expect(script).toContain('meta sdifname "sc-red" jump seen_from');
    expect(script).not.toContain("iifname");
    expect(nftScript(spec)).not.toContain("sdifname");
  });
});

describe("FRR in a VRF", () => {
  const config = `router bgp 65001
 neighbor 192.0.2.1 remote-as 65009
exit
!
router bgp 65000 vrf red
 bgp listen range 127.0.0.2/32 peer-group SHORTCUT
exit
!
router bgp 65002 view looking-glass
exit
`;

  it("is judged by the instance of the VRF", () => {
    expect(parseRunningConfig(config).bgp).toMatchObject({ as: 65001, listenRanges: [] });
    expect(parseRunningConfig(config, "red").bgp).toMatchObject({
      as: 65000,
      listenRanges: [{ range: "127.0.0.2/32", group: "SHORTCUT" }],
    });
    expect(parseRunningConfig(config, "looking-glass").bgp).toBeUndefined();
  });

  it("names the VRF whose instance is missing", () => {
    const [finding] = auditFrr(
      {
        config: parseRunningConfig(config, "blue"),
        elsewhere: [],
        routerId: undefined,
        resolvesViaDefault: [],
        version: undefined,
      },
      {
        overlay: new InterfaceNames(["wg-blue"]),
        overlayAddresses: [],
        hubs: [],
        direct: "sc-blue",
        routerId: address("127.0.0.2"),
        vrf: "blue",
        blackboardTable: 102,
        aliasPool4: prefix("198.18.0.0/16"),
        aliasPool6: undefined,
        offersSource: address("127.0.0.2"),
        feedSource: address("127.0.0.3"),
        localAs: 65000,
        password: undefined,
      },
    );
    expect(finding?.problem).toBe("bgpd has no BGP instance in VRF blue");
    expect(finding?.remedy).toContain("`router bgp 65000 vrf blue`");
  });
});
