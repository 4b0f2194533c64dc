/** The attributes of an offer: those of the route underneath, within what the session type allows. */
import { describe, expect, it } from "vitest";
import { learnedBy, type OfferSpec, offerAttributes } from "../../../plugin/bgp/offer.js";
import { address } from "../../../plugin/net/address.js";
import { community, largeCommunity } from "../../../plugin/wire/bgp/community.js";
import { attributes, bytes } from "./support.js";

const alias = address("198.18.0.1");
const internal = { localAs: 65000, remoteAs: 65000 };
const ours = largeCommunity("65000:1:2");
const full = attributes({
  origin: "incomplete",
  asPath: [{ type: "sequence", ases: [65010, 65011] }],
  med: 5,
  localPref: 200,
  atomicAggregate: true,
  aggregator: { as: 65011, address: address("192.0.2.9") },
  communities: [community("65000:1")],
  largeCommunities: [largeCommunity("65000:9:9")],
  originatorId: address("192.0.2.7"),
  clusterList: [address("192.0.2.8")],
  unknown: [{ flags: 0xc0, type: 16, value: bytes("0002fde800000064") }],
});
const external = attributes({ ...full, originatorId: undefined, clusterList: [] });
const offer = (given: Partial<OfferSpec>) =>
  offerAttributes({
    underneath: full,
    session: internal,
    alias,
    largeCommunities: [ours],
    noAdvertise: false,
    ...given,
  });

describe("offer attributes", () => {
  it("copy the path, but for the next hop, ORIGINATOR_ID and CLUSTER_LIST", () => {
    expect(offer({})).toEqual({
      ok: true,
      value: {
        ...full,
        nextHop: alias,
        largeCommunities: ["65000:9:9", "65000:1:2"],
        originatorId: undefined,
        clusterList: [],
      },
    });
  });

  it("add NO_ADVERTISE when asked, once", () => {
    const once = offer({ noAdvertise: true });
    expect(once.ok && once.value.communities).toEqual(["65000:1", "65535:65282"]);
    const again = offer({
      noAdvertise: true,
      underneath: once.ok ? { ...once.value, originatorId: alias } : full,
    });
    expect(again.ok && again.value.communities).toEqual(["65000:1", "65535:65282"]);
  });

  it("have no LOCAL_PREF on an external session, and always one on an internal", () => {
    const e = offer({ underneath: external, session: { localAs: 65010, remoteAs: 65000 } });
    expect(e).toMatchObject({ ok: true, value: { localPref: undefined, asPath: external.asPath } });
    const i = offer({ underneath: { ...full, localPref: undefined } });
    expect(i).toMatchObject({ ok: true, value: { localPref: 100 } });
  });

  it("are refused where the session is not of the route's type, with the AS to configure", () => {
    expect(offer({ underneath: external })).toMatchObject({
      ok: false,
      error: {
        kind: "session-type",
        wantedLocalAs: 65010,
        reason: expect.stringContaining("configure AS 65010"),
      },
    });
    expect(offer({ session: { localAs: 65010, remoteAs: 65000 } })).toMatchObject({
      ok: false,
      error: { kind: "session-type", wantedLocalAs: 65000 },
    });
    // another hub has another AS: one external session carries the offers over both
    expect(offer({ underneath: external, session: { localAs: 65099, remoteAs: 65000 } })).toMatchObject({
      ok: true,
      value: { asPath: external.asPath },
    });
    const set = { ...external, asPath: [{ type: "set", ases: [1, 2] }] as const };
    expect(offer({ underneath: set })).toMatchObject({
      ok: false,
      error: { kind: "as-path", wantedLocalAs: undefined },
    });
  });

  it("go with any session over a route that is none of BGP's or the router's own", () => {
    for (const underneath of [undefined, attributes({ localPref: 100 })]) {
      expect(offer({ underneath })).toMatchObject({ ok: true, value: { asPath: [], localPref: 100 } });
      expect(offer({ underneath, session: { localAs: 65010, remoteAs: 65000 } })).toMatchObject({
        ok: true,
        value: { asPath: [{ type: "sequence", ases: [65010] }], localPref: undefined },
      });
    }
  });

  it("tell how the route underneath was learned", () => {
    expect(learnedBy(full)).toEqual({ kind: "ibgp" });
    expect(learnedBy(attributes({ originatorId: alias }))).toEqual({ kind: "ibgp" });
    expect(learnedBy(external)).toEqual({ kind: "ebgp", neighbourAs: 65010 });
    expect(learnedBy(attributes())).toEqual({ kind: "local" });
  });
});
