/**
 * Every pair of NAT behaviours in the simulated network: which pairs get a direct path, and that no
 * NAT mapping is broken on the way.
 */
import { describe, expect, it } from "vitest";
import type { Nat, NatKind } from "./nat.js";
import { checkedWorld, areDirect as direct, drive, statusOf as row } from "./script.js";

const kinds: Readonly<Record<string, NatKind>> = {
  "ei-ei": { mapping: "endpoint-independent", filter: "none", open: false },
  "ei-ad": { mapping: "endpoint-independent", filter: "address", open: false },
  "ei-apd": { mapping: "endpoint-independent", filter: "port", open: false },
  "ei-apd-open": { mapping: "endpoint-independent", filter: "port", open: true },
  random: { mapping: "address-and-port-dependent", filter: "port", open: false },
};

function passes(a: NatKind, c: NatKind): boolean {
  const hard = [a, c].filter((k) => k.mapping !== "endpoint-independent").length;
  if (hard === 0) return true;
  const easy = a.mapping === "endpoint-independent" ? a : c;
  return hard === 1 && easy.filter !== "port";
}

const world = (seed: number) => checkedWorld({ seed, spokes: 2, loss: 0 });

const names = Object.keys(kinds);
const pairs = names.flatMap((a) => names.map((c) => [a, c] as const));

describe("between NATs", () => {
  it.each(pairs)("%s and %s", (nameA, nameC) => {
    const [kindA, kindC] = [kinds[nameA], kinds[nameC]];
    if (kindA === undefined || kindC === undefined) throw new Error("a kind");
    for (const seed of [1, 2, 3]) {
      const { w, a, c } = world(seed);
      const nats = [w.setNat(a, kindA), w.setNat(c, kindC)] as const;
      w.run(w.now + 5_000);
      const from = (n: Nat) => n.unsolicited.filter((e) => e.address !== w.hub.endpoint.address).length;
      const before = nats.map(from);
      drive(a, c);
      w.run(w.now + 30_000);
      expect(direct(a, c), `seed ${seed}: ${row(a, c)?.why ?? "nothing"}`).toBe(passes(kindA, kindC));
      if (kindA.mapping === "endpoint-independent" && kindC.mapping === "endpoint-independent")
        expect(nats.map(from), `seed ${seed}: unsolicited packets`).toEqual(before);
      if (passes(kindA, kindC)) continue;
      expect(row(a, c)?.stage).toBe("backoff");
      expect(row(a, c)?.code).toBe("no-answer");
      const hopeless = [kindA, kindC].every((k) => k.mapping === "address-and-port-dependent");
      expect(row(a, c)?.nat?.prognosis).toBe(hopeless ? "hopeless" : "doubtful");
      // 30 s have passed, and the pause has not ended
      const tries = w.transitions.filter((t) => t.stage === "connecting" && t.router === a.address);
      expect(tries).toHaveLength(1);
    }
  });

  it("that change to ones that pass: tried again as soon as the hub sees the spoke elsewhere", () => {
    const { w, a, c } = world(4);
    const hard = kinds["random"];
    const easy = kinds["ei-apd"];
    if (hard === undefined || easy === undefined) throw new Error("a kind");
    w.setNat(a, hard);
    w.setNat(c, hard);
    w.run(w.now + 5_000);
    drive(a, c);
    w.run(w.now + 30_000);
    expect(row(a, c)?.stage).toBe("backoff");
    w.setNat(a, easy);
    w.setNat(c, easy);
    // the next round of asking the hub, not the longest pause
    w.run(w.now + 60_000);
    expect(direct(a, c), row(a, c)?.why).toBe(true);
  });
});
