/**
 * Reports the attempts of a program in the guest as JSON lines on stdout: one for each thing, with
 * how long it took and why it did not work.
 */
export interface Tried {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  /** A figure to tell, or the error. */
  readonly said: string;
}

let failed = false;

/**
 * Tries one thing, which may return a figure to tell; what comes after one that failed is not
 * tried, and the process ends with 1.
 */
export async function tried(name: string, body: () => unknown): Promise<void> {
  const from = performance.now();
  let said = "not tried";
  let ok = false;
  if (!failed)
    try {
      const told = await body();
      said = typeof told === "string" ? told : "";
      ok = true;
    } catch (e) {
      said = e instanceof Error ? (e.stack ?? e.message) : String(e);
    }
  failed ||= !ok;
  if (failed) process.exitCode = 1;
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
