/** Shows the promises of the product in kernel state and in the routes that neighbours hear. */
import { describe, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import { countUnderlay, readCounters, wayOf } from "../../lab/site/counters.js";
import type { Site } from "../../lab/site/site.js";
import { difference, settledSnapshot } from "../../lab/site/snapshot.js";
import { type Daemon, DIRECT, OVERLAY } from "../../lab/site/triangle.js";
import { siteOf } from "./site.js";

const pairs: readonly (readonly [Daemon, Daemon, Daemon])[] = [
  ["bird", "bird", "bird"],
  ["frr", "bird", "frr"],
];

/**
 * `show protocols all`: [received, rejected, filtered, ignored, accepted] of import updates, then
 * withdraws received.
 */
async function heard(
  site: Site,
  router: string,
  protocol: string,
): Promise<{ received: number; accepted: number; withdraws: number }> {
  const text = await site.sh(router, `birdc show protocols all ${protocol}`);
  const updates = /Import updates:\s+(\d+)\s+\S+\s+\S+\s+\S+\s+(\d+)/.exec(text);
  const withdraws = /Import withdraws:\s+(\d+)/.exec(text);
  return {
    received: Number(updates?.[1]),
    accepted: Number(updates?.[2]),
    withdraws: Number(withdraws?.[1]),
  };
}

/** All routes with all attributes, without the times at which they came. */
const table = async (site: Site, router: string, protocol: string): Promise<string> =>
  (await site.sh(router, `birdc show route all protocol ${protocol}`)).replace(/ \d\d:\d\d:\d\d\.\d+/g, "");

describe.each(pairs)("A on %s, B on %s, C on %s", (a, b, c) => {
  it("carries the flow off the hub, says nothing to neighbours, survives kill -9, and follows the route underneath", () =>
    promises(a, b, c));
});

/** One site: direct, a kill of shortcutd, a restart, and the route underneath withdrawn. */
async function promises(a: Daemon, b: Daemon, c: Daemon): Promise<void> {
  const site = await siteOf(a, b, c);
  try {
    await countUnderlay(site.lab);
    const neighbours = [
      ["ra", "a"],
      ["b", "spoke_a"],
      ["b", "spoke_c"],
    ] as const;
    await until("ra has heard C's site", 20_000, async () =>
      (await table(site, "ra", "a")).includes("10.3.0.0/24"),
    );
    await site.startAll();
    const before = await Promise.all(
      neighbours.map(async ([r, p]) => ({
        heard: await heard(site, r, p),
        table: await table(site, r, p),
      })),
    );
    const flows = await site.traffic();
    await site.untilDirect();

    // the hub's overlay stops growing for that flow; the underlay between A and C carries it
    const first = await readCounters(site.lab);
    const sentBefore = flows.read()[0].sent;
    await until("2,000 packets each way", 20_000, () => flows.read()[0].sent > sentBefore + 2_000);
    const sent = flows.read()[0].sent - sentBefore;
    expect(wayOf(first, await readCounters(site.lab), sent)).toBe("direct");

    const quiet = async (when: string): Promise<void> => {
      for (const [i, [router, protocol]] of neighbours.entries()) {
        const was = before[i];
        const now = await heard(site, router, protocol);
        const place = `${router}'s session ${protocol}, ${when}`;
        expect(await table(site, router, protocol), place).toBe(was?.table);
        expect(now.withdraws, `${place}: withdrawals`).toBe(was?.heard.withdraws);
        expect(now.accepted, `${place}: changes`).toBe(was?.heard.accepted);
        if (a === "bird" && c === "bird") expect(now.received, `${place}: updates`).toBe(was?.heard.received);
      }
    };
    await quiet("while direct");

    // kill -9: the daemon drops the offers with the session, both ends are on the hub path again
    const lostBefore = flows.read().map((f) => f.lost);
    await site.end("a", "SIGKILL");
    const backA = await site.untilDev("a", OVERLAY, 5_000);
    const backC = await site.untilDev("c", OVERLAY, 5_000);
    const sentThen = flows.read()[0].sent;
    await until("1,000 packets more", 20_000, () => flows.read()[0].received > sentThen + 1_000);
    const lost = flows.read().map((f, i) => f.lost - (lostBefore[i] ?? 0));
    console.log(
      `kill -9 of shortcutd on A: A back in ${backA.toFixed(0)} ms, C in ${backC.toFixed(0)} ms, lost ${lost.join(" and ")} packets at 2,000/s`,
    );
    expect(Math.max(...lost)).toBeLessThan(2_000);
    await quiet("after the kill");

    // a restart removes what was left and goes direct again
    expect((await site.peers("a")).length).toBeGreaterThan(0);
    await site.start("a");
    await site.untilDirect();
    await quiet("direct again");

    // the route underneath goes at C: A's offer goes within two seconds
    const goneAt = performance.now();
    await site.sh(
      "c",
      c === "bird"
        ? "birdc disable direct1"
        : "vtysh -c 'configure terminal' -c 'router bgp 65000' -c 'address-family ipv4 unicast' -c 'no network 10.3.0.0/24'",
    );
    await until(
      "A has no route for C's site",
      5_000,
      async () => (await site.sh("a", "ip route show type unicast 10.3.0.0/24")) === "",
      10,
    );
    const took = performance.now() - goneAt;
    console.log(`route underneath withdrawn at C: A's offer gone after ${took.toFixed(0)} ms`);
    expect(took).toBeLessThan(2_000);
    await until("no peer of C on A", 20_000, async () => (await site.peers("a")).length === 1);
  } finally {
    await site.down();
  }
}

describe("an orderly stop and a crash", () => {
  it("SIGTERM leaves the router as it was; a start after a crash removes what was left", stopAndCrash);
});

/** One site: a crash, a start, and an orderly stop, after which A is as it was. */
async function stopAndCrash(): Promise<void> {
  const site = await siteOf("bird", "bird", "frr");
  try {
    const a = site.lab.node("a");
    const converged = () => settledSnapshot(a, { accepts: (s) => s.some((l) => l.includes("10.3.0.0/24")) });
    const before = await converged();
    await site.startAll();
    await site.traffic();
    await site.untilDirect();
    await site.end("a", "SIGKILL");
    await site.start("a");
    await until(
      "the new start has no peer but the hub",
      10_000,
      async () => (await site.peers("a")).length <= 1,
    );
    await site.untilDirect();
    await site.end("a", "SIGTERM");
    expect(site.shortcutd("a").exit?.code).toBe(0);
    expect(difference(before, await converged())).toEqual([]);
    expect(await site.sh("a", `ps -eo args | grep -c '[w]ireguard-go ${DIRECT}' || true`)).toBe("0\n");
  } finally {
    await site.down();
  }
}
