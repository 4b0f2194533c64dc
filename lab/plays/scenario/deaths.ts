/** Deaths of shortcutd, of routing daemons, of interfaces and of the hub, while packets flow. */
import { DIRECT, OVERLAY } from "../../site/triangle.js";
import { inTurn, type Scenario, type ScenarioRun } from "./scenario.js";

const nothing = async (): Promise<void> => undefined;
const clean = { lost: 0, duplicated: 0 } as const;
/** Something that the direct path does not notice, for this many milliseconds. */
const stays = (lasts: number) => ({ ends: "direct", within: 0, lost: 0, lasts }) as const;
const both = [
  ["a", "c"],
  ["c", "a"],
] as const;

const killSpoke = inTurn("kill-spoke", "kill -9 of shortcutd on A, and a new start", (site) => [
  {
    name: "kill -9 of shortcutd on A",
    ends: "hub",
    within: 1_000,
    ...clean,
    dwell: 3_000,
    act: () => site.end("a", "SIGKILL"),
  },
  { name: "shortcutd starts on A", ends: "direct", patience: 60_000, lost: 0, act: () => site.start("a") },
]);

const killHub = inTurn(
  "kill-hub",
  "kill -9 of shortcutd on the hub: established shortcuts stay; and a new start",
  (site) => [
    {
      name: "kill -9 of shortcutd on B",
      ...stays(45_000),
      duplicated: 0,
      act: () => site.end("b", "SIGKILL"),
    },
    { name: "shortcutd starts on B", ...stays(15_000), act: () => site.start("b") },
  ],
);

const stopCont = inTurn("stop-cont", "SIGSTOP of shortcutd on A for 10 s, then SIGCONT", (site) => [
  {
    name: "SIGSTOP of shortcutd on A",
    ends: ["any", "hub"],
    ...clean,
    lasts: 10_000,
    dwell: 0,
    act: () => site.signal("a", "SIGSTOP"),
  },
  { name: "SIGCONT", ends: "direct", patience: 60_000, lost: 0, act: () => site.signal("a", "SIGCONT") },
]);

/**
 * The daemon dies, then the direct path: the FIB is frozen on it. When bgpd (or BIRD) dies the hub
 * withdraws A's site everywhere, so what C sends is not for shortcutd to save.
 */
const daemonDeath = (
  name: string,
  daemon: "bird" | "frr",
  victims: readonly ("bird" | "bgpd" | "zebra")[],
): Scenario => {
  const loses = !(victims.length === 1 && victims[0] === "zebra");
  const title = victims.join(" and ");
  return {
    name,
    description: `kill -9 of ${title} on A; the direct path is cut while it is dead; healed and restarted`,
    only: daemon,
    script: async (run) => {
      const { site } = run;
      // with A's site gone from the overlay, B and C have no route back but a clear guard, and reverse path filtering would drop what A sends
      for (const r of ["b", "c"] as const)
        for (const dev of ["all", OVERLAY, DIRECT])
          await site.sh(r, `sysctl -qw net.ipv4.conf.${dev}.rp_filter=0`);
      await run.step({
        name: `kill -9 of ${title} on A`,
        ends: loses ? ["hub", "any"] : ["any", "any"],
        within: 1_000,
        lost: 0,
        dwell: 1_000,
        act: async () => {
          for (const v of victims) await site.killDaemon("a", v);
        },
      });
      await run.step({
        name: "the direct path is cut",
        ends: loses ? ["hub", "any"] : "hub",
        within: 1_000,
        lost: loses ? 0 : 2_000,
        dwell: 3_000,
        act: () => site.cut(both),
      });
      const dev = await site.dev("a");
      run.check("A's kernel sends via wg0", dev === OVERLAY, dev);
      run.figure("override on A", await site.overrides("a"));
      await run.step({
        name: `healed, ${title} starts again`,
        ends: "direct",
        patience: 120_000,
        act: async () => {
          await site.heal();
          for (const v of [...victims].reverse()) await site.restartDaemon("a", v);
        },
      });
      await run.becomes("no override is left on A", 20_000, async () => (await site.overrides("a")) === "");
    },
  };
};

const reconfigure: Scenario = {
  name: "reconfigure",
  description: "A's daemon is reconfigured with a change that has nothing to do with shortcuts",
  script: async (run) => {
    const { site, daemons } = run;
    await run.step({
      name: "an unrelated change on A",
      ...stays(5_000),
      duplicated: 0,
      act: () =>
        daemons.a === "bird"
          ? site.sh(
              "a",
              "echo 'protocol static unrelated { ipv4; route 203.0.113.0/24 blackhole; }' >> /etc/bird/bird.conf; birdc configure",
            )
          : site.sh("a", "vtysh -c 'configure terminal' -c 'ip route 203.0.113.0/24 blackhole'"),
    });
  },
};

const interfaceDeath = (
  name: string,
  description: string,
  act: (run: ScenarioRun) => Promise<unknown>,
): Scenario => ({
  name,
  description,
  script: async (run) => {
    await run.step({
      name: description,
      ends: "hub",
      patience: 10_000,
      within: 1_000,
      lost: 2_000,
      dwell: 0,
      act: () => act(run),
    });
    await run.step({ name: "direct again", ends: "direct", patience: 90_000, act: nothing });
    await run.becomes("the direct interface is there again", 1_000, async () =>
      (await run.site.sh("a", `ip -br link show ${DIRECT}`)).includes(DIRECT),
    );
  },
});

const overlayDown: Scenario = {
  ...inTurn("overlay-down", "wg0 of A is down for 30 s, and up again", (site) => [
    {
      name: "wg0 of A goes down",
      ends: ["any", "any"],
      lasts: 30_000,
      act: () => site.sh("a", `ip link set ${OVERLAY} down`),
    },
    {
      name: "wg0 of A comes up",
      ends: "direct",
      patience: 120_000,
      // the kernel takes IPv6 addresses away when an interface goes down
      act: () =>
        site.sh(
          "a",
          `ip link set ${OVERLAY} up; ip address add fd00:255::1/64 dev ${OVERLAY} nodad; ip address add fe80::1/64 dev ${OVERLAY} nodad`,
        ),
    },
  ]),
};

const hubDeadCut = inTurn(
  "hub-dead-cut",
  "the hub carries nothing, which no daemon has missed yet, while the direct path is cut for 2 s: it is taken again at once",
  (site) => [
    {
      name: "the hub carries nothing, and the direct path is cut",
      ends: ["any", "any"],
      lasts: 2_000,
      dwell: 0,
      act: async () => {
        await site.silenceHub();
        await site.cut(both);
      },
    },
    { name: "the direct path is whole again", ends: "direct", within: 3_000, act: () => site.heal() },
  ],
);

const hubReboot: Scenario = {
  name: "hub-reboot",
  description:
    "the hub loses everything at once (shortcutd, daemon, WireGuard, nftables) and comes back: the shortcut outlives it",
  script: async (run) => {
    await run.step({
      name: "the hub reboots",
      ...stays(45_000),
      act: () => run.site.rebootHub(),
    });
    for (const s of ["a", "c"] as const)
      await run.becomes(`${s.toUpperCase()} is registered at the hub`, 60_000, async () => {
        const status = await run.site.shortcutd(s).status();
        return status?.hubs.every((h) => h.reflexive !== undefined) === true;
      });
  },
};

const keyRotation: Scenario = {
  name: "key-rotation",
  description: "A's private key is replaced: orderly stop, new key, start",
  script: async (run) => {
    const { site } = run;
    const before = await site.sh("a", `wg show ${DIRECT} public-key`);
    await run.step({
      name: "orderly stop on A",
      ends: "hub",
      lost: 0,
      act: () => site.end("a", "SIGTERM"),
    });
    await run.step({
      name: "new key, start",
      ends: "direct",
      patience: 60_000,
      lost: 0,
      act: async () => {
        await site.sh("a", "umask 077; wg genkey > /var/lib/shortcutd/private.key");
        await site.start("a");
      },
    });
    const after = await site.sh("a", `wg show ${DIRECT} public-key`);
    run.check("A's direct interface has another key", before !== after);
    const peers = await site.peers("c");
    run.check("C has only A's new key", peers.includes(after.trim()) && !peers.includes(before.trim()));
  },
};

export const deaths: readonly Scenario[] = [
  killSpoke,
  killHub,
  stopCont,
  daemonDeath("kill-bird", "bird", ["bird"]),
  daemonDeath("kill-bgpd", "frr", ["bgpd"]),
  daemonDeath("kill-zebra", "frr", ["zebra"]),
  daemonDeath("kill-frr", "frr", ["bgpd", "zebra"]),
  reconfigure,
  interfaceDeath("delete-direct", "ip link del shortcut0 on A", (s) =>
    s.site.sh("a", `ip link del ${DIRECT}`),
  ),
  interfaceDeath("kill-wireguard-go", "kill -9 of wireguard-go of shortcut0 on A", (s) =>
    s.site.killWireGuard("a", DIRECT),
  ),
  overlayDown,
  hubDeadCut,
  hubReboot,
  keyRotation,
];
