/** The overlay interfaces against the configuration: which address is this router's, which VRF, and what is refused with which remedy. */
import { describe, expect, it } from "vitest";
import { parseConfig } from "../../../plugin/config/config.js";
import {
  addressesForDaemon,
  ConfigMismatch,
  existingOverlays,
  overlayLinks,
  overlayOf,
  overlayProblem,
  type PlacedAddress,
  readOverlay,
} from "../../../plugin/driver/overlay.js";
import { type KernelLink, PortError, type RoutePort } from "../../../plugin/driver/ports.js";
import { address, hostPrefix } from "../../../plugin/net/address.js";

const parsed = (...lines: string[]) => {
  const c = parseConfig([...lines, ""].join("\n"));
  if (!c.ok) throw new Error(JSON.stringify(c.error));
  return c.value;
};
const SPOKE = ["role: spoke", "hubs: [10.255.0.1]", "daemon: bird", "bgp: { as: 65000 }"];
const config = (...more: string[]) => parsed(...SPOKE, "overlay: wg0", ...more);
const several = (overlay: string, ...more: string[]) => parsed(...SPOKE, `overlay: ${overlay}`, ...more);
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
const VRF = "vrf: { name: red, table: 101 }";
/** `10.255.0.2/24`: an address and its length. */
const on = (dev: string, ...list: string[]): PlacedAddress[] =>
  list.map((text) => {
    const [a = "", length] = text.split("/");
    return { dev, address: address(a), length: Number(length) };
  });

describe("the overlay's links", () => {
  it("are found outside any VRF, and in the VRF of the configuration", () => {
    expect(overlayLinks(config(), [RED, WG])).toEqual([WG]);
    expect(overlayLinks(config(VRF), [RED, IN_RED])).toEqual([IN_RED]);
    expect(overlayLinks(config(), [link("br0", 9), IN_RED])).toEqual([IN_RED]);
  });

  it("are in the order of the configuration, each once", () => {
    const links = ["eth0", "wg-b", "wg1", "wg-a", "wg0", "wgx"].map((name, i) => link(name, i + 1));
    const names = (overlay: string) => existingOverlays(several(overlay), links).map((l) => l.name);
    expect(names('["wg1", "wg-*", "wg0", "wg-a2"]')).toEqual(["wg1", "wg-a", "wg-b", "wg0"]);
    expect(names('["wg-*", "wg-a", "wg*"]')).toEqual(["wg-a", "wg-b", "wg0", "wg1", "wgx"]);
  });

  it("are the listed ones that exist; none at all is refused", () => {
    expect(overlayLinks(several("[wg9, wg0]"), [WG])).toEqual([WG]);
    expect(() => overlayLinks(several("[wg8, wg9]"), [WG])).toThrow("interface wg8, wg9: none exists");
  });

  it("may be none as yet where a pattern stands for them and the router's address is known", () => {
    expect(overlayLinks(several('"wg-*"', "address: 10.255.0.2"), [WG])).toEqual([]);
    expect(overlayLinks(parsed("role: hub", 'overlay: "wg-*"', "address: 10.255.0.1"), [WG])).toEqual([]);
    expect(() => overlayLinks(several('"wg-*"'), [WG])).toThrow("interface wg-*: none exists as yet");
  });

  it("are all in the VRF", () => {
    const links = [RED, link("wg-a", 4, { master: 9 }), link("wg-b", 5)];
    expect(() => overlayLinks(several('"wg-*"', VRF), links)).toThrow("interface wg-b: is not in VRF red");
    expect(() => overlayLinks(several('"wg-*"'), links)).toThrow("interface wg-a: is in VRF red");
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
    expect(() => overlayLinks(config(...yaml), links)).toThrow(message);
  });
});

describe("this router's overlay address", () => {
  const LIST = on("wg0", "fe80::1/128", "fd00::2/128", "10.255.0.2/32", "10.9.0.2/32");

  it("is the first of the hubs' family, or the one that was configured", () => {
    const own = overlayOf(config(), [WG], LIST);
    expect(own).toEqual({
      addresses: ["fd00::2", "10.255.0.2", "10.9.0.2"],
      self: "10.255.0.2",
      mtu: 1420,
    });
    expect(overlayOf(config("address: 10.9.0.2"), [WG], LIST).self).toBe("10.9.0.2");
    expect(overlayOf({ ...config(), hubs: [] }, [WG], LIST).self).toBe("fd00::2");
  });

  it("is that in a hub's subnet, whatever their order", () => {
    const list = on("wg0", "10.9.0.2/24", "fd00::2/64", "10.255.0.2/24");
    expect(overlayOf(config(), [WG], list).self).toBe("10.255.0.2");
    expect(overlayOf(config("address: 10.9.0.2"), [WG], list).self).toBe("10.9.0.2");
    const six = { ...config(), hubs: [address("fd00::1")] };
    expect(overlayOf(six, [WG], list).self).toBe("fd00::2");
  });

  it("must be on an interface", () => {
    expect(() => overlayOf(config(), [WG], on("wg0", "fd00::2/128"))).toThrow("has no address of IPv4");
    expect(() => overlayOf(config("address: 10.0.0.9"), [WG], LIST)).toThrow(
      "address 10.0.0.9: is on no interface of this router that is up (`ip address add 10.0.0.9/32 dev lo`",
    );
  });

  it("must not be that of a hub: a spoke cannot be its own hub", () => {
    const list = on("wg0", "10.255.0.2/32", "10.255.0.1/32");
    expect(() => overlayOf(config(), [WG], list)).toThrow(ConfigMismatch);
    expect(() => overlayOf(config(), [WG], list)).toThrow("has the address 10.255.0.1, which `hubs` lists");
    const elsewhere = [...LIST, ...on("lo", "10.255.0.1/32")];
    expect(() => overlayOf(config(), [link("lo", 1), WG], elsewhere)).toThrow(
      "interface lo: has the address 10.255.0.1, which `hubs` lists",
    );
    // another VRF is another network
    expect(overlayOf(config(), [RED, WG], [...LIST, ...on("red", "10.255.0.1/32")]).self).toBe("10.255.0.2");
  });
});

describe("with several overlay interfaces", () => {
  const HUB1 = link("wg-hub1", 4);
  const HUB2 = link("wg-hub2", 5, { mtu: 1380 });
  const LO = link("lo", 1, { mtu: 65536 });
  const LINKS = [LO, link("eth0", 2), HUB1, HUB2];
  const tunnels = [...on("wg-hub1", "fe80::a/64", "192.0.2.0/31"), ...on("wg-hub2", "fe80::a/64")];
  const lo = on("lo", "127.0.0.1/8", "::1/128", "10.255.1.1/32", "fd00:255::1:1/128", "169.254.9.9/32");
  const both = (...more: string[]) => several("[wg-hub1, wg-hub2]", ...more);

  it("the address may be on lo, beside others by which the router is known; the MTU is the smallest", () => {
    expect(overlayOf(both("address: 10.255.1.1"), LINKS, [...tunnels, ...lo])).toEqual({
      addresses: ["10.255.1.1", "fd00:255::1:1"],
      self: "10.255.1.1",
      mtu: 1380,
    });
  });

  it("an address of the overlay stands for all of the overlay, each once", () => {
    const shared = [...on("wg-hub1", "10.255.1.1/32"), ...on("wg-hub2", "10.255.1.1/32", "fd00::1/128")];
    for (const c of [both(), both("address: 10.255.1.1")])
      expect(overlayOf(c, LINKS, [...lo, ...shared])).toEqual({
        addresses: ["10.255.1.1", "fd00::1"],
        self: "10.255.1.1",
        mtu: 1380,
      });
  });

  it("is not guessed from addresses of lo", () => {
    expect(() => overlayOf(both(), LINKS, [...on("wg-hub2", "fe80::a/64"), ...lo])).toThrow(
      "or name this router's address in `address`: it may be on any interface, such as lo",
    );
  });

  it("is not taken from the direct interface, which repeats it", () => {
    const left = on("shortcut0", "10.255.1.1/32");
    expect(() => overlayOf(both("address: 10.255.1.1"), [...LINKS, link("shortcut0", 7)], left)).toThrow(
      "is on no interface of this router that is up",
    );
  });

  it("is in the VRF, where the VRF's own device is as good as lo", () => {
    const links = [RED, link("wg-hub1", 4, { master: 9 }), LO, link("dummy1", 8, { master: 9 })];
    const c = both("address: 10.255.1.1", VRF);
    expect(overlayOf(c, links, on("red", "10.255.1.1/32", "127.0.0.1/8")).addresses).toEqual(["10.255.1.1"]);
    expect(overlayOf(c, links, on("dummy1", "10.255.1.1/32")).self).toBe("10.255.1.1");
    expect(() => overlayOf(c, links, on("lo", "10.255.1.1/32"))).toThrow(
      "address 10.255.1.1: is on lo, which is not in VRF red (`ip address add 10.255.1.1/32 dev red`",
    );
    const outside = both("address: 10.255.1.1");
    expect(() => overlayOf(outside, [...LINKS, RED], on("red", "10.255.1.1/32"))).toThrow(
      "is on red, which is in a VRF",
    );
  });

  it("has the usual MTU while there is no interface as yet", () => {
    const hub = parsed("role: hub", 'overlay: "wg-s*"', "address: 10.255.1.1");
    expect(overlayOf(hub, [LO], lo)).toMatchObject({ self: "10.255.1.1", mtu: 1420 });
  });

  it("the daemon's configuration has to do with subnets of the overlay, and with the router's own addresses", () => {
    const rows = [...tunnels, ...lo, ...on("eth0", "10.1.0.1/24")];
    expect(addressesForDaemon(both("address: 10.255.1.1"), rows)).toEqual([
      { address: "192.0.2.0", length: 31 },
      { address: "10.255.1.1", length: 32 },
      { address: "fd00:255::1:1", length: 128 },
    ]);
    expect(
      addressesForDaemon(both("address: 10.1.0.1"), rows).map((a) => `${a.address}/${a.length}`),
    ).toEqual(["192.0.2.0/31", "10.1.0.1/32"]);
    expect(addressesForDaemon(both(), rows)).toEqual([{ address: "192.0.2.0", length: 31 }]);
  });

  it("is read from the kernel: also addresses that are not usable as yet, and an interface that has just gone", async () => {
    const port: Pick<RoutePort, "links" | "allAddresses" | "addresses"> = {
      links: async () => LINKS,
      allAddresses: async () => [...on("wg-hub1", "10.255.1.1/24"), ...lo],
      addresses: async (dev) => {
        if (dev === "wg-hub2") throw new PortError("interface wg-hub2", "no such device", "", "ENODEV");
        return [hostPrefix(address("10.255.1.1")), hostPrefix(address("fd00::7"))];
      },
    };
    expect(await readOverlay(both(), port)).toEqual({
      addresses: ["10.255.1.1", "fd00::7"],
      self: "10.255.1.1",
      mtu: 1380,
    });
    const denied = async (): Promise<never> => {
      throw new PortError("netlink", "denied", "", "EPERM");
    };
    await expect(readOverlay(both(), { ...port, addresses: denied })).rejects.toThrow("denied");
  });
});

describe("while shortcutd runs", () => {
  const self = address("10.255.0.2");
  const own = on("wg0", "10.255.0.2/32", "fe80::1/128");
  const problem = (links: readonly KernelLink[], rows = own, ...more: string[]) =>
    overlayProblem(config(...more), "wg0", self, links, rows);

  it("an overlay interface can be used as long as it is up, in its VRF, and the router has its address", () => {
    expect(problem([WG])).toBeUndefined();
    expect(problem([link("wg0", 77)])).toBeUndefined();
    expect(problem([RED, IN_RED], own, VRF)).toBeUndefined();
    expect(problem([WG, link("lo", 1)], on("lo", "10.255.0.2/32"))).toBeUndefined();
  });

  it("everything else is a reason of its own", () => {
    expect(problem([link("wg1", 3)])).toEqual({ kind: "overlay-missing", name: "wg0" });
    expect(problem([link("wg0", 3, { up: false })])).toEqual({ kind: "overlay-down", name: "wg0" });
    // addresses are told of interfaces that are up alone
    expect(problem([link("wg0", 3, { up: false })], [])).toEqual({ kind: "overlay-down", name: "wg0" });
    const missing = { kind: "overlay-address-missing", name: "wg0", address: self };
    expect(problem([WG], on("wg0", "10.255.0.9/32"))).toEqual(missing);
    expect(problem([WG, link("shortcut0", 7)], on("shortcut0", "10.255.0.2/32"))).toEqual(missing);
    expect(problem([WG, RED], on("red", "10.255.0.2/32"))).toEqual(missing);
    expect(problem([RED, WG], own, VRF)).toEqual({
      kind: "overlay-outside-vrf",
      name: "wg0",
      vrf: "red",
    });
    expect(problem([RED, IN_RED])).toMatchObject({ kind: "overlay-outside-vrf", vrf: undefined });
  });
});
