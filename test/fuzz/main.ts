/**
 * Runs one fuzz target for a time, guided by coverage: an input that runs code that no input has run before joins the
 * pool that further inputs are made from. At the end the pool is reduced to what is needed for the same coverage,
 * and written to the corpus.
 *
 *     npm run fuzz -- TARGET SECONDS [--seed N] [--plain] [--keep]
 *
 * `--plain` measures no coverage, which is several times as fast. `--keep` leaves the corpus as it is.
 */
import { writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { corpusOf, writeCorpus } from "./corpus.js";
import { Coverage } from "./coverage.js";
import { describeFailure, type Failure, failureOf, Inputs, shortened } from "./loop.js";
import type { Target } from "./target.js";
import { targets } from "./targets.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seed: { type: "string" }, plain: { type: "boolean" }, keep: { type: "boolean" } },
});
const [name, time] = positionals;
const seconds = Number(time);
const named = targets.filter((t) => t.name === name || name === "all");

const say = (text: string): void => void writeSync(1, `${text}\n`);

if (named.length === 0 || !(seconds > 0)) {
  say("npm run fuzz -- TARGET SECONDS [--seed N] [--plain] [--keep]");
  say(`targets: all ${targets.map((t) => t.name).join(" ")}`);
  process.exit(2);
}
const seed = Number(values.seed ?? Date.now() % 2 ** 32);

/** Inputs between two looks at the coverage: more, while nothing new is found. */
const LEAST_BATCH = 16;
const MOST_BATCH = 8192;
/** Bytes of all inputs of one corpus file. */
const MOST_KEPT = 8192;

/** Whether the files of the program itself count; the code of the fuzzer does not. */
const concerns = (url: string): boolean => url.includes("/dist/plugin/");

class Run {
  inputs = 0;
  failure: Failure | undefined;
  private readonly pool: Uint8Array[];
  private readonly made: Inputs;
  private readonly coverage: Coverage | undefined;
  private batch = LEAST_BATCH;

  constructor(private readonly target: Target) {
    this.pool = [...target.seeds(), ...corpusOf(target)];
    this.made = new Inputs(target, this.pool, seed);
    this.coverage = values.plain === true ? undefined : new Coverage(concerns);
  }

  async until(end: number): Promise<void> {
    for (const input of this.pool) if (!(await this.one(input))) return;
    this.coverage?.take();
    while (Date.now() < end) {
      const batch = Array.from({ length: this.batch }, () => this.made.next());
      for (const input of batch) if (!(await this.one(input))) return;
      if (this.coverage?.news() === true) {
        for (const input of batch) if (await this.adds(input)) this.pool.push(input);
        // what another run does not show again is not looked for twice
        this.batch = LEAST_BATCH;
      } else this.batch = Math.min(MOST_BATCH, this.batch * 2);
    }
  }

  /** Whether an input runs code that none before has run. */
  private async adds(input: Uint8Array): Promise<boolean> {
    this.coverage?.skip();
    await failureOf(this.target, input);
    return this.coverage?.take() === true;
  }

  private async one(input: Uint8Array): Promise<boolean> {
    const failure = await failureOf(this.target, input);
    this.inputs++;
    if (failure === undefined) return true;
    this.failure = { ...failure, input: await shortened(this.target, failure) };
    return false;
  }

  /** The smallest inputs first: each that is left adds to the coverage. */
  async reduced(): Promise<Uint8Array[]> {
    const out: Uint8Array[] = [];
    let bytes = 0;
    this.coverage?.clear();
    for (const input of [...this.pool].sort((a, b) => a.length - b.length)) {
      if (!(await this.adds(input))) continue;
      bytes += input.length;
      if (bytes > MOST_KEPT) break;
      out.push(input);
    }
    return out;
  }

  close(): void {
    this.coverage?.close();
  }
}

for (const target of named) {
  const run = new Run(target);
  const began = Date.now();
  await run.until(began + seconds * 1000);
  const took = (Date.now() - began) / 1000;
  say(`${target.name}: ${run.inputs} inputs in ${took.toFixed(0)} s, seed ${seed}`);
  if (run.failure !== undefined) {
    say(describeFailure(target, seed, run.failure));
    process.exitCode = 1;
  } else if (values.plain !== true && values.keep !== true) {
    const kept = await run.reduced();
    writeCorpus(target, kept);
    say(`${target.name}: ${kept.length} inputs in the corpus`);
  }
  run.close();
}
