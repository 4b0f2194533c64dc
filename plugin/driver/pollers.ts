/**
 * Polling: reads periodically what the kernel and the daemon do not announce, and gives it to the engine as input. How often each is read
 * depends on what waits for it: peers are read fast while a handshake is expected, forwarding counters after a flip.
 */
import type { Config } from "../config/config.js";
import type { PrivateKey, PublicKey } from "../net/key.js";
import type { Milliseconds } from "../net/units.js";
import type { Input, ShortcutStatus } from "../shortcut/events.js";
import type { Verdict } from "../shortcut/reasons.js";
import type { Clock, RoutePort, TrafficPort, WireGuardPort } from "./ports.js";
import type { Journal } from "./runtime/journal.js";
import type { Schedule } from "./runtime/schedule.js";

/** Milliseconds between two readings of the peers: while a handshake is awaited, on a path without traffic, otherwise. */
const PEERS_CONNECTING_MS = 50;
const PEERS_QUIET_MS = 500;
const PEERS_MS = 1_000;
const OVERLAY_MS = 5_000;
const ADDRESSES_MS = 5_000;
/** After a change of routes: addresses change in groups. */
const ADDRESSES_DELAY_MS = 50;
const SOURCES_MS = 5_000;
/** Milliseconds between two comparisons of forwarded packets with those that pass the firewall: after a flip, and later. */
const FORWARDING_FRESH_MS = 150;
const FORWARDING_MS = 500;
/** How long after the flip a shortcut counts as fresh. */
const FRESH_MS = 3_000;
const RECONCILE_MS = 10_000;
/** Between two looks at the files of pre-shared keys: an outside tool renews both ends' within seconds. */
const PRESHARED_MS = 1_000;

export interface PollersHost {
  readonly clock: Clock;
  readonly wireguard: WireGuardPort;
  readonly traffic: TrafficPort;
  readonly routes: RoutePort;
  readonly journal: Journal;
  readonly schedule: Schedule;
  readonly direct: { poll(): Promise<void>; checkUsable(): void; readForwarding(): Promise<void> };
  readonly sources: { read(): Promise<void> };
  readonly preshared: { readonly watched: boolean; read(): Promise<void> };
  readonly overlay: { readonly verdict: Verdict; follow(): Promise<void> };
  /** The overlay interface has this private key from now on; undefined: none that can be read. */
  overlayKey(key: PrivateKey | undefined): void;
  shortcuts(): readonly ShortcutStatus[];
  reconcile(): Promise<void>;
  input(input: Input): void;
}

export class Pollers {
  private addressesPending = false;
  /** The overlay interface's own key, as last read. */
  private overlayKey: PublicKey | undefined;
  /** Between two readings of the traffic counters. */
  trafficInterval: Milliseconds;

  constructor(
    private readonly config: Config,
    private readonly host: PollersHost,
  ) {
    this.trafficInterval = config.trigger.interval;
  }

  /** Starts every periodic reading; they end with the schedule. */
  start(): void {
    const { config } = this;
    const { schedule, direct, sources } = this.host;
    schedule.every("periodic", OVERLAY_MS, async () => {
      await this.host.overlay.follow();
      await this.readOverlay();
    });
    schedule.every("periodic", RECONCILE_MS, () => this.host.reconcile());
    schedule.every(
      "read peers",
      () => this.peersPause(),
      () => direct.poll(),
    );
    if (config.role === "hub") return;
    const { preshared } = this.host;
    if (preshared.watched) schedule.every("pre-shared keys", PRESHARED_MS, () => preshared.read());
    schedule.every(
      "periodic",
      () => this.trafficInterval,
      () => this.readTraffic(),
    );
    schedule.every("periodic", ADDRESSES_MS, () => this.readAddresses());
    schedule.every("read unattested sources", SOURCES_MS, () => sources.read());
    schedule.every(
      "read forwarding counters",
      () => this.forwardingPause(),
      () => direct.readForwarding(),
    );
  }

  private peersPause(): number {
    const shortcuts = this.host.shortcuts();
    if (shortcuts.some((s) => s.stage === "connecting")) return PEERS_CONNECTING_MS;
    return shortcuts.some((s) => s.quiet) ? PEERS_QUIET_MS : PEERS_MS;
  }

  private forwardingPause(): number {
    const recent = this.host.clock.now() - FRESH_MS;
    const fresh = this.host.shortcuts().some((s) => s.stage === "direct" && s.since > recent);
    return fresh ? FORWARDING_FRESH_MS : FORWARDING_MS;
  }

  async readOverlay(): Promise<void> {
    const { overlay } = this.config;
    const device = await this.host.wireguard.device(overlay);
    if (device === undefined) {
      if (!this.host.overlay.verdict.ok) return;
      this.host.journal.problem(`interface ${overlay}`, "no WireGuard answers for the overlay interface");
      return;
    }
    if (device.publicKey !== this.overlayKey) {
      this.host.overlayKey(await this.host.wireguard.privateKey(overlay));
      this.overlayKey = device.publicKey;
    }
    // nothing else of a peer, its pre-shared key above all, goes further
    const peers = device.peers.map(({ publicKey, allowedIps, endpoint, rxBytes }) => ({
      publicKey,
      allowedIps,
      endpoint,
      rxBytes,
    }));
    this.host.input({ kind: "overlay-peers", key: device.publicKey, peers });
    this.host.direct.checkUsable();
  }

  async readAddresses(): Promise<void> {
    if (this.config.role === "hub") return;
    this.host.input({ kind: "addresses", addresses: await this.host.routes.allAddresses() });
  }

  /** Reads the addresses soon: a route of the kernel's or an administrator's has changed, so an address or uplink may have. */
  addressesChanged(): void {
    if (this.addressesPending || this.config.role === "hub") return;
    this.addressesPending = true;
    this.host.schedule.later(ADDRESSES_DELAY_MS, () => {
      this.addressesPending = false;
      void this.host.schedule.attempt("read addresses", () => this.readAddresses());
    });
  }

  private async readTraffic(): Promise<void> {
    this.host.input({ kind: "traffic", samples: await this.host.traffic.read() });
  }
}
