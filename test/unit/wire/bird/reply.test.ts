/** Replies of BIRD's control socket, however the bytes are cut. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BirdReply, isFailure, isRefused, ReplyDecoder } from "../../../../plugin/wire/bird/reply.js";
import { decodeAll, recorded, recordedBytes } from "./support.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("BIRD's replies", () => {
  it("are read line by line: code, continuation, end", () => {
    expect(decodeAll(bytes("1010-master4 \trouting table\n fib4\n1011-x\n0000 \n"))).toEqual([
      {
        lines: [
          { code: 1010, text: "master4 \trouting table" },
          { code: 1010, text: "fib4" },
          { code: 1011, text: "x" },
        ],
        last: { code: 0, text: "" },
      },
    ]);
  });

  it("follow each other, with asynchronous lines between, before and inside them", () => {
    const replies = decodeAll(
      bytes("0001 BIRD 2.0.12 ready.\n+log\n1000-a\n+more\n b\n0013 up\n8001 Network not found\n"),
    );
    expect(replies.map((r) => [r.last.code, r.lines.map((l) => l.text)])).toEqual([
      [1, []],
      [13, ["a", "b"]],
      [8001, []],
    ]);
  });

  it("tell failure and refusal apart", () => {
    expect(isFailure(recorded("route-absent"))).toBe(true);
    expect(isRefused(recorded("route-absent"))).toBe(false);
    expect(isRefused(recorded("unknown-table"))).toBe(true);
    expect(isFailure(recorded("status"))).toBe(false);
  });

  it.each(["status", "static4", "route-beaten", "unknown-table"])(
    "come out the same wherever the stream is cut: %s",
    (name) => {
      const whole = recordedBytes(name);
      const expected = decodeAll(whole);
      expect(expected.length).toBeGreaterThan(0);
      for (let cut = 0; cut <= whole.length; cut++) {
        const decoder = new ReplyDecoder();
        const got: BirdReply[] = [];
        for (const part of [whole.subarray(0, cut), whole.subarray(cut)]) {
          const r = decoder.push(part);
          if (r.ok) got.push(...r.value);
        }
        expect(got).toEqual(expected);
      }
    },
  );

  it("come out the same byte by byte", () => {
    const whole = recordedBytes("protocols-shortcut");
    const decoder = new ReplyDecoder();
    const got: BirdReply[] = [];
    for (let i = 0; i < whole.length; i++) {
      const r = decoder.push(whole.subarray(i, i + 1));
      if (r.ok) got.push(...r.value);
    }
    expect(got).toEqual(decodeAll(whole));
  });

  it.each([
    ["no code", "hello\n", { kind: "malformed-line", line: "hello" }],
    ["a short code", "12-x\n", { kind: "malformed-line", line: "12-x" }],
    ["a continuation of nothing", " x\n", { kind: "malformed-line", line: " x" }],
    ["a continuation after the end", "0000 \n x\n", { kind: "malformed-line", line: " x" }],
    ["an empty line", "\n", { kind: "malformed-line", line: "" }],
  ])("are refused for good: %s", (_, text, error) => {
    const decoder = new ReplyDecoder();
    expect(decoder.push(bytes(text))).toEqual({ ok: false, error });
    expect(decoder.push(bytes("0000 \n"))).toEqual({ ok: false, error });
  });

  it("are bounded, by line and as a whole, also before the line or the reply ends", () => {
    const line = new ReplyDecoder(20, 1000);
    expect(line.push(bytes("1000-0123456789"))).toEqual({ ok: true, value: [] });
    expect(line.push(bytes("0123456789"))).toEqual({
      ok: false,
      error: { kind: "line-too-long", limit: 20 },
    });
    const reply = new ReplyDecoder(20, 100);
    const error = { kind: "reply-too-large", limit: 100 };
    expect(reply.push(bytes("1000-0123456789\n".repeat(6)))).toEqual({ ok: true, value: [] });
    expect(reply.push(bytes("1000-0123456789\n"))).toEqual({ ok: false, error });
    // The bound is one reply's: many replies may pass.
    const many = new ReplyDecoder(20, 100).push(bytes("0000 0123456789\n".repeat(50)));
    expect(many.ok && many.value.length).toBe(50);
  });

  it("never throw, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 6 }), (chunks) => {
        const decoder = new ReplyDecoder(64, 200);
        for (const c of chunks) decoder.push(c);
      }),
    );
  });

  it("survive the round trip", () => {
    const text = fc.string({ maxLength: 30 }).map((s) => s.replaceAll(/[\r\n]/g, "."));
    const line = fc.record({ code: fc.integer({ min: 1000, max: 2999 }), text });
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), line, (lines, last) => {
        let before = -1;
        let wire = "";
        for (const l of lines) {
          wire += l.code === before ? ` ${l.text}\n` : `${l.code}-${l.text}\n`;
          before = l.code;
        }
        wire += `${last.code} ${last.text}\n`;
        expect(decodeAll(bytes(wire))).toEqual([{ lines, last }]);
      }),
    );
  });
});
