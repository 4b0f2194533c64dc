/**
 * A scenario: its name, a line that says what it is about, and a script of steps on a running site.
 * A step is something that happens and what is to follow, with limits; the limits are judged after
 * the end, on the account of all packets (account.ts).
 */

import type { SiteOptions } from "../../site/site.js";
import type { Daemon, RouterName } from "../../site/triangle.js";
import type { PathOutcomes } from "./outcome.js";
import type { ScenarioSite } from "./site.js";

export interface Limits {
  /** Packets lost each way at most. */
  readonly lost?: number;
  readonly duplicated?: number;
  /** Milliseconds from the event to the first packet on the way that is to follow. */
  readonly within?: number;
}

export interface StepSpec extends Limits {
  /** As it is written into the plot. */
  readonly name: string;
  /** The way that packets take in the end. */
  readonly ends: PathOutcomes;
  /** How long to wait for that; 30 s unless given. */
  readonly patience?: number;
  /** How long the traffic goes on there before the next step; 1 s unless given. */
  readonly dwell?: number;
  readonly act: () => Promise<unknown>;
  /** Holds before `ends` is looked at, for something that lasts: milliseconds. */
  readonly lasts?: number;
}

/** The means of a script. */
export interface ScenarioRun {
  readonly site: ScenarioSite;
  readonly daemons: Readonly<Record<RouterName, Daemon>>;
  /** How often something that is repeated is repeated. */
  readonly repeat: number;
  step(spec: StepSpec): Promise<void>;
  /**
   * A fact of the kernel, or of what an operator reads, that has to hold; what was found is kept.
   */
  check(what: string, holds: boolean, found?: string): void;
  /** The same, waited for. */
  becomes(what: string, ms: number, holds: () => Promise<boolean>): Promise<void>;
  /** A figure to be printed. */
  figure(name: string, value: string): void;
}

export interface Scenario {
  readonly name: string;
  readonly description: string;
  /** Daemons of the spokes on which it makes sense; all unless given. */
  readonly only?: Daemon;
  /** Top-level keys of shortcutd.yaml, in place of or beside the lab's. */
  readonly configuration?: SiteOptions["configuration"];
  /** Packets per second each way of the flow that is counted; 2,000 unless given. */
  readonly rate?: number;
  /** Bytes of its UDP payload; 500 unless given. */
  readonly size?: number;
  /** The script itself starts what is needed to go direct. */
  readonly cold?: boolean;
  /** SIGUSR2 keeps the event loop of a shortcutd busy for a second (blocker.ts). */
  readonly blockable?: boolean;
  readonly script: (run: ScenarioRun) => Promise<void>;
}

/** A scenario of nothing but steps, one after another. */
export const inTurn = (
  name: string,
  description: string,
  steps: (site: ScenarioSite) => readonly StepSpec[],
): Scenario => ({
  name,
  description,
  script: async (run) => {
    for (const s of steps(run.site)) await run.step(s);
  },
});
