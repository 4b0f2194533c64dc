/** What the engine is told of the configuration and the router: the same values in its terms, and the prefixes and interfaces that no candidate may come from. */

import type { Config } from "../config/config.js";
import type { EngineConfig } from "../shortcut/engine.js";
import type { DirectEnds } from "./kernel/direct-interface.js";

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
              capacity: 20_000,
            },
            publicEndpoints: config.publicEndpoints,
            maxShortcuts: config.maxShortcuts,
            port: direct.port,
            denied: [...config.denied, aliases[4], ...(aliases[6] === undefined ? [] : [aliases[6]])],
            excludedDevices: [config.overlay, direct.interface],
          },
    controlPort: config.control.port,
    listenPort: direct.port,
    observePort: direct.observePort,
    overlayMtu: router.overlayMtu,
    aliasPools: aliases,
    parameters: config.parameters,
  };
}
