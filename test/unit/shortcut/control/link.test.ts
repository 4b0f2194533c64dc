/** Shows that requests survive loss, and that spoofed, replayed and forged ones get nothing. */
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
} from "node:crypto";
import { describe, expect, it } from "vitest";
import { type Address, address, type Endpoint, prefix } from "../../../../plugin/net/address.js";
import { keyBytes, type PublicKey, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import {
  ControlLink,
  type Correspondent,
  type Crypto,
  type Outcome,
} from "../../../../plugin/shortcut/control/link.js";
import { PairSecrets } from "../../../../plugin/shortcut/control/pair-secrets.js";
import {
  decodeBody,
  decodeEnvelope,
  encodeEnvelope,
  id64FromBytes,
} from "../../../../plugin/wire/control/codec.js";
import type { ReplyBody, RequestBody } from "../../../../plugin/wire/control/message.js";
import { generator } from "../../../sim/random.js";

const PORT = 4243;
const A = address("10.255.0.2");
const HUB = address("10.255.0.1");
const MALLORY = address("10.255.0.66");

interface Held {
  readonly publicKey: PublicKey;
  readonly crypto: Crypto;
  count: number;
}

/** Makes the real primitives, with counters. */
function keys(): Held {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  const jwk = publicKey.export({ format: "jwk" });
  const own = publicKeyFromBytes(Buffer.from(jwk.x ?? "", "base64url"));
  const pem = createPrivateKey(privateKey.export({ format: "pem", type: "pkcs8" }));
  const held: Held = {
    publicKey: own,
    count: 0,
    crypto: {
      shared: (theirs) => {
        held.count++;
        try {
          const x = Buffer.from(keyBytes(theirs)).toString("base64url");
          const key = createPublicKey({ key: { kty: "OKP", crv: "X25519", x }, format: "jwk" });
          return diffieHellman({ privateKey: pem, publicKey: key });
        } catch {
          return undefined;
        }
      },
      overlayShared: () => undefined,
      hmac: (key, data) => createHmac("sha256", key).update(data).digest(),
    },
  };
  return held;
}

class End {
  readonly asked: { from: Correspondent; body: RequestBody }[] = [];
  link: ControlLink;
  reply: ReplyBody | undefined = { kind: "ack" };
  constructor(
    readonly address: Address,
    public held: Held = keys(),
    boot = 1,
    seed = 1,
  ) {
    this.link = this.make(boot, seed);
  }
  make(boot: number, seed: number): ControlLink {
    const random = generator(seed * 7919 + boot);
    const self = {
      address: this.address,
      publicKey: this.held.publicKey,
      bootId: id64FromBytes(new Uint8Array(8).fill(boot)),
    };
    return new ControlLink(
      self,
      PORT,
      new PairSecrets(this.held.crypto.shared, this.held.crypto.hmac),
      (n) => Uint8Array.from({ length: n }, () => Math.floor(random() * 256)),
      { retransmit: 250, attempts: 5 },
      (_now, from, body) => {
        this.asked.push({ from, body });
        return this.reply;
      },
    );
  }
  get endpoint(): Endpoint {
    return { address: this.address, port: PORT };
  }
  take(): { to: Endpoint; payload: Uint8Array }[] {
    const out: { to: Endpoint; payload: Uint8Array }[] = [];
    for (let o = this.link.pollOutput(); o !== undefined; o = this.link.pollOutput()) out.push(o);
    return out;
  }
}

/** Delivers all datagrams between two ends until both are quiet; returns the datagrams. */
function exchange(now: number, a: End, b: End): { from: Address; kind: string; size: number }[] {
  const log: { from: Address; kind: string; size: number }[] = [];
  for (;;) {
    const some = [
      ...a.take().map((d) => ({ d, from: a, to: b })),
      ...b.take().map((d) => ({ d, from: b, to: a })),
    ];
    if (some.length === 0) return log;
    for (const { d, from, to } of some) {
      expect(d.to.address).toBe(to.address);
      log.push({ from: from.address, kind: kindOf(d.payload), size: d.payload.length });
      to.link.handleDatagram(now, from.endpoint, d.payload);
    }
  }
}

const kindOf = (payload: Uint8Array): string => {
  const e = decodeEnvelope(payload);
  if (!e.ok) return "undecodable";
  const b = decodeBody(e.value.body);
  return b.ok ? b.value.kind : "undecodable";
};

function ask(now: number, from: End, to: Address, body: RequestBody = { kind: "keepalive" }): Outcome[] {
  const outcomes: Outcome[] = [];
  from.link.request(now, to, body, (_t, o) => outcomes.push(o));
  return outcomes;
}

describe("a first request", () => {
  it("is challenged, comes back with the cookie, and is answered", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    const outcomes = ask(0, a, HUB, { kind: "resolve", destination: prefix("10.1.0.0/24"), page: 0 });
    const log = exchange(0, a, hub);
    expect(log.map((l) => l.kind)).toEqual(["resolve", "challenge", "resolve", "ack"]);
    expect(outcomes).toEqual([
      {
        kind: "reply",
        from: { address: HUB, publicKey: hub.held.publicKey, bootId: "0202020202020202" },
        body: { kind: "ack" },
      },
    ]);
    expect(hub.asked).toEqual([
      {
        from: { address: A, publicKey: a.held.publicKey, bootId: "0101010101010101" },
        body: { kind: "resolve", destination: "10.1.0.0/24", page: 0 },
      },
    ]);
    expect(a.link.pollTimeout()).toBeUndefined();
  });

  it("spares the next one the Challenge, and both ends the Diffie-Hellman", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(0, a, HUB);
    exchange(0, a, hub);
    const outcomes = ask(10, a, HUB);
    expect(exchange(10, a, hub).map((l) => l.kind)).toEqual(["keepalive", "ack"]);
    expect(outcomes).toHaveLength(1);
    expect(a.held.count).toBe(1);
    expect(hub.held.count).toBe(1);
  });
});

/** Counts everything reachable from an object: what a spoofed source could make grow. */
function weight(root: unknown, seen = new Set<unknown>()): number {
  if (typeof root !== "object" || root === null || seen.has(root)) return 0;
  seen.add(root);
  if (root instanceof Uint8Array) return 1;
  let n = 1;
  if (root instanceof Map) for (const [k, v] of root) n += 1 + weight(k, seen) + weight(v, seen);
  else if (root instanceof Set) for (const v of root) n += 1 + weight(v, seen);
  else for (const v of Object.values(root)) n += weight(v, seen);
  return n;
}

describe("spoofed sources", () => {
  it("leave no state, cost no Diffie-Hellman, reach no handler, and get no larger answer than they sent", () => {
    const [mallory, hub] = [new End(MALLORY), new End(HUB, keys(), 2, 2)];
    ask(0, mallory, HUB, { kind: "register", listenPort: 51821, handshakeAge: 0, proof: new Uint8Array(16) });
    const [request] = mallory.take();
    if (request === undefined) throw new Error("no request");
    const before = weight(hub.link);
    for (let i = 0; i < 10_000; i++) {
      const from = { address: address(`10.${i >> 12}.${(i >> 4) & 255}.${(i & 15) + 1}`), port: PORT };
      hub.link.handleDatagram(i, from, request.payload);
      const answers = hub.take();
      expect(answers).toHaveLength(1);
      expect(answers[0]?.to).toEqual(from);
      expect(answers[0]?.payload.length).toBeLessThanOrEqual(request.payload.length);
    }
    expect(weight(hub.link)).toBe(before);
    expect(hub.held.count).toBe(0);
    expect(hub.asked).toEqual([]);
    expect(hub.link.problems).toEqual([]);
  });

  it("get nothing for a request that is smaller than a Challenge", () => {
    const hub = new End(HUB, keys(), 2, 2);
    const small = encodeEnvelope({
      requestId: id64FromBytes(new Uint8Array(8)),
      reply: false,
      cookie: new Uint8Array(16), // not padded
      publicKey: keys().publicKey,
      bootId: id64FromBytes(new Uint8Array(8)),
      body: new Uint8Array(),
      mac: new Uint8Array(),
    });
    hub.link.handleDatagram(0, { address: MALLORY, port: 1 }, small);
    for (const r of hub.take()) expect(r.payload.length).toBeLessThanOrEqual(small.length);
  });

  it("do not profit from a cookie that another address earned", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(0, a, HUB);
    exchange(0, a, hub);
    ask(10, a, HUB);
    const [captured] = a.take();
    if (captured === undefined) throw new Error("no request");
    hub.link.handleDatagram(20, { address: MALLORY, port: PORT }, captured.payload);
    expect(hub.take().map((d) => kindOf(d.payload))).toEqual(["challenge"]);
    expect(hub.asked).toHaveLength(1);
  });

  it("with another source port get no answer: a process without privileges has no other", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(0, a, HUB);
    exchange(0, a, hub);
    ask(10, a, HUB);
    const [captured] = a.take();
    if (captured === undefined) throw new Error("no request");
    hub.link.handleDatagram(20, { address: A, port: PORT + 1 }, captured.payload);
    expect(hub.take()).toEqual([]);
    expect(hub.asked).toHaveLength(1);
    expect(hub.link.problems.map((p) => p.problem)).toEqual([
      `the source port is not the control port ${PORT}`,
    ]);
  });
});

describe("the MAC", () => {
  const withCookie = (now: number, a: End, hub: End) => {
    ask(now, a, HUB);
    exchange(now, a, hub);
    ask(now, a, HUB);
    const [d] = a.take();
    const e = d === undefined ? undefined : decodeEnvelope(d.payload);
    if (e === undefined || !e.ok) throw new Error("no request");
    return e.value;
  };

  it.each(["mac", "bootId", "body", "requestId"] as const)(
    "refuses a request whose %s was changed on the way",
    (field) => {
      const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
      const e = withCookie(0, a, hub);
      const changed = {
        ...e,
        ...(field === "mac" ? { mac: e.mac.map((b, i) => (i === 0 ? b ^ 1 : b)) } : {}),
        ...(field === "body" ? { body: Uint8Array.from([0x7a, 0]) } : {}),
        ...(field === "bootId" ? { bootId: id64FromBytes(new Uint8Array(8).fill(9)) } : {}),
        ...(field === "requestId" ? { requestId: id64FromBytes(new Uint8Array(8).fill(9)) } : {}),
      };
      hub.link.handleDatagram(0, a.endpoint, encodeEnvelope(changed));
      expect(hub.take()).toEqual([]);
      expect(hub.asked).toHaveLength(1);
      expect(hub.link.problems).toEqual([
        { from: a.endpoint, problem: "MAC is wrong: the sender does not hold the private key that it names" },
      ]);
    },
  );

  it("does not allow the use of another router's key: Mallory has a cookie for A's public key and not the private key", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    const mallory = new End(MALLORY, { ...keys(), publicKey: a.held.publicKey }, 3, 3);
    const outcomes = ask(0, mallory, HUB);
    const log = exchange(0, mallory, hub);
    expect(log.map((l) => l.kind)).toEqual(["keepalive", "challenge", "keepalive"]);
    expect(outcomes).toEqual([]);
    expect(hub.asked).toEqual([]);
  });

  it("refuses low-order points without a throw", () => {
    const hub = new End(HUB, keys(), 2, 2);
    const mallory = new End(MALLORY, { ...keys(), publicKey: publicKeyFromBytes(new Uint8Array(32)) }, 3, 3);
    ask(0, mallory, HUB);
    exchange(0, mallory, hub);
    expect(hub.asked).toEqual([]);
  });
});

describe("replies", () => {
  const first = () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(0, a, HUB);
    exchange(0, a, hub);
    const outcomes = ask(10, a, HUB);
    const [request] = a.take();
    if (request === undefined) throw new Error("no request");
    hub.link.handleDatagram(10, a.endpoint, request.payload);
    const [reply] = hub.take();
    if (reply === undefined) throw new Error("no reply");
    return { a, hub, outcomes, request, reply };
  };

  it("count only from the address that was asked", () => {
    const { a, hub, outcomes, reply } = first();
    a.link.handleDatagram(20, { address: MALLORY, port: PORT }, reply.payload);
    expect(outcomes).toEqual([]);
    a.link.handleDatagram(20, hub.endpoint, reply.payload);
    expect(outcomes).toHaveLength(1);
    a.link.handleDatagram(21, hub.endpoint, reply.payload);
    expect(outcomes).toHaveLength(1);
  });

  it("with a changed body are dropped, and the true one still counts", () => {
    const { a, hub, outcomes, reply } = first();
    const e = decodeEnvelope(reply.payload);
    if (!e.ok) throw new Error("no envelope");
    a.link.handleDatagram(20, hub.endpoint, encodeEnvelope({ ...e.value, body: Uint8Array.from([0x6a, 0]) }));
    expect(outcomes).toEqual([]);
    expect(a.link.problems.map((p) => p.problem)).toEqual(["reply with a wrong MAC"]);
    a.link.handleDatagram(20, hub.endpoint, reply.payload);
    expect(outcomes).toHaveLength(1);
  });

  it("are given again when the request comes twice", () => {
    const { a, hub, request, reply } = first();
    hub.link.handleDatagram(20, a.endpoint, request.payload);
    expect(hub.take().map((d) => Buffer.from(d.payload).toString("hex"))).toEqual([
      Buffer.from(reply.payload).toString("hex"),
    ]);
  });

  it("are not sent while the handler has no answer yet", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    hub.reply = undefined;
    const outcomes = ask(0, a, HUB);
    exchange(0, a, hub);
    expect(outcomes).toEqual([]);
    hub.reply = { kind: "ack" };
    const at = a.link.pollTimeout() ?? 0;
    a.link.handleTimeout(at);
    exchange(at, a, hub);
    expect(outcomes).toHaveLength(1);
  });
});

describe("cookies", () => {
  it("hold over one change of the secret, not over two", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(1_000, a, HUB);
    exchange(1_000, a, hub);
    ask(2_000, a, HUB);
    const [captured] = a.take();
    if (captured === undefined) throw new Error("no request");
    const answerAt = (now: number) => {
      hub.link.handleDatagram(now, a.endpoint, captured.payload);
      return hub.take().map((d) => kindOf(d.payload));
    };
    expect(answerAt(119_000)).toEqual(["ack"]);
    expect(answerAt(121_000)).toEqual(["ack"]); // by the previous secret
    expect(answerAt(242_000)).toEqual(["challenge"]);
  });

  it("that have aged without any traffic are not taken either", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(1_000, a, HUB);
    exchange(1_000, a, hub);
    ask(2_000, a, HUB);
    const [captured] = a.take();
    if (captured === undefined) throw new Error("no request");
    hub.link.handleDatagram(1_000_000, a.endpoint, captured.payload);
    expect(hub.take().map((d) => kindOf(d.payload))).toEqual(["challenge"]);
  });

  it("are earned again in the same request: a stale one costs a Challenge, not a timeout", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(0, a, HUB);
    exchange(0, a, hub);
    const outcomes = ask(1_000_000, a, HUB);
    expect(exchange(1_000_000, a, hub).map((l) => l.kind)).toEqual([
      "keepalive",
      "challenge",
      "keepalive",
      "ack",
    ]);
    expect(outcomes).toHaveLength(1);
  });

  it("and the key are learned again when the answerer restarted with another key", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    ask(0, a, HUB);
    exchange(0, a, hub);
    const reborn = new End(HUB, keys(), 3, 3);
    const outcomes = ask(10, a, HUB);
    exchange(10, a, reborn);
    expect(outcomes).toMatchObject([
      { kind: "reply", from: { publicKey: reborn.held.publicKey, bootId: "0303030303030303" } },
    ]);
  });

  it("are not asked for without end by an answerer that only challenges", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    const outcomes = ask(0, a, HUB);
    let sent = 0;
    for (let now = 0; now < 60_000 && outcomes.length === 0; ) {
      for (const d of a.take()) {
        sent++;
        const e = decodeEnvelope(d.payload);
        if (!e.ok) throw new Error("no envelope");
        // the cookie is stripped: the hub takes every request as a first one
        hub.link.handleDatagram(
          now,
          a.endpoint,
          encodeEnvelope({ ...e.value, cookie: new Uint8Array(), mac: new Uint8Array() }),
        );
        for (const c of hub.take()) a.link.handleDatagram(now, hub.endpoint, c.payload);
      }
      if (a.link.pollOutput() === undefined) {
        now = a.link.pollTimeout() ?? 60_000;
        a.link.handleTimeout(now);
      }
    }
    expect(outcomes).toEqual([{ kind: "timeout" }]);
    expect(sent).toBeLessThanOrEqual(9);
  });
});

describe("retransmission", () => {
  it("doubles from 250 ms with a quarter of jitter, and gives up after five", () => {
    const starts = new Set<number>();
    for (let seed = 1; seed <= 20; seed++) {
      const a = new End(A, keys(), 1, seed);
      const outcomes = ask(1_000, a, HUB);
      const gaps: number[] = [];
      let last = 1_000;
      while (outcomes.length === 0) {
        expect(a.take()).toHaveLength(1);
        const at = a.link.pollTimeout();
        if (at === undefined) throw new Error("no timer");
        gaps.push(at - last);
        last = at;
        a.link.handleTimeout(at - 0.001);
        expect(a.take()).toEqual([]);
        a.link.handleTimeout(at);
      }
      expect(gaps).toHaveLength(5);
      for (const [i, g] of gaps.entries()) {
        expect(g).toBeGreaterThanOrEqual(250 * 2 ** i * 0.75);
        expect(g).toBeLessThanOrEqual(250 * 2 ** i * 1.25);
      }
      starts.add(Math.round(gaps[0] ?? 0));
      expect(outcomes).toEqual([{ kind: "timeout" }]);
      expect(a.link.pollTimeout()).toBeUndefined();
      expect(a.take()).toEqual([]);
    }
    expect(starts.size).toBeGreaterThan(5);
  });

  it("repeats the same request ID, so that the answerer can tell", () => {
    const a = new End(A);
    ask(0, a, HUB);
    const [one] = a.take();
    a.link.handleTimeout(a.link.pollTimeout() ?? 0);
    const [two] = a.take();
    const idOf = (p: Uint8Array | undefined) => {
      const e = decodeEnvelope(p ?? new Uint8Array());
      return e.ok ? e.value.requestId : "";
    };
    expect(idOf(two?.payload)).toBe(idOf(one?.payload));
    expect(idOf(one?.payload)).toHaveLength(16);
  });

  it("ends with cancel: no retransmission, no outcome", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    const outcomes: Outcome[] = [];
    const id = a.link.request(0, HUB, { kind: "keepalive" }, (_t, o) => outcomes.push(o));
    a.link.cancel(id);
    exchange(0, a, hub);
    a.link.handleTimeout(60_000);
    expect(outcomes).toEqual([]);
    expect(a.link.pollTimeout()).toBeUndefined();
  });
});

describe("garbage", () => {
  it("is reported with the sender and the field, bounded, and never answered", () => {
    const hub = new End(HUB, keys(), 2, 2);
    const from = { address: MALLORY, port: 1234 };
    hub.link.handleDatagram(0, from, new Uint8Array(1300));
    hub.link.handleDatagram(0, from, Uint8Array.of(0x08, 0x02));
    hub.link.handleDatagram(0, from, Uint8Array.of(0xff, 0xff, 0xff));
    expect(hub.take()).toEqual([]);
    expect(hub.link.problems.slice(0, 2)).toEqual([
      { from, problem: "Datagram: 1300 bytes exceed 1232" },
      { from, problem: "Datagram.version: 2 is not 1" },
    ]);
    for (let i = 0; i < 1000; i++) hub.link.handleDatagram(0, from, Uint8Array.of(i & 255, i >> 8));
    expect(hub.link.problems.length).toBeLessThanOrEqual(64);
  });

  it("from a sender with a cookie and a key is refused by name", () => {
    const [a, hub] = [new End(A), new End(HUB, keys(), 2, 2)];
    // a reply's body in a request
    a.link.request(0, HUB, JSON.parse(`{ "kind": "ack" }`), () => {});
    exchange(0, a, hub);
    expect(hub.asked).toEqual([]);
    expect(hub.link.problems.map((p) => p.problem)).toEqual(["ack is not a request"]);
  });
});

describe("what one source costs", () => {
  /** A request with a right cookie, under a key of its own, and with a wrong MAC. */
  function forged(now: number, from: Endpoint, at: End): Uint8Array {
    const mallory = new End(from.address);
    mallory.link.request(now, at.address, { kind: "keepalive" }, () => {});
    for (const o of mallory.take()) at.link.handleDatagram(now, from, o.payload);
    for (const o of at.take()) mallory.link.handleDatagram(now, at.endpoint, o.payload);
    const [withCookie] = mallory.take();
    const envelope = withCookie === undefined ? undefined : decodeEnvelope(withCookie.payload);
    if (envelope?.ok !== true) throw new Error("no request");
    const mac = envelope.value.mac.slice();
    mac[0] = (mac[0] ?? 0) ^ 1;
    return encodeEnvelope({ ...envelope.value, mac });
  }

  it("is a number of requests a second, of which each has shown that it receives there; others are heard", () => {
    const hub = new End(HUB);
    const from = { address: MALLORY, port: PORT };
    const datagram = forged(0, from, hub);
    const before = hub.link.problems.length;
    for (let i = 0; i < 5_000; i++) {
      hub.link.problems.length = 0;
      hub.link.handleDatagram(1, from, datagram);
    }
    // over the limit it is not even said: the MAC was not checked
    expect(before).toBe(0);
    expect(hub.link.problems).toEqual([]);
    const a = new End(A, keys(), 1, 2);
    let answered = 0;
    a.link.request(2, HUB, { kind: "keepalive" }, () => void answered++);
    exchange(2, a, hub);
    expect(answered).toBe(1);
  });

  it("is one X25519 for each key, and those are limited for all sources together", () => {
    const hub = new End(HUB);
    const a = new End(A, keys(), 1, 2);
    // each source asks once, with a key of its own: real keys take too long to make
    const bytes = (i: number) =>
      Uint8Array.from({ length: 32 }, (_, k) => (k < 4 ? (i >> (8 * k)) & 255 : 9));
    let looked = 0;
    for (let i = 0; i < 6_000; i++) {
      const from = { address: address(`10.7.${i >> 8}.${i & 255}`), port: PORT };
      a.link.request(1, HUB, { kind: "keepalive" }, () => {});
      const [o] = a.take();
      const asked = o === undefined ? undefined : decodeEnvelope(o.payload);
      if (asked?.ok !== true) throw new Error("no request");
      const own = { ...asked.value, publicKey: publicKeyFromBytes(bytes(i)) };
      hub.link.handleDatagram(1, from, encodeEnvelope(own));
      const [c] = hub.take();
      const challenge = c === undefined ? undefined : decodeEnvelope(c.payload);
      const body = challenge?.ok === true ? decodeBody(challenge.value.body) : undefined;
      if (body?.ok !== true || body.value.kind !== "challenge") throw new Error("no challenge");
      hub.link.problems.length = 0;
      const mac = new Uint8Array(16).fill(1);
      hub.link.handleDatagram(1, from, encodeEnvelope({ ...own, cookie: body.value.cookie, mac }));
      looked += hub.link.problems.length;
    }
    expect(hub.held.count).toBeLessThanOrEqual(4_000);
    expect(looked).toBe(4_000);
  });
});
