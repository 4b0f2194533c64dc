/** The configuration in the terms of the engine. */
import { expect, it } from "vitest";
import { parseConfig } from "../../../plugin/config/config.js";
import { engineConfig } from "../../../plugin/driver/engine-config.js";
import { address, prefix } from "../../../plugin/net/address.js";
import { privateKeyFromBytes, publicKeyFromBytes } from "../../../plugin/net/key.js";
import { id64FromBytes } from "../../../plugin/wire/control/codec.js";

const self = {
  address: address("10.255.0.2"),
  publicKey: publicKeyFromBytes(new Uint8Array(32).fill(2)),
  bootId: id64FromBytes(new Uint8Array(8).fill(1)),
};
const privateKey = privateKeyFromBytes(new Uint8Array(32).fill(1));
const ends = { self, privateKey, overlayAddresses: [self.address], overlayMtu: 1380 };

function of(text: string) {
  const c = parseConfig(text);
  if (!c.ok) throw new Error(JSON.stringify(c.error));
  return { config: c.value, engine: engineConfig(c.value, ends) };
}

it("a spoke offers no address of overlay, direct interface, alias pools, and what the operator denies", () => {
  const { config, engine } = of(
    "role: spoke\noverlay: [wg7, wg-*]\nhubs: [10.255.0.1]\ndaemon: bird\nbgp: { as: 65000 }\ndeny-candidates: [172.16.0.0/12]\n",
  );
  expect(engine.role).toMatchObject({
    kind: "spoke",
    denied: [prefix("172.16.0.0/12"), config.aliases[4], config.aliases[6]].filter((p) => p !== undefined),
  });
  const excluded = engine.role.kind === "spoke" ? engine.role.excludedDevices : new Set<string>();
  expect(["wg7", "wg-hub1", "wg-hub2", "shortcut0", "eth0"].filter((dev) => excluded.has(dev))).toEqual([
    "wg7",
    "wg-hub1",
    "wg-hub2",
    "shortcut0",
  ]);
  expect(engine).toMatchObject({ overlayMtu: 1380, self, listenPort: config.direct.port });
});

it("a hub has no more spokes than it may, and observes at a port of its own", () => {
  const { config, engine } = of("role: hub\noverlay: wg0\nlimits: { spokes: 7 }\n");
  expect(engine.role).toEqual({ kind: "hub", maxSpokes: 7 });
  expect(engine.observePort).toBe(config.direct.observePort);
  expect(engine.observePort).not.toBe(engine.listenPort);
});
