/**
 * Two spokes and two hubs with an interface for each tunnel (lab/topologies/two-hubs.clab.yml): the
 * routers' daemons, shortcutd on each, numbered traffic between the hosts, and how a hub is lost and
 * comes back.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Address, address } from "../../../plugin/net/address.js";
import type { StatusReport } from "../../../plugin/status/report.js";
import { type Lab, startLab, until } from "../../runner/lab.js";
import { type Programs, RunningShortcutd } from "../../site/shortcutd.js";
import { type Daemon, DIRECT } from "../../site/triangle.js";
import { type FlowOptions, type Flows, startFlows } from "../../traffic/flows.js";

type Spoke = "a" | "c";
type Hub = "b1" | "b2";
export type NetworkRouter = Spoke | Hub;
export const NETWORK_SPOKES: readonly Spoke[] = ["a", "c"];
export const NETWORK_HUBS: readonly Hub[] = ["b1", "b2"];
const ROUTERS: readonly NetworkRouter[] = [...NETWORK_HUBS, ...NETWORK_SPOKES];

/** The hosts of a spoke's site, by family, and the router's identity. */
const SITE: Readonly<
  Record<Spoke, { readonly 4: Address; readonly 6: Address; readonly identity: Address }>
> = {
  a: { 4: address("172.20.1.10"), 6: address("2001:db8:a1::10"), identity: address("100.64.1.1") },
  c: { 4: address("172.20.3.10"), 6: address("2001:db8:c1::10"), identity: address("100.64.3.1") },
};
const far = (s: Spoke): Spoke => (s === "a" ? "c" : "a");

export interface NetworkOptions {
  readonly topology: string;
  readonly programs: Programs;
  readonly daemons: Readonly<Record<NetworkRouter, Daemon>>;
  readonly links: "numbered" | "unnumbered";
}

const CONFIG = "/etc/shortcutd/shortcutd.yaml";
const POLICY = "/etc/bird/shortcut/policy.conf";

export class NetworkSite {
  private readonly running = new Map<NetworkRouter, RunningShortcutd>();
  private readonly flows: Flows[] = [];
  private readonly logs: string;

  private constructor(
    readonly lab: Lab,
    readonly options: NetworkOptions,
  ) {
    this.logs = join(lab.runDir, "logs");
    mkdirSync(this.logs, { recursive: true });
  }

  /** The network with its daemons, converged; shortcutd is installed and not yet started. */
  static async up(options: NetworkOptions): Promise<NetworkSite> {
    const { a, c, b1, b2 } = options.daemons;
    const env = { DAEMON_A: a, DAEMON_C: c, DAEMON_B1: b1, DAEMON_B2: b2, LINKS: options.links };
    const site = new NetworkSite(await startLab(options.topology, { env }), options);
    try {
      for (const family of [4, 6] as const)
        await until(`host-a reaches host-c by IPv${family}`, 60_000, () => site.reaches(family));
      for (const s of NETWORK_SPOKES)
        for (const hub of ["100.64.0.1", "100.64.0.2"])
          await until(`${s} reaches ${hub}`, 30_000, () => site.pings(s, hub));
    } catch (e) {
      await site.down();
      throw e;
    }
    return site;
  }

  async down(): Promise<void> {
    for (const f of this.flows) await f.stop().catch(() => undefined);
    for (const r of this.running.values()) await r.leave();
    await this.lab.stop();
  }

  // ------------------------------------------------------------------------------------------
  // shortcutd

  /** Adds lines to a router's configuration, in place of those with the same key. */
  configure(router: NetworkRouter, lines: readonly string[]): void {
    const node = this.lab.node(router);
    const keys = lines.map((l) => l.slice(0, l.indexOf(":") + 1));
    const kept = node
      .readFile(CONFIG)
      .split("\n")
      .filter((l) => l !== "" && !keys.some((k) => l.startsWith(k)));
    node.writeFile(CONFIG, `${[...kept, ...lines].join("\n")}\n`);
  }

  async start(router: NetworkRouter): Promise<void> {
    await this.running.get(router)?.leave();
    const log = join(this.logs, `shortcutd-${router}.log`);
    const r = new RunningShortcutd(this.lab.node(router), router, this.options.programs, log);
    this.running.set(router, r);
    await until(`shortcutd on ${router} answers`, 20_000, async () => {
      if (r.exit !== undefined) throw new Error(r.lastWords());
      return (await r.status()) !== undefined;
    });
  }

  async startAll(): Promise<void> {
    for (const r of ROUTERS) await this.start(r);
    await this.untilRegistered();
  }

  /** Both spokes are registered at these hubs, and know their endpoints. */
  async untilRegistered(hubs: readonly string[] = ["100.64.0.1", "100.64.0.2"]): Promise<void> {
    for (const s of NETWORK_SPOKES)
      await until(`${s} is registered at ${hubs.join(" and ")}`, 40_000, async () => {
        const status = await this.status(s);
        return (
          status?.daemon?.session === "sessions established" &&
          hubs.every((h) => status.hubs.some((x) => x.address === h && x.reflexive !== undefined))
        );
      }).catch(async (e: unknown) => {
        throw new Error(
          `${String(e)}\n${await this.shortcutd(s).ctl("status")}\n${this.shortcutd(s).lastWords()}`,
        );
      });
  }

  shortcutd(router: NetworkRouter): RunningShortcutd {
    const r = this.running.get(router);
    if (r === undefined) throw new Error(`shortcutd was not started on ${router}`);
    return r;
  }

  status(router: NetworkRouter): Promise<StatusReport | undefined> {
    return this.shortcutd(router).status();
  }

  /** Ends shortcutd and waits for the end. */
  async end(router: NetworkRouter, signal: NodeJS.Signals): Promise<void> {
    const r = this.shortcutd(router);
    await r.signal(signal);
    await until(`shortcutd on ${router} ends`, 20_000, () => r.exit !== undefined);
  }

  // ------------------------------------------------------------------------------------------
  // traffic

  /** Traffic between the hosts, both ways; the port tells flows apart. */
  async traffic(family: 4 | 6, options: FlowOptions = {}): Promise<Flows> {
    const flows = await startFlows(
      this.lab,
      { node: "host-a", address: SITE.a[family] },
      { node: "host-c", address: SITE.c[family] },
      {
        program: this.options.programs.traffic,
        rate: 500,
        size: 600,
        port: family === 4 ? 7000 : 7006,
        ...options,
      },
    );
    this.flows.push(flows);
    return flows;
  }

  /** Waits until this many more packets have come each way. */
  async more(flows: Flows, packets: number): Promise<void> {
    const before = flows.read();
    await until(`${packets} more packets each way`, 60_000, () =>
      flows.read().every((d, i) => d.received >= (before[i]?.received ?? 0) + packets),
    );
  }

  private async pings(node: string, to: string): Promise<boolean> {
    return (await this.lab.node(node).exec(["ping", "-n", "-c", "1", "-W", "1", to])).status === 0;
  }

  reaches(family: 4 | 6): Promise<boolean> {
    return this.pings("host-a", SITE.c[family]);
  }

  // ------------------------------------------------------------------------------------------
  // kernel state

  sh(node: string, script: string): Promise<string> {
    return this.lab.node(node).must(["sh", "-c", script], { timeout: 60_000 });
  }

  /** The interface through which a spoke's kernel sends a packet to the other site's host. */
  async dev(spoke: Spoke, family: 4 | 6): Promise<string> {
    const text = await this.sh(spoke, `ip -o route get ${SITE[far(spoke)][family]} || true`);
    return / dev (\S+)/.exec(text)?.[1] ?? "";
  }

  /** Waits until both spokes send through an interface for which `fits` holds. */
  async untilDev(
    what: string,
    fits: (dev: string) => boolean,
    families: readonly (4 | 6)[],
    ms = 60_000,
  ): Promise<void> {
    for (const family of families)
      for (const s of NETWORK_SPOKES)
        await until(`${s} sends IPv${family} ${what}`, ms, async () => fits(await this.dev(s, family))).catch(
          async (e: unknown) => {
            const said = await Promise.all(
              NETWORK_SPOKES.map((x) => this.shortcutd(x).ctl("explain", SITE[far(x)][family])),
            );
            throw new Error(`${String(e)}\nA: ${said[0]}\nC: ${said[1]}`);
          },
        );
  }

  untilDirect(families: readonly (4 | 6)[] = [4, 6]): Promise<void> {
    return this.untilDev("direct", (dev) => dev === DIRECT, families);
  }

  untilHub(families: readonly (4 | 6)[] = [4, 6]): Promise<void> {
    return this.untilDev("via a hub", (dev) => dev.startsWith("wg-"), families);
  }

  // ------------------------------------------------------------------------------------------
  // the operator, and faults

  /** Refuses every offer in a spoke's policy, or allows them again. */
  async refuse(spoke: Spoke, refused: boolean): Promise<void> {
    const node = this.lab.node(spoke);
    if (this.options.daemons[spoke] === "bird") {
      const text = node.readFile(POLICY);
      const line = "  reject; # refused by the lab\n";
      const at = "function shortcut_decision() {\n";
      if (!text.includes(at)) throw new Error("policy.conf has no function shortcut_decision");
      const allowed = text.replace(line, "");
      node.writeFile(POLICY, refused ? allowed.replace(at, at + line) : allowed);
      await this.sh(spoke, "birdc configure");
      return;
    }
    // FRR 8.4 forgets a route-map's entry when a prefix goes that another line of the list has too
    const lines = [
      "ip prefix-list SHORTCUT-ELIGIBLE seq 3 deny 172.16.0.0/12 le 32",
      "ip prefix-list SHORTCUT-ELIGIBLE seq 4 deny 100.64.0.0/10 le 32",
      "ipv6 prefix-list SHORTCUT-ELIGIBLE seq 3 deny 2001:db8::/32 le 128",
      "ipv6 prefix-list SHORTCUT-ELIGIBLE seq 4 deny fd64::/16 le 128",
    ];
    const commands = ["configure terminal", ...lines.map((l) => (refused ? l : `no ${l}`))];
    await node.must(["vtysh", ...commands.flatMap((c) => ["-c", c])]);
  }

  /** Cuts a hub off from the underlay: its tunnels' interfaces stay up at the spokes. */
  cut(hub: Hub): Promise<string> {
    return this.sh(hub, "ip link set eth1 down");
  }

  /** Brings a hub back that was cut off. */
  async mend(hub: Hub): Promise<void> {
    const gateway = hub === "b1" ? "192.0.2.65" : "192.0.2.193";
    await this.sh(hub, `ip link set eth1 up && ip route replace default via ${gateway}`);
  }

  /**
   * Cuts the hub in use off, and waits until a spoke's FIB sends everything through the other one.
   * Returns how much later than the daemon's own failover the other site's host follows, in
   * milliseconds by family. The daemon's own is seen where nothing is offered: the other spoke's
   * identity goes by the other hub, and the route to the lost hub's IPv6 address goes. IPv6 may have
   * a session of its own.
   */
  async followsAfter(spoke: Spoke, hub: Hub): Promise<Readonly<Record<4 | 6, number>>> {
    const { 4: four, 6: six, identity } = SITE[far(spoke)];
    const [lost, other, hub6] = hub === "b1" ? ["wg-b1", "wg-b2", "fd64::1"] : ["wg-b2", "wg-b1", "fd64::2"];
    const script = `
      by() { ip -o route get "$1" 2> /dev/null | grep -q " dev $2 "; }
      seen() { by "$1" ${other}; }
      n=0
      until [ -n "$i" ] && [ -n "$j" ] && [ -n "$f" ] && [ -n "$s" ]; do
        [ -n "$i" ] || ! seen ${identity} || i=$(date +%s%N)
        [ -n "$j" ] || by ${hub6} ${lost} || j=$(date +%s%N)
        [ -n "$f" ] || ! seen ${four} || f=$(date +%s%N)
        [ -n "$s" ] || ! seen ${six} || s=$(date +%s%N)
        sleep 0.01
        n=$((n + 1)); [ $n -lt 4000 ] || exit 1
      done
      echo $(( (f - i) / 1000000 )) $(( (s - j) / 1000000 ))`;
    const measured = this.lab.node(spoke).must(["sh", "-c", script], { timeout: 90_000 });
    await this.cut(hub);
    const [after4 = Number.NaN, after6 = Number.NaN] = (await measured).trim().split(" ").map(Number);
    return { 4: after4, 6: after6 };
  }

  /** The routes that the router behind A has heard. */
  async heard(): Promise<string> {
    const text = await this.sh("ra", "birdc show route all protocol a");
    return text.replaceAll(/\d\d:\d\d:\d\d\.\d+/g, "TIME");
  }

  /** The hub through which a spoke's daemon sends to the other's identity. */
  async preferred(spoke: Spoke): Promise<string> {
    const text = await this.sh(spoke, `ip -o route get ${SITE[far(spoke)].identity} || true`);
    return / dev (\S+)/.exec(text)?.[1] ?? "";
  }
}
