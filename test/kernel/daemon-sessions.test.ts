/**
 * Shows what a local user without privileges gets who opens the BGP sessions that BIRD and FRR keep for
 * shortcutd, while shortcutd does not: no route with a next hop outside the alias pool, in no family and
 * by no shipped configuration; with the password, and with the rule by user, no session at all.
 * test/attacks/bgp-session.ts is the attack.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Node, until } from "../../lab/runner/lab.js";
import type { NodeProcess } from "../../lab/runner/node.js";
import type { Site } from "../../lab/site/site.js";
import { settled } from "../../lab/site/snapshot.js";
import { tcpSocket } from "../../plugin/adapters/linux/tcp-socket.js";
import { address } from "../../plugin/net/address.js";
import { commandsOf, filesBelow } from "../unit/documents/markdown.js";
import { ALIAS4, ALIAS6, fib, pointAliases } from "./config-source.js";
import { siteOf } from "./site.js";

const ATTACK = "/run/lab/dist/test/attacks/bgp-session.js";
const NOBODY = "65534";
/** Prefixes of nobody, one of the other site, one of the own site, each with a next hop that the router can reach. */
const ELSEWHERE = [
  "10.66.0.0/24=192.0.2.1",
  "10.3.0.0/24=10.1.8.2",
  "10.3.0.0/25=10.255.0.2",
  "10.1.0.10/32=10.1.8.2",
  "0.0.0.0/1=192.0.2.1",
  "2001:db8:66::/48=2001:db8:1::10",
  "2001:db8:3::/64=2001:db8:1::10",
  "2001:db8:3::/65=fd00:255::3",
];
/** FRR's peer groups. */
const GROUPS = ["SHORTCUT", "SHORTCUT-FEED"];
const ALIASED = [`10.66.0.0/24=${ALIAS4}`, `2001:db8:66::/48=${ALIAS6}`];

/** Whether the kernel knows TCP-MD5 (CONFIG_TCP_MD5SIG); without it the password is not tried. */
function hasMd5(): boolean {
  try {
    tcpSocket(address("127.0.0.1"), { vrf: undefined, password: "x" }).destroy();
    return true;
  } catch (e) {
    console.warn(`the password is not tried: ${e instanceof Error ? e.message : e}`);
    return false;
  }
}
const HAS_MD5 = hasMd5();

/** README's commands below a heading. */
const steps = (heading: string, wanted: RegExp): string[] =>
  commandsOf("README.md", heading)
    .filter((c) => wanted.test(c))
    .map((c) => c.replaceAll("/opt/shortcutd", "/run/lab").replaceAll("YOUR_AS", "65000"));

const sh = (node: Node, script: string): Promise<string> => node.must(["sh", "-c", script]);

/** The attack as it runs: what it has said, and how it ended. */
class Attack {
  readonly said: string[] = [];
  ended = false;
  private readonly process: NodeProcess;

  constructor(
    node: Node,
    target: string,
    routes: readonly string[],
    more: {
      readonly source?: string;
      readonly password?: string;
      readonly uid?: string;
      readonly as?: string;
    } = {},
  ) {
    const { source = "127.0.0.2", password = "-", uid = NOBODY, as = "65000" } = more;
    this.process = node.spawn([process.execPath, ATTACK, uid, source, target, as, password, ...routes], {
      onLine: (line) => this.said.push(line),
    });
    void this.process.exited.then(() => {
      this.ended = true;
    });
  }

  async established(): Promise<void> {
    await until("the attack has a session", 30_000, () => {
      if (this.ended) throw new Error(`it ended: ${this.said.join("; ")}`);
      return this.said.includes("established");
    });
  }

  /** Ends by itself, without a session. */
  async refused(): Promise<void> {
    await until("the attack gives up", 120_000, () => this.ended);
    expect(this.said).toEqual([expect.stringMatching(/^refused: /)]);
  }

  async end(): Promise<void> {
    await this.process.kill("SIGKILL");
    await until("the attack has ended", 10_000, () => this.ended);
  }
}

describe.each([
  { daemon: "bird", target: "127.0.0.1" },
  { daemon: "frr", target: "10.255.0.1" },
] as const)("the sessions of $daemon", ({ daemon, target }) => {
  let site: Site;
  let a: Node;
  beforeAll(async () => {
    site = await siteOf(daemon, "bird", "bird");
    a = site.lab.node("a");
    // Aliases as a shortcutd that was killed leaves them, or as its fallback has them.
    await pointAliases(a, "wg0", daemon === "bird" ? "4242" : "main");
  }, 90_000);
  afterAll(() => site?.down());

  const installUser = async (): Promise<void> => {
    for (const command of steps("1. Install it on every router", /sysusers|install -d/)) await sh(a, command);
  };
  const vtysh = (...lines: string[]): Promise<string> =>
    a.must(["vtysh", ...["configure terminal", ...lines].flatMap((l) => ["-c", l])]);
  async function askForTtlSecurity(): Promise<void> {
    if (daemon === "bird")
      await sh(
        a,
        "sed -i 's/^  multihop;/  multihop 1; ttl security on;/' /etc/bird/shortcut/shortcut.conf && birdc configure",
      );
    else await vtysh("router bgp 65000", ...GROUPS.map((group) => `neighbor ${group} ttl-security hops 1`));
  }
  /** The daemon's routes in the kernel. */
  const routes = async (): Promise<string> =>
    sh(a, "ip route show table main; ip -6 route show table main | grep -v 'fe80::/64'");
  const heard = async (): Promise<string> => {
    let all = "";
    for (const [node, protocol] of [
      ["ra", "a"],
      ["b", "spoke_a"],
      ["b", "spoke_a6"],
    ] as const)
      all += await site.lab.node(node).must(["birdc", "show", "route", "all", "protocol", protocol]);
    return all.replaceAll(/\d\d:\d\d:\d\d\.\d+/g, "");
  };
  /** How many routes the daemon has refused, of both families. */
  const refusedRoutes = async (): Promise<number> => {
    if (daemon === "bird") {
      const text = await sh(
        a,
        "for t in fib4 fib6; do birdc show route filtered table $t protocol shortcut; done",
      );
      return text.match(/\[shortcut /g)?.length ?? 0;
    }
    let count = 0;
    for (const family of ["ipv4", "ipv6"]) {
      const text = await a.must([
        "vtysh",
        "-c",
        `show bgp ${family} unicast neighbors 127.0.0.2 filtered-routes json`,
      ]);
      count += Object.keys((JSON.parse(text) as { receivedRoutes?: object }).receivedRoutes ?? {}).length;
    }
    return count;
  };

  /** The policies and parts that an operator may load, and the commands that do it. */
  const variants: readonly (readonly [string, string])[] =
    daemon === "bird"
      ? filesBelow("bird-config/cookbook", ".conf").map((file) => [
          file,
          `cp /run/lab/${file} /etc/bird/shortcut/policy.conf && birdc configure`,
        ])
      : ["constants.conf", "shortcut-ospf.conf"].map((file) => [
          file,
          `vtysh -f /run/lab/frr-config/${file}`,
        ]);

  /** An attacker who has a session leads nothing elsewhere. */
  async function leadsNothing(what: string, before: string, as: string, password?: string): Promise<void> {
    const attack = new Attack(a, target, ELSEWHERE, password === undefined ? { as } : { as, password });
    try {
      await attack.established();
      await until(`${what}: every route is refused`, 20_000, async () => {
        const count = await refusedRoutes();
        if (count !== ELSEWHERE.length) throw new Error(`${count} of ${ELSEWHERE.length}`);
        return true;
      });
      expect(await state(), what).toBe(before);
    } finally {
      await attack.end();
    }
  }
  const state = async (): Promise<string> => `${await routes()}${await heard()}`;
  const complete = (): Promise<string> =>
    settled(a, state, { accepts: (text) => text.match(/^10\.3\.0\.0\/24/gm)?.length === 2 });

  it("take no offer whose next hop is not an alias, so that nothing is led elsewhere and no neighbour hears of it", async () => {
    const before = await complete();
    for (const [what, load] of [["as shipped", "true"], ...variants] as const) {
      await sh(a, load);
      await leadsNothing(what, before, "65000");
    }
  }, 240_000);

  it("take offers with an alias, which lead to the hub at most: the test can tell", async () => {
    if (daemon === "bird")
      await sh(a, "cp /run/lab/bird-config/policy.conf /etc/bird/shortcut/ && birdc configure");
    const attack = new Attack(a, target, ALIASED);
    await attack.established();
    for (const p of ["10.66.0.0/24", "2001:db8:66::/48"])
      await until(`${p} is in the FIB via the overlay`, 20_000, async () =>
        (await fib(a, p)).includes("dev wg0"),
      );
    await attack.end();
    await until("both have gone", 20_000, async () => !/10\.66\.|db8:66:/.test(await routes()));
  }, 120_000);

  it("cannot be opened by another user where the rule of nftables stands", async () => {
    await installUser();
    for (const command of steps("Give the sessions a password", /sessions\.nft/)) await sh(a, command);
    await Promise.all(
      ["127.0.0.2", "127.0.0.3"].map((source) => new Attack(a, target, ALIASED, { source }).refused()),
    );
    const uid = (await a.must(["id", "-u", "shortcutd"])).trim();
    const allowed = new Attack(a, target, [], { uid });
    await allowed.established();
    await allowed.end();
    await sh(a, commandsOf("README.md", "Remove the program").find((c) => c.startsWith("nft ")) ?? "false");
  }, 120_000);

  it.runIf(HAS_MD5)(
    "cannot be opened without the password, and shortcutd opens both with it",
    async () => {
      const ofThisDaemon = daemon === "bird" ? /^(?!.*(vtysh|sessions\.nft))/ : /^(?!.*(bird|sessions\.nft))/;
      for (const command of steps("Give the sessions a password", ofThisDaemon)) await sh(a, command);
      // shortcutd runs as root in this lab
      await sh(a, "chown root /var/lib/shortcutd /var/lib/shortcutd/bgp-password");
      const password = a.readFile("/var/lib/shortcutd/bgp-password").trim();
      expect(password).toMatch(/^\S{32}$/);
      const tries = [{}, { source: "127.0.0.3" }, { password: "guess" }];
      await Promise.all(tries.map((more) => new Attack(a, target, ALIASED, more).refused()));
      await site.start("b");
      // An operator may ask for TTL security (RFC 5082) as well: shortcutd sends with TTL 255.
      await askForTtlSecurity();
      await site.start("a");
      await until(
        "shortcutd has both sessions",
        30_000,
        async () => (await site.status("a"))?.daemon?.session === "sessions established",
      );
      await site.end("a", "SIGTERM");
      const known = new Attack(a, target, [], { password });
      await known.established();
      await known.end();
      if (daemon === "bird") return;
      // with the password too, and under an eBGP hub session
      const before = await complete();
      await vtysh("router bgp 65000", "no neighbor SHORTCUT ttl-security hops 1");
      await sh(a, "vtysh -f /run/lab/frr-config/shortcut-ebgp.conf");
      await leadsNothing("shortcut-ebgp.conf", before, "64999", password);
    },
    360_000,
  );
});
