/**
 * Shows what the canary takes for starvation, and that only what failed on a starved machine is
 * repeated, twice at most.
 */
import { describe, expect, it } from "vitest";
import {
  Canary,
  isStarved,
  LATE_BOUND,
  PRESSURE_BOUND,
  SLOT_MS,
  type Starvation,
  StarvationRing,
} from "../../../../lab/runner/canary.js";
import { type Repetition, repeatedWhenStarved } from "../../../../lab/runner/retry.js";
import { until } from "../../../../lab/runner/wait.js";

const quiet: Starvation = { late: 3, pressure: 0.2 };
const starved: Starvation = { late: LATE_BOUND + 1, pressure: 0 };

/** A canary that says these, one after the other. */
const saying = (...seen: Starvation[]) => ({ now: () => 0, since: () => seen.shift() ?? quiet });

/** Fails `failures` times, then returns how often it was called. */
function failing(failures: number) {
  const calls = { n: 0 };
  const attempt = async (): Promise<number> => {
    calls.n++;
    if (calls.n <= failures) throw new Error(`failure ${calls.n}`);
    return calls.n;
  };
  return { calls, attempt };
}

describe("a step", () => {
  it("that succeeds is not repeated, however starved the machine was", async () => {
    const { attempt } = failing(0);
    const r = await repeatedWhenStarved(attempt, { canary: saying(starved) });
    expect(r).toEqual({ value: 1, repetitions: [], starvation: starved });
  });

  it("that fails on a machine with time to spare has failed", async () => {
    const { calls, attempt } = failing(1);
    await expect(repeatedWhenStarved(attempt, { canary: saying(quiet) })).rejects.toThrow(/^failure 1$/);
    expect(calls.n).toBe(1);
  });

  it("that fails on a starved machine is repeated, and every repetition is said", async () => {
    const { attempt } = failing(2);
    const said: Repetition[] = [];
    const r = await repeatedWhenStarved(attempt, {
      canary: saying(starved, starved, quiet),
      onRepeat: (x) => said.push(x),
    });
    expect(r.value).toBe(3);
    expect(said.map((x) => x.problem)).toEqual(["failure 1", "failure 2"]);
    expect(r.repetitions).toEqual(said);
    expect(said[0]?.starvation).toContain(`${LATE_BOUND + 1} ms late`);
  });

  it("is repeated twice and no more, and its error says so", async () => {
    const { calls, attempt } = failing(9);
    const canary = saying(starved, starved, starved, starved);
    await expect(repeatedWhenStarved(attempt, { canary })).rejects.toThrow(
      /^failure 3\n\(after 2 repetitions: .*failure 1.*failure 2\)$/,
    );
    expect(calls.n).toBe(3);
  });

  it("may fail by its result: that is judged the same way", async () => {
    let n = 0;
    const attempt = async (): Promise<string> => (++n === 1 ? "bad" : "good");
    const problem = (v: string): string | undefined => (v === "bad" ? "it was bad" : undefined);
    const r = await repeatedWhenStarved(attempt, { canary: saying(starved, quiet), problem });
    expect(r.value).toBe("good");
    expect(r.repetitions.map((x) => x.problem)).toEqual(["it was bad"]);
    n = 0;
    const kept = await repeatedWhenStarved(attempt, { canary: saying(quiet), problem });
    expect(kept).toMatchObject({ value: "bad", repetitions: [] });
  });
});

describe("starvation", () => {
  it("is one late wake-up or one busy second above the bounds, and nothing below them", () => {
    expect(isStarved({ late: LATE_BOUND, pressure: PRESSURE_BOUND })).toBe(false);
    expect(isStarved({ late: LATE_BOUND + 1, pressure: 0 })).toBe(true);
    expect(isStarved({ late: 0, pressure: PRESSURE_BOUND + 0.01 })).toBe(true);
  });

  /**
   * A ring whose slots from 100 on have this lateness, and waiting time that grows by this much per
   * slot.
   */
  function ring(late: readonly number[], waitedPerSlot: number): StarvationRing {
    const r = new StarvationRing();
    const slots = (r.values.length - 1) / 2;
    for (const [i, ms] of late.entries()) {
      r.values[1 + 100 + i] = ms;
      r.values[1 + slots + 100 + i] = 1 + i * waitedPerSlot;
    }
    return r;
  }
  const at = (slot: number): number => slot * SLOT_MS;

  it("is looked for only in the span asked for", () => {
    const r = ring([0, 0, 400, 0, 0, 0], 0);
    expect(r.between(at(100), at(105)).late).toBe(400);
    expect(r.between(at(103), at(105)).late).toBe(0);
    expect(r.between(at(100), at(101)).late).toBe(0);
  });

  it("of a second is the waiting time of that second, and needs a whole one", () => {
    const r = ring(Array(30).fill(0), SLOT_MS * 0.95);
    expect(r.between(at(100), at(129)).pressure).toBeCloseTo(0.95);
    expect(r.between(at(100), at(105)).pressure).toBe(0);
  });

  it("counts a wake-up that has not come yet", () => {
    const r = new StarvationRing();
    r.values[0] = at(100);
    expect(r.between(at(99), at(100) + 700).late).toBe(700);
  });

  it("is noticed by the thread: a machine that runs wakes it, and it is never late by less than nothing", async () => {
    const canary = Canary.get();
    const since = canary.now();
    await until("the thread has been woken for a second", 30_000, () => canary.now() - since > 1_500);
    const seen = canary.since(since);
    expect(seen.late).toBeGreaterThan(0);
    expect(seen.late).toBeLessThan(30_000);
    expect(seen.pressure).toBeGreaterThanOrEqual(0);
    expect(seen.pressure).toBeLessThanOrEqual(1);
  });
});
