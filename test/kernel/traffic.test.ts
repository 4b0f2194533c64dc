/**
 * Shows that the counters see what leaves via the overlay and nothing else, and that forged
 * control packets are dropped.
 */
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { divertAdapter } from "../../plugin/adapters/linux/divert.js";
import { type TrafficSpec, trafficAdapter } from "../../plugin/adapters/linux/traffic.js";
import type { TrafficPort } from "../../plugin/driver/ports.js";
import { eventually, Namespace } from "./namespace.js";

const spec: TrafficSpec = {
  uid: 0,
  table: "shortcutd",
  overlay: ["wg0"],
  direct: "shortcut0",
  controlPort: 5180,
  mask4: 24,
  mask6: 64,
  timeoutSeconds: 60,
  stateful: false,
  divertMark: 0x20000000,
};

/** A router between a LAN host and the far end of an 'overlay' (a veth named wg0). */
let router: Namespace;
let host: Namespace;
let far: Namespace;
let leave: (() => void) | undefined;
let port: TrafficPort;

/**
 * A cable from `dev` of one to eth0 of the other. The pid of the other is the host's: so only the
 * network is entered.
 */
function connect(from: Namespace, dev: string, to: Namespace): void {
  const link = ["ip", "link", "add", dev, "type", "veth", "peer", "name", "eth0", "netns", String(to.pid)];
  execFileSync("nsenter", ["-t", String(from.pid), "-n", "--", ...link]);
}

beforeEach(async () => {
  [router, host, far] = await Promise.all([Namespace.create(), Namespace.create(), Namespace.create()]);
  connect(router, "lan", host);
  connect(router, "wg0", far);
  router.sh(`
    ip addr add 10.1.0.1/24 dev lan; ip addr add 2001:db8:1::1/64 dev lan nodad
    ip addr add 10.255.0.1/24 dev wg0; ip addr add 2001:db8:ff::1/64 dev wg0 nodad
    ip link set lan up; ip link set wg0 up
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ip route add 10.3.0.0/16 via 10.255.0.3; ip -6 route add 2001:db8:3::/48 via 2001:db8:ff::3`);
  host.sh(`
    ip addr add 10.1.0.2/24 dev eth0; ip addr add 2001:db8:1::2/64 dev eth0 nodad; ip link set eth0 up
    ip route add default via 10.1.0.1; ip -6 route add default via 2001:db8:1::1`);
  far.sh(`
    ip addr add 10.255.0.3/24 dev eth0; ip addr add 2001:db8:ff::3/64 dev eth0 nodad; ip link set eth0 up
    ip addr add 10.3.1.1/32 dev lo; ip addr add 10.3.2.1/32 dev lo; ip -6 addr add 2001:db8:3:1::1/128 dev lo
    ip route add default via 10.255.0.1; ip -6 route add default via 2001:db8:ff::1`);
  leave = router.enterNetwork();
  port = trafficAdapter(0);
});

afterEach(async () => {
  leave?.();
  await Promise.all([router.destroy(), host.destroy(), far.destroy()]);
});

const ping = (from: Namespace, to: string, count = 3): string =>
  from.sh(`ping -q -c ${count} -i 0.05 -s 1000 -W 2 ${to}`);

/**
 * IPv6 takes a moment to come up: every path of these tests is tried before anything is counted.
 */
const reachable = (): Promise<true> =>
  eventually("the far end", () => {
    try {
      ping(host, "2001:db8:3:1::1", 1);
      ping(host, "10.3.1.1", 1);
      return true;
    } catch {
      return false;
    }
  });

/** Sends one datagram and reports how many of them `watcher` saw arrive. */
async function arrives(
  from: Namespace,
  at: Namespace,
  to: string,
  dport: number,
  sport: number,
): Promise<boolean> {
  const listener = at.start(
    "sh",
    "-c",
    `rm -f /run/got; timeout 2 tcpdump -n -l -i any -c 1 udp and dst port ${dport} >/run/got 2>/run/log`,
  );
  const ended = new Promise<number | null>((resolve) => listener.once("exit", resolve));
  await eventually("tcpdump to listen", () =>
    at.sh("cat /run/log 2>/dev/null || true").includes("listening"),
  );
  from.sh(`python3 -c "
import socket
s=socket.socket(socket.AF_INET6 if ':' in '${to}' else socket.AF_INET,socket.SOCK_DGRAM)
s.bind(('',${sport})); s.sendto(b'x'*10,('${to}',${dport}))"`);
  await ended;
  return at.sh("cat /run/got").trim() !== "";
}

describe("new flows", () => {
  const MARK = spec.divertMark;
  const divert = { to: "wg0", vrf: undefined, mark: MARK, table: 4243, priority: 900, protocol: 99 };
  const datagrams = (to: string, port_: number, count: number, source: number, size = 10): string =>
    host.sh(`python3 -c "
import socket,time
s=socket.socket(socket.AF_INET6 if ':' in '${to}' else socket.AF_INET,socket.SOCK_DGRAM)
s.bind(('',${source}))
for i in range(${count}):
  s.sendto(b'x'*${size},('${to}',${port_})); time.sleep(0.02)"`);

  beforeEach(async () => {
    await reachable();
    // the direct interface: a cable to the same far end, by which everything is routed
    const link = ["ip", "link", "add", "shortcut0", "type", "veth", "peer", "name", "direct0"];
    execFileSync("nsenter", ["-t", String(router.pid), "-n", "--", ...link, "netns", String(far.pid)]);
    router.sh(`
      ip link set shortcut0 up; ip addr add 10.254.0.1/24 dev shortcut0
      ip addr add 2001:db8:fe::1/64 dev shortcut0 nodad
      ip route replace 10.3.0.0/16 via 10.254.0.3; ip -6 route replace 2001:db8:3::/48 via 2001:db8:fe::3
      lladdr=$(ip netns list > /dev/null; ip neigh show 10.255.0.3 dev wg0 | grep -o 'lladdr [0-9a-f:]*')
      for to in 10.3.1.1 2001:db8:3:1::1; do ip neigh replace $to $lladdr dev wg0 nud permanent; done`);
    far.sh(`
      ip link set direct0 up; ip addr add 10.254.0.3/24 dev direct0
      ip addr add 2001:db8:fe::3/64 dev direct0 nodad`);
    await eventually("the direct cable", () => {
      try {
        ping(router, "10.254.0.3", 1);
        ping(router, "2001:db8:fe::3", 1);
        return true;
      } catch {
        return false;
      }
    });
    await divertAdapter().ensure(divert);
  });

  test.each(["10.3.1.1", "2001:db8:3:1::1"])(
    "to %s that pass via the overlay alone are told apart from what every policy drops",
    async (to) => {
      const remote = to;
      router.sh(`nft -f - <<'X'
table inet fw {
  chain forward {
    type filter hook forward priority 0; policy drop
    ct state established,related accept
    udp dport 9 drop
    oifname "wg0" accept
    iifname "wg0" accept
    oifname "shortcut0" udp dport 7 accept
  }
}
X`);
      await port.setUp({ ...spec, stateful: true });
      expect(await port.intact()).toBe(true);
      datagrams(to, 9, 20, 5009);
      expect((await port.readForwarding()).dropped).toEqual([]);
      datagrams(to, 7, 1, 5007);
      datagrams(to, 8, 3, 5008);
      const { dropped, hosts, passed } = await port.readForwarding();
      expect(dropped).toHaveLength(1);
      expect(dropped[0]).toMatchObject({ direction: "to", remote });
      expect(dropped[0]?.packets).toBeGreaterThanOrEqual(1);
      expect(passed).toMatchObject([{ direction: "to", remote }]);
      expect(passed[0]?.service).not.toBe(dropped[0]?.service);
      // what the policy drops on both has no counter that moves
      const here = hosts.filter((n) => n.direction === "to" && n.remote === remote);
      expect(here.reduce((n, h) => n + h.seen, 0)).toBeLessThan(20);
      // of a stream without answers only the first tries take the overlay
      await port.tearDown();
      await port.setUp({ ...spec, stateful: true });
      router.sh("nft delete table inet fw");
      datagrams(to, 6, 200, 5006, 100);
      const direct = (await port.readForwarding()).hosts.find((n) => n.direction === "to")?.passed ?? 0;
      expect(direct).toBeGreaterThanOrEqual(130);
      expect(direct).toBeLessThan(200);
    },
  );

  test.each(["10.3.1.1", "2001:db8:3:1::1"])(
    "to %s: what every policy drops moves no counter, what should pass does, also after a flush",
    async (to) => {
      const drop = (rules: string): string =>
        router.sh(
          `nft 'table inet fw { chain forward { type filter hook forward priority 0; ${rules}; }; }'`,
        );
      const sent = async () => (await port.readForwarding()).hosts.filter((h) => h.direction === "to");
      drop("udp dport 9 drop");
      await port.setUp(spec);
      datagrams(to, 7, 3, 5007);
      datagrams(to, 9, 50, 5009);
      // the first of a flow is not known to pass before it has passed
      expect(await sent()).toMatchObject([{ remote: to, seen: 2, passed: 2 }]);
      // somebody flushes everything, and allows nothing on the direct interface
      router.sh("nft flush ruleset");
      drop('oifname "shortcut0" drop');
      expect(await port.intact()).toBe(false);
      await port.setUp(spec);
      datagrams(to, 9, 50, 5009);
      expect(await sent()).toEqual([]);
      datagrams(to, 7, 10, 5007);
      expect(await sent()).toMatchObject([{ remote: to, seen: 10, passed: 0 }]);
    },
  );
});

describe("counters", () => {
  test("count what leaves via the overlay, masked, in both families; and nothing else", async () => {
    await reachable();
    await port.setUp(spec);
    expect(await port.read()).toEqual([]);
    ping(host, "10.3.1.1");
    ping(host, "10.3.1.1");
    ping(host, "10.3.2.1");
    ping(host, "2001:db8:3:1::1");
    // By the other interface, and link-local or multicast via the overlay: not counted.
    ping(router, "10.1.0.2");
    router.sh("ping -q -c 1 -W 1 ff02::1%wg0 || true; ping -q -c 1 -W 1 -I wg0 224.0.0.1 || true");
    const samples = [...(await port.read())].sort((a, b) => (a.destination < b.destination ? -1 : 1));
    const seen = samples.filter((s) => !s.destination.startsWith("2001:db8:ff:"));
    expect(seen).toEqual(
      [
        { destination: "2001:db8:3:1::/64", packets: 3, bytes: 3 * 1048 },
        { destination: "10.3.1.0/24", packets: 6, bytes: 6 * 1028 },
        { destination: "10.3.2.0/24", packets: 3, bytes: 3 * 1028 },
      ].sort((a, b) => (a.destination < b.destination ? -1 : 1)),
    );
  });

  test("control traffic is not counted, in either direction of the port", async () => {
    await port.setUp(spec);
    expect(await arrives(router, far, "10.3.1.1", spec.controlPort, 6000)).toBe(true);
    expect(await arrives(router, far, "10.3.1.1", 6001, spec.controlPort)).toBe(true);
    expect(await port.read()).toEqual([]);
    expect(await arrives(router, far, "10.3.1.1", 6001, 6002)).toBe(true);
    expect((await port.read()).map((s) => s.destination)).toEqual(["10.3.1.0/24"]);
  });

  test("setting up again replaces a leftover; tearing down leaves no table", async () => {
    router.sh("nft add table inet other");
    await port.setUp(spec);
    ping(host, "10.3.1.1");
    await trafficAdapter(0).setUp({ ...spec, mask4: 32 });
    expect(await port.read()).toEqual([]);
    await port.tearDown();
    await port.tearDown();
    expect(router.sh("nft list tables").trim()).toBe("table inet other");
    expect(await port.read()).toEqual([]);
  });

  test("a flushed ruleset is an error with a remedy", async () => {
    await port.setUp(spec);
    router.sh("nft flush ruleset");
    await expect(port.read()).rejects.toThrow(/table inet shortcutd: is gone/);
    await port.tearDown();
  });

  const FORMS = [false, true].flatMap((inVrf) => [false, true].map((stateful) => ({ inVrf, stateful })));
  test.each(FORMS)("nft takes patterns in every form of the table: %o", async (form) => {
    const overlay = ["wg0", "wg-*", "wg1", "hub@a*", "wg*", "a23456789012345*"];
    await port.setUp({ ...spec, ...form, overlay });
    expect(await port.intact()).toBe(true);
    const text = router.sh("nft list table inet shortcutd");
    expect(text).toContain('oifname "wg*" jump destination');
    expect(text).toContain('oifname "a23456789012345" jump destination');
    expect(text).toContain(`${form.inVrf ? "sdifname" : "iifname"} "hub@a*" return`);
    expect(text).not.toContain('"wg0"');
  });

  test("nonsense is refused before nft sees it", async () => {
    await expect(port.setUp({ ...spec, overlay: ['x" drop; #'] })).rejects.toThrow(/not an interface name/);
    await expect(port.setUp({ ...spec, overlay: ["wg0", '*"'] })).rejects.toThrow(/not an interface name/);
    await expect(port.setUp({ ...spec, table: "a b" })).rejects.toThrow(/not a table name/);
    await expect(port.setUp({ ...spec, mask4: 33 })).rejects.toThrow(/out of range/);
  });

  test("20,000 elements are all read", async () => {
    await port.setUp({ ...spec, mask4: 32 });
    router.sh(`{ echo "add element inet shortcutd dst4 {"
      i=0; while [ $i -lt 20000 ]; do echo "100.$((i>>16)).$((i>>8&255)).$((i&255)),"; i=$((i+1)); done; echo "}"; } | nft -f -`);
    // the kernel moves elements to a larger table for a moment, and a dump meanwhile passes over some
    await eventually("20,000 elements are read", async () => {
      const samples = await port.read();
      return new Set(samples.map((s) => s.destination)).size === 20_000;
    });
  });
});

describe("forged control packets", () => {
  test("from the LAN via the overlay are dropped; other traffic and the router's own pass", async () => {
    await reachable();
    await port.setUp(spec);
    expect(await arrives(host, far, "2001:db8:3:1::1", 6003, 6004)).toBe(true);
    expect(await arrives(host, far, "10.3.1.1", spec.controlPort, spec.controlPort)).toBe(false);
    expect(await arrives(host, far, "2001:db8:3:1::1", spec.controlPort, 6000)).toBe(false);
    expect(await arrives(host, far, "10.3.1.1", 6003, 6004)).toBe(true);
    expect(await arrives(router, far, "10.3.1.1", spec.controlPort, 6005)).toBe(true);
    // A packet that came via the overlay is from another spoke, which is authorised.
    expect(await arrives(far, host, "10.1.0.2", spec.controlPort, 6006)).toBe(true);
  });
});

describe("several overlay interfaces", () => {
  /** A second cable to the far end, as a tunnel that comes up while shortcutd runs. Addresses and routes move to it. */
  async function moveTo(dev: string): Promise<void> {
    const link = ["ip", "link", "add", dev, "type", "veth", "peer", "name", "eth1"];
    execFileSync("nsenter", ["-t", String(router.pid), "-n", "--", ...link, "netns", String(far.pid)]);
    far.sh(`
      ip link set eth1 up; ip addr add 10.254.0.3/24 dev eth1; ip addr add 2001:db8:fe::3/64 dev eth1 nodad
      ip route replace default via 10.254.0.1; ip -6 route replace default via 2001:db8:fe::1`);
    router.sh(`
      ip link set ${dev} up; ip addr add 10.254.0.1/24 dev ${dev}
      ip addr add 2001:db8:fe::1/64 dev ${dev} nodad
      ip route replace 10.3.0.0/16 via 10.254.0.3; ip -6 route replace 2001:db8:3::/48 via 2001:db8:fe::3`);
    await reachable();
  }

  const forged = async (): Promise<boolean[]> => [
    await arrives(host, far, "10.3.1.1", spec.controlPort, spec.controlPort),
    await arrives(host, far, "2001:db8:3:1::1", spec.controlPort, 6000),
  ];

  test.each([
    ["named", ["wg0", "wg-hub2"]],
    ["that a pattern stands for", ["wg-*", "wg0"]],
    ["that two patterns stand for", ["wg*", "wg-*", "wg-hub2"]],
  ])("one %s is guarded and counted from the moment at which it appears", async (_, overlay) => {
    await reachable();
    await port.setUp({ ...spec, overlay, stateful: true });
    expect(await port.intact()).toBe(true);
    expect(await forged()).toEqual([false, false]);
    await moveTo("wg-hub2");
    expect(await port.intact()).toBe(true);
    expect(await forged()).toEqual([false, false]);
    expect(await arrives(host, far, "10.3.1.1", 6003, 6004)).toBe(true);
    expect(await arrives(router, far, "10.3.1.1", spec.controlPort, 6005)).toBe(true);
    expect(await arrives(far, host, "10.1.0.2", spec.controlPort, 6006)).toBe(true);
    const before = await port.read();
    const packets = (to: string, of: typeof before): number =>
      of.filter((s) => s.destination === to).reduce((n, s) => n + s.packets, 0);
    ping(host, "10.3.2.1", 4);
    ping(host, "2001:db8:3:1::1", 5);
    const now = await port.read();
    expect(packets("10.3.2.0/24", now) - packets("10.3.2.0/24", before)).toBe(4);
    expect(packets("2001:db8:3:1::/64", now) - packets("2001:db8:3:1::/64", before)).toBe(5);
  });

  test("one that is not listed is neither guarded nor counted: it is no overlay", async () => {
    await port.setUp({ ...spec, overlay: ["wg0", "hub-*"] });
    await moveTo("wg-hub2");
    expect(await forged()).toEqual([true, true]);
    expect((await port.read()).map((s) => s.destination)).not.toContain("10.3.1.0/24");
  });

  test("a packet from one to another, as a hub forwards it, is from a spoke", async () => {
    await port.setUp({ ...spec, overlay: ["wg0", "wg-*"] });
    await moveTo("wg-hub2");
    // the far end's first address lies behind the first cable, and sends to one behind the second
    far.sh("ip rule add from 10.255.0.3 table 77; ip route add default via 10.255.0.1 table 77");
    router.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.wg0.rp_filter=0");
    const listener = far.start(
      "sh",
      "-c",
      `timeout 5 tcpdump -n -l -i eth1 -c 1 udp and dst port ${spec.controlPort} >/run/got 2>/run/log`,
    );
    const ended = new Promise<number | null>((resolve) => listener.once("exit", resolve));
    await eventually("tcpdump to listen", () =>
      far.sh("cat /run/log 2>/dev/null || true").includes("listening"),
    );
    router.sh("ip route add 10.9.0.0/24 via 10.254.0.3");
    far.sh(
      `python3 -c "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('10.255.0.3',6000)); s.sendto(b'x',('10.9.0.1',${spec.controlPort}))"`,
    );
    await ended;
    expect(far.sh("cat /run/got")).toContain("10.9.0.1");
  });
});
