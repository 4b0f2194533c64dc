/**
 * The spoke's part: which destinations are hot, who owns them, and one machine per owner. Resolutions are bounded in number and
 * remembered, also when the answer is no; everything here is derived again from the trigger at the next reading, so
 * nothing needs a queue.
 */
import { type Address, type Endpoint, hostPrefix, overlaps, type Prefix } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import { PrefixMap } from "../net/lpm.js";
import type { Candidate, Id64, ReplyBody, RequestBody } from "../wire/control/message.js";
import type { Ping } from "../wire/ping.js";
import { HubAbsence, type Presence } from "./absence.js";
import { type InterfaceAddress, onLink, ownCandidates } from "./candidates.js";
import type { Correspondent } from "./control.js";
import { FlapDamping } from "./damping.js";
import { Deadlines, earliest } from "./deadlines.js";
import type { Setbacks } from "./endings.js";
import type { Input, PeerStatus, RouteState, ShortcutStatus } from "./events.js";
import { Hops, MOST_HOPS } from "./hops.js";
import { type HubEndpoint, HubLink, type HubLinkHost, type HubStatus } from "./hublink.js";
import { type Host, Shortcut } from "./machine.js";
import { describeMapping, judgeMapping, type NatVerdict, NO_VERDICT } from "./mapping.js";
import { RoundTripClass } from "./marks.js";
import { OwnPrefixes } from "./ownprefixes.js";
import type { StreamEvent } from "./probe-stream.js";
import { type Attested, Resolutions } from "./resolution.js";
import { type DestinationRate, Trigger, type TriggerParameters } from "./trigger.js";

export interface SpokeConfig {
  /** UDP port of the direct interface. */
  readonly port: number;
  /** Prefixes of which no address is offered. */
  readonly denied: readonly Prefix[];
  /** Interfaces of which no address is offered: overlay and direct interface. */
  readonly excludedDevices: readonly string[];
  readonly hubs: readonly Address[];
  readonly trigger: TriggerParameters;
  /** Endpoints that the operator knows to work: offered first. */
  readonly publicEndpoints: readonly Endpoint[];
  readonly maxShortcuts: number;
}

type MachineHost = Omit<
  Host,
  | "candidates"
  | "selfGeneration"
  | "routesOwn"
  | "suspectHub"
  | "mapping"
  | "openTtl"
  | "reobserve"
  | "underlay"
  | "onLink"
  | "resolveOwner"
  | "isHot"
  | "offeredFor"
  | "lowRate"
  | "directUsable"
>;
export type SpokeHost = MachineHost & HubLinkHost;

/** What is known about a destination that has no shortcut. */
interface Unresolved {
  readonly reason: string;
  readonly retryAt: number;
  readonly failures: number;
}

/** Below it a destination does not count for the rate class of its owner, bits per second. */
const LEAST_RATE = 10_000;
/** An attestation that could not be renewed is asked for again after this. */
const RENEWAL_PAUSE = 5_000;
const RESOLUTIONS_IN_FLIGHT = 32;
/** A shortcut younger than this is not evicted, nor by a destination with less than so many times its rate: or they would take turns. */
const EVICTION_AGE = 10_000;
const EVICTION_RATIO = 2;

export interface DestinationStatus {
  readonly rate: DestinationRate;
  readonly owner: Address | undefined;
  readonly reason: string;
}

export class Spoke {
  private readonly trigger: Trigger;
  private readonly links: HubLink[];
  private readonly machines = new Map<Address, Shortcut>();
  private readonly deadlines = new Deadlines<Address>();
  /** Machines whose deadlines may have changed since they were reckoned. */
  private touched: Set<Address> | "all" = "all";
  private readonly resolutions: Resolutions;
  private readonly resolving = new Set<Prefix>();
  private readonly unresolved = new Map<Prefix, Unresolved>();
  /** Of machines that have gone: forgiven with time. */
  private readonly setbacks = new Map<Address, { readonly setbacks: Setbacks; readonly at: number }>();
  /** Of every owner to which a direct path was measured. */
  private readonly roundTrips = new Map<Address, RoundTripClass>();
  private usable = { usable: false, reason: "the direct interface is not up yet" };
  private sessionUp = false;
  private sessionReason = "the offers session is not established yet";
  private stopping = false;
  /** What the hubs' observations say of the NAT before this router. */
  private nat = NO_VERDICT;
  private readonly hops = new Hops();
  private addresses: readonly InterfaceAddress[] = [];
  /** Candidates and mapping as machines last heard of them. */
  private told = "";
  /** When the first attestation runs out by which a machine lives. */
  private renewAt: number | undefined;
  /** Owners whose attestation ran out while a machine lives by it: asked for again, since when and when next. */
  private readonly renewals = new Map<Address, number>();
  private readonly absence: HubAbsence;
  private readonly own: OwnPrefixes;

  constructor(
    private readonly host: SpokeHost,
    private readonly config: SpokeConfig,
    now: number,
  ) {
    this.trigger = new Trigger(config.trigger);
    this.absence = new HubAbsence({
      parameters: host.parameters,
      ask: (t) => {
        for (const l of this.links) l.ask(t);
      },
      inspect: () => host.emit({ kind: "inspect-hubs", hubs: config.hubs }),
      changed: (t, presence) => this.hubPresence(t, presence),
    });
    this.resolutions = new Resolutions({
      hub: () =>
        this.hub()?.address ?? {
          refusal: this.links[0]?.problem ?? "no hub is configured",
          unanswered: true,
        },
      request: (t, to, body, done) => host.request(t, to, body, done),
    });
    this.own = new OwnPrefixes({
      told: () =>
        this.links.find((l) => l.registered !== undefined || l.generation !== undefined)?.generation,
      unsettled: (t) => this.absence.unsettled(t),
      ask: (t, done) => {
        this.resolutions.expire(t, host.self.address);
        this.resolutions.ofOwner(t, host.self.address, done);
      },
      routesItself: (p) => host.routing.routesItself(p),
      changed: (prefixes) => host.emit({ kind: "own-prefixes", prefixes }),
    });
    const events = {
      heard: (t: number) => this.absence.heard(t),
      restarted: (t: number) => this.hubRestarted(t),
    };
    this.links = config.hubs.map((h) => new HubLink(host, h, now, events));
  }

  // ------------------------------------------------------------------------------------------ what machines ask

  private machineHost(): Host {
    const { host } = this;
    const spoke = this;
    return {
      self: this.host.self,
      parameters: this.host.parameters,
      routing: this.host.routing,
      aliases: this.host.aliases,
      overlayMtu: this.host.overlayMtu,
      random: () => this.host.random(),
      emit: (o) => this.host.emit(o),
      request: (now, to, body, done) => this.host.request(now, to, body, done),
      cancel: (id) => this.host.cancel(id),
      nextEpoch: () => this.host.nextEpoch(),
      candidates: () => this.candidates(),
      selfGeneration: (now) => this.own.generation(now),
      routesOwn: (now) => this.own.routes(now),
      suspectHub: (now) => this.absence.suspect(now),
      get openTtl() {
        return spoke.hops.openTtl;
      },
      reobserve: (now) => this.reobserve(now),
      underlay: (a) => {
        const way = host.routing.wayTo(a);
        return way !== "overlay" && way !== "direct";
      },
      onLink: () => onLink(this.addresses, this.config.excludedDevices),
      get pingsUsable() {
        return host.pingsUsable;
      },
      get mapping() {
        return spoke.nat.mapping;
      },
      sendPing: (theirs, ping, target) => host.sendPing(theirs, ping, target),
      randomId: () => host.randomId(),
      resolveOwner: (now, owner, done) => this.resolutions.ofOwner(now, owner, done),
      isHot: (prefixes) => this.isHot(prefixes),
      offeredFor: (prefix) => {
        for (const m of this.machines.values()) if (m.offersPrefix(prefix)) return m.owner;
        return undefined;
      },
      lowRate: this.config.trigger.rate * this.config.trigger.hysteresis,
      directUsable: () => this.usable,
    };
  }

  private candidates(): Candidate[] {
    const { port, publicEndpoints: configured, excludedDevices, denied } = this.config;
    const reflexive = this.links.flatMap((l) => (l.reflexive === undefined ? [] : [l.reflexive]));
    // without pings the first candidate is taken unseen: only what a hub or the operator has seen to work
    const addresses = this.host.pingsUsable ? this.addresses : [];
    const own = this.own.prefixes;
    return ownCandidates({
      configured,
      addresses,
      excludedDevices,
      denied: [...denied, ...own],
      reflexive,
      port,
    });
  }

  private judgeNat(): NatVerdict {
    return judgeMapping(
      this.links.flatMap((l) => l.observations()),
      this.addresses.map((a) => a.address),
      this.config.port,
    );
  }

  keyOf(bootId: Id64): PublicKey | undefined {
    for (const l of this.links) if (l.registered?.bootId === bootId) return l.registered.publicKey;
    for (const m of this.machines.values()) if (m.bootId === bootId) return m.publicKey;
    return undefined;
  }

  /** An authentic ping. */
  handlePing(now: number, from: Endpoint, at: Address, ping: Ping): void {
    if (ping.kind === "observed") {
      const link = this.links.find((l) => l.registered?.bootId === ping.bootId);
      if (link?.observed(now, from, ping) === true) {
        if (link.met !== undefined) this.measureHops(link.met);
        this.whereabouts(now);
        this.sweep(now);
      }
      return;
    }
    for (const m of this.machines.values())
      if (m.bootId === ping.bootId) {
        m.handlePing(now, from, at, ping);
        break;
      }
    this.sweep(now);
  }

  /** There is reason to believe that this router is reachable elsewhere than before: a path failed, an address changed. */
  private reobserve(now: number): void {
    for (const l of this.links) l.observe(now);
  }

  /** Counts the NATs on the way to a hub. */
  private measureHops(hub: HubEndpoint): void {
    if (!this.host.pingsUsable || !this.hops.begin(hub.endpoint)) return;
    for (let ttl = 1; ttl <= MOST_HOPS; ttl++) {
      const ping = { kind: "open", ready: false, transaction: this.host.randomId() } as const;
      const epochs = { mine: 1, yours: 0 };
      this.host.sendPing(hub.publicKey, { ...ping, epochs, observed: undefined }, { to: hub.endpoint, ttl });
    }
  }

  /** Candidates or the NAT's behaviour may be others than before. */
  private whereabouts(now: number): void {
    this.nat = this.judgeNat();
    const told = JSON.stringify([this.candidates(), this.nat.mapping]);
    if (told === this.told) return;
    const first = this.told === "";
    this.told = told;
    if (first) return;
    for (const m of [...this.machines.values()]) m.candidatesChanged(now);
  }

  private isHot(prefixes: readonly Prefix[]): boolean {
    for (const r of this.trigger.rates())
      if (r.hot && prefixes.some((p) => overlaps(p, r.destination))) return true;
    return false;
  }

  private hub(): HubLink | undefined {
    return this.links.find((l) => l.registered !== undefined);
  }

  // ------------------------------------------------------------------------------------------ resolution

  private hubPresence(now: number, presence: Presence): void {
    if (presence === "returned") for (const l of this.links) l.hasten(now);
    for (const m of [...this.machines.values()]) m.hubPresence(now, presence);
    this.sweep(now);
  }

  private hubRestarted(now: number): void {
    this.absence.restarted(now);
    this.resolutions.expire(now, "all");
  }

  /** When a machine's attestation has run out; undefined for one that lives by none. */
  private renewalAt(owner: Address, m: Shortcut): number | undefined {
    if (m.resting) return undefined;
    return this.renewals.get(owner) ?? this.resolutions.expiresAt(owner);
  }

  /** No shortcut outlives what the hub attests: an attestation that ran out is asked for again, and a changed one ends it. */
  private renew(now: number): void {
    for (const owner of this.renewals.keys()) if (!this.machines.has(owner)) this.renewals.delete(owner);
    for (const [owner, machine] of [...this.machines]) {
      const due = this.renewalAt(owner, machine);
      if (due !== undefined && due <= now) this.reattest(now, owner, machine);
    }
  }

  private reattest(now: number, owner: Address, machine: Shortcut): void {
    const before = this.resolutions.known(owner);
    this.renewals.set(owner, Number.POSITIVE_INFINITY);
    this.resolutions.ofOwner(now, owner, (t, r) => {
      if (this.machines.get(owner) !== machine) return;
      // a hub that is away, or has not been back for long, knows the half of it
      const same = !("refusal" in r) && machine.livesBy(r.generation);
      if (("refusal" in r && r.unanswered === true) || (!same && this.absence.unsettled(t))) {
        this.resolutions.restore(now, owner, before);
        this.renewals.set(owner, t + RENEWAL_PAUSE);
        return;
      }
      this.renewals.delete(owner);
      if ("refusal" in r) this.resolutions.forget(owner);
      machine.reattested(t, r);
      this.sweep(t);
    });
  }

  /** Every hot destination without a machine gets one, or a reason. */
  private pursue(now: number): void {
    if (this.stopping || !this.sessionUp || !this.usable.usable) return;
    const hot = [...this.trigger.rates()].filter((r) => r.hot);
    for (const r of hot.sort((x, y) => y.bitsPerSecond - x.bitsPerSecond)) {
      const known = this.resolutions.ownerOf(now, r.destination);
      if (known !== undefined) this.start(now, known.owner, known, r);
      else this.lookUp(now, r);
    }
  }

  private lookUp(now: number, r: DestinationRate): void {
    const destination = r.destination;
    if (this.resolving.has(destination) || this.resolving.size >= RESOLUTIONS_IN_FLIGHT) return;
    const before = this.unresolved.get(destination);
    if (before !== undefined && before.retryAt > now) return;
    for (const m of this.machines.values())
      if (m.prefixes.some((p) => overlaps(p, destination)) && !m.resting) return;
    this.resolving.add(destination);
    this.resolutions.ofDestination(now, destination, (t, result) => {
      this.resolving.delete(destination);
      if ("refusal" in result) {
        const failures = (before?.failures ?? 0) + 1;
        const pause = Math.min(this.host.parameters.backoffMax, 5_000 * 2 ** Math.min(failures - 1, 6));
        this.unresolved.set(destination, { reason: result.refusal, retryAt: t + pause, failures });
        return;
      }
      this.unresolved.delete(destination);
      if (this.stopping) return;
      this.start(t, result.owner, result, r, t - now);
    });
  }

  private start(now: number, owner: Address, attested: Attested, r: DestinationRate, ago = 0): void {
    if (owner === this.host.self.address) {
      this.unresolved.set(r.destination, {
        reason: "the hub routes it to this router",
        retryAt: now + 60_000,
        failures: 1,
      });
      return;
    }
    if (this.machines.has(owner)) return;
    if (!this.hasRoom()) {
      const reason = `the maximum of ${this.config.maxShortcuts} shortcuts is reached`;
      this.evict(now, r);
      this.unresolved.set(r.destination, { reason, retryAt: now + 2_000, failures: 1 });
      return;
    }
    const machine = this.create(now, owner, "local");
    const rate = `${(r.bitsPerSecond / 1e6).toFixed(1)} Mbit/s to ${r.destination}`;
    this.host.emit({ kind: "milestone", owner, milestone: "over-threshold", detail: rate, ago });
    this.host.emit({ kind: "milestone", owner, milestone: "resolved", detail: attested.prefixes.join(", ") });
    machine.trafficRead(now, r.bitsPerSecond);
    machine.startLocal(now, attested, rate);
  }

  private hasRoom(): boolean {
    let active = 0;
    for (const m of this.machines.values()) if (!m.resting) active++;
    return active < this.config.maxShortcuts;
  }

  /** The least used shortcut makes room for a destination that deserves it clearly more; the newcomer is tried again when it has gone. */
  private evict(now: number, r: DestinationRate): void {
    let least: { readonly machine: Shortcut; readonly rate: number } | undefined;
    for (const machine of this.machines.values()) {
      // one is on its way out already
      if (machine.stage === "returning" || machine.stage === "draining") return;
      if (machine.stage !== "direct" || now - machine.since < EVICTION_AGE) continue;
      const rate = machine.status().bitsPerSecond ?? 0;
      if (least === undefined || rate < least.rate) least = { machine, rate };
    }
    if (least === undefined || least.rate * EVICTION_RATIO > r.bitsPerSecond) return;
    least.machine.stop(
      now,
      `makes room for ${r.destination}: the maximum of ${this.config.maxShortcuts} shortcuts is reached`,
    );
  }

  private create(now: number, owner: Address, origin: "local" | "remote"): Shortcut {
    const f = this.setbacks.get(owner);
    const fresh = f === undefined || now - f.at >= this.host.parameters.backoffMax;
    const damping = f?.setbacks.damping ?? new FlapDamping(this.host.parameters.damping);
    const setbacks = fresh ? { failures: 0, deferrals: 0, damping } : f.setbacks;
    const roundTrip = this.roundTrips.get(owner) ?? new RoundTripClass();
    this.roundTrips.set(owner, roundTrip);
    const machine = new Shortcut(this.machineHost(), owner, origin, now, setbacks, roundTrip);
    this.machines.set(owner, machine);
    return machine;
  }

  /** After anything that may have changed any machine. */
  private sweep(now: number): void {
    this.touched = "all";
    for (const [owner, m] of this.machines) {
      if (!m.finished) continue;
      this.machines.delete(owner);
      this.deadlines.set(owner, undefined);
      const { failures, deferrals, damping } = m.setbacks;
      if (failures + deferrals > 0 || !damping.forgotten(now))
        this.setbacks.set(owner, { setbacks: m.setbacks, at: now });
      else this.setbacks.delete(owner);
      if (this.roundTrips.get(owner)?.at(now) === "unknown") this.roundTrips.delete(owner);
    }
  }

  // ------------------------------------------------------------------------------------------ inputs

  handleInput(now: number, input: Exclude<Input, { kind: "datagram" | "fib" | "ping" }>): void {
    switch (input.kind) {
      case "traffic":
        this.trigger.read(now, input.samples);
        this.tellRates(now);
        for (const d of this.unresolved.keys()) if (!this.trigger.isHot(d)) this.unresolved.delete(d);
        this.pursue(now);
        this.own.learn(now);
        break;
      case "probe":
        this.probe(now, input.owner, input.event);
        return;
      case "route-state":
        this.routeState(now, input.state);
        break;
      case "underneath-changed": {
        const touches = (m: Shortcut) =>
          input.prefixes === "all" ||
          m.prefixes.some((p) => (input.prefixes as readonly Prefix[]).some((q) => overlaps(p, q)));
        for (const m of [...this.machines.values()]) if (touches(m)) m.underneathChanged(now);
        break;
      }
      case "offers-session":
        this.sessionUp = input.established;
        this.sessionReason = input.reason;
        if (!input.established) for (const m of [...this.machines.values()]) m.sessionDown(now, input.reason);
        break;
      case "harm":
        for (const m of [...this.machines.values()]) m.harm(now, input.prefix, input.reason);
        break;
      case "harm-over":
        for (const m of this.machines.values())
          if (input.prefixes.some((p) => m.harmedBy(p))) m.harmOver(now);
        break;
      case "explained":
        for (const m of this.machines.values()) m.explained(input.prefix, input.reason);
        break;
      case "peers":
        this.peers(now, input.peers);
        break;
      case "peer-applied":
        for (const m of [...this.machines.values()])
          if (m.publicKey === input.publicKey) m.peerApplied(now, input.error);
        break;
      case "pings":
        this.reobserve(now);
        break;
      case "exceeded":
        this.hops.exceeded(input.hop, input.to, input.ttl);
        break;
      case "addresses": {
        const before = JSON.stringify(this.addresses);
        this.addresses = input.addresses;
        if (JSON.stringify(input.addresses) === before) break;
        this.reobserve(now);
        this.whereabouts(now);
        break;
      }
      case "overlay-peers":
        for (const l of this.links) l.overlayPeers(now, input.peers);
        this.absence.received(now, this.receivedFromHubs(input.peers));
        break;
      case "hub-session":
        this.absence.session(now, input.session);
        break;
      case "direct-usable":
        this.usable = { usable: input.usable, reason: input.reason };
        if (!input.usable) for (const m of [...this.machines.values()]) m.directUnusable(now, input.reason);
        break;
      case "purge":
        for (const [owner, m] of [...this.machines])
          if (input.owner === "all" || input.owner === owner) m.stop(now, "purged by the operator");
        this.resolutions.forget(input.owner);
        break;
      case "stop":
        this.stopping = true;
        for (const m of [...this.machines.values()]) m.stop(now, "shortcutd stops");
        break;
    }
    this.sweep(now);
  }

  /** By far the most frequent input: it bears on one machine alone. */
  private probe(now: number, owner: Address, event: StreamEvent): void {
    const machine = this.machines.get(owner);
    const before = machine?.stage;
    machine?.handleProbe(now, event);
    if (machine?.stage !== before) this.sweep(now);
    else if (this.touched !== "all") this.touched.add(owner);
  }

  /** Tells every machine how much this router sends to its owner by the overlay. */
  private tellRates(now: number): void {
    if (this.machines.size === 0) return;
    const busy = [...this.trigger.rates()].filter((r) => r.bitsPerSecond >= LEAST_RATE);
    const rates = new Map<Address, number>();
    if (busy.length > 0) {
      const byPrefix = new PrefixMap<Address>();
      for (const m of this.machines.values()) for (const p of m.prefixes) byPrefix.set(p, m.owner);
      for (const { destination, bitsPerSecond } of busy) {
        const owner = byPrefix.longestMatch(destination)?.value;
        if (owner !== undefined) rates.set(owner, (rates.get(owner) ?? 0) + bitsPerSecond);
      }
    }
    for (const m of this.machines.values()) m.trafficRead(now, rates.get(m.owner) ?? 0);
  }

  private routeState(now: number, state: RouteState): void {
    for (const m of [...this.machines.values()]) if (m.offersPrefix(state.prefix)) m.routeState(now, state);
  }

  private peers(now: number, peers: readonly PeerStatus[]): void {
    const byKey = new Map<PublicKey, PeerStatus>(peers.map((p) => [p.publicKey, p]));
    for (const m of [...this.machines.values()]) {
      const status = m.publicKey === undefined ? undefined : byKey.get(m.publicKey);
      if (status !== undefined) m.peerStatus(now, status);
    }
  }

  handleRequest(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    const reply = this.dispatch(now, from, body);
    this.sweep(now);
    return reply;
  }

  private dispatch(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    switch (body.kind) {
      case "register":
      case "resolve":
      case "resolve-owner":
      case "keepalive":
        return { kind: "refused", code: "not-a-hub", reason: `${this.host.self.address} is a spoke` };
      case "purge":
        return this.purge(now, from, body.owner);
      case "ping":
        return { kind: "pong" };
      case "exchange": {
        const machine = this.machines.get(from.address);
        if (this.stopping) return { kind: "refused", code: "busy", reason: "this end is stopping" };
        if (machine !== undefined && !machine.resting) return machine.handleRequest(now, from, body);
        if (!this.sessionUp)
          return {
            kind: "refused",
            code: "busy",
            reason: `no session with the daemon: ${this.sessionReason}`,
          };
        if (!this.usable.usable) return { kind: "refused", code: "busy", reason: this.usable.reason };
        if (!this.hasRoom())
          return { kind: "refused", code: "busy", reason: "this end has its maximum of shortcuts" };
        if (this.config.hubs.includes(from.address))
          return { kind: "refused", code: "not-permitted", reason: "a hub has no shortcuts" };
        if (machine !== undefined) return machine.handleRequest(now, from, body);
        return this.create(now, from.address, "remote").accept(now, from, body);
      }
      default: {
        const machine = this.machines.get(from.address);
        if (machine !== undefined) return machine.handleRequest(now, from, body);
        return { kind: "refused", code: "stale", reason: "no shortcut with this owner" };
      }
    }
  }

  /** Bytes that came from the overlay peers behind which the hubs are. */
  private receivedFromHubs(peers: Extract<Input, { kind: "overlay-peers" }>["peers"]): number {
    const byPrefix = new PrefixMap<(typeof peers)[number]>();
    for (const p of peers) for (const a of p.allowedIps) byPrefix.set(a, p);
    const behind = new Set(this.config.hubs.map((h) => byPrefix.longestMatch(h)?.value));
    let bytes = 0;
    for (const p of behind) bytes += p?.rxBytes ?? 0;
    return bytes;
  }

  private purge(now: number, from: Correspondent, owner: Address): ReplyBody {
    if (!this.links.some((l) => l.registered?.publicKey === from.publicKey && l.address === from.address))
      return { kind: "refused", code: "not-permitted", reason: "only a hub purges" };
    const machine = this.machines.get(owner);
    this.resolutions.expire(now, owner);
    if (machine !== undefined && !machine.resting) this.reattest(now, owner, machine);
    return { kind: "ack" };
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    this.reckon();
    const at = this.deadlines.first();
    if (this.stopping) return at;
    const links = this.links.map((l) => l.pollTimeout());
    return earliest(at, ...links, this.absence.pollTimeout(), this.renewAt);
  }

  private reckon(): void {
    const { touched } = this;
    if (touched === "all") {
      this.renewAt = undefined;
      for (const [owner, m] of this.machines) {
        this.deadlines.set(owner, m.pollTimeout());
        const at = this.renewalAt(owner, m);
        if (at !== undefined && (this.renewAt === undefined || at < this.renewAt)) this.renewAt = at;
      }
    } else for (const owner of touched) this.deadlines.set(owner, this.machines.get(owner)?.pollTimeout());
    this.touched = new Set();
  }

  handleTimeout(now: number): void {
    this.reckon();
    for (const owner of this.deadlines.due(now)) this.machines.get(owner)?.handleTimeout(now);
    if (!this.stopping) {
      for (const l of this.links) l.handleTimeout(now);
      this.absence.handleTimeout(now);
      this.renew(now);
    }
    this.sweep(now);
  }

  /** Whether nothing of any machine is left in kernel or daemon. */
  get quiet(): boolean {
    for (const m of this.machines.values()) if (!m.resting) return false;
    return true;
  }

  stopLinks(): void {
    for (const l of this.links) l.stop();
  }

  // ------------------------------------------------------------------------------------------ status

  /** How the NATs before this router behave, in words. */
  natText(): string {
    if (!this.host.pingsUsable) return "no pings: NATs are not looked through";
    const { hops } = this.hops;
    const way = hops.length === 0 ? "" : `; way to the hub: ${hops.join(", ")}`;
    return `${describeMapping(this.nat)}${way}`;
  }

  shortcuts(): ShortcutStatus[] {
    return [...this.machines.values()].map((m) => m.status());
  }

  hubs(): HubStatus[] {
    return this.links.map((l) => l.status());
  }

  destinations(now: number): DestinationStatus[] {
    return [...this.trigger.rates()].map((rate) => {
      const owner = this.resolutions.ownerOf(now, rate.destination)?.owner;
      return { rate, owner, reason: this.reasonFor(now, rate) };
    });
  }

  private reasonFor(now: number, rate: DestinationRate): string {
    const mbit = (n: number) => (n / 1e6).toFixed(1);
    if (!rate.hot) {
      const text = `${mbit(rate.bitsPerSecond)} of ${mbit(this.config.trigger.rate)} Mbit/s`;
      if (rate.aboveSince === undefined) return `below threshold: ${text}`;
      return `above threshold for ${((now - rate.aboveSince) / 1000).toFixed(1)} of ${this.config.trigger.duration / 1000} s: ${text}`;
    }
    if (!this.sessionUp) return this.sessionReason;
    if (!this.usable.usable) return this.usable.reason;
    const u = this.unresolved.get(rate.destination);
    if (u !== undefined) return u.reason;
    if (this.resolving.has(rate.destination)) return "asking the hub who owns it";
    return "";
  }

  /** The machine whose owner has this destination, for `explain`. */
  shortcutFor(now: number, destination: Prefix): ShortcutStatus | undefined {
    const owner = this.resolutions.ownerOf(now, destination)?.owner;
    for (const m of this.machines.values()) {
      if (m.owner === owner) return m.status();
      if (m.prefixes.some((p) => overlaps(p, destination)) || hostPrefix(m.owner) === destination)
        return m.status();
    }
    return undefined;
  }
}
