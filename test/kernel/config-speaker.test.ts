/**
 * The shipped configurations and shortcutd's own BGP speaker: what the stand-in of the other config
 * tests cannot show.
 */
import { closeSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";
import koffi from "koffi";
import { afterEach, describe, expect, it } from "vitest";
import { type Node, startLab, until } from "../../lab/runner/lab.js";
import { BgpConnection } from "../../plugin/adapters/daemons/bgp.js";
import type { RouteChange } from "../../plugin/bgp/rib.js";
import { Session } from "../../plugin/bgp/session.js";
import { type Address, address, type Family, prefix } from "../../plugin/net/address.js";
import { pathAttributes } from "../../plugin/wire/bgp/attributes.js";
import { largeCommunity } from "../../plugin/wire/bgp/community.js";
import { ALIAS4, ALIAS6, converged, FAR4, FAR6, fib, pointAliases } from "./config-source.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));
const setns: (fd: number, type: number) => number = koffi
  .load("libc.so.6")
  .func("int setns(int fd, int nstype)");
const CLONE_NEWNET = 0x40000000;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

/** Sockets of this process are made in the node's network from now on. */
function enterNetwork(node: Node): void {
  const home = openSync("/proc/thread-self/ns/net", "r");
  const there = openSync(`/proc/${node.pid}/ns/net`, "r");
  const result = setns(there, CLONE_NEWNET);
  closeSync(there);
  cleanups.push(() => {
    setns(home, CLONE_NEWNET);
    closeSync(home);
  });
  if (result !== 0) throw new Error("setns failed: are we root?");
}

function dial(from: Address, to: Address, feed: boolean) {
  const seen = { up: false, changes: [] as RouteChange[], complete: new Set<Family>(), problems: [""] };
  const connection = new BgpConnection({
    session: new Session(
      {
        name: feed ? "feed" : "offers",
        localAs: 65000,
        remoteAs: 65000,
        routerId: from,
        holdTime: 9,
        families: [4, 6],
        addPathReceive: feed,
        askEndOfRib: feed,
        backoff: { minMs: 100, maxMs: 1000 },
      },
      Math.random,
    ),
    localAddress: from,
    remoteAddress: to,
    remotePort: 179,
    onState: (s) => {
      seen.up = s.kind === "established";
    },
    onRoutes: (c) => seen.changes.push(...c),
    onEndOfRib: (f) => seen.complete.add(f),
    onProblem: (_, text) => seen.problems.push(text),
  });
  cleanups.push(() => connection.stop());
  connection.start();
  return { connection, seen };
}

describe.each([
  { daemon: "bird", target: "127.0.0.1", table: "4242" },
  { daemon: "frr", target: "10.255.0.1", table: "main" },
])("shortcutd's speaker and $daemon as configured", ({ daemon, target, table }) => {
  it("agree on both sessions, offers, refusal and return", async () => {
    const env = { DAEMON_A: daemon, DAEMON_B: "bird", DAEMON_C: "bird" };
    const lab = await startLab(topology, { env });
    cleanups.push(() => lab.stop());
    const a = lab.node("a");
    await converged(lab.node("host-a"));
    await pointAliases(a, "wg0", table);
    enterNetwork(a);

    const feed = dial(address("127.0.0.3"), address(target), true);
    await until("the feed is complete in both families", 10_000, () => feed.seen.complete.size === 2);
    const fed = JSON.stringify(feed.seen.changes);
    for (const text of [FAR4, FAR6, "10.255.0.2", "fd00:255::2"]) expect(fed).toContain(`"${text}"`);

    const offers = dial(address("127.0.0.2"), address(target), false);
    await until("the offers session is up", 10_000, () => offers.seen.up);
    const marked = (alias: string) =>
      pathAttributes({
        nextHop: address(alias),
        localPref: 100,
        largeCommunities: [largeCommunity("65000:1:1")],
      });
    offers.connection.announce([
      { prefix: prefix(FAR4), attributes: marked(ALIAS4) },
      { prefix: prefix(FAR6), attributes: marked(ALIAS6) },
    ]);
    const selected = async (p: string, alias: string): Promise<boolean> =>
      daemon === "bird"
        ? (await fib(a, p, table)).includes("proto bird") && /dev wg0 proto bird/.test(await fib(a, p))
        : (await fib(a, p)).includes(`via ${alias} dev wg0`);
    const refused = async (): Promise<boolean> =>
      (await fib(a, FAR4)).includes("via 10.255.0.2") &&
      (daemon === "frr" || (await fib(a, FAR4, table)) === "");
    await until("both offers are selected", 5_000, async () => {
      return (await selected(FAR4, ALIAS4)) && (await selected(FAR6, ALIAS6));
    });

    const policy = "/etc/bird/shortcut/policy.conf";
    const list = (command: string) => ["vtysh", "-c", "configure terminal", "-c", command];
    if (daemon === "bird") {
      a.writeFile(policy, a.readFile(policy).replace("# 10.3.0.0/24+,", "10.3.0.0/24+,"));
      await a.must(["birdc", "configure"]);
    } else await a.must(list("ip prefix-list SHORTCUT-ELIGIBLE seq 5 deny 10.3.0.0/24 le 32"));
    await until("the offer is refused", 8_000, refused);
    expect(await selected(FAR6, ALIAS6)).toBe(true);

    // Its return needs the speaker: the daemon asks for the routes again.
    if (daemon === "bird") {
      a.writeFile(policy, a.readFile(policy).replace("10.3.0.0/24+,", "# 10.3.0.0/24+,"));
      await a.must(["birdc", "configure"]);
    } else await a.must(list("no ip prefix-list SHORTCUT-ELIGIBLE seq 5"));
    await until("the offer is selected again", 8_000, () => selected(FAR4, ALIAS4));

    expect(offers.seen.up && feed.seen.up).toBe(true);
    expect(offers.seen.problems.concat(feed.seen.problems).join("")).toBe("");
    expect(JSON.stringify(feed.seen.changes)).not.toContain(ALIAS4);
  });
});
