/** The nftables script of the traffic counters: masks, one transaction, and control traffic that is not counted. */
import { expect, test } from "vitest";
import { nftScript } from "../../../../plugin/adapters/linux/traffic.js";

const spec = {
  uid: 990,
  table: "shortcutd",
  overlay: "wg0",
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
  expect(script).toContain('iifname != "wg0" oifname "wg0" udp dport 5180 counter drop');
});

test("control packets leave from shortcutd's own user and from root alone", () => {
  const own = 'oifname "wg0" udp dport 5180 meta skuid !=';
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

test("host masks", () => {
  const script = nftScript({ ...spec, mask4: 32, mask6: 128 });
  expect(script).toContain("ip daddr & 255.255.255.255");
  expect(script).toContain("ip6 daddr & ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
});
