/**
 * The engine without a network: a spoke registers at a hub. An engine has no clock, no socket and no timer. Its caller gives it
 * inputs with the time, takes outputs until there are no more, and comes back at the deadline that the engine names.
 *
 *     npm run build && node dist/doc/examples/engine.js
 */
import { createHmac, randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { generatePrivateKey, publicKeyOf, sharedSecret } from "../../plugin/adapters/wireguard/keys.js";
import { address, hostPrefix, prefix } from "../../plugin/net/address.js";
import { Engine, type EngineConfig } from "../../plugin/shortcut/engine.js";
import type { Output } from "../../plugin/shortcut/events.js";
import { defaultParameters } from "../../plugin/shortcut/parameters.js";
import { no } from "../../plugin/shortcut/reasons.js";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";

const HUB = address("10.255.0.3");
const SPOKE = address("10.255.0.1");
const CONTROL_PORT = 4243;

function engine(self: typeof HUB, role: EngineConfig["role"], now: number): Engine {
  const key = generatePrivateKey();
  const ports = { controlPort: CONTROL_PORT, listenPort: 51821, observePort: 4244 };
  const aliasPools = { 4: prefix("198.18.0.0/16"), 6: undefined };
  const identity = { address: self, publicKey: publicKeyOf(key), bootId: id64FromBytes(randomBytes(8)) };
  const config = {
    self: identity,
    role,
    ...ports,
    overlayMtu: 1420,
    aliasPools,
    parameters: defaultParameters,
  };
  const crypto = {
    shared: (theirs: typeof identity.publicKey) => sharedSecret(key, theirs),
    // The overlay interfaces of this example have the same keys as the direct ones.
    overlayShared: (_own: typeof identity.publicKey, theirs: typeof identity.publicKey) =>
      sharedSecret(key, theirs),
    hmac: (secret: Uint8Array, data: Uint8Array) => createHmac("sha256", secret).update(data).digest(),
  };
  // A real router answers from the daemon's routes; this one has no routes.
  const none = { ...no({ kind: "hub-offers-nothing" }), gone: false };
  const routing = {
    underneath: () => none,
    routesItself: () => false,
    overlayTo: () => ["wg0"],
    wayTo: () => "other" as const,
  };
  return new Engine(config, { crypto, randomBytes, routing }, now);
}

/** @returns what happened, a line each. */
export function run(): string[] {
  const said: string[] = [];
  let now = 0;
  const trigger = { rate: 10e6, duration: 5_000, hysteresis: 0.3, capacity: 1000 };
  const candidates = { port: 51821, denied: [], excludedDevices: new Set(["wg0"]), publicEndpoints: [] };
  const spoke = { kind: "spoke", hubs: [HUB], trigger, maxShortcuts: 100, ...candidates } as const;
  const engines = new Map([
    [HUB, engine(HUB, { kind: "hub", maxSpokes: 100 }, now)],
    [SPOKE, engine(SPOKE, spoke, now)],
  ]);
  const registered = () => engines.get(SPOKE)?.spoke?.hubStatus()[0]?.registered === true;
  /** Carries out one output: datagrams go to the other engine, and a peer "takes effect" at once. */
  const perform = (self: typeof HUB, e: Engine, out: Output): void => {
    said.push(`${Math.round(now)} ms: ${self}: ${out.kind}`);
    if (out.kind === "send") {
      const from = { address: self, port: CONTROL_PORT };
      engines
        .get(out.to.address)
        ?.handleInput(now, { kind: "datagram", dev: "wg0", from, payload: out.payload });
    } else if (out.kind === "peer")
      e.handleInput(now, { kind: "peer-applied", publicKey: out.want.publicKey, error: undefined });
  };
  // Each router has read its overlay interface: the peer behind which the other is. A spoke proves
  // its registration with the interface's key.
  for (const [self, other] of [
    [HUB, SPOKE],
    [SPOKE, HUB],
  ] as const) {
    const publicKey = engines.get(other)?.config.self.publicKey;
    if (publicKey === undefined) continue;
    const peer = { publicKey, allowedIps: [hostPrefix(other)], endpoint: undefined, rxBytes: 0 };
    const key = engines.get(self)?.config.self.publicKey;
    engines
      .get(self)
      ?.handleInput(now, { kind: "overlay-peers", devices: [{ dev: "wg0", key, peers: [peer] }] });
    engines.get(self)?.handleInput(now, { kind: "fib", routes: [[hostPrefix(other), { via: ["wg0"] }]] });
  }
  while (!registered() && now < 60_000) {
    // Take outputs until no engine has any: what one puts out may be another's input.
    for (let busy = true; busy; ) {
      busy = false;
      for (const [self, e] of engines)
        for (let out = e.pollOutput(); out !== undefined; out = e.pollOutput()) {
          busy = true;
          perform(self, e, out);
        }
    }
    // Then nothing is to be done before the earliest deadline.
    now = Math.min(...[...engines.values()].map((e) => e.pollTimeout() ?? Number.POSITIVE_INFINITY));
    for (const e of engines.values()) e.handleTimeout(now);
  }
  said.push(`${Math.round(now)} ms: ${registered() ? "registered" : "not registered"}`);
  return said;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(run().join("\n"));
