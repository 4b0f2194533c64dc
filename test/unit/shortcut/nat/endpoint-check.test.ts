/** Endpoints of others: those to which nothing is ever sent, whatever told them, and why. */
import { describe, expect, it } from "vitest";
import { address, type Endpoint, parseEndpoint, prefix } from "../../../../plugin/net/address.js";
import { endpointFault, remoteFault } from "../../../../plugin/shortcut/nat/endpoint-check.js";
import { describeReason } from "../../../../plugin/shortcut/reasons.js";

const endpoint = (text: string): Endpoint => {
  const e = parseEndpoint(text);
  if (e === undefined) throw new Error(text);
  return e;
};
const at = (dev: string, text: string, length: number) => ({ dev, address: address(text), length });
const here = {
  addresses: [
    at("lo", "127.0.0.1", 8),
    at("eth0", "192.0.2.2", 24),
    at("eth0", "2001:db8::2", 64),
    at("eth1", "198.51.100.4", 31),
    at("wg0", "10.255.0.1", 24),
    at("br0", "10.1.0.1", 23),
  ],
  hubs: [address("10.255.0.254")],
  aliasPools: [prefix("198.18.0.0/16"), prefix("fd00:5c::/64")],
};
const owner = {
  address: address("10.255.0.3"),
  prefixes: [prefix("10.3.0.0/24"), prefix("2001:db8:3::/64")],
};
const fault = (text: string) => endpointFault(endpoint(text), here, owner);

describe("an endpoint is refused", () => {
  it.each([
    ["0.0.0.0:51821", "unspecified"],
    ["0.1.2.3:51821", "unspecified"],
    ["127.0.0.1:51821", "loopback"],
    ["127.255.0.1:1", "loopback"],
    ["169.254.169.254:80", "link-local"],
    ["224.0.0.1:51821", "multicast"],
    ["239.255.255.250:1900", "multicast"],
    ["240.0.0.1:51821", "reserved"],
    ["255.255.255.255:67", "broadcast"],
    ["[::]:51821", "unspecified"],
    ["[::1]:51821", "loopback"],
    ["[::192.0.2.9]:51821", "ipv4-mapped"],
    ["[::ffff:192.0.2.9]:51821", "ipv4-mapped"],
    ["[fe80::1]:51821", "link-local"],
    ["[fec0::1]:51821", "reserved"],
    ["[ff02::1]:51821", "multicast"],
    ["[100::1]:51821", "reserved"],
    // a translator or a relay would send it to the address inside
    ["[64:ff9b::7f00:1]:51821", "loopback"],
    ["[64:ff9b::a9fe:a9fe]:80", "link-local"],
    ["[2002:7f00:1::1]:51821", "loopback"],
    ["[64:ff9b::c000:202]:51821", "own-address"],
    ["192.0.2.2:51821", "own-address"],
    ["192.0.2.2:22", "own-address"],
    ["[2001:db8::2]:51821", "own-address"],
    ["10.255.0.1:51821", "own-address"],
    ["192.0.2.255:51821", "broadcast"],
    ["192.0.2.0:51821", "broadcast"],
    ["10.1.1.255:51821", "broadcast"],
    ["10.1.0.0:51821", "broadcast"],
    ["10.255.0.254:51821", "overlay"],
    ["10.255.0.3:51821", "overlay"],
    ["198.18.7.7:51821", "alias-pool"],
    ["[fd00:5c::9]:51821", "alias-pool"],
    ["10.3.0.1:51821", "attested"],
    ["[2001:db8:3::1]:51821", "attested"],
  ] as const)("%s: %s", (text, expected) => {
    expect(fault(text)).toBe(expected);
    const said = describeReason({ kind: "endpoint-refused", endpoint: text, fault: expected });
    expect(said).toContain(`${text} is not used as an endpoint: `);
  });

  it("with a port that is not one", () => {
    for (const port of [0, -1, 65_536])
      expect(remoteFault({ address: address("192.0.2.9"), port })).toBe("port");
  });
});

describe("an endpoint is permitted", () => {
  it.each([
    "192.0.2.9:51821",
    // public, private and shared addresses; a router in the own LAN, too
    "203.0.113.255:51821",
    "10.4.0.1:51821",
    "10.1.0.255:51821",
    "10.1.1.9:51821",
    "192.168.7.9:51821",
    "100.64.0.9:51821",
    // the other end of a line of two addresses, and its number as a broadcast address
    "198.51.100.5:51821",
    "[2001:db8::9]:51821",
    "[fd12:3456::1]:51821",
    "[64:ff9b::c633:6409]:51821",
  ])("%s", (text) => {
    expect(fault(text)).toBeUndefined();
  });
});
