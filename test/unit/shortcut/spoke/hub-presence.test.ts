/** Shows how long a shortcut stays when its hub is gone, and what ends it. */
import { beforeEach, describe, expect, it } from "vitest";
import type { Presence } from "../../../../plugin/shortcut/events.js";
import { defaultParameters as p } from "../../../../plugin/shortcut/parameters.js";
import { HubPresence, summarySession } from "../../../../plugin/shortcut/spoke/hub-presence.js";
import type { Router } from "../../../sim/router.js";
import { areDirect, areOnHub, checkedWorld, drive, statusOf, until as within } from "../../../sim/script.js";
import type { World } from "../../../sim/world.js";

let w: World;
let a: Router;
let c: Router;

const direct = () => areDirect(a, c);
const stage = (x: Router, y: Router) => statusOf(x, y)?.stage;
const until = (limit: number, holds: () => boolean) => within(w, limit, holds);

/** Runs, and reports when the shortcut was not direct at both ends. */
function stays(ms: number): void {
  for (const end = w.now + ms; w.now < end; ) {
    w.run(w.now + 10);
    if (!direct()) throw new Error(`not direct at t=${w.now}: ${stage(a, c)} and ${stage(c, a)}`);
  }
}

beforeEach(() => {
  ({ w, a, c } = checkedWorld({ seed: 7, spokes: 3, loss: 0 }));
  w.run(w.now + 5_000);
  drive(a, c);
  drive(c, a);
  until(15_000, direct);
  w.run(w.now + 10_000);
});

describe("a shortcut whose hub has gone", () => {
  it("stays as long as allowed, and not longer", () => {
    w.killHub();
    stays(p.outlive - 1_000);
    expect(w.milestones.some((m) => m.router === a.address && m.milestone === "outlives-hub")).toBe(true);
    until(2_000, () => a.daemon.offers.size === 0 && c.daemon.offers.size === 0);
  });

  it("stays without a session that could tell, by the silence of the hub", () => {
    w.hubSession = () => "none";
    w.killHub();
    stays(60_000);
    w.reviveHub(8_000);
    stays(60_000);
  });

  it("stays when the hub returns, and is an ordinary shortcut afterwards", () => {
    w.killHub();
    stays(60_000);
    w.reviveHub(8_000);
    stays(120_000);
    w.setRouted(c.site, false);
    until(500, () => !a.daemon.offers.has(c.site));
  });

  it("stays when the hub is away repeatedly, for the full time each time", () => {
    for (let i = 0; i < 3; i++) {
      w.killHub();
      stays(200_000);
      w.reviveHub(2_000);
      stays(60_000);
    }
  });

  it("ends when the hub is back and does not bring the route back", () => {
    w.killHub();
    stays(60_000);
    w.reviveHub(10_000_000);
    const took = until(60_000, () => a.daemon.offers.size === 0);
    expect(took).toBeGreaterThan(2 * p.hubKeepalive);
  });

  it("ends at once when the owner has no route of its own any more", () => {
    w.killHub();
    stays(20_000);
    c.routesSite = false;
    until(p.probeInterval * 3, () => !a.daemon.offers.has(c.site));
  });

  it("keeps a path that is silent, since nothing is left to fall back to, and uses it again at once", () => {
    w.killHub();
    stays(20_000);
    w.broken.add(w.linkKey(a, c));
    stays(40_000);
    w.broken.clear();
    stays(20_000);
    expect(a.peers.has(c.key) && c.peers.has(a.key)).toBe(true);
  });

  it("falls back when the hub is back and the path is still silent", () => {
    w.killHub();
    stays(20_000);
    w.broken.add(w.linkKey(a, c));
    stays(20_000);
    w.reviveHub(2_000);
    until(10_000, () => areOnHub(a, c));
  });
});

describe("a path that fails while the hub is dead, and is not missed yet", () => {
  /** The hub forwards nothing, and the daemon's session with it stands until the hold time is over. */
  const dieUnnoticed = () => {
    w.hubSession = () => "up";
    w.hubDiedAt = w.now;
  };
  const steps = () =>
    w.transitions.filter((t) => t.owner === c.address && t.router === a.address).map((t) => t.stage);

  it.each([400, 1_000, 10_000, 60_000])("for %i ms is taken again as soon as it works", (ms) => {
    dieUnnoticed();
    w.broken.add(w.linkKey(a, c));
    until(p.probeInterval * p.probeMultiplier + 1_000, () => areOnHub(a, c));
    w.run(w.now + ms);
    expect(a.peers.has(c.key) && c.peers.has(a.key)).toBe(true);
    w.broken.clear();
    until(1_500, direct);
    expect(steps().slice(-2)).toEqual(["returning", "direct"]);
    stays(60_000);
  });

  it("at one end alone is taken again by both", () => {
    dieUnnoticed();
    w.brokenOneWay.add(w.directed(a, c));
    until(3_000, () => areOnHub(a, c));
    w.brokenOneWay.clear();
    until(1_500, direct);
    stays(60_000);
  });

  it("is given up when the hub is back", () => {
    dieUnnoticed();
    w.broken.add(w.linkKey(a, c));
    w.run(w.now + 20_000);
    w.hubDiedAt = undefined;
    until(20_000, () => !a.peers.has(c.key) && !c.peers.has(a.key));
  });

  it("is given up at once by an orderly stop", () => {
    dieUnnoticed();
    w.broken.add(w.linkKey(a, c));
    w.run(w.now + 20_000);
    w.input(a, { kind: "stop" });
    until(p.remoteHold + p.drain + 1_000, () => !a.peers.has(c.key));
  });

  it("is not taken again while the hub path works", () => {
    for (let i = 0; i < 8; i++) {
      w.broken.add(w.linkKey(a, c));
      w.run(w.now + 350 + i * 50);
      w.broken.clear();
      until(1_000_000, direct);
    }
    const retaken = w.transitions.filter((t) => t.stage === "direct" && t.previous === "returning");
    expect(retaken).toEqual([]);
  });
});

describe("a route underneath that disappears", () => {
  it("withdraws its offer within a round trip, when the hub answers", () => {
    w.setRouted(c.site, false);
    expect(a.daemon.offers.has(c.site)).toBe(true);
    until(2 * 65 + 5, () => !a.daemon.offers.has(c.site));
  });

  it("withdraws it when only the hub's shortcutd is dead, and the daemon has no session with it, by the bytes that the overlay receives", () => {
    w.hubSession = () => "none";
    w.hub.runs = false;
    w.run(w.now + 60_000);
    expect(direct()).toBe(true);
    w.setRouted(c.site, false);
    until(300, () => !a.daemon.offers.has(c.site));
  });

  it("withdraws its offer at once where nothing may outlive the hub, and where the owner does not confirm", () => {
    c.routesSite = false;
    w.run(w.now + 1_000);
    w.setRouted(c.site, false);
    expect(a.daemon.offers.has(c.site)).toBe(false);
  });
});

describe("the presence of the hub", () => {
  const absence = (): { it: HubPresence; seen: Presence[]; asked: () => number } => {
    const seen: Presence[] = [];
    let asked = 0;
    const it = new HubPresence({
      parameters: p,
      ask: () => {
        asked++;
      },
      inspect: () => {},
      changed: (_, presence) => seen.push(presence),
    });
    return { it, seen, asked: () => asked };
  };

  it("is checked once, and settled by the daemon's session", () => {
    const x = absence();
    x.it.checkHubAlive(0);
    x.it.checkHubAlive(1);
    expect(x.asked()).toBe(1);
    x.it.heard(2);
    expect(x.seen).toEqual(["checking"]);
    x.it.session(3, "up");
    x.it.session(4, "down");
    expect(x.seen).toEqual(["checking", "present"]);
    expect(x.it.pollTimeout()).toBeUndefined();
    expect(x.it.unsettled(3)).toBe(false);
  });

  it("ends with the session, although the hub still answers, and comes back with it after a grace", () => {
    const x = absence();
    x.it.checkHubAlive(0);
    x.it.session(1, "down");
    x.it.heard(2);
    x.it.received(3, 1);
    x.it.received(4, 2);
    expect(x.seen).toEqual(["checking", "absent"]);
    x.it.session(6_000, "up");
    expect(x.it.unsettled(35_999)).toBe(true);
    x.it.handleTimeout(36_000);
    expect(x.seen).toEqual(["checking", "absent", "returned", "present"]);
    expect(x.it.unsettled(36_000)).toBe(false);
  });

  it("is settled by an answer where the daemon has no session with a hub", () => {
    for (const order of [0, 1]) {
      const x = absence();
      x.it.checkHubAlive(0);
      if (order === 0) x.it.heard(1);
      x.it.session(2, "none");
      if (order === 1) x.it.heard(3);
      expect(x.seen).toEqual(["checking", "present"]);
    }
  });

  it("is settled by bytes received, not by those received before, nor by counters that start again", () => {
    const x = absence();
    x.it.received(0, 500);
    x.it.checkHubAlive(1);
    x.it.session(1, "none");
    x.it.received(2, 900);
    x.it.received(3, 900);
    x.it.received(4, 10);
    expect(x.seen).toEqual(["checking"]);
    x.it.received(5, 11);
    expect(x.seen).toEqual(["checking", "present"]);
  });

  it.each([
    ["nothing", (_: HubPresence) => {}, "absent"],
    ["a session with no hub", (it: HubPresence) => it.session(1, "none"), "absent"],
    ["an answer, and the daemon says nothing", (it: HubPresence) => it.heard(1), "present"],
  ] as const)("is given up after three seconds with %s", (_, told, end) => {
    const x = absence();
    x.it.checkHubAlive(0);
    told(x.it);
    for (let at = x.it.pollTimeout(); at !== undefined && at <= 5_000; at = x.it.pollTimeout())
      x.it.handleTimeout(at);
    expect(x.seen).toEqual(["checking", end]);
  });

  it("is up with one session of several", () => {
    expect(summarySession([])).toBe("none");
    expect(summarySession([false, false])).toBe("down");
    expect(summarySession([false, true])).toBe("up");
  });
});
