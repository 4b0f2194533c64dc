/** The guard against clear text: which prefixes it remembers, when its unreachable routes stand, and its file. */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import {
  CLEAR_GUARD_METRIC,
  ClearGuard,
  decodeGuarded,
  encodeGuarded,
} from "../../../../plugin/driver/kernel/clear-guard.js";
import { FibView, RTPROT_SHORTCUTD } from "../../../../plugin/driver/kernel/fib-view.js";
import type { KernelRoute } from "../../../../plugin/driver/ports.js";
import { type Prefix, prefix } from "../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../plugin/net/interface-names.js";

const MAIN = 254;
let fib: FibView;
let saved: string[];
let calls: string[];
let guard: ClearGuard;

const route = (p: string, dev: string, metric = 32): KernelRoute => ({
  table: MAIN,
  prefix: prefix(p),
  protocol: 12,
  metric,
  type: "unicast",
  nextHops: [{ ifindex: 3, dev, gateway: undefined, dead: false }],
  nexthopId: 0,
});
const set = (p: string, dev: string): void => {
  guard.touched(fib.apply({ kind: "set", route: route(p, dev) }));
};
const gone = (p: string, dev: string): void => {
  guard.touched(fib.apply({ kind: "gone", route: route(p, dev) }));
};
/** As the kernel would tell what the guard itself does. */
function guardWith(except: readonly Prefix[] = [], enabled = true): ClearGuard {
  const kernel = (p: Prefix): KernelRoute => ({
    table: MAIN,
    prefix: p,
    protocol: RTPROT_SHORTCUTD,
    metric: CLEAR_GUARD_METRIC,
    type: "unreachable",
    nextHops: [],
    nexthopId: 0,
  });
  return new ClearGuard(
    {
      fib,
      put: (r) => {
        calls.push(`+ ${r.prefix}`);
        guard.touched(fib.apply({ kind: "set", route: kernel(r.prefix) }));
      },
      take: (r) => {
        calls.push(`- ${r.prefix}`);
        guard.touched(fib.apply({ kind: "gone", route: kernel(r.prefix) }));
      },
      save: (text) => void saved.push(text),
    },
    { enabled, except },
  );
}

beforeEach(() => {
  fib = new FibView(new InterfaceNames(["wg0"]), "shortcut0", MAIN);
  saved = [];
  calls = [];
  guard = guardWith();
});

describe("the guard", () => {
  beforeEach(() => {
    guard.begin();
    set("0.0.0.0/0", "eth0");
    set("10.3.0.0/24", "wg0");
  });

  it("stands under an attested prefix from then on, whatever becomes of its route", () => {
    guard.attested([prefix("10.3.0.0/24")]);
    expect(calls).toEqual(["+ 10.3.0.0/24"]);
    gone("10.3.0.0/24", "wg0");
    set("10.3.0.0/24", "shortcut0");
    gone("10.3.0.0/24", "shortcut0");
    expect(calls).toEqual(["+ 10.3.0.0/24"]);
    expect(decodeGuarded(saved.at(-1) ?? "")).toEqual({ ok: true, value: ["10.3.0.0/24"] });
  });

  it("is under the route that leads to the prefix, which may be less specific", () => {
    set("10.0.0.0/8", "wg0");
    gone("10.3.0.0/24", "wg0");
    guard.attested([prefix("10.3.0.0/24"), prefix("10.4.0.0/24")]);
    expect(calls).toEqual(["+ 10.0.0.0/8"]);
    // an offer of the more specific prefix, which must not be refused when it is withdrawn
    set("10.3.0.0/24", "shortcut0");
    guard.attested([prefix("10.3.0.0/24")]);
    gone("10.3.0.0/24", "shortcut0");
    expect(calls).toEqual(["+ 10.0.0.0/8"]);
  });

  it("guards nothing that is reached by a default route via the overlay, by another interface, or not at all", () => {
    gone("0.0.0.0/0", "eth0");
    set("0.0.0.0/0", "wg0");
    set("10.5.0.0/24", "eth1");
    guard.attested([prefix("10.9.0.0/24"), prefix("10.5.0.0/24"), prefix("2001:db8::/64")]);
    expect(calls).toEqual([]);
    expect(saved).toEqual([]);
  });

  it("gives way to a less specific route that the operator has besides, and comes back after it", () => {
    guard.attested([prefix("10.3.0.0/24")]);
    set("10.0.0.0/8", "eth1");
    expect(calls).toEqual(["+ 10.3.0.0/24", "- 10.3.0.0/24"]);
    gone("10.0.0.0/8", "eth1");
    expect(calls.at(-1)).toBe("+ 10.3.0.0/24");
    set("0.0.0.0/0", "eth2");
    expect(calls).toHaveLength(3);
  });

  it("gives way to a default route via the overlay, and stands again when it leads elsewhere", () => {
    guard.attested([prefix("10.3.0.0/24")]);
    gone("10.3.0.0/24", "wg0");
    gone("0.0.0.0/0", "eth0");
    set("0.0.0.0/0", "wg0");
    expect(calls.at(-1)).toBe("- 10.3.0.0/24");
    gone("0.0.0.0/0", "wg0");
    expect(calls.at(-1)).toBe("+ 10.3.0.0/24");
    set("0.0.0.0/0", "eth0");
    expect(calls).toHaveLength(3);
  });

  it("puts back what somebody removed", () => {
    guard.attested([prefix("10.3.0.0/24")]);
    const removed: KernelRoute = {
      ...route("10.3.0.0/24", "lo", CLEAR_GUARD_METRIC),
      protocol: RTPROT_SHORTCUTD,
      nextHops: [],
      type: "unreachable",
    };
    guard.touched(fib.apply({ kind: "gone", route: removed }));
    expect(calls).toEqual(["+ 10.3.0.0/24", "+ 10.3.0.0/24"]);
    guard.touched(fib.apply({ kind: "snapshot", routes: [route("0.0.0.0/0", "eth0")], links: [] }));
    expect(calls).toHaveLength(3);
  });

  it("forgets what the operator names, and what is inside", () => {
    set("10.4.0.0/24", "wg0");
    set("2001:db8:3::/64", "wg0");
    guard.attested([prefix("10.3.0.0/24"), prefix("10.4.0.0/24"), prefix("2001:db8:3::/64")]);
    expect(guard.forget(prefix("10.0.0.0/8"))).toBe(2);
    expect(guard.prefixes).toEqual(["2001:db8:3::/64"]);
    expect(guard.forget("all")).toBe(1);
    expect(calls.filter((c) => c.startsWith("-"))).toHaveLength(3);
    expect(decodeGuarded(saved.at(-1) ?? "")).toEqual({ ok: true, value: [] });
  });

  it("lets excepted prefixes leave, with what is inside them", () => {
    guard = guardWith([prefix("10.3.0.0/16")]);
    guard.begin();
    guard.attested([prefix("10.3.0.0/24")]);
    expect(calls).toEqual([]);
  });

  it("guards nothing when it is off, and removes what a crash left", () => {
    guard = guardWith([], false);
    guard.load(encodeGuarded([prefix("10.3.0.0/24")]));
    guard.begin();
    guard.attested([prefix("10.3.0.0/24")]);
    expect(calls).toEqual(["- 10.3.0.0/24"]);
  });

  it("remembers a bounded number, the oldest go", () => {
    const many = Array.from({ length: 10_001 }, (_, i) => prefix(`10.${i >> 8}.${i & 255}.0/24`));
    for (const p of many) set(p, "wg0");
    guard.attested(many);
    expect(guard.prefixes).toHaveLength(10_000);
    expect(guard.stands(prefix("10.0.0.0/24"))).toBe(false);
    expect(guard.stands(prefix("10.39.16.0/24"))).toBe(true);
  });
});

describe("the file", () => {
  it("brings back what a former run has remembered, once the main table is known", () => {
    expect(guard.load(encodeGuarded([prefix("10.3.0.0/24")]))).toEqual({ ok: true, value: 1 });
    expect(calls).toEqual([]);
    guard.begin();
    expect(calls).toEqual(["+ 10.3.0.0/24"]);
    expect(guard.end().map((r) => r.prefix)).toEqual(["10.3.0.0/24"]);
    expect(guard.end()).toEqual([]);
  });

  it("is read as it was written", () => {
    const some = fc.array(
      fc.constantFrom(prefix("10.3.0.0/24"), prefix("2001:db8::/32"), prefix("10.9.9.9/32")),
    );
    fc.assert(
      fc.property(some, (list) => {
        expect(decodeGuarded(encodeGuarded(list))).toEqual({ ok: true, value: list });
      }),
    );
  });

  it.each([
    ["", "line 1: not a file of guarded prefixes, version 1"],
    ["shortcutd guard 2\n", "line 1: not a file of guarded prefixes, version 1"],
    ["shortcutd guard 1\n10.3.0.0/24\n10.3.0.1/24\n", 'line 3: "10.3.0.1/24" is not a prefix to guard'],
    ["shortcutd guard 1\n0.0.0.0/0\n", 'line 2: "0.0.0.0/0" is not a prefix to guard'],
    [`shortcutd guard 1\n${"10.0.0.0/8\n".repeat(10_001)}`, "line 10002: more than 10000 prefixes"],
  ])("is refused with its line: %j", (text, error) => {
    expect(guard.load(text)).toEqual({ ok: false, error });
    expect(guard.prefixes).toEqual([]);
  });

  it("of any content is decoded or refused, never thrown", () => {
    fc.assert(fc.property(fc.string(), (text) => void decodeGuarded(`shortcutd guard 1\n${text}`)));
  });
});
