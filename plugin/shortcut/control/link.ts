/**
 * The reliable half of the control protocol: requests with retransmission, cookies, and the
 * pairwise MAC. A cookie shows that a sender receives at its address. A request travels without a
 * cookie at first, and the answerer returns a Challenge without keeping any state. The cookie is an
 * HMAC of source and key under a secret that changes every two minutes, as in RFC 9147 §5.1
 * and WireGuard's own mac2. Only a request with a valid cookie costs a Diffie-Hellman and reaches a
 * handler, and the number of them from one source is limited before. Sans-I/O: bytes and time in, bytes
 * out.
 */
import { type Address, addressBytes, type Endpoint } from "../../net/address.js";
import { keyBytes, type PublicKey } from "../../net/key.js";
import {
  decodeBody,
  decodeEnvelope,
  encodeBody,
  encodeEnvelope,
  id64FromBytes,
  macInput,
} from "../../wire/control/codec.js";
import {
  COOKIE_BYTES,
  type ControlBody,
  type Envelope,
  type Id64,
  type ReplyBody,
  type RequestBody,
} from "../../wire/control/message.js";
import type { Parameters } from "../parameters.js";
import { TokenBuckets } from "../token-buckets.js";
import { type Crypto, type PairSecrets, sameBytes } from "./pair-secrets.js";

export type { Crypto };

export interface Identity {
  readonly address: Address;
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
}

/** The sender of a datagram whose cookie and MAC were right. */
export interface Correspondent {
  readonly address: Address;
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
}

export type Outcome =
  | { readonly kind: "reply"; readonly from: Correspondent; readonly body: ReplyBody }
  | { readonly kind: "timeout" };

/** A dropped datagram that an operator may want to know about. */
export interface ControlProblem {
  readonly from: Endpoint;
  readonly problem: string;
}

interface Pending {
  readonly id: Id64;
  readonly to: Address;
  readonly body: Uint8Array;
  readonly done: (now: number, outcome: Outcome) => void;
  attempts: number;
  challenges: number;
  nextAt: number;
}

interface Known {
  readonly cookie: Uint8Array;
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
}

const SECRET_LIFETIME = 120_000;
/**
 * Requests of one source address that are looked at. Each has shown by its cookie that it receives there.
 * A spoke that restarts asks its hub for all its owners at once.
 */
const REQUESTS = { perSecond: 50, burst: 400, most: 16_384 };
/** Keys that were not known: each costs an X25519, and a host of a site has many addresses. */
const NEW_KEYS = { perSecond: 1_000, burst: 4_000, most: 1 };
/** Routers whose cookies are kept; one that was dropped is asked for again. */
const MOST_KNOWN = 16_384;
const EMPTY = new Uint8Array(0);

export class ControlLink {
  private readonly pending = new Map<Id64, Pending>();
  private readonly known = new Map<Address, Known>();
  private readonly requests = new TokenBuckets<Address>(REQUESTS);
  private readonly newKeys = new TokenBuckets<"all">(NEW_KEYS);
  private cookieSecret: { current: Uint8Array; previous: Uint8Array; since: number };
  private readonly out: { readonly to: Endpoint; readonly payload: Uint8Array }[] = [];
  readonly problems: ControlProblem[] = [];

  constructor(
    private readonly self: Identity,
    private readonly port: number,
    private readonly keys: PairSecrets,
    private readonly randomBytes: (n: number) => Uint8Array,
    private readonly parameters: Pick<Parameters, "retransmit" | "attempts">,
    /**
     * Answers an authentic request. The handler must be idempotent, since a lost reply brings the
     * request again. Undefined means no answer yet: the request has overtaken another one and will
     * be repeated.
     */
    private readonly answer: (now: number, from: Correspondent, body: RequestBody) => ReplyBody | undefined,
  ) {
    this.cookieSecret = { current: randomBytes(32), previous: randomBytes(32), since: 0 };
  }

  /**
   * Sends a request until it is answered or given up. `done` is called exactly once, unless the
   * request is {@link cancel}led.
   */
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64 {
    const id = id64FromBytes(this.randomBytes(8));
    const p: Pending = { id, to, body: encodeBody(body), done, attempts: 0, challenges: 0, nextAt: now };
    this.pending.set(id, p);
    this.transmit(now, p);
    return id;
  }

  cancel(id: Id64): void {
    this.pending.delete(id);
  }

  pollOutput(): { readonly to: Endpoint; readonly payload: Uint8Array } | undefined {
    return this.out.shift();
  }

  pollTimeout(): number | undefined {
    let earliest: number | undefined;
    for (const p of this.pending.values())
      if (earliest === undefined || p.nextAt < earliest) earliest = p.nextAt;
    return earliest;
  }

  handleTimeout(now: number): void {
    for (const p of [...this.pending.values()]) {
      if (p.nextAt > now || !this.pending.has(p.id)) continue;
      if (p.attempts >= this.parameters.attempts) {
        this.pending.delete(p.id);
        // the peer may have a new key, or the cookie may be the reason: start without a cookie next
        // time
        this.known.delete(p.to);
        p.done(now, { kind: "timeout" });
      } else this.transmit(now, p);
    }
  }

  handleDatagram(now: number, from: Endpoint, bytes: Uint8Array): void {
    const decoded = decodeEnvelope(bytes);
    if (!decoded.ok) {
      this.problem(from, `${decoded.error.field}: ${decoded.error.problem}`);
      return;
    }
    // a process without privileges cannot have the port that shortcutd holds
    if (from.port !== this.port) {
      this.problem(from, `the source port is not the control port ${this.port}`);
      return;
    }
    const envelope = decoded.value;
    if (envelope.reply) this.handleReply(now, from, envelope);
    else this.handleRequest(now, from, envelope, bytes.length);
  }

  private transmit(now: number, p: Pending): void {
    const jitter = 0.75 + ((this.randomBytes(1)[0] ?? 0) / 255) * 0.5;
    p.nextAt = now + this.parameters.retransmit * 2 ** p.attempts * jitter;
    p.attempts++;
    const known = this.known.get(p.to);
    const envelope: Omit<Envelope, "mac"> = {
      requestId: p.id,
      reply: false,
      cookie: known?.cookie ?? EMPTY,
      publicKey: this.self.publicKey,
      bootId: this.self.bootId,
      body: p.body,
    };
    const mac = known === undefined ? EMPTY : this.mac(envelope, known.publicKey, this.self.address, p.to);
    if (mac === undefined) return;
    this.out.push({ to: { address: p.to, port: this.port }, payload: encodeEnvelope({ ...envelope, mac }) });
  }

  private handleRequest(now: number, from: Endpoint, e: Envelope, size: number): void {
    if (!this.cookieIsRight(now, from, e)) {
      const challenge: ControlBody = { kind: "challenge", cookie: this.cookieFor(now, from, e.publicKey) };
      const payload = encodeEnvelope({
        requestId: e.requestId,
        reply: true,
        cookie: EMPTY,
        publicKey: this.self.publicKey,
        bootId: this.self.bootId,
        body: encodeBody(challenge),
        mac: EMPTY,
      });
      if (payload.length <= size) this.out.push({ to: from, payload });
      return;
    }
    if (!this.mayAsk(now, from.address, e.publicKey)) return;
    if (!this.macIsRight(e, from.address, this.self.address)) {
      this.problem(from, "MAC is wrong: the sender does not hold the private key that it names");
      return;
    }
    const body = decodeBody(e.body);
    if (!body.ok) {
      this.problem(from, `${body.error.field}: ${body.error.problem}`);
      return;
    }
    if (!isRequest(body.value)) {
      this.problem(from, `${body.value.kind} is not a request`);
      return;
    }
    const correspondent = { address: from.address, publicKey: e.publicKey, bootId: e.bootId };
    const reply = this.answer(now, correspondent, body.value);
    if (reply === undefined) return;
    const out = {
      requestId: e.requestId,
      reply: true,
      cookie: EMPTY,
      publicKey: this.self.publicKey,
      bootId: this.self.bootId,
      body: encodeBody(reply),
    };
    const mac = this.mac(out, e.publicKey, this.self.address, from.address);
    if (mac !== undefined) this.out.push({ to: from, payload: encodeEnvelope({ ...out, mac }) });
  }

  /** Returns whether a request is looked at: what it costs comes after this. */
  private mayAsk(now: number, from: Address, key: PublicKey): boolean {
    return this.requests.take(now, from) && (this.keys.has(key) || this.newKeys.take(now, "all"));
  }

  /** Notes the cookie that a router has given. */
  private know(router: Address, known: Known): void {
    this.known.delete(router);
    const [oldest] = this.known.keys();
    if (oldest !== undefined && this.known.size >= MOST_KNOWN) this.known.delete(oldest);
    this.known.set(router, known);
  }

  private handleReply(now: number, from: Endpoint, e: Envelope): void {
    const p = this.pending.get(e.requestId);
    if (p === undefined || p.to !== from.address) return; // late, or not ours
    const body = decodeBody(e.body);
    if (!body.ok) {
      this.problem(from, `${body.error.field}: ${body.error.problem}`);
      return;
    }
    if (body.value.kind === "challenge") {
      if (++p.challenges > 3) return;
      this.know(from.address, { cookie: body.value.cookie, publicKey: e.publicKey, bootId: e.bootId });
      p.attempts = Math.max(0, p.attempts - 1);
      this.transmit(now, p);
      return;
    }
    const known = this.known.get(from.address);
    if (known === undefined || known.publicKey !== e.publicKey) return;
    if (!this.macIsRight(e, from.address, this.self.address)) {
      this.problem(from, "reply with a wrong MAC");
      return;
    }
    if (isRequest(body.value)) {
      this.problem(from, `${body.value.kind} is not a reply`);
      return;
    }
    this.pending.delete(p.id);
    const correspondent = { address: from.address, publicKey: e.publicKey, bootId: e.bootId };
    p.done(now, { kind: "reply", from: correspondent, body: body.value });
  }

  private mac(
    e: Omit<Envelope, "mac">,
    theirs: PublicKey,
    source: Address,
    destination: Address,
  ): Uint8Array | undefined {
    return this.keys.mac(theirs, macInput(e, source, destination));
  }

  private macIsRight(e: Envelope, source: Address, destination: Address): boolean {
    const expected = this.mac(e, e.publicKey, source, destination);
    return expected !== undefined && sameBytes(expected, e.mac);
  }

  private rotate(now: number): void {
    const s = this.cookieSecret;
    const age = now - s.since;
    if (age < SECRET_LIFETIME) return;
    // after a long silence the current secret is too old to serve as the previous one
    const previous = age < 2 * SECRET_LIFETIME ? s.current : this.randomBytes(32);
    this.cookieSecret = { current: this.randomBytes(32), previous, since: now };
  }

  private cookieFor(now: number, from: Endpoint, key: PublicKey, previous = false): Uint8Array {
    this.rotate(now);
    const secret = previous ? this.cookieSecret.previous : this.cookieSecret.current;
    const source = addressBytes(from.address);
    const data = new Uint8Array(source.length + 2 + 32);
    data.set(source);
    data.set([from.port >> 8, from.port & 0xff], source.length);
    data.set(keyBytes(key), source.length + 2);
    return this.keys.hmac(secret, data).subarray(0, COOKIE_BYTES);
  }

  private cookieIsRight(now: number, from: Endpoint, e: Envelope): boolean {
    if (e.cookie.length !== COOKIE_BYTES) return false;
    return (
      sameBytes(e.cookie, this.cookieFor(now, from, e.publicKey)) ||
      sameBytes(e.cookie, this.cookieFor(now, from, e.publicKey, true))
    );
  }

  private problem(from: Endpoint, problem: string): void {
    if (this.problems.length < 64) this.problems.push({ from, problem });
  }
}

function isRequest(b: ControlBody): b is RequestBody {
  switch (b.kind) {
    case "register":
    case "resolve":
    case "resolve-owner":
    case "exchange":
    case "selected":
    case "ready":
    case "update":
    case "withdraw":
    case "flipped":
    case "purge":
    case "keepalive":
    case "ping":
      return true;
    default:
      return false;
  }
}
