/** {@link Clock} of Node: monotonic time that is the same in every thread (performance.now() is not), timers, and a turn of the event loop for sockets to be read before a late timer acts. */
import type { Clock } from "../../driver/ports.js";

export const nodeClock = (): Clock => ({
  now: () => Number(process.hrtime.bigint()) / 1e6,
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
