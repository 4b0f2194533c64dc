/** A scenario's report for a terminal. */
import Table from "cli-table3";
import { describeRepetition } from "../../runner/retry.js";
import type { ScenarioReport } from "./report.js";

const ms = (n: number | undefined): string =>
  n === undefined ? "-" : n === 0 ? "stays" : `${n.toFixed(0)} ms`;

export function renderScenario(r: ScenarioReport): string {
  const plain = { head: [], border: [] };
  const steps = new Table({
    head: ["at", "event", "way", "direction", "on it after", "lost", "twice", "outage", "full buffers"],
    style: plain,
  });
  for (const s of r.steps)
    for (const [i, d] of s.directions.entries())
      steps.push([
        i === 0 ? `${s.at.toFixed(1)} s` : "",
        i === 0 ? s.name : "",
        s.ends[i === 0 ? 0 : 1],
        i === 0 ? "A to C" : "C to A",
        ms(d.settled),
        d.lostAfter === undefined ? "0" : `${d.lost}, from ${d.lostAfter.toFixed(0)} ms on`,
        String(d.duplicated),
        `${d.outage.toFixed(0)} ms`,
        i === 0 ? String(s.fullBuffers) : "",
      ]);
  const totals = new Table({
    head: ["direction", "sent", "received", "lost", "twice", "reordered", "kernel drops"],
    style: plain,
  });
  for (const [i, t] of r.totals.entries())
    totals.push([
      i === 0 ? "A to C" : "C to A",
      ...[t.sent, t.received, t.lost, t.duplicated, t.reordered, t.kernelDrops].map(String),
    ]);
  const lines = [
    ...r.figures.map((f) => `${f.name}: ${f.value}`),
    ...r.checks.map(
      (c) => `${c.holds ? "holds" : "DOES NOT HOLD"}: ${c.what}${c.found === "" ? "" : ` (${c.found})`}`,
    ),
    `load of the machine before: ${r.machine.loadBefore} on ${r.machine.processors} processors`,
    `latest wake-up of a thread: ${r.machine.late} ms late; a task waited for a processor in ${(r.machine.pressure * 100).toFixed(0)} % of the busiest second`,
    ...r.repetitions.map(describeRepetition),
  ];
  return [steps.toString(), totals.toString(), ...lines].join("\n");
}
