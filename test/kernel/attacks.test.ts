/**
 * Shows that nobody but the holder of an overlay peer's key registers at a hub: a user without
 * privileges on a spoke, a host of its site, also where the guard of the own tables is gone and where
 * no shortcutd runs. Each attack is a program of test/attacks, run on the real system.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import type { Site } from "../../lab/site/site.js";
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
      "refused: 10.255.0.1 has not proven the key of its overlay peer",
    ]);
    expect(await register("host-a", "10.1.0.10", 4243)).toEqual([
      0,
      "refused: 10.1.0.10 has not proven the key of its overlay peer",
    ]);
    expect(await registrations()).toEqual(before);
  }, 120_000);
});
