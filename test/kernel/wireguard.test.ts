/**
 * Shows that the direct interface is made whole, kept, changed and removed, with wireguard-go and
 * with the kernel.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { genlFamily } from "../../plugin/adapters/wireguard/genl.js";
import { wireguardAdapter } from "../../plugin/adapters/wireguard/index.js";
import { generatePrivateKey, publicKeyOf } from "../../plugin/adapters/wireguard/keys.js";
import { wireGuardGoPids } from "../../plugin/adapters/wireguard/uapi.js";
import type { InterfaceSpec, WireGuardPort } from "../../plugin/driver/ports.js";
import { address, prefix } from "../../plugin/net/address.js";
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
  port = wireguardAdapter({
    wireguardGo: {
      socketDirectory: sockets,
      command: ["nsenter", "-t", String(ns.pid), "-n", "-m", "-p", "--", "wireguard-go"],
    },
    onSkippedAddresses: (_dev, addresses) => skipped.push(...addresses),
  });
});

afterEach(async () => {
  leave();
  await ns.destroy();
});

const spec = (name: string, more: Partial<InterfaceSpec> = {}): InterfaceSpec => ({
  name,
  privateKey: generatePrivateKey(),
  listenPort: 0,
  mtu: 1420,
  addresses: [],
  ...more,
});

/** Nobody reaps in the namespace of the test: a zombie, which has no command line, has ended. */
const isRunning = (pid: number): boolean =>
  existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";

const presharedKey = generatePrivateKey();

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
