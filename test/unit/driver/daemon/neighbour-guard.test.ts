/** Neighbours of the daemon: an offer that one of them would notice is blocked, until what it would notice has changed. */
import { beforeEach, describe, expect, it } from "vitest";
import { changeSeen, NeighbourGuard, visibleTo } from "../../../../plugin/driver/daemon/neighbour-guard.js";
import type { Clock, NeighbourView } from "../../../../plugin/driver/ports.js";
import { address, type Prefix, prefix } from "../../../../plugin/net/address.js";
import { describeReason, type Reason } from "../../../../plugin/shortcut/reasons.js";

const P = prefix("10.3.0.0/24");
const rules = { acceptVisible: false, hubs: [address("10.255.0.3")] };

/** Makes a view: `up` are the neighbours, `sent` is what each is sent. */
const audience = (
  up: readonly string[],
  sent: Readonly<Record<string, string>>,
  visibleReason = "",
): NeighbourView => ({
  configuration: "1",
  neighbours: new Map(
    up.map((a) => [a, { name: `neighbor ${a}`, address: address(a), filter: "outgoing route-map X" }]),
  ),
  sent: new Map([
    [
      P,
      new Map(
        Object.entries(sent).map(([k, attributes]) => [k, { attributes, visibleReason, isOrigin: false }]),
      ),
    ],
  ]),
});
const RA = "10.1.8.2";
const HUB = "10.255.0.3";
const before = audience([RA, HUB], { [RA]: "1 path(s)" });

describe("a change at a neighbour", () => {
  it("is not reported when every neighbour is sent the same as before", () => {
    expect(changeSeen(P, before, before, rules)).toBeUndefined();
  });
  it("is a route that it loses: named, with the filter", () => {
    expect(describeReason(changeSeen(P, before, audience([RA, HUB], {}), rules))).toBe(
      "neighbor 10.1.8.2 is no longer sent 10.3.0.0/24: its outgoing route-map X",
    );
    expect(changeSeen(P, before, audience([RA], {}), { ...rules, acceptVisible: true })).toBeDefined();
  });
  it("is not reported for a session that is down, nor for a hub that no longer gets its own route back", () => {
    expect(changeSeen(P, before, audience([HUB], {}), rules)).toBeUndefined();
    const sentBack = audience([RA, HUB], { [RA]: "1 path(s)", [HUB]: "1 path(s)" });
    expect(changeSeen(P, sentBack, before, rules)).toBeUndefined();
  });
  it("is an offer that it sees, unless that is accepted", () => {
    const seen = [
      audience([RA, HUB], { [RA]: "1 path(s)", [HUB]: "1 path(s)" }),
      audience([RA, HUB], { [RA]: "2 path(s)" }),
    ];
    for (const now of seen) {
      expect(describeReason(changeSeen(P, before, now, rules))).toContain("(bgp.accept-visible)");
      expect(changeSeen(P, before, now, { ...rules, acceptVisible: true })).toBeUndefined();
    }
  });
  it("is not reported when a neighbour came up meanwhile", () => {
    expect(
      changeSeen(
        P,
        before,
        audience([RA, "10.1.8.6"], { [RA]: "1 path(s)", "10.1.8.6": "1 path(s)" }),
        rules,
      ),
    ).toBeUndefined();
  });
  it("is foreseen where an offer cannot be hidden", () => {
    const a = audience([RA], { [RA]: "" }, "it is a client");
    expect(describeReason(visibleTo(P, a, rules))).toContain(
      "neighbor 10.1.8.2 would see an offer for 10.3.0.0/24: it is a client",
    );
    expect(visibleTo(P, a, { ...rules, acceptVisible: true })).toBeUndefined();
  });
});

describe("an offer that a neighbour sees or that replaces its route", () => {
  let now: number;
  let timers: { at: number; run: () => void }[];
  let answer: NeighbourView;
  let asked: (readonly Prefix[])[];
  let said: string[];
  let underneath: string;
  let harm: NeighbourGuard;

  const clock: Clock = {
    now: () => now,
    wall: () => now,
    after: (ms, run) => {
      const t = { at: now + ms, run };
      timers.push(t);
      return () => {
        timers = timers.filter((x) => x !== t);
      };
    },
    afterReading: (run) => run(),
  };
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const advance = async (ms: number): Promise<void> => {
    const end = now + ms;
    await settle();
    for (;;) {
      const next = timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      timers = timers.filter((t) => t !== next);
      now = next.at;
      next.run();
      await settle();
    }
    now = end;
  };

  const permits = async (p: Prefix): Promise<boolean> => {
    const answered = harm.permits(p);
    await advance(10);
    return answered;
  };

  beforeEach(() => {
    now = 0;
    timers = [];
    answer = before;
    asked = [];
    said = [];
    underneath = "u";
    const daemon = {
      neighbourView: async (prefixes: readonly Prefix[]) => {
        asked.push(prefixes);
        return answer;
      },
    };
    const events = {
      onBlocked: (_: Prefix, reason: Reason) => void said.push(describeReason(reason)),
      onUnblocked: () => void said.push("over"),
      onProblem: (text: string) => void said.push(text),
    };
    harm = new NeighbourGuard(daemon, clock, rules, events, () => underneath);
  });

  it("is withdrawn when the loss is confirmed, and not made again before something changes", async () => {
    expect(await permits(P)).toBe(true);
    answer = audience([RA, HUB], {});
    harm.observe(P, true);
    await advance(100);
    expect(said).toEqual([]);
    await advance(200);
    expect(said).toEqual([expect.stringContaining("is no longer sent")]);
    answer = before;
    expect(await permits(P)).toBe(false);
    expect(said.length).toBe(2);
    await advance(20_000);
    expect(said.length).toBe(2);
    answer = { ...before, configuration: "2" };
    await advance(5_000);
    expect(said.at(-1)).toBe("over");
    expect(await permits(P)).toBe(true);
  });

  it("is made again when the route underneath has changed", async () => {
    expect(await permits(P)).toBe(true);
    answer = audience([RA], {});
    harm.observe(P, true);
    await advance(300);
    underneath = "v";
    harm.underneathChanged();
    expect(said.at(-1)).toBe("over");
  });

  it("is compared again, and not blocked, when the route underneath changed between two looks", async () => {
    expect(await permits(P)).toBe(true);
    // the owner tags its prefix: neighbours hear that with and without the offer
    underneath = "tagged";
    answer = audience([RA, HUB], { [RA]: "1 path(s) 65000:100" });
    harm.observe(P, true);
    await advance(300);
    expect(said).toEqual([expect.stringContaining("with other attributes"), "over"]);
    expect(await permits(P)).toBe(true);
    harm.observe(P, true);
    await advance(5_000);
    expect(said).toHaveLength(2);
  });

  it("is noticed when the configuration changes while it is selected, and the next offer is compared again", async () => {
    expect(await permits(P)).toBe(true);
    harm.observe(P, true);
    await advance(2_000);
    expect(said).toEqual([]);
    answer = { ...audience([RA], {}), configuration: "2" };
    await advance(4_000);
    expect(said).toEqual([expect.stringContaining("is no longer sent"), "over"]);
    expect(await permits(P)).toBe(true);
  });

  it("that no neighbour notices costs two questions, and one each for many at a time", async () => {
    const many = Array.from({ length: 50 }, (_, i) => prefix(`10.3.${i}.0/24`));
    const permitted = many.map((p) => harm.permits(p));
    await advance(10);
    expect(await Promise.all(permitted)).toEqual(many.map(() => true));
    for (const p of many) harm.observe(p, true);
    await advance(1_500);
    expect(asked.map((a) => a.length)).toEqual([50, 50, 50]);
    expect(said).toEqual([]);
  });

  it("is made when the daemon does not answer, and that is reported", async () => {
    harm = new NeighbourGuard(
      { neighbourView: () => Promise.reject(new Error("no answer")) },
      clock,
      rules,
      { onBlocked: () => {}, onUnblocked: () => {}, onProblem: (text) => void said.push(text) },
      () => "",
    );
    expect(await permits(P)).toBe(true);
    expect(said).toEqual([expect.stringContaining("no answer")]);
  });
});
