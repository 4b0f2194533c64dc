/**
 * The direct interface: made, filled with the peers that the engine wants, compared with the kernel periodically, and taken away. It also
 * says whether packets may use it at all: not while it is gone, while rp_filter is strict, or while a firewall drops
 * what it forwards. Probes run over addresses derived from public keys, or over overlay addresses where IPv6 is off.
 */

import type { Config } from "../../config/config.js";
import { type Address, familyOf, hostPrefix } from "../../net/address.js";
import type { PrivateKey, PublicKey } from "../../net/key.js";
import type { Identity } from "../../shortcut/control/link.js";
import type { Input, PeerWant } from "../../shortcut/events.js";
import { linkLocalOf } from "../../shortcut/probe/link-local.js";
import type { ProbeEvent } from "../../shortcut/probe/relay.js";
import type { ProbeSession } from "../../shortcut/probe/stream.js";
import { describeReason, no, type Verdict, YES } from "../../shortcut/reasons.js";
import type {
  Clock,
  DatagramPort,
  HostPort,
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
import { ForwardingCheck } from "./firewall-check.js";
import { reconcilePeers } from "./reconcile.js";

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

export class DirectInterface {
  /** Changes of peers, in order. */
  readonly tasks: TaskQueue;
  private readonly name: string;
  private readonly peers = new Map<PublicKey, PeerWant>();
  private readonly probed = new Map<PublicKey, { readonly owner: Address; readonly session: ProbeSession }>();
  private readonly forwarding: ForwardingCheck;
  private probes: { readonly socket: ProbeSocket; readonly linkLocal: boolean } | undefined;
  private pings: PingSocket | undefined;
  private made = false;
  private gone = false;
  /** Why it is unusable, as last told to the engine; empty when it is usable. */
  private told: string | undefined;

  constructor(
    private readonly config: Config,
    private readonly ends: DirectEnds,
    private readonly ports: DirectPorts,
    private readonly journal: Journal,
    private readonly input: (input: Input) => void,
    /** Whether our own nftables tables stand, and others' rules translate nothing that would go direct. */
    private readonly rules: () => Verdict,
  ) {
    this.name = config.direct.interface;
    this.forwarding = new ForwardingCheck(this.name, ends.self.address);
    this.tasks = new TaskQueue((e) => journal.problem(e.place, e.message));
  }

  // ------------------------------------------------------------------------------------------ the interface

  async ensure(): Promise<void> {
    const { config, ends, ports } = this;
    // When an interface goes, bgpd (FRR 8.4 to 10.6 at least; FRRouting/frr pull request 23054) takes the IPv6 addresses that it carried away from
    // its sessions, though another interface still has them, and announces every IPv6 route with a next hop that hubs refuse.
    // IPv6 has no rp_filter, so only the source of the router's own packets is left to the kernel's choice.
    const carries6 = config.daemon?.kind === "bird";
    const own = ends.overlayAddresses.filter((a) => carries6 || familyOf(a) === 4).map(hostPrefix);
    const linkLocal = hostPrefix(linkLocalOf(ends.self.publicKey));
    const { created, backend } = await ports.wireguard.ensure({
      name: this.name,
      privateKey: ends.privateKey,
      listenPort: config.direct.port,
      fwmark: config.direct.fwmark,
      mtu: ends.overlayMtu,
      addresses: [...own, linkLocal],
      vrf: config.vrf?.name,
    });
    this.made = true;
    if (created) ports.log.info("direct interface created", { interface: this.name, backend });
  }

  async destroy(): Promise<void> {
    if (this.made) await this.ports.wireguard.destroy(this.name);
  }

  /** Declared against actual: an interface or a peer that somebody removed comes back, a peer that nobody wants goes. */
  async reconcile(): Promise<void> {
    const { wireguard } = this.ports;
    if ((await wireguard.device(this.name)) === undefined) await this.remake();
    const device = await wireguard.device(this.name);
    if (device === undefined) return;
    if (device.fwmark !== this.config.direct.fwmark) await this.ensure();
    const steps = reconcilePeers(this.peers.values(), device.peers);
    for (const p of steps.set) await wireguard.setPeer(this.name, p);
    for (const k of steps.remove) await wireguard.removePeer(this.name, k);
  }

  private async remake(): Promise<void> {
    await this.ensure();
    await this.closeProbes();
    await this.openProbes();
    this.told = undefined;
    this.checkUsable();
  }

  // ------------------------------------------------------------------------------------------ peers

  /** Reads the peers from the kernel for the engine. */
  async poll(): Promise<void> {
    const readAt = this.ports.clock.now();
    const device = await this.ports.wireguard.device(this.name);
    this.gone = device === undefined;
    this.checkUsable();
    if (device !== undefined) this.input({ kind: "peers", readAt, peers: device.peers });
  }

  /** The peers that the kernel has now: before anything was wanted, a former run's. */
  async leftoverPeers(): Promise<readonly PublicKey[]> {
    const device = await this.ports.wireguard.device(this.name);
    return device?.peers.map((p) => p.publicKey) ?? [];
  }

  async removeLeftovers(peers: readonly PublicKey[]): Promise<void> {
    for (const k of peers) await this.ports.wireguard.removePeer(this.name, k);
  }

  setPeer(want: PeerWant): void {
    const { publicKey } = want;
    const before = this.peers.get(publicKey);
    this.peers.set(publicKey, { ...want, endpoint: want.endpoint ?? before?.endpoint });
    this.tasks.add("peer", async () => {
      let error: string | undefined;
      try {
        await this.ports.wireguard.setPeer(this.name, want);
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

  async openProbes(): Promise<void> {
    const { config, ends, ports } = this;
    const linkLocal = ports.host.ipv6Enabled(this.name);
    const address = linkLocal ? linkLocalOf(ends.self.publicKey) : ends.self.address;
    const socket = await ports.probes.open(
      { dev: this.name, address, port: config.control.port },
      (event) => this.probeEvent(event),
      (e) => {
        // a probe that cannot be sent is a probe that is lost; the machine notices
        if (e.code !== "EMSGSIZE") this.journal.problem(e.place, e.message);
      },
    );
    this.probes = { socket, linkLocal };
    for (const [key, p] of this.probed) this.probe(p.owner, key, p.session);
  }

  async closeProbes(): Promise<void> {
    await this.probes?.socket.close();
  }

  /** Probes the path to a peer from now on; undefined ends it. */
  probe(owner: Address, key: PublicKey, session: ProbeSession | undefined): void {
    if (session === undefined) {
      this.probed.delete(key);
      this.probes?.socket.unset(key);
      return;
    }
    this.probed.set(key, { owner, session });
    const address = this.probes?.linkLocal === false ? owner : linkLocalOf(key);
    this.probes?.socket.set(key, { address, port: this.config.control.port }, session);
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
    for (const { remote, reason } of this.forwarding.read(this.ports.clock.now(), reading)) {
      this.journal.problem("firewall", describeReason(reason));
      this.input({ kind: "direct-blocked", remote, reason });
    }
  }

  /** Tells the engine when it has changed whether packets may use the interface. */
  checkUsable(): void {
    const verdict = this.verdict();
    const text = verdict.ok ? "" : describeReason(verdict.reason);
    if (text === this.told) return;
    this.told = text;
    if (!verdict.ok) this.journal.problem("direct interface", text);
    this.input({ kind: "direct-usable", verdict });
  }

  /** Whether packets may use the interface now. */
  private verdict(): Verdict {
    if (this.gone) return no({ kind: "direct-gone", name: this.name });
    const both = [this.config.overlay, this.name];
    const strict = both.filter((dev) => this.ports.host.reversePathFilter(dev) === 1);
    if (strict.length > 0) return no({ kind: "rp-filter-strict", devices: strict });
    return this.rules();
  }
}
