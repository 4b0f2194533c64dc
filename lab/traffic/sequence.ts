/**
 * Numbered test packets and the account of what arrived: pure, so that what a lab calls "lost" can
 * be tested. A packet says its flow, its number and when it was sent (CLOCK_MONOTONIC, which all
 * nodes of a lab share). A number skipped is missing from then on; when it arrives after all it was
 * reordered, when it arrives again it is a duplicate.
 */

/** 4 bytes magic, 4 flow, 8 number, 8 nanoseconds; the rest of a packet is padding. */
export const HEADER_BYTES = 24;
const MAGIC = 0x73686366;

export interface Packet {
  readonly flow: number;
  readonly number: number;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  readonly sentAt: bigint;
}

/** Writes the header into `buffer`, which has at least {@link HEADER_BYTES} bytes. */
export function writePacket(buffer: Uint8Array, packet: Packet): void {
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  view.setUint32(0, MAGIC);
  view.setUint32(4, packet.flow);
  view.setBigUint64(8, BigInt(packet.number));
  view.setBigUint64(16, packet.sentAt);
}

/** Undefined for anything that is not a test packet. */
export function readPacket(bytes: Uint8Array): Packet | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const number = view.getBigUint64(8);
  if (view.getUint32(0) !== MAGIC || number > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return { flow: view.getUint32(4), number: Number(number), sentAt: view.getBigUint64(16) };
}

/** Everything since the flow's first packet. */
export interface FlowCount {
  readonly flow: number;
  /** Distinct packets. */
  readonly received: number;
  readonly bytes: number;
  /** Numbers below the highest that have not arrived (so far: a late one takes it down again). */
  readonly missing: number;
  readonly duplicated: number;
  /** Arrived after a higher number. */
  readonly reordered: number;
  /** Highest number seen; numbers start at 0. */
  readonly highest: number;
  /** Longest time between two arrivals, milliseconds, since the last {@link FlowAccount.read}. */
  readonly longestSilence: number;
  /** Longest time a packet took, milliseconds, since the last {@link FlowAccount.read}. */
  readonly longestDelay: number;
}

/** The account of one flow. Times are milliseconds of any one monotonic clock. */
export class FlowAccount {
  readonly #flow: number;
  readonly #missing = new Set<number>();
  #received = 0;
  #bytes = 0;
  #duplicated = 0;
  #reordered = 0;
  #highest = -1;
  #lastArrival: number | undefined;
  #longestSilence = 0;
  #longestDelay = 0;

  constructor(flow: number) {
    this.#flow = flow;
  }

  /** False for a duplicate. */
  arrive(number: number, bytes: number, now: number, delay: number): boolean {
    if (this.#lastArrival !== undefined)
      this.#longestSilence = Math.max(this.#longestSilence, now - this.#lastArrival);
    this.#lastArrival = now;
    this.#longestDelay = Math.max(this.#longestDelay, delay);
    if (number > this.#highest) {
      for (let n = this.#highest + 1; n < number; n++) this.#missing.add(n);
      this.#highest = number;
    } else if (this.#missing.delete(number)) this.#reordered++;
    else {
      this.#duplicated++;
      return false;
    }
    this.#received++;
    this.#bytes += bytes;
    return true;
  }

  /** The count, with a silence that still lasts at `now`. */
  read(now: number): FlowCount {
    const silence = this.#lastArrival === undefined ? 0 : now - this.#lastArrival;
    const count = {
      flow: this.#flow,
      received: this.#received,
      bytes: this.#bytes,
      missing: this.#missing.size,
      duplicated: this.#duplicated,
      reordered: this.#reordered,
      highest: this.#highest,
      longestSilence: Math.max(this.#longestSilence, silence),
      longestDelay: this.#longestDelay,
    };
    this.#longestSilence = 0;
    this.#longestDelay = 0;
    return count;
  }
}

/**
 * How many packets are due `elapsed` milliseconds after the start at `rate` per second, less those
 * sent: the pace does not drift, and a late tick makes up for it, at most `burst` at a time.
 */
export function packetsDue(elapsed: number, rate: number, sent: number, burst: number): number {
  return Math.max(0, Math.min(burst, Math.floor((elapsed * rate) / 1000) - sent));
}
