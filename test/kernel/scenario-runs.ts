/** Runs a scenario of the lab as a test: the limits of its steps and its checks must hold. */
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { scenario } from "../../lab/plays/scenario/catalogue.js";
import { runScenario } from "../../lab/plays/scenario/run.js";
import { renderScenario } from "../../lab/plays/scenario/table.js";
import type { Daemon } from "../../lab/site/triangle.js";
import { programs } from "./site.js";
import { note } from "./starved.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));

/** `repeat`: for scenarios that repeat something. */
export async function holds(name: string, spokes: Daemon, repeat = 2): Promise<void> {
  const found = scenario(name);
  if (found === undefined) throw new Error(`no scenario ${name}`);
  const report = await runScenario(found, {
    topology,
    daemons: { a: spokes, b: "bird", c: spokes },
    programs,
    repeat,
  });
  for (const r of report.repetitions) note(r);
  if (report.result !== "ok") console.log(renderScenario(report));
  expect(report.failures).toEqual([]);
  expect(report.steps.length).toBeGreaterThan(0);
}
