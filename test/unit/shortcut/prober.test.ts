import { describe, expect, it } from "vitest";
import { Prober } from "../../../plugin/shortcut/prober.js";
import { id64FromBytes } from "../../../plugin/wire/control/codec.js";
import type { Probe } from "../../../plugin/wire/probe.js";

const id = (n: number) => id64FromBytes(new Uint8Array(8).fill(n));
const [BOOT_A, BOOT_C, GEN_A, GEN_C, OTHER] = [id(1), id(2), id(3), id(4), id(5)];
const INTERVAL = 100;
const DETECTION = 300;
const FULL = 1372;

/** Two probers and the path between them: 10 ms one way; `cut` names the directions that lose everything. */
class Pair {
  now = 0;
  readonly a: Prober;
  readonly c: Prober;
  readonly cut = new Set<"a" | "c">();
  readonly small = new Set<"a" | "c">();
  readonly verdicts: { at: number; end: "a" | "c"; verdict: string }[] = [];
  accepted: Record<"a" | "c", ReturnType<typeof id>> = { a: GEN_C, c: GEN_A };
  private readonly flight: { at: number; to: "a" | "c"; probe: Probe }[] = [];

  constructor(epochs = { a: 7, c: 9 }, start = 0) {
    this.now = start;
    const common = { interval: INTERVAL, multiplier: 3, fullSize: FULL };
    this.a = new Prober({
      ...common,
      bootId: BOOT_A,
      peerBootId: BOOT_C,
      epochs: { mine: epochs.a, yours: epochs.c },
    });
    this.c = new Prober({ ...common, bootId: BOOT_C, peerBootId: BOOT_A, epochs: { mine: 9, yours: 7 } });
    this.a.start(this.now);
    this.c.start(this.now);
  }

  run(ms: number): void {
    const until = this.now + ms;
    for (; this.now <= until; this.now++) {
      for (const end of ["a", "c"] as const) {
        const p = this[end];
        if (p.nextAt !== undefined && this.now >= p.nextAt) {
          const probe = p.next(this.now, 0.5, {
            accepted: this.accepted[end],
            flipped: false,
            down: false,
            keeps: false,
          });
          const lost = this.cut.has(end) || (this.small.has(end) && probe.size > 1000);
          if (!lost) this.flight.push({ at: this.now + 10, to: end === "a" ? "c" : "a", probe });
        }
      }
      for (const f of this.flight.splice(0)) {
        if (f.at > this.now) this.flight.push(f);
        else this[f.to].receive(this.now, f.probe);
      }
      for (const end of ["a", "c"] as const) {
        const verdict = this.verdict(end);
        const last = this.verdicts.filter((v) => v.end === end).at(-1);
        if (last?.verdict !== verdict) this.verdicts.push({ at: this.now, end, verdict });
      }
    }
  }

  verdict(end: "a" | "c") {
    return this[end].verdict(this.now, end === "a" ? GEN_A : GEN_C);
  }
}

describe("probes", () => {
  it("prove a path that works both ways at full size, at both ends", () => {
    const p = new Pair();
    p.run(500);
    expect(p.verdict("a")).toBe("proven");
    expect(p.verdict("c")).toBe("proven");
    expect(p.a.roundTrip).toBeCloseTo(20, 0);
    expect(p.a.describe(GEN_A)).toBe("proven");
  });

  it.each(["a", "c"] as const)("prove nothing when only packets of %s are lost", (end) => {
    const p = new Pair();
    p.cut.add(end);
    p.run(1000);
    expect(p.verdict("a")).toBe("waiting");
    expect(p.verdict("c")).toBe("waiting");
    const hears = end === "a" ? p.a : p.c;
    const deaf = end === "a" ? p.c : p.a;
    expect(hears.describe(GEN_A)).toBe("the owner does not hear our probes on the direct path");
    expect(deaf.describe(GEN_A)).toBe("no probe arrived by the direct path");
  });

  it.each(["a", "c"] as const)("prove nothing when full-size packets of %s are lost", (end) => {
    const p = new Pair();
    p.small.add(end);
    p.run(1000);
    expect(p.verdict("a")).toBe("waiting");
    expect(p.verdict("c")).toBe("waiting");
    expect(p[end === "a" ? "c" : "a"].describe(GEN_A)).toContain("full size (1372 bytes");
  });

  it.each([["a"], ["c"], ["a", "c"]] as ("a" | "c")[][])(
    "see at both ends that the path of %s is cut, in time",
    (...cut) => {
      const p = new Pair();
      p.run(1000);
      for (const end of cut) p.cut.add(end);
      const at = p.now;
      p.run(2000);
      for (const end of ["a", "c"] as const) {
        const lost = p.verdicts.find((v) => v.end === end && v.at >= at && v.verdict === "lost");
        // own detection; the end that still hears learns from the other's silence about it, one detection later
        expect(lost?.at, end).toBeLessThanOrEqual(at + 2 * DETECTION + INTERVAL + 20);
      }
      const first = p.verdicts.find((v) => v.at >= at && v.verdict === "lost");
      expect(first?.at).toBeLessThanOrEqual(at + DETECTION + 20);
      expect(first?.at).toBeGreaterThanOrEqual(at + DETECTION - INTERVAL);
    },
  );

  it("fail exactly when the timer says so", () => {
    const p = new Pair();
    p.run(1000);
    const at = p.a.failureAt();
    if (at === undefined) throw new Error("no failure time");
    expect(p.a.verdict(at - 0.001, GEN_A)).toBe("proven");
    expect(p.a.verdict(at, GEN_A)).toBe("lost");
  });

  it("say that the other end does not accept our sources, when its generation is another", () => {
    const p = new Pair();
    p.accepted.c = OTHER;
    p.run(500);
    expect(p.verdict("a")).toBe("unaccepted");
    expect(p.verdict("c")).toBe("proven");
    expect(p.a.describe(GEN_A)).toBe("the owner does not accept our prefixes yet");
    p.accepted.c = GEN_A;
    p.run(200);
    expect(p.verdict("a")).toBe("proven");
  });

  it("of another epoch or boot are ignored", () => {
    const p = new Pair({ a: 6, c: 9 });
    p.run(1000);
    expect(p.c.heard).toBe(false);
    expect(p.a.heard).toBe(false);
    const good = new Pair();
    good.run(300);
    const probe = good.c.next(good.now, 0, { accepted: GEN_A, flipped: false, down: false, keeps: false });
    expect(good.a.receive(good.now, probe)).toBe(true);
    expect(good.a.receive(good.now, { ...probe, bootId: OTHER, down: true })).toBe(false);
    expect(good.a.receive(good.now, { ...probe, epochs: { mine: 8, yours: 7 }, down: true })).toBe(false);
    expect(good.a.receive(good.now, { ...probe, epochs: { mine: 9, yours: 6 }, down: true })).toBe(false);
    expect(good.verdict("a")).toBe("proven");
  });

  it("say whether the other end keeps what it owns", () => {
    const p = new Pair();
    p.run(500);
    expect(p.a.remoteKeeps).toBe(false);
    p.a.receive(p.now, p.c.next(p.now, 0, { accepted: GEN_A, flipped: true, down: false, keeps: true }));
    expect(p.a.remoteKeeps).toBe(true);
    p.run(200);
    expect(p.a.remoteKeeps).toBe(false);
  });

  it("that say down end it at once", () => {
    const p = new Pair();
    p.run(500);
    const probe = p.c.next(p.now, 0, { accepted: GEN_A, flipped: false, down: true, keeps: false });
    p.a.receive(p.now, probe);
    expect(p.verdict("a")).toBe("down");
  });

  it("measure the round trip without the time that the other end held the echo", () => {
    const p = new Pair();
    p.run(50);
    const mine = p.a.next(1_000, 0, { accepted: GEN_C, flipped: false, down: false, keeps: false });
    const fresh = new Pair();
    fresh.a.receive(1_500, {
      ...mine,
      bootId: BOOT_C,
      epochs: { mine: 9, yours: 7 },
      echo: 1_000_000,
      held: 480_000,
    });
    expect(fresh.a.roundTrip).toBeCloseTo(20, 3);
  });

  it("measure the round trip across the wrap of the 32-bit clock", () => {
    // 2^32 microseconds are 4294967.296 ms
    const p = new Pair(undefined, 4_294_900);
    p.run(1000);
    expect(p.a.roundTrip).toBeCloseTo(20, 0);
    expect(p.c.roundTrip).toBeCloseTo(20, 0);
  });

  it("come at the interval, jittered down by at most a quarter (RFC 5880 §6.8.7)", () => {
    const p = new Pair();
    for (const random of [0, 0.5, 0.999]) {
      p.a.next(1_000, random, { accepted: GEN_C, flipped: false, down: false, keeps: false });
      expect(p.a.nextAt).toBeCloseTo(1_000 + INTERVAL * (1 - random / 4), 6);
    }
  });
});
