/**
 * Between bytes and the values of message.ts. protobuf decoding is lenient (it keeps unknown enum values and skips wrong wire
 * types), so every field is checked here afterwards; a datagram is either whole and valid or a typed error.
 */

import {
  type Address,
  addressBytes,
  addressFromBytes,
  type Endpoint,
  familyOf,
  type Prefix,
  prefixAddress,
  prefixFromBytes,
  prefixLength,
} from "../../net/address.js";
import { keyBytes, publicKeyFromBytes } from "../../net/key.js";
import { err, ok, type Result, unreachable } from "../../net/result.js";
import { concat } from "../bytes.js";
import {
  type Candidate,
  type CandidateKind,
  COOKIE_BYTES,
  type ControlBody,
  type ControlDecodeError,
  type Envelope,
  type Epochs,
  type ExchangeBody,
  type Id64,
  MAC_BYTES,
  MAX_CANDIDATES,
  MAX_DATAGRAM,
  MAX_PREFIXES,
  MAX_REASON,
  type Mapping,
  MIN_REQUEST,
  PROTOCOL_VERSION,
  type RefusalCode,
} from "./message.js";
import { shortcutd as pb } from "./pb/shortcutd.js";

class Invalid extends Error {
  constructor(
    readonly field: string,
    readonly problem: string,
  ) {
    super(`${field}: ${problem}`);
  }
}

const refusalCodes: readonly RefusalCode[] = [
  "unspecified",
  "not-registered",
  "not-found",
  "ambiguous",
  "not-a-hub",
  "busy",
  "key-in-use",
  "stale",
  "not-permitted",
  "version",
];

const candidateKinds: readonly CandidateKind[] = ["reflexive", "host", "configured"];

const mappings: readonly Mapping[] = [
  "unknown",
  "none",
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent",
];

/** 8 bytes as 16 hex digits. @throws RangeError for any other length (a caller's bug). */
export function id64FromBytes(bytes: Uint8Array): Id64 {
  if (bytes.length !== 8) throw new RangeError(`an identifier has 8 bytes, not ${bytes.length}`);
  let out = "";
  for (const b of bytes) out += b.toString(16).padStart(2, "0");
  return out as Id64;
}

export function id64Bytes(id: Id64): Uint8Array {
  const out = new Uint8Array(8);
  for (let i = 0; i < 8; i++) out[i] = Number.parseInt(id.slice(2 * i, 2 * i + 2), 16);
  return out;
}

export const ZERO_ID = "0000000000000000" as Id64;

// ------------------------------------------------------------------------------------------------ encoding

const toEndpoint = (e: Endpoint) => ({ address: addressBytes(e.address), port: e.port });
const toPrefix = (p: Prefix) => ({ address: addressBytes(prefixAddress(p)), length: prefixLength(p) });
const toCandidate = (c: Candidate) => ({ endpoint: toEndpoint(c), kind: candidateKinds.indexOf(c.kind) });
const toExchange = (b: ExchangeBody) => ({
  epochs: b.epochs,
  candidates: b.candidates.map(toCandidate),
  mtu: b.mtu,
  pings: b.pings,
  mapping: mappings.indexOf(b.mapping),
  linkLocal: b.linkLocal,
  pskProof: b.pskProof,
});
/** At most MAX_REASON UTF-16 units, and no half of a surrogate pair at the end. */
const clip = (reason: string): string => reason.slice(0, MAX_REASON).replace(/[\ud800-\udbff]$/, "");

function toBody(b: ControlBody): pb.Body.$Properties {
  switch (b.kind) {
    case "challenge":
      return { challenge: { cookie: b.cookie } };
    case "register":
      return {
        register: { listenPort: b.listenPort, handshakeAge: b.handshakeAge, proof: b.proof },
      };
    case "registered":
      return { registered: { listenPort: b.listenPort, lifetime: b.lifetime, observePort: b.observePort } };
    case "resolve":
      return { resolve: { destination: toPrefix(b.destination), page: b.page } };
    case "resolve-owner":
      return { resolve: { owner: addressBytes(b.owner), page: b.page } };
    case "resolved":
      return {
        resolved: {
          owner: addressBytes(b.owner),
          publicKey: keyBytes(b.publicKey),
          prefixes: b.prefixes.map(toPrefix),
          generation: id64Bytes(b.generation),
          lifetime: b.lifetime,
          pages: b.pages,
        },
      };
    case "exchange":
      return { exchange: toExchange(b) };
    case "exchanged":
      return { exchanged: toExchange(b) };
    case "selected":
      return {
        selected: { epochs: b.epochs, selected: b.selected, reason: clip(b.reason), oneWay: b.oneWay },
      };
    case "ready":
      return { ready: { epochs: b.epochs } };
    case "update":
      return {
        update: {
          epochs: b.epochs,
          candidates: b.candidates.map(toCandidate),
          mapping: mappings.indexOf(b.mapping),
        },
      };
    case "withdraw":
      return { withdraw: { epochs: b.epochs, reason: clip(b.reason), failed: b.failed } };
    case "flipped":
      return { flipped: { epochs: b.epochs } };
    case "purge":
      return { purge: { owner: addressBytes(b.owner) } };
    case "keepalive":
      return { keepalive: {} };
    case "kept":
      return {
        kept: {
          ...(b.reflexive === undefined ? {} : { reflexive: toEndpoint(b.reflexive) }),
          age: b.age,
          generation: id64Bytes(b.generation),
        },
      };
    case "ack":
      return { ack: {} };
    case "ping":
      return { ping: {} };
    case "pong":
      return { pong: {} };
    case "refused":
      return { refused: { code: refusalCodes.indexOf(b.code), reason: clip(b.reason) } };
    default:
      return unreachable(b);
  }
}

export const encodeBody = (body: ControlBody): Uint8Array => pb.Body.encode(toBody(body)).finish();

/** The datagram's bytes. A request without cookie is padded to MIN_REQUEST. */
export function encodeEnvelope(e: Envelope): Uint8Array {
  const message = {
    version: PROTOCOL_VERSION,
    requestId: id64Bytes(e.requestId),
    reply: e.reply,
    cookie: e.cookie,
    publicKey: keyBytes(e.publicKey),
    bootId: id64Bytes(e.bootId),
    body: e.body,
    mac: e.mac,
  };
  const bytes = pb.Datagram.encode(message).finish();
  if (e.reply || e.cookie.length > 0 || bytes.length >= MIN_REQUEST) return bytes;
  return pb.Datagram.encode({ ...message, padding: new Uint8Array(MIN_REQUEST - bytes.length) }).finish();
}

/**
 * The bytes that the MAC covers (see proto/shortcutd.proto). HMAC and X25519 are the caller's: this module is pure layout.
 */
export function macInput(
  e: Omit<Envelope, "mac" | "publicKey">,
  source: Address,
  destination: Address,
): Uint8Array {
  const domain = new TextEncoder().encode("shortcutd control 1");
  const parts = [
    domain,
    id64Bytes(e.requestId),
    Uint8Array.of(e.reply ? 1 : 0),
    mapped(source),
    mapped(destination),
    Uint8Array.of(e.cookie.length),
    e.cookie,
    id64Bytes(e.bootId),
    e.body,
  ];
  return concat(parts);
}

/** An address as 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2). */
function mapped(a: Address): Uint8Array {
  const bytes = addressBytes(a);
  if (familyOf(a) === 6) return bytes;
  const out = new Uint8Array(16);
  out.set([0xff, 0xff], 10);
  out.set(bytes, 12);
  return out;
}

// ------------------------------------------------------------------------------------------------ decoding

/** A copy: protobufjs hands out views of the received datagram, and some of these are kept. */
function exactly(field: string, bytes: Uint8Array, ...lengths: number[]): Uint8Array {
  if (!lengths.includes(bytes.length))
    throw new Invalid(field, `has ${bytes.length} bytes, not ${lengths.join(" or ")}`);
  return new Uint8Array(bytes);
}
const anId = (field: string, bytes: Uint8Array): Id64 => id64FromBytes(exactly(field, bytes, 8));
const anAddress = (field: string, bytes: Uint8Array): Address =>
  addressFromBytes(exactly(field, bytes, 4, 16));

function anEndpoint(field: string, e: pb.Endpoint.$Properties): Endpoint {
  const port = e.port ?? 0;
  if (port < 1 || port > 65535) throw new Invalid(`${field}.port`, `${port} is not 1 to 65535`);
  return { address: anAddress(`${field}.address`, e.address ?? new Uint8Array()), port };
}

function aPrefix(field: string, p: pb.Prefix.$Properties | null | undefined): Prefix {
  if (p === null || p === undefined) throw new Invalid(field, "is missing");
  const bytes = exactly(`${field}.address`, p.address ?? new Uint8Array(), 4, 16);
  const length = p.length ?? 0;
  if (length > bytes.length * 8)
    throw new Invalid(`${field}.length`, `${length} exceeds ${bytes.length * 8}`);
  const out = prefixFromBytes(bytes, length);
  if (prefixAddress(out) !== addressFromBytes(bytes)) throw new Invalid(field, "has host bits set");
  return out;
}

function theEpochs(field: string, e: pb.Epochs.$Properties | null | undefined): Epochs {
  const mine = e?.mine ?? 0;
  if (mine === 0) throw new Invalid(`${field}.epochs.mine`, "is missing or 0");
  return { mine, yours: e?.yours ?? 0 };
}

function theCandidates(
  field: string,
  candidates: readonly pb.Candidate.$Properties[] | null | undefined,
): Candidate[] {
  const list = candidates ?? [];
  if (list.length > MAX_CANDIDATES)
    throw new Invalid(`${field}.candidates`, `${list.length} exceed ${MAX_CANDIDATES}`);
  return list.map((c, i) => {
    const at = `${field}.candidates[${i}]`;
    const kind = candidateKinds[c.kind ?? 0];
    if (kind === undefined) throw new Invalid(`${at}.kind`, `${c.kind} is unknown`);
    return { ...anEndpoint(`${at}.endpoint`, c.endpoint ?? {}), kind };
  });
}

const aMapping = (m: number | null | undefined): Mapping => mappings[m ?? 0] ?? "unknown";

function theExchange(field: string, e: pb.Exchange.$Properties): ExchangeBody {
  const mtu = e.mtu ?? 0;
  if (mtu < 576 || mtu > 65535) throw new Invalid(`${field}.mtu`, `${mtu} is not 576 to 65535`);
  return {
    epochs: theEpochs(field, e.epochs),
    candidates: theCandidates(field, e.candidates),
    mtu,
    pings: e.pings ?? false,
    mapping: aMapping(e.mapping),
    linkLocal: e.linkLocal ?? false,
    pskProof: exactly(`${field}.psk_proof`, e.pskProof ?? new Uint8Array(), 0, MAC_BYTES),
  };
}

/** Reasons go to logs and terminals of the other side: control characters are not let through. */
function aReason(text: string | null | undefined): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is filtered
  return clip((text ?? "").replace(/[\u0000-\u001f\u007f-\u009f]/g, "?"));
}

const aPort = (field: string, port: number | null | undefined): number => {
  const p = port ?? 0;
  if (p < 1 || p > 65535) throw new Invalid(field, `${p} is not 1 to 65535`);
  return p;
};

const anOptionalPort = (field: string, port: number | null | undefined): number =>
  (port ?? 0) === 0 ? 0 : aPort(field, port);

/** The message of each kind of body. */
type Messages = {
  readonly [K in Exclude<keyof pb.Body.$Properties, "kind" | "$unknowns">]-?: NonNullable<
    pb.Body.$Properties[K]
  >;
};

/** One decoder for each kind of body; each checks every field of its message. */
const bodyDecoders: {
  readonly [K in keyof Messages]: (message: Messages[K]) => ControlBody;
} = {
  challenge: (m) => ({
    kind: "challenge",
    cookie: exactly("challenge.cookie", m.cookie ?? new Uint8Array(), COOKIE_BYTES),
  }),
  register: (m) => ({
    kind: "register",
    listenPort: aPort("register.listen_port", m.listenPort),
    handshakeAge: m.handshakeAge ?? 0,
    proof: exactly("register.proof", m.proof ?? new Uint8Array(), MAC_BYTES),
  }),
  registered: (m) => ({
    kind: "registered",
    listenPort: aPort("registered.listen_port", m.listenPort),
    lifetime: m.lifetime ?? 0,
    observePort: anOptionalPort("registered.observe_port", m.observePort),
  }),
  resolve: (message) => {
    const m = pb.Resolve.create(message);
    const page = m.page ?? 0;
    if (m.owner !== null && m.owner !== undefined && m.owner.length > 0)
      return { kind: "resolve-owner", owner: anAddress("resolve.owner", m.owner), page };
    return { kind: "resolve", destination: aPrefix("resolve.destination", m.destination), page };
  },
  resolved: (m) => {
    const prefixes = m.prefixes ?? [];
    if (prefixes.length > MAX_PREFIXES)
      throw new Invalid("resolved.prefixes", `${prefixes.length} exceed ${MAX_PREFIXES}`);
    return {
      kind: "resolved",
      owner: anAddress("resolved.owner", m.owner ?? new Uint8Array()),
      prefixes: prefixes.map((p, i) => aPrefix(`resolved.prefixes[${i}]`, p)),
      generation: anId("resolved.generation", m.generation ?? new Uint8Array()),
      publicKey: publicKeyFromBytes(exactly("resolved.public_key", m.publicKey ?? new Uint8Array(), 32)),
      lifetime: m.lifetime ?? 0,
      pages: Math.max(1, m.pages ?? 1),
    };
  },
  exchange: (m) => ({ kind: "exchange", ...theExchange("exchange", m) }),
  exchanged: (m) => ({ kind: "exchanged", ...theExchange("exchanged", m) }),
  selected: (m) => ({
    kind: "selected",
    epochs: theEpochs("selected", m.epochs),
    selected: m.selected ?? false,
    oneWay: m.oneWay ?? false,
    reason: aReason(m.reason),
  }),
  ready: (m) => ({ kind: "ready", epochs: theEpochs("ready", m.epochs) }),
  update: (m) => ({
    kind: "update",
    epochs: theEpochs("update", m.epochs),
    candidates: theCandidates("update", m.candidates),
    mapping: aMapping(m.mapping),
  }),
  withdraw: (m) => ({
    kind: "withdraw",
    epochs: theEpochs("withdraw", m.epochs),
    reason: aReason(m.reason),
    failed: m.failed ?? false,
  }),
  flipped: (m) => ({ kind: "flipped", epochs: theEpochs("flipped", m.epochs) }),
  purge: (m) => ({ kind: "purge", owner: anAddress("purge.owner", m.owner ?? new Uint8Array()) }),
  keepalive: () => ({ kind: "keepalive" }),
  kept: (m) => ({
    kind: "kept",
    reflexive: m.reflexive ? anEndpoint("kept.reflexive", m.reflexive) : undefined,
    age: m.age ?? 0,
    generation: anId("kept.generation", m.generation ?? new Uint8Array()),
  }),
  ack: () => ({ kind: "ack" }),
  ping: () => ({ kind: "ping" }),
  pong: () => ({ kind: "pong" }),
  refused: (m) => ({
    kind: "refused",
    code: refusalCodes[m.code ?? 0] ?? "unspecified",
    reason: aReason(m.reason),
  }),
};

function fromKind<K extends keyof Messages>(
  kind: K,
  body: { readonly [P in keyof Messages]?: Messages[P] | null },
): ControlBody {
  const message = body[kind];
  if (message === null || message === undefined) throw new Invalid(kind, "is missing");
  return bodyDecoders[kind](message);
}

function fromBody(body: pb.Body & pb.Body.$Shape): ControlBody {
  if (body.kind === undefined) throw new Invalid("kind", "is missing, or of a later version");
  return fromKind(body.kind, body);
}

function guarded<T>(field: string, decode: () => T): Result<T, ControlDecodeError> {
  try {
    return ok(decode());
  } catch (e) {
    if (e instanceof Invalid) return err({ field: `${field}.${e.field}`, problem: e.problem });
    return err({ field, problem: `not protobuf: ${e instanceof Error ? e.message : String(e)}` });
  }
}

/** The envelope alone: what must be looked at before the sender is believed. */
export function decodeEnvelope(bytes: Uint8Array): Result<Envelope, ControlDecodeError> {
  if (bytes.length > MAX_DATAGRAM)
    return err({ field: "Datagram", problem: `${bytes.length} bytes exceed ${MAX_DATAGRAM}` });
  const d = guarded("Datagram", () => pb.Datagram.decode(bytes));
  if (!d.ok) return d;
  const version = d.value.version;
  if (version !== PROTOCOL_VERSION)
    return err({ field: "Datagram.version", problem: `${version} is not ${PROTOCOL_VERSION}`, version });
  return guarded("Datagram", () => ({
    requestId: anId("request_id", d.value.requestId),
    reply: d.value.reply,
    cookie: exactly("cookie", d.value.cookie, 0, COOKIE_BYTES),
    publicKey: publicKeyFromBytes(exactly("public_key", d.value.publicKey, 32)),
    bootId: anId("boot_id", d.value.bootId),
    body: new Uint8Array(d.value.body),
    mac: exactly("mac", d.value.mac, 0, MAC_BYTES),
  }));
}

export function decodeBody(bytes: Uint8Array): Result<ControlBody, ControlDecodeError> {
  return guarded("Body", () => fromBody(pb.Body.decode(bytes)));
}
