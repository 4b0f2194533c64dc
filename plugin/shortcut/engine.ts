/**
 * The engine of one router: the control link and the role, spoke or hub. Sans-I/O:
 * `handleInput(now, input)`, `pollOutput()`, `handleTimeout(now)`, `pollTimeout()`; time is
 * monotonic milliseconds. Thousands of engines run in one simulated network.
 */
import type { Address, Endpoint, Prefix } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import { id64FromBytes } from "../wire/control/codec.js";
import type { Id64, ReplyBody, RequestBody } from "../wire/control/message.js";
import type { Ping } from "../wire/ping.js";
import { ControlLink, type Correspondent, type Crypto, type Identity, type Outcome } from "./control/link.js";
import { OverlaySecrets, PairSecrets } from "./control/pair-secrets.js";
import { type Pins, type Preshared, Trust } from "./control/trust.js";
import { earliest } from "./deadlines.js";
import type { Input, Output, RoutingView } from "./events.js";
import { Hub } from "./hub/hub.js";
import { BootIds } from "./nat/boot-ids.js";
import { tunnelled } from "./nat/endpoint-check.js";
import { PingBudget } from "./nat/ping-budget.js";
import { Pings, type PingTarget } from "./nat/pings.js";
import { AliasPool } from "./offer/alias-pool.js";
import type { Parameters } from "./parameters.js";
import { Spoke, type SpokeConfig } from "./spoke/spoke.js";
import { TokenBuckets } from "./token-buckets.js";

export interface EngineConfig {
  readonly self: Identity;
  readonly role:
    | { readonly kind: "hub"; readonly maxSpokes: number }
    | ({ readonly kind: "spoke" } & Omit<SpokeConfig, "aliasPools">);
  readonly controlPort: number;
  /** UDP port of the direct interface. */
  readonly listenPort: number;
  /** A hub's second port for pings. */
  readonly observePort: number;
  readonly overlayMtu: number;
  readonly pins?: Pins;
  readonly aliasPools: { readonly 4: Prefix; readonly 6: Prefix | undefined };
  readonly parameters: Parameters;
}

/** The dependencies of an engine besides inputs: primitives, randomness, the daemon's routes. */
export interface Surroundings {
  readonly crypto: Crypto;
  readonly randomBytes: (n: number) => Uint8Array;
  readonly routing: RoutingView;
  /** The pre-shared keys of the pairs; none unless given. */
  readonly preshared?: (owner: Address) => Preshared;
}

/** Reports of datagrams that a hub does not believe: anybody in a site can send them. */
const DISBELIEVED = { perSecond: 0.1, burst: 5, most: 1 };

export class Engine {
  private readonly out: Output[] = [];
  private readonly trust: Trust;
  private readonly control: ControlLink;
  readonly pings: Pings;
  private readonly bootIds = new BootIds<Address>();
  readonly spoke: Spoke | undefined;
  readonly hub: Hub | undefined;
  private readonly overlaySecrets: OverlaySecrets;
  private readonly disbelieved = new TokenBuckets<"all">(DISBELIEVED);
  /** Whether the direct interface has its link-local address. */
  private linkLocal = false;
  private epoch = 0;
  private stopping = false;
  private stopped = false;

  constructor(
    readonly config: EngineConfig,
    surroundings: Surroundings,
    now: number,
  ) {
    const { self, parameters } = config;
    const { randomBytes } = surroundings;
    const { crypto } = surroundings;
    const keys = new PairSecrets(
      (theirs) => crypto.shared(theirs),
      (key, data) => crypto.hmac(key, data),
    );
    this.overlaySecrets = new OverlaySecrets(crypto);
    const emit = (o: Output): void => void this.out.push(o);
    const pings = new Pings(self.bootId, config.listenPort, keys, emit);
    this.pings = pings;
    this.control = new ControlLink(self, config.controlPort, keys, randomBytes, parameters, (t, from, body) =>
      this.answer(t, from, body),
    );
    const linkLocal = (): boolean => this.linkLocal;
    const preshared = surroundings.preshared ?? ((): Preshared => ({ kind: "none" }));
    const trust = new Trust(self, config.pins ?? new Map(), preshared);
    this.trust = trust;
    const host = {
      self,
      overlaySecrets: this.overlaySecrets,
      pingBudget: new PingBudget(),
      bootIds: this.bootIds,
      parameters,
      routing: surroundings.routing,
      aliases: new AliasPool(config.aliasPools),
      overlayMtu: config.overlayMtu,
      listenPort: () => config.listenPort,
      random: () => {
        const b = randomBytes(4);
        return (((b[0] ?? 0) << 16) | ((b[1] ?? 0) << 8) | (b[2] ?? 0)) / 0x1000000;
      },
      emit,
      trust,
      get pingsUsable() {
        return pings.usable;
      },
      get linkLocal() {
        return linkLocal();
      },
      // an answer through the overlay would show a path that is not direct
      sendPing: (theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget) => {
        if (tunnelled(surroundings.routing, target.to) === undefined) pings.send(theirs, ping, target);
      },
      randomId: () => id64FromBytes(randomBytes(8)),
      request: (t: number, to: Address, body: RequestBody, done: (t: number, o: Outcome) => void): Id64 =>
        this.control.request(t, to, body, done),
      cancel: (id: Id64) => this.control.cancel(id),
      nextEpoch: () => ++this.epoch,
    };
    if (config.role.kind === "hub") {
      this.hub = new Hub(
        Object.assign(host, { maxSpokes: config.role.maxSpokes, observePort: config.observePort }),
      );
      this.spoke = undefined;
    } else {
      const { 4: pool4, 6: pool6 } = config.aliasPools;
      const aliasPools = pool6 === undefined ? [pool4] : [pool4, pool6];
      this.spoke = new Spoke(host, { ...config.role, port: config.listenPort, aliasPools }, now);
      this.hub = undefined;
    }
  }

  private answer(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    if (this.spoke !== undefined) return this.spoke.handleRequest(now, from, body);
    if (this.hub !== undefined && this.stopping)
      return { kind: "refused", code: "busy", reason: "this hub is stopping" };
    if (this.hub !== undefined) return this.hub.handle(now, from, body);
    return { kind: "refused", code: "not-permitted", reason: "this router has no role" };
  }

  handleInput(now: number, input: Input): void {
    switch (input.kind) {
      case "datagram":
        if (this.hub?.believes(input.from.address, input.dev) === false) {
          this.disbelieve(now, input.from, input.dev);
          break;
        }
        this.control.handleDatagram(now, input.from, input.payload);
        break;
      case "ping":
        this.handlePing(now, input.from, input.to, input.payload);
        break;
      case "pings":
        this.pings.verdict = input.verdict;
        this.spoke?.handleInput(now, input);
        break;
      case "link-local":
        this.linkLocal = input.present;
        this.spoke?.handleInput(now, input);
        break;
      case "fib":
        this.hub?.updateFib(now, input.routes);
        break;
      case "overlay-peers": {
        this.overlaySecrets.keep(input.devices.flatMap((d) => d.key ?? []));
        this.hub?.updateOverlay(now, input.devices);
        this.spoke?.handleInput(now, input);
        break;
      }
      case "peers":
        this.hub?.updateDirect(input.readAt, input.peers);
        this.spoke?.handleInput(now, input);
        break;
      case "peer-applied":
        this.hub?.peerApplied(input.publicKey, input.error);
        this.spoke?.handleInput(now, input);
        break;
      case "pins":
        this.trust.pins = input.pins;
        this.spoke?.handleInput(now, input);
        break;
      case "stop":
        this.stopping = true;
        this.spoke?.handleInput(now, input);
        break;
      default:
        this.spoke?.handleInput(now, input);
    }
    this.drainOutputs();
  }

  /** Drops a datagram whose source the FIB does not route to the interface that it came in by; the first are reported. */
  private disbelieve(now: number, from: Endpoint, dev: string): void {
    if (!this.disbelieved.take(now, "all")) return;
    const place = `control datagram from ${from.address} port ${from.port}`;
    this.out.push({
      kind: "problem",
      place,
      problem: `it came in by ${dev}, by which this hub does not reach ${from.address}: dropped`,
    });
  }

  private handlePing(now: number, from: Endpoint, to: Endpoint, payload: Uint8Array): void {
    const received = this.pings.receive(now, payload, this.bootIds);
    if (received === undefined || this.stopping) return;
    const { ping, key } = received;
    this.spoke?.handlePing(now, from, to.address, ping, key);
    this.hub?.handlePing(now, from, to, ping, key);
  }

  private drainOutputs(): void {
    for (;;) {
      const datagram = this.control.pollOutput();
      if (datagram === undefined) break;
      this.out.push({ kind: "send", ...datagram });
    }
    for (const p of this.control.problems.splice(0))
      this.out.push({
        kind: "problem",
        place: `control datagram from ${p.from.address} port ${p.from.port}`,
        problem: p.problem,
      });
    if (this.stopping && !this.stopped && (this.spoke?.quiet ?? true)) {
      this.stopped = true;
      this.spoke?.stopLinks();
      this.hub?.stop();
      this.out.push({ kind: "stopped" });
    }
  }

  pollOutput(): Output | undefined {
    return this.out.shift();
  }

  pollTimeout(): number | undefined {
    const hub = this.stopping ? undefined : this.hub?.pollTimeout();
    return earliest(this.control.pollTimeout(), this.spoke?.pollTimeout(), hub);
  }

  handleTimeout(now: number): void {
    this.control.handleTimeout(now);
    this.spoke?.handleTimeout(now);
    if (!this.stopping) this.hub?.handleTimeout(now);
    this.drainOutputs();
  }
}
