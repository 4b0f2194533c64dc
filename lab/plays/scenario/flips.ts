/**
 * There and back without a loss: by policy, by `shortcutctl purge`, by an orderly stop, because the
 * traffic ends.
 */
import { SPOKES, type Spoke } from "../../site/triangle.js";
import type { Limits, Scenario, ScenarioRun } from "./scenario.js";
import type { ScenarioSite } from "./site.js";

/**
 * Shorter pauses, so that many flips fit into little time; drain and detection times stay what they
 * are.
 */
const brisk = ["timers: { backoff: 500 ms, backoff-max: 2 s }"];
const briskly = { a: brisk, c: brisk };

/** To the hub and back to the direct path, without a loss. */
interface Turn {
  /** The action, as it is written into the plot. */
  readonly away: readonly [name: string, act: () => Promise<unknown>];
  readonly back: readonly [name: string, act: () => Promise<unknown>];
  /** Looks at something while on the hub path. */
  readonly there?: () => Promise<unknown>;
  /** {@link StepSpec.dwell} on the hub path. */
  readonly dwell?: number;
  /** {@link StepSpec.patience} for the way back. */
  readonly patience?: number;
}

/** Turns as often as the run repeats things; `each` is told the spoke whose turn it is. */
async function turns(run: ScenarioRun, each: (spoke: Spoke, i: number) => Turn): Promise<void> {
  const nothing: Limits = { lost: 0, duplicated: 0 };
  for (let i = 0; i < run.repeat; i++) {
    const { away, back, there, dwell = 300, patience = 30_000 } = each(SPOKES[i % 2] ?? "a", i);
    const name = (text: string) => `${text} (${i + 1})`;
    await run.step({ name: name(away[0]), ends: "hub", dwell, ...nothing, act: away[1] });
    await there?.();
    await run.step({ name: name(back[0]), ends: "direct", patience, dwell: 500, ...nothing, act: back[1] });
  }
}

const byPolicy = (site: ScenarioSite): Turn => ({
  away: ["A's policy refuses", () => site.policy("a", true)],
  back: ["A's policy allows", () => site.policy("a", false)],
});

const policy: Scenario = {
  name: "flips-policy",
  description: "the policy of A's daemon refuses the shortcut and allows it again",
  configuration: briskly,
  script: (run) => turns(run, () => byPolicy(run.site)),
};

const purge: Scenario = {
  name: "flips-purge",
  description: "`shortcutctl purge all` on A and on C in turn, direct again after the pause",
  configuration: briskly,
  script: (run) =>
    turns(run, (spoke) => ({
      away: [`purge on ${spoke.toUpperCase()}`, () => run.site.shortcutd(spoke).ctl("purge", "all")],
      back: ["direct again", async () => undefined],
      dwell: 100,
    })),
};

const stop: Scenario = {
  name: "flips-stop",
  description: "SIGTERM to shortcutd on A and on C in turn, and a new start",
  configuration: briskly,
  script: (run) =>
    turns(run, (spoke) => ({
      away: [`SIGTERM on ${spoke.toUpperCase()}`, () => run.site.end(spoke, "SIGTERM")],
      back: [`start on ${spoke.toUpperCase()}`, () => run.site.start(spoke)],
      patience: 60_000,
    })),
};

/**
 * 2,000 small packets a second stay below the low threshold (also as WireGuard counts them, both
 * ways together), the bulk goes above.
 */
const idleTrigger = [
  "trigger: { rate: 7500 kbit/s, for: 1 s, hysteresis: 0.9 }",
  "timers: { idle: 3 s, backoff: 500 ms, backoff-max: 2 s }",
];

const idle: Scenario = {
  name: "flips-idle",
  description:
    "bulk traffic beside the counted flow ends, the shortcut is idle and goes; the bulk begins again",
  configuration: { a: idleTrigger, c: idleTrigger },
  cold: true,
  size: 100,
  script: async (run) => {
    const bulk = await run.site.bulk(600, 1_200);
    try {
      await run.step({ name: "bulk begins", ends: "direct", act: async () => undefined });
      const toggle = () => bulk.toggle();
      await turns(run, () => ({ away: ["bulk ends", toggle], back: ["bulk begins", toggle] }));
    } finally {
      await bulk.stop();
    }
  },
};

/** Hops that answered, and how many did not. */
const hops = (traceroute: string): string[] =>
  traceroute
    .split("\n")
    .slice(1)
    .flatMap((l) => /^\s*\d+\s+(\S+)/.exec(l)?.[1] ?? []);

const ROUTER_PINGS = "ping -q -n -i 0.01 10.3.0.10 > /run/own.out 2>&1 < /dev/null & echo $! > /run/own.pid";

const ownTraffic: Scenario = {
  name: "own-traffic",
  description: "A's own packets, traceroute and path MTU discovery across flips by policy",
  configuration: briskly,
  script: async (run) => {
    const { site } = run;
    const tools = async (path: "hub" | "direct"): Promise<void> => {
      const between = path === "hub" ? 2 : 1;
      const trace = hops(await site.sh("host-a", "traceroute -n -q 1 -w 2 10.3.0.10"));
      run.check(
        `traceroute by the ${path} path names A, ${path === "hub" ? "B, C" : "C"} and host-c`,
        trace.length === between + 2 && !trace.includes("*") && trace.at(-1) === "10.3.0.10",
        trace.join(" "),
      );
      const large = await site.sh(
        "host-a",
        "ip route flush cache; ping -n -c 2 -i 0.2 -W 2 -M do -s 1472 10.3.0.10 2>&1 || true",
      );
      run.check(
        `A tells its MTU to a host that sends too large by the ${path} path`,
        /mtu ?=? ?1420/.test(large),
        large.split("\n").slice(1, 3).join("; "),
      );
      const fits = await site.sh("host-a", "ping -q -n -c 2 -i 0.2 -W 2 -M do -s 1392 10.3.0.10");
      run.check(`what just fits passes by the ${path} path`, / 0% packet loss/.test(fits));
    };
    await site.sh("a", ROUTER_PINGS);
    await tools("direct");
    await turns(run, (_, i) => ({
      ...byPolicy(site),
      there: async () => (i === 0 ? tools("hub") : undefined),
    }));
    await tools("direct");
    const said = await site.sh(
      "a",
      "kill -INT $(cat /run/own.pid); tail --pid=$(cat /run/own.pid) -f /dev/null; cat /run/own.out",
    );
    const counted = /(\d+) packets transmitted, (\d+) received/.exec(said);
    const lost = Number(counted?.[1]) - Number(counted?.[2]);
    run.figure("A's own packets that were not answered", `${lost} of ${counted?.[1]}`);
    // the last one may be on its way, and what this machine had no room for is not the routers'
    // doing
    const full = site.fullBuffers();
    run.check(
      "A's own packets are answered across every flip",
      lost <= 1 + full,
      `${lost}, full buffers ${full}`,
    );
  },
};

export const flips: readonly Scenario[] = [policy, purge, stop, idle, ownTraffic];
