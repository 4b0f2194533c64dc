/** Shows which hub is asked for an owner, and what leads to the next one. */
import { beforeEach, expect, it } from "vitest";
import { type Address, address, type Prefix, prefix } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { generationOf } from "../../../../plugin/shortcut/control/generation.js";
import type { Outcome } from "../../../../plugin/shortcut/control/link.js";
import { type Resolution, Resolutions } from "../../../../plugin/shortcut/spoke/resolutions.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { RefusalCode } from "../../../../plugin/wire/control/message.js";

const [H1, H2] = [address("10.255.0.1"), address("10.255.0.2")];
const C = address("10.255.3.1");
const SITE = prefix("10.3.0.0/24");
const ID = id64FromBytes(new Uint8Array(8));
const KEY = publicKeyFromBytes(new Uint8Array(32));

let hubs: readonly Address[];
let asked: { to: Address; done: (now: number, o: Outcome) => void }[];
let got: Resolution[];
let resolutions: Resolutions;
beforeEach(() => {
  hubs = [H1, H2];
  asked = [];
  got = [];
  resolutions = new Resolutions({
    hubs: () => hubs,
    attested: () => {},
    request: (_, to, __, done) => {
      asked.push({ to, done });
      return ID;
    },
  });
});

const from = { address: H1, publicKey: KEY, bootId: ID };
const resolved = (prefixes: readonly Prefix[] = [SITE]): Outcome => ({
  kind: "reply",
  from,
  body: {
    kind: "resolved",
    owner: C,
    publicKey: KEY,
    prefixes,
    generation: generationOf(prefixes),
    lifetime: 60,
    pages: 1,
  },
});
const refused = (code: RefusalCode): Outcome => ({
  kind: "reply",
  from,
  body: { kind: "refused", code, reason: code },
});
const SILENT: Outcome = { kind: "timeout" };
/** Asks for the owner; the hubs answer in turn. Returns the hubs that were asked. */
const ask = (...answers: readonly Outcome[]): Address[] => {
  const order: Address[] = [];
  resolutions.ofOwner(1_000_000, C, (_, r) => void got.push(r));
  for (const o of answers) {
    const next = asked.shift();
    if (next === undefined) break;
    order.push(next.to);
    next.done(1_000_000, o);
  }
  expect(asked).toEqual([]);
  return order;
};
const last = (): Resolution | undefined => got.at(-1);

it("the first hub that knows is believed, and the next one is not asked", () => {
  expect(ask(resolved())).toEqual([H1]);
  expect(last()).toMatchObject({ ok: true, by: H1 });
});

it.each<[string, Outcome]>([
  ["does not know", refused("not-found")],
  ["does not answer", SILENT],
  ["is busy", refused("busy")],
  ["has forgotten this router", refused("not-registered")],
])("a hub that %s leads to the next", (_, first) => {
  expect(ask(first, resolved())).toEqual([H1, H2]);
  expect(last()).toMatchObject({ ok: true, by: H2 });
  expect(got).toHaveLength(1);
});

it("a destination of several spokes is an answer: another hub is not asked until one agrees", () => {
  expect(ask(refused("ambiguous"), resolved())).toEqual([H1]);
  expect(last()).toMatchObject({ ok: false, unanswered: false, by: H1 });
});

it("that no hub knows is refused, and is unanswered where a hub that was silent might have known", () => {
  ask(refused("not-found"), refused("not-found"));
  expect(last()).toMatchObject({ ok: false, unanswered: false });
  ask(SILENT, refused("not-found"));
  expect(last()).toMatchObject({ ok: false, unanswered: true });
  ask(refused("not-found"), SILENT);
  expect(last()).toMatchObject({ ok: false, unanswered: true });
});

it("the hub that gave the last answer is asked first for the next, as long as it answers at all", () => {
  ask(refused("not-found"), resolved());
  resolutions.expire(1_000_000, C);
  expect(ask(resolved())).toEqual([H2]);
  resolutions.expire(1_000_000, C);
  hubs = [H1];
  expect(ask(resolved())).toEqual([H1]);
});

it("what a hub that was restarted has answered is asked for again, and nothing else", () => {
  ask(resolved());
  resolutions.expireBy(1_000_000, H2);
  expect(ask()).toEqual([]);
  resolutions.expireBy(1_000_000, H1);
  expect(ask(resolved())).toEqual([H1]);
});

it("one hub can be asked for what it says itself", () => {
  resolutions.ofOwnerAt(1_000_000, H2, C, (_, r) => void got.push(r));
  expect(asked.map((x) => x.to)).toEqual([H2]);
  asked[0]?.done(1_000_000, refused("not-found"));
  expect(last()).toMatchObject({ ok: false, by: H2 });
});
