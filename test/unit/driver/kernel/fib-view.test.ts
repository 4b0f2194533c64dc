/** The view of the FIB: which way a prefix goes, with and without routes of our own. */
import { describe, expect, it } from "vitest";
import { FibView } from "../../../../plugin/driver/kernel/fib-view.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../plugin/net/interface-names.js";
import { BLACKBOARD, DIRECT, fibOf, MAIN, OVERLAY, ours, route } from "../support.js";

const P = prefix("10.1.0.0/24");

describe("the view of the FIB", () => {
  it("keeps tables apart, and replaces everything by a snapshot", () => {
    const fib = fibOf(route("10.1.0.0/24", OVERLAY), route("10.1.0.0/24", OVERLAY, { table: BLACKBOARD }));
    expect(fib.routes(MAIN, P)).toHaveLength(1);
    expect(fib.routes(BLACKBOARD, P)).toHaveLength(1);
    expect(fib.apply({ kind: "snapshot", routes: [], links: [] })).toBe("all");
    expect([...fib.all(MAIN), ...fib.all(BLACKBOARD)]).toEqual([]);
  });

  it("prefers the lowest metric; one route per metric", () => {
    const fib = fibOf(route("10.1.0.0/24", OVERLAY, { metric: 32 }));
    expect(fib.apply({ kind: "set", route: ours("10.1.0.0/24", "eth0", { metric: 1 }) })).toEqual([P]);
    expect(fib.pathOf(fib.best(P))).toBe("other");
    expect(fib.pathOf(fib.daemonBest(P))).toBe("overlay");
    fib.apply({ kind: "set", route: route("10.1.0.0/24", DIRECT, { metric: 32 }) });
    expect(fib.routes(MAIN, P)).toHaveLength(2);
    expect(fib.pathOf(fib.daemonBest(P))).toBe("direct");
    fib.apply({ kind: "gone", route: ours("10.1.0.0/24", "eth0", { metric: 1 }) });
    expect(fib.pathOf(fib.best(P))).toBe("direct");
  });

  it("does not lose a route for the removal of another protocol's with its metric", () => {
    const fib = fibOf(route("10.1.0.0/24", OVERLAY, { metric: 20, protocol: 186 }));
    fib.apply({ kind: "gone", route: route("10.1.0.0/24", OVERLAY, { metric: 20, protocol: 11 }) });
    expect(fib.best(P)).toBeDefined();
  });

  it.each([
    ["by the overlay", route("10.1.0.0/24", OVERLAY), "overlay"],
    ["by the direct interface", route("10.1.0.0/24", DIRECT), "direct"],
    ["by both: some flows would go direct", route("10.1.0.0/24", [OVERLAY, DIRECT]), "direct"],
    ["by the overlay twice", route("10.1.0.0/24", [OVERLAY, OVERLAY]), "overlay"],
    ["by the overlay and another", route("10.1.0.0/24", [OVERLAY, "eth0"]), "other"],
    ["elsewhere", route("10.1.0.0/24", "eth0"), "other"],
    ["to nowhere", route("10.1.0.0/24", [], { type: "blackhole" }), "none"],
    ["unreachable", route("10.1.0.0/24", [], { type: "unreachable" }), "none"],
    [
      "by a link that is down",
      route("10.1.0.0/24", DIRECT, {
        nextHops: [{ ifindex: 4, dev: DIRECT, gateway: undefined, dead: true }],
      }),
      "none",
    ],
    ["not at all", undefined, "none"],
  ])("calls a route %s by its path", (_name, r, path) => {
    expect(fibOf().pathOf(r)).toBe(path);
  });

  it("looks up the longest match, over routes of our own too", () => {
    const fib = fibOf(
      route("0.0.0.0/0", "eth0"),
      route("10.0.0.0/8", OVERLAY),
      ours("198.18.0.1/32", OVERLAY, { metric: 99 }),
    );
    expect(fib.lookup(address("10.1.2.3"))?.prefix).toBe("10.0.0.0/8");
    expect(fib.lookup(address("198.18.0.1"))?.prefix).toBe("198.18.0.1/32");
    expect(fib.lookup(address("192.0.2.1"))?.prefix).toBe("0.0.0.0/0");
    expect(fib.lookup(address("2001:db8::1"))).toBeUndefined();
  });

  it("names what points at the direct interface, and not what the kernel put there itself", () => {
    const fib = fibOf(
      route("10.1.0.0/24", DIRECT),
      route("10.2.0.0/24", OVERLAY),
      route("fe80::/64", DIRECT, { protocol: 2 }),
      route("10.3.0.0/24", DIRECT),
      ours("10.3.0.0/24", OVERLAY),
    );
    expect(fib.pointingDirect().map((r) => r.prefix)).toEqual(["10.1.0.0/24"]);
    expect(fib.daemonPointingDirect().map((r) => r.prefix)).toEqual(["10.1.0.0/24", "10.3.0.0/24"]);
  });

  it("touches everything when one of its two links changes, nothing for others", () => {
    const fib = fibOf();
    const link = (name: string) =>
      fib.apply({ kind: "link", link: { ifindex: 1, name, up: false, mtu: 1420 }, gone: false });
    expect(link(DIRECT)).toBe("all");
    expect(link(OVERLAY)).toBe("all");
    expect(link("eth0")).toEqual([]);
  });

  it("tells the overlay interfaces that a route leaves through, each once", () => {
    const fib = new FibView(new InterfaceNames(["wg-*", "wg0"]), DIRECT, MAIN);
    expect(fib.via(route("10.1.0.0/24", ["wg-a", "wg-b", "wg-a"]))).toEqual(["wg-a", "wg-b"]);
    expect(fib.via(route("10.1.0.0/24", "wg0"))).toEqual(["wg0"]);
    expect(fib.via(route("10.1.0.0/24", ["wg-a", "eth0"]))).toEqual([]);
    expect(fib.via(route("10.1.0.0/24", ["wg-a", DIRECT]))).toEqual([]);
    expect(fib.via(route("10.1.0.0/24", [], { type: "unreachable" }))).toEqual([]);
    expect(fib.via(undefined)).toEqual([]);
    expect(fib.pathOf(route("10.1.0.0/24", ["wg-a", "wg0"]))).toBe("overlay");
  });

  it("knows the overlay interfaces that exist, those that are up first", () => {
    const fib = new FibView(new InterfaceNames(["wg-*"]), DIRECT, MAIN);
    const link = (name: string, ifindex: number, up: boolean, gone = false) =>
      fib.apply({ kind: "link", link: { ifindex, name, up, mtu: 1420 }, gone });
    expect(fib.overlayDevices).toEqual([]);
    link("wg-a", 5, false);
    expect(link("wg-b", 6, true)).toBe("all");
    link("eth0", 7, true);
    expect(fib.overlayDevices).toEqual(["wg-b", "wg-a"]);
    // renamed out of the pattern, made again with another index, gone
    link("other", 6, true);
    link("wg-a", 5, false, true);
    link("wg-a", 8, true);
    expect(fib.overlayDevices).toEqual(["wg-a"]);
    fib.apply({ kind: "snapshot", routes: [], links: [{ ifindex: 9, name: "wg-c", up: true, mtu: 1420 }] });
    expect(fib.overlayDevices).toEqual(["wg-c"]);
  });

  it("tells a hub what it may attest", () => {
    const fib = fibOf(
      route("10.1.0.0/24", OVERLAY),
      route("0.0.0.0/0", "eth0"),
      route("10.9.0.0/24", [], { type: "blackhole" }),
      route("fe80::/64", OVERLAY),
      route("ff00::/8", OVERLAY),
    );
    expect(fib.attestable()).toEqual([
      ["10.1.0.0/24", { via: [OVERLAY] }],
      ["0.0.0.0/0", { via: [] }],
      ["10.9.0.0/24", { via: [] }],
    ]);
  });
});
