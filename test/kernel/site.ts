/** The lab's programs and files as they are, with shortcutd on its three routers, for tests. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ScenarioSite } from "../../lab/plays/scenario/site.js";
import { programsIn } from "../../lab/site/shortcutd.js";
import { Site } from "../../lab/site/site.js";
import type { Daemon } from "../../lab/site/triangle.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const programs = programsIn(join(root, "dist"));
export const triangle = join(root, "lab/topologies/triangle.clab.yml");

/** With these daemons on A, B and C. */
export const siteOf = (
  a: Daemon,
  b: Daemon,
  c: Daemon,
  topology = "lab/topologies/triangle.clab.yml",
  env: Readonly<Record<string, string>> = {},
): Promise<Site> => Site.up({ topology: join(root, topology), daemons: { a, b, c }, programs, env });

/**
 * BIRD on A and FRR on C, which begin shortcuts at once and end them as soon: for what looks at
 * many, one after another.
 */
export function eagerSite(): Promise<ScenarioSite> {
  const lines = [
    "trigger: { rate: 500 kbit/s, for: 0 s, interval: 200 ms, hysteresis: 0.1 }",
    // Without a maximum the pause after a refusal doubles for as long as a busy machine takes.
    "timers: { offer: 2 s, drain: 100 ms, backoff: 100 ms, backoff-max: 2 s }",
    // False alarms of a busy machine must not suppress the path for the tests that follow.
    "damping: { suppress: 100000 }",
  ];
  return ScenarioSite.up({
    topology: triangle,
    daemons: { a: "bird", b: "bird", c: "frr" },
    programs,
    configuration: { a: lines, c: lines },
  });
}
