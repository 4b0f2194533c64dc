/** Shows when probes prove a path, when they call it lost, and what each end tells the other by them. */
import { describe, expect, it } from "vitest";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { Prober } from "../../../../plugin/shortcut/probe/path-proof.js";
import { LEASE, ProbeRelay } from "../../../../plugin/shortcut/probe/relay.js";
import { type Loss, type ProbeSession, ProbeStream } from "../../../../plugin/shortcut/probe/stream.js";
import { describeReason } from "../../../../plugin/shortcut/reasons.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import { PROBE_BYTES, type Probe } from "../../../../plugin/wire/probe.js";
import { generator } from "../../../sim/random.js";

const id = (n: number) => id64FromBytes(new Uint8Array(8).fill(n));
const [BOOT_A, BOOT_C, GEN_A, GEN_C, OTHER] = [id(1), id(2), id(3), id(4), id(5)];
const INTERVAL = 100;
const IDLE = 1_000;
const DETECTION = 300;
const FULL = 1372;
const FLIGHT = 10;

type End = "a" | "c";
const ENDS = ["a", "c"] as const;
const other = (end: End): End => (end === "a" ? "c" : "a");

const session = (end: End, given: Partial<ProbeSession> = {}): ProbeSession => ({
  bootId: end === "a" ? BOOT_A : BOOT_C,
  peerBootId: end === "a" ? BOOT_C : BOOT_A,
  epochs: end === "a" ? { mine: 7, yours: 9 } : { mine: 9, yours: 7 },
  accepted: end === "a" ? GEN_C : GEN_A,
  flipped: false,
  down: false,
  ownsRoutes: false,
  idle: false,
  answers: end === "c",
  interval: INTERVAL,
  idleInterval: IDLE,
  multiplier: 3,
  fullSize: FULL,
  ...given,
});

interface Given {
  readonly a?: Partial<ProbeSession>;
  readonly c?: Partial<ProbeSession>;
  readonly start?: number;
  readonly loss?: number;
  /** Milliseconds that a packet may take longer than 10. */
  readonly jitter?: number;
  readonly seed?: number;
}

/**
 * Two ends and the path between them: one way takes 10 ms and more; `cut` names the directions that
 * lose everything.
 */
class Pair {
  now: number;
  readonly sessions: Record<End, ProbeSession>;
  readonly streams: Record<End, ProbeStream>;
  readonly probers: Record<End, Prober> = { a: new Prober(FULL), c: new Prober(FULL) };
  readonly cut = new Set<End>();
  readonly small = new Set<End>();
  readonly sent: Record<End, { at: number; probe: Probe }[]> = { a: [], c: [] };
  readonly losses: { at: number; end: End; loss: Loss }[] = [];
  readonly proven: Partial<Record<End, number>> = {};
  private readonly random: () => number;
  private flight: { at: number; to: End; probe: Probe }[] = [];

  constructor(private readonly given: Given = {}) {
    this.now = given.start ?? 0;
    this.random = generator(given.seed ?? 1);
    this.sessions = { a: session("a", given.a), c: session("c", given.c) };
    this.streams = {
      a: new ProbeStream(this.sessions.a, this.now),
      c: new ProbeStream(this.sessions.c, this.now),
    };
  }

  say(end: End, said: Partial<ProbeSession>): void {
    this.sessions[end] = { ...this.sessions[end], ...said };
    this.streams[end].update(this.now, this.sessions[end]);
  }

  private send(end: End): void {
    const probe = this.streams[end].next(this.now, this.random());
    if (probe === undefined) return;
    this.sent[end].push({ at: this.now, probe });
    const lost =
      this.cut.has(end) ||
      (this.small.has(end) && probe.size > 1000) ||
      this.random() < (this.given.loss ?? 0);
    const at = this.now + FLIGHT + Math.round(this.random() * (this.given.jitter ?? 0));
    if (!lost) this.flight.push({ at, to: other(end), probe });
  }

  /** Runs in steps of a millisecond: events are as exact as the clock. */
  run(ms: number): void {
    const until = this.now + ms;
    for (; this.now < until; this.now++) {
      const due = this.flight.filter((f) => f.at <= this.now);
      if (due.length > 0) this.flight = this.flight.filter((f) => f.at > this.now);
      for (const f of due) this.streams[f.to].receive(this.now, f.probe);
      for (const end of ENDS) {
        const s = this.streams[end];
        s.handleTimeout(this.now);
        for (const e of s.events.splice(0)) {
          if (e.kind === "heard") this.probers[end].receive(e.at, e.probe);
          else {
            this.losses.push({ at: e.at, end, loss: e.loss });
            this.probers[end].lose(e.at, e.loss, e.silence);
          }
        }
        if (this.verdict(end) === "proven") this.proven[end] ??= this.now;
        this.send(end);
      }
    }
  }

  verdict(end: End) {
    return this.probers[end].verdict((g) => g === (end === "a" ? GEN_A : GEN_C));
  }

  describe(end: End): string {
    return describeReason(this.probers[end].unproven((g) => g === (end === "a" ? GEN_A : GEN_C)));
  }

  /** Returns the intervals between the probes that an end sent since `from`. */
  gaps(end: End, from: number): number[] {
    const at = this.sent[end].filter((s) => s.at >= from).map((s) => s.at);
    return at.slice(1).map((t, i) => t - (at[i] ?? t));
  }
}

describe("probes", () => {
  it("prove a path that works both ways at full size, at both ends", () => {
    const p = new Pair();
    p.run(500);
    expect([p.verdict("a"), p.verdict("c")]).toEqual(["proven", "proven"]);
    expect(p.probers.a.roundTrip).toBeCloseTo(2 * FLIGHT, 0);
    expect(p.describe("a")).toBe("proven");
  });

  it("need no extra wait: the answer to the first proves the path to one end, the answer to that to the other", () => {
    const p = new Pair();
    p.run(500);
    expect(p.proven.a).toBeLessThanOrEqual(2 * FLIGHT + 2);
    expect(p.proven.c).toBeLessThanOrEqual(3 * FLIGHT + 3);
  });

  it("of the end that answers are not sent before it was asked", () => {
    const p = new Pair();
    p.cut.add("a");
    p.run(1_000);
    expect(p.sent.c).toEqual([]);
  });

  it.each(ENDS)("prove nothing when only packets of %s are lost", (end) => {
    const p = new Pair({ c: { answers: false } });
    p.cut.add(end);
    p.run(1_000);
    expect([p.verdict("a"), p.verdict("c")]).toEqual(["waiting", "waiting"]);
    expect(p.describe(end)).toMatch(
      /^the owner does not hear our probes on the direct path: its firewall drops input/,
    );
    expect(p.describe(other(end))).toMatch(
      /^no probe arrived on the direct path, although WireGuard made a handshake/,
    );
  });

  it.each(ENDS)("prove nothing when full-size packets of %s are lost", (end) => {
    const p = new Pair();
    p.small.add(end);
    p.run(5_000);
    expect([p.verdict("a"), p.verdict("c")]).toEqual(["waiting", "waiting"]);
    expect(p.losses).toEqual([]);
    expect(p.describe(other(end))).toContain("full size (1372 bytes");
  });

  it("say that the other end does not accept our sources, when its generation differs", () => {
    const p = new Pair({ c: { accepted: OTHER } });
    p.run(500);
    expect([p.verdict("a"), p.verdict("c")]).toEqual(["unaccepted", "proven"]);
    expect(p.describe("a")).toBe("the owner does not accept our prefixes yet");
    p.say("c", { accepted: GEN_A });
    p.run(FLIGHT + 3);
    expect(p.verdict("a")).toBe("proven");
  });

  it("of another epoch or boot are ignored", () => {
    const wrong = new Pair({ a: { epochs: { mine: 6, yours: 9 } }, c: { answers: false } });
    wrong.run(1_000);
    expect([wrong.probers.a.heard, wrong.probers.c.heard]).toEqual([false, false]);
    const good = new Pair();
    good.run(300);
    const probe = good.sent.c.at(-1)?.probe;
    if (probe === undefined) throw new Error("no probe");
    const { a } = good.streams;
    expect(a.receive(good.now, probe)).toBe(true);
    expect(a.receive(good.now, { ...probe, bootId: OTHER, down: true })).toBe(false);
    expect(a.receive(good.now, { ...probe, epochs: { mine: 8, yours: 7 }, down: true })).toBe(false);
    expect(a.receive(good.now, { ...probe, epochs: { mine: 9, yours: 6 }, down: true })).toBe(false);
  });

  it("say at once that an end falls back, keeps what it owns, or has flipped", () => {
    const p = new Pair();
    p.run(500);
    p.say("c", { flipped: true, ownsRoutes: true });
    p.run(FLIGHT + 2);
    expect([p.probers.a.remoteFlipped, p.probers.a.remoteKeeps]).toEqual([true, true]);
    p.say("c", { down: true, ownsRoutes: false });
    p.run(FLIGHT + 2);
    expect(p.verdict("a")).toBe("down");
    expect(p.probers.a.remoteKeeps).toBe(false);
  });

  it("measure the round trip without the time that the other end held the echo", () => {
    const p = new Pair();
    p.run(50);
    const mine = p.sent.a[0]?.probe;
    if (mine === undefined) throw new Error("no probe");
    const prober = new Prober(FULL);
    prober.receive(1_500, { ...mine, echo: 1_000_000, held: 480_000 });
    expect(prober.roundTrip).toBeCloseTo(20, 3);
  });

  it("measure the round trip across the wrap of the 32-bit clock", () => {
    // 2^32 microseconds are 4294967.296 ms
    const p = new Pair({ start: 4_294_900 });
    p.run(1_000);
    expect(p.probers.a.roundTrip).toBeCloseTo(2 * FLIGHT, 0);
    expect(p.probers.c.roundTrip).toBeCloseTo(2 * FLIGHT, 0);
  });
});

describe("a path that is cut", () => {
  it.each([["a"], ["c"], ["a", "c"]] as End[][])(
    "for %s is lost at both ends in detection time",
    (...cut) => {
      const p = new Pair();
      p.run(2_000);
      for (const end of cut) p.cut.add(end);
      const at = p.now;
      p.run(2_000);
      expect(p.losses.map((l) => l.end).sort()).toEqual(["a", "c"]);
      for (const l of p.losses) {
        // the end that still hears is told by the other, in one flight
        expect(l.at).toBeLessThanOrEqual(at + FLIGHT + DETECTION + FLIGHT + 2);
        expect(l.at).toBeGreaterThanOrEqual(at + DETECTION - INTERVAL);
      }
      const [deaf] = cut.length === 1 ? [other(cut[0] ?? "a")] : [undefined];
      for (const l of p.losses)
        expect(l.loss).toBe(deaf === undefined || l.end === deaf ? "silent" : "unheard");
      for (const end of ENDS) expect(p.verdict(end)).toBe("lost");
    },
  );

  it("is not lost before its time, and is when its time has come", () => {
    const p = new Pair();
    p.run(1_000);
    const { a } = p.streams;
    for (const end of ENDS) p.cut.add(end);
    p.run(50);
    const failure = a.pollTimeout(false);
    if (failure === undefined) throw new Error("no failure time");
    a.handleTimeout(failure - 0.001);
    expect(a.events).toEqual([]);
    a.handleTimeout(failure);
    expect(a.events).toMatchObject([{ kind: "lost", loss: "silent" }]);
  });

  it("while idle is lost in the detection time of the idle rate", () => {
    const p = new Pair();
    p.run(1_000);
    for (const end of ENDS) p.say(end, { idle: true });
    p.run(10_000);
    for (const end of ENDS) p.cut.add(end);
    const at = p.now;
    p.run(10_000);
    expect(p.losses).toHaveLength(2);
    for (const l of p.losses) {
      expect(l.at).toBeLessThanOrEqual(at + 3 * IDLE);
      expect(l.at).toBeGreaterThanOrEqual(at + 2 * IDLE);
    }
  });

  it("as soon as traffic has come to an idle path is lost in the fast detection time", () => {
    const p = new Pair();
    p.run(1_000);
    for (const end of ENDS) p.say(end, { idle: true });
    p.run(10_000);
    // traffic that only one end sees: its first probe makes both fast
    p.say("a", { idle: false });
    p.run(2 * FLIGHT + 5);
    expect([p.streams.a.detection, p.streams.c.detection]).toEqual([DETECTION, DETECTION]);
    for (const end of ENDS) p.cut.add(end);
    const at = p.now;
    p.run(2_000);
    expect(p.losses).toHaveLength(2);
    for (const l of p.losses) expect(l.at).toBeLessThanOrEqual(at + DETECTION);
  });
});

describe("the rate", () => {
  it("is the agreed interval, jittered down by at most a quarter (RFC 5880 §6.8.7)", () => {
    const p = new Pair();
    p.run(20_000);
    for (const end of ENDS) {
      const gaps = p.gaps(end, 1_000);
      expect(Math.max(...gaps)).toBeLessThanOrEqual(INTERVAL + 1);
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(INTERVAL * 0.75);
    }
  });

  it.each([
    [{ interval: 50 }, { interval: 200 }],
    [{ interval: 200 }, { interval: 50 }],
  ])("of ends that want %o and %o is the slower, and detection follows each one's multiplier", (a, c) => {
    const p = new Pair({ a: { ...a, multiplier: 5 }, c: { ...c, multiplier: 3 } });
    p.run(20_000);
    for (const end of ENDS) {
      const gaps = p.gaps(end, 1_000);
      expect(Math.max(...gaps)).toBeLessThanOrEqual(201);
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(150);
    }
    expect(p.streams.a.detection).toBe(3 * 200);
    expect(p.streams.c.detection).toBe(5 * 200);
    expect(p.losses).toEqual([]);
  });

  it("of ends with different idle intervals is each one's own", () => {
    const p = new Pair({ a: { idleInterval: 500 }, c: { idleInterval: 2_000 } });
    p.run(1_000);
    for (const end of ENDS) p.say(end, { idle: true });
    p.run(20_000);
    expect(Math.min(...p.gaps("a", 8_000))).toBeGreaterThanOrEqual(375);
    expect(Math.max(...p.gaps("a", 8_000))).toBeLessThanOrEqual(501);
    expect(Math.min(...p.gaps("c", 8_000))).toBeGreaterThanOrEqual(1_500);
    expect([p.streams.a.detection, p.streams.c.detection]).toEqual([6_000, 1_500]);
    expect(p.losses).toEqual([]);
  });

  it("is slow only when both ends see no traffic", () => {
    const p = new Pair();
    p.run(1_000);
    p.say("a", { idle: true });
    p.run(10_000);
    for (const end of ENDS) expect(Math.max(...p.gaps(end, 3_000))).toBeLessThanOrEqual(INTERVAL + 1);
    p.say("c", { idle: true });
    p.run(10_000);
    for (const end of ENDS) expect(Math.min(...p.gaps(end, 14_000))).toBeGreaterThanOrEqual(IDLE * 0.75);
  });

  it("stays fast until the other end has answered a probe that announces the slow one (§6.8.3)", () => {
    const p = new Pair();
    p.run(1_000);
    for (const end of ENDS) p.say(end, { idle: true });
    p.run(FLIGHT + 3);
    p.cut.add("c");
    p.run(250);
    expect(p.streams.a.pace).toBe(INTERVAL);
    expect(p.sent.a.at(-1)?.probe.interval).toBe(IDLE * 1_000);
    p.cut.clear();
    p.run(IDLE + 100);
    expect(p.streams.a.pace).toBe(IDLE);
  });

  it("changes repeatedly without an alarm, with one probe in ten lost and a multiplier that tolerates it", () => {
    for (let seed = 1; seed <= 5; seed++) {
      const p = new Pair({ loss: 0.1, jitter: 40, seed, a: { multiplier: 12 }, c: { multiplier: 12 } });
      p.run(1_000);
      for (let i = 0; i < 100; i++) {
        p.say(i % 3 === 0 ? "a" : "c", { idle: i % 2 === 0 });
        p.run(500 + ((i * 977) % 3_000));
      }
      expect(p.losses, `seed ${seed}`).toEqual([]);
    }
  });
});

describe("a path that no longer carries full-size packets", () => {
  it.each(ENDS)("for large packets of %s is lost there in three seconds, although small ones pass", (end) => {
    const p = new Pair();
    p.run(5_000);
    p.small.add(end);
    const at = p.now;
    p.run(10_000);
    expect(p.losses).toMatchObject([{ end, loss: "narrow" }]);
    expect((p.losses[0]?.at ?? 0) - at).toBeLessThanOrEqual(3_000);
    expect(p.probers[end].describeLoss()).toBe(
      "probes of the full size (1372 bytes of UDP) do not pass any more",
    );
    expect(p.verdict(end)).toBe("lost");
  });

  it("while idle is lost in five seconds", () => {
    const p = new Pair();
    p.run(1_000);
    for (const end of ENDS) p.say(end, { idle: true });
    p.run(10_000);
    p.small.add("a");
    const at = p.now;
    p.run(10_000);
    expect(p.losses).toMatchObject([{ end: "a", loss: "narrow" }]);
    expect((p.losses[0]?.at ?? 0) - at).toBeLessThanOrEqual(5_000);
  });

  it("is tried at full size about once a second while it carries full-size packets", () => {
    const p = new Pair();
    p.run(11_000);
    const full = p.sent.a.filter((s) => s.at >= 1_000 && s.probe.size === FULL);
    expect(full.length).toBeGreaterThanOrEqual(8);
    expect(full.length).toBeLessThanOrEqual(10);
    expect(p.sent.a.some((s) => s.probe.size === PROBE_BYTES)).toBe(true);
  });

  it("is not concluded from an occasional lost full-size probe", () => {
    const p = new Pair({ loss: 0.05, jitter: 60, a: { multiplier: 12 }, c: { multiplier: 12 } });
    p.run(600_000);
    expect(p.losses).toEqual([]);
  });
});

describe("random loss", () => {
  /**
   * Simulates at 10% loss, and compares the alarms with the expected number. A false alarm takes a
   * silence of 300 ms. With intervals of 75 to 100 ms, that is at least three lost in a row (and
   * with three, four intervals: 300 to 400 ms). At 1% the probability is 10^-6 for each of 11.4
   * probes a second and direction: one alarm in 24 hours for a direction. At 10% it is 1000 times
   * as frequent.
   */
  it("causes as many alarms as three lost in a row are likely, and no more", () => {
    const loss = 0.1;
    let alarms = 0;
    let probes = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const p = new Pair({ loss, jitter: 5, seed });
      p.run(200_000);
      // each episode is seen by both ends
      alarms += p.losses.filter((l) => l.loss === "silent").length;
      probes += p.sent.a.length + p.sent.c.length;
    }
    const expected = probes * loss ** 3;
    expect(alarms).toBeGreaterThan(expected * 0.6);
    expect(alarms).toBeLessThan(expected * 1.3);
  });

  it("of 1% causes none in ten minutes, with jitter", () => {
    const p = new Pair({ loss: 0.01, jitter: 30, seed: 7 });
    p.run(600_000);
    expect(p.losses).toEqual([]);
  });
});

describe("the relay", () => {
  const key = publicKeyFromBytes(new Uint8Array(32).fill(9));
  const drain = (r: ProbeRelay) => {
    const out = [];
    for (let o = r.pollOutput(); o !== undefined; o = r.pollOutput()) out.push(o);
    return out;
  };
  const run = (r: ProbeRelay, from: number, to: number) => {
    const sent: number[] = [];
    for (let t = from; t < to; t++) {
      const at = r.pollTimeout(t);
      if (at === undefined || at > t) continue;
      r.handleTimeout(t);
      for (const o of drain(r)) if (o.kind === "send") sent.push(t);
    }
    return sent;
  };

  it("answers for an engine that is busy for a second, and not for an engine that hangs", () => {
    const r = new ProbeRelay(() => 0.5, 0);
    r.set(0, key, session("a"));
    r.renew(100);
    const sent = run(r, 100, 10_000);
    expect(sent.length).toBeGreaterThan(20);
    expect(sent.at(-1)).toBeLessThan(100 + LEASE);
    expect(sent.at(-1)).toBeGreaterThan(100 + LEASE - INTERVAL);
    r.renew(10_000);
    expect(run(r, 10_000, 10_010)).toEqual([10_000]);
  });

  it("passes on received probes with their time, and nothing of a path that is not probed", () => {
    const a = new ProbeRelay(() => 0.5, 0);
    const c = new ProbeRelay(() => 0.5, 0);
    a.set(0, key, session("a"));
    a.handleTimeout(0);
    const [first] = drain(a);
    if (first?.kind !== "send") throw new Error("nothing sent");
    c.receive(5, key, first.probe);
    expect(drain(c)).toEqual([]);
    c.set(6, key, session("c"));
    c.receive(7, key, first.probe);
    expect(drain(c)).toMatchObject([
      { kind: "event", event: { kind: "heard", at: 7, key } },
      { kind: "send", probe: { hearYou: true, heardFull: first.probe.sequence, size: FULL } },
    ]);
    c.unset(key);
    c.receive(8, key, first.probe);
    expect(drain(c)).toEqual([]);
  });

  it("that takes over from a dead one reports what was heard last", () => {
    const before = new Pair();
    before.run(1_000);
    const last = before.sent.c.at(-1);
    if (last === undefined) throw new Error("no probe");
    const r = new ProbeRelay(() => 0.5, before.now);
    r.set(before.now, key, before.sessions.a);
    r.receive(last.at + FLIGHT, key, last.probe);
    const probe = drain(r).find((o) => o.kind === "send");
    expect(probe).toMatchObject({ probe: { hearYou: true } });
    if (probe?.kind !== "send") throw new Error("nothing sent");
    before.streams.c.receive(before.now, probe.probe);
    expect(before.streams.c.events.map((e) => e.kind)).toEqual(["heard"]);
  });
});
