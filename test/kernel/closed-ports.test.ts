/**
 * Firewalls that drop what shortcutd needs, and policy that refuses one prefix of several: each is named as what it is, at both ends. BIRD at A,
 * FRR at C; the firewalls are rules of nftables in the routers' namespaces.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ScenarioSite } from "../../lab/plays/scenario/site.js";
import { until } from "../../lab/runner/lab.js";
import { OVERLAY, type RouterName, SPOKE, SPOKES, type Spoke } from "../../lab/site/triangle.js";
import { eagerSite } from "./site.js";

const POLICY = "/etc/bird/shortcut/policy.conf";

describe("what is dropped is named", () => {
  let site: ScenarioSite;
  beforeAll(async () => {
    site = await eagerSite();
  }, 90_000);
  afterAll(() => site?.down());

  /** Loads a firewall of a router's own, with a rule in one hook. */
  const drop = (router: RouterName, hook: "input" | "forward", rule: string): Promise<string> =>
    site.sh(
      router,
      `nft 'add table inet mine; add chain inet mine c { type filter hook ${hook} priority 0; }; add rule inet mine c ${rule} drop'`,
    );
  const lift = (router: RouterName): Promise<string> => site.sh(router, "nft delete table inet mine");

  /** `explain`, or `status`, at this router says why. */
  const says = (router: RouterName, pattern: RegExp, ...words: string[]): Promise<unknown> =>
    until(`${router} says ${pattern}`, 60_000, async () => {
      const said = (await site.shortcutd(router).ctl(...words)).replaceAll(/[\s│]+/g, " ");
      if (!pattern.test(said)) throw new Error(said);
      return true;
    });
  const explains = (spoke: Spoke, pattern: RegExp): Promise<unknown> =>
    says(spoke, pattern, "explain", SPOKE[spoke === "a" ? "c" : "a"].hostAddress);

  it("UDP 51821 and 4244 at the hub, in the underlay", async () => {
    await drop("b", "input", "iifname eth1 udp dport { 51821, 4244 }");
    await site.start("b");
    for (const s of SPOKES) await site.start(s);
    for (const s of SPOKES) {
      await says(
        s,
        /does not answer on UDP 51821 \(direct\.port\) in the underlay: a firewall drops it/,
        "status",
      );
      await says(s, /does not answer on UDP 4244 \(direct\.observe-port\) in the underlay/, "status");
    }
    await says(
      "b",
      /10\.255\.0\.1 .* not heard .* not heard: nothing of that spoke's direct interface/,
      "status",
    );
    await lift("b");
    await site.untilRegistered();
    for (const s of SPOKES)
      await until(`${s} has nothing to say`, 60_000, async () =>
        (await site.status(s))?.hubs.every((h) => h.obstacles.length === 0),
      );
  });

  it("UDP 4243 between the spokes, at the hub", async () => {
    await drop("b", "forward", "udp dport 4243");
    await site.traffic();
    const closed =
      /does not answer, although it is registered at the hub: does the hub forward UDP control\.port/;
    for (const s of SPOKES) await explains(s, closed);
    for (const s of SPOKES) expect(await site.dev(s)).toBe(OVERLAY);
    await lift("b");
    await site.untilDirect();
  });

  it("input on the direct interface, after the handshake", async () => {
    await site.shortcutd("a").ctl("purge", "all");
    await drop("c", "input", "iifname shortcut0");
    // C's WireGuard receives what its shortcutd does not
    await explains("c", /the firewall of 10\.255\.0\.2 drops input on its direct interface/);
    await explains("a", /firewall( of 10\.255\.0\.2)? drops input on its direct interface/);
    for (const s of SPOKES) expect(await site.dev(s)).toBe(OVERLAY);
    await lift("c");
    await site.untilDirect();
  });

  it("one prefix of two by policy: it has its own row and line, and the other one is direct", async () => {
    await site.sh("a", `sed -i 's|  # 2001:db8:3::/48+,|  2001:db8:3::/48+,|' ${POLICY} && birdc configure`);
    const refused =
      /2001:db8:3::10: refused \(10\.3\.0\.0\/24 of this owner: direct\).* why: BIRD: rejected by import filter shortcut_policy/;
    await says("a", refused, "explain", "2001:db8:3::10");
    await says("a", /10\.3\.0\.10: direct for/, "explain", "10.3.0.10");
    await says("a", /2001:db8:3::\/64 not selected, overlay BIRD: rejected/, "status");
    await says(
      "a",
      /offer-refused 2001:db8:3::\/64: BIRD: rejected by import filter shortcut_policy/,
      "timeline",
    );
    await site.sh("a", `cp /run/lab/bird-config/policy.conf ${POLICY} && birdc configure`);
    await says("a", /offer-accepted 2001:db8:3::\/64/, "timeline");
  });

  it("the same at FRR", async () => {
    const policy = (line: string): Promise<string> =>
      site.sh("c", `vtysh -c 'configure terminal' -c '${line}'`);
    await policy("ipv6 prefix-list SHORTCUT-ELIGIBLE seq 5 deny 2001:db8:1::/48 le 128");
    const refused =
      /2001:db8:1::10: refused \(.*10\.1\.0\.0\/24.* of this owner: direct\).* why: FRR: rejected by route-map SHORTCUT-IN/;
    await says("c", refused, "explain", "2001:db8:1::10");
    await says("c", /10\.1\.0\.10: direct for/, "explain", "10.1.0.10");
    await says("c", /offer-refused 2001:db8:1::\/64: FRR: rejected by route-map SHORTCUT-IN/, "timeline");
    await policy("no ipv6 prefix-list SHORTCUT-ELIGIBLE seq 5");
    await says("c", /offer-accepted 2001:db8:1::\/64/, "timeline");
  });

  it("to the hub, who owns a destination and which spokes have asked", async () => {
    await says(
      "b",
      /^10\.3\.0\.10: owned owner: 10\.255\.0\.2 attested: .*10\.3\.0\.0\/24.* resolved by: 10\.255\.0\.1 \([^)]* ago\) direct: a hub is not told/,
      "explain",
      "10.3.0.10",
    );
    await says("b", /^203\.0\.113\.1: no owner why: /, "explain", "203.0.113.1");
  });
});
