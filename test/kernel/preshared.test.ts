/**
 * Shows that a pair with a pre-shared key goes direct under it; that files which another tool renews at different
 * moments lose no packet, up to and after the next handshake of WireGuard, which uses the new key; that a key which
 * another program takes away is restored; and that ends with different keys stay on the hub path and say why.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import { Site } from "../../lab/site/site.js";
import { DIRECT, OVERLAY, other, SPOKE, SPOKES, type Spoke } from "../../lab/site/triangle.js";
import { programs } from "./site.js";

const FOLDER = "/etc/shortcutd/psk";
/** WireGuard makes a new handshake 120 s after the last one (REKEY_AFTER_TIME). */
const REKEY = 240_000;

let site: Site;
const secrets: string[] = [];

const file = (spoke: Spoke): string => `${FOLDER}/${SPOKE[other(spoke)].overlay}`;
const put = (spoke: Spoke, key: string): Promise<string> =>
  site.sh(spoke, `mkdir -p -m 700 ${FOLDER}; umask 077; echo '${key}' > ${file(spoke)}`);
async function generate(): Promise<string> {
  const key = (await site.sh("a", "wg genpsk")).trim();
  secrets.push(key);
  return key;
}

beforeAll(async () => {
  const lines = [
    "trigger: { rate: 200 kbit/s, for: 0 s, interval: 200 ms, hysteresis: 0.1 }",
    "timers: { offer: 2 s, drain: 100 ms, backoff: 100 ms, backoff-max: 2 s }",
    `psk: { directory: ${FOLDER}, required: true }`,
  ];
  site = await Site.up({
    topology: join(fileURLToPath(new URL("../..", import.meta.url)), "lab/topologies/triangle.clab.yml"),
    daemons: { a: "bird", b: "bird", c: "frr" },
    programs,
    configuration: { a: lines, c: lines },
  });
  const key = await generate();
  for (const s of SPOKES) await put(s, key);
  await site.startAll();
  await site.traffic(200, 500);
}, 120_000);
afterAll(() => site.down());

/** The pre-shared keys of the direct interface's peers, without those that have none. */
async function keys(spoke: Spoke): Promise<string[]> {
  const text = await site.sh(spoke, `wg show ${DIRECT} preshared-keys`);
  return text.split("\n").flatMap((l) => {
    const key = l.split("\t")[1] ?? "";
    return key === "" || key === "(none)" ? [] : [key];
  });
}
const untilKey = (spoke: Spoke, key: string): Promise<unknown> =>
  until(`${spoke}'s peer has the key`, 30_000, async () => (await keys(spoke)).join() === key);
const handshakes = (spoke: Spoke): Promise<string> =>
  site.sh(spoke, `wg show ${DIRECT} latest-handshakes | sort`);

it("a pair with the same key goes direct under it", async () => {
  await site.untilDirect(60_000);
  const [key = ""] = secrets;
  for (const s of SPOKES) expect(await keys(s)).toEqual([key]);
}, 90_000);

it("a renewal at one end, then at the other, loses nothing up to the next handshake and after it", async () => {
  const lost = () => site.flows.read().map((f) => f.lost - f.kernelDrops);
  const before = lost();
  const key = await generate();
  await put("a", key);
  await untilKey("a", key);
  const received = site.flows.read().map((f) => f.received);
  await until("packets arrive each way with different keys", 30_000, () =>
    site.flows.read().every((f, i) => f.received > (received[i] ?? 0) + 400),
  );
  await put("c", key);
  await untilKey("c", key);
  const [inA, inC] = await Promise.all(SPOKES.map(handshakes));
  await until("WireGuard has made a new handshake", REKEY, async () => {
    const now = await Promise.all(SPOKES.map(handshakes));
    return now[0] !== inA && now[1] !== inC;
  });
  const then = site.flows.read().map((f) => f.received);
  await until("packets arrive each way", 30_000, () =>
    site.flows.read().every((f, i) => f.received > (then[i] ?? 0) + 400),
  );
  for (const s of SPOKES) expect(await site.dev(s)).toBe(DIRECT);
  expect(lost()).toEqual(before);
}, 330_000);

it("a key that another program takes away is there again", async () => {
  const [key = ""] = await keys("a");
  const peer = (await site.sh("a", `wg show ${DIRECT} preshared-keys | grep -v none | cut -f1`)).trim();
  await site.sh("a", `wg set ${DIRECT} peer ${peer} preshared-key /dev/null`);
  await untilKey("a", key);
}, 60_000);

it("ends with different keys stay on the hub path, and both say so; neither key is told", async () => {
  await put("a", await generate());
  await until("A has the other key", 30_000, async () => (await keys("a")).join() === secrets.at(-1));
  for (const s of SPOKES) await site.shortcutd(s).ctl("purge", "all");
  for (const s of SPOKES) await site.untilDev(s, OVERLAY, 60_000);
  const said: string[] = [];
  await until("an end says that the keys differ", 60_000, async () => {
    said.push(...(await Promise.all(SPOKES.map((s) => site.explain(s)))));
    return said.some((t) => t.includes("the pre-shared keys of"));
  });
  for (const s of SPOKES) {
    const router = site.shortcutd(s);
    for (const words of [["status"], ["status", "--json"], ["timeline"]])
      said.push(await router.ctl(...words));
    said.push(router.logged());
  }
  for (const key of secrets) expect(said.join("\n")).not.toContain(key);
}, 180_000);
