/** The journal: what is logged of many problems, whoever chooses their words, and how much is kept. */
import { beforeEach, describe, expect, it } from "vitest";
import { Journal } from "../../../../plugin/driver/runtime/journal.js";
import { address } from "../../../../plugin/net/address.js";

let now = 0;
let lines: string[];
let journal: Journal;

beforeEach(() => {
  now = 0;
  lines = [];
  const note = (message: string): void => void lines.push(message);
  journal = new Journal(
    {
      now: () => now,
      wall: () => now,
      after: () => () => undefined,
      afterReading: () => undefined,
    },
    { info: note, warn: note, error: note },
  );
});

describe("problems", () => {
  it("are logged once a minute each", () => {
    for (; now < 120_000; now += 1_000) journal.problem("here", "the same");
    expect(lines).toHaveLength(2);
  });

  it("that differ are logged up to a number in a minute, and it is said that there were more", () => {
    for (let i = 0; i < 100_000; i++) journal.problem(`a datagram from 10.7.0.1 port ${i}`, `problem ${i}`);
    expect(lines).toHaveLength(101);
    expect(lines.at(-1)).toContain("more than 100 different problems in a minute");
    now = 60_000;
    journal.problem("here", "another");
    expect(lines.at(-1)).toBe("another");
  });
});

describe("the history", () => {
  it("keeps the last thousand events", () => {
    for (let i = 0; i < 5_000; i++) journal.milestone(address("10.255.0.2"), "resolved", String(i));
    const kept = journal.since(0);
    expect(kept).toHaveLength(1_000);
    expect(kept[0]?.detail).toBe("4000");
  });
});
