/**
 * Shows that nobody but the holder of an overlay peer's key registers at a hub: a user without
 * privileges on a spoke, a host of its site, also where the guard of the own tables is gone and where
 * no shortcutd runs. That a host of a site cannot end a shortcut by what its router's policy drops. And that
 * a hub that answers with keys of its own is refused by a pin or a pre-shared key. Each attack is a program of
 * test/attacks, run on the real system.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import { CONFIG, configured, type Site } from "../../lab/site/site.js";
import { siteOf } from "./site.js";

const NOBODY = "65534";
let site: Site;
let hubKey: string;

beforeAll(async () => {
  site = await siteOf("bird", "bird", "bird");
  await site.startAll();
  hubKey = site.lab.node("b").readFile("/run/lab-keys/b.pub").trim();
}, 90_000);
afterAll(() => site.down());

/** Runs the attack; returns its exit code and what it said. */
async function register(node: string, source: string, port: number, uid?: string): Promise<[number, string]> {
  const program = "/run/lab/dist/test/attacks/register.js";
  const argv = [process.execPath, program, source, String(port), "10.255.0.3", hubKey];
  const r = await site.lab.node(node).exec(uid === undefined ? argv : [...argv, uid]);
  return [r.status ?? -1, r.stdout.trim()];
}
const registrations = async (): Promise<string[]> =>
  ((await site.status("b"))?.registrations ?? []).map((r) => `${r.address} ${r.publicKey}`).sort();
/** As a reloaded firewall does it. Returns how long the guard was away, milliseconds. */
async function flush(): Promise<number> {
  await site.sh("a", "nft flush ruleset");
  const from = performance.now();
  const chain = ["nft", "list", "chain", "inet", "shortcutd_wg0", "control_out"];
  await until("the guard stands again", 5_000, async () => {
    return (await site.lab.node("a").exec(chain)).status === 0;
  });
  return performance.now() - from;
}

/** Runs a program of test/attacks on a node. Returns its exit code and what it said. */
async function attack(node: string, name: string, ...args: string[]): Promise<[number, string]> {
  const argv = [process.execPath, `/run/lab/dist/test/attacks/${name}.js`, ...args];
  const r = await site.lab.node(node).exec(argv, { timeout: 60_000 });
  return [r.status ?? -1, r.stdout.trim()];
}

describe("what a router's policy drops", () => {
  const POLICY =
    "table inet ports { counter got { }; chain f { type filter hook forward priority 0; udp dport 9 counter name got drop; }; }";
  const got = async (router: string): Promise<number> =>
    Number(/packets (\d+)/.exec(await site.sh(router, "nft list counter inet ports got"))?.[1]);

  it("does not end a shortcut, however much of it a host sends, when nothing else is sent", async () => {
    const flows = await site.traffic();
    await site.untilDirect(60_000);
    await flows.stop();
    for (const [router, host, target] of [
      ["a", "host-a", "10.3.0.10"],
      ["c", "host-a", "10.3.0.10"],
    ] as const) {
      await site.sh(router, `nft '${POLICY}'`);
      const [code, said] = await attack(host, "drops", target, "9", "7108");
      expect([router, code, said]).toEqual([router, 0, expect.stringContaining("7108 datagrams")]);
      // a busy machine loses some on the way
      expect(await got(router)).toBeGreaterThan(2_000);
      await site.sh(router, "nft delete table inet ports");
    }
    expect(await site.stage("a")).toBe("direct");
    expect(await site.explain("a")).not.toContain("firewall");
  }, 120_000);
});

describe("a registration without the overlay key", () => {
  it("by a user without privileges on a spoke is dropped by the spoke's guard, also while a firewall is reloaded", async () => {
    const before = await registrations();
    expect(before).toHaveLength(2);
    expect(await register("a", "10.1.0.1", 4243, NOBODY)).toEqual([0, "unanswered"]);
    expect(await register("a", "10.255.0.1", 50_000, NOBODY)).toEqual([0, "unanswered"]);
    const [[code, said], away] = await Promise.all([register("a", "10.1.0.1", 4243, NOBODY), flush()]);
    expect(code).toBe(0);
    expect(said).toMatch(/^(unanswered|refused: 10\.1\.0\.1 has not proven the key)/);
    expect(away).toBeLessThan(1_000);
    expect(await registrations()).toEqual(before);
  }, 60_000);

  it("by a host of the site is dropped by the spoke's guard, also while a firewall is reloaded", async () => {
    const before = await registrations();
    expect(await register("host-a", "10.1.0.10", 4243)).toEqual([0, "unanswered"]);
    const [[code, said], away] = await Promise.all([register("host-a", "10.1.0.10", 4243), flush()]);
    expect(code).toBe(0);
    expect(away).toBeLessThan(1_000);
    expect(said).toMatch(/^(unanswered|refused: 10\.1\.0\.10 has not proven the key)/);
    expect(await registrations()).toEqual(before);
  }, 60_000);

  it("where no shortcutd runs on the spoke is refused by the hub", async () => {
    await site.end("a", "SIGTERM");
    await until("the hub has forgotten A", 60_000, async () => (await registrations()).length === 1);
    const before = await registrations();
    expect(await register("a", "10.255.0.1", 4243, NOBODY)).toEqual([
      0,
      expect.stringMatching(/^refused: 10\.255\.0\.1 has not proven the key of its overlay peer on wg0: /),
    ]);
    expect(await register("host-a", "10.1.0.10", 4243)).toEqual([
      0,
      expect.stringMatching(/^refused: 10\.1\.0\.10 has not proven the key of its overlay peer on wg0: /),
    ]);
    expect(await registrations()).toEqual(before);
  }, 120_000);
});

/**
 * Runs a hub that substitutes keys against a spoke with these lines in its configuration; returns the attack's exit
 * code, the key that it spoke for C with, and what it was told.
 */
async function substitute(lines: readonly string[]): Promise<{ code: number; key: string; said: string }> {
  const [a, b] = [site.lab.node("a"), site.lab.node("b")];
  const plain = a.readFile(CONFIG);
  a.writeFile(CONFIG, configured(plain, lines));
  try {
    await site.start("a");
    const program = "/run/lab/dist/test/attacks/substitute.js";
    const routers = ["10.255.0.3", "10.255.0.1", "10.1.0.0/24", "10.255.0.2", "10.3.0.0/24"];
    const r = await b.exec([process.execPath, program, ...routers], { timeout: 60_000 });
    const [key = "", ...said] = r.stdout.trim().split("\n");
    // before it is ended: what an operator sees
    const shown = await site.shortcutd("a").ctl("explain", "10.3.0.10");
    const peers = await site.peers("a");
    if (r.status === 0) expect(peers).not.toContain(key);
    return { code: r.status ?? -1, key, said: `${said.join("\n")}${r.stderr}\n${shown}` };
  } finally {
    await site.end("a", "SIGTERM");
    a.writeFile(CONFIG, plain);
  }
}

describe("a hub that answers with keys of its own", () => {
  beforeAll(async () => {
    for (const r of ["a", "b", "c"] as const) await site.end(r, "SIGTERM");
  }, 60_000);

  it("gets as far as the daemon's selection, where neither pins nor a pre-shared key are configured", async () => {
    const { code, said } = await substitute([]);
    expect(code, said).toBe(1);
  }, 90_000);

  it("is refused by a pin: the reason names the key, and explain shows it", async () => {
    const pinned = (await site.sh("c", "wg genkey | wg pubkey")).trim();
    const { code, key, said } = await substitute([`pins: { 10.255.0.2: ${pinned} }`]);
    expect(code, said).toBe(0);
    expect(said).toContain(`pins of 10.255.0.1 do not have the direct key ${key} for 10.255.0.2`);
  }, 90_000);

  it("is refused by a pre-shared key that it does not have, with a proof and without; the key is told nobody", async () => {
    await site.sh(
      "a",
      "mkdir -p -m 700 /etc/shortcutd/psk; umask 077; wg genpsk > /etc/shortcutd/psk/10.255.0.2",
    );
    const secret = site.lab.node("a").readFile("/etc/shortcutd/psk/10.255.0.2").trim();
    const { code, said } = await substitute(["psk: { directory: /etc/shortcutd/psk }"]);
    expect(code, said).toBe(0);
    expect(said).toContain("10.255.0.2 has no pre-shared key for 10.255.0.1, which has one for it");
    expect(said).toContain("the pre-shared keys of 10.255.0.1 and 10.255.0.2 differ, or a hub substitutes");
    expect(said).not.toContain(secret);
  }, 90_000);
});
