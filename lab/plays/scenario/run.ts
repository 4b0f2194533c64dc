/**
 * Runs a scenario: brings its site up, lets its script act while packets flow both ways, then judges the limits of every step on the account
 * of all packets. Writes NAME.json and NAME.svg. A run whose script failed is judged and drawn too, as far as it came.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { until } from "../../runner/lab.js";
import type { Programs } from "../../site/shortcutd.js";
import { type Daemon, type Router, SPOKES } from "../../site/triangle.js";
import type { PathName } from "../../traffic/paths.js";
import type { DirectionReport } from "../story/report.js";
import { figures, type StepFigures, slices } from "./account.js";
import { plot } from "./plot.js";
import {
  type Limits,
  type Outcome,
  outcomeOf,
  type Scenario,
  type Stage,
  type StepSpec,
} from "./scenario.js";
import { ScenarioSite } from "./site.js";

export interface ScenarioOptions {
  readonly topology: string;
  readonly daemons: Readonly<Record<Router, Daemon>>;
  readonly programs: Programs;
  /** Directory for NAME.json, NAME.svg and a directory NAME with the logs of shortcutd; nothing is written unless given. */
  readonly out?: string;
  readonly repeat?: number;
  readonly onLine?: (line: string) => void;
}

export interface StepResult {
  readonly name: string;
  /** Seconds since the traffic began. */
  readonly at: number;
  /** A to C, C to A. */
  readonly ends: readonly [Outcome, Outcome];
  readonly limits: Limits;
  /** Packets of all kinds that full buffers of this machine dropped meanwhile (`ScenarioSite.fullBuffers`): no router's decision. */
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
  readonly daemons: Readonly<Record<Router, Daemon>>;
  readonly started: string;
  readonly seconds: number;
  /** What the machine did besides: processors, and the load average of the minute before. */
  readonly machine: { readonly processors: number; readonly loadBefore: number };
  readonly packetsPerSecond: number;
  readonly bytes: number;
  readonly steps: readonly StepResult[];
  readonly checks: readonly CheckResult[];
  readonly figures: readonly { readonly name: string; readonly value: string }[];
  /** A to C, C to A, over the whole run. `kernelDrops` were lost in a receiving host's socket buffer and are contained in `lost`. */
  readonly totals: readonly Omit<DirectionReport, "from" | "to">[];
  readonly failures: readonly string[];
}

const RATE = 2_000;
const SIZE = 500;
const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;

interface Begun {
  readonly spec: StepSpec;
  readonly at: number;
  readonly fullBuffers: number;
}

/** With the blocker, which is built beside this module. */
function blockable(programs: Programs): Programs {
  const blocker = join(dirname(programs.shortcutd), "../lab/plays/scenario/blocker.js");
  return { ...programs, nodeOptions: ["--import", blocker] };
}

export async function runScenario(scenario: Scenario, options: ScenarioOptions): Promise<ScenarioReport> {
  const started = new Date();
  const since = performance.now();
  const loadBefore = loadavg()[0] ?? Number.NaN;
  const say = options.onLine ?? (() => undefined);
  const rate = scenario.rate ?? RATE;
  const begun: Begun[] = [];
  const checks: CheckResult[] = [];
  const said: { name: string; value: string }[] = [];
  const failures: string[] = [];
  const { out } = options;
  const { a, b, c } = options.daemons;
  const name = `${scenario.name}-${a}-${c}`;
  const logs = out === undefined ? undefined : join(out, name);
  if (logs !== undefined) {
    rmSync(logs, { recursive: true, force: true });
    mkdirSync(logs, { recursive: true });
  }
  say(`${scenario.name}: ${scenario.description}`);
  say(`${a} on A, ${b} on B (hub), ${c} on C`);
  const site = await ScenarioSite.up({
    topology: options.topology,
    daemons: options.daemons,
    programs: scenario.blockable === true ? blockable(options.programs) : options.programs,
    ...(scenario.configuration === undefined ? {} : { configuration: scenario.configuration }),
    ...(logs === undefined ? {} : { logs }),
  });
  let zero = monotonic();
  const check = (what: string, holds: boolean, found = ""): void => {
    checks.push({ what, holds, found });
    say(`  ${holds ? "holds" : "DOES NOT HOLD"}: ${what}${found === "" ? "" : ` (${found})`}`);
  };
  const stage: Stage = {
    site,
    daemons: options.daemons,
    repeat: options.repeat ?? 20,
    check,
    becomes: async (what, ms, holds) => {
      const from = performance.now();
      try {
        await until(what, ms, holds, 100);
        check(what, true, `after ${((performance.now() - from) / 1000).toFixed(1)} s`);
      } catch (e) {
        check(what, false, e instanceof Error ? e.message : String(e));
      }
    },
    figure: (name, value) => {
      said.push({ name, value });
      say(`  ${name}: ${value}`);
    },
    step: async (spec) => {
      const at = monotonic();
      begun.push({ spec, at, fullBuffers: site.fullBuffers() });
      say(`${`+${((at - zero) / 1000).toFixed(1)} s`.padStart(9)}  ${spec.name}`);
      await spec.act();
      if (spec.lasts !== undefined) await site.run(spec.lasts, rate);
      await site.untilWays(spec.ends, spec.patience ?? 30_000);
      await site.run(spec.dwell ?? 1_000, rate);
    },
  };
  try {
    await site.startAll();
    // before the daemons had their routes, packets of the sites went by the default route
    const clearBefore = { a: await site.inTheClear("a"), c: await site.inTheClear("c") };
    zero = monotonic();
    const flows = await site.counted(rate, scenario.size ?? SIZE);
    try {
      if (scenario.cold !== true)
        await stage.step({ name: "traffic begins", ends: "direct", act: async () => undefined });
      await scenario.script(stage);
      for (const s of SPOKES) {
        const clear = (await site.inTheClear(s)) - clearBefore[s];
        if (scenario.unrouted?.includes(s) !== true)
          check(`${s.toUpperCase()} sent no packet between the sites in the clear`, clear === 0, `${clear}`);
        else stage.figure(`sent by ${s.toUpperCase()} in the clear, without a route`, String(clear));
      }
    } catch (e) {
      failures.push(e instanceof Error ? e.message : String(e));
    }
    const end = monotonic();
    const fullBuffers = site.fullBuffers();
    const totals = await flows.stop();
    const paths = flows.paths();
    if (paths === undefined) failures.push("the hosts gave no account of the paths");
    const steps = begun.flatMap(({ spec, at, fullBuffers: before }, i): StepResult[] => {
      if (paths === undefined) return [];
      const to = begun[i + 1]?.at ?? end;
      return [
        {
          name: spec.name,
          at: round((at - zero) / 1000),
          ends: [outcomeOf(spec.ends, 0), outcomeOf(spec.ends, 1)],
          limits: limitsOf(spec),
          // an interface that goes takes its counters along
          fullBuffers: Math.max(0, (begun[i + 1]?.fullBuffers ?? fullBuffers) - before),
          directions: [
            figures(paths[0], at, to, wayOf(outcomeOf(spec.ends, 0))),
            figures(paths[1], at, to, wayOf(outcomeOf(spec.ends, 1))),
          ],
        },
      ];
    });
    for (const s of steps) failures.push(...judge(s));
    failures.push(...checks.filter((k) => !k.holds).map((k) => `does not hold: ${k.what} (${k.found})`));
    const report: ScenarioReport = {
      format: 1,
      name: scenario.name,
      description: scenario.description,
      result: failures.length === 0 ? "ok" : "failed",
      daemons: options.daemons,
      started: started.toISOString(),
      seconds: round((performance.now() - since) / 1000),
      machine: { processors: cpus().length, loadBefore: round(loadBefore) },
      packetsPerSecond: rate,
      bytes: scenario.size ?? SIZE,
      steps,
      checks,
      figures: said,
      totals: totals.map(({ sent, received, lost, duplicated, reordered, kernelDrops }) => ({
        sent,
        received,
        lost,
        duplicated,
        reordered,
        kernelDrops,
      })),
      failures,
    };
    if (out !== undefined) {
      writeFileSync(join(out, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
      if (paths !== undefined)
        writeFileSync(
          join(out, `${name}.svg`),
          plot({
            title: `${scenario.name}: ${scenario.description}`,
            subtitle: `${a} on A, ${c} on C, ${rate} packets/s each way; packets by the time at which they were sent`,
            zero,
            directions: [
              { name: "host-a to host-c", slices: slices(paths[0]) },
              { name: "host-c to host-a", slices: slices(paths[1]) },
            ],
            events: begun.map(({ spec, at }) => ({ at, name: spec.name })),
          }),
        );
    }
    return report;
  } finally {
    await site.down();
  }
}

const round = (n: number): number => Math.round(n * 100) / 100;

const wayOf = (o: Outcome): PathName | undefined => (o === "any" ? undefined : o);

const limitsOf = (s: StepSpec): Limits => ({
  ...(s.lost === undefined ? {} : { lost: s.lost }),
  ...(s.duplicated === undefined ? {} : { duplicated: s.duplicated }),
  ...(s.within === undefined ? {} : { within: s.within }),
});

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
