/** Each fault of a path attribute is handled as RFC 7606 prescribes. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Address,
  addressFromBytes,
  type Family,
  prefixFromBytes,
} from "../../../../plugin/net/address.js";
import {
  type AsPathSegment,
  attributesKey,
  type PathAttributes,
  pathAttributes,
  type UpdateContext,
} from "../../../../plugin/wire/bgp/attributes.js";
import { communityFromNumber, largeCommunityFromParts } from "../../../../plugin/wire/bgp/community.js";
import { Framer } from "../../../../plugin/wire/bgp/framer.js";
import { decodeNotification, describeNotification } from "../../../../plugin/wire/bgp/notification.js";
import { decodeOpen } from "../../../../plugin/wire/bgp/open.js";
import { decodeRouteRefresh } from "../../../../plugin/wire/bgp/route-refresh.js";
import { decodeUpdate, encodeReach } from "../../../../plugin/wire/bgp/update.js";
import { bytes, context, updateBody } from "../../bgp/support.js";

const O = "40 01 01 00";
const P = "40 02 00";
const N = "40 03 04 c0000201";
const GOOD = `${O} ${P} ${N}`;
const MP = "80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8";
const ebgp = context({ sessionType: "ebgp" });
const two = context({ fourOctetAs: false });

type Row = readonly [
  string,
  string,
  "ok" | "attribute-discard" | "treat-as-withdraw" | "session-reset",
  UpdateContext?,
];
const rows: readonly Row[] = [
  ["all is well", GOOD, "ok"],
  ["ORIGIN of length 2", `40 01 02 0000 ${P} ${N}`, "treat-as-withdraw"],
  ["ORIGIN undefined", `40 01 01 03 ${P} ${N}`, "treat-as-withdraw"],
  ["ORIGIN missing", `${P} ${N}`, "treat-as-withdraw"],
  ["AS_PATH missing", `${O} ${N}`, "treat-as-withdraw"],
  ["AS_PATH with unknown segment", `${O} 40 02 06 05 01 0000fde8 ${N}`, "treat-as-withdraw"],
  ["AS_PATH with segment of length zero", `${O} 40 02 02 02 00 ${N}`, "treat-as-withdraw"],
  ["AS_PATH segment overruns", `${O} 40 02 06 02 02 0000fde8 ${N}`, "treat-as-withdraw"],
  ["AS_PATH with one octet left", `${O} 40 02 07 02 01 0000fde8 02 ${N}`, "treat-as-withdraw"],
  ["NEXT_HOP missing", `${O} ${P}`, "treat-as-withdraw"],
  ["NEXT_HOP of length 3", `${O} ${P} 40 03 03 c00002`, "treat-as-withdraw"],
  ["NEXT_HOP multicast", `${O} ${P} 40 03 04 e0000001`, "treat-as-withdraw"],
  ["MED of length 3", `${GOOD} 80 04 03 000000`, "treat-as-withdraw"],
  ["LOCAL_PREF of length 3", `${GOOD} 40 05 03 000000`, "treat-as-withdraw"],
  ["LOCAL_PREF from outside", `${GOOD} 40 05 04 00000064`, "attribute-discard", ebgp],
  ["ATOMIC_AGGREGATE of length 1", `${GOOD} 40 06 01 00`, "attribute-discard"],
  ["AGGREGATOR of length 6", `${GOOD} c0 07 06 fde8 c0000201`, "attribute-discard"],
  ["AGGREGATOR of length 6, two octets", `${GOOD} c0 07 06 fde8 c0000201`, "ok", two],
  ["COMMUNITIES empty", `${GOOD} c0 08 00`, "treat-as-withdraw"],
  ["COMMUNITIES of length 6", `${GOOD} c0 08 06 000000000000`, "treat-as-withdraw"],
  ["ORIGINATOR_ID of length 5", `${GOOD} 80 09 05 0000000000`, "treat-as-withdraw"],
  ["ORIGINATOR_ID from outside", `${GOOD} 80 09 04 00000001`, "attribute-discard", ebgp],
  ["CLUSTER_LIST of length 3", `${GOOD} 80 0a 03 000000`, "treat-as-withdraw"],
  ["CLUSTER_LIST from outside", `${GOOD} 80 0a 04 00000001`, "attribute-discard", ebgp],
  ["EXTENDED_COMMUNITIES of length 7", `${GOOD} c0 10 07 00000000000000`, "treat-as-withdraw"],
  ["LARGE_COMMUNITY of length 11", `${GOOD} c0 20 0b ${"00".repeat(11)}`, "treat-as-withdraw"],
  ["LARGE_COMMUNITY empty", `${GOOD} c0 20 00`, "treat-as-withdraw"],
  ["AS4_PATH from a new speaker", `${GOOD} c0 11 06 02 01 0000fde8`, "attribute-discard"],
  ["AS4_PATH malformed", `${GOOD} c0 11 03 02 01 00`, "attribute-discard", two],
  ["flags of ORIGIN wrong", `c0 01 01 00 ${P} ${N}`, "treat-as-withdraw"],
  ["MED transitive", `${GOOD} c0 04 04 00000000`, "treat-as-withdraw"],
  ["an attribute twice", `${GOOD} ${O}`, "attribute-discard"],
  ["MP_REACH_NLRI twice", `${GOOD} ${MP} ${MP}`, "session-reset"],
  ["MP_REACH_NLRI beside NLRI", `${GOOD} ${MP}`, "ok"],
  ["MP_REACH_NLRI with a next hop of 4", `${GOOD} 80 0e 09 0002 01 04 c0000201 00`, "session-reset"],
  [
    "MP_REACH_NLRI of length 129",
    `${GOOD} 80 0e 17 0002 01 10 20010db8000000000000000000000001 00 81 20`,
    "session-reset",
  ],
  ["MP_REACH_NLRI for a family not agreed", `${GOOD} 80 0e 09 0001 02 04 c0000201 00`, "attribute-discard"],
  ["MP_UNREACH_NLRI cut off", `${GOOD} 80 0f 02 0002`, "session-reset"],
  ["unknown well-known", `${GOOD} 40 63 00`, "session-reset"],
  ["unknown optional", `${GOOD} 80 63 00`, "ok"],
  ["an attribute overruns", `${GOOD} 80 04 05 00000000`, "treat-as-withdraw"],
  ["half an attribute header", `${GOOD} 80`, "treat-as-withdraw"],
  ["the worst counts", `${GOOD} 40 06 01 00 80 04 03 000000`, "treat-as-withdraw"],
];

describe("RFC 7606", () => {
  it.each(rows.map(([name, attrs, kind, ctx]) => ({ name, attrs, kind, ctx: ctx ?? context() })))(
    "$name",
    ({ attrs, kind, ctx }) => {
      const outcome = decodeUpdate(updateBody("08 0b", attrs, "08 0a"), ctx);
      expect(outcome.kind).toBe(kind);
      switch (outcome.kind) {
        case "ok":
          expect(outcome.update.reach[0]?.nlri).toEqual([{ prefix: "10.0.0.0/8", pathId: 0 }]);
          return;
        case "attribute-discard":
          expect(outcome.update.reach[0]?.nlri).toEqual([{ prefix: "10.0.0.0/8", pathId: 0 }]);
          expect(outcome.reasons).not.toEqual([]);
          return;
        case "treat-as-withdraw":
          expect(outcome.update.withdrawn.map((n) => n.prefix)).toEqual(["11.0.0.0/8", "10.0.0.0/8"]);
          expect(outcome.update.reach).toEqual([]);
          expect(outcome.reasons).not.toEqual([]);
          return;
        case "session-reset":
          expect(outcome.notification.code).toBe(3);
          expect(outcome.reasons).not.toEqual([]);
      }
    },
  );

  it("withdraws what MP_REACH_NLRI announced, also when its flags are wrong", () => {
    for (const attrs of [`${MP} 40 01 01 09 ${P}`, `${MP.replace("80", "c0")} ${O} ${P}`])
      expect(decodeUpdate(updateBody("", attrs, ""), context())).toMatchObject({
        kind: "treat-as-withdraw",
        update: { withdrawn: [{ prefix: "2001:db8::/32" }] },
      });
  });

  it.each([
    ["withdrawn length overruns", "0005 0000"],
    ["attribute length overruns", "0000 0005 00"],
    ["withdrawn prefix of 33 bits", "0006 21 0a00000000 0000"],
    ["NLRI of 33 bits", "0000 0000 21 0a00000000"],
    ["NLRI cut off", "0000 0000 18 0a"],
    ["errors but nothing to withdraw (§5.2)", "0000 0004 40010109"],
  ])("resets the session: %s", (_, hex) => {
    expect(decodeUpdate(bytes(hex), context())).toMatchObject({
      kind: "session-reset",
      notification: { code: 3 },
    });
  });
});

// ---------------------------------------------------------------------------------------------------- properties

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const v4: fc.Arbitrary<Address> = fc.uint8Array({ minLength: 4, maxLength: 4 }).map(addressFromBytes);
const hop4 = fc
  .tuple(fc.integer({ min: 1, max: 223 }), fc.uint8Array({ minLength: 3, maxLength: 3 }))
  .map(([a, rest]) => addressFromBytes(Uint8Array.of(a, ...rest)));
const v6: fc.Arbitrary<Address> = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(addressFromBytes);
const as = fc.oneof(fc.integer({ min: 1, max: 65535 }), fc.integer({ min: 65536, max: 0xffffffff }));
const segment: fc.Arbitrary<AsPathSegment> = fc.record({
  type: fc.constantFrom("sequence" as const, "set" as const),
  ases: fc.array(as, { minLength: 1, maxLength: 20 }),
});
const anyAttributes = (family: Family): fc.Arbitrary<PathAttributes> =>
  fc
    .record({
      nextHop: family === 4 ? hop4 : v6,
      origin: fc.constantFrom("igp" as const, "egp" as const, "incomplete" as const),
      asPath: fc.array(segment, { maxLength: 4 }),
      med: fc.option(u32, { nil: undefined }),
      localPref: fc.option(u32, { nil: undefined }),
      atomicAggregate: fc.boolean(),
      aggregator: fc.option(fc.record({ as, address: v4 }), { nil: undefined }),
      communities: fc.array(u32.map(communityFromNumber), { maxLength: 80 }),
      largeCommunities: fc.uniqueArray(
        fc.tuple(u32, u32, u32).map((t) => largeCommunityFromParts(...t)),
        { maxLength: 30 },
      ),
      originatorId: fc.option(v4, { nil: undefined }),
      clusterList: fc.array(v4, { maxLength: 4 }),
      unknown: fc.array(
        fc.record({
          flags: fc.constant(0xe0),
          type: fc.constantFrom(33, 40),
          value: fc.uint8Array({ maxLength: 300 }),
        }),
        { maxLength: 1 },
      ),
    })
    .map((a) => pathAttributes(a));
const nlri = (family: Family, ids: boolean) =>
  fc.record({
    prefix: fc
      .tuple(
        fc.uint8Array({ minLength: family === 4 ? 4 : 16, maxLength: family === 4 ? 4 : 16 }),
        fc.integer({ min: 0, max: family === 4 ? 32 : 128 }),
      )
      .map(([b, length]) => prefixFromBytes(b, length)),
    pathId: ids ? u32 : fc.constant(0),
  });
const reachCase = fc.tuple(fc.constantFrom<Family>(4, 6), fc.boolean()).chain(([family, ids]) =>
  fc.record({
    ids: fc.constant(ids),
    attributes: anyAttributes(family),
    nlri: fc.array(nlri(family, ids), { minLength: 1, maxLength: 50 }),
  }),
);

/** Bodies of valid messages, for mutation. */
const bodies = reachCase.map(({ ids, attributes, nlri }) => {
  const ctx = context({ addPath: new Set<Family>(ids ? [4, 6] : []) });
  const messages = encodeReach({ attributes, nlri }, ctx);
  return { ctx, body: messages.ok ? (messages.value[0] ?? new Uint8Array(19)).slice(19) : new Uint8Array(4) };
});

describe("properties", () => {
  it("what is written reads back, four octets", () => {
    fc.assert(
      fc.property(reachCase, ({ ids, attributes, nlri }) => {
        const ctx = context({ addPath: new Set<Family>(ids ? [4, 6] : []) });
        const messages = encodeReach({ attributes, nlri }, ctx);
        if (!messages.ok) throw new Error(messages.error);
        const back = messages.value.flatMap((m) => {
          expect(m.length).toBeLessThanOrEqual(4096);
          const outcome = decodeUpdate(m.subarray(19), ctx);
          if (outcome.kind !== "ok") throw new Error(JSON.stringify(outcome));
          return outcome.update.reach.flatMap((r) => {
            expect(attributesKey(r.attributes)).toBe(attributesKey(attributes));
            return r.nlri;
          });
        });
        expect(back).toEqual(nlri);
      }),
      { numRuns: 500 },
    );
  });

  it("sequences read back also through a neighbour with two octets", () => {
    fc.assert(
      fc.property(fc.array(as, { minLength: 1, maxLength: 40 }), (ases) => {
        const ctx = context({ fourOctetAs: false });
        const a = pathAttributes({
          nextHop: addressFromBytes(Uint8Array.of(192, 0, 2, 1)),
          asPath: [{ type: "sequence", ases }],
        });
        const m = encodeReach(
          { attributes: a, nlri: [{ prefix: prefixFromBytes(new Uint8Array(4), 0), pathId: 0 }] },
          ctx,
        );
        const outcome = decodeUpdate(((m.ok && m.value[0]) || new Uint8Array(19)).subarray(19), ctx);
        expect(outcome).toMatchObject({
          kind: "ok",
          update: { reach: [{ attributes: { asPath: [{ ases }] } }] },
        });
      }),
    );
  });

  it("mutated and random bytes never throw, and a broken UPDATE never announces what was not there", () => {
    const edit = fc.array(fc.tuple(fc.nat(4096), fc.nat(255)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(
        bodies,
        edit,
        fc.nat(60),
        fc.constantFrom<"ibgp" | "ebgp">("ibgp", "ebgp"),
        (b, edits, cut, sessionType) => {
          const body = b.body.slice(0, Math.max(0, b.body.length - (cut > 30 ? cut - 30 : 0)));
          for (const [at, value] of edits) if (body.length > 0) body[at % body.length] = value;
          const outcome = decodeUpdate(body, { ...b.ctx, sessionType });
          if (outcome.kind === "treat-as-withdraw") expect(outcome.update.reach).toEqual([]);
          if (outcome.kind !== "ok") expect(outcome.reasons.length).toBeGreaterThan(0);
        },
      ),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (raw) => {
        decodeUpdate(raw, context());
        decodeOpen(raw);
        decodeOpen(Uint8Array.of(4, 0, 1, 0, 9, 1, 1, 1, 1, ...raw));
        decodeRouteRefresh(raw);
        const n = decodeNotification(raw);
        if (n.ok) describeNotification(n.value);
        const framer = new Framer();
        framer.push(raw);
        while (framer.next() !== undefined);
      }),
      { numRuns: 2000 },
    );
  });
});
