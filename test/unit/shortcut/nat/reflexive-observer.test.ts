/** A hub's ports that do not answer: named after a whole round, and no longer once they answer. */
import { expect, it } from "vitest";
import { address } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { Observer } from "../../../../plugin/shortcut/nat/reflexive-observer.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { Id64 } from "../../../../plugin/wire/control/message.js";

const HUB = address("192.0.2.66");
const KEY = publicKeyFromBytes(new Uint8Array(32).fill(3));
const SELF = { address: address("192.0.2.2"), port: 51821 };

function observerWith(pingsUsable: boolean): {
  observer: Observer;
  asked: { port: number; transaction: Id64 }[];
  run(from: number, ms: number): number;
} {
  const asked: { port: number; transaction: Id64 }[] = [];
  let n = 0;
  const observer = new Observer(
    {
      pingsUsable,
      sendPing: (_, ping, { to }) => void asked.push({ port: to.port, transaction: ping.transaction }),
      randomId: () => id64FromBytes(new Uint8Array(8).fill(++n)),
    },
    20_000,
  );
  const run = (from: number, ms: number): number => {
    for (let t = from; t <= from + ms; t += 50) observer.handleTimeout(t);
    return from + ms;
  };
  return { observer, asked, run };
}

it("are those of a round without an answer, and stay while the next round is asked", () => {
  const { observer, asked, run } = observerWith(true);
  observer.watch(0, KEY, HUB, [51821, 4244]);
  const answer = (t: number, port: number): void => {
    const transaction = asked.filter((a) => a.port === port).at(-1)?.transaction;
    if (transaction === undefined) throw new Error(`port ${port} was not asked`);
    observer.receive(
      t,
      { address: HUB, port },
      {
        kind: "observed",
        ready: false,
        transaction,
        epochs: { mine: 1, yours: 1 },
        bootId: id64FromBytes(new Uint8Array(8)),
        observed: SELF,
      },
    );
  };
  let t = run(0, 50);
  answer(t, 51821);
  expect(observer.silentPorts).toEqual([]);
  t = run(t, 10_000);
  expect(observer.silentPorts).toEqual([4244]);
  t = run(t, 16_000);
  expect(observer.silentPorts).toEqual([4244]);
  answer(t, 4244);
  expect(observer.silentPorts).toEqual([]);
});

it("are not named where pings cannot be sent", () => {
  const { observer, run } = observerWith(false);
  observer.watch(0, KEY, HUB, [51821, 4244]);
  run(0, 60_000);
  expect(observer.silentPorts).toEqual([]);
});
