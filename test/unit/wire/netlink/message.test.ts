/** Netlink messages and attributes: framing, padding, errors and extended acknowledgements. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Attributes, BodyWriter, decodeAttributeList } from "../../../../plugin/wire/netlink/attribute.js";
import { errnoName } from "../../../../plugin/wire/netlink/errno.js";
import { decodeFamily, getFamily } from "../../../../plugin/wire/netlink/genl.js";
import { decodeMessages, decodeStatus, encodeMessage } from "../../../../plugin/wire/netlink/message.js";
import { captured, comparable, hex } from "./captured.js";

const arbitraryMessage = fc.record({
  type: fc.nat(0xffff),
  flags: fc.nat(0xffff),
  seq: fc.nat(0xffffffff),
  portid: fc.nat(0xffffffff),
  payload: fc.uint8Array({ maxLength: 100 }),
});

describe.runIf(comparable)("nlmsghdr", () => {
  test("byte vector: length, type, flags, sequence, port, padding", () => {
    expect(
      encodeMessage({
        type: 26,
        flags: 0x301,
        seq: 7,
        portid: 0x1234,
        payload: Uint8Array.of(1, 2, 3, 4, 5),
      }),
    ).toEqual(hex("15000000 1a00 0103 07000000 34120000 0102030405 000000"));
  });

  test("a length that lies is an error that says where", () => {
    for (const bad of [
      "0f000000 1a00 0103 07000000 34120000",
      "11000000 1a00 0103 07000000 34120000",
      "1000",
    ])
      expect(decodeMessages(hex(bad))).toMatchObject({ ok: false, error: { at: "nlmsghdr" } });
    expect(decodeMessages(new Uint8Array(0))).toEqual({ ok: true, value: [] });
  });

  test("several messages in one datagram come back as they were", () => {
    fc.assert(
      fc.property(fc.array(arbitraryMessage, { maxLength: 5 }), (messages) => {
        const bytes = Buffer.concat(messages.map(encodeMessage));
        expect(decodeMessages(bytes)).toEqual({
          ok: true,
          value: messages.map((m) => ({ ...m, payload: Buffer.from(m.payload) })),
        });
      }),
    );
  });
});

describe.runIf(comparable)("NLMSG_ERROR", () => {
  const statusOf = (bytes: Uint8Array) => {
    const messages = decodeMessages(bytes);
    if (!messages.ok || messages.value[0] === undefined) throw new Error("no message");
    return decodeStatus(messages.value[0]);
  };

  test("as captured, with and without the request in it", () => {
    for (const bytes of [captured.error, captured.cappedError])
      expect(statusOf(bytes)).toEqual({ ok: true, value: { errno: 19, message: undefined } });
    expect(errnoName(19)).toBe("ENODEV");
    expect(errnoName(777)).toBe("errno 777");
  });

  // NLM_F_ACK_TLVS 0x200 | NLM_F_CAPPED 0x100; NLMSGERR_ATTR_MSG is attribute 1.
  test("extended ack: behind a capped request, behind a whole one, and in NLMSG_DONE", () => {
    const text = "0a000100 68656c6c6f00 0000";
    expect(
      statusOf(
        hex(`30000000 0200 0003 07000000 00000000  9cffffff  2c000000 1800 0500 07000000 00000000 ${text}`),
      ),
    ).toEqual({ ok: true, value: { errno: 100, message: "hello" } });
    expect(
      statusOf(
        hex(
          `34000000 0200 0002 07000000 00000000  9cffffff  14000000 1800 0500 07000000 00000000 aabbccdd ${text}`,
        ),
      ),
    ).toEqual({ ok: true, value: { errno: 100, message: "hello" } });
    expect(statusOf(hex(`20000000 0300 0202 07000000 00000000  feffffff ${text}`))).toEqual({
      ok: true,
      value: { errno: 2, message: "hello" },
    });
  });

  test("a request in it that claims more than there is", () => {
    expect(
      statusOf(hex("24000000 0200 0002 07000000 00000000  9cffffff  ff000000 1800 0500 07000000 00000000")),
    ).toMatchObject({
      ok: false,
    });
  });
});

describe.runIf(comparable)("attributes", () => {
  test("byte vector: header, padding, nesting flag", () => {
    const bytes = new BodyWriter()
      .u8(1, 0xab)
      .u16(2, 0x1234)
      .u32(3, 0x12345678)
      .string(4, "wg0")
      .nested(5, (w) => w.flag(6))
      .finish();
    expect(bytes).toEqual(
      hex(
        "0500 0100 ab000000  0600 0200 3412 0000  0800 0300 78563412  0800 0400 77673000  0800 0580 0400 0600",
      ),
    );
    const a = Attributes.decode(bytes, 0, "test");
    if (!a.ok) throw new Error(a.error.problem);
    expect([a.value.u8(1), a.value.u16(2), a.value.u32(3), a.value.string(4)]).toEqual([
      0xab,
      0x1234,
      0x12345678,
      "wg0",
    ]);
    expect(a.value.be32(3)).toBe(0x78563412);
    expect(a.value.nested(5)).toMatchObject({ ok: true });
    expect([a.value.u32(1), a.value.u64(3), a.value.u8(9), a.value.nested(9)]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  test("a repeated type keeps the last, as nla_parse does", () => {
    const a = Attributes.decode(new BodyWriter().u32(1, 1).u32(1, 2).finish(), 0, "test");
    expect(a.ok && a.value.u32(1)).toBe(2);
  });

  test("lengths that lie", () => {
    for (const bad of ["0300 0100", "0900 0100 00000000", "0800 0100 00000000 0400"])
      expect(decodeAttributeList(hex(bad), 0, "test")).toMatchObject({ ok: false, error: { at: "test" } });
    expect(() => new BodyWriter().bytes(1, new Uint8Array(0xffff))).toThrow(/does not fit/);
  });

  test("round trip", () => {
    const attribute = fc.record({
      type: fc.integer({ min: 0, max: 0x3fff }),
      payload: fc.uint8Array({ maxLength: 300 }),
    });
    fc.assert(
      fc.property(fc.array(attribute, { maxLength: 20 }), (attributes) => {
        const w = new BodyWriter();
        for (const a of attributes) w.bytes(a.type, a.payload);
        expect(w.size % 4).toBe(0);
        const back = decodeAttributeList(w.finish(), 0, "test");
        expect(back.ok && back.value.map((a) => ({ type: a.type, payload: [...a.payload] }))).toEqual(
          attributes.map((a) => ({ type: a.type, payload: [...a.payload] })),
        );
      }),
    );
  });
});

describe.runIf(comparable)("generic netlink", () => {
  test("CTRL_CMD_GETFAMILY", () => {
    expect(getFamily("wireguard")).toEqual({
      type: 16,
      flags: 0,
      payload: hex("03010000 0e00 0200 776972656775617264 00 0000"),
    });
  });
  test("its answer, as captured", () => {
    expect(decodeFamily(captured.family)).toEqual({ ok: true, value: { id: 16, name: "nlctrl" } });
    expect(decodeFamily(hex("0102"))).toMatchObject({ ok: false });
    expect(decodeFamily(hex("01020000"))).toMatchObject({ ok: false });
  });
});
