/**
 * Where this router may be reached by the direct interface, and what stands before it: its addresses, what hubs see of it, how its NAT maps, and how many
 * routers an opening has to pass. All of it changes while shortcuts live.
 */

import type { Address, Endpoint, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Candidate, Id64, Mapping } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { InterfaceAddress } from "../events.js";
import type { HubEndpoint, HubLink } from "../spoke/hub-link.js";
import { onLink, ownCandidates } from "./candidates.js";
import { HopCount, MOST_HOPS } from "./hop-count.js";
import { describeMapping, judgeMapping, NO_VERDICT } from "./mapping.js";
import type { PingTarget } from "./pings.js";

export interface ReachabilityConfig {
  /** UDP port of the direct interface. */
  readonly port: number;
  /** Prefixes of which no address is offered. */
  readonly denied: readonly Prefix[];
  /** Interfaces of which no address is offered: overlay and direct interface. */
  readonly excludedDevices: readonly string[];
  /** Endpoints that the operator knows to work: offered first. */
  readonly publicEndpoints: readonly Endpoint[];
}

export interface ReachabilityHost {
  readonly pingsUsable: boolean;
  sendPing(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
  randomId(): Id64;
}

export class Reachability {
  private addresses: readonly InterfaceAddress[] = [];
  /** What the hubs' observations say of the NAT before this router. */
  private nat = NO_VERDICT;
  private readonly hops = new HopCount();
  /** Candidates and mapping as machines last heard of them. */
  private told = "";

  constructor(
    private readonly host: ReachabilityHost,
    private readonly config: ReachabilityConfig,
    private readonly links: readonly Pick<
      HubLink,
      "reflexive" | "observations" | "observe" | "observeAgain"
    >[],
    /** What the hub attests for this router itself. */
    private readonly own: () => readonly Prefix[],
  ) {}

  /** Endpoints under which the direct interface may be reached, best first. */
  candidates(): Candidate[] {
    const { port, publicEndpoints: configured, excludedDevices, denied } = this.config;
    const reflexive = this.links.flatMap((l) => (l.reflexive === undefined ? [] : [l.reflexive]));
    return ownCandidates({
      configured,
      // without pings the first candidate is taken unseen: only what a hub or the operator has seen to work
      addresses: this.host.pingsUsable ? this.addresses : [],
      excludedDevices,
      denied: [...denied, ...this.own()],
      reflexive,
      port,
    });
  }

  get mapping(): Mapping {
    return this.nat.mapping;
  }

  /** The time to live of an opening. */
  get openTtl(): number {
    return this.hops.openTtl;
  }

  onLink(): Prefix[] {
    return onLink(this.addresses, this.config.excludedDevices);
  }

  /** The addresses of this router, read again. Returns whether they are others than before. */
  learn(addresses: readonly InterfaceAddress[]): boolean {
    const changed = JSON.stringify(addresses) !== JSON.stringify(this.addresses);
    this.addresses = addresses;
    return changed;
  }

  /** Looks at everything again. Returns whether candidates or the NAT's behaviour are others than when it last did; the first time is no change. */
  changed(): boolean {
    const own = this.addresses.map((a) => a.address);
    this.nat = judgeMapping(
      this.links.flatMap((l) => l.observations()),
      own,
      this.config.port,
    );
    const before = this.told;
    this.told = JSON.stringify([this.candidates(), this.nat.mapping]);
    return before !== "" && before !== this.told;
  }

  /** There is reason to believe that this router is reachable elsewhere than before: a path failed, an address changed. */
  reobserve(now: number): void {
    for (const l of this.links) l.observe(now);
  }

  /** The same, unless the hubs have answered a moment ago: an attempt is about to begin. */
  observeAgain(now: number): void {
    for (const l of this.links) l.observeAgain(now);
  }

  /** Counts the NATs on the way to a hub. */
  measureHops(hub: HubEndpoint): void {
    if (!this.host.pingsUsable || !this.hops.begin(hub.endpoint)) return;
    for (let ttl = 1; ttl <= MOST_HOPS; ttl++) {
      const ping = { kind: "open", ready: false, transaction: this.host.randomId() } as const;
      const epochs = { mine: 1, yours: 0 };
      this.host.sendPing(hub.publicKey, { ...ping, epochs, observed: undefined }, { to: hub.endpoint, ttl });
    }
  }

  /** A router on the way let one of these die. */
  exceeded(hop: Address, to: Endpoint, ttl: number): void {
    this.hops.exceeded(hop, to, ttl);
  }

  /** How the NATs before this router behave, in words. */
  describe(): string {
    if (!this.host.pingsUsable) return "no pings: NATs are not looked through";
    const { hops } = this.hops;
    const way = hops.length === 0 ? "" : `; way to the hub: ${hops.join(", ")}`;
    return `${describeMapping(this.nat)}${way}`;
  }
}
