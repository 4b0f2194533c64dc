/**
 * Shows that shortcutd needs no root: as its own user, with the capabilities of the unit files and in
 * the daemons' groups, spokes on BIRD and FRR and the hub go direct, and leave nothing at their end.
 * README's steps make user, groups and passwords.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import { Site } from "../../lab/site/site.js";
import { DIRECT, type RouterName } from "../../lab/site/triangle.js";
import { commandsOf, textOf } from "../unit/documents/markdown.js";
import { programs, triangle } from "./site.js";

const ROUTERS = ["a", "b", "c"] as const;
const DAEMONS = { a: "bird", b: "bird", c: "frr" } as const;
const GROUPS = { bird: "bird", frr: "frrvty" } as const;
/** The lab's WireGuard is wireguard-go. */
const FILES = ["doc/shortcutd.service", "doc/shortcutd.service.d/wireguard-go.conf"];
const capabilities = FILES.flatMap(
  (f) => /^AmbientCapabilities=(.*)$/m.exec(textOf(f))?.[1]?.split(" ") ?? [],
);
const bits = `-all,${capabilities.map((c) => `+${c.toLowerCase().replace("cap_", "")}`).join(",")}`;
const AS_SHORTCUTD = [
  ...["setpriv", "--reuid", "shortcutd", "--regid", "shortcutd", "--init-groups", "--no-new-privs"],
  ...["--inh-caps", bits, "--ambient-caps", bits, "--bounding-set", bits],
];

let site: Site;
const steps = (heading: string, wanted: RegExp): string[] =>
  commandsOf("README.md", heading)
    .filter((c) => wanted.test(c))
    .map((c) => c.replaceAll("/opt/shortcutd", "/run/lab").replaceAll("YOUR_AS", "65000"));

beforeAll(async () => {
  site = await Site.up({
    topology: triangle,
    daemons: DAEMONS,
    programs: { ...programs, runner: AS_SHORTCUTD },
  });
  for (const router of ROUTERS) {
    const commands = [
      ...steps("1. Install it on every router", /sysusers|install -d/),
      `usermod -a -G ${GROUPS[DAEMONS[router]]} shortcutd`,
      "install -d -o shortcutd -g shortcutd /run/shortcutd",
      "chown -R shortcutd /var/lib/shortcutd",
    ];
    const password = steps(
      "Give the sessions a password",
      DAEMONS[router] === "bird" ? /^(?!.*vtysh)/ : /^(?!.*bird)/,
    );
    for (const command of router === "b" ? commands : [...commands, ...password])
      await site.sh(router, command);
  }
}, 90_000);
afterAll(() => site?.down());

/** Uid and effective capabilities of the process that holds the status socket. */
const identity = (router: RouterName): Promise<string> =>
  site.sh(
    router,
    "pid=$(pgrep -o -f 'dist/plugin/main.js run'); id -nu $(awk '/^Uid/ {print $2}' /proc/$pid/status); awk '/^CapEff/ {print $2}' /proc/$pid/status",
  );

it("goes direct as its own user, on both daemons and with a hub that does the same", async () => {
  await site.startAll();
  for (const router of ROUTERS) expect(await identity(router), router).toBe("shortcutd\n0000000000803002\n");
  await site.traffic();
  await site.untilDirect();
  for (const router of ["a", "c"] as const) expect(await site.peers(router)).toHaveLength(2);
  // The key is the user's own, and its wireguard-go has no more rights than it.
  expect(await site.sh("a", "stat -c '%U %a' /var/lib/shortcutd /var/lib/shortcutd/private.key")).toBe(
    "shortcutd 700\nshortcutd 600\n",
  );
  const go =
    "pid=$(pgrep -u shortcutd -x wireguard-go); awk '/^(CapEff|CapBnd|NoNewPrivs)/ {print $2}' /proc/$pid/status";
  expect(await site.sh("a", go)).toBe("0000000000803002\n0000000000803002\n1\n");
}, 120_000);

it("leaves nothing when it stops", async () => {
  for (const router of ["a", "c", "b"] as const) await site.end(router, "SIGTERM");
  for (const router of ROUTERS) {
    expect(site.shortcutd(router).exit?.code, router).toBe(0);
    await until(`${router} has nothing of shortcutd`, 10_000, async () => {
      const left = await site.sh(
        router,
        `ip link show ${DIRECT} 2> /dev/null; ip route show table all proto 173; ip -6 route show table all proto 173; nft list tables | grep shortcutd_wg0; true`,
      );
      if (left.trim() !== "") throw new Error(left);
      return true;
    });
  }
}, 60_000);
