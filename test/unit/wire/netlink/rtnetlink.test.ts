/** Routes, links and addresses as recorded from a kernel, decoded and encoded. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { address, addressFromBytes, prefix, prefixFromBytes } from "../../../../plugin/net/address.js";
import {
  addAddress,
  createLink,
  decodeAddress,
  decodeLink,
  dumpAddresses,
  getLink,
  IFA_F_NODAD,
  IFA_F_NOPREFIXROUTE,
  setLink,
} from "../../../../plugin/wire/netlink/link.js";
import { decodeNexthop, getNexthop } from "../../../../plugin/wire/netlink/nexthop.js";
import { decodeSetElements, dumpSetElements } from "../../../../plugin/wire/netlink/nftables.js";
import {
  decodeRoute,
  deleteRoute,
  dumpRoutes,
  lookupRoute,
  type RawRoute,
  replaceRoute,
} from "../../../../plugin/wire/netlink/route.js";
import { captured, comparable, hex } from "./captured.js";

const route = (bytes: Uint8Array): RawRoute => {
  const r = decodeRoute(bytes);
  if (!r.ok || r.value === undefined) throw new Error(JSON.stringify(r));
  return r.value;
};
const hop = (ifindex: number, gateway?: string, flags = 0) => ({ ifindex, gateway, flags });

describe.runIf(comparable)("routes as captured", () => {
  const common = {
    family: 4,
    table: 4242,
    tos: 0,
    scope: 0,
    type: "unicast",
    flags: 0,
    prefsrc: undefined,
    nexthopId: 0,
  };
  test.each([
    [
      "defaultWithSource",
      {
        prefix: "0.0.0.0/0",
        protocol: 3,
        metric: 0,
        prefsrc: "10.255.0.1",
        nextHops: [hop(3, "10.255.0.9")],
      },
    ],
    ["viaGateway", { prefix: "10.1.0.0/16", protocol: 12, metric: 32, nextHops: [hop(3, "10.255.0.2")] }],
    [
      "nexthopGroup",
      {
        prefix: "10.2.0.0/16",
        protocol: 186,
        metric: 0,
        nexthopId: 10,
        nextHops: [hop(3, "10.255.0.2"), hop(3, "10.255.0.3")],
      },
    ],
    ["viaIpv6", { prefix: "10.4.0.0/16", protocol: 3, metric: 0, nextHops: [hop(3, "fe80::2")] }],
    ["blackhole", { prefix: "10.5.0.0/16", protocol: 3, metric: 0, type: "blackhole", nextHops: [] }],
    ["deviceOnly", { prefix: "198.18.0.1/32", protocol: 99, metric: 0, scope: 253, nextHops: [hop(3)] }],
    [
      "lookup",
      {
        table: 254,
        prefix: "10.255.0.0/24",
        protocol: 2,
        metric: 0,
        scope: 253,
        prefsrc: "10.255.0.1",
        nextHops: [hop(3)],
      },
    ],
    [
      "viaGateway6",
      { family: 6, prefix: "2001:db8:1::/48", protocol: 3, metric: 1024, nextHops: [hop(3, "fe80::2")] },
    ],
    [
      "unreachable6",
      {
        family: 6,
        prefix: "2001:db8:2::/48",
        protocol: 3,
        metric: 1024,
        type: "unreachable",
        nextHops: [hop(1)],
      },
    ],
  ] as const)("%s", (name, want) => {
    expect(route(captured.route[name])).toEqual({ ...common, ...want });
  });

  test("multipath: weights are passed over, flags are not", () => {
    expect(route(captured.route.multipath)).toMatchObject({
      prefix: "10.3.0.0/16",
      protocol: 186,
      nexthopId: 0,
      nextHops: [{ gateway: "10.255.0.2" }, { gateway: "10.255.0.3" }],
    });
    const dead = captured.route.nexthopGroup.slice();
    // rtnh_flags of the first hop: 12 rtmsg + 3 attributes of 8 + RTA_MULTIPATH header 4 + rtnh_len 2.
    dead[12 + 24 + 4 + 2] = 1;
    expect(route(dead).nextHops.map((h) => h.flags)).toEqual([1, 0]);
  });
});

describe.runIf(comparable)("route requests", () => {
  test("RTM_NEWROUTE: what the kernel then says of it", () => {
    const request = replaceRoute({
      table: 4242,
      prefix: prefix("198.18.0.1/32"),
      protocol: 99,
      metric: 0,
      ifindexes: [3],
    });
    expect(request.type).toBe(24);
    expect(request.flags).toBe(0x400 | 0x100);
    expect(request.payload).toEqual(
      hex(
        "02200000 0063fd01 00000000  0800 0100 c6120001  0800 0f00 92100000  0800 0400 03000000  0800 0600 00000000",
      ),
    );
    expect(route(request.payload)).toEqual(route(captured.route.deviceOnly));
  });

  test("IPv6 has universe scope; a table below 256 stands in the header too", () => {
    const { payload } = replaceRoute({
      table: 254,
      prefix: prefix("2001:db8::/32"),
      protocol: 99,
      metric: 5,
      ifindexes: [3],
    });
    expect([...payload.subarray(0, 8)]).toEqual([10, 32, 0, 0, 254, 99, 0, 1]);
  });

  test("RTM_NEWROUTE unreachable: no interface, scope universe, the worst metric", () => {
    const key = { table: 254, protocol: 99, metric: 0xff000002, ifindexes: [] };
    expect(replaceRoute({ ...key, prefix: prefix("10.3.0.0/24") }).payload).toEqual(
      hex("02180000 fe630007 00000000  0800 0100 0a030000  0800 0f00 fe000000  0800 0600 020000ff"),
    );
    expect([...replaceRoute({ ...key, prefix: prefix("2001:db8::/32") }).payload.subarray(0, 8)]).toEqual([
      10, 32, 0, 0, 254, 99, 0, 7,
    ]);
  });

  test("RTM_NEWROUTE through several interfaces: RTA_MULTIPATH, and no RTA_OIF", () => {
    const { payload } = replaceRoute({
      table: 254,
      prefix: prefix("198.18.0.1/32"),
      protocol: 99,
      metric: 99,
      ifindexes: [3, 4],
    });
    expect(payload).toEqual(
      hex(
        "02200000 fe63fd01 00000000  0800 0100 c6120001  0800 0f00 fe000000" +
          "1400 0900 0800 0000 03000000 0800 0000 04000000  0800 0600 63000000",
      ),
    );
    expect(route(payload)).toMatchObject({ nextHops: [{ ifindex: 3 }, { ifindex: 4 }] });
  });

  test("RTM_DELROUTE names protocol and metric, any scope and any type", () => {
    const request = deleteRoute({ table: 4242, prefix: prefix("198.18.0.1/32"), protocol: 99, metric: 7 });
    expect(request).toEqual({
      type: 25,
      flags: 0,
      payload: hex("02200000 0063ff00 00000000  0800 0100 c6120001  0800 0f00 92100000  0800 0600 07000000"),
    });
  });

  test("RTM_GETROUTE: dump of one table, and look-up with RTM_F_FIB_MATCH", () => {
    expect(dumpRoutes(4, 4242)).toEqual({
      type: 26,
      flags: 0x300,
      payload: hex("02000000 00000000 00000000 0800 0f00 92100000"),
    });
    expect(lookupRoute(address("10.0.0.1"))).toEqual({
      type: 26,
      flags: 0,
      payload: hex("02200000 00000000 00200000 0800 0100 0a000001"),
    });
  });

  test("round trip", () => {
    const arbitraryPrefix = fc
      .tuple(fc.boolean(), fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat(128))
      .map(([v4, bytes, n]) =>
        v4 ? prefixFromBytes(bytes.subarray(0, 4), n % 33) : prefixFromBytes(bytes, n),
      );
    const u32 = fc.integer({ min: 1, max: 0xffffffff });
    fc.assert(
      fc.property(
        arbitraryPrefix,
        u32,
        fc.nat(255),
        u32,
        fc.integer({ min: 1, max: 0x7fffffff }),
        (p, table, protocol, metric, ifindex) => {
          const key = { table, prefix: p, protocol, metric };
          expect(route(replaceRoute({ ...key, ifindexes: [ifindex] }).payload)).toMatchObject({
            ...key,
            nextHops: [{ ifindex }],
          });
          expect(route(deleteRoute(key).payload)).toMatchObject(key);
        },
      ),
    );
  });

  test("what cannot be a route", () => {
    expect(decodeRoute(hex("0220"))).toMatchObject({ ok: false });
    const longer = captured.route.viaGateway.slice();
    longer[1] = 33;
    expect(decodeRoute(longer)).toMatchObject({ ok: false, error: { at: "RTA_DST" } });
    const bridge = captured.route.viaGateway.slice();
    bridge[0] = 7;
    expect(decodeRoute(bridge)).toEqual({ ok: true, value: undefined });
  });
});

describe.runIf(comparable)("nexthop objects as captured", () => {
  test.each([
    ["five", { id: 5, flags: 0, kind: "hop", ifindex: 3, gateway: "10.255.0.2" }],
    ["group", { id: 10, flags: 0, kind: "group", members: [5, 6] }],
    ["blackhole", { id: 11, flags: 0, kind: "blackhole" }],
    ["overIpv6", { id: 12, flags: 0, kind: "hop", ifindex: 3, gateway: "fe80::2" }],
  ] as const)("%s", (name, want) => {
    expect(decodeNexthop(captured.nexthop[name])).toEqual({ ok: true, value: want });
  });
  test("request of one", () => {
    expect(getNexthop(5)).toEqual({
      type: 106,
      flags: 0,
      payload: hex("0000000000000000 0800 0100 05000000"),
    });
    expect(decodeNexthop(hex("0000000000000000"))).toMatchObject({ ok: false, error: { at: "NHA_ID" } });
  });
});

describe.runIf(comparable)("links and addresses", () => {
  test("links as captured", () => {
    expect(decodeLink(captured.link.lo)).toMatchObject({
      ok: true,
      value: { ifindex: 1, name: "lo", up: true, carrier: true, mtu: 65536 },
    });
    expect(decodeLink(captured.link.ve0)).toEqual({
      ok: true,
      value: { ifindex: 3, name: "ve0", up: true, carrier: true, mtu: 1500, kind: "veth" },
    });
  });

  test("addresses as captured", () => {
    expect(decodeAddress(captured.address.ve0)).toEqual({
      ok: true,
      value: { ifindex: 3, address: "10.255.0.1", prefixLength: 24, flags: 0x80 },
    });
    expect(decodeAddress(captured.address.ve0v6)).toMatchObject({
      ok: true,
      value: { ifindex: 3, address: "2001:db8::1", prefixLength: 64 },
    });
  });

  test("requests", () => {
    expect(getLink("wg0").payload).toEqual(hex(`${"00".repeat(16)} 0800 0300 77673000`));
    expect(createLink("wg0", "wireguard")).toEqual({
      type: 16,
      flags: 0x600,
      payload: hex(`${"00".repeat(16)} 0800 0300 77673000  1400 1280 0e00 0100 776972656775617264 00 0000`),
    });
    expect(setLink(3, { mtu: 1420, up: true }).payload).toEqual(
      hex("00000000 03000000 01000000 01000000  0800 0400 8c050000"),
    );
    expect(setLink(3, { mtu: 1420 }).payload).toEqual(
      hex("00000000 03000000 00000000 00000000  0800 0400 8c050000"),
    );
    expect(setLink(3, { name: "wg1" }).payload).toEqual(
      hex("00000000 03000000 00000000 00000000  0800 0300 77673100"),
    );
    // the kernel would keep a final NUL as part of it
    expect(setLink(3, { alias: "ours" }).payload).toEqual(
      hex("00000000 03000000 00000000 00000000  0800 1400 6f757273"),
    );
    expect(dumpAddresses(3)).toEqual({ type: 22, flags: 0x300, payload: hex("00000000 03000000") });
    expect(addAddress(3, address("fe80::1"), 64, IFA_F_NODAD).payload).toEqual(
      hex(
        `0a4000fd 03000000  1400 0200 fe80${"00".repeat(13)}01  1400 0100 fe80${"00".repeat(13)}01  0800 0800 02000000`,
      ),
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        fc.nat(32),
        fc.nat(1000),
        (bytes, prefixLength, ifindex) => {
          const a = addressFromBytes(bytes);
          expect(decodeAddress(addAddress(ifindex, a, prefixLength, IFA_F_NOPREFIXROUTE).payload)).toEqual({
            ok: true,
            value: { ifindex, address: a, prefixLength, flags: IFA_F_NOPREFIXROUTE },
          });
        },
      ),
    );
  });
});

describe.runIf(comparable)("nftables set elements", () => {
  test("as captured, with counters", () => {
    const elements = decodeSetElements(captured.setElements);
    expect(elements.ok && elements.value.map((e) => ({ ...e, key: [...e.key] }))).toEqual([
      { key: [10, 3, 1, 0], bytes: 3084, packets: 3 },
      { key: [10, 3, 2, 0], bytes: 0, packets: 0 },
    ]);
    expect(decodeSetElements(captured.noElements)).toEqual({ ok: true, value: [] });
  });
  test("the request: NFPROTO_INET, table and set", () => {
    expect(dumpSetElements("t", "dst4")).toEqual({
      type: 10 * 256 + 13,
      flags: 0x300,
      payload: hex("01000000  0600 0100 7400 0000  0900 0200 6473743400 000000"),
    });
  });
});
