/** How the cost of something grows with its size: by processor time, in one run, so that other work on the machine does not count. */

const cpuTime = (body: () => void): number => {
  const before = process.cpuUsage();
  body();
  const { user, system } = process.cpuUsage(before);
  return user + system;
};

/**
 * The cost at `large` over the cost at `small`, the least of several tries each: large / small where it grows linearly, the square of
 * that where it is quadratic.
 */
export function growth(small: number, large: number, prepare: (size: number) => () => void): number {
  const least = (size: number): number => Math.min(...[0, 1, 2].map(() => cpuTime(prepare(size))));
  prepare(small)();
  return least(large) / Math.max(1, least(small));
}
