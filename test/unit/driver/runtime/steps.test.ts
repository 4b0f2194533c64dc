/** Bring-up and take-down are one list: backwards through what was begun, also after a failure half way, and past failing steps. */
import { describe, expect, it } from "vitest";
import { type Step, Steps } from "../../../../plugin/driver/runtime/steps.js";

const noted = (fails: readonly string[] = []) => {
  const done: string[] = [];
  const errors: string[] = [];
  const act = (what: string) => async (): Promise<void> => {
    done.push(what);
    if (fails.includes(what)) throw new Error(`${what} failed`);
  };
  const list: Step[] = ["socket", "interface", "session"].map((place) => ({
    place,
    up: act(`+${place}`),
    down: act(`-${place}`),
  }));
  list.splice(1, 0, { place: "leftovers", up: act("+leftovers") }, { place: "routes", down: act("-routes") });
  return { done, errors, steps: new Steps(list, (e) => errors.push(e.message)) };
};

const UP = ["+socket", "+leftovers", "+interface", "+session"];

describe("a list of steps", () => {
  it("is taken in order, and undone in reverse", async () => {
    const { done, steps } = noted();
    await steps.up();
    expect(done).toEqual(UP);
    await steps.down();
    expect(done.slice(UP.length)).toEqual(["-session", "-interface", "-routes", "-socket"]);
  });

  it("stops at a failure; what was begun is undone, the failed step too, and nothing else", async () => {
    const { done, steps } = noted(["+interface"]);
    await expect(steps.up()).rejects.toThrow("+interface failed");
    await steps.down();
    expect(done).toEqual(["+socket", "+leftovers", "+interface", "-interface", "-routes", "-socket"]);
  });

  it("reports a failing undoing, and goes on with the next", async () => {
    const { done, errors, steps } = noted(["-interface"]);
    await steps.up();
    await steps.down();
    expect(done.at(-1)).toBe("-socket");
    expect(errors).toEqual(["interface: -interface failed"]);
  });

  it("is undone once", async () => {
    const { done, steps } = noted();
    await steps.up();
    await steps.down();
    const before = done.length;
    await steps.down();
    expect(done).toHaveLength(before);
  });

  it("that was never begun is not undone", async () => {
    const { done, steps } = noted();
    await steps.down();
    expect(done).toEqual([]);
  });
});
