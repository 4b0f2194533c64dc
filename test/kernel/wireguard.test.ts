/**
 * Shows that the direct interface is made whole, kept, changed and removed, with wireguard-go and
 * with the kernel.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { genlFamily } from "../../plugin/adapters/wireguard/genl.js";
import { type WireGuardAdapterOptions, wireguardAdapter } from "../../plugin/adapters/wireguard/index.js";
import { generatePrivateKey, publicKeyOf } from "../../plugin/adapters/wireguard/keys.js";
import { wireGuardGoPids } from "../../plugin/adapters/wireguard/uapi.js";
import { differences } from "../../plugin/driver/kernel/interface-state.js";
import type { InterfaceSpec, PeerSpec, WireGuardPort } from "../../plugin/driver/ports.js";
import { address, type Prefix, prefix } from "../../plugin/net/address.js";
import { eventually, Namespace } from "./namespace.js";

let ns: Namespace;
let leave: () => void;
let port: WireGuardPort;
let sockets: string;
let skipped: string[];

beforeEach(async () => {
  ns = await Namespace.create();
  leave = ns.enterNetwork();
  sockets = `/proc/${ns.pid}/root/run/wireguard`;
  skipped = [];
  port = wireguardAdapter(options());
});

const options = (): WireGuardAdapterOptions => ({
  wireguardGo: {
    socketDirectory: sockets,
    command: ["nsenter", "-t", String(ns.pid), "-n", "-m", "-p", "--", "wireguard-go"],
  },
  onSkippedAddresses: (_dev, addresses) => skipped.push(...addresses),
});

afterEach(async () => {
  leave();
  await ns.destroy();
});

function spec(name: string, more: Partial<InterfaceSpec> = {}): InterfaceSpec {
  const privateKey = more.privateKey ?? generatePrivateKey();
  const mark = `shortcutd:${name}`;
  const publicKey = publicKeyOf(privateKey);
  return { name, mark, privateKey, publicKey, listenPort: 0, mtu: 1420, addresses: [], ...more };
}

/** Nobody reaps in the namespace of the test: a zombie, which has no command line, has ended. */
const isRunning = (pid: number): boolean =>
  existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";

const presharedKey = generatePrivateKey();

const manyPrefixes = (n: number): Prefix[] =>
  Array.from({ length: n }, (_, i) => prefix(`10.${128 + (i >> 8)}.${i & 255}.0/24`));

describe("the direct interface", () => {
  test("ensure makes it whole, is idempotent and changes what differs", async () => {
    const wanted = spec("shortcut0", {
      listenPort: 51999,
      mtu: 1380,
      addresses: [prefix("10.255.0.1/32"), prefix("2001:db8::1/128"), prefix("fe80::1234/128")],
    });
    expect(await port.device("shortcut0")).toBeUndefined();
    const first = await port.ensure(wanted);
    expect(first.created).toBe(true);
    const hasKernel = (await genlFamily("wireguard")) !== undefined;
    expect(first.backend).toBe(hasKernel ? "kernel" : "uapi");
    const state = (): string =>
      ns.sh("ip -o addr show dev shortcut0 | sed 's/\\\\.*//'; ip route; ip -6 route");
    const link = ns.sh("ip -o link show dev shortcut0");
    expect(link).toMatch(/mtu 1380 /);
    expect(link).toMatch(/<[^>]*\bUP\b/);
    const before = state();
    expect(before).toContain("inet 10.255.0.1/32");
    expect(before).toContain("inet6 2001:db8::1/128");
    expect(before).toContain("inet6 fe80::1234/64");
    expect(before).not.toContain("tentative");
    expect(before.match(/inet6 fe80/g)).toHaveLength(1);
    // No route but that of the link-local network.
    expect(before.split("\n").filter((l) => l.includes("dev shortcut0"))).toEqual([
      expect.stringMatching(/^fe80::\/64 dev shortcut0/),
    ]);
    expect(
      ns.sh("cat /proc/sys/net/ipv4/conf/shortcut0/rp_filter /proc/sys/net/ipv6/conf/shortcut0/accept_ra"),
    ).toBe("2\n0\n");
    expect(await port.device("shortcut0")).toEqual({
      name: "shortcut0",
      publicKey: publicKeyOf(wanted.privateKey),
      listenPort: 51999,
      fwmark: 0,
      peers: [],
    });

    const pids = wireGuardGoPids("shortcut0");
    expect(await port.ensure(wanted)).toEqual({ ...first, created: false });
    expect(state()).toBe(before);
    expect(wireGuardGoPids("shortcut0")).toEqual(pids);

    await port.ensure({ ...wanted, mtu: 1400, listenPort: 52000, addresses: [prefix("10.255.0.9/32")] });
    expect(ns.sh("ip -o link show dev shortcut0")).toMatch(/mtu 1400 /);
    expect(state()).toContain("inet 10.255.0.9/32");
    expect(state()).not.toMatch(/10\.255\.0\.1\/|2001:db8::1|fe80::1234/);
    expect((await port.device("shortcut0"))?.listenPort).toBe(52000);
    expect(skipped).toEqual([]);
  });

  test("peers: set, partly change, handshake, read back, remove", async () => {
    const a = spec("wga", { listenPort: 51001 });
    const c = spec("wgc", { listenPort: 51002, addresses: [prefix("10.255.0.3/32")] });
    await port.ensure(a);
    await port.ensure(c);
    const keyA = publicKeyOf(a.privateKey);
    const keyC = publicKeyOf(c.privateKey);
    await port.setPeer("wgc", { publicKey: keyA, presharedKey, allowedIps: [prefix("10.1.0.0/16")] });
    await port.setPeer("wga", {
      publicKey: keyC,
      presharedKey,
      endpoint: { address: address("127.0.0.1"), port: 51002 },
      allowedIps: [prefix("10.3.0.0/16"), prefix("2001:db8:3::/48")],
      keepalive: 1,
    });
    const handshaken = await eventually("a handshake", async () => {
      const peer = (await port.device("wga"))?.peers[0];
      return peer !== undefined && peer.lastHandshake > 0 && peer.rxBytes > 0 && peer;
    });
    expect(Math.abs(handshaken.lastHandshake - Date.now())).toBeLessThan(60_000);
    expect(handshaken).toMatchObject({
      publicKey: keyC,
      endpoint: { address: "127.0.0.1", port: 51002 },
      keepalive: 1,
    });
    expect([...handshaken.allowedIps].sort()).toEqual(["10.3.0.0/16", "2001:db8:3::/48"]);
    // The far side was told no endpoint: it learnt it from the packets.
    const other = (await port.device("wgc"))?.peers[0];
    expect(other).toMatchObject({
      publicKey: keyA,
      endpoint: { address: "127.0.0.1", port: 51001 },
      keepalive: 0,
    });

    // Undefined fields are left alone.
    await port.setPeer("wga", { publicKey: keyC, keepalive: 25 });
    expect((await port.device("wga"))?.peers[0]).toMatchObject({
      endpoint: { address: "127.0.0.1", port: 51002 },
      keepalive: 25,
    });
    expect((await port.device("wga"))?.peers[0]?.allowedIps).toHaveLength(2);
    await port.setPeer("wga", { publicKey: keyC, allowedIps: [prefix("10.4.0.0/16")] });
    expect((await port.device("wga"))?.peers[0]?.allowedIps).toEqual(["10.4.0.0/16"]);
    await port.setPeer("wga", { publicKey: keyC, endpoint: { address: address("::1"), port: 9 } });
    expect((await port.device("wga"))?.peers[0]?.endpoint).toEqual({ address: "::1", port: 9 });
    await port.setPeer("wga", { publicKey: keyC, allowedIps: [] });
    expect((await port.device("wga"))?.peers[0]?.allowedIps).toEqual([]);

    await port.removePeer("wga", keyC);
    expect((await port.device("wga"))?.peers).toEqual([]);
    await port.removePeer("wga", keyC);
    // Ensuring again keeps the peers of an interface that runs.
    await port.ensure(c);
    expect((await port.device("wgc"))?.peers).toHaveLength(1);
  });

  test("changes of a peer with 5,000 AllowedIPs cost no packet; a replacement of the list does", async () => {
    // no multicast of the kernel's own among the packets that are counted
    ns.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    const a = spec("wga", { listenPort: 51001, addresses: [prefix("10.255.0.1/32")] });
    const c = spec("wgc", { listenPort: 51002 });
    await port.ensure(a);
    await port.ensure(c);
    const publicKey = publicKeyOf(c.privateKey);
    // the last to come back when the list is replaced
    const allowedIps = [...manyPrefixes(5_000), prefix("10.3.0.0/24")];
    const peer = async () => (await port.device("wga"))?.peers.find((p) => p.publicKey === publicKey);
    const want = (i: number): PeerSpec => ({
      publicKey,
      endpoint: { address: address(`127.0.0.${1 + (i % 2)}`), port: 51002 },
      keepalive: 25 + (i % 2),
      allowedIps,
    });
    await port.setPeer("wgc", {
      publicKey: publicKeyOf(a.privateKey),
      allowedIps: [prefix("10.255.0.1/32")],
    });
    await port.setPeer("wga", want(0));
    await eventually("a handshake", async () => ((await peer())?.rxBytes ?? 0) > 0);
    ns.sh("ip route add 10.3.0.0/24 dev wga");
    // an inner packet of 29 bytes is padded to 32; WireGuard adds 32
    const SIZE = 64;
    const sent = (): number =>
      Number(/"tx":\{"bytes":\d+,"packets":(\d+)/.exec(ns.sh("ip -s -j link show wga"))?.[1]);
    const start = { packets: sent(), bytes: (await peer())?.txBytes ?? 0 };
    /** Packets that wireguard-go read, less those that it sent; once none is on its way. */
    const lost = async (): Promise<number> => {
      const tx = sent();
      return tx - start.packets - (((await peer())?.txBytes ?? 0) - start.bytes) / SIZE;
    };
    /** Sends while `body` runs, and resolves when no packet is on its way any more. */
    async function withTraffic(body: () => Promise<unknown>): Promise<void> {
      const once = "dd if=/dev/zero bs=1 count=20000 status=none > /dev/udp/10.3.0.10/9";
      const flow = ns.start("bash", "-c", `while [ ! -e /run/stop ]; do ${once}; done`);
      const ended = new Promise((resolve) => flow.once("exit", resolve));
      const before = sent();
      try {
        await eventually("traffic", () => sent() > before);
        await body();
      } finally {
        ns.sh("touch /run/stop");
        await ended;
        ns.sh("rm /run/stop");
      }
      await eventually("no packet on its way", async () => {
        const first = await lost();
        return first === (await lost());
      });
    }

    await withTraffic(async () => {
      for (let i = 1; i <= 20 || sent() - start.packets < 50_000; i += 1) {
        await port.setPeer("wga", want(i));
        expect((await peer())?.endpoint).toEqual(want(i).endpoint);
      }
    });
    expect(await lost()).toBe(0);
    expect([...((await peer())?.allowedIps ?? [])].sort()).toEqual([...allowedIps].sort());

    // as wg(8) does it, with WGPEER_F_REPLACE_ALLOWEDIPS
    ns.sh(`cat > /run/replace.conf <<'END'
[Peer]
PublicKey = ${publicKey}
AllowedIPs = ${allowedIps.join(", ")}
END`);
    for (let i = 0; i < 20 && (await lost()) === 0; i++)
      await withTraffic(async () => void ns.sh("wg addconf wga /run/replace.conf"));
    expect(await lost()).toBeGreaterThan(0);
  });

  test("AllowedIPs that change: what stays is not touched, what goes is gone, another peer's stay", async () => {
    await port.ensure(spec("wga"));
    const [x, y] = [publicKeyOf(generatePrivateKey()), publicKeyOf(generatePrivateKey())];
    const listOf = async (key: string) =>
      [...((await port.device("wga"))?.peers.find((p) => p.publicKey === key)?.allowedIps ?? [])].sort();
    await port.setPeer("wga", {
      publicKey: x,
      allowedIps: [prefix("10.1.0.0/16"), prefix("2001:db8:1::/48")],
    });
    await port.setPeer("wga", { publicKey: y, allowedIps: [prefix("10.2.0.0/16")] });
    await port.setPeer("wga", { publicKey: x, allowedIps: [prefix("10.1.0.0/16"), prefix("10.1.7.0/24")] });
    expect(await listOf(x)).toEqual(["10.1.0.0/16", "10.1.7.0/24"]);
    expect(await listOf(y)).toEqual(["10.2.0.0/16"]);
    // a prefix that is wanted by another peer moves, and the peer that had it may give it up afterwards
    await port.setPeer("wga", { publicKey: y, allowedIps: [prefix("10.2.0.0/16"), prefix("10.1.7.0/24")] });
    await port.setPeer("wga", { publicKey: x, allowedIps: [prefix("10.1.0.0/16")] });
    expect(await listOf(x)).toEqual(["10.1.0.0/16"]);
    expect(await listOf(y)).toEqual(["10.1.7.0/24", "10.2.0.0/16"]);
    // no peer is left over from what was taken
    expect((await port.device("wga"))?.peers).toHaveLength(2);
  });

  test("destroy leaves no interface, no process and no socket, and may be repeated", async () => {
    await port.ensure(spec("wga"));
    await port.ensure(spec("wgc"));
    const pids = wireGuardGoPids("wga");
    await port.destroy("wga");
    expect(ns.sh("ip -o link")).not.toContain("wga");
    expect(wireGuardGoPids("wga")).toEqual([]);
    for (const pid of pids) expect(isRunning(pid)).toBe(false);
    if (existsSync(sockets)) expect(readdirSync(sockets)).not.toContain("wga.sock");
    expect(await port.device("wga")).toBeUndefined();
    await port.destroy("wga");
    expect(await port.device("wgc")).toBeDefined();
    await port.ensure(spec("wga"));
    expect(await port.device("wga")).toBeDefined();
  });

  test("it does not die with its creator: own session, no inherited pipe", async () => {
    await port.ensure(spec("wga"));
    for (const pid of wireGuardGoPids("wga")) {
      const files = ns.sh(`readlink /proc/[0-9]*/fd/0 /proc/[0-9]*/fd/1 /proc/[0-9]*/fd/2 | sort -u`);
      expect(files).toContain("/dev/null");
      const session = execFileSync("ps", ["-o", "sid=", "-p", String(pid)], { encoding: "utf8" }).trim();
      const own = execFileSync("ps", ["-o", "sid=", "-p", String(process.pid)], { encoding: "utf8" }).trim();
      expect(session).not.toBe(own);
    }
  });

  test("a leftover of wireguard-go that was killed is replaced", async () => {
    if ((await genlFamily("wireguard")) !== undefined) return;
    await port.ensure(spec("wga"));
    for (const pid of wireGuardGoPids("wga")) process.kill(pid, "SIGKILL");
    await eventually("the interface to go", () => !ns.sh("ip -o link").includes("wga"));
    expect(await port.device("wga")).toBeUndefined();
    await expect(port.setPeer("wga", { publicKey: publicKeyOf(presharedKey) })).rejects.toThrow(
      /interface wga: does not exist/,
    );
    expect((await port.ensure(spec("wga"))).created).toBe(true);
  });
});

/** One that another program has made, with a peer. */
async function somebodyElses(name: string): Promise<string> {
  await wireguardAdapter(options()).ensure(spec(name, { mark: "another program's" }));
  ns.sh(`ip link set ${name} alias ''`);
  ns.sh(`wg set ${name} peer ${publicKeyOf(presharedKey)} allowed-ips 10.9.0.0/16`);
  return stateOf(name);
}
const stateOf = (name: string): string =>
  ns.sh(`ip -o -d link show dev ${name}; ip -o addr show dev ${name}; wg show ${name} dump`);

describe("an interface of somebody else's with the same name", () => {
  test("is neither adopted, changed nor deleted, at start and later", async () => {
    const before = await somebodyElses("wga");
    const wanted = spec("wga");
    const refusal = /interface wga: is a WireGuard interface that shortcutd did not make/;
    expect(await port.claim(wanted)).toMatchObject({ kind: "foreign" });
    await expect(port.ensure(wanted)).rejects.toThrow(refusal);
    await expect(port.setPeer("wga", { publicKey: wanted.publicKey })).rejects.toThrow(refusal);
    await expect(port.removePeer("wga", publicKeyOf(presharedKey))).rejects.toThrow(refusal);
    await expect(port.destroy("wga")).rejects.toThrow(refusal);
    expect(stateOf("wga")).toBe(before);
  });

  test("that took the place of ours while we ran is left alone too", async () => {
    const wanted = spec("wga");
    await port.ensure(wanted);
    ns.sh("ip link del wga");
    await eventually("wireguard-go ends", () => wireGuardGoPids("wga").length === 0);
    const before = await somebodyElses("wga");
    await expect(port.removePeer("wga", publicKeyOf(presharedKey))).rejects.toThrow(/did not make/);
    await expect(port.destroy("wga")).rejects.toThrow(/did not make/);
    expect(stateOf("wga")).toBe(before);
  });

  test("of another instance is told apart by the overlay in its mark", async () => {
    const one = spec("wga", { mark: "shortcutd:wg0" });
    await port.ensure(one);
    await expect(port.ensure({ ...one, mark: "shortcutd:wg1" })).rejects.toThrow(
      /belongs to the shortcutd of overlay wg0/,
    );
  });

  test("in another network namespace, whose socket is in the same /run", async () => {
    if ((await genlFamily("wireguard")) !== undefined) return;
    ns.sh("ip netns add far 2>/dev/null || (mkdir -p /run/netns && ip netns add far)");
    ns.sh("ip netns exec far wireguard-go wga");
    await expect(port.ensure(spec("wga"))).rejects.toThrow(/not of this network namespace answers/);
    expect(ns.sh("ip -o link")).not.toContain("wga");
    expect(ns.sh("ip -n far -o link")).toContain("wga");
  });
});

describe("ours is found again", () => {
  test("by its mark, after its key was changed; by its key, when it has no mark", async () => {
    const wanted = spec("wga");
    await port.ensure(wanted);
    expect(ns.sh("cat /sys/class/net/wga/ifalias 2>/dev/null || ip -d link show wga")).toContain(wanted.mark);
    ns.sh("wg genkey > /run/k; wg set wga private-key /run/k");
    expect(await port.claim(wanted)).toMatchObject({ kind: "ours" });
    expect((await port.ensure(wanted)).created).toBe(false);
    expect((await port.device("wga"))?.publicKey).toBe(wanted.publicKey);
    ns.sh("ip link set wga alias ''");
    expect(await port.claim(wanted)).toMatchObject({ kind: "ours" });
    expect(ns.sh("ip -d link show wga")).toContain(`alias ${wanted.mark}`);
  });

  test("under another name: it gets its own back, peers and all", async () => {
    const wanted = spec("wga", { addresses: [prefix("10.255.0.1/32")] });
    await port.ensure(wanted);
    await port.setPeer("wga", { publicKey: publicKeyOf(presharedKey) });
    ns.sh("ip link set wga down; ip link set wga name elsewhere; ip link set elsewhere up");
    expect((await port.ensure(wanted)).created).toBe(false);
    expect(ns.sh("ip -o link")).not.toContain("elsewhere");
    expect(ns.sh("ip -o link show wga")).toMatch(/<[^>]*\bUP\b/);
    expect((await port.device("wga"))?.peers).toHaveLength(1);
    await port.destroy("wga");
    expect(ns.sh("ip -o link")).not.toContain("wga");
  });

  test("whatever is changed on it is seen as a difference, and ensure takes it back", async () => {
    const wanted = spec("wga", {
      listenPort: 51999,
      addresses: [prefix("10.255.0.1/32"), prefix("2001:db8::1/128"), prefix("fe80::1234/128")],
    });
    await port.ensure(wanted);
    const before = `${stateOf("wga")}${ns.sh("ip -6 route show dev wga")}`;
    for (const change of [
      "ip link set wga down",
      "ip link set wga down; ip link set wga up",
      "ip addr flush dev wga",
      "ip addr del fe80::1234/64 dev wga",
      "ip addr add 169.254.9.9/16 dev wga",
      "ip link set wga mtu 1300",
      "ip link set wga mtu 1200",
      "ip link set wga mtu 9000",
      "wg set wga listen-port 5555",
      "wg genkey > /run/k; wg set wga private-key /run/k",
      "sysctl -qw net.ipv6.conf.wga.disable_ipv6=1",
      "sysctl -qw net.ipv4.conf.wga.rp_filter=1",
    ]) {
      ns.sh(change);
      const claim = await port.claim(wanted);
      expect(claim.kind === "ours" && differences(wanted, claim.state), change).not.toEqual([]);
      await port.ensure(wanted);
      const after = await port.claim(wanted);
      expect(after.kind === "ours" && differences(wanted, after.state), change).toEqual([]);
      expect(`${stateOf("wga")}${ns.sh("ip -6 route show dev wga")}`, change).toBe(before);
    }
    expect(skipped).toEqual([]);
  });
});

describe("clear errors, and nothing half-made", () => {
  test("an interface of another kind is not touched", async () => {
    ns.sh("ip link add wga type veth peer name wgb");
    await expect(port.ensure(spec("wga"))).rejects.toThrow(/interface wga: is veth and no WireGuard answers/);
    await expect(port.destroy("wga")).rejects.toThrow(/no WireGuard/);
    expect(ns.sh("ip -o link")).toContain("wga");
    expect(await port.device("wga")).toBeUndefined();
  });

  test("a listen port that is taken: told, and the interface is gone again", async () => {
    await port.ensure(spec("wga", { listenPort: 51001 }));
    await expect(port.ensure(spec("wgc", { listenPort: 51001 }))).rejects.toThrow(/UDP port 51001 is in use/);
    expect(ns.sh("ip -o link")).not.toContain("wgc");
    expect(wireGuardGoPids("wgc")).toEqual([]);
  });

  test("no wireguard-go installed", async () => {
    if ((await genlFamily("wireguard")) !== undefined) return;
    const without = wireguardAdapter({
      wireguardGo: { socketDirectory: sockets, command: ["wireguard-go-missing"] },
    });
    await expect(without.ensure(spec("wga"))).rejects.toThrow(/wireguard-go-missing is not installed/);
  });

  test("a name that cannot be one", async () => {
    await expect(port.ensure(spec("a-name-of-16-byte"))).rejects.toThrow(/is not an interface name/);
    await expect(port.ensure(spec("../x"))).rejects.toThrow(/is not an interface name/);
  });

  test("an MTU below 1280 costs the IPv6 address, a larger one brings it back", async () => {
    const wanted = spec("wga", { mtu: 1200, addresses: [prefix("10.255.0.1/32"), prefix("fe80::1/128")] });
    await port.ensure(wanted);
    expect(skipped).toEqual(["fe80::1"]);
    await port.ensure({ ...wanted, mtu: 1280 });
    const addresses = ns.sh("ip -o addr show dev wga");
    expect(addresses).toContain("10.255.0.1/32");
    expect(addresses).toContain("fe80::1/64");
  });

  test("IPv6 off: the IPv4 address is set, the others are reported", async () => {
    ns.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    await port.ensure(spec("wga", { addresses: [prefix("10.255.0.1/32"), prefix("fe80::1/128")] }));
    expect(ns.sh("ip -o addr show dev wga")).toContain("10.255.0.1/32");
    expect(skipped).toEqual(["fe80::1"]);
  });
});
