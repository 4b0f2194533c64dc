/**
 * The daemon's decision about each prefix of an owner: a reason of its own, and one report for each change.
 * Aliases that follow the route underneath, as when a hub is lost.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { address, type Prefix, prefix } from "../../../../plugin/net/address.js";
import type { OfferClasses, Output, RouteState } from "../../../../plugin/shortcut/events.js";
import { AliasPool } from "../../../../plugin/shortcut/offer/alias-pool.js";
import { Offers } from "../../../../plugin/shortcut/offer/offers.js";
import type { Reason } from "../../../../plugin/shortcut/reasons.js";

const OWNER = address("10.255.0.2");
const [P, Q] = [prefix("10.3.0.0/24"), prefix("10.4.0.0/24")];
const CLASSES: OfferClasses = { owner: OWNER, natPrognosis: "likely", rate: 0, roundTrip: "unknown" };
const rejected = (filter: string): Reason => ({ kind: "bird-rejected", filter });

const HUB1 = { nextHop: address("10.255.0.8"), via: ["wg-hub1"] };
const HUB2 = { nextHop: address("10.255.0.9"), via: ["wg-hub2"] };
const ECMP = { nextHop: address("10.255.0.8"), via: ["wg-hub1", "wg-hub2"] };
type Hop = typeof HUB1;

let out: Output[];
let offers: Offers;
let hops: Map<Prefix, Hop>;
let pool: Prefix;
const make = (): void => {
  out = [];
  offers = new Offers(
    {
      routing: {
        underneath: (p) => ({ ok: true, prefix: p, ...(hops.get(p) ?? HUB1) }),
        overlayTo: () => ["wg0"],
        routesItself: () => false,
        wayTo: () => "other",
      },
      aliases: new AliasPool({ 4: pool, 6: undefined }),
      emit: (o) => void out.push(o),
    },
    OWNER,
    () => undefined,
  );
  offers.update([P, Q], CLASSES);
};
beforeEach(() => {
  hops = new Map();
  pool = prefix("198.18.0.0/16");
  make();
});

const state = (p: Prefix, selected: boolean): RouteState => ({
  prefix: p,
  selected,
  reason: selected ? undefined : { kind: "bird-not-selected" },
  path: "overlay",
  daemonPath: "overlay",
  harmful: false,
});
const said = (): string[] =>
  out.flatMap((o) => (o.kind === "milestone" ? [`${o.milestone} ${o.detail}`] : []));
const asked = (): string[] => out.flatMap((o) => (o.kind === "explain" ? [o.prefix] : []));

it("is asked for what is refused only, and each prefix has its own reason", () => {
  offers.observe(state(P, true));
  offers.observe(state(Q, false));
  out.length = 0;
  offers.explainRefused();
  expect(asked()).toEqual([Q]);
  offers.explained(Q, rejected("mine"));
  expect(offers.rows().map((r) => [r.prefix, r.selected, r.reason])).toEqual([
    [P, true, undefined],
    [Q, false, rejected("mine")],
  ]);
});

it("is reported when it changes, once, and not while it is only awaited", () => {
  offers.observe(state(P, false));
  offers.observe(state(P, true));
  expect(said()).toEqual([]);
  offers.explained(Q, rejected("mine"));
  offers.explained(Q, rejected("mine"));
  offers.observe(state(Q, false));
  expect(said()).toEqual(["offer-refused 10.4.0.0/24: BIRD: rejected by import filter mine"]);
  offers.explained(Q, rejected("yours"));
  offers.observe(state(Q, true));
  offers.observe(state(Q, true));
  expect(said().slice(1)).toEqual([
    "offer-refused 10.4.0.0/24: BIRD: rejected by import filter yours",
    "offer-accepted 10.4.0.0/24",
  ]);
});

describe("the alias of offers whose next hop changes", () => {
  const [ONE, TWO] = ["198.18.0.1", "198.18.0.2"];
  /** Aliases and offers that were written since the last time, in order. */
  const written = (): string[] =>
    out.splice(0).flatMap((o) => {
      if (o.kind === "alias") return [`${o.alias} ${o.to} ${o.via.join("+")}`];
      return o.kind === "offer" || o.kind === "withdraw" ? [`${o.kind} ${o.prefix}`] : [];
    });
  const move = (hop: Hop, ...prefixes: readonly Prefix[]): void => {
    for (const p of prefixes) hops.set(p, hop);
    offers.update([P, Q], CLASSES);
  };
  beforeEach(() => out.splice(0));

  it("is rewritten in place when all have got the same other next hop, and the daemon is told nothing", () => {
    move(HUB2, P, Q);
    expect(written()).toEqual([`${ONE} overlay wg-hub2`]);
    move(ECMP, P, Q);
    expect(written()).toEqual([`${ONE} overlay wg-hub1+wg-hub2`]);
    move(HUB1, P, Q);
    expect(written()).toEqual([`${ONE} overlay wg-hub1`]);
  });

  it("is not rewritten for the same interfaces, in whatever order", () => {
    move({ ...HUB1, nextHop: OWNER }, P, Q);
    expect(written()).toEqual([]);
    move(ECMP, P, Q);
    written();
    move({ ...ECMP, via: ["wg-hub2", "wg-hub1"] }, P, Q);
    expect(written()).toEqual([]);
  });

  it("stays while some keep the next hop: the others get one of their own, and return to the first", () => {
    move(HUB2, Q);
    expect(written()).toEqual([`${TWO} overlay wg-hub2`, `offer ${Q}`]);
    move(HUB1, Q);
    expect(written()).toEqual([`${TWO} overlay wg-hub1`, `offer ${Q}`]);
    expect(offers.rows().map((r) => r.alias)).toEqual([ONE, ONE]);
  });

  it("leads to the other hub at once, although that one has an alias of its own", () => {
    move(HUB2, Q);
    written();
    move(HUB2, P);
    expect(written()).toEqual([`${ONE} overlay wg-hub2`, `offer ${P}`]);
    expect(offers.rows().map((r) => r.alias)).toEqual([TWO, TWO]);
    // and is not taken for the first hub's when that is used again
    move(HUB1, P);
    expect(written()).toEqual([`${ONE} overlay wg-hub1`, `offer ${P}`]);
  });

  it("leads nowhere else while direct: what moves is where it falls back to", () => {
    offers.point("direct");
    written();
    move(HUB2, P, Q);
    expect(written()).toEqual([`${ONE} direct wg-hub2`]);
    offers.point("overlay");
    expect(written()).toEqual([`${ONE} overlay wg-hub2`]);
    expect(offers.rows().map((r) => r.alias)).toEqual([ONE, ONE]);
  });

  it("is kept while direct, also when prefixes move one after another: the daemon is not disturbed", () => {
    offers.point("direct");
    written();
    move(HUB2, Q);
    expect(written()).toEqual([]);
    move(HUB2, P);
    expect(written()).toEqual([`${ONE} direct wg-hub2`]);
    move(HUB1, P);
    move(HUB1, Q);
    expect(written()).toEqual([`${ONE} direct wg-hub1`]);
    expect(offers.rows().map((r) => r.alias)).toEqual([ONE, ONE]);
  });

  it("follows while the offers stand no more, until it is released", () => {
    offers.withdrawAll();
    written();
    for (const p of [P, Q]) hops.set(p, HUB2);
    offers.followUnderneath();
    expect(written()).toEqual([`${ONE} overlay wg-hub2`]);
    offers.release();
    expect(written()).toEqual([`${ONE} absent wg-hub2`]);
    offers.followUnderneath();
    expect(written()).toEqual([]);
  });

  it("of which the pool has no more: the offer that needs another is withdrawn, and the first stays", () => {
    pool = prefix("198.18.0.0/30");
    make();
    hops.set(Q, HUB2);
    offers.update([P, Q], CLASSES);
    // 198.18.0.0/30 has two addresses
    hops.set(P, ECMP);
    const { refusals } = offers.update([P, Q], CLASSES);
    expect(refusals).toEqual([]);
    const R = prefix("10.5.0.0/24");
    hops.set(R, HUB1);
    written();
    expect(offers.update([P, Q, R], CLASSES).refusals).toEqual([{ kind: "no-alias", prefix: R }]);
    expect(written()).toEqual([]);
    expect(offers.prefixes).toEqual([P, Q]);
    hops.set(P, HUB2);
    hops.set(Q, ECMP);
    expect(offers.update([P, Q], CLASSES).refusals).toEqual([]);
  });
});
