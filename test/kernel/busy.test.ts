/**
 * Shows that probes keep time on a busy machine: with eight busy processes and 600 probes each way, no path that works is taken for lost.
 */
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { probeAdapter } from "../../plugin/adapters/sockets/probes.js";
import type { ProbeSocket } from "../../plugin/driver/ports.js";
import { type Address, address } from "../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../plugin/net/key.js";
import { defaultParameters } from "../../plugin/shortcut/parameters.js";
import type { ProbeEvent } from "../../plugin/shortcut/probe/relay.js";
import type { ProbeSession } from "../../plugin/shortcut/probe/stream.js";
import { id64FromBytes } from "../../plugin/wire/control/codec.js";
import { CABLE, eventually, Namespace } from "./namespace.js";

const SCRIPT = pathToFileURL(
  fileURLToPath(new URL("../../dist/plugin/adapters/sockets/probe-worker.js", import.meta.url)),
);
const PORT = 4243;
const BUSY = 8;
const PROBES = 600;
const id = (n: number) => id64FromBytes(new Uint8Array(8).fill(n));
const key = (n: number): PublicKey => publicKeyFromBytes(new Uint8Array(32).fill(n));
const { probeInterval, probeIdle, probeMultiplier } = defaultParameters;

const session = (mine: number, yours: number): ProbeSession => ({
  bootId: id(mine),
  peerBootId: id(yours),
  epochs: { mine, yours },
  accepted: id(9),
  flipped: true,
  down: false,
  ownsRoutes: true,
  idle: false,
  answers: mine > yours,
  interval: probeInterval,
  idleInterval: probeIdle,
  multiplier: probeMultiplier,
  fullSize: 1372,
});

let ns: Namespace;
let leave: () => void;
let sockets: ProbeSocket[];
beforeEach(async () => {
  ns = await Namespace.create();
  ns.sh(CABLE);
  leave = ns.enterNetwork();
  sockets = [];
});
afterEach(async () => {
  await Promise.all(sockets.map((s) => s.close()));
  leave();
  await ns.destroy();
});

async function prober(dev: string, at: Address): Promise<{ socket: ProbeSocket; events: ProbeEvent[] }> {
  const events: ProbeEvent[] = [];
  const socket = await probeAdapter(SCRIPT).open(
    { dev, addresses: [at], port: PORT },
    (e) => void events.push(e),
    (e) => {
      throw e;
    },
  );
  sockets.push(socket);
  return { socket, events };
}

test("a path that works is not taken for lost while the machine is busy", async () => {
  const [left, right] = [address("10.0.0.1"), address("10.0.0.2")];
  const l = await prober("ve0", left);
  const r = await prober("ve1", right);
  l.socket.set(key(2), { address: right, port: PORT }, session(1, 2));
  r.socket.set(key(1), { address: left, port: PORT }, session(2, 1));
  const heard = () => Math.min(...[l, r].map((x) => x.events.filter((e) => e.kind === "heard").length));
  await eventually("probes are heard", () => heard() > 10);
  // they end with the namespace
  for (let i = 0; i < BUSY; i++) ns.start("sh", "-c", "while :; do :; done");
  const before = heard();
  await eventually(`${PROBES} probes each way`, () => heard() >= before + PROBES, 300_000);
  expect([...l.events, ...r.events].filter((e) => e.kind === "lost")).toEqual([]);
});
