/** The configuration and the router in the engine's terms, with the prefixes and interfaces that no candidate may come from. */

import type { Config } from "../config/config.js";
import type { EngineConfig } from "../shortcut/engine.js";
import type { DirectEnds } from "./kernel/direct-interface.js";

/** How many destinations the trigger counts. */
const TRIGGER_CAPACITY = 20_000;

/**
 * Everything that an engine is made with. `trigger` and `parameters` are the engine's own copies: it reads them each time it uses them, so that
 * {@link applyReload} can change them.
 */
export function engineConfig(config: Config, router: DirectEnds): EngineConfig {
  const { aliases, direct, trigger } = config;
  return {
    self: router.self,
    role:
      config.role === "hub"
        ? { kind: "hub", maxSpokes: config.maxSpokes }
        : {
            kind: "spoke",
            hubs: config.hubs,
            trigger: {
              rate: trigger.rate,
              duration: trigger.duration,
              hysteresis: trigger.hysteresis,
              capacity: TRIGGER_CAPACITY,
            },
            publicEndpoints: config.publicEndpoints,
            maxShortcuts: config.maxShortcuts,
            port: direct.port,
            denied: [...config.denied, aliases[4], ...(aliases[6] === undefined ? [] : [aliases[6]])],
            excludedDevices: { has: (dev: string) => config.overlay.has(dev) || dev === direct.interface },
          },
    controlPort: config.control.port,
    listenPort: direct.port,
    observePort: direct.observePort,
    overlayMtu: router.overlayMtu,
    aliasPools: aliases,
    pins: config.pins,
    parameters: { ...config.parameters },
  };
}

/** Puts in force what may change while an engine runs (config/reload.ts lists the keys). */
export function applyReload(live: EngineConfig, { parameters, trigger }: Config): void {
  const { idleTimeout, offerTimeout, connectTimeout, drain, backoff, outlive } = parameters;
  Object.assign(live.parameters, { idleTimeout, offerTimeout, connectTimeout, drain, backoff, outlive });
  if (live.role.kind !== "spoke") return;
  const { rate, duration, hysteresis } = trigger;
  Object.assign(live.role.trigger, { rate, duration, hysteresis });
}
