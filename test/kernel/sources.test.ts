/**
 * Shows that packets from sources that the other end would drop are sent via the overlay, and are
 * counted by source.
 */
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { divertAdapter } from "../../plugin/adapters/linux/divert.js";
import { sourceGuardAdapter } from "../../plugin/adapters/linux/sources.js";
import type { SourceGuardPort } from "../../plugin/driver/ports.js";
import { prefix } from "../../plugin/net/address.js";
import { eventually, Namespace } from "./namespace.js";

/**
 * A router whose 'overlay' and 'direct interface' are cables to the same far end; everything is
 * routed via the direct one.
 */
let router: Namespace;
let far: Namespace;
let leave: () => void;
let guard: SourceGuardPort;

const sources = [
  prefix("10.1.0.0/24"),
  prefix("2001:db8:1::/64"),
  prefix("10.255.0.1/32"),
  prefix("fe80::/10"),
];
const spec = { direct: "shortcut0", to: "wg0", sources, mark: undefined };
const MARK = 0x20000000;
const diverted = { to: "wg0", vrf: undefined, mark: MARK, table: 4243, priority: 900, protocol: 99 };

function cable(dev: string): void {
  execFileSync("nsenter", [
    ...["-t", String(router.pid), "-n", "--", "ip", "link", "add", dev, "type", "veth"],
    ...["peer", "name", dev, "netns", String(far.pid)],
  ]);
  router.sh(`ip link set ${dev} addr 02:00:00:00:00:01 up`);
  far.sh(`ip link set ${dev} addr 02:00:00:00:00:02 up`);
}

beforeEach(async () => {
  [router, far] = await Promise.all([Namespace.create(), Namespace.create()]);
  cable("wg0");
  cable("shortcut0");
  router.sh(`
    for a in 10.255.0.1/32 10.1.0.1/32 10.77.0.1/32; do ip addr add $a dev lo; done
    for a in 2001:db8:1::1/128 2001:db8:77::1/128; do ip addr add $a dev lo; done`);
  far.sh(`
    nft -f - <<'X'
table inet seen {
  counter overlay {}
  counter second {}
  counter direct {}
  chain c {
    type filter hook prerouting priority -300
    meta l4proto udp iifname { "wg0", "wg1" } counter name overlay
    meta l4proto udp iifname "wg1" counter name second
    meta l4proto udp iifname "shortcut0" counter name direct
  }
}
X`);
  router.sh(`
    ip route add 10.3.0.0/24 dev shortcut0; ip -6 route add 2001:db8:3::/64 dev shortcut0
    ip neigh add 10.3.0.1 lladdr 02:00:00:00:00:02 dev shortcut0 nud permanent
    ip neigh add 2001:db8:3::1 lladdr 02:00:00:00:00:02 dev shortcut0 nud permanent`);
  leave = router.enterNetwork();
  guard = sourceGuardAdapter("shortcutd", "shortcutd_sources");
});

afterEach(async () => {
  leave();
  await Promise.all([router.destroy(), far.destroy()]);
});

const seen = (name: string): number =>
  Number(/packets (\d+)/.exec(far.sh(`nft list counter inet seen ${name}`))?.[1]);

/** Sends one datagram from this source; says on which cable it arrives. */
async function wayOf(source: string): Promise<"overlay" | "direct"> {
  const before = { overlay: seen("overlay"), direct: seen("direct") };
  const [family, to] = source.includes(":") ? ["AF_INET6", "2001:db8:3::1"] : ["AF_INET", "10.3.0.1"];
  router.sh(
    `python3 -c "import socket; s=socket.socket(socket.${family},socket.SOCK_DGRAM); s.bind(('${source}',0)); s.sendto(b'x'*1000,('${to}',9))"`,
  );
  return eventually("the datagram", () => {
    const got = (["overlay", "direct"] as const).filter((n) => seen(n) > before[n]);
    return got.length === 1 ? got[0] : undefined;
  });
}

describe("the source guard", () => {
  test("sends via the overlay what the other end would drop, and names it", async () => {
    expect(await wayOf("10.77.0.1")).toBe("direct");
    await guard.set(spec);
    expect(await wayOf("10.1.0.1")).toBe("direct");
    expect(await wayOf("10.255.0.1")).toBe("direct");
    expect(await wayOf("2001:db8:1::1")).toBe("direct");
    expect(await guard.unattestedSources()).toEqual([]);
    expect(await wayOf("10.77.0.1")).toBe("overlay");
    expect(await wayOf("10.77.0.1")).toBe("overlay");
    expect(await wayOf("2001:db8:77::1")).toBe("overlay");
    expect(await guard.unattestedSources()).toEqual([
      { source: "10.77.0.1", packets: 2 },
      { source: "2001:db8:77::1", packets: 1 },
    ]);
  });

  test("is replaced as a whole, follows interfaces that were made again, and leaves nothing", async () => {
    await guard.set(spec);
    await guard.set({ ...spec, sources: [...sources, prefix("10.77.0.0/24")] });
    expect(await wayOf("10.77.0.1")).toBe("direct");
    await guard.set(spec);
    expect(await wayOf("10.77.0.1")).toBe("overlay");
    router.sh("ip link del wg0");
    cable("wg0");
    await guard.set(spec);
    expect(await wayOf("10.77.0.1")).toBe("overlay");
    await guard.remove();
    await guard.remove();
    expect(router.sh("nft list ruleset")).toBe("");
    expect(await wayOf("10.77.0.1")).toBe("direct");
  });

  test("marks such packets before they are routed, so that they pass the NAT of the overlay", async () => {
    router.sh(`
      for d in wg0 shortcut0; do sysctl -qw net.ipv4.conf.$d.rp_filter=0; done
      ip neigh add 10.3.0.1 lladdr 02:00:00:00:00:02 dev wg0 nud permanent
      ip neigh add 2001:db8:3::1 lladdr 02:00:00:00:00:02 dev wg0 nud permanent
      nft -f - <<'X'
table inet nat {
  chain post {
    type nat hook postrouting priority 100
    oifname "wg0" ip saddr 10.77.0.0/24 snat to 10.255.0.1
    oifname "wg0" ip6 saddr 2001:db8:77::/64 snat to 2001:db8:1::1
  }
}
X`);
    far.sh(`nft -f - <<'X'
table inet translated {
  counter got {}
  chain c {
    type filter hook prerouting priority -300
    meta l4proto udp ip saddr 10.255.0.1 iifname "wg0" counter name got
    meta l4proto udp ip6 saddr 2001:db8:1::1 iifname "wg0" counter name got
  }
}
X`);
    const got = (): number =>
      Number(/packets (\d+)/.exec(far.sh("nft list counter inet translated got"))?.[1]);
    const divert = divertAdapter();
    await divert.ensure(diverted);
    const rules = router.sh("ip rule; ip -6 rule; ip route show table 4243; ip -6 route show table 4243");
    expect(rules.match(/^900:.*fwmark 0x20000000\/0x20000000 lookup 4243/gm)).toHaveLength(2);
    expect(rules.match(/^default dev wg0/gm)).toHaveLength(2);
    await divert.ensure(diverted);
    await guard.set({ ...spec, mark: MARK });
    expect(await wayOf("10.1.0.1")).toBe("direct");
    expect(got()).toBe(0);
    expect(await wayOf("10.77.0.1")).toBe("overlay");
    expect(await wayOf("2001:db8:77::1")).toBe("overlay");
    await eventually("both were translated", () => got() === 2);
    expect((await guard.unattestedSources()).map((u) => u.packets)).toEqual([1, 1]);

    // without the rule they arrive untranslated at least at the overlay, and the rule comes back
    router.sh("ip rule del pref 900");
    expect(await wayOf("10.77.0.1")).toBe("overlay");
    expect(got()).toBe(2);
    router.sh("ip rule add pref 900 fwmark 1 table 4243 protocol 99");
    await divert.ensure(diverted);
    expect(await wayOf("10.77.0.1")).toBe("overlay");
    await eventually("it was translated again", () => got() === 3);
    await guard.remove();
    await divert.remove(diverted);
    expect(router.sh("ip rule; ip -6 rule; ip route show table all")).not.toMatch(/4243/);
  });

  /** How many datagrams of a stream arrived, by cable, while something was changed. */
  async function streamed(source: string, change: () => Promise<void>) {
    const before = { second: seen("second"), overlay: seen("overlay"), direct: seen("direct") };
    const to = source.includes(":") ? "2001:db8:3::1" : "10.3.0.1";
    const family = source.includes(":") ? "AF_INET6" : "AF_INET";
    const stream = router.start(
      "python3",
      "-c",
      `
import os,socket,time
s=socket.socket(socket.${family},socket.SOCK_DGRAM); s.bind(('${source}',0))
n=0
while not os.path.exists('/run/stop'):
  s.sendto(b'x'*100,('${to}',9)); n+=1; time.sleep(0.001)
open('/run/sent','w').write(str(n))`,
    );
    const ended = new Promise<number | null>((resolve) => stream.once("exit", resolve));
    const arrived = (): number => seen("overlay") + seen("direct") - before.overlay - before.direct;
    await eventually("the stream", () => arrived() > 20);
    await change();
    const sofar = arrived();
    await eventually("what follows", () => arrived() > sofar + 50);
    router.sh("touch /run/stop");
    await ended;
    const sent = Number(router.sh("cat /run/sent"));
    return eventually("all that was sent", () => {
      const now = { second: seen("second"), overlay: seen("overlay"), direct: seen("direct") };
      const got = {
        second: now.second - before.second,
        overlay: now.overlay - before.overlay,
        direct: now.direct - before.direct,
      };
      return got.overlay + got.direct >= sent ? { ...got, sent } : undefined;
    });
  }

  test.each(["10.77.0.1", "2001:db8:77::1"])(
    "follows the overlay interface that leads to the hub in use: of %s none goes direct, and none is lost",
    async (source) => {
      cable("wg1");
      router.sh(`
        for d in wg0 wg1 shortcut0; do sysctl -qw net.ipv4.conf.$d.rp_filter=0; done
        for d in wg0 wg1; do
          ip neigh add 10.3.0.1 lladdr 02:00:00:00:00:02 dev $d nud permanent
          ip neigh add 2001:db8:3::1 lladdr 02:00:00:00:00:02 dev $d nud permanent
        done`);
      const divert = divertAdapter();
      await divert.ensure(diverted);
      await guard.set({ ...spec, mark: MARK });
      const routes = (): string => router.sh("ip route show table 4243; ip -6 route show table 4243");
      const { sent, overlay, direct, second } = await streamed(source, async () => {
        await divert.ensure({ ...diverted, to: "wg1" });
        await guard.set({ ...spec, to: "wg1", mark: MARK });
      });
      expect({ overlay, direct }).toEqual({ overlay: sent, direct: 0 });
      expect(second).toBeGreaterThan(0);
      expect(second).toBeLessThan(sent);
      expect(routes().match(/^default dev wg1/gm)).toHaveLength(2);
      expect(routes()).not.toContain("wg0");
      await divert.remove(diverted);
      expect(routes()).toBe("");
    },
  );

  test("drops while there is no overlay interface, rather than let them go direct", async () => {
    router.sh("ip neigh add 10.3.0.1 lladdr 02:00:00:00:00:02 dev wg0 nud permanent");
    const divert = divertAdapter();
    await divert.ensure(diverted);
    await guard.set({ ...spec, mark: MARK });
    await divert.ensure({ ...diverted, to: undefined });
    await guard.set({ ...spec, to: undefined, mark: MARK });
    expect(router.sh("ip route show table 4243; ip -6 route show table 4243")).toBe("");
    const before = seen("overlay") + seen("direct");
    for (const [to, source] of [
      ["10.3.0.1", "10.77.0.1"],
      ["2001:db8:3::1", "2001:db8:77::1"],
    ])
      router.sh(
        `python3 -c "import socket; s=socket.socket(socket.AF_INET6 if ':' in '${to}' else socket.AF_INET,socket.SOCK_DGRAM); s.bind(('${source}',0)); s.sendto(b'x',('${to}',9))"`,
      );
    // cables deliver in order: what comes behind has arrived, so the others have been dropped
    expect(await wayOf("10.1.0.1")).toBe("direct");
    expect(seen("overlay") + seen("direct")).toBe(before + 1);
    expect((await guard.unattestedSources()).map((u) => u.source).sort()).toEqual([
      "10.77.0.1",
      "2001:db8:77::1",
    ]);
    await divert.ensure(diverted);
    await guard.set({ ...spec, mark: MARK });
    expect(await wayOf("10.77.0.1")).toBe("overlay");
  });

  test("an interface that has just gone is handed nothing, and nothing goes direct instead", async () => {
    await divertAdapter().ensure(diverted);
    await guard.set({ ...spec, mark: MARK });
    router.sh("ip link del wg0");
    await expect(guard.set({ ...spec, mark: MARK })).rejects.toThrow(/nft: /);
    const before = seen("direct");
    router.sh(
      `python3 -c "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.77.0.1',0)); s.sendto(b'x',('10.3.0.1',9))"`,
    );
    expect(await wayOf("10.1.0.1")).toBe("direct");
    expect(seen("direct")).toBe(before + 1);
  });

  test("leaves a route alone that another program has in the table", async () => {
    cable("wg1");
    router.sh("ip route add default dev wg1 metric 1 table 4243");
    const divert = divertAdapter();
    await divert.ensure(diverted);
    expect(router.sh("ip route show table 4243")).toContain("default dev wg1");
    await divert.ensure({ ...diverted, to: undefined });
    expect(router.sh("ip route show table 4243")).toContain("default dev wg1");
  });

  test("takes no name that could be more than a name", async () => {
    await expect(guard.set({ ...spec, direct: 'x"; flush' })).rejects.toThrow(/not an interface name/);
  });
});
