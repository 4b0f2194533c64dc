/** The overlay interface against the configuration: which address is this router's, which VRF, and what is refused with which remedy. */
import { describe, expect, it } from "vitest";
import { parseConfig } from "../../../plugin/config/config.js";
import { ConfigMismatch, overlayLink, overlayOf, overlayProblem } from "../../../plugin/driver/overlay.js";
import type { InterfaceAddress, KernelLink } from "../../../plugin/driver/ports.js";
import { address, hostPrefix } from "../../../plugin/net/address.js";

const config = (...more: string[]) => {
  const base = ["role: spoke", "overlay: wg0", "hubs: [10.255.0.1]", "daemon: bird", "bgp: { as: 65000 }"];
  const c = parseConfig([...base, ...more, ""].join("\n"));
  if (!c.ok) throw new Error(JSON.stringify(c.error));
  return c.value;
};
const link = (name: string, ifindex: number, more: Partial<KernelLink> = {}): KernelLink => ({
  name,
  ifindex,
  up: true,
  mtu: 1420,
  ...more,
});
const WG = link("wg0", 3);
const RED = link("red", 9, { vrfTable: 101 });
const IN_RED = link("wg0", 3, { master: 9 });
/** `10.255.0.2/24`: an address and its length. */
const addresses = (...list: string[]): InterfaceAddress[] =>
  list.map((text) => {
    const [a = "", length] = text.split("/");
    return { address: address(a), length: Number(length) };
  });

describe("the overlay's link", () => {
  const VRF = "vrf: { name: red, table: 101 }";

  it("is found outside any VRF, and in the VRF of the configuration", () => {
    expect(overlayLink(config(), [RED, WG])).toBe(WG);
    expect(overlayLink(config(VRF), [RED, IN_RED])).toBe(IN_RED);
    expect(overlayLink(config(), [link("br0", 9), IN_RED])).toBe(IN_RED);
  });

  it.each<[string, string[], readonly KernelLink[], string]>([
    ["is missing", [], [RED], "interface wg0: does not exist (bring the overlay up first"],
    [
      "is in a VRF that is not configured",
      [],
      [RED, IN_RED],
      "is in VRF red (add `vrf: { name: red, table: 101 }`",
    ],
    [
      "is outside the configured VRF",
      [VRF],
      [RED, WG],
      "is not in VRF red (`ip link set wg0 vrf red`, or correct `vrf`)",
    ],
    [
      "is in another VRF",
      [VRF],
      [link("blue", 9, { vrfTable: 102 }), IN_RED],
      "is not in VRF red but in blue",
    ],
    [
      "is in the VRF, with another table",
      [VRF],
      [link("red", 9, { vrfTable: 7 }), IN_RED],
      "VRF red: has table 7, not 101 (vrf.table: 7",
    ],
  ])("that %s is refused", (_, yaml, links, message) => {
    expect(() => overlayLink(config(...yaml), links)).toThrow(message);
  });
});

describe("this router's overlay address", () => {
  const LIST = addresses("fe80::1/128", "fd00::2/128", "10.255.0.2/32", "10.9.0.2/32");

  it("is the first of the hubs' family, or the one that was configured", () => {
    const own = overlayOf(config(), WG, LIST);
    expect(own).toEqual({
      addresses: ["fd00::2", "10.255.0.2", "10.9.0.2"],
      self: "10.255.0.2",
      mtu: 1420,
    });
    expect(overlayOf(config("address: 10.9.0.2"), WG, LIST).self).toBe("10.9.0.2");
    expect(overlayOf({ ...config(), hubs: [] }, WG, LIST).self).toBe("fd00::2");
  });

  it("is that in a hub's subnet, whatever their order", () => {
    const list = addresses("10.9.0.2/24", "fd00::2/64", "10.255.0.2/24");
    expect(overlayOf(config(), WG, list).self).toBe("10.255.0.2");
    expect(overlayOf(config("address: 10.9.0.2"), WG, list).self).toBe("10.9.0.2");
    const six = { ...config(), hubs: [address("fd00::1")] };
    expect(overlayOf(six, WG, list).self).toBe("fd00::2");
  });

  it("must be on the interface", () => {
    expect(() => overlayOf(config(), WG, addresses("fd00::2/128"))).toThrow("has no address of IPv4");
    expect(() => overlayOf(config("address: 10.0.0.9"), WG, LIST)).toThrow("has no address 10.0.0.9");
  });

  it("must not be that of a hub: a spoke cannot be its own hub", () => {
    const list = addresses("10.255.0.2/32", "10.255.0.1/32");
    expect(() => overlayOf(config(), WG, list)).toThrow(ConfigMismatch);
    expect(() => overlayOf(config(), WG, list)).toThrow("has the address 10.255.0.1, which `hubs` lists");
  });
});

describe("while shortcutd runs", () => {
  const self = address("10.255.0.2");
  const own = addresses("10.255.0.2/32", "fe80::1/128");
  const problem = (links: readonly KernelLink[], onInterface = own, ...more: string[]) =>
    overlayProblem(
      config(...more),
      self,
      links,
      onInterface.map((a) => hostPrefix(a.address)),
    );

  it("the overlay can be used as long as it is up, in its VRF, and has this router's address", () => {
    expect(problem([WG])).toBeUndefined();
    expect(problem([link("wg0", 77)])).toBeUndefined();
    expect(problem([RED, IN_RED], own, "vrf: { name: red, table: 101 }")).toBeUndefined();
  });

  it("everything else is a reason of its own", () => {
    expect(problem([link("wg1", 3)])).toEqual({ kind: "overlay-missing", name: "wg0" });
    expect(problem([link("wg0", 3, { up: false })])).toEqual({ kind: "overlay-down", name: "wg0" });
    expect(problem([WG], addresses("10.255.0.9/32"))).toEqual({
      kind: "overlay-address-missing",
      name: "wg0",
      address: self,
    });
    expect(problem([RED, WG], own, "vrf: { name: red, table: 101 }")).toEqual({
      kind: "overlay-outside-vrf",
      name: "wg0",
      vrf: "red",
    });
    expect(problem([RED, IN_RED])).toMatchObject({ kind: "overlay-outside-vrf", vrf: undefined });
  });
});
