/**
 * Shows that tables which another program deletes are made again, once, that an intact one is left
 * alone, and that the direct interface is unusable only while one cannot be made.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { type GuardedTable, OwnTables } from "../../../../plugin/driver/kernel/own-tables.js";

interface Fake extends GuardedTable {
  stands: boolean;
  fails: boolean;
  made: number;
}
const table = (place: string): Fake => {
  const t: Fake = {
    place,
    stands: true,
    fails: false,
    made: 0,
    intact: async () => t.stands,
    restore: async () => {
      if (t.fails) throw new Error("nft: busy");
      t.made++;
      t.stands = true;
    },
  };
  return t;
};

let counters: Fake;
let guard: Fake;
let tables: OwnTables;
let deletion: (() => void) | undefined;
let closed: number;
let later: { readonly ms: number; readonly run: () => void }[];
let problems: string[];
let changes: number;
let attempts: Promise<void>[];

beforeEach(() => {
  counters = table("inet");
  guard = table("netdev");
  closed = 0;
  later = [];
  problems = [];
  changes = 0;
  attempts = [];
  tables = new OwnTables(
    {
      watch: (names, onDeletion) => {
        expect(names).toEqual(["shortcutd_wg0"]);
        deletion = onDeletion;
        return { close: () => void closed++ };
      },
    },
    ["shortcutd_wg0"],
    [counters, guard],
    {
      later: (ms, run) => void later.push({ ms, run }),
      attempt: (_, task) => {
        const p = task();
        attempts.push(p);
        return p;
      },
    },
    (place, text) => void problems.push(`${place}: ${text}`),
    () => void changes++,
  );
  tables.begin(() => undefined);
});

/** Runs what is due, to its end. */
async function pass(): Promise<void> {
  for (const l of later.splice(0)) l.run();
  await Promise.all(attempts.splice(0));
}

describe("own tables", () => {
  it("that were flushed are made again, both by one look, and it is said", async () => {
    counters.stands = false;
    guard.stands = false;
    for (let i = 0; i < 100; i++) deletion?.();
    expect(later).toHaveLength(1);
    await pass();
    expect([counters.made, guard.made]).toEqual([1, 1]);
    expect(problems).toHaveLength(2);
    expect(tables.verdict.ok).toBe(true);
  });

  it("that are intact are left alone, whatever was deleted beside them", async () => {
    deletion?.();
    await pass();
    expect([counters.made, guard.made]).toEqual([0, 0]);
    expect(problems).toEqual([]);
  });

  it("that cannot be made again make the direct interface unusable, until they can", async () => {
    counters.stands = false;
    counters.fails = true;
    deletion?.();
    await pass();
    expect(tables.verdict).toEqual({ ok: false, reason: { kind: "table-missing", table: "inet" } });
    expect(changes).toBe(1);
    counters.fails = false;
    await pass();
    expect(tables.verdict.ok).toBe(true);
    expect(changes).toBe(2);
    expect(counters.made).toBe(1);
  });

  it("are not made again after the end: they are being removed", async () => {
    counters.stands = false;
    deletion?.();
    await tables.end();
    await pass();
    expect(closed).toBe(1);
    expect(counters.made).toBe(0);
  });
});
