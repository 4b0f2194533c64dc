/**
 * Targets: the engine of a spoke and of a hub. The input is a program: it lets time pass, changes what the kernel
 * and the daemon say, and speaks for the other routers, properly or not. What may happen is checked after
 * each step, against what the hub has attested and the daemon has selected.
 */
import {
  type Address,
  address,
  contains,
  type Endpoint,
  hostPrefix,
  type Prefix,
  prefix,
} from "../../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../../plugin/net/key.js";
import { generationOf } from "../../../plugin/shortcut/control/generation.js";
import { OverlaySecrets } from "../../../plugin/shortcut/control/pair-secrets.js";
import { registrationProof } from "../../../plugin/shortcut/control/registration-proof.js";
import { type Pins, type Preshared, Trust } from "../../../plugin/shortcut/control/trust.js";
import { Engine, type EngineConfig } from "../../../plugin/shortcut/engine.js";
import type { FibEntry, Input, Output } from "../../../plugin/shortcut/events.js";
import { defaultParameters } from "../../../plugin/shortcut/parameters.js";
import { linkLocalOf } from "../../../plugin/shortcut/probe/link-local.js";
import { describeReason, type Reason } from "../../../plugin/shortcut/reasons.js";
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
  type Envelope,
  type Epochs,
  type Id64,
  MAX_DATAGRAM,
  type RequestBody,
} from "../../../plugin/wire/control/message.js";
import { encodePing, type PingKind, pingMacInput } from "../../../plugin/wire/ping.js";
import type { Probe } from "../../../plugin/wire/probe.js";
import { generator } from "../../sim/random.js";
import { holds, Reader, type Target } from "../target.js";
import { bodies } from "./datagrams.js";

const PORT = 4243;
const DIRECT_PORT = 51821;
const FULL_SIZE = 1372;

const fnv = (seed: number, data: Uint8Array): number => {
  let h = (0x811c9dc5 ^ seed) >>> 0;
  for (const b of data) h = Math.imul(h ^ b, 0x01000193) >>> 0;
  return h;
};

/** Stands for HMAC: nothing here attacks the cryptography, and inputs count. */
function hmac(key: Uint8Array, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(32);
  const view = new DataView(out.buffer);
  const d = fnv(fnv(1, key), data);
  for (let i = 0; i < 8; i++) view.setUint32(4 * i, Math.imul(d ^ i, 0x9e3779b1) >>> 0);
  return out;
}

/** Stands for X25519 of one's own key and another. */
const sharedBy = (own: PublicKey) => (theirs: PublicKey) =>
  hmac(new Uint8Array(1), Buffer.from([own, theirs].sort().join("")));

interface Party {
  readonly address: Address;
  readonly key: PublicKey;
  readonly boot: Id64;
  readonly site: Prefix;
}

const party = (n: number): Party => ({
  address: address(`10.255.0.${n}`),
  key: publicKeyFromBytes(new Uint8Array(32).fill(n)),
  boot: id64FromBytes(new Uint8Array(8).fill(n)),
  site: prefix(`10.${n}.0.0/24`),
});
const HUB = party(1);
const SELF = party(2);
const C = party(3);
const D = party(4);
/** A member of the VPN at C's address, without C's key. */
const IMPOSTOR: Party = { ...party(9), address: C.address };
const PARTIES: readonly [Party, ...Party[]] = [HUB, C, D, IMPOSTOR];
const ALL: readonly Party[] = [SELF, ...PARTIES];

/** What the spoke has configured: C's key is pinned, D's pair has a pre-shared key. */
const PINS: Pins = new Map([[C.address, [C.key]]]);
const presharedOf = (owner: Address): Preshared =>
  owner === D.address
    ? { kind: "key", hmac: (data) => hmac(new Uint8Array(32).fill(4), data) }
    : { kind: "none" };

/** Of this router's own prefixes. */
const GENERATION = generationOf([SELF.site]);
const endpointOf = (p: Party): Endpoint => ({
  address: address(`192.0.2.${p.address.split(".")[3]}`),
  port: DIRECT_PORT,
});

function engineOf(self: Party, role: EngineConfig["role"]): Engine {
  const random = generator(7);
  const shared = sharedBy(self.key);
  return new Engine(
    {
      self: { address: self.address, publicKey: self.key, bootId: self.boot },
      role,
      controlPort: PORT,
      listenPort: DIRECT_PORT,
      observePort: PORT + 1,
      overlayMtu: 1420,
      aliasPools: { 4: prefix("198.18.0.0/24"), 6: undefined },
      parameters: defaultParameters,
      pins: PINS,
    },
    {
      crypto: { shared, overlayShared: (_, theirs) => shared(theirs), hmac },
      randomBytes: (n) => Uint8Array.from({ length: n }, () => Math.floor(random() * 256)),
      routing: {
        wayTo: () => "other",
        underneath: (p) => ({ ok: true, prefix: p, nextHop: HUB.address, via: ["wg0"] }),
        overlayTo: () => ["wg0"],
        routesItself: (p) => p === self.site,
      },
      preshared: presharedOf,
    },
    0,
  );
}

/** A request of the engine that waits for an answer. */
interface Waiting {
  readonly to: Party;
  readonly envelope: Envelope;
  readonly body: RequestBody;
}

/** The other routers, as the engine sees them: cookies, epochs and what was asked of them. */
class Others {
  readonly waiting: Waiting[] = [];
  private readonly cookies = new Map<Party, Uint8Array>();
  /** The engine's epoch as it told each party, and each party's own. */
  readonly epochs = new Map<Party, { theirs: number; own: number }>();
  /** What the hub has said of each owner. */
  private readonly attested = new Map<
    Address,
    { readonly prefixes: Set<Prefix>; readonly keys: Set<PublicKey> }
  >();
  private requests = 0;

  constructor(
    private readonly self: Party,
    /** Hands a datagram to the engine. */
    private readonly deliver: (from: Endpoint, payload: Uint8Array) => void,
  ) {}

  epochsOf(p: Party): Epochs {
    const e = this.epochs.get(p) ?? { theirs: 0, own: 1 };
    return { mine: e.own, yours: e.theirs };
  }

  private attest(r: Extract<ControlBody, { kind: "resolved" }>): void {
    const known = this.attestedFor(r.owner);
    for (const p of r.prefixes) known.prefixes.add(p);
    known.keys.add(r.publicKey);
    this.attested.set(r.owner, known);
  }

  attestedFor(owner: Address): { readonly prefixes: Set<Prefix>; readonly keys: Set<PublicKey> } {
    return this.attested.get(owner) ?? { prefixes: new Set(), keys: new Set() };
  }

  /** Takes a datagram of the engine. */
  take(to: Endpoint, payload: Uint8Array): void {
    holds(`a datagram of ${payload.length} bytes`, payload.length <= MAX_DATAGRAM);
    const decoded = decodeEnvelope(payload);
    holds("the engine sends what cannot be decoded", decoded.ok);
    if (!decoded.ok) return;
    const envelope = decoded.value;
    const body = decodeBody(envelope.body);
    holds("the engine sends a body that cannot be decoded", body.ok);
    if (!body.ok) return;
    const at = ALL.find((p) => p.address === to.address);
    if (at === undefined) return;
    if (body.value.kind === "challenge") {
      for (const p of ALL) if (p.address === at.address) this.cookies.set(p, body.value.cookie);
      return;
    }
    if (envelope.reply) return;
    if ("epochs" in body.value) {
      const own = this.epochs.get(at)?.own ?? 1;
      this.epochs.set(at, { theirs: body.value.epochs.mine, own });
    }
    if (this.waiting.length < 64) this.waiting.push({ to: at, envelope, body: body.value as RequestBody });
  }

  private mac(p: Party, e: Omit<Envelope, "mac">): Uint8Array {
    const secret = sharedBy(p.key)(this.self.key);
    return hmac(secret, macInput(e, p.address, this.self.address)).subarray(0, 16);
  }

  private send(p: Party, e: Omit<Envelope, "mac">, signed: boolean): void {
    const mac = signed ? this.mac(p, e) : new Uint8Array(0);
    this.deliver({ address: p.address, port: PORT }, encodeEnvelope({ ...e, mac }));
  }

  /** Asks the engine, with a cookie and a MAC: a cookie is fetched first. */
  ask(p: Party, body: Uint8Array): void {
    const e = {
      requestId: id64FromBytes(Uint8Array.of(0, 0, 0, 0, 0, 0, 1, ++this.requests)),
      reply: false,
      publicKey: p.key,
      bootId: p.boot,
      body,
    };
    this.cookies.delete(p);
    this.send(p, { ...e, cookie: new Uint8Array(0) }, false);
    const cookie = this.cookies.get(p);
    if (cookie !== undefined) this.send(p, { ...e, cookie }, true);
  }

  /** Answers a request of the engine; `by` may be another than was asked. */
  answer(w: Waiting, by: Party, body: Uint8Array): void {
    const said = decodeBody(body);
    if (by === HUB && said.ok && said.value.kind === "resolved") this.attest(said.value);
    const empty = new Uint8Array(0);
    const e = {
      requestId: w.envelope.requestId,
      reply: true,
      cookie: empty,
      publicKey: by.key,
      bootId: by.boot,
      body,
    };
    this.send(by, e, true);
  }

  /** Sends a challenge, as everybody does to who has no cookie. */
  challenge(w: Waiting, by: Party): void {
    const empty = new Uint8Array(0);
    const body = encodeBody({ kind: "challenge", cookie: new Uint8Array(16).fill(3) });
    const e = {
      requestId: w.envelope.requestId,
      reply: true,
      cookie: empty,
      publicKey: by.key,
      bootId: by.boot,
      body,
    };
    this.send(by, e, false);
  }
}

const exchangeOf = (p: Party, epochs: Epochs) => ({
  epochs,
  candidates: [{ ...endpointOf(p), kind: "host" as const }],
  mtu: 1420,
  pings: false,
  mapping: "none" as const,
  linkLocal: true,
  pskProof: new Trust({ address: p.address, publicKey: p.key, bootId: p.boot }, new Map(), () =>
    presharedOf(p.address),
  ).prove(SELF.address, SELF.key, epochs.mine),
});

/** The answer of a router that works. */
function properReply(o: Others, w: Waiting): ControlBody {
  const { to, body } = w;
  switch (body.kind) {
    case "register":
      return { kind: "registered", listenPort: DIRECT_PORT, lifetime: 30, observePort: 0 };
    case "resolve":
    case "resolve-owner": {
      const named =
        body.kind === "resolve"
          ? [SELF, C, D].find((p) => contains(p.site, body.destination))
          : [SELF, C, D].find((p) => p.address === body.owner);
      if (named === undefined) return { kind: "refused", code: "not-found", reason: "no route" };
      return {
        kind: "resolved",
        owner: named.address,
        publicKey: named.key,
        prefixes: [named.site],
        generation: generationOf([named.site]),
        lifetime: 300,
        pages: 1,
      };
    }
    case "exchange":
      return { kind: "exchanged", ...exchangeOf(to, o.epochsOf(to)) };
    case "keepalive":
      return { kind: "kept", reflexive: endpointOf(SELF), age: 0, generation: GENERATION };
    case "ping":
      return { kind: "pong" };
    default:
      return { kind: "ack" };
  }
}

/** A body that the input chooses: of a known kind with current epochs, of a known kind as it is, or any bytes. */
function chosenBody(r: Reader, o: Others, p: Party): Uint8Array {
  const kind = bodies[r.below(bodies.length)];
  switch (r.below(4)) {
    case 0:
      return r.take(r.byte());
    case 1:
      return kind === undefined ? new Uint8Array(0) : encodeBody(kind);
    default: {
      if (kind === undefined) return new Uint8Array(0);
      if (kind.kind === "exchange") {
        const e = o.epochs.get(p) ?? { theirs: 0, own: 1 };
        o.epochs.set(p, { ...e, own: e.own + (r.flag() ? 1 : 0) });
        return encodeBody({ kind: "exchange", ...exchangeOf(p, o.epochsOf(p)) });
      }
      return encodeBody("epochs" in kind ? { ...kind, epochs: o.epochsOf(p) } : kind);
    }
  }
}

/** Lets the engine do what is due. It must not ask for the same moment without end. */
function settle(engine: Engine, now: number): void {
  for (let i = 0; ; i++) {
    const at = engine.pollTimeout();
    holds(`the deadline ${at} is not a time`, at === undefined || Number.isFinite(at));
    if (at === undefined || at > now) return;
    holds("a deadline stays due", i < 200);
    engine.handleTimeout(now);
  }
}

const worded = (reason: Reason | undefined): void => {
  if (reason !== undefined) holds("a reason without words", describeReason(reason) !== "");
};

/** Runs a program against an engine. */
abstract class Play {
  now = 0;
  protected readonly others: Others;
  protected abstract readonly engine: Engine;

  constructor(
    protected readonly self: Party,
    protected readonly r: Reader,
  ) {
    this.others = new Others(self, (from, payload) => {
      this.input({ kind: "datagram", dev: "wg0", from, payload });
    });
  }

  protected abstract output(o: Output): void;
  protected abstract check(): void;

  protected input(i: Input): void {
    this.engine.handleInput(this.now, i);
    this.drain();
  }

  protected drain(): void {
    let n = 0;
    for (let o = this.engine.pollOutput(); o !== undefined; o = this.engine.pollOutput()) {
      holds("outputs without end", ++n < 5_000);
      if (o.kind === "send") this.others.take(o.to, o.payload);
      else this.output(o);
    }
  }

  protected pass(ms: number): void {
    this.now += ms;
    settle(this.engine, this.now);
    this.drain();
  }

  /** Jumps to the next deadline. */
  protected skip(): void {
    const at = this.engine.pollTimeout();
    this.pass(at === undefined ? 1000 : Math.max(0, at - this.now));
  }

  /** Answers all that waits, as the others should. */
  protected follow(): void {
    for (const w of this.others.waiting.splice(0)) {
      if (w.envelope.cookie.length === 0) this.others.challenge(w, w.to);
      else this.others.answer(w, w.to, encodeBody(properReply(this.others, w)));
    }
  }

  /** Answers the oldest request with something. */
  protected answerBadly(): void {
    const w = this.others.waiting.shift();
    if (w === undefined) return;
    const by = this.r.flag() ? w.to : this.r.of(PARTIES);
    if (this.r.below(4) === 0) this.others.challenge(w, by);
    else this.others.answer(w, by, chosenBody(this.r, this.others, by));
  }

  protected ask(): void {
    const p = this.r.of(PARTIES);
    this.others.ask(p, chosenBody(this.r, this.others, p));
  }

  protected raw(): void {
    const from = { address: this.r.of(PARTIES).address, port: this.r.flag() ? PORT : 40_000 };
    const dev = this.r.flag() ? "wg0" : "wg1";
    this.input({ kind: "datagram", dev, from, payload: this.r.take(this.r.byte()) });
  }

  protected ping(): void {
    const p = this.r.of(PARTIES);
    const kinds: readonly [PingKind, ...PingKind[]] = ["open", "ping", "pong", "observe", "observed"];
    const payload = encodePing({
      kind: this.r.of(kinds),
      ready: this.r.flag(),
      transaction: id64FromBytes(new Uint8Array(8).fill(this.r.byte())),
      bootId: p.boot,
      epochs: this.others.epochsOf(p),
      observed: this.r.flag() ? endpointOf(SELF) : undefined,
    });
    if (this.r.flag()) {
      const secret = sharedBy(p.key)(this.self.key);
      payload.set(hmac(secret, pingMacInput(payload)).subarray(0, 16), payload.length - 16);
    }
    const to = { address: endpointOf(this.self).address, port: DIRECT_PORT };
    this.input({ kind: "ping", from: endpointOf(p), to, payload });
  }

  play(): void {
    this.begin();
    while (this.r.left > 0) {
      this.step(this.r.byte());
      settle(this.engine, this.now);
      this.drain();
      this.check();
    }
  }

  protected abstract begin(): void;
  protected abstract step(choice: number): void;
}

const overlayPeers = (self: Party, others: readonly Party[]): Input => ({
  kind: "overlay-peers",
  devices: [
    {
      dev: "wg0",
      key: self.key,
      peers: others.map((p) => ({
        publicKey: p.key,
        allowedIps: p === HUB ? [prefix("0.0.0.0/0")] : [hostPrefix(p.address), p.site],
        endpoint: endpointOf(p),
        rxBytes: 0,
      })),
    },
  ],
});

class SpokePlay extends Play {
  protected readonly engine = engineOf(SELF, {
    kind: "spoke",
    hubs: [HUB.address],
    trigger: { rate: 1e6, duration: 2000, hysteresis: 0.2, capacity: 64 },
    publicEndpoints: [],
    maxShortcuts: 2,
    port: DIRECT_PORT,
    denied: [],
    excludedDevices: new Set(["wg0", "shortcut0"]),
  });
  private readonly offers = new Map<Prefix, Address>();
  private readonly selected = new Set<Prefix>();
  private readonly aliases = new Map<Address, "overlay" | "direct">();
  private readonly peers = new Map<PublicKey, Address>();
  private readonly probing = new Map<Address, NonNullable<Extract<Output, { kind: "probing" }>["session"]>>();
  private bytes = 0;

  protected output(o: Output): void {
    switch (o.kind) {
      case "offer":
        this.offers.set(o.prefix, o.alias);
        return;
      case "withdraw":
        this.offers.delete(o.prefix);
        return;
      case "alias":
        if (o.to === "absent") this.aliases.delete(o.alias);
        else this.aliases.set(o.alias, o.to);
        return;
      case "peer":
        this.peer(o);
        return;
      case "unpeer":
        this.peers.delete(o.publicKey);
        return;
      case "probing":
        if (o.session === undefined) this.probing.delete(o.owner);
        else this.probing.set(o.owner, o.session);
        return;
      case "transition":
        worded(o.transition.reason);
        return;
      default:
    }
  }

  /** The invariants "attested" and "subordination", where a peer is asked for. */
  private peer({ owner, want }: Extract<Output, { kind: "peer" }>): void {
    const { publicKey: key } = want;
    holds("a peer with a key that is not pinned", PINS.get(owner)?.includes(key) !== false);
    const hub = owner === HUB.address && key === HUB.key;
    const attested = this.others.attestedFor(owner);
    holds(`a peer of ${owner} with a key that the hub has not named`, hub || attested.keys.has(key));
    const own = [hostPrefix(owner), hostPrefix(linkLocalOf(key))];
    const may = hub ? own : [...own, ...attested.prefixes];
    for (const a of want.allowedIps)
      holds(
        `AllowedIPs of ${owner} hold ${a}`,
        may.some((m) => contains(m, a)),
      );
    const chosen = [...this.selected].filter((p) => this.offers.has(p));
    const its = chosen.some((p) => [...attested.prefixes].some((m) => contains(m, p)));
    holds(`a peer of ${owner} without a selection`, hub || this.peers.has(key) || its);
    this.peers.set(key, owner);
  }

  protected begin(): void {
    this.input({ kind: "direct-usable", verdict: { ok: true } });
    this.input({ kind: "overlay", verdict: { ok: true } });
    this.input({ kind: "link-local", present: true });
    this.input(overlayPeers(SELF, [HUB]));
    this.input({
      kind: "addresses",
      addresses: [{ dev: "eth0", address: endpointOf(SELF).address, length: 24 }],
    });
    this.input({ kind: "hub-session", session: "up" });
    this.input({ kind: "offers-session", verdict: { ok: true } });
    this.pass(0);
  }

  private route(p: Prefix, wanted: boolean): void {
    const alias = this.offers.get(p);
    const selected = wanted && alias !== undefined;
    if (selected) this.selected.add(p);
    else this.selected.delete(p);
    const path = selected && this.aliases.get(alias) === "direct" ? "direct" : "overlay";
    const reason: Reason | undefined = selected
      ? undefined
      : { kind: "session-cannot-carry", text: "rejected" };
    const harmful = !wanted && this.r.below(8) === 0;
    this.input({
      kind: "route-state",
      state: { prefix: p, selected, reason, path, daemonPath: path, harmful },
    });
  }

  /** The daemon and the kernel do as they are asked. */
  private obey(): void {
    for (const p of [...this.offers.keys()]) this.route(p, true);
    for (const key of [...this.peers.keys()])
      this.input({ kind: "peer-applied", publicKey: key, error: undefined });
    this.peersRead();
  }

  /** Bytes of a counter that only grows. */
  private count(): number {
    this.bytes += 100_000;
    return this.bytes;
  }

  private peersRead(): void {
    const peers = [...this.peers.keys()].map((publicKey) => ({
      publicKey,
      endpoint: endpointOf(PARTIES.find((p) => p.key === publicKey) ?? C),
      lastHandshake: this.r.flag() ? 0 : 1_700_000_000_000,
      rxBytes: this.count(),
      txBytes: this.bytes,
    }));
    this.input({ kind: "peers", readAt: this.now, peers });
  }

  private probe(): void {
    const [entry] = this.probing;
    if (entry === undefined) return;
    const [owner, s] = entry;
    if (this.r.below(6) === 5) {
      const loss = this.r.of(["silent", "unheard", "narrow"] as const);
      this.input({ kind: "probe", owner, event: { kind: "lost", at: this.now, loss, silence: 300 } });
      return;
    }
    const bits = this.r.byte();
    const probe: Probe = {
      bootId: s.peerBootId,
      accepted: (bits & 16) === 0 ? GENERATION : id64FromBytes(new Uint8Array(8)),
      epochs: { mine: s.epochs.yours, yours: s.epochs.mine },
      hearYou: (bits & 1) === 0,
      busy: true,
      flipped: (bits & 2) !== 0,
      down: (bits & 4) !== 0 && (bits & 8) !== 0,
      ownsRoutes: (bits & 32) === 0,
      sequence: 1,
      sentAt: 1,
      echo: 0,
      held: 0,
      interval: 100_000,
      requires: 100_000,
      multiplier: 3,
      heardFull: 1,
      size: FULL_SIZE,
    };
    this.input({ kind: "probe", owner, event: { kind: "heard", at: this.now, probe } });
  }

  /** An owner says that its daemon has selected, and that its peer is there. */
  private cooperate(p: Party): void {
    const epochs = this.others.epochsOf(p);
    this.others.ask(p, encodeBody({ kind: "selected", epochs, selected: true, oneWay: false, reason: "" }));
    this.others.ask(p, encodeBody({ kind: "ready", epochs }));
  }

  /** All do what a shortcut needs, for a second. */
  private usualCourse(): void {
    this.pass(500);
    this.traffic(2_000_000);
    this.follow();
    this.follow();
    this.obey();
    this.cooperate(C);
    this.follow();
    this.obey();
    this.pass(500);
    this.probe();
    this.obey();
  }

  private traffic(rate: number): void {
    this.bytes += rate;
    const samples = [C, D].map((p) => ({ destination: p.site, bytes: this.bytes }));
    this.input({ kind: "traffic", samples });
  }

  private fact(): void {
    const ok = this.r.flag();
    const no: Reason = { kind: "direct-not-up" };
    const verdict = ok ? ({ ok: true } as const) : ({ ok: false, reason: no } as const);
    const p = this.r.of([C, D]);
    switch (this.r.below(17)) {
      case 0:
        this.input({ kind: "direct-usable", verdict });
        break;
      case 1:
        this.input({ kind: "overlay", verdict });
        break;
      case 2:
        this.input({ kind: "link-local", present: ok });
        break;
      case 3:
        this.input({ kind: "hub-session", session: this.r.of(["up", "down", "none"] as const) });
        break;
      case 4:
        this.input({ kind: "offers-session", verdict });
        break;
      case 5:
        this.input({ kind: "underneath-changed", prefixes: ok ? "all" : [p.site] });
        break;
      case 6:
        this.input({ kind: "offer-blocked", prefix: p.site, reason: no });
        break;
      case 7:
        this.input({ kind: "offer-unblocked", prefixes: [p.site] });
        break;
      case 8:
        this.input({ kind: "explained", prefix: p.site, reason: no });
        break;
      case 9:
        this.input({ kind: "direct-blocked", owner: p.address, reason: no });
        break;
      case 10:
        this.input({ kind: "purge", owner: ok ? "all" : p.address });
        break;
      case 11:
        this.input({ kind: "ways-changed" });
        break;
      case 12:
        this.input({ kind: "pings", verdict });
        break;
      case 13:
        this.input({
          kind: "exceeded",
          hop: address("192.0.2.99"),
          to: endpointOf(p),
          ttl: this.r.byte(),
        });
        break;
      case 15:
        // the key stays among those that are pinned
        this.input({ kind: "pins", pins: ok ? PINS : new Map([[C.address, [D.key, C.key]]]) });
        break;
      case 14:
        this.input(overlayPeers(ok ? SELF : D, this.r.flag() ? [HUB] : []));
        break;
      default:
        this.input({ kind: "peer-applied", publicKey: p.key, error: ok ? undefined : "EINVAL" });
        break;
    }
  }

  protected step(choice: number): void {
    switch (choice % 20) {
      case 0:
      case 1:
        this.skip();
        break;
      case 2:
        this.pass(this.r.word());
        break;
      case 3:
      case 4:
      case 5:
        this.follow();
        break;
      case 6:
        this.answerBadly();
        break;
      case 7:
      case 8:
        this.ask();
        break;
      case 9:
        this.raw();
        break;
      case 10:
        this.ping();
        break;
      case 11:
      case 12:
        this.obey();
        break;
      case 13:
        this.route(this.r.of([C, D]).site, this.r.flag());
        break;
      case 14:
      case 15:
        this.probe();
        break;
      case 16:
        this.traffic(this.r.word() * 100);
        break;
      case 17:
        this.fact();
        break;
      case 18:
        this.usualCourse();
        break;
      default:
        if (choice === 19) this.input({ kind: "stop" });
        else this.peersRead();
    }
  }

  protected check(): void {
    const { spoke } = this.engine;
    if (spoke === undefined) return;
    for (const s of spoke.shortcutStatus(this.now)) {
      worded(s.reason);
      for (const p of s.prefixes) worded(p.reason);
    }
    spoke.hubStatus();
    spoke.destinationStatus(this.now);
    spoke.natText();
    const active = spoke
      .shortcutStatus(this.now)
      .filter((s) => s.stage !== "backoff" && s.stage !== "refused");
    holds(`${active.length} shortcuts`, active.length <= 3);
  }
}

const spokeEngine: Target = {
  name: "engine-spoke",
  longest: 512,
  seeds: () => [
    // the usual course, then an exchange, selections, probes and the fall back
    Uint8Array.from(Array.from({ length: 12 }, () => [18, 0, 0, 0, 0, 0, 0]).flat()),
    Uint8Array.of(
      18,
      18,
      18,
      18,
      3,
      3,
      11,
      3,
      0,
      3,
      11,
      14,
      0,
      14,
      1,
      13,
      0,
      0,
      0,
      3,
      2,
      255,
      255,
      0,
      0,
      3,
      19,
    ),
    Uint8Array.of(3, 3, 3, 0, 3, 7, 1, 6, 2, 7, 1, 8, 2, 3, 3, 11, 7, 1, 9, 2, 0, 11, 14, 0, 14, 2),
    Uint8Array.of(3, 3, 10, 1, 1, 0, 5, 1, 1, 17, 1, 10, 17, 0, 0, 9, 1, 1, 20, 8, 1, 5, 2),
  ],
  run: (input) => new SpokePlay(SELF, new Reader(input)).play(),
};

const MAX_SPOKES = 2;

class HubPlay extends Play {
  protected readonly engine = engineOf(HUB, { kind: "hub", maxSpokes: MAX_SPOKES });
  private readonly peers = new Set<PublicKey>();
  private members: readonly Party[] = [SELF, C, D];

  protected output(o: Output): void {
    switch (o.kind) {
      case "peer":
        for (const a of o.want.allowedIps)
          holds(`AllowedIPs of a rendezvous peer hold ${a}`, a === hostPrefix(linkLocalOf(o.want.publicKey)));
        holds("a peer with the key of an impostor", o.want.publicKey !== IMPOSTOR.key);
        this.peers.add(o.want.publicKey);
        holds(`${this.peers.size} rendezvous peers`, this.peers.size <= MAX_SPOKES);
        return;
      case "unpeer":
        this.peers.delete(o.publicKey);
        return;
      case "attested":
        for (const p of o.prefixes) holds(`${p} is nobody's`, p !== prefix("0.0.0.0/0"));
        return;
      default:
    }
  }

  protected begin(): void {
    this.tellMembers();
    this.fib();
    this.pass(0);
  }

  private tellMembers(): void {
    this.input(overlayPeers(HUB, this.members));
  }

  private fib(): void {
    const entry = (): FibEntry => ({
      via: [[], ["wg0"], ["wg0"], ["wg0"], ["wg0", "wg1"]][this.r.below(5)] ?? [],
    });
    const routes = this.members.flatMap((p): [Prefix, FibEntry][] => [
      [hostPrefix(p.address), { via: ["wg0"] }],
      [p.site, entry()],
    ]);
    this.input({ kind: "fib", routes: [...routes, [prefix("0.0.0.0/0"), { via: [] }]] });
  }

  private register(): void {
    const p = this.r.of([SELF, C, D, IMPOSTOR]);
    const secrets = new OverlaySecrets({ overlayShared: (own, theirs) => sharedBy(own)(theirs), hmac });
    const statement = { spoke: p.address, hub: HUB.address, directKey: p.key, bootId: p.boot };
    const proof = registrationProof(secrets, { own: p.key, peer: HUB.key }, statement);
    if (proof === undefined) return;
    if (this.r.below(6) === 0) proof[0] = (proof[0] ?? 0) ^ 1;
    const body = encodeBody({ kind: "register", listenPort: DIRECT_PORT, handshakeAge: 0, proof });
    this.others.ask(p, body);
    if (this.r.flag()) this.input({ kind: "peer-applied", publicKey: p.key, error: undefined });
    this.others.ask(p, body);
  }

  protected step(choice: number): void {
    switch (choice % 12) {
      case 0:
        this.skip();
        break;
      case 1:
        this.pass(this.r.word());
        break;
      case 2:
      case 3:
        this.register();
        break;
      case 4:
      case 5:
        this.ask();
        break;
      case 6:
        this.follow();
        break;
      case 7:
        this.answerBadly();
        break;
      case 8:
        this.raw();
        break;
      case 9:
        this.ping();
        break;
      case 10:
        this.members = [SELF, C, D].filter(() => this.r.below(4) !== 0);
        this.tellMembers();
        this.fib();
        break;
      default:
        if (choice === 11) this.input({ kind: "stop" });
        else
          this.input({
            kind: "peers",
            readAt: this.now,
            peers: [...this.peers].map((publicKey) => ({
              publicKey,
              endpoint: endpointOf(C),
              lastHandshake: 1,
              rxBytes: 100,
              txBytes: 100,
            })),
          });
    }
  }

  protected check(): void {
    const { hub } = this.engine;
    if (hub === undefined) return;
    const registered = hub.status();
    holds(`${registered.length} registrations`, registered.length <= MAX_SPOKES);
    for (const s of registered) holds("an impostor is registered", s.publicKey !== IMPOSTOR.key);
    for (const p of PARTIES) hub.explain(p.site);
  }
}

const hubEngine: Target = {
  name: "engine-hub",
  longest: 512,
  seeds: () => [
    Uint8Array.of(0, 0, 0, 2, 1, 1, 1, 2, 0, 1, 1, 4, 1, 3, 2, 4, 1, 14, 2, 10, 0, 0, 0, 0, 0, 0, 6, 6, 0, 0),
    Uint8Array.of(0, 0, 0, 2, 1, 1, 1, 9, 1, 3, 5, 0, 1, 23, 1, 255, 255, 1, 255, 255, 4, 1, 4, 2, 11),
  ],
  run: (input) => new HubPlay(HUB, new Reader(input)).play(),
};

export const engineTargets: readonly Target[] = [spokeEngine, hubEngine];
