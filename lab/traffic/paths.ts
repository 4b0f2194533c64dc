/**
 * Which way numbered packets went, when: counted by the time at which they were *sent*, so that a
 * packet that never arrives has a place on the time axis too. The way is told packet by packet: a
 * packet via the hub has crossed one more router, and the receiving host's own nftables gives those
 * with the larger TTL another source port ({@link MARK}). Pure; traffic.ts feeds it.
 */

export type PathName = "hub" | "direct";

/** The source port that says "direct" to a receiver; senders use another. */
export const MARK = 7999;

/** Counted packets of one slice of time, by the slice's number since CLOCK_MONOTONIC's zero. */
export interface Slice {
  readonly slice: number;
  readonly hub: number;
  readonly direct: number;
  readonly duplicated: number;
}

/** From this packet on, in order of numbers, packets came by `path`. */
export interface PathChange {
  readonly path: PathName;
  readonly number: number;
  /** Milliseconds of CLOCK_MONOTONIC at which it was sent. */
  readonly sentAt: number;
}

export interface PathCount {
  readonly flow: number;
  readonly slices: readonly Slice[];
  readonly changes: readonly PathChange[];
}

/** Bounds memory when packets of both paths alternate for long. */
const MOST_CHANGES = 20_000;

const sliceOf = (sentAt: bigint, widthMs: number): number => Number(sentAt / BigInt(widthMs * 1_000_000));

/** The receiver's account of one flow. */
export class PathAccount {
  readonly #slices = new Map<number, { hub: number; direct: number; duplicated: number }>();
  readonly #changes: PathChange[] = [];
  #highest = -1;
  #latest: PathName | undefined;

  constructor(
    readonly flow: number,
    private readonly width: number,
  ) {}

  /** `fresh` is false for a duplicate. */
  arrive(number: number, sentAt: bigint, path: PathName, fresh: boolean): void {
    const key = sliceOf(sentAt, this.width);
    let s = this.#slices.get(key);
    if (s === undefined) {
      s = { hub: 0, direct: 0, duplicated: 0 };
      this.#slices.set(key, s);
    }
    if (fresh) s[path]++;
    else s.duplicated++;
    if (number <= this.#highest) return;
    this.#highest = number;
    if (path === this.#latest) return;
    this.#latest = path;
    if (this.#changes.length < MOST_CHANGES)
      this.#changes.push({ path, number, sentAt: Number(sentAt) / 1e6 });
  }

  /** The way of the newest packet. */
  get latest(): PathName | undefined {
    return this.#latest;
  }

  read(): PathCount {
    const slices = [...this.#slices].map(([slice, s]) => ({ slice, ...s })).sort((a, b) => a.slice - b.slice);
    return { flow: this.flow, slices, changes: this.#changes };
  }
}

/** Counts the packets of a sender by slices of time. */
export class SentAccount {
  readonly #slices = new Map<number, number>();

  constructor(private readonly width: number) {}

  send(sentAt: bigint): void {
    const key = sliceOf(sentAt, this.width);
    this.#slices.set(key, (this.#slices.get(key) ?? 0) + 1);
  }

  /** Slice and packets. */
  read(): readonly (readonly [number, number])[] {
    return [...this.#slices].sort(([a], [b]) => a - b);
  }
}

/**
 * Writes the rules for nftables of a receiving host: `ttl` is that of a packet that crossed the two
 * spokes and no hub.
 */
export const markDirect = (port: number, ttl = 62): string =>
  `table ip paths { chain tell { type filter hook input priority -150; ip ttl ${ttl} udp dport ${port} udp sport set ${MARK}; }; }\n`;
