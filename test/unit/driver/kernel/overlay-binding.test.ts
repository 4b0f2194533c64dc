/** The control sockets of several overlay interfaces: which exist, which one a packet leaves by, and what is told of a loss. */
import { beforeEach, expect, it } from "vitest";
import { parseConfig } from "../../../../plugin/config/config.js";
import { OverlayBinding } from "../../../../plugin/driver/kernel/overlay-binding.js";
import { type KernelLink, PortError } from "../../../../plugin/driver/ports.js";
import { type Address, address } from "../../../../plugin/net/address.js";
import type { Verdict } from "../../../../plugin/shortcut/reasons.js";

const SELF = address("10.255.1.1");
const HUB1 = address("10.255.0.1");
const HUB2 = address("10.255.0.2");
const PORT = 4243;

let links: KernelLink[];
let addresses: { dev: string; address: Address; length: number }[];
let ways: Map<Address, readonly string[]>;
let open: { dev: string; address: Address; receive: (payload: Uint8Array) => void }[];
let sent: string[];
let heard: string[];
let changed: Verdict[];
let taken: Set<string>;
let binding: OverlayBinding;

const link = (name: string, ifindex: number, up = true): KernelLink => ({ name, ifindex, up, mtu: 1420 });

function bindingFor(overlay: string): OverlayBinding {
  const config = parseConfig(
    `role: spoke\noverlay: ${overlay}\naddress: ${SELF}\nhubs: [${HUB1}, ${HUB2}]\ndaemon: bird\nbgp: { as: 65000 }\n`,
  );
  if (!config.ok) throw new Error(JSON.stringify(config.error));
  return new OverlayBinding(config.value, SELF, {
    routes: { links: async () => links, allAddresses: async () => addresses },
    datagrams: {
      open: async ({ dev, address: at }, onDatagram) => {
        if (taken.has(dev)) throw new PortError(`UDP socket on ${dev}`, "in use", "", "EADDRINUSE");
        const from = { address: HUB1, port: PORT };
        const socket = { dev, address: at, receive: (payload: Uint8Array) => onDatagram(from, payload) };
        open.push(socket);
        return {
          send: (to) => void sent.push(`${to.address} by ${dev}`),
          close: async () => {
            open = open.filter((s) => s !== socket);
          },
        };
      },
    },
    log: { info: () => {}, warn: () => {}, error: () => {} },
    overlayTo: (to) => ways.get(to) ?? [],
    datagram: (dev, from, payload) => void heard.push(`${from.address} by ${dev}: ${payload.length}`),
    problem: () => {},
    changed: (verdict) => void changed.push(verdict),
  });
}

const send = (to: Address): string | undefined => {
  sent = [];
  binding.send({ address: to, port: PORT }, new Uint8Array(1));
  return sent[0];
};
const bound = (): string[] => open.map((s) => s.dev).sort();

beforeEach(async () => {
  links = [link("lo", 1), link("wg-hub1", 3), link("wg-hub2", 4), link("eth0", 2)];
  addresses = [{ dev: "lo", address: SELF, length: 32 }];
  ways = new Map([
    [HUB1, ["wg-hub1"]],
    [HUB2, ["wg-hub2"]],
  ]);
  open = [];
  heard = [];
  changed = [];
  taken = new Set();
  binding = bindingFor("[wg-hub1, wg-hub2]");
  await binding.open();
});

it("binds the router's address on each, and tells by which one a datagram came in", () => {
  expect(open.map(({ dev, address: at }) => `${at} on ${dev}`)).toEqual([
    `${SELF} on wg-hub1`,
    `${SELF} on wg-hub2`,
  ]);
  for (const s of open) s.receive(new Uint8Array(3));
  expect(heard).toEqual([`${HUB1} by wg-hub1: 3`, `${HUB1} by wg-hub2: 3`]);
});

it("sends by the interface that the FIB uses, the first of several, and not at all without a route", () => {
  expect(send(HUB1)).toBe(`${HUB1} by wg-hub1`);
  expect(send(HUB2)).toBe(`${HUB2} by wg-hub2`);
  ways.set(HUB1, ["wg-hub2", "wg-hub1"]);
  expect(send(HUB1)).toBe(`${HUB1} by wg-hub2`);
  ways.delete(HUB1);
  expect(send(HUB1)).toBeUndefined();
});

it("goes on with the other when one is deleted, and binds the one that is made again", async () => {
  links = links.filter((l) => l.name !== "wg-hub1");
  await binding.follow();
  expect(bound()).toEqual(["wg-hub2"]);
  expect(binding.verdict).toMatchObject({ ok: true });
  expect(binding.problems).toEqual([{ kind: "overlay-missing", name: "wg-hub1" }]);
  expect(changed).toEqual([]);
  links.push(link("wg-hub1", 9));
  await binding.follow();
  expect(bound()).toEqual(["wg-hub1", "wg-hub2"]);
  expect(binding.problems).toEqual([]);
  // the hubs are asked: they may have forgotten this router
  expect(changed).toEqual([{ ok: true }]);
});

it("binds again when only the index has changed", async () => {
  const before = [...open];
  links = links.map((l) => (l.name === "wg-hub2" ? link("wg-hub2", 44) : l));
  await binding.follow();
  expect(bound()).toEqual(["wg-hub1", "wg-hub2"]);
  expect(open.filter((s) => !before.includes(s)).map((s) => s.dev)).toEqual(["wg-hub2"]);
  expect(changed).toEqual([{ ok: true }]);
  await binding.follow();
  expect(changed).toHaveLength(1);
});

it("is unusable when the last one goes, or the router's address, and says why", async () => {
  links = links.filter((l) => !l.name.startsWith("wg-"));
  await binding.follow();
  expect(bound()).toEqual([]);
  expect(changed).toEqual([{ ok: false, reason: { kind: "overlay-missing", name: "wg-hub1" } }]);
  links.push(link("wg-hub1", 3), link("wg-hub2", 4));
  addresses = [];
  await binding.follow();
  expect(changed.at(-1)).toMatchObject({ ok: false, reason: { kind: "overlay-address-missing" } });
  addresses = [{ dev: "lo", address: SELF, length: 32 }];
  await binding.follow();
  expect(changed.at(-1)).toEqual({ ok: true });
  expect(bound()).toEqual(["wg-hub1", "wg-hub2"]);
});

it("follows a pattern: interfaces come and go while it runs, and none at the start is no error", async () => {
  await binding.close();
  links = [link("lo", 1)];
  binding = bindingFor('"wg-*"');
  await binding.open();
  expect(bound()).toEqual([]);
  expect(binding.verdict.ok).toBe(false);
  links.push(link("wg-s1", 20));
  await binding.follow();
  links.push(link("wg-s2", 21), link("other", 22));
  await binding.follow();
  expect(bound()).toEqual(["wg-s1", "wg-s2"]);
  expect(changed).toEqual([{ ok: true }, { ok: true }]);
  links = links.filter((l) => l.name !== "wg-s1");
  await binding.follow();
  expect(bound()).toEqual(["wg-s2"]);
  expect(binding.problems).toEqual([]);
});

it("names a port that is taken on one interface, and tries again", async () => {
  taken.add("wg-hub1");
  links = links.map((l) => (l.name === "wg-hub1" ? link("wg-hub1", 33) : l));
  await binding.follow();
  expect(binding.problems).toMatchObject([{ kind: "overlay-unbound", name: "wg-hub1" }]);
  expect(binding.verdict).toMatchObject({ ok: true });
  taken.clear();
  await binding.follow();
  expect(binding.problems).toEqual([]);
  expect(bound()).toEqual(["wg-hub1", "wg-hub2"]);
});
