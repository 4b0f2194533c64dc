/** The view of the FIB: which way a prefix goes, with and without routes of our own. */
import { describe, expect, it } from "vitest";
import { address, prefix } from "../../../../plugin/net/address.js";
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

  it("tells a hub what it may attest", () => {
    const fib = fibOf(
      route("10.1.0.0/24", OVERLAY),
      route("0.0.0.0/0", "eth0"),
      route("10.9.0.0/24", [], { type: "blackhole" }),
      route("fe80::/64", OVERLAY),
      route("ff00::/8", OVERLAY),
    );
    expect(fib.attestable()).toEqual([
      ["10.1.0.0/24", { overlay: true }],
      ["0.0.0.0/0", { overlay: false }],
      ["10.9.0.0/24", { overlay: false }],
    ]);
  });
});
