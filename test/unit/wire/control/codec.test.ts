/** Control messages survive the wire, and every field is checked when they come from it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  address,
  addressBits,
  addressFromBytes,
  familyOf,
  prefix,
  prefixOf,
} from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import {
  decodeBody,
  decodeEnvelope,
  encodeBody,
  encodeEnvelope,
  id64Bytes,
  id64FromBytes,
  macInput,
} from "../../../../plugin/wire/control/codec.js";
import {
  type ControlBody,
  type Envelope,
  MAX_CANDIDATES,
  MAX_DATAGRAM,
  MAX_PREFIXES,
  MAX_REASON,
  type Mapping,
  MIN_REQUEST,
  type RefusalCode,
} from "../../../../plugin/wire/control/message.js";

const hex = (b: Uint8Array) => Buffer.from(b).toString("hex");
const bytes = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
const id = (text: string) => id64FromBytes(bytes(text));

const anId = fc.uint8Array({ minLength: 8, maxLength: 8 }).map(id64FromBytes);
const aKey = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(publicKeyFromBytes);
const aBytes = (n: number) => fc.uint8Array({ minLength: n, maxLength: n });
const anAddress = fc.oneof(aBytes(4), aBytes(16)).map(addressFromBytes);
const aPrefix = fc
  .tuple(anAddress, fc.nat(128))
  .map(([a, n]) => prefixOf(a, n % (addressBits(familyOf(a)) + 1)));
const aPort = fc.integer({ min: 1, max: 65535 });
const aCount = fc.integer({ min: 0, max: 0xffffffff });
const anEndpoint = fc.record({ address: anAddress, port: aPort });
const epochs = fc.record({ mine: fc.integer({ min: 1, max: 0xffffffff }), yours: aCount });
const reason = fc.string({ unit: "grapheme", maxLength: 60 }).map((s) => s.replace(/[\p{Cc}\p{Cs}]/gu, ""));
const someCandidates = fc.array(
  fc.record({
    address: anAddress,
    port: aPort,
    kind: fc.constantFrom("reflexive" as const, "host" as const, "configured" as const),
  }),
  { maxLength: MAX_CANDIDATES },
);
const aMapping = fc.constantFrom<Mapping>(
  "unknown",
  "none",
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
);
const exchange = {
  epochs,
  candidates: someCandidates,
  mtu: fc.integer({ min: 576, max: 65535 }),
  pings: fc.boolean(),
  mapping: aMapping,
  linkLocal: fc.boolean(),
  pskProof: fc.oneof(aBytes(0), aBytes(16)),
};
const k = <const T extends string>(kind: T) => fc.constant(kind);
const codes: readonly RefusalCode[] = [
  "not-registered",
  "not-found",
  "ambiguous",
  "not-a-hub",
  "busy",
  "key-in-use",
  "stale",
  "not-permitted",
  "version",
  "unspecified",
];

const anyBody: fc.Arbitrary<ControlBody> = fc.oneof(
  fc.record({ kind: k("challenge"), cookie: aBytes(16) }),
  fc.record({ kind: k("register"), listenPort: aPort, handshakeAge: aCount, proof: aBytes(16) }),
  fc.record({
    kind: k("registered"),
    listenPort: aPort,
    lifetime: aCount,
    observePort: fc.oneof(fc.constant(0), aPort),
  }),
  fc.record({ kind: k("update"), epochs, candidates: someCandidates, mapping: aMapping }),
  fc.record({ kind: k("resolve"), destination: aPrefix, page: aCount }),
  fc.record({ kind: k("resolve-owner"), owner: anAddress, page: aCount }),
  fc.record({
    kind: k("resolved"),
    owner: anAddress,
    publicKey: aKey,
    prefixes: fc.array(aPrefix, { maxLength: MAX_PREFIXES }),
    generation: anId,
    lifetime: aCount,
    pages: fc.integer({ min: 1, max: 0xffffffff }),
  }),
  fc.record({ kind: k("exchange"), ...exchange }),
  fc.record({ kind: k("exchanged"), ...exchange }),
  fc.record({ kind: k("selected"), epochs, selected: fc.boolean(), reason, oneWay: fc.boolean() }),
  fc.record({ kind: k("ready"), epochs }),
  fc.record({ kind: k("withdraw"), epochs, reason, failed: fc.boolean() }),
  fc.record({ kind: k("flipped"), epochs }),
  fc.record({ kind: k("purge"), owner: anAddress }),
  fc.record({ kind: k("keepalive") }),
  fc.record({
    kind: k("kept"),
    reflexive: fc.option(anEndpoint, { nil: undefined }),
    age: aCount,
    generation: anId,
  }),
  fc.record({ kind: k("ack") }),
  fc.record({ kind: k("ping") }),
  fc.record({ kind: k("pong") }),
  fc.record({ kind: k("refused"), code: fc.constantFrom(...codes), reason }),
);

const KEY = publicKeyFromBytes(bytes(`${"01".repeat(31)}02`));
const envelope = (over: Partial<Envelope> = {}): Envelope => ({
  requestId: id("0102030405060708"),
  reply: false,
  cookie: bytes("aa".repeat(16)),
  publicKey: KEY,
  bootId: id("1112131415161718"),
  body: bytes("6a00"),
  mac: bytes("bb".repeat(16)),
  ...over,
});

/** A Datagram as vectors write it, field by field (proto3 wire format: tag, length, value). */
const DATAGRAM = [
  "08 01", // version
  "12 08 0102030405060708", // request_id
  `22 10 ${"aa".repeat(16)}`, // cookie
  `2a 20 ${"01".repeat(31)}02`, // public_key
  "32 08 1112131415161718", // boot_id
  "3a 02 6a00", // body: Keepalive, field 13, empty
  `42 10 ${"bb".repeat(16)}`, // mac
];
const datagram = (without = -1, instead = "") =>
  bytes([...DATAGRAM.filter((_, i) => i !== without), instead].join(""));

describe("the datagram", () => {
  it("reads as its vector", () => {
    const d = decodeEnvelope(datagram());
    expect(d).toEqual({ ok: true, value: envelope() });
  });

  it("keeps nothing of the buffer that it was read from", () => {
    const buffer = Buffer.from(datagram());
    const d = decodeEnvelope(buffer);
    buffer.fill(0);
    expect(d).toEqual({ ok: true, value: envelope() });
    const body = Buffer.from(encodeBody({ kind: "challenge", cookie: new Uint8Array(16).fill(7) }));
    const c = decodeBody(body);
    body.fill(0);
    expect(c).toEqual({ ok: true, value: { kind: "challenge", cookie: new Uint8Array(16).fill(7) } });
  });

  it("is written as its vector, but for proto3 defaults", () => {
    const d = decodeEnvelope(encodeEnvelope(envelope()));
    expect(d).toEqual({ ok: true, value: envelope() });
    const text = hex(encodeEnvelope(envelope()));
    for (const field of DATAGRAM) expect(text).toContain(field.replaceAll(" ", ""));
  });

  it.each<[string, Uint8Array, { field: string; problem: string }]>([
    ["an empty one", new Uint8Array(), { field: "Datagram.version", problem: "0 is not 1" }],
    ["a later version", datagram(0, "08 02"), { field: "Datagram.version", problem: "2 is not 1" }],
    ["no request ID", datagram(1), { field: "Datagram.request_id", problem: "has 0 bytes, not 8" }],
    [
      "a short request ID",
      datagram(1, "12 01 01"),
      { field: "Datagram.request_id", problem: "has 1 bytes, not 8" },
    ],
    [
      "a short cookie",
      datagram(2, "22 01 aa"),
      { field: "Datagram.cookie", problem: "has 1 bytes, not 0 or 16" },
    ],
    ["no key", datagram(3), { field: "Datagram.public_key", problem: "has 0 bytes, not 32" }],
    ["no boot ID", datagram(4), { field: "Datagram.boot_id", problem: "has 0 bytes, not 8" }],
    [
      "a long MAC",
      datagram(6, `42 11 ${"bb".repeat(17)}`),
      { field: "Datagram.mac", problem: "has 17 bytes, not 0 or 16" },
    ],
    [
      "a huge one",
      new Uint8Array(MAX_DATAGRAM + 1),
      { field: "Datagram", problem: "1233 bytes exceed 1232" },
    ],
  ])("names what is wrong with %s", (_name, input, error) => {
    const d = decodeEnvelope(input);
    expect(d).toMatchObject({ ok: false, error });
  });

  it("tells the version of another version", () => {
    expect(decodeEnvelope(datagram(0, "08 07"))).toMatchObject({ ok: false, error: { version: 7 } });
  });

  it("that is truncated is not protobuf", () => {
    const d = decodeEnvelope(datagram().subarray(0, 40));
    expect(d.ok).toBe(false);
    if (!d.ok) expect(`${d.error.field}: ${d.error.problem}`).toMatch(/^Datagram: not protobuf/);
  });

  it("without cookie is as large as a Challenge at least, so that nothing amplifies", () => {
    const none = new Uint8Array();
    const bare = encodeEnvelope(envelope({ cookie: none, mac: none }));
    expect(bare.length).toBeGreaterThanOrEqual(MIN_REQUEST);
    const challenge = encodeEnvelope(
      envelope({
        reply: true,
        cookie: none,
        mac: none,
        body: encodeBody({ kind: "challenge", cookie: new Uint8Array(16) }),
      }),
    );
    expect(challenge.length).toBeLessThanOrEqual(bare.length);
    expect(challenge.length).toBeLessThanOrEqual(MIN_REQUEST);
  });
});

describe("bodies", () => {
  it("survive the wire, every kind", () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(anyBody, (body) => {
        seen.add(body.kind);
        const b = encodeBody(body);
        expect(decodeBody(b)).toEqual({ ok: true, value: body });
      }),
      { numRuns: 1500 },
    );
    expect(seen.size).toBe(20);
  });

  it.each<[string, ControlBody, string]>([
    ["keepalive", { kind: "keepalive" }, "6a 00"],
    ["ping", { kind: "ping" }, "8a 01 00"],
    ["pong", { kind: "pong" }, "92 01 00"],
    [
      "withdraw",
      { kind: "withdraw", epochs: { mine: 1, yours: 2 }, reason: "", failed: true },
      "52 08 0a 04 08 01 10 02 18 01",
    ],
    ["ready", { kind: "ready", epochs: { mine: 3, yours: 300 } }, "4a 07 0a 05 08 03 10 ac02"],
    [
      "resolve",
      { kind: "resolve", destination: prefix("10.1.0.0/24"), page: 0 },
      "22 0a 0a 08 0a 04 0a010000 10 18",
    ],
    [
      "resolve-owner",
      { kind: "resolve-owner", owner: address("10.255.0.3"), page: 1 },
      "22 08 12 04 0aff0003 18 01",
    ],
    ["purge", { kind: "purge", owner: address("10.255.0.3") }, "62 06 0a 04 0aff0003"],
    ["refused", { kind: "refused", code: "busy", reason: "no" }, "82 01 06 08 05 12 02 6e6f"],
  ])("%s reads as its vector", (_kind, body, vector) => {
    expect(decodeBody(bytes(vector))).toEqual({ ok: true, value: body });
  });

  it.each([
    ["", "Body.kind: is missing, or of a later version"],
    ["f2 07 00", "Body.kind: is missing, or of a later version"],
    ["0a 03 0a 01 aa", "Body.challenge.cookie: has 1 bytes, not 16"],
    ["12 00", "Body.register.listen_port: 0 is not 1 to 65535"],
    ["12 04 08 80 80 04", "Body.register.listen_port: 65536 is not 1 to 65535"],
    ["1a 00", "Body.registered.listen_port: 0 is not 1 to 65535"],
    ["22 00", "Body.resolve.destination: is missing"],
    ["22 0a 0a 08 0a 04 0a010001 10 18", "Body.resolve.destination: has host bits set"],
    ["22 0a 0a 08 0a 04 0a010000 10 21", "Body.resolve.destination.length: 33 exceeds 32"],
    ["22 09 0a 07 0a 03 0a0100 10 18", "Body.resolve.destination.address: has 3 bytes, not 4 or 16"],
    ["22 05 12 03 0aff00", "Body.resolve.owner: has 3 bytes, not 4 or 16"],
    ["2a 00", "Body.resolved.owner: has 0 bytes, not 4 or 16"],
    ["2a 06 0a 04 0aff0003", "Body.resolved.generation: has 0 bytes, not 8"],
    ["32 00", "Body.exchange.mtu: 0 is not 576 to 65535"],
    ["32 03 18 dc0b", "Body.exchange.epochs.mine: is missing or 0"],
    ["32 09 0a 02 08 01 12 00 18 dc0b", "Body.exchange.candidates[0].endpoint.port: 0 is not 1 to 65535"],
    [
      "3a 0d 0a 02 08 01 12 04 0a 02 10 01 18 dc0b",
      "Body.exchanged.candidates[0].endpoint.address: has 0 bytes, not 4 or 16",
    ],
    ["42 00", "Body.selected.epochs.mine: is missing or 0"],
    ["4a 04 0a 02 10 01", "Body.ready.epochs.mine: is missing or 0"],
    ["52 00", "Body.withdraw.epochs.mine: is missing or 0"],
    ["5a 00", "Body.flipped.epochs.mine: is missing or 0"],
    ["32 0c 0a 02 08 01 18 8c 0b 3a 03 000000", "Body.exchange.psk_proof: has 3 bytes, not 0 or 16"],
    ["62 00", "Body.purge.owner: has 0 bytes, not 4 or 16"],
    ["72 00", "Body.kept.generation: has 0 bytes, not 8"],
    ["72 0c 0a 00 1a 08 0000000000000000", "Body.kept.reflexive.port: 0 is not 1 to 65535"],
  ])("%s: %s", (vector, want) => {
    const d = decodeBody(bytes(vector));
    expect(d.ok).toBe(false);
    if (!d.ok) expect(`${d.error.field}: ${d.error.problem}`).toBe(want);
  });

  it("take an unknown refusal for unspecified", () => {
    expect(decodeBody(bytes("82 01 02 08 63"))).toEqual({
      ok: true,
      value: { kind: "refused", code: "unspecified", reason: "" },
    });
  });

  it("bound repeated fields", () => {
    const candidates = Array.from({ length: MAX_CANDIDATES + 1 }, (_, i) => ({
      address: address("192.0.2.1"),
      port: i + 1,
      kind: "host" as const,
    }));
    const d = decodeBody(
      encodeBody({
        kind: "exchange",
        epochs: { mine: 1, yours: 0 },
        candidates,
        mtu: 1420,
        pings: true,
        mapping: "none",
        linkLocal: true,
        pskProof: new Uint8Array(16),
      }),
    );
    expect(d).toEqual({ ok: false, error: { field: "Body.exchange.candidates", problem: "13 exceed 12" } });
    const prefixes = Array.from({ length: MAX_PREFIXES + 1 }, (_, i) => prefix(`10.0.${i}.0/24`));
    const p = decodeBody(
      encodeBody({
        kind: "resolved",
        owner: address("10.255.0.3"),
        publicKey: KEY,
        prefixes,
        generation: id("00".repeat(8)),
        lifetime: 1,
        pages: 1,
      }),
    );
    expect(p).toEqual({ ok: false, error: { field: "Body.resolved.prefixes", problem: "47 exceed 46" } });
  });

  it("fit the largest page into a datagram, and the longest reason", () => {
    const prefixes = Array.from({ length: MAX_PREFIXES }, (_, i) =>
      prefix(`2001:db8::${i.toString(16)}/128`),
    );
    const page = encodeBody({
      kind: "resolved",
      owner: address("2001:db8::1"),
      publicKey: KEY,
      prefixes,
      generation: id("ff".repeat(8)),
      lifetime: 0xffffffff,
      pages: 0xffffffff,
    });
    expect(
      encodeEnvelope(envelope({ reply: true, cookie: new Uint8Array(), body: page })).length,
    ).toBeLessThanOrEqual(MAX_DATAGRAM);
    const words = encodeBody({ kind: "refused", code: "busy", reason: "漢".repeat(1000) });
    expect(encodeEnvelope(envelope({ reply: true, body: words })).length).toBeLessThanOrEqual(MAX_DATAGRAM);
    const candidates = Array.from({ length: MAX_CANDIDATES }, (_, i) => ({
      address: address("2001:db8::1"),
      port: 65535 - i,
      kind: "configured" as const,
    }));
    const ex = encodeBody({
      kind: "exchange",
      epochs: { mine: 0xffffffff, yours: 0xffffffff },
      candidates,
      mtu: 65535,
      pings: true,
      mapping: "address-and-port-dependent",
      linkLocal: true,
      pskProof: new Uint8Array(16),
    });
    expect(encodeEnvelope(envelope({ body: ex })).length).toBeLessThanOrEqual(MAX_DATAGRAM);
  });

  it("let no control character through, and cut reasons without breaking a character", () => {
    const said = (text: string) => {
      const d = decodeBody(
        encodeBody({ kind: "withdraw", epochs: { mine: 1, yours: 1 }, reason: text, failed: false }),
      );
      if (!d.ok || d.value.kind !== "withdraw") throw new Error("not a withdraw");
      return d.value.reason;
    };
    expect(said("a\u001b[31mb\nc\u009bd\u007f")).toBe("a?[31mb?c?d?");
    expect(said("x".repeat(500))).toHaveLength(MAX_REASON);
    const emoji = said(`x${"😀".repeat(150)}`);
    expect(emoji).not.toContain("\ufffd");
    expect(emoji.length).toBeLessThanOrEqual(MAX_REASON);
  });
});

describe("hostile bytes", () => {
  const bounded = (input: Uint8Array) => {
    const e = decodeEnvelope(input);
    const b = decodeBody(input);
    for (const d of [e, b])
      if (!d.ok) {
        expect(d.error.field).not.toBe("");
        expect(d.error.problem.length).toBeLessThan(300);
      }
    if (b.ok && b.value.kind === "resolved")
      expect(b.value.prefixes.length).toBeLessThanOrEqual(MAX_PREFIXES);
    if (b.ok && (b.value.kind === "exchange" || b.value.kind === "exchanged"))
      expect(b.value.candidates.length).toBeLessThanOrEqual(MAX_CANDIDATES);
    if (b.ok && "reason" in b.value) expect(b.value.reason.length).toBeLessThanOrEqual(MAX_REASON);
    if (e.ok) decodeBody(e.value.body);
  };

  it("at random never throw", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 1400 }), bounded), { numRuns: 1000 });
  });

  it("from a valid message with bytes changed, cut and repeated never throw", () => {
    const change = fc.record({
      at: fc.nat(2000),
      to: fc.nat(255),
      kind: fc.constantFrom("set", "cut", "insert"),
    });
    fc.assert(
      fc.property(
        anyBody,
        fc.boolean(),
        fc.array(change, { minLength: 1, maxLength: 4 }),
        (body, whole, changes) => {
          let b = whole ? encodeEnvelope(envelope({ body: encodeBody(body) })) : encodeBody(body);
          for (const c of changes) {
            const at = c.at % (b.length + 1);
            if (c.kind === "set") {
              b = b.slice();
              b[at] = c.to;
            } else if (c.kind === "cut") b = b.slice(0, at);
            else b = Uint8Array.from([...b.slice(0, at), c.to, ...b.slice(at)]);
          }
          bounded(b);
        },
      ),
      { numRuns: 1500 },
    );
  });
});

describe("what the MAC covers", () => {
  const base = {
    requestId: id("0102030405060708"),
    reply: false,
    cookie: bytes("aa".repeat(16)),
    bootId: id("1112131415161718"),
    body: bytes("6a00"),
  };
  const A = address("10.255.0.2");
  const B = address("10.255.0.1");

  it("is laid out as proto/shortcutd.proto says", () => {
    expect(hex(macInput(base, A, B))).toBe(
      [
        hex(new TextEncoder().encode("shortcutd control 1")),
        "0102030405060708",
        "00",
        "00000000000000000000ffff0aff0002",
        "00000000000000000000ffff0aff0001",
        "10",
        "aa".repeat(16),
        "1112131415161718",
        "6a00",
      ].join(""),
    );
    expect(
      hex(macInput({ ...base, reply: true, cookie: new Uint8Array() }, address("2001:db8::1"), B)),
    ).toContain("0120010db8000000000000000000000001");
  });

  it("differs when any of it differs", () => {
    const all = [
      macInput(base, A, B),
      macInput(base, B, A),
      macInput({ ...base, reply: true }, A, B),
      macInput({ ...base, requestId: id("0102030405060709") }, A, B),
      macInput({ ...base, bootId: id("1112131415161719") }, A, B),
      macInput({ ...base, cookie: bytes("ab".repeat(16)) }, A, B),
      macInput({ ...base, cookie: new Uint8Array() }, A, B),
      macInput({ ...base, body: bytes("6a01") }, A, B),
    ].map(hex);
    expect(new Set(all).size).toBe(all.length);
  });

  it("has identifiers of 8 bytes", () => {
    fc.assert(fc.property(anId, (i) => id64FromBytes(id64Bytes(i)) === i));
    expect(() => id64FromBytes(new Uint8Array(7))).toThrow("8 bytes, not 7");
  });
});
