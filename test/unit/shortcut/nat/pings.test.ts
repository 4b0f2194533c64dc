/** The receiving of pings: who is believed, what a flood costs, and that one sender's flood is not another's. */
import { describe, expect, it } from "vitest";
import { type Address, address } from "../../../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { PairSecrets } from "../../../../plugin/shortcut/control/pair-secrets.js";
import type { Output } from "../../../../plugin/shortcut/events.js";
import { BootIds } from "../../../../plugin/shortcut/nat/boot-ids.js";
import { Pings } from "../../../../plugin/shortcut/nat/pings.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { Id64 } from "../../../../plugin/wire/control/message.js";

const key = (n: number): PublicKey => publicKeyFromBytes(new Uint8Array(32).fill(n));
const boot = (n: number): Id64 => id64FromBytes(new Uint8Array(8).fill(n));
const HUB = 100;
const TO = { address: address("192.0.2.66"), port: 51821 };

/** A router that pings and is pinged; `macs` counts what it has computed. */
function router(n: number, bootId = boot(n)) {
  const out: Output[] = [];
  const count = { macs: 0 };
  const secrets = new PairSecrets(
    (theirs) => new TextEncoder().encode([key(n), theirs].sort().join()),
    (k, data) => {
      count.macs++;
      const h = new Uint8Array(32);
      [...k, ...data].forEach((b, i) => {
        h[i % 32] = Math.imul((h[i % 32] ?? 0) ^ b, 31) & 255;
      });
      return h;
    },
  );
  const pings = new Pings(bootId, 51821, secrets, (o) => void out.push(o));
  let transaction = 0;
  /** The bytes of a ping to the hub. */
  const observe = (): Uint8Array => {
    const id = id64FromBytes(Uint8Array.of(0, 0, 0, 0, 0, 0, transaction >> 8, transaction++ & 255));
    const ping = { kind: "observe", ready: false, transaction: id, observed: undefined } as const;
    pings.send(key(HUB), { ...ping, epochs: { mine: 1, yours: 0 } }, { to: TO });
    const o = out.pop();
    if (o?.kind !== "ping") throw new Error("nothing sent");
    return o.payload;
  };
  return { pings, observe, count };
}

const hub = () => {
  const { pings, count } = router(HUB);
  const bootIds = new BootIds<Address>();
  const receive = (now: number, bytes: Uint8Array) => pings.receive(now, bytes, bootIds)?.key;
  return { receive, count, bootIds };
};
const A = address("10.255.0.1");
const M = address("10.255.0.9");

describe("a ping", () => {
  it("is believed by its MAC, whoever else has claimed its boot ID, and however early", () => {
    const h = hub();
    const a = router(1);
    h.bootIds.claim(M, boot(1), key(9));
    h.bootIds.claim(A, boot(1), key(1));
    for (let t = 0; t < 20; t++) {
      expect(h.receive(t * 1_000, a.observe())).toBe(key(1));
      // claimed again and again
      h.bootIds.claim(M, boot(t), key(9));
      h.bootIds.claim(M, boot(1), key(9));
    }
    // the claimant's own is its own
    expect(h.receive(30_000, router(9, boot(1)).observe())).toBe(key(9));
  });

  it("in the name of nobody costs no MAC", () => {
    const h = hub();
    h.bootIds.claim(A, boot(1), key(1));
    const stranger = router(7);
    for (let t = 0; t < 10_000; t++) expect(h.receive(t / 100, stranger.observe())).toBeUndefined();
    expect(h.count.macs).toBe(0);
  });

  it("in a false name costs a bounded number of MACs, and keeps no other from being answered", () => {
    const h = hub();
    const [a, c] = [router(1), router(3)];
    h.bootIds.claim(A, boot(1), key(1));
    h.bootIds.claim(M, boot(3), key(3));
    const forged = a.observe();
    forged[67] = (forged[67] ?? 0) ^ 1;
    // 100,000 in ten seconds, in the name of A
    for (let i = 0; i < 100_000; i++) {
      expect(h.receive(i / 10, forged)).toBeUndefined();
      if (i % 1_000 === 0) expect(h.receive(i / 10, c.observe())).toBe(key(3));
    }
    expect(h.count.macs).toBeLessThanOrEqual(250 + 10 * 100 + 100);
  });
});
