/** The driver in a world in memory: bring-up, take-down, leftovers of a crash, and what it repairs and reports while it runs. */
import { beforeEach, describe, expect, it } from "vitest";
import { type Config, parseConfig } from "../../../plugin/config/config.js";
import { Driver, type ThisRouter } from "../../../plugin/driver/driver.js";
import { address, hostPrefix, prefix } from "../../../plugin/net/address.js";
import { privateKeyFromBytes, publicKeyFromBytes } from "../../../plugin/net/key.js";
import { no } from "../../../plugin/shortcut/reasons.js";
import { id64FromBytes } from "../../../plugin/wire/control/codec.js";
import { MemoryWorld } from "../../sim/ports.js";
import { generator } from "../../sim/random.js";
import { BLACKBOARD, DIRECT, OVERLAY, ours, route } from "./support.js";

const YAML = "role: spoke\noverlay: wg0\nhubs: [10.255.0.1]\ndaemon: bird\nbgp: { as: 65000 }\n";
const A = address("10.255.0.2");

const config = (text = YAML): Config => {
  const c = parseConfig(text);
  if (!c.ok) throw new Error(JSON.stringify(c.error));
  return c.value;
};

/** The key of the direct interface. */
const OURS = publicKeyFromBytes(new Uint8Array(32).fill(2));

const router = (): ThisRouter => {
  const random = generator(5);
  return {
    self: { address: A, publicKey: OURS, bootId: id64FromBytes(new Uint8Array(8).fill(1)) },
    privateKey: privateKeyFromBytes(new Uint8Array(32).fill(1)),
    overlayAddresses: [A],
    overlayMtu: 1420,
    crypto: {
      shared: () => new Uint8Array(32),
      x25519: () => new Uint8Array(32),
      hmac: () => new Uint8Array(32),
    },
    randomBytes: (n) => Uint8Array.from({ length: n }, () => Math.floor(random() * 256)),
  };
};

const KEY = publicKeyFromBytes(new Uint8Array(32).fill(7));
const peer = {
  publicKey: KEY,
  endpoint: undefined,
  allowedIps: [],
  keepalive: 0,
  lastHandshake: 0,
  rxBytes: 0,
  txBytes: 0,
};

let w: MemoryWorld;
let d: Driver;
beforeEach(() => {
  w = new MemoryWorld();
  w.devices.set(OVERLAY, { publicKey: KEY, peers: new Map() });
  w.put(route("0.0.0.0/0", "eth0", { metric: 0, protocol: 16 }));
  w.put(route("10.1.0.0/24", OVERLAY));
  d = new Driver(config(), router(), w.ports);
});

/** Nothing of ours: as the router was before. */
function asBefore(): void {
  expect(w.table).toEqual([
    "254 0.0.0.0/0 dev eth0 proto 16 metric 0",
    "254 10.1.0.0/24 dev wg0 proto 12 metric 32",
  ]);
  expect([...w.devices.keys()]).toEqual([OVERLAY]);
  expect(w.sockets.size).toBe(0);
  expect(w.counters).toBe(false);
  expect(w.sessions.every((s) => s.stopped || !s.started)).toBe(true);
  expect(w.daemonClosed).toBe(true);
}

describe("start", () => {
  it("takes the control port first, so that a second shortcutd disturbs nothing", async () => {
    await w.clock.during(d.start());
    expect(w.calls[0]).toBe(`datagrams.open ${OVERLAY}`);
    expect(w.sessions.map((s) => [s.name, s.started])).toEqual([
      ["offers", true],
      ["feed", true],
    ]);
    expect(w.counters).toBe(true);
    expect([...w.sockets, ...w.probeSockets].map((s) => s.dev)).toEqual([OVERLAY, DIRECT]);
    await w.clock.during(d.stop());
    asBefore();
    expect(w.clock.pending).toBe(0);
  });

  it("of a second shortcutd fails on the control port and touches nothing", async () => {
    w.failing.add(`datagrams.open ${OVERLAY}`);
    w.devices.set(DIRECT, { publicKey: OURS, peers: new Map([[KEY, peer]]) });
    w.put(ours("198.18.0.1/32", DIRECT, { table: BLACKBOARD, metric: 99 }));
    const before = w.table;
    await expect(w.clock.during(d.start())).rejects.toThrow("made to fail");
    expect(w.table).toEqual(before);
    expect(w.devices.get(DIRECT)?.peers.size).toBe(1);
    expect(w.calls.filter((c) => /replace|remove|removePeer|ensure|destroy|setUp|tearDown/.test(c))).toEqual(
      [],
    );
  });

  it.each([
    "routes.dump",
    "wireguard.claim",
    "wireguard.ensure",
    "traffic.setUp",
    "routes.watch",
    `probes.open ${DIRECT}`,
  ])("leaves nothing half made when %s fails, and says what failed", async (call) => {
    w.failing.add(call);
    await expect(w.clock.during(d.start())).rejects.toThrow(`${call}: made to fail (let it succeed)`);
    w.failing.clear();
    asBefore();
    await w.clock.advance(60_000);
    asBefore();
    expect(w.clock.pending).toBe(0);
  });

  it("runs without raw sockets, and says so: the first candidate is taken then", async () => {
    w.failing.add("pings.open");
    await w.clock.during(d.start());
    expect(d.engine.pings.verdict).toEqual(
      no({ kind: "pings-unavailable", error: "pings.open: made to fail (let it succeed)" }),
    );
    expect(d.engine.spoke?.natText()).toBe("pings unavailable: NAT behaviour unknown");
    expect(w.log.some((l) => l.level === "warn" && l.message.includes("NAT behaviour unknown"))).toBe(true);
    await w.clock.during(d.stop());
    asBefore();
  });

  it("survives a failing step of its own undoing, and does the others", async () => {
    w.failing.add(`probes.open ${DIRECT}`);
    w.failing.add("traffic.tearDown");
    await expect(w.clock.during(d.start())).rejects.toThrow(`probes.open ${DIRECT}`);
    expect(w.sockets.size).toBe(0);
    expect(w.devices.has(DIRECT)).toBe(false);
    expect(w.log.some((l) => l.level === "warn" && JSON.stringify(l).includes("traffic.tearDown"))).toBe(
      true,
    );
  });
});

describe("leftovers of a crash", () => {
  const leave = () => {
    w.devices.set(DIRECT, { publicKey: OURS, peers: new Map([[KEY, peer]]) });
    w.put(ours("198.18.0.1/32", DIRECT, { table: BLACKBOARD, metric: 99 }));
    w.put(route("10.1.0.0/24", DIRECT));
  };

  it("go: the alias returns to the overlay first, the peer goes when the FIB has followed", async () => {
    leave();
    const put = w.put.bind(w);
    let returned = false;
    w.put = (r) => {
      put(r);
      if (r.prefix === prefix("198.18.0.1/32") && r.nextHops[0]?.dev === OVERLAY) {
        returned = true;
        expect(w.devices.get(DIRECT)?.peers.size).toBe(1);
        w.clock.after(120, () => put(route("10.1.0.0/24", OVERLAY)));
      }
    };
    await w.clock.during(d.start());
    expect(returned).toBe(true);
    expect(w.calls).toContain("wireguard.removePeer");
    expect(w.devices.get(DIRECT)?.peers.size).toBe(0);
    expect(w.routes.some((r) => r.protocol === 173)).toBe(false);
    await w.clock.during(d.stop());
    asBefore();
  });

  it("of an earlier version go too, and routes of Open/R stay", async () => {
    const former = (to: string, dev: string, metric: number, table?: number) =>
      w.put(route(to, dev, { protocol: 99, metric, ...(table === undefined ? {} : { table }) }));
    former("198.18.0.1/32", DIRECT, 99, BLACKBOARD);
    former("fd53:4843:5554::1/128", OVERLAY, 99, BLACKBOARD);
    former("10.1.0.0/24", OVERLAY, 1);
    former("10.2.0.0/24", OVERLAY, 0xff000000);
    former("10.9.0.0/24", OVERLAY, 10);
    await w.clock.during(d.start());
    expect(w.routes.filter((r) => r.protocol !== 12 && r.protocol !== 16).map((r) => r.prefix)).toEqual([
      "10.9.0.0/24",
    ]);
    expect(w.log.some((l) => l.message === "removed what a former run left")).toBe(true);
  });

  it("under a dead daemon are overridden, until its own route is right again", async () => {
    leave();
    await w.clock.during(d.start());
    expect(w.table).toContain("254 10.1.0.0/24 dev wg0 proto 173 metric 1");
    w.put(route("10.1.0.0/24", OVERLAY));
    await w.clock.advance(1_000);
    expect(w.table).not.toContain("254 10.1.0.0/24 dev wg0 proto 173 metric 1");
    await w.clock.during(d.stop());
    asBefore();
  });

  it("an override stays while the dead daemon has no route of its own: it would leave in the clear", async () => {
    w.drop((r) => r.prefix === prefix("10.1.0.0/24"));
    w.put(ours("10.1.0.0/24", OVERLAY));
    await w.clock.during(d.start());
    await w.clock.advance(20_000);
    expect(w.table).toContain("254 10.1.0.0/24 dev wg0 proto 173 metric 1");
    w.put(route("10.1.0.0/24", OVERLAY));
    await w.clock.advance(1_000);
    expect(w.table).not.toContain("254 10.1.0.0/24 dev wg0 proto 173 metric 1");
  });

  it("an override goes when the daemon is back and has no such route", async () => {
    w.drop((r) => r.prefix === prefix("10.1.0.0/24"));
    w.put(ours("10.1.0.0/24", OVERLAY));
    await w.clock.during(d.start());
    w.establish();
    await w.clock.advance(1_000);
    expect(w.routes.some((r) => r.protocol === 173)).toBe(false);
  });
});

describe("stop", () => {
  it("under a dead daemon leaves an override, made before the interface goes", async () => {
    await w.clock.during(d.start());
    w.put(route("10.1.0.0/24", DIRECT));
    w.calls.length = 0;
    await w.clock.during(d.stop());
    expect(w.calls.indexOf("routes.replace")).toBeGreaterThanOrEqual(0);
    expect(w.calls.indexOf("routes.replace")).toBeLessThan(w.calls.indexOf("wireguard.destroy"));
    expect(w.table).toEqual([
      "254 0.0.0.0/0 dev eth0 proto 16 metric 0",
      "254 10.1.0.0/24 dev wg0 proto 173 metric 1",
    ]);
    expect(w.log.some((l) => l.message.includes("the daemon still routes 10.1.0.0/24 via shortcut0"))).toBe(
      true,
    );
  });

  it("keeps the override that hides a frozen route", async () => {
    w.devices.set(DIRECT, { publicKey: OURS, peers: new Map([[KEY, peer]]) });
    w.put(route("10.1.0.0/24", DIRECT));
    await w.clock.during(d.start());
    expect(w.table).toContain("254 10.1.0.0/24 dev wg0 proto 173 metric 1");
    await w.clock.during(d.stop());
    expect(w.table).toContain("254 10.1.0.0/24 dev wg0 proto 173 metric 1");
    expect(w.devices.has(DIRECT)).toBe(false);
  });

  it("twice is once", async () => {
    await w.clock.during(d.start());
    await w.clock.during(d.stop());
    const calls = w.calls.length;
    await w.clock.during(d.stop());
    expect(w.calls.length).toBe(calls);
  });
});

describe("while it runs", () => {
  it("takes away what nobody wants of ours, and makes the interface again when it was deleted", async () => {
    await w.clock.during(d.start());
    w.put(ours("198.18.0.9/32", DIRECT, { table: BLACKBOARD, metric: 99 }));
    w.devices.get(DIRECT)?.peers.set(KEY, peer);
    await w.clock.advance(11_000);
    expect(w.routes.some((r) => r.protocol === 173)).toBe(false);
    expect(w.devices.get(DIRECT)?.peers.size).toBe(0);
    w.devices.delete(DIRECT);
    await w.clock.advance(11_000);
    expect(w.devices.has(DIRECT)).toBe(true);
    expect([...w.probeSockets].filter((s) => s.dev === DIRECT)).toHaveLength(1);
  });

  const repairs = () => w.log.filter((l) => l.message.startsWith("direct interface changed"));

  it("restores what another program changed on the direct interface, soon after the event, and says so once", async () => {
    await w.clock.during(d.start());
    await w.clock.advance(2_000);
    const device = w.devices.get(DIRECT);
    if (device === undefined) throw new Error("no direct interface");
    device.changed = { up: false, addresses: [] };
    w.notify({ kind: "link", link: { ifindex: 9, name: DIRECT, up: false, mtu: 1420 }, gone: false });
    for (let i = 0; i < 20; i++) await w.clock.advance(5);
    expect(w.devices.get(DIRECT)?.changed).toBeUndefined();
    expect(repairs().map((l) => l.message)).toEqual([
      expect.stringMatching(/^direct interface changed by another program: it is down, its address /),
    ]);
    await w.clock.advance(20_000);
    expect(repairs()).toHaveLength(1);
    await w.clock.during(d.stop());
    asBefore();
  });

  it("restores what nobody announces: a peer, the listen port", async () => {
    await w.clock.during(d.start());
    w.devices.get(DIRECT)?.peers.set(KEY, peer);
    await w.clock.advance(1_500);
    expect(w.devices.get(DIRECT)?.peers.size).toBe(0);
    const device = w.devices.get(DIRECT);
    if (device !== undefined) device.changed = { listenPort: 5 };
    await w.clock.advance(2_500);
    expect(w.devices.get(DIRECT)?.changed).toBeUndefined();
    expect(repairs().at(-1)?.message).toContain("its listen port is 5, not 51821");
  });

  it("does not fight a program that changes it all the time more often than every few seconds", async () => {
    await w.clock.during(d.start());
    w.calls.length = 0;
    for (let i = 0; i < 600; i++) {
      const device = w.devices.get(DIRECT);
      if (device !== undefined) device.changed = { mtu: 1000 };
      w.notify({ kind: "link", link: { ifindex: 9, name: DIRECT, up: true, mtu: 1000 }, gone: false });
      await w.clock.advance(100);
    }
    const made = w.calls.filter((c) => c === "wireguard.ensure").length;
    expect(made).toBeGreaterThan(10);
    expect(made).toBeLessThan(25);
  });

  it("binds the control socket to the overlay interface that is there, and says so while there is none", async () => {
    await w.clock.during(d.start());
    const overlay = (event: "gone" | "there", ifindex: number) => {
      const there = event === "there";
      w.links = there ? [{ ifindex, name: OVERLAY, up: true, mtu: 1420 }] : [];
      w.notify({
        kind: "link",
        link: { ifindex, name: OVERLAY, up: there, mtu: 1420 },
        gone: !there,
      });
    };
    const control = () => [...w.sockets].filter((s) => s.dev === OVERLAY);
    const [first] = control();
    overlay("gone", 3);
    await w.clock.advance(6_000);
    expect(control()).toEqual([]);
    expect(d.problems).toEqual([{ kind: "overlay-missing", name: OVERLAY }]);
    expect(d.engine.spoke?.hubStatus()).toMatchObject([
      { registered: false, problem: { kind: "overlay-missing", name: OVERLAY } },
    ]);
    expect(w.log.filter((l) => l.message === "the overlay interface wg0 does not exist")).toHaveLength(1);
    overlay("there", 44);
    await w.clock.advance(1_000);
    const [second] = control();
    expect(second).toBeDefined();
    expect(second).not.toBe(first);
    expect(d.problems).toEqual([]);
    // made again at once: nobody saw that it was gone
    overlay("there", 45);
    await w.clock.advance(1_000);
    expect(control()).toHaveLength(1);
    expect(control()[0]).not.toBe(second);
    await w.clock.during(d.stop());
    asBefore();
  });

  it.each([
    ["renamed", { links: [{ ifindex: 3, name: "other", up: true, mtu: 1420 }] }, "overlay-missing"],
    ["without this router's address", { addresses: [] }, "overlay-address-missing"],
    ["down", { links: [{ ifindex: 3, name: OVERLAY, up: false, mtu: 1420 }] }, "overlay-down"],
  ])("an overlay interface that is %s is a reason, until it is as before", async (_, change, kind) => {
    // a loose one would be a reason too, when the address is gone
    w.reversePath.set(OVERLAY, 0);
    await w.clock.during(d.start());
    const before = { links: w.links, addresses: w.overlayAddresses };
    const set = (to: Partial<typeof before>) => {
      w.links = to.links ?? w.links;
      w.overlayAddresses = to.addresses ?? w.overlayAddresses;
      w.notify({ kind: "address", dev: OVERLAY, address: A, gone: true });
    };
    set(change);
    await w.clock.advance(100);
    await w.clock.advance(100);
    expect(d.problems.map((p) => p.kind)).toEqual([kind]);
    set(before);
    await w.clock.advance(100);
    await w.clock.advance(100);
    await w.clock.advance(100);
    expect(d.problems).toEqual([]);
    expect(w.sockets.size).toBe(1);
  });

  it("a loose rp_filter on an overlay without IPv4 address matters where IPv4 packets go", async () => {
    const six = address("fd00:255::2");
    const kinds = () => d.problems.map((p) => p.kind);
    w = new MemoryWorld();
    w.devices.set(OVERLAY, { publicKey: KEY, peers: new Map() });
    w.overlayAddresses = [hostPrefix(six)];
    w.put(route("0.0.0.0/0", "eth0", { metric: 0, protocol: 16 }));
    w.put(route("2001:db8:1::/48", OVERLAY));
    const self = { ...router().self, address: six };
    const hubs = config(YAML.replace("10.255.0.1", "fd00:255::1"));
    d = new Driver(hubs, { ...router(), self, overlayAddresses: [six] }, w.ports);
    await w.clock.during(d.start());
    expect(kinds()).toEqual([]);
    w.notify({ kind: "set", route: route("10.1.0.0/24", OVERLAY) });
    await w.clock.advance(2_000);
    expect(kinds()).toEqual(["rp-filter-loose"]);
    w.reversePath.set(OVERLAY, 0);
    await w.clock.advance(2_000);
    expect(kinds()).toEqual([]);
  });

  it("leaves an interface of somebody else's alone, at start, while it runs, and at the stop", async () => {
    const foreign = { publicKey: KEY, peers: new Map([[KEY, peer]]) };
    const touched = () =>
      w.calls.filter((c) => /wireguard\.(ensure|setPeer|removePeer|destroy)|routes\.remove/.test(c));
    w.devices.set(DIRECT, foreign);
    await expect(w.clock.during(d.start())).rejects.toThrow(/interface shortcut0: is somebody else's/);
    expect(touched()).toEqual([]);
    w.devices.delete(DIRECT);
    d = new Driver(config(), router(), w.ports);
    await w.clock.during(d.start());
    w.calls.length = 0;
    w.devices.set(DIRECT, foreign);
    await w.clock.advance(30_000);
    expect(touched()).toEqual([]);
    expect(w.devices.get(DIRECT)?.peers.size).toBe(1);
    const said = w.log.filter((l) => l.message.includes("somebody else's; nothing of it is changed"));
    expect(said).toHaveLength(1);
    // when it is gone, ours comes back
    w.devices.delete(DIRECT);
    await w.clock.advance(3_000);
    expect(w.devices.get(DIRECT)?.publicKey).toBe(OURS);
  });

  it("leaves routes of the same number alone that are not by its interfaces", async () => {
    w.put(ours("10.9.0.0/24", "eth0", { metric: 1 }));
    await w.clock.during(d.start());
    await w.clock.advance(11_000);
    await w.clock.during(d.stop());
    expect(w.table).toContain("254 10.9.0.0/24 dev eth0 proto 173 metric 1");
  });

  it("goes on when ports fail for a while, and says so once a minute", async () => {
    await w.clock.during(d.start());
    for (const call of ["wireguard.claim", "wireguard.device", "routes.dump", "traffic.read"])
      w.failing.add(call);
    await w.clock.advance(50_000);
    const said = w.log.filter((l) => l.level === "warn").map((l) => l.message);
    expect(said.length).toBeGreaterThan(0);
    expect(said.length).toBeLessThan(12);
    w.failing.clear();
    w.calls.length = 0;
    await w.clock.advance(10_000);
    expect(w.calls).toContain("traffic.read");
    expect(w.calls).toContain("wireguard.device");
    await w.clock.during(d.stop());
    asBefore();
  });

  it("takes new thresholds, timers and intervals of a reload into use", async () => {
    await w.clock.during(d.start());
    const calls = () => w.calls.filter((c) => c === "traffic.read").length;
    const more =
      "trigger: { rate: 1 Mbit/s, for: 1 s, interval: 5 s }\ntimers: { idle: 2 min, drain: 5 s }\n";
    d.reload(config(YAML + more));
    expect(d.engine.config).toMatchObject({
      role: { trigger: { rate: 1e6, duration: 1_000, hysteresis: 0.3 } },
      parameters: { idleTimeout: 120_000, drain: 5_000, offerTimeout: 5_000 },
    });
    await w.clock.advance(5_000);
    const before = calls();
    await w.clock.advance(20_000);
    expect(calls() - before).toBe(4);
    w.samples = [{ destination: prefix("10.1.0.0/24"), bytes: 1, packets: 1 }];
    await w.clock.advance(5_000);
    w.samples = [{ destination: prefix("10.1.0.0/24"), bytes: 1_250_000, packets: 1_000 }];
    await w.clock.advance(5_000);
    // 2 Mbit/s: above the new threshold, below that of the start
    const [counted] = d.engine.spoke?.destinationStatus(w.clock.now()) ?? [];
    expect(counted?.rate.bitsPerSecond).toBeGreaterThan(1e6);
    expect(counted?.rate.aboveSince).toBeDefined();
    await w.clock.during(d.stop());
    asBefore();
  });

  it("writes no log line per datagram, whatever the senders' ports are", async () => {
    await w.clock.during(d.start());
    const [control] = w.sockets;
    const before = w.log.length;
    for (let i = 0; i < 5_000; i++)
      control?.onDatagram(
        { address: address(`10.${i >> 12}.${(i >> 4) & 255}.${(i & 15) + 1}`), port: 1024 + i },
        Uint8Array.of(8, 2),
      );
    expect(w.log.length - before).toBeLessThan(150);
  });

  it("finds the direct interface unusable under a strict rp_filter, with the sysctl to set", async () => {
    w.reversePath.set(OVERLAY, 1);
    await w.clock.during(d.start());
    expect(w.log.some((l) => l.message.includes("set net.ipv4.conf.{all,wg0}.rp_filter to 2 or 0"))).toBe(
      true,
    );
  });
});

it("keeps traffic on the overlay while a NAT rule of others names it alone, and says which", async () => {
  await w.clock.during(d.start());
  const rules = (name: string, ...devices: readonly string[]) => [
    { chain: { family: "ip", table: "nat", name, type: "nat", hook: "postrouting", prio: 100 } },
    {
      rule: {
        family: "ip",
        table: "nat",
        chain: name,
        expr: [
          { match: { op: "==", left: { meta: { key: "oifname" } }, right: { set: devices } } },
          { masquerade: null },
        ],
      },
    },
  ];
  const told = () => w.log.filter((l) => l.message.includes("a NAT rule of")).length;
  w.setRuleset(rules("post", OVERLAY, "eth0"));
  await w.clock.advance(2_000);
  expect(told()).toBe(1);
  expect(w.log.some((l) => l.message.includes("table ip nat, chain post"))).toBe(true);
  w.setRuleset(rules("post", OVERLAY, DIRECT));
  await w.clock.advance(2_000);
  w.setRuleset(rules("other", OVERLAY));
  await w.clock.advance(2_000);
  expect(told()).toBe(2);
});

it("makes its tables again when another program flushes the ruleset, and removes them at the stop", async () => {
  await w.clock.during(d.start());
  w.flushRuleset();
  expect(w.counters).toBe(false);
  await w.clock.advance(1_000);
  expect(w.counters).toBe(true);
  expect(w.log.some((l) => l.level === "warn" && l.message.includes("made again"))).toBe(true);
  await w.clock.during(d.stop());
  expect(w.counters).toBe(false);
  asBefore();
});
