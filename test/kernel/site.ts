/**
 * The triangle with shortcutd on its three routers, for tests: the built programs, the topology and files of the lab as they are. Every
 * wait is for a fact of the kernel or of a daemon, with a deadline.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Flows, startFlows } from "../../lab/flows.js";
import { type Lab, startLab, until } from "../../lab/lab.js";
import { type Programs, RunningShortcutd } from "../../lab/story/shortcutd.js";
import {
  type Daemon,
  DIRECT,
  other,
  ROUTERS,
  type Router,
  SPOKE,
  type Spoke,
} from "../../lab/story/triangle.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const programs: Programs = {
  shortcutd: join(root, "dist/plugin/main.js"),
  shortcutctl: join(root, "dist/plugin/ctl.js"),
  traffic: join(root, "dist/lab/traffic.js"),
};

export class Site {
  private readonly logs = mkdtempSync(join(tmpdir(), "shortcutd-site-"));
  private readonly running = new Map<Router, RunningShortcutd>();
  private flows: Flows | undefined;

  private constructor(
    readonly lab: Lab,
    readonly daemons: Readonly<Record<Router, Daemon>>,
  ) {}

  /** The lab with its daemons; shortcutd is installed and not yet started. */
  static async up(
    a: Daemon,
    b: Daemon,
    c: Daemon,
    topology = "lab/triangle.clab.yml",
    more: Readonly<Record<string, string>> = {},
  ): Promise<Site> {
    const env = { DAEMON_A: a, DAEMON_B: b, DAEMON_C: c, SHORTCUTD: "install", ...more };
    const lab = await startLab(join(root, topology), { env });
    const site = new Site(lab, { a, b, c });
    try {
      await until("host-a reaches host-c through the hub", 30_000, async () => {
        const ping = ["ping", "-n", "-c", "1", "-W", "1", SPOKE.c.hostAddress];
        return (await lab.node("host-a").exec(ping)).status === 0;
      });
    } catch (e) {
      await site.down();
      throw e;
    }
    return site;
  }

  async down(): Promise<void> {
    for (const r of this.running.values()) await r.leave();
    await this.lab.stop();
    rmSync(this.logs, { recursive: true, force: true });
  }

  async start(router: Router): Promise<RunningShortcutd> {
    await this.running.get(router)?.leave();
    const name = `${router}-${Date.now()}.log`;
    const r = new RunningShortcutd(this.lab.node(router), router, programs, join(this.logs, name));
    this.running.set(router, r);
    await until(`shortcutd on ${router} answers`, 20_000, async () => (await r.status()) !== undefined);
    return r;
  }

  async startAll(): Promise<void> {
    for (const r of ["b", "a", "c"] as const) await this.start(r);
    for (const s of ["a", "c"] as const)
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

  /** Ends shortcutd and waits for the end. */
  async end(router: Router, signal: NodeJS.Signals): Promise<void> {
    const r = this.shortcutd(router);
    await r.signal(signal);
    await until(`shortcutd on ${router} ends`, 20_000, () => r.exit !== undefined);
  }

  async traffic(rate = 2_000, size = 500): Promise<Flows> {
    this.flows = await startFlows(
      this.lab,
      { node: SPOKE.a.host, address: SPOKE.a.hostAddress },
      { node: SPOKE.c.host, address: SPOKE.c.hostAddress },
      { program: programs.traffic, rate, size },
    );
    return this.flows;
  }

  sh(router: string, script: string): Promise<string> {
    return this.lab.node(router).must(["sh", "-c", script]);
  }

  /** By which interface a spoke's kernel sends a packet to the other spoke's host. */
  async way(spoke: Spoke): Promise<string> {
    const text = await this.sh(spoke, `ip -o route get ${SPOKE[other(spoke)].hostAddress}`);
    return / dev (\S+)/.exec(text)?.[1] ?? "";
  }

  async untilWay(spoke: Spoke, dev: string, ms: number): Promise<number> {
    const since = performance.now();
    try {
      await until(`${spoke} sends by ${dev}`, ms, async () => (await this.way(spoke)) === dev);
    } catch (e) {
      const said = await this.shortcutd(spoke)
        .ctl("explain", SPOKE[other(spoke)].hostAddress)
        .catch(() => "nothing");
      throw new Error(`${e instanceof Error ? e.message : String(e)}\n${spoke}: ${said}`);
    }
    return performance.now() - since;
  }

  async untilDirect(ms = 30_000): Promise<void> {
    await this.untilWay("a", DIRECT, ms);
    await this.untilWay("c", DIRECT, ms);
  }

  /** Public keys of the peers on a direct interface, from WireGuard itself. */
  async peers(router: Router): Promise<string[]> {
    const r = await this.lab.node(router).exec(["wg", "show", DIRECT, "peers"]);
    return r.status === 0 ? r.stdout.split("\n").filter((l) => l !== "") : [];
  }
}

export { ROUTERS };
