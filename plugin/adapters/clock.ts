/** {@link Clock} of Node: monotonic time, timers, and a turn of the event loop for sockets to be read before a late timer acts. */
import { performance } from "node:perf_hooks";
import type { Clock } from "../driver/ports.js";

export const nodeClock = (): Clock => ({
  now: () => performance.now(),
  wall: () => Date.now(),
  after(ms, run) {
    const t = setTimeout(run, Math.min(ms, 2 ** 31 - 1));
    return () => clearTimeout(t);
  },
  // libuv runs timers, then reads sockets, then immediates: the second immediate comes after a whole poll phase
  afterReading(run) {
    setImmediate(() => setImmediate(run));
  },
});
