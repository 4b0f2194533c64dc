/**
 * What enters and leaves an engine. Inputs are facts that the driver observed (mostly kernel state); outputs are effects that
 * it carries out in order. The machine never assumes that an effect happened: it waits for the fact.
 */

import type { Address, Endpoint, Prefix } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import type { CandidateKind, Id64 } from "../wire/control/message.js";
import type { ProbeSession, StreamEvent } from "./probe/stream.js";
import type { NatForecast, NatPrognosis, Reason, Verdict } from "./reasons.js";

export type Presence = "present" | "checking" | "absent" | "returned";

/** The daemon's session with at least one of the hubs; `none`: it has no session with any. */
export type HubSession = "up" | "down" | "none";

/** An address of an interface, with the length of its on-link prefix. */
export interface InterfaceAddress {
  readonly dev: string;
  readonly address: Address;
  readonly length: number;
}

/** The direct path against the way by the hub, as measured. */
export type RoundTrip = "unknown" | "not-slower" | "slower";

export interface OfferClasses {
  readonly owner: Address;
  readonly natPrognosis: NatPrognosis;
  /** Index of {@link RATE_CLASSES}. */
  readonly rate: number;
  readonly roundTrip: RoundTrip;
}

/** The kind of the other end's candidate in a pair. */
export type PairKind = CandidateKind | "peer-reflexive" | "unknown";

/** By which way the FIB sends a prefix at this moment, overrides of our own included. */
export type Path = "overlay" | "direct" | "other" | "none";

/** The daemon's decision about one offered prefix, as the selection watcher reads it from the kernel. */
export interface RouteState {
  readonly prefix: Prefix;
  readonly selected: boolean;
  /** In the daemon's terms, when it is not selected. */
  readonly reason: Reason | undefined;
  readonly path: Path;
  /** The same without overrides of our own: where the daemon's own route points. */
  readonly daemonPath: Path;
  /** The offer does harm while it stands, such as taking the hub route out of the FIB: it goes at once. */
  readonly harmful: boolean;
}

/** What the daemon itself has for a destination, without any offer. */
export interface Underneath {
  /** The route's own prefix: the destination itself, or one that covers it. */
  readonly prefix: Prefix;
  readonly nextHop: Address;
}

export type UnderneathVerdict =
  | ({ readonly ok: true } & Underneath)
  | {
      readonly ok: false;
      readonly reason: Reason;
      /** There is no such route, or its next hop is not reached: as it is when the hub has gone. */
      readonly gone: boolean;
    };

/** The daemon's routes, asked synchronously. */
export interface RoutingView {
  /** The route that lies (or would lie) underneath an offer for `prefix`, if it leaves by the overlay; otherwise why not. */
  underneath(prefix: Prefix): UnderneathVerdict;
  /** Whether this router has a way of its own to all of `prefix`: a route that is no default route and leaves neither by the overlay nor by the direct interface. */
  routesItself(prefix: Prefix): boolean;
  /** By which way the FIB sends to an address now. */
  wayTo(a: Address): Path;
}

/** A snapshot of the direct interface's peers. */
export interface PeerStatus {
  readonly publicKey: PublicKey;
  readonly endpoint: Endpoint | undefined;
  /** Milliseconds since the epoch; 0 when there was none. */
  readonly lastHandshake: number;
  readonly rxBytes: number;
  readonly txBytes: number;
}

export type Input =
  | { readonly kind: "datagram"; readonly from: Endpoint; readonly payload: Uint8Array }
  /** A probe of the attempt that is probed, which arrived from `owner` at `at`; or that its path failed. */
  | { readonly kind: "probe"; readonly owner: Address; readonly event: StreamEvent }
  /** A datagram in the underlay, to the direct interface's port or the one for observing, that looks like a ping. */
  | { readonly kind: "ping"; readonly from: Endpoint; readonly to: Endpoint; readonly payload: Uint8Array }
  /** A router let one of our pings die. */
  | { readonly kind: "exceeded"; readonly hop: Address; readonly to: Endpoint; readonly ttl: number }
  /** Whether pings can be sent at all; otherwise why not. */
  | { readonly kind: "pings"; readonly verdict: Verdict }
  /** All addresses of this router. */
  | { readonly kind: "addresses"; readonly addresses: readonly InterfaceAddress[] }
  | {
      readonly kind: "traffic";
      readonly samples: readonly { readonly destination: Prefix; readonly bytes: number }[];
    }
  | { readonly kind: "route-state"; readonly state: RouteState }
  /** Feed or FIB changed for these prefixes; "all" after a feed reset. */
  | { readonly kind: "underneath-changed"; readonly prefixes: readonly Prefix[] | "all" }
  | { readonly kind: "offers-session"; readonly verdict: Verdict }
  /** An offer of the prefix does harm, or would; it is not to stand until `harm-over`. */
  | { readonly kind: "offer-blocked"; readonly prefix: Prefix; readonly reason: Reason }
  /** What made them do harm has changed. */
  | { readonly kind: "offer-unblocked"; readonly prefixes: readonly Prefix[] }
  | { readonly kind: "explained"; readonly prefix: Prefix; readonly reason: Reason }
  /** Direct interface, as read from the kernel. */
  | { readonly kind: "peers"; readonly readAt: number; readonly peers: readonly PeerStatus[] }
  /** A `peer` output took effect, or failed. */
  | { readonly kind: "peer-applied"; readonly publicKey: PublicKey; readonly error: string | undefined }
  /** AllowedIPs and endpoints of the overlay interface. */
  | {
      readonly kind: "overlay-peers";
      readonly peers: readonly {
        readonly publicKey: PublicKey;
        readonly allowedIps: readonly Prefix[];
        readonly endpoint: Endpoint | undefined;
        readonly rxBytes: number;
      }[];
    }
  /** The daemon's own session with the hubs. */
  | { readonly kind: "hub-session"; readonly session: HubSession }
  /** Hub: the main FIB, whole. */
  | { readonly kind: "fib"; readonly routes: readonly (readonly [Prefix, { readonly overlay: boolean }])[] }
  /** Whether packets may use the direct interface at all (link up, rp_filter loose on both); otherwise why not. */
  | { readonly kind: "direct-usable"; readonly verdict: Verdict }
  /** The operator's `shortcutctl purge`. */
  | { readonly kind: "purge"; readonly owner: Address | "all" }
  | { readonly kind: "stop" };

export interface PeerWant {
  readonly publicKey: PublicKey;
  readonly endpoint: Endpoint | undefined;
  readonly allowedIps: readonly Prefix[];
  readonly keepalive: number;
}

/** The life of one shortcut, as an operator reads it in logs, `status` and the lab's timeline. */
export interface Transition {
  readonly owner: Address;
  readonly stage: Stage;
  readonly previous: Stage | undefined;
  readonly reason: Reason | undefined;
  readonly prefixes: readonly Prefix[];
}

export type Stage =
  | "resolving"
  | "exchanging"
  | "offered"
  | "refused"
  | "connecting"
  | "direct"
  | "returning"
  | "draining"
  | "backoff"
  | "gone";

/** Facts inside a stage that a timeline wants to show. */
export type Milestone =
  | "over-threshold"
  | "resolved"
  | "exchanged"
  | "selected"
  | "selected-by-owner"
  | "opened"
  | "path-found"
  | "better-path"
  | "peer-created"
  | "handshake"
  | "path-proven"
  | "flipping"
  | "flipped"
  | "path-failed"
  | "outlives-hub"
  | "flipped-back"
  | "override"
  | "peer-removed";

export type Output =
  | { readonly kind: "send"; readonly to: Endpoint; readonly payload: Uint8Array }
  /** Probes of a path, sent and received until the session is undefined. */
  | {
      readonly kind: "probing";
      readonly owner: Address;
      readonly publicKey: PublicKey;
      readonly session: ProbeSession | undefined;
    }
  | {
      readonly kind: "ping";
      readonly to: Endpoint;
      readonly fromPort: number;
      readonly source: Address | undefined;
      readonly ttl: number | undefined;
      readonly payload: Uint8Array;
    }
  /** Where an alias host route points; `absent` removes it. */
  | { readonly kind: "alias"; readonly alias: Address; readonly to: "overlay" | "direct" | "absent" }
  | {
      readonly kind: "offer";
      readonly prefix: Prefix;
      readonly alias: Address;
      readonly underneath: Prefix;
      readonly classes: OfferClasses;
    }
  /** An offer that stands has other marks now. */
  | {
      readonly kind: "update-classes";
      readonly prefix: Prefix;
      readonly alias: Address;
      readonly classes: OfferClasses;
    }
  | { readonly kind: "withdraw"; readonly prefix: Prefix }
  | { readonly kind: "explain"; readonly prefix: Prefix; readonly alias: Address }
  | { readonly kind: "peer"; readonly owner: Address; readonly want: PeerWant }
  | { readonly kind: "unpeer"; readonly owner: Address; readonly publicKey: PublicKey }
  /** What the hub attests for this router: the sources that other ends accept from it. */
  | { readonly kind: "own-prefixes"; readonly prefixes: readonly Prefix[] }
  /** Wanted now: the inputs `overlay-peers` and `hub-session`. */
  | { readonly kind: "inspect-hubs"; readonly hubs: readonly Address[] }
  | { readonly kind: "override"; readonly prefix: Prefix; readonly want: boolean }
  | { readonly kind: "transition"; readonly transition: Transition }
  | {
      readonly kind: "milestone";
      readonly owner: Address;
      readonly milestone: Milestone;
      readonly detail: string;
      /** Milliseconds since it happened, when the owner was not known yet. */
      readonly ago?: number;
    }
  | { readonly kind: "problem"; readonly place: string; readonly problem: string }
  /** `stop` is complete: nothing of this engine is left in kernel or daemon. */
  | { readonly kind: "stopped" };

/** A row of `shortcutctl status`. */
export interface ShortcutStatus {
  readonly owner: Address;
  readonly stage: Stage;
  readonly since: number;
  readonly origin: "local" | "remote";
  readonly reason: Reason | undefined;
  readonly prefixes: readonly {
    readonly prefix: Prefix;
    readonly alias: Address | undefined;
    readonly selected: boolean;
    readonly path: Path;
    readonly reason: Reason | undefined;
  }[];
  readonly publicKey: PublicKey | undefined;
  readonly bootId: Id64 | undefined;
  readonly endpoint: Endpoint | undefined;
  /** What kind of candidate the endpoint is. */
  readonly candidate: PairKind | undefined;
  /** What the NATs of both ends let expect; undefined before the exchange. */
  readonly nat: NatForecast | undefined;
  /** What the offers say of the shortcut; undefined when none stands. */
  readonly classes: OfferClasses | undefined;
  readonly retryAt: number | undefined;
  /** What failures of the direct path cost: penalty, and milliseconds until it may be used again. */
  readonly damping: { readonly penalty: number; readonly suppressedFor: number };
  /** Milliseconds, of the direct path. */
  readonly roundTrip: number | undefined;
  /** The same by the hub, between the same two ends. */
  readonly hubRoundTrip: number | undefined;
  readonly bitsPerSecond: number | undefined;
  /** Direct, and probed slowly since nothing goes by it. */
  readonly quiet: boolean;
}
