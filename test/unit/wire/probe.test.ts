/** Probes are the bytes of the diagram, and survive the wire. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { id64FromBytes } from "../../../plugin/wire/control/codec.js";
import { decodeProbe, encodeProbe, PROBE_BYTES, type Probe } from "../../../plugin/wire/probe.js";

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const interval = fc.integer({ min: 1, max: 60_000_000 });
const anId = fc.uint8Array({ minLength: 8, maxLength: 8 }).map(id64FromBytes);
const aProbe: fc.Arbitrary<Probe> = fc.record({
  bootId: anId,
  accepted: anId,
  epochs: fc.record({ mine: u32, yours: u32 }),
  hearYou: fc.boolean(),
  busy: fc.boolean(),
  flipped: fc.boolean(),
  down: fc.boolean(),
  ownsRoutes: fc.boolean(),
  sequence: u32,
  sentAt: u32,
  echo: u32,
  held: u32,
  interval,
  requires: interval,
  multiplier: fc.integer({ min: 1, max: 255 }),
  heardFull: u32,
  size: fc.integer({ min: PROBE_BYTES, max: 1372 }),
});

const id = (text: string) => id64FromBytes(Uint8Array.from(Buffer.from(text, "hex")));
/** The module's diagram, field by field. */
const VECTOR = [
  "73636470", // magic "scdp"
  "02", // version
  "05", // hear you, flipped
  "0044", // length of the whole: 68
  "0102030405060708", // boot ID
  "1112131415161718", // accepted
  "00000021", // my epoch
  "00000022", // your epoch
  "00000023", // sequence
  "00000024", // sent, microseconds
  "00000025", // echo
  "00000026", // held
  "000186a0", // interval, microseconds
  "000f4240", // requires
  "03", // multiplier
  "000000", // reserved
  "00000027", // heard full
  "00000000", // padding
].join("");
const PROBE: Probe = {
  bootId: id("0102030405060708"),
  accepted: id("1112131415161718"),
  epochs: { mine: 0x21, yours: 0x22 },
  hearYou: true,
  busy: false,
  flipped: true,
  down: false,
  ownsRoutes: false,
  sequence: 0x23,
  sentAt: 0x24,
  echo: 0x25,
  held: 0x26,
  interval: 100_000,
  requires: 1_000_000,
  multiplier: 3,
  heardFull: 0x27,
  size: 68,
};

describe("probes", () => {
  it("are the bytes of the diagram", () => {
    expect(Buffer.from(encodeProbe(PROBE)).toString("hex")).toBe(VECTOR);
    expect(decodeProbe(Uint8Array.from(Buffer.from(VECTOR, "hex")))).toEqual({ ok: true, value: PROBE });
  });

  it.each([
    ["hearYou", 1],
    ["busy", 2],
    ["flipped", 4],
    ["down", 8],
    ["ownsRoutes", 16],
  ] as const)("carry %s in bit %i of the flags", (flag, bit) => {
    const none = { ...PROBE, hearYou: false, busy: false, flipped: false, down: false, ownsRoutes: false };
    expect(encodeProbe(none)[5]).toBe(0);
    expect(encodeProbe({ ...none, [flag]: true })[5]).toBe(bit);
  });

  it("survive the wire", () => {
    fc.assert(
      fc.property(aProbe, (p) => {
        const b = encodeProbe(p);
        expect(b.length).toBe(p.size);
        expect(decodeProbe(b)).toEqual({ ok: true, value: p });
        const shifted = new Uint8Array(b.length + 3);
        shifted.set(b, 3);
        expect(decodeProbe(shifted.subarray(3))).toEqual({ ok: true, value: p });
      }),
    );
  });

  it.each([
    ["empty", "", "0 bytes, a probe has at least 64"],
    ["short", "73636470", "4 bytes, a probe has at least 64"],
    ["something else", `00${VECTOR.slice(2)}`, "not a probe: wrong magic"],
    ["a later version", `${VECTOR.slice(0, 8)}03${VECTOR.slice(10)}`, "probe version 3 is not 2"],
    ["cut", VECTOR.slice(0, -8), "length field 68, received 64 bytes"],
    ["longer", `${VECTOR}00`, "length field 68, received 69 bytes"],
    ["without a multiplier", `${VECTOR.slice(0, 112)}00${VECTOR.slice(114)}`, "multiplier 0"],
    [
      "never to come again",
      `${VECTOR.slice(0, 96)}${"00".repeat(4)}${VECTOR.slice(104)}`,
      "interval 0 µs is not from 1 to 60000000",
    ],
    [
      "hardly to come again",
      `${VECTOR.slice(0, 104)}ff${VECTOR.slice(106)}`,
      "requires 4279190080 µs is not from 1 to 60000000",
    ],
  ])("that are %s are refused by name", (_name, hex, error) => {
    expect(decodeProbe(Uint8Array.from(Buffer.from(hex, "hex")))).toEqual({ ok: false, error });
  });

  it("never throw, whatever arrives", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 1500 }),
          fc.tuple(aProbe, fc.nat(2000), fc.nat(255)).map(([p, at, to]) => {
            const b = encodeProbe(p);
            b[at % b.length] = to;
            return b;
          }),
        ),
        (b) => {
          const d = decodeProbe(b);
          if (d.ok) expect(d.value.size).toBe(b.length);
        },
      ),
      { numRuns: 500 },
    );
  });
});
