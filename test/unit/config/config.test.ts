/** The configuration file: every key and default as the program gets it, and for every mistake the place, the problem and the remedy. */
import { describe, expect, it } from "vitest";
import { formatConfigError, parseConfig } from "../../../plugin/config/config.js";
import { InterfaceNames } from "../../../plugin/net/interface-names.js";
import { defaultParameters } from "../../../plugin/shortcut/parameters.js";

const BASE = ["role: spoke", "overlay: wg0", "hubs: [10.255.0.1]", "daemon: bird", "bgp: { as: 65000 }"];
const text = (...more: string[]) => [...BASE, ...more, ""].join("\n");
const good = (yaml: string) => {
  const c = parseConfig(yaml);
  if (!c.ok) throw new Error(c.error.map((e) => formatConfigError("f", e)).join("\n"));
  return c.value;
};
const errors = (yaml: string): string[] => {
  const c = parseConfig(yaml);
  return c.ok ? [] : c.error.map((e) => formatConfigError("shortcutd.yaml", e));
};

describe("the configuration of a spoke", () => {
  it("needs five lines", () => {
    expect(good(text())).toEqual({
      role: "spoke",
      overlay: new InterfaceNames(["wg0"]),
      vrf: undefined,
      fibTable: 254,
      address: undefined,
      hubs: ["10.255.0.1"],
      daemon: {
        kind: "bird",
        as: 65000,
        offersAs: 65000,
        routerId: "127.0.0.2",
        offers: "127.0.0.2",
        feed: "127.0.0.3",
        peer: "127.0.0.1",
        port: 179,
        holdTime: 9,
        acceptVisible: false,
        password: { file: "/var/lib/shortcutd/bgp-password", required: false },
        socket: "/run/bird/bird.ctl",
        vrf: undefined,
        table: 4242,
      },
      direct: {
        interface: "shortcut0",
        port: 51821,
        key: "/var/lib/shortcutd/private.key",
        fwmark: 0,
        observePort: 4244,
      },
      control: {
        port: 4243,
        socket: "/run/shortcutd/control.sock",
        table: "shortcutd_wg0",
        sourcesTable: "shortcutd_wg0_sources",
      },
      trigger: { rate: 10e6, duration: 5000, hysteresis: 0.3, interval: 1000, mask4: 24, mask6: 64 },
      pins: new Map(),
      psk: { directory: undefined, required: false },
      publicEndpoints: [],
      denied: [],
      aliases: { 4: "198.18.0.0/16", 6: "fd53:4843:5554::/64" },
      guard: { enabled: true, except: [], file: "/var/lib/shortcutd/guard-wg0" },
      divert: { mark: 0x20000000, table: 4243, priority: 900 },
      maxShortcuts: 100,
      maxSpokes: 10_000,
      parameters: defaultParameters,
      logLevel: "info",
    });
  });

  it("has pins and pre-shared keys where the operator wants them", () => {
    const [one, two] = ["A", "B"].map((c) => `${c.repeat(42)}A=`);
    const c = good(
      `${text()}pins: { 10.255.0.4: ${one}, 'fd00::0:4': [${one}, ${two}] }\npsk: { directory: /etc/shortcutd/psk, required: true }\n`,
    );
    expect([...c.pins]).toEqual([
      ["10.255.0.4", [one]],
      ["fd00::4", [one, two]],
    ]);
    expect(c.psk).toEqual({ directory: "/etc/shortcutd/psk", required: true });
  });

  it.each([
    ["pins: { host-c: KEY }", "pins.host-c: is not an overlay address"],
    ["pins: { 10.255.0.4: short }", "pins.10.255.0.4: must be a WireGuard public key, or a list"],
    ["pins: { 10.255.0.4: [] }", "pins.10.255.0.4: must be a WireGuard public key, or a list"],
    ["pins: { 10.255.0.4: [KEY, 5] }", "pins.10.255.0.4: must be a WireGuard public key, or a list"],
    ["pins: [KEY]", "pins: must be a mapping of overlay addresses"],
    ["psk: { required: true }", "psk.required: needs psk.directory"],
    ["psk: { directory: relative }", "psk.directory: must be an absolute path"],
  ])("%s: %s", (line, problem) => {
    const c = parseConfig(`${text()}${line.replace("KEY", `${"A".repeat(43)}=`)}\n`);
    expect(c.ok ? "" : c.error.map((e) => `${e.key}: ${e.problem}`).join("; ")).toContain(problem);
  });

  it.each(["pins: {}", "psk: {}"])("of a hub has no %s", (line) => {
    const c = parseConfig(`role: hub\noverlay: wg0\n${line}\n`);
    expect(c.ok ? "" : c.error[0]?.problem).toBe("is for spokes: a hub has no direct path");
  });

  it("of FRR has the main table, the overlay address and FRR's sockets", () => {
    expect(good(text().replace("bird", "frr")).daemon).toMatchObject({
      kind: "frr",
      peer: undefined,
      socket: "/run/frr",
      table: 254,
    });
  });

  it.each<[string, (c: ReturnType<typeof good>) => unknown, unknown]>([
    ["address: 10.255.0.2", (c) => c.address, "10.255.0.2"],
    ["daemon-socket: /run/other.ctl", (c) => c.daemon?.socket, "/run/other.ctl"],
    [
      "direct: { interface: wgs0, port: 1234, key: /k, observe-port: 9, fwmark: 0xca6c }",
      (c) => c.direct,
      { interface: "wgs0", port: 1234, key: "/k", fwmark: 51820, observePort: 9 },
    ],
    [
      "control: { port: 99, socket: /s }",
      (c) => c.control,
      { port: 99, socket: "/s", table: "shortcutd_wg0", sourcesTable: "shortcutd_wg0_sources" },
    ],
    ["trigger: { rate: 2.5 Mbit/s }", (c) => c.trigger.rate, 2.5e6],
    ["trigger: { rate: 1 Gbit/s }", (c) => c.trigger.rate, 1e9],
    ["trigger: { rate: 1000 bit/s }", (c) => c.trigger.rate, 1000],
    ["trigger: { for: 500 ms }", (c) => c.trigger.duration, 500],
    ["trigger: { interval: 2 s }", (c) => c.trigger.interval, 2000],
    ["trigger: { hysteresis: 0.5 }", (c) => c.trigger.hysteresis, 0.5],
    ["trigger: { mask4: 32, mask6: 128 }", (c) => [c.trigger.mask4, c.trigger.mask6], [32, 128]],
    [
      "endpoints: ['192.0.2.1:51821', '[2001:db8::1]:51821']",
      (c) => c.publicEndpoints,
      [
        { address: "192.0.2.1", port: 51821 },
        { address: "2001:db8::1", port: 51821 },
      ],
    ],
    [
      "aliases: { ipv4: 198.19.0.0/20, ipv6: 'fd00::/64', table: 77 }",
      (c) => [c.aliases, c.daemon?.table],
      [{ 4: "198.19.0.0/20", 6: "fd00::/64" }, 77],
    ],
    ["limits: { shortcuts: 5, spokes: 7 }", (c) => [c.maxShortcuts, c.maxSpokes], [5, 7]],
    ["timers: { idle: 2 min }", (c) => c.parameters.idleTimeout, 120_000],
    [
      "timers: { offer: 1 s, connect: 2 s }",
      (c) => [c.parameters.offerTimeout, c.parameters.connectTimeout],
      [1000, 2000],
    ],
    [
      "timers: { probe: 50 ms, probe-multiplier: 5, probe-idle: 2 s }",
      (c) => [c.parameters.probeInterval, c.parameters.probeMultiplier, c.parameters.probeIdle],
      [50, 5, 2000],
    ],
    [
      "timers: { drain: 2 s, backoff: 1 s, backoff-max: 1 h }",
      (c) => [c.parameters.drain, c.parameters.backoff, c.parameters.backoffMax],
      [2000, 1000, 3_600_000],
    ],
    [
      "damping: { half-life: 1 min, suppress: 4000, reuse: 1000, longest: 10 min }",
      (c) => c.parameters.damping,
      { halfLife: 60_000, suppress: 4000, reuse: 1000, longest: 600_000 },
    ],
    [
      "direct: { max-round-trip: { ratio: 1.5, margin: 5 ms } }",
      (c) => c.parameters.maxRoundTrip,
      { ratio: 1.5, margin: 5 },
    ],
    ["direct: { max-round-trip: {} }", (c) => c.parameters.maxRoundTrip, { ratio: 1, margin: 2 }],
    ["timers: { keepalive: 15 s }", (c) => c.parameters.peerKeepalive, 15_000],
    ["log: debug", (c) => c.logLevel, "debug"],
  ])("takes %s", (line, read, want) => {
    expect(read(good(text(line)))).toEqual(want);
  });

  it("takes every key of bgp", () => {
    const c = good(
      text().replace(
        "{ as: 65000 }",
        "{ as: 65000, offers-as: 65001, router-id: 10.0.0.9, offers: 127.0.0.4, feed: 127.0.0.5, peer: 10.255.0.2, port: 1790, hold-time: 3 }",
      ),
    );
    expect(c.daemon).toMatchObject({
      as: 65000,
      offersAs: 65001,
      routerId: "10.0.0.9",
      offers: "127.0.0.4",
      feed: "127.0.0.5",
      peer: "10.255.0.2",
      port: 1790,
      holdTime: 3,
    });
    expect(c.parameters.remoteHold).toBe(3000);
  });
});

describe("a hub's configuration", () => {
  it("needs two lines", () => {
    expect(good("role: hub\noverlay: wg0\n")).toMatchObject({ role: "hub", daemon: undefined, hubs: [] });
  });
  it("has no daemon, no hubs and no AS", () => {
    expect(errors("role: hub\noverlay: wg0\nhubs: [10.255.0.1]\ndaemon: frr\nbgp: { as: 1 }\n")).toEqual([
      "shortcutd.yaml:3:7: hubs: is for spokes; a hub reads its FIB, not its daemon",
      "shortcutd.yaml:4:9: daemon: is for spokes; a hub reads its FIB, not its daemon",
      "shortcutd.yaml:5:6: bgp: is for spokes; a hub reads its FIB, not its daemon",
    ]);
  });
});

describe("errors name line, column, key and what is allowed", () => {
  it.each([
    [
      "direkt: 1",
      "6:1: direkt: unknown key; did you mean direct? allowed here: role, overlay, vrf, address, hubs,",
    ],
    [
      "trigger:\n  rates: 1",
      "7:3: trigger.rates: unknown key; did you mean rate? allowed here: rate, for, interval, hysteresis, mask4, mask6",
    ],
    ["address: 10.0.0", '6:10: address: "10.0.0" is not an IP address'],
    ["address: 7", "6:10: address: is not an IP address"],
    ["endpoints: ['192.0.2.1']", '6:13: endpoints.0: "192.0.2.1" is not a valid ADDRESS:PORT'],
    ["endpoints: 192.0.2.1:1", "6:12: endpoints: must be a list of public endpoints"],
    [
      "direct: { interface: abcdefghijklmnop }",
      "6:22: direct.interface: must be an interface name of 1 to 15 characters",
    ],
    [
      "direct: { interface: wg0 }",
      "6:22: direct.interface: overlay and direct interface must be two interfaces",
    ],
    ["direct: { port: 0 }", "6:17: direct.port: must be a whole number from 1 to 65535"],
    ["direct: { port: 1.5 }", "6:17: direct.port: must be a whole number from 1 to 65535"],
    ["direct: { port: x }", "6:17: direct.port: must be a whole number from 1 to 65535"],
    ["direct: { key: relative }", "6:16: direct.key: must be an absolute path"],
    ["control: { port: 51821 }", "6:18: control.port: must differ from the port of the direct interface"],
    ["trigger: { rate: 10 }", "6:18: trigger.rate: 10 is not a rate: write 10 Mbit/s"],
    ["trigger: { rate: 10 MB/s }", '6:18: trigger.rate: "10 MB/s" is not a rate'],
    ["trigger: { for: 5 }", "6:17: trigger.for: 5 is not a time from 0 ms to 1 h: write 5 s"],
    ["trigger: { hysteresis: 1 }", "6:24: trigger.hysteresis: must be a number between 0 and 1"],
    ["trigger: { mask4: 33 }", "6:19: trigger.mask4: must be a whole number from 8 to 32"],
    [
      "aliases: { ipv4: 198.18.0.0/30 }",
      '6:18: aliases.ipv4: "198.18.0.0/30" is not an IPv4 prefix of at most /28',
    ],
    ["aliases: { ipv4: 'fd00::/64' }", '6:18: aliases.ipv4: "fd00::/64" is not an IPv4 prefix'],
    ["aliases: { ipv6: 198.18.0.0/16 }", '6:18: aliases.ipv6: "198.18.0.0/16" is not an IPv6 prefix'],
    ["limits: { shortcuts: 0 }", "6:22: limits.shortcuts: must be a whole number from 1 to 10000"],
    [
      "direct: { max-round-trip: { ratio: 0 } }",
      "6:36: direct.max-round-trip.ratio: must be a number from 0.1 to 100",
    ],
    ["damping: { reuse: 2500 }", "6:19: damping.reuse: reuse must be below suppress"],
    ["timers: { keepalive: 60 s }", '6:22: timers.keepalive: "60 s" is not a time from 5 s to 25 s'],
    ["timers: { probe-multiplier: 1 }", "6:29: timers.probe-multiplier: must be a whole number from 2 to 50"],
    ["log: loud", "6:6: log: must be error or warn or info or debug"],
    ["daemon-socket: x", "6:16: daemon-socket: must be an absolute path"],
  ])("%j", (line, want) => {
    const got = errors(text(line));
    expect(got).toHaveLength(1);
    expect(got[0]?.startsWith(`shortcutd.yaml:${want}`), got[0]).toBe(true);
  });

  it("say what a spoke lacks", () => {
    expect(errors("role: spoke\noverlay: wg0\n").map((e) => e.replace(/^[^ ]* /, ""))).toEqual([
      "hubs: a spoke needs the overlay address of at least one hub: hubs: [10.255.0.1]",
      "daemon: a spoke needs its routing daemon: bird or frr",
      "bgp: a spoke needs the daemon's AS: bgp: { as: 65000 }",
    ]);
    expect(errors(text("address: 10.255.0.1"))).toEqual([
      "shortcutd.yaml:3:8: hubs.0: 10.255.0.1 is this router itself",
    ]);
  });

  it("come all at once, in the order of the file", () => {
    const got = errors("role: spok\noverlay: wg0\nlog: loud\nbgp: { as: 0 }\nx: 1\n");
    expect(got.map((e) => e.split(":")[1])).toEqual(["1", "3", "4", "5"]);
  });

  it("of YAML itself have a place too", () => {
    expect(errors("role: spoke\n  overlay: wg0\n")[0]).toMatch(/^shortcutd\.yaml:\d+:\d+: /);
    expect(errors("role: spoke\nrole: hub\n")[0]).toMatch(/^shortcutd\.yaml:2:1: the key is there twice$/);
    expect(errors("")).toEqual(["shortcutd.yaml:1:1: must be a mapping of keys: role, overlay, …"]);
    expect(errors("- a\n")).toEqual(["shortcutd.yaml:1:1: must be a mapping of keys: role, overlay, …"]);
  });

  it("name a missing key as missing", () => {
    expect(errors("role: spoke\n")).toEqual(["shortcutd.yaml:1:1: overlay: is missing"]);
    expect(errors("overlay: wg0\n")).toEqual(["shortcutd.yaml:1:1: role: is missing"]);
    expect(errors(text("vrf: { name: red }"))).toEqual(["shortcutd.yaml:6:6: vrf.table: is missing"]);
    expect(errors(text().replace("{ as: 65000 }", "{}"))).toEqual(["shortcutd.yaml:5:6: bgp.as: is missing"]);
  });

  it.each([
    ["aliases: { table: 254 }", "6:19: aliases.table: must be a table that routes no packets"],
    ["address: 198.18.0.1", "6:10: address: 198.18.0.1 is in the alias pool 198.18.0.0/16"],
    ["aliases: { ipv4: 10.255.0.0/16 }", "3:8: hubs.0: 10.255.0.1 is in the alias pool 10.255.0.0/16"],
  ])("refuse %s, which the network could not carry", (line, want) => {
    expect(errors(text(line))).toEqual([expect.stringContaining(`shortcutd.yaml:${want}`)]);
  });

  it("refuse sessions that cannot be told apart, and a router ID that is not one", () => {
    const bgp = (more: string): string[] => errors(text().replace("{ as: 65000 }", `{ as: 65000, ${more} }`));
    expect(bgp("feed: 127.0.0.2")).toEqual([
      expect.stringMatching(/bgp\.feed: offers and feed need two addresses: both are 127\.0\.0\.2$/),
    ]);
    expect(bgp("router-id: '::1'")).toEqual([
      expect.stringMatching(/bgp\.router-id: must be an IPv4 address other than 0\.0\.0\.0$/),
    ]);
    expect(errors(text("aliases: { table: 4243 }").replace("bird", "frr"))).toEqual([
      expect.stringMatching(/aliases\.table: is for BIRD/),
    ]);
    expect(errors("role: hub\noverlay: wg0\ndirect: { observe-port: 4243 }\n")).toEqual([
      expect.stringMatching(
        /direct\.observe-port: the hub's port for pings.* must differ from control\.port/,
      ),
    ]);
  });

  it.each([
    ["overlay: [wg-hub1, wg-hub2]", ["wg-hub1", "wg-hub2"]],
    ["overlay: wg-*", ["wg-*"]],
    ['overlay: "wg-s*"', ["wg-s*"]],
    ["overlay: [wg0, wg-*]", ["wg0", "wg-*"]],
    ["overlay: wg-0123456789ab", ["wg-0123456789ab"]],
  ])("%s are the overlay's interfaces", (line, patterns) => {
    expect(good(text().replace("overlay: wg0", line)).overlay.patterns).toEqual(patterns);
  });

  it.each([
    "overlay: 7",
    "overlay: []",
    "overlay: {}",
    'overlay: "*"',
    'overlay: "*-wg"',
    'overlay: "wg-*x"',
    'overlay: "wg-**"',
    'overlay: "wg 0"',
    "overlay: wg/0",
    "overlay: wg-0123456789abc",
    "overlay: [wg0, 7]",
    "overlay: [wg0, [wg1]]",
    'overlay: [wg0, ""]',
  ])("%s is refused", (line) => {
    expect(errors(text().replace("overlay: wg0", line))).toEqual([
      expect.stringMatching(
        /^shortcutd\.yaml:2:\d+: overlay: must be a name of the overlay's WireGuard interface, a pattern/,
      ),
    ]);
  });

  it("the overlay lists no interface twice, and leaves the direct one out", () => {
    expect(errors(text().replace("overlay: wg0", "overlay: [wg0, wg1, wg0]"))).toEqual([
      "shortcutd.yaml:2:10: overlay: lists an interface twice",
    ]);
    const shadowed = "shortcutd.yaml:2:10: overlay: overlay and direct interface must be two interfaces";
    expect(errors(text().replace("wg0", "[wg0, shortcut*]"))).toEqual([shadowed]);
    expect(errors(text().replace("wg0", "[wg0, shortcut0]"))).toEqual([shadowed]);
  });

  it("has names of its own for its tables and its file, which no other overlay has", () => {
    const namesOf = (overlay: string) => {
      const { control, guard } = good(text().replace("wg0", overlay));
      return [control.table, control.sourcesTable, guard.file];
    };
    expect(namesOf("wg-x.1")).toEqual([
      "shortcutd_wg_x_1",
      "shortcutd_wg_x_1_sources",
      "/var/lib/shortcutd/guard-wg-x.1",
    ]);
    const [table = "", sources = "", file = ""] = namesOf("[wg-hub1, wg-hub2]");
    expect(table).toMatch(/^shortcutd_wg_hub1_[0-9a-f]{16}$/);
    expect(sources).toBe(`${table}_sources`);
    expect(file).toMatch(/^\/var\/lib\/shortcutd\/guard-wg-hub1_[0-9a-f]{16}$/);
    // the order of the list does not matter: what a crash left is found again
    expect(namesOf("[wg-hub2, wg-hub1]")).toEqual([table, sources, file]);
    const all = ["wg-hub1", "[wg-hub1, wg-hub3]", '"wg-hub1*"', '"wg-*"', '"wg*"', "[wg-hub1, wg-*]"].map(
      namesOf,
    );
    expect(new Set([...all.map(([t]) => t), table]).size).toBe(7);
    expect(new Set([...all.map((n) => n[2]), file]).size).toBe(7);
    const longest = Array.from({ length: 64 }, (_, i) => `a-${String(i).padStart(13, "0")}`);
    for (const name of namesOf(`[${longest.join(", ")}]`).slice(0, 2)) expect(name.length).toBeLessThan(64);
  });

  it("refuse what is there twice or names the router itself", () => {
    expect(errors(text().replace("[10.255.0.1]", "[10.255.0.1, 10.255.0.4, 10.255.0.1]"))).toEqual([
      "shortcutd.yaml:3:32: hubs.2: 10.255.0.1 is listed twice",
    ]);
    expect(errors(text().replace("wg0", "shortcut0"))).toEqual([
      "shortcutd.yaml:2:10: overlay: overlay and direct interface must be two interfaces",
    ]);
  });

  it.each([
    ["trigger: { for: 5m }", '"5m" is not a time from 0 ms to 1 h: write 5 min'],
    ["trigger: { for: 5 seconds }", '"5 seconds" is not a time from 0 ms to 1 h: write 5 s'],
    ["trigger: { for: 5S }", '"5S" is not a time from 0 ms to 1 h: write 5 s'],
    ["trigger: { for: 2 h }", '"2 h" is not a time from 0 ms to 1 h'],
    ["trigger: { for: [] }", "is not a time: write 5 s or 100 ms"],
    ["trigger: { rate: 10 Mbps }", '"10 Mbps" is not a rate: write 10 Mbit/s'],
    ["trigger: { rate: 500K }", '"500K" is not a rate: write 500 kbit/s'],
    [
      "trigger: { rate: 99999999 Gbit/s }",
      '"99999999 Gbit/s" is not a rate from 1 kbit/s to 1000 Gbit/s: write 10 Mbit/s',
    ],
    ["trigger: { rate: 10 MB/s }", '"10 MB/s" is not a rate: write 80 Mbit/s'],
    ["trigger: { rate: 10000000 }", "10000000 is not a rate: write 10 Mbit/s"],
    ["timers: { idle: 1h30m }", '"1h30m" is not a time from 1 s to 24 h: write 90 min'],
    ["timers: { idle: 1 day }", '"1 day" is not a time from 1 s to 24 h: write 24 h'],
    ["timers: { idle: 60 }", "60 is not a time from 1 s to 24 h: write 60 s"],
    ["timers: { outlive: 0 }", "0 is not a time from 0 ms to 24 h: write 0 s"],
    ["address: 10.255.0.1/24", '"10.255.0.1/24" is not an IP address: write 10.255.0.1'],
    ["deny-candidates: [10.0.0.1/8]", '"10.0.0.1/8" is not a prefix, or has host bits set: write 10.0.0.0/8'],
    ["deny-candidates: ['fd00::1']", '"fd00::1" is not a prefix, or has host bits set: write fd00::1/128'],
    [
      "endpoints: ['2001:db8::1']",
      '"2001:db8::1" is not a valid ADDRESS:PORT (IPv6: [ADDRESS]:PORT): write [2001:db8::1]:51821',
    ],
    ["direct: { port: '51821' }", "must be a whole number from 1 to 65535, without quotes"],
    [
      "direct: { prot: 1 }",
      "unknown key; did you mean port? allowed here: interface, port, key, fwmark, observe-port, max-round-trip",
    ],
    ["limits: { x: 1 }", "unknown key; allowed here: shortcuts, spokes"],
    ["trigger: fast", "must be a mapping of keys: rate, for, interval, hysteresis, mask4, mask6"],
  ])("say what was meant by %j", (line, problem) => {
    expect(errors(text(line)).map((e) => e.replace(/^\S+ \S+ /, ""))).toEqual([problem]);
  });
});

describe("YAML", () => {
  it.each([
    ["an alias without an anchor", text("address: *self"), "6:10: *self has no anchor &self before it"],
    ["a tab", "role: hub\noverlay:\n\t- a\n", "3:1: a tab cannot indent: use spaces"],
    ["an open quote", "role: 'hub\n", "a character is missing, such as a closing quote"],
    ["a second document", "role: hub\noverlay: wg0\n---\na: b\n", "the file has a second document (---)"],
    ["an unknown tag", text("log: !level info"), "6:6: the tag is not known"],
    ["a zero byte", "role: hub\noverlay: w\0g\n", "2:1: is not text in UTF-8"],
    ["bytes that are not UTF-8", "role: hub\n# \ufffd\n", "2:1: is not text in UTF-8"],
    [
      "aliases that multiply",
      `a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n`,
      "1:1: its aliases (*name) expand to too much",
    ],
  ])("with %s is refused in plain words", (_, yaml, want) => {
    const [first] = errors(yaml);
    expect(first).toContain(want);
  });

  it("with very many mistakes shows the first", () => {
    expect(errors("a: ".repeat(50_000)).length).toBeLessThan(20);
    expect(errors("[".repeat(100_000)).length).toBeLessThan(20);
  });

  it("of Windows, or with a byte order mark, is taken", () => {
    expect(errors("\ufeffrole: hub\r\noverlay: wg0\r\n")).toEqual([]);
  });

  it("with anchors and aliases that fit is taken", () => {
    expect(good(text("address: &self 10.255.0.2", "deny-candidates: []")).address).toBe("10.255.0.2");
    const twice = text("direct: { key: &k /k }", "control: { socket: *k }");
    expect(good(twice).control.socket).toBe("/k");
  });
});
