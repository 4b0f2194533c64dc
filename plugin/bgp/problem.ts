/**
 * The problems of a session, as values for the log and for `status`: what happened, and in words what an
 * operator can do about it.
 */

import type { Family, Prefix } from "../net/address.js";
import { unreachable } from "../net/result.js";
import type { Seconds } from "../net/units.js";
import { describeNotification, type Notification } from "../wire/bgp/notification.js";

export type BgpProblem =
  /** The daemon could not be reached, or did not answer the connection in time. */
  | { readonly kind: "connect-failed"; readonly reason: string }
  | { readonly kind: "connection-lost"; readonly reason: string }
  | { readonly kind: "wrong-as"; readonly expected: number; readonly received: number }
  | { readonly kind: "hold-timer-expired"; readonly holdTime: Seconds }
  | { readonly kind: "notification-received"; readonly notification: Notification }
  /** The neighbour broke the protocol, or its OPEN is unacceptable; `notification` was sent. */
  | { readonly kind: "protocol-error"; readonly notification: Notification; readonly reason: string }
  | { readonly kind: "family-missing"; readonly families: readonly Family[] }
  | {
      readonly kind: "treat-as-withdraw";
      readonly reasons: readonly string[];
      readonly prefixes: readonly Prefix[];
    }
  | { readonly kind: "attribute-discard"; readonly reasons: readonly string[] }
  /** Routes of ours that no UPDATE can carry. */
  | { readonly kind: "unsendable"; readonly prefixes: readonly Prefix[]; readonly reason: string };

const some = (prefixes: readonly Prefix[]): string =>
  prefixes.length <= 3
    ? prefixes.join(", ")
    : `${prefixes.slice(0, 3).join(", ")} and ${prefixes.length - 3} more`;

/** One line, with the remedy where there is one. */
export function describeProblem(p: BgpProblem): string {
  switch (p.kind) {
    case "connect-failed":
      return `cannot connect: ${p.reason} (does the daemon run, and does its BGP listen on this address?)`;
    case "connection-lost":
      return `connection lost: ${p.reason}`;
    case "wrong-as":
      return `the daemon says it is AS ${p.received}, configured is AS ${p.expected} (set the AS of the session to ${p.received}, or correct the daemon's local AS)`;
    case "hold-timer-expired":
      return `the daemon was silent for the hold time of ${p.holdTime} s`;
    case "notification-received": {
      const { code, subcode } = p.notification;
      const remedy =
        code === 2 && subcode === 2
          ? " (the daemon expects another AS from shortcutd: compare its neighbour's remote AS)"
          : code === 2 && subcode === 3
            ? " (the BGP identifier of shortcutd must differ from the router's own)"
            : "";
      return `the daemon ended the session: ${describeNotification(p.notification)}${remedy}`;
    }
    case "protocol-error":
      return `session ended with ${describeNotification(p.notification)}: ${p.reason}`;
    case "family-missing":
      return `the daemon has no ${p.families.map((f) => `IPv${f} unicast`).join(" and ")} on this session (activate the address family for this neighbour)`;
    case "treat-as-withdraw":
      return `malformed UPDATE, ${some(p.prefixes)} treated as withdrawn: ${p.reasons.join("; ")}`;
    case "attribute-discard":
      return `attribute of an UPDATE discarded: ${p.reasons.join("; ")}`;
    case "unsendable":
      return `${some(p.prefixes)} cannot be announced: ${p.reason}`;
    default:
      return unreachable(p);
  }
}
