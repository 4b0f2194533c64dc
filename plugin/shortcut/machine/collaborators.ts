/** The collaborators of a shortcut: the engine behind it, and the parts of its spoke. */

import type { Address, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Candidate, Id64, Mapping, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Identity, Outcome } from "../control/link.js";
import type { Trust } from "../control/trust.js";
import type { Output, Presence, RoutingView } from "../events.js";
import type { BootIds } from "../nat/boot-ids.js";
import type { EndpointView } from "../nat/endpoint-check.js";
import type { PingBudget } from "../nat/ping-budget.js";
import type { PingTarget } from "../nat/pings.js";
import type { AliasPool } from "../offer/alias-pool.js";
import type { Parameters } from "../parameters.js";
import type { Verdict } from "../reasons.js";
import type { Resolution } from "../spoke/resolutions.js";

/** The engine: identity, effects, and facts from outside. */
export interface EngineHost {
  readonly self: Identity;
  readonly parameters: Parameters;
  /** The other ends as the configuration describes them: pinned keys, pre-shared keys. */
  readonly trust: Trust;
  readonly routing: RoutingView;
  readonly aliases: AliasPool;
  readonly overlayMtu: number;
  /** Whether this end can send and answer pings. */
  readonly pingsUsable: boolean;
  /** Whether this end's direct interface has its link-local address. */
  readonly linkLocal: boolean;
  readonly pingBudget: PingBudget;
  /** The boot IDs of the other ends, by overlay address. */
  readonly bootIds: BootIds<Address>;
  /** Returns a random number in [0, 1). */
  random(): number;
  randomId(): Id64;
  nextEpoch(): number;
  emit(output: Output): void;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
  cancel(id: Id64): void;
  sendPing(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
}

/** Where this router's direct interface can be reached, and how its NATs behave. */
export interface OwnReachability {
  readonly mapping: Mapping;
  /**
   * Number of hops that a datagram of this end passes until it has left its last NAT, that NAT
   * included.
   */
  readonly openTtl: number;
  /** Returns the endpoints at which this router's direct interface may be reached, best first. */
  candidates(): readonly Candidate[];
  /** This router, as far as it decides which endpoints may be those of others. */
  readonly view: EndpointView;
  onLink(): readonly Prefix[];
  /** Asks the hubs again for this router's reflexive endpoint. */
  reobserve(now: number): void;
  /** Asks the hubs again, unless they have answered within the last second. */
  observeAgain(now: number): void;
}

export interface Collaborators {
  readonly engine: EngineHost;
  readonly reachability: OwnReachability;
  /** This router's own prefixes. */
  readonly own: {
    /**
     * Returns whether this router has its own routes to all prefixes that a hub attests for it.
     */
    routes(now: number): boolean;
    /** Returns whether an end that accepts this generation accepts everything that goes direct from here. */
    accepts(now: number, generation: Id64): boolean;
  };
  readonly presence: {
    /**
     * Checks whether the hub is gone, after a route underneath disappeared. `Shortcut.hubPresence`
     * is told the result.
     */
    checkHubAlive(now: number): void;
    readonly presence: Presence;
    /** Asks every hub for a sign of life. */
    ask(now: number): void;
    /** Returns whether a hub has given a sign of life since `at`. */
    heardSince(at: number): boolean;
  };
  readonly resolutions: {
    /** Asks the hub for the owner's prefixes; `done` may be called before this returns. */
    ofOwner(now: number, owner: Address, done: (now: number, r: Resolution) => void): void;
    /** Marks the resolution of the owner as outdated: it is asked for again before it is used. */
    expire(now: number, owner: Address): void;
  };
  readonly traffic: {
    /** Returns whether traffic to one of these prefixes is above the threshold. */
    aboveThreshold(prefixes: readonly Prefix[]): boolean;
    /** Bits per second below which a shortcut is idle. */
    readonly lowRate: number;
  };
  /**
   * Returns the owner whose shortcut offers a prefix, or is still withdrawing its offer. A daemon
   * accepts one offer for a prefix.
   */
  offeredFor(prefix: Prefix): Address | undefined;
  directUsable(): Verdict;
}
