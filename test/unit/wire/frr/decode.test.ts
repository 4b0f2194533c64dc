/** Recorded JSON and running configurations of FRR, as values. */
import { readdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { address, prefix } from "../../../../plugin/net/address.js";
import {
  decodeBgpRoute,
  decodeFilteredRoutes,
  decodeNeighbor,
  decodePathInterfaces,
  decodeRouterId,
  decodeSessions,
  decodeZebraRoutes,
  parseFrrVersion,
} from "../../../../plugin/wire/frr/json.js";
import { parseRunningConfig } from "../../../../plugin/wire/frr/running-config.js";
import { must, recorded } from "./support.js";

const FAR = prefix("10.3.0.0/24");

describe("FRR's JSON", () => {
  it("has paths with what decides between them", () => {
    expect(must(decodeBgpRoute(recorded("bgp-selected")))).toEqual([
      {
        nextHop: "198.18.0.1",
        accessible: true,
        valid: true,
        weight: 100,
        localPref: 100,
        best: true,
        multipath: false,
        selectionReason: "Weight",
        peer: "127.0.0.2",
      },
      {
        nextHop: "10.255.0.2",
        accessible: true,
        valid: true,
        weight: 0,
        localPref: 100,
        best: false,
        multipath: false,
        selectionReason: undefined,
        peer: "10.255.0.3",
      },
    ]);
    expect(must(decodeBgpRoute(recorded("bgp-tied"))).map((p) => p.multipath)).toEqual([true, true]);
    expect(must(decodeBgpRoute(recorded("bgp-inaccessible"))).map((p) => [p.nextHop, p.accessible])).toEqual([
      ["198.18.0.1", false],
      ["10.255.0.2", true],
    ]);
    expect(must(decodeBgpRoute(recorded("bgp-own"))).find((p) => p.best)).toMatchObject({
      weight: 32768,
      peer: "0.0.0.0",
    });
    expect(must(decodeBgpRoute(recorded("bgp6"))).map((p) => p.nextHop)).toContain("fd53:4843:5554::1");
    expect(must(decodeBgpRoute(recorded("bgp-absent")))).toEqual([]);
  });

  it("has the interface of each path that came over link-local addresses, where the neighbour has one", () => {
    expect(must(decodePathInterfaces(recorded("bgp-link-local")))).toEqual([
      { pathId: 4, peer: "fe80::1", dev: "wg-hub1" },
      { pathId: 2, peer: "fe80::2", dev: undefined },
    ]);
    const { bgp } = parseRunningConfig(recorded("running-config-link-local"));
    expect(bgp?.neighbors.get("fe80::2")).toMatchObject({ interfaceName: "wg-hub2", remoteAs: "65002" });
    expect(bgp?.neighbors.get("wg-hub1")).toMatchObject({ interfaceName: undefined, remoteAs: "external" });
    expect(must(decodePathInterfaces(recorded("bgp-selected")))).toEqual([]);
    expect(must(decodePathInterfaces(recorded("bgp-absent")))).toEqual([]);
  });

  it("has the state of every session", () => {
    expect([...must(decodeSessions(recorded("neighbor")))]).toEqual([["127.0.0.2", true]]);
    expect([...must(decodeSessions('{"wg-hub1":{"bgpState":"Idle"},"vrfName":"red"}'))]).toEqual([
      ["wg-hub1", false],
    ]);
    expect(decodeSessions("[]").ok).toBe(false);
  });

  it("has neighbours", () => {
    expect(must(decodeNeighbor(recorded("neighbor"), address("127.0.0.2")))).toMatchObject({
      state: "Established",
      peerGroup: "SHORTCUT",
      routeMapIn: { 4: "SHORTCUT-IN", 6: "SHORTCUT-IN" },
    });
    expect(must(decodeNeighbor(recorded("no-neighbor"), address("127.0.0.9")))).toBeUndefined();
  });

  it("has refused routes, or says that they are not kept", () => {
    expect(must(decodeFilteredRoutes(recorded("filtered")))).toEqual(new Set([FAR]));
    expect(must(decodeFilteredRoutes(recorded("filtered-unknown")))).toBeUndefined();
    expect(decodeFilteredRoutes("{}").ok).toBe(false);
  });

  it("has zebra's routes of all protocols", () => {
    expect(must(decodeZebraRoutes(recorded("zebra-selected"), FAR))).toEqual([
      {
        protocol: "bgp",
        selected: true,
        installed: true,
        distance: 200,
        metric: 0,
        nextHops: [
          { gateway: "198.18.0.1", dev: undefined, fib: false },
          { gateway: "198.18.0.1", dev: "wg0", fib: true },
        ],
      },
    ]);
    expect(
      must(decodeZebraRoutes(recorded("zebra-static"), FAR)).map((r) => [r.protocol, r.selected, r.distance]),
    ).toEqual(
      expect.arrayContaining([
        ["static", true, 110],
        ["bgp", false, 200],
      ]),
    );
    const tied = must(decodeZebraRoutes(recorded("zebra-tied"), FAR));
    expect(new Set(tied[0]?.nextHops.map((h) => h.gateway))).toEqual(new Set(["10.255.0.2", "198.18.0.1"]));
    expect(must(decodeZebraRoutes(recorded("zebra6"), prefix("2001:db8:3::/64")))).toHaveLength(1);
    expect(must(decodeZebraRoutes(recorded("zebra-absent"), FAR))).toEqual([]);
  });

  it("has the BGP identifier of each VRF", () => {
    const text = '{"vrfs":{"default":{"routerId":"10.255.0.1"},"red":{"routerId":"10.9.0.1"}}}';
    expect(decodeRouterId(text, "default")).toBe("10.255.0.1");
    expect(decodeRouterId(text, "red")).toBe("10.9.0.1");
    expect(decodeRouterId(text, "blue")).toBeUndefined();
    expect(decodeRouterId("% no such command", "default")).toBeUndefined();
  });

  it("has a version", () => {
    expect(parseFrrVersion(recorded("version"))).toBe("8.4.4");
    expect(parseFrrVersion("Quagga 1.2")).toBeUndefined();
  });

  it.each([
    ["text", "% Unknown command"],
    ["another shape", '{"paths": 3}'],
    ["another type", '{"paths": [{"weight": "100"}]}'],
    ["a list", "[]"],
    ["nothing", ""],
  ])("is refused with its place: %s", (_, text) => {
    const r = decodeBgpRoute(text);
    expect(r.ok).toBe(false);
    if (!r.ok) expect(r.error).toContain("show bgp PREFIX json");
  });

  it("never throws, whatever is changed in it", () => {
    const names = readdirSync(new URL("./recorded", import.meta.url)).map((f) => f.replace(/\.txt$/, ""));
    expect(names.length).toBeGreaterThan(15);
    const change = fc.array(fc.tuple(fc.nat(5000), fc.string({ maxLength: 3 })), { maxLength: 6 });
    fc.assert(
      fc.property(fc.constantFrom(...names), change, (name, changes) => {
        let text = recorded(name);
        for (const [at, s] of changes) {
          const i = at % text.length;
          text = text.slice(0, i) + s + text.slice(i + 1);
        }
        decodeBgpRoute(text);
        decodeNeighbor(text, address("127.0.0.2"));
        decodeFilteredRoutes(text);
        decodeZebraRoutes(text, FAR);
        parseRunningConfig(text);
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.json(), (text) => {
        decodeBgpRoute(text);
        decodeNeighbor(text, address("127.0.0.2"));
        decodeFilteredRoutes(text);
        decodeZebraRoutes(text, FAR);
      }),
    );
  });
});

describe("FRR's running configuration", () => {
  const config = parseRunningConfig(recorded("running-config"));

  it("has the BGP instance with its peer groups", () => {
    expect(config.bgp).toMatchObject({
      as: 65000,
      gracefulRestart: false,
      listenRanges: [
        { range: "127.0.0.2/32", group: "SHORTCUT" },
        { range: "127.0.0.3/32", group: "SHORTCUT-FEED" },
      ],
    });
    const feed = config.bgp?.neighbors.get("SHORTCUT-FEED");
    expect(feed).toMatchObject({ isGroup: true, remoteAs: "65000" });
    expect([...(feed?.families[6]?.flags ?? [])].sort()).toEqual([
      "activate",
      "addpath-tx-all-paths",
      "route-reflector-client",
    ]);
    expect(config.bgp?.neighbors.get("10.255.0.3")?.families[4]?.routeMapOut).toBe("SHORTCUT-NOT-TO-HUB");
  });

  it("has route-maps and prefix lists in order", () => {
    const map = config.routeMaps.get("SHORTCUT-NO-ALIAS");
    expect(map?.map((e) => `${e.action} ${e.sequence}`)).toEqual([
      "deny 10",
      "deny 20",
      "deny 30",
      "deny 40",
      "permit 1000",
    ]);
    expect(map?.[0]?.matches).toEqual(["ip address prefix-list SHORTCUT-ALIASES"]);
    expect(config.prefixLists[4].get("SHORTCUT-ALIASES")).toEqual(["permit 198.18.0.0/16 le 32"]);
    expect(config.prefixLists[6].get("SHORTCUT-ALIASES")).toEqual(["permit fd53:4843:5554::/64 le 128"]);
  });

  it("activates IPv4 unicast by default, reads redistribution anywhere, and leaves other VRFs alone", () => {
    const c = parseRunningConfig(`
router bgp 65000
 neighbor G peer-group
 neighbor H peer-group
 !
 address-family ipv4 unicast
  redistribute kernel metric 5 route-map MINE
  no neighbor H activate
 exit-address-family
exit
!
router bgp 65009 vrf red
 bgp graceful-restart
 neighbor X peer-group
 address-family ipv4 unicast
  redistribute connected
 exit-address-family
exit
!
router ospf
 redistribute kernel
exit
`);
    expect(c.bgp?.as).toBe(65000);
    expect(c.bgp?.gracefulRestart).toBe(false);
    expect([...(c.bgp?.neighbors.keys() ?? [])]).toEqual(["G", "H"]);
    expect(c.bgp?.neighbors.get("G")?.families[4]?.flags.has("activate")).toBe(true);
    expect(c.bgp?.neighbors.get("H")?.families[4]?.flags.has("activate")).toBe(false);
    expect(c.redistributions).toEqual([
      { where: "router bgp 65000, address-family ipv4 unicast", source: "kernel", routeMap: "MINE" },
      {
        where: "router bgp 65009 vrf red, address-family ipv4 unicast",
        source: "connected",
        routeMap: undefined,
      },
      { where: "router ospf", source: "kernel", routeMap: undefined },
    ]);
  });
});
