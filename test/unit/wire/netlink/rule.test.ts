/** Policy rules for a firewall mark, as the kernel encodes them. */
import { describe, expect, test } from "vitest";
import {
  addRule,
  decodeRule,
  deleteRule,
  dumpRules,
  type MarkRule,
} from "../../../../plugin/wire/netlink/rule.js";

const rule: MarkRule = {
  family: 4,
  priority: 900,
  mark: 0x20000000,
  table: 4243,
  vrf: undefined,
  protocol: 99,
};

describe("requests", () => {
  test("RTM_NEWRULE refuses a second one of the kind, and is read back as it was meant", () => {
    for (const r of [rule, { ...rule, family: 6 as const, vrf: "red" }, { ...rule, table: 77 }]) {
      const { type, flags, payload } = addRule(r);
      expect([type, flags]).toEqual([32, 0x600]);
      expect(decodeRule(payload)).toEqual({ ok: true, value: r });
    }
  });

  test("RTM_DELRULE names priority, table and protocol, and matches whatever mark", () => {
    const { type, payload } = deleteRule(rule);
    expect(type).toBe(33);
    expect(decodeRule(payload)).toEqual({ ok: true, value: { ...rule, mark: 0 } });
  });

  test("RTM_GETRULE is a dump of one family", () => {
    expect(dumpRules(6)).toEqual({
      type: 34,
      flags: 0x300,
      payload: Uint8Array.of(10, ...new Uint8Array(11)),
    });
  });
});

test("another family is passed over, a short message is an error", () => {
  const { payload } = addRule(rule);
  payload[0] = 28;
  expect(decodeRule(payload)).toEqual({ ok: true, value: undefined });
  expect(decodeRule(payload.subarray(0, 8)).ok).toBe(false);
});
