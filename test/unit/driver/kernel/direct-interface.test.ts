/**
 * Shows that the direct interface has the pre-shared keys that it should: from the first moment of a peer, after a
 * change without the peer being removed, and again after somebody has changed them; and that no key goes further.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { parseConfig } from "../../../../plugin/config/config.js";
import { DirectInterface } from "../../../../plugin/driver/kernel/direct-interface.js";
import { Journal } from "../../../../plugin/driver/runtime/journal.js";
import { type Address, address, hostPrefix } from "../../../../plugin/net/address.js";
import { type PrivateKey, privateKeyFromBytes, publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { PrefixMap } from "../../../../plugin/net/lpm.js";
import type { Input } from "../../../../plugin/shortcut/events.js";
import { YES } from "../../../../plugin/shortcut/reasons.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import { MemoryWorld } from "../../../sim/ports.js";
import { DIRECT } from "../support.js";

const A = address("10.255.0.2");
const C = address("10.255.0.4");
const D = address("10.255.0.5");
const secret = (n: number) => privateKeyFromBytes(new Uint8Array(32).fill(n));
const keyOf = (n: number) => publicKeyFromBytes(new Uint8Array(32).fill(n));
const want = (n: number, owner: Address) => ({
  publicKey: keyOf(n),
  endpoint: undefined,
  allowedIps: [hostPrefix(owner)],
  keepalive: 0,
});

let w: MemoryWorld;
let inputs: Input[];
let keys: Map<Address, PrivateKey>;
let journal: Journal;
let direct: DirectInterface;

let overlayDevices: readonly string[];
/** Interfaces without an IPv4 address. */
let bare: readonly string[];

beforeEach(async () => {
  w = new MemoryWorld();
  overlayDevices = ["wg0"];
  bare = [];
  inputs = [];
  keys = new Map([[C, secret(0x51)]]);
  const config = parseConfig(
    "role: spoke\noverlay: wg0\nhubs: [10.255.0.1]\ndaemon: bird\nbgp: { as: 65000 }\n",
  );
  if (!config.ok) throw new Error(JSON.stringify(config.error));
  journal = new Journal(w.ports.clock, w.ports.log);
  direct = new DirectInterface(
    config.value,
    {
      self: { address: A, publicKey: keyOf(2), bootId: id64FromBytes(new Uint8Array(8)) },
      privateKey: secret(1),
      overlayAddresses: [A],
      overlayMtu: 1420,
    },
    w.ports,
    journal,
    (i) => void inputs.push(i),
    () => YES,
    () => {},
    () => new PrefixMap(),
    () => overlayDevices,
    (dev) => !bare.includes(dev),
    (owner) => keys.get(owner),
  );
  await w.clock.during(direct.ensure());
  await w.clock.during(direct.openProbes());
});

const preshared = (n: number) => w.devices.get(DIRECT)?.peers.get(keyOf(n))?.presharedKey;
const settled = () => w.clock.during(direct.tasks.drained());

it("has them from the first moment, and only where there is one", async () => {
  direct.setPeer(C, want(7, C));
  direct.setPeer(D, want(8, D));
  await settled();
  expect(preshared(7)).toBe(secret(0x51));
  expect(preshared(8)).toBeUndefined();
});

it("has a new one without the peer being removed or its AllowedIPs touched", async () => {
  direct.setPeer(C, want(7, C));
  await settled();
  keys.set(C, secret(0x52));
  direct.presharedKeysChanged([C]);
  await settled();
  expect(preshared(7)).toBe(secret(0x52));
  expect(w.devices.get(DIRECT)?.peers.get(keyOf(7))?.allowedIps).toEqual([hostPrefix(C)]);
  expect(w.calls).not.toContain("wireguard.removePeer");
  // one that has gone in the meantime does not come back
  keys.set(C, secret(0x53));
  direct.removePeer(keyOf(7));
  direct.presharedKeysChanged([C]);
  await settled();
  expect(w.devices.get(DIRECT)?.peers.size).toBe(0);
});

it("has them again after another program has changed or set one", async () => {
  direct.setPeer(C, want(7, C));
  direct.setPeer(D, want(8, D));
  await settled();
  const peers = w.devices.get(DIRECT)?.peers;
  for (const n of [7, 8]) {
    const peer = peers?.get(keyOf(n));
    if (peer !== undefined) peers?.set(keyOf(n), { ...peer, presharedKey: secret(0x66) });
  }
  await w.clock.during(direct.poll());
  await settled();
  expect(preshared(7)).toBe(secret(0x51));
  expect(preshared(8)).toBeUndefined();
});

it("tells nobody", async () => {
  direct.setPeer(C, want(7, C));
  await settled();
  w.failing.add("wireguard.setPeer");
  direct.setPeer(C, want(7, C));
  keys.set(C, secret(0x52));
  direct.presharedKeysChanged([C]);
  await settled();
  w.failing.clear();
  await w.clock.during(direct.poll());
  expect(inputs.some((i) => i.kind === "peers" && i.peers.length === 1)).toBe(true);
  const told = JSON.stringify([inputs, journal.since(0), w.log]);
  for (const n of [0x51, 0x52, 1]) expect(told).not.toContain(secret(n));
  expect(told).toContain("made to fail");
});

describe("with several overlay interfaces", () => {
  const usable = (): unknown => {
    direct.checkUsable();
    return direct.usable;
  };

  it("a strict reverse path filter on any of them is a reason, and which", () => {
    overlayDevices = ["wg-a", "wg-b"];
    expect(usable()).toMatchObject({ ok: true });
    w.reversePath.set("wg-b", 1);
    expect(usable()).toEqual({ ok: false, reason: { kind: "rp-filter-strict", devices: ["wg-b"] } });
    // an interface that comes later is judged too
    w.reversePath.set("wg-b", 2).set("wg-c", 1);
    expect(usable()).toMatchObject({ ok: true });
    overlayDevices = ["wg-a", "wg-b", "wg-c"];
    expect(usable()).toEqual({ ok: false, reason: { kind: "rp-filter-strict", devices: ["wg-c"] } });
  });

  it("a loose one on an interface without an IPv4 address is a reason; none is not", () => {
    overlayDevices = ["wg-a", "wg-b"];
    bare = ["wg-a"];
    expect(usable()).toEqual({ ok: false, reason: { kind: "rp-filter-loose", devices: ["wg-a"] } });
    w.reversePath.set("wg-a", 0);
    expect(usable()).toMatchObject({ ok: true });
  });
});
