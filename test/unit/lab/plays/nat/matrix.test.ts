/** The table of the NAT matrix: what it must not hide. */
import { expect, it } from "vitest";
import { type CellResult, judgeCell, markdown, pair } from "../../../../../lab/plays/nat/matrix.js";
import type { Attempt } from "../../../../../lab/plays/nat/site.js";

const cell = pair("masquerade", "ei-ad");
const attempt: Attempt = {
  path: "direct",
  endpoint: "192.0.2.130 51821",
  candidate: "reflexive",
  took: 106.4,
  lost: [0, 0],
  tries: 1,
  reason: "",
};
const row = (r: Partial<CellResult>): string | undefined =>
  markdown([{ cell, attempt, problem: "", before: "", ...r }]).split("\n")[2];

it("shows path, candidate and time", () => {
  expect(judgeCell(cell, attempt)).toBe("");
  expect(row({})).toBe("| masquerade | ei-ad | direct | reflexive, 192.0.2.130 51821 | 106 ms |");
});

it("says that a cell needed a second try, and why", () => {
  const before = judgeCell(cell, { ...attempt, lost: [3, 0] });
  expect(row({ before })).toBe(
    "| masquerade | ei-ad | direct | reflexive, 192.0.2.130 51821 | 106 ms, 2nd try (1st: lost 3 and 0 packets) |",
  );
  expect(row({ attempt: undefined, problem: "no end:\n a | b", before })).toBe(
    "| masquerade | ei-ad | failed |  | no end: a / b, 2nd try (1st: lost 3 and 0 packets) |",
  );
});

it("marks a path that was not expected", () => {
  const problem = judgeCell(cell, { ...attempt, path: "hub", reason: "no answer from 192.0.2.130" });
  expect(problem).toBe("hub, expected direct: no answer from 192.0.2.130");
  expect(row({ attempt: { ...attempt, path: "hub" }, problem })).toContain("| **hub** |");
});
