/**
 * Loaded into a shortcutd of the lab (`node --import`) before it starts: SIGUSR2 keeps its event
 * loop busy for a second, as a long garbage collection or a huge routing table would. At the lowest
 * priority, so that what is busy is the loop and not the machine, which has all routers of the lab
 * to run. Nothing of it is in the product.
 */
import { setPriority } from "node:os";

const BUSY_MS = 1_000;

process.on("SIGUSR2", () => {
  // of this thread: Linux has a priority for each
  setPriority(0, 19);
  const until = performance.now() + BUSY_MS;
  while (performance.now() < until) Math.sqrt(until);
  setPriority(0, 0);
});
