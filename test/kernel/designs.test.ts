/**
 * Networks of other designs than the triangle's iBGP: OSPF over the overlay, an AS per spoke behind
 * a hub that is transit, an overlay with IPv6 addresses only. One site, BIRD at A and FRR at C, is
 * configured again for each, from the examples as shipped (C's are A's with C's addresses); the
 * shortcut comes up, policy sends it away, and neighbours hear nothing of it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ScenarioSite } from "../../lab/plays/scenario/site.js";
import { until } from "../../lab/runner/lab.js";
import { CONFIG, configured } from "../../lab/site/site.js";
import { DIRECT, OVERLAY, SPOKES, type Spoke } from "../../lab/site/triangle.js";
import { type Flows, startFlows } from "../../lab/traffic/flows.js";
import { type Address, address } from "../../plugin/net/address.js";
import { eagerSite, programs } from "./site.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const file = (path: string): string => readFileSync(join(root, path), "utf8");

/** A's example with C's addresses. */
const toC = (text: string): string =>
  text
    .replaceAll("10.255.0.1", "10.255.0.2")
    .replaceAll("10.1.0.", "10.3.0.")
    .replaceAll("10.1.8.", "10.3.8.")
    .replaceAll("fd00:255::1", "fd00:255::2")
    .replaceAll("2001:db8:1:", "2001:db8:3:")
    .replaceAll("192.0.2.2", "192.0.2.130")
    .replaceAll("65001", "65002");

const HOST: Readonly<Record<4 | 6, Readonly<Record<Spoke, Address>>>> = {
  4: { a: address("10.1.0.10"), c: address("10.3.0.10") },
  6: { a: address("2001:db8:1::10"), c: address("2001:db8:3::10") },
};
const far = (s: Spoke): Spoke => (s === "a" ? "c" : "a");

/** An AS of the spokes, the hub's AS where it differs, and shortcutd's keys. */
interface Design {
  readonly bird: string;
  readonly frr: string;
  readonly hub: string;
  readonly as: Readonly<Record<Spoke, number>>;
  readonly ebgp?: boolean;
  readonly more?: readonly string[];
  readonly keys?: Partial<Readonly<Record<Spoke, readonly string[]>>>;
}

describe("other designs, BIRD at A and FRR at C", () => {
  let site: ScenarioSite;
  let flows: Flows | undefined;

  const vtysh = (...commands: string[]): Promise<string> =>
    site.lab.node("c").must(["vtysh", ...commands.flatMap((c) => ["-c", c])]);

  const way = async (s: Spoke, family: 4 | 6): Promise<string> => {
    const text = await site.lab.node(s).exec(["ip", "-o", "route", "get", HOST[family][far(s)]]);
    return / dev (\S+)/.exec(text.stdout)?.[1] ?? "";
  };

  async function untilWay(family: 4 | 6, dev: string, ms = 20_000): Promise<void> {
    for (const s of SPOKES)
      await until(`${s} sends via ${dev}`, ms, async () => (await way(s, family)) === dev).catch(
        async (e: unknown) => {
          const said = await Promise.all(
            SPOKES.map((x) => site.shortcutd(x).ctl("explain", HOST[family][far(x)])),
          );
          throw new Error(`${String(e)}\nA: ${said[0]}\nC: ${said[1]}`);
        },
      );
  }

  /** Configures all three routers again, and waits until the hosts reach each other. */
  async function set(d: Design, family: 4 | 6, hubText = file(d.hub)): Promise<void> {
    await flows?.stop();
    flows = undefined;
    for (const s of SPOKES) await site.end(s, "SIGTERM");
    site.lab.node("b").writeFile("/etc/bird/bird.conf", hubText);
    await site.sh("b", "birdc configure");
    const defines = "/etc/bird/shortcut/shortcut-defines.conf";
    site.lab.node("a").writeFile("/etc/bird/bird.conf", file(d.bird));
    await site.sh("a", `sed -i 's/SHORTCUT_AS = .*/SHORTCUT_AS = ${d.as.a};/' ${defines} && birdc configure`);
    // the router behind A knows A's AS
    await site.sh(
      "ra",
      `sed -i 's/neighbor 10.1.8.1 as .*/neighbor 10.1.8.1 as ${d.as.a};/' /etc/bird/bird.conf && birdc configure`,
    );
    const as = `s/65000/${d.as.c}/g; s/64999/65000/g`;
    const load = ["shortcut.conf", ...(d.more ?? [])]
      .map((f) => `sed '${as}' /run/lab/frr-config/${f} > /run/s.conf && vtysh -f /run/s.conf`)
      .join(" && ");
    site.lab.node("c").writeFile("/run/c.conf", toC(file(d.frr)));
    await site.sh(
      "c",
      `for f in /run/frr/*.pid; do kill -9 $(cat $f) || true; rm -f $f; done; ip route flush proto bgp; ip -6 route flush proto bgp
       sh /run/lab/lab/topologies/triangle/daemon.sh frr ../c.conf && ${load}`,
    );
    for (const s of SPOKES) {
      const node = site.lab.node(s);
      const bgp =
        d.ebgp === true && s === "c" ? `{ as: ${d.as[s]}, offers-as: 65000 }` : `{ as: ${d.as[s]} }`;
      const lines = d.keys?.[s] ?? [`bgp: ${bgp}`];
      node.writeFile(CONFIG, configured(node.readFile(CONFIG), lines));
    }
    await until("host-a reaches host-c through the hub", 40_000, async () => {
      const ping = ["ping", "-n", "-c", "1", "-W", "1", HOST[family].c];
      return (await site.lab.node("host-a").exec(ping)).status === 0;
    });
    for (const s of SPOKES) await site.start(s);
    await site.untilRegistered();
  }

  async function traffic(family: 4 | 6): Promise<void> {
    flows = await startFlows(
      site.lab,
      { node: "host-a", address: HOST[family].a },
      { node: "host-c", address: HOST[family].c },
      { program: programs.traffic, rate: 500, size: 500, port: 7000 },
    );
  }

  /** The routes that routers beside the spokes hear: RA and the hub by BGP, the hub by OSPF. */
  const heard = async (): Promise<string> => {
    const routes = async (node: string, protocol: string): Promise<string> =>
      (await site.lab.node(node).exec(["birdc", "show", "route", "all", "protocol", protocol])).stdout;
    const all = [await routes("ra", "a")];
    for (const p of ["spoke_a", "spoke_c", "hub2_a", "hub2_c", "spoke_a6", "spoke_c6", "spokes"])
      all.push(await routes("b", p));
    return all.join("").replaceAll(/\d\d:\d\d:\d\d\.\d+/g, "TIME");
  };

  /** Everything of the other site is refused, or allowed again. */
  async function refuse(s: Spoke, on: boolean): Promise<void> {
    if (s === "a") await site.policy("a", on);
    else
      await vtysh(
        "configure terminal",
        ...[
          "ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny 10.1.0.0/16 le 32",
          "ipv6 prefix-list SHORTCUT-ELIGIBLE seq 5 deny 2001:db8:1::/48 le 128",
        ].map((l) => (on ? l : `no ${l}`)),
      );
  }

  /** Direct, away by policy at each end, and back; and nobody else hears of it. */
  async function shows(family: 4 | 6): Promise<void> {
    const before = await until("neighbours hear the same twice", 20_000, async () => {
      const first = await heard();
      await site.sh("a", "sleep 1");
      return first === (await heard()) ? first : undefined;
    });
    await traffic(family);
    await untilWay(family, DIRECT);
    for (const s of SPOKES) expect(await site.peers(s)).toHaveLength(2);
    expect(await heard()).toBe(before);
    for (const s of SPOKES) {
      await refuse(s, true);
      await untilWay(family, OVERLAY);
      for (const x of SPOKES)
        await until(`${x} has no peer but the hub`, 8_000, async () => (await site.peers(x)).length === 1);
      expect(await heard()).toBe(before);
      await refuse(s, false);
      if (s === "a") await untilWay(family, DIRECT);
    }
  }

  beforeAll(async () => {
    site = await eagerSite();
    await site.startAll();
  }, 90_000);
  afterAll(async () => {
    await flows?.stop();
    await site?.down();
  });

  const OSPF: Design = {
    bird: "bird-config/examples/ospf-spoke.conf",
    frr: "frr-config/examples/ospf-spoke.conf",
    hub: "bird-config/examples/ospf-hub.conf",
    as: { a: 65000, c: 65000 },
    more: ["shortcut-ospf.conf"],
  };

  it("OSPF over the overlay: the offer wins by preference and by distance, and goes with the route underneath", async () => {
    await set(OSPF, 4);
    await shows(4);
    await untilWay(4, DIRECT);
    expect(await vtysh("show ip route 10.1.0.0/24")).toMatch(
      /Known via "bgp", distance 105[\s\S]*Known via "ospf"/,
    );

    // RA's own prefix came by BGP and is in OSPF; offers and aliases are not
    const known = async (): Promise<string> =>
      site.sh("b", "birdc show ospf lsadb; birdc show route protocol spokes");
    expect(await known()).toContain("10.1.9.0");
    expect(await known()).not.toMatch(/198\.18\./);
    const external = async (): Promise<boolean> =>
      /10\.1\.0\.0\s+10\.255\.0\.2\s/.test(await site.sh("b", "birdc show ospf lsadb"));
    expect(await external()).toBe(false);
    // without the route-maps they would leak: the test can tell
    const ospf = ["configure terminal", "router ospf"];
    await vtysh(...ospf, "redistribute bgp", "redistribute kernel");
    await until(
      "the offer and the alias leak",
      10_000,
      async () => (await external()) && /198\.18\./.test(await known()),
    );
    await vtysh(
      ...ospf,
      "redistribute bgp route-map SHORTCUT-NO-OFFER",
      "redistribute kernel route-map SHORTCUT-NO-ALIAS",
    );
    await until("neither leaks", 15_000, async () => !(await external()) && !/198\.18\./.test(await known()));

    // a worse distance, and the OSPF route stays
    for (const seq of ["10", "20"])
      await vtysh("configure terminal", `route-map SHORTCUT-IN permit ${seq}`, "set distance 120");
    await untilWay(4, OVERLAY);
    await until("explain names the distances", 8_000, async () =>
      /OSPF route preferred, distance 110 < 120/.test(await site.shortcutd("c").ctl("explain", HOST[4].a)),
    );
    for (const seq of ["10", "20"])
      await vtysh("configure terminal", `route-map SHORTCUT-IN permit ${seq}`, "set distance 105");
    await untilWay(4, DIRECT);

    // the route underneath goes, hidden from the FIB by the offer that it lies underneath
    await site.sh("a", "birdc disable direct1");
    await until(
      "C has no route for A's site",
      10_000,
      async () => (await site.sh("c", "ip route show type unicast 10.1.0.0/24")) === "",
    );
    await site.sh("a", "birdc enable direct1");
  });

  const EBGP: Design = {
    bird: "bird-config/examples/ebgp-spoke.conf",
    frr: "frr-config/examples/ebgp-spoke.conf",
    hub: "bird-config/examples/ebgp-hub.conf",
    as: { a: 65001, c: 65002 },
    ebgp: true,
    more: ["shortcut-ebgp.conf"],
  };
  const hub = file(EBGP.hub);

  async function reconfigureHub(text: string): Promise<void> {
    await flows?.stop();
    flows = undefined;
    site.lab.node("b").writeFile("/etc/bird/bird.conf", text);
    await site.sh("b", "birdc configure");
    for (const s of SPOKES) await site.shortcutd(s).ctl("purge", "all");
    // on nothing but the hub, whatever it sends now
    for (const s of SPOKES)
      await until(`${s} has left the direct path`, 15_000, async () => (await way(s, 4)) !== DIRECT);
  }

  it("an AS per spoke, the hub transit: next hops as the spokes set them", async () => {
    await set(EBGP, 4);
    expect(await site.sh("a", "ip route show 10.3.0.0/24")).toContain("via 10.255.0.2 dev wg0");
    await shows(4);
  });

  it("... next-hop-self at the hub", async () => {
    await reconfigureHub(hub.replace("export filter sites;", "export filter sites; next hop self;"));
    await until("A's next hop is the hub", 10_000, async () =>
      (await site.sh("a", "ip route show 10.3.0.0/24")).includes("via 10.255.0.3 dev wg0"),
    );
    await shows(4);
  });

  it.each([
    ["only_summary", "10.0.0.0/8"],
    ["default_only", "default"],
  ])("... a hub that sends only a %s: the offer is more specific", async (filter, covering) => {
    // a default route via the overlay, where the routers have none via the underlay
    if (covering === "default")
      for (const [r, gateway] of [
        ["a", "192.0.2.1"],
        ["c", "192.0.2.129"],
      ] as const)
        await site.sh(r, `ip route add 192.0.2.0/24 via ${gateway} && ip route del default via ${gateway}`);
    await reconfigureHub(hub.replace("export filter sites;", `export filter ${filter};`));
    for (const s of SPOKES)
      await until(`${s} has only ${covering}`, 10_000, async () => {
        const routes = await site.sh(s, "ip route show proto bird; ip route show proto bgp");
        return (
          new RegExp(`^${covering} .*via 10\\.255\\.0\\.3 `, "m").test(routes) &&
          !/10\.[13]\.0\.0\/24/.test(routes)
        );
      });
    await shows(4);
  });

  it("... two hubs, ECMP", async () => {
    await site.sh("b", "ip address add 10.255.0.4/24 dev wg0");
    // BIRD runs one session per remote address: the second hub's daemon is a process of its own, on
    // the same machine
    const bound = hub
      .replaceAll("  direct;", "  direct; strict bind;")
      .replace("export filter sites;", "export filter sites; next hop self;");
    const second = bound
      .replaceAll("10.255.0.3", "10.255.0.4")
      .replace(/^protocol kernel .*$/m, "")
      .replace("/var/log/bird.log", "/var/log/bird2.log");
    await reconfigureHub(bound);
    site.lab.node("b").writeFile("/run/hub2.conf", second);
    await site.sh(
      "b",
      "bird -c /run/hub2.conf -s /run/hub2.ctl -P /run/hub2.pid < /dev/null > /var/log/hub2.out 2>&1",
    );
    for (const s of SPOKES)
      await until(`${s} has two next hops`, 20_000, async () => {
        const routes = await site.sh(s, `ip route show ${s === "a" ? "10.3" : "10.1"}.0.0/24`);
        return routes.includes("via 10.255.0.3") && routes.includes("via 10.255.0.4");
      });
    await shows(4);
    await site.sh("b", "kill $(cat /run/hub2.pid)");
  });

  it("an overlay with IPv6 addresses only", async () => {
    for (const [r, n] of [
      ["a", 1],
      ["c", 2],
      ["b", 3],
      ["b", 4],
    ] as const)
      await site.sh(r, `ip address del 10.255.0.${n}/24 dev wg0 || true`);
    const triangleHub = file("bird-config/examples/hub.conf").replaceAll(/^.*(10\.255\.0\.[12] as).*$/gm, "");
    await site.end("b", "SIGTERM");
    const v6: Design = {
      bird: "bird-config/examples/ipv6-spoke.conf",
      frr: "frr-config/examples/ipv6-spoke.conf",
      hub: "bird-config/examples/hub.conf",
      as: { a: 65000, c: 65000 },
      keys: {
        a: ["hubs: [fd00:255::3]", "bgp: { as: 65000 }"],
        c: ["hubs: [fd00:255::3]", "bgp: { as: 65000, peer: 192.0.2.130 }"],
      },
    };
    await site.start("b");
    await set(v6, 6, triangleHub);
    await shows(6);
    await untilWay(6, DIRECT);
    // how the alias is resolved: BIRD by its blackboard, FRR by the host route in the main table
    expect(await site.sh("a", "ip -6 route show table 4242")).toMatch(
      /fd53:4843:5554::\S+ dev shortcut0 proto (?:173|shortcutd)/,
    );
    expect(await site.sh("c", "ip -6 route show 2001:db8:1::/64")).toMatch(
      /via fd53:4843:5554::\S+ dev shortcut0/,
    );
  });
});
