/**
 * Coverage of the code under test, by V8's block counters (`Profiler.takePreciseCoverage`). Reading the counters
 * costs more than most inputs, so the loop reads them for batches; what is new is looked for within its batch.
 */
import { type Profiler, Session } from "node:inspector";

type FunctionCoverage = Profiler.FunctionCoverage;

export class Coverage {
  private readonly session = new Session();
  /** For each function, which of its characters have run. */
  private readonly seen = new Map<string, Uint8Array>();

  /** @param concerns whether the code of a file counts */
  constructor(private readonly concerns: (url: string) => boolean) {
    this.session.connect();
    this.post("Profiler.enable");
    this.session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  close(): void {
    this.post("Profiler.stopPreciseCoverage");
    this.session.disconnect();
  }

  /** Whether the code that ran since the last call includes any that had not run before. */
  news(): boolean {
    return this.read((before, now) => now.some((ran, i) => ran === 1 && before[i] !== 1));
  }

  /** The same, and remembers it. */
  take(): boolean {
    return this.read((before, now) => {
      let news = false;
      for (let i = 0; i < now.length; i++)
        if (now[i] === 1 && before[i] !== 1) {
          before[i] = 1;
          news = true;
        }
      return news;
    });
  }

  /** Forgets what was remembered, and what ran since the last call. */
  clear(): void {
    this.seen.clear();
    this.skip();
  }

  /** Forgets what ran since the last call. */
  skip(): void {
    this.taken();
  }

  private read(compare: (before: Uint8Array, now: Uint8Array) => boolean): boolean {
    let news = false;
    for (const script of this.taken()) {
      if (!this.concerns(script.url)) continue;
      for (const f of script.functions) {
        const now = ranOf(f);
        if (now === undefined) continue;
        const key = `${script.scriptId}:${f.ranges[0]?.startOffset}:${f.ranges[0]?.endOffset}`;
        const before = this.seen.get(key) ?? new Uint8Array(now.length);
        this.seen.set(key, before);
        if (compare(before, now)) news = true;
      }
    }
    return news;
  }

  private post(method: "Profiler.enable" | "Profiler.stopPreciseCoverage"): void {
    this.session.post(method);
  }

  private taken(): readonly Profiler.ScriptCoverage[] {
    let result: readonly Profiler.ScriptCoverage[] = [];
    // the answer comes before the call returns
    this.session.post("Profiler.takePreciseCoverage", (error, params) => {
      if (error === null) result = params.result;
    });
    return result;
  }
}

/** Which characters of a function have run; undefined when it has not. */
function ranOf(f: FunctionCoverage): Uint8Array | undefined {
  const [whole, ...blocks] = f.ranges;
  if (whole === undefined || whole.count === 0) return undefined;
  const { startOffset: start, endOffset: end } = whole;
  const now = new Uint8Array(end - start).fill(1);
  // an inner block follows the block that it is in
  for (const b of blocks) now.fill(b.count > 0 ? 1 : 0, b.startOffset - start, b.endOffset - start);
  return now;
}
