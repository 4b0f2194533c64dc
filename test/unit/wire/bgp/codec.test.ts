/** BGP messages survive the wire, and malformed bytes are typed errors. */
import { describe, expect, it } from "vitest";
import { address, type Family, prefix } from "../../../../plugin/net/address.js";
import { mergeAs4Path } from "../../../../plugin/wire/bgp/as-path.js";
import {
  community,
  largeCommunity,
  parseCommunity,
  parseLargeCommunity,
} from "../../../../plugin/wire/bgp/community.js";
import { encodeKeepalive, Framer } from "../../../../plugin/wire/bgp/framer.js";
import {
  administrativeShutdown,
  decodeNotification,
  describeNotification,
  encodeNotification,
  notification,
  shutdownCommunication,
} from "../../../../plugin/wire/bgp/notification.js";
import { type AddPathMode, decodeOpen, encodeOpen, type Open } from "../../../../plugin/wire/bgp/open.js";
import { decodeRouteRefresh, encodeRouteRefresh } from "../../../../plugin/wire/bgp/route-refresh.js";
import {
  decodeUpdate,
  encodeEndOfRib,
  encodeReach,
  encodeWithdrawals,
} from "../../../../plugin/wire/bgp/update.js";
import { attributes, bytes, context, MARKER, updateBody } from "../../bgp/support.js";

const only = (messages: readonly Uint8Array[]): Uint8Array => {
  expect(messages).toHaveLength(1);
  return messages[0] ?? new Uint8Array(0);
};
const body = (message: Uint8Array): Uint8Array => message.subarray(19);

describe("framer (RFC 4271 §4.1, §6.1)", () => {
  const update = bytes(`${MARKER} 0017 02 0000 0000`);

  it("cuts messages wherever the stream is cut", () => {
    const stream = Uint8Array.from([...encodeKeepalive(), ...update, ...encodeKeepalive()]);
    for (let size = 1; size <= stream.length; size++) {
      const framer = new Framer();
      const types: string[] = [];
      for (let at = 0; at < stream.length; at += size) {
        framer.push(stream.slice(at, at + size));
        for (let f = framer.next(); f !== undefined; f = framer.next())
          types.push(f.kind === "message" ? `${f.type} ${f.body.length}` : f.reason);
      }
      expect(types).toEqual(["KEEPALIVE 0", "UPDATE 4", "KEEPALIVE 0"]);
    }
  });

  it.each([
    ["not all ones", `${"ff".repeat(15)}fe 0013 04`, 1, 1, ""],
    ["no BGP at all, at the first bytes", "48545450", 1, 1, ""],
    ["shorter than a header", `${MARKER} 0012 04`, 1, 2, "0012"],
    ["longer than 4096", `${MARKER} 1001 02`, 1, 2, "1001"],
    ["KEEPALIVE with a body", `${MARKER} 0014 04 00`, 1, 2, "0014"],
    ["OPEN below 29", `${MARKER} 001c 01`, 1, 2, "001c"],
    ["UPDATE below 23", `${MARKER} 0016 02`, 1, 2, "0016"],
    ["NOTIFICATION below 21", `${MARKER} 0014 03`, 1, 2, "0014"],
    ["unknown type", `${MARKER} 0013 06`, 1, 3, "06"],
  ])("%s", (_, hex, code, subcode, data) => {
    const framer = new Framer();
    framer.push(bytes(hex));
    expect(framer.next()).toMatchObject({
      kind: "error",
      notification: notification(code, subcode, bytes(data)),
    });
    framer.push(encodeKeepalive());
    expect(framer.next()).toBeUndefined();
  });
});

describe("OPEN", () => {
  const open: Open = {
    as: 4200000000,
    holdTime: 9,
    bgpIdentifier: address("127.0.0.2"),
    capabilities: {
      families: new Set<Family>([4, 6]),
      fourOctetAs: true,
      routeRefresh: true,
      enhancedRouteRefresh: true,
      addPath: new Map<Family, AddPathMode>([[4, "receive"]]),
      gracefulRestart: "none",
    },
  };
  const capabilities = "0104 0001 00 01  0104 0002 00 01  0200  4104 fa56ea00  4504 0001 01 01  4600";

  it("is these bytes, AS_TRANS in the two-octet field", () => {
    expect(encodeOpen(open)).toEqual(
      bytes(`${MARKER} 003b 01 04 5ba0 0009 7f000002 1e 02 1c ${capabilities}`),
    );
  });
  it("reads back", () => expect(decodeOpen(body(encodeOpen(open)))).toEqual({ ok: true, value: open }));
  it("carries the graceful restart capability only without address families", () => {
    const c = { ...open.capabilities, gracefulRestart: "end-of-rib" } as const;
    const decoded = decodeOpen(body(encodeOpen({ ...open, capabilities: c })));
    expect(decoded.ok && decoded.value.capabilities.gracefulRestart).toBe("end-of-rib");
    const bird = decodeOpen(bytes("04 fde8 0009 0aff0001 0a 02 08 4006 0078 0001 0180"));
    expect(bird.ok && bird.value.capabilities.gracefulRestart).toBe("forwarding");
  });
  it("implies IPv4 unicast without capabilities, and reads RFC 9072 lengths", () => {
    const plain = decodeOpen(bytes("04 fde8 00b4 0aff0001 00"));
    expect(plain).toMatchObject({ ok: true, value: { as: 65000, holdTime: 180 } });
    expect(plain.ok && [...plain.value.capabilities.families]).toEqual([4]);
    const extended = decodeOpen(bytes("04 fde8 00b4 0aff0001 ff ff 0009 02 0006 4104 fa56ea00"));
    expect(extended).toMatchObject({ ok: true, value: { as: 4200000000 } });
  });
  it.each([
    ["version 3", "03 fde8 0009 0aff0001 00", 2, 1],
    ["AS 0", "04 0000 0009 0aff0001 00", 2, 2],
    ["identifier 0.0.0.0", "04 fde8 0009 00000000 00", 2, 3],
    ["unknown parameter", "04 fde8 0009 0aff0001 02 0100", 2, 4],
    ["hold time 2", "04 fde8 0002 0aff0001 00", 2, 6],
    ["parameter overruns", "04 fde8 0009 0aff0001 03 020400", 2, 0],
    ["capability overruns", "04 fde8 0009 0aff0001 04 02020204", 2, 0],
    ["wrong total length", "04 fde8 0009 0aff0001 05 0200", 2, 0],
  ])("%s", (_, hex, code, subcode) => {
    expect(decodeOpen(bytes(hex))).toMatchObject({ ok: false, error: { notification: { code, subcode } } });
  });
});

describe("UPDATE bytes", () => {
  it("has every attribute of an internal IPv4 route, in order of type", () => {
    const message = only(
      unwrap(
        encodeReach(
          {
            attributes: attributes({
              origin: "incomplete",
              asPath: [
                { type: "sequence", ases: [65001, 4200000000] },
                { type: "set", ases: [1, 2] },
              ],
              med: 7,
              localPref: 150,
              atomicAggregate: true,
              aggregator: { as: 65001, address: address("192.0.2.9") },
              communities: [community("65000:100"), community("65535:65282")],
              largeCommunities: [largeCommunity("4200000000:1:2")],
              originatorId: address("192.0.2.7"),
              clusterList: [address("192.0.2.8")],
            }),
            nlri: [
              { prefix: prefix("10.20.0.0/16"), pathId: 0 },
              { prefix: prefix("0.0.0.0/0"), pathId: 0 },
              { prefix: prefix("10.128.0.0/9"), pathId: 0 },
            ],
          },
          context(),
        ),
      ),
    );
    expect(body(message)).toEqual(
      updateBody(
        "",
        `40 01 01 02
         40 02 14 02 02 0000fde9 fa56ea00  01 02 00000001 00000002
         40 03 04 c0000201
         80 04 04 00000007
         40 05 04 00000096
         40 06 00
         c0 07 08 0000fde9 c0000209
         c0 08 08 fde80064 ffffff02
         80 09 04 c0000207
         80 0a 04 c0000208
         c0 20 0c fa56ea00 00000001 00000002`,
        "10 0a14  00  09 0a80",
      ),
    );
  });

  it("leaves LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST out towards an external neighbour", () => {
    const a = attributes({
      localPref: 1,
      originatorId: address("192.0.2.7"),
      clusterList: [address("192.0.2.8")],
    });
    const message = only(
      unwrap(
        encodeReach(
          { attributes: a, nlri: [{ prefix: prefix("10.0.0.0/8"), pathId: 0 }] },
          context({ sessionType: "ebgp" }),
        ),
      ),
    );
    expect(body(message)).toEqual(updateBody("", "40 01 01 00  40 02 00  40 03 04 c0000201", "08 0a"));
  });

  it("writes AS_TRANS and AS4_PATH for a neighbour with two octets, and reads them together", () => {
    const two = context({ fourOctetAs: false });
    const a = attributes({
      asPath: [{ type: "sequence", ases: [65001, 4200000000] }],
      aggregator: { as: 4200000000, address: address("192.0.2.9") },
    });
    const nlri = [{ prefix: prefix("10.0.0.0/8"), pathId: 0 }];
    const message = only(unwrap(encodeReach({ attributes: a, nlri }, two)));
    expect(body(message)).toEqual(
      updateBody(
        "",
        `40 01 01 00  40 02 06 02 02 fde9 5ba0  40 03 04 c0000201  c0 07 06 5ba0 c0000209
         c0 11 0a 02 02 0000fde9 fa56ea00  c0 12 08 fa56ea00 c0000209`,
        "08 0a",
      ),
    );
    expect(decodeUpdate(body(message), two)).toEqual({
      kind: "ok",
      update: { withdrawn: [], reach: [{ attributes: a, nlri }], endOfRib: undefined },
    });
  });

  it("carries IPv6 in MP_REACH_NLRI, first, with the global next hop alone", () => {
    const a = attributes({ nextHop: address("2001:db8::1") });
    const nlri = [{ prefix: prefix("2001:db8:20::/48"), pathId: 0 }];
    const message = only(unwrap(encodeReach({ attributes: a, nlri }, context())));
    expect(body(message)).toEqual(
      updateBody(
        "",
        "90 0e 001c 0002 01 10 20010db8000000000000000000000001 00 30 20010db80020  40 01 01 00  40 02 00",
        "",
      ),
    );
    const two = updateBody(
      "",
      `80 0e 2c 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000009 00 30 20010db80020
       40 01 01 00  40 02 00`,
      "",
    );
    expect(decodeUpdate(two, context())).toMatchObject({
      kind: "ok",
      update: { reach: [{ attributes: { nextHop: "2001:db8::1", linkLocalNextHop: "fe80::9" }, nlri }] },
    });
  });

  it("withdraws, and ends a RIB", () => {
    const v4 = encodeWithdrawals(4, [{ prefix: prefix("10.20.0.0/16"), pathId: 0 }], context());
    expect(body(only(v4))).toEqual(updateBody("10 0a14", "", ""));
    const v6 = encodeWithdrawals(6, [{ prefix: prefix("2001:db8::/32"), pathId: 0 }], context());
    expect(body(only(v6))).toEqual(updateBody("", "90 0f 0008 0002 01 20 20010db8", ""));
    expect(encodeEndOfRib(4)).toEqual(bytes(`${MARKER} 0017 02 0000 0000`));
    expect(encodeEndOfRib(6)).toEqual(bytes(`${MARKER} 001d 02 0000 0006 80 0f 03 0002 01`));
    for (const f of [4, 6] as const)
      expect(decodeUpdate(body(encodeEndOfRib(f)), context())).toMatchObject({
        kind: "ok",
        update: { endOfRib: f },
      });
    expect(decodeUpdate(body(only(v6)), context())).toMatchObject({
      kind: "ok",
      update: { withdrawn: [{ prefix: "2001:db8::/32" }], endOfRib: undefined },
    });
  });

  it("reads path identifiers where ADD-PATH was agreed", () => {
    const addPath = context({ addPath: new Set<Family>([4]) });
    const u = updateBody(
      "00000007 18 0a0100",
      "40 01 01 00  40 02 00  40 03 04 c0000201",
      "00000001 08 0a 00000002 08 0a",
    );
    expect(decodeUpdate(u, addPath)).toMatchObject({
      kind: "ok",
      update: {
        withdrawn: [{ prefix: "10.1.0.0/24", pathId: 7 }],
        reach: [
          {
            nlri: [
              { prefix: "10.0.0.0/8", pathId: 1 },
              { prefix: "10.0.0.0/8", pathId: 2 },
            ],
          },
        ],
      },
    });
  });

  it("packs a thousand prefixes into messages that are full", () => {
    const nlri = Array.from({ length: 3000 }, (_, i) => ({
      prefix: prefix(`10.${i >> 8}.${i & 255}.0/24`),
      pathId: 0,
    }));
    const messages = unwrap(encodeReach({ attributes: attributes(), nlri }, context()));
    const size = 3000 * 4;
    expect(messages).toHaveLength(Math.ceil(size / (4096 - 23 - 14)));
    for (const m of messages) expect(m.length).toBeLessThanOrEqual(4096);
    for (const m of messages.slice(0, -1)) expect(m.length).toBeGreaterThan(4090);
    const six = nlri.map((_, i) => ({ prefix: prefix(`2001:db8:${i.toString(16)}::/48`), pathId: 0 }));
    const mp = unwrap(
      encodeReach({ attributes: attributes({ nextHop: address("2001:db8::1") }), nlri: six }, context()),
    );
    for (const m of [...mp, ...encodeWithdrawals(6, six, context())])
      expect(m.length).toBeLessThanOrEqual(4096);
    expect(mp).toHaveLength(6);
  });

  it("refuses what no message can carry", () => {
    const nlri = [{ prefix: prefix("10.0.0.0/8"), pathId: 0 }];
    const long = attributes({ communities: Array.from({ length: 1020 }, (_, i) => community(`1:${i}`)) });
    expect(encodeReach({ attributes: long, nlri }, context())).toMatchObject({ ok: false });
    const six = attributes({ nextHop: address("2001:db8::1") });
    expect(encodeReach({ attributes: six, nlri }, context())).toMatchObject({ ok: false });
  });

  it("passes on what it does not know, as partial", () => {
    const known = "40 01 01 00  40 02 00  40 03 04 c0000201";
    const u = updateBody("", `${known} c0 10 08 0002fde800000064  80 63 01 05  d0 64 0002 0102`, "08 0a");
    const decoded = decodeUpdate(u, context());
    if (decoded.kind !== "ok") throw new Error(decoded.kind);
    const [reach] = decoded.update.reach;
    expect(reach?.attributes.unknown).toEqual([
      { flags: 0xc0, type: 16, value: bytes("0002fde800000064") },
      { flags: 0xc0, type: 100, value: bytes("0102") },
    ]);
    if (reach === undefined) throw new Error("no route");
    expect(body(only(unwrap(encodeReach(reach, context()))))).toEqual(
      updateBody("", `${known} c0 10 08 0002fde800000064  e0 64 02 0102`, "08 0a"),
    );
  });
});

describe("AS4_PATH (RFC 6793 §4.2.3)", () => {
  const seq = (...ases: number[]) => ({ type: "sequence", ases }) as const;
  it("keeps the leading part that an old speaker added", () => {
    expect(mergeAs4Path([seq(1, 23456, 23456)], [seq(70000, 70001)])).toEqual([seq(1, 70000, 70001)]);
    expect(mergeAs4Path([seq(1), seq(23456)], [seq(70000)])).toEqual([seq(1, 70000)]);
  });
  it("is ignored, with AS4_AGGREGATOR, when an old speaker aggregated since", () => {
    const u = updateBody(
      "",
      `40 01 01 00  40 02 06 02 02 fde9 5ba0  40 03 04 c0000201  c0 07 06 fde9 c0000209
       c0 11 0a 02 02 0000fde9 fa56ea00  c0 12 08 fa56ea00 c0000209`,
      "08 0a",
    );
    expect(decodeUpdate(u, context({ fourOctetAs: false }))).toMatchObject({
      kind: "ok",
      update: { reach: [{ attributes: { asPath: [{ ases: [65001, 23456] }], aggregator: { as: 65001 } } }] },
    });
  });
  it("is ignored when it is the longer one", () => {
    expect(mergeAs4Path([seq(1)], [seq(70000, 70001)])).toEqual([seq(1)]);
  });
});

describe("NOTIFICATION", () => {
  it("has the RFC's names", () => {
    expect(describeNotification(notification(2, 2))).toBe("OPEN Message Error / Bad Peer AS (2/2)");
    expect(describeNotification(notification(4, 0))).toBe("Hold Timer Expired (4/0)");
    expect(describeNotification(notification(6, 5))).toBe("Cease / Connection Rejected (6/5)");
    expect(describeNotification(notification(99, 3))).toBe("unknown error code / unknown subcode (99/3)");
  });
  it("carries a shutdown communication of at most 255 bytes of UTF-8", () => {
    const n = administrativeShutdown("é".repeat(200));
    expect(n.data[0]).toBe(254);
    expect(shutdownCommunication(n)).toBe("é".repeat(127));
    expect(describeNotification(administrativeShutdown("bye"))).toBe(
      'Cease / Administrative Shutdown (6/2): "bye"',
    );
    expect(shutdownCommunication(notification(6, 2, bytes("05 61")))).toBeUndefined();
    expect(shutdownCommunication(notification(6, 2, bytes("01 ff")))).toBeUndefined();
  });
  it("reads back", () => {
    const n = notification(3, 5, bytes("0102"));
    expect(decodeNotification(encodeNotification(n))).toEqual({ ok: true, value: n });
    expect(decodeNotification(bytes("03"))).toMatchObject({ ok: false });
  });
});

describe("ROUTE-REFRESH", () => {
  it("is these bytes and reads back", () => {
    expect(encodeRouteRefresh(6, "end")).toEqual(bytes(`${MARKER} 0017 05 0002 02 01`));
    expect(decodeRouteRefresh(bytes("0001 00 01"))).toEqual({
      ok: true,
      value: { family: 4, subtype: "request" },
    });
    expect(decodeRouteRefresh(bytes("0001 00 80"))).toMatchObject({ value: { family: undefined } });
    expect(decodeRouteRefresh(bytes("0001 01"))).toMatchObject({
      ok: false,
      error: { notification: { code: 7, subcode: 1 } },
    });
  });
});

describe("communities", () => {
  it("are canonical or nothing", () => {
    expect(parseCommunity("65535:0")).toBe("65535:0");
    for (const bad of ["65536:0", "1", "1:2:3", "01:2", "-1:2", "1:", ""])
      expect(parseCommunity(bad)).toBeUndefined();
    expect(parseLargeCommunity("4294967295:0:1")).toBe("4294967295:0:1");
    for (const bad of ["4294967296:0:1", "1:2", "1:2:3:4", "1:2:x"])
      expect(parseLargeCommunity(bad)).toBeUndefined();
  });
});

function unwrap<T>(r: { ok: true; value: T } | { ok: false; error: string }): T {
  if (!r.ok) throw new Error(r.error);
  return r.value;
}
