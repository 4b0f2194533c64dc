/** What differs between the direct interface that is wanted and the one that the kernel has, and what of it breaks the direct path. */
import { expect, it } from "vitest";
import { differences } from "../../../../plugin/driver/kernel/interface-state.js";
import type { InterfaceSpec, InterfaceState } from "../../../../plugin/driver/ports.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import { privateKeyFromBytes, publicKeyFromBytes } from "../../../../plugin/net/key.js";

const key = (n: number) => publicKeyFromBytes(new Uint8Array(32).fill(n));
const wanted: InterfaceSpec = {
  name: "shortcut0",
  mark: "shortcutd:wg0",
  publicKey: key(1),
  privateKey: privateKeyFromBytes(new Uint8Array(32).fill(1)),
  listenPort: 51821,
  fwmark: 0,
  mtu: 1420,
  addresses: [prefix("10.255.0.1/32"), prefix("fd00:255::1/128"), prefix("fe80::7/128")],
};
const four = { address: address("10.255.0.1"), length: 32 };
const six = { address: address("fd00:255::1"), length: 128 };
const local = { address: address("fe80::7"), length: 64 };
const asWanted: InterfaceState = {
  ifindex: 7,
  up: true,
  mtu: 1420,
  master: undefined,
  publicKey: key(1),
  listenPort: 51821,
  fwmark: 0,
  peers: [],
  addresses: [four, six, local],
  reversePathFilter: 2,
  ipv6: "on",
};
const found = (change: Partial<InterfaceState>, more: Partial<InterfaceSpec> = {}) =>
  differences({ ...wanted, ...more }, { ...asWanted, ...change });

it("nothing differs in one that is as wanted", () => {
  expect(found({})).toEqual([]);
  expect(found({ reversePathFilter: 0 })).toEqual([]);
  expect(found({ listenPort: 4711 }, { listenPort: 0 })).toEqual([]);
  expect(found({ master: "red" }, { vrf: "red" })).toEqual([]);
});

it.each<[Partial<InterfaceState>, string]>([
  [{ up: false }, "it is down"],
  [{ publicKey: key(2) }, "it has another private key"],
  [{ publicKey: undefined }, "it has another private key"],
  [{ mtu: 1300 }, "its MTU is 1300, not 1420"],
  [{ master: "br0" }, "it is in br0"],
  [{ addresses: [six, local] }, "its address 10.255.0.1/32 is missing"],
  [{ addresses: [{ ...four, length: 24 }, six, local] }, "its address 10.255.0.1/32 is missing"],
  [{ addresses: [four, six] }, "its address fe80::7/64 is missing"],
  [{ addresses: [four], ipv6: "off-here" }, "IPv6 is off on it"],
  [{ reversePathFilter: 1 }, "its rp_filter is strict"],
])("breaks the direct path: %o", (change, what) => {
  expect(found(change)).toEqual([{ what, breaks: true }]);
});

it.each<[Partial<InterfaceState>, string]>([
  [{ fwmark: 7 }, "its firewall mark is 7, not 0"],
  [{ listenPort: 5555 }, "its listen port is 5555, not 51821"],
  [{ mtu: 9000 }, "its MTU is 9000, not 1420"],
  [
    { addresses: [four, six, local, { address: address("169.254.1.1"), length: 16 }] },
    "it has the address 169.254.1.1/16",
  ],
])("is put right without leaving the direct path: %o", (change, what) => {
  expect(found(change)).toEqual([{ what, breaks: false }]);
});

it("a VRF that it has left, and several at once, most important first", () => {
  expect(found({}, { vrf: "red" })).toEqual([{ what: "it is not in VRF red", breaks: true }]);
  expect(found({ up: false, addresses: [] }).map((d) => d.what)).toEqual([
    "it is down",
    "its address 10.255.0.1/32 is missing",
    "its address fd00:255::1/128 is missing",
    "its address fe80::7/64 is missing",
  ]);
});

it("where IPv6 is off on the router, or below its least MTU, only IPv4 addresses are wanted", () => {
  expect(found({ addresses: [four], ipv6: "off" })).toEqual([]);
  expect(found({ addresses: [four], ipv6: "off-here", mtu: 1200 }, { mtu: 1200 })).toEqual([]);
});
