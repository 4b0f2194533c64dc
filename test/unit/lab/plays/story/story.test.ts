/** The story's pure parts: what it reads in the kernel's words, and what it concludes. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import {
  directionBetween,
  type Report,
  renderReport,
  type StepReport,
  stepLine,
} from "../../../../../lab/plays/story/report.js";
import { PARTS, STEPS, stepOf } from "../../../../../lab/plays/story/steps.js";
import { checkSubordination, DRAIN_BOUND, STAMP_LAG } from "../../../../../lab/plays/story/subordination.js";
import { decodeCounters, wayOf } from "../../../../../lab/site/counters.js";
import { type PeerReading, type PeerSample, PeerSampler, parseDump } from "../../../../../lab/site/peers.js";
import {
  describeRoute,
  inMain,
  isAliasRoute,
  isSelection,
  parseRouteLine,
  type RouteChange,
  RouteLog,
  selectionIntervals,
} from "../../../../../lab/site/routes.js";
import { difference, normalise } from "../../../../../lab/site/snapshot.js";
import { birdPolicy, frrPolicy } from "../../../../../lab/site/triangle.js";
import type { DirectionCount } from "../../../../../lab/traffic/flows.js";
import { parseConfig } from "../../../../../plugin/config/config.js";
import { prefix } from "../../../../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../../../../plugin/net/key.js";

const inRepository = (path: string): string =>
  readFileSync(fileURLToPath(new URL(`../../../../../${path}`, import.meta.url)), "utf8");

const route = (line: string, now = 0): RouteChange => {
  const r = parseRouteLine(line, now);
  if (r === undefined) throw new Error(`not read: ${line}`);
  return r;
};
const LAN = prefix("10.3.0.0/24");

describe("what ip(8) says of a route", () => {
  it("reads BIRD's route, as monitored", () => {
    const r = route("[2026-11-22T15:49:23.983849] 10.3.0.0/24 via 10.255.0.2 dev wg0 proto 12 metric 32 ");
    expect(r).toEqual({
      at: Date.UTC(2026, 10, 22, 15, 49, 23) + 983.849,
      deleted: false,
      prefix: "10.3.0.0/24",
      table: 254,
      protocol: 12,
      devices: ["wg0"],
      gateways: ["10.255.0.2"],
      metric: 32,
    });
    expect(describeRoute(r)).toBe("10.3.0.0/24 via 10.255.0.2 dev wg0");
  });

  it("reads FRR's route with a nexthop object, a deletion, a host route and a default", () => {
    expect(
      route(
        "[2026-11-22T15:50:00.523972] 10.3.0.0/24 nhid 43 via 198.18.0.1 dev shortcut0 proto 186 metric 20 onlink ",
      ),
    ).toMatchObject({ prefix: LAN, devices: ["shortcut0"], gateways: ["198.18.0.1"], protocol: 186 });
    expect(
      route(
        "[2026-11-22T15:50:00.523991] Deleted 2001:db8:3::/64 nhid 37 via fd53:4843:5554::1 dev wg0 proto 186",
      ),
    ).toMatchObject({ deleted: true, prefix: "2001:db8:3::/64" });
    expect(route("198.18.0.1 dev wg0 table 4242 proto 173 scope 253 metric 99")).toMatchObject({
      prefix: "198.18.0.1/32",
      table: 4242,
      protocol: 173,
      gateways: [],
    });
    expect(route("default via 192.0.2.1 dev eth1 ").prefix).toBe("0.0.0.0/0");
    expect(route("default via fe80::1 dev eth1 metric 1024 ").prefix).toBe("::/0");
  });

  it("reads every next hop of a multipath, with -o and its backslash", () => {
    const r = route(
      "10.3.0.0/24 proto 186 metric 20 \\\tnexthop via 10.255.0.2 dev wg0 weight 1 \\\tnexthop via 198.18.0.1 dev wg0 weight 1 ",
    );
    expect(r.gateways).toEqual(["10.255.0.2", "198.18.0.1"]);
    expect(r.devices).toEqual(["wg0", "wg0"]);
  });

  it.each([
    "",
    "[2026-11-22T15:50:00.945220] id 29 dev shortcut0 scope 253 proto 11 ",
    "local 10.1.0.1 dev eth2 table 255",
    "[2026-11-22T15:49:23.566861] 2 fe80::ac94:f9ff:fe90:7241 dev eth3 table 255 proto 2",
    "\u0000garbage",
  ])("passes over %j", (line) => {
    expect(parseRouteLine(line, 0)).toBeUndefined();
  });
});

describe("selection, by the design's definitions", () => {
  it("BIRD: its own route in the blackboard table, not the main table's, not shortcutd's alias", () => {
    expect(isSelection("bird", route("10.3.0.0/24 dev wg0 table 4242 proto 12 metric 32"))).toBe(true);
    expect(isSelection("bird", route("10.3.0.0/24 dev wg0 proto 12 metric 32"))).toBe(false);
    expect(isSelection("bird", route("198.18.0.1 dev wg0 table 4242 proto 173 metric 99"))).toBe(false);
  });

  it("FRR: the alias alone; one of two next hops is a tie", () => {
    expect(isSelection("frr", route("10.3.0.0/24 via 198.18.0.1 dev wg0 proto 186 metric 20"))).toBe(true);
    expect(isSelection("frr", route("10.3.0.0/24 via 10.255.0.2 dev wg0 proto 186 metric 20"))).toBe(false);
    expect(
      isSelection(
        "frr",
        route("10.3.0.0/24 proto 186 \\\tnexthop via 10.255.0.2 dev wg0 \\\tnexthop via 198.18.0.1 dev wg0"),
      ),
    ).toBe(false);
    expect(isSelection("frr", route("10.1.0.0/24 dev eth2 proto 2"))).toBe(false);
  });

  it("knows an alias by protocol and pool", () => {
    expect(isAliasRoute(route("198.18.0.1 dev wg0 proto 173 metric 99"))).toBe(true);
    expect(isAliasRoute(route("fd53:4843:5554::1 dev wg0 proto 173 metric 99"))).toBe(true);
    expect(isAliasRoute(route("198.18.0.1 dev wg0 proto 12"))).toBe(false);
    expect(isAliasRoute(route("10.3.0.0/24 dev wg0 proto 173 metric 1"))).toBe(false);
  });

  it("gives intervals: any offer selected, a replacement by delete and add is not a gap", () => {
    const board = "dev wg0 table 4242 proto 12 metric 32";
    const changes = [
      route(`10.3.0.0/24 ${board}`, 1000),
      route(`2001:db8:3::/64 ${board}`, 1010),
      route(`Deleted 10.3.0.0/24 ${board}`, 2000),
      route(`Deleted 2001:db8:3::/64 ${board}`, 2001),
      route(`10.3.0.0/24 dev shortcut0 table 4242 proto 12 metric 32`, 2002),
      route("10.3.0.0/24 dev wg0 proto 12 metric 32", 2500),
      route(`Deleted 10.3.0.0/24 ${board}`, 3000),
      route(`10.3.0.0/24 ${board}`, 9000),
    ];
    expect(selectionIntervals("bird", changes)).toEqual([
      { from: 1000, until: 3000 },
      { from: 9000, until: undefined },
    ]);
  });

  it("FRR: the hub's next hop ends it, an override of shortcutd's own does not", () => {
    const changes = [
      route("10.3.0.0/24 via 198.18.0.1 dev shortcut0 proto 186 metric 20", 1000),
      route("10.3.0.0/24 dev wg0 proto 173 metric 1", 1500),
      route("10.3.0.0/24 via 10.255.0.2 dev wg0 proto 186 metric 20", 2000),
    ];
    expect(selectionIntervals("frr", changes)).toEqual([{ from: 1000, until: 2000 }]);
  });
});

describe("RouteLog", () => {
  it("finds the first change since, and the route of the best metric that stands", () => {
    const log = new RouteLog();
    log.hear(route("10.3.0.0/24 via 10.255.0.2 dev wg0 proto 12 metric 32", 100));
    log.hear(route("10.3.0.0/24 dev shortcut0 proto 12 metric 32", 200));
    log.hear(route("10.3.0.0/24 dev wg0 proto 173 metric 1", 300));
    expect(log.devices(LAN)).toEqual(["wg0"]);
    log.hear(route("Deleted 10.3.0.0/24 dev wg0 proto 173 metric 1", 400));
    expect(log.devices(LAN)).toEqual(["shortcut0"]);
    expect(log.first(0, inMain(LAN, "shortcut0"))?.at).toBe(200);
    expect(log.first(201, inMain(LAN, "shortcut0"))).toBeUndefined();
  });

  it("lets what the monitor said win over an older dump", () => {
    const log = new RouteLog();
    log.hear(route("10.3.0.0/24 dev shortcut0 proto 12 metric 32", 200));
    log.found(route("10.3.0.0/24 via 10.255.0.2 dev wg0 proto 12 metric 32", 300));
    log.found(route("10.1.9.0/24 via 10.1.8.2 dev eth3 proto 12 metric 32", 300));
    expect(log.devices(LAN)).toEqual(["shortcut0"]);
    expect(log.devices(prefix("10.1.9.0/24"))).toEqual(["eth3"]);
  });
});

const key = (n: number): PublicKey => publicKeyFromBytes(new Uint8Array(32).fill(n));
const HUB = key(1);
const OTHER = key(2);
const sample = (at: number, ...keys: PublicKey[]): PeerSample => ({
  router: "a",
  asked: at - 5,
  answered: at,
  keys,
});

describe("subordination", () => {
  const selected = [{ from: 1_000, until: 5_000 }];
  const check = (...samples: PeerSample[]) => checkSubordination(samples, new Set([HUB]), selected);

  it("lets the rendezvous peer be at any time, and counts", () => {
    expect(check(sample(10, HUB), sample(20), sample(2_000, HUB, OTHER))).toEqual({
      samples: 3,
      withShortcut: 1,
      violations: [],
    });
  });

  it("reports a peer before the selection, and allows what the stamps' lag may explain", () => {
    expect(check(sample(1_000 - STAMP_LAG - 1, HUB, OTHER)).violations).toEqual([
      {
        router: "a",
        at: 1_000 - STAMP_LAG - 1,
        key: OTHER,
        problem: "a peer before the daemon selected an offer",
      },
    ]);
    expect(check(sample(1_000 - STAMP_LAG, OTHER)).violations).toEqual([]);
  });

  it("reports a peer that outlives the drain, and only then", () => {
    expect(check(sample(5_000 + DRAIN_BOUND, HUB, OTHER)).violations).toEqual([]);
    const late = check(sample(5_000 + DRAIN_BOUND + 10, OTHER)).violations;
    expect(late.map((v) => v.problem)).toEqual([
      `a peer ${DRAIN_BOUND + 5} ms after the daemon's selection ended`,
    ]);
  });

  it("allows nothing but rendezvous peers on a hub", () => {
    const keys = new Set([key(3), key(4)]);
    expect(checkSubordination([sample(2_000, key(3), key(4))], keys, []).violations).toEqual([]);
    expect(checkSubordination([sample(2_000, key(3), OTHER)], keys, []).violations).toHaveLength(1);
  });
});

describe("peers", () => {
  const reading = (k: PublicKey, rxBytes = 0, txBytes = 0): PeerReading => ({
    key: k,
    endpoint: "192.0.2.2:51821",
    handshake: 0,
    rxBytes,
    txBytes,
  });

  it("reads wg show dump", () => {
    const dump = `PRIVATE\t${HUB}\t51821\toff\n${OTHER}\t(none)\t192.0.2.2:51821\t10.3.0.0/24\t1763826600\t148\t92\t20\n${HUB}\t(none)\t(none)\t(none)\t0\t0\t0\toff\n`;
    expect(parseDump(dump)).toEqual([
      { key: OTHER, endpoint: "192.0.2.2:51821", handshake: 1763826600000, rxBytes: 148, txBytes: 92 },
      { key: HUB, endpoint: undefined, handshake: 0, rxBytes: 0, txBytes: 0 },
    ]);
  });

  it("keeps when a peer came, first carried data both ways, and went", async () => {
    const { Node } = await import("../../../../../lab/runner/node.js");
    // No such process: the sampler's own readings find no interface, and count as none.
    const sampler = new PeerSampler(new Node("a", 2 ** 30, {}), "a");
    await sampler.stop();
    sampler.take(0, 10, [reading(HUB)]);
    sampler.take(20, 30, [reading(HUB), reading(OTHER, 92, 148)]);
    sampler.take(40, 50, [reading(HUB), reading(OTHER, 1_600, 1_600)]);
    sampler.take(60, 70, [reading(HUB)]);
    sampler.take(80, 90, [reading(HUB), reading(OTHER)]);
    expect(sampler.samples).toHaveLength(5);
    expect(sampler.episode(OTHER, 0)).toMatchObject({ from: 30, until: 70, carried: { at: 50 } });
    expect(sampler.episode(OTHER, 31)).toMatchObject({ from: 90, until: undefined, carried: undefined });
    expect(sampler.episode(key(9), 0)).toBeUndefined();
    sampler.take(95, 100, undefined);
    expect(sampler.samples).toHaveLength(5);
    expect(sampler.episode(OTHER, 31)?.until).toBe(100);
  });
});

describe("which way the traffic goes", () => {
  const zero = { at: 0, hubPackets: 0, hubBytes: 0, there: 0, back: 0 };
  it.each([
    ["hub", { hubPackets: 4_010, there: 0, back: 0 }],
    ["direct", { hubPackets: 5, there: 2_010, back: 2_005 }],
    ["mixed", { hubPackets: 2_000, there: 1_000, back: 1_000 }],
    // Only one direction has flipped.
    ["mixed", { hubPackets: 2_000, there: 2_000, back: 10 }],
    // Nothing arrives anywhere.
    ["mixed", { hubPackets: 3, there: 0, back: 0 }],
    // The hub still carries some of it.
    ["mixed", { hubPackets: 300, there: 2_000, back: 2_000 }],
  ] as const)("is %s for %j", (way, after) => {
    expect(wayOf(zero, { ...zero, ...after, at: 1_000 }, 4_000)).toBe(way);
  });

  it("reads nft's counters", () => {
    const json =
      '{"nftables":[{"metainfo":{"version":"1.0.6"}},{"counter":{"family":"inet","name":"there","table":"story","handle":1,"packets":7,"bytes":900}}]}';
    expect(decodeCounters(json)).toEqual({ there: 7 });
    expect(decodeCounters("{}")).toEqual({});
  });
});

describe("snapshots", () => {
  it("take no notice of nexthop ids and order", () => {
    const before = normalise("route", "10.3.0.0/24 nhid 19 via 10.255.0.2 dev wg0\ndefault via 192.0.2.1\n");
    const after = normalise("route", "default via 192.0.2.1\n10.3.0.0/24 nhid 43 via 10.255.0.2 dev wg0\n");
    expect(difference(before, after)).toEqual([]);
  });

  it("name what is gone and what is left, as often as it is", () => {
    expect(difference(["a", "b", "b"], ["b", "c"])).toEqual(["+ c", "- a", "- b"]);
  });
});

describe("steps", () => {
  it("are told apart, have a deadline, and follow the parts' order", () => {
    const ids = STEPS.map((s) => `${s.part}/${s.id}`);
    expect(new Set(ids).size).toBe(ids.length);
    expect(STEPS.every((s) => s.deadline > 0 && s.routers.length > 0 && s.kernel !== "")).toBe(true);
    const order = STEPS.map((s) => Object.keys(PARTS).indexOf(s.part));
    expect([...order].sort((x, y) => x - y)).toEqual(order);
    expect(() => stepOf("goes", "nothing")).toThrow(RangeError);
  });
});

describe("the operator's policy", () => {
  const shipped = inRepository("bird-config/policy.conf");
  it("BIRD: the shipped file's own two lines, there and back", () => {
    const refused = birdPolicy(shipped, true);
    expect(refused).toContain("\n  10.3.0.0/24+,\n");
    expect(refused).toContain("\n  2001:db8:3::/48+,\n");
    expect(birdPolicy(refused, false)).toBe(shipped);
    expect(() => birdPolicy(refused, true)).toThrow(/has no line/);
  });
  it("FRR: the lines that the shipped file documents", () => {
    const line = frrPolicy(true).find((w) => w.startsWith("ip prefix-list")) ?? "none";
    expect(inRepository("frr-config/shortcut.conf")).toContain(line);
    expect(frrPolicy(false)).toContain(`no ${line}`);
  });
});

describe("lab/triangle's files for shortcutd", () => {
  it.each(["a", "b", "c"])("%s.yaml is valid for either daemon, and short", (router) => {
    const text = inRepository(`lab/topologies/triangle/${router}.yaml`);
    expect(text.trim().split("\n").length).toBeLessThan(15);
    for (const daemon of ["bird", "frr"]) {
      const parsed = parseConfig(text.replace(/^daemon: .*/m, `daemon: ${daemon}`));
      expect(parsed).toMatchObject({ ok: true, value: { role: router === "b" ? "hub" : "spoke" } });
    }
  });
});

describe("the report", () => {
  const step: StepReport = {
    part: "appears",
    id: "offered",
    title: "offered to the daemon",
    at: 0.057,
    routers: [
      {
        router: "a",
        event: { at: 0.057, detail: "waiting" },
        kernel: { at: 0.055, shows: "198.18.0.1 dev wg0" },
      },
    ],
  };
  const report: Report = {
    format: 1,
    result: "failed",
    started: "2026-11-22T16:00:00.000Z",
    seconds: 25,
    daemons: { a: "bird", b: "frr", c: "bird" },
    traffic: { packetsPerSecond: 2000, bytes: 700 },
    steps: [step, { ...step, id: "peer", title: "peer created", at: 0.05 }],
    phases: [
      {
        name: "direct",
        seconds: 2,
        directions: [
          {
            from: "host-a",
            to: "host-c",
            sent: 4000,
            received: 3993,
            lost: 7,
            duplicated: 0,
            reordered: 1,
            kernelDrops: 2,
          },
        ],
        byHub: 8,
        direct: 8119,
        fullBuffers: 0,
      },
    ],
    subordination: {
      samples: { a: 1, b: 2, c: 3 },
      withShortcut: { a: 0, b: 0, c: 1 },
      drainBound: 2_500,
      violations: [{ router: "c", at: "2026-11-22T16:00:01.000Z", problem: "a peer before" }],
    },
    refusal: "BIRD: rejected by import filter shortcut_policy",
    leftBehind: ["A + route: 10.9.0.0/24 dev wg0"],
    repetitions: [{ problem: "appears: peer created", starvation: "a thread was woken 200 ms late" }],
    failures: [
      {
        part: "stops",
        step: "the routers are as before",
        router: "a",
        problem: "not within 10 s",
        explain: "x",
      },
    ],
  };

  it("writes one line per step, with what the kernel shows", () => {
    expect(stepLine(step)).toBe("  +0.057 s  offered to the daemon      A: 198.18.0.1 dev wg0");
  });

  it("shows figures, violations, leftovers and failures", () => {
    const text = renderReport(report);
    for (const part of [
      "7 (2 in the host)",
      "8119",
      "6 samples",
      "1 VIOLATIONS",
      "C: a peer before",
      "A + route: 10.9.0.0/24 dev wg0",
      "FAILED: stops: the routers are as before on A: not within 10 s",
      "rejected by import filter",
      "repeated, the machine was starved: a thread was woken 200 ms late. It had failed: appears: peer created",
    ])
      expect(text).toContain(part);
    expect(renderReport({ ...report, leftBehind: [] })).toContain("as before the start");
  });

  it("counts a phase from the flows' totals", () => {
    const at = (sent: number, lost: number): DirectionCount => ({
      from: "host-a",
      to: "host-c",
      sent,
      received: sent - lost,
      lost,
      duplicated: 0,
      reordered: 0,
      kernelDrops: 0,
      longestSilence: 0,
    });
    expect(directionBetween(at(100, 1), at(300, 5))).toMatchObject({ sent: 200, received: 196, lost: 4 });
  });
});
