/**
 * Events that probes must notice, and events that they must not mistake for a failure: a path that
 * becomes narrow, one that is cut while nothing goes by it, a busy event loop.
 */
import type { Spoke } from "../../site/triangle.js";
import type { Scenario, ScenarioRun } from "./scenario.js";

const both = [
  ["a", "c"],
  ["c", "a"],
] as const;
const SPOKES: readonly Spoke[] = ["a", "c"];

/** An answer that takes this many milliseconds was waited for. */
const BUSY = 600;

/** No shortcutd of a spoke has left the direct path since then. */
function stayed(run: ScenarioRun, since: number): void {
  for (const s of SPOKES) {
    const left = run.site.shortcutd(s).event("returning", since);
    run.check(`${s.toUpperCase()} took nothing for a failure`, left === undefined, left?.detail ?? "");
  }
}

const blockedLoop: Scenario = {
  name: "blocked-loop",
  description: "shortcutd's event loop on A, then on C, then on both, does nothing for a second",
  blockable: true,
  script: async (run) => {
    const since = Date.now();
    for (const who of [["a"], ["c"], ["a", "c"]] as const) {
      let blocked = 0;
      await run.step({
        name: `busy for a second on ${who.join(" and ").toUpperCase()}`,
        ends: "direct",
        within: 0,
        lost: 0,
        duplicated: 0,
        lasts: 2_500,
        act: async () => {
          for (const s of who) await run.site.signal(s, "SIGUSR2");
          const signalled = Date.now();
          // who is asked while it is busy answers when it is done
          const slowest = async (s: Spoke): Promise<number> => {
            let most = 0;
            while (most < BUSY && Date.now() < signalled + 2_000) {
              const at = Date.now();
              await run.site.shortcutd(s).status();
              most = Math.max(most, Date.now() - at);
            }
            return most;
          };
          blocked = Math.min(...(await Promise.all(who.map(slowest))));
        },
      });
      run.check("the event loop was busy", blocked >= BUSY, `status answered after ${blocked} ms`);
    }
    stayed(run, since);
  },
};

const mtuShrink: Scenario = {
  name: "mtu-shrink",
  description:
    "while direct, the underlay begins to drop packets above 1,000 bytes between the direct interfaces; later it stops",
  script: async (run) => {
    const since = Date.now();
    await run.step({
      name: "large packets do not pass any more",
      ends: "hub",
      within: 5_000,
      lost: 0,
      lasts: 8_000,
      act: () => run.site.cut(both, "meta length > 1000"),
    });
    const failed = SPOKES.map((s) => run.site.shortcutd(s).event("path-failed", since)?.detail ?? "");
    run.check(
      "the full size is the reason",
      failed.some((d) => d.includes("full size")),
      failed.join("; "),
    );
    await run.becomes("explain on A names the full size", 15_000, async () =>
      (await run.site.explain("a")).includes("full size"),
    );
    await run.step({
      name: "large packets pass",
      ends: "direct",
      patience: 90_000,
      lost: 0,
      act: () => run.site.heal(),
    });
  },
};

/** The counted flow is below the low threshold; the bulk goes above. */
const quiet = ["trigger: { rate: 4 Mbit/s, for: 1 s, hysteresis: 0.9 }", "timers: { idle: 60 s }"];

const idleCut: Scenario = {
  name: "idle-cut",
  description:
    "the direct path is cut while next to nothing goes by it: noticed in the time of the slow probes",
  configuration: { a: quiet, c: quiet },
  cold: true,
  rate: 200,
  size: 100,
  script: async (run) => {
    const { site } = run;
    const bulk = await site.bulk(600, 1_200);
    try {
      await run.step({ name: "bulk begins", ends: "direct", dwell: 2_000, act: async () => undefined });
      await bulk.toggle();
      await run.becomes("both ends probe slowly", 15_000, async () => {
        for (const s of SPOKES) {
          const status = await site.shortcutd(s).status();
          if (status?.shortcuts.some((x) => x.stage === "direct" && x.quiet) !== true) return false;
        }
        return true;
      });
      await run.step({
        name: "cut in both directions while idle",
        ends: "hub",
        within: 3_600,
        lost: 720,
        dwell: 1_000,
        act: () => site.cut(both),
      });
      const failed = SPOKES.map((s) => site.shortcutd(s).event("path-failed", 0)?.detail ?? "");
      run.check(
        "probes noticed it",
        failed.some((d) => d !== ""),
        failed.join("; "),
      );
      await run.step({ name: "bulk goes on", ends: "hub", lost: 0, act: () => bulk.toggle() });
    } finally {
      await bulk.stop();
    }
  },
};

export const probes: readonly Scenario[] = [blockedLoop, mtuShrink, idleCut];
