/** Every scenario, by name. */
import { deaths } from "./deaths.js";
import { flips } from "./flips.js";
import { probes } from "./probes.js";
import { router } from "./router.js";
import type { Scenario } from "./scenario.js";
import { underlay } from "./underlay.js";

export const SCENARIOS: readonly Scenario[] = [...flips, ...underlay, ...probes, ...deaths, ...router];

export const scenario = (name: string): Scenario | undefined => SCENARIOS.find((s) => s.name === name);
