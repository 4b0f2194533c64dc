/**
 * The BGP message header (RFC 4271 §4.1) and the framer that cuts messages from a byte stream. A header error
 * (RFC 4271 §6.1) comes as the NOTIFICATION to send; after it the stream is lost and the framer yields nothing more.
 *
 *     marker: 16 × 0xff  length: 2 (19 to 4096, header included)  type: 1
 */
import { concat } from "../bytes.js";
import { u16 } from "./bytes.js";
import { type Notification, notification } from "./notification.js";

export const MAX_MESSAGE = 4096;
const HEADER = 19;

export const MESSAGE = { OPEN: 1, UPDATE: 2, NOTIFICATION: 3, KEEPALIVE: 4, ROUTE_REFRESH: 5 } as const;
export type MessageType = keyof typeof MESSAGE;

const TYPES: Readonly<Record<number, MessageType>> = {
  1: "OPEN",
  2: "UPDATE",
  3: "NOTIFICATION",
  4: "KEEPALIVE",
  5: "ROUTE_REFRESH",
};

/** Smallest and largest length on the wire, header included. RFC 2918 and RFC 7313 leave ROUTE-REFRESH to its own check. */
const LENGTHS: Readonly<Record<MessageType, readonly [number, number]>> = {
  OPEN: [29, MAX_MESSAGE],
  UPDATE: [23, MAX_MESSAGE],
  NOTIFICATION: [21, MAX_MESSAGE],
  KEEPALIVE: [19, 19],
  ROUTE_REFRESH: [19, MAX_MESSAGE],
};

export type Frame =
  | { readonly kind: "message"; readonly type: MessageType; readonly body: Uint8Array }
  | { readonly kind: "error"; readonly notification: Notification; readonly reason: string };

/** A message with its header. The body must fit: the encoders see to it. */
export const frame = (type: number, body: Uint8Array): Uint8Array =>
  concat([new Uint8Array(16).fill(0xff), u16(HEADER + body.length), Uint8Array.of(type), body]);

export const encodeKeepalive = (): Uint8Array => frame(MESSAGE.KEEPALIVE, new Uint8Array(0));

export class Framer {
  private buffer: Uint8Array = new Uint8Array(0);
  private lost = false;

  /** Bytes as they came from the stream; kept by reference until consumed. */
  push(bytes: Uint8Array): void {
    if (this.lost) return;
    this.buffer = this.buffer.length === 0 ? bytes : concat([this.buffer, bytes]);
  }

  private error(n: Notification, reason: string): Frame {
    this.lost = true;
    this.buffer = new Uint8Array(0);
    return { kind: "error", notification: n, reason };
  }

  /** The next whole message, an error, or undefined when more bytes are needed. */
  next(): Frame | undefined {
    const b = this.buffer;
    // Another protocol (an HTTP server, a banner) is recognised before nineteen bytes have come.
    for (let i = 0; i < 16 && i < b.length; i++)
      if (b[i] !== 0xff) return this.error(notification(1, 1), "the marker is not all ones: this is not BGP");
    if (b.length < HEADER) return undefined;
    const length = ((b[16] ?? 0) << 8) | (b[17] ?? 0);
    const code = b[18] ?? 0;
    const bad = (reason: string): Frame => this.error(notification(1, 2, b.slice(16, 18)), reason);
    if (length < HEADER || length > MAX_MESSAGE) return bad(`a message of ${length} bytes`);
    const type = TYPES[code];
    if (type === undefined)
      return this.error(notification(1, 3, Uint8Array.of(code)), `message type ${code}`);
    const [least, most] = LENGTHS[type];
    if (length < least || length > most) return bad(`${type} of ${length} bytes`);
    if (b.length < length) return undefined;
    this.buffer = b.subarray(length);
    return { kind: "message", type, body: b.subarray(HEADER, length) };
  }
}
