/**
 * Settings of a router's own kernel that are in the way of a shortcut: firewalls that name only the
 * overlay, strict rp_filter.
 */
import { DIRECT, OVERLAY, type Spoke } from "../../site/triangle.js";
import type { Scenario, ScenarioRun } from "./scenario.js";

/** The triangle's underlay: the hub, and the router before C. */
const HUB_UNDERLAY = "192.0.2.66";
const GATEWAY_C = "192.0.2.129";

const NFT = `table inet fw { chain forward { type filter hook forward priority 0; policy drop; iifname "${OVERLAY}" accept; oifname "${OVERLAY}" accept; }; }`;
const IPTABLES = `iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i ${OVERLAY} -j ACCEPT; iptables-nft -A FORWARD -o ${OVERLAY} -j ACCEPT`;

const firewalled = async (
  run: ScenarioRun,
  spoke: Spoke,
  up: string,
  down: string,
  kind: string,
): Promise<void> => {
  const { site } = run;
  const name = spoke.toUpperCase();
  await run.step({
    name: `${kind} on ${name} that names only wg0`,
    ends: "hub",
    within: 1_000,
    lost: 2_000,
    dwell: 5_000,
    act: () => site.sh(spoke, up),
  });
  for (const s of ["a", "c"] as const)
    await run.becomes(`explain on ${s.toUpperCase()} names the firewall`, 10_000, async () =>
      (await site.explain(s)).includes("firewall"),
    );
  await run.step({
    name: `${kind} on ${name} is gone`,
    ends: "direct",
    patience: 120_000,
    lost: 0,
    act: () => site.sh(spoke, down),
  });
};

const firewall: Scenario = {
  name: "firewall",
  description: "a forward chain (nftables) that names only wg0 appears on A, then on C",
  script: async (run) => {
    for (const s of ["a", "c"] as const)
      await firewalled(run, s, `nft '${NFT}'`, "nft delete table inet fw", "nftables");
  },
};

/** As a firewall's reload does it: everything is flushed first, other programs' tables too. */
const reload = (rules: string): string => `printf 'flush ruleset\\n%s\\n' '${rules}' | nft -f -`;

const firewallReload: Scenario = {
  name: "firewall-reload",
  description:
    "while direct, a firewall is reloaded from a file that begins with `flush ruleset`: without rules, with rules that name only wg0, and with rules that name both",
  script: async (run) => {
    const both = NFT.replaceAll(`"${OVERLAY}"`, `{ "${OVERLAY}", "${DIRECT}" }`);
    for (const s of ["a", "c", "b"] as const) {
      const name = s.toUpperCase();
      const before = await run.site.ownTables(s);
      await run.step({
        name: `reload on ${name} without rules`,
        ends: "direct",
        within: 0,
        lost: 0,
        lasts: 3_000,
        act: () => run.site.sh(s, "nft flush ruleset"),
      });
      run.check(`our tables on ${name} are as before`, (await run.site.ownTables(s)) === before);
      if (s === "b") continue;
      await firewalled(run, s, reload(NFT), reload(both), "a reload");
    }
  },
};

const firewallIptables: Scenario = {
  name: "firewall-iptables",
  description: "iptables-nft with FORWARD DROP and rules that name only wg0 on A",
  script: async (run) => {
    const there = await run.site.sh("a", "command -v iptables-nft || true");
    run.check("iptables-nft is installed (apt-get install iptables)", there !== "");
    if (there === "") return;
    await firewalled(
      run,
      "a",
      IPTABLES,
      "iptables-nft -P FORWARD ACCEPT; iptables-nft -F FORWARD",
      "iptables",
    );
  },
};

const firewallCold: Scenario = {
  name: "firewall-cold",
  description:
    "the forward chain on C names only wg0 before there is a shortcut: what one try costs, and what explain says",
  cold: true,
  script: async (run) => {
    await run.step({
      name: "nftables on C that names only wg0",
      ends: "hub",
      lost: 2_000,
      lasts: 20_000,
      act: () => run.site.sh("c", `nft '${NFT}'`),
    });
    await run.becomes("explain on A names the firewall", 10_000, async () =>
      (await run.site.explain("a")).includes("firewall"),
    );
    run.figure("explain on A", (await run.site.explain("a")).replaceAll(/\s+/g, " "));
    await run.step({
      name: "nftables on C is gone",
      ends: "direct",
      patience: 120_000,
      lost: 0,
      act: () => run.site.sh("c", "nft delete table inet fw"),
    });
  },
};

const rpFilter: Scenario = {
  name: "rp-filter",
  description: "rp_filter 0, 2 and 1 on either interface of either spoke, while direct",
  configuration: { a: ["timers: { backoff-max: 2 s }"], c: ["timers: { backoff-max: 2 s }"] },
  script: async (run) => {
    for (const s of ["a", "c"] as const)
      for (const dev of [OVERLAY, DIRECT]) {
        const set = (value: number) => () =>
          run.site.sh(s, `sysctl -qw net.ipv4.conf.${dev}.rp_filter=${value}`);
        const where = `rp_filter of ${dev} on ${s.toUpperCase()}`;
        for (const value of [0, 2])
          await run.step({
            name: `${where}: ${value}`,
            ends: "direct",
            within: 0,
            lost: 0,
            lasts: 4_000,
            act: set(value),
          });
        await run.step({ name: `${where}: 1`, ends: "hub", lost: 2_000, dwell: 3_000, act: set(1) });
        await run.becomes(`explain on ${s.toUpperCase()} names rp_filter`, 10_000, async () =>
          (await run.site.explain(s)).includes("rp_filter"),
        );
        await run.step({
          name: `${where}: 2 again`,
          ends: "direct",
          patience: 90_000,
          lost: 0,
          act: set(2),
        });
      }
  },
};

/**
 * Inside what the hub takes from A (its AllowedIPs), and routed by nobody: as a LAN is that was
 * added behind A a minute ago.
 */
const UNATTESTED = "2001:db8:1:77::10";
const COUNT_UNATTESTED = `table inet unattested { counter got { }; chain c { type filter hook prerouting priority -300; ip6 saddr ${UNATTESTED} counter name got; }; }`;

const unattestedSources: Scenario = {
  name: "unattested-sources",
  description:
    "packets from a source behind A that the hub does not attest: the hub carries them, and status names them",
  script: async (run) => {
    const { site } = run;
    const got = async () =>
      Number(/packets (\d+)/.exec(await site.sh("host-c", "nft list counter inet unattested got"))?.[1]);
    await site.sh("host-c", `nft '${COUNT_UNATTESTED}'`);
    await site.sh("host-a", `ip address add ${UNATTESTED}/128 dev lo`);
    await run.step({
      name: "200 packets from a new LAN",
      ends: "direct",
      within: 0,
      lost: 0,
      duplicated: 0,
      act: () => site.sh("host-a", `ping -q -I ${UNATTESTED} -c 200 -i 0.002 -W 1 2001:db8:3::10 || true`),
    });
    await run.becomes("all 200 arrived at host-c", 5_000, async () => (await got()) === 200);
    await run.becomes("status on A names the source", 10_000, async () =>
      ((await site.shortcutd("a").status())?.unattestedSources ?? []).some(
        (x) => x.source === UNATTESTED && x.packets === 200,
      ),
    );
  },
};

/** The mark that wg-quick uses: what bears it takes the main table, everything else the tunnel. */
const MARK = "0xca6c";
/** The rules come last and go first: without the mark, the overlay's own packets would enter the overlay. */
const FULL_TUNNEL = {
  up: [
    `wg set ${OVERLAY} fwmark ${MARK}`,
    `ip route add default dev ${OVERLAY} table 51820`,
    "ip rule add pref 32764 table main suppress_prefixlength 0",
    `ip rule add pref 32765 not fwmark ${MARK} table 51820`,
  ].join("; "),
  down: [
    "ip rule del pref 32765",
    "ip rule del pref 32764",
    `ip route del default dev ${OVERLAY} table 51820`,
    `wg set ${OVERLAY} fwmark 0`,
  ].join("; "),
};

/** The same in the main table: only the hub's address keeps its way by the underlay. */
const defaultInto = (gateway: string): string =>
  `ip route add ${HUB_UNDERLAY} via ${gateway}; ip route replace default dev ${OVERLAY}`;
const defaultBack = (gateway: string): string =>
  `ip route replace default via ${gateway}; ip route del ${HUB_UNDERLAY}`;

const fullTunnels: Scenario = {
  name: "full-tunnel",
  description:
    "the default route of A leads into the overlay, excepting the mark of its direct interface; that of C without such a mark, by policy rules and in the main table",
  configuration: { a: [`direct: { fwmark: ${MARK} }`] },
  script: async (run) => {
    const { site } = run;
    await run.step({
      name: "policy rules on A, which sets direct.fwmark",
      ends: "direct",
      // wireguard-go opens its socket again for a mark
      lost: 200,
      lasts: 4_000,
      act: () => site.sh("a", FULL_TUNNEL.up),
    });
    for (const [what, up, down] of [
      ["policy rules", FULL_TUNNEL.up, FULL_TUNNEL.down],
      ["a default route in the main table", defaultInto(GATEWAY_C), defaultBack(GATEWAY_C)],
    ] as const) {
      await run.step({
        name: `${what} on C`,
        ends: "hub",
        within: 2_000,
        lost: 400,
        dwell: 4_000,
        act: () => site.sh("c", up),
      });
      for (const s of ["a", "c"] as const)
        await run.becomes(
          `explain on ${s.toUpperCase()} says that it is reached via the overlay`,
          10_000,
          async () => (await site.explain(s)).replaceAll(/\s+/g, " ").includes("is reached via the overlay"),
        );
      await run.step({
        name: `${what} on C: gone`,
        ends: "direct",
        patience: 120_000,
        lost: 200,
        act: () => site.sh("c", down),
      });
    }
  },
};

export const router: readonly Scenario[] = [
  unattestedSources,
  firewall,
  firewallReload,
  firewallIptables,
  firewallCold,
  rpFilter,
  fullTunnels,
];
