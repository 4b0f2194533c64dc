/** bird-config/ as shipped, on a real BIRD in the triangle: what an offer does, and what nobody else may notice. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Lab, type Node, startLab, until } from "../../lab/runner/lab.js";
import {
  ALIAS4,
  addDirect,
  converged,
  DIRECT,
  FAR4,
  FAR6,
  fib,
  fibFollows,
  pointAliases,
  type Source,
  startFeed,
  startOffers,
} from "./config-source.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));
const BOARD = "4242";

describe("bird-config on BIRD", () => {
  let lab: Lab;
  let a: Node;
  let offers: Source;
  let feed: Source;

  /** Every update and withdrawal that a neighbour of A has heard since its start, from BIRD's own statistics. */
  const heard = async (node: string, ...protocols: string[]): Promise<string> => {
    let all = "";
    for (const protocol of protocols) {
      const text = await lab.node(node).must(["birdc", "show", "protocols", "all", protocol]);
      const lines = text.split("\n").filter((l) => /Import (updates|withdraws):/.test(l));
      expect(lines.length).toBeGreaterThanOrEqual(2);
      all += lines.join("\n");
    }
    return all;
  };
  const neighbours = async (): Promise<string> =>
    (await heard("ra", "a")) + (await heard("b", "spoke_a", "spoke_a6"));

  beforeAll(async () => {
    lab = await startLab(topology, { env: { DAEMON_A: "bird", DAEMON_B: "bird", DAEMON_C: "bird" } });
    a = lab.node("a");
    await converged(lab.node("host-a"));
    await addDirect(a);
    await pointAliases(a, "wg0", BOARD);
  });
  afterAll(() => lab?.stop());

  it("feeds what lies underneath, with all attributes and nothing else", async () => {
    feed = await startFeed(a, { target: "127.0.0.4" });
    const routes = await until("the feed has both far prefixes", 5_000, async () => {
      const text = await feed.birdc("show", "route", "all");
      return text.includes(FAR4) && text.includes(FAR6) ? text : undefined;
    });
    expect(routes).toContain("BGP.next_hop: 10.255.0.2");
    expect(routes).toContain("BGP.next_hop: fd00:255::2");
    // A's own LAN and the router behind A are not underneath anything.
    expect(routes).not.toContain("10.1.");
  });

  it("selects an offer without moving anything, and without a word to a neighbour", async () => {
    const before = await neighbours();
    expect(await fib(a, FAR4, BOARD)).toBe("");
    offers = await startOffers(a, { target: "127.0.0.1" });
    await until("the blackboard shows what was selected", 5_000, async () => {
      return (
        (await fib(a, FAR4, BOARD)).includes("proto bird") &&
        (await fib(a, FAR6, BOARD)).includes("proto bird")
      );
    });
    await fibFollows(a, "wg0");
    expect(await a.must(["birdc", "show", "route", "table", "fib4", "primary", FAR4])).toContain(
      "[shortcut ",
    );
    // master4, and so everything that is announced from it, knows nothing of offers.
    expect(await a.must(["birdc", "show", "route", "table", "master4", "all"])).not.toContain("[shortcut ");
    const host = await lab.node("host-a").exec(["ping", "-n", "-c", "1", "-W", "2", "10.3.0.10"]);
    expect(host.status).toBe(0);

    await pointAliases(a, DIRECT, BOARD);
    await fibFollows(a, DIRECT);
    await pointAliases(a, "wg0", BOARD);
    await fibFollows(a, "wg0");
    expect(await neighbours()).toBe(before);
  });

  it("keeps the feed on the route underneath while an offer is selected", async () => {
    const routes = await feed.birdc("show", "route", "all");
    expect(routes).toContain("BGP.next_hop: 10.255.0.2");
    expect(routes).not.toContain(ALIAS4);
  });

  it("falls back to the hub, not to `unreachable`, when the direct interface goes down", async () => {
    await pointAliases(a, DIRECT, BOARD);
    await fibFollows(a, DIRECT);
    await a.must(["ip", "link", "set", DIRECT, "down"]);
    await fibFollows(a, "wg0");
    expect(await a.must(["birdc", "show", "route", "table", "fib4", "primary", FAR4])).toContain(
      "[shortcut ",
    );
    await a.must(["ip", "link", "set", DIRECT, "up"]);
    await pointAliases(a, DIRECT, BOARD);
    await fibFollows(a, DIRECT);
  });

  it("drops the offer by a one-line change of policy.conf, and takes it again", async () => {
    const before = await neighbours();
    const file = "/etc/bird/shortcut/policy.conf";
    const shipped = a.readFile(file);
    const line = "  # 10.3.0.0/24+,";
    expect(shipped.split("\n").filter((l) => l === line)).toHaveLength(1);
    a.writeFile(file, shipped.replace(line, "  10.3.0.0/24+,"));
    expect(await a.must(["birdc", "configure"])).toContain("Reconfigured");
    await until("the hub's route is in the FIB", 5_000, async () =>
      (await fib(a, FAR4)).includes("via 10.255.0.2"),
    );
    await until("the blackboard is clear", 5_000, async () => (await fib(a, FAR4, BOARD)) === "");
    // The other prefix is still eligible.
    expect(await fib(a, FAR6)).toContain(`dev ${DIRECT}`);

    a.writeFile(file, shipped);
    expect(await a.must(["birdc", "configure"])).toContain("Reconfigured");
    await fibFollows(a, DIRECT);
    // The sessions stood through both.
    expect(await neighbours()).toBe(before);
  });

  it("is back on the hub route when the session ends, by `birdc disable shortcut` and by kill -9", async () => {
    const before = await neighbours();
    const onHub = async (): Promise<boolean> =>
      (await fib(a, FAR4)).includes("via 10.255.0.2") && (await fib(a, FAR6)).includes("via fd00:255::2");
    await a.must(["birdc", "disable", "shortcut"]);
    await until("both prefixes are on the hub route", 5_000, onHub);
    await a.must(["birdc", "enable", "shortcut"]);
    await fibFollows(a, DIRECT, 15_000);
    await offers.kill();
    await until("both prefixes are on the hub route", 5_000, onHub, 5);
    expect(await neighbours()).toBe(before);
  });

  it("refuses what is not marked as an offer", async () => {
    offers = await startOffers(a, { target: "127.0.0.1" }, false);
    const session = await until("the offers were received", 5_000, async () => {
      const text = await a.must(["birdc", "show", "protocols", "all", "shortcut"]);
      return /Import updates:\s+1 /.test(text) ? text : undefined;
    });
    expect(session).toMatch(/Import updates:\s+1\s+0\s+1\s/);
    expect(await fib(a, FAR4)).toContain("via 10.255.0.2");
    await offers.kill();
  });

  it("ships only files that the examples include", () => {
    const spoke = readFileSync(new URL("../../bird-config/examples/spoke.conf", import.meta.url), "utf8");
    expect(spoke).toContain('include "shortcut/shortcut.conf";');
    const main = readFileSync(new URL("../../bird-config/shortcut.conf", import.meta.url), "utf8");
    for (const file of ["shortcut-defines.conf", "policy.conf"]) expect(main).toContain(`include "${file}";`);
  });
});
