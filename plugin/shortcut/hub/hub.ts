/**
 * The hub's part: it registers spokes (NHRP's registration, RFC 2332 §5.2.3) and resolves
 * destinations from its own FIB and AllowedIPs (attestation.ts). It tells every spoke the endpoint
 * from which the spoke's direct interface reaches the hub's. It keeps a rendezvous peer without
 * AllowedIPs for each registered spoke, and purges its earlier answers when its own routing
 * changes.
 */

import {
  type Address,
  compareAddresses,
  type Endpoint,
  familyOf,
  hostPrefix,
  type Prefix,
} from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { wholeSeconds } from "../../net/units.js";
import {
  type Id64,
  MAX_PREFIXES,
  type RefusalCode,
  type ReplyBody,
  type RequestBody,
} from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Correspondent, Identity, Outcome } from "../control/link.js";
import type { OverlaySecrets } from "../control/pair-secrets.js";
import { proves } from "../control/registration-proof.js";
import type { FibEntry, Output, OverlayDevice, PeerStatus, RoutingView } from "../events.js";
import type { BootIds } from "../nat/boot-ids.js";
import { remoteFault } from "../nat/endpoint-check.js";
import type { PingBudget } from "../nat/ping-budget.js";
import type { PingTarget } from "../nat/pings.js";
import type { Parameters } from "../parameters.js";
import { linkLocalOf } from "../probe/link-local.js";
import { TokenBuckets } from "../token-buckets.js";
import { type AllowedIp, Attestation, type HubPeer } from "./attestation.js";

export interface HubHost {
  readonly self: Identity;
  readonly overlaySecrets: OverlaySecrets;
  readonly routing: Pick<RoutingView, "overlayTo">;
  readonly parameters: Parameters;
  readonly listenPort: () => number;
  /** The port that answers pings, beside the port of the direct interface. */
  readonly observePort: number;
  readonly pingsUsable: boolean;
  sendPing(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
  readonly maxSpokes: number;
  readonly pingBudget: PingBudget;
  /** The boot IDs of the spokes, by overlay address. */
  readonly bootIds: BootIds<Address>;
  emit(output: Output): void;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
}

/** An answer about an owner: its prefixes were those of these peers. */
interface Answered {
  readonly generation: Id64;
  readonly peers: readonly HubPeer[];
  readonly at: number;
}

interface Registration {
  readonly address: Address;
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
  /** The keys of overlay peers that have proven it: several where the spoke has several interfaces to this hub. */
  readonly proven: ReadonlySet<PublicKey>;
  /** The peers to which the hub sends packets for the address, as far as their keys have proven it. */
  peers: readonly HubPeer[];
  seen: number;
  /**
   * Whether the rendezvous peer exists: an earlier initiation would be dropped, and repeated only
   * after five seconds.
   */
  applied: boolean;
  /** The owners that this spoke resolved: it is told when their prefixes change. */
  readonly resolved: Map<Address, Answered>;
}

export interface RegistrationStatus {
  readonly address: Address;
  readonly publicKey: PublicKey;
  readonly since: number;
  readonly endpoint: Endpoint | undefined;
  readonly prefixes: readonly Prefix[];
}

/** Facts that a hub has about a destination, for `explain`. */
export type HubKnowledge =
  | { readonly kind: "none" | "ambiguous"; readonly text: string }
  | {
      readonly kind: "owner";
      readonly owner: Address;
      readonly prefixes: readonly Prefix[];
      /** When the owner was last heard, and where its direct interface is reached from here. */
      readonly heardAt: number;
      readonly endpoint: Endpoint | undefined;
      /** The spokes that have asked who owns it, and still hold the answer: those may have a shortcut. */
      readonly resolvedBy: readonly { readonly spoke: Address; readonly at: number }[];
    };

/**
 * Resolutions of one spoke. One that restarts asks for all its owners at once; what is over the limit is
 * not answered, and asked again.
 */
const RESOLUTIONS = { perSecond: 50, burst: 400, most: 16_384 };
/** Registrations of one overlay peer with another key, address or boot: each changes a peer in the kernel, and may purge. */
const CHANGES = { perSecond: 0.2, burst: 10, most: 16_384 };
/** Peers among which the hub divides packets to one spoke, and whose proof is tried: each costs an X25519 once. */
const MOST_TRIED = 16;
/** Milliseconds after which an answer that a spoke may no longer use is forgotten, beyond its lifetime. */
const FORGOTTEN_AFTER = 60_000;

const refused = (code: RefusalCode, reason: string): ReplyBody => ({ kind: "refused", code, reason });

export class Hub {
  private readonly spokes = new Map<Address, Registration>();
  private readonly byKey = new Map<PublicKey, Registration>();
  /** One owner for each peer of the overlay: by {@link HubPeer.id}. */
  private byPeer = new Map<string, Registration>();
  private readonly resolutions = new TokenBuckets<Address>(RESOLUTIONS);
  private readonly changes = new TokenBuckets<PublicKey>(CHANGES);
  /** No registration ends before this; one that was heard since may end later. */
  private firstEnd = Number.POSITIVE_INFINITY;
  private attestation = new Attestation({ fib: [], allowedIps: [] });
  private fib: readonly (readonly [Prefix, FibEntry])[] = [];
  private allowedIps: readonly AllowedIp[] = [];
  /** The own keys of the overlay interfaces. */
  private ownKeys: ReadonlyMap<string, PublicKey> = new Map();
  private direct = new Map<PublicKey, PeerStatus>();
  private directReadAt = 0;
  private ready = false;

  constructor(private readonly host: HubHost) {}

  /**
   * Returns whether a datagram is of the router that has its source address: the FIB sends packets for
   * the source back to the interface by which the datagram came. WireGuard itself compares the peer.
   */
  believes(from: Address, dev: string): boolean {
    return this.host.routing.overlayTo(from).includes(dev);
  }

  updateFib(now: number, routes: readonly (readonly [Prefix, FibEntry])[]): void {
    this.fib = routes;
    this.rebuild(now);
  }

  updateOverlay(now: number, devices: readonly OverlayDevice[]): void {
    this.ownKeys = new Map(devices.flatMap(({ dev, key }) => (key === undefined ? [] : [[dev, key]])));
    const allowedIps = devices.flatMap(({ dev, peers }) =>
      peers.flatMap(({ publicKey: peer, allowedIps: ips }) => ips.map((prefix) => ({ dev, prefix, peer }))),
    );
    const text = (l: readonly AllowedIp[]) => l.map((a) => `${a.dev} ${a.prefix} ${a.peer}`).join();
    if (text(allowedIps) === text(this.allowedIps)) return;
    this.allowedIps = allowedIps;
    this.rebuild(now);
  }

  updateDirect(readAt: number, peers: readonly PeerStatus[]): void {
    this.direct = new Map(peers.map((p) => [p.publicKey, p]));
    this.directReadAt = readAt;
  }

  private rebuild(now: number): void {
    this.attestation = new Attestation({ fib: this.fib, allowedIps: this.allowedIps });
    this.ready = this.fib.length > 0 && this.allowedIps.length > 0;
    // an address that has gone to another peer was proven by the former one
    for (const s of [...this.spokes.values()]) {
      const peers = this.provenPeers(s.address, s.proven);
      if (peers.length > 0) s.peers = peers;
      else if (this.attestation.peersOf(s.address).length > 0) this.revoke(now, s);
    }
    this.assign();
    this.purgeChanged(now);
  }

  /** Returns the peers to which the hub sends packets for an address and whose keys have proven it. */
  private provenPeers(address: Address, proven: ReadonlySet<PublicKey>): readonly HubPeer[] {
    return this.attestation.peersOf(address).filter((p) => proven.has(p.key));
  }

  /** Gives each peer to its owner; where two have it, it stays with the one that had it. */
  private assign(): void {
    const before = this.byPeer;
    this.byPeer = new Map();
    for (const s of this.spokes.values())
      for (const { id } of s.peers) if (!this.byPeer.has(id) || before.get(id) === s) this.byPeer.set(id, s);
  }

  private peersOf(owner: Address): readonly HubPeer[] {
    const s = this.spokes.get(owner);
    return s === undefined ? [] : s.peers.filter((p) => this.byPeer.get(p.id) === s);
  }

  private prefixesOf(owner: Address): readonly Prefix[] {
    return this.attestation.prefixesOf(owner, this.peersOf(owner));
  }

  private generationOf(owner: Address): Id64 {
    return this.attestation.generationOf(owner, this.peersOf(owner));
  }

  /** Purges the answers that are no longer right; an owner that is silent has not moved. */
  private purgeChanged(now: number): void {
    for (const spoke of this.spokes.values()) {
      for (const [owner, { generation, peers }] of [...spoke.resolved]) {
        const its = this.spokes.has(owner) ? this.peersOf(owner) : peers;
        if (this.attestation.generationOf(owner, its) === generation) continue;
        spoke.resolved.delete(owner);
        this.purge(now, spoke, owner);
      }
    }
  }

  /** Tells every spoke that resolved the owner that the resolution is no longer valid. */
  private purgeAll(now: number, owner: Address): void {
    for (const spoke of this.spokes.values()) if (spoke.resolved.delete(owner)) this.purge(now, spoke, owner);
  }

  /**
   * Sends a purge until the spoke has acknowledged it, has asked again, or is gone. Otherwise the
   * spoke would use an outdated resolution.
   */
  private purge(now: number, spoke: Registration, owner: Address): void {
    this.host.request(now, spoke.address, { kind: "purge", owner }, (t, o) => {
      const still = this.spokes.get(spoke.address) === spoke && !spoke.resolved.has(owner);
      if (o.kind === "timeout" && still) this.purge(t, spoke, owner);
    });
  }

  handle(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    if (body.kind === "register") return this.register(now, from, body.proof);
    const spoke = this.spokes.get(from.address);
    if (spoke === undefined || spoke.publicKey !== from.publicKey || spoke.bootId !== from.bootId)
      return {
        kind: "refused",
        code: "not-registered",
        reason: `${from.address} is not registered with this key`,
      };
    spoke.seen = now;
    switch (body.kind) {
      case "keepalive": {
        const peer = this.direct.get(spoke.publicKey);
        const heard = peer !== undefined && peer.lastHandshake > 0 && peer.rxBytes > 0;
        return {
          kind: "kept",
          reflexive: heard ? peer.endpoint : undefined,
          age: Math.max(0, Math.round((now - this.directReadAt) / 1000)),
          generation: this.generationOf(from.address),
        };
      }
      case "resolve": {
        if (!this.resolutions.take(now, from.address)) return undefined;
        if (!this.ready) return { kind: "refused", code: "busy", reason: "the hub has not read its FIB yet" };
        const a = this.attestation.resolve(body.destination, (peer) => this.registeredAt(peer));
        switch (a.kind) {
          case "none":
            return { kind: "refused", code: "not-found", reason: a.reason };
          case "ambiguous":
            return { kind: "refused", code: "ambiguous", reason: a.reason };
          case "owner":
            return this.resolved(now, spoke, a.owner, body.page);
        }
        break;
      }
      case "resolve-owner":
        if (!this.resolutions.take(now, from.address)) return undefined;
        if (!this.spokes.has(body.owner))
          return { kind: "refused", code: "not-found", reason: `${body.owner} is not registered at the hub` };
        return this.resolved(now, spoke, body.owner, body.page);
      default:
    }
    return { kind: "refused", code: "not-permitted", reason: `a hub does not answer ${body.kind}` };
  }

  private resolved(now: number, spoke: Registration, owner: Address, page: number): ReplyBody {
    const publicKey = this.spokes.get(owner)?.publicKey;
    if (publicKey === undefined) return refused("not-found", `${owner} is not registered at the hub`);
    const prefixes = this.prefixesOf(owner);
    const generation = this.generationOf(owner);
    spoke.resolved.set(owner, { generation, peers: this.peersOf(owner), at: now });
    if (page === 0) this.host.emit({ kind: "attested", prefixes: [hostPrefix(owner), ...prefixes] });
    return {
      kind: "resolved",
      owner,
      publicKey,
      prefixes: prefixes.slice(page * MAX_PREFIXES, (page + 1) * MAX_PREFIXES),
      generation,
      lifetime: wholeSeconds(this.host.parameters.resolutionLifetime),
      pages: Math.max(1, Math.ceil(prefixes.length / MAX_PREFIXES)),
    };
  }

  /**
   * Returns the key of the overlay peer that has the sender's address, if the sender holds it; a refusal
   * otherwise. Under ECMP the address has several peers: the holder of any is the sender.
   */
  private proven(from: Correspondent, proof: Uint8Array): PublicKey | ReplyBody | undefined {
    if (!this.ready) return undefined; // the tables are not read yet: the spoke asks again
    const peers = this.attestation.peersOf(from.address).slice(0, MOST_TRIED);
    if (peers.length === 0) return refused("not-permitted", `${from.address} is not a peer of the overlay`);
    const { address: spoke, publicKey: directKey, bootId } = from;
    const registration = { spoke, hub: this.host.self.address, directKey, bootId };
    let known = false;
    for (const { dev, key } of peers) {
      const own = this.ownKeys.get(dev);
      const right =
        own === undefined
          ? undefined
          : proves(this.host.overlaySecrets, { own, peer: key }, registration, proof);
      if (right === true) return key;
      known ||= right !== undefined;
    }
    if (!known) return refused("busy", "the hub does not know the private key of its overlay interface yet");
    const devs = [...new Set(peers.map((p) => p.dev))].join(", ");
    return refused(
      "not-permitted",
      `${from.address} has not proven the key of its overlay peer on ${devs}: ` +
        "a spoke must be the WireGuard peer by which this hub reaches it",
    );
  }

  /** Makes a registration, in the place of those of the same peers, address or key. */
  private replace(now: number, next: Omit<Registration, "applied" | "resolved" | "seen">): void {
    const { address, publicKey, bootId, peers } = next;
    const before = this.spokes.get(address);
    const former = new Set([before, this.byKey.get(publicKey), ...peers.map((p) => this.byPeer.get(p.id))]);
    let applied = false;
    let resolved: Registration["resolved"] = new Map();
    for (const f of former)
      if (f?.address === address && f.publicKey === publicKey) {
        ({ applied } = f);
        if (f.bootId === bootId) ({ resolved } = f);
      } else if (f !== undefined) this.revoke(now, f);
    const registration: Registration = { ...next, applied, resolved, seen: now };
    this.spokes.set(address, registration);
    this.byKey.set(publicKey, registration);
    this.assign();
    this.host.bootIds.claim(address, bootId, publicKey);
    this.firstEnd = Math.min(this.firstEnd, now + this.lifetime);
    this.purgeChanged(now);
  }

  private register(now: number, from: Correspondent, proof: Uint8Array): ReplyBody | undefined {
    const key = this.proven(from, proof);
    if (typeof key !== "string") return key;
    const { address, publicKey, bootId } = from;
    // one owner per overlay peer: the newest that has its key
    const before = this.spokes.get(address);
    const same = before?.publicKey === publicKey && before.bootId === bootId ? before : undefined;
    if (before !== undefined && same === undefined && !before.proven.has(key)) {
      const there = this.provenPeers(address, before.proven);
      if (there.length > 0)
        return refused("not-permitted", `${address} is registered by another overlay peer`);
    }
    const proven = new Set([...(same?.proven ?? []), key]);
    const peers = this.provenPeers(address, proven);
    const replaced = peers.map((p) => this.byPeer.get(p.id)).find((r) => r !== undefined);
    const other = this.byKey.get(publicKey);
    if (other !== undefined && other.address !== address && !other.proven.has(key))
      return refused("key-in-use", `${other.address} registered this key`);
    if (replaced === undefined && before === undefined && this.spokes.size >= this.host.maxSpokes)
      return refused("busy", `this hub accepts at most ${this.host.maxSpokes} spokes`);
    if (same?.proven.has(key) === true && replaced === same) same.seen = now;
    else if (!this.changes.take(now, key))
      return refused("busy", `the overlay peer of ${address} has registered too often`);
    else this.replace(now, { address, publicKey, bootId, proven, peers });
    if (this.spokes.get(from.address)?.applied === true) {
      const lifetime = Math.round(this.lifetime / 1000);
      const observePort = this.host.pingsUsable ? this.host.observePort : 0;
      return { kind: "registered", listenPort: this.host.listenPort(), lifetime, observePort };
    }
    this.host.emit({
      kind: "peer",
      owner: from.address,
      want: {
        publicKey: from.publicKey,
        endpoint: undefined,
        allowedIps: [hostPrefix(linkLocalOf(from.publicKey))],
        keepalive: 0,
      },
    });
    return undefined; // the spoke asks again, and by then the peer is there
  }

  peerApplied(publicKey: PublicKey, error: string | undefined): void {
    const s = this.byKey.get(publicKey);
    if (s !== undefined) s.applied = error === undefined;
  }

  /**
   * Answers an authentic ping of a spoke with the endpoint from which it came. The answer leaves
   * from the same port and address, since only this passes the spoke's NAT.
   */
  handlePing(now: number, from: Endpoint, to: Endpoint, ping: Ping, key: PublicKey): void {
    const spoke = this.byKey.get(key);
    if (spoke === undefined || ping.kind !== "observe" || remoteFault(from) !== undefined) return;
    if (!this.host.pingBudget.answer(now, spoke.address)) return;
    const { transaction } = ping;
    const epochs = { mine: 1, yours: ping.epochs.mine };
    this.host.sendPing(
      key,
      { kind: "observed", ready: false, transaction, epochs, observed: from },
      { to: from, fromPort: to.port, source: familyOf(to.address) === 4 ? to.address : undefined },
    );
  }

  private forget(spoke: Registration): void {
    this.spokes.delete(spoke.address);
    if (this.byKey.get(spoke.publicKey) === spoke) this.byKey.delete(spoke.publicKey);
    for (const { id } of spoke.peers) if (this.byPeer.get(id) === spoke) this.byPeer.delete(id);
    this.host.bootIds.release(spoke.address);
    this.host.emit({ kind: "unpeer", owner: spoke.address, publicKey: spoke.publicKey });
  }

  /** Forgets a registration that does not hold any more: no answer that names it is valid. */
  private revoke(now: number, spoke: Registration): void {
    this.forget(spoke);
    this.purgeAll(now, spoke.address);
  }

  /** Returns the overlay address at which the spoke behind a peer is registered. */
  private registeredAt(peer: string): Address | undefined {
    return this.byPeer.get(peer)?.address;
  }

  private get lifetime(): number {
    return this.host.parameters.hubKeepalive * 3;
  }

  /** Each datagram asks for it: it is not computed from all registrations, and may be too early. */
  pollTimeout(): number | undefined {
    return this.spokes.size === 0 ? undefined : this.firstEnd;
  }

  handleTimeout(now: number): void {
    if (now < this.firstEnd) return;
    this.firstEnd = Number.POSITIVE_INFINITY;
    const kept = this.host.parameters.resolutionLifetime + FORGOTTEN_AFTER;
    for (const s of [...this.spokes.values()]) {
      const end = s.seen + this.lifetime;
      if (now >= end) this.forget(s);
      else this.firstEnd = Math.min(this.firstEnd, end);
      for (const [owner, { at }] of s.resolved) if (now >= at + kept) s.resolved.delete(owner);
    }
  }

  stop(): void {
    for (const s of [...this.spokes.values()]) this.forget(s);
  }

  /**
   * Tells what is known of a destination. The protocol does not tell a hub which pairs are direct: that is only the business of the two.
   */
  explain(destination: Prefix): HubKnowledge {
    if (!this.ready) return { kind: "none", text: "the hub has not read its FIB yet" };
    const a = this.attestation.resolve(destination, (peer) => this.registeredAt(peer));
    if (a.kind !== "owner") return { kind: a.kind, text: a.reason };
    const { owner } = a;
    const registration = this.spokes.get(owner);
    const resolvedBy = [...this.spokes.values()].flatMap((s) => {
      const answer = s.resolved.get(owner);
      // an owner asks for its own prefixes too
      return answer === undefined || s.address === owner ? [] : [{ spoke: s.address, at: answer.at }];
    });
    return {
      kind: "owner",
      owner,
      prefixes: this.prefixesOf(owner),
      heardAt: registration?.seen ?? 0,
      endpoint: registration === undefined ? undefined : this.direct.get(registration.publicKey)?.endpoint,
      resolvedBy: resolvedBy.sort((x, y) => compareAddresses(x.spoke, y.spoke)),
    };
  }

  status(): RegistrationStatus[] {
    return [...this.spokes.values()].map((s) => ({
      address: s.address,
      publicKey: s.publicKey,
      since: s.seen,
      endpoint: this.direct.get(s.publicKey)?.endpoint,
      prefixes: this.prefixesOf(s.address),
    }));
  }
}
