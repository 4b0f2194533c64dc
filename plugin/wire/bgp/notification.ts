/**
 * NOTIFICATION (RFC 4271 §4.5): why a session ends, with the names that the RFCs give to codes and subcodes
 * (RFC 4271 §6, RFC 4486 and RFC 9003 for Cease, RFC 6608 for FSM errors, RFC 7313 for ROUTE-REFRESH).
 */
import { err, ok, type Result } from "../../net/result.js";
import { concat } from "../bytes.js";

export interface Notification {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
}

interface CodeNames {
  readonly name: string;
  readonly subcodes: Readonly<Record<number, string>>;
}

const CODES: Readonly<Record<number, CodeNames>> = {
  1: {
    name: "Message Header Error",
    subcodes: { 1: "Connection Not Synchronized", 2: "Bad Message Length", 3: "Bad Message Type" },
  },
  2: {
    name: "OPEN Message Error",
    subcodes: {
      1: "Unsupported Version Number",
      2: "Bad Peer AS",
      3: "Bad BGP Identifier",
      4: "Unsupported Optional Parameter",
      6: "Unacceptable Hold Time",
      7: "Unsupported Capability",
    },
  },
  3: {
    name: "UPDATE Message Error",
    subcodes: {
      1: "Malformed Attribute List",
      2: "Unrecognized Well-known Attribute",
      3: "Missing Well-known Attribute",
      4: "Attribute Flags Error",
      5: "Attribute Length Error",
      6: "Invalid ORIGIN Attribute",
      8: "Invalid NEXT_HOP Attribute",
      9: "Optional Attribute Error",
      10: "Invalid Network Field",
      11: "Malformed AS_PATH",
    },
  },
  4: { name: "Hold Timer Expired", subcodes: {} },
  5: {
    name: "Finite State Machine Error",
    subcodes: {
      1: "Receive Unexpected Message in OpenSent State",
      2: "Receive Unexpected Message in OpenConfirm State",
      3: "Receive Unexpected Message in Established State",
    },
  },
  6: {
    name: "Cease",
    subcodes: {
      1: "Maximum Number of Prefixes Reached",
      2: "Administrative Shutdown",
      3: "Peer De-configured",
      4: "Administrative Reset",
      5: "Connection Rejected",
      6: "Other Configuration Change",
      7: "Connection Collision Resolution",
      8: "Out of Resources",
      9: "Hard Reset",
      10: "BFD Down",
    },
  },
  7: { name: "ROUTE-REFRESH Message Error", subcodes: { 1: "Invalid Message Length" } },
};

export const notification = (
  code: number,
  subcode: number,
  data: Uint8Array = new Uint8Array(0),
): Notification => ({ code, subcode, data });

/** The text of an administrative shutdown or reset (RFC 9003); undefined when it is missing or malformed. */
export function shutdownCommunication(n: Notification): string | undefined {
  if (n.code !== 6 || (n.subcode !== 2 && n.subcode !== 4)) return undefined;
  const length = n.data[0] ?? 0;
  if (length === 0 || n.data.length < 1 + length) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(n.data.subarray(1, 1 + length));
    // it goes to logs and terminals: no control characters, those of C1 included
    return [...text].map((c) => (c < " " || (c >= "\x7f" && c <= "\x9f") ? " " : c)).join("");
  } catch {
    return undefined;
  }
}

/** Cease / Administrative Shutdown with a reason for the other end's log (RFC 9003, at most 255 bytes). */
export function administrativeShutdown(reason: string): Notification {
  let text = new TextEncoder().encode(reason);
  if (text.length > 255) {
    // Not inside a UTF-8 sequence: back to a byte that is not a continuation.
    let end = 255;
    while (end > 0 && ((text[end] ?? 0) & 0xc0) === 0x80) end--;
    text = text.slice(0, end);
  }
  return notification(6, 2, concat([Uint8Array.of(text.length), text]));
}

/** `OPEN Message Error / Bad Peer AS (2/2)`, and the shutdown communication if there is one. */
export function describeNotification(n: Notification): string {
  const names = CODES[n.code];
  const code = names?.name ?? "unknown error code";
  const subcode = names?.subcodes[n.subcode] ?? (n.subcode === 0 ? undefined : "unknown subcode");
  const said = shutdownCommunication(n);
  return `${code}${subcode === undefined ? "" : ` / ${subcode}`} (${n.code}/${n.subcode})${said === undefined ? "" : `: "${said}"`}`;
}

/** Body of the message, without the header. */
export const encodeNotification = (n: Notification): Uint8Array =>
  concat([Uint8Array.of(n.code, n.subcode), n.data.subarray(0, 4096 - 21)]);

/** Errors are only ever logged: RFC 4271 §6.4 forbids to answer a NOTIFICATION with one. */
export function decodeNotification(body: Uint8Array): Result<Notification, string> {
  const [code, subcode] = body;
  if (code === undefined || subcode === undefined)
    return err("a NOTIFICATION has a code and a subcode; this one is shorter");
  return ok(notification(code, subcode, body.slice(2)));
}
