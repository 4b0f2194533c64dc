/** Those with whom a shortcut works: the engine behind it, and the parts of its spoke. */

import type { Address, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Candidate, Id64, Mapping, RequestBody } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Identity, Outcome } from "../control/link.js";
import type { Output, RoutingView } from "../events.js";
import type { PingTarget } from "../nat/pings.js";
import type { AliasPool } from "../offer/alias-pool.js";
import type { Parameters } from "../parameters.js";
import type { Verdict } from "../reasons.js";
import type { Resolution } from "../spoke/resolutions.js";

/** The engine: identity, effects, and what comes from outside. */
export interface EngineHost {
  readonly self: Identity;
  readonly parameters: Parameters;
  readonly routing: RoutingView;
  readonly aliases: AliasPool;
  readonly overlayMtu: number;
  /** Whether this end can send and answer pings. */
  readonly pingsUsable: boolean;
  /** In [0, 1). */
  random(): number;
  randomId(): Id64;
  nextEpoch(): number;
  emit(output: Output): void;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
  cancel(id: Id64): void;
  sendPing(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
}

/** Where this router's direct interface is reached, and what the NATs before it do. */
export interface OwnReachability {
  readonly mapping: Mapping;
  /** Routers that a datagram of this end passes before it has left its last NAT, that one included. */
  readonly openTtl: number;
  /** Endpoints under which this router's direct interface may be reached, best first. */
  candidates(): readonly Candidate[];
  onLink(): readonly Prefix[];
  /** Asks the hubs again for this router's reflexive endpoint. */
  reobserve(now: number): void;
  /** The same, unless they have answered a moment ago. */
  observeAgain(now: number): void;
}

export interface Collaborators {
  readonly engine: EngineHost;
  readonly reachability: OwnReachability;
  /** This router's own prefixes. */
  readonly own: {
    /** Whether this router has routes of its own to all prefixes that the hub attests for it. */
    routes(now: number): boolean;
    /** Their generation, as the hub attests them; undefined until the hub said. */
    generation(now: number): Id64 | undefined;
  };
  readonly presence: {
    /** A route underneath went: is it the hub that went? `Shortcut.hubPresence` is told. */
    checkHubAlive(now: number): void;
  };
  readonly resolutions: {
    /** Asks the hub what the owner owns; `done` may be called before this returns. */
    ofOwner(now: number, owner: Address, done: (now: number, r: Resolution) => void): void;
  };
  readonly traffic: {
    /** Whether traffic still wants one of these prefixes. */
    aboveThreshold(prefixes: readonly Prefix[]): boolean;
    /** Bits per second below which a shortcut is idle. */
    readonly lowRate: number;
  };
  /** The owner whose shortcut offers a prefix, or is still taking its offer back; a daemon takes one offer for a prefix. */
  offeredFor(prefix: Prefix): Address | undefined;
  directUsable(): Verdict;
}
