/**
 * Inputs and outputs of an engine. Inputs are facts that the driver observed (mostly kernel state).
 * Outputs are effects that the driver carries out in order. The engine never assumes that an effect
 * happened: it waits for the fact.
 */

import type { Address, Endpoint, Prefix } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import type { CandidateKind, Id64 } from "../wire/control/message.js";
import type { Pins } from "./control/trust.js";
import type { ProbeSession, StreamEvent } from "./probe/stream.js";
import type { NatForecast, NatPrognosis, Reason, Verdict } from "./reasons.js";

export type Presence = "present" | "checking" | "absent" | "returned";

/**
 * The daemon's session with at least one of the hubs; `none`: the daemon has no session with any
 * hub.
 */
export type HubSession = "up" | "down" | "none";

/** An address of an interface, with the length of its on-link prefix. */
export interface InterfaceAddress {
  readonly dev: string;
  readonly address: Address;
  readonly length: number;
}

/** The round trip of the direct path compared with the hub path, as measured. */
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

/** The path on which the FIB sends a prefix at this moment, our own overrides included. */
export type Path = "overlay" | "direct" | "other" | "none";

/**
 * The daemon's decision about one offered prefix, as the selection watcher reads it from the
 * kernel.
 */
export interface RouteState {
  readonly prefix: Prefix;
  readonly selected: boolean;
  /** The reason in the daemon's terms, when the offer is not selected. */
  readonly reason: Reason | undefined;
  readonly path: Path;
  /** The same path without our own overrides: where the daemon's own route points. */
  readonly daemonPath: Path;
  /**
   * Whether the offer must be withdrawn at once, for example because it removes the hub route from
   * the FIB.
   */
  readonly harmful: boolean;
}

/** The daemon's own route for a destination, without any offer. */
export interface Underneath {
  /** The route's own prefix: the destination itself, or one that covers it. */
  readonly prefix: Prefix;
  readonly nextHop: Address;
  /** The overlay interfaces that it leaves through, at least one. Equal next hops on two interfaces are two next hops. */
  readonly via: readonly string[];
}

/** The hub's FIB entry: the overlay interfaces that a prefix leaves through; empty when it leaves elsewhere too. */
export interface FibEntry {
  readonly via: readonly string[];
}

export type UnderneathVerdict =
  | ({ readonly ok: true } & Underneath)
  | {
      readonly ok: false;
      readonly reason: Reason;
      /** Whether the route is missing or its next hop is unreachable, as when the hub is gone. */
      readonly gone: boolean;
    };

/** The daemon's routes, asked synchronously. */
export interface RoutingView {
  /**
   * Returns the route that lies (or would lie) underneath an offer for `prefix`, if it leaves via
   * the overlay; otherwise why not.
   */
  underneath(prefix: Prefix): UnderneathVerdict;
  /**
   * Returns whether this router has its own route to all of `prefix`. A default route, and a route
   * via the overlay or the direct interface, do not count.
   */
  routesItself(prefix: Prefix): boolean;
  /**
   * Returns the overlay interfaces through which the FIB sends packets to an overlay address: several
   * under ECMP, none when it is not reached via the overlay.
   */
  overlayTo(to: Address): readonly string[];
  /** Returns the path on which the kernel sends the direct interface's own packets to an endpoint. */
  wayTo(to: Endpoint): Path;
}

/** A snapshot of the direct interface's peers. */
export interface PeerStatus {
  readonly publicKey: PublicKey;
  readonly endpoint: Endpoint | undefined;
  /** Time of the last handshake, in milliseconds since the epoch; 0 when there was none. */
  readonly lastHandshake: number;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** An overlay interface, and its WireGuard peers. */
export interface OverlayDevice {
  readonly dev: string;
  /** The interface's own key; undefined when it has none. */
  readonly key: PublicKey | undefined;
  readonly peers: readonly OverlayPeer[];
}

export interface OverlayPeer {
  readonly publicKey: PublicKey;
  readonly allowedIps: readonly Prefix[];
  readonly endpoint: Endpoint | undefined;
  readonly rxBytes: number;
}

export type Input =
  /** A datagram of the control protocol; `dev` is the overlay interface that it came in by. */
  | {
      readonly kind: "datagram";
      readonly dev: string;
      readonly from: Endpoint;
      readonly payload: Uint8Array;
    }
  /**
   * A probe of the current attempt that arrived from `owner` at `at`; or the failure of its path.
   */
  | { readonly kind: "probe"; readonly owner: Address; readonly event: StreamEvent }
  /**
   * A datagram in the underlay that looks like a ping, to the port of the direct interface or to
   * the observing port.
   */
  | { readonly kind: "ping"; readonly from: Endpoint; readonly to: Endpoint; readonly payload: Uint8Array }
  /** An ICMP message: a router dropped one of our pings because its time to live expired. */
  | { readonly kind: "exceeded"; readonly hop: Address; readonly to: Endpoint; readonly ttl: number }
  /** A change of routes or policy rules: endpoints may be reached another way. */
  | { readonly kind: "ways-changed" }
  /** Whether pings can be sent; otherwise why not. */
  | { readonly kind: "pings"; readonly verdict: Verdict }
  /** All addresses of this router. */
  | { readonly kind: "addresses"; readonly addresses: readonly InterfaceAddress[] }
  | {
      readonly kind: "traffic";
      readonly samples: readonly { readonly destination: Prefix; readonly bytes: number }[];
    }
  | { readonly kind: "route-state"; readonly state: RouteState }
  /** A change of feed or FIB for these prefixes; "all" after a feed reset. */
  | { readonly kind: "underneath-changed"; readonly prefixes: readonly Prefix[] | "all" }
  | { readonly kind: "offers-session"; readonly verdict: Verdict }
  /**
   * A block: a neighbour would see the offer of the prefix, or lose its route. The offer must not
   * stand until `offer-unblocked`.
   */
  | { readonly kind: "offer-blocked"; readonly prefix: Prefix; readonly reason: Reason }
  /** The end of a block: its cause has changed. */
  | { readonly kind: "offer-unblocked"; readonly prefixes: readonly Prefix[] }
  | { readonly kind: "explained"; readonly prefix: Prefix; readonly reason: Reason }
  /** The peers of the direct interface, as read from the kernel. */
  | { readonly kind: "peers"; readonly readAt: number; readonly peers: readonly PeerStatus[] }
  /** The result of a `peer` output: it took effect, or failed. */
  | { readonly kind: "peer-applied"; readonly publicKey: PublicKey; readonly error: string | undefined }
  /** AllowedIPs and endpoints of the overlay interface. */
  /** All overlay interfaces that exist. */
  | { readonly kind: "overlay-peers"; readonly devices: readonly OverlayDevice[] }
  /** Whether the overlay interface can be used, when that has changed, or when it is another one. */
  | { readonly kind: "overlay"; readonly verdict: Verdict }
  /** The daemon's own session with the hubs. */
  | { readonly kind: "hub-session"; readonly session: HubSession }
  /** The whole main FIB of a hub. */
  | { readonly kind: "fib"; readonly routes: readonly (readonly [Prefix, FibEntry])[] }
  /**
   * Whether packets may use the direct interface (link up, rp_filter loose on both interfaces);
   * otherwise why not.
   */
  | { readonly kind: "direct-usable"; readonly verdict: Verdict }
  /** Whether the direct interface has its link-local address: not where IPv6 is off. */
  | { readonly kind: "link-local"; readonly present: boolean }
  /** This router drops packets of an owner's site on the direct interface, and not on the overlay. */
  | { readonly kind: "direct-blocked"; readonly owner: Address; readonly reason: Reason }
  /** The direct keys that the operator now pins. */
  | { readonly kind: "pins"; readonly pins: Pins }
  /** The operator's `shortcutctl purge`. */
  | { readonly kind: "purge"; readonly owner: Address | "all" }
  | { readonly kind: "stop" };

export interface PeerWant {
  readonly publicKey: PublicKey;
  readonly endpoint: Endpoint | undefined;
  readonly allowedIps: readonly Prefix[];
  readonly keepalive: number;
}

/** A change of stage of one shortcut, as logs, `status` and the lab's timeline show it. */
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

/** Facts inside a stage that a timeline shows. */
export type Milestone =
  | "over-threshold"
  | "resolved"
  | "exchanged"
  | "selected"
  | "selected-by-owner"
  | "offer-refused"
  | "offer-accepted"
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
  /** The probes of a path, sent and received until the session is undefined. */
  | {
      readonly kind: "probing";
      readonly owner: Address;
      readonly publicKey: PublicKey;
      /** Whether they go between link-local addresses; otherwise between overlay addresses. */
      readonly linkLocal: boolean;
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
  /** Prefixes that a hub attests for an owner other than this router. */
  | { readonly kind: "attested"; readonly prefixes: readonly Prefix[] }
  /** The target of an alias host route; `absent` removes it. */
  | {
      readonly kind: "alias";
      readonly alias: Address;
      readonly to: "overlay" | "direct" | "absent";
      /** The overlay interfaces of the route underneath. */
      readonly via: readonly string[];
    }
  | {
      readonly kind: "offer";
      readonly prefix: Prefix;
      readonly alias: Address;
      readonly underneath: Prefix;
      readonly classes: OfferClasses;
    }
  /** The new classes of an offer that stands. */
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
  /**
   * The prefixes that the hub attests for this router: the sources that other ends accept from it.
   */
  | { readonly kind: "own-prefixes"; readonly prefixes: readonly Prefix[] }
  /** A request for the inputs `overlay-peers` and `hub-session`. */
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
  /** The end of `stop`: nothing of this engine is left in kernel or daemon. */
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
  /** The kind of candidate of the endpoint. */
  readonly candidate: PairKind | undefined;
  /** The NAT forecast of both ends; undefined before the exchange. */
  readonly nat: NatForecast | undefined;
  /** The classes that the offers carry; undefined when no offer stands. */
  readonly classes: OfferClasses | undefined;
  readonly retryAt: number | undefined;
  /**
   * Flap damping of the direct path: penalty, and milliseconds until the path may be used again.
   */
  readonly damping: { readonly penalty: number; readonly suppressedFor: number };
  /** Round trip of the direct path, in milliseconds. */
  readonly roundTrip: number | undefined;
  /** Round trip of the hub path between the same two ends, in milliseconds. */
  readonly hubRoundTrip: number | undefined;
  readonly bitsPerSecond: number | undefined;
  /** Whether the path is direct and probed slowly, since it carries no traffic. */
  readonly quiet: boolean;
}
