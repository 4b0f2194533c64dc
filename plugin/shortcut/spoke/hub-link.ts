/**
 * A spoke's relation to one hub: registered and kept alive, or trying to be. The hub tells the port
 * of its direct interface and, once the rendezvous peer has carried data, the reflexive endpoint of
 * this spoke. Both end with the registration; the shortcuts do not.
 */

import {
  type Address,
  type Endpoint,
  formatEndpoint,
  hostPrefix,
  type Prefix,
  sameEndpoint,
} from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { PrefixMap } from "../../net/lpm.js";
import { wholeSeconds } from "../../net/units.js";
import type { Id64, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Correspondent, Identity, Outcome } from "../control/link.js";
import type { PairSecrets } from "../control/pair-secrets.js";
import { registrationProof } from "../control/registration-proof.js";
import type { Output, RoutingView } from "../events.js";
import type { BootIds } from "../nat/boot-ids.js";
import { outside, remoteFault } from "../nat/endpoint-check.js";
import type { Observation } from "../nat/mapping.js";
import { Observer, type ObserverHost } from "../nat/reflexive-observer.js";
import type { Parameters } from "../parameters.js";
import { linkLocalOf } from "../probe/link-local.js";
import { describeReason, type Reason, type Verdict, YES } from "../reasons.js";

/** Milliseconds until it is looked again whether the overlay's peers are known. */
const OVERLAY_READ_PAUSE = 1_000;

export interface HubLinkHost extends ObserverHost {
  readonly self: Identity;
  /** Under the private key of the overlay interface. */
  readonly overlaySecrets: PairSecrets;
  readonly parameters: Parameters;
  readonly listenPort: () => number;
  readonly routing: Pick<RoutingView, "wayTo">;
  readonly bootIds: BootIds<Address>;
  random(): number;
  emit(output: Output): void;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
}

export interface HubLinkEvents {
  /** Reports that the hub answered. */
  heard(now: number): void;
  /** Reports that the hub was restarted: it has lost its earlier answers, and may give others. */
  restarted(now: number): void;
}

export interface HubStatus {
  readonly address: Address;
  readonly registered: boolean;
  readonly since: number;
  readonly reflexive: Endpoint | undefined;
  /** The reason why the spoke is not registered, or cannot learn its endpoint from this hub. */
  readonly problem: Reason | undefined;
  /** Ports of the hub in the underlay that do not answer, although the spoke is registered. */
  readonly obstacles: readonly Reason[];
}

/** A hub's direct interface, as this router pings it. */
export interface HubEndpoint {
  readonly publicKey: PublicKey;
  readonly endpoint: Endpoint;
}

export class HubLink {
  registered: Correspondent | undefined;
  generation: Id64 | undefined;
  problem: Reason | undefined = { kind: "not-registered" };
  /** Whether the overlay interface can be used. */
  private overlay: Verdict = YES;
  private overlayRead = false;
  /** Key of the overlay peer behind which the hub is. */
  private overlayKey: PublicKey | undefined;
  private since: number;
  private nextAt: number;
  private failures = 0;
  private hubPort = 0;
  private underlay: Address | undefined;
  private peer: { readonly key: PublicKey; readonly endpoint: Endpoint } | undefined;
  /** The reason why the hub's direct interface cannot be where its overlay peer is. */
  private refusal: Reason | undefined;
  private waiting = false;
  private boot: Id64 | undefined;
  /** The reflexive endpoint that the hub reads from its WireGuard: late, but without pings. */
  private rendezvous: Endpoint | undefined;
  private observePort = 0;
  private readonly observer: Observer;
  /** Whether the hub was reached through the overlay when routes changed last. */
  private wasInside = false;

  constructor(
    private readonly host: HubLinkHost,
    readonly address: Address,
    now: number,
    private readonly on: HubLinkEvents,
  ) {
    this.since = now;
    this.nextAt = now;
    this.observer = new Observer(host, host.parameters.peerKeepalive);
  }

  /** The endpoint at which the hub sees this router's direct interface. */
  get reflexive(): Endpoint | undefined {
    if (this.inside !== undefined) return undefined;
    return this.observer.reflexive ?? this.rendezvous;
  }

  /**
   * The reason why the hub cannot tell the endpoint: the direct interface's packets to it go through
   * the overlay, so that the hub sees an inside address.
   */
  private get inside(): Reason | undefined {
    const to = this.peer?.endpoint;
    if (to === undefined) return undefined;
    const verdict = outside(this.host.self.address, this.host.routing, to);
    return verdict.ok ? undefined : verdict.reason;
  }

  /** The hub's direct interface; undefined before the rendezvous peer is configured. */
  get met(): HubEndpoint | undefined {
    return this.peer && { publicKey: this.peer.key, endpoint: this.peer.endpoint };
  }

  observations(): Observation[] {
    return this.observer.observations();
  }

  /**
   * Asks now from where the hub sees this router: there is reason to believe that it has changed.
   */
  observe(now: number): void {
    this.observer.ask(now);
  }

  /** Asks from where the hub sees this router, unless the hub answered within the last second. */
  observeAgain(now: number): void {
    this.observer.refresh(now);
  }

  /** Follows a change of routes or policy rules: asks again when the hub can see the endpoint now. */
  waysChanged(now: number): void {
    const before = this.wasInside;
    this.wasInside = this.inside !== undefined;
    if (before && !this.wasInside) this.observer.ask(now);
  }

  /** Takes an authentic answer. Returns whether anything has changed. */
  observed(now: number, from: Endpoint, ping: Ping): boolean {
    return this.observer.receive(now, from, ping);
  }

  pollTimeout(): number | undefined {
    const next = this.waiting ? undefined : this.nextAt;
    const observe = this.observer.pollTimeout();
    return next === undefined || observe === undefined ? (next ?? observe) : Math.min(next, observe);
  }

  handleTimeout(now: number): void {
    this.observer.handleTimeout(now);
    if (this.waiting || now < this.nextAt) return;
    if (!this.overlay.ok) {
      this.lose(now, this.overlay.reason);
      return;
    }
    const body: RequestBody | undefined =
      this.registered === undefined ? this.registration() : { kind: "keepalive" };
    if (body === undefined) {
      // before the overlay's peers were read once, nothing is wrong
      if (this.overlayRead) this.lose(now, { kind: "overlay-key-unknown" });
      else this.nextAt = now + OVERLAY_READ_PAUSE;
      return;
    }
    this.waiting = true;
    this.host.request(now, this.address, body, (t, o) => this.answered(t, o));
  }

  /** Asks for a sign of life, whatever other request is pending. */
  ask(now: number): void {
    this.host.request(now, this.address, { kind: "keepalive" }, (t, o) => {
      if (o.kind === "reply") this.on.heard(t);
    });
  }

  /** Asks the hub soon: it may be back. */
  retrySoon(now: number): void {
    this.failures = 0;
    if (this.registered === undefined) this.nextAt = Math.min(this.nextAt, now);
  }

  /** The overlay interface went, or came: then the hub is asked at once, since it may have forgotten this router. */
  overlayChanged(now: number, verdict: Verdict): void {
    this.overlay = verdict;
    if (!verdict.ok) return;
    this.failures = 0;
    this.nextAt = Math.min(this.nextAt, now);
  }

  /** The registration, proven by the overlay interface's key; undefined while that cannot be done. */
  private registration(): RequestBody | undefined {
    const { host, overlayKey } = this;
    if (overlayKey === undefined) return undefined;
    const { address: spoke, publicKey: directKey, bootId } = host.self;
    const proof = registrationProof(host.overlaySecrets, overlayKey, {
      spoke,
      hub: this.address,
      directKey,
      bootId,
    });
    return proof && { kind: "register", listenPort: host.listenPort(), handshakeAge: 0, proof };
  }

  private answered(now: number, o: Outcome): void {
    this.waiting = false;
    const p = this.host.parameters;
    if (o.kind === "timeout") {
      this.lose(now, this.overlay.ok ? { kind: "hub-silent", hub: this.address } : this.overlay.reason);
      return;
    }
    this.on.heard(now);
    switch (o.body.kind) {
      case "registered":
        if (this.registered === undefined) {
          this.since = now;
          this.observer.refresh(now);
        }
        this.registered = o.from;
        if (this.boot !== undefined && this.boot !== o.from.bootId) this.on.restarted(now);
        this.boot = o.from.bootId;
        this.host.bootIds.claim(this.address, o.from.bootId, o.from.publicKey);
        this.problem = undefined;
        this.failures = 0;
        this.hubPort = o.body.listenPort;
        this.observePort = o.body.observePort;
        this.meet(now);
        this.nextAt = now; // the first keepalive brings the generation
        return;
      case "kept":
        // a rendezvous that has not been heard yet is asked for again soon
        this.nextAt =
          now +
          (this.reflexive === undefined && o.body.reflexive === undefined
            ? 1_000
            : p.hubKeepalive * (0.75 + 0.25 * this.host.random()));
        if (o.body.reflexive !== undefined && remoteFault(o.body.reflexive) === undefined)
          this.rendezvous = o.body.reflexive;
        this.generation = o.body.generation;
        return;
      case "refused":
        if (this.registered !== undefined && o.body.code === "not-registered") {
          this.registered = undefined;
          this.nextAt = now;
          return;
        }
        this.lose(now, { kind: "hub-refuses", hub: this.address, text: o.body.reason });
        return;
      default:
        this.lose(now, { kind: "hub-answers", hub: this.address, message: o.body.kind });
    }
  }

  private lose(now: number, reason: Reason): void {
    const problem = describeReason(reason);
    // that of the overlay is said once, for all hubs
    if (this.overlay.ok && describeReason(this.problem) !== problem)
      this.host.emit({ kind: "problem", place: `hub ${this.address}`, problem });
    if (this.registered !== undefined) this.since = now;
    this.registered = undefined;
    this.problem = reason;
    this.failures++;
    this.nextAt =
      now + Math.min(30_000, 1_000 * 2 ** Math.min(5, this.failures)) * (0.75 + 0.5 * this.host.random());
  }

  /**
   * Takes the underlay endpoint of the hub's overlay peer: its direct interface listens at the same
   * address.
   */
  overlayPeers(
    now: number,
    peers: readonly {
      readonly publicKey: PublicKey;
      readonly allowedIps: readonly Prefix[];
      readonly endpoint: Endpoint | undefined;
    }[],
  ): void {
    const map = new PrefixMap<(typeof peers)[number]>();
    for (const peer of peers) for (const a of peer.allowedIps) map.set(a, peer);
    const behind = map.longestMatch(hostPrefix(this.address))?.value;
    const before = this.overlayKey;
    this.overlayRead = true;
    this.overlayKey = behind?.publicKey;
    if (before === undefined && behind !== undefined) this.retrySoon(now);
    const endpoint = behind?.endpoint;
    if (endpoint === undefined || endpoint.address === this.underlay) return;
    this.underlay = endpoint.address;
    this.meet(now);
  }

  /**
   * Configures the rendezvous peer: its keepalive opens and holds the NAT mapping of the direct
   * interface.
   */
  private meet(now: number): void {
    if (this.registered === undefined || this.underlay === undefined || this.hubPort === 0) return;
    const endpoint = { address: this.underlay, port: this.hubPort };
    const fault = remoteFault(endpoint);
    this.refusal = fault && { kind: "endpoint-refused", endpoint: formatEndpoint(endpoint), fault };
    if (fault !== undefined) return;
    const key = this.registered.publicKey;
    const ports = this.observePort === 0 ? [] : [this.hubPort, this.observePort];
    this.observer.watch(now, key, this.underlay, ports);
    if (this.peer !== undefined && this.peer.key === key && sameEndpoint(this.peer.endpoint, endpoint))
      return;
    if (this.peer !== undefined && this.peer.key !== key)
      this.host.emit({ kind: "unpeer", owner: this.address, publicKey: this.peer.key });
    this.peer = { key, endpoint };
    this.host.emit({
      kind: "peer",
      owner: this.address,
      want: {
        publicKey: key,
        endpoint,
        allowedIps: [hostPrefix(linkLocalOf(key))],
        keepalive: wholeSeconds(this.host.parameters.peerKeepalive),
      },
    });
  }

  stop(): void {
    if (this.peer !== undefined)
      this.host.emit({ kind: "unpeer", owner: this.address, publicKey: this.peer.key });
    this.observer.forget();
    this.peer = undefined;
    this.registered = undefined;
    this.nextAt = Number.POSITIVE_INFINITY;
  }

  status(): HubStatus {
    return {
      address: this.address,
      registered: this.registered !== undefined && this.overlay.ok,
      since: this.since,
      reflexive: this.reflexive,
      problem: this.overlay.ok ? (this.problem ?? this.refusal ?? this.inside) : this.overlay.reason,
      obstacles: this.registered === undefined ? [] : this.obstacles(),
    };
  }

  private obstacles(): Reason[] {
    const { address: hub, hubPort } = this;
    return this.observer.silentPorts.map((port) => ({
      kind: "hub-port-silent",
      hub,
      port,
      use: port === hubPort ? "direct" : "observe",
    }));
  }
}
