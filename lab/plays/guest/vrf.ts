/**
 * Two customers on the same three routers, with the same addresses, each in a VRF of its own: a
 * program that runs in the guest. Two instances of shortcutd on every router; red's spokes have
 * BIRD, blue's have FRR. Each customer's shortcut comes and goes by its own traffic and its own
 * daemon's policy, and the other customer's is not touched.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { askStatus } from "../../../plugin/adapters/process/status-socket.js";
import type { Response, StatusReport } from "../../../plugin/status/report.js";
import { type Lab, startLab, until } from "../../runner/lab.js";
import type { NodeProcess } from "../../runner/node.js";
import { difference, type Snapshot, settledSnapshot, snapshot } from "../../site/snapshot.js";
import { birdPolicy, other, ROUTERS, type RouterName, SPOKES, type Spoke } from "../../site/triangle.js";
import {
  BLUE,
  birdHub,
  birdInVrf,
  birdSpoke,
  CUSTOMERS,
  type Customer,
  configFile,
  frrInVrf,
  frrSpoke,
  interfaces,
  RED,
  SITE,
} from "./customers.js";
import { Ping } from "./ping.js";
import { tried } from "./tried.js";

const inRepository = (path: string): string => fileURLToPath(new URL(`../../../../${path}`, import.meta.url));
const POLICY = "/etc/bird/shortcut/policy.conf";
const SLOW = [
  "trigger: { rate: 20 kbit/s, for: 1 s }",
  "timers: { probe: 500 ms, probe-multiplier: 8, connect: 30 s, offer: 20 s, backoff: 1 s }",
];
/** Twice as long as it takes on a machine that has nothing else to do. */
const PATIENCE = 240_000;

let lab: Lab | undefined;
const site = (): Lab => {
  assert.ok(lab !== undefined, "the lab is not up");
  return lab;
};
const sh = (router: string, ...lines: readonly string[]): Promise<string> =>
  site()
    .node(router)
    .must(["sh", "-ec", lines.join("\n")], { timeout: 120_000 });

const before = new Map<RouterName, Snapshot>();
const running = new Map<string, NodeProcess>();
const pings = new Map<string, Ping>();
const id = (router: RouterName, c: Customer): string => `${router}-${c.name}`;
const log = (router: RouterName, c: Customer): string => `/run/job/shortcutd-${id(router, c)}.log`;
/** Passes an error on with the last words of one instance. */
const withWords =
  (router: RouterName, c: Customer, more: () => Promise<string> = async () => "") =>
  async (e: unknown): Promise<never> => {
    const file = log(router, c);
    const words = existsSync(file)
      ? readFileSync(file, "utf8").trim().split("\n").slice(-6)
      : ["it said nothing"];
    const said = await more().catch(() => "");
    throw new Error([e instanceof Error ? e.message : String(e), said, ...words].join("\n"));
  };

async function status(router: RouterName, c: Customer): Promise<StatusReport | undefined> {
  const path = site().node(router).path(`/run/shortcutd/${c.name}.sock`);
  const r = (await askStatus(path, { command: "status" }).catch(() => undefined)) as Response | undefined;
  return r?.ok === true && "status" in r ? r.status : undefined;
}
const ctl = async (spoke: Spoke, c: Customer, ...words: string[]): Promise<string> => {
  const argv = [
    process.execPath,
    inRepository("dist/plugin/ctl.js"),
    "-s",
    `/run/shortcutd/${c.name}.sock`,
    ...words,
  ];
  const r = await site().node(spoke).exec(argv);
  return (r.stdout + r.stderr).trim();
};

/**
 * Through which interface a spoke sends to the other's host in that VRF, and whether the peer of
 * the shortcut is there.
 */
async function way(spoke: Spoke, c: Customer): Promise<string> {
  const to = SITE[other(spoke)];
  const route = await sh(spoke, `ip -o route get ${to.host} vrf ${c.name}`);
  const peers = await sh(spoke, `wg show ${c.direct} allowed-ips || true`);
  const dev = / dev (\S+)/.exec(route)?.[1] ?? "nothing";
  return `${dev}${peers.includes(to.lan) ? " with a peer" : ""}`;
}
const direct = (c: Customer): string => `${c.direct} with a peer`;
async function untilWay(c: Customer, expected: string): Promise<string> {
  const from = performance.now();
  for (const spoke of SPOKES)
    await until(`${spoke} ${c.name}: ${expected}`, PATIENCE, async () => {
      const now = await way(spoke, c);
      if (now !== expected) throw new Error(now);
      return true;
    }).catch(withWords(spoke, c, () => ctl(spoke, c, "explain", SITE[other(spoke)].host)));
  return `after ${((performance.now() - from) / 1000).toFixed(1)} s`;
}
async function unchanged(c: Customer, expected: string): Promise<void> {
  for (const spoke of SPOKES) assert.equal(await way(spoke, c), expected, `${spoke} ${c.name}`);
}
const flow = (c: Customer): Ping => {
  const ping = pings.get(c.name);
  assert.ok(ping !== undefined, `no traffic of ${c.name}`);
  return ping;
};

async function bringUp(router: RouterName): Promise<void> {
  // once per router, as the kernel's vrf.rst has it: the VRFs' tables before the local one, which
  // has 127.0.0.0/8
  await sh(router, "ip rule add pref 32765 table local && ip rule delete pref 0");
  for (const c of CUSTOMERS) {
    const key = `/run/lab-keys/${id(router, c)}`;
    await sh(
      router,
      `umask 077; wg genkey > ${key}; wg pubkey < ${key} > ${key}.pub`,
      ...interfaces(c, router, key),
    );
  }
}

async function peers(c: Customer): Promise<void> {
  const pub = (router: RouterName): string => `$(cat /run/lab-keys/${id(router, c)}.pub)`;
  await sh(
    "b",
    ...SPOKES.map(
      (s) => `wg set ${c.overlay} peer "${pub(s)}" allowed-ips ${SITE[s].overlay}/32,${SITE[s].lan}`,
    ),
  );
  for (const s of SPOKES)
    await sh(
      s,
      `wg set ${c.overlay} peer "${pub("b")}" endpoint ${SITE.b.underlay}:${c.overlayPort} persistent-keepalive 25 allowed-ips 0.0.0.0/0`,
    );
}

const START_BIRD = [
  "mkdir -p /run/bird; touch /var/log/bird.log; chown -R bird:bird /run/bird /etc/bird /var/log/bird.log",
  "bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid < /dev/null > /var/log/bird.out 2>&1",
];

async function daemons(router: RouterName): Promise<void> {
  const node = site().node(router);
  if (router === "b") {
    node.writeFile("/etc/bird/bird.conf", birdHub());
    await sh(router, ...START_BIRD);
    return;
  }
  node.writeFile("/etc/bird/bird.conf", birdSpoke(RED, router));
  await sh(
    router,
    "mkdir -p /etc/bird/shortcut; cp /run/lab/bird-config/*.conf /etc/bird/shortcut/",
    birdInVrf(RED),
    ...START_BIRD,
  );
  node.writeFile("/etc/frr/frr.conf", frrSpoke(BLUE, router));
  await sh(
    router,
    "mkdir -p /run/frr /var/log/frr; echo 'service integrated-vtysh-config' > /etc/frr/vtysh.conf",
    "chown frr:frr /run/frr /var/log/frr /etc/frr/frr.conf /etc/frr/vtysh.conf",
    "for d in zebra staticd bgpd; do /usr/lib/frr/$d -d -A 127.0.0.1 < /dev/null > /var/log/frr/$d.out 2>&1; done",
    "vtysh -b < /dev/null > /var/log/frr/vtysh.out 2>&1 || { cat /var/log/frr/vtysh.out >&2; exit 1; }",
    frrInVrf(BLUE),
    "vtysh -f /run/shortcut.conf < /dev/null > /var/log/frr/shortcut.out 2>&1 || { cat /var/log/frr/shortcut.out >&2; exit 1; }",
  );
}

await tried("two customers with the same addresses, each overlay in its VRF", async () => {
  lab = await startLab(inRepository("lab/topologies/vrf.clab.yml"));
  await Promise.all(ROUTERS.map(bringUp));
  for (const c of CUSTOMERS) await peers(c);
  await Promise.all(ROUTERS.map(daemons));
  for (const c of CUSTOMERS)
    await until(`host ${c.name}-a reaches ${c.name}-c through the hub`, PATIENCE, async () => {
      const one = ["ping", "-n", "-c", "1", "-W", "1", SITE.c.host];
      return (await site().node(`${c.name}-a`).exec(one)).status === 0;
    });
});

await tried("two instances on every router", async () => {
  for (const router of ROUTERS) {
    before.set(router, await settledSnapshot(site().node(router), { timeoutMs: PATIENCE }));
    await sh(router, "mkdir -p /etc/shortcutd /run/shortcutd; mkdir -p -m 700 /var/lib/shortcutd");
    for (const c of CUSTOMERS) {
      const file = `/etc/shortcutd/${c.name}.yaml`;
      site()
        .node(router)
        .writeFile(file, configFile(c, router, SLOW));
      const argv = [process.execPath, inRepository("dist/plugin/main.js"), "run", "-c", file];
      running.set(
        id(router, c),
        site()
          .node(router)
          .spawn(argv, { stdoutFile: log(router, c) }),
      );
    }
  }
  for (const c of CUSTOMERS)
    for (const spoke of SPOKES)
      await until(`${spoke} ${c.name} is registered and has its sessions`, PATIENCE, async () => {
        const s = await status(spoke, c);
        if (s === undefined) throw new Error("it does not answer");
        if (s.daemon?.session !== "sessions established") throw new Error(s.daemon?.session ?? "no daemon");
        return s.hubs.every((h) => h.reflexive !== undefined);
      }).catch(withWords(spoke, c));
  for (const router of ROUTERS)
    for (const c of CUSTOMERS)
      assert.match(
        await sh(router, `ip -d link show ${c.direct}`),
        new RegExp(`master ${c.name} .*wireguard`, "s"),
      );
});

await tried("shortcutd check --daemon finds what it needs in both daemons' VRFs", async () => {
  for (const c of CUSTOMERS) {
    const argv = [
      process.execPath,
      inRepository("dist/plugin/main.js"),
      "check",
      "--daemon",
      "-c",
      `/etc/shortcutd/${c.name}.yaml`,
    ];
    const said = await site().node("a").must(argv, { timeout: PATIENCE });
    assert.match(said, new RegExp(`${c.daemon}: has what shortcutd needs`));
    assert.doesNotMatch(said, /error:/);
  }
});

await tried("red's traffic: red goes direct, blue stays on its hub", async () => {
  pings.set("red", await Ping.start(site().node("red-a"), SITE.c.host, 0.1));
  const said = await untilWay(RED, direct(RED));
  await flow(RED).more(20);
  await unchanged(BLUE, BLUE.overlay);
  return said;
});

await tried("blue's traffic: both are direct, via interfaces of their own", async () => {
  pings.set("blue", await Ping.start(site().node("blue-a"), SITE.c.host, 0.1));
  const said = await untilWay(BLUE, direct(BLUE));
  await flow(BLUE).more(20);
  await unchanged(RED, direct(RED));
  // nothing of either is in the main table
  for (const router of ROUTERS) {
    const main = await sh(router, "ip -4 -N route show table main; ip -6 -N route show table main");
    assert.doesNotMatch(main, /proto 173|198\.18|10\.[13]\.0/, router);
  }
  return said;
});

await tried("what is forwarded is counted by the interface, not by the VRF", async () => {
  for (const c of CUSTOMERS) {
    const sets = await sh("a", `nft list set inet shortcutd_${c.overlay.replace("-", "_")} in_passed`);
    assert.match(sets, /counter packets [1-9]/, sets);
  }
});

await tried("red's policy in BIRD refuses it: red is back on the hub, blue stays direct", async () => {
  const node = site().node("a");
  node.writeFile(POLICY, birdPolicy(node.readFile(POLICY), true));
  await node.must(["birdc", "configure"]);
  const said = await untilWay(RED, RED.overlay);
  await unchanged(BLUE, direct(BLUE));
  node.writeFile(POLICY, birdPolicy(node.readFile(POLICY), false));
  await node.must(["birdc", "configure"]);
  return `${said}; allowed again: direct ${await untilWay(RED, direct(RED))}`;
});

await tried("blue's policy in FRR refuses it: blue is back on the hub, red stays direct", async () => {
  const line = "ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny 10.3.0.0/24 le 32";
  await sh("a", `vtysh -c 'configure terminal' -c '${line}'`);
  const said = await untilWay(BLUE, BLUE.overlay);
  await until("explain names the route-map", PATIENCE, async () =>
    (await ctl("a", BLUE, "explain", SITE.c.host)).includes("FRR: rejected by route-map SHORTCUT-IN"),
  );
  await unchanged(RED, direct(RED));
  await sh("a", `vtysh -c 'configure terminal' -c 'no ${line}'`);
  return `${said}; allowed again: direct ${await untilWay(BLUE, direct(BLUE))}`;
});

await tried("one instance stops: its customer is on the hub, the other's stays direct", async () => {
  const p = running.get(id("a", RED));
  assert.ok(p !== undefined);
  await p.kill("SIGTERM");
  assert.equal((await p.exited).code, 0);
  running.delete(id("a", RED));
  await until("red is on the hub", PATIENCE, async () => (await way("c", RED)) === RED.overlay);
  assert.equal(await way("a", RED), RED.overlay);
  await flow(RED).more(20);
  await unchanged(BLUE, direct(BLUE));
});

await tried("an orderly stop of all leaves nothing", async () => {
  const said: string[] = [];
  for (const [name, ping] of pings) said.push(`${name}: ${await ping.stop()}`);
  for (const p of running.values()) await p.kill("SIGTERM");
  for (const [name, p] of running) assert.equal((await p.exited).code, 0, name);
  for (const router of ROUTERS)
    await until(`${router} is as before`, 20_000, async () => {
      const left = difference(before.get(router) ?? [], await snapshot(site().node(router)));
      if (left.length > 0) throw new Error(left.join("\n"));
      return true;
    });
  return said.join("; ");
});
await lab?.stop();
process.exit();
