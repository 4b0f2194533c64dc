/**
 * The direct interface: made, filled with the peers that the engine wants, compared with the kernel periodically, and taken away. It also
 * says whether packets may use it at all: not while it is gone, while rp_filter is strict, or while a firewall drops
 * what it forwards. Probes run over addresses derived from public keys, or over overlay addresses where one end has IPv6 off.
 */

import type { Config } from "../../config/config.js";
import { type Address, familyOf, hostPrefix } from "../../net/address.js";
import type { PrivateKey, PublicKey } from "../../net/key.js";
import { unreachable } from "../../net/result.js";
import type { Identity } from "../../shortcut/control/link.js";
import type { Input, Output, PeerWant } from "../../shortcut/events.js";
import { linkLocalOf } from "../../shortcut/probe/link-local.js";
import type { ProbeEvent } from "../../shortcut/probe/relay.js";
import { describeReason, no, type Verdict, YES } from "../../shortcut/reasons.js";
import type {
  Claim,
  Clock,
  DatagramPort,
  HostPort,
  InterfaceSpec,
  InterfaceState,
  LogPort,
  OutgoingPing,
  PingPort,
  PingSocket,
  ProbePort,
  ProbeSocket,
  TrafficPort,
  WireGuardPort,
} from "../ports.js";
import type { Journal } from "../runtime/journal.js";
import { asPortError, TaskQueue } from "../runtime/task-queue.js";
import { type DirectSites, ForwardingCheck } from "./firewall-check.js";
import { type Difference, differences } from "./interface-state.js";
import { ForeignInterface, markOf } from "./ownership.js";
import { reconcilePeers, type WantedPeer } from "./reconcile.js";

type Probing = Extract<Output, { kind: "probing" }>;

/** This router, as far as the interface needs it. */
export interface DirectEnds {
  readonly self: Identity;
  readonly privateKey: PrivateKey;
  /** All addresses of the overlay interface. */
  readonly overlayAddresses: readonly Address[];
  readonly overlayMtu: number;
}

export interface DirectPorts {
  readonly clock: Clock;
  readonly host: HostPort;
  readonly wireguard: WireGuardPort;
  readonly traffic: TrafficPort;
  readonly datagrams: DatagramPort;
  readonly probes: ProbePort;
  readonly pings: PingPort;
  readonly log: LogPort;
}

/** Milliseconds until the next repair: doubled with each that follows soon, so that two programs that disagree do not flood the kernel. */
const REPAIR_PAUSE_MS = 500;
const REPAIR_PAUSE_MAX_MS = 4_000;
/** One that lasted this long has been accepted. */
const REPAIR_LASTS_MS = 10_000;

/** The interface as last read. */
type Condition =
  | { readonly kind: "unread" | "absent" }
  | { readonly kind: "foreign"; readonly problem: string }
  | { readonly kind: "ours"; readonly differences: readonly Difference[] };

export class DirectInterface {
  /** Changes of the interface and its peers, in order. */
  readonly tasks: TaskQueue;
  private readonly name: string;
  private readonly peers = new Map<PublicKey, { readonly owner: Address; readonly want: PeerWant }>();
  private readonly probed = new Map<PublicKey, Probing>();
  private readonly forwarding: ForwardingCheck;
  private probes: ProbeSocket | undefined;
  private pings: PingSocket | undefined;
  /** Whether the interface has its link-local address; undefined before sockets are open. */
  private linkLocal: boolean | undefined;
  private made = false;
  /** Whether it is restored: between the end of the start and the begin of the stop. */
  private watched = false;
  private condition: Condition = { kind: "unread" };
  /** Of the interface that the probe socket is bound to. */
  private ifindex: number | undefined;
  private reading: Promise<void> | undefined;
  private readAgain = false;
  private repairs = { pending: false, at: Number.NEGATIVE_INFINITY, pause: 0 };
  /** Why it is unusable, as last told to the engine; empty when it is usable. */
  private told: string | undefined;
  private toldVerdict: Verdict = YES;

  constructor(
    private readonly config: Config,
    private readonly ends: DirectEnds,
    private readonly ports: DirectPorts,
    private readonly journal: Journal,
    private readonly input: (input: Input) => void,
    /** Whether our own nftables tables stand, and others' rules translate nothing that would go direct. */
    private readonly rules: () => Verdict,
    /** The interface was made or repaired: routes over it were lost. */
    private readonly restored: () => void,
    private readonly sites: () => DirectSites,
    /** The overlay interfaces that exist. */
    private readonly overlayDevices: () => readonly string[],
    /** Whether an interface has an IPv4 address. */
    private readonly hasIpv4: (dev: string) => boolean,
    /** The pre-shared key of the pair with an owner, at this moment. */
    private readonly presharedKey: (owner: Address) => PrivateKey | undefined,
  ) {
    this.name = config.direct.interface;
    this.forwarding = new ForwardingCheck(this.name, ends.self.address);
    this.tasks = new TaskQueue((e) => journal.problem(e.place, e.message));
  }

  // ------------------------------------------------------------------------------------------ the interface

  private get spec(): InterfaceSpec {
    const { config, ends } = this;
    // When an interface goes, bgpd (FRR 8.4 to 10.6 at least; FRRouting/frr pull request 23054) takes the IPv6 addresses that it carried away from
    // its sessions, though another interface still has them, and announces every IPv6 route with a next hop that hubs refuse.
    // IPv6 has no rp_filter, so only the source of the router's own packets is left to the kernel's choice.
    const carries6 = config.daemon?.kind === "bird";
    const own = ends.overlayAddresses.filter((a) => carries6 || familyOf(a) === 4).map(hostPrefix);
    return {
      name: this.name,
      mark: markOf(config.overlay),
      publicKey: ends.self.publicKey,
      privateKey: ends.privateKey,
      listenPort: config.direct.port,
      fwmark: config.direct.fwmark,
      mtu: ends.overlayMtu,
      addresses: [...own, hostPrefix(linkLocalOf(ends.self.publicKey))],
      vrf: config.vrf?.name,
    };
  }

  async ensure(): Promise<void> {
    const { created, backend } = await this.ports.wireguard.ensure(this.spec);
    this.made = true;
    if (created) this.ports.log.info("direct interface created", { interface: this.name, backend });
  }

  /** Nothing is repaired from now on: it is being taken down. */
  end(): void {
    this.watched = false;
  }

  async destroy(): Promise<void> {
    if (this.made) await this.ports.wireguard.destroy(this.name);
  }

  // ------------------------------------------------------------------------------------------ as the kernel has it

  /**
   * Reads the interface and its peers for the engine, and repairs what somebody has changed. A call during a reading waits for that one and one
   * more: what it was told of may have come too late for the first.
   */
  poll(): Promise<void> {
    if (this.reading !== undefined) {
      this.readAgain = true;
      return this.reading;
    }
    this.reading = (async () => {
      do {
        this.readAgain = false;
        await this.read();
      } while (this.readAgain && this.watched);
    })().finally(() => {
      this.reading = undefined;
    });
    return this.reading;
  }

  private async read(): Promise<void> {
    const readAt = this.ports.clock.now();
    const idle = this.tasks.idle;
    const claim = await this.ports.wireguard.claim(this.spec);
    this.take(claim);
    if (claim.kind !== "ours") {
      if (claim.kind === "absent") this.repairSoon();
      return;
    }
    const { state } = claim;
    // nothing else of a peer, its pre-shared key above all, goes further
    const peers = state.peers.map(({ publicKey, endpoint, lastHandshake, rxBytes, txBytes }) => ({
      publicKey,
      endpoint,
      lastHandshake,
      rxBytes,
      txBytes,
    }));
    this.input({ kind: "peers", readAt, peers });
    // beside a change under way, the change would be taken for somebody else's
    const steps = idle && this.tasks.idle ? reconcilePeers(this.wantedPeers(), state.peers) : undefined;
    const peersDiffer = steps !== undefined && steps.set.length + steps.remove.length > 0;
    if (differences(this.spec, state).length > 0 || peersDiffer || !this.probesFit(state)) this.repairSoon();
  }

  private take(claim: Claim): void {
    const before = this.condition.kind;
    this.condition =
      claim.kind === "ours" ? { kind: "ours", differences: differences(this.spec, claim.state) } : claim;
    if (claim.kind === "foreign" && before !== "foreign")
      this.journal.problem(
        `interface ${this.name}`,
        `${claim.problem}; nothing of it is changed, and there is no direct path until it is gone`,
      );
    this.checkUsable();
  }

  /** Whether the probe socket is the one that this interface wants. */
  private probesFit(state: InterfaceState): boolean {
    return (
      this.probes !== undefined &&
      this.ifindex === state.ifindex &&
      this.linkLocal === this.ports.host.ipv6Enabled(this.name)
    );
  }

  private repairSoon(): void {
    const { repairs } = this;
    const now = this.ports.clock.now();
    if (repairs.pending || !this.watched || now < repairs.at + repairs.pause) return;
    repairs.pause =
      now > repairs.at + REPAIR_LASTS_MS ? REPAIR_PAUSE_MS : Math.min(REPAIR_PAUSE_MAX_MS, repairs.pause * 2);
    repairs.at = now;
    repairs.pending = true;
    this.tasks.add("direct interface", async () => {
      try {
        await this.repair();
      } finally {
        repairs.pending = false;
      }
    });
  }

  /** Declared against actual, in the queue of changes: what somebody removed or changed is restored, a peer that nobody wants goes. */
  async reconcile(): Promise<void> {
    this.tasks.add("direct interface", () => this.repair());
    await this.tasks.drained();
  }

  private async repair(): Promise<void> {
    if (!this.watched) return;
    const { wireguard, log } = this.ports;
    const { spec, name } = this;
    const before = await wireguard.claim(spec);
    this.take(before);
    if (before.kind === "foreign") return;
    const changes = before.kind === "ours" ? differences(spec, before.state) : undefined;
    if (changes === undefined || changes.length > 0) {
      const what = changes === undefined ? "it is gone" : changes.map((c) => c.what).join(", ");
      log.warn(`direct interface changed by another program: ${what}; it is restored`, { interface: name });
      await this.ensure();
    }
    await this.reconcilePeers();
    const after = await wireguard.claim(spec);
    if (after.kind === "ours" && !this.probesFit(after.state)) await this.reopenProbes(after.state.ifindex);
    this.take(after);
    if (changes?.length !== 0) this.restored();
  }

  private async reconcilePeers(): Promise<void> {
    const { wireguard } = this.ports;
    const device = await wireguard.device(this.name);
    if (device === undefined) return;
    const steps = reconcilePeers(this.wantedPeers(), device.peers);
    for (const p of steps.set) await wireguard.setPeer(this.name, p);
    for (const k of steps.remove) await wireguard.removePeer(this.name, k);
  }

  // ------------------------------------------------------------------------------------------ peers

  /** The peers that the kernel has now: before anything was wanted, a former run's. @throws PortError when the interface is somebody else's. */
  async leftoverPeers(): Promise<readonly PublicKey[]> {
    const claim = await this.ports.wireguard.claim(this.spec);
    switch (claim.kind) {
      case "absent":
        return [];
      case "ours":
        return claim.state.peers.map((p) => p.publicKey);
      case "foreign":
        throw new ForeignInterface(this.name, claim.problem);
      default:
        return unreachable(claim);
    }
  }

  async removeLeftovers(peers: readonly PublicKey[]): Promise<void> {
    for (const k of peers) await this.ports.wireguard.removePeer(this.name, k);
  }

  /** The wanted peers, each with the pre-shared key that it has to have now. */
  private wantedPeers(): WantedPeer[] {
    return [...this.peers.values()].map(({ owner, want }) => this.withKey(owner, want));
  }

  private withKey(owner: Address, want: PeerWant): WantedPeer {
    const presharedKey = this.presharedKey(owner);
    return presharedKey === undefined ? want : { ...want, presharedKey };
  }

  /**
   * Writes the pre-shared keys of these owners' peers again. WireGuard uses them in the next handshake: the
   * sessions that it has live on, so that nothing is lost while the two ends change at different moments.
   */
  presharedKeysChanged(owners: readonly Address[]): void {
    for (const [publicKey, { owner }] of this.peers) {
      if (!owners.includes(owner)) continue;
      this.tasks.add("pre-shared key", async () => {
        const presharedKey = this.presharedKey(owner);
        if (presharedKey !== undefined && this.peers.has(publicKey))
          await this.ports.wireguard.setPeer(this.name, { publicKey, presharedKey });
      });
    }
  }

  setPeer(owner: Address, want: PeerWant): void {
    const { publicKey } = want;
    const before = this.peers.get(publicKey)?.want;
    this.peers.set(publicKey, { owner, want: { ...want, endpoint: want.endpoint ?? before?.endpoint } });
    this.tasks.add("peer", async () => {
      let error: string | undefined;
      try {
        await this.ports.wireguard.setPeer(this.name, this.withKey(owner, want));
      } catch (e) {
        error = asPortError("peer", e).message;
        this.journal.problem("peer", error);
      }
      this.input({ kind: "peer-applied", publicKey, error });
    });
  }

  removePeer(publicKey: PublicKey): void {
    this.peers.delete(publicKey);
    this.tasks.add("peer", () => this.ports.wireguard.removePeer(this.name, publicKey));
  }

  // ------------------------------------------------------------------------------------------ probes

  /** At the start, when the interface has just been made. */
  async openProbes(): Promise<void> {
    const claim = await this.ports.wireguard.claim(this.spec);
    await this.reopenProbes(claim.kind === "ours" ? claim.state.ifindex : undefined);
    this.watched = true;
  }

  private async reopenProbes(ifindex: number | undefined): Promise<void> {
    const { config, ends, ports } = this;
    await this.closeProbes();
    const linkLocal = ports.host.ipv6Enabled(this.name);
    this.linkLocal = linkLocal;
    const addresses = [...(linkLocal ? [linkLocalOf(ends.self.publicKey)] : []), ends.self.address];
    this.probes = await ports.probes.open(
      { dev: this.name, addresses, port: config.control.port },
      (event) => this.probeEvent(event),
      (e) => {
        // a probe that cannot be sent is a probe that is lost; the machine notices
        if (e.code !== "EMSGSIZE") this.journal.problem(e.place, e.message);
      },
    );
    this.ifindex = ifindex;
    for (const p of this.probed.values()) this.probe(p);
    this.input({ kind: "link-local", present: linkLocal });
  }

  async closeProbes(): Promise<void> {
    const { probes } = this;
    this.probes = undefined;
    await probes?.close();
  }

  /** Probes the path to a peer from now on; undefined ends it. */
  probe(probing: Probing): void {
    const { owner, publicKey: key, linkLocal, session } = probing;
    if (session === undefined) {
      this.probed.delete(key);
      this.probes?.unset(key);
      return;
    }
    this.probed.set(key, probing);
    const address = linkLocal ? linkLocalOf(key) : owner;
    this.probes?.set(key, { address, port: this.config.control.port }, session);
  }

  private probeEvent({ key, ...event }: ProbeEvent): void {
    const owner = this.probed.get(key)?.owner;
    if (owner !== undefined) this.input({ kind: "probe", owner, event });
  }

  // ------------------------------------------------------------------------------------------ pings

  /** Without pings the first candidate of the other end is taken unseen: worse, but no reason not to run. */
  async openPings(): Promise<void> {
    const { config, ports } = this;
    const extra = config.role === "hub" ? [config.direct.observePort] : [];
    try {
      this.pings = await ports.pings.open(
        { wireguard: config.direct.port, extra, mark: config.direct.fwmark },
        (from, to, payload) => this.input({ kind: "ping", from, to, payload }),
        (e) => this.input({ kind: "exceeded", ...e }),
        (e) => this.journal.problem(e.place, e.message),
      );
      this.input({ kind: "pings", verdict: YES });
    } catch (e) {
      const { place, message } = asPortError("pings", e);
      this.journal.problem(
        place,
        `${message}: pings unavailable, NAT behaviour unknown: the first candidate is taken`,
      );
      this.input({ kind: "pings", verdict: no({ kind: "pings-unavailable", error: message }) });
    }
  }

  async closePings(): Promise<void> {
    await this.pings?.close();
  }

  sendPing(ping: OutgoingPing): void {
    this.pings?.send(ping);
  }

  // ------------------------------------------------------------------------------------------ usable or not

  async readForwarding(): Promise<void> {
    const reading = await this.ports.traffic.readForwarding();
    for (const { owner, reason } of this.forwarding.read(this.ports.clock.now(), reading, this.sites())) {
      this.journal.problem("firewall", describeReason(reason));
      this.input({ kind: "direct-blocked", owner, reason });
    }
  }

  /** Other programs' rules have changed. */
  rulesChanged(): void {
    this.forwarding.rulesChanged();
  }

  /** Tells the engine when it has changed whether packets may use the interface. */
  checkUsable(): void {
    const verdict = this.verdict();
    const text = verdict.ok ? "" : describeReason(verdict.reason);
    if (text === this.told) return;
    this.told = text;
    this.toldVerdict = verdict;
    if (!verdict.ok) this.journal.problem("direct interface", text);
    this.input({ kind: "direct-usable", verdict });
  }

  /** Whether packets may use the interface, as last told to the engine. */
  get usable(): Verdict {
    return this.toldVerdict;
  }

  /** Whether packets may use the interface now. */
  private verdict(): Verdict {
    const { name, condition } = this;
    if (condition.kind === "absent") return no({ kind: "direct-gone", name });
    if (condition.kind === "foreign") return no({ kind: "direct-foreign", name, problem: condition.problem });
    if (condition.kind === "ours") {
      const broken = condition.differences.filter((d) => d.breaks).map((d) => d.what);
      if (broken.length > 0) return no({ kind: "direct-changed", name, changes: broken });
    }
    const { host } = this.ports;
    const overlay = this.overlayDevices();
    const strict = [...overlay, this.name].filter((dev) => host.reversePathFilter(dev) === 1);
    if (strict.length > 0) return no({ kind: "rp-filter-strict", devices: strict });
    // loose mode finds no address to judge by, and drops all (net/ipv4/fib_frontend.c, fib_validate_source)
    const bare = overlay.filter((dev) => host.reversePathFilter(dev) === 2 && !this.hasIpv4(dev));
    if (bare.length > 0) return no({ kind: "rp-filter-loose", devices: bare });
    return this.rules();
  }
}
