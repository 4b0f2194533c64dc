/**
 * The overlay interfaces of the route underneath, where each hub has an interface of its own: best and
 * backup, ECMP, sessions over link-local addresses, and next hops that are themselves offered.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { AdjRibIn } from "../../../../plugin/bgp/rib.js";
import { PathInterfaces } from "../../../../plugin/driver/daemon/path-interfaces.js";
import { Routing, type RoutingOptions } from "../../../../plugin/driver/daemon/underneath.js";
import { FibView } from "../../../../plugin/driver/kernel/fib-view.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../plugin/net/interface-names.js";
import { type PathAttributes, pathAttributes } from "../../../../plugin/wire/bgp/attributes.js";
import { largeCommunity } from "../../../../plugin/wire/bgp/community.js";
import type { KernelLink, KernelRoute } from "../../../../plugin/wire/netlink/fib.js";
import { BGP, BLACKBOARD, DIRECT, MAIN, ours, route } from "../support.js";

const P = prefix("10.1.0.0/24");
const [HUB1, HUB2] = [address("100.64.0.1"), address("100.64.0.2")];
const SELF = address("100.64.1.1");
const [LINK1, LINK2] = [address("100.64.8.0"), address("100.64.8.2")];
const ALIAS = address("198.18.0.1");
const LINKS: readonly KernelLink[] = [
  { ifindex: 11, name: "wg-hub1", up: true, mtu: 1380 },
  { ifindex: 12, name: "wg-hub2", up: true, mtu: 1380 },
  { ifindex: 2, name: "eth0", up: true, mtu: 1500 },
];
const LINK_ROUTES = [
  route("100.64.8.0/31", "wg-hub1", { protocol: 2, metric: 0 }),
  route("100.64.8.2/31", "wg-hub2", { protocol: 2, metric: 0 }),
  route("100.64.0.1/32", "wg-hub1"),
  route("100.64.0.2/32", "wg-hub2"),
];

let fib: FibView;
let feed: AdjRibIn;
let interfaces: PathInterfaces;

const announce = (pathId: number, given: Partial<PathAttributes>, p = P): void => {
  const attributes = pathAttributes({ nextHop: SELF, ...given });
  feed.apply({ withdrawn: [], endOfRib: undefined, reach: [{ attributes, nlri: [{ prefix: p, pathId }] }] });
  interfaces.feedChanged([p]);
};
const withdraw = (pathId: number, p = P): void => {
  feed.apply({ withdrawn: [{ prefix: p, pathId }], endOfRib: undefined, reach: [] });
  interfaces.feedChanged([p]);
};
const set = (r: KernelRoute): void => void fib.apply({ kind: "set", route: r });
const gone = (r: KernelRoute): void => void fib.apply({ kind: "gone", route: r });
const answered = (...pairs: readonly (readonly [number, string])[]): void =>
  void interfaces.learn(P, new Map(pairs));

beforeEach(() => {
  fib = new FibView(new InterfaceNames(["wg-*"]), DIRECT, MAIN);
  fib.apply({ kind: "snapshot", routes: LINK_ROUTES, links: LINKS });
  feed = new AdjRibIn();
  interfaces = new PathInterfaces(feed, () => {});
});

const routing = (given: Partial<RoutingOptions> = {}): Routing =>
  new Routing({
    fib,
    feed,
    igp: undefined,
    interfaces,
    pools: { 4: prefix("198.18.0.0/16"), 6: prefix("fd53::/64") },
    blackboard: undefined,
    session: { localAs: 4_200_000_001, remoteAs: 65000 },
    anyType: true,
    addresses: [SELF],
    hubs: [HUB1, HUB2],
    as: 4_200_000_001,
    ...given,
  });
const bird = (): Routing => routing({ interfaces: undefined, blackboard: BLACKBOARD });
const via = (r: Routing, p = P): readonly string[] | string => {
  const u = r.underneath(p);
  return u.ok ? u.via : u.reason.kind;
};
const selected = (...devs: string[]): KernelRoute =>
  route("10.1.0.0/24", devs, { protocol: BGP, gateway: ALIAS });

describe("next hops on links", () => {
  it("are reached by the interface of the link; the best path's counts", () => {
    announce(1, { nextHop: LINK1, localPref: 200 });
    announce(2, { nextHop: LINK2 });
    const r = routing();
    expect(via(r)).toEqual(["wg-hub1"]);
    withdraw(1);
    expect(via(r)).toEqual(["wg-hub2"]);
    announce(1, { nextHop: LINK1, localPref: 200 });
    expect(via(r)).toEqual(["wg-hub1"]);
  });

  it("that are not reached at all are passed over, as the daemon does; one by another interface is not", () => {
    announce(1, { nextHop: address("192.0.2.1"), localPref: 200 });
    announce(2, { nextHop: LINK2 });
    expect(via(bird())).toEqual(["wg-hub2"]);
    set(route("192.0.2.0/24", "eth0"));
    expect(via(bird())).toBe("underneath-unreached");
  });

  it("on a loopback are resolved by the FIB, and followed when their route changes", () => {
    announce(1, { nextHop: HUB1 });
    const r = routing();
    expect(via(r)).toEqual(["wg-hub1"]);
    expect(r.changedBy([prefix("100.64.0.1/32")], [P])).toEqual([]);
    set(route("100.64.0.1/32", "wg-hub2"));
    expect(r.changedBy([prefix("10.9.0.0/24")], [P])).toEqual([]);
    expect(r.changedBy([prefix("100.64.0.1/32")], [P])).toEqual([P]);
    expect(r.changedBy([prefix("100.64.0.1/32")], [P])).toEqual([]);
    gone(route("100.64.0.1/32", "wg-hub2"));
    expect(r.changedBy("all", [P])).toEqual([P]);
    expect(via(r)).toBe("underneath-unreached");
  });
});

describe("equal paths", () => {
  const tie = (): void => {
    announce(2, { nextHop: LINK2 });
    announce(1, { nextHop: LINK1 });
  };

  it("are those that the FIB uses: one that is older, or several", () => {
    tie();
    const r = routing();
    expect(via(r)).toEqual(["wg-hub1"]);
    set(route("10.1.0.0/24", "wg-hub2"));
    expect(r.changedBy([P], [P])).toEqual([P]);
    expect(via(r)).toEqual(["wg-hub2"]);
    set(route("10.1.0.0/24", ["wg-hub2", "wg-hub1"]));
    expect(via(r)).toEqual(["wg-hub1", "wg-hub2"]);
  });

  it("are remembered while an offer hides them, as far as they are still there", () => {
    tie();
    set(route("10.1.0.0/24", ["wg-hub1", "wg-hub2"]));
    const r = routing();
    expect(via(r)).toHaveLength(2);
    set(selected("wg-hub1", "wg-hub2"));
    expect(via(r)).toHaveLength(2);
    withdraw(1);
    expect(via(r)).toEqual(["wg-hub2"]);
    announce(1, { nextHop: LINK1 });
    expect(via(r)).toHaveLength(2);
  });

  it("of a feed of best paths alone are given up when the hub's own route has moved", () => {
    announce(0, { nextHop: LINK1 });
    set(route("10.1.0.0/24", ["wg-hub1", "wg-hub2"]));
    const r = bird();
    expect(via(r)).toEqual(["wg-hub1", "wg-hub2"]);
    set(route("10.1.0.0/24", ["wg-hub1", "wg-hub2"], { table: BLACKBOARD }));
    gone(route("100.64.0.2/32", "wg-hub2"));
    expect(r.changedBy([prefix("100.64.0.2/32")], [P])).toEqual([P]);
    expect(via(r)).toEqual(["wg-hub1"]);
  });

  it("count less than what the FIB shows, while nothing has changed since", () => {
    announce(1, { nextHop: LINK1, localPref: 200 });
    announce(2, { nextHop: LINK2 });
    // by a weight, which no feed shows
    set(route("10.1.0.0/24", "wg-hub2"));
    const r = routing();
    expect(via(r)).toEqual(["wg-hub2"]);
    set(selected("wg-hub2"));
    expect(via(r)).toEqual(["wg-hub2"]);
    announce(1, { nextHop: LINK1, localPref: 300 });
    expect(via(r)).toEqual(["wg-hub1"]);
  });
});

describe("sessions over link-local addresses", () => {
  it("of FRR: the daemon is asked once, and a failover asks nothing", () => {
    announce(1, { localPref: 200 });
    announce(2, {});
    const r = routing();
    expect(r.underneath(P)).toEqual({
      ok: false,
      reason: { kind: "interface-unknown", prefix: P },
      gone: false,
    });
    expect(interfaces.next()).toBe(P);
    answered([1, "wg-hub1"], [2, "wg-hub2"]);
    expect(via(r)).toEqual(["wg-hub1"]);
    withdraw(1);
    expect(via(r)).toEqual(["wg-hub2"]);
  });

  it("of FRR: a path whose interface is not known yet takes nothing away, and already decides the attributes", () => {
    announce(2, {});
    answered([2, "wg-hub2"]);
    const r = routing();
    expect(via(r)).toEqual(["wg-hub2"]);
    announce(1, { localPref: 200 });
    expect(via(r)).toEqual(["wg-hub2"]);
    expect(r.attributes(P, ALIAS, undefined)).toMatchObject({ ok: true, value: { localPref: undefined } });
    withdraw(2);
    expect(via(r)).toEqual(["wg-hub2"]);
    answered([1, "wg-hub1"]);
    expect(via(r)).toEqual(["wg-hub1"]);
  });

  it("of FRR: the interfaces of a former answer count only while they exist", () => {
    announce(2, {});
    answered([2, "wg-hub2"]);
    const r = routing();
    expect(via(r)).toEqual(["wg-hub2"]);
    withdraw(2);
    announce(1, {});
    fib.apply({ kind: "link", link: { ifindex: 12, name: "wg-hub2", up: false, mtu: 1380 }, gone: true });
    expect(via(r)).toBe("interface-unknown");
  });

  it("of FRR in IPv6: the next hop is this router's address in either form, or link-local", () => {
    const six = prefix("2001:db8:1::/64");
    set(route("fd00:64::1/128", "lo", { protocol: 2, metric: 256 }));
    for (const nextHop of ["::ffff:100.64.1.1", "fe80::1", "fd00:64::1"]) {
      announce(1, { nextHop: address(nextHop) }, six);
      const r = routing();
      expect(via(r, six)).toBe("interface-unknown");
      interfaces.learn(six, new Map([[1, "wg-hub1"]]));
      expect(via(r, six)).toEqual(["wg-hub1"]);
      withdraw(1, six);
    }
  });

  it("of FRR: a path of another interface than the overlay's is none", () => {
    announce(1, {});
    answered([1, "eth7"]);
    expect(via(routing())).toBe("underneath-unreached");
  });

  it("of BIRD: the mark of the feed names the interface, and is not on the offer", () => {
    const mark = (ifindex: number) => ({
      nextHop: address("192.0.2.1"),
      largeCommunities: [largeCommunity("65001:3:7"), largeCommunity(`4200000001:3:${ifindex}`)],
    });
    announce(0, mark(12));
    const r = bird();
    expect(via(r)).toEqual(["wg-hub2"]);
    const made = r.attributes(P, ALIAS, undefined);
    expect(made.ok && made.value.largeCommunities).toEqual(["65001:3:7"]);
    announce(0, mark(11));
    expect(via(r)).toEqual(["wg-hub1"]);
    announce(0, mark(2));
    expect(via(r)).toBe("underneath-unreached");
  });
});

describe("an overlay address", () => {
  it("is reached by the interfaces of its FIB route", () => {
    const r = routing();
    expect(r.overlayTo(HUB1)).toEqual(["wg-hub1"]);
    expect(r.overlayTo(address("203.0.113.1"))).toEqual([]);
    set(route("100.64.0.1/32", ["wg-hub1", "wg-hub2"]));
    expect(r.overlayTo(HUB1)).toEqual(["wg-hub1", "wg-hub2"]);
    set(route("100.64.0.1/32", ["wg-hub1", "eth0"]));
    expect(r.overlayTo(HUB1)).toEqual([]);
  });

  it("that is offered itself is reached as the route underneath is, before and after the flip", () => {
    const owner = prefix("fd00:64:3::/64");
    const hub = address("fd00:64::1");
    const alias = address("fd53::1");
    set(route("fd00:64::1/128", "wg-hub2", { gateway: address("fe80::2") }));
    announce(1, { nextHop: hub }, owner);
    announce(1, { nextHop: address("fd00:64:3::3") }, prefix("2001:db8:3::/64"));
    const r = routing();
    for (const dev of ["wg-hub1", DIRECT]) {
      set(route("fd00:64:3::/64", dev, { protocol: BGP, gateway: alias }));
      expect(r.overlayTo(address("fd00:64:3::3"))).toEqual(["wg-hub2"]);
      // and its prefixes have it as next hop
      expect(via(r, prefix("2001:db8:3::/64"))).toEqual(["wg-hub2"]);
    }
    expect(r.changedBy([prefix("fd00:64::1/128")], [prefix("2001:db8:3::/64")])).toEqual([]);
    set(route("fd00:64::1/128", "wg-hub1"));
    expect(r.changedBy([prefix("fd00:64::1/128")], [prefix("2001:db8:3::/64")])).toEqual(["2001:db8:3::/64"]);
  });

  it("whose offer BIRD has selected is known from the blackboard: the main table shows no gateway", () => {
    announce(0, { nextHop: HUB2 }, prefix("100.64.3.3/32"));
    set(route("100.64.3.3/32", "wg-hub1"));
    const r = bird();
    expect(r.overlayTo(address("100.64.3.3"))).toEqual(["wg-hub1"]);
    set(route("100.64.3.3/32", "wg-hub1", { table: BLACKBOARD }));
    expect(r.overlayTo(address("100.64.3.3"))).toEqual(["wg-hub2"]);
  });

  it("that a route of ours keeps is reached as the daemon reaches it", () => {
    set(ours("100.64.0.1/32", "wg-hub2"));
    expect(routing().overlayTo(HUB1)).toEqual(["wg-hub1"]);
  });

  it("whose next hop is offered in a circle is not reached", () => {
    announce(1, { nextHop: address("100.64.4.4") }, prefix("100.64.3.3/32"));
    announce(1, { nextHop: address("100.64.3.3") }, prefix("100.64.4.4/32"));
    set(route("100.64.3.3/32", "wg-hub1", { gateway: ALIAS }));
    set(route("100.64.4.4/32", "wg-hub1", { gateway: ALIAS }));
    expect(routing({ interfaces: undefined }).overlayTo(address("100.64.3.3"))).toEqual([]);
  });
});

describe("LOCAL_PREF", () => {
  const marks = (given: Partial<PathAttributes>, options: Partial<RoutingOptions>) => {
    announce(1, { nextHop: LINK1, asPath: [{ type: "sequence", ases: [65000] }], ...given });
    const made = routing({ anyType: false, ...options }).attributes(P, ALIAS, undefined);
    if (!made.ok) throw new Error(made.error);
    return made.value.largeCommunities;
  };
  const external = { session: { localAs: 65000, remoteAs: 4_200_000_001 } };

  it("that an external session does not carry is a mark, unless it is the default", () => {
    expect(marks({ localPref: 200 }, external)).toEqual(["4200000001:4:200"]);
    expect(marks({ localPref: 100 }, external)).toEqual([]);
  });

  it("is no mark for BIRD, nor on an internal session", () => {
    expect(marks({ localPref: 200 }, { ...external, anyType: true })).toEqual([]);
    const internal = { session: { localAs: 65000, remoteAs: 65000 } };
    expect(marks({ localPref: 200, originatorId: HUB1 }, internal)).toEqual([]);
  });
});
