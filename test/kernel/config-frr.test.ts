/** frr-config/ as shipped, on a real FRR in the triangle: what an offer does, and what nobody else may notice. */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Lab, type Node, startLab, until } from "../../lab/runner/lab.js";
import {
  ALIAS4,
  ALIAS6,
  addDirect,
  converged,
  DIRECT,
  FAR4,
  FAR6,
  fib,
  fibFollows,
  pointAliases,
  type Source,
  startFeed,
  startOffers,
} from "./config-source.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));

describe("frr-config on FRR", () => {
  let lab: Lab;
  let a: Node;
  let offers: Source;
  let feed: Source;

  const vtysh = (...commands: string[]): Promise<string> =>
    a.must(["vtysh", ...commands.flatMap((c) => ["-c", c])]);
  // In IPv6 zebra prefers the link-local next hop that BIRD as route reflector passes on.
  const onHub = async (): Promise<boolean> =>
    (await fib(a, FAR4)).includes("via 10.255.0.2") &&
    /via (fd00:255::2|fe80::\S+) dev wg0/.test(await fib(a, FAR6));
  /** Routes with their attributes, without the times. */
  const routes = async (node: string, ...protocols: string[]): Promise<string> => {
    let all = "";
    for (const p of protocols)
      all += await lab.node(node).must(["birdc", "show", "route", "all", "protocol", p]);
    return all.replaceAll(/\d\d:\d\d:\d\d\.\d+/g, "TIME");
  };
  const neighbours = async (): Promise<string> =>
    (await routes("ra", "a")) + (await routes("b", "spoke_a", "spoke_a6"));

  beforeAll(async () => {
    lab = await startLab(topology, { env: { DAEMON_A: "frr", DAEMON_B: "bird", DAEMON_C: "bird" } });
    a = lab.node("a");
    await converged(lab.node("host-a"));
    await addDirect(a);
    await pointAliases(a, "wg0", "main");
  });
  afterAll(() => lab?.stop());

  it("is saved by `write memory` as an operator would keep it", () => {
    const saved = a.readFile("/etc/frr/frr.conf");
    for (const line of [
      " bgp listen range 127.0.0.2/32 peer-group SHORTCUT",
      " bgp listen range 127.0.0.3/32 peer-group SHORTCUT-FEED",
      "  neighbor SHORTCUT route-map SHORTCUT-IN in",
      "  neighbor SHORTCUT-FEED addpath-tx-all-paths",
      "  neighbor 10.255.0.3 route-map SHORTCUT-NOT-TO-HUB out",
    ])
      expect(saved).toContain(`${line}\n`);
  });

  it("feeds what lies underneath, with its attributes", async () => {
    // Another of the router's own addresses: BIRD runs one session per remote address.
    feed = await startFeed(a, { target: "10.1.0.1" });
    const all = await until("the feed has both far prefixes", 5_000, async () => {
      const text = await feed.birdc("show", "route", "all");
      return text.includes(FAR4) && text.includes(FAR6) ? text : undefined;
    });
    expect(all).toContain("BGP.next_hop: 10.255.0.2");
    expect(all).toContain("BGP.next_hop: fd00:255::2");
  });

  it("selects an offer by weight, alone, and neighbours keep the routes they have", async () => {
    const before = await neighbours();
    expect(before).toContain(FAR4);
    offers = await startOffers(a, { target: "10.255.0.1" });
    for (const [prefix, alias] of [
      [FAR4, ALIAS4],
      [FAR6, ALIAS6],
    ] as const)
      await until(`the FIB has ${prefix} by ${alias}`, 5_000, async () =>
        (await fib(a, prefix)).includes(alias),
      );
    for (const prefix of [FAR4, FAR6]) expect(await fib(a, prefix)).not.toContain("nexthop");
    expect(await vtysh(`show bgp ipv4 unicast ${FAR4}`)).toContain("best (Weight)");
    const host = await lab.node("host-a").exec(["ping", "-n", "-c", "1", "-W", "2", "10.3.0.10"]);
    expect(host.status).toBe(0);
    expect(await neighbours()).toBe(before);

    await pointAliases(a, DIRECT, "main");
    await fibFollows(a, DIRECT);
    expect(await neighbours()).toBe(before);
    await pointAliases(a, "wg0", "main");
    await fibFollows(a, "wg0");
    expect(await neighbours()).toBe(before);
  });

  it("keeps our large communities to itself", async () => {
    const detail = await vtysh(`show bgp ipv4 unicast ${FAR4}`, `show bgp ipv6 unicast ${FAR6}`);
    expect(detail).toContain(ALIAS4);
    expect(detail).toContain(ALIAS6);
    expect(detail).not.toContain("65000:1:1");
  });

  it("keeps the feed on the route underneath while an offer is selected", async () => {
    const all = await feed.birdc("show", "route", "all");
    expect(all).toContain("BGP.next_hop: 10.255.0.2");
    expect(all).toContain("BGP.next_hop: fd00:255::2");
    expect(all).not.toContain(ALIAS4);
    expect(all).not.toContain(ALIAS6);
  });

  it("drops the offer by a one-line change, shows it as refused, and takes it again", async () => {
    await pointAliases(a, DIRECT, "main");
    await fibFollows(a, DIRECT);
    const before = await neighbours();
    await vtysh("configure terminal", `ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny ${FAR4} le 32`);
    await until("the hub's route is in the FIB", 8_000, async () =>
      (await fib(a, FAR4)).includes("via 10.255.0.2"),
    );
    expect(await fib(a, FAR6)).toContain(`dev ${DIRECT}`);
    expect(await vtysh("show bgp ipv4 unicast neighbors 127.0.0.2 filtered-routes")).toContain(FAR4);
    await vtysh("configure terminal", "no ip prefix-list SHORTCUT-ELIGIBLE seq 5");
    await fibFollows(a, DIRECT, 8_000);
    expect(await neighbours()).toBe(before);
  });

  it("does not leak aliases or the direct interface's address by redistribution", async () => {
    const before = await neighbours();
    const heard = async (): Promise<string> =>
      lab.node("b").must(["birdc", "show", "route", "protocol", "spoke_a"]);
    await a.must(["ip", "route", "add", "203.0.113.0/24", "dev", "eth2", "proto", "99"]);
    const af = ["configure terminal", "router bgp 65000", "address-family ipv4 unicast"];
    await vtysh(...af, "redistribute kernel route-map SHORTCUT-NO-ALIAS");
    await vtysh(...af, "redistribute connected route-map SHORTCUT-NO-ALIAS");
    // Other kernel and connected routes do pass: the redistribution works.
    await until("the hub hears the other kernel route", 5_000, async () => {
      const text = await heard();
      return text.includes("203.0.113.0/24") && text.includes("192.0.2.0/26");
    });
    expect(await heard()).not.toMatch(/198\.18|10\.255\.0\.1\/32/);
    // Without the route-maps they would leak: the test can tell.
    for (const source of ["kernel", "connected"])
      await vtysh(...af, `no redistribute ${source}`, `redistribute ${source}`);
    await until("both leak without the route-map", 5_000, async () => {
      const text = await heard();
      return text.includes("198.18.0.1/32") && text.includes("10.255.0.1/32");
    });
    await vtysh(...af, "no redistribute kernel", "no redistribute connected");
    await a.must(["ip", "route", "del", "203.0.113.0/24", "proto", "99"]);
    await until("the hub hears what it heard before", 5_000, async () => (await neighbours()) === before);
  });

  it("is back on the hub route when the session ends by kill -9", async () => {
    const before = await neighbours();
    await offers.kill();
    await until("both prefixes are on the hub route", 5_000, onHub, 5);
    expect(await neighbours()).toBe(before);
  });

  it("refuses what is not marked as an offer: it neither wins nor ties", async () => {
    offers = await startOffers(a, { target: "10.255.0.1" }, false);
    await until("the offer is refused", 5_000, async () =>
      (await vtysh("show bgp ipv4 unicast neighbors 127.0.0.2 filtered-routes")).includes(FAR4),
    );
    expect(await onHub()).toBe(true);
    await offers.kill();
  });

  it("takes eBGP offers after shortcut-ebgp.conf", async () => {
    await until(
      "the old session is gone",
      5_000,
      async () => !(await vtysh("show bgp summary")).includes("127.0.0.2"),
    );
    await a.must(["vtysh", "-f", "/run/lab/frr-config/shortcut-ebgp.conf"]);
    offers = await startOffers(a, { target: "10.255.0.1", as: 64999 });
    await until("the offer is selected", 5_000, async () => (await fib(a, FAR4)).includes(ALIAS4));
    expect(await vtysh(`show bgp ipv4 unicast ${FAR4}`)).toMatch(/external, best \(Weight\)/);
    await offers.kill();
    await until("both prefixes are on the hub route", 5_000, onHub);
  });
});
