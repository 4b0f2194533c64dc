/** Starts `ip monitor` in a router and fills its {@link RouteLog}. */
import { until } from "../runner/lab.js";
import type { Node, NodeProcess } from "../runner/node.js";
import { parseRouteLine, RouteLog } from "./routes.js";

/** A table that nothing uses: a route that comes and goes in it shows that the monitor listens. */
const PROBE = ["203.0.113.255/32", "dev", "lo", "table", "9999"];

export interface RouteWatch {
  readonly log: RouteLog;
  stop(): Promise<void>;
}

/** @throws Error when the monitor says nothing for 5 s. */
export async function watchRoutes(node: Node): Promise<RouteWatch> {
  const log = new RouteLog();
  let heard = false;
  const monitor: NodeProcess = node.spawn(["ip", "-o", "-N", "-ts", "monitor", "route"], {
    env: { TZ: "UTC" },
    onLine: (line) => {
      const change = parseRouteLine(line, Date.now());
      if (change === undefined) return;
      if (change.table === 9999) heard = true;
      else log.hear(change);
    },
  });
  await until(`ip monitor listens in ${node.name}`, 5_000, async () => {
    await node.must(["ip", "route", "replace", ...PROBE]);
    await node.must(["ip", "route", "delete", ...PROBE]);
    return heard;
  });
  for (const family of ["-4", "-6"]) {
    const dump = await node.must(["ip", family, "-o", "-N", "route", "show", "table", "all"]);
    for (const line of dump.split("\n")) {
      const route = parseRouteLine(line, Date.now());
      if (route !== undefined) log.found(route);
    }
  }
  return { log, stop: () => monitor.kill("SIGTERM") };
}
