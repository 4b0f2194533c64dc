/**
 * Measures whether this machine gives a lab the time that it needs. A thread of its own wakes every
 * 10 ms and notes how late it is woken; every 100 ms it reads the kernel's account of runnable
 * tasks that waited for a processor (/proc/pressure/cpu). Packet loss, a slow reaction or a missed
 * deadline means little while the machine is starved: such a step is repeated (retry.ts), and its
 * limits stay what they are.
 */
import { Worker } from "node:worker_threads";

/** The figures of some span of time. */
export interface Starvation {
  /** Milliseconds by which the latest wake-up was late. */
  readonly late: number;
  /**
   * Share of the busiest second in which a runnable task waited for a processor, 0 to 1; 0 where
   * not known.
   */
  readonly pressure: number;
}

/**
 * A wake-up later than this is starvation: half of the 300 ms after which a path counts as failed.
 */
export const LATE_BOUND = 150;
/** A second in which a runnable task waited for more than this share is starvation. */
export const PRESSURE_BOUND = 0.9;

export const isStarved = (s: Starvation): boolean => s.late > LATE_BOUND || s.pressure > PRESSURE_BOUND;

export const describeStarvation = (s: Starvation): string =>
  `a thread was woken ${s.late.toFixed(0)} ms late (bound ${LATE_BOUND}), tasks waited for a processor in ${(s.pressure * 100).toFixed(0)} % of a second (bound ${PRESSURE_BOUND * 100})`;

/** Milliseconds of CLOCK_MONOTONIC, which threads share. */
const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;

export const SLOT_MS = 100;
/** A little less than two hours, then the ring begins again. */
const SLOTS = 1 << 16;

/**
 * Reads the ring: per slot of time the latest wake-up, and the waiting time so far. Exported for
 * its test.
 */
export class StarvationRing {
  /**
   * `[0]`: when the thread should wake next; then `SLOTS` of lateness, then `SLOTS` of waiting time
   * in ms.
   */
  readonly values: Float64Array<SharedArrayBuffer>;

  constructor(buffer = new SharedArrayBuffer((1 + 2 * SLOTS) * 8)) {
    this.values = new Float64Array(buffer);
  }

  /** Gets the figures from `from` to `to`; `to` may be now, in the middle of a late wake-up. */
  between(from: number, to: number): Starvation {
    const [first, last] = [Math.floor(from / SLOT_MS), Math.floor(to / SLOT_MS)];
    const perSecond = 1000 / SLOT_MS;
    const due = this.values[0] ?? 0;
    let late = due === 0 ? 0 : Math.max(0, to - due);
    let pressure = 0;
    for (let slot = Math.max(first, last - SLOTS + 1); slot <= last; slot++) {
      late = Math.max(late, this.#at(slot, 0));
      const [before, after] = [this.#at(slot - perSecond, 1), this.#at(slot, 1)];
      // A slot that was not written has 0: the thread was not there yet, or was late itself.
      if (slot - perSecond >= first && before > 0 && after > before)
        pressure = Math.max(pressure, (after - before) / 1000);
    }
    return { late, pressure: Math.min(1, pressure) };
  }

  #at(slot: number, kind: 0 | 1): number {
    return this.values[1 + kind * SLOTS + (((slot % SLOTS) + SLOTS) % SLOTS)] ?? 0;
  }
}

/**
 * The thread. JavaScript in a string: it has to run from TypeScript sources under a test, and from
 * the build.
 */
const PROGRAM = `
const { workerData: { buffer, slotMs, slots } } = require("node:worker_threads");
const { readFileSync } = require("node:fs");
const values = new Float64Array(buffer);
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const now = () => Number(process.hrtime.bigint()) / 1e6;
const waited = () => {
  try {
    return Number(/^some .*total=(\\d+)/m.exec(readFileSync("/proc/pressure/cpu", "utf8"))[1]) / 1000;
  } catch {
    return 0;
  }
};
let written = Math.floor(now() / slotMs) - 1;
for (;;) {
  const due = now() + 10;
  values[0] = due;
  Atomics.wait(sleeper, 0, 0, 10);
  const woken = now();
  const last = Math.floor(woken / slotMs);
  const total = last > written ? waited() : 0;
  for (let s = written + 1; s <= last; s++) {
    values[1 + (s % slots)] = 0;
    values[1 + slots + (s % slots)] = total;
  }
  written = Math.max(written, last);
  // A late wake-up belongs to every slot that it spans.
  for (let s = Math.floor(due / slotMs); s <= last; s++)
    values[1 + (s % slots)] = Math.max(values[1 + (s % slots)], woken - due);
}`;

let shared: Canary | undefined;

export class Canary {
  readonly #ring = new StarvationRing();
  readonly #worker: Worker;

  private constructor() {
    this.#worker = new Worker(PROGRAM, {
      eval: true,
      workerData: { buffer: this.#ring.values.buffer, slotMs: SLOT_MS, slots: SLOTS },
    });
    // It ends with the process, and does not keep it.
    this.#worker.unref();
  }

  /** Returns the canary of this process, started at the first call. */
  static get(): Canary {
    shared ??= new Canary();
    return shared;
  }

  now(): number {
    return monotonic();
  }

  /** Returns what was seen since `from`, a value of {@link Canary.now}. */
  since(from: number): Starvation {
    return this.#ring.between(from, monotonic());
  }
}
