/** Shows what the lab calls lost, duplicated and reordered. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  FlowAccount,
  HEADER_BYTES,
  packetsDue,
  readPacket,
  writePacket,
} from "../../../../lab/traffic/sequence.js";

describe("test packets", () => {
  it("have the bytes that the comment says", () => {
    const bytes = new Uint8Array(HEADER_BYTES + 2);
    writePacket(bytes, { flow: 7, number: 258, sentAt: 3n });
    expect(Buffer.from(bytes).toString("hex")).toBe(
      ["73686366", "00000007", "0000000000000102", "0000000000000003", "0000"].join(""),
    );
  });

  it("survive a round trip at any offset of a larger buffer", () => {
    const packet = fc.record({
      flow: fc.nat(0xffff_ffff),
      number: fc.maxSafeNat(),
      sentAt: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    });
    fc.assert(
      fc.property(packet, fc.nat(16), (p, offset) => {
        const view = new Uint8Array(64).subarray(offset);
        writePacket(view, p);
        expect(readPacket(view)).toEqual(p);
      }),
    );
  });

  it("are told from anything else without throwing", () => {
    expect(readPacket(new Uint8Array(HEADER_BYTES - 1))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        fc.pre(bytes[0] !== 0x73);
        expect(readPacket(bytes)).toBeUndefined();
      }),
    );
  });
});

const count = (numbers: readonly number[]) => {
  const account = new FlowAccount(1);
  numbers.forEach((n, i) => {
    account.arrive(n, 10, i, 0);
  });
  return account.read(numbers.length - 1);
};

describe("FlowAccount", () => {
  it.each([
    ["all in order", [0, 1, 2], { received: 3, missing: 0, duplicated: 0, reordered: 0, highest: 2 }],
    ["one lost", [0, 2], { received: 2, missing: 1, duplicated: 0, reordered: 0, highest: 2 }],
    ["the first lost", [1], { received: 1, missing: 1, duplicated: 0, reordered: 0, highest: 1 }],
    ["one late", [0, 2, 1], { received: 3, missing: 0, duplicated: 0, reordered: 1, highest: 2 }],
    ["one twice", [0, 0], { received: 1, missing: 0, duplicated: 1, reordered: 0, highest: 0 }],
    ["a late one twice", [0, 2, 1, 1], { received: 3, missing: 0, duplicated: 1, reordered: 1, highest: 2 }],
  ])("%s", (_, numbers, expected) => {
    expect(count(numbers)).toMatchObject({ ...expected, bytes: expected.received * 10 });
  });

  it("accounts for every number, whatever the network did", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(200), { minLength: 1 }), (numbers) => {
        const c = count(numbers);
        expect(c.received).toBe(new Set(numbers).size);
        expect(c.received + c.duplicated).toBe(numbers.length);
        expect(c.received + c.missing).toBe(c.highest + 1);
        expect(c.highest).toBe(Math.max(...numbers));
      }),
    );
  });

  it("reports the longest silence and delay since it was last read, one that lasts included", () => {
    const account = new FlowAccount(1);
    account.arrive(0, 1, 100, 3);
    account.arrive(1, 1, 150, 9);
    expect(account.read(160)).toMatchObject({ longestSilence: 50, longestDelay: 9 });
    expect(account.read(400)).toMatchObject({ longestSilence: 250, longestDelay: 0 });
  });
});

describe("packetsDue", () => {
  it("keeps the pace without drift, however late the ticks", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 200 }), (gaps) => {
        let now = 0;
        let sent = 0;
        for (const gap of gaps) {
          now += gap;
          sent += packetsDue(now, 2000, sent, 64);
        }
        expect(sent).toBe(now * 2);
      }),
    );
  });

  it("catches up a burst at a time, and is never negative", () => {
    expect(packetsDue(1000, 2000, 0, 64)).toBe(64);
    expect(packetsDue(1, 2000, 50, 64)).toBe(0);
  });
});
