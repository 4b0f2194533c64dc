/**
 * The speaker against BIRD 2 and FRR bgpd: real daemons, real TCP, in namespaces of their own.
 */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { BgpConnection, type BgpState } from "../../plugin/adapters/daemons/bgp.js";
import type { SessionConfig } from "../../plugin/bgp/negotiation.js";
import type { Route, RouteChange } from "../../plugin/bgp/rib.js";
import { Session } from "../../plugin/bgp/session.js";
import { address, type Prefix, prefix } from "../../plugin/net/address.js";
import { pathAttributes } from "../../plugin/wire/bgp/attributes.js";
import { community, largeCommunity } from "../../plugin/wire/bgp/community.js";
import { eventually, Namespace } from "./namespace.js";

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

interface Peer {
  readonly connection: BgpConnection;
  readonly states: BgpState[];
  readonly changes: RouteChange[];
  readonly problems: string[];
  readonly complete: number[];
}

function dial(
  config: Partial<SessionConfig> & { localAs: number; remoteAs: number },
  to: string,
  from = "127.0.0.2",
): Peer {
  const session = new Session(
    {
      name: "test",
      routerId: address("127.0.0.2"),
      holdTime: 6,
      families: [4],
      addPathReceive: false,
      askEndOfRib: false,
      backoff: { minMs: 100, maxMs: 1000 },
      ...config,
    },
    Math.random,
  );
  const states: BgpState[] = [];
  const changes: RouteChange[] = [];
  const problems: string[] = [];
  const complete: number[] = [];
  const connection = new BgpConnection({
    session,
    localAddress: address(from),
    remoteAddress: address(to),
    remotePort: 179,
    onState: (s) => states.push(s),
    onRoutes: (c) => changes.push(...c),
    onEndOfRib: (f) => complete.push(f),
    onProblem: (_, text) => problems.push(text),
    onInternalError: (e) => problems.push(String(e)),
  });
  cleanups.push(() => connection.stop());
  connection.start();
  return { connection, states, changes, problems, complete };
}

const isUp = (p: Peer) => p.states.at(-1)?.kind === "established";
const up = (p: Peer): Promise<true> =>
  eventually(`established (${p.problems.join("; ")})`, () => isUp(p)).catch((e: unknown) => {
    throw new Error(`${String(e)} ${p.problems.slice(-3).join("; ")}`);
  });

async function namespace(): Promise<{ ns: Namespace; dir: string }> {
  const ns = await Namespace.create();
  cleanups.push(() => ns.destroy());
  const dir = mkdtempSync(join(tmpdir(), "shortcutd-bgp-"));
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  ns.run("ip", "addr", "add", "10.255.0.1/32", "dev", "lo");
  cleanups.push(ns.enterNetwork());
  return { ns, dir };
}

const twenty: Prefix[] = Array.from({ length: 20 }, (_, i) => prefix(`10.20.${i}.0/24`));
const offers = (nextHop: string, extra: Partial<Route["attributes"]> = {}): Route[] => {
  const attributes = pathAttributes({
    nextHop: address(nextHop),
    localPref: 150,
    med: 7,
    asPath: [{ type: "sequence", ases: [65010, 4200000001] }],
    communities: [community("65000:100"), community("65000:200")],
    largeCommunities: [largeCommunity("65000:1:2"), largeCommunity("4200000001:3:4")],
    ...extra,
  });
  return twenty.map((p) => ({ prefix: p, attributes }));
};

const BIRD_CONF = (dir: string) => `
log "${dir}/bird.log" all;
router id 10.255.0.1;
protocol device {}
ipv4 table master4;
ipv6 table master6;
protocol static { ipv4; route 198.18.0.0/16 unreachable; route 10.99.0.0/24 unreachable; route 10.99.1.0/24 unreachable; }
protocol bgp shortcut { local as 65000; neighbor 127.0.0.2 as 65000; passive; multihop; hold time 6;
  ipv4 { import all; export none; gateway recursive; }; ipv6 { import all; export none; }; }
protocol bgp shortcut_feed { local as 65000; neighbor 127.0.0.3 as 65000; passive; multihop; rr client; hold time 6;
  ipv4 { import none; add paths tx; export where source = RTS_STATIC; }; }
`;

describe("BIRD 2", () => {
  async function bird() {
    const { ns, dir } = await namespace();
    const conf = join(dir, "bird.conf");
    writeFileSync(conf, BIRD_CONF(dir));
    const start = async () => {
      ns.sh(`mkdir -p /run/bird && bird -c ${conf} -s /run/bird/bird.ctl -P /run/bird/bird.pid`);
      await eventually("birdc", () => ns.sh("birdc -r show status || true").includes("up and running"));
    };
    await start();
    return { ns, start, birdc: (c: string) => ns.run("birdc", ...c.split(" ")) };
  }
  const config = { localAs: 65000, remoteAs: 65000 };

  it("takes twenty prefixes with their attributes, a withdrawal, and asks again by route refresh", async () => {
    const { birdc } = await bird();
    const peer = dial({ ...config, families: [4, 6] }, "127.0.0.1");
    peer.connection.announce(offers("198.18.0.1"));
    peer.connection.announce([
      {
        prefix: prefix("2001:db8:20::/48"),
        attributes: pathAttributes({ nextHop: address("fd00:18::1"), localPref: 100 }),
      },
    ]);
    await up(peer);
    const count = (): number =>
      birdc("show route table master4 protocol shortcut").match(/^10\.20\./gm)?.length ?? 0;
    await eventually("twenty routes", () => count() === 20);
    const shown = birdc("show route all 10.20.7.0/24");
    expect(shown).toContain("BGP.community: (65000,100) (65000,200)");
    expect(shown).toContain("BGP.large_community: (65000, 1, 2) (4200000001, 3, 4)");
    expect(shown).toContain("BGP.as_path: 65010 4200000001");
    expect(shown).toContain("BGP.next_hop: 198.18.0.1");
    expect(shown).toContain("BGP.local_pref: 150");
    expect(shown).toContain("BGP.med: 7");
    await eventually("the IPv6 route", () =>
      birdc("show route all table master6 protocol shortcut").includes("BGP.next_hop: fd00:18::1"),
    );

    peer.connection.withdraw(twenty.slice(5));
    await eventually("withdrawal", () => count() === 5);

    const received = () => Number(/Import updates:\s+(\d+)/.exec(birdc("show protocols all shortcut"))?.[1]);
    const before = received();
    birdc("reload in shortcut");
    await eventually("the five again", () => received() === before + 5);
    expect(peer.problems).toEqual([]);
  });

  it("feeds what it has, with path identifiers, and says when it is done", async () => {
    const { birdc } = await bird();
    const feed = dial(
      { ...config, addPathReceive: true, routerId: address("127.0.0.3") },
      "127.0.0.1",
      "127.0.0.3",
    );
    await up(feed);
    await eventually("end-of-rib", () => feed.complete.length > 0);
    const rib = feed.connection.session.ribIn;
    expect([...rib].map(([p]) => p).sort()).toEqual(["10.99.0.0/24", "10.99.1.0/24", "198.18.0.0/16"]);
    expect(rib.pathsOf(prefix("10.99.0.0/24"))[0]?.pathId).toBeGreaterThan(0);
    birdc("disable static1");
    await eventually("withdrawn", () => rib.size === 0);
    expect(feed.problems).toEqual([]);
  });

  it("killed: down at once, and everything again when it is back", async () => {
    const { ns, start, birdc } = await bird();
    const peer = dial(config, "127.0.0.1");
    peer.connection.announce(offers("198.18.0.1"));
    await up(peer);
    const killed = Date.now();
    ns.sh("kill -9 $(cat /run/bird/bird.pid)");
    await eventually("down", () => peer.states.at(-1)?.kind === "down");
    expect(Date.now() - killed).toBeLessThan(2000);
    await start();
    await up(peer);
    await eventually(
      "re-announced",
      () => (birdc("show route protocol shortcut").match(/10\.20\./g)?.length ?? 0) === 20,
    );
  });

  it("takes 100,000 routes and their withdrawal", async () => {
    const { birdc } = await bird();
    const peer = dial({ ...config, holdTime: 9 }, "127.0.0.1");
    await up(peer);
    const attributes = pathAttributes({ nextHop: address("198.18.0.1"), localPref: 100 });
    const many = Array.from({ length: 100_000 }, (_, i) =>
      prefix(`11.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`),
    );
    const count = (): number =>
      Number(/(\d+) imported/.exec(birdc("show protocols all shortcut"))?.[1] ?? -1);
    peer.connection.announce(many.map((p) => ({ prefix: p, attributes })));
    await eventually("all of them", () => count() === 100_000);
    peer.connection.withdraw(many);
    await eventually("none of them", () => count() === 0);
    expect(peer.problems).toEqual([]);
    expect(isUp(peer)).toBe(true);
  });

  it("tells a wrong AS apart, in both directions", async () => {
    const { birdc } = await bird();
    const peer = dial({ localAs: 65001, remoteAs: 65000 }, "127.0.0.1");
    await eventually("a problem", () => peer.problems.find((p) => p.includes("Bad Peer AS")));
    const other = dial(
      { localAs: 65000, remoteAs: 65009, routerId: address("127.0.0.3") },
      "127.0.0.1",
      "127.0.0.3",
    );
    await eventually("wrong AS", () =>
      other.problems.find((p) => p.includes("AS 65000") && p.includes("AS 65009")),
    );
    expect(birdc("show protocols all shortcut_feed")).toContain("Bad peer AS");
  });
});

const FRR_CONF = (dir: string) => `
frr defaults traditional
hostname frr
log file ${dir}/bgpd.log
ip route 198.18.0.0/16 lo
router bgp 65000
 bgp router-id 10.255.0.1
 no bgp network import-check
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor SHORTCUT peer-group
 neighbor SHORTCUT remote-as 65000
 neighbor SHORTCUT timers 2 6
 neighbor FEED peer-group
 neighbor FEED remote-as 65000
 neighbor FEED timers 2 6
 neighbor EXTERNAL peer-group
 neighbor EXTERNAL remote-as 65100
 neighbor EXTERNAL ebgp-multihop 2
 neighbor EXTERNAL timers 2 6
 bgp listen range 127.0.0.2/32 peer-group SHORTCUT
 bgp listen range 127.0.0.3/32 peer-group FEED
 bgp listen range 127.0.0.4/32 peer-group EXTERNAL
 address-family ipv4 unicast
  network 10.99.0.0/24
  network 10.99.1.0/24
  neighbor SHORTCUT activate
  neighbor SHORTCUT route-map NONE out
  neighbor EXTERNAL activate
  neighbor EXTERNAL route-map NONE out
  neighbor FEED activate
  neighbor FEED route-map NONE in
  neighbor FEED route-reflector-client
  neighbor FEED addpath-tx-all-paths
 exit-address-family
 address-family ipv6 unicast
  neighbor SHORTCUT activate
 exit-address-family
route-map NONE deny 10
`;

interface FrrPath {
  readonly aspath?: { readonly string: string };
  readonly locPrf?: number;
  readonly metric?: number;
  readonly community?: { readonly string: string };
  readonly largeCommunity?: { readonly string: string };
  readonly peer?: { readonly type: string };
  readonly nexthops?: readonly { readonly ip: string; readonly accessible?: boolean }[];
}

describe("FRR bgpd", () => {
  async function frr() {
    const { ns, dir } = await namespace();
    chmodSync(dir, 0o777);
    const conf = join(dir, "frr.conf");
    writeFileSync(conf, FRR_CONF(dir));
    const start = async (...daemons: string[]) => {
      ns.sh("mkdir -p /run/frr && chown frr:frr /run/frr");
      for (const d of daemons) ns.sh(`/usr/lib/frr/${d} -d -f ${conf} > ${dir}/${d}.out 2>&1 < /dev/null`);
      await eventually("bgpd", () =>
        ns.sh("vtysh -c 'show bgp ipv4 unicast json' 2>&1 || true").includes('"routerId": "10.255.0.1"'),
      );
    };
    await start("zebra", "staticd", "bgpd");
    const vtysh = (c: string) => ns.run("vtysh", "-c", c);
    const paths = (p: string) =>
      (JSON.parse(vtysh(`show bgp ipv4 unicast ${p} json`)) as { paths?: readonly FrrPath[] }).paths ?? [];
    const accepted = (neighbor: string) =>
      Object.keys(
        (
          JSON.parse(vtysh(`show bgp ipv4 unicast neighbors ${neighbor} routes json`)) as {
            routes?: Record<string, unknown>;
          }
        ).routes ?? {},
      ).length;
    return { ns, start, vtysh, paths, accepted };
  }
  const config = { localAs: 65000, remoteAs: 65000 };

  it("takes twenty prefixes with their attributes, a withdrawal, and asks again by route refresh", async () => {
    const { vtysh, paths, accepted } = await frr();
    const peer = dial({ ...config, families: [4, 6] }, "10.255.0.1");
    peer.connection.announce(offers("198.18.0.1"));
    peer.connection.announce([
      {
        prefix: prefix("2001:db8:20::/48"),
        attributes: pathAttributes({ nextHop: address("fd00:18::1"), localPref: 100 }),
      },
    ]);
    await up(peer);
    await eventually("twenty routes", () => accepted("127.0.0.2") === 20);
    const [path] = paths("10.20.7.0/24");
    expect(path?.aspath?.string).toBe("65010 4200000001");
    expect(path?.locPrf).toBe(150);
    expect(path?.metric).toBe(7);
    expect(path?.community?.string).toBe("65000:100 65000:200");
    expect(path?.largeCommunity?.string).toBe("65000:1:2 4200000001:3:4");
    expect(path?.nexthops?.[0]?.ip).toBe("198.18.0.1");
    expect(vtysh("show bgp ipv6 unicast 2001:db8:20::/48 json")).toContain("fd00:18::1");

    peer.connection.withdraw(twenty.slice(5));
    await eventually("withdrawal", () => accepted("127.0.0.2") === 5);

    const received = () => {
      const all = JSON.parse(vtysh("show bgp neighbors 127.0.0.2 json")) as Record<
        string,
        { messageStats?: { updatesRecv: number } }
      >;
      return all["127.0.0.2"]?.messageStats?.updatesRecv ?? 0;
    };
    const before = received();
    vtysh("clear bgp ipv4 unicast 127.0.0.2 soft in");
    await eventually("asked again", () => received() > before);
    expect(accepted("127.0.0.2")).toBe(5);
    expect(peer.problems).toEqual([]);
  });

  it("takes an external session whose AS is the neighbour's", async () => {
    const { paths } = await frr();
    const peer = dial(
      { localAs: 65100, remoteAs: 65000, routerId: address("127.0.0.4") },
      "10.255.0.1",
      "127.0.0.4",
    );
    peer.connection.announce(
      offers("198.18.0.1", { asPath: [{ type: "sequence", ases: [65100, 65010] }], localPref: undefined }),
    );
    await up(peer);
    const path = await eventually("the offer", () => paths("10.20.7.0/24")[0]);
    expect(path.peer?.type).toBe("external");
    expect(path.aspath?.string).toBe("65100 65010");
    expect(peer.problems).toEqual([]);
  });

  it("feeds all paths of a prefix, and says when it is done", async () => {
    await frr();
    const offersPeer = dial(config, "10.255.0.1");
    offersPeer.connection.announce([
      {
        prefix: prefix("10.99.0.0/24"),
        attributes: pathAttributes({ nextHop: address("198.18.0.1"), localPref: 50 }),
      },
    ]);
    const feed = dial(
      { ...config, addPathReceive: true, askEndOfRib: true, routerId: address("127.0.0.3") },
      "10.255.0.1",
      "127.0.0.3",
    );
    await up(feed);
    await eventually("complete", () => feed.complete.length > 0);
    const rib = feed.connection.session.ribIn;
    expect(rib.pathsOf(prefix("10.99.1.0/24"))).toHaveLength(1);
    await up(offersPeer);
    const two = await eventually("two paths", () => {
      const all = rib.pathsOf(prefix("10.99.0.0/24"));
      return all.length === 2 && all;
    });
    expect(two.map((p) => p.attributes.originatorId)).toContain("127.0.0.2");
    expect(new Set(two.map((p) => p.pathId)).size).toBe(2);
    offersPeer.connection.withdraw([prefix("10.99.0.0/24")]);
    await eventually("one path", () => rib.pathsOf(prefix("10.99.0.0/24")).length === 1);
    expect(feed.problems).toEqual([]);
  });

  it("retains nothing of a session that ends without a word, also when End-of-RIB was asked for", async () => {
    const { accepted } = await frr();
    const peer = dial({ ...config, askEndOfRib: true }, "10.255.0.1");
    peer.connection.announce(offers("198.18.0.1"));
    await up(peer);
    await eventually("twenty routes", () => accepted("127.0.0.2") === 20);
    await eventually("end-of-rib", () => peer.complete.length > 0);
    expect(peer.connection.requestRefresh(4)).toBe(true);
    await eventually("the end of the refresh", () => peer.complete.length > 1);
    const held = Date.now();
    peer.connection.abort();
    await eventually("the routes gone", () => accepted("127.0.0.2") === 0);
    expect(Date.now() - held).toBeLessThan(2000);
  });

  it("killed: down at once, and everything again when it is back", async () => {
    const { ns, start, accepted } = await frr();
    const peer = dial(config, "10.255.0.1");
    peer.connection.announce(offers("198.18.0.1"));
    await up(peer);
    const killed = Date.now();
    ns.sh("kill -9 $(cat /run/frr/bgpd.pid)");
    await eventually("down", () => peer.states.at(-1)?.kind === "down");
    expect(Date.now() - killed).toBeLessThan(2000);
    await start("bgpd");
    await up(peer);
    await eventually("re-announced", () => accepted("127.0.0.2") === 20);
  });
});
