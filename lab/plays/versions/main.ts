/**
 * `npm run test:versions [-- NAME...]`: the triangle with each version of BIRD and FRR of the
 * catalogue, one after the other, and a table of what happened. Ends with 1 when anything did not;
 * what Debian's mirror does not have is named as skipped.
 */
import { join } from "node:path";
import Table from "cli-table3";
import { programsIn } from "../../site/shortcutd.js";
import { VERSIONS, version } from "./catalogue.js";
import { COLUMNS, repositoryOf, runVersion, type VersionResult } from "./run.js";

// This module is dist/lab/plays/versions/main.js.
const repository = repositoryOf(import.meta.url);
const programs = programsIn(join(repository, "dist"));

const names = process.argv.slice(2).filter((w) => w !== "-v");
const verbose = process.argv.includes("-v");

/** Whether anything of it did not happen. */
const missed = (r: VersionResult): boolean => r.kind === "run" && r.problems.length > 0;

function render(results: ReadonlyMap<string, VersionResult>): string {
  const table = new Table({ head: ["version", "is", ...COLUMNS], style: { head: [], border: [] } });
  for (const [name, r] of results)
    table.push(
      r.kind === "skipped"
        ? [name, "skipped", ...COLUMNS.map(() => "-")]
        : [name, r.version, ...COLUMNS.map((c) => (r.columns[c] ? "yes" : "NO"))],
    );
  const notes = [...results].flatMap(([name, r]) =>
    r.kind === "skipped" ? [`${name}: skipped: ${r.reason}`] : r.problems.map((p) => `${name}: ${p}`),
  );
  return [table.toString(), ...notes].join("\n");
}

try {
  const wanted = names.length === 0 ? VERSIONS : names.map(version);
  const results = new Map<string, VersionResult>();
  for (const v of wanted) {
    process.stdout.write(`${v.name} (${v.package} of ${v.suite})\n`);
    results.set(
      v.name,
      await runVersion(v, {
        repository,
        programs,
        out: join(repository, "lab/out", v.name),
        ...(verbose ? { onLine: (line: string) => void process.stdout.write(`  ${line}\n`) } : {}),
      }),
    );
  }
  process.stdout.write(`${render(results)}\n`);
  process.exit([...results.values()].some(missed) ? 1 : 0);
} catch (e) {
  process.stderr.write(`versions: ${e instanceof Error ? e.message : String(e)}\n`);
  process.exit(2);
}
