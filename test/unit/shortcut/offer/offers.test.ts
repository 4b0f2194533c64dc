/** The daemon's decision about each prefix of an owner: a reason of its own, and one report for each change. */
import { beforeEach, expect, it } from "vitest";
import { address, type Prefix, prefix } from "../../../../plugin/net/address.js";
import type { OfferClasses, Output, RouteState } from "../../../../plugin/shortcut/events.js";
import { AliasPool } from "../../../../plugin/shortcut/offer/alias-pool.js";
import { Offers } from "../../../../plugin/shortcut/offer/offers.js";
import type { Reason } from "../../../../plugin/shortcut/reasons.js";

const OWNER = address("10.255.0.2");
const [P, Q] = [prefix("10.3.0.0/24"), prefix("10.4.0.0/24")];
const CLASSES: OfferClasses = { owner: OWNER, natPrognosis: "likely", rate: 0, roundTrip: "unknown" };
const rejected = (filter: string): Reason => ({ kind: "bird-rejected", filter });

let out: Output[];
let offers: Offers;
beforeEach(() => {
  out = [];
  offers = new Offers(
    {
      routing: {
        underneath: (p) => ({ ok: true, prefix: p, nextHop: OWNER }),
        routesItself: () => false,
        wayTo: () => "other",
      },
      aliases: new AliasPool({ 4: prefix("198.18.0.0/16"), 6: undefined }),
      emit: (o) => void out.push(o),
    },
    OWNER,
    () => undefined,
  );
  offers.update([P, Q], CLASSES);
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
