/**
 * Shows what a spoke keeps and asks on behalf of strangers: addresses of the overlay that no hub has
 * registered ask for shortcuts, thousands of them. The hub is asked at a bounded rate, memory is bounded
 * and given back, and registered owners get their shortcuts meanwhile.
 */
import { describe, expect, it } from "vitest";
import { address } from "../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../plugin/net/key.js";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";
import type { ReplyBody } from "../../plugin/wire/control/message.js";
import { areDirect, checkedWorld, drive, until } from "./script.js";

const STRANGERS = 4_000;

describe("strangers that ask for shortcuts", () => {
  it("cost a bounded number of questions and of memory, and keep no owner from its shortcut", () => {
    const { w, a, c, d } = checkedWorld({ seed: 31, spokes: 3, loss: 0 });
    w.run(w.now + 5_000);
    drive(a, d);
    until(w, 60_000, () => areDirect(a, d), 10);
    let asked = 0;
    w.passes = (from, _to, kind) => {
      if (from === a && kind === "resolve-owner") asked++;
      return true;
    };
    const bytes = (i: number): Uint8Array =>
      Uint8Array.from({ length: 32 }, (_, k) => (k < 2 ? (i >> (8 * k)) & 255 : 7));
    const exchange = (i: number): ReplyBody | undefined =>
      a.engine.spoke?.handleRequest(
        w.now,
        {
          address: address(`10.77.${i >> 8}.${i & 255}`),
          publicKey: publicKeyFromBytes(bytes(i)),
          bootId: id64FromBytes(bytes(i).slice(0, 8)),
        },
        {
          kind: "exchange",
          epochs: { mine: 1, yours: 0 },
          candidates: [],
          mtu: 1420,
          pings: true,
          mapping: "none",
          linkLocal: true,
          pskProof: new Uint8Array(0),
        },
      );
    let busy = 0;
    const start = w.now;
    for (let i = 0; i < STRANGERS; i++) {
      if (exchange(i)?.kind === "refused") busy++;
      // a hundred at the same moment
      if (i % 100 === 99) w.run(w.now + 500);
    }
    const seconds = (w.now - start) / 1_000;
    expect(busy).toBeGreaterThan(STRANGERS / 2);
    // with what was lost, and D's own
    expect(asked).toBeLessThanOrEqual(200 + 20 * seconds + 10);
    const kept = (): number => a.engine.spoke?.shortcutStatus(w.now).length ?? 0;
    expect(kept()).toBeLessThanOrEqual(1_024);
    expect(areDirect(a, d)).toBe(true);
    drive(c, a);
    until(w, 120_000, () => areDirect(a, c), 10);
    // everything is given back with time
    w.run(w.now + 1_300_000);
    expect(kept()).toBeLessThanOrEqual(2);
    expect(a.engine.spoke?.remembered).toBeLessThanOrEqual(2);
  });
});
