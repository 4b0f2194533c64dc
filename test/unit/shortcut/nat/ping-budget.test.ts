/** The budget of pings: how many one owner causes, how many one address receives, and what costs nothing. */
import { describe, expect, it } from "vitest";
import { type Address, address } from "../../../../plugin/net/address.js";
import { PingBudget } from "../../../../plugin/shortcut/nat/ping-budget.js";

const owner = (n: number): Address => address(`10.255.0.${n}`);
const VICTIM = address("203.0.113.1");
const other = (n: number): Address => address(`198.51.${n >> 8}.${n & 255}`);
const MINUTE = 60_000;

/** Pings that get through when each tries one every 10 ms. */
function flood(owners: number, to: (i: number) => Address): number {
  const b = new PingBudget();
  let sent = 0;
  for (let t = 0, i = 0; t < MINUTE; t += 10, i++)
    for (let o = 1; o <= owners; o++) if (b.spend(t, owner(o), to(i))) sent++;
  return sent;
}

describe("pings without an answer", () => {
  it("on behalf of one owner are 4 a second, wherever they go", () => {
    expect(flood(1, () => VICTIM)).toBeLessThanOrEqual(160 + 4 * 60);
    expect(flood(1, (i) => other(i % 20_000))).toBeLessThanOrEqual(160 + 4 * 60);
  });

  it("to one address are 8 a second, however many owners have named it", () => {
    expect(flood(20, () => VICTIM)).toBeLessThanOrEqual(320 + 8 * 60);
  });

  it("of one owner leave the half of an address's budget to others", () => {
    const b = new PingBudget();
    for (let i = 0; i < 1_000; i++) b.spend(0, owner(1), VICTIM);
    let sent = 0;
    while (b.spend(0, owner(2), VICTIM)) sent++;
    expect(sent).toBe(160);
  });

  it("are enough for an attempt with all candidates, and for the next one after its pause", () => {
    const b = new PingBudget();
    for (const start of [0, 35_000, 70_000])
      for (let c = 0; c < 12; c++)
        for (const t of [0, 10, 110, 310, 710, 1_510, 3_110, 4_710, 6_310])
          expect(b.spend(start + t, owner(1), other(c))).toBe(true);
  });
});

describe("what is answered", () => {
  it("costs nothing", () => {
    const b = new PingBudget();
    for (let t = 0; t < 2_000; t++) {
      expect(b.spend(t, owner(1), VICTIM)).toBe(true);
      b.answered(t, owner(1), VICTIM);
    }
  });
});

describe("an endpoint without a ping", () => {
  it("is tried a few times, and then every few seconds", () => {
    const b = new PingBudget();
    let tried = 0;
    for (let t = 0; t < 60_000; t += 100) if (b.spendUntested(t, owner(1), VICTIM)) tried++;
    expect(tried).toBeLessThanOrEqual(10 + 15);
    expect(tried).toBeGreaterThan(10);
  });
});
