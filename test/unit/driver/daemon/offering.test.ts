/** Offers to the daemon: their order with routes, sessions and what is selected. */
import { beforeEach, describe, expect, it } from "vitest";
import { parseConfig } from "../../../../plugin/config/config.js";
import { Offering, type OfferingHost } from "../../../../plugin/driver/daemon/offering.js";
import { ClearGuard } from "../../../../plugin/driver/kernel/clear-guard.js";
import type { FibView } from "../../../../plugin/driver/kernel/fib-view.js";
import { OwnRoutes } from "../../../../plugin/driver/kernel/own-routes.js";
import { Journal } from "../../../../plugin/driver/runtime/journal.js";
import { Schedule } from "../../../../plugin/driver/runtime/schedule.js";
import { TaskQueue } from "../../../../plugin/driver/runtime/task-queue.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import type { Input } from "../../../../plugin/shortcut/events.js";
import { no } from "../../../../plugin/shortcut/reasons.js";
import { pathAttributes } from "../../../../plugin/wire/bgp/attributes.js";
import { MemoryWorld } from "../../../sim/ports.js";
import { BLACKBOARD, fibOf, OVERLAY, route } from "../support.js";

const P = prefix("10.1.0.0/24");
const SELF = address("10.255.0.2");
const C = address("10.255.0.3");
const ALIAS = address("198.18.0.1");
const MARKS = { owner: C, natPrognosis: "likely", rate: 0, roundTrip: "unknown" } as const;
const OFFER = { kind: "offer", prefix: P, alias: ALIAS, underneath: P, classes: MARKS } as const;
const NET = "254 10.1.0.0/24 dev wg0 proto 173 metric 4278190081";

let w: MemoryWorld;
let inputs: Input[];
let o: Offering;
let fib: FibView;
let host: OfferingHost;
let done: () => Promise<void>;

beforeEach(() => {
  const c = parseConfig("role: spoke\noverlay: wg0\nhubs: [10.255.0.1]\ndaemon: bird\nbgp: { as: 65000 }\n");
  if (!c.ok || c.value.daemon === undefined) throw new Error(JSON.stringify(c));
  w = new MemoryWorld();
  inputs = [];
  const { clock, log, bgp, daemon, routes: kernel } = w.ports;
  const journal = new Journal(clock, log);
  const schedule = new Schedule(clock, (place, e) => journal.problem(place, e.message));
  const tasks = new TaskQueue((e) => journal.problem(e.place, e.message));
  fib = fibOf(route("10.255.0.0/24", OVERLAY, { protocol: 2, metric: 0 }), route("10.1.0.0/24", OVERLAY));
  const routes = new OwnRoutes({
    routes: kernel,
    clock,
    schedule,
    tasks,
    fib,
    aliasTable: BLACKBOARD,
    aliasPools: c.value.aliases,
    hasUnderneath: () => true,
    overlayWay: () => [OVERLAY],
    daemonUp: () => o.established,
    clearGuard: new ClearGuard(
      { fib, put: () => {}, take: () => {}, save: () => {} },
      { enabled: false, except: [] },
    ),
  });
  host = {
    self: SELF,
    overlayAddresses: [SELF],
    bgp,
    daemon,
    clock,
    log,
    journal,
    schedule,
    tasks,
    fib,
    routes,
    input: (i) => void inputs.push(i),
    resync: () => w.calls.push("resync"),
    sessionsChanged: () => o.examine("all"),
    arm: () => {},
  };
  o = new Offering(c.value, c.value.daemon, host);
  done = async () => {
    await w.clock.during(tasks.drained());
    await w.clock.advance(500);
    await w.clock.during(tasks.drained());
  };
  w.session("feed").rib.apply({
    withdrawn: [],
    endOfRib: undefined,
    reach: [{ attributes: pathAttributes({ nextHop: C }), nlri: [{ prefix: P, pathId: 0 }] }],
  });
});

const of = <K extends Input["kind"]>(kind: K) => inputs.filter((i) => i.kind === kind);

describe("an offer", () => {
  it("is announced when its alias and the guard route of its prefix are in the kernel", async () => {
    w.establish();
    const { announced } = w.session("offers");
    const set = announced.set.bind(announced);
    let before: string[] = [];
    announced.set = (p, a) => {
      before = w.table;
      return set(p, a);
    };
    o.perform({ kind: "alias", alias: ALIAS, to: "overlay", via: [OVERLAY] });
    o.perform(OFFER);
    await done();
    expect([...announced.keys()]).toEqual([P]);
    expect(before).toEqual([NET, "4242 198.18.0.1/32 dev wg0 proto 173 metric 99"]);
  });

  it("is reported once for every change of its state, also after its withdrawal", async () => {
    w.establish();
    o.perform({ kind: "alias", alias: ALIAS, to: "overlay", via: [OVERLAY] });
    o.perform(OFFER);
    await done();
    o.recheckPending();
    o.examine([P]);
    const state = { prefix: P, path: "overlay", daemonPath: "overlay", selected: false, harmful: false };
    expect(of("route-state")).toEqual([
      { kind: "route-state", state: { ...state, reason: { kind: "bird-not-selected" } } },
    ]);
    o.perform({ kind: "withdraw", prefix: P });
    o.examine([P]);
    expect(of("route-state").slice(1)).toEqual([
      { kind: "route-state", state: { ...state, reason: { kind: "withdrawn" } } },
    ]);
    await done();
    expect(w.session("offers").announced.size).toBe(0);
  });

  it("that the daemon has selected meanwhile needs no explanation", async () => {
    const explain = async () => {
      o.perform({ kind: "explain", prefix: P, alias: ALIAS });
      await done();
      return of("explained");
    };
    const told = {
      kind: "explained",
      prefix: P,
      reason: { kind: "bird-rejected", filter: "shortcut_policy" },
    };
    expect(await explain()).toEqual([told]);
    w.explanation = { selected: true, reason: { kind: "frr-selected", weight: 1, distance: 20 } };
    expect(await explain()).toEqual([told]);
  });
});

describe("the sessions", () => {
  it("count when both are up and the feed is complete; they are reported once, and the kernel is read again", () => {
    expect(o.sessionText).toBe("not yet connected to the daemon");
    w.establish();
    w.session("feed").events.onEndOfRib(4);
    expect(of("offers-session").filter((i) => "verdict" in i && i.verdict.ok)).toHaveLength(1);
    expect(w.calls.filter((c) => c === "resync")).toHaveLength(1);
    expect(o.sessionText).toBe("sessions established");
  });

  it("that fail leave a guard route for each offer, for longer than the daemon takes to start", async () => {
    w.establish();
    o.perform({ kind: "alias", alias: ALIAS, to: "overlay", via: [OVERLAY] });
    o.perform(OFFER);
    await w.clock.advance(5_000);
    await done();
    expect(w.table).not.toContain(NET);
    w.session("offers").events.onState({ established: false, reason: "killed" });
    await done();
    await w.clock.advance(20_000);
    expect(w.table).toContain(NET);
    expect(of("offers-session").at(-1)).toEqual({
      kind: "offers-session",
      verdict: no({ kind: "session-down", session: "offers", text: "killed" }),
    });
  });
});

it("tells which routes the daemon has itself", () => {
  expect(o.routing.underneath(P)).toEqual({ ok: true, prefix: P, nextHop: C, via: [OVERLAY] });
});

it("tells at once when the route of a next hop underneath an offer has moved", async () => {
  w.establish();
  o.perform({ kind: "alias", alias: ALIAS, to: "overlay", via: [OVERLAY] });
  o.perform(OFFER);
  await done();
  expect(o.routing.underneath(P).ok).toBe(true);
  const before = of("underneath-changed").length;
  o.igpTouched([prefix("10.9.0.0/24")]);
  o.igpTouched("all");
  expect(of("underneath-changed")).toHaveLength(before);
  fib.apply({ kind: "set", route: route("10.255.0.3/32", "eth0") });
  o.igpTouched([prefix("10.255.0.3/32")]);
  expect(of("underneath-changed").slice(before)).toEqual([{ kind: "underneath-changed", prefixes: [P] }]);
});

describe("the interfaces of FRR's paths", () => {
  const asked: string[] = [];
  const frr = () => {
    const c = parseConfig("role: spoke\noverlay: wg0\nhubs: [10.255.0.1]\ndaemon: frr\nbgp: { as: 65000 }\n");
    if (!c.ok || c.value.daemon === undefined) throw new Error(JSON.stringify(c));
    const sessions = new MemoryWorld();
    const { daemon } = w.ports;
    if (daemon === undefined) throw new Error("no daemon");
    const answers: (() => Promise<ReadonlyMap<number, string>>)[] = [];
    const pathInterfaces = (p: string): Promise<ReadonlyMap<number, string>> => {
      asked.push(p);
      return answers.shift()?.() ?? Promise.resolve(new Map([[0, OVERLAY]]));
    };
    const made = new Offering(c.value, c.value.daemon, {
      ...host,
      bgp: sessions.ports.bgp,
      daemon: { ...daemon, kind: "frr", pathInterfaces },
    });
    sessions.session("feed").rib.apply({
      withdrawn: [],
      endOfRib: undefined,
      reach: [{ attributes: pathAttributes({ nextHop: SELF }), nlri: [{ prefix: P, pathId: 0 }] }],
    });
    return { made, answers };
  };

  it("are asked for when an offer needs them, and the engine is told of the answer", async () => {
    asked.length = 0;
    const { made } = frr();
    expect(made.routing.underneath(P)).toMatchObject({ ok: false, reason: { kind: "interface-unknown" } });
    await w.clock.advance(1);
    expect(asked).toEqual([P]);
    expect(of("underneath-changed").at(-1)).toEqual({ kind: "underneath-changed", prefixes: [P] });
    expect(made.routing.underneath(P)).toMatchObject({ ok: true, via: [OVERLAY] });
  });

  it("are asked for again, some time later, when the question has failed", async () => {
    asked.length = 0;
    const { made, answers } = frr();
    answers.push(() => Promise.reject(new Error("busy")));
    made.poll();
    made.routing.underneath(P);
    await w.clock.advance(1);
    expect(asked).toEqual([P]);
    expect(made.routing.underneath(P).ok).toBe(false);
    await w.clock.advance(2_000);
    expect(asked).toEqual([P, P]);
    expect(made.routing.underneath(P)).toMatchObject({ ok: true, via: [OVERLAY] });
  });
});
