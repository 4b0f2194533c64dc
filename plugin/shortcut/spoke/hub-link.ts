/**
 * A spoke's relation to one hub: registered and kept alive, or trying to be. The hub tells the port
 * of its direct interface and, once the rendezvous peer has carried data, the reflexive endpoint of
 * this spoke. Both end with the registration; the shortcuts do not.
 */

import { type Address, type Endpoint, formatEndpoint, hostPrefix, sameEndpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { PrefixMap } from "../../net/lpm.js";
import { wholeSeconds } from "../../net/units.js";
import type { Id64, RefusalCode, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Correspondent, Identity, Outcome } from "../control/link.js";
import type { OverlaySecrets } from "../control/pair-secrets.js";
import { type OverlayKeys, registrationProof } from "../control/registration-proof.js";
import type { Output, OverlayDevice, OverlayPeer, RoutingView } from "../events.js";
import type { BootIds } from "../nat/boot-ids.js";
import { outside, remoteFault } from "../nat/endpoint-check.js";
import type { Observation } from "../nat/mapping.js";
import { Observer, type ObserverHost } from "../nat/reflexive-observer.js";
import type { Parameters } from "../parameters.js";
import { linkLocalOf } from "../probe/link-local.js";
import { describeReason, type Reason, type Verdict, YES } from "../reasons.js";
import { graceOf } from "./hub-presence.js";

/** Milliseconds until it is looked again whether the overlay's peers are known. */
const OVERLAY_READ_PAUSE = 1_000;
/** Milliseconds until a key that the hub did not take as a proof is tried again: its routes may follow later. */
const PROOF_PAUSE = 30_000;

export interface HubLinkHost extends ObserverHost {
  readonly self: Identity;
  readonly overlaySecrets: OverlaySecrets;
  readonly parameters: Parameters;
  readonly listenPort: () => number;
  readonly routing: Pick<RoutingView, "wayTo" | "overlayTo">;
  readonly bootIds: BootIds<Address>;
  random(): number;
  emit(output: Output): void;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
}

export interface HubLinkEvents {
  /** Reports that the hub answered. */
  heard(now: number): void;
  /** Reports that the hub was restarted: it has lost its earlier answers, and may give others. */
  restarted(now: number, hub: Address): void;
  /** Reports that the hub told the generation of this router's own prefixes. */
  told(now: number): void;
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

/** A tunnel of the overlay that may lead to a hub. */
export interface OverlayTunnel {
  readonly own: PublicKey;
  readonly peer: OverlayPeer;
  /** Whether the FIB uses it; otherwise only AllowedIPs permit it. */
  readonly used: boolean;
}

/**
 * Returns the tunnels that lead to an overlay address, those first that the FIB uses: several under ECMP.
 * The others count where the far end uses another tunnel than this one, and while the FIB has no route.
 */
export function tunnelsTo(
  routing: Pick<RoutingView, "overlayTo">,
  devices: readonly OverlayDevice[],
  to: Address,
): OverlayTunnel[] {
  const via = routing.overlayTo(to);
  const out: OverlayTunnel[] = [];
  for (const { dev, key: own, peers } of devices) {
    const map = new PrefixMap<OverlayPeer>();
    for (const peer of peers) for (const a of peer.allowedIps) map.set(a, peer);
    const peer = map.longestMatch(hostPrefix(to))?.value;
    if (peer !== undefined && own !== undefined) out.push({ own, peer, used: via.includes(dev) });
  }
  return [...out.filter((t) => t.used), ...out.filter((t) => !t.used)];
}

const tunnelId = (own: PublicKey, peer: PublicKey): string => `${own} ${peer}`;

export class HubLink {
  registered: Correspondent | undefined;
  generation: Id64 | undefined;
  problem: Reason | undefined = { kind: "not-registered" };
  /** Whether the overlay interface can be used. */
  private overlay: Verdict = YES;
  private overlayRead = false;
  /** All overlay interfaces, as last read. */
  private devices: readonly OverlayDevice[] = [];
  /** The tunnels that may lead to the hub. */
  private tunnels: readonly OverlayTunnel[] = [];
  /** The tunnel by whose key the next registration is proven. */
  private proving: OverlayKeys | undefined;
  /** Own overlay keys that this registration is proven by. */
  private readonly proven = new Set<PublicKey>();
  /** Tunnels whose keys the hub did not take as a proof, and when each is tried again. */
  private readonly untaken = new Map<string, number>();
  /** The hub was silent, or was restarted: until then its answers may be incomplete. */
  private unsettledUntil = Number.NEGATIVE_INFINITY;
  private wasSilent = false;
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
    this.findPeer(now);
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
    this.proving = this.nextProof(now);
    const registers = this.registered === undefined || this.proving !== undefined;
    const body: RequestBody | undefined = registers ? this.registration() : { kind: "keepalive" };
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

  /** Returns whether the hub's answers may be incomplete: it has only just come back. */
  unsettled(now: number): boolean {
    return now < this.unsettledUntil;
  }

  /**
   * Returns the tunnel by whose key the registration is to be proven. The hub attests what it sends by
   * equal paths once it has a proof of each; a key that it did not take is not the one that it uses.
   */
  private nextProof(now: number): OverlayKeys | undefined {
    const open = this.tunnels.filter(
      ({ own, peer }) =>
        !this.proven.has(own) && now >= (this.untaken.get(tunnelId(own, peer.publicKey)) ?? now),
    );
    const next = this.registered === undefined ? open[0] : open.find((t) => t.used);
    return next && { own: next.own, peer: next.peer.publicKey };
  }

  /** The registration, proven by an overlay interface's key; undefined while that cannot be done. */
  private registration(): RequestBody | undefined {
    const { host, proving } = this;
    if (proving === undefined) return undefined;
    const { address: spoke, publicKey: directKey, bootId } = host.self;
    const proof = registrationProof(host.overlaySecrets, proving, {
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
        if (this.proving !== undefined) this.proven.add(this.proving.own);
        this.seenBoot(now, o.from.bootId);
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
        this.on.told(now);
        return;
      case "refused":
        if (this.registered !== undefined && o.body.code === "not-registered") {
          this.unregister();
          this.nextAt = now;
          return;
        }
        if (this.refusedProof(now, o.body.code)) return;
        this.lose(now, { kind: "hub-refuses", hub: this.address, text: o.body.reason });
        return;
      default:
        this.lose(now, { kind: "hub-answers", hub: this.address, message: o.body.kind });
    }
  }

  private seenBoot(now: number, bootId: Id64): void {
    const restarted = this.boot !== undefined && this.boot !== bootId;
    if (restarted || this.wasSilent) this.unsettledUntil = now + graceOf(this.host.parameters);
    this.wasSilent = false;
    this.boot = bootId;
    if (restarted) this.on.restarted(now, this.address);
  }

  /** Goes on with another key when the hub does not take one as a proof. Returns whether there is more to do. */
  private refusedProof(now: number, code: RefusalCode): boolean {
    const further = this.registered !== undefined;
    if (this.proving === undefined || (!further && code !== "not-permitted")) return false;
    this.untaken.set(tunnelId(this.proving.own, this.proving.peer), now + PROOF_PAUSE);
    if (!further && this.nextProof(now) === undefined) return false;
    this.nextAt = now;
    return true;
  }

  private unregister(): void {
    this.registered = undefined;
    this.proven.clear();
    this.untaken.clear();
  }

  private lose(now: number, reason: Reason): void {
    const problem = describeReason(reason);
    // that of the overlay is said once, for all hubs
    if (this.overlay.ok && describeReason(this.problem) !== problem)
      this.host.emit({ kind: "problem", place: `hub ${this.address}`, problem });
    if (this.registered !== undefined) {
      this.since = now;
      this.wasSilent = reason.kind === "hub-silent";
    }
    this.unregister();
    this.problem = reason;
    this.failures++;
    this.nextAt =
      now + Math.min(30_000, 1_000 * 2 ** Math.min(5, this.failures)) * (0.75 + 0.5 * this.host.random());
  }

  /**
   * Takes the underlay endpoint of the hub's overlay peer: its direct interface listens at the same
   * address.
   */
  overlayPeers(now: number, devices: readonly OverlayDevice[]): void {
    this.devices = devices;
    this.overlayRead = true;
    this.findPeer(now);
  }

  /** Finds the overlay peers behind which the hub is, through the interfaces that the FIB uses for it. */
  private findPeer(now: number): void {
    const before = this.tunnels;
    this.tunnels = tunnelsTo(this.host.routing, this.devices, this.address);
    const keys = (list: readonly OverlayTunnel[]) =>
      list.map((t) => `${t.own} ${t.peer.publicKey} ${t.used}`).join();
    const changed = keys(before) !== keys(this.tunnels);
    if (changed) this.untaken.clear();
    if (changed && this.tunnels.length > 0) this.retrySoon(now);
    if (this.registered !== undefined && this.nextProof(now) !== undefined) this.nextAt = now;
    const [first, second] = this.tunnels;
    const endpoint = first?.used === true || second === undefined ? first?.peer.endpoint : undefined;
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
