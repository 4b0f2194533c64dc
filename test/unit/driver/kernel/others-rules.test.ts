/** The rules of others are read again for an overlay interface that did not exist when they were read. */
import { beforeEach, expect, it } from "vitest";
import { OthersRules } from "../../../../plugin/driver/kernel/others-rules.js";
import { address, prefix } from "../../../../plugin/net/address.js";

const SELF = address("10.255.1.1");
const masquerade = (dev: string) => [
  { chain: { family: "inet", table: "nat", name: "post", type: "nat", hook: "postrouting", prio: 100 } },
  {
    rule: {
      family: "inet",
      table: "nat",
      chain: "post",
      expr: [{ match: { op: "==", left: { meta: { key: "oifname" } }, right: dev } }, { masquerade: null }],
    },
  },
];

let devices: string[];
let readings: number;
let later: (() => void)[];
let rules: OthersRules;

beforeEach(() => {
  devices = ["wg-hub1"];
  readings = 0;
  later = [];
  rules = new OthersRules(
    {
      port: {
        read: async () => {
          readings++;
          return masquerade("wg-hub2");
        },
      },
      schedule: {
        later: (_, run) => void later.push(run),
        attempt: async (_, run) => void (await run()),
      },
      now: () => 0,
      changed: () => undefined,
    },
    () => ({ overlay: devices, direct: "shortcut0" }),
    SELF,
    [SELF],
  );
  rules.own([prefix("10.1.0.0/24")]);
});

it("a rule for an interface that appears keeps traffic on the overlay from then on", async () => {
  rules.linksChanged();
  expect(later).toHaveLength(0);
  await rules.read();
  expect(rules.verdict.ok).toBe(true);
  rules.linksChanged();
  expect(later).toHaveLength(0);

  devices = ["wg-hub1", "wg-hub2"];
  rules.linksChanged();
  rules.linksChanged();
  expect(later).toHaveLength(1);
  later.pop()?.();
  await Promise.resolve();
  await Promise.resolve();
  expect(readings).toBe(2);
  expect(rules.verdict).toMatchObject({ ok: false, reason: { kind: "nat-names-overlay", what: "source" } });

  devices = ["wg-hub1"];
  await rules.read();
  expect(rules.verdict.ok).toBe(true);
});
