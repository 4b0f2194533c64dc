/**
 * doc/communities.md's cookbook, as shipped, while a shortcut is there: BIRD at A, FRR at C, and
 * shortcutd at both. One site; a policy is loaded at one end, the kernels' FIBs and WireGuard peers
 * are looked at, and it is taken back.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ScenarioSite } from "../../lab/plays/scenario/site.js";
import { until } from "../../lab/runner/lab.js";
import { DIRECT, OVERLAY, other, SPOKE, SPOKES, type Spoke } from "../../lab/site/triangle.js";
import { eagerSite } from "./site.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const COOKBOOK = "/run/lab/bird-config/cookbook";
const POLICY = "/etc/bird/shortcut/policy.conf";

/** How an operator takes a recipe back at FRR; at BIRD policy.conf is put back. */
const UNDO: Readonly<Record<string, readonly string[]>> = {
  "prefix-list": [
    "no ip prefix-list SHORTCUT-ELIGIBLE",
    "no ipv6 prefix-list SHORTCUT-ELIGIBLE",
    "ip prefix-list SHORTCUT-ELIGIBLE seq 1000 permit 0.0.0.0/0 le 32",
    "ipv6 prefix-list SHORTCUT-ELIGIBLE seq 1000 permit ::/0 le 128",
  ],
  "tagged-by-owner": [
    "route-map SHORTCUT-IN permit 10",
    "no match community",
    "route-map SHORTCUT-IN permit 20",
    "no match community",
  ],
  "hub-when-faster": ["no route-map SHORTCUT-IN deny 5"],
  "rate-class": ["no route-map SHORTCUT-IN deny 6"],
  "not-this-owner": ["no route-map SHORTCUT-IN deny 7"],
  none: ["no route-map SHORTCUT-IN deny 1"],
};

describe("the cookbook, BIRD at A and FRR at C", () => {
  let site: ScenarioSite;

  const vtysh = (...commands: string[]): Promise<string> =>
    site.lab.node("c").must(["vtysh", ...["configure terminal", ...commands].flatMap((c) => ["-c", c])]);

  async function load(at: Spoke, recipe: string): Promise<void> {
    if (at === "a") await site.sh("a", `cp ${COOKBOOK}/${recipe}.conf ${POLICY} && birdc configure`);
    else await site.sh("c", `vtysh -f /run/lab/frr-config/cookbook/${recipe}.conf`);
  }
  async function undo(at: Spoke, recipe: string): Promise<void> {
    if (at === "a") await site.sh("a", `cp /run/lab/bird-config/policy.conf ${POLICY} && birdc configure`);
    else await vtysh(...(UNDO[recipe] ?? []));
  }

  const route = async (at: Spoke, prefix: string): Promise<string> =>
    site.sh(
      at,
      `ip ${prefix.includes(":") ? "-6 " : ""}route show exact ${prefix} | grep -v 'proto 173' || true`,
    );

  async function untilRoute(at: Spoke, prefix: string, dev: string): Promise<void> {
    await until(`${at} has ${prefix} via ${dev}`, 30_000, async () =>
      (await route(at, prefix)).includes(` dev ${dev} `),
    ).catch(async (e: unknown) => {
      const said = await Promise.all(SPOKES.map((s) => site.explain(s)));
      throw new Error(`${e instanceof Error ? e.message : e}; A and C say: ${said.join("\n")}`);
    });
  }

  /** Waits until both ends are direct, in FIB and WireGuard. */
  async function untilDirect(): Promise<void> {
    await site.untilDirect();
    for (const s of SPOKES) expect(await site.peers(s)).toHaveLength(2);
  }

  /** Waits until both ends send via the hub, and neither has a peer but the hub. */
  async function untilHub(): Promise<void> {
    for (const s of SPOKES) {
      await site.untilDev(s, OVERLAY, 30_000);
      await until(`${s} has no peer but the hub`, 30_000, async () => (await site.peers(s)).length === 1);
    }
  }

  /** `explain` at this end says why. */
  const untilExplained = (at: Spoke, pattern: RegExp): Promise<unknown> =>
    until(`${at} explains ${pattern}`, 30_000, async () => pattern.test(await site.explain(at)));

  beforeAll(async () => {
    site = await eagerSite();
    await site.sh("c", "vtysh -f /run/lab/frr-config/constants.conf");
    await site.startAll();
    await site.counted(500, 500);
    await untilDirect();
  }, 90_000);
  afterAll(() => site?.down());

  it("has the same recipes for both daemons, and this test knows them all", () => {
    const names = (daemon: string) => readdirSync(join(root, `${daemon}-config/cookbook`)).sort();
    expect(names("bird")).toEqual(names("frr"));
    expect(names("bird")).toEqual(
      Object.keys(UNDO)
        .map((n) => `${n}.conf`)
        .sort(),
    );
  });

  it("shows the marks of an offer in both daemons, by the names of the constants", async () => {
    // 500 packets of 500 bytes each second: class 1, with the next reading of the counters;
    // 10.255.0.2
    for (const c of ["(65000, 1, 1)", "(65000, 1, 20)", "(65000, 1, 31)", "(65000, 2, 184483842)"])
      await until(`${c} is on the offer`, 30_000, async () =>
        (await site.sh("a", "birdc 'show route protocol shortcut table fib4 all'")).includes(c),
      );
    const lists = await site.sh("c", "vtysh -c 'show running-config'");
    for (const v of [30, 31, 32])
      expect(lists).toMatch(new RegExp(`SHORTCUT-RATE-BELOW-10M seq \\d+ permit 65000:1:${v}\n`));
    const names = await site.sh("a", "birdc show symbols");
    for (const n of ["SHORTCUT_NAT_HOPELESS", "SHORTCUT_RATE_10G", "SHORTCUT_RTT_SLOWER", "shortcut_owner"])
      expect(names).toContain(n);
  });

  /** Site C's or A's prefix carries the tag of `tagged-by-owner`, or no longer. */
  async function tag(owner: Spoke, tagged: boolean): Promise<void> {
    if (owner === "c") {
      await vtysh("route-map SITE permit 10", "set community 65000:100 additive");
      await vtysh(
        "router bgp 65000",
        "address-family ipv4 unicast",
        "no network 10.3.0.0/24",
        tagged ? "network 10.3.0.0/24 route-map SITE" : "network 10.3.0.0/24",
      );
      return;
    }
    const plain = "export where of_this_site();";
    const marked =
      "export filter { if !of_this_site() then reject; bgp_community.add((65000, 100)); accept; };";
    const file = "/etc/bird/bird.conf";
    const node = site.lab.node("a");
    const [from, to] = tagged ? [plain, marked] : [marked, plain];
    node.writeFile(file, node.readFile(file).replaceAll(from, to));
    await site.sh("a", "birdc configure");
  }

  /**
   * wireguard-go of the direct interface stands still for 30 ms in every 40, until the function
   * returned is called.
   */
  function slowDown(at: Spoke): () => Promise<void> {
    const slow = site.lab
      .node(at)
      .spawn([
        "sh",
        "-c",
        `p=$(pgrep -x -f 'wireguard-go ${DIRECT}'); trap 'kill -CONT $p; exit' TERM; while :; do kill -STOP $p; sleep 0.03; kill -CONT $p; sleep 0.01; done`,
      ]);
    return () => slow.kill("SIGTERM");
  }

  describe.each(SPOKES)("at %s", (at) => {
    const far = SPOKE[other(at)];

    /**
     * A test of one recipe. It begins with both ends direct; a failed attempt is taken back before
     * it is repeated.
     */
    const recipe = (name: string, title: string, test: () => Promise<void>, more?: () => Promise<void>) =>
      it(`${name}: ${title}`, async () => {
        await untilDirect();
        try {
          await test();
        } catch (e) {
          await undo(at, name).catch(() => undefined);
          await more?.().catch(() => undefined);
          throw e;
        }
      });

    recipe("prefix-list", "what is on the list is direct, what is not goes via the hub", async () => {
      const others = at === "a" ? ["2001:db8:3::/64"] : ["10.1.9.0/24", "2001:db8:1::/64"];
      for (const p of others) await untilRoute(at, p, DIRECT);
      await load(at, "prefix-list");
      for (const p of others) await untilRoute(at, p, OVERLAY);
      expect(await route(at, far.lan)).toContain(` dev ${DIRECT} `);
      expect(await site.peers(at)).toHaveLength(2);
      await undo(at, "prefix-list");
      for (const p of others) await untilRoute(at, p, DIRECT);
      expect(await route(at, far.lan)).toContain(` dev ${DIRECT} `);
    });

    recipe(
      "tagged-by-owner",
      "via the hub, until the owner's site tags its prefix",
      async () => {
        await load(at, "tagged-by-owner");
        await untilHub();
        await tag(other(at), true);
        await untilRoute(at, far.lan, DIRECT);
        await untilDirect();
        await undo(at, "tagged-by-owner");
      },
      () => tag(other(at), false),
    );

    recipe("not-this-owner", "the owner of that number has no shortcut, whatever its prefixes", async () => {
      await load(at, "not-this-owner");
      await untilHub();
      await undo(at, "not-this-owner");
      await untilDirect();
    });

    recipe("none", "one of two daemons that does not agree is enough, and its owner is told", async () => {
      await load(at, "none");
      await untilHub();
      await untilExplained(other(at), /the owner's daemon: /);
      await undo(at, "none");
      await untilDirect();
    });

    it("not in a maintenance window: one command puts everything on the hub path, and one brings it back", async () => {
      await untilDirect();
      try {
        if (at === "a") await site.sh("a", "birdc disable shortcut");
        else await vtysh("router bgp 65000", "neighbor SHORTCUT shutdown");
        await untilHub();
      } finally {
        if (at === "a") await site.sh("a", "birdc enable shortcut");
        else await vtysh("router bgp 65000", "no neighbor SHORTCUT shutdown");
      }
      await untilDirect();
    });

    recipe("rate-class", "via the hub below 10 Mbit/s, direct above", async () => {
      await load(at, "rate-class");
      await untilHub();
      const bulk = await site.bulk(1_200, 1_300);
      try {
        await untilDirect();
        await untilExplained(at, /rate class [34] /);
      } finally {
        await bulk.stop();
      }
      await undo(at, "rate-class");
      await untilDirect();
    });

    recipe(
      "hub-when-faster",
      "a direct path that turns out slower is left, and not tried again",
      async () => {
        await load(at, "hub-when-faster");
        await untilDirect();
        const end = slowDown(other(at));
        try {
          await untilHub();
          await untilExplained(at, /round trip slower/);
        } finally {
          await end();
        }
        await undo(at, "hub-when-faster");
        await untilDirect();
      },
    );
  });
});
