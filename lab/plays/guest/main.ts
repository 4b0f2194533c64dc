/**
 * `npm run guest [-- PROGRAM...]`: runs programs in the guest and prints what they tried. Ends with
 * 1 when something did not work.
 */
import { fileURLToPath } from "node:url";
import { PROGRAMS, runGuest } from "./guest.js";

// This module is dist/lab/plays/guest/main.js.
const repository = fileURLToPath(new URL("../../../..", import.meta.url));
const TIMEOUT = 600_000;

const words = process.argv.slice(2);
const wanted = PROGRAMS.filter((p) => words.length === 0 || words.includes(p));
const unknown = words.filter((w) => PROGRAMS.every((p) => p !== w));
if (unknown.length > 0) {
  process.stderr.write(`guest: no program ${unknown.join(", ")}; there are ${PROGRAMS.join(", ")}\n`);
  process.exit(2);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));
const r = await runGuest(wanted, { repository, timeout: TIMEOUT }).catch((e: unknown) => {
  process.stderr.write(`guest: ${e instanceof Error ? e.message : String(e)}\n`);
  process.exit(1);
});
if (r.kind === "skipped") {
  process.stdout.write(`skipped: ${r.reason}\n`);
  process.exit(0);
}
let failed = false;
for (const [program, { tried, status, output }] of r.results) {
  process.stdout.write(`${program}\n`);
  for (const t of tried) {
    const seconds = (t.ms / 1000).toFixed(1).padStart(6);
    process.stdout.write(
      `  ${t.ok ? "ok    " : "FAILED"} ${seconds} s  ${t.name}${t.said === "" ? "" : `: ${t.said}`}\n`,
    );
  }
  if (status === 0) continue;
  failed = true;
  process.stdout.write(`  ended with status ${status ?? "unknown"}\n${output}\n`);
}
process.stdout.write(`${r.seconds.toFixed(0)} s in all\n`);
process.exit(failed ? 1 : 0);
