/**
 * README's steps on two real routers, command by command as written: install, start, check, upgrade, remove. On A with BIRD and with
 * FRR, the hub being B. Afterwards the daemon's configuration, the router's kernel state and what neighbours hear are as before.
 */
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Lab, type Node, startLab, until } from "../../lab/runner/lab.js";
import { difference, type Snapshot, settled, snapshot } from "../../lab/site/snapshot.js";
import { NOT_RUN, RUN } from "../unit/documents/commands.js";
import { codeBlocks, commandsOf, textOf } from "../unit/documents/markdown.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));
const DAEMON = "/run/lab/lab/topologies/triangle/daemon.sh";
const CONFIG = "/etc/shortcutd/shortcutd.yaml";

/** What a router has that has installed the program: /opt/shortcutd, the two commands, and a service manager in short. */
const ROUTER = `
mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /tmp && ln -s /run/lab /opt/shortcutd && mkdir -p /run/bin
for c in shortcutd:main shortcutctl:ctl; do
  printf '#!/bin/sh\\nexec ${process.execPath} /opt/shortcutd/dist/plugin/%s.js "$@"\\n' "\${c#*:}" > "/run/bin/\${c%:*}"
done
cat > /run/bin/systemctl <<'END'
#!/bin/sh
set -e
[ -e /etc/systemd/system/shortcutd.service ]
start() {
  cd /etc/systemd/system
  setting() { cat shortcutd.service shortcutd.service.d/*.conf 2> /dev/null | sed -n "s/^$1=//p"; }
  user=$(setting User)
  capabilities=-all$(setting AmbientCapabilities | tr 'A-Z ' 'a-z\\n' | sed 's/^cap_/,+/' | tr -d '\\n')
  mkdir -p /run/wireguard && install -d -o "$user" -g "$user" /run/shortcutd
  setsid setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs --inh-caps "$capabilities" \\
    --ambient-caps "$capabilities" --bounding-set "$capabilities" \\
    sh -c 'umask 077; exec shortcutd run -c ${CONFIG}' < /dev/null >> /var/log/shortcutd.log 2>&1 &
  echo $! > /run/shortcutd.pid
}
stop() {
  read -r pid < /run/shortcutd.pid
  kill "$pid"
  while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
  rm -rf /run/shortcutd /run/shortcutd.pid
}
case $1 in
enable) start ;;
disable) stop ;;
restart) stop; start ;;
esac
END
chmod 755 /run/bin/*; mkdir -p /etc/systemd/system; rm -rf /etc/shortcutd
`;

const executed = new Set<string>();

const sh = (node: Node, script: string): Promise<string> => node.must(["sh", "-c", script]);

/** Runs the commands below a heading of README, as written. */
async function follow(node: Node, heading: string, wanted = (_: string): boolean => true): Promise<void> {
  const commands = commandsOf("README.md", heading).filter(wanted);
  expect(commands.length, heading).toBeGreaterThan(0);
  for (const command of commands.filter((c) => NOT_RUN[c] === undefined)) {
    executed.add(command);
    await sh(node, command.replace("YOUR_AS", "65000"));
  }
}

const yamlBelow = (heading: string): string => {
  const block = codeBlocks(textOf("README.md")).find(
    (b) => b.language === "yaml" && b.headings.includes(heading),
  );
  if (block === undefined) throw new Error(`no YAML below "${heading}"`);
  return `${block.lines.join("\n")}\n`;
};

/** Routes with their attributes, without the times. */
const heard = async (node: Node, protocol: string): Promise<string> =>
  (await node.must(["birdc", "show", "route", "all", "protocol", protocol])).replaceAll(
    /\d\d:\d\d:\d\d\.\d+/g,
    "",
  );

interface Before {
  readonly configuration: string;
  readonly kernel: Snapshot;
  readonly neighbours: readonly string[];
}

describe.each(["bird", "frr"] as const)("README on a router with %s", (kind) => {
  let lab: Lab;
  let a: Node;
  let b: Node;

  const configuration = async (): Promise<string> =>
    kind === "frr"
      ? a.must(["vtysh", "-c", "show running-config"])
      : (await sh(a, "birdc show protocols; birdc show symbols table; cat /etc/bird/bird.conf")).replaceAll(
          /\d\d:\d\d:\d\d\.\d+/g,
          "",
        );
  const vtysh = (...commands: string[]): Promise<string> =>
    a.must(["vtysh", ...["configure terminal", ...commands].flatMap((c) => ["-c", c])]);
  const neighbours = async (): Promise<readonly string[]> => [
    await heard(lab.node("ra"), "a"),
    await heard(b, "spoke_a"),
    await heard(b, "spoke_a6"),
  ];
  const state = async (): Promise<Before> => ({
    configuration: await configuration(),
    kernel: await snapshot(a),
    neighbours: await neighbours(),
  });
  /** The state, once it stands still and both far sites are in it. */
  const untilComplete = (): Promise<Before> =>
    settled(a, state, {
      accepts: ({ kernel, neighbours: heardAt }) => {
        const routes = kernel.join("\n");
        return (
          routes.includes("10.3.0.0/24") &&
          routes.includes("2001:db8:3::/64") &&
          heardAt[0]?.includes("10.3.0.0/24") === true &&
          heardAt[1]?.includes("10.1.9.0/24") === true &&
          heardAt[2]?.includes("2001:db8:1::/64") === true
        );
      },
    });

  /** Starts the daemon again with a configuration that has never heard of shortcutd. */
  async function withoutShortcutd(): Promise<void> {
    const shipped = textOf(`${kind}-config/examples/spoke.conf`).split("\n");
    const own =
      kind === "bird"
        ? shipped.filter((l) => !l.includes("(shortcutd)"))
        : [
            // towards the hub an outgoing route-map in IPv4, and none in IPv6
            ...shipped
              .map((l) =>
                l.replace("10.255.0.3 route-map SHORTCUT-NOT-TO-HUB", "10.255.0.3 route-map TO-HUB"),
              )
              .filter((l) => !l.includes("SHORTCUT")),
            "route-map TO-HUB permit 10",
            "exit",
          ];
    a.writeFile("/run/own.conf", `${own.join("\n")}\n`);
    const dir = `/run/${kind}`;
    await sh(
      a,
      `kill $(cat ${dir}/*.pid); while pgrep -x 'bird|bgpd|zebra|staticd' > /dev/null; do sleep 0.1; done; rm -rf ${dir}; REPO=/ sh ${DAEMON} ${kind} run/own.conf; rm -rf /etc/bird/shortcut`,
    );
  }

  beforeEach(async () => {
    lab = await startLab(topology, { env: { DAEMON_A: kind, DAEMON_B: "bird", DAEMON_C: "bird" } });
    a = lab.node("a");
    b = lab.node("b");
    for (const node of [a, b]) await sh(node, ROUTER);
    await withoutShortcutd();
  }, 90_000);
  afterEach(() => lab?.stop());

  it("installs, starts, upgrades, and leaves nothing when it is removed", async () => {
    const before = await untilComplete();

    for (const node of [a, b]) await follow(node, "1. Install it on every router");
    b.writeFile(CONFIG, yamlBelow("3. Start the hub"));
    await follow(b, "3. Start the hub");
    a.writeFile(
      CONFIG,
      yamlBelow("4. Write a spoke's configuration file").replace("daemon: bird", `daemon: ${kind}`),
    );

    if (kind === "bird") {
      a.writeFile("/etc/bird/bird.conf", textOf("bird-config/examples/spoke.conf"));
      await sh(
        a,
        "ip -ts -o monitor route > /run/routes.log 2>&1 < /dev/null & echo $! > /run/monitor.pid; sleep 0.3",
      );
      await follow(a, "5. Configure a spoke's daemon: BIRD 2 or 3");
      const gap = await until("the route is back", 5_000, async () => gapOf(a.readFile("/run/routes.log")));
      console.log(`birdc configure: 10.3.0.0/24 was not in the FIB for ${gap.toFixed(1)} ms`);
      await sh(a, "kill $(cat /run/monitor.pid)");
      expect(gap).toBeLessThan(1_000);
    } else {
      await follow(a, "6. Configure a spoke's daemon: FRR 8.4 or later");
      await vtysh("route-map TO-HUB permit 10", "call SHORTCUT-NOT-TO-HUB");
      const v6 = ["router bgp 65000", "address-family ipv6 unicast"];
      await vtysh(...v6, "neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out");
    }
    const ofOther = kind === "bird" ? /vtysh/ : /bird/;
    await follow(a, "Give the sessions a password", (c) => !ofOther.test(c));
    await follow(a, "7. Check and start the spokes");
    await until("shortcutd answers and is registered", 20_000, async () =>
      (await sh(a, "shortcutctl status || true")).includes("registered for"),
    );
    for (const node of [a, b])
      expect(await sh(node, "id -nu $(stat -c %u /proc/$(cat /run/shortcutd.pid))")).toBe("shortcutd\n");
    await follow(a, "8. Look");
    const unchanged = async (): Promise<true> => {
      const changes = difference(before.neighbours.flatMap(lines), (await neighbours()).flatMap(lines));
      if (changes.length > 0) throw new Error(changes.join("\n"));
      return true;
    };
    await until("neighbours hear what they heard", 20_000, unchanged);

    const ofUpgrade = (c: string): boolean =>
      kind === "bird" ? !c.includes("vtysh") && !c.includes("sed ") : !c.includes("bird");
    for (const command of commandsOf("README.md", "Upgrade").filter(
      (c) => NOT_RUN[c] === undefined && ofUpgrade(c),
    )) {
      executed.add(command);
      await sh(a, command.replace("YOUR_AS", "65000"));
    }
    await until("shortcutd is registered again", 20_000, async () =>
      (await sh(a, "shortcutctl status || true")).includes("registered for"),
    );

    await sh(a, commandsOf("README.md", "Remove")[0] ?? "");
    executed.add("systemctl disable --now shortcutd");
    if (kind === "bird") {
      a.writeFile("/etc/bird/bird.conf", a.readFile("/run/own.conf"));
      await follow(a, "Remove it from BIRD");
    } else {
      await vtysh("route-map TO-HUB permit 10", "no call SHORTCUT-NOT-TO-HUB");
      const v6 = ["router bgp 65000", "address-family ipv6 unicast"];
      await vtysh(...v6, "no neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out");
      await follow(a, "Remove it from FRR");
      expect(a.readFile("/etc/frr/frr.conf")).not.toMatch(/SHORTCUT/i);
    }
    await follow(a, "Remove the program");
    expect(
      await sh(a, "ls -d /etc/shortcutd /etc/iproute2/rt_protos.d/shortcutd.conf 2>&1 || true"),
    ).not.toMatch(/^\//m);
    await until("everything is as before", 30_000, async () => {
      const after = await state();
      const kernel = difference(before.kernel, after.kernel);
      if (kernel.length > 0) throw new Error(kernel.join("\n"));
      return after.configuration === before.configuration && equal(after.neighbours, before.neighbours);
    });
    const after = await state();
    expect(after.configuration).toBe(before.configuration);
    expect(after.neighbours).toEqual(before.neighbours);
  });

  it.runIf(kind === "frr")(
    "remove.conf removes what every shipped file defines, and a reference left behind silences a neighbour",
    async () => {
      const before = await untilComplete();
      const load = (file: string) => sh(a, `vtysh -f /opt/shortcutd/frr-config/${file}`);
      for (const f of ["shortcut.conf", "shortcut-ospf.conf", "shortcut-ebgp.conf", "constants.conf"])
        await load(f);
      await load("remove.conf");
      await load("remove-constants.conf");
      expect(await configuration()).toBe(before.configuration);

      const v6 = ["router bgp 65000", "address-family ipv6 unicast"];
      await vtysh(...v6, "neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out");
      await until(
        "the hub hears no IPv6 route of A",
        10_000,
        async () => !(await heard(b, "spoke_a6")).includes("2001:db8:1::/64"),
      );
      await vtysh(...v6, "no neighbor fd00:255::3 route-map SHORTCUT-NOT-TO-HUB out");
      await until("the hub hears it again", 10_000, async () =>
        (await heard(b, "spoke_a6")).includes("2001:db8:1::/64"),
      );
    },
  );
});

afterAll(() => {
  const own = Object.keys(RUN).filter((c) => RUN[c] === "test/kernel/removal.test.ts");
  expect(own.filter((c) => !executed.has(c))).toEqual([]);
});

const lines = (text: string): string[] => text.split("\n");
const equal = (x: unknown, y: unknown): boolean => JSON.stringify(x) === JSON.stringify(y);

/** Milliseconds for which the FIB had no route to 10.3.0.0/24, from `ip -ts monitor`; undefined until it is back. */
function gapOf(log: string): number | undefined {
  let gone: number | undefined;
  let gap: number | undefined;
  for (const line of log.split("\n").filter((l) => l.includes("10.3.0.0/24"))) {
    const at = Date.parse(/\[([^\]]+)\]/.exec(line)?.[1] ?? "");
    if (line.includes("Deleted")) gone = at;
    else if (gone !== undefined) gap = at - gone;
  }
  return gap;
}
