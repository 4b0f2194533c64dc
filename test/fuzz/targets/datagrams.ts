/** Targets: datagrams of the control protocol, pings, probes and what raw sockets receive. */
import { address, prefix } from "../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../plugin/net/key.js";
import {
  decodeBody,
  decodeEnvelope,
  encodeBody,
  encodeEnvelope,
  id64FromBytes,
  macInput,
} from "../../../plugin/wire/control/codec.js";
import {
  type ControlBody,
  MAX_CANDIDATES,
  MAX_DATAGRAM,
  MAX_PREFIXES,
  MAX_REASON,
} from "../../../plugin/wire/control/message.js";
import { decodePing, encodePing, type Ping, pingMacInput } from "../../../plugin/wire/ping.js";
import { decodeProbe, encodeProbe, type Probe } from "../../../plugin/wire/probe.js";
import {
  decodeTimeExceeded,
  decodeUdp4,
  decodeUdp6,
  encodeUdp4,
  encodeUdp6,
} from "../../../plugin/wire/udp.js";
import { checkDecoded, holds, printable, same, type Target, typed } from "../target.js";

const id = id64FromBytes(new Uint8Array(8).fill(5));
const key = publicKeyFromBytes(new Uint8Array(32).fill(7));
const epochs = { mine: 3, yours: 4 };
const sixteen = new Uint8Array(16).fill(9);
const endpoint = { address: address("192.0.2.1"), port: 51821 };
const candidates = [
  { ...endpoint, kind: "reflexive" as const },
  { address: address("2001:db8::1"), port: 1, kind: "host" as const },
];
const exchange = {
  epochs,
  candidates,
  mtu: 1420,
  pings: true,
  mapping: "endpoint-independent" as const,
  linkLocal: true,
  pskProof: sixteen,
};

/** One body of each kind. */
export const bodies: readonly ControlBody[] = [
  { kind: "challenge", cookie: sixteen },
  { kind: "register", listenPort: 51821, handshakeAge: 3, proof: sixteen },
  { kind: "registered", listenPort: 51821, lifetime: 30, observePort: 4244 },
  { kind: "resolve", destination: prefix("10.3.0.0/24"), page: 0 },
  { kind: "resolve-owner", owner: address("10.255.0.3"), page: 1 },
  {
    kind: "resolved",
    owner: address("10.255.0.3"),
    publicKey: key,
    prefixes: [prefix("10.3.0.0/24"), prefix("2001:db8:3::/48")],
    generation: id,
    lifetime: 300,
    pages: 1,
  },
  { kind: "exchange", ...exchange },
  { kind: "exchanged", ...exchange },
  { kind: "selected", epochs, selected: true, oneWay: false, reason: "rejected by import filter" },
  { kind: "ready", epochs },
  { kind: "update", epochs, candidates, mapping: "none" },
  { kind: "withdraw", epochs, reason: "idle for 60 s", failed: false },
  { kind: "flipped", epochs },
  { kind: "purge", owner: address("10.255.0.3") },
  { kind: "keepalive" },
  { kind: "kept", reflexive: endpoint, age: 1, generation: id },
  { kind: "ack" },
  { kind: "ping" },
  { kind: "pong" },
  { kind: "refused", code: "busy", reason: "this end is stopping" },
];

const envelopeOf = (reply: boolean, body: ControlBody, known: boolean) =>
  encodeEnvelope({
    requestId: id,
    reply,
    cookie: known ? sixteen : new Uint8Array(0),
    publicKey: key,
    bootId: id,
    body: encodeBody(body),
    mac: known ? sixteen : new Uint8Array(0),
  });

/** A decoded body keeps the bounds of the protocol. */
function bounded(b: ControlBody): void {
  if ("candidates" in b) holds("too many candidates", b.candidates.length <= MAX_CANDIDATES);
  if ("prefixes" in b) holds("too many prefixes", b.prefixes.length <= MAX_PREFIXES);
  if ("reason" in b) {
    holds("the reason is too long", b.reason.length <= MAX_REASON);
    holds(`control characters reach a log: ${JSON.stringify(b.reason)}`, printable(b.reason));
  }
  if ("epochs" in b) holds("epoch 0", b.epochs.mine !== 0);
}

const envelope: Target = {
  name: "control-envelope",
  longest: MAX_DATAGRAM + 16,
  seeds: () => bodies.flatMap((b) => [envelopeOf(false, b, false), envelopeOf(true, b, true)]),
  run: (input) => {
    const decoded = decodeEnvelope(input);
    checkDecoded(decoded, (e) => {
      const encoded = encodeEnvelope(e);
      // the padding of a request without cookie is not kept, and may be what made it too long
      return decodeEnvelope(encoded);
    });
    if (!decoded.ok) return;
    macInput(decoded.value, address("10.255.0.1"), address("2001:db8::2"));
    const body = decodeBody(decoded.value.body);
    typed(body);
    if (body.ok) bounded(body.value);
  },
};

const body: Target = {
  name: "control-body",
  longest: MAX_DATAGRAM,
  seeds: () => bodies.map(encodeBody),
  run: (input) => {
    const decoded = decodeBody(input);
    checkDecoded(decoded, (b) => decodeBody(encodeBody(b)));
    if (decoded.ok) bounded(decoded.value);
  },
};

const aPing: Ping = {
  kind: "observed",
  ready: true,
  transaction: id,
  bootId: id,
  epochs,
  observed: endpoint,
};

const ping: Target = {
  name: "ping",
  longest: 96,
  seeds: () => [
    encodePing(aPing),
    encodePing({ ...aPing, kind: "observe", observed: undefined }),
    encodePing({ ...aPing, observed: { address: address("2001:db8::1"), port: 65535 } }),
  ],
  run: (input) => {
    const decoded = decodePing(input);
    checkDecoded(decoded, (p) => decodePing(encodePing(p)));
    if (decoded.ok) pingMacInput(input);
  },
};

const aProbe: Probe = {
  bootId: id,
  accepted: id,
  epochs,
  hearYou: true,
  busy: false,
  flipped: true,
  down: false,
  ownsRoutes: true,
  sequence: 1,
  sentAt: 2,
  echo: 3,
  held: 4,
  interval: 100_000,
  requires: 100_000,
  multiplier: 3,
  heardFull: 5,
  size: 64,
};

const probe: Target = {
  name: "probe",
  longest: 1500,
  seeds: () => [encodeProbe(aProbe), encodeProbe({ ...aProbe, size: 1372 })],
  run: (input) => checkDecoded(decodeProbe(input), (p) => decodeProbe(encodeProbe(p))),
};

const v4 = { from: endpoint, to: { address: address("198.51.100.1"), port: 4244 } };

/** An ICMP message of a router at which the datagram's time to live expired. */
function expired(datagram: Uint8Array): Uint8Array {
  const header = datagram.slice(0, 20);
  header[9] = 1;
  return new Uint8Array(Buffer.concat([header, Uint8Array.of(11, 0, 0, 0, 0, 0, 0, 0), datagram]));
}

const seed4 = (): Uint8Array => encodeUdp4({ ...v4, ttl: 2, id: 7, payload: Uint8Array.of(1, 2, 3) });

const udp: Target = {
  name: "udp",
  longest: 256,
  seeds: () => [seed4(), expired(seed4()), encodeUdp6(51821, 4244, Uint8Array.of(1, 2, 3))],
  run: (input) => {
    const four = decodeUdp4(input);
    if (four !== undefined) {
      const again = decodeUdp4(encodeUdp4({ ...four, ttl: 64, id: 1 }));
      same("decode, encode, decode", again, four);
    }
    const six = decodeUdp6(input);
    if (six !== undefined) {
      const again = decodeUdp6(encodeUdp6(six.fromPort, six.toPort, six.payload));
      same("decode, encode, decode", again, six);
    }
    const dead = decodeTimeExceeded(input);
    if (dead !== undefined) holds("a port", dead.to.port <= 65535 && dead.fromPort <= 65535);
  },
};

export const datagramTargets: readonly Target[] = [envelope, body, ping, probe, udp];
