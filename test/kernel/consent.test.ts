/**
 * One daemon refuses. Both must agree, unless both operators say that one is enough: then traffic
 * goes direct one way, and back via the hub.
 */
import { describe, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import { fullBuffers } from "../../lab/site/buffer-drops.js";
import { countUnderlay, readCounters } from "../../lab/site/counters.js";
import type { Site } from "../../lab/site/site.js";
import { type Daemon, DIRECT, OVERLAY, type Spoke } from "../../lab/site/triangle.js";
import { siteOf } from "./site.js";

const pairs: readonly (readonly [Daemon, Daemon])[] = [
  ["bird", "frr"],
  ["frr", "bird"],
];

/** C's daemon refuses every offer for A's site. */
async function refuse(site: Site, daemon: Daemon): Promise<void> {
  if (daemon === "frr") {
    const lines = [
      "ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny 10.1.0.0/16 le 32",
      "ipv6 prefix-list SHORTCUT-ELIGIBLE seq 5 deny 2001:db8:1::/48 le 128",
    ];
    await site.sh("c", `vtysh -c 'configure terminal' ${lines.map((l) => `-c '${l}'`).join(" ")}`);
    return;
  }
  const node = site.lab.node("c");
  const file = "/etc/bird/shortcut/policy.conf";
  node.writeFile(
    file,
    node
      .readFile(file)
      .replace("# 10.3.0.0/24+,", "10.1.0.0/16+,")
      .replace("# 2001:db8:3::/48+,", "2001:db8:1::/48+,"),
  );
  await site.sh("c", "birdc configure");
}

async function allowOneWay(site: Site, spoke: Spoke): Promise<void> {
  await site.sh(spoke, "echo 'consent: one-way' >> /etc/shortcutd/shortcutd.yaml");
  await site.end(spoke, "SIGTERM");
  await site.start(spoke);
}

describe.each(pairs)("A on %s selects, C on %s refuses", (a, c) => {
  it("no tunnel when both must agree; direct one way when one is enough", () => oneRefuses(a, c));
});

/**
 * Brings a site up, lets C's daemon refuse, and looks at both directions with no, one and two
 * consents.
 */
async function oneRefuses(a: Daemon, c: Daemon): Promise<void> {
  const site = await siteOf(a, "bird", c);
  try {
    await countUnderlay(site.lab);
    await refuse(site, c);
    await site.startAll();
    const flows = await site.traffic();

    const refusal = async (): Promise<true> => {
      const said = await site.shortcutd("a").ctl("explain", "10.3.0.10");
      if (!said.includes("the owner's daemon")) throw new Error(said);
      return true;
    };
    await until("A names the owner's daemon", 20_000, refusal);
    expect([await site.dev("a"), await site.dev("c")]).toEqual([OVERLAY, OVERLAY]);
    expect([(await site.peers("a")).length, (await site.peers("c")).length]).toEqual([1, 1]);

    // only one of the two operators says so: still none
    await allowOneWay(site, "c");
    await until("A names the owner's daemon again", 30_000, refusal);
    expect((await site.peers("c")).length).toBe(1);

    await allowOneWay(site, "a");
    await site.untilDev("a", DIRECT, 40_000);
    expect((await site.peers("c")).length).toBe(2);
    const before = await readCounters(site.lab);
    const receivedBefore = flows.read().map((f) => f.received);
    const lostBefore = flows.read().map((f) => f.lost);
    const fullBefore = fullBuffers(site.lab);
    await until("2,000 packets each way", 20_000, () =>
      flows.read().every((f, i) => f.received > (receivedBefore[i] ?? 0) + 2_000),
    );
    // Of the packets that arrived: those that wait in a full queue of the machine have gone neither way yet.
    const [there = 0, back = 0] = flows.read().map((f, i) => f.received - (receivedBefore[i] ?? 0));
    const after = await readCounters(site.lab);
    expect(after.there - before.there, "from A to C, direct").toBeGreaterThan(there * 0.9);
    expect(after.back - before.back, "from C to A, direct").toBeLessThan(back * 0.1);
    expect(after.hubPackets - before.hubPackets, "via the hub").toBeGreaterThan(back * 0.9);
    expect(after.hubPackets - before.hubPackets, "via the hub").toBeLessThan(back * 1.2);
    expect(await site.dev("c")).toBe(OVERLAY);
    // what this machine had no room for is not the routers' doing
    const full = fullBuffers(site.lab) - fullBefore;
    for (const [i, f] of flows.read().entries())
      expect(f.lost - (lostBefore[i] ?? 0), `lost, with ${full} in full buffers`).toBeLessThanOrEqual(full);
  } finally {
    await site.down();
  }
}
