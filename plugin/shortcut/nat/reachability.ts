/**
 * The reachability of this router: its addresses, the endpoints that hubs see, how its NAT maps,
 * and the number of hops that an opening has to pass. All of it changes while shortcuts exist.
 */

import type { Address, Endpoint, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Candidate, Id64, Mapping } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { InterfaceAddress } from "../events.js";
import type { HubEndpoint, HubLink } from "../spoke/hub-link.js";
import { onLink, ownCandidates } from "./candidates.js";
import type { EndpointView } from "./endpoint-check.js";
import { HopCount, MOST_HOPS } from "./hop-count.js";
import { describeMapping, judgeMapping, NO_VERDICT } from "./mapping.js";
import type { PingTarget } from "./pings.js";

export interface ReachabilityConfig {
  /** UDP port of the direct interface. */
  readonly port: number;
  /** Prefixes of which no address is offered. */
  readonly denied: readonly Prefix[];
  /** Interfaces of which no address is offered: overlay and direct interface. */
  readonly excludedDevices: { has(dev: string): boolean };
  /** Endpoints that the operator configured: offered first. */
  readonly publicEndpoints: readonly Endpoint[];
  /** Overlay addresses of the hubs, and the alias pools: no router has its endpoint there. */
  readonly hubs: readonly Address[];
  readonly aliasPools: readonly Prefix[];
}

export interface ReachabilityHost {
  readonly pingsUsable: boolean;
  sendPing(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
  randomId(): Id64;
}

export class Reachability {
  private addresses: readonly InterfaceAddress[] = [];
  /** The result of the hubs' observations about the NAT before this router. */
  private nat = NO_VERDICT;
  private readonly hops = new HopCount();
  /** The candidates and the mapping that shortcuts were last told. */
  private told = "";

  constructor(
    private readonly host: ReachabilityHost,
    private readonly config: ReachabilityConfig,
    private readonly links: readonly Pick<
      HubLink,
      "reflexive" | "observations" | "observe" | "observeAgain"
    >[],
    /** Returns the prefixes that the hub attests for this router. */
    private readonly own: () => readonly Prefix[],
  ) {}

  /** Returns the endpoints at which the direct interface may be reached, best first. */
  candidates(): Candidate[] {
    const { port, publicEndpoints: configured, excludedDevices, denied } = this.config;
    const reflexive = this.links.flatMap((l) => (l.reflexive === undefined ? [] : [l.reflexive]));
    return ownCandidates({
      configured,
      // without pings the first candidate is taken untested: only one that a hub or the operator
      // has seen to work
      addresses: this.host.pingsUsable ? this.addresses : [],
      excludedDevices,
      denied: [...denied, ...this.own()],
      reflexive,
      port,
    });
  }

  get view(): EndpointView {
    const { addresses } = this;
    const { hubs, aliasPools } = this.config;
    return { addresses, hubs, aliasPools };
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

  /** Reads the addresses of this router again. Returns whether they have changed. */
  learn(addresses: readonly InterfaceAddress[]): boolean {
    const changed = JSON.stringify(addresses) !== JSON.stringify(this.addresses);
    this.addresses = addresses;
    return changed;
  }

  /**
   * Checks everything again. Returns whether candidates or the NAT's behaviour have changed since
   * the last check; the first check returns false.
   */
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

  /**
   * Asks the hubs again: a path failed or an address changed, so this router's endpoint may have
   * changed.
   */
  reobserve(now: number): void {
    for (const l of this.links) l.observe(now);
  }

  /**
   * Asks the hubs again, unless they have answered within the last second: an attempt is about to
   * begin.
   */
  observeAgain(now: number): void {
    for (const l of this.links) l.observeAgain(now);
  }

  /** Counts the NATs on the path to a hub. */
  measureHops(hub: HubEndpoint): void {
    if (!this.host.pingsUsable || !this.hops.begin(hub.endpoint)) return;
    for (let ttl = 1; ttl <= MOST_HOPS; ttl++) {
      const ping = { kind: "open", ready: false, transaction: this.host.randomId() } as const;
      const epochs = { mine: 1, yours: 0 };
      this.host.sendPing(hub.publicKey, { ...ping, epochs, observed: undefined }, { to: hub.endpoint, ttl });
    }
  }

  /** Notes the router at which one of these datagrams expired. */
  exceeded(hop: Address, to: Endpoint, ttl: number): void {
    this.hops.exceeded(hop, to, ttl);
  }

  /** Describes how the NATs before this router behave, in words. */
  describe(): string {
    if (!this.host.pingsUsable) return "pings unavailable: NAT behaviour unknown";
    const { hops } = this.hops;
    const way = hops.length === 0 ? "" : `; path to the hub: ${hops.join(", ")}`;
    return `${describeMapping(this.nat)}${way}`;
  }
}
