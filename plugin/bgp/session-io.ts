/**
 * The inputs and outputs of a BGP session: plain values, so that a driver with sockets and a test in virtual time
 * run the same machine.
 */
import type { Family } from "../net/address.js";
import type { Agreement } from "./negotiation.js";
import type { BgpProblem } from "./problem.js";
import type { RouteChange } from "./rib.js";

export type SessionInput =
  | { readonly kind: "start" }
  /** Sends Cease / Administrative Shutdown with the reason (RFC 9003). */
  | { readonly kind: "stop"; readonly reason: string }
  | { readonly kind: "connected" }
  /** The connection could not be made, or has ended. Not for one that an output `close` ended. */
  | { readonly kind: "closed"; readonly reason: string }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** A deadline of `Session.pollTimeout` has passed. Harmless when early. */
  | { readonly kind: "timeout" };

export type SessionOutput =
  /** Make a connection; an older one is gone or has been ordered closed. */
  | { readonly kind: "connect" }
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  /** Close once what was sent before has left. */
  | { readonly kind: "close" }
  | { readonly kind: "established"; readonly agreement: Agreement }
  /** Adj-RIB-In is empty; one for each `established`. */
  | { readonly kind: "down"; readonly reason: string }
  | { readonly kind: "routes"; readonly changes: readonly RouteChange[] }
  /** The neighbour has sent all it has for the family: after `established`, and after each refresh that it demarcates. */
  | { readonly kind: "end-of-rib"; readonly family: Family }
  | { readonly kind: "problem"; readonly problem: BgpProblem };
