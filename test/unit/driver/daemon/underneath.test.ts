/** The route underneath a destination, from the feed, the FIB and IGP routes, and the reasons for there being none. */
import { describe, expect, it } from "vitest";
import { AdjRibIn } from "../../../../plugin/bgp/rib.js";
import { Routing } from "../../../../plugin/driver/daemon/underneath.js";
import { RTPROT_SHORTCUTD } from "../../../../plugin/driver/kernel/fib-view.js";
import { address, hostPrefix, prefix } from "../../../../plugin/net/address.js";
import { describeReason } from "../../../../plugin/shortcut/reasons.js";
import { type PathAttributes, pathAttributes } from "../../../../plugin/wire/bgp/attributes.js";
import { largeCommunity, NO_ADVERTISE } from "../../../../plugin/wire/bgp/community.js";
import type { KernelRoute } from "../../../../plugin/wire/netlink/fib.js";
import { DIRECT, fibOf, OVERLAY, route } from "../support.js";

const P = prefix("10.1.0.0/24");
const HUB = address("10.255.0.1");
const C = address("10.255.0.3");
const ALIAS = address("198.18.0.1");
const SELF = address("10.255.0.9");
/**
 * The communities of an offer: NAT doubtful; rate class 3; round trip slower; the owner 10.255.0.3.
 */
const MARKS = ["1:1", "1:21", "1:33", "1:42", "2:184483843"].map((c) => largeCommunity(`65000:${c}`));

type FeedPath = Partial<PathAttributes> & { readonly pathId?: number };

function routing(
  feed: Readonly<Record<string, readonly FeedPath[]>>,
  fib: readonly KernelRoute[] = [route("10.255.0.0/24", OVERLAY, { protocol: 2, metric: 0 })],
  session = { localAs: 65000, remoteAs: 65000 },
  anyType = true,
): Routing {
  const rib = new AdjRibIn();
  for (const [p, paths] of Object.entries(feed))
    for (const [i, { pathId, ...given }] of paths.entries())
      rib.apply({
        withdrawn: [],
        endOfRib: undefined,
        reach: [
          {
            attributes: pathAttributes({ nextHop: C, ...given }),
            nlri: [{ prefix: prefix(p), pathId: pathId ?? i }],
          },
        ],
      });
  return new Routing({
    fib: fibOf(...fib),
    feed: rib,
    igp: undefined,
    interfaces: undefined,
    blackboard: undefined,
    hubs: [HUB],
    pools: { 4: prefix("198.18.0.0/16"), 6: undefined },
    session,
    anyType,
    addresses: [SELF],
    as: 65000,
  });
}

const attributes = (r: Routing, p = P) => {
  const marks = { owner: C, natPrognosis: "doubtful", rate: 3, roundTrip: "slower" } as const;
  const a = r.attributes(p, ALIAS, marks);
  if (!a.ok) throw new Error(a.error);
  return a.value;
};

describe("what lies underneath an offer", () => {
  it("is the feed's route for the prefix, with its next hop", () => {
    expect(routing({ "10.1.0.0/24": [{}] }).underneath(P)).toEqual({
      ok: true,
      prefix: P,
      nextHop: C,
      via: [OVERLAY],
    });
  });

  it("is another route, as text, when its attributes change", () => {
    const plain = routing({ "10.1.0.0/24": [{ med: 1 }] }).fingerprint(P);
    expect(routing({ "10.1.0.0/24": [{ med: 1 }] }).fingerprint(P)).toBe(plain);
    expect(routing({ "10.1.0.0/24": [{ med: 2 }] }).fingerprint(P)).not.toBe(plain);
    expect(routing({ "10.0.0.0/8": [{ med: 1 }] }).fingerprint(P)).not.toBe(plain);
    expect(routing({}).fingerprint(P)).toBe("");
  });

  it("is refused when the feed has no such route, or only more specific ones", () => {
    expect(routing({}).underneath(P)).toEqual({
      ok: false,
      reason: { kind: "nothing-underneath", prefix: P },
      gone: true,
    });
    expect(routing({ "10.1.0.0/25": [{}] }).underneath(P)).toHaveProperty("ok", false);
  });

  it("is refused when its next hop does not leave via the overlay", () => {
    const r = routing({ "10.1.0.0/24": [{ nextHop: address("192.0.2.9") }] }, [
      route("10.255.0.0/24", OVERLAY),
      route("0.0.0.0/0", "eth0"),
    ]);
    expect(r.underneath(P)).toEqual({
      ok: false,
      reason: { kind: "underneath-unreached", prefix: P, nextHop: "192.0.2.9", overlay: "wg0" },
      gone: true,
    });
    expect(routing({ "10.1.0.0/24": [{ nextHop: address("192.0.2.9") }] }).underneath(P)).toHaveProperty(
      "ok",
      false,
    );
  });

  it("is refused when the daemon itself routes the prefix elsewhere", () => {
    const r = routing({ "10.1.0.0/24": [{}] }, [
      route("10.255.0.0/24", OVERLAY),
      route("10.1.0.0/24", "eth0"),
    ]);
    expect(r.underneath(P)).toEqual({
      ok: false,
      reason: { kind: "underneath-elsewhere", prefix: P, overlay: "wg0" },
      gone: false,
    });
    const flipped = routing({ "10.1.0.0/24": [{}] }, [
      route("10.255.0.0/24", OVERLAY),
      route("10.1.0.0/24", DIRECT),
    ]);
    expect(flipped.underneath(P)).toEqual({ ok: true, prefix: P, nextHop: C, via: [OVERLAY] });
  });

  it("is never an offer of ours that an add-path feed brings back", () => {
    const r = routing({ "10.1.0.0/24": [{ nextHop: ALIAS, localPref: 900 }, { nextHop: HUB }] });
    expect(r.underneath(P)).toEqual({ ok: true, prefix: P, nextHop: HUB, via: [OVERLAY] });
  });

  it("is the covering route where the only exact one is an offer of ours", () => {
    const r = routing({ "10.1.0.0/24": [{ nextHop: ALIAS }], "10.0.0.0/8": [{ nextHop: HUB, med: 7 }] });
    expect(r.underneath(P)).toEqual({ ok: true, prefix: "10.0.0.0/8", nextHop: HUB, via: [OVERLAY] });
    expect(attributes(r)).toMatchObject({ med: 7, communities: [NO_ADVERTISE] });
    expect(
      routing({ "10.1.0.0/24": [{ nextHop: ALIAS }], "0.0.0.0/0": [{ nextHop: HUB }] }).underneath(P),
    ).toEqual({ ok: true, prefix: "0.0.0.0/0", nextHop: HUB, via: [OVERLAY] });
    expect(routing({ "10.1.0.0/24": [{ nextHop: ALIAS }] }).underneath(P)).toHaveProperty("ok", false);
  });

  it("is, of several paths, the one that the daemon most likely uses", () => {
    const by = (...paths: FeedPath[]) => {
      const u = routing({ "10.1.0.0/24": paths }).underneath(P);
      return u.ok ? u.nextHop : u.reason.kind;
    };
    const seq = (...ases: number[]) => [{ type: "sequence" as const, ases }];
    expect(by({ nextHop: C, localPref: 100 }, { nextHop: HUB, localPref: 200 })).toBe(HUB);
    expect(by({ nextHop: C }, { nextHop: HUB, localPref: 99 })).toBe(C);
    expect(by({ nextHop: C, asPath: seq(1, 2) }, { nextHop: HUB, asPath: seq(1) })).toBe(HUB);
    expect(
      by({ nextHop: C, asPath: [{ type: "set", ases: [1, 2, 3] }] }, { nextHop: HUB, asPath: seq(1, 2) }),
    ).toBe(C);
    expect(by({ nextHop: C, med: 10 }, { nextHop: HUB, med: 5 })).toBe(HUB);
    expect(by({ nextHop: C, pathId: 2 }, { nextHop: HUB, pathId: 1 })).toBe(HUB);
  });
});

describe("this router's own routes", () => {
  const own = (...routes: ReturnType<typeof route>[]) => routing({}, routes).routesItself(P);

  it("are those via other interfaces, and aggregates", () => {
    expect(own(route("10.1.0.0/24", "eth1"))).toBe(true);
    expect(own(route("10.1.0.0/16", "eth1"))).toBe(true);
    expect(own({ ...route("10.1.0.0/16", "eth1"), type: "unreachable", nextHops: [] })).toBe(true);
  });

  it("are its own addresses on the overlay, which may be down", () => {
    expect(routing({}).routesItself(hostPrefix(SELF))).toBe(true);
  });

  it("are not default routes, nor those via the hub or a shortcut, nor ours", () => {
    expect(own()).toBe(false);
    expect(own(route("0.0.0.0/0", "eth0"))).toBe(false);
    expect(own(route("10.1.0.0/24", OVERLAY))).toBe(false);
    expect(own(route("10.1.0.0/16", "eth1"), route("10.1.0.0/24", DIRECT))).toBe(false);
    expect(own({ ...route("10.1.0.0/24", "eth1"), protocol: RTPROT_SHORTCUTD })).toBe(false);
  });
});

describe("an offer", () => {
  it("copies the route underneath, marked as ours, and changes the next hop alone", () => {
    const a = attributes(
      routing({
        "10.1.0.0/24": [
          {
            med: 5,
            localPref: 150,
            originatorId: HUB,
            clusterList: [HUB],
            asPath: [{ type: "sequence", ases: [64512] }],
          },
        ],
      }),
    );
    expect(a).toMatchObject({
      nextHop: ALIAS,
      med: 5,
      localPref: 150,
      originatorId: undefined,
      clusterList: [],
      communities: [],
      largeCommunities: MARKS,
    });
    expect(a.asPath).toEqual([{ type: "sequence", ases: [64512] }]);
  });

  it("over a covering route is a new prefix, which no neighbour may receive", () => {
    const r = routing({ "10.0.0.0/8": [{}] });
    expect(r.underneath(P)).toEqual({ ok: true, prefix: "10.0.0.0/8", nextHop: C, via: [OVERLAY] });
    expect(attributes(r).communities).toEqual([NO_ADVERTISE]);
    expect(attributes(routing({ "10.1.0.0/24": [{}] })).communities).toEqual([]);
  });

  it("is refused on a session of another type than the route's, unless the daemon announces offers to no neighbour", () => {
    const ebgp = { "10.1.0.0/24": [{ asPath: [{ type: "sequence" as const, ases: [65099] }] }] };
    const u = routing(ebgp, undefined, undefined, false).underneath(P);
    expect(u.ok ? "" : describeReason(u.reason)).toContain("learned by eBGP from AS 65099");
    expect(routing(ebgp, undefined, { localAs: 65099, remoteAs: 65000 }, false).underneath(P)).toEqual({
      ok: true,
      prefix: P,
      nextHop: C,
      via: [OVERLAY],
    });
    expect(routing(ebgp).underneath(P)).toEqual({ ok: true, prefix: P, nextHop: C, via: [OVERLAY] });
  });
});
