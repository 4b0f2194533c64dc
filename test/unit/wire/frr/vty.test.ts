/** Replies of FRR's vty sockets, however the bytes are cut. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeCommand, VtyDecoder, type VtyReply } from "../../../../plugin/wire/frr/vty.js";
import { recorded } from "./support.js";

const frame = (text: string, status: number): Uint8Array =>
  Uint8Array.from([...new TextEncoder().encode(text), 0, 0, 0, status]);

function decode(...chunks: Uint8Array[]): VtyReply[] {
  const decoder = new VtyDecoder();
  const out: VtyReply[] = [];
  for (const c of chunks) {
    const r = decoder.push(c);
    if (!r.ok) throw new Error(JSON.stringify(r.error));
    out.push(...r.value);
  }
  return out;
}

describe("FRR's vty framing", () => {
  it("ends a command with NUL", () => {
    expect([...encodeCommand("enable")]).toEqual([101, 110, 97, 98, 108, 101, 0]);
    expect(() => encodeCommand("show version\nconfigure")).toThrow(RangeError);
    expect(() => encodeCommand("show\0configure")).toThrow(RangeError);
  });

  it("reads what bgpd and zebra sent", () => {
    // `enable`, an unknown command, and zebra's look-up that found nothing
    expect(decode(Uint8Array.of(0, 0, 0, 0))).toEqual([{ text: "", status: 0 }]);
    const unknown = "% [BGP] Unknown command: foo\n";
    expect(decode(frame(unknown, 2))).toEqual([{ text: unknown, status: 2 }]);
    expect(decode(frame("{}\n", 1))).toEqual([{ text: "{}\n", status: 1 }]);
  });

  it("is the same wherever the stream is cut", () => {
    const text = recorded("bgp-selected");
    const whole = Uint8Array.from([...frame(text, 0), ...frame("", 2), ...frame("x", 1)]);
    const expected = [
      { text, status: 0 },
      { text: "", status: 2 },
      { text: "x", status: 1 },
    ];
    for (let cut = 0; cut <= whole.length; cut++)
      expect(decode(whole.subarray(0, cut), whole.subarray(cut))).toEqual(expected);
    expect(decode(...Array.from(whole, (b) => Uint8Array.of(b)))).toEqual(expected);
  });

  it("refuses a NUL that ends nothing, for good", () => {
    for (const bytes of [
      [65, 0, 66],
      [65, 0, 0, 66],
    ]) {
      const decoder = new VtyDecoder();
      const r = decoder.push(Uint8Array.from(bytes));
      expect(r).toMatchObject({ ok: false, error: { kind: "stray-nul" } });
      expect(decoder.push(frame("", 0))).toEqual(r);
    }
  });

  it("is bounded before the reply ends", () => {
    const decoder = new VtyDecoder(100);
    expect(decoder.push(new Uint8Array(60).fill(65)).ok).toBe(true);
    expect(decoder.push(new Uint8Array(60).fill(65))).toEqual({
      ok: false,
      error: { kind: "reply-too-large", limit: 100 },
    });
  });

  it("survives the round trip in any chunks", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 40 }).map((s) => s.replaceAll("\0", ""));
    const reply = fc.record({ text, status: fc.integer({ min: 0, max: 255 }) });
    fc.assert(
      fc.property(fc.array(reply, { maxLength: 5 }), fc.integer({ min: 1, max: 9 }), (replies, size) => {
        const wire = replies.flatMap((r) => [...frame(r.text, r.status)]);
        const chunks: Uint8Array[] = [];
        for (let i = 0; i < wire.length; i += size) chunks.push(Uint8Array.from(wire.slice(i, i + size)));
        expect(decode(...chunks)).toEqual(replies);
      }),
    );
  });

  it("never throws, whatever the bytes", () => {
    const byte = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(fc.array(byte, { maxLength: 40 }), { maxLength: 6 }), (chunks) => {
        const decoder = new VtyDecoder(64);
        for (const c of chunks) decoder.push(Uint8Array.from(c));
      }),
    );
  });
});
