/** Shows which NAT rules of others keep traffic on the overlay: those that name it and not the direct interface. */
import { describe, expect, it } from "vitest";
import { judgeNat, readRuleset, translatesDirect } from "../../../../plugin/driver/kernel/nat-rules.js";
import { address, prefix } from "../../../../plugin/net/address.js";

const SELF = address("10.255.0.1");
const names = { overlay: ["wg0"], direct: "shortcut0" };
const attested = [prefix("10.255.0.1/32"), prefix("10.1.0.0/16"), prefix("2001:db8:1::/48")];

const chain = (name: string, hook: string | undefined, type = "nat") => ({
  chain: {
    family: "ip",
    table: "nat",
    name,
    handle: 1,
    ...(hook === undefined ? {} : { type, hook, prio: 100 }),
  },
});
const rule = (...expr: unknown[]) => ({ rule: { family: "ip", table: "nat", chain: "c", expr } });
const inChain = (name: string, ...expr: unknown[]) => ({
  rule: { family: "ip", table: "nat", chain: name, expr },
});
const meta = (key: string, right: unknown, op = "==") => ({ match: { op, left: { meta: { key } }, right } });
const ip = (field: string, right: unknown, op = "==") => ({
  match: { op, left: { payload: { protocol: "ip", field } }, right },
});
const net = (addr: string, len: number) => ({ prefix: { addr, len } });
const masquerade = { masquerade: null };
const dnat = { dnat: { addr: "10.1.0.10", port: 80 } };
const xt = (name: string) => ({ xt: { type: "target", name } });

function judged(hook: "postrouting" | "prerouting", ...rows: unknown[]): string {
  const { nat } = readRuleset([chain("c", hook), ...rows], names);
  const verdict = judgeNat(nat, SELF, names.direct, attested);
  return verdict.ok ? "fine" : verdict.reason.kind === "nat-names-overlay" ? verdict.reason.what : "?";
}

describe("translation of sources", () => {
  it.each([
    ["oifname", meta("oifname", "wg0")],
    ["oif", meta("oif", "wg0")],
    ["a wildcard", meta("oifname", "wg*")],
    ["a set in place", meta("oifname", { set: ["eth0", "wg0"] })],
    ["another interface excluded", meta("oifname", "shortcut0", "!=")],
    [
      "a set with addresses",
      {
        match: {
          op: "==",
          left: { concat: [{ meta: { key: "oifname" } }, { payload: { protocol: "ip", field: "saddr" } }] },
          right: { set: [{ concat: ["wg0", net("10.1.0.0", 16)] }] },
        },
      },
    ],
  ])("keeps traffic on the overlay: %s", (_, match) => {
    expect(judged("postrouting", rule(match, masquerade))).toBe("source");
    expect(judged("postrouting", rule(match, { snat: { addr: "10.255.0.1" } }))).toBe("source");
    expect(judged("postrouting", rule(match, xt("MASQUERADE")))).toBe("source");
    expect(judged("postrouting", rule(match, { counter: null }))).toBe("fine");
  });

  it.each([
    ["the underlay", [meta("oifname", "eth0")]],
    ["both", [meta("oifname", { set: ["wg0", "shortcut0"] })]],
    ["both by a wildcard", [meta("oifname", "*")]],
    ["every interface", []],
    ["all but the underlay", [meta("oifname", "eth0", "!=")]],
    ["a source that is not attested", [meta("oifname", "wg0"), ip("saddr", net("10.50.0.0", 24))]],
    ["such a host", [ip("saddr", "10.50.0.7"), meta("oifname", "wg0")]],
    ["such a range", [meta("oifname", "wg0"), ip("saddr", { range: ["10.50.0.1", "10.50.0.9"] })]],
    ["such a set", [meta("oifname", "wg0"), ip("saddr", { set: [net("10.50.0.0", 24), "10.60.0.1"] })]],
  ])("does no harm: %s", (_, matches) => {
    expect(judged("postrouting", rule(...matches, masquerade))).toBe("fine");
  });

  it.each([
    ["an attested prefix", ip("saddr", net("10.1.7.0", 24))],
    ["a wider one", ip("saddr", net("10.0.0.0", 8))],
    ["all but one", ip("saddr", net("10.50.0.0", 24), "!=")],
    ["a named set", ip("saddr", "@guests")],
  ])("keeps traffic on the overlay for %s", (_, match) => {
    expect(judged("postrouting", rule(meta("oifname", "wg0"), match, masquerade))).toBe("source");
  });

  it("reads sets of interface names", () => {
    const set = (...elem: unknown[]) => ({
      set: { family: "ip", table: "nat", name: "lans", type: "ifname", elem },
    });
    const by = rule(meta("oifname", "@lans"), masquerade);
    expect(judged("postrouting", set("eth9", "wg0"), by)).toBe("source");
    expect(judged("postrouting", set("wg0", { elem: { val: "shortcut0", comment: "x" } }), by)).toBe("fine");
  });

  it("follows jumps and verdict maps", () => {
    const sub = [chain("sub", undefined), inChain("sub", ip("saddr", net("10.1.0.0", 16)), masquerade)];
    expect(judged("postrouting", rule(meta("oifname", "wg0"), { jump: { target: "sub" } }), ...sub)).toBe(
      "source",
    );
    expect(judged("postrouting", rule({ goto: { target: "sub" } }), ...sub)).toBe("fine");
    const vmap = {
      vmap: { key: { meta: { key: "oifname" } }, data: { set: [["wg0", { jump: { target: "sub" } }]] } },
    };
    expect(judged("postrouting", rule(vmap), ...sub)).toBe("source");
    expect(judged("postrouting", rule({ jump: { target: "c" } }))).toBe("fine");
  });

  it("knows that a rule before it took an interface out", () => {
    const leave = (dev: string) => rule(meta("oifname", dev), { return: null });
    expect(judged("postrouting", leave("shortcut0"), rule(masquerade))).toBe("source");
    expect(judged("postrouting", leave("wg0"), rule(masquerade))).toBe("fine");
    const some = rule(meta("oifname", "shortcut0"), ip("daddr", "10.9.9.9"), { accept: null });
    expect(judged("postrouting", some, rule(masquerade))).toBe("fine");
  });

  it("is known to cover the direct interface", () => {
    const covers = (...rows: unknown[]) =>
      translatesDirect(readRuleset([chain("c", "postrouting"), ...rows], names).nat);
    expect(covers(rule(meta("oifname", "wg0"), masquerade))).toBe(false);
    expect(covers(rule(meta("oifname", { set: ["wg0", "shortcut0"] }), masquerade))).toBe(true);
  });
});

describe("translation of destinations", () => {
  it.each([
    ["dnat", dnat],
    ["redirect", { redirect: { port: 53 } }],
    ["iptables", xt("DNAT")],
  ])("keeps traffic on the overlay: %s", (_, statement) => {
    expect(judged("prerouting", rule(meta("iifname", "wg0"), statement))).toBe("destination");
    expect(judged("prerouting", rule(meta("iifname", { set: ["wg0", "shortcut0"] }), statement))).toBe(
      "fine",
    );
    expect(judged("prerouting", rule(meta("iifname", "eth0"), statement))).toBe("fine");
  });

  it("does no harm for an address that does not go direct", () => {
    const to = (a: string) => judged("prerouting", rule(meta("iifname", "wg0"), ip("daddr", a), dnat));
    expect(to("203.0.113.7")).toBe("fine");
    expect(to("10.255.0.1")).toBe("destination");
  });
});

describe("of several overlay interfaces", () => {
  const two = { overlay: ["wg-a", "wg-b"], direct: "shortcut0" };
  const sub = [chain("sub", undefined), inChain("sub", masquerade)];
  const verdict = (...rows: unknown[]) =>
    judgeNat(readRuleset([chain("c", "postrouting"), ...rows], two).nat, SELF, two.direct, attested).ok;
  const vmap = (...devs: string[]) =>
    rule({
      vmap: {
        key: { meta: { key: "oifname" } },
        data: { set: devs.map((dev) => [dev, { jump: { target: "sub" } }]) },
      },
    });

  it.each([
    ["the first", meta("oifname", "wg-a")],
    ["the second", meta("oifname", "wg-b")],
    ["both, by a wildcard", meta("oifname", "wg-*")],
    ["all but one of them", meta("oifname", { set: ["wg-a", "shortcut0"] }, "!=")],
  ])("a rule that names %s keeps traffic on the overlay", (_, match) => {
    expect(verdict(rule(match, masquerade))).toBe(false);
  });

  it("a rule that names one of them beside the direct interface does no harm", () => {
    expect(verdict(rule(meta("oifname", { set: ["wg-b", "shortcut0"] }), masquerade))).toBe(true);
    expect(verdict(rule(meta("oifname", "eth0"), masquerade))).toBe(true);
  });

  it("a verdict map counts by each of its names", () => {
    expect(verdict(vmap("eth0", "wg-b"), ...sub)).toBe(false);
    expect(verdict(vmap("eth0", "shortcut0"), ...sub)).toBe(true);
  });

  it("without any, only the direct interface counts", () => {
    const { nat } = readRuleset([chain("c", "postrouting"), rule(masquerade)], { ...two, overlay: [] });
    expect(nat).toMatchObject([{ overlay: false, direct: true }]);
    expect(translatesDirect(nat)).toBe(true);
  });

  it("one that was taken out leaves the other to the rules behind it", () => {
    const leave = (...devs: string[]) => rule(meta("oifname", { set: devs }), { return: null });
    expect(verdict(leave("wg-a", "shortcut0"), rule(masquerade))).toBe(false);
    expect(verdict(leave("wg-a", "wg-b"), rule(masquerade))).toBe(true);
    expect(verdict(leave("wg-a", "wg-b", "shortcut0"), rule(masquerade))).toBe(true);
  });
});

describe("connection tracking", () => {
  const stateful = (...rows: unknown[]) => readRuleset(rows, names).stateful;
  it("is needed by NAT and by rules that ask for a state", () => {
    expect(stateful(chain("c", "postrouting"))).toBe(true);
    expect(stateful(rule({ match: { op: "in", left: { ct: { key: "state" } }, right: "new" } }))).toBe(true);
    expect(stateful(rule({ vmap: { key: { ct: { key: "state" } }, data: { set: [] } } }))).toBe(true);
    expect(stateful(rule({ xt: { type: "match", name: "conntrack" } }))).toBe(true);
    expect(stateful(chain("c", "forward", "filter"), rule(meta("iifname", "wg0"), { accept: null }))).toBe(
      false,
    );
  });
});

it("reads anything without an exception", () => {
  for (const rows of [
    [null],
    [1],
    [{ rule: 1 }],
    [{ rule: { expr: [null, 7, { match: 3 }] } }],
    [{ chain: {} }],
  ])
    expect(readRuleset(rows, names).nat).toEqual([]);
});
