/** Wrong input of every kind: a clear error, and no half-made state. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Node, until } from "../../lab/runner/lab.js";
import type { Site } from "../../lab/site/site.js";
import { difference, type Snapshot, settledSnapshot, snapshot } from "../../lab/site/snapshot.js";
import { DIRECT } from "../../lab/site/triangle.js";
import { programs, siteOf } from "./site.js";

const CONFIG = "/etc/shortcutd/shortcutd.yaml";

/** Runs `shortcutd run` with a file to its end. */
async function run(
  site: Site,
  router: string,
  text: string,
): Promise<{ status: number | null; said: string }> {
  const node = site.lab.node(router);
  node.writeFile("/run/bad.yaml", text);
  const r = await node.exec([process.execPath, programs.shortcutd, "run", "-c", "/run/bad.yaml"], {
    timeout: 20_000,
  });
  return { status: r.status, said: r.stdout + r.stderr };
}

/** Duplicate address detection and daemons that have just started are over. */
const converged = (node: Node): Promise<Snapshot> =>
  settledSnapshot(node, { accepts: (s) => s.some((l) => l.includes("10.1.9.0/24")) });

describe.each(["bird", "frr"] as const)("bad input, with %s", (daemon) => {
  let site: Site;
  let good: string;
  let before: Snapshot;
  beforeAll(async () => {
    site = await siteOf(daemon, "bird", "bird");
    good = await site.sh("a", `cat ${CONFIG}`);
    before = await converged(site.lab.node("a"));
  });
  afterAll(async () => {
    await site?.down();
  });
  const untouched = async () => {
    expect(difference(before, await converged(site.lab.node("a")))).toEqual([]);
    expect(await site.sh("a", "ls /run/shortcutd/control.sock 2>/dev/null || true")).toBe("");
  };

  it("an unknown key names line, column and what is allowed", async () => {
    const r = await run(site, "a", `${good}\nbogus: 1\n`);
    expect(r.status).toBe(2);
    expect(r.said).toMatch(/bad\.yaml:\d+:1: bogus: unknown key; allowed here: role, overlay/);
    await untouched();
  });

  it("an overlay that is not there", async () => {
    const r = await run(site, "a", good.replace("overlay: wg0", "overlay: wg7"));
    expect(r.status).not.toBe(0);
    expect(r.said).toMatch(/interface wg7: does not exist/);
    await untouched();
  });

  it("a host that is wrong: `check` says what, where and the remedy, and exits with 4", async () => {
    const node = site.lab.node("a");
    const check = async (text = good): Promise<{ status: number | null; said: string }> => {
      node.writeFile("/run/bad.yaml", text);
      const r = await node.exec([process.execPath, programs.shortcutd, "check", "-c", "/run/bad.yaml"]);
      return { status: r.status, said: r.stdout + r.stderr };
    };
    const right = await check();
    expect(right).toMatchObject({
      status: 0,
      said: expect.stringContaining("host: has what shortcutd needs"),
    });
    // The labs' sessions have no password, which is asked for.
    expect(right.said).toContain(
      `${daemon}: warning: password /var/lib/shortcutd/bgp-password: does not exist`,
    );
    const key = "direct: { key: /run/test.key }";
    const wrong: readonly (readonly [string, string, string, RegExp])[] = [
      [
        "true",
        "true",
        good.replace("overlay: wg0", "overlay: eth2"),
        /interface eth2: is not a WireGuard interface/,
      ],
      ["true", "true", good.replace("overlay: wg0", "overlay: wg7"), /interface wg7: does not exist/],
      ["true", "true", good.replace("10.255.0.3", "10.255.0.1"), /this router cannot be its own hub/],
      [
        "ip route add 198.18.5.0/24 dev eth2",
        "ip route del 198.18.5.0/24",
        good,
        /alias pool 198\.18\.0\.0\/16: overlaps the route 198\.18\.5\.0\/24/,
      ],
      [
        "ip link add shortcut0 type veth peer name other0",
        "ip link del shortcut0",
        good,
        /interface shortcut0: exists and is not shortcutd's/,
      ],
      [
        "mkfifo -m 600 /run/test.key",
        "rm /run/test.key",
        `${good}\n${key}\n`,
        /test\.key: is not a regular file/,
      ],
      [
        "umask 77; touch /run/other.key; ln -s other.key /run/test.key",
        "rm /run/test.key /run/other.key",
        `${good}\n${key}\n`,
        /test\.key: is a symbolic link/,
      ],
      [
        "umask 77; wg genkey > /run/test.key; chown 65534 /run/test.key",
        "rm /run/test.key",
        `${good}\n${key}\n`,
        /test\.key: belongs to uid 65534/,
      ],
      [
        "umask 77; mkdir /run/keys; wg genkey > /run/keys/test.key; chmod 770 /run/keys",
        "rm -r /run/keys",
        `${good}\ndirect: { key: /run/keys/test.key }\n`,
        /directory \/run\/keys of private key \S+: is writable by others \(mode 0770\)/,
      ],
    ];
    for (const [take, give, text, problem] of wrong) {
      await site.sh("a", take);
      try {
        const r = await check(text);
        expect(r.said).toMatch(problem);
        expect(r.said).toMatch(/host: error: .*\n {2}remedy: \S/);
        expect(r.said.match(/^host: /gm), r.said).toHaveLength(1);
        expect(r.status).toBe(4);
      } finally {
        await site.sh("a", give);
      }
    }
    const taker = node.spawn([
      process.execPath,
      "-e",
      'require("dgram").createSocket("udp4").bind(4243, "0.0.0.0")',
    ]);
    await until("the port is taken", 10_000, async () => {
      const { status, said } = await check();
      return status === 4 && /UDP port 4243 of 10\.255\.0\.1: is in use by another program/.test(said);
    });
    await taker.kill("SIGKILL");
    await untouched();
  });

  it("no daemon at the socket", async () => {
    const r = await run(site, "a", `${good}\ndaemon-socket: /run/nowhere/x\n`);
    expect(r.status).not.toBe(0);
    expect(r.said).toMatch(/\/run\/nowhere/);
    await untouched();
  });

  it("a wrong AS", async () => {
    const r = await run(site, "a", good.replace("as: 65000", "as: 65099"));
    expect(r.status).toBe(3);
    expect(r.said).toMatch(/6509?[09]/);
    expect(r.said).toMatch(/65000/);
    await untouched();
  });

  it("a daemon without our stanzas", async () => {
    const [take, give] =
      daemon === "bird"
        ? [
            "cp /etc/bird/bird.conf /run/bird.conf.good; sed -i '/shortcut\\/shortcut.conf/d; s/table fib[46];//' /etc/bird/bird.conf; birdc configure",
            "cp /run/bird.conf.good /etc/bird/bird.conf; birdc configure",
          ]
        : [
            "vtysh -c 'configure terminal' -c 'router bgp 65000' -c 'no bgp listen range 127.0.0.2/32 peer-group SHORTCUT'",
            "vtysh -c 'configure terminal' -c 'router bgp 65000' -c 'bgp listen range 127.0.0.2/32 peer-group SHORTCUT'",
          ];
    await site.sh("a", take);
    try {
      const r = await run(site, "a", good);
      expect(r.status).toBe(3);
      expect(r.said).toMatch(daemon === "bird" ? /shortcut4/ : /bgp listen range 127\.0\.0\.2\/32/);
      expect(r.said).toMatch(/remedy: /);
      expect(await site.lab.node("a").exec(["ip", "link", "show", DIRECT])).toMatchObject({ status: 1 });
    } finally {
      await site.sh("a", give);
    }
    await until(
      "the daemon is as before",
      20_000,
      async () => difference(before, await snapshot(site.lab.node("a"))).length === 0,
    );
  });

  it("a hub that is not there: said, retried, and nothing offered", async () => {
    await site.lab.node("a").must(["sed", "-i", "s/hubs: .*/hubs: [10.255.0.77]/", CONFIG]);
    try {
      const d = await site.start("a");
      await until("the problem is shown", 20_000, async () =>
        (await d.status())?.hubs.some((h) => /10\.255\.0\.77 does not answer/.test(h.problem)),
      );
      expect(await site.peers("a")).toEqual([]);
      await site.end("a", "SIGTERM");
    } finally {
      site.lab.node("a").writeFile(CONFIG, good);
    }
    await untouched();
  });

  it("garbage on the control port, and a second shortcutd", async () => {
    await site.startAll();
    const garbage = `
      const s = require("dgram").createSocket("udp4");
      let n = 0;
      const next = () => {
        if (n++ === 2000) return s.close();
        const b = Buffer.alloc(1 + (n * 7919) % 1400);
        for (let i = 0; i < b.length; i++) b[i] = (i * n * 31 + n) & 255;
        s.send(b, 4243, "10.255.0.1", next);
      };
      s.bind(0, "10.255.0.2", next);`;
    await site.lab.node("c").must([process.execPath, "-e", garbage]);
    const status = await site.shortcutd("a").status();
    expect(status?.daemon?.session).toBe("sessions established");
    const second = await run(site, "a", good);
    expect(second.status).not.toBe(0);
    expect(second.said).toMatch(/another shortcutd on this router/);
    const elsewhere = await run(site, "a", `${good}\ncontrol: { socket: /run/shortcutd/two.sock }\n`);
    expect(elsewhere.status).not.toBe(0);
    expect(elsewhere.said).toMatch(/another shortcutd on this router/);
    // the first one is unharmed: interface, counters, sessions, and the job itself
    await site.traffic();
    await site.untilDirect();
    for (const r of ["a", "c", "b"] as const) await site.end(r, "SIGTERM");
    await untouched();
  });
});
