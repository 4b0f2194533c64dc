/** There and back without a loss: by policy, by `shortcutctl purge`, by an orderly stop, because the traffic ends. */
import { SPOKES } from "../story/triangle.js";
import type { Limits, Scenario } from "./scenario.js";

const nothing: Limits = { lost: 0, duplicated: 0 };
/** Shorter pauses, so that many flips fit into little time; drain and detection times stay what they are. */
const brisk = ["timers: { backoff: 500 ms, backoff-max: 2 s }"];

const policy: Scenario = {
  name: "flips-policy",
  description: "the policy of A's daemon refuses the shortcut and allows it again",
  configuration: { a: brisk, c: brisk },
  script: async (stage) => {
    for (let i = 0; i < stage.repeat; i++) {
      await stage.step({
        name: `A's policy refuses (${i + 1})`,
        ends: "hub",
        dwell: 300,
        ...nothing,
        act: () => stage.site.policy("a", true),
      });
      await stage.step({
        name: `A's policy allows (${i + 1})`,
        ends: "direct",
        dwell: 500,
        ...nothing,
        act: () => stage.site.policy("a", false),
      });
    }
  },
};

const purge: Scenario = {
  name: "flips-purge",
  description: "`shortcutctl purge all` on A and on C in turn, direct again after the pause",
  configuration: { a: brisk, c: brisk },
  script: async (stage) => {
    for (let i = 0; i < stage.repeat; i++) {
      const spoke = SPOKES[i % 2] ?? "a";
      await stage.step({
        name: `purge on ${spoke.toUpperCase()} (${i + 1})`,
        ends: "hub",
        dwell: 100,
        ...nothing,
        act: () => stage.site.shortcutd(spoke).ctl("purge", "all"),
      });
      await stage.step({
        name: `direct again (${i + 1})`,
        ends: "direct",
        dwell: 500,
        ...nothing,
        act: async () => undefined,
      });
    }
  },
};

const stop: Scenario = {
  name: "flips-stop",
  description: "SIGTERM to shortcutd on A and on C in turn, and a new start",
  configuration: { a: brisk, c: brisk },
  script: async (stage) => {
    for (let i = 0; i < stage.repeat; i++) {
      const spoke = SPOKES[i % 2] ?? "a";
      await stage.step({
        name: `SIGTERM on ${spoke.toUpperCase()} (${i + 1})`,
        ends: "hub",
        dwell: 300,
        ...nothing,
        act: () => stage.site.end(spoke, "SIGTERM"),
      });
      await stage.step({
        name: `start on ${spoke.toUpperCase()} (${i + 1})`,
        ends: "direct",
        patience: 60_000,
        dwell: 500,
        ...nothing,
        act: () => stage.site.start(spoke),
      });
    }
  },
};

/** 2,000 small packets a second stay below the low threshold (also as WireGuard counts them, both ways together), the bulk goes above. */
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
  script: async (stage) => {
    const bulk = await stage.site.bulk(600, 1_200);
    try {
      await stage.step({ name: "bulk begins", ends: "direct", act: async () => undefined });
      for (let i = 0; i < stage.repeat; i++) {
        await stage.step({
          name: `bulk ends (${i + 1})`,
          ends: "hub",
          dwell: 300,
          ...nothing,
          act: () => bulk.toggle(),
        });
        await stage.step({
          name: `bulk begins (${i + 1})`,
          ends: "direct",
          dwell: 500,
          ...nothing,
          act: () => bulk.toggle(),
        });
      }
    } finally {
      await bulk.stop();
    }
  },
};

export const flips: readonly Scenario[] = [policy, purge, stop, idle];
