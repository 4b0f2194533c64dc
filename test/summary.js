// Adds up vitest's JSON reports and prints the closing line. Usage: summary.js STATUS REPORT...
import { existsSync, readFileSync } from "node:fs";

const [status, ...files] = process.argv.slice(2);
let passed = 0;
let failed = 0;
let skipped = 0;
/** Tests that failed on a starved machine and were repeated. */
const repeated = [];
for (const file of files) {
  if (!existsSync(file)) {
    console.error(`test: ${file} was not written: the run ended before its tests did`);
    failed++;
    continue;
  }
  const report = JSON.parse(readFileSync(file, "utf8"));
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  skipped += report.numPendingTests + report.numTodoTests;
  for (const f of report.testResults)
    for (const a of f.assertionResults) {
      for (const why of a.meta?.repeated ?? []) repeated.push(`${a.fullName}: ${why}`);
    }
  // a file that could not be loaded, or whose set-up failed, has no test of its own that failed
  failed += report.testResults.filter(
    (r) => r.status === "failed" && r.assertionResults.every((a) => a.status !== "failed"),
  ).length;
}
const bad = failed > 0 || status !== "0";
if (bad && failed === 0) {
  console.error("test: all tests passed, but a step before them (format, lint) failed: see above");
  failed = 1;
}
for (const line of repeated) console.log(`test: ${line}`);
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exitCode = bad ? 1 : 0;
