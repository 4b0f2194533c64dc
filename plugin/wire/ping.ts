/**
 * Pings travel in the underlay, from the direct interface's own UDP port: what a NAT does with them is what it will do with
 * WireGuard. They are the connectivity checks of RFC 8445 (open, ping, pong) and its binding requests (observe, observed: RFC 8489
 * without STUN's form, since no STUN server is needed). WireGuard ignores them: its messages begin with a type from 1 to 4.
 *
 *   0        4         5      6        8              16        24         28           32                48       50         52   68
 *   | magic  | version | kind | flags  | transaction  | boot ID | my epoch | your epoch | observed address | port   | reserved | MAC |
 *
 * The MAC is HMAC-SHA256, cut to 16 bytes, under the X25519 secret of the two direct keys, over "shortcutd ping 1" and
 * the 52 bytes before it. The boot ID says whose key that is. `observed` is the source that the answerer saw (IPv4 as ::ffff:a.b.c.d).
 */
import { type Address, addressBytes, addressFromBytes, type Endpoint } from "../net/address.js";
import { err, ok, type Result } from "../net/result.js";
import { id64Bytes, id64FromBytes } from "./control/codec.js";
import { type Epochs, type Id64, MAC_BYTES } from "./control/message.js";

/** "scng" */
export const PING_MAGIC = 0x73636e67;
export const PING_BYTES = 68;
const SIGNED_BYTES = PING_BYTES - MAC_BYTES;
const VERSION = 1;

export type PingKind =
  /** Opens the sender's own NAT; sent so that it dies on the way. */
  | "open"
  /** Asks for a pong: does this pair of endpoints work? */
  | "ping"
  | "pong"
  /** To a hub: from where do I come? */
  | "observe"
  | "observed";

const kinds: readonly PingKind[] = ["open", "ping", "pong", "observe", "observed"];

export interface Ping {
  readonly kind: PingKind;
  /** The sender's WireGuard peer for the receiver exists: a handshake would be answered. */
  readonly ready: boolean;
  readonly transaction: Id64;
  /** Of the sender. */
  readonly bootId: Id64;
  readonly epochs: Epochs;
  /** In answers: the source of what is answered, as it arrived. */
  readonly observed: Endpoint | undefined;
}

const domain = new TextEncoder().encode("shortcutd ping 1");

/** Returns the bytes that the MAC covers. */
export function pingMacInput(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(domain.length + SIGNED_BYTES);
  out.set(domain);
  out.set(bytes.subarray(0, SIGNED_BYTES), domain.length);
  return out;
}

export const pingMac = (bytes: Uint8Array): Uint8Array => bytes.subarray(SIGNED_BYTES, PING_BYTES);

function mapped(a: Address): Uint8Array {
  const bytes = addressBytes(a);
  if (bytes.length === 16) return bytes;
  const out = new Uint8Array(16);
  out.set([0xff, 0xff], 10);
  out.set(bytes, 12);
  return out;
}

/** The inverse of `mapped`: an IPv4-mapped address is IPv4. */
function unmapped(bytes: Uint8Array): Address {
  const is4 = bytes.subarray(0, 10).every((b) => b === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return addressFromBytes(is4 ? bytes.slice(12) : bytes.slice());
}

/** The MAC's place is left zero: {@link pingMacInput} of these bytes is what has to be signed. */
export function encodePing(p: Ping): Uint8Array {
  const out = new Uint8Array(PING_BYTES);
  const view = new DataView(out.buffer);
  view.setUint32(0, PING_MAGIC);
  out[4] = VERSION;
  out[5] = kinds.indexOf(p.kind) + 1;
  view.setUint16(6, p.ready ? 1 : 0);
  out.set(id64Bytes(p.transaction), 8);
  out.set(id64Bytes(p.bootId), 16);
  view.setUint32(24, p.epochs.mine);
  view.setUint32(28, p.epochs.yours);
  if (p.observed !== undefined) {
    out.set(mapped(p.observed.address), 32);
    view.setUint16(48, p.observed.port);
  }
  return out;
}

/** The error says which field is wrong. The MAC is not looked at. */
export function decodePing(bytes: Uint8Array): Result<Ping, string> {
  if (bytes.length !== PING_BYTES) return err(`${bytes.length} bytes, a ping has ${PING_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== PING_MAGIC) return err("not a ping: wrong magic");
  if (bytes[4] !== VERSION) return err(`ping version ${bytes[4]} is not ${VERSION}`);
  const kind = kinds[(bytes[5] ?? 0) - 1];
  if (kind === undefined) return err(`unknown kind ${bytes[5]}`);
  const port = view.getUint16(48);
  return ok({
    kind,
    ready: (view.getUint16(6) & 1) !== 0,
    transaction: id64FromBytes(bytes.subarray(8, 16)),
    bootId: id64FromBytes(bytes.subarray(16, 24)),
    epochs: { mine: view.getUint32(24), yours: view.getUint32(28) },
    observed: port === 0 ? undefined : { address: unmapped(bytes.subarray(32, 48)), port },
  });
}
