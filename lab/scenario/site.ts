/**
 * The triangle with shortcutd on its routers and numbered traffic between its hosts, for scenarios: what an operator, a fault or the weather
 * can do to it, and what its kernels say. Every wait is for a fact, with a deadline.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Flows, startFlows } from "../flows.js";
import { fullBuffers } from "../fullbuffers.js";
import { type Lab, startLab, until } from "../lab.js";
import { markDirect } from "../paths.js";
import { decodeCounters } from "../story/counters.js";
import { type Programs, RunningShortcutd } from "../story/shortcutd.js";
import {
  birdPolicy,
  type Daemon,
  DIRECT,
  DIRECT_PORT,
  frrPolicy,
  OVERLAY,
  other,
  type Router,
  SPOKE,
  SPOKES,
  type Spoke,
} from "../story/triangle.js";
import { type Outcomes, outcomeOf } from "./scenario.js";

export interface SiteOptions {
  readonly topology: string;
  readonly daemons: Readonly<Record<Router, Daemon>>;
  readonly programs: Programs;
  /** Top-level keys of a router's shortcutd.yaml, each in one line: in place of those of the lab, or added. */
  readonly configuration?: Partial<Readonly<Record<Router, readonly string[]>>>;
  /** Where logs of shortcutd are kept; a new directory, removed at the end, unless given. */
  readonly logs?: string;
}

const PORT = 7000;
const CONFIG = "/etc/shortcutd/shortcutd.yaml";
const POLICY_FILE = "/etc/bird/shortcut/policy.conf";
const BIRD =
  "bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid < /dev/null > /var/log/bird.out 2>&1";

/** Counts packets of the sites that appear on the underlay as they are, by the router that sent them there. */
const CLEAR = `table ip clear {
  counter a {}
  counter c {}
  set sites { type ipv4_addr; flags interval; elements = { 10.1.0.0/24, 10.3.0.0/24 }; }
  chain see {
    type filter hook prerouting priority -300;
    ip daddr @sites iifname eth1 counter name a
    ip daddr @sites iifname eth3 counter name c
  }
}
`;

/** A file of one-line keys with some of them replaced or added. */
export function configured(file: string, lines: readonly string[]): string {
  const keys = lines.map((l) => l.slice(0, l.indexOf(":") + 1));
  const kept = file.split("\n").filter((l) => l !== "" && !keys.some((k) => l.startsWith(k)));
  return `${[...kept, ...lines].join("\n")}\n`;
}

export class Site {
  private readonly logs: string;
  private readonly running = new Map<Router, RunningShortcutd>();
  #flows: Flows | undefined;

  private constructor(
    readonly lab: Lab,
    private readonly options: SiteOptions,
  ) {
    this.logs = options.logs ?? mkdtempSync(join(tmpdir(), "shortcutd-scenario-"));
  }

  static async up(options: SiteOptions): Promise<Site> {
    const { a, b, c } = options.daemons;
    const env = { DAEMON_A: a, DAEMON_B: b, DAEMON_C: c, SHORTCUTD: "install" };
    const lab = await startLab(options.topology, { env });
    const site = new Site(lab, options);
    try {
      await lab.node("inet").must(["nft", "-f", "-"], { input: CLEAR });
      for (const s of SPOKES)
        await lab.node(SPOKE[s].host).must(["nft", "-f", "-"], { input: markDirect(PORT) });
      for (const [router, lines] of Object.entries(options.configuration ?? {})) {
        const node = lab.node(router);
        node.writeFile(CONFIG, configured(node.readFile(CONFIG), lines));
      }
      await site.untilReachable();
    } catch (e) {
      await site.down();
      throw e;
    }
    return site;
  }

  daemon(router: Router): Daemon {
    return this.options.daemons[router];
  }

  async untilReachable(): Promise<void> {
    await until("host-a reaches host-c through the hub", 30_000, async () => {
      const ping = ["ping", "-n", "-c", "1", "-W", "1", SPOKE.c.hostAddress];
      return (await this.lab.node("host-a").exec(ping)).status === 0;
    });
  }

  async down(): Promise<void> {
    for (const r of this.running.values()) await r.leave();
    await this.lab.stop();
    if (this.options.logs === undefined) rmSync(this.logs, { recursive: true, force: true });
  }

  // ------------------------------------------------------------------------------------------ shortcutd

  async start(router: Router): Promise<void> {
    await this.running.get(router)?.leave();
    const node = this.lab.node(router);
    const log = join(this.logs, `shortcutd-${router}.log`);
    const r = new RunningShortcutd(node, router, this.options.programs, log);
    this.running.set(router, r);
    await until(`shortcutd on ${router} answers`, 20_000, async () => {
      if (r.exit !== undefined) throw new Error(r.lastWords());
      return (await r.status()) !== undefined;
    });
  }

  async startAll(): Promise<void> {
    for (const r of ["b", "a", "c"] as const) await this.start(r);
    for (const s of SPOKES)
      await until(`${s} is registered and knows its endpoint`, 30_000, async () => {
        const status = await this.shortcutd(s).status();
        return (
          status?.daemon?.session === "sessions established" &&
          status.hubs.every((h) => h.reflexive !== undefined)
        );
      });
  }

  shortcutd(router: Router): RunningShortcutd {
    const r = this.running.get(router);
    if (r === undefined) throw new Error(`shortcutd was not started on ${router}`);
    return r;
  }

  signal(router: Router, signal: NodeJS.Signals): Promise<void> {
    return this.shortcutd(router).signal(signal);
  }

  /** Ends shortcutd and waits for the end. */
  async end(router: Router, signal: NodeJS.Signals): Promise<void> {
    const r = this.shortcutd(router);
    await r.signal(signal);
    await until(`shortcutd on ${router} ends`, 25_000, () => r.exit !== undefined);
  }

  /** What `shortcutctl explain` says of the other site's host. */
  explain(spoke: Spoke): Promise<string> {
    return this.shortcutd(spoke).ctl("explain", SPOKE[other(spoke)].hostAddress);
  }

  async stage(spoke: Spoke): Promise<string | undefined> {
    const status = await this.shortcutd(spoke).status();
    return status?.shortcuts.find((s) => s.owner === SPOKE[other(spoke)].overlay)?.stage;
  }

  // ------------------------------------------------------------------------------------------ traffic

  async traffic(rate: number, size: number): Promise<Flows> {
    this.#flows = await startFlows(
      this.lab,
      { node: SPOKE.a.host, address: SPOKE.a.hostAddress },
      { node: SPOKE.c.host, address: SPOKE.c.hostAddress },
      { program: this.options.programs.traffic, rate, size, port: PORT, paths: 10 },
    );
    return this.#flows;
  }

  /** A second pair of flows, which no account is kept of, to be held and let go: what keeps a shortcut in use. */
  bulk(rate: number, size: number): Promise<Flows> {
    return startFlows(
      this.lab,
      { node: SPOKE.a.host, address: SPOKE.a.hostAddress },
      { node: SPOKE.c.host, address: SPOKE.c.hostAddress },
      { program: this.options.programs.traffic, rate, size, port: PORT + 1, flows: [3, 4] },
    );
  }

  get flows(): Flows {
    if (this.#flows === undefined) throw new Error("no traffic was started");
    return this.#flows;
  }

  /** Packets come by these ways. */
  async untilWays(ends: Outcomes, ms: number): Promise<void> {
    const since = Date.now();
    const before = this.flows.read();
    const wanted = [outcomeOf(ends, 0), outcomeOf(ends, 1)];
    try {
      await until(`packets come by ${wanted.join(" and ")} path (A to C, C to A)`, ms, () =>
        this.flows.ways().every((w, i) => {
          if (wanted[i] === "any") return true;
          // a way that nothing comes by any more is none
          const arriving = (this.flows.read()[i]?.received ?? 0) > (before[i]?.received ?? 0);
          return arriving && w.at > since + 100 && w.way === wanted[i];
        }),
      );
    } catch (e) {
      const said = await Promise.all(SPOKES.map((s) => this.explain(s).catch(() => "nothing")));
      const problem = e instanceof Error ? e.message : String(e);
      throw new Error(`${problem}; A says: ${said[0]}; C says: ${said[1]}`);
    }
  }

  /** Lets both directions run for so many milliseconds, by the packets that were sent. */
  async run(ms: number, rate: number): Promise<void> {
    const before = this.flows.read();
    const more = (ms * rate) / 1000;
    await until(`${more} packets more each way`, ms * 3 + 10_000, () =>
      this.flows.read().every((d, i) => d.sent >= (before[i]?.sent ?? 0) + more),
    );
  }

  // ------------------------------------------------------------------------------------------ kernel state

  sh(node: string, script: string): Promise<string> {
    return this.lab.node(node).must(["sh", "-c", script], { timeout: 60_000 });
  }

  /** By which interface a spoke's kernel sends a packet to the other spoke's host. */
  async dev(spoke: Spoke): Promise<string> {
    const text = await this.sh(spoke, `ip -o route get ${SPOKE[other(spoke)].hostAddress}`);
    return / dev (\S+)/.exec(text)?.[1] ?? "";
  }

  async untilDev(spoke: Spoke, dev: string, ms: number): Promise<void> {
    await until(`${spoke} sends by ${dev}`, ms, async () => (await this.dev(spoke)) === dev);
  }

  /** Overrides: routes of shortcutd with metric 1. */
  async overrides(spoke: Spoke): Promise<string> {
    return (await this.sh(spoke, "ip -4 -N route show proto 99; ip -6 -N route show proto 99"))
      .split("\n")
      .filter((l) => / metric 1( |$)/.test(l))
      .join("; ");
  }

  /** Public keys of the peers on a direct interface, from WireGuard itself. */
  async peers(router: Router): Promise<string[]> {
    const r = await this.lab.node(router).exec(["wg", "show", DIRECT, "peers"]);
    return r.status === 0 ? r.stdout.split("\n").filter((l) => l !== "") : [];
  }

  /** Packets between the sites that a spoke sent to the underlay in the clear. */
  async inTheClear(spoke: Spoke): Promise<number> {
    const json = await this.lab.node("inet").must(["nft", "-j", "list", "counters", "table", "ip", "clear"]);
    return decodeCounters(json)[spoke] ?? Number.NaN;
  }

  fullBuffers(): number {
    return fullBuffers(this.lab);
  }

  // ------------------------------------------------------------------------------------------ faults

  /** Drops, in the underlay, what the direct interface of `from` sends to that of `to`, by nftables expressions in addition. */
  async cut(directions: readonly (readonly [Spoke, Spoke])[], and = ""): Promise<void> {
    const rules = directions.map(
      ([from, to]) =>
        `ip saddr ${SPOKE[from].underlay} ip daddr ${SPOKE[to].underlay} udp dport ${DIRECT_PORT} ${and} drop;`,
    );
    const input = `table ip cut {\n chain cut { type filter hook forward priority -10; ${rules.join(" ")} }\n}\n`;
    await this.lab.node("inet").must(["nft", "-f", "-"], { input });
  }

  async heal(): Promise<void> {
    await this.lab.node("inet").must(["nft", "delete", "table", "ip", "cut"]);
  }

  async policy(spoke: Spoke, refused: boolean): Promise<void> {
    const node = this.lab.node(spoke);
    if (this.daemon(spoke) === "frr") await node.must(frrPolicy(refused));
    else {
      node.writeFile(POLICY_FILE, birdPolicy(node.readFile(POLICY_FILE), refused));
      await node.must(["birdc", "configure"]);
    }
  }

  async killDaemon(spoke: Spoke, which: "bird" | "bgpd" | "zebra"): Promise<void> {
    const file = which === "bird" ? "/run/bird/bird.pid" : `/run/frr/${which}.pid`;
    await this.sh(spoke, `kill -9 $(cat ${file})`);
  }

  async restartDaemon(spoke: Spoke, which: "bird" | "bgpd" | "zebra"): Promise<void> {
    if (which === "bird") await this.sh(spoke, BIRD);
    else {
      await this.sh(
        spoke,
        `/usr/lib/frr/${which} -d -A 127.0.0.1 < /dev/null > /var/log/frr/${which}.again 2>&1; vtysh -b < /dev/null > /dev/null 2>&1 || true`,
      );
    }
  }

  /** wireguard-go of one interface. */
  async killWireGuard(router: Router, dev: string): Promise<void> {
    await this.sh(router, `kill -9 $(pgrep -x -f 'wireguard-go ${dev}')`);
  }

  /** The hub as after its power failed and came back: none of its processes' state is left, its keys and files are. */
  async rebootHub(): Promise<void> {
    await this.end("b", "SIGKILL");
    const daemon = this.daemon("b");
    await this.sh(
      "b",
      daemon === "bird"
        ? "kill -9 $(cat /run/bird/bird.pid)"
        : "for d in bgpd staticd zebra; do kill -9 $(cat /run/frr/$d.pid); done",
    );
    await this.sh(
      "b",
      `wg showconf ${OVERLAY} | grep -v ^Endpoint > /run/${OVERLAY}.conf; for d in ${OVERLAY} ${DIRECT}; do kill -9 $(pgrep -x -f "wireguard-go $d") || true; done; nft flush ruleset`,
    );
    await until("the hub's interfaces are gone", 5_000, async () => {
      const links = await this.sh("b", "ip -br link");
      return !links.includes(OVERLAY) && !links.includes(DIRECT);
    });
    await this.sh(
      "b",
      `ip route flush proto bird; ip route flush proto bgp; wireguard-go ${OVERLAY} < /dev/null > /var/log/wireguard-go.again 2>&1; wg setconf ${OVERLAY} /run/${OVERLAY}.conf; ip address add 10.255.0.3/24 dev ${OVERLAY}; ip address add fd00:255::3/64 dev ${OVERLAY} nodad; ip address add fe80::3/64 dev ${OVERLAY} nodad; ip link set ${OVERLAY} mtu 1420 up`,
    );
    await this.sh(
      "b",
      daemon === "bird"
        ? BIRD
        : "for d in zebra staticd bgpd; do /usr/lib/frr/$d -d -A 127.0.0.1 < /dev/null > /var/log/frr/$d.again 2>&1; done; vtysh -b < /dev/null > /dev/null 2>&1 || true",
    );
    await this.start("b");
  }
}
