/**
 * Shows what the client finds missing in BIRD's configuration and how it explains BIRD's decisions,
 * on a real BIRD.
 */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { type Node, until } from "../../lab/runner/lab.js";
import { birdClient } from "../../plugin/adapters/daemons/bird.js";
import { address, prefix } from "../../plugin/net/address.js";
import { type ClientBench, type ClientCase, describeClient, type Flaw } from "./client-suite.js";
import { ALIAS4, ALIAS6, FAR4, FAR6, fib, pointAliases } from "./config-source.js";

const shipped = (name: string): string =>
  readFileSync(new URL(`../../bird-config/${name}`, import.meta.url), "utf8");
const MAIN = "/etc/bird/bird.conf";
const SHORTCUT = "/etc/bird/shortcut/shortcut.conf";
const POLICY = "/etc/bird/shortcut/policy.conf";
const DEFINES = "/etc/bird/shortcut/shortcut-defines.conf";
const FILES = {
  [MAIN]: shipped("examples/spoke.conf"),
  [SHORTCUT]: shipped("shortcut.conf"),
  [POLICY]: shipped("policy.conf"),
  [DEFINES]: shipped("shortcut-defines.conf"),
};
const SELECTED = "BIRD: selected, preference 210";
const START =
  "bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid < /dev/null > /dev/null 2>&1";

/** Replacements in one of the files, and in another one. */
interface Edit {
  readonly file: keyof typeof FILES;
  readonly edits: readonly (readonly [string | RegExp, string])[];
  readonly also?: Edit;
}

async function reconfigure({ node }: ClientBench): Promise<void> {
  expect(await node.must(["birdc", "configure"])).toMatch(/Reconfigured|Reconfiguration in progress/);
  await until("BIRD has reconfigured", 10_000, async () =>
    (await node.must(["birdc", "show", "status"])).includes("Daemon is up and running"),
  );
}

async function configure(
  bench: ClientBench,
  file: Edit["file"],
  edits: Edit["edits"],
  also?: Edit,
): Promise<void> {
  if (also !== undefined) write(bench, also.file, also.edits);
  write(bench, file, edits);
  await reconfigure(bench);
}

function write(bench: ClientBench, file: Edit["file"], edits: Edit["edits"]): void {
  let text: string = FILES[file];
  for (const [from, to] of edits) {
    const edited = text.replace(from, to);
    expect(edited, `${String(from)} is in ${file}`).not.toBe(text);
    text = edited;
  }
  bench.node.writeFile(file, text);
}

async function restore(bench: ClientBench): Promise<void> {
  for (const [file, text] of Object.entries(FILES)) bench.node.writeFile(file, text);
  await reconfigure(bench);
}

const sessionsUp = ({ node }: ClientBench): Promise<unknown> =>
  until("both sessions are established", 20_000, async () => {
    const text = await node.must(["birdc", "show", "protocols"]);
    return text.match(/^shortcut(_feed)? .*Established/gm)?.length === 2;
  });

/** Makes the changes, asks, and restores all files. */
const changed =
  (
    ask: (
      bench: ClientBench,
      edit: (file: Edit["file"], edits: Edit["edits"]) => Promise<void>,
    ) => Promise<void>,
  ) =>
  async (bench: ClientBench): Promise<void> => {
    try {
      await ask(bench, (file, edits) => configure(bench, file, edits));
    } finally {
      await restore(bench);
    }
  };

const flaws: readonly Flaw<Edit>[] = [
  {
    what: "the operator's kernel protocol on master4",
    change: { file: MAIN, edits: [[/ {4}table fib4; .*\n/, ""]] },
    problem: /kernel protocol kernel1 is still attached to master4/,
    remedy: /bird\.conf, protocol kernel kernel1: `ipv4 \{ table fib4;/,
  },
  {
    what: "the same for IPv6",
    change: { file: MAIN, edits: [[/ {4}table fib6; .*\n/, ""]] },
    severity: "warning",
    problem: /kernel protocol kernel2 is still attached to master6/,
    remedy: /table fib6;/,
  },
  {
    what: "no kernel protocol at all",
    change: { file: MAIN, edits: [[/protocol kernel \{\n {2}ipv4 \{[^}]*\};\n\}\n/, ""]] },
    problem: /no kernel protocol takes routes from fib4/,
    remedy: /protocol kernel \{ ipv4 \{ table fib4;/,
  },
  {
    what: "a kernel protocol that exports nothing",
    change: { file: MAIN, edits: [["export where source != RTS_DEVICE;                   #", "#"]] },
    problem: /kernel protocol kernel1 exports nothing from fib4/,
    remedy: /export where source/,
  },
  {
    what: "no pipe to fib4",
    change: { file: SHORTCUT, edits: [[/^protocol pipe fib_pipe4 .*$/m, ""]] },
    problem: /protocol fib_pipe4 is missing/,
    remedy:
      /protocol pipe fib_pipe4 \{ table master4; peer table fib4; import none; export filter shortcut_to_kernel; \}/,
  },
  {
    what: "a pipe that also leads back",
    change: {
      file: SHORTCUT,
      edits: [
        ["peer table fib4; import none;", "peer table fib4; import all;"],
        [
          /^protocol pipe fib_pipe4 (.*)export filter shortcut_to_kernel;/m,
          'protocol pipe fib_pipe4 $1export where proto = "hub";',
        ],
      ],
    },
    problem: /fib_pipe4 also carries routes back from fib4 into master4 \(import filter ACCEPT\)/,
    remedy: /import none;/,
  },
  {
    what: "a kernel protocol that may learn, without the way back",
    change: {
      file: SHORTCUT,
      edits: [[/^protocol pipe shortcut_learned4 .*$/m, ""]],
      also: { file: MAIN, edits: [["    import none;\n    export", "    import all;\n    export"]] },
    },
    severity: "warning",
    problem: /kernel protocol kernel1 imports into fib4, and no pipe shortcut_learned4 takes what it learns/,
    remedy: /protocol pipe shortcut_learned4 \{ table fib4; peer table master4;/,
  },
  {
    what: "a kernel protocol that has learned, without the way back",
    change: {
      file: SHORTCUT,
      edits: [[/^protocol pipe shortcut_learned4 .*$/m, ""]],
      also: {
        file: MAIN,
        edits: [
          ["protocol kernel {\n  ipv4 {\n", "protocol kernel {\n  learn;\n  ipv4 {\n    preference 5;\n"],
          ["    import none;\n    export", "    import all;\n    export"],
        ],
      },
    },
    problem:
      /kernel protocol kernel1 has learned \d+ routes into fib4, and no pipe shortcut_learned4 takes them/,
    remedy: /load the shortcut\.conf of this version/,
  },
  {
    what: "the same for IPv6, which has learned nothing",
    change: {
      file: SHORTCUT,
      edits: [[/^protocol pipe shortcut_learned6 .*$/m, ""]],
      also: {
        file: MAIN,
        edits: [[/(table fib6; .*\n {4})import none;/, "$1import all;"]],
      },
    },
    severity: "warning",
    problem: /kernel protocol kernel2 imports into fib6, and no pipe shortcut_learned6 takes what it learns/,
    remedy: /shortcut_learned6/,
  },
  {
    what: "a pattern of what is underneath that matches nothing",
    change: { file: DEFINES, edits: [['SHORTCUT_UNDERNEATH = "hub*"', 'SHORTCUT_UNDERNEATH = "rr*"']] },
    problem: /SHORTCUT_UNDERNEATH "rr\*" matches no protocol that has routes: shortcutd is fed none/,
    remedy: /here: hub \(10\.255\.0\.3\), hub6 \(fd00:255::3\)/,
  },
  {
    what: "a pattern of what is underneath that misses the IPv6 session",
    change: { file: DEFINES, edits: [['SHORTCUT_UNDERNEATH = "hub*"', 'SHORTCUT_UNDERNEATH = "hub"']] },
    severity: "warning",
    problem: /SHORTCUT_UNDERNEATH "hub" does not match hub6 \(fd00:255::3\)/,
    remedy: /a pattern that matches these names too/,
  },
  {
    what: "another AS in the mark of offers",
    change: {
      file: DEFINES,
      edits: [["SHORTCUT_OFFER = (SHORTCUT_AS, 1, 1)", "SHORTCUT_OFFER = (65001, 1, 1)"]],
    },
    problem: /SHORTCUT_OFFER is \(65001, 1, 1\), and offers carry \(65000, 1, 1\): the policy refuses/,
    remedy: /define SHORTCUT_OFFER = \(SHORTCUT_AS, 1, 1\);/,
  },
  {
    what: "a direct protocol of every interface",
    change: { file: MAIN, edits: [['interface "eth2", "eth3";', 'interface "*";']] },
    problem:
      /protocol direct1 takes the addresses of shortcut0: the router's overlay address would be announced/,
    remedy: /interface "-shortcut0", "\*";/,
  },
  {
    what: "no pipe to the blackboard",
    change: { file: SHORTCUT, edits: [[/^protocol pipe shortcut_pipe4 .*$/m, ""]] },
    problem: /protocol shortcut_pipe4 is missing/,
    remedy: /export where proto = "shortcut"/,
  },
  {
    what: "a pipe that puts everything on the blackboard",
    change: {
      file: SHORTCUT,
      edits: [
        [
          'peer table shortcut4; import none; export where proto = "shortcut";',
          "peer table shortcut4; import none; export all;",
        ],
      ],
    },
    problem: /shortcut_pipe4 exports everything/,
    remedy: /export where proto = "shortcut";/,
  },
  {
    what: "no kernel protocol of the blackboard",
    change: { file: SHORTCUT, edits: [[/^protocol kernel shortcut_k4 \{[\s\S]*?\n\}\n/m, ""]] },
    problem: /protocol shortcut_k4 is missing/,
    remedy: /protocol kernel shortcut_k4 \{ kernel table SHORTCUT_TABLE; learn;/,
  },
  {
    what: "a blackboard that shows nothing",
    change: {
      file: SHORTCUT,
      edits: [
        [
          "ipv4 { table shortcut4; import all; export where source = RTS_BGP; };",
          "ipv4 { table shortcut4; import all; };",
        ],
      ],
    },
    problem: /shortcut_k4 exports nothing/,
    remedy: /export where source = RTS_BGP;/,
  },
  {
    what: "no offers session",
    change: { file: SHORTCUT, edits: [[/^protocol bgp shortcut \{[\s\S]*?\n\}\n/m, ""]] },
    problem: /protocol shortcut is missing/,
    remedy: /protocol bgp shortcut \{ local as 65000; neighbor 127\.0\.0\.2 as 65000; passive; multihop;/,
  },
  {
    what: "no feed session",
    change: { file: SHORTCUT, edits: [[/^protocol bgp shortcut_feed \{[\s\S]*?\n\}\n/m, ""]] },
    problem: /protocol shortcut_feed is missing/,
    remedy: /neighbor 127\.0\.0\.3 as 65000/,
  },
  {
    what: "another neighbour address",
    change: { file: SHORTCUT, edits: [["neighbor 127.0.0.2 as", "neighbor 127.0.0.9 as"]] },
    problem: /protocol shortcut expects its neighbour at 127\.0\.0\.9; shortcutd dials from 127\.0\.0\.2/,
    remedy: /neighbor 127\.0\.0\.2 as SHORTCUT_AS;/,
  },
  {
    what: "another AS",
    change: { file: SHORTCUT, edits: [["neighbor 127.0.0.2 as SHORTCUT_AS", "neighbor 127.0.0.2 as 65001"]] },
    problem: /protocol shortcut has neighbor as 65001; shortcutd's configuration says AS 65000/,
    remedy: /define SHORTCUT_AS = 65000;/,
  },
  {
    what: "a feed without route reflection",
    change: { file: SHORTCUT, edits: [[/ {2}rr client;.*\n/, ""]] },
    problem: /shortcut_feed does not treat shortcutd as a route reflector client/,
    remedy: /rr client;/,
  },
  {
    what: "a feed of nothing",
    change: {
      file: SHORTCUT,
      edits: [
        [
          "ipv4 { table master4; import none; export filter shortcut_underneath; };",
          "ipv4 { table master4; import none; export none; };",
        ],
      ],
    },
    problem: /shortcut_feed sends no ipv4 route/,
    remedy: /export filter shortcut_underneath;/,
  },
  {
    what: "offers that enter the main table",
    change: { file: SHORTCUT, edits: [["    table fib4;                        #", "    table master4; #"]] },
    problem: /offers enter table master4, not fib4: neighbours would receive them/,
    remedy: /table fib4;/,
  },
  {
    what: "no import",
    change: {
      file: SHORTCUT,
      edits: [["    table fib6;\n    import filter shortcut_policy;", "    table fib6;\n    import none;"]],
    },
    severity: "warning",
    problem: /protocol shortcut imports no ipv6 offer/,
    remedy: /import filter shortcut_policy;/,
  },
  {
    what: "an import without policy",
    change: { file: SHORTCUT, edits: [["import filter shortcut_policy;     #", "import all; #"]] },
    severity: "warning",
    problem: /imports every ipv4 offer as it is/,
    remedy: /import filter shortcut_policy;/,
  },
  {
    what: "an offers session that exports",
    change: {
      file: SHORTCUT,
      edits: [[/ {4}import keep filtered; .*\n {4}export none;/, "    export all;"]],
    },
    problem: /also sends ipv4 routes on the offers session \(export filter ACCEPT\)/,
    remedy: /export none;/,
  },
  {
    what: "aliases that are looked up elsewhere",
    change: { file: SHORTCUT, edits: [["    igp table shortcut4;", "    igp table master4;"]] },
    problem: /looked up in master4, not in shortcut4/,
    remedy: /gateway recursive; igp table shortcut4;/,
  },
  {
    what: "no fallback",
    change: { file: SHORTCUT, edits: [[/^protocol static shortcut_fallback4 \{[\s\S]*?\n\}\n/m, ""]] },
    problem: /protocol shortcut_fallback4 is missing/,
    remedy: /route 198\.18\.0\.0\/16 via SHORTCUT_HUB4;/,
  },
  {
    what: "a fallback for another pool",
    change: { file: SHORTCUT, edits: [["route 198.18.0.0/16 via", "route 198.18.0.0/17 via"]] },
    problem: /shortcut_fallback4 does not cover the alias pool 198\.18\.0\.0\/16/,
    remedy: /route 198\.18\.0\.0\/16 via SHORTCUT_HUB4;/,
  },
  {
    what: "a fallback that leads nowhere",
    change: {
      file: SHORTCUT,
      edits: [["route 198.18.0.0/16 via SHORTCUT_HUB4;", "route 198.18.0.0/16 unreachable;"]],
    },
    problem: /shortcut_fallback4 does not cover the alias pool/,
    remedy: /via SHORTCUT_HUB4;/,
  },
  {
    what: "a fallback by an unknown next hop",
    change: {
      file: SHORTCUT,
      edits: [["route 198.18.0.0/16 via SHORTCUT_HUB4;", "route 198.18.0.0/16 via 10.254.9.9;"]],
    },
    severity: "warning",
    problem: /shortcut_fallback4 is dormant/,
    remedy: /define SHORTCUT_HUB4 = /,
  },
];

const checks: readonly ClientCase[] = [
  {
    what: "finds another kernel table, and a disabled session",
    run: async (bench) => {
      const { client, expectation, node } = bench;
      const other = await client.check({ ...expectation, blackboardTable: 4243 });
      expect(other.findings.map((f) => f.problem)).toEqual([
        "BIRD meets shortcutd in kernel table 4242, shortcutd's configuration says 4243",
      ]);
      const same = await client.check({ ...expectation, routerId: address("10.255.0.1") });
      expect(same.findings.map((f) => f.problem)).toEqual([
        expect.stringMatching(
          /^BIRD's router ID 10\.255\.0\.1 is also the BGP identifier of the offers session/,
        ),
      ]);
      await node.must(["birdc", "disable", "shortcut"]);
      try {
        expect(await bench.findings()).toEqual([
          {
            severity: "warning",
            problem: expect.stringContaining("protocol shortcut is disabled"),
            remedy: expect.stringContaining("birdc enable shortcut"),
          },
        ]);
        await bench.explained("BIRD: protocol shortcut is disabled");
      } finally {
        await node.must(["birdc", "enable", "shortcut"]);
      }
    },
  },
  {
    what: "suspects a direct protocol of every interface before the direct interface exists, and not one that leaves it out",
    run: changed(async (bench, edit) => {
      const later = { ...bench.expectation, direct: "shortcut9" };
      const problems = async (e = bench.expectation): Promise<string[]> =>
        (await bench.client.check(e)).findings.map((f) => `${f.severity}: ${f.problem}`);
      await edit(MAIN, [['interface "eth2", "eth3";', 'interface "-shortcut0", "*";']]);
      expect(await problems()).toEqual([]);
      await restore(bench);
      await edit(MAIN, [['interface "eth2", "eth3";', 'interface "*";']]);
      expect(await problems(later)).toEqual([
        expect.stringMatching(
          /^warning: protocol direct1 takes the addresses of every interface, so probably/,
        ),
      ]);
    }),
  },
  {
    what: "says one thing when nothing of ours is there, and IPv6 is not asked for without a pool",
    run: changed(async (bench, edit) => {
      await edit(MAIN, [
        ['include "shortcut/shortcut.conf";', ""],
        [/ {4}table fib4; .*\n/, ""],
        [/ {4}table fib6; .*\n/, ""],
      ]);
      const findings = await bench.findings();
      expect(findings).toHaveLength(1);
      expect(findings[0]?.problem).toContain("nothing of shortcutd's configuration");
      expect(findings[0]?.remedy).toContain('include "shortcut/shortcut.conf";');
      await bench.explained("BIRD: there is no protocol shortcut");
      await restore(bench);
      await edit(MAIN, [[/ {4}table fib6; .*\n/, ""]]);
      const only4 = { ...bench.expectation, aliasPool6: undefined };
      expect((await bench.client.check(only4)).findings).toEqual([]);
    }),
  },
];

const explanations: readonly ClientCase[] = [
  {
    what: "explains a refusal by the import filter, with and without kept routes",
    run: changed(async (bench, edit) => {
      await edit(POLICY, [["  # 10.3.0.0/24+,", "  10.3.0.0/24+,"]]);
      await bench.explained("BIRD: rejected by import filter shortcut_policy");
      await bench.explained(SELECTED, FAR6, ALIAS6);
      await edit(SHORTCUT, [
        ["import filter shortcut_policy;     #", "import keep filtered; import filter shortcut_policy; #"],
      ]);
      await bench.node.must(["birdc", "reload", "in", "shortcut"]);
      await until("BIRD keeps what it filtered", 5_000, async () =>
        (await bench.node.must(["birdc", "show", "route", "filtered", "table", "fib4"])).includes(FAR4),
      );
      await bench.explained("BIRD: rejected by import filter shortcut_policy");
    }),
  },
  {
    what: "explains a preferred route of another protocol, by preference and at equal preference",
    run: changed(async (bench, edit) => {
      await edit(MAIN, [
        [/$/, `protocol static better { ipv4 { preference 220; }; route ${FAR4} via 10.255.0.3; }\n`],
      ]);
      await bench.explained("BIRD: route of protocol better preferred, preference 220 > 210");
      await restore(bench);
      await edit(POLICY, [["preference = SHORTCUT_PREFERENCE;", ""]]);
      await bench.explained(
        /^BIRD: route of protocol hub preferred at equal preference 100; import filter shortcut_policy/,
      );
    }),
  },
  {
    what: "explains an unresolved alias, and an alias that is not learned",
    run: async (bench) => {
      try {
        await changed(async (_, edit) => {
          await bench.node.must(["ip", "route", "del", `${ALIAS4}/32`, "table", "4242", "proto", "173"]);
          await bench.explained(
            /^BIRD: selected, preference 210; alias 198\.18\.0\.1 resolves by shortcut_fallback4 only/,
          );
          await edit(SHORTCUT, [[/^protocol static shortcut_fallback4 \{[\s\S]*?\n\}\n/m, ""]]);
          await bench.explained(
            /^BIRD: selected, but alias 198\.18\.0\.1 is unresolved and the route is unreachable/,
          );
        })(bench);
      } finally {
        await pointAliases(bench.node, "wg0", "4242");
      }
    },
  },
  {
    what: "explains what was never offered",
    run: async (bench) => {
      // The session has filtered nothing since it came up again: a missing route was not received.
      await bench.node.must(["birdc", "restart", "shortcut"]);
      await bench.selected();
      expect(await bench.reasonOf("10.77.0.0/24")).toBe("BIRD: not received on session shortcut");
    },
  },
  {
    what: "explains an export filter of the kernel protocol that drops the offer, and the hub route with it",
    run: changed(async (bench, edit) => {
      await edit(MAIN, [
        ["export where source != RTS_DEVICE;                   #", "export filter no_offers; #"],
        [
          "protocol device",
          'filter no_offers { if proto = "shortcut" then reject; accept; }\nprotocol device',
        ],
      ]);
      await bench.explained(
        "BIRD: selected in fib4, but kernel protocol kernel1 drops it (export filter no_offers)",
      );
      expect(await fib(bench.node, FAR4)).toBe("");
    }),
  },
  {
    what: "can change nothing",
    run: async ({ node }) => {
      // The first command of the client; afterwards BIRD refuses whatever would change something.
      const said = await node.exec(["birdc", "-r", "disable", "shortcut"]);
      expect(said.stdout).toContain("Access denied");
    },
  },
];

const last: readonly ClientCase[] = [
  {
    what: "says that BIRD is not running, or not there, and works again on the same client after a restart",
    run: async (bench) => {
      const { client, expectation, node } = bench;
      const socket = socketOf(node);
      await client.check(expectation);
      await bench.offers.kill();
      await node.must(["sh", "-c", "kill -9 $(cat /run/bird/bird.pid)"]);
      await expect(client.check(expectation)).rejects.toMatchObject({
        name: "PortError",
        place: `BIRD control socket ${socket}`,
        remedy: expect.stringMatching(/not running|ended/),
      });
      // The kernel ends what was killed when it comes to it: until then the socket may still take a
      // connection.
      await until("BIRD is gone", 5_000, () =>
        client.check(expectation).then(
          () => false,
          (e: unknown) => e instanceof Error && "code" in e && e.code === "ECONNREFUSED",
        ),
      );
      await expect(client.explain(prefix(FAR4), address(ALIAS4))).rejects.toMatchObject({
        code: "ECONNREFUSED",
        remedy: "BIRD is not running: systemctl start bird",
      });
      await node.must(["rm", "/run/bird/bird.ctl"]);
      await expect(client.check(expectation)).rejects.toMatchObject({
        code: "ENOENT",
        remedy: expect.stringContaining("daemon-socket"),
      });
      await node.must(["sh", "-c", START]);
      expect((await client.check(expectation)).version).toBe("2.0.12");
      await bench.explained(/^BIRD: session shortcut is not established \(Passive\)/);
      // Restarted while the connection is idle: the dead connection is not the caller's business.
      await node.must(["birdc", "down"]);
      await node.must(["sh", "-c", `until ${START}; do sleep 0.1; done`]);
      expect(await bench.findings()).toEqual([]);
    },
  },
];

const socketOf = (node: Node): string => `/proc/${node.pid}/root/run/bird/bird.ctl`;

describeClient<Edit>({
  name: "BIRD",
  daemon: "bird",
  version: "2.0.12",
  blackboardTable: 4242,
  table: "4242",
  targets: { offers: "127.0.0.1", feed: "127.0.0.4" },
  sessionsFirst: true,
  selected: SELECTED,
  noSession: /^BIRD: session shortcut is not established/,
  open: (node, options = {}) => birdClient({ socket: socketOf(node), ...options }),
  pidFile: "/run/bird/bird.pid",
  socket: socketOf,
  askByHand: "birdc show status",
  sessionsUp,
  apply: async (bench, { file, edits, also }) => {
    await configure(bench, file, edits, also);
    // A change of the session's type restarts the session.
    if (edits.some(([from]) => String(from).includes("rr client"))) await sessionsUp(bench);
  },
  undo: async (bench) => {
    await restore(bench);
    await sessionsUp(bench);
  },
  flaws,
  checks,
  explanations,
  last,
  questions: { count: 60, checkEvery: 3, patience: 0 },
});
