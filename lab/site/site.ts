/**
 * A lab with shortcutd on its routers and numbered traffic between its hosts: what scenarios, the
 * NAT lab and tests all do with one, and ask of its kernels. Every wait is for a fact of a kernel
 * or a daemon, with a deadline.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { StatusReport } from "../../plugin/status/report.js";
import { type Lab, startLab, until } from "../runner/lab.js";
import { type FlowOptions, type Flows, startFlows } from "../traffic/flows.js";
import { markDirect } from "../traffic/paths.js";
import { type Programs, RunningShortcutd } from "./shortcutd.js";
import { type Daemon, DIRECT, other, type RouterName, SPOKE, SPOKES, type Spoke } from "./triangle.js";

export interface SiteOptions {
  readonly topology: string;
  readonly daemons: Readonly<Record<RouterName, Daemon>>;
  readonly programs: Programs;
  /**
   * Top-level keys of a router's shortcutd.yaml, each in one line: in place of those of the lab, or
   * added.
   */
  readonly configuration?: Partial<Readonly<Record<RouterName, readonly string[]>>>;
  /**
   * Where logs of shortcutd are kept; in the lab's own directory, which is removed at the end,
   * unless given.
   */
  readonly logs?: string;
  /** Further variables of the topology. */
  readonly env?: Readonly<Record<string, string>>;
}

export const CONFIG = "/etc/shortcutd/shortcutd.yaml";
const PORT = 7000;

/** A file of one-line keys with some of them replaced or added. */
export function configured(file: string, lines: readonly string[]): string {
  const keys = lines.map((l) => l.slice(0, l.indexOf(":") + 1));
  const kept = file.split("\n").filter((l) => l !== "" && !keys.some((k) => l.startsWith(k)));
  return `${[...kept, ...lines].join("\n")}\n`;
}

export class Site {
  private readonly logs: string;
  private readonly running = new Map<RouterName, RunningShortcutd>();
  #flows: Flows | undefined;

  constructor(
    readonly lab: Lab,
    protected readonly options: SiteOptions,
  ) {
    this.logs = options.logs ?? join(lab.runDir, "logs");
    mkdirSync(this.logs, { recursive: true });
  }

  /** The lab with its daemons, which have converged; shortcutd is installed and not yet started. */
  static async up<S extends Site>(
    this: new (
      lab: Lab,
      options: SiteOptions,
    ) => S,
    options: SiteOptions,
  ): Promise<S> {
    const { a, b, c } = options.daemons;
    const env = { DAEMON_A: a, DAEMON_B: b, DAEMON_C: c, SHORTCUTD: "install", ...options.env };
    const site = new this(await startLab(options.topology, { env }), options);
    try {
      for (const [router, lines] of Object.entries(options.configuration ?? {})) {
        const node = site.lab.node(router);
        node.writeFile(CONFIG, configured(node.readFile(CONFIG), lines));
      }
      await site.prepare();
    } catch (e) {
      await site.down();
      throw e;
    }
    return site;
  }

  protected async prepare(): Promise<void> {
    await until("host-a reaches host-c through the hub", 30_000, () => this.reaches());
  }

  /** Whether host-a reaches host-c. */
  protected async reaches(): Promise<boolean> {
    const ping = ["ping", "-n", "-c", "1", "-W", "1", SPOKE.c.hostAddress];
    return (await this.lab.node(SPOKE.a.host).exec(ping)).status === 0;
  }

  daemon(router: RouterName): Daemon {
    return this.options.daemons[router];
  }

  async down(): Promise<void> {
    for (const r of this.running.values()) await r.leave();
    await this.lab.stop();
  }

  // ------------------------------------------------------------------------------------------
  // shortcutd

  async start(router: RouterName): Promise<RunningShortcutd> {
    await this.running.get(router)?.leave();
    const log = join(this.logs, `shortcutd-${router}.log`);
    const r = new RunningShortcutd(this.lab.node(router), router, this.options.programs, log);
    this.running.set(router, r);
    await until(`shortcutd on ${router} answers`, 20_000, async () => {
      if (r.exit !== undefined) throw new Error(r.lastWords());
      return (await r.status()) !== undefined;
    });
    return r;
  }

  async startAll(): Promise<void> {
    for (const r of ["b", "a", "c"] as const) await this.start(r);
    await this.untilRegistered();
  }

  /** The spokes could have a shortcut. */
  async untilRegistered(): Promise<void> {
    for (const s of SPOKES)
      await until(`${s} is registered and knows its endpoint`, 30_000, async () => {
        const status = await this.status(s);
        return (
          status?.daemon?.session === "sessions established" &&
          status.hubs.every((h) => h.reflexive !== undefined)
        );
      });
  }

  shortcutd(router: RouterName): RunningShortcutd {
    const r = this.running.get(router);
    if (r === undefined) throw new Error(`shortcutd was not started on ${router}`);
    return r;
  }

  /** Ends shortcutd, if it runs, and waits for the end. */
  async end(router: RouterName, signal: NodeJS.Signals): Promise<void> {
    const r = this.running.get(router);
    if (r === undefined || r.exit !== undefined) return;
    await r.signal(signal);
    await until(`shortcutd on ${router} ends`, 20_000, () => r.exit !== undefined);
  }

  async status(router: RouterName): Promise<StatusReport | undefined> {
    return this.shortcutd(router).status();
  }

  /** Of the shortcut to the other spoke. */
  async stage(spoke: Spoke): Promise<string | undefined> {
    return (await this.status(spoke))?.shortcuts.find((s) => s.owner === SPOKE[other(spoke)].overlay)?.stage;
  }

  /** The nftables tables that shortcutd has made, without counters and elements. */
  async ownTables(router: RouterName): Promise<string> {
    const list = "for f in inet netdev; do nft -s -t list table $f shortcutd_wg0 2> /dev/null; done; true";
    return this.sh(router, list);
  }

  /** Asks `shortcutctl explain` about the other site's host. */
  explain(spoke: Spoke): Promise<string> {
    return this.shortcutd(spoke).ctl("explain", SPOKE[other(spoke)].hostAddress);
  }

  // ------------------------------------------------------------------------------------------
  // traffic

  /** The hosts tell which way each packet came. */
  protected async markWays(): Promise<void> {
    for (const s of SPOKES)
      await this.lab.node(SPOKE[s].host).must(["nft", "-f", "-"], { input: markDirect(PORT) });
  }

  async traffic(rate = 2_000, size = 500, options: FlowOptions = {}): Promise<Flows> {
    this.#flows = await this.startFlows({ rate, size, port: PORT, ...options });
    return this.#flows;
  }

  protected startFlows(options: FlowOptions): Promise<Flows> {
    const [a, c] = SPOKES.map((s) => ({ node: SPOKE[s].host, address: SPOKE[s].hostAddress }));
    if (a === undefined || c === undefined) throw new Error("two spokes are wanted");
    return startFlows(this.lab, a, c, { program: this.options.programs.traffic, ...options });
  }

  get flows(): Flows {
    if (this.#flows === undefined) throw new Error("no traffic was started");
    return this.#flows;
  }

  // ------------------------------------------------------------------------------------------
  // kernel state

  sh(node: string, script: string): Promise<string> {
    return this.lab.node(node).must(["sh", "-c", script], { timeout: 60_000 });
  }

  /** Through which interface a spoke's kernel sends a packet to the other spoke's host. */
  async dev(spoke: Spoke): Promise<string> {
    const text = await this.sh(spoke, `ip -o route get ${SPOKE[other(spoke)].hostAddress}`);
    return / dev (\S+)/.exec(text)?.[1] ?? "";
  }

  /** How long that took, milliseconds. */
  async untilDev(spoke: Spoke, dev: string, ms: number): Promise<number> {
    const since = performance.now();
    try {
      await until(`${spoke} sends via ${dev}`, ms, async () => (await this.dev(spoke)) === dev);
    } catch (e) {
      const said = await Promise.all(SPOKES.map((s) => this.explain(s).catch(() => "nothing")));
      throw new Error(`${e instanceof Error ? e.message : e}\nA says: ${said[0]}\nC says: ${said[1]}`);
    }
    return performance.now() - since;
  }

  async untilDirect(ms = 30_000): Promise<void> {
    for (const s of SPOKES) await this.untilDev(s, DIRECT, ms);
  }

  /** Public keys of the peers on a direct interface, from WireGuard itself. */
  async peers(router: RouterName): Promise<string[]> {
    const r = await this.lab.node(router).exec(["wg", "show", DIRECT, "peers"]);
    return r.status === 0 ? r.stdout.split("\n").filter((l) => l !== "") : [];
  }
}
