/** Recorded output of BIRD's `show` commands, as values. */
import { readdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BirdReply, ReplyDecoder } from "../../../../plugin/wire/bird/reply.js";
import {
  matchesPattern,
  parseInterfaces,
  parseNumber,
  parseProtocols,
  parseRouterId,
  parseRoutes,
  parseStatics,
  parseTables,
  parseVersion,
} from "../../../../plugin/wire/bird/show.js";
import { processorTime } from "../../../sim/processor-time.js";
import { decodeAll, recorded, recordedBytes } from "./support.js";

function replyOf(...lines: readonly string[]): BirdReply {
  const [reply] = decodeAll(new TextEncoder().encode(`${lines.join("\n")}\n`));
  if (reply === undefined) throw new Error("no reply");
  return reply;
}

describe("what BIRD shows", () => {
  it("has a version", () => {
    expect(parseVersion(recorded("status"))).toBe("2.0.12");
    expect(parseVersion(recorded("tables"))).toBeUndefined();
  });

  it("has tables", () => {
    expect([...parseTables(recorded("tables"))].sort()).toEqual([
      "fib4",
      "fib6",
      "master4",
      "master6",
      "shortcut4",
      "shortcut6",
    ]);
  });

  it("lists protocols", () => {
    const all = parseProtocols(recorded("protocols"));
    expect(all).toHaveLength(17);
    expect(all.filter((p) => p.type === "Kernel").map((p) => [p.name, p.table])).toEqual([
      ["shortcut_k4", "shortcut4"],
      ["shortcut_k6", "shortcut6"],
      ["kernel1", "fib4"],
      ["kernel2", "fib6"],
    ]);
    expect(all.find((p) => p.name === "hub")).toMatchObject({ state: "up", info: "Established" });
  });

  it("reads other forms of the column Since", () => {
    const [a, b, c] = parseProtocols(
      decodeAll(
        new TextEncoder().encode(
          "1002-a BGP --- start 2026-11-22 Active        Socket: Connection refused\n b BGP --- up 2026-11-22 15:38:01 Established   \n c Kernel fib4 up 15:38:00.434 \n0000 \n",
        ),
      )[0] ?? { lines: [], last: { code: 0, text: "" } },
    );
    expect(a?.info).toBe("Active        Socket: Connection refused");
    expect(b?.info).toBe("Established");
    expect(c?.info).toBe("");
  });

  it("gives details of sessions, pipes and kernel protocols", () => {
    const shortcut = parseProtocols(recorded("protocols-shortcut"));
    expect(shortcut.map((p) => p.name)).toEqual([
      "shortcut",
      "shortcut_feed",
      "shortcut_pipe4",
      "shortcut_pipe6",
      "shortcut_k4",
      "shortcut_k6",
      "shortcut_fallback4",
      "shortcut_fallback6",
    ]);
    const session = shortcut[0];
    expect(session?.info).toBe("Established");
    expect(session?.fields.get("Neighbor address")).toBe("127.0.0.2");
    expect(session?.fields.get("Session")).toBe("internal multihop AS4");
    expect(session?.channels).toMatchObject([
      {
        name: "ipv4",
        table: "fib4",
        importFilter: "shortcut_policy",
        exportFilter: "REJECT",
        igpTable: "shortcut4",
      },
      {
        name: "ipv6",
        table: "fib6",
        importFilter: "shortcut_policy",
        exportFilter: "REJECT",
        igpTable: "shortcut6",
      },
    ]);
    expect(session?.channels[0]?.importUpdates).toMatchObject({ received: 3, rejected: 0, filtered: 0 });
    expect(parseProtocols(recorded("protocols-pipes"))[0]?.channels).toEqual([
      {
        name: "main",
        table: "master4",
        peerTable: "fib4",
        importFilter: "REJECT",
        exportFilter: "ACCEPT",
        igpTable: undefined,
        imported: 0,
        importUpdates: expect.anything(),
      },
    ]);
    expect(parseProtocols(recorded("session-disabled"))[0]).toMatchObject({ state: "down", info: "" });
  });

  it("tells which interfaces are up with an address of the network, and the router ID", () => {
    const reply = replyOf(
      "1001-lo up (index=1)",
      "1004-\tMultiAccess AdminUp LinkUp Loopback Ignored MTU=65536",
      "1003-\t127.0.0.1/8 (Preferred, scope host)",
      "1001-eth1 up (index=2)",
      "1004-\tMultiAccess Broadcast Multicast AdminUp LinkUp MTU=1500",
      "1003-\t192.0.2.2/26 (Preferred, scope univ)",
      " \tfe80::1/64 (Preferred, scope link)",
      "1001-eth9 down (index=3)",
      "1004-\tMultiAccess MTU=1500",
      "1003-\t192.0.2.130/26 (Preferred, scope univ)",
      "1001-p0 up (index=4)",
      "1004-\tMultiAccess MTU=1500",
      "1003-\tfe80::2/64 (Preferred, scope link)",
      "0000 ",
    );
    expect([...parseInterfaces(reply)]).toEqual(["eth1"]);
    expect(parseRouterId(recorded("status"))).toBe("10.255.0.1");
    expect(parseRouterId(replyOf("0000 "))).toBeUndefined();
  });

  it.each([
    ["hub*", "hub6", true],
    ["hub*", "a-hub", false],
    ["hub?", "hub6", true],
    ["hub?", "hub", false],
    ["h.b", "hub", false],
    ["*", "anything", true],
    ["bgp[1]", "bgp1", false],
  ])("the pattern %s and the name %s", (pattern, name, matches) => {
    expect(matchesPattern(pattern, name)).toBe(matches);
  });

  it("has all routes of a network, the best one marked", () => {
    const [offer, hub, ...rest] = parseRoutes(recorded("route-selected"));
    expect(rest).toEqual([]);
    expect(offer).toMatchObject({
      table: "fib4",
      prefix: "10.3.0.0/24",
      type: "unicast",
      protocol: "shortcut",
      primary: true,
      syncError: false,
      preference: 210,
      nextHops: ["dev wg0"],
    });
    expect(offer?.attributes.get("BGP.next_hop")).toBe("198.18.0.1");
    expect(hub).toMatchObject({
      prefix: "10.3.0.0/24",
      protocol: "hub",
      primary: false,
      preference: 100,
      nextHops: ["via 10.255.0.2 on wg0"],
    });
    expect(parseRoutes(recorded("route-beaten")).map((r) => [r.protocol, r.primary, r.preference])).toEqual([
      ["direct1", true, 240],
      ["shortcut", false, 210],
    ]);
    expect(parseRoutes(recorded("route6"))[0]).toMatchObject({
      prefix: "2001:db8:3::/64",
      protocol: "shortcut",
    });
    expect(parseRoutes(recorded("route-unreachable"))[0]).toMatchObject({
      type: "unreachable",
      primary: true,
    });
    expect(parseRoutes(recorded("route-filtered"))[0]).toMatchObject({
      protocol: "shortcut",
      primary: false,
    });
    expect(parseRoutes(recorded("alias"))[0]).toMatchObject({
      protocol: "shortcut_k4",
      prefix: "198.18.0.1/32",
    });
    expect(parseRoutes(recorded("exported"))).toHaveLength(1);
    for (const none of ["not-exported", "route-absent"]) expect(parseRoutes(recorded(none))).toEqual([]);
  });

  it("has static routes and constants", () => {
    expect(parseStatics(recorded("static4"))).toEqual([
      { prefix: "198.18.0.0/16", targets: ["via 10.255.0.3"], dormant: false },
    ]);
    expect(parseStatics(recorded("static6"))).toEqual([
      { prefix: "fd53:4843:5554::/64", targets: ["via fd00:255::3"], dormant: false },
    ]);
    expect(parseStatics(recorded("static-dormant"))).toEqual([
      { prefix: "198.18.0.0/16", targets: ["via 10.254.9.9"], dormant: true },
    ]);
    const many =
      "1009-198.18.0.0/17\n \tvia 10.0.0.1 (dormant)\n \tvia 10.0.0.2\n 198.18.128.0/17 unreachable\n0000 \n";
    expect(decodeAll(new TextEncoder().encode(many)).flatMap(parseStatics)).toEqual([
      { prefix: "198.18.0.0/17", targets: ["via 10.0.0.1", "via 10.0.0.2"], dormant: false },
      { prefix: "198.18.128.0/17", targets: ["unreachable"], dormant: false },
    ]);
    expect(parseNumber(recorded("table-number"))).toBe(4242);
    expect(parseNumber(recorded("unknown-table"))).toBeUndefined();
  });

  it("is read without an exception whatever is changed in it", () => {
    const names = readdirSync(new URL("./recorded", import.meta.url)).map((f) => f.replace(/\.txt$/, ""));
    expect(names.length).toBeGreaterThan(15);
    const change = fc.array(fc.tuple(fc.nat(5000), fc.integer({ min: 0, max: 255 })), { maxLength: 12 });
    fc.assert(
      fc.property(fc.constantFrom(...names), change, (name, changes) => {
        const mutated = recordedBytes(name);
        for (const [at, byte] of changes) mutated[at % mutated.length] = byte;
        const r = new ReplyDecoder().push(mutated);
        if (!r.ok) return;
        for (const reply of r.value)
          for (const parse of [
            parseVersion,
            parseTables,
            parseProtocols,
            parseRoutes,
            parseStatics,
            parseNumber,
          ])
            parse(reply);
      }),
      { numRuns: 500 },
    );
  });

  it("takes no more than linear time for runs of blanks", () => {
    const blanks = " ".repeat(60_000);
    const lines = [1001, 1002, 1003, 1006, 1007, 1008, 1009, 1010, 1011, 1012].flatMap((code) => [
      { code, text: `${blanks}x` },
      { code, text: `\t${blanks}x` },
      { code, text: `a b c d ${blanks}x` },
      { code, text: `  a: ${blanks}x${blanks}` },
    ]);
    const reply = { lines, last: { code: 0, text: "" } };
    const readAll = () => {
      for (const parse of [
        parseVersion,
        parseTables,
        parseProtocols,
        parseRoutes,
        parseStatics,
        parseInterfaces,
      ])
        parse(reply);
    };
    // the square would be many seconds
    expect(processorTime(readAll)).toBeLessThan(2_000);
  });
});
