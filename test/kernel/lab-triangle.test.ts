/** The triangle comes up with every mix of daemons, and both LANs talk through the hub. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Node, startLab, until } from "../../lab/runner/lab.js";
import { startFlows } from "../../lab/traffic/flows.js";
import { address } from "../../plugin/net/address.js";
import { converged } from "./config-source.js";
import { build } from "./lab-build.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));
const hostLinks = (): string => execFileSync("ip", ["-br", "link"], { encoding: "utf8" });

describe("lab/topologies/triangle.clab.yml", () => {
  let built: ReturnType<typeof build>;
  beforeAll(() => {
    built = build("lab", "plugin/net");
  });
  afterAll(() => built?.remove());

  it.each([
    ["bird", "bird", "bird"],
    ["frr", "frr", "frr"],
    ["bird", "frr", "frr"],
    ["frr", "bird", "bird"],
  ])("comes up with %s on A, %s on B, %s on C", async (DAEMON_A, DAEMON_B, DAEMON_C) => {
    const links = hostLinks();
    const lab = await startLab(topology, { env: { DAEMON_A, DAEMON_B, DAEMON_C } });
    try {
      expect(hostLinks()).toBe(links);
      const host = lab.node("host-a");
      await converged(host);
      const hops = await host.must(["traceroute", "-n", "-q", "1", "10.3.0.10"]);
      expect(hops.split("\n").flatMap((l) => /^ *\d+ +(\S+)/.exec(l)?.[1] ?? [])).toEqual([
        "10.1.0.1",
        "10.255.0.3",
        "10.255.0.2",
        "10.3.0.10",
      ]);
      // The network behind RA is known at C, through A.
      await until("host-c reaches the network behind ra", 15_000, async () => {
        return (await lab.node("host-c").exec(["ping", "-n", "-c", "1", "-W", "1", "10.1.9.1"])).status === 0;
      });
    } finally {
      await lab.stop();
    }
  });

  it("carries 2,000 packets/s each way, counted one by one, and notices each that is lost", async () => {
    const lab = await startLab(topology, {});
    try {
      await converged(lab.node("host-a"));
      const b = lab.node("b");
      const byHub = (): number => Number(b.readFile("/sys/class/net/wg0/statistics/tx_packets"));
      const before = byHub();
      // The packets that really arrive, by the kernel's count: a busy machine may lose packets of
      // its own.
      const hosts = [lab.node("host-c"), lab.node("host-a")] as const;
      const counter = "add table ip n; add chain ip n i { type filter hook input priority 0; }";
      for (const host of hosts)
        await host.must(["nft", `${counter}; add rule ip n i udp dport 7000 counter`]);
      let lines = 0;
      const seen = { t0: 0, sent0: 0, t1: 0, sent1: 0 };
      const flows = await startFlows(
        lab,
        { node: "host-a", address: address("10.1.0.10") },
        { node: "host-c", address: address("10.3.0.10") },
        {
          program: join(built.dir, "lab/traffic/main.js"),
          onLine: (node, line) => {
            lines++;
            if (node !== "host-a" || line.last || (line.sent?.packets ?? 0) <= seen.sent1) return;
            if (seen.t0 === 0) [seen.t0, seen.sent0] = [line.at, line.sent?.packets ?? 0];
            [seen.t1, seen.sent1] = [line.at, line.sent?.packets ?? 0];
          },
        },
      );
      const more = async (direction: 0 | 1, n: number): Promise<void> => {
        const enough = flows.read()[direction].received + n;
        await until(`${n} more packets`, 15_000, () => flows.read()[direction].received >= enough);
      };
      await more(0, 4_000);
      // Packets vanish at the hub, which counts them: every one of them has to show.
      await b.must(["nft", "add table ip t; add chain ip t f { type filter hook forward priority 0; }"]);
      await b.must(["nft", "add rule ip t f ip daddr 10.3.0.10 udp dport 7000 counter drop"]);
      await more(1, 400);
      await b.must(["nft", "insert rule ip t f accept"]);
      await more(0, 1_000);
      const [there, back] = await flows.stop();
      const counted = async (node: Node, table: string): Promise<number> =>
        Number(/counter packets (\d+)/.exec(await node.must(["nft", "list", "table", "ip", table]))?.[1]);
      for (const [direction, host] of [
        [there, hosts[0]],
        [back, hosts[1]],
      ] as const) {
        expect(direction.received + direction.duplicated + direction.kernelDrops).toBe(
          await counted(host, "n"),
        );
        expect(direction.lost).toBe(direction.sent - direction.received);
      }
      const dropped = await counted(b, "t");
      expect(dropped).toBeGreaterThan(100);
      expect(there.lost).toBeGreaterThanOrEqual(dropped);
      expect(there.longestSilence).toBeGreaterThan(100);
      expect(byHub() - before).toBeGreaterThanOrEqual(there.received + back.received);
      const rate = ((seen.sent1 - seen.sent0) * 1000) / (seen.t1 - seen.t0);
      expect(rate).toBeGreaterThan(1_900);
      expect(rate).toBeLessThan(2_100);
      expect(lines).toBeGreaterThan(20);
    } finally {
      await lab.stop();
    }
  });
});
