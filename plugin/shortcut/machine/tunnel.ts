/**
 * The tunnel of one attempt: the peer on the direct interface, its handshake, its probes and its
 * traffic. It is made when both daemons have selected. The responder configures it first, and it is
 * removed with the peer. It reports what it observes. The shortcut decides what follows (flip,
 * teardown).
 */

import { type Address, type Endpoint, hostPrefix, type Prefix } from "../../net/address.js";
import { type Seconds, wholeSeconds } from "../../net/units.js";
import type { Epochs, Id64 } from "../../wire/control/message.js";
import type { Identity } from "../control/link.js";
import type { Milestone, Output, PeerStatus } from "../events.js";
import type { Parameters } from "../parameters.js";
import { linkLocalOf } from "../probe/link-local.js";
import { Prober } from "../probe/path-proof.js";
import type { ProbeSession, StreamEvent } from "../probe/stream.js";
import type { Reason } from "../reasons.js";
import type { Peer, Role } from "./remote.js";

/** The services of the engine that a tunnel uses. */
export interface TunnelHost {
  readonly self: Identity;
  readonly parameters: Parameters;
  readonly overlayMtu: number;
  emit(output: Output): void;
}

/** The content of probes that may change while they are sent. */
export interface Said {
  readonly flipped: boolean;
  readonly down: boolean;
  readonly ownsRoutes: boolean;
  /** Whether the path carries no traffic. */
  readonly idle: boolean;
}

/** The two ends of the attempt, as agreed in the exchange. */
export interface TunnelEnds {
  readonly owner: Address;
  readonly peer: Peer;
  readonly epochs: Epochs;
  readonly role: Role;
  /** Whether probes go between link-local addresses; otherwise between overlay addresses. */
  readonly linkLocal: boolean;
  /**
   * The prefixes that the hub attests for the owner: the sources that are accepted from it, and the
   * generation that stands for them.
   */
  readonly prefixes: readonly Prefix[];
  readonly accepted: Id64;
}

/** Bytes that a peer is sent at most by handshakes and keepalives alone, while a path is being proven. */
const HANDSHAKES = 1_500;
/** Bytes of IPv6 and UDP headers. */
const PROBE_HEADERS = 48;

export class Tunnel {
  readonly prober: Prober;
  /** The endpoint in use: WireGuard follows the other end's packets. */
  endpoint: Endpoint | undefined;
  /** Bits per second in both directions, once read twice. */
  rate: number | undefined;
  /** The part of it that this end sends. */
  sentRate: number | undefined;
  /** The time at which the rate was last above the low threshold. */
  busyAt: number;
  private state: "none" | "wanted" | "applied" = "none";
  private handshakeSeen = false;
  /** Bytes that WireGuard has received and decrypted from the peer. */
  private received = 0;
  private transfer: { readonly at: number; readonly bytes: number; readonly sent: number } | undefined;
  private session: ProbeSession | undefined;

  constructor(
    private readonly host: TunnelHost,
    private readonly ends: TunnelEnds,
    /** Bits per second below which a shortcut is idle. */
    private readonly lowRate: number,
    now: number,
  ) {
    this.busyAt = now;
    this.prober = new Prober(this.fullSize);
  }

  private get fullSize(): number {
    return Math.min(this.host.overlayMtu, this.ends.peer.mtu) - PROBE_HEADERS;
  }

  /** Whether WireGuard has made a handshake, or a probe has arrived. */
  get heard(): boolean {
    return this.handshakeSeen || this.prober.heard;
  }

  private get keepalive(): Seconds {
    return wholeSeconds(this.host.parameters.peerKeepalive);
  }

  get role(): Role {
    return this.ends.role;
  }

  /** Whether the kernel may have the peer. */
  get configured(): boolean {
    return this.state !== "none";
  }

  /** Whether the kernel is known to have the peer. */
  get applied(): boolean {
    return this.state === "applied";
  }

  /**
   * Asks for the peer; once. The initiator's keepalive starts the handshake; crossed initiations
   * would cost five seconds.
   */
  configure(endpoint: Endpoint | undefined): void {
    if (this.configured) return;
    this.state = "wanted";
    this.endpoint = endpoint;
    this.want(this.endpoint, this.role === "initiator" ? this.keepalive : 0);
  }

  /** Starts the responder's keepalive when the path is proven: its endpoint is left unchanged. */
  keepAlive(): void {
    if (this.role === "responder") this.want(undefined, this.keepalive);
  }

  /**
   * Moves the tunnel to another endpoint without a loss. WireGuard sends to the new endpoint from
   * now on, and the other end follows with the first packet. That packet must not wait for traffic:
   * whatever the other end still sends from the old endpoint takes the endpoint back. A keepalive
   * that is switched on is sent at once (drivers/net/wireguard/netlink.c, set_peer).
   */
  move(endpoint: Endpoint): void {
    this.endpoint = endpoint;
    this.want(undefined, 0);
    this.want(endpoint, this.keepalive);
  }

  private want(endpoint: Endpoint | undefined, keepalive: number): void {
    const { owner, peer, prefixes } = this.ends;
    const own = [hostPrefix(owner), hostPrefix(linkLocalOf(peer.publicKey))];
    const allowedIps = [...own, ...prefixes.filter((p) => !own.includes(p))];
    const want = { publicKey: peer.publicKey, endpoint, allowedIps, keepalive };
    this.host.emit({ kind: "peer", owner, want });
  }

  /**
   * Notes that the kernel has the peer, or may have it after an error. Returns whether this was not
   * known before.
   */
  markApplied(): boolean {
    const news = this.state === "wanted";
    if (news) this.state = "applied";
    return news;
  }

  remove(): void {
    if (!this.configured) return;
    this.state = "none";
    this.probe(undefined);
    this.host.emit({ kind: "unpeer", owner: this.ends.owner, publicKey: this.ends.peer.publicKey });
    this.milestone("peer-removed", "");
  }

  /** Takes the kernel's state of the peer; `awaited` while its handshake is pending. */
  observe(now: number, s: PeerStatus, awaited: boolean): void {
    if (s.lastHandshake > 0 && !this.handshakeSeen && awaited) {
      this.handshakeSeen = true;
      const by = s.endpoint === undefined ? "" : `${s.endpoint.address} port ${s.endpoint.port}`;
      this.milestone("handshake", by);
    }
    if (s.endpoint !== undefined) this.endpoint = s.endpoint;
    this.received = s.rxBytes;
    const bytes = s.rxBytes + s.txBytes;
    const before = this.transfer;
    this.transfer = { at: now, bytes, sent: s.txBytes };
    if (before === undefined || now <= before.at || bytes < before.bytes) return;
    this.rate = ((bytes - before.bytes) * 8000) / (now - before.at);
    this.sentRate = (Math.max(0, s.txBytes - before.sent) * 8000) / (now - before.at);
    if (this.rate >= this.lowRate) this.busyAt = now;
  }

  /** Returns whether the path has carried no traffic for a while. */
  quiet(now: number): boolean {
    return now >= this.busyAt + this.host.parameters.quietAfter;
  }

  /** Whether it is probed slowly. */
  get idle(): boolean {
    return this.session?.idle ?? false;
  }

  /** Takes an event of the probes of this tunnel. */
  receive(event: StreamEvent): void {
    if (event.kind === "heard") this.prober.receive(event.at, event.probe);
    else this.prober.lose(event.at, event.loss, event.silence);
  }

  /** Starts the probes: the initiator speaks first, the responder answers. */
  startProbes(keeps: boolean): void {
    const { host, ends } = this;
    const { probeInterval, probeIdle, probeMultiplier } = host.parameters;
    this.probe({
      bootId: host.self.bootId,
      peerBootId: ends.peer.bootId,
      epochs: ends.epochs,
      accepted: ends.accepted,
      flipped: false,
      down: false,
      ownsRoutes: keeps,
      idle: false,
      answers: ends.role === "responder",
      interval: probeInterval,
      idleInterval: probeIdle,
      multiplier: probeMultiplier,
      fullSize: this.fullSize,
    });
  }

  /** Sets what probes say from now on. */
  announce(said: Said): void {
    const s = this.session;
    if (s === undefined) return;
    const { flipped, down, ownsRoutes: keeps, idle } = said;
    if (s.flipped !== flipped || s.down !== down || s.ownsRoutes !== keeps || s.idle !== idle)
      this.probe({ ...s, flipped, down, ownsRoutes: keeps, idle });
  }

  private probe(session: ProbeSession | undefined): void {
    if (session === undefined && this.session === undefined) return;
    this.session = session;
    this.host.emit({
      kind: "probing",
      owner: this.ends.owner,
      publicKey: this.ends.peer.publicKey,
      linkLocal: this.ends.linkLocal,
      session,
    });
  }

  /**
   * Returns why the path is not proven; `accepts` as for {@link Prober.verdict}.
   */
  unproven(accepts: (generation: Id64) => boolean): Reason {
    if (!this.handshakeSeen) return { kind: "no-handshake", endpoint: this.endpoint?.address };
    const reason = this.prober.unproven(accepts);
    // what WireGuard has received is more than handshakes: the probes are among it
    if (reason.kind === "no-probe" && this.received > HANDSHAKES)
      return { kind: "input-dropped", router: this.host.self.address };
    return reason;
  }

  private milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.ends.owner, milestone, detail });
  }
}
