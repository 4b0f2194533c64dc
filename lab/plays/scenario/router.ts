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
        if (dev === DIRECT) {
          await run.step({
            name: `${where}: 1, which shortcutd sets back`,
            ends: "direct",
            lost: 2_000,
            lasts: 4_000,
            act: set(1),
          });
          const value = await run.site.sh(s, `sysctl -n net.ipv4.conf.${dev}.rp_filter`);
          run.check(`${where} is 2 again`, value.trim() === "2", value);
          continue;
        }
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

/** Lets the kernel track connections, and drops nothing. */
const TRACKING =
  "table inet tracking { chain f { type filter hook forward priority 0; ct state new counter; }; }";
/** Stateful, and it names the overlay alone: standing flows pass on any interface, new ones via the overlay. */
const STATEFUL = `table inet fw { chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "${OVERLAY}" accept; oifname "${OVERLAY}" accept; }; }`;
/** New connections between the sites' hosts, each way and family: a service at each end, tried one after another. */
const SERVE =
  "for f in 4 6; do python3 -m http.server --bind $([ $f = 4 ] && echo 0.0.0.0 || echo ::) 808$f < /dev/null > /dev/null 2>&1 & done";
/**
 * One program for all: as many processes would starve the routers of a small machine. Prints `yes` for each that got through,
 * and closes it, since the service looks at one after another.
 */
const connect = (to4: string, to6: string, count: number): string =>
  `python3 -c "
import selectors, socket, time
waiting = selectors.DefaultSelector()
for family, to in [(socket.AF_INET, ('${to4}', 8084)), (socket.AF_INET6, ('${to6}', 8086))] * ${count}:
    s = socket.socket(family)
    s.setblocking(False)
    s.connect_ex(to)
    waiting.register(s, selectors.EVENT_WRITE)
end = time.monotonic() + 4
while waiting.get_map() and time.monotonic() < end:
    for key, _ in waiting.select(end - time.monotonic()):
        waiting.unregister(key.fileobj)
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: print('yes')
        key.fileobj.close()
"`;
const TRIES = 10;

const firewallStateful: Scenario = {
  name: "firewall-stateful",
  description:
    "a stateful forward chain that names only wg0 appears on A, then on C, while direct: standing flows pass, new ones do not; and a host that sends to a port that a policy drops",
  configuration: { a: ["timers: { backoff-max: 4 s }"], c: ["timers: { backoff-max: 4 s }"] },
  script: async (run) => {
    const { site } = run;
    const host = { a: "host-a", c: "host-c" } as const;
    const address = { a: ["10.1.0.10", "2001:db8:1::10"], c: ["10.3.0.10", "2001:db8:3::10"] } as const;
    for (const s of ["a", "c"] as const) await site.sh(host[s], SERVE);
    // connections are tracked before a firewall asks for their state: the standing flow is established by then
    for (const s of ["a", "c"] as const) await site.sh(s, `nft '${TRACKING}'`);
    const get = async (from: "a" | "c", count: number): Promise<number> => {
      const [to4, to6] = address[from === "a" ? "c" : "a"];
      return (await site.sh(host[from], connect(to4, to6, count))).split("yes").length - 1;
    };
    await run.step({
      name: "A drops UDP to port 9, and host-c sends it 7,000 datagrams",
      ends: "direct",
      within: 0,
      lost: 0,
      lasts: 4_000,
      act: async () => {
        await site.sh(
          "a",
          "nft 'table inet ports { chain f { type filter hook forward priority 0; udp dport 9 drop; }; }'",
        );
        await site.sh(
          "host-c",
          `python3 -c "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); [s.sendto(b'x',('10.1.0.10',9)) for _ in range(7000)]"`,
        );
      },
    });
    for (const s of ["a", "c"] as const)
      for (const from of ["a", "c"] as const) {
        const where = s.toUpperCase();
        await run.step({
          name: `a stateful firewall on ${where} that names only wg0`,
          ends: "direct",
          within: 0,
          lost: 0,
          lasts: 2_000,
          act: () => site.sh(s, `nft '${STATEFUL}'`),
        });
        let got = 0;
        await run.step({
          name: `new connections from ${from.toUpperCase()}`,
          ends: "hub",
          lost: 0,
          dwell: 2_000,
          act: async () => {
            got = await get(from, TRIES);
          },
        });
        run.figure(`firewall on ${where}, from ${from.toUpperCase()}`, `${got} of ${2 * TRIES} got through`);
        run.check(
          `all new connections from ${from.toUpperCase()} got through`,
          got === 2 * TRIES,
          String(got),
        );
        for (const t of ["a", "c"] as const)
          await run.becomes(`explain on ${t.toUpperCase()} names the firewall`, 10_000, async () =>
            (await site.explain(t)).replaceAll(/\s+/g, " ").includes("drops new connections"),
          );
        await run.step({
          name: `the firewall on ${where} is gone`,
          ends: "direct",
          patience: 120_000,
          lost: 0,
          act: () => site.sh(s, "nft delete table inet fw"),
        });
      }
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

/** Networks behind A that the hub does not attest: guests, who reach the other sites by A's own addresses. */
const GUESTS = [
  { family: "ip", net: "10.1.50.0/24", first: "10.1.50.", via: "10.1.0.10", to: "10.3.0.10" },
  { family: "ip6", net: "fd99:50::/64", first: "fd99:50::", via: "2001:db8:1::10", to: "2001:db8:3::10" },
] as const;
const GUEST_COUNT = 40;
const natTable = (...rules: readonly string[]): string =>
  `printf 'table inet guests\\ndelete table inet guests\\n%s\\n' 'table inet guests { ${rules.map((r) => `${r};`).join(" ")} }' | nft -f -`;
const postrouting = (...rules: readonly string[]): string =>
  `chain post { type nat hook postrouting priority 100; ${rules.join("; ")}; }`;
const guestRules = GUESTS.map((g) => `oifname "${OVERLAY}" ${g.family} saddr ${g.net} masquerade`);

type Guests = (typeof GUESTS)[number];

/** Tells how many of the guests get an answer, each to one ping of a source of its own. */
async function guestsThrough(site: ScenarioRun["site"], g: Guests): Promise<number> {
  const pings = `i=10; while [ $i -lt ${GUEST_COUNT + 10} ]; do ping -c 1 -W 5 -I ${g.first}$i ${g.to} > /dev/null && echo yes & i=$((i+1)); done; wait`;
  return (await site.sh("host-a", pings)).split("yes").length - 1;
}

async function allThrough(run: ScenarioRun): Promise<void> {
  for (const g of GUESTS)
    await run.becomes(`${GUEST_COUNT} guests of ${g.net} get through`, 15_000, async () => {
      const got = await guestsThrough(run.site, g);
      run.figure(`guests of ${g.net}`, String(got));
      return got === GUEST_COUNT;
    });
}

/** A guest's flow that begins via the hub goes on while the site's own traffic becomes direct. */
async function standingGuest(run: ScenarioRun): Promise<void> {
  const { site } = run;
  await run.step({
    name: "A refuses the shortcut",
    ends: "hub",
    lost: 0,
    act: () => site.policy("a", true),
  });
  await site.sh("host-a", "ping -q -i 0.1 -w 25 -I 10.1.50.10 10.3.0.10 > /tmp/guest.log 2>&1 &");
  await run.step({
    name: "A accepts it again",
    ends: "direct",
    patience: 60_000,
    lost: 0,
    act: () => site.policy("a", false),
  });
  const log = () => site.sh("host-a", "cat /tmp/guest.log");
  await run.becomes("the guest's flow has ended", 40_000, async () => (await log()).includes("packet loss"));
  const flow = /(\d+) packets transmitted, (\d+) received/.exec(await log());
  const [sent, received] = [Number(flow?.[1]), Number(flow?.[2])];
  run.check("the guest's flow was not cut", received >= sent - 2, `${received} of ${sent}`);
}

/** NAT rules that would translate the sites' own traffic: on which spoke, with which interfaces named. */
const NAT_OF_SITES = [
  ["a", "masquerade of every source", (dev: string) => postrouting(`oifname ${dev} masquerade`)],
  [
    "c",
    "DNAT",
    (dev: string) =>
      `chain pre { type nat hook prerouting priority -100; iifname ${dev} udp dport 9 dnat ip to 10.3.0.10; }`,
  ],
] as const;

async function natOfSites(run: ScenarioRun): Promise<void> {
  const { site } = run;
  for (const [s, what, rules] of NAT_OF_SITES) {
    const where = s.toUpperCase();
    await run.step({
      name: `${what} on ${where} that names only wg0`,
      ends: "hub",
      lost: 0,
      within: 5_000,
      dwell: 2_000,
      act: () => site.sh(s, natTable(rules(`"${OVERLAY}"`))),
    });
    for (const t of ["a", "c"] as const)
      await run.becomes(`explain on ${t.toUpperCase()} names the NAT rule`, 10_000, async () =>
        (await site.explain(t)).replaceAll(/\s+/g, " ").includes("a NAT rule of"),
      );
    await run.step({
      name: `${what} on ${where} that names both`,
      ends: "direct",
      patience: 120_000,
      lost: 0,
      act: () => site.sh(s, natTable(rules(`{ "${OVERLAY}", "${DIRECT}" }`))),
    });
  }
}

const guests: Scenario = {
  name: "guests",
  description:
    "guest networks behind A that A masquerades on the overlay alone; then NAT rules on A and C that would translate the sites' own traffic",
  configuration: { a: ["timers: { backoff-max: 4 s }"], c: ["timers: { backoff-max: 4 s }"] },
  script: async (run) => {
    const { site } = run;
    for (const { first, net, via } of GUESTS) {
      const all = Array.from({ length: GUEST_COUNT }, (_, i) => `ip address add ${first}${i + 10} dev lo`);
      await site.sh("host-a", all.join("; "));
      await site.sh("a", `ip route add ${net} via ${via}`);
    }
    await run.step({
      name: "A masquerades guests on the overlay",
      ends: "direct",
      within: 0,
      lost: 0,
      lasts: 3_000,
      act: () => site.sh("a", natTable(postrouting(...guestRules))),
    });
    await allThrough(run);
    await run.becomes("status on A names a guest", 10_000, async () =>
      ((await site.shortcutd("a").status())?.unattestedSources ?? []).some((x) =>
        x.source.startsWith("10.1.50."),
      ),
    );
    await run.step({
      name: "the policy rule and the table of A are deleted by others",
      ends: "direct",
      within: 0,
      lost: 0,
      lasts: 3_000,
      act: () => site.sh("a", "ip rule del pref 900; ip -6 rule del pref 900; ip route flush table 4243"),
    });
    await allThrough(run);
    await standingGuest(run);
    await natOfSites(run);
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
  guests,
  firewallStateful,
];
