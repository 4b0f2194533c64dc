/** What a program in the guest tries, told as JSON lines on stdout: one for each thing, with how long it took and why it did not work. */
export interface Tried {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  /** A figure to tell, or the error. */
  readonly said: string;
}

/** Tries one thing, which may return a figure to tell; the next one is tried whatever came of it, and the process ends with 1 when one failed. */
export async function tried(name: string, body: () => unknown): Promise<void> {
  const from = performance.now();
  let ok = true;
  let said = "";
  try {
    const told = await body();
    if (typeof told === "string") said = told;
  } catch (e) {
    ok = false;
    process.exitCode = 1;
    said = e instanceof Error ? (e.stack ?? e.message) : String(e);
  }
  const line: Tried = { name, ok, ms: Math.round(performance.now() - from), said };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** The lines that {@link tried} wrote, among others. */
export function parseTried(text: string): Tried[] {
  return text.split("\n").flatMap((line) => {
    if (!line.startsWith('{"name":')) return [];
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null) return [];
    if (!("name" in value) || !("ok" in value) || !("ms" in value) || !("said" in value)) return [];
    const { name, ok, ms, said } = value;
    if (typeof name !== "string" || typeof ok !== "boolean" || typeof ms !== "number") return [];
    return [{ name, ok, ms, said: String(said) }];
  });
}
