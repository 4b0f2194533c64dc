/** Shows what the table of the NAT matrix must not hide: repetitions and unexpected paths. */
import { expect, it } from "vitest";
import { type CellResult, judgeCell, markdown, pair } from "../../../../../lab/plays/nat/matrix.js";
import type { NatAttempt } from "../../../../../lab/plays/nat/site.js";

const cell = pair("masquerade", "ei-ad");
const attempt: NatAttempt = {
  path: "direct",
  endpoint: "192.0.2.130 51821",
  candidate: "reflexive",
  took: 106.4,
  lost: [0, 0],
  tries: 1,
  reason: "",
};
const row = (r: Partial<CellResult>): string | undefined =>
  markdown([{ cell, attempt, problem: "", repetitions: [], ...r }]).split("\n")[2];

it("shows path, candidate and time", () => {
  expect(judgeCell(cell, attempt)).toBe("");
  expect(row({})).toBe("| masquerade | ei-ad | direct | reflexive, 192.0.2.130 51821 | 106 ms |");
});

it("says that a cell was repeated, and why", () => {
  const problem = judgeCell(cell, { ...attempt, lost: [3, 0] });
  const repetitions = [{ problem, starvation: "a thread was woken 200 ms late" }];
  expect(row({ repetitions })).toBe(
    "| masquerade | ei-ad | direct | reflexive, 192.0.2.130 51821 | 106 ms, try 2 (before, machine starved: lost 3 and 0 packets) |",
  );
  expect(row({ attempt: undefined, problem: "no end:\n a | b", repetitions })).toBe(
    "| masquerade | ei-ad | failed |  | no end: a / b, try 2 (before, machine starved: lost 3 and 0 packets) |",
  );
});

it("marks a path that was not expected", () => {
  const problem = judgeCell(cell, { ...attempt, path: "hub", reason: "no answer from 192.0.2.130" });
  expect(problem).toBe("hub, expected direct: no answer from 192.0.2.130");
  expect(row({ attempt: { ...attempt, path: "hub" }, problem })).toContain("| **hub** |");
});
