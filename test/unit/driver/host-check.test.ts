/** What is wrong on the host: for each flaw exactly its finding, with place, problem and remedy. */
import { describe, expect, it } from "vitest";
import { parseConfig } from "../../../plugin/config/config.js";
import {
  type HostFacts,
  hostFindings,
  isFoundAtStart,
  neededPorts,
  type OverlayFacts,
  readHost,
} from "../../../plugin/driver/host-check.js";
import { type KernelLink, PortError } from "../../../plugin/driver/ports.js";
import { address } from "../../../plugin/net/address.js";
import { type PublicKey, publicKeyFromBytes } from "../../../plugin/net/key.js";
import { DIRECT, OVERLAY, ours, route } from "./support.js";

const configOf = (text: string) => {
  const c = parseConfig(text);
  if (!c.ok) throw new Error(JSON.stringify(c.error));
  return c.value;
};
const SPOKE = "role: spoke\noverlay: wg0\nhubs: [10.255.0.3]\ndaemon: bird\nbgp: { as: 65000 }\n";
const HUB = "role: hub\noverlay: wg0\n";
const spoke = configOf(SPOKE);
const hub = configOf(HUB);

const link = (name: string, ifindex: number, more: Partial<KernelLink> = {}): KernelLink => ({
  name,
  ifindex,
  up: true,
  mtu: 1420,
  ...more,
});
const device = (name: string, publicKey: PublicKey, listenPort = 51821) => ({
  fwmark: 0,
  name,
  publicKey,
  listenPort,
  peers: [],
});
const OWN = publicKeyFromBytes(new Uint8Array(32).fill(1));
const OTHER = publicKeyFromBytes(new Uint8Array(32).fill(2));
const on = (dev: string, text: string, length: number) => ({ dev, address: address(text), length });
const good: HostFacts = {
  links: [link("lo", 1), link("eth0", 2), link(OVERLAY, 3)],
  addresses: [on("eth0", "192.0.2.2", 26), on(OVERLAY, "10.255.0.1", 24), on(OVERLAY, "fd00:255::1", 64)],
  overlay: [{ name: OVERLAY, device: device(OVERLAY, OTHER), reversePathFilter: 2 }],
  direct: undefined,
  routes: [route("0.0.0.0/0", "eth0"), route("10.3.0.0/24", OVERLAY), route("10.255.0.0/24", OVERLAY)],
  key: { kind: "absent" },
  password: { kind: "usable" },
  capabilities: 0x803000n,
  running: false,
  taken: [],
};
/** The overlay interface, without WireGuard behind it, or with another filter. */
const overlay = (change: Partial<OverlayFacts>): Partial<HostFacts> => ({
  overlay: good.overlay.map((o) => ({ ...o, ...change })),
});
const noWireGuard = overlay({ device: undefined });
const withDirect = (publicKey: PublicKey): Partial<HostFacts> => ({
  links: [...good.links, link(DIRECT, 4)],
  direct: device(DIRECT, publicKey),
  key: { kind: "usable", publicKey: OWN },
});
const said = (change: Partial<HostFacts>, config = spoke): string[] =>
  hostFindings(config, { ...good, ...change }).map((f) => `${f.severity}: ${f.place}: ${f.problem}`);

describe("a host", () => {
  it.each([spoke, hub])("that is right has no finding", (config) => expect(said({}, config)).toEqual([]));

  it.each<[string, Partial<HostFacts>, RegExp]>([
    ["without the overlay", { links: [link("eth0", 2)] }, /^error: interface wg0: does not exist$/],
    ["whose overlay is no WireGuard", noWireGuard, /^error: interface wg0: is not a WireGuard interface/],
    [
      "whose overlay is down",
      { links: [link(OVERLAY, 3, { up: false })], addresses: [] },
      /^warning: interface wg0: is down: no shortcut is made/,
    ],
    [
      "whose overlay has no address of the hubs' family",
      { addresses: [on(OVERLAY, "fd00:255::1", 64)], ...overlay({ reversePathFilter: 0 }) },
      /^error: interface wg0: has no address of IPv4$/,
    ],
    [
      "that is its own hub",
      { addresses: [on(OVERLAY, "10.255.0.3", 24)] },
      /^error: interface wg0: has the address 10\.255\.0\.3, which `hubs` lists: this router cannot be its own hub$/,
    ],
    [
      "with two addresses, none of them near a hub",
      { addresses: [on(OVERLAY, "10.9.0.1", 32), on(OVERLAY, "10.8.0.1", 32)] },
      /^warning: interface wg0: has the addresses 10\.9\.0\.1, 10\.8\.0\.1, and no hub is in the subnet of one: 10\.9\.0\.1 is taken/,
    ],
    [
      "with a strict filter",
      overlay({ reversePathFilter: 1 }),
      /^warning: interface wg0: has a strict reverse path filter/,
    ],
    [
      "whose key cannot be used",
      {
        key: {
          kind: "refused",
          error: new PortError("private key /k", "is a symbolic link", "name the file"),
        },
      },
      /^error: private key \/k: is a symbolic link$/,
    ],
    [
      "where the process may not change the network",
      { capabilities: 0x802000n },
      /^error: process: lacks CAP_NET_ADMIN: it can change neither interfaces nor routes$/,
    ],
    [
      "where the process has no raw sockets",
      { capabilities: 0x801000n },
      /^warning: process: lacks CAP_NET_RAW: no pings/,
    ],
    [
      "where the process gets no time",
      { capabilities: 0x003000n },
      /^warning: process: lacks CAP_SYS_NICE: probes are late/,
    ],
    [
      "without a password of the sessions",
      { password: { kind: "absent" } },
      /^warning: password \/var\/lib\/shortcutd\/bgp-password: does not exist: while shortcutd does not run, any local user can open its sessions with BIRD$/,
    ],
    [
      "whose password cannot be used",
      {
        password: {
          kind: "refused",
          error: new PortError("password /p", "is a symbolic link", "name the file"),
        },
      },
      /^error: password \/p: is a symbolic link$/,
    ],
    [
      "with another program's tunnel of our name",
      withDirect(OTHER),
      /^error: interface shortcut0: exists and is not shortcutd's: its private key is another one$/,
    ],
    [
      "with an interface of our name and another kind",
      { ...withDirect(OWN), direct: undefined },
      /^error: interface shortcut0: exists and is not shortcutd's: it is not a WireGuard interface$/,
    ],
    [
      "with a tunnel of our name before the first start",
      { ...withDirect(OWN), key: { kind: "absent" } },
      /^error: interface shortcut0: exists and is not shortcutd's/,
    ],
    [
      "with a route inside an alias pool",
      { routes: [...good.routes, route("198.18.7.0/24", "eth0")] },
      /^error: alias pool 198\.18\.0\.0\/16: overlaps the route 198\.18\.7\.0\/24/,
    ],
    [
      "with a route around an alias pool",
      { routes: [...good.routes, route("198.18.0.0/15", "eth0")] },
      /^warning: alias pool 198\.18\.0\.0\/16: is inside the route 198\.18\.0\.0\/15/,
    ],
    [
      "with a route inside the IPv6 pool",
      { routes: [...good.routes, route("fd53:4843:5554::/96", "eth0")] },
      /^error: alias pool fd53:4843:5554::\/64: overlaps the route/,
    ],
    [
      "with an address in an alias pool",
      {
        addresses: [...good.addresses, on("eth0", "198.18.0.1", 24)],
        routes: [...good.routes, route("198.18.0.0/24", "eth0", { protocol: 2 })],
      },
      /^error: alias pool 198\.18\.0\.0\/16: has the address 198\.18\.0\.1 of eth0/,
    ],
    [
      "whose port is taken",
      { taken: [{ key: "control.port", port: 4243, address: address("10.255.0.1") }] },
      /^error: UDP port 4243 of 10\.255\.0\.1: is in use by another program$/,
    ],
  ])("%s has exactly that finding", (_, change, expected) => {
    expect(said(change)).toEqual([expect.stringMatching(expected)]);
  });

  it("of a hub with two addresses is asked for one; a configured one is enough", () => {
    const two = { addresses: [on(OVERLAY, "10.9.0.1", 24), on(OVERLAY, "10.255.0.3", 24)] };
    expect(said(two, hub)).toEqual([
      expect.stringMatching(/has the addresses 10\.9\.0\.1, 10\.255\.0\.3: 10\.9\.0\.1 is/),
    ]);
    expect(said(two, configOf(`${HUB}address: 10.255.0.3\n`))).toEqual([]);
  });

  it("may have our own direct interface, our own routes, and default routes in halves", () => {
    expect(said(withDirect(OWN))).toEqual([]);
    expect(said({ ...withDirect(OTHER), running: true })).toEqual([]);
    const routes = [
      ours("198.18.0.1/32", OVERLAY),
      route("198.18.0.2/32", OVERLAY, { protocol: 99 }),
      route("128.0.0.0/1", OVERLAY),
      route("198.0.0.0/8", [], { type: "unreachable" }),
    ];
    expect(said({ routes })).toEqual([]);
  });

  it("shows errors first, and every finding has a remedy", () => {
    const found = hostFindings(spoke, { ...good, ...overlay({ device: undefined, reversePathFilter: 1 }) });
    expect(found.map((f) => f.severity)).toEqual(["error", "warning"]);
    for (const f of found) expect(f.remedy).not.toBe("");
  });

  it("leaves to a start what it finds when it takes ports and interface", () => {
    const taken = [{ key: "direct.port" as const, port: 51821, address: undefined }];
    const found = hostFindings(spoke, { ...good, ...withDirect(OTHER), taken, ...noWireGuard });
    expect(found.filter((f) => !isFoundAtStart(f)).map((f) => f.subject)).toEqual(["overlay"]);
  });
});

describe("a host with one interface per tunnel", () => {
  const OVERLAYS = '["wg-hub1", "wg-hub2"]';
  const of = (names: string, ...more: string[]) =>
    configOf(`${SPOKE.replace("wg0", names)}${more.map((line) => `${line}\n`).join("")}`);
  const both = of(OVERLAYS, "address: 10.255.1.1");
  const facts = (name: string, change: Partial<OverlayFacts> = {}): OverlayFacts => ({
    name,
    device: device(name, OTHER),
    reversePathFilter: 0,
    ...change,
  });
  const tunnels: HostFacts = {
    ...good,
    links: [link("lo", 1), link("eth0", 2), link("wg-hub1", 3), link("wg-hub2", 4)],
    addresses: [on("lo", "10.255.1.1", 32), on("wg-hub1", "fe80::a", 64), on("wg-hub2", "fe80::a", 64)],
    overlay: [facts("wg-hub1"), facts("wg-hub2")],
    routes: [route("0.0.0.0/0", "eth0"), route("10.255.0.3/32", "wg-hub1")],
  };
  const found = (change: Partial<HostFacts>, config = both) =>
    hostFindings(config, { ...tunnels, ...change }).map((f) => `${f.severity}: ${f.place}: ${f.problem}`);

  it("that is right has no finding", () => {
    expect(found({})).toEqual([]);
    expect(found({}, of('"wg-*"', "address: 10.255.1.1"))).toEqual([]);
    expect(found({}, configOf(`role: hub\noverlay: ${OVERLAYS}\naddress: 10.255.1.1\n`))).toEqual([]);
  });

  it("is warned of a listed one that is missing while another is there", () => {
    const one = { links: tunnels.links.slice(0, 3), overlay: tunnels.overlay.slice(0, 1) };
    expect(found(one)).toEqual([
      "warning: interface wg-hub2: does not exist: nothing goes by it before it does",
    ]);
    expect(found({ links: tunnels.links.slice(0, 2), overlay: [] })).toEqual([
      "error: interface wg-hub1, wg-hub2: none exists",
    ]);
  });

  it("may have none as yet where a pattern stands for them and the address is known", () => {
    const none = { links: tunnels.links.slice(0, 2), overlay: [] };
    const soon = "warning: interface wg-*: none exists as yet: nothing goes by the overlay before";
    expect(found(none, of('"wg-*"', "address: 10.255.1.1"))).toEqual([soon]);
    const hubOf = configOf('role: hub\noverlay: "wg-*"\naddress: 10.255.1.1\n');
    expect(found(none, hubOf)).toEqual([soon]);
    expect(found(none, of('"wg-*"'))).toEqual(["error: interface wg-*: none exists as yet"]);
    expect(found(none, of('["wg-*", wg0]', "address: 10.255.1.1"))).toEqual([
      "warning: interface wg0: does not exist: nothing goes by it before it does",
      soon,
    ]);
  });

  it("has each of its interfaces judged", () => {
    const change = {
      overlay: [facts("wg-hub1", { device: undefined }), facts("wg-hub2", { reversePathFilter: 1 })],
    };
    expect(found(change)).toEqual([
      expect.stringMatching(/^error: interface wg-hub1: is not a WireGuard interface/),
      expect.stringMatching(/^warning: interface wg-hub2: has a strict reverse path filter/),
    ]);
    // other programs make interfaces whose names a pattern fits
    expect(found(change, of('"wg-*"', "address: 10.255.1.1"))[0]).toMatch(
      /^warning: interface wg-hub1: is not/,
    );
    const down = tunnels.links.map((l) => (l.name === "wg-hub2" ? { ...l, up: false } : l));
    expect(found({ links: down })).toEqual([expect.stringMatching(/^warning: interface wg-hub2: is down/)]);
  });

  it("needs an IPv4 address where its rp_filter is loose and IPv4 goes by it", () => {
    const loose = { overlay: [facts("wg-hub1", { reversePathFilter: 2 }), facts("wg-hub2")] };
    const [said] = hostFindings(both, { ...tunnels, ...loose });
    expect(said?.severity).toBe("warning");
    expect(said?.problem).toMatch(/^has a loose reverse path filter \(rp_filter is 2\) and no IPv4 address/);
    expect(said?.remedy).toMatch(/wg-hub1\.rp_filter=0`.*or an IPv4 address on wg-hub1$/);
    const carried = [...tunnels.addresses, on("wg-hub1", "10.255.1.1", 32)];
    expect(found({ ...loose, addresses: carried })).toEqual([]);
    // nothing of IPv4 goes by it
    const six = configOf(SPOKE.replace("10.255.0.3", "fd00::3").replace("wg0", OVERLAYS));
    const addresses = [on("wg-hub1", "fd00::1", 64), on("wg-hub2", "fe80::a", 64)];
    expect(found({ ...loose, addresses, routes: [] }, six)).toEqual([]);
    expect(found({ ...loose, addresses }, six)).toHaveLength(1);
    // a hub's packets go by the overlay alone
    expect(found(loose, configOf(`role: hub\noverlay: ${OVERLAYS}\naddress: 10.255.1.1\n`))).toEqual([]);
  });

  it("must have its address, in the VRF of the overlay", () => {
    const without = { addresses: tunnels.addresses.slice(1) };
    const [said] = hostFindings(both, { ...tunnels, ...without });
    expect(said).toMatchObject({
      severity: "error",
      place: "address 10.255.1.1",
      problem: "is on no interface of this router that is up",
      remedy: "`ip address add 10.255.1.1/32 dev lo`, or correct `address`",
    });
    const red = link("red", 9, { vrfTable: 101 });
    const inVrf = tunnels.links.map((l) => (l.name.startsWith("wg") ? { ...l, master: 9 } : l));
    const config = of(OVERLAYS, "address: 10.255.1.1", "vrf: { name: red, table: 101 }");
    expect(found({ links: [...inVrf, red] }, config)).toEqual([
      "error: address 10.255.1.1: is on lo, which is not in VRF red",
    ]);
    expect(found({}, of(OVERLAYS))).toEqual(["error: interface wg-hub1, wg-hub2: has no address of IPv4"]);
  });

  it("that is its own hub is told so, on whichever interface the address is", () => {
    expect(found({ addresses: [...tunnels.addresses, on("lo", "10.255.0.3", 32)] })).toEqual([
      expect.stringMatching(/^error: interface lo: has the address 10\.255\.0\.3, which `hubs` lists/),
    ]);
  });

  it("with one address on all of them is not asked which", () => {
    const same = ["wg-hub1", "wg-hub2"].map((dev) => on(dev, "10.9.0.1", 32));
    expect(found({ addresses: same }, of(OVERLAYS))).toEqual([]);
    const two = [on("wg-hub1", "10.9.0.1", 32), on("wg-hub2", "10.8.0.1", 32)];
    expect(found({ addresses: two }, of(OVERLAYS))).toEqual([
      expect.stringMatching(
        /interface wg-hub1, wg-hub2: has the addresses 10\.9\.0\.1, 10\.8\.0\.1, and no hub/,
      ),
    ]);
  });
});

describe("the ports that are asked for", () => {
  it("are those of the role", () => {
    expect(neededPorts(spoke, address("10.255.0.1")).map((p) => [p.key, p.port])).toEqual([
      ["direct.port", 51821],
      ["control.port", 4243],
    ]);
    expect(neededPorts(hub, undefined).map((p) => [p.key, p.port])).toEqual([
      ["direct.port", 51821],
      ["direct.observe-port", 4244],
    ]);
  });

  const ask = async (change: Partial<HostFacts>): Promise<{ asked: string[]; facts: HostFacts }> => {
    const host = { ...good, ...change };
    const asked: string[] = [];
    const facts = await readHost(spoke, {
      routes: {
        links: async () => host.links,
        allAddresses: async () => host.addresses,
        addresses: async () => [],
        dump: async () => host.routes,
      },
      wireguard: {
        device: async (name) => host.overlay.find((o) => o.name === name)?.device ?? host.direct,
      },
      host: { reversePathFilter: () => 2 },
      probes: {
        readKey: async () => host.key,
        capabilities: () => host.capabilities,
        readPassword: () => host.password ?? { kind: "absent" },
        isRunning: async () => host.running,
        isTaken: async ({ key, address }) => {
          asked.push(`${key} ${address ?? "any"}`);
          return key === "control.port";
        },
      },
    });
    return { asked, facts };
  };

  it("below 1024 need a capability, but not WireGuard's own", () => {
    const low = "lacks CAP_NET_BIND_SERVICE for UDP port";
    const spokeOn = (more: string) => said({}, configOf(`${SPOKE}${more}`));
    expect(spokeOn("direct: { port: 500 }\n")).toEqual([]);
    expect(spokeOn("control: { port: 500 }\n")).toEqual([`error: process: ${low} 500`]);
    const observing = configOf(`${HUB}control: { port: 500 }\n`);
    expect(said({}, observing)).toEqual([`error: process: ${low} 500 and 501`]);
    expect(said({ capabilities: 0x803400n }, observing)).toEqual([]);
  });

  it("are tried on this router's own address", async () => {
    const { asked, facts } = await ask({});
    expect(asked).toEqual(["direct.port any", "control.port 10.255.0.1"]);
    expect(facts).toEqual({ ...good, taken: [{ key: "control.port", port: 4243, address: "10.255.0.1" }] });
  });

  it("are not tried while shortcutd runs, and not where the direct interface has its port", async () => {
    expect((await ask({ running: true })).asked).toEqual([]);
    expect((await ask(withDirect(OWN))).asked).toEqual(["control.port 10.255.0.1"]);
  });
});
