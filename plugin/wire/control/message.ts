/**
 * The control protocol as values (proto/shortcutd.proto is the wire form, codec.ts the way between). Identifiers of
 * 64 bits are 16 hex digits, so that they compare with `===` and read well in a log.
 */

import type { Address, Endpoint, Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Seconds } from "../../net/units.js";

declare const id64: unique symbol;
/** 64 random bits as 16 lower-case hex digits. */
export type Id64 = string & { readonly [id64]: true };

/** The version that this implementation speaks: the only one so far. */
export const PROTOCOL_VERSION = 1;
/** Larger datagrams are neither sent nor looked at: below every path's minimum MTU (RFC 8200 §5). */
export const MAX_DATAGRAM = 1232;
/** A request without cookie is padded to this, so that a Challenge never amplifies. */
export const MIN_REQUEST = 160;
export const COOKIE_BYTES = 16;
export const MAC_BYTES = 16;
/** Bounds on repeated fields: what a datagram of MAX_DATAGRAM can carry. */
export const MAX_PREFIXES = 46;
export const MAX_CANDIDATES = 12;
export const MAX_REASON = 200;

export interface Epochs {
  readonly mine: number;
  readonly yours: number;
}

export type RefusalCode =
  | "not-registered"
  | "not-found"
  | "ambiguous"
  | "not-a-hub"
  | "busy"
  | "key-in-use"
  | "stale"
  | "not-permitted"
  | "version"
  | "unspecified";

/** How a router knows that it may be reached there: a hub saw it, it has the address, or its operator says so. */
export type CandidateKind = "reflexive" | "host" | "configured";

export interface Candidate extends Endpoint {
  readonly kind: CandidateKind;
}

/** How a NAT maps one port towards several destinations, in the terms of RFC 4787 section 4.1; `none` without a NAT. */
export type Mapping =
  | "unknown"
  | "none"
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent";

export interface ExchangeBody {
  readonly epochs: Epochs;
  readonly candidates: readonly Candidate[];
  readonly mtu: number;
  /** Whether this end can send and answer pings. */
  readonly pings: boolean;
  readonly mapping: Mapping;
  /** Whether this end's direct interface has its link-local address: probes are link-local where both have one. */
  readonly linkLocal: boolean;
  /** Shows that this end has the pre-shared key of the pair: {@link MAC_BYTES}; empty where it has none. */
  readonly pskProof: Uint8Array;
}

export type RequestBody =
  | {
      readonly kind: "register";
      readonly listenPort: number;
      readonly handshakeAge: Seconds;
      /** MAC under the overlay keys of spoke and hub, {@link MAC_BYTES}. */
      readonly proof: Uint8Array;
    }
  | { readonly kind: "resolve"; readonly destination: Prefix; readonly page: number }
  | { readonly kind: "resolve-owner"; readonly owner: Address; readonly page: number }
  | ({ readonly kind: "exchange" } & ExchangeBody)
  | {
      readonly kind: "selected";
      readonly epochs: Epochs;
      readonly selected: boolean;
      /** One daemon's selection is enough for this end. */
      readonly oneWay: boolean;
      readonly reason: string;
    }
  | { readonly kind: "ready"; readonly epochs: Epochs }
  | {
      readonly kind: "update";
      readonly epochs: Epochs;
      readonly candidates: readonly Candidate[];
      readonly mapping: Mapping;
    }
  | {
      readonly kind: "withdraw";
      readonly epochs: Epochs;
      readonly reason: string;
      /** The direct path itself failed. */
      readonly failed: boolean;
    }
  | { readonly kind: "flipped"; readonly epochs: Epochs }
  | { readonly kind: "purge"; readonly owner: Address }
  | { readonly kind: "keepalive" }
  | { readonly kind: "ping" };

export type ReplyBody =
  | {
      readonly kind: "registered";
      readonly listenPort: number;
      readonly lifetime: Seconds;
      /** 0: this hub answers no `observe`. */
      readonly observePort: number;
    }
  | {
      readonly kind: "resolved";
      readonly owner: Address;
      /** The direct key that the owner has registered: no other speaks for it. */
      readonly publicKey: PublicKey;
      readonly prefixes: readonly Prefix[];
      readonly generation: Id64;
      readonly lifetime: Seconds;
      readonly pages: number;
    }
  | ({ readonly kind: "exchanged" } & ExchangeBody)
  | {
      readonly kind: "kept";
      readonly reflexive: Endpoint | undefined;
      readonly age: number;
      readonly generation: Id64;
    }
  | { readonly kind: "ack" }
  | { readonly kind: "pong" }
  | { readonly kind: "refused"; readonly code: RefusalCode; readonly reason: string };

/** The one body without MAC: it is sent before the answerer believes anything. */
export interface ChallengeBody {
  readonly kind: "challenge";
  readonly cookie: Uint8Array;
}

export type ControlBody = RequestBody | ReplyBody | ChallengeBody;

/** A datagram with its envelope; `body` is the serialised Body that the MAC covers. */
export interface Envelope {
  readonly requestId: Id64;
  readonly reply: boolean;
  readonly cookie: Uint8Array;
  readonly publicKey: PublicKey;
  readonly bootId: Id64;
  readonly body: Uint8Array;
  readonly mac: Uint8Array;
}

/** Why a datagram was dropped; `field` is the path in proto/shortcutd.proto. */
export interface ControlDecodeError {
  readonly field: string;
  readonly problem: string;
  /** Set when the datagram is of another version: it may be answered, the rest never. */
  readonly version?: number;
}
