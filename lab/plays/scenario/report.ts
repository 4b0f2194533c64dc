/**
 * Holds what a run of a scenario found, as values, and judges its steps. `lab/out/NAME.json` is a
 * report as it stands here.
 */
import type { Repetition } from "../../runner/retry.js";
import type { Daemon, RouterName } from "../../site/triangle.js";
import type { DirectionTotal } from "../../traffic/flows.js";
import type { StepFigures } from "./account.js";
import type { PathOutcome } from "./outcome.js";
import type { Limits } from "./scenario.js";

export interface StepResult {
  readonly name: string;
  /** Seconds since the traffic began. */
  readonly at: number;
  /** A to C, C to A. */
  readonly ends: readonly [PathOutcome, PathOutcome];
  readonly limits: Limits;
  /**
   * Packets of all kinds that full buffers of this machine dropped meanwhile
   * (`ScenarioSite.fullBuffers`): no router decided that.
   */
  readonly fullBuffers: number;
  /** A to C, C to A. */
  readonly directions: readonly [StepFigures, StepFigures];
}

export interface CheckResult {
  readonly what: string;
  readonly holds: boolean;
  readonly found: string;
}

export interface ScenarioReport {
  readonly format: 1;
  readonly name: string;
  readonly description: string;
  readonly result: "ok" | "failed";
  readonly daemons: Readonly<Record<RouterName, Daemon>>;
  readonly started: string;
  readonly seconds: number;
  /**
   * The machine: its processors, the load average of the minute before, and how starved it was
   * meanwhile.
   */
  readonly machine: {
    readonly processors: number;
    readonly loadBefore: number;
    /** Milliseconds by which the latest wake-up of a thread was late. */
    readonly late: number;
    /** Share of the busiest second in which a task waited for a processor, 0 to 1. */
    readonly pressure: number;
  };
  /**
   * Attempts before this one, which failed while the machine was starved; empty when this was the
   * first.
   */
  readonly repetitions: readonly Repetition[];
  readonly packetsPerSecond: number;
  readonly bytes: number;
  readonly steps: readonly StepResult[];
  readonly checks: readonly CheckResult[];
  readonly figures: readonly { readonly name: string; readonly value: string }[];
  /**
   * A to C, C to A, over the whole run. `kernelDrops` were lost in a receiving host's socket buffer
   * and are contained in `lost`.
   */
  readonly totals: readonly Omit<DirectionTotal, "from" | "to">[];
  readonly failures: readonly string[];
}

/** Every limit of a step that does not hold, in words. */
export function judge(step: StepResult): string[] {
  const { limits } = step;
  return step.directions.flatMap((d, i) => {
    const way = i === 0 ? "A to C" : "C to A";
    const wanted = step.ends[i === 0 ? 0 : 1];
    if (wanted === "any") return [];
    const out: string[] = [];
    const say = (text: string): void => void out.push(`${step.name}, ${way}: ${text}`);
    if (d.settled === undefined) say(`not on the ${wanted} path in the end`);
    else if (limits.within !== undefined && d.settled > limits.within)
      say(`on the ${wanted} path after ${d.settled.toFixed(0)} ms, allowed ${limits.within}`);
    if (limits.lost !== undefined && d.lost > limits.lost + step.fullBuffers) {
      const machine = step.fullBuffers === 0 ? "" : ` and ${step.fullBuffers} in full buffers of the machine`;
      say(`${d.lost} packets lost, allowed ${limits.lost}${machine}`);
    }
    if (limits.duplicated !== undefined && d.duplicated > limits.duplicated)
      say(`${d.duplicated} packets twice, allowed ${limits.duplicated}`);
    return out;
  });
}
