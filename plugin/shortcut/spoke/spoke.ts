/**
 * The spoke's part: it connects the hubs, the destinations, this router's reachability, and one
 * shortcut per owner, and passes events to those that they concern. Questions of other routers that
 * do not concern a shortcut are answered here.
 */

import { type Address, type Endpoint, hostPrefix, overlaps, type Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import { PrefixMap } from "../../net/lpm.js";
import type { ReplyBody, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Correspondent } from "../control/link.js";
import { earliest } from "../deadlines.js";
import type { Input, OverlayDevice, PeerStatus, Presence, ShortcutStatus } from "../events.js";
import type { EngineHost } from "../machine/collaborators.js";
import { busy } from "../machine/remote.js";
import type { Shortcut } from "../machine/shortcut.js";
import { Reachability, type ReachabilityConfig } from "../nat/reachability.js";
import type { StreamEvent } from "../probe/stream.js";
import { describeReason, no, type Reason, type Verdict, YES } from "../reasons.js";
import { TokenBuckets } from "../token-buckets.js";
import { AttestationRenewal } from "./attestation-renewal.js";
import { type DestinationStatus, Destinations, type NotNow } from "./destinations.js";
import { byPath } from "./hub-choice.js";
import { HubLink, type HubLinkHost, type HubStatus, tunnelsTo } from "./hub-link.js";
import { HubPresence } from "./hub-presence.js";
import { OwnPrefixes } from "./own-prefixes.js";
import { type Owned, type Refusal, Resolutions } from "./resolutions.js";
import { ShortcutTable } from "./shortcut-table.js";
import type { DestinationRate, TriggerParameters } from "./trigger.js";

export interface SpokeConfig extends ReachabilityConfig {
  readonly trigger: TriggerParameters;
  readonly maxShortcuts: number;
}

/** Routers that ask for a shortcut, of which this one does not know whether they are registered: each costs a question to the hub. */
const STRANGERS = { perSecond: 20, burst: 200, most: 1 };

export type SpokeHost = EngineHost & HubLinkHost;

export class Spoke {
  private readonly links: HubLink[];
  private readonly shortcuts: ShortcutTable;
  private readonly resolutions: Resolutions;
  private readonly attestationRenewal: AttestationRenewal;
  private readonly destinations: Destinations;
  private readonly reachability: Reachability;
  private readonly presence: HubPresence;
  private readonly own: OwnPrefixes;
  private readonly strangers = new TokenBuckets<"all">(STRANGERS);
  private usable: Verdict = no({ kind: "direct-not-up" });
  private session: Verdict = no({ kind: "offers-not-established" });
  private overlay: Verdict = YES;
  private stopping = false;

  constructor(
    private readonly host: SpokeHost,
    private readonly config: SpokeConfig,
    now: number,
  ) {
    this.presence = new HubPresence({
      parameters: host.parameters,
      ask: (t) => {
        for (const l of this.links) l.ask(t);
      },
      inspect: () => host.emit({ kind: "inspect-hubs", hubs: config.hubs }),
      changed: (t, presence) => this.hubPresence(t, presence),
    });
    this.resolutions = new Resolutions({
      hubs: (destination) => this.hubsFor(destination),
      attested: (owner, prefixes) => {
        if (owner !== host.self.address)
          host.emit({ kind: "attested", prefixes: [hostPrefix(owner), ...prefixes] });
      },
      request: (t, to, body, done) => host.request(t, to, body, done),
    });
    this.own = new OwnPrefixes({
      hubs: () =>
        this.links.map((l) => ({
          address: l.address,
          registered: l.registered !== undefined,
          generation: l.generation,
        })),
      unsettled: (t, hub) => this.unsettled(t, hub),
      ask: (t, hub, done) => this.resolutions.ofOwnerAt(t, hub, host.self.address, done),
      lifetime: host.parameters.resolutionLifetime,
      routesItself: (p) => host.routing.routesItself(p),
      changed: (prefixes) => host.emit({ kind: "own-prefixes", prefixes }),
    });
    const events = {
      heard: (t: number) => this.presence.heard(t),
      restarted: (t: number, hub: Address) => this.resolutions.expireBy(t, hub),
      told: (t: number) => this.own.learn(t),
    };
    this.links = config.hubs.map((h) => new HubLink(host, h, now, events));
    this.reachability = new Reachability(host, config, this.links, () => [
      hostPrefix(host.self.address),
      ...this.own.prefixes,
    ]);
    this.destinations = new Destinations(
      {
        resolutions: this.resolutions,
        backoffMax: host.parameters.backoffMax,
        taken: (d) => this.shortcuts.take(d),
        begin: (t, owned, rate, ago) => this.begin(t, owned, rate, ago),
      },
      config.trigger,
    );
    const { reachability, own, presence, resolutions, destinations: traffic } = this;
    const directUsable = () => this.usable;
    this.shortcuts = new ShortcutTable(
      { engine: host, reachability, own, presence, resolutions, traffic, directUsable },
      config.maxShortcuts,
    );
    const unsettled = (t: number, hub: Address | undefined) => this.unsettled(t, hub);
    this.attestationRenewal = new AttestationRenewal({ unsettled }, this.shortcuts, resolutions);
  }

  /** Handles an authentic ping of the holder of the key. */
  handlePing(now: number, from: Endpoint, at: Address, ping: Ping, key: PublicKey): void {
    if (ping.kind === "observed") {
      const link = this.links.find((l) => l.met?.publicKey === key);
      if (link?.observed(now, from, ping) === true) {
        if (link.met !== undefined) this.reachability.measureHops(link.met);
        this.reachabilityObserved(now);
        this.shortcuts.removeFinished(now);
      }
      return;
    }
    const shortcut = this.shortcuts.ofKey(key);
    if (shortcut === undefined) return;
    shortcut.handlePing(now, from, at, ping);
    this.shortcuts.removeFinished(now);
  }

  /** Tells the shortcuts when this router's reachability may have changed. */
  private reachabilityObserved(now: number): void {
    if (!this.reachability.changed()) return;
    for (const m of this.shortcuts.all()) m.candidatesChanged(now);
  }

  /** Returns the hubs that may be asked about a destination, in this order. */
  private hubsFor(destination: Prefix): readonly Address[] | Refusal {
    const { routing } = this.host;
    const there = this.links.filter((l) => l.registered !== undefined).map((l) => l.address);
    if (there.length > 1) return byPath(there, destination, routing);
    const reason: Reason = this.links[0]?.problem ?? { kind: "no-hub" };
    return there.length === 1 ? there : { ok: false, reason, unanswered: true, by: undefined };
  }

  /** Returns whether a hub's answers may be incomplete: it is away, or has only just come back. */
  private unsettled(now: number, hub: Address | undefined): boolean {
    return this.presence.unsettled(now) || this.links.some((l) => l.address === hub && l.unsettled(now));
  }

  // ------------------------------------------------------------------------------------ resolution

  private hubPresence(now: number, presence: Presence): void {
    if (presence === "returned") for (const l of this.links) l.retrySoon(now);
    for (const m of this.shortcuts.all()) m.hubPresence(now, presence);
    this.shortcuts.removeFinished(now);
  }

  /** The reason that keeps this router from every shortcut. */
  private get obstacle(): Reason | undefined {
    if (!this.overlay.ok) return this.overlay.reason;
    if (!this.session.ok) return this.session.reason;
    return this.usable.ok ? undefined : this.usable.reason;
  }

  /**
   * Begins a shortcut for a destination above the threshold whose owner is known, unless something
   * prevents it.
   */
  private begin(now: number, owned: Owned, r: DestinationRate, ago: number): NotNow | undefined {
    const { owner } = owned;
    if (this.stopping) return undefined;
    if (owner === this.host.self.address) return { reason: { kind: "routed-to-self" }, pause: 60_000 };
    if (this.shortcuts.get(owner) !== undefined) return undefined;
    if (!this.shortcuts.hasRoom) {
      this.shortcuts.evict(now, r);
      return { reason: { kind: "maximum-reached", most: this.config.maxShortcuts }, pause: 2_000 };
    }
    const shortcut = this.shortcuts.create(now, owner, "local");
    const reason: Reason = { kind: "over-threshold", rate: r.bitsPerSecond, destination: r.destination };
    this.host.emit({
      kind: "milestone",
      owner,
      milestone: "over-threshold",
      detail: describeReason(reason),
      ago,
    });
    this.host.emit({ kind: "milestone", owner, milestone: "resolved", detail: owned.prefixes.join(", ") });
    shortcut.trafficRead(now, r.bitsPerSecond);
    shortcut.startLocal(now, owned, reason);
    return undefined;
  }

  // ---------------------------------------------------------------------------------------- inputs

  // eslint-disable-next-line max-lines-per-function, complexity -- one case for each kind of input
  handleInput(now: number, input: Exclude<Input, { kind: "datagram" | "fib" | "ping" }>): void {
    switch (input.kind) {
      case "traffic":
        this.traffic(now, input.samples);
        break;
      case "probe":
        this.probe(now, input.owner, input.event);
        return;
      case "route-state":
        this.tell((m) => m.offersPrefix(input.state.prefix) && m.routeState(now, input.state));
        break;
      case "underneath-changed": {
        const { prefixes } = input;
        const touches = (m: Shortcut) =>
          prefixes === "all" || m.prefixes.some((p) => prefixes.some((q) => overlaps(p, q)));
        this.tell((m) => touches(m) && m.underneathChanged(now));
        break;
      }
      case "offers-session":
        this.session = input.verdict;
        this.tell((m) => !input.verdict.ok && m.sessionDown(now, input.verdict.reason));
        break;
      case "offer-blocked":
        this.tell((m) => m.offerBlocked(now, input.prefix, input.reason));
        break;
      case "offer-unblocked":
        this.tell((m) => input.prefixes.some((p) => m.blockedBy(p)) && m.offerUnblocked(now));
        break;
      case "explained":
        this.tell((m) => m.explained(input.prefix, input.reason));
        break;
      case "peers":
        this.peers(now, input.peers);
        break;
      case "peer-applied":
        this.tell((m) => m.publicKey === input.publicKey && m.peerApplied(now, input.error));
        break;
      case "ways-changed":
        for (const l of this.links) l.waysChanged(now);
        this.reachabilityObserved(now);
        this.tell((m) => m.waysChanged(now));
        break;
      case "pings":
        this.reachability.reobserve(now);
        break;
      case "exceeded":
        this.reachability.exceeded(input.hop, input.to, input.ttl);
        break;
      case "addresses":
        if (!this.reachability.learn(input.addresses)) break;
        this.reachability.reobserve(now);
        this.reachabilityObserved(now);
        break;
      case "overlay-peers":
        for (const l of this.links) l.overlayPeers(now, input.devices);
        this.presence.received(now, this.receivedFromHubs(input.devices));
        break;
      case "overlay":
        this.overlay = input.verdict;
        for (const l of this.links) l.overlayChanged(now, input.verdict);
        break;
      case "hub-session":
        this.presence.session(now, input.session);
        break;
      case "direct-usable":
        this.usable = input.verdict;
        this.tell((m) => !input.verdict.ok && m.directUnusable(now, input.verdict.reason));
        break;
      case "link-local":
        this.tell((m) => !input.present && m.linkLocalGone(now));
        break;
      case "direct-blocked":
        this.shortcuts.get(input.owner)?.directBlocked(now, input.reason);
        break;
      case "pins":
        this.tell((m) => m.pinsChanged(now));
        break;
      case "purge":
        this.tell((m) => [m.owner, "all"].includes(input.owner) && m.stop(now, { kind: "purged" }));
        this.resolutions.forget(input.owner);
        break;
      case "stop":
        this.stopping = true;
        this.tell((m) => m.stop(now, { kind: "stopping" }));
        break;
    }
    this.shortcuts.removeFinished(now);
  }

  /** Tells every shortcut, as they are now: telling one may end another. */
  private tell(fact: (m: Shortcut) => void): void {
    for (const m of this.shortcuts.all()) fact(m);
  }

  private traffic(now: number, samples: Extract<Input, { kind: "traffic" }>["samples"]): void {
    this.destinations.read(now, samples);
    this.shortcuts.tellRates(now, this.destinations.rates());
    if (!this.stopping && this.obstacle === undefined) this.destinations.pursue(now);
    this.own.learn(now);
  }

  /** Handles the most frequent input by far: it concerns one shortcut only. */
  private probe(now: number, owner: Address, event: StreamEvent): void {
    const shortcut = this.shortcuts.get(owner);
    const before = shortcut?.stage;
    shortcut?.handleProbe(now, event);
    if (shortcut?.stage !== before) this.shortcuts.removeFinished(now);
    else this.shortcuts.touch(owner);
  }

  private peers(now: number, peers: readonly PeerStatus[]): void {
    const byKey = new Map<PublicKey, PeerStatus>(peers.map((p) => [p.publicKey, p]));
    for (const m of this.shortcuts.all()) {
      const status = m.publicKey === undefined ? undefined : byKey.get(m.publicKey);
      if (status !== undefined) m.peerStatus(now, status);
    }
  }

  handleRequest(now: number, from: Correspondent, body: RequestBody): ReplyBody | undefined {
    // a message from another spoke has come through a hub
    for (const l of this.links) l.retrySoon(now);
    const reply = this.dispatch(now, from, body);
    this.shortcuts.removeFinished(now);
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
        const shortcut = this.shortcuts.get(from.address);
        if (this.stopping) return busy("this end is stopping");
        if (shortcut !== undefined && !shortcut.resting) return shortcut.handleRequest(now, from, body);
        if (!this.session.ok)
          return busy(`no session with the daemon: ${describeReason(this.session.reason)}`);
        if (!this.usable.ok) return busy(describeReason(this.usable.reason));
        if (!this.shortcuts.hasRoom) return busy("this end has its maximum of shortcuts");
        if (this.config.hubs.includes(from.address))
          return { kind: "refused", code: "not-permitted", reason: "a hub has no shortcuts" };
        if (shortcut !== undefined) return shortcut.handleRequest(now, from, body);
        if (!this.mayAsk(now, from.address)) return busy("this end is asked by many at once");
        return this.shortcuts.create(now, from.address, "remote").accept(now, from, body);
      }
      default: {
        const shortcut = this.shortcuts.get(from.address);
        if (shortcut !== undefined) return shortcut.handleRequest(now, from, body);
        return { kind: "refused", code: "stale", reason: "no shortcut with this owner" };
      }
    }
  }

  /** Returns whether a router may ask: those of which the hub has not said yet that they are registered are limited. */
  private mayAsk(now: number, owner: Address): boolean {
    if (this.resolutions.known(owner) !== undefined) return true;
    return this.shortcuts.mayBeAsked && this.strangers.take(now, "all");
  }

  /** Returns the bytes that came from the hubs' overlay peers. */
  private receivedFromHubs(devices: readonly OverlayDevice[]): number {
    const { routing } = this.host;
    const behind = new Set(
      this.config.hubs.flatMap((h) => {
        const [first, ...others] = tunnelsTo(routing, devices, h);
        return first === undefined ? [] : [first, ...others.filter((t) => t.used)].map((t) => t.peer);
      }),
    );
    let bytes = 0;
    for (const p of behind) bytes += p.rxBytes;
    return bytes;
  }

  private purge(now: number, from: Correspondent, owner: Address): ReplyBody {
    if (!this.links.some((l) => l.registered?.publicKey === from.publicKey && l.address === from.address))
      return { kind: "refused", code: "not-permitted", reason: "only a hub purges" };
    const shortcut = this.shortcuts.get(owner);
    this.resolutions.expire(now, owner);
    if (shortcut !== undefined && !shortcut.resting) this.attestationRenewal.renew(now, shortcut);
    return { kind: "ack" };
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    this.recomputeDeadlines();
    const at = this.shortcuts.pollTimeout();
    if (this.stopping) return at;
    const links = this.links.map((l) => l.pollTimeout());
    return earliest(at, ...links, this.presence.pollTimeout(), this.attestationRenewal.pollTimeout());
  }

  private recomputeDeadlines(): void {
    if (this.shortcuts.recomputeDeadlines()) this.attestationRenewal.recomputeDeadlines();
  }

  handleTimeout(now: number): void {
    this.recomputeDeadlines();
    this.shortcuts.handleTimeout(now);
    this.resolutions.handleTimeout(now);
    if (!this.stopping) {
      for (const l of this.links) l.handleTimeout(now);
      this.presence.handleTimeout(now);
      this.attestationRenewal.handleTimeout(now);
    }
    this.shortcuts.removeFinished(now);
  }

  /** Whether nothing of any shortcut is left in kernel or daemon. */
  get quiet(): boolean {
    return this.shortcuts.resting;
  }

  stopLinks(): void {
    for (const l of this.links) l.stop();
  }

  // ---------------------------------------------------------------------------------------- status

  /** Describes how the NATs before this router behave, in words. */
  natText(): string {
    return this.reachability.describe();
  }

  shortcutStatus(now: number): ShortcutStatus[] {
    return this.shortcuts.all().map((m) => m.status(now));
  }

  /** Number of former owners of which something is remembered. */
  get remembered(): number {
    return this.shortcuts.remembered;
  }

  /** Returns the prefixes that go direct now, with their owners. */
  directSites(): PrefixMap<Address> {
    const sites = new PrefixMap<Address>();
    for (const m of this.shortcuts.all())
      if (m.stage === "direct") for (const p of [hostPrefix(m.owner), ...m.prefixes]) sites.set(p, m.owner);
    return sites;
  }

  hubStatus(): HubStatus[] {
    return this.links.map((l) => l.status());
  }

  destinationStatus(now: number): DestinationStatus[] {
    return this.destinations.status(now, this.obstacle);
  }

  /** Returns the shortcut whose owner has this destination, for `explain`. */
  shortcutFor(now: number, destination: Prefix): ShortcutStatus | undefined {
    const owner = this.resolutions.ownerOf(now, destination)?.owner;
    const its = (m: Shortcut) =>
      m.owner === owner ||
      m.prefixes.some((p) => overlaps(p, destination)) ||
      hostPrefix(m.owner) === destination;
    return this.shortcuts.find(its)?.status(now);
  }
}
