/**
 * The kernel's WireGuard behind generic netlink, tried on a real kernel: a program that runs in the
 * guest. It makes an interface by the same adapter as shortcutd, changes it, reads it back, and has
 * `wg` (which knows nothing of us) say the same. Prints one JSON line for each thing that was
 * tried.
 */

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { genlDevice, genlFamily } from "../../../plugin/adapters/wireguard/genl.js";
import { wireguardAdapter } from "../../../plugin/adapters/wireguard/index.js";
import { generatePrivateKey, publicKeyOf } from "../../../plugin/adapters/wireguard/keys.js";
import { type PeerSpec, PortError } from "../../../plugin/driver/ports.js";
import { address, type Prefix, parsePrefix, prefix } from "../../../plugin/net/address.js";
import type { PrivateKey } from "../../../plugin/net/key.js";
import { until } from "../../runner/wait.js";
import { tried } from "./tried.js";

const port = wireguardAdapter();
const run = (...argv: string[]): string => execFileSync(argv[0] ?? "", argv.slice(1), { encoding: "utf8" });
const wg = (dev: string, what: string): string[] =>
  run("wg", "show", dev, what)
    .split("\n")
    .filter((l) => l !== "");

const spec = (name: string, privateKey: PrivateKey, listenPort: number) => ({
  name,
  mark: `shortcutd:${name}`,
  publicKey: publicKeyOf(privateKey),
  privateKey,
  listenPort,
  mtu: 1420,
  addresses: [prefix("10.255.0.1/32"), prefix("fe80::1/128")],
});

const sorted = (prefixes: readonly string[]): string[] => [...prefixes].sort();
/** A different prefix for every number: IPv4 for even ones, IPv6 for odd ones. */
function numbered(i: number): Prefix {
  const [high, low] = [i >> 8, i & 255];
  const p =
    i % 2 === 0 ? `10.${128 + high}.${low}.0/24` : `2001:db8:${high.toString(16)}:${low.toString(16)}::/64`;
  return parsePrefix(p) ?? prefix("0.0.0.0/0");
}

const own = generatePrivateKey();
const other = generatePrivateKey();

await tried("an interface is made, and it is the kernel's", async () => {
  assert.notEqual(await genlFamily("wireguard"), undefined);
  assert.equal(await genlDevice("wga"), undefined);
  const made = await port.ensure(spec("wga", own, 51001));
  assert.deepEqual(made, { created: true, backend: "kernel" });
  assert.match(run("ip", "-d", "link", "show", "wga"), /wireguard/);
  assert.deepEqual(await port.ensure(spec("wga", own, 51001)), { created: false, backend: "kernel" });
  const device = await genlDevice("wga");
  assert.deepEqual(device, { publicKey: publicKeyOf(own), listenPort: 51001, fwmark: 0, peers: [] });
  assert.deepEqual(wg("wga", "private-key"), [own]);
});

await tried("the port changes, and one that is taken is told", async () => {
  await port.ensure(spec("wga", own, 51002));
  assert.deepEqual(wg("wga", "listen-port"), ["51002"]);
  await assert.rejects(
    port.ensure(spec("wgb", other, 51002)),
    (e) => e instanceof PortError && e.code === "EADDRINUSE",
  );
  assert.equal(await port.device("wgb"), undefined);
});

await tried("a peer: endpoint, IPv4 and IPv6 AllowedIPs, keepalive, pre-shared key", async () => {
  const key = publicKeyOf(other);
  const presharedKey = generatePrivateKey();
  await port.setPeer("wga", {
    publicKey: key,
    presharedKey,
    endpoint: { address: address("192.0.2.1"), port: 51820 },
    allowedIps: [prefix("10.3.0.0/16"), prefix("2001:db8:3::/48"), prefix("0.0.0.0/0"), prefix("::/0")],
    keepalive: 25,
  });
  assert.deepEqual(wg("wga", "endpoints"), [`${key}\t192.0.2.1:51820`]);
  assert.deepEqual(wg("wga", "preshared-keys"), [`${key}\t${presharedKey}`]);
  assert.deepEqual(wg("wga", "persistent-keepalive"), [`${key}\t25`]);
  const [peer] = (await port.device("wga"))?.peers ?? [];
  assert.equal(peer?.publicKey, key);
  assert.deepEqual(peer.endpoint, { address: "192.0.2.1", port: 51820 });
  assert.equal(peer.keepalive, 25);
  assert.equal(peer.lastHandshake, 0);
  assert.deepEqual(sorted(peer.allowedIps), ["0.0.0.0/0", "10.3.0.0/16", "2001:db8:3::/48", "::/0"]);
  // what is undefined is left alone
  await port.setPeer("wga", { publicKey: key, keepalive: 0 });
  assert.deepEqual(wg("wga", "endpoints"), [`${key}\t192.0.2.1:51820`]);
  assert.deepEqual(wg("wga", "preshared-keys"), [`${key}\t${presharedKey}`]);
  assert.deepEqual(wg("wga", "persistent-keepalive"), [`${key}\toff`]);
  // AllowedIPs are replaced, an endpoint becomes IPv6
  await port.setPeer("wga", {
    publicKey: key,
    endpoint: { address: address("2001:db8::1"), port: 51821 },
    allowedIps: [prefix("10.4.0.0/24")],
  });
  assert.deepEqual(wg("wga", "allowed-ips"), [`${key}\t10.4.0.0/24`]);
  assert.deepEqual((await port.device("wga"))?.peers[0]?.endpoint, { address: "2001:db8::1", port: 51821 });
  await port.setPeer("wga", { publicKey: key, allowedIps: [] });
  assert.deepEqual((await port.device("wga"))?.peers[0]?.allowedIps, []);
  await port.removePeer("wga", key);
  assert.deepEqual(wg("wga", "peers"), []);
  await port.removePeer("wga", key);
  assert.deepEqual(wg("wga", "peers"), []);
});

await tried("2,500 AllowedIPs of one peer: several messages to write, several to read", async () => {
  const key = publicKeyOf(other);
  const many = Array.from({ length: 2500 }, (_, i) => numbered(i));
  await port.setPeer("wga", { publicKey: key, allowedIps: many, keepalive: 0 });
  const device = await port.device("wga");
  assert.equal(device?.peers.length, 1);
  assert.deepEqual(sorted(device.peers[0]?.allowedIps ?? []), sorted(many));
  const [, told = ""] = (wg("wga", "allowed-ips")[0] ?? "").split("\t");
  assert.deepEqual(sorted(told.split(" ")), sorted(many));
  await port.removePeer("wga", key);
});

await tried("1,000 peers: a dump of many messages", async () => {
  const keys = Array.from({ length: 1000 }, () => publicKeyOf(generatePrivateKey()));
  // by another program, so that the test is of the reading: at once, since this machine is emulated
  const file = "/run/peers.conf";
  writeFileSync(
    file,
    keys
      .map(
        (key, i) =>
          `[Peer]\nPublicKey = ${key}\nEndpoint = 192.0.2.${i % 250}:${1024 + i}\nAllowedIPs = ${numbered(2 * i)}, ${numbered(2 * i + 1)}\nPersistentKeepalive = ${i % 30}\n`,
      )
      .join(""),
  );
  run("wg", "addconf", "wga", file);
  const before = performance.now();
  const device = await port.device("wga");
  const took = performance.now() - before;
  const found = new Map((device?.peers ?? []).map((p) => [p.publicKey, p]));
  assert.equal(device?.peers.length, 1000);
  for (const [i, key] of keys.entries()) {
    const peer = found.get(key);
    assert.deepEqual(peer?.endpoint, { address: `192.0.2.${i % 250}`, port: 1024 + i });
    assert.deepEqual(sorted(peer.allowedIps), sorted([numbered(2 * i), numbered(2 * i + 1)]));
    assert.equal(peer.keepalive, i % 30);
  }
  for (const key of keys.slice(0, 20)) await port.removePeer("wga", key);
  assert.deepEqual(sorted(wg("wga", "peers")), sorted(keys.slice(20)));
  return `read in ${took.toFixed(0)} ms`;
});

await tried("a handshake and data between two interfaces, read back", async () => {
  await port.destroy("wga");
  run("ip", "netns", "add", "far");
  const [a, c] = [generatePrivateKey(), generatePrivateKey()];
  await port.ensure(spec("wga", a, 51001));
  // made here and moved: its socket stays here, so that both ends are 127.0.0.1
  await port.ensure({ ...spec("wgc", c, 51003), addresses: [] });
  const [keyA, keyC] = [publicKeyOf(a), publicKeyOf(c)];
  await port.setPeer("wgc", { publicKey: keyA, allowedIps: [prefix("10.255.0.1/32")] });
  run("ip", "link", "set", "wgc", "netns", "far");
  run("ip", "-n", "far", "address", "add", "10.255.0.3/32", "dev", "wgc");
  run("ip", "-n", "far", "link", "set", "wgc", "up");
  run("ip", "-n", "far", "route", "add", "10.255.0.1/32", "dev", "wgc");
  run("ip", "route", "add", "10.255.0.3/32", "dev", "wga");
  await port.setPeer("wga", {
    publicKey: keyC,
    endpoint: { address: address("127.0.0.1"), port: 51003 },
    allowedIps: [prefix("10.255.0.3/32")],
  });
  run("ping", "-n", "-c", "3", "-i", "0.2", "-W", "5", "10.255.0.3");
  const peer = await until("the handshake is read back", 5_000, async () => {
    const [p] = (await port.device("wga"))?.peers ?? [];
    return p !== undefined && p.lastHandshake > 0 && p.rxBytes > 0 ? p : undefined;
  });
  assert.ok(Math.abs(peer.lastHandshake - Date.now()) < 30_000, `${peer.lastHandshake}`);
  assert.ok(peer.txBytes > 3 * 84, `${peer.txBytes}`);
  const [, seconds] = (wg("wga", "latest-handshakes")[0] ?? "").split("\t");
  assert.equal(Math.floor(peer.lastHandshake / 1000), Number(seconds));
});

await tried(
  "5,000 AllowedIPs, changes under load: no packet without a peer; a replacement of the list has some",
  async () => {
    const publicKey = (await port.device("wga"))?.peers[0]?.publicKey;
    assert.ok(publicKey !== undefined);
    // the last to come back when the list is replaced
    const allowedIps = [...Array.from({ length: 5000 }, (_, i) => numbered(i)), prefix("10.255.0.3/32")];
    const want = (i: number): PeerSpec => ({
      publicKey,
      endpoint: { address: address(`127.0.0.${1 + (i % 2)}`), port: 51003 },
      keepalive: 25 + (i % 2),
      allowedIps,
    });
    const counter = (name: string): number =>
      Number(readFileSync(`/sys/class/net/wga/statistics/${name}`, "utf8"));
    /** Datagrams of one byte until `body` is done; a datagram without a peer ends dd, and counts as an error of the interface. */
    async function withTraffic(body: () => Promise<void>): Promise<{ packets: number; errors: number }> {
      const before = { packets: counter("tx_packets"), errors: counter("tx_errors") };
      const once = "dd if=/dev/zero bs=1 count=5000 status=none > /dev/udp/10.255.0.3/9";
      const flow = spawn("bash", ["-c", `while :; do ${once}; done`], { stdio: "ignore" });
      const ended = new Promise((resolve) => flow.once("exit", resolve));
      try {
        await body();
      } finally {
        flow.kill();
        await ended;
      }
      return {
        packets: counter("tx_packets") - before.packets,
        errors: counter("tx_errors") - before.errors,
      };
    }
    await port.setPeer("wga", want(0));
    const from = counter("tx_packets");
    const changed = await withTraffic(async () => {
      for (let i = 1; i <= 20 || counter("tx_packets") - from < 20_000; i += 1)
        await port.setPeer("wga", want(i));
    });
    assert.equal(changed.errors, 0, `${changed.errors} of ${changed.packets} packets found no peer`);
    const [, told = ""] = (wg("wga", "allowed-ips")[0] ?? "").split("\t");
    assert.deepEqual(sorted(told.split(" ")), sorted(allowedIps));
    // as wg(8) does it, with WGPEER_F_REPLACE_ALLOWEDIPS
    const file = "/run/replace.conf";
    writeFileSync(file, `[Peer]\nPublicKey = ${publicKey}\nAllowedIPs = ${allowedIps.join(", ")}\n`);
    const errors = counter("tx_errors");
    const replaced = await withTraffic(() =>
      until("a replacement loses packets", 60_000, async () => {
        await promisify(execFile)("wg", ["addconf", "wga", file]);
        return counter("tx_errors") > errors;
      }).then(() => undefined),
    );
    return `changed: 0 of ${changed.packets} packets without a peer, replaced: ${replaced.errors} of ${replaced.packets + replaced.errors}`;
  },
);

await tried("it is taken away, and an interface of another kind is not touched", async () => {
  await port.destroy("wga");
  await port.destroy("wga");
  assert.equal(await port.device("wga"), undefined);
  run("ip", "link", "add", "wga", "type", "dummy");
  assert.equal(await port.device("wga"), undefined);
  await assert.rejects(
    port.ensure(spec("wga", own, 51001)),
    (e) => e instanceof PortError && e.code === "EEXIST",
  );
  assert.match(run("ip", "-d", "link", "show", "wga"), /dummy/);
});
