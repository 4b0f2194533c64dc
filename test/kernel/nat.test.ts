/**
 * Real daemons behind real NATs: a part of the matrix, and a NAT that reboots. All of it: `npm run
 * lab -- --nat-matrix`.
 */
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { runEvent } from "../../lab/plays/nat/events.js";
import { type Cell, pair, runMatrix, SPECIAL } from "../../lab/plays/nat/matrix.js";
import { programs } from "./site.js";
import { note } from "./starved.js";

const topology = fileURLToPath(new URL("../../lab/topologies/nat.clab.yml", import.meta.url));
const special = (name: string): Cell => {
  const cell = SPECIAL[name];
  if (cell === undefined) throw new Error(`no cell ${name}`);
  return cell;
};

it("passes what can be passed, by the candidate that it should, and stays on the hub without a loss elsewhere", async () => {
  const results = await runMatrix({
    topology,
    programs,
    cells: [
      pair("masquerade", "masquerade-open"),
      pair("random", "ei-ad"),
      pair("random", "random"),
      special("same-lan"),
      special("double-both"),
      special("dual-stack"),
    ],
  });
  for (const r of results.flatMap((x) => x.repetitions)) note(r);
  expect(results.map((r) => `${r.cell.a} x ${r.cell.c}: ${r.problem}`)).toEqual(
    results.map((r) => `${r.cell.a} x ${r.cell.c}: `),
  );
});

it("is on the hub at once when a NAT reboots, and direct again within seconds", async () => {
  const { figures, problems, repetitions } = await runEvent("reboot", { topology, programs });
  for (const r of repetitions) note(r);
  for (const f of figures) console.log(`${f.name}: ${f.value.toFixed(0)} ${f.unit}`);
  expect(problems).toEqual([]);
});
