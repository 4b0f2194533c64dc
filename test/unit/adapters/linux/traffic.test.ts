/** The nftables script of the traffic counters: masks, one transaction, and control traffic that is not counted. */
import { expect, test } from "vitest";
import { deviceMatches } from "../../../../plugin/adapters/linux/nft.js";
import { nftScript } from "../../../../plugin/adapters/linux/traffic.js";

const spec = {
  uid: 990,
  table: "shortcutd",
  overlay: ["wg0"],
  direct: "shortcut0",
  controlPort: 5180,
  mask4: 20,
  mask6: 56,
  timeoutSeconds: 30,
  stateful: false,
  divertMark: 0x20000000,
};

test("the table: masks as addresses, one transaction that replaces, control traffic passed over", () => {
  const script = nftScript(spec);
  expect(
    script.startsWith("add table inet shortcutd\ndelete table inet shortcutd\ntable inet shortcutd {\n"),
  ).toBe(true);
  expect(script).toContain("update @dst4 { ip daddr & 255.255.240.0 }");
  expect(script).toContain("update @dst6 { ip6 daddr & ffff:ffff:ffff:ff00:: }");
  expect(script).toContain("timeout 30s");
  expect(script.indexOf("udp dport 5180 return")).toBeLessThan(script.indexOf("update @dst4"));
  expect(script).toContain('oifname "wg0" udp dport 5180 jump forged');
  expect(script).toContain('chain forged {\n    iifname "wg0" return\n    counter drop\n');
});

test("control packets leave from shortcutd's own user and from root alone", () => {
  const own = "chain own_users {\n    meta skuid !=";
  expect(nftScript(spec)).toContain('oifname "wg0" udp dport 5180 jump own_users');
  expect(nftScript(spec)).toContain(`${own} { 0, 990 } counter drop`);
  expect(nftScript({ ...spec, uid: 0 })).toContain(`${own} { 0 } counter drop`);
});

test("connections are tracked only where firewalls look at their state", () => {
  expect(nftScript(spec)).not.toContain("ct state");
  expect(nftScript({ ...spec, inVrf: true })).not.toContain("meta mark");
  // new connections are tried again nevertheless, for the firewall of the other end
  expect(nftScript(spec)).toMatch(
    /tcp flags & \(syn \| ack\) == syn fib daddr oifname "shortcut0" .* meta mark set/,
  );
  const script = nftScript({ ...spec, stateful: true });
  expect(script).toContain("ct state != { established, related }");
  // the mark is taken away before any filter sees the packet
  expect(script).toContain("meta mark & 536870912 == 536870912 meta mark set meta mark & 3758096383");
});

test("every overlay interface is counted and guarded, also one that a pattern stands for", () => {
  const script = nftScript({ ...spec, overlay: ["wg0", "wg1", "hub-*"], stateful: true });
  for (const dev of ['{ "wg0", "wg1" }', '"hub-*"']) {
    expect(script).toContain(`    oifname ${dev} jump destination\n`);
    expect(script).toContain(`    oifname ${dev} udp dport 5180 jump forged\n`);
    expect(script).toContain(`    iifname ${dev} return\n`);
    expect(script).toContain(`    oifname ${dev} udp dport 5180 jump own_users\n`);
    expect(script).toContain(`    oifname ${dev} jump passes`);
    expect(script).toContain(`    iifname ${dev} ct state != { established, related } meta nfproto ipv4`);
  }
  expect(script).toContain('iifname { "wg0", "wg1", "shortcut0" } ct state established');
});

test("no packet matches two rules for the overlay: it would be counted twice", () => {
  expect(deviceMatches(["wg0"])).toEqual(['"wg0"']);
  expect(deviceMatches(["wg0", "wg-*", "wg0"])).toEqual(['"wg0"', '"wg-*"']);
  expect(deviceMatches(["wg-a", "wg-*", "wg*", "x", "y"])).toEqual(['{ "x", "y" }', '"wg*"']);
  // nft refuses a wildcard behind a name of full length
  expect(deviceMatches(["a23456789012345*", "a23456789012345"])).toEqual(['"a23456789012345"']);
});

test("host masks", () => {
  const script = nftScript({ ...spec, mask4: 32, mask6: 128 });
  expect(script).toContain("ip daddr & 255.255.255.255");
  expect(script).toContain("ip6 daddr & ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
});
