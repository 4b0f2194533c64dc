/**
 * Probes travel over the direct interface only, inside WireGuard, which authenticates them. They prove the path in both directions
 * and at full size, measure it, and carry the two-ended commit: a spoke flips only on a probe in which the other end says that it hears,
 * and that it accepts exactly the sources that the hub attests for the one who flips. The model is RFC 5880's asynchronous mode.
 *
 *   0        4        5        6      8          16         24          28           32        36          40
 *   | magic  | version| flags  | size | boot ID  | accepted | my epoch  | your epoch | seq     | sent µs   | echo µs ...
 *   40        44        48            52           56           57         60            64
 *   | echo µs | held µs | interval µs | requires µs | multiplier | reserved | heard full | padding
 */
import { err, ok, type Result } from "../net/result.js";
import { id64Bytes, id64FromBytes } from "./control/codec.js";
import type { Id64 } from "./control/message.js";

export const PROBE_BYTES = 64;
const MAGIC = 0x73636470; // "scdp"
const VERSION = 2;
/** Longest interval that is believed, microseconds: a longer one would make a path that nobody watches. */
const INTERVAL_MAX = 60_000_000;

export interface Probe {
  readonly bootId: Id64;
  /** Generation of the receiver's prefixes whose sources the sender accepts. */
  readonly accepted: Id64;
  readonly epochs: { readonly mine: number; readonly yours: number };
  /** The sender received a probe of the receiver within its detection time. */
  readonly hearYou: boolean;
  /** The sender sees traffic on the path, and so both ends watch it closely. */
  readonly busy: boolean;
  /** The sender's traffic takes the direct path. */
  readonly flipped: boolean;
  /** The sender detected a failure, or tears down: RFC 5880's AdminDown. */
  readonly down: boolean;
  /**
   * The sender still routes, by routes of its own that do not leave by overlay or direct interface, every prefix that the
   * receiver's `accepted` generation names.
   */
  readonly ownsRoutes: boolean;
  readonly sequence: number;
  /** Sender's clock, microseconds modulo 2^32. */
  readonly sentAt: number;
  /** `sentAt` of the last probe received, 0 if none, and how long the sender held it, microseconds. */
  readonly echo: number;
  readonly held: number;
  /** RFC 5880's Desired Min TX Interval and Required Min RX Interval, microseconds, and Detect Mult. */
  readonly interval: number;
  readonly requires: number;
  readonly multiplier: number;
  /** Sequence of the last probe of the overlay's full MTU that the sender received in this epoch, 0 if none. */
  readonly heardFull: number;
  /** Length of the UDP payload. */
  readonly size: number;
}

export function encodeProbe(p: Probe): Uint8Array {
  const out = new Uint8Array(Math.max(PROBE_BYTES, p.size));
  const view = new DataView(out.buffer);
  view.setUint32(0, MAGIC);
  out[4] = VERSION;
  out[5] =
    (p.hearYou ? 1 : 0) | (p.busy ? 2 : 0) | (p.flipped ? 4 : 0) | (p.down ? 8 : 0) | (p.ownsRoutes ? 16 : 0);
  view.setUint16(6, out.length);
  out.set(id64Bytes(p.bootId), 8);
  out.set(id64Bytes(p.accepted), 16);
  view.setUint32(24, p.epochs.mine);
  view.setUint32(28, p.epochs.yours);
  view.setUint32(32, p.sequence);
  view.setUint32(36, p.sentAt);
  view.setUint32(40, p.echo);
  view.setUint32(44, p.held);
  view.setUint32(48, p.interval);
  view.setUint32(52, p.requires);
  out[56] = p.multiplier;
  view.setUint32(60, p.heardFull);
  return out;
}

/** The error says which field is wrong. */
export function decodeProbe(bytes: Uint8Array): Result<Probe, string> {
  if (bytes.length < PROBE_BYTES) return err(`${bytes.length} bytes, a probe has at least ${PROBE_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== MAGIC) return err("not a probe: wrong magic");
  if (bytes[4] !== VERSION) return err(`probe version ${bytes[4]} is not ${VERSION}`);
  const size = view.getUint16(6);
  if (size !== bytes.length) return err(`length field ${size}, received ${bytes.length} bytes`);
  const flags = bytes[5] ?? 0;
  const interval = view.getUint32(48);
  const requires = view.getUint32(52);
  const multiplier = bytes[56] ?? 0;
  // RFC 5880 §6.8.6: a packet whose Detect Mult is zero is discarded
  if (multiplier === 0) return err("multiplier 0");
  for (const [name, value] of [
    ["interval", interval],
    ["requires", requires],
  ] as const)
    if (value === 0 || value > INTERVAL_MAX)
      return err(`${name} ${value} µs is not from 1 to ${INTERVAL_MAX}`);
  return ok({
    bootId: id64FromBytes(bytes.subarray(8, 16)),
    accepted: id64FromBytes(bytes.subarray(16, 24)),
    epochs: { mine: view.getUint32(24), yours: view.getUint32(28) },
    hearYou: (flags & 1) !== 0,
    busy: (flags & 2) !== 0,
    flipped: (flags & 4) !== 0,
    down: (flags & 8) !== 0,
    ownsRoutes: (flags & 16) !== 0,
    sequence: view.getUint32(32),
    sentAt: view.getUint32(36),
    echo: view.getUint32(40),
    held: view.getUint32(44),
    interval,
    requires,
    multiplier,
    heardFull: view.getUint32(60),
    size,
  });
}
