/** The priority of a thread that keeps time: sched(7), setpriority(2). Both act on the calling thread, and want CAP_SYS_NICE. */
import { schedSetscheduler, setpriority } from "./libc.js";

const SCHED_RR = 2;
/** Threads and processes that this one starts are ordinary again. */
const SCHED_RESET_ON_FORK = 0x40000000;
/** The lowest real-time priority goes before every ordinary thread. */
const RT_PRIORITY = 1;
const NICE = -15;

/** How a thread is scheduled. */
export type Scheduling = "real-time" | "nice" | "ordinary";

/** Asks for real-time scheduling of the calling thread, then for a nice value. Returns what was granted. */
export function keepTime(): Scheduling {
  if (schedSetscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, RT_PRIORITY) === 0) return "real-time";
  return setpriority(0, NICE) === 0 ? "nice" : "ordinary";
}
