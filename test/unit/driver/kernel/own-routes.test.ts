/** Own routes over several overlay interfaces: where an alias leads, by what a second route of it, and how they follow a lost hub. */
import { beforeEach, expect, it } from "vitest";
import { ClearGuard } from "../../../../plugin/driver/kernel/clear-guard.js";
import { FibView } from "../../../../plugin/driver/kernel/fib-view.js";
import { OwnRoutes } from "../../../../plugin/driver/kernel/own-routes.js";
import { Schedule } from "../../../../plugin/driver/runtime/schedule.js";
import { TaskQueue } from "../../../../plugin/driver/runtime/task-queue.js";
import { address, prefix } from "../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../plugin/net/interface-names.js";
import { MemoryWorld } from "../../../sim/ports.js";
import { DIRECT, MAIN } from "../support.js";

const ALIAS = address("198.18.0.1");
const SITE = prefix("10.3.0.0/24");

let w: MemoryWorld;
let tasks: TaskQueue;
let routes: OwnRoutes;
/** The overlay interfaces that lead to the hubs, and that of the route underneath. */
let hubs: readonly string[];
let underneath: readonly string[];

beforeEach(() => {
  w = new MemoryWorld();
  hubs = ["wg-hub1", "wg-hub2"];
  underneath = ["wg-hub1"];
  tasks = new TaskQueue((e) => expect.fail(e.message));
  const fib = new FibView(new InterfaceNames(["wg-*"]), DIRECT, MAIN);
  const clock = w.ports.clock;
  routes = new OwnRoutes({
    routes: w.ports.routes,
    clock,
    schedule: new Schedule(clock, (_, e) => expect.fail(e.message)),
    tasks,
    fib,
    aliasTable: MAIN,
    aliasPools: { 4: prefix("198.18.0.0/16"), 6: undefined },
    hasUnderneath: () => true,
    overlayWay: (p) => (p === undefined ? hubs : underneath),
    daemonUp: () => true,
    clearGuard: new ClearGuard(
      { fib, put: () => {}, take: () => {}, save: () => {} },
      { enabled: false, except: [] },
    ),
  });
});

const table = async (): Promise<string[]> => {
  await w.clock.during(tasks.drained());
  return w.table.map((r) => r.replace(/^254 /, "").replace(" proto 173", ""));
};

it("an alias leads through the interface underneath, and a second route of it through another hub", async () => {
  routes.setAlias(ALIAS, "overlay", ["wg-hub1"]);
  expect(await table()).toEqual([
    "198.18.0.1/32 dev wg-hub1 metric 99",
    "198.18.0.1/32 dev wg-hub2 metric 199",
  ]);
  routes.setAlias(ALIAS, "direct", ["wg-hub1"]);
  expect(await table()).toEqual([
    `198.18.0.1/32 dev ${DIRECT} metric 99`,
    "198.18.0.1/32 dev wg-hub1 metric 199",
  ]);
  expect(routes.pointsDirect(ALIAS)).toBe(true);
  routes.setAlias(ALIAS, "absent", ["wg-hub1"]);
  expect(await table()).toEqual([]);
});

it("there is a second route only where another interface leads to a hub", async () => {
  hubs = ["wg-hub1"];
  routes.setAlias(ALIAS, "overlay", ["wg-hub1"]);
  expect(await table()).toEqual(["198.18.0.1/32 dev wg-hub1 metric 99"]);
  routes.setAlias(ALIAS, "overlay", ["wg-hub2"]);
  routes.setAlias(ALIAS, "overlay", ["wg-hub1", "wg-hub2"]);
  // several next hops need none, and one that stood is taken away
  expect(await table()).toEqual(["198.18.0.1/32 dev wg-hub1+wg-hub2 metric 99"]);
});

it("what stands is not written again: zebra would take an IPv6 route for a deleted one", async () => {
  routes.setAlias(ALIAS, "direct", ["wg-hub1"]);
  await table();
  const written = () => w.calls.filter((c) => c === "routes.replace").length;
  const before = written();
  routes.setAlias(ALIAS, "direct", ["wg-hub2"]);
  expect(await table()).toEqual([
    `198.18.0.1/32 dev ${DIRECT} metric 99`,
    "198.18.0.1/32 dev wg-hub2 metric 199",
  ]);
  expect(written()).toBe(before + 1);
});

it("the second route follows the hubs that are left", async () => {
  routes.setAlias(ALIAS, "direct", ["wg-hub1"]);
  hubs = ["wg-hub2"];
  routes.follow("all");
  expect(await table()).toEqual([
    `198.18.0.1/32 dev ${DIRECT} metric 99`,
    "198.18.0.1/32 dev wg-hub2 metric 199",
  ]);
});

it("overrides and guard routes go where the daemon's route would, also when that changes", async () => {
  routes.setOverride(SITE, true);
  routes.holdNet(SITE, true);
  const through = (dev: string) => [
    `10.3.0.0/24 dev ${dev} metric 1`,
    `10.3.0.0/24 dev ${dev} metric ${0xff000001}`,
  ];
  expect(await table()).toEqual(through("wg-hub1"));
  underneath = ["wg-hub2"];
  routes.follow("all");
  expect(await table()).toEqual(through("wg-hub2"));
  const calls = w.calls.length;
  routes.follow("all");
  await table();
  expect(w.calls.length).toBe(calls);
  // what was written last is what is compared and taken away
  await w.clock.during(routes.reconcile((text) => expect.fail(text)));
  routes.setOverride(SITE, false);
  expect(await table()).toEqual([`10.3.0.0/24 dev wg-hub2 metric ${0xff000001}`]);
});
