/**
 * Polling: reads periodically what the kernel and the daemon do not announce, and gives it to the engine as input. How often each is read
 * depends on what waits for it: peers are read fast while a handshake is expected, forwarding counters after a flip.
 */
import type { Config } from "../config/config.js";
import { familyOf } from "../net/address.js";
import type { PrivateKey, PublicKey } from "../net/key.js";
import type { Milliseconds } from "../net/units.js";
import type { Input, OverlayDevice, ShortcutStatus } from "../shortcut/events.js";
import type { Verdict } from "../shortcut/reasons.js";
import type { Clock, RoutePort, TrafficPort, WireGuardPort } from "./ports.js";
import type { Journal } from "./runtime/journal.js";
import type { Schedule } from "./runtime/schedule.js";
import { asPortError } from "./runtime/task-queue.js";

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
  /** The overlay interfaces that exist. */
  overlayDevices(): readonly string[];
  /** The overlay interfaces have these private keys from now on; those that cannot be read are not there. */
  overlayKeys(keys: ReadonlyMap<PublicKey, PrivateKey>): void;
  shortcuts(): readonly ShortcutStatus[];
  reconcile(): Promise<void>;
  input(input: Input): void;
}

export class Pollers {
  private addressesPending = false;
  /** The interfaces with an IPv4 address; undefined before they were read. */
  private withIpv4: ReadonlySet<string> | undefined;
  private overlayKeys: ReadonlyMap<PublicKey, PrivateKey> = new Map();
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
    const { host } = this;
    const devices: OverlayDevice[] = [];
    const keys = new Map<PublicKey, PrivateKey>();
    for (const dev of host.overlayDevices()) {
      const device = await this.readDevice(dev, keys);
      if (device !== undefined) devices.push(device);
    }
    this.overlayKeys = keys;
    host.overlayKeys(keys);
    host.input({ kind: "overlay-peers", devices });
    host.direct.checkUsable();
  }

  private async readDevice(
    dev: string,
    keys: Map<PublicKey, PrivateKey>,
  ): Promise<OverlayDevice | undefined> {
    const { wireguard, journal, overlay } = this.host;
    const device = await wireguard.device(dev).catch((e: unknown) => {
      // one that goes while it is read must not keep the others from being read
      journal.problem(`interface ${dev}`, asPortError("WireGuard", e).message);
      return undefined;
    });
    if (device === undefined) {
      if (overlay.verdict.ok)
        journal.problem(`interface ${dev}`, "no WireGuard answers for this overlay interface");
      return undefined;
    }
    const { publicKey: key } = device;
    if (key !== undefined) {
      const own = this.overlayKeys.get(key) ?? (await wireguard.privateKey(dev));
      if (own !== undefined) keys.set(key, own);
    }
    // nothing else of a peer, its pre-shared key above all, goes further
    const peers = device.peers.map(({ publicKey, allowedIps, endpoint, rxBytes }) => ({
      publicKey,
      allowedIps,
      endpoint,
      rxBytes,
    }));
    return { dev, key, peers };
  }

  async readAddresses(): Promise<void> {
    if (this.config.role === "hub") return;
    const addresses = await this.host.routes.allAddresses();
    this.withIpv4 = new Set(addresses.filter((a) => familyOf(a.address) === 4).map((a) => a.dev));
    this.host.input({ kind: "addresses", addresses });
    this.host.direct.checkUsable();
  }

  /** Whether an interface has an IPv4 address, as far as is known. */
  hasIpv4(dev: string): boolean {
    return this.withIpv4?.has(dev) ?? true;
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
