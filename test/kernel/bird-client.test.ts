/** The BIRD client against bird-config/ as shipped on a real BIRD in the triangle: what it finds missing, and how it explains. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Lab, type Node, startLab, until } from "../../lab/runner/lab.js";
import { birdClient } from "../../plugin/adapters/daemons/bird.js";
import { type DaemonExpectation, type DaemonPort, PortError } from "../../plugin/driver/ports.js";
import { address, prefix } from "../../plugin/net/address.js";
import { describeReason } from "../../plugin/shortcut/reasons.js";
import {
  ALIAS4,
  ALIAS6,
  addDirect,
  converged,
  FAR4,
  FAR6,
  fib,
  pointAliases,
  type Source,
  startFeed,
  startOffers,
} from "./config-source.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));
const shipped = (name: string): string =>
  readFileSync(new URL(`../../bird-config/${name}`, import.meta.url), "utf8");
const MAIN = "/etc/bird/bird.conf";
const SHORTCUT = "/etc/bird/shortcut/shortcut.conf";
const POLICY = "/etc/bird/shortcut/policy.conf";
const FILES = {
  [MAIN]: shipped("examples/spoke.conf"),
  [SHORTCUT]: shipped("shortcut.conf"),
  [POLICY]: shipped("policy.conf"),
};
type File = keyof typeof FILES;

const expectation: DaemonExpectation = {
  overlay: "wg0",
  blackboardTable: 4242,
  aliasPool4: prefix("198.18.0.0/16"),
  aliasPool6: prefix("fd53:4843:5554::/64"),
  offersSource: address("127.0.0.2"),
  feedSource: address("127.0.0.3"),
  localAs: 65000,
};

/** One thing changed in the configuration, and the one finding that it must lead to. */
interface Flaw {
  readonly what: string;
  readonly file: File;
  readonly edits: readonly (readonly [string | RegExp, string])[];
  readonly severity?: "warning";
  readonly problem: RegExp;
  readonly remedy: RegExp;
}

const flaws: readonly Flaw[] = [
  {
    what: "the operator's kernel protocol on master4",
    file: MAIN,
    edits: [[/ {4}table fib4; .*\n/, ""]],
    problem: /kernel protocol kernel1 is still attached to master4/,
    remedy: /bird\.conf, protocol kernel kernel1: `ipv4 \{ table fib4;/,
  },
  {
    what: "the same for IPv6",
    file: MAIN,
    edits: [[/ {4}table fib6; .*\n/, ""]],
    severity: "warning",
    problem: /kernel protocol kernel2 is still attached to master6/,
    remedy: /table fib6;/,
  },
  {
    what: "no kernel protocol at all",
    file: MAIN,
    edits: [[/protocol kernel \{\n {2}ipv4 \{[^}]*\};\n\}\n/, ""]],
    problem: /no kernel protocol takes routes from fib4/,
    remedy: /protocol kernel \{ ipv4 \{ table fib4;/,
  },
  {
    what: "a kernel protocol that exports nothing",
    file: MAIN,
    edits: [["export where source != RTS_DEVICE;                   #", "#"]],
    problem: /kernel protocol kernel1 exports nothing from fib4/,
    remedy: /export where source/,
  },
  {
    what: "no pipe to fib4",
    file: SHORTCUT,
    edits: [[/^protocol pipe fib_pipe4 .*$/m, ""]],
    problem: /protocol fib_pipe4 is missing/,
    remedy: /protocol pipe fib_pipe4 \{ table master4; peer table fib4; import none; export all; \}/,
  },
  {
    what: "a pipe that also leads back",
    file: SHORTCUT,
    edits: [
      ["peer table fib4; import none;", "peer table fib4; import all;"],
      [/^protocol pipe fib_pipe4 (.*)export all;/m, 'protocol pipe fib_pipe4 $1export where proto = "hub";'],
    ],
    problem: /fib_pipe4 also carries routes back from fib4 into master4 \(import filter ACCEPT\)/,
    remedy: /import none;/,
  },
  {
    what: "no pipe to the blackboard",
    file: SHORTCUT,
    edits: [[/^protocol pipe shortcut_pipe4 .*$/m, ""]],
    problem: /protocol shortcut_pipe4 is missing/,
    remedy: /export where proto = "shortcut"/,
  },
  {
    what: "a pipe that puts everything on the blackboard",
    file: SHORTCUT,
    edits: [
      [
        'peer table shortcut4; import none; export where proto = "shortcut";',
        "peer table shortcut4; import none; export all;",
      ],
    ],
    problem: /shortcut_pipe4 exports everything/,
    remedy: /export where proto = "shortcut";/,
  },
  {
    what: "no kernel protocol of the blackboard",
    file: SHORTCUT,
    edits: [[/^protocol kernel shortcut_k4 \{[\s\S]*?\n\}\n/m, ""]],
    problem: /protocol shortcut_k4 is missing/,
    remedy: /protocol kernel shortcut_k4 \{ kernel table SHORTCUT_TABLE; learn;/,
  },
  {
    what: "a blackboard that shows nothing",
    file: SHORTCUT,
    edits: [
      [
        "ipv4 { table shortcut4; import all; export where source = RTS_BGP; };",
        "ipv4 { table shortcut4; import all; };",
      ],
    ],
    problem: /shortcut_k4 exports nothing/,
    remedy: /export where source = RTS_BGP;/,
  },
  {
    what: "no offers session",
    file: SHORTCUT,
    edits: [[/^protocol bgp shortcut \{[\s\S]*?\n\}\n/m, ""]],
    problem: /protocol shortcut is missing/,
    remedy: /protocol bgp shortcut \{ local as 65000; neighbor 127\.0\.0\.2 as 65000; passive; multihop;/,
  },
  {
    what: "no feed session",
    file: SHORTCUT,
    edits: [[/^protocol bgp shortcut_feed \{[\s\S]*?\n\}\n/m, ""]],
    problem: /protocol shortcut_feed is missing/,
    remedy: /neighbor 127\.0\.0\.3 as 65000/,
  },
  {
    what: "another neighbour address",
    file: SHORTCUT,
    edits: [["neighbor 127.0.0.2 as", "neighbor 127.0.0.9 as"]],
    problem: /protocol shortcut expects its neighbour at 127\.0\.0\.9; shortcutd dials from 127\.0\.0\.2/,
    remedy: /neighbor 127\.0\.0\.2 as SHORTCUT_AS;/,
  },
  {
    what: "another AS",
    file: SHORTCUT,
    edits: [["neighbor 127.0.0.2 as SHORTCUT_AS", "neighbor 127.0.0.2 as 65001"]],
    problem: /protocol shortcut has neighbor as 65001; shortcutd's configuration says AS 65000/,
    remedy: /define SHORTCUT_AS = 65000;/,
  },
  {
    what: "a feed without route reflection",
    file: SHORTCUT,
    edits: [[/ {2}rr client;.*\n/, ""]],
    problem: /shortcut_feed does not treat shortcutd as a route reflector client/,
    remedy: /rr client;/,
  },
  {
    what: "a feed of nothing",
    file: SHORTCUT,
    edits: [
      [
        "ipv4 { table master4; import none; export filter shortcut_underneath; };",
        "ipv4 { table master4; import none; export none; };",
      ],
    ],
    problem: /shortcut_feed sends no ipv4 route/,
    remedy: /export filter shortcut_underneath;/,
  },
  {
    what: "offers that enter the main table",
    file: SHORTCUT,
    edits: [["    table fib4;                        #", "    table master4; #"]],
    problem: /offers enter table master4, not fib4: neighbours would receive them/,
    remedy: /table fib4;/,
  },
  {
    what: "no import",
    file: SHORTCUT,
    edits: [["    table fib6;\n    import filter shortcut_policy;", "    table fib6;\n    import none;"]],
    severity: "warning",
    problem: /protocol shortcut imports no ipv6 offer/,
    remedy: /import filter shortcut_policy;/,
  },
  {
    what: "an import without policy",
    file: SHORTCUT,
    edits: [["import filter shortcut_policy;     #", "import all; #"]],
    severity: "warning",
    problem: /imports every ipv4 offer as it is/,
    remedy: /import filter shortcut_policy;/,
  },
  {
    what: "an offers session that exports",
    file: SHORTCUT,
    edits: [
      [
        "    import filter shortcut_policy;     # policy.conf: the decision is yours\n    import keep filtered;              # refused offers stay visible: show route filtered protocol shortcut\n    export none;",
        "    import filter shortcut_policy;\n    export all;",
      ],
    ],
    problem: /also sends ipv4 routes on the offers session \(export filter ACCEPT\)/,
    remedy: /export none;/,
  },
  {
    what: "aliases that are looked up elsewhere",
    file: SHORTCUT,
    edits: [["    igp table shortcut4;", "    igp table master4;"]],
    problem: /looked up in master4, not in shortcut4/,
    remedy: /gateway recursive; igp table shortcut4;/,
  },
  {
    what: "no fallback",
    file: SHORTCUT,
    edits: [[/^protocol static shortcut_fallback4 \{[\s\S]*?\n\}\n/m, ""]],
    problem: /protocol shortcut_fallback4 is missing/,
    remedy: /route 198\.18\.0\.0\/16 via SHORTCUT_HUB4;/,
  },
  {
    what: "a fallback for another pool",
    file: SHORTCUT,
    edits: [["route 198.18.0.0/16 via", "route 198.18.0.0/17 via"]],
    problem: /shortcut_fallback4 does not cover the alias pool 198\.18\.0\.0\/16/,
    remedy: /route 198\.18\.0\.0\/16 via SHORTCUT_HUB4;/,
  },
  {
    what: "a fallback that leads nowhere",
    file: SHORTCUT,
    edits: [["route 198.18.0.0/16 via SHORTCUT_HUB4;", "route 198.18.0.0/16 unreachable;"]],
    problem: /shortcut_fallback4 does not cover the alias pool/,
    remedy: /via SHORTCUT_HUB4;/,
  },
  {
    what: "a fallback by an unknown next hop",
    file: SHORTCUT,
    edits: [["route 198.18.0.0/16 via SHORTCUT_HUB4;", "route 198.18.0.0/16 via 10.254.9.9;"]],
    severity: "warning",
    problem: /shortcut_fallback4 is dormant/,
    remedy: /define SHORTCUT_HUB4 = /,
  },
];

describe("the client on BIRD", () => {
  let lab: Lab;
  let a: Node;
  let socket: string;
  let client: DaemonPort;
  let offers: Source;
  const more: DaemonPort[] = [];

  const reconfigure = async (): Promise<void> => {
    expect(await a.must(["birdc", "configure"])).toMatch(/Reconfigured|Reconfiguration in progress/);
    await until("BIRD has reconfigured", 10_000, async () =>
      (await a.must(["birdc", "show", "status"])).includes("Daemon is up and running"),
    );
  };
  const configure = async (file: File, edits: Flaw["edits"]): Promise<void> => {
    let text: string = FILES[file];
    for (const [from, to] of edits) {
      const edited = text.replace(from, to);
      expect(edited, `${String(from)} is in ${file}`).not.toBe(text);
      text = edited;
    }
    a.writeFile(file, text);
    await reconfigure();
  };
  const restore = async (): Promise<void> => {
    for (const [file, text] of Object.entries(FILES)) a.writeFile(file, text);
    await reconfigure();
  };
  const sessionsUp = (): Promise<unknown> =>
    until("both sessions are established", 20_000, async () => {
      const text = await a.must(["birdc", "show", "protocols"]);
      return text.match(/^shortcut(_feed)? .*Established/gm)?.length === 2;
    });
  const reasonOf = async (p = FAR4, alias = ALIAS4): Promise<string> =>
    describeReason((await client.explain(prefix(p), address(alias))).reason);
  const explained = (reason: string | RegExp, p = FAR4, alias = ALIAS4): Promise<unknown> => {
    let said = "";
    return until(`explained by ${String(reason)}`, 8_000, async () => {
      said = await reasonOf(p, alias);
      return typeof reason === "string" ? said === reason : reason.test(said);
    }).catch((e: unknown) => {
      throw new Error(`${String(e)}; last: ${said}`);
    });
  };

  beforeAll(async () => {
    lab = await startLab(topology, { env: { DAEMON_A: "bird", DAEMON_B: "bird", DAEMON_C: "bird" } });
    a = lab.node("a");
    await converged(lab.node("host-a"));
    await addDirect(a);
    await pointAliases(a, "wg0", "4242");
    socket = `/proc/${a.pid}/root/run/bird/bird.ctl`;
    client = birdClient({ socket });
  });
  afterAll(async () => {
    await client?.close();
    await lab?.stop();
  });
  afterEach(async () => {
    for (const c of more.splice(0)) await c.close();
  });

  it("finds nothing missing in what is shipped, before and while the sessions are up", async () => {
    expect(await client.check(expectation)).toEqual({ version: "2.0.12", findings: [] });
    offers = await startOffers(a, { target: "127.0.0.1" });
    await startFeed(a, { target: "127.0.0.4" });
    await sessionsUp();
    expect((await client.check(expectation)).findings).toEqual([]);
  });

  it.each(flaws)("finds $what, and nothing else", async ({ file, edits, severity, problem, remedy }) => {
    try {
      await configure(file, edits);
      if (edits.some(([from]) => String(from).includes("rr client"))) await sessionsUp();
      const { findings } = await client.check(expectation);
      expect(findings).toEqual([
        {
          severity: severity ?? "error",
          problem: expect.stringMatching(problem),
          remedy: expect.stringMatching(remedy),
        },
      ]);
    } finally {
      await restore();
    }
    await sessionsUp();
    expect((await client.check(expectation)).findings).toEqual([]);
  });

  it("finds another kernel table, and a disabled session", async () => {
    const other = await client.check({ ...expectation, blackboardTable: 4243 });
    expect(other.findings.map((f) => f.problem)).toEqual([
      "BIRD meets shortcutd in kernel table 4242, shortcutd's configuration says 4243",
    ]);
    await a.must(["birdc", "disable", "shortcut"]);
    expect((await client.check(expectation)).findings).toEqual([
      {
        severity: "warning",
        problem: expect.stringContaining("protocol shortcut is disabled"),
        remedy: expect.stringContaining("birdc enable shortcut"),
      },
    ]);
    await explained("BIRD: protocol shortcut is disabled");
    await a.must(["birdc", "enable", "shortcut"]);
    await sessionsUp();
  });

  it("says one thing when nothing of ours is there, and IPv6 is not asked for without a pool", async () => {
    try {
      await configure(MAIN, [
        ['include "shortcut/shortcut.conf";', ""],
        [/ {4}table fib4; .*\n/, ""],
        [/ {4}table fib6; .*\n/, ""],
      ]);
      const { findings } = await client.check(expectation);
      expect(findings).toHaveLength(1);
      expect(findings[0]?.problem).toContain("nothing of shortcutd's configuration");
      expect(findings[0]?.remedy).toContain('include "shortcut/shortcut.conf";');
      await explained("BIRD: there is no protocol shortcut");
      await restore();
      await configure(MAIN, [[/ {4}table fib6; .*\n/, ""]]);
      expect((await client.check({ ...expectation, aliasPool6: undefined })).findings).toEqual([]);
    } finally {
      await restore();
    }
    await sessionsUp();
  });

  it("explains a selected offer, in both families", async () => {
    await explained("BIRD: selected, preference 210");
    await explained("BIRD: selected, preference 210", FAR6, ALIAS6);
    expect((await client.explain(prefix(FAR4), address(ALIAS4))).selected).toBe(true);
  });

  it("explains a refusal by the import filter, with and without kept routes", async () => {
    const refuse: readonly [string, string] = ["  # 10.3.0.0/24+,", "  10.3.0.0/24+,"];
    try {
      await configure(POLICY, [refuse]);
      await explained("BIRD: rejected by import filter shortcut_policy");
      await explained("BIRD: selected, preference 210", FAR6, ALIAS6);
      await configure(SHORTCUT, [
        ["import filter shortcut_policy;     #", "import keep filtered; import filter shortcut_policy; #"],
      ]);
      await a.must(["birdc", "reload", "in", "shortcut"]);
      await until("BIRD keeps what it filtered", 5_000, async () =>
        (await a.must(["birdc", "show", "route", "filtered", "table", "fib4"])).includes(FAR4),
      );
      await explained("BIRD: rejected by import filter shortcut_policy");
    } finally {
      await restore();
    }
    await explained("BIRD: selected, preference 210");
  });

  it("explains a preferred route of another protocol, by preference and at equal preference", async () => {
    try {
      await configure(MAIN, [
        [/$/, `protocol static better { ipv4 { preference 220; }; route ${FAR4} via 10.255.0.3; }\n`],
      ]);
      await explained("BIRD: route of protocol better preferred, preference 220 > 210");
      await restore();
      await configure(POLICY, [["preference = SHORTCUT_PREFERENCE;", ""]]);
      await explained(
        /^BIRD: route of protocol hub preferred at equal preference 100; import filter shortcut_policy/,
      );
    } finally {
      await restore();
    }
    await explained("BIRD: selected, preference 210");
  });

  it("explains an unresolved alias, an alias that is not learned, and what was never offered", async () => {
    try {
      await a.must(["ip", "route", "del", `${ALIAS4}/32`, "table", "4242", "proto", "99"]);
      await explained(
        /^BIRD: selected, preference 210; alias 198\.18\.0\.1 resolves by shortcut_fallback4 only/,
      );
      await configure(SHORTCUT, [[/^protocol static shortcut_fallback4 \{[\s\S]*?\n\}\n/m, ""]]);
      await explained(/^BIRD: selected, but alias 198\.18\.0\.1 is unresolved and the route is unreachable/);
    } finally {
      await restore();
      await pointAliases(a, "wg0", "4242");
    }
    await explained("BIRD: selected, preference 210");
    // The session has filtered nothing since it came up again: what is not there was not received.
    await a.must(["birdc", "restart", "shortcut"]);
    await sessionsUp();
    await explained("BIRD: selected, preference 210");
    expect(await reasonOf("10.77.0.0/24")).toBe("BIRD: not received on session shortcut");
  });

  it("explains an export filter of the kernel protocol that drops the offer, and the hub route with it", async () => {
    try {
      await configure(MAIN, [
        ["export where source != RTS_DEVICE;                   #", "export filter no_offers; #"],
        [
          "protocol device",
          'filter no_offers { if proto = "shortcut" then reject; accept; }\nprotocol device',
        ],
      ]);
      await explained(
        "BIRD: selected in fib4, but kernel protocol kernel1 drops it (export filter no_offers)",
      );
      expect(await fib(a, FAR4)).toBe("");
    } finally {
      await restore();
    }
    await explained("BIRD: selected, preference 210");
  });

  it("answers many questions at once on one connection, each with its own answer", async () => {
    // what the tests before have changed and restored comes back family by family
    await explained("BIRD: selected, preference 210");
    await explained("BIRD: selected, preference 210", FAR6, ALIAS6);
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) =>
        i % 3 === 0
          ? client.check(expectation).then((r) => r.version)
          : reasonOf(i % 3 === 1 ? FAR4 : FAR6, i % 3 === 1 ? ALIAS4 : ALIAS6),
      ),
    );
    expect(new Set(answers.filter((_, i) => i % 3 === 0))).toEqual(new Set(["2.0.12"]));
    expect(new Set(answers.filter((_, i) => i % 3 !== 0))).toEqual(
      new Set(["BIRD: selected, preference 210"]),
    );
  });

  it("can change nothing", async () => {
    // What the client sends first; afterwards BIRD refuses whatever would change something.
    const said = await a.exec(["birdc", "-r", "disable", "shortcut"]);
    expect(said.stdout).toContain("Access denied");
  });

  it("gives up on a hung BIRD after the timeout, fails what waits with it, and goes on when BIRD does", async () => {
    const short = birdClient({ socket, timeoutMs: 300 });
    more.push(short);
    await short.check(expectation);
    const pid = (await a.must(["cat", "/run/bird/bird.pid"])).trim();
    await a.must(["kill", "-STOP", pid]);
    const since = performance.now();
    try {
      const asked = await Promise.allSettled([
        short.check(expectation),
        short.explain(prefix(FAR4), address(ALIAS4)),
        short.check(expectation),
      ]);
      expect(performance.now() - since).toBeLessThan(900);
      for (const r of asked) {
        expect(r.status).toBe("rejected");
        if (r.status !== "rejected") continue;
        expect(r.reason).toBeInstanceOf(PortError);
        expect(String(r.reason)).toContain(socket);
        expect(String(r.reason)).toContain("within 300 ms");
        expect(String(r.reason)).toContain("birdc show status");
      }
    } finally {
      await a.must(["kill", "-CONT", pid]);
    }
    await until("it answers again", 5_000, () =>
      short.check(expectation).then(
        (r) => r.version === "2.0.12",
        () => false,
      ),
    );
  });

  it("says that BIRD is not running, or not there, and works again on the same client after a restart", async () => {
    await client.check(expectation);
    await offers.kill();
    await a.must(["sh", "-c", "kill -9 $(cat /run/bird/bird.pid)"]);
    await expect(client.check(expectation)).rejects.toMatchObject({
      name: "PortError",
      place: `BIRD control socket ${socket}`,
      remedy: expect.stringMatching(/not running|ended/),
    });
    await expect(client.explain(prefix(FAR4), address(ALIAS4))).rejects.toMatchObject({
      code: "ECONNREFUSED",
      remedy: "BIRD is not running: systemctl start bird",
    });
    await a.must(["rm", "/run/bird/bird.ctl"]);
    await expect(client.check(expectation)).rejects.toMatchObject({
      code: "ENOENT",
      remedy: expect.stringContaining("daemon-socket"),
    });
    await a.must([
      "sh",
      "-c",
      "bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid < /dev/null > /dev/null 2>&1",
    ]);
    expect((await client.check(expectation)).version).toBe("2.0.12");
    await explained(/^BIRD: session shortcut is not established \(Passive\)/);
    // Restarted while the connection is idle: the dead connection is not the caller's business.
    await a.must(["birdc", "down"]);
    await a.must([
      "sh",
      "-c",
      "until bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid < /dev/null > /dev/null 2>&1; do sleep 0.1; done",
    ]);
    expect((await client.check(expectation)).findings).toEqual([]);
  });

  it("rejects after close", async () => {
    const closed = birdClient({ socket });
    await closed.check(expectation);
    await closed.close();
    await expect(closed.check(expectation)).rejects.toMatchObject({ code: "ECANCELED" });
  });
});
