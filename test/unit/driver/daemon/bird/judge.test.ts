/** The audit and the explanations, on recorded replies and on modified ones. */

import { describe, expect, it } from "vitest";
import { auditBird, type BirdFacts } from "../../../../../plugin/driver/daemon/bird/audit.js";
import { explainBird, type OfferFacts } from "../../../../../plugin/driver/daemon/bird/explain.js";
import type { DaemonExpectation } from "../../../../../plugin/driver/ports.js";
import { address, prefix } from "../../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../../plugin/net/interface-names.js";
import { describeReason } from "../../../../../plugin/shortcut/reasons.js";
import {
  type BirdChannel,
  type BirdProtocol,
  parseProtocols,
  parseRoutes,
  parseStatics,
  parseTables,
} from "../../../../../plugin/wire/bird/show.js";
import { recorded } from "../../../wire/bird/support.js";

const expectation: DaemonExpectation = {
  overlay: new InterfaceNames(["wg0"]),
  overlayAddresses: [
    { address: address("10.255.0.1"), length: 24 },
    { address: address("fd00:255::1"), length: 64 },
  ],
  hubs: [address("10.255.0.3")],
  direct: "shortcut0",
  routerId: address("127.0.0.2"),
  blackboardTable: 4242,
  aliasPool4: prefix("198.18.0.0/16"),
  aliasPool6: prefix("fd53:4843:5554::/64"),
  offersSource: address("127.0.0.2"),
  feedSource: address("127.0.0.3"),
  localAs: 65000,
  password: "",
};

/** With details where there are any. */
const protocols = [
  "protocols",
  "protocols-shortcut",
  "protocols-pipes",
  "protocols-kernel1",
  "protocols-kernel2",
].flatMap((n) => parseProtocols(recorded(n)));
const hubs = [
  ["hub", "10.255.0.3"],
  ["hub6", "fd00:255::3"],
  ["site_ra", "10.1.8.2"],
] as const;
for (const [name, neighbour] of hubs) {
  const p = protocols.find((x) => x.name === name);
  if (p === undefined) throw new Error(name);
  protocols.push({ ...p, fields: new Map([["Neighbor address", neighbour]]) });
}
const facts: BirdFacts = {
  version: "2.0.12",
  bfd: new Set(),
  tables: parseTables(recorded("tables")),
  protocols: new Map(protocols.map((p) => [p.name, p])),
  statics: new Map([
    ["shortcut_fallback4", parseStatics(recorded("static4"))],
    ["shortcut_fallback6", parseStatics(recorded("static6"))],
  ]),
  shortcutTable: 4242,
  underneath: "hub*",
  offer: "(65000, 1, 1)",
  aliases: { 4: "198.18.0.0/16", 6: "fd53:4843:5554::/64" },
  routerId: address("10.255.0.1"),
  interfaces: new Set(["eth1", "eth2", "wg0"]),
  directs: new Map([["direct1", new Set(["eth2"])]]),
};
const kernel = (change: Partial<BirdChannel>): BirdFacts =>
  withProtocol("kernel1", (p) => ({ ...p, channels: p.channels.map((c) => ({ ...c, ...change })) }));
const withProtocol = (name: string, change: (p: BirdProtocol) => BirdProtocol): BirdFacts => {
  const p = facts.protocols.get(name);
  if (p === undefined) throw new Error(name);
  return { ...facts, protocols: new Map([...facts.protocols, [name, change(p)]]) };
};
const problems = (f: BirdFacts, e = expectation): string[] => auditBird(f, e).map((x) => x.problem);

describe("the audit of BIRD", () => {
  it("finds nothing in what is shipped", () => expect(problems(facts)).toEqual([]));

  it.each<[string, BirdFacts, RegExp]>([
    [
      "a pipe that is down",
      withProtocol("fib_pipe4", (p) => ({ ...p, state: "down" })),
      /fib_pipe4 is not up \(down\)/,
    ],
    [
      "a kernel protocol that is down",
      withProtocol("kernel1", (p) => ({ ...p, state: "down" })),
      /kernel1 is not up/,
    ],
    [
      "another type under our name",
      withProtocol("shortcut_k4", (p) => ({ ...p, type: "Static" })),
      /shortcut_k4 is of type Static, not Kernel/,
    ],
    [
      "a session that dials",
      withProtocol("shortcut", (p) => ({ ...p, state: "start", info: "Connect" })),
      /shortcut dials itself \(Connect\)/,
    ],
    [
      "a session without a channel",
      withProtocol("shortcut_feed", (p) => ({ ...p, channels: p.channels.slice(0, 1) })),
      /shortcut_feed has no ipv6 channel/,
    ],
    [
      "a pipe between other tables",
      withProtocol("shortcut_pipe6", (p) => ({
        ...p,
        channels: p.channels.map((c) => ({ ...c, table: "master6" })),
      })),
      /pipe shortcut_pipe6 joins master6 and shortcut6, not fib6 and shortcut6/,
    ],
    [
      "a kernel protocol that learns without the way back",
      kernel({ importFilter: "ACCEPT", imported: 3 }),
      /kernel1 has learned 3 routes into fib4, and no pipe shortcut_learned4 takes them to master4/,
    ],
    [
      "a kernel protocol that may learn without the way back",
      kernel({ importFilter: "(unnamed)", imported: 0 }),
      /kernel1 imports into fib4, and no pipe shortcut_learned4/,
    ],
    [
      "a pattern that matches no protocol",
      { ...facts, underneath: "rr*" },
      /SHORTCUT_UNDERNEATH "rr\*" matches no protocol that has routes/,
    ],
    [
      "a pattern that matches only a protocol without routes",
      { ...facts, underneath: "device?" },
      /SHORTCUT_UNDERNEATH "device\?" matches no protocol that has routes/,
    ],
    [
      "a pattern that misses a session on the overlay",
      { ...facts, underneath: "hub" },
      /SHORTCUT_UNDERNEATH "hub" does not match hub6 \(fd00:255::3\)/,
    ],
    [
      "a mark of offers with another AS",
      { ...facts, offer: "(65001, 1, 1)" },
      /SHORTCUT_OFFER is \(65001, 1, 1\), and offers carry \(65000, 1, 1\)/,
    ],
    [
      "a router ID that is ours",
      { ...facts, routerId: address("127.0.0.2") },
      /BIRD's router ID 127\.0\.0\.2 is also the BGP identifier of the offers session/,
    ],
    [
      "a direct protocol of every interface",
      { ...facts, directs: new Map([["direct1", new Set(["eth1", "eth2", "wg0"])]]) },
      /direct1 takes the addresses of every interface, so probably those of shortcut0 too/,
    ],
    [
      "a direct protocol of the direct interface",
      {
        ...facts,
        interfaces: new Set([...facts.interfaces, "shortcut0"]),
        directs: new Map([["direct1", new Set(["eth2", "shortcut0"])]]),
      },
      /direct1 takes the addresses of shortcut0:/,
    ],
    [
      "aliases of another pool",
      { ...facts, aliases: { ...facts.aliases, 4: "198.19.0.0/16" } },
      /SHORTCUT_ALIASES4 is 198\.19\.0\.0\/16, and aliases are of 198\.18\.0\.0\/16: shortcut_policy refuses offers/,
    ],
    [
      "an earlier version, whose policy takes any next hop",
      { ...facts, aliases: { ...facts.aliases, 6: undefined } },
      /nothing shows that ipv6 offers are imported only with an alias as next hop \(SHORTCUT_ALIASES6 is not defined\)/,
    ],
    [
      "an import filter of another name",
      withProtocol("shortcut", (p) => ({
        ...p,
        channels: p.channels.map((c) => (c.name === "ipv4" ? { ...c, importFilter: "mine" } : c)),
      })),
      /nothing shows that ipv4 offers are imported only with an alias as next hop \(import filter mine\)/,
    ],
    ["another blackboard", { ...facts, shortcutTable: 100 }, /kernel table 100, .* says 4242/],
    [
      "a missing table",
      { ...facts, tables: new Set([...facts.tables].filter((t) => t !== "shortcut6")) },
      /table shortcut6 is missing/,
    ],
    [
      "two fallbacks that leave a gap",
      {
        ...facts,
        statics: new Map([
          ...facts.statics,
          [
            "shortcut_fallback4",
            [
              { prefix: prefix("198.18.0.0/17"), targets: ["via 10.255.0.3"], dormant: false },
              { prefix: prefix("198.18.128.0/18"), targets: ["via 10.255.0.3"], dormant: false },
            ],
          ],
        ]),
      },
      /does not cover the alias pool/,
    ],
  ])("finds %s, and nothing else", (_, broken, problem) => {
    expect(problems(broken)).toEqual([expect.stringMatching(problem)]);
  });

  it("accepts the way back, and a direct protocol of everything but the direct interface", () => {
    const learning = kernel({ importFilter: "ACCEPT", imported: 3 });
    const pipe = facts.protocols.get("fib_pipe4");
    if (pipe === undefined) throw new Error("fib_pipe4");
    const back = {
      ...pipe,
      name: "shortcut_learned4",
      channels: pipe.channels.map((c) => ({ ...c, table: "fib4", peerTable: "master4" })),
    };
    expect(problems({ ...learning, protocols: new Map([...learning.protocols, [back.name, back]]) })).toEqual(
      [],
    );
    const wrong = { ...back, channels: pipe.channels };
    expect(
      problems({ ...learning, protocols: new Map([...learning.protocols, [back.name, wrong]]) }),
    ).toEqual(["pipe shortcut_learned4 joins master4 and fib4, not fib4 and master4"]);
    const interfaces = new Set([...facts.interfaces, "shortcut0"]);
    const directs = new Map([["direct1", new Set(["eth1", "eth2", "wg0"])]]);
    expect(problems({ ...facts, interfaces, directs })).toEqual([]);
  });

  it("does not judge constants that an operator has written out", () => {
    expect(problems({ ...facts, underneath: undefined, offer: undefined })).toEqual([]);
  });

  it("warns of graceful restart without BFD where another hub could take over", () => {
    const hub = (name: string, neighbour: string, ...ends: string[]): [string, BirdProtocol] => {
      const p = facts.protocols.get("hub");
      if (p === undefined) throw new Error(name);
      const fields = new Map([
        ["Neighbor address", neighbour],
        ...ends.map((e) => [`${e} graceful restart`, ""] as const),
      ]);
      return [name, { ...p, name, fields }];
    };
    const both = ["Local", "Neighbor"];
    const two = {
      ...expectation,
      overlay: new InterfaceNames(["wg-hub*"]),
      hubs: [address("10.255.0.1"), address("10.255.0.2")],
    };
    const found = (bfd: readonly string[], ends = both, e = two): string[] =>
      auditBird(
        {
          ...facts,
          bfd: new Set(bfd.map(address)),
          protocols: new Map([
            ...facts.protocols,
            hub("hub1", "fe80::1%wg-hub1", ...ends),
            hub("hub2", "fe80::2%wg-hub2", ...ends),
            hub("site_ra", "fe80::9%eth2", ...both),
          ]),
        },
        e,
      )
        .map((f) => f.problem)
        .filter((p) => p.includes("graceful restart"));
    expect(found([])).toEqual([
      "protocol hub1, hub2 has graceful restart and no BFD: the routes of a dead hub stay for its restart time, although another hub has them",
    ]);
    expect(found(["fe80::1", "fe80::2"])).toEqual([]);
    expect(found([], ["Neighbor"])).toEqual([]);
    expect(found([], both, { ...two, hubs: [address("10.255.0.1")] })).toEqual([]);
  });

  it("accepts a fallback in parts, and an operator who wrote the table's number", () => {
    const halves = ["198.18.0.0/17", "198.18.128.0/17"].map((p) => ({
      prefix: prefix(p),
      targets: ["via 10.255.0.3"],
      dormant: false,
    }));
    const statics = new Map([...facts.statics, ["shortcut_fallback4", halves] as const]);
    expect(problems({ ...facts, statics, shortcutTable: undefined })).toEqual([]);
  });

  it("does not ask for IPv6 without a pool", () => {
    const only4 = new Map([...facts.protocols].filter(([name]) => !/6$|kernel2/.test(name)));
    const f = { ...facts, protocols: only4, tables: new Set(["master4", "fib4", "shortcut4"]) };
    expect(problems(f, { ...expectation, aliasPool6: undefined })).toEqual([]);
    const found = auditBird(f, expectation);
    expect(found.length).toBeGreaterThan(4);
    expect(new Set(found.map((x) => x.severity))).toEqual(new Set(["warning"]));
  });
});

const session = parseProtocols(recorded("protocols-shortcut"))[0];
const offered: OfferFacts = {
  session,
  routes: parseRoutes(recorded("route-selected")),
  filtered: false,
  aliasRoute: parseRoutes(recorded("alias"))[0],
  kernels: [{ name: "kernel1", filter: "(unnamed)", exported: true }],
};
const changed = (change: Partial<OfferFacts>): OfferFacts => ({ ...offered, ...change });
const down = (p: Partial<BirdProtocol>): OfferFacts =>
  changed({ session: session === undefined ? undefined : { ...session, ...p } });

describe("BIRD's reasons", () => {
  it.each<[string, OfferFacts, boolean]>([
    ["BIRD: selected, preference 210", offered, true],
    ["BIRD: there is no protocol shortcut", changed({ session: undefined }), false],
    [
      "BIRD: protocol shortcut is disabled",
      changed({ session: parseProtocols(recorded("session-disabled"))[0] }),
      false,
    ],
    ["BIRD: session shortcut is not established (Passive)", down({ state: "start", info: "Passive" }), false],
    [
      "BIRD: session shortcut is not established (Idle, last error: BGP: Bad peer AS)",
      down({ state: "start", info: "Idle", fields: new Map([["Last error", "BGP: Bad peer AS"]]) }),
      false,
    ],
    [
      "BIRD: rejected by import filter shortcut_policy",
      changed({ routes: parseRoutes(recorded("route-hub")), filtered: true }),
      false,
    ],
    [
      "BIRD: rejected by import filter shortcut_policy",
      changed({
        routes: parseRoutes(recorded("route-hub")),
        session: parseProtocols(recorded("session-filtered"))[0],
      }),
      false,
    ],
    ["BIRD: not received on session shortcut", changed({ routes: [] }), false],
    [
      "BIRD: route of protocol direct1 preferred, preference 240 > 210",
      changed({ routes: parseRoutes(recorded("route-beaten")) }),
      false,
    ],
    [
      "BIRD: route of protocol hub preferred at equal preference 100; import filter shortcut_policy does not raise the offer's preference",
      changed({
        routes: offered.routes.map((r) => ({ ...r, preference: 100, primary: r.protocol === "hub" })),
      }),
      false,
    ],
    [
      "BIRD: selected, but alias 198.18.0.1 is unresolved and the route is unreachable: no route for it in shortcut4, not even the fallback",
      changed({ routes: parseRoutes(recorded("route-unreachable")) }),
      false,
    ],
    [
      "BIRD: selected in fib4, but no kernel protocol takes routes from fib4",
      changed({ kernels: [] }),
      false,
    ],
    [
      "BIRD: selected in fib4, but kernel protocol kernel1 drops it (export filter mine)",
      changed({ kernels: [{ name: "kernel1", filter: "mine", exported: false }] }),
      false,
    ],
    [
      "BIRD: selected in fib4, but the kernel refused the route",
      changed({ routes: offered.routes.map((r) => ({ ...r, syncError: r.primary })) }),
      false,
    ],
  ])("%s", (reason, f, selected) => {
    const e = explainBird(prefix("10.3.0.0/24"), address("198.18.0.1"), f);
    expect({ selected: e.selected, reason: describeReason(e.reason) }).toEqual({ selected, reason });
  });
});
