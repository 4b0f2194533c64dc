/**
 * The tunnel of one attempt: the peer on the direct interface, its handshake, its probes and its traffic. Made when both daemons have
 * selected, configured by the responder first, and gone with the peer. It reports what it sees; what follows from that
 * (flip, way back) is the machine's to decide.
 */
import { type Address, type Endpoint, hostPrefix, type Prefix } from "../net/address.js";
import type { Epochs, Id64 } from "../wire/control/message.js";
import type { Probe } from "../wire/probe.js";
import type { Identity } from "./control.js";
import type { Milestone, Output, PeerStatus } from "./events.js";
import { linkLocalOf } from "./linklocal.js";
import type { Peer, Role } from "./otherend.js";
import type { Parameters } from "./parameters.js";
import { Prober } from "./prober.js";

/** What a tunnel needs of the engine. */
export interface TunnelHost {
  readonly self: Identity;
  readonly parameters: Parameters;
  readonly overlayMtu: number;
  /** Bits per second below which a shortcut is idle. */
  readonly lowRate: number;
  /** Whether this router has routes of its own to all prefixes that the hub attests for it. */
  routesOwn(now: number): boolean;
  random(): number;
  emit(output: Output): void;
}

/** The two ends of the attempt, as the exchange settled them. */
export interface TunnelEnds {
  readonly owner: Address;
  readonly peer: Peer;
  readonly epochs: Epochs;
  readonly role: Role;
  /** What the hub attests for the owner: the sources that are accepted from it, and the generation that says so. */
  readonly prefixes: readonly Prefix[];
  readonly accepted: Id64;
}

/** IPv6 and UDP headers. */
const PROBE_HEADERS = 48;

export class Tunnel {
  readonly prober: Prober;
  /** What is used now: WireGuard follows the other end's packets. */
  endpoint: Endpoint | undefined;
  /** Bits per second both ways, once read twice. */
  rate: number | undefined;
  /** When the rate was last above the low threshold. */
  busyAt: number;
  private state: "none" | "wanted" | "applied" = "none";
  private handshakeSeen = false;
  private transfer: { readonly at: number; readonly bytes: number } | undefined;

  constructor(
    private readonly host: TunnelHost,
    private readonly ends: TunnelEnds,
    now: number,
  ) {
    this.busyAt = now;
    this.prober = new Prober({
      bootId: host.self.bootId,
      epochs: ends.epochs,
      peerBootId: ends.peer.bootId,
      interval: host.parameters.probeInterval,
      multiplier: host.parameters.probeMultiplier,
      fullSize: Math.min(host.overlayMtu, ends.peer.mtu) - PROBE_HEADERS,
    });
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

  /** Wants the peer; once. The initiator's keepalive is what starts the handshake; crossed initiations would cost five seconds. */
  configure(): void {
    if (this.configured) return;
    this.state = "wanted";
    this.endpoint = this.ends.peer.candidates[0];
    this.want(this.endpoint, this.role === "initiator" ? this.host.parameters.peerKeepalive : 0);
  }

  /** The responder's keepalive begins when the path is proven: its endpoint is left as it is. */
  keepAlive(): void {
    if (this.role === "responder") this.want(undefined, this.host.parameters.peerKeepalive);
  }

  private want(endpoint: Endpoint | undefined, keepalive: number): void {
    const { owner, peer, prefixes } = this.ends;
    const own = [hostPrefix(owner), hostPrefix(linkLocalOf(peer.publicKey))];
    const allowedIps = [...own, ...prefixes.filter((p) => !own.includes(p))];
    const want = { publicKey: peer.publicKey, endpoint, allowedIps, keepalive };
    this.host.emit({ kind: "peer", owner, want });
  }

  /** The kernel has the peer, or may have it after an error. Returns whether that is news. */
  markApplied(): boolean {
    const news = this.state === "wanted";
    if (news) this.state = "applied";
    return news;
  }

  remove(): void {
    if (!this.configured) return;
    this.state = "none";
    this.host.emit({ kind: "unpeer", owner: this.ends.owner, publicKey: this.ends.peer.publicKey });
    this.milestone("peer-removed", "");
  }

  /** What the kernel says of the peer; `awaited` while its handshake is. */
  observe(now: number, s: PeerStatus, awaited: boolean): void {
    if (s.lastHandshake > 0 && !this.handshakeSeen && awaited) {
      this.handshakeSeen = true;
      const by = s.endpoint === undefined ? "" : `${s.endpoint.address} port ${s.endpoint.port}`;
      this.milestone("handshake", by);
    }
    if (s.endpoint !== undefined) this.endpoint = s.endpoint;
    const bytes = s.rxBytes + s.txBytes;
    const before = this.transfer;
    this.transfer = { at: now, bytes };
    if (before === undefined || now <= before.at || bytes < before.bytes) return;
    this.rate = ((bytes - before.bytes) * 8000) / (now - before.at);
    if (this.rate >= this.host.lowRate) this.busyAt = now;
  }

  /** A probe by this tunnel; false when it is of another boot or epoch. A responder sends its own after the first. */
  receive(now: number, probe: Probe, connecting: boolean): boolean {
    if (!this.prober.receive(now, probe)) return false;
    if (this.role === "responder" && connecting && this.applied) this.prober.start(now);
    return true;
  }

  /** Sends a probe: that the path is used (`flipped`), or that this end goes back (`down`). */
  probe(now: number, state: { readonly flipped: boolean; readonly down: boolean }): void {
    if (!this.applied) return;
    const { owner, peer, accepted } = this.ends;
    const probe = this.prober.next(now, this.host.random(), {
      accepted,
      keeps: this.host.routesOwn(now),
      ...state,
    });
    this.host.emit({ kind: "probe", owner, publicKey: peer.publicKey, probe });
  }

  /** In words, why the path is not proven. `mine` is the generation that the other end must accept. */
  describe(mine: Id64): string {
    return this.handshakeSeen
      ? this.prober.describe(mine)
      : `no WireGuard handshake with ${this.endpoint?.address ?? "an unknown endpoint"}`;
  }

  private milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.ends.owner, milestone, detail });
  }
}
