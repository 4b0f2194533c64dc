/**
 * Runs a scenario: brings its site up, lets its script act while packets flow both ways, then
 * judges the limits of every step on the account of all packets. Writes NAME.json and NAME.svg. A
 * run whose script failed is judged and drawn too, as far as it came. A run that failed on a starved
 * machine is run again, as a whole (runner/retry.ts).
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { until } from "../../runner/lab.js";
import { describeRepetition, repeatedWhenStarved } from "../../runner/retry.js";
import type { Programs } from "../../site/shortcutd.js";
import { type Daemon, type RouterName, SPOKES, type Spoke } from "../../site/triangle.js";
import type { DirectionCount, DirectionPaths, Flows } from "../../traffic/flows.js";
import type { PathName } from "../../traffic/paths.js";
import { figures, slices } from "./account.js";
import { outcomeOf, type PathOutcome } from "./outcome.js";
import { plot } from "./plot.js";
import { type CheckResult, judge, type ScenarioReport, type StepResult } from "./report.js";
import type { Limits, Scenario, ScenarioRun, StepSpec } from "./scenario.js";
import { ScenarioSite } from "./site.js";

export interface ScenarioOptions {
  readonly topology: string;
  readonly daemons: Readonly<Record<RouterName, Daemon>>;
  readonly programs: Programs;
  /**
   * Directory for NAME.json, NAME.svg and a directory NAME with the logs of shortcutd; nothing is
   * written unless given.
   */
  readonly out?: string;
  readonly repeat?: number;
  readonly onLine?: (line: string) => void;
}

const RATE = 2_000;
const SIZE = 500;
const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Runs it, at most three times. @throws Error when the lab itself does not come up. */
export async function runScenario(scenario: Scenario, options: ScenarioOptions): Promise<ScenarioReport> {
  const say = options.onLine ?? (() => undefined);
  const { a, b, c } = options.daemons;
  say(`${scenario.name}: ${scenario.description}`);
  say(`${a} on A, ${b} on B (hub), ${c} on C`);
  const { value, repetitions, starvation } = await repeatedWhenStarved(
    () => new Running(scenario, options).tell(),
    {
      problem: ({ report }) => (report.failures.length === 0 ? undefined : report.failures.join("; ")),
      onRepeat: (r) => say(describeRepetition(r)),
    },
  );
  const report: ScenarioReport = {
    ...value.report,
    machine: { ...value.report.machine, late: round(starvation.late), pressure: round(starvation.pressure) },
    repetitions,
  };
  write(report, value.drawing, options);
  return report;
}

interface Begun {
  readonly spec: StepSpec;
  readonly at: number;
  readonly fullBuffers: number;
}

type Paths = readonly [DirectionPaths, DirectionPaths];
type Totals = readonly [DirectionCount, DirectionCount];

/** The data of the plot; undefined when the hosts gave no account of the paths. */
type Drawing = { readonly paths: Paths; readonly zero: number; readonly begun: readonly Begun[] } | undefined;

type AttemptReport = Omit<ScenarioReport, "repetitions" | "machine"> & {
  readonly machine: Pick<ScenarioReport["machine"], "processors" | "loadBefore">;
};

/** Loads the blocker, which is built beside this module, into each shortcutd. */
function blockable(programs: Programs): Programs {
  const blocker = join(dirname(programs.shortcutd), "../lab/plays/scenario/blocker.js");
  return { ...programs, nodeOptions: ["--import", blocker] };
}

const nameOf = (scenario: string, { daemons }: Pick<ScenarioOptions, "daemons">): string =>
  `${scenario}-${daemons.a}-${daemons.c}`;

/** One run of a scenario. */
class Running {
  readonly #started = new Date();
  readonly #since = performance.now();
  readonly #loadBefore = loadavg()[0] ?? Number.NaN;
  readonly #rate: number;
  readonly #size: number;
  readonly #begun: Begun[] = [];
  readonly #checks: CheckResult[] = [];
  readonly #figures: { name: string; value: string }[] = [];
  readonly #failures: string[] = [];
  /** When the traffic began; all times of the report count from there. */
  #zero = monotonic();

  constructor(
    private readonly scenario: Scenario,
    private readonly options: ScenarioOptions,
  ) {
    this.#rate = scenario.rate ?? RATE;
    this.#size = scenario.size ?? SIZE;
  }

  async tell(): Promise<{ readonly report: AttemptReport; readonly drawing: Drawing }> {
    const site = await this.#bringUp();
    try {
      const played = await this.#play(site);
      const { paths } = played;
      if (paths === undefined) this.#failures.push("the hosts gave no account of the paths");
      const steps = paths === undefined ? [] : this.#stepResults(paths, played.end, played.fullBuffers);
      for (const s of steps) this.#failures.push(...judge(s));
      for (const k of this.#checks)
        if (!k.holds) this.#failures.push(`does not hold: ${k.what} (${k.found})`);
      const drawing = paths === undefined ? undefined : { paths, zero: this.#zero, begun: this.#begun };
      return { report: this.#report(steps, played.totals), drawing };
    } finally {
      await site.down();
    }
  }

  #bringUp(): Promise<ScenarioSite> {
    const { scenario, options } = this;
    const logs = options.out === undefined ? undefined : join(options.out, nameOf(scenario.name, options));
    if (logs !== undefined) {
      rmSync(logs, { recursive: true, force: true });
      mkdirSync(logs, { recursive: true });
    }
    return ScenarioSite.up({
      topology: options.topology,
      daemons: options.daemons,
      programs: scenario.blockable === true ? blockable(options.programs) : options.programs,
      ...(scenario.configuration === undefined ? {} : { configuration: scenario.configuration }),
      ...(logs === undefined ? {} : { logs }),
    });
  }

  /**
   * Lets the script act while packets flow. A script that fails ends here, and its failure is kept.
   */
  async #play(site: ScenarioSite): Promise<{
    readonly end: number;
    readonly fullBuffers: number;
    readonly totals: Totals;
    readonly paths: Paths | undefined;
  }> {
    await site.startAll();
    // before the daemons had their routes, packets of the sites went by the default route
    const clearBefore = { a: await site.inTheClear("a"), c: await site.inTheClear("c") };
    this.#zero = monotonic();
    const flows: Flows = await site.counted(this.#rate, this.#size);
    const run = this.#scenarioRun(site);
    try {
      if (this.scenario.cold !== true)
        await run.step({ name: "traffic begins", ends: "direct", act: async () => undefined });
      await this.scenario.script(run);
      await this.#checkClear(site, clearBefore);
    } catch (e) {
      this.#failures.push(messageOf(e));
    }
    const end = monotonic();
    const fullBuffers = site.fullBuffers();
    const totals = await flows.stop();
    return { end, fullBuffers, totals, paths: flows.paths() };
  }

  async #checkClear(site: ScenarioSite, before: Readonly<Record<Spoke, number>>): Promise<void> {
    for (const s of SPOKES) {
      const clear = (await site.inTheClear(s)) - before[s];
      const name = s.toUpperCase();
      this.#check(`${name} sent no packet between the sites in the clear`, clear === 0, `${clear}`);
    }
  }

  #scenarioRun(site: ScenarioSite): ScenarioRun {
    return {
      site,
      daemons: this.options.daemons,
      repeat: this.options.repeat ?? 20,
      check: (what, holds, found) => this.#check(what, holds, found),
      becomes: (what, ms, holds) => this.#waitFor(what, ms, holds),
      figure: (name, value) => this.#figure(name, value),
      step: (spec) => this.#step(site, spec),
    };
  }

  async #step(site: ScenarioSite, spec: StepSpec): Promise<void> {
    const at = monotonic();
    this.#begun.push({ spec, at, fullBuffers: site.fullBuffers() });
    this.#say(`${`+${((at - this.#zero) / 1000).toFixed(1)} s`.padStart(9)}  ${spec.name}`);
    await spec.act();
    if (spec.lasts !== undefined) await site.run(spec.lasts, this.#rate);
    await site.untilWays(spec.ends, spec.patience ?? 30_000);
    await site.run(spec.dwell ?? 1_000, this.#rate);
  }

  #check(what: string, holds: boolean, found = ""): void {
    this.#checks.push({ what, holds, found });
    this.#say(`  ${holds ? "holds" : "DOES NOT HOLD"}: ${what}${found === "" ? "" : ` (${found})`}`);
  }

  async #waitFor(what: string, ms: number, holds: () => Promise<boolean>): Promise<void> {
    const from = performance.now();
    try {
      await until(what, ms, holds, 100);
      this.#check(what, true, `after ${((performance.now() - from) / 1000).toFixed(1)} s`);
    } catch (e) {
      this.#check(what, false, messageOf(e));
    }
  }

  #figure(name: string, value: string): void {
    this.#figures.push({ name, value });
    this.#say(`  ${name}: ${value}`);
  }

  /** The figures of every step, which ends where the next one begins. */
  #stepResults(paths: Paths, end: number, fullBuffers: number): StepResult[] {
    return this.#begun.map(({ spec, at, fullBuffers: before }, i): StepResult => {
      const next = this.#begun[i + 1];
      const to = next?.at ?? end;
      const ends = [outcomeOf(spec.ends, 0), outcomeOf(spec.ends, 1)] as const;
      return {
        name: spec.name,
        at: round((at - this.#zero) / 1000),
        ends,
        limits: limitsOf(spec),
        // an interface that is deleted takes its counters along
        fullBuffers: Math.max(0, (next?.fullBuffers ?? fullBuffers) - before),
        directions: [figures(paths[0], at, to, wayOf(ends[0])), figures(paths[1], at, to, wayOf(ends[1]))],
      };
    });
  }

  #report(steps: readonly StepResult[], totals: Totals): AttemptReport {
    return {
      format: 1,
      name: this.scenario.name,
      description: this.scenario.description,
      result: this.#failures.length === 0 ? "ok" : "failed",
      daemons: this.options.daemons,
      started: this.#started.toISOString(),
      seconds: round((performance.now() - this.#since) / 1000),
      machine: { processors: cpus().length, loadBefore: round(this.#loadBefore) },
      packetsPerSecond: this.#rate,
      bytes: this.#size,
      steps,
      checks: this.#checks,
      figures: this.#figures,
      totals: totals.map(({ sent, received, lost, duplicated, reordered, kernelDrops }) => ({
        sent,
        received,
        lost,
        duplicated,
        reordered,
        kernelDrops,
      })),
      failures: this.#failures,
    };
  }

  #say(line: string): void {
    this.options.onLine?.(line);
  }
}

/** Writes the report, and the plot when there is an account to draw, when a directory was given. */
function write(report: ScenarioReport, drawing: Drawing, options: ScenarioOptions): void {
  const { out } = options;
  if (out === undefined) return;
  const { a, c } = report.daemons;
  const name = nameOf(report.name, report);
  writeFileSync(join(out, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
  if (drawing === undefined) return;
  const { paths, zero, begun } = drawing;
  writeFileSync(
    join(out, `${name}.svg`),
    plot({
      title: `${report.name}: ${report.description}`,
      subtitle: `${a} on A, ${c} on C, ${report.packetsPerSecond} packets/s each way; packets by the time at which they were sent`,
      zero,
      directions: [
        { name: "host-a to host-c", slices: slices(paths[0]) },
        { name: "host-c to host-a", slices: slices(paths[1]) },
      ],
      events: begun.map(({ spec, at }) => ({ at, name: spec.name })),
    }),
  );
}

const round = (n: number): number => Math.round(n * 100) / 100;

const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

const wayOf = (o: PathOutcome): PathName | undefined => (o === "any" ? undefined : o);

const limitsOf = (s: StepSpec): Limits => ({
  ...(s.lost === undefined ? {} : { lost: s.lost }),
  ...(s.duplicated === undefined ? {} : { duplicated: s.duplicated }),
  ...(s.within === undefined ? {} : { within: s.within }),
});
