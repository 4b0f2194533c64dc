/**
 * Do no harm: what routers of every kind behind a spoke hear, with and without a shortcut, under a
 * hub of the same AS and under one of another AS that takes everything back. Where a filter of the
 * operator's makes them hear something else, or where FRR cannot hide an offer, the offer goes and
 * `explain` says to whom and why.
 */
import { describe, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import type { Site } from "../../lab/site/site.js";
import { type Daemon, DIRECT, OVERLAY } from "../../lab/site/triangle.js";
import { siteOf } from "./site.js";

const IBGP = "65000";
const EBGP = "64999";
const FAR = "10.3.0.0/24";

const cases: readonly (readonly [Daemon, string])[] = [
  ["bird", IBGP],
  ["bird", EBGP],
  ["frr", IBGP],
  ["frr", EBGP],
];
/**
 * RouterName, its protocol towards A (the hub's for b), and whether it hears of C's site: an
 * internal neighbour does not under iBGP.
 */
const neighbours = [
  ["ra", "a", () => true],
  ["rb", "a", (hubAs: string) => hubAs !== IBGP],
  ["rr", "a", () => true],
  ["ro", "a", () => true],
  ["b", "spoke_a", () => false],
] as const;

interface Heard {
  readonly table: string;
  /** Withdrawals, and updates that changed something. */
  readonly changes: string;
}

async function heard(site: Site, router: string, protocol: string): Promise<Heard> {
  const table = await site.sh(router, `birdc show route all protocol ${protocol}`);
  const text = await site.sh(router, `birdc show protocols all ${protocol}`);
  const count = (what: string) =>
    (new RegExp(`Import ${what}:(.*)`).exec(text)?.[1] ?? "").trim().split(/\s+/);
  return {
    table: table.replace(/ \d\d:\d\d:\d\d\.\d+/g, ""),
    changes: `${count("updates")[4]} changes, ${count("withdraws")[0]} withdrawals`,
  };
}

const all = (site: Site): Promise<Heard[]> =>
  Promise.all(neighbours.map(([router, protocol]) => heard(site, router, protocol)));

async function converged(site: Site, hubAs: string, far = FAR): Promise<void> {
  for (const [router, protocol, hears] of neighbours)
    await until(`${router} has heard what it will`, 30_000, async () => {
      const { table } = await heard(site, router, protocol);
      return router === "b" ? table.includes("10.1.0.0/24") : table.includes(far) === hears(hubAs);
    });
}

/** Waits for the words about the owner while the way is the hub's, once it holds `text`. */
const explained = (site: Site, text: string): Promise<string> =>
  until(`A explains: ${text}`, 20_000, async () => {
    const said = await site.shortcutd("a").ctl("explain", "10.3.0.10");
    if (!said.includes(text)) throw new Error(`${said}\n${await site.shortcutd("a").ctl("timeline")}`);
    return said;
  });

const vtysh = (site: Site, ...lines: string[]): Promise<string> =>
  site.sh("a", `vtysh ${["configure terminal", ...lines].map((l) => `-c '${l}'`).join(" ")}`);
const BGP = ["router bgp 65000", "address-family ipv4 unicast"];

/** A filter of the operator's that takes an offer for something else. */
async function spoil(
  site: Site,
  daemon: Daemon,
): Promise<{ readonly named: string; mend(): Promise<unknown> }> {
  if (daemon === "frr") {
    await vtysh(
      site,
      "route-map LAN deny 10",
      "match ip next-hop prefix-list SHORTCUT-ALIASES",
      "route-map LAN permit 20",
      ...BGP,
      "neighbor 10.1.8.2 route-map LAN out",
    );
    return {
      named: `neighbor 10.1.8.2 is no longer sent ${FAR}: its outgoing route-map LAN`,
      mend: () => vtysh(site, ...BGP, "no neighbor 10.1.8.2 route-map LAN out"),
    };
  }
  const node = site.lab.node("a");
  const was = node.readFile("/etc/bird/bird.conf");
  const line = "protocol bgp site_ra from site {";
  // what the kernel gets is where offers are
  node.writeFile(
    "/etc/bird/bird.conf",
    was.replace(
      line,
      `${line} ipv4 { table fib4; import all; export where proto != "shortcut"; next hop self; };`,
    ),
  );
  await site.sh("a", "birdc configure");
  return {
    named: `neighbor 10.1.8.2 (protocol site_ra) is no longer sent ${FAR}: its export filter (unnamed) of protocol site_ra`,
    mend: async () => {
      node.writeFile("/etc/bird/bird.conf", was);
      await site.sh("a", "birdc configure");
    },
  };
}

describe.each(cases)("A on %s under a hub in AS %s", (daemon, hubAs) => {
  it("its neighbours hear the same with and without a shortcut; an offer that does harm goes", async () => {
    const site = await siteOf(daemon, "bird", "bird", "lab/topologies/neighbours.clab.yml", {
      HUB_AS: hubAs,
    });
    try {
      await converged(site, hubAs);
      await site.startAll();
      const before = await all(site);
      const quiet = async (when: string, was: readonly Heard[]): Promise<void> => {
        const now = await all(site);
        for (const [i, [router]] of neighbours.entries())
          expect(now[i], `${router}, ${when}`).toEqual(was[i]);
      };
      await site.traffic();
      let reference = before;
      if (daemon === "frr" && hubAs === IBGP) {
        // a reflector tells who announced a route: no offer of A's can be hidden from its client
        const said = await explained(site, "neighbor 10.1.6.2 would see an offer");
        expect(said).toContain("this router reflects routes to it");
        expect(await site.dev("a")).toBe(OVERLAY);
        expect((await site.peers("a")).length).toBe(1);
        await quiet("no offer was made", before);
        await vtysh(site, ...BGP, "no neighbor 10.1.6.2 route-reflector-client");
        // bgpd starts that session again
        await until("rr has no route from C any more", 20_000, async () => {
          const { table } = await heard(site, "rr", "a");
          return !table.includes(FAR) && table.includes("10.1.0.0/24");
        });
        reference = await all(site);
      }
      await site.untilDirect();
      await quiet("while direct", reference);

      const { named, mend } = await spoil(site, daemon);
      await explained(site, named);
      await site.untilDev("a", OVERLAY, 10_000);
      await until(
        "ra hears the same again",
        10_000,
        async () => (await heard(site, "ra", "a")).table === before[0]?.table,
      );
      // and it comes back when the operator has seen to it
      await mend();
      await site.untilDev("a", DIRECT, 30_000);
    } finally {
      await site.down();
    }
  });
});

describe.each([
  ["bird", EBGP],
  ["frr", IBGP],
] as const)("A on %s, which hears only a summary of a hub in AS %s", (daemon, hubAs) => {
  it("its neighbours hear the summary, with and without a shortcut for what is in it", async () => {
    const more = { HUB_AS: hubAs, HUB_TELLS: "-summary" };
    const site = await siteOf(daemon, "bird", "bird", "lab/topologies/neighbours.clab.yml", more);
    try {
      await converged(site, hubAs, "10.3.0.0/16");
      await site.startAll();
      const before = await all(site);
      await site.traffic();
      if (daemon === "frr") {
        await explained(site, `OSPF would see an offer for ${FAR}`);
        expect(await site.dev("a")).toBe(OVERLAY);
        await vtysh(
          site,
          "ip prefix-list SUMMARY permit 10.3.0.0/16",
          "route-map TO-OSPF permit 10",
          "match ip address prefix-list SUMMARY",
          "router ospf",
          "redistribute bgp route-map TO-OSPF",
        );
      }
      await site.untilDev("a", DIRECT, 30_000);
      expect(await site.sh("a", `ip route show ${FAR}`)).toContain(`dev ${DIRECT}`);
      const now = await all(site);
      for (const [i, [router]] of neighbours.entries()) expect(now[i], router).toEqual(before[i]);
      expect(now.map((h) => h.table).join("")).not.toContain(FAR);
    } finally {
      await site.down();
    }
  });
});
