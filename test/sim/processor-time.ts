/**
 * Measures work by the processor time of this process, in milliseconds: other work on the machine
 * does not count.
 */
export function processorTime(body: () => void): number {
  const before = process.cpuUsage();
  body();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
