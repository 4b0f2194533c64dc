/** The BGP session, state by state, against RFC 4271 and its successors. */
import { describe, expect, it } from "vitest";
import type { SessionConfig } from "../../../plugin/bgp/negotiation.js";
import { describeProblem } from "../../../plugin/bgp/problem.js";
import { Session, type SessionOutput } from "../../../plugin/bgp/session.js";
import { address, type Family, prefix } from "../../../plugin/net/address.js";
import {
  encodeKeepalive,
  Framer,
  frame,
  MESSAGE,
  type MessageType,
} from "../../../plugin/wire/bgp/framer.js";
import {
  decodeNotification,
  describeNotification,
  encodeNotification,
  notification,
} from "../../../plugin/wire/bgp/notification.js";
import { type AddPathMode, decodeOpen, encodeOpen, type Open } from "../../../plugin/wire/bgp/open.js";
import { decodeRouteRefresh, encodeRouteRefresh } from "../../../plugin/wire/bgp/route-refresh.js";
import { decodeUpdate, encodeEndOfRib, encodeReach } from "../../../plugin/wire/bgp/update.js";
import { attributes, context, updateBody } from "./support.js";

const p = prefix("10.20.0.0/16");
const A = attributes({ localPref: 100 });

/** A passive neighbour by script, in virtual time. */
class World {
  now = 1000;
  readonly session: Session;
  readonly log: string[] = [];
  readonly outputs: SessionOutput[] = [];
  readonly heard: { type: MessageType; body: Uint8Array }[] = [];
  connects = 0;
  closes = 0;
  private framer = new Framer();

  constructor(config: Partial<SessionConfig> = {}, random = () => 1) {
    this.session = new Session(
      {
        name: "test",
        localAs: 65000,
        remoteAs: 65000,
        routerId: address("127.0.0.2"),
        holdTime: 9,
        families: [4, 6],
        addPathReceive: false,
        askEndOfRib: false,
        backoff: { minMs: 100, maxMs: 1600 },
        ...config,
      },
      random,
    );
  }

  drain(): void {
    for (let o = this.session.pollOutput(); o !== undefined; o = this.session.pollOutput()) {
      this.outputs.push(o);
      switch (o.kind) {
        case "connect":
          this.connects++;
          this.framer = new Framer();
          this.log.push("connect");
          break;
        case "close":
          this.closes++;
          this.log.push("close");
          break;
        case "send":
          this.framer.push(o.bytes);
          for (let f = this.framer.next(); f !== undefined; f = this.framer.next()) {
            if (f.kind === "error") throw new Error(f.reason);
            this.heard.push(f);
            const n = f.type === "NOTIFICATION" ? decodeNotification(f.body) : undefined;
            this.log.push(n?.ok ? describeNotification(n.value) : f.type);
          }
          break;
        case "problem":
          this.log.push(`problem ${o.problem.kind}`);
          expect(describeProblem(o.problem)).not.toBe("");
          break;
        case "routes":
          this.log.push(...o.changes.map((c) => `${c.kind} ${c.prefix}`));
          break;
        case "end-of-rib":
          this.log.push(`end-of-rib ${o.family}`);
          break;
        case "established":
        case "down":
          this.log.push(o.kind);
          break;
      }
    }
  }

  input(i: Parameters<Session["handleInput"]>[1]): void {
    this.session.handleInput(this.now, i);
    this.drain();
  }
  bytes(...messages: Uint8Array[]): void {
    for (const bytes of messages) this.input({ kind: "bytes", bytes });
  }
  /** Virtual time passes, deadline by deadline. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const at = this.session.pollTimeout();
      if (at === undefined || at > end) break;
      this.now = Math.max(this.now, at);
      this.input({ kind: "timeout" });
    }
    this.now = end;
  }
  take(): string[] {
    return this.log.splice(0);
  }
  open(
    given: Partial<Omit<Open, "capabilities">> = {},
    capabilities: Partial<Open["capabilities"]> = {},
  ): Uint8Array {
    return encodeOpen({
      as: 65000,
      holdTime: 90,
      bgpIdentifier: address("10.255.0.1"),
      ...given,
      capabilities: {
        families: new Set<Family>([4, 6]),
        fourOctetAs: true,
        routeRefresh: true,
        enhancedRouteRefresh: false,
        addPath: new Map<Family, AddPathMode>(),
        gracefulRestart: "none",
        ...capabilities,
      },
    });
  }
  establish(...open: Parameters<World["open"]>): this {
    this.input({ kind: "start" });
    this.input({ kind: "connected" });
    this.bytes(this.open(...open), encodeKeepalive());
    return this;
  }
  /** Prefixes of the UPDATEs heard since the last call. */
  updates(): string[] {
    return this.heard.splice(0).flatMap((m) => {
      if (m.type !== "UPDATE") return [];
      const u = decodeUpdate(m.body, context());
      if (u.kind !== "ok") throw new Error(u.kind);
      return [
        ...u.update.withdrawn.map((n) => `-${n.prefix}`),
        ...u.update.reach.flatMap((r) => r.nlri.map((n) => `+${n.prefix}`)),
        ...(u.update.endOfRib === undefined ? [] : [`eor ${u.update.endOfRib}`]),
      ];
    });
  }
}

const announcement = encodeReach({ attributes: A, nlri: [{ prefix: p, pathId: 0 }] }, context());
const announce = announcement.ok ? (announcement.value[0] ?? new Uint8Array(0)) : new Uint8Array(0);

describe("session establishment", () => {
  it("dials, opens, confirms and is up", () => {
    const w = new World();
    w.input({ kind: "start" });
    expect(w.session.stateName).toBe("Connect");
    w.input({ kind: "connected" });
    expect(w.session.stateName).toBe("OpenSent");
    w.bytes(w.open());
    expect(w.session.stateName).toBe("OpenConfirm");
    w.bytes(encodeKeepalive());
    expect(w.session.stateName).toBe("Established");
    expect(w.take()).toEqual(["connect", "OPEN", "KEEPALIVE", "established", "UPDATE", "UPDATE"]);
    expect(w.session.agreement).toMatchObject({
      holdTime: 9,
      sessionType: "ibgp",
      families: [4, 6],
      remoteId: "10.255.0.1",
    });
    const open = decodeOpen(w.heard[0]?.body ?? new Uint8Array(0));
    expect(open).toMatchObject({
      ok: true,
      value: {
        as: 65000,
        holdTime: 9,
        bgpIdentifier: "127.0.0.2",
        capabilities: { gracefulRestart: "none" },
      },
    });
  });

  it("takes the smaller hold time, and path identifiers only where the neighbour sends them", () => {
    const w = new World({ addPathReceive: true }).establish(
      { holdTime: 3 },
      {
        addPath: new Map<Family, AddPathMode>([
          [4, "both"],
          [6, "receive"],
        ]),
      },
    );
    expect(w.session.agreement?.holdTime).toBe(3);
    expect([...(w.session.agreement?.receive.addPath ?? [])]).toEqual([4]);
    expect(w.session.agreement?.send.addPath.size).toBe(0);
  });

  it("says which family the neighbour lacks", () => {
    const w = new World().establish({}, { families: new Set<Family>([4]) });
    expect(w.take()).toContain("problem family-missing");
    expect(w.updates()).toEqual(["eor 4"]);
  });

  it.each<[string, Partial<SessionConfig>, Parameters<World["open"]>, string, string]>([
    ["wrong AS", {}, [{ as: 65001 }], "OPEN Message Error / Bad Peer AS (2/2)", "wrong-as"],
    [
      "own identifier",
      {},
      [{ bgpIdentifier: address("127.0.0.2") }],
      "OPEN Message Error / Bad BGP Identifier (2/3)",
      "protocol-error",
    ],
    [
      "hold time 0",
      {},
      [{ holdTime: 0 }],
      "OPEN Message Error / Unacceptable Hold Time (2/6)",
      "protocol-error",
    ],
    [
      "hold time 2",
      {},
      [{ holdTime: 2 }],
      "OPEN Message Error / Unacceptable Hold Time (2/6)",
      "protocol-error",
    ],
    [
      "no common family",
      { families: [6] },
      [{}, { families: new Set<Family>([4]) }],
      "OPEN Message Error / Unsupported Capability (2/7)",
      "protocol-error",
    ],
  ])("refuses: %s", (_, config, open, said, problem) => {
    const w = new World(config);
    w.input({ kind: "start" });
    w.input({ kind: "connected" });
    w.bytes(w.open(...open));
    expect(w.take()).toEqual(["connect", "OPEN", said, "close", `problem ${problem}`]);
    expect(w.session.stateName).toBe("Idle");
    expect(w.session.pollTimeout()).toBe(w.now + 100);
  });

  it("two of them cannot talk: both only dial, and the OPEN of a listener is awaited in vain", () => {
    const w = new World();
    w.input({ kind: "start" });
    w.input({ kind: "connected" });
    w.take();
    w.pass(29_999);
    expect(w.take()).toEqual([]);
    w.pass(1);
    expect(w.take()).toEqual(["Hold Timer Expired (4/0)", "close", "problem hold-timer-expired"]);
  });

  it("refuses an impossible configuration", () => {
    for (const bad of [
      { holdTime: 2 },
      { localAs: 0 },
      { families: [] },
      { routerId: address("::1") },
      { backoff: { minMs: 0, maxMs: 1 } },
    ])
      expect(() => new World(bad)).toThrow(RangeError);
  });
});

describe("errors end the session with the right NOTIFICATION", () => {
  it.each<[string, "OpenSent" | "OpenConfirm" | "Established", Uint8Array, string]>([
    [
      "KEEPALIVE too early",
      "OpenSent",
      encodeKeepalive(),
      "Finite State Machine Error / Receive Unexpected Message in OpenSent State (5/1)",
    ],
    [
      "UPDATE too early",
      "OpenConfirm",
      announce,
      "Finite State Machine Error / Receive Unexpected Message in OpenConfirm State (5/2)",
    ],
    [
      "OPEN again",
      "Established",
      new World().open(),
      "Finite State Machine Error / Receive Unexpected Message in Established State (5/3)",
    ],
    [
      "garbage",
      "Established",
      new TextEncoder().encode("HTTP/1.1 400 Bad Request"),
      "Message Header Error / Connection Not Synchronized (1/1)",
    ],
    [
      "malformed UPDATE",
      "Established",
      frame(MESSAGE.UPDATE, updateBody("21 0a00000000", "", "")),
      "UPDATE Message Error / Invalid Network Field (3/10)",
    ],
  ])("%s", (_, state, message, said) => {
    const w = new World();
    w.input({ kind: "start" });
    w.input({ kind: "connected" });
    if (state !== "OpenSent") w.bytes(w.open());
    if (state === "Established") w.bytes(encodeKeepalive());
    expect(w.session.stateName).toBe(state);
    w.take();
    // What follows in the same segment is lost with the session.
    w.bytes(Uint8Array.from([...message, ...encodeKeepalive()]));
    expect(w.take()).toEqual([
      said,
      "close",
      "problem protocol-error",
      ...(state === "Established" ? ["down"] : []),
    ]);
    expect(w.session.stateName).toBe("Idle");
  });

  it("no NOTIFICATION answers a NOTIFICATION", () => {
    const w = new World().establish();
    w.take();
    w.bytes(frame(MESSAGE.NOTIFICATION, encodeNotification(notification(6, 2))));
    expect(w.take()).toEqual(["problem notification-received", "close", "down"]);
  });
});

describe("hold and keepalive timers", () => {
  it("sends KEEPALIVE each third of the hold time, or up to a quarter earlier", () => {
    for (const [random, every] of [
      [() => 1, 3000],
      [() => 0, 2250],
    ] as const) {
      const w = new World({}, random).establish();
      w.take();
      for (let i = 0; i < 5; i++) {
        w.bytes(encodeKeepalive());
        w.pass(every - 1);
        expect(w.take()).toEqual([]);
        w.pass(1);
        expect(w.take()).toEqual(["KEEPALIVE"]);
      }
    }
  });

  it("expires after the hold time without a word, not with one", () => {
    const w = new World().establish();
    w.pass(8999);
    w.bytes(announce);
    w.pass(8999);
    expect(w.session.stateName).toBe("Established");
    w.take();
    w.pass(1);
    expect(w.take().filter((l) => l !== "KEEPALIVE")).toEqual([
      "Hold Timer Expired (4/0)",
      "close",
      "problem hold-timer-expired",
      "down",
    ]);
    expect(w.session.ribIn.size).toBe(0);
  });
});

describe("reconnection", () => {
  it("doubles the wait up to the maximum, with jitter, and starts over after a session that lasted", () => {
    const waits = (random: () => number): number[] => {
      const w = new World({}, random);
      w.input({ kind: "start" });
      return Array.from({ length: 7 }, () => {
        w.input({ kind: "closed", reason: "ECONNREFUSED" });
        const at = w.session.pollTimeout() ?? 0;
        const wait = at - w.now;
        w.pass(wait);
        expect(w.session.stateName).toBe("Connect");
        return wait;
      });
    };
    expect(waits(() => 1)).toEqual([100, 200, 400, 800, 1600, 1600, 1600]);
    expect(waits(() => 0)).toEqual([75, 150, 300, 600, 1200, 1200, 1200]);

    const w = new World();
    w.input({ kind: "start" });
    for (let i = 0; i < 4; i++) {
      w.input({ kind: "closed", reason: "x" });
      w.pass((w.session.pollTimeout() ?? 0) - w.now);
    }
    w.input({ kind: "connected" });
    w.bytes(w.open({ holdTime: 3 }), encodeKeepalive());
    w.input({ kind: "closed", reason: "reset" });
    expect((w.session.pollTimeout() ?? 0) - w.now).toBe(1600);
    w.pass(1600);
    w.input({ kind: "connected" });
    w.bytes(w.open({ holdTime: 3 }), encodeKeepalive());
    w.pass(2900);
    w.bytes(encodeKeepalive());
    w.pass(200);
    w.input({ kind: "closed", reason: "reset" });
    expect((w.session.pollTimeout() ?? 0) - w.now).toBe(100);
  });

  it("gives a connection up that is not accepted", () => {
    const w = new World();
    w.input({ kind: "start" });
    w.pass(5000);
    expect(w.take()).toEqual(["connect", "problem connect-failed", "close"]);
  });

  it("stop says Cease with the reason, stays stopped, and start begins anew", () => {
    const w = new World().establish();
    w.take();
    w.input({ kind: "stop", reason: "SIGTERM" });
    expect(w.take()).toEqual(['Cease / Administrative Shutdown (6/2): "SIGTERM"', "close", "down"]);
    expect(w.session.pollTimeout()).toBeUndefined();
    w.pass(100_000);
    expect(w.take()).toEqual([]);
    w.input({ kind: "closed", reason: "late" });
    w.input({ kind: "start" });
    expect(w.take()).toEqual(["connect"]);
    w.input({ kind: "stop", reason: "again" });
    expect(w.take()).toEqual(["close"]);
  });
});

describe("routes", () => {
  it("sends what is announced before and after, and again on the next session", () => {
    const w = new World();
    w.session.announce([{ prefix: p, attributes: A }]);
    w.establish();
    expect(w.updates()).toEqual(["+10.20.0.0/16", "eor 4", "eor 6"]);
    const v6 = prefix("2001:db8::/32");
    w.session.announce([{ prefix: v6, attributes: attributes({ nextHop: address("2001:db8::1") }) }]);
    w.drain();
    expect(w.updates()).toEqual(["+2001:db8::/32"]);
    w.session.withdraw([p]);
    w.drain();
    expect(w.updates()).toEqual(["-10.20.0.0/16"]);
    w.input({ kind: "closed", reason: "killed" });
    w.session.announce([{ prefix: p, attributes: A }]);
    w.pass(100);
    w.input({ kind: "connected" });
    w.bytes(w.open(), encodeKeepalive());
    expect(w.updates()).toEqual(["+10.20.0.0/16", "eor 4", "+2001:db8::/32", "eor 6"]);
  });

  it("does not send a family that the neighbour lacks", () => {
    const w = new World();
    w.session.announce([
      { prefix: prefix("2001:db8::/32"), attributes: attributes({ nextHop: address("::1") }) },
    ]);
    w.establish({}, { families: new Set<Family>([4]) });
    expect(w.updates()).toEqual(["eor 4"]);
    expect(w.session.pollOutput()).toBeUndefined();
  });

  it("answers a route refresh with the whole family, demarcated where that was agreed", () => {
    for (const enhancedRouteRefresh of [false, true]) {
      const w = new World();
      w.session.announce([{ prefix: p, attributes: A }]);
      w.establish({}, { enhancedRouteRefresh });
      w.updates();
      w.take();
      w.bytes(encodeRouteRefresh(6, "request"), encodeRouteRefresh(4, "request"));
      const marks = w.heard.filter((m) => m.type === "ROUTE_REFRESH").map((m) => decodeRouteRefresh(m.body));
      expect(marks.map((m) => m.ok && `${m.value.family} ${m.value.subtype}`)).toEqual(
        enhancedRouteRefresh ? ["6 begin", "6 end", "4 begin", "4 end"] : [],
      );
      expect(w.take().filter((l) => l !== "ROUTE_REFRESH")).toEqual(["UPDATE"]);
      expect(w.updates()).toEqual(["+10.20.0.0/16"]);
    }
  });

  it("reports what it hears, its completeness, and forgets it with the session", () => {
    const w = new World().establish();
    w.take();
    w.bytes(announce, announce, encodeEndOfRib(4), encodeEndOfRib(6));
    expect(w.take()).toEqual(["announced 10.20.0.0/16", "end-of-rib 4", "end-of-rib 6"]);
    expect(w.session.ribIn.pathsOf(p)).toHaveLength(1);
    w.input({ kind: "closed", reason: "killed" });
    expect(w.take()).toEqual(["problem connection-lost", "down"]);
    expect(w.session.ribIn.size).toBe(0);
  });

  it("treats a malformed UPDATE as a withdrawal and lives on", () => {
    const w = new World().establish();
    w.bytes(announce);
    w.take();
    w.bytes(frame(MESSAGE.UPDATE, updateBody("", "40010109 400200 400304c0000201", "10 0a14")));
    expect(w.take()).toEqual(["problem treat-as-withdraw", "withdrawn 10.20.0.0/16"]);
    expect(w.session.stateName).toBe("Established");
  });

  it("withdraws a route whose attributes no longer fit, and says so", () => {
    const w = new World();
    w.session.announce([{ prefix: p, attributes: A }]);
    w.establish();
    w.updates();
    w.take();
    w.session.announce([{ prefix: p, attributes: attributes({ nextHop: address("2001:db8::1") }) }]);
    w.drain();
    expect(w.take()).toEqual(["UPDATE", "problem unsendable"]);
    expect(w.updates()).toEqual(["-10.20.0.0/16"]);
  });

  it("asks for End-of-RIB without offering to have anything retained", () => {
    const w = new World({ askEndOfRib: true }).establish();
    const open = decodeOpen(w.heard[0]?.body ?? new Uint8Array(0));
    expect(open).toMatchObject({ ok: true, value: { capabilities: { gracefulRestart: "end-of-rib" } } });
    w.take();
    expect(w.session.requestRefresh(4)).toBe(true);
    w.drain();
    expect(w.take()).toEqual(["ROUTE_REFRESH"]);
  });
});
