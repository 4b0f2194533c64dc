/** Declared state against the kernel: the steps for routes and peers. */
import { describe, expect, it } from "vitest";
import { RTPROT_SHORTCUTD } from "../../../../plugin/driver/kernel/fib-view.js";
import {
  formerRoutes,
  reconcilePeers,
  reconcileRoutes,
  type WantedRoute,
} from "../../../../plugin/driver/kernel/reconcile.js";
import { PortError } from "../../../../plugin/driver/ports.js";
import { asPortError, TaskQueue } from "../../../../plugin/driver/runtime/task-queue.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../plugin/net/interface-names.js";
import { privateKeyFromBytes, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { BLACKBOARD, DIRECT, OVERLAY, ours, route } from "../support.js";

const alias: WantedRoute = { table: BLACKBOARD, prefix: prefix("198.18.0.1/32"), via: [OVERLAY], metric: 99 };
const actual = ours("198.18.0.1/32", OVERLAY, { table: BLACKBOARD, metric: 99 });
const key = (n: number) => publicKeyFromBytes(new Uint8Array(32).fill(n));
const want = (n: number, ...ips: string[]) => ({
  publicKey: key(n),
  endpoint: undefined,
  allowedIps: ips.map(prefix),
  keepalive: 20,
});
const have = (n: number, ...ips: string[]) => ({
  ...want(n, ...ips),
  lastHandshake: 1,
  rxBytes: 1,
  txBytes: 1,
  endpoint: { address: address("192.0.2.1"), port: 7 },
});

describe("routes", () => {
  it("that are as wanted need no step", () => {
    expect(reconcileRoutes([alias], [actual, route("10.1.0.0/24", OVERLAY)])).toEqual([]);
  });
  it("that are missing, or point elsewhere, are set", () => {
    expect(reconcileRoutes([alias], [])).toEqual([{ kind: "set", ...alias }]);
    expect(
      reconcileRoutes([alias], [ours("198.18.0.1/32", DIRECT, { table: BLACKBOARD, metric: 99 })]),
    ).toEqual([{ kind: "set", ...alias }]);
    expect(
      reconcileRoutes([alias], [{ ...actual, nextHops: [...actual.nextHops, ...actual.nextHops] }]),
    ).toEqual([{ kind: "set", ...alias }]);
  });
  it("of ours that nobody wants are removed, others' never", () => {
    expect(reconcileRoutes([], [actual, route("10.1.0.0/24", DIRECT)])).toEqual([
      { kind: "remove", ...alias },
    ]);
    expect(reconcileRoutes([alias], [actual, { ...actual, metric: 98 }])).toEqual([
      { kind: "remove", ...alias, metric: 98 },
    ]);
    expect(reconcileRoutes([alias], [{ ...actual, table: 254 }])).toEqual([
      { kind: "set", ...alias },
      { kind: "remove", ...alias, table: 254 },
    ]);
  });
  it("of an earlier version are those of its protocol number that also have the shape of ours", () => {
    const shape = {
      overlay: new InterfaceNames([OVERLAY]),
      direct: DIRECT,
      to: [OVERLAY],
      pools: { 4: prefix("198.18.0.0/16"), 6: prefix("fd00::/64") },
      aliasMetric: 99,
      overlayMetrics: [1, 0xff000000],
    };
    const former = (to: string, dev: string | readonly string[], metric: number) =>
      route(to, dev, { protocol: 99, metric });
    const left = [
      former("198.18.0.1/32", DIRECT, 99),
      former("fd00::1/128", OVERLAY, 99),
      former("10.1.0.0/24", OVERLAY, 1),
      former("10.2.0.0/24", OVERLAY, 0xff000000),
    ];
    const others = [
      former("10.3.0.0/24", OVERLAY, 10),
      former("10.3.0.0/24", "eth0", 1),
      former("198.18.0.1/32", "eth0", 99),
      former("198.18.0.1/32", OVERLAY, 10),
      former("198.18.0.0/24", OVERLAY, 99),
      former("10.3.0.0/24", [OVERLAY, "eth0"], 1),
      ours("10.3.0.0/24", OVERLAY),
      route("10.3.0.0/24", OVERLAY),
    ];
    expect(formerRoutes([...left, ...others], shape)).toEqual(
      left.map(({ table, prefix, metric }) => ({ table, prefix, metric, via: [OVERLAY] })),
    );
  });
});

describe("a route through several interfaces", () => {
  const wanted: WantedRoute = { ...alias, via: ["wg-a", "wg-b"] };
  const there = (...devs: string[]) =>
    ours("198.18.0.1/32", devs[0] ?? "", {
      ...route("198.18.0.1/32", devs, { table: BLACKBOARD }),
      protocol: RTPROT_SHORTCUTD,
      metric: 99,
    });
  it("is right in any order, and set where one is missing or another", () => {
    expect(reconcileRoutes([wanted], [there("wg-b", "wg-a")])).toEqual([]);
    for (const devs of [["wg-a"], ["wg-a", "wg-c"], ["wg-a", "wg-b", "wg-c"]])
      expect(reconcileRoutes([wanted], [there(...devs)])).toEqual([{ kind: "set", ...wanted }]);
  });
});

describe("peers", () => {
  it("are set when missing or different, removed when nobody wants them; roaming is no difference", () => {
    expect(
      reconcilePeers([want(1, "10.1.0.0/24", "10.2.0.0/24")], [have(1, "10.2.0.0/24", "10.1.0.0/24")]),
    ).toEqual({ set: [], remove: [] });
    expect(reconcilePeers([want(1, "10.1.0.0/24")], []).set).toHaveLength(1);
    expect(reconcilePeers([want(1, "10.1.0.0/24")], [have(1)]).set).toHaveLength(1);
    expect(reconcilePeers([want(1)], [{ ...have(1), keepalive: 0 }]).set).toHaveLength(1);
    expect(reconcilePeers([], [have(1), have(2)])).toEqual({ set: [], remove: [key(1), key(2)] });
  });
});

describe("pre-shared keys of peers", () => {
  const secret = (n: number) => privateKeyFromBytes(new Uint8Array(32).fill(n));
  it("are set when they are missing or different, and taken away where none is wanted", () => {
    const wanted = { ...want(1), presharedKey: secret(5) };
    expect(reconcilePeers([wanted], [{ ...have(1), presharedKey: secret(5) }])).toEqual({
      set: [],
      remove: [],
    });
    expect(reconcilePeers([wanted], [have(1)]).set).toEqual([wanted]);
    expect(reconcilePeers([wanted], [{ ...have(1), presharedKey: secret(6) }]).set).toEqual([wanted]);
    expect(reconcilePeers([wanted], []).set).toEqual([wanted]);
    // WireGuard takes a key of zeros for none
    expect(reconcilePeers([want(1)], [{ ...have(1), presharedKey: secret(6) }]).set).toEqual([
      { ...want(1), presharedKey: secret(0) },
    ]);
  });
});

describe("tasks", () => {
  it("run one at a time in order, and a failure is reported and followed by the next", async () => {
    const seen: string[] = [];
    const q = new TaskQueue((e) => seen.push(`${e.place}: ${e.problem}`));
    q.add("one", async () => {
      await new Promise((r) => setImmediate(r));
      seen.push("one");
    });
    q.add("two", async () => {
      throw new Error("no");
    });
    q.add("three", async () => {
      throw new PortError("netlink", "busy");
    });
    q.add("four", async () => {
      seen.push("four");
    });
    await q.drained();
    expect(seen).toEqual(["one", "two: no", "netlink: busy", "four"]);
  });
  it("take anything thrown for a problem with a place", () => {
    expect(asPortError("here", "text")).toMatchObject({ place: "here", problem: "text" });
    expect(new PortError("p", "q", "r").message).toBe("p: q (r)");
  });
});
