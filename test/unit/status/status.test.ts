/** Shows the answers to explain and status in each state of a router, and to malformed requests. */
import { beforeEach, describe, expect, it } from "vitest";
import { parseConfig } from "../../../plugin/config/config.js";
import { Driver } from "../../../plugin/driver/driver.js";
import { address, prefix } from "../../../plugin/net/address.js";
import { privateKeyFromBytes, publicKeyFromBytes } from "../../../plugin/net/key.js";
import type { Stage } from "../../../plugin/shortcut/events.js";
import { duration, renderExplanation, renderStatus } from "../../../plugin/status/render.js";
import {
  answer,
  decodeRequest,
  type Explanation,
  explain,
  type ShortcutReport,
  statusReport,
} from "../../../plugin/status/report.js";
import { pathAttributes } from "../../../plugin/wire/bgp/attributes.js";
import { id64FromBytes } from "../../../plugin/wire/control/codec.js";
import { MemoryWorld } from "../../sim/ports.js";
import { DIRECT, OVERLAY, route } from "../driver/support.js";

const KEY = publicKeyFromBytes(new Uint8Array(32).fill(2));
const P = prefix("10.1.0.0/24");
let w: MemoryWorld;
let d: Driver;

beforeEach(async () => {
  w = new MemoryWorld();
  const hub = publicKeyFromBytes(new Uint8Array(32).fill(3));
  const peer = {
    publicKey: hub,
    endpoint: undefined,
    allowedIps: [prefix("0.0.0.0/0")],
    keepalive: 0,
    lastHandshake: 0,
    rxBytes: 0,
    txBytes: 0,
  };
  w.devices.set(OVERLAY, { publicKey: KEY, peers: new Map([[hub, peer]]) });
  w.put(route("10.255.0.0/24", OVERLAY, { protocol: 2, metric: 0 }));
  w.put(route("10.1.0.0/24", OVERLAY));
  const c = parseConfig("role: spoke\noverlay: wg0\nhubs: [10.255.0.1]\ndaemon: bird\nbgp: { as: 65000 }\n");
  if (!c.ok) throw new Error("configuration");
  d = new Driver(
    c.value,
    {
      self: { address: address("10.255.0.2"), publicKey: KEY, bootId: id64FromBytes(new Uint8Array(8)) },
      privateKey: privateKeyFromBytes(new Uint8Array(32).fill(1)),
      overlayAddresses: [address("10.255.0.2")],
      overlayMtu: 1420,
      crypto: {
        shared: () => new Uint8Array(32),
        x25519: () => new Uint8Array(32),
        hmac: () => new Uint8Array(32),
      },
      randomBytes: (n) => new Uint8Array(n).fill(7),
    },
    w.ports,
  );
  await w.clock.during(d.start());
  w.session("feed").rib.apply({
    withdrawn: [],
    endOfRib: undefined,
    reach: [
      { attributes: pathAttributes({ nextHop: address("10.255.0.3") }), nlri: [{ prefix: P, pathId: 0 }] },
    ],
  });
});

const traffic = async (mbit: number, seconds: number) => {
  for (let i = 0, bytes = 0; i < seconds; i++) {
    bytes += (mbit * 1e6) / 8;
    w.samples = [{ destination: P, bytes, packets: 1 }];
    await w.clock.advance(1_000);
  }
};
const why = (query = "10.1.0.7") => explain(d, w.clock.now(), query);

describe("explain", () => {
  it("shows that nothing was counted, and what lies underneath", () => {
    expect(why()).toMatchObject({
      stage: "idle",
      reason: "no traffic via the overlay is counted",
      underneath: "10.1.0.0/24 via next hop 10.255.0.3",
      rate: "no traffic counted",
    });
  });

  it("shows that the daemon has no route underneath", () => {
    expect(why("10.9.0.0/24")).toMatchObject({
      stage: "idle",
      reason: "no route underneath: the feed has no route for 10.9.0.0/24",
    });
  });

  it("shows how far below the threshold the traffic is", async () => {
    w.establish();
    await traffic(3.1, 4);
    expect(why()).toMatchObject({ stage: "below threshold", reason: "3.1 of 10.0 Mbit/s" });
  });

  it("shows for how long the traffic has been above it", async () => {
    w.establish();
    await traffic(20, 4);
    expect(why()?.stage).toBe("above threshold, not long enough");
    expect(why()?.reason).toMatch(/^for \d\.\d of 5 s: 20\.0 of 10\.0 Mbit\/s$/);
  });

  it("shows what blocks a destination above the threshold: the sessions, then the hub", async () => {
    await traffic(20, 9);
    expect(why()).toMatchObject({ stage: "above threshold" });
    expect(why()?.reason).toContain("not established");
    w.establish();
    await traffic(20, 12);
    expect(why()).toMatchObject({ stage: "above threshold" });
    expect(why()?.reason).toContain(
      "hub 10.255.0.1 does not answer on the control port: is shortcutd running there",
    );
    w.session("offers").events.onState({ established: false, reason: "hold timer expired" });
    expect(why()?.reason).toBe("offers session: hold timer expired");
  });

  it("does not list the overlay's own prefix, and says what the threshold is", async () => {
    w.establish();
    const own = prefix("10.255.0.0/24");
    w.samples = [own, P].map((destination) => ({ destination, bytes: 1, packets: 1 }));
    await w.clock.advance(1_000);
    const status = statusReport(d, w.clock.now());
    expect(status.destinations.map((x) => x.destination)).toEqual([P]);
    expect(renderStatus(status)).toContain(
      "above threshold: at least 10.0 Mbit/s for 5.0 s, until it is below 3.0 Mbit/s (trigger)",
    );
  });

  it("takes addresses and prefixes, and nothing else", () => {
    expect(why("10.1.0.0/24")?.query).toBe("10.1.0.0/24");
    expect(why("2001:db8::1")).toBeDefined();
    expect(why("10.1.0.7/24")).toBeUndefined();
    expect(why("lan")).toBeUndefined();
  });

  const shortcut = (stage: Stage, given: Partial<ShortcutReport> = {}): ShortcutReport => ({
    candidate: undefined,
    nat: undefined,
    classes: undefined,
    owner: address("10.255.0.3"),
    stage,
    origin: "local",
    reason: "",
    code: undefined,
    prefixes: [
      {
        prefix: P,
        alias: address("198.18.0.1"),
        selected: true,
        path: "direct",
        reason: "",
        code: undefined,
      },
    ],
    publicKey: KEY,
    bootId: undefined,
    endpoint: { address: address("192.0.2.3"), port: 51821 },
    roundTrip: 1.25,
    hubRoundTrip: 2.5,
    quiet: false,
    penalty: 0,
    suppressedFor: 0,
    bitsPerSecond: 12e6,
    age: 61_000,
    retryIn: undefined,
    ...given,
  });
  const explanation = (s: ShortcutReport): Explanation => ({
    query: "10.1.0.7",
    stage: s.stage,
    reason: s.reason,
    code: s.code,
    age: s.age,
    owner: s.owner,
    rate: "0.0 Mbit/s via the hub",
    shortcut: s,
    underneath: "10.1.0.0/24 via next hop 10.255.0.3",
    problems: [],
    obstacles: [],
    hub: undefined,
  });

  const Q = prefix("10.2.0.0/24");
  const REJECTED = "BIRD: rejected by import filter shortcut_policy";
  /** One prefix is direct, another one of the same owner is refused. */
  const mixed = (): ShortcutReport =>
    shortcut("direct", {
      prefixes: [
        ...shortcut("direct").prefixes,
        {
          prefix: Q,
          alias: address("198.18.0.1"),
          selected: false,
          path: "overlay",
          reason: REJECTED,
          code: "bird-rejected",
        },
      ],
    });

  it("has a row for each prefix in status, with its own reason", () => {
    const text = renderStatus({ ...statusReport(d, w.clock.now()), shortcuts: [mixed()] });
    const rows = text.split("\n").filter((l) => /10\.[12]\.0\.0\/24/.test(l));
    expect(rows).toHaveLength(2);
    expect(rows[0]).toMatch(/10\.255\.0\.3 .*direct.*10\.1\.0\.0\/24/);
    expect(rows[0]).not.toContain("BIRD");
    expect(rows[1]).toContain("10.2.0.0/24");
    expect(rows[1]).toContain("BIRD");
    expect(rows[1]).not.toContain("10.255.0.3");
  });

  it("is rendered for a hub: the owner, what is attested, which spokes asked, and what a hub is not told", () => {
    const e: Explanation = {
      ...explanation(shortcut("direct")),
      stage: "owned",
      shortcut: undefined,
      age: undefined,
      rate: "",
      underneath: "",
      hub: {
        attested: [P, Q],
        heard: 2_000,
        endpoint: undefined,
        resolvedBy: [{ spoke: address("10.255.0.1"), age: 5_000 }],
      },
    };
    expect(renderExplanation(e).split("\n")).toEqual([
      "10.1.0.7: owned",
      "  owner: 10.255.0.3",
      "  attested: 10.1.0.0/24, 10.2.0.0/24",
      "  last heard: 2.0 s ago; direct endpoint: unknown",
      "  resolved by: 10.255.0.1 (5.0 s ago)",
      "  direct: a hub is not told; ask the spokes that have resolved it",
    ]);
  });

  it("is rendered with the daemon's reason, the alias, the FIB and the endpoint", () => {
    const refused = shortcut("refused", {
      reason: "BIRD: rejected by import filter",
      prefixes: [
        {
          prefix: P,
          alias: address("198.18.0.1"),
          selected: false,
          path: "overlay",
          reason: "BIRD: rejected by import filter",
          code: "bird-rejected",
        },
      ],
      endpoint: undefined,
    });
    expect(renderExplanation(explanation(refused)).split("\n")).toEqual([
      "10.1.0.7: refused for 1 min 1 s",
      "  why: BIRD: rejected by import filter",
      "  traffic: 0.0 Mbit/s via the hub",
      "  underneath: 10.1.0.0/24 via next hop 10.255.0.3",
      "  owner: 10.255.0.3",
      "  offer 10.1.0.0/24 alias 198.18.0.1: not selected: BIRD: rejected by import filter; FIB: overlay",
      "  round trip: direct 1.3 ms, via the hub 2.5 ms",
    ]);
    const direct = renderExplanation(explanation(shortcut("direct")));
    expect(direct).toContain("offer 10.1.0.0/24 alias 198.18.0.1: selected; FIB: direct");
    expect(direct).toContain("endpoint: 192.0.2.3:51821");
    expect(direct).toContain("round trip: direct 1.3 ms, via the hub 2.5 ms");
    expect(renderExplanation(explanation(shortcut("backoff", { retryIn: 2_500 })))).toContain(
      "next try in 2.5 s",
    );
    const flaps = shortcut("backoff", { suppressedFor: 43_000, penalty: 2_730 });
    expect(renderExplanation(explanation(flaps))).toContain(
      "the path flaps: suppressed for 43.0 s, penalty 2730",
    );
    expect(renderExplanation(explanation(shortcut("direct", { penalty: 400 })))).toContain("penalty 400");
    expect(renderExplanation(explanation(shortcut("backoff", { retryIn: -3 })))).toContain(
      "next try in 0.0 s",
    );
  });

  it("status is rendered for every stage", () => {
    const stages: Stage[] = [
      "resolving",
      "exchanging",
      "offered",
      "refused",
      "connecting",
      "direct",
      "returning",
      "draining",
      "backoff",
      "gone",
    ];
    const text = renderStatus({
      ...statusReport(d, w.clock.now()),
      shortcuts: stages.map((s) => shortcut(s)),
    });
    for (const s of stages) expect(text).toContain(s);
    expect(text).toContain("1.3 ms");
    expect(text).toContain("12.0 Mbit/s");
  });
});

describe("status", () => {
  it("shows role, daemon and hubs although nothing has happened yet", () => {
    const s = statusReport(d, w.clock.now());
    expect(s).toMatchObject({
      role: "spoke",
      address: "10.255.0.2",
      overlay: OVERLAY,
      direct: DIRECT,
      shortcuts: [],
      destinations: [],
      registrations: [],
    });
    const text = renderStatus(s);
    expect(text).toContain("bird: not yet connected to the daemon");
    expect(text).toContain("hub 10.255.0.1:");
    expect(text).toContain("no traffic via the overlay has been counted yet");
  });

  it("names the overlay interfaces that exist where the configuration does not", () => {
    const s = statusReport(d, w.clock.now());
    const first = (overlay: string, ...overlayInterfaces: string[]) =>
      renderStatus({ ...s, overlay, overlayInterfaces }).split(", direct interface")[0];
    expect(s.overlayInterfaces).toEqual([OVERLAY]);
    expect(first("wg0", "wg0")).toBe("spoke 10.255.0.2, overlay wg0");
    expect(first("wg-b, wg-a", "wg-a", "wg-b")).toBe("spoke 10.255.0.2, overlay wg-b, wg-a");
    expect(first("wg-a, wg-b", "wg-b")).toBe("spoke 10.255.0.2, overlay wg-a, wg-b (wg-b)");
    expect(first("wg-*", "wg-b", "wg-a")).toBe("spoke 10.255.0.2, overlay wg-* (wg-a, wg-b)");
    expect(first("wg-*")).toBe("spoke 10.255.0.2, overlay wg-* (none exists)");
    const many = Array.from({ length: 11 }, (_, i) => `wg-${i}`);
    expect(first("wg-*", ...many)).toContain("wg-6, wg-7 and 3 more)");
  });

  it("lists what is counted, and what blocks it", async () => {
    w.establish();
    await traffic(3.1, 4);
    expect(statusReport(d, w.clock.now()).destinations).toEqual([
      {
        destination: P,
        owner: undefined,
        bitsPerSecond: 3_100_000,
        aboveThreshold: false,
        stage: "below threshold",
        reason: "3.1 of 10.0 Mbit/s",
        code: "below-threshold",
      },
    ]);
    expect(statusReport(d, w.clock.now()).daemon?.session).toBe("sessions established");
  });
});

describe("requests", () => {
  it.each([
    ['{"command":"status"}', { command: "status" }],
    ['{"command":"explain","query":"10.1.0.1"}', { command: "explain", query: "10.1.0.1" }],
    ['{"command":"timeline"}', { command: "timeline", since: 0 }],
    ['{"command":"timeline","since":5}', { command: "timeline", since: 5 }],
    ['{"command":"purge","owner":"all"}', { command: "purge", owner: "all" }],
    ["{", { error: "the request is not JSON" }],
    ["null", { error: "unknown command undefined: status, explain, timeline, purge, guard or forget" }],
    ['{"command":"explain"}', { error: "explain needs a query" }],
    ['{"command":"purge","owner":5}', { error: "purge needs an owner or all" }],
    [
      '{"command":"reboot"}',
      { error: 'unknown command "reboot": status, explain, timeline, purge, guard or forget' },
    ],
  ])("%s", (line, want) => {
    expect(decodeRequest(line)).toEqual(want);
  });

  it("are answered, also when they are invalid", () => {
    const now = w.clock.now();
    expect(answer(d, now, { command: "status" })).toMatchObject({ ok: true });
    expect(answer(d, now, { command: "explain", query: "x" })).toEqual({
      ok: false,
      error: '"x" is neither an address nor a prefix',
    });
    expect(answer(d, now, { command: "timeline", since: 0 })).toEqual({ ok: true, timeline: [] });
    expect(answer(d, now, { command: "purge", owner: "all" })).toEqual({ ok: true, done: "purged all" });
    expect(answer(d, now, { command: "purge", owner: "x" })).toEqual({
      ok: false,
      error: '"x" is neither an overlay address nor "all"',
    });
  });
});

it("durations are readable", () => {
  expect([900, 59_900, 60_000, 3_599_000, 3_600_000].map(duration)).toEqual([
    "0.9 s",
    "59.9 s",
    "1 min 0 s",
    "59 min 59 s",
    "1 h 0 min",
  ]);
});
