/** The mirror of the kernel's routes and links: one event for each change, also of next-hop objects and after an overrun. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Address,
  address,
  addressBytes,
  familyOf,
  prefix,
  prefixAddress,
  prefixLength,
} from "../../../../plugin/net/address.js";
import { BodyWriter, view } from "../../../../plugin/wire/netlink/attribute.js";
import type { KernelRoute, RouteEvent } from "../../../../plugin/wire/netlink/fib.js";
import { addAddress } from "../../../../plugin/wire/netlink/link.js";
import type { NetlinkMessage } from "../../../../plugin/wire/netlink/message.js";
import { FibMirror } from "../../../../plugin/wire/netlink/mirror.js";
import { captured } from "./captured.js";

const NEWLINK = 16;
const DELLINK = 17;
const NEWADDR = 20;
const DELADDR = 21;
const NEWROUTE = 24;
const DELROUTE = 25;
const NEWNEXTHOP = 104;
const DELNEXTHOP = 105;
const REPLACE = 0x100;
const APPEND = 0x800;

const message = (type: number, payload: Uint8Array, flags = 0): NetlinkMessage => ({
  type,
  flags,
  seq: 0,
  portid: 0,
  payload,
});

function header(size: number, fill: (v: DataView) => void): BodyWriter {
  const b = new Uint8Array(size);
  fill(view(b));
  return new BodyWriter().raw(b);
}

/** Little-endian or not: the codec under test writes host order, and so does this. */
const host = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

function link(
  index: number,
  name: string,
  state: { up?: boolean; carrier?: boolean; gone?: boolean } = {},
): NetlinkMessage {
  const { up = true, carrier = up, gone = false } = state;
  const w = header(16, (v) => {
    v.setInt32(4, index, host);
    v.setUint32(8, (up ? 1 : 0) | (carrier ? 0x10040 : 0), host);
  });
  return message(gone ? DELLINK : NEWLINK, w.string(3, name).u32(4, 1500).finish());
}

interface Hop {
  readonly via?: string;
  readonly dev: number;
}

function route(
  p: string,
  hops: readonly Hop[],
  more: {
    metric?: number;
    protocol?: number;
    table?: number;
    nhid?: number;
    src?: string;
    del?: boolean;
    flags?: number;
  } = {},
): NetlinkMessage {
  const dst = prefix(p);
  const family = familyOf(dst);
  const w = header(12, (v) => {
    v.setUint8(0, family === 4 ? 2 : 10);
    v.setUint8(1, prefixLength(dst));
    v.setUint8(4, 252);
    v.setUint8(5, more.protocol ?? 12);
    v.setUint8(7, 1);
  });
  w.u32(15, more.table ?? 254).bytes(1, addressBytes(prefixAddress(dst)));
  if (more.metric !== undefined) w.u32(6, more.metric);
  if (more.nhid !== undefined) w.u32(30, more.nhid);
  if (more.src !== undefined) w.bytes(7, addressBytes(address(more.src)));
  const gateway = (to: BodyWriter, via: string | undefined): void => {
    if (via !== undefined) to.bytes(5, addressBytes(address(via)));
  };
  const [only, ...others] = hops;
  if (only !== undefined && others.length === 0) {
    gateway(w, only.via);
    w.u32(4, only.dev);
  } else if (only !== undefined) {
    const parts = hops.map((h) => {
      const inner = new BodyWriter();
      gateway(inner, h.via);
      const attributes = inner.finish();
      return header(8, (v) => {
        v.setUint16(0, 8 + attributes.length, host);
        v.setUint32(4, h.dev, host);
      })
        .raw(attributes)
        .finish();
    });
    w.bytes(9, Buffer.concat(parts));
  }
  return message(more.del === true ? DELROUTE : NEWROUTE, w.finish(), more.flags ?? 0);
}

function nexthop(id: number, what: Hop | readonly number[], del = false): NetlinkMessage {
  const w = header(8, (v) => v.setUint8(0, 2)).u32(1, id);
  if ("dev" in what) {
    w.u32(5, what.dev);
    if (what.via !== undefined) w.bytes(6, addressBytes(address(what.via)));
  } else {
    const group = new Uint8Array(8 * what.length);
    for (const [i, m] of what.entries()) view(group).setUint32(8 * i, m, host);
    w.bytes(2, group);
  }
  return message(del ? DELNEXTHOP : NEWNEXTHOP, w.finish());
}

const ifaddr = (index: number, a: Address, del = false): NetlinkMessage =>
  message(del ? DELADDR : NEWADDR, addAddress(index, a, 24, 0).payload);

const says = (e: RouteEvent): string => {
  switch (e.kind) {
    case "snapshot":
      return `snapshot ${e.routes.length}`;
    case "link":
      return `link ${e.link.name} ${e.gone ? "gone" : e.link.up ? "up" : "down"}`;
    case "address":
      return `address ${e.address} ${e.dev}${e.gone ? " gone" : ""}`;
    case "elsewhere":
      return "elsewhere";
    case "set":
    case "gone":
      return `${e.kind} ${e.route.prefix} [${e.route.nextHops
        .map((h) => `${h.gateway ?? "-"} ${h.dev}${h.dead ? " dead" : ""}`)
        .join(", ")}]`;
  }
};

function filled(
  messages: readonly NetlinkMessage[],
  keep: (r: KernelRoute) => boolean = () => true,
  tables = [254],
): FibMirror {
  const mirror = new FibMirror(tables, keep);
  mirror.begin();
  for (const m of [link(2, "wg0"), link(3, "wgs0"), ...messages]) expect(mirror.load(m).ok).toBe(true);
  mirror.finish();
  return mirror;
}

const apply = (mirror: FibMirror, m: NetlinkMessage): string[] => {
  const events = mirror.apply(m);
  if (!events.ok) throw new Error(events.error.problem);
  return events.value.map(says);
};

describe("routes", () => {
  test("the same again is no event; another metric is another route", () => {
    const m = filled([route("10.1.0.0/16", [{ via: "10.255.0.2", dev: 2 }])]);
    expect(apply(m, route("10.1.0.0/16", [{ via: "10.255.0.2", dev: 2 }]))).toEqual([]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 3 }], { metric: 7 }))).toEqual(["set 10.1.0.0/16 [- wgs0]"]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 3 }], { metric: 7, del: true }))).toEqual([
      "gone 10.1.0.0/16 [- wgs0]",
    ]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 3 }], { metric: 7, del: true }))).toEqual([]);
    expect([...m.routes()]).toHaveLength(1);
  });

  test("other tables are not seen, the predicate is obeyed, and a route that stops to satisfy it is gone", () => {
    const m = filled([], (r) => r.protocol === 12);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 2 }], { table: 99 }))).toEqual(["elsewhere"]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 2 }], { protocol: 3 }))).toEqual([]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 2 }], { protocol: 12, flags: REPLACE }))).toEqual([
      "set 10.1.0.0/16 [- wg0]",
    ]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 2 }], { protocol: 3, flags: REPLACE }))).toEqual([
      "gone 10.1.0.0/16 [- wg0]",
    ]);
  });

  test("appended routes wait behind the first", () => {
    const m = filled([route("10.1.0.0/16", [{ dev: 2 }])]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 3 }], { flags: APPEND }))).toEqual([]);
    expect(apply(m, route("10.1.0.0/16", [{ dev: 2 }], { del: true }))).toEqual(["set 10.1.0.0/16 [- wgs0]"]);
    expect(apply(m, route("10.1.0.0/16", [{ via: "10.255.0.2", dev: 2 }]))).toEqual([
      "set 10.1.0.0/16 [10.255.0.2 wg0]",
    ]);
  });

  test("IPv6 multipath: one hop deleted leaves the others; a device route is not among them", () => {
    const m = filled([route("2001:db8::/32", [{ via: "fe80::1", dev: 2 }], { metric: 5 })]);
    const both = [
      { via: "fe80::2", dev: 3 },
      { via: "fe80::1", dev: 2 },
    ];
    expect(apply(m, route("2001:db8::/32", both, { metric: 5, flags: APPEND }))).toEqual([
      "set 2001:db8::/32 [fe80::2 wgs0, fe80::1 wg0]",
    ]);
    expect(apply(m, route("2001:db8::/32", [{ dev: 3 }], { metric: 5 }))).toEqual([]);
    expect(apply(m, route("2001:db8::/32", [{ via: "fe80::1", dev: 2 }], { metric: 5, del: true }))).toEqual([
      "set 2001:db8::/32 [fe80::2 wgs0]",
    ]);
    expect(apply(m, route("2001:db8::/32", [{ via: "fe80::2", dev: 3 }], { metric: 5, del: true }))).toEqual([
      "set 2001:db8::/32 [- wgs0]",
    ]);
  });

  test("notifications from before the dump lead to the same end", () => {
    const history = [
      route("10.1.0.0/16", [{ dev: 2 }]),
      route("10.1.0.0/16", [{ dev: 3 }], { flags: APPEND }),
      route("10.1.0.0/16", [{ dev: 2 }], { del: true }),
      route("10.2.0.0/16", [{ dev: 2 }]),
      route("10.2.0.0/16", [{ dev: 2 }], { del: true }),
    ];
    const m = filled([route("10.1.0.0/16", [{ dev: 3 }])]);
    for (const h of history) apply(m, h);
    expect([...m.routes()].map((r) => `${r.prefix} ${r.nextHops[0]?.dev}`)).toEqual(["10.1.0.0/16 wgs0"]);
  });
});

describe("what the kernel does not say", () => {
  test("a link that goes down", () => {
    const m = filled([
      route("10.1.0.0/16", [{ dev: 3 }]),
      route("10.2.0.0/16", [
        { via: "10.255.0.2", dev: 2 },
        { via: "10.255.0.3", dev: 3 },
      ]),
      route("10.3.0.0/16", [{ dev: 2 }]),
    ]);
    expect(apply(m, link(3, "wgs0", { up: false }))).toEqual([
      "link wgs0 down",
      "gone 10.1.0.0/16 [- wgs0]",
      "set 10.2.0.0/16 [10.255.0.2 wg0, 10.255.0.3 wgs0 dead]",
    ]);
    // Up again: the flushed route is not restored, the dead hop is.
    expect(apply(m, link(3, "wgs0"))).toEqual([
      "link wgs0 up",
      "set 10.2.0.0/16 [10.255.0.2 wg0, 10.255.0.3 wgs0]",
    ]);
    expect(apply(m, link(3, "wgs0", { gone: true }))).toEqual([
      "link wgs0 gone",
      "gone 10.2.0.0/16 [10.255.0.2 wg0, 10.255.0.3 wgs0]",
    ]);
  });

  test("a link that loses its carrier keeps its routes, marked", () => {
    const m = filled([route("10.1.0.0/16", [{ dev: 3 }])]);
    expect(apply(m, link(3, "wgs0", { carrier: false }))).toEqual(["set 10.1.0.0/16 [- wgs0 dead]"]);
    expect(apply(m, link(3, "wgs0"))).toEqual(["set 10.1.0.0/16 [- wgs0]"]);
  });

  test("a link that is renamed", () => {
    const m = filled([route("10.1.0.0/16", [{ dev: 3 }])]);
    const renamed = m.apply(link(3, "new0"));
    expect(renamed.ok && renamed.value.map(says)).toEqual(["link new0 up", "set 10.1.0.0/16 [- new0]"]);
    expect(renamed.ok && renamed.value[0]).toMatchObject({ kind: "link", formerName: "wgs0" });
  });

  test("the last IPv4 address of an interface, and the address in RTA_PREFSRC", () => {
    const one = address("10.255.0.1");
    const two = address("10.99.0.1");
    const m = filled([
      ifaddr(2, one),
      ifaddr(2, two),
      route("10.1.0.0/16", [{ dev: 2 }], { src: two }),
      route("10.2.0.0/16", [{ dev: 2 }]),
      route("10.3.0.0/16", [{ dev: 3 }]),
    ]);
    expect(apply(m, ifaddr(2, two, true))).toEqual([
      "address 10.99.0.1 wg0 gone",
      "gone 10.1.0.0/16 [- wg0]",
    ]);
    expect(apply(m, ifaddr(2, one, true))).toEqual([
      "address 10.255.0.1 wg0 gone",
      "gone 10.2.0.0/16 [- wg0]",
    ]);
    expect(apply(m, ifaddr(2, one))).toEqual(["address 10.255.0.1 wg0"]);
    expect(apply(m, ifaddr(99, one))).toEqual([]);
  });

  test("nexthop objects: changed, deleted, lost with their link; groups shrink", () => {
    const m = filled([
      nexthop(5, { via: "10.255.0.2", dev: 2 }),
      nexthop(6, { via: "10.255.0.3", dev: 3 }),
      nexthop(10, [5, 6]),
      route("10.1.0.0/16", [], { nhid: 10 }),
      route("10.2.0.0/16", [], { nhid: 5 }),
    ]);
    expect(apply(m, nexthop(5, { via: "10.255.0.9", dev: 2 })).sort()).toEqual([
      "set 10.1.0.0/16 [10.255.0.9 wg0, 10.255.0.3 wgs0]",
      "set 10.2.0.0/16 [10.255.0.9 wg0]",
    ]);
    expect(apply(m, link(3, "wgs0", { up: false }))).toEqual([
      "link wgs0 down",
      "set 10.1.0.0/16 [10.255.0.9 wg0]",
    ]);
    expect(apply(m, nexthop(5, { dev: 2 }, true)).sort()).toEqual([
      "gone 10.1.0.0/16 [10.255.0.9 wg0]",
      "gone 10.2.0.0/16 [10.255.0.9 wg0]",
    ]);
  });

  test("a group that names itself does not recurse for ever", () => {
    const m = filled([nexthop(10, [10]), route("10.1.0.0/16", [], { nhid: 10 })]);
    expect([...m.routes()]).toHaveLength(1);
  });
});

describe("malformed messages", () => {
  const vectors: readonly (readonly [readonly number[], Uint8Array])[] = [
    ...Object.values(captured.route).map((b) => [[NEWROUTE, DELROUTE], b] as const),
    ...Object.values(captured.nexthop).map((b) => [[NEWNEXTHOP, DELNEXTHOP], b] as const),
    ...Object.values(captured.link).map((b) => [[NEWLINK, DELLINK], b] as const),
    ...Object.values(captured.address).map((b) => [[NEWADDR, DELADDR], b] as const),
  ];

  test("mutated and truncated captures never throw", () => {
    const m = filled(
      vectors.map(([types, b]) => message(types[0] ?? 0, b)),
      () => true,
      [254, 4242],
    );
    let refused = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...vectors),
        fc.array(fc.tuple(fc.nat(4000), fc.nat(255)), { maxLength: 4 }),
        fc.option(fc.nat(4000)),
        fc.boolean(),
        fc.constantFrom(0, REPLACE, APPEND),
        ([types, bytes], changes, cut, second, flags) => {
          const mutated = bytes.slice(0, cut === null ? bytes.length : cut % (bytes.length + 1));
          for (const [at, value] of changes) if (mutated.length > 0) mutated[at % mutated.length] = value;
          const r = m.apply(message(types[second ? 1 : 0] ?? 0, mutated, flags));
          if (!r.ok) refused++;
        },
      ),
      { numRuns: 5000 },
    );
    expect(refused).toBeGreaterThan(100);
  });
});
