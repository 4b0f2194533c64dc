/**
 * Networks with an interface for each tunnel, two hubs, routers that are known by an address on lo,
 * /31 links or link-local addresses alone: the shortcut comes up in both families, policy decides,
 * the loss of a hub touches nothing that is direct and prolongs nothing that is not, and neighbours
 * hear the same all the while.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  NETWORK_HUBS,
  NETWORK_SPOKES,
  type NetworkOptions,
  NetworkSite,
} from "../../lab/plays/networks/site.js";
import { until } from "../../lab/runner/lab.js";
import type { Flows } from "../../lab/traffic/flows.js";
import { programs } from "./site.js";

const topology = join(fileURLToPath(new URL("../..", import.meta.url)), "lab/topologies/two-hubs.clab.yml");

const NETWORKS: readonly Omit<NetworkOptions, "topology" | "programs">[] = [
  { links: "numbered", daemons: { a: "bird", c: "frr", b1: "bird", b2: "frr" } },
  { links: "unnumbered", daemons: { a: "bird", c: "frr", b1: "frr", b2: "bird" } },
  { links: "numbered", daemons: { a: "bird", c: "bird", b1: "frr", b2: "frr" } },
  { links: "unnumbered", daemons: { a: "frr", c: "frr", b1: "bird", b2: "frr" } },
];

describe.each(NETWORKS)(
  "$links links, A on $daemons.a, C on $daemons.c, hubs on $daemons.b1 and $daemons.b2",
  (n) => {
    let site: NetworkSite;
    let four: Flows;
    let six: Flows;
    let before: string;

    beforeAll(async () => {
      site = await NetworkSite.up({ topology, programs, ...n });
      before = await until("RA hears the same twice", 20_000, async () => {
        const first = await site.heard();
        await site.sh("ra", "sleep 1");
        return first.includes("172.20.3.0/24") && first === (await site.heard()) ? first : undefined;
      });
      await site.startAll();
      four = await site.traffic(4);
      six = await site.traffic(6);
    });
    afterAll(() => site?.down());
    // a step that is repeated finds the network as it was
    beforeEach(async () => {
      for (const s of NETWORK_SPOKES) await site.refuse(s, false);
      for (const hub of NETWORK_HUBS) await site.mend(hub);
      await until(
        "the daemons use the preferred hub",
        90_000,
        async () => (await site.preferred("a")) === "wg-b1",
      );
      await site.untilRegistered();
      await site.untilDirect();
    });

    it("both families go direct, with all that the hubs attest", async () => {
      for (const s of NETWORK_SPOKES)
        expect((await site.status(s))?.hubs.every((h) => h.registered)).toBe(true);
      expect(await site.heard()).toBe(before);
    });

    it("policy sends it away at either end, and brings it back", async () => {
      for (const s of NETWORK_SPOKES) {
        await site.refuse(s, true);
        await site.untilHub();
        await site.refuse(s, false);
        await site.untilDirect();
      }
      expect(await site.heard()).toBe(before);
    });

    it("the loss of the hub in use, and its return, lose nothing of what is direct", async () => {
      const counts = [four.read(), six.read()];
      await site.cut("b1");
      await until(
        "the daemons use the other hub",
        60_000,
        async () => (await site.preferred("a")) === "wg-b2",
      );
      await site.more(four, 1_000);
      await site.more(six, 1_000);
      await site.mend("b1");
      await until(
        "the daemons use the preferred hub again",
        90_000,
        async () => (await site.preferred("a")) === "wg-b1",
      );
      await site.untilRegistered();
      await site.more(four, 500);
      for (const [i, f] of [four, six].entries())
        for (const [j, d] of f.read().entries()) expect(d.lost - (counts[i]?.[j]?.lost ?? 0), d.from).toBe(0);
      await site.untilDirect();
    });

    it("an offer that is selected and not direct does not prolong the daemon's own failover", async () => {
      for (const [spoke, owner] of [
        ["a", "c"],
        ["c", "a"],
      ] as const) {
        // the owner's daemon refuses: here the offers stand, selected, with their aliases on the overlay
        await site.refuse(owner, true);
        await site.untilHub();
        await until(`the offers stand on ${spoke}`, 30_000, async () => {
          const shortcut = (await site.status(spoke))?.shortcuts[0];
          return shortcut?.prefixes.some((p) => p.selected) === true;
        });
        const after = await site.followsAfter(spoke, "b1");
        console.log(
          `${spoke}: ${after[4]} ms (IPv4) and ${after[6]} ms (IPv6) after the daemon's own failover`,
        );
        expect(after[4]).toBeLessThanOrEqual(300);
        expect(after[6]).toBeLessThanOrEqual(300);
        await site.mend("b1");
        await until(
          "the daemons use the preferred hub",
          90_000,
          async () => (await site.preferred(spoke)) === "wg-b1",
        );
        await site.refuse(owner, false);
        await site.untilRegistered();
        await site.untilDirect();
      }
    });

    it("the other spoke's identity, forged by a host behind this one, is not believed by a hub", async () => {
      // without shortcutd the router has no guard of its own
      await site.end("a", "SIGTERM");
      await site.sh("host-a", "ip address add 100.64.3.1/32 dev lo");
      try {
        const key = (await site.sh("b1", "wg show wg-a public-key")).trim();
        const program = "/run/lab/dist/test/attacks/register.js";
        const argv = [process.execPath, program, "100.64.3.1", "4243", "100.64.0.1", key];
        const r = await site.lab.node("host-a").exec(argv, { timeout: 60_000 });
        expect([r.status, r.stdout.trim()]).toEqual([0, "unanswered"]);
        expect(site.shortcutd("b1").logged()).toContain(
          "it came in by wg-a, by which this hub does not reach 100.64.3.1: dropped",
        );
      } finally {
        await site.sh("host-a", "ip address del 100.64.3.1/32 dev lo");
        await site.start("a");
      }
    });

    it("new shortcuts are made with the hub that is left", async () => {
      await site.cut("b1");
      await until(
        "the daemons use the other hub",
        60_000,
        async () => (await site.preferred("a")) === "wg-b2",
      );
      for (const s of NETWORK_SPOKES) {
        await site.end(s, "SIGTERM");
        await site.start(s);
      }
      await site.untilRegistered(["100.64.0.2"]);
      await site.untilDirect();
    });
  },
);
