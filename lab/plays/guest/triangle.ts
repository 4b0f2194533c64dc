/**
 * The triangle on a real kernel: a program that runs in the guest. WireGuard of overlay and direct
 * interface is the kernel's; BIRD decides. The main job, the clock stepped by an hour while the
 * traffic is direct, and an orderly stop; each confirmed in the kernel. The machine is emulated and
 * slow: the traffic is a ping of 20 packets a second each way, and probes are given more time.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Lab, startLab, until } from "../../runner/lab.js";
import { programsIn, RunningShortcutd } from "../../site/shortcutd.js";
import { CONFIG, configured } from "../../site/site.js";
import { difference, type Snapshot, settledSnapshot, snapshot } from "../../site/snapshot.js";
import {
  birdPolicy,
  DIRECT,
  OVERLAY,
  other,
  ROUTERS,
  type RouterName,
  SPOKE,
  SPOKES,
  type Spoke,
} from "../../site/triangle.js";
import { Ping } from "./ping.js";
import { tried } from "./tried.js";

const inRepository = (path: string): string => fileURLToPath(new URL(`../../../../${path}`, import.meta.url));
const programs = programsIn(inRepository("dist"));

const POLICY = "/etc/bird/shortcut/policy.conf";
const SLOW = [
  "trigger: { rate: 20 kbit/s, for: 1 s }",
  "timers: { probe: 500 ms, probe-multiplier: 8, connect: 30 s, offer: 20 s, backoff: 1 s }",
];
/** Twice as long as it takes on a machine that has nothing else to do. */
const PATIENCE = 120_000;

let lab: Lab | undefined;
const running = new Map<RouterName, RunningShortcutd>();
const before = new Map<RouterName, Snapshot>();
let ping: Ping | undefined;

const site = (): Lab => {
  assert.ok(lab !== undefined, "the triangle is not up");
  return lab;
};
const flow = (): Ping => {
  assert.ok(ping !== undefined, "there is no traffic");
  return ping;
};
const of = (router: RouterName): RunningShortcutd => {
  const r = running.get(router);
  assert.ok(r !== undefined, `shortcutd was not started on ${router}`);
  return r;
};

async function way(spoke: Spoke): Promise<string> {
  const text = await site()
    .node(spoke)
    .must(["ip", "-o", "route", "get", SPOKE[other(spoke)].hostAddress]);
  return / dev (\S+)/.exec(text)?.[1] ?? "";
}
const peers = async (router: RouterName): Promise<string[]> => {
  const r = await site().node(router).exec(["wg", "show", DIRECT, "allowed-ips"]);
  return r.stdout.split("\n").filter((l) => l !== "");
};
/** The FIB of both spokes sends by `dev`, and the peer of the shortcut is there, or not. */
async function untilWay(dev: string): Promise<string> {
  const from = performance.now();
  for (const spoke of SPOKES)
    await until(`${spoke} sends via ${dev}`, PATIENCE, async () => {
      const lan = SPOKE[other(spoke)].lan;
      const has = (await peers(spoke)).some((l) => l.includes(lan));
      return (await way(spoke)) === dev && has === (dev === DIRECT);
    }).catch(async (e: unknown) => {
      const said = await of(spoke).ctl("explain", SPOKE[other(spoke)].hostAddress);
      throw new Error(`${e instanceof Error ? e.message : String(e)}\n${spoke}: ${said}`);
    });
  return `after ${((performance.now() - from) / 1000).toFixed(1)} s`;
}

const directBytes = async (): Promise<number> => {
  const text = await site()
    .node("a")
    .must(["cat", `/sys/class/net/${DIRECT}/statistics/tx_bytes`]);
  return Number(text);
};
/** Replies go on, and via the direct interface. */
async function goesDirect(replies: number): Promise<string> {
  const bytes = await directBytes();
  const said = await flow().more(replies);
  assert.ok((await directBytes()) - bytes > replies * 600, "the replies did not come directly");
  for (const spoke of SPOKES) assert.equal(await way(spoke), DIRECT);
  return said;
}

function policy(refused: boolean): Promise<string> {
  const node = site().node("a");
  node.writeFile(POLICY, birdPolicy(node.readFile(POLICY), refused));
  return node.must(["birdc", "configure"]);
}

await tried("the triangle comes up, its overlay by the kernel's WireGuard", async () => {
  const env = { DAEMON_A: "bird", DAEMON_B: "bird", DAEMON_C: "bird", SHORTCUTD: "install" };
  lab = await startLab(inRepository("lab/topologies/triangle.clab.yml"), { env });
  for (const router of ROUTERS) {
    const node = lab.node(router);
    if (router !== "b") node.writeFile(CONFIG, configured(node.readFile(CONFIG), SLOW));
    assert.match(await node.must(["ip", "-d", "link", "show", OVERLAY]), /\bwireguard\b/);
  }
  await until("host-a reaches host-c through the hub", PATIENCE, async () => {
    const one = ["ping", "-n", "-c", "1", "-W", "1", SPOKE.c.hostAddress];
    return (await site().node("host-a").exec(one)).status === 0;
  });
  await until("a has every route", PATIENCE, async () =>
    (await site().node("c").must(["ip", "route", "show", "10.1.9.0/24"])).includes(OVERLAY),
  );
  // what is compared at the end must be complete at the start
  for (const [router, prefix] of [
    ["a", "2001:db8:3::/64"],
    ["c", "2001:db8:1::/64"],
    ["b", "2001:db8:1::/64"],
    ["b", "2001:db8:3::/64"],
  ] as const)
    await until(`${router} has ${prefix}`, PATIENCE, async () =>
      (await site().node(router).must(["ip", "-6", "route", "show", prefix])).includes(OVERLAY),
    );
});

await tried("shortcutd starts on all three, and its direct interfaces are the kernel's", async () => {
  for (const router of ROUTERS)
    before.set(router, await settledSnapshot(site().node(router), { timeoutMs: PATIENCE }));
  for (const router of ["b", "a", "c"] as const)
    running.set(
      router,
      new RunningShortcutd(site().node(router), router, programs, `/run/job/shortcutd-${router}.log`, 1_000),
    );
  for (const router of SPOKES)
    await until(`${router} is registered and knows its endpoint`, PATIENCE, async () => {
      const status = await of(router).status();
      return (
        status?.daemon?.session === "sessions established" &&
        status.hubs.every((h) => h.reflexive !== undefined)
      );
    });
  for (const router of ROUTERS)
    assert.match(await site().node(router).must(["ip", "-d", "link", "show", DIRECT]), /\bwireguard\b/);
  assert.equal(
    execFileSync("sh", ["-c", "pgrep -f '^wireguard-go' || echo none"], { encoding: "utf8" }),
    "none\n",
  );
});

await tried("traffic: a shortcut", async () => {
  ping = await Ping.start(site().node("host-a"), SPOKE.c.hostAddress);
  return untilWay(DIRECT);
});
await tried("the traffic is direct", () => goesDirect(60));

for (const [name, step] of [
  ["the clock goes on by an hour: the traffic goes on, direct", 3600],
  ["the clock goes back by an hour: the traffic goes on, direct", -3600],
] as const)
  await tried(name, async () => {
    const at = Date.now();
    execFileSync("date", ["-s", `@${Math.floor(at / 1000) + step}`]);
    assert.ok(Math.abs(Date.now() - at - step * 1000) < 30_000, "the clock was not stepped");
    const said = await goesDirect(160);
    const keys = await Promise.all(SPOKES.map((s) => of(s).status()));
    for (const s of keys)
      assert.deepEqual(
        s?.shortcuts.map((x) => x.stage),
        ["direct"],
      );
    return said;
  });

await tried("policy refuses it: back on the hub, no peer", async () => {
  await policy(true);
  const said = await untilWay(OVERLAY);
  await flow().more(20);
  return said;
});
await tried("policy allows it: direct again, with a new handshake", async () => {
  await policy(false);
  const said = await untilWay(DIRECT);
  await goesDirect(40);
  return said;
});
await tried("an orderly stop leaves nothing", async () => {
  const lost = await flow().stop();
  await Promise.all(ROUTERS.map((r) => of(r).signal("SIGTERM")));
  for (const router of ROUTERS) {
    await until(`shortcutd on ${router} ends`, PATIENCE, () => of(router).exit !== undefined);
    assert.equal(of(router).exit?.code, 0, of(router).lastWords());
    await until(`${router} is as before`, 10_000, async () => {
      const left = difference(before.get(router) ?? [], await snapshot(site().node(router)));
      if (left.length > 0) throw new Error(left.join("\n"));
      return true;
    });
  }
  return lost;
});
for (const r of running.values()) await r.leave();
await lab?.stop();
process.exit();
