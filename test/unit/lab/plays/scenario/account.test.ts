/** From packets to the figures of a scenario. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { figures, slices, widen } from "../../../../../lab/plays/scenario/account.js";
import { judge, type StepResult } from "../../../../../lab/plays/scenario/report.js";
import type { DirectionPaths } from "../../../../../lab/traffic/flows.js";
import { PathAccount, type PathName, SentAccount } from "../../../../../lab/traffic/paths.js";

interface Sent {
  /** Milliseconds. */
  readonly at: number;
  readonly way: PathName | "lost";
  readonly copies?: number;
}

const WIDTH = 10;

/**
 * Makes the accounts of sender and receiver for these packets, which are numbered in this order.
 */
function flow(packets: readonly Sent[]): DirectionPaths {
  const sent = new SentAccount(WIDTH);
  const received = new PathAccount(1, WIDTH);
  for (const [number, p] of packets.entries()) {
    const at = BigInt(Math.round(p.at * 1e6));
    sent.send(at);
    if (p.way === "lost") continue;
    for (let i = 0; i < (p.copies ?? 1); i++) received.arrive(number, at, p.way, i === 0);
  }
  return { width: WIDTH, sent: sent.read(), received: received.read() };
}

/** One packet per millisecond. */
const every = (from: number, to: number, way: Sent["way"]): Sent[] =>
  Array.from({ length: to - from }, (_, i) => ({ at: from + i, way }));

describe("the account of a step", () => {
  const cut = flow([
    ...every(1000, 1100, "direct"),
    ...every(1100, 1380, "lost"),
    ...every(1380, 2000, "hub"),
  ]);

  it("says when the hub path was taken, and what was lost until then", () => {
    expect(figures(cut, 1100, 2000, "hub")).toEqual({
      sent: 900,
      lost: 280,
      duplicated: 0,
      settled: 280,
      outage: 280,
      lostAfter: 0,
    });
    expect(figures(cut, 1000, 2000, "hub").lostAfter).toBe(100);
  });

  it("knows no settled path when packets are not on it in the end", () => {
    expect(figures(cut, 1100, 2000, "direct").settled).toBeUndefined();
    expect(figures(cut, 1100, 1300, "hub").settled).toBeUndefined();
  });

  it("takes the last change for the one that counts: a path that is left again is not settled", () => {
    const flapping = flow([
      ...every(0, 100, "direct"),
      ...every(100, 150, "hub"),
      ...every(150, 300, "direct"),
      ...every(300, 400, "hub"),
    ]);
    expect(figures(flapping, 100, 400, "hub").settled).toBe(200);
  });

  it("is zero when the packets were on the path before and stayed", () => {
    expect(figures(cut, 1500, 2000, "hub")).toMatchObject({
      settled: 0,
      lost: 0,
      outage: 0,
      lostAfter: undefined,
    });
  });

  it("counts an outage when the path before it and after it is the same", () => {
    const gap = flow([...every(0, 100, "direct"), ...every(100, 180, "lost"), ...every(180, 300, "direct")]);
    expect(figures(gap, 100, 300, "direct")).toMatchObject({ settled: 80, lost: 80 });
  });

  it("knows no path when nothing arrived in the step", () => {
    const dead = flow([...every(0, 100, "direct"), ...every(100, 300, "lost")]);
    expect(figures(dead, 150, 300, "direct").settled).toBeUndefined();
  });

  it("counts copies apart from losses, by the time of sending", () => {
    const twice = flow([
      { at: 5, way: "hub", copies: 3 },
      { at: 25, way: "lost" },
      { at: 45, way: "hub" },
    ]);
    expect(slices(twice)).toEqual([
      { at: 0, sent: 1, hub: 1, direct: 0, lost: 0, duplicated: 2 },
      { at: 20, sent: 1, hub: 0, direct: 0, lost: 1, duplicated: 0 },
      { at: 40, sent: 1, hub: 1, direct: 0, lost: 0, duplicated: 0 },
    ]);
  });

  it("does not take a reordered packet for a change of path", () => {
    const account = new PathAccount(1, WIDTH);
    account.arrive(0, 1_000_000n, "hub", true);
    account.arrive(2, 3_000_000n, "direct", true);
    account.arrive(1, 2_000_000n, "hub", true);
    expect(account.latest).toBe("direct");
    expect(account.read().changes.map((c) => [c.number, c.path])).toEqual([
      [0, "hub"],
      [2, "direct"],
    ]);
  });

  it("loses no packet, whatever the events: the steps' sums are the whole's", () => {
    const packet = fc.record({
      at: fc.integer({ min: 0, max: 5_000 }),
      way: fc.constantFrom<Sent["way"]>("hub", "direct", "lost"),
    });
    const events = fc.uniqueArray(fc.integer({ min: 1, max: 4_999 }), { maxLength: 5 });
    fc.assert(
      fc.property(fc.array(packet), events, (packets, cuts) => {
        const paths = flow([...packets].sort((a, b) => a.at - b.at));
        const edges = [0, ...cuts.sort((a, b) => a - b), 6_000];
        const steps = edges.slice(1).map((to, i) => figures(paths, edges[i] ?? 0, to, undefined));
        expect(steps.reduce((n, s) => n + s.sent, 0)).toBe(packets.length);
        expect(steps.reduce((n, s) => n + s.lost, 0)).toBe(packets.filter((p) => p.way === "lost").length);
        const wide = widen(slices(paths), 100);
        expect(wide.reduce((n, s) => n + s.sent, 0)).toBe(packets.length);
      }),
    );
  });
});

describe("the limits of a step", () => {
  const good = { sent: 1, lost: 0, duplicated: 0, settled: 100, outage: 0, lostAfter: undefined };
  const step = (c: { lost?: number; duplicated?: number; settled?: number | undefined }): StepResult => ({
    name: "cut",
    at: 0,
    ends: ["hub", "hub"],
    limits: { lost: 10, duplicated: 0, within: 500 },
    fullBuffers: 0,
    directions: [good, { ...good, ...c, settled: "settled" in c ? c.settled : good.settled }],
  });

  it("hold", () => {
    expect(judge(step({ lost: 10, settled: 500 }))).toEqual([]);
  });

  it.each([
    [{ lost: 11 }, "11 packets lost, allowed 10"],
    [{ duplicated: 1 }, "1 packets twice, allowed 0"],
    [{ settled: 501 }, "on the hub path after 501 ms, allowed 500"],
    [{ settled: undefined }, "not on the hub path in the end"],
  ])("name what does not: %j", (figure, problem) => {
    expect(judge(step(figure))).toEqual([`cut, C to A: ${problem}`]);
  });

  it("allow what the machine's own full buffers lost, and say so when it was more", () => {
    expect(judge({ ...step({ lost: 15 }), fullBuffers: 5 })).toEqual([]);
    expect(judge({ ...step({ lost: 16 }), fullBuffers: 5 })).toEqual([
      "cut, C to A: 16 packets lost, allowed 10 and 5 in full buffers of the machine",
    ]);
  });

  it("do not bind a direction that is not for shortcutd to say", () => {
    expect(judge({ ...step({ lost: 99, settled: undefined }), ends: ["hub", "any"] })).toEqual([]);
  });
});
