/**
 * The NAT lab with shortcutd on its routers: its NATs can be changed at any time, and every attempt begins anew, with routers that have
 * just started and NATs that remember nothing. Traffic flows all the while, and what of it is lost is counted.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StatusReport } from "../../plugin/status/report.js";
import { type Flows, startFlows } from "../flows.js";
import { type Lab, startLab, until } from "../lab.js";
import { markDirect } from "../paths.js";
import { configured } from "../scenario/site.js";
import { type Programs, RunningShortcutd } from "../story/shortcutd.js";
import {
  type Daemon,
  OVERLAY,
  other,
  ROUTERS,
  type Router,
  SPOKE,
  SPOKES,
  type Spoke,
} from "../story/triangle.js";

const CONFIG = "/etc/shortcutd/shortcutd.yaml";
const RATE = 400;
const SIZE = 700;
const PORT = 7000;
/** Brisk, so that a cell of the matrix does not take longer than it has to. */
const BRISK = ["trigger: { rate: 1 Mbit/s, for: 400 ms, interval: 200 ms }"];

export const INSIDE: Readonly<Record<Spoke, string>> = { a: "192.168.1.10", c: "192.168.3.10" };
const BOX: Readonly<Record<Spoke, string>> = { a: "na", c: "nc" };

/** The daemon connects to the hub now. */
const CONNECT: Readonly<Record<Daemon, string>> = {
  bird: "birdc restart hub; birdc restart hub6",
  frr: "vtysh -c 'clear bgp *'",
};

/** How an attempt ended. */
export interface Attempt {
  readonly path: "direct" | "hub";
  /** The candidate that A, which starts the handshake, sends to; and its kind. */
  readonly endpoint: string;
  readonly candidate: string;
  /** From both daemons' selection to A's FIB by the direct interface, milliseconds; or to the verdict. */
  readonly took: number;
  /** Packets of the sites lost meanwhile, A to C and C to A. */
  readonly lost: readonly [number, number];
  /** Attempts to connect, as A's timeline has them. */
  readonly tries: number;
  readonly reason: string;
}

export class NatSite {
  private readonly running = new Map<Router, RunningShortcutd>();
  private readonly logs = mkdtempSync(join(tmpdir(), "shortcutd-nat-"));
  #flows: Flows | undefined;

  private constructor(
    readonly lab: Lab,
    private readonly programs: Programs,
    private readonly spokes: Daemon,
  ) {}

  static async up(
    topology: string,
    programs: Programs,
    spokes: Daemon = "bird",
    configuration: readonly string[] = [],
  ): Promise<NatSite> {
    const env = { DAEMON_A: spokes, DAEMON_B: "bird", DAEMON_C: spokes, SHORTCUTD: "install" };
    const site = new NatSite(await startLab(topology, { env }), programs, spokes);
    try {
      for (const s of SPOKES) {
        const node = site.lab.node(s);
        node.writeFile(CONFIG, configured(node.readFile(CONFIG), [...BRISK, ...configuration]));
      }
      await site.overlayWorks();
      for (const s of SPOKES)
        await site.lab.node(SPOKE[s].host).must(["nft", "-f", "-"], { input: markDirect(PORT) });
      await site.start("b");
      site.#flows = await startFlows(
        site.lab,
        { node: SPOKE.a.host, address: SPOKE.a.hostAddress },
        { node: SPOKE.c.host, address: SPOKE.c.hostAddress },
        { program: programs.traffic, rate: RATE, size: SIZE, port: PORT, paths: 10 },
      );
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

  get flows(): Flows {
    if (this.#flows === undefined) throw new Error("no traffic");
    return this.#flows;
  }

  sh(node: string, script: string): Promise<string> {
    return this.lab.node(node).must(["sh", "-c", script], { timeout: 60_000 });
  }

  // ------------------------------------------------------------------------------------------ NATs

  /** Gives a spoke's NAT box its behaviour. It forgets nothing by that: {@link forget}. */
  async nat(spoke: Spoke, kind: string, wan = "eth1"): Promise<void> {
    await this.sh(BOX[spoke], `sh /run/lab/lab/nat/nat.sh ${kind} ${wan} ${INSIDE[spoke]}`);
  }

  /** The NAT boxes forget every mapping. */
  async forget(boxes: readonly string[] = ["na", "nc", "ga", "gc"]): Promise<void> {
    for (const b of boxes)
      await this.lab.node(b).must([process.execPath, "/run/lab/dist/lab/nat/conntrack.js"]);
  }

  async overlayWorks(): Promise<void> {
    for (const s of SPOKES) {
      // wireguard-go goes on with the source address that it has once found, also when that is gone
      await this.sh(
        s,
        `wg show ${OVERLAY} endpoints | while read k e; do wg set ${OVERLAY} peer $k endpoint $e; done`,
      );
      // both ends send, so that the hub learns both endpoints again
      await until(`${s} reaches the hub`, 30_000, async () => {
        return (await this.lab.node(s).exec(["ping", "-n", "-c", "1", "-W", "1", "10.255.0.3"])).status === 0;
      });
    }
    const reaches = async (): Promise<boolean> => {
      const ping = ["ping", "-n", "-c", "1", "-W", "1", SPOKE.c.hostAddress];
      return (await this.lab.node("host-a").exec(ping)).status === 0;
    };
    for (let i = 0; i < 20 && !(await reaches()); i++) {
      // a session that was cut off for its hold time would be tried again at leisure
      if (i % 5 === 2) for (const s of SPOKES) await this.sh(s, CONNECT[this.spokes]);
    }
    if (!(await reaches())) throw new Error("host-a does not reach host-c through the hub");
  }

  // ------------------------------------------------------------------------------------------ shortcutd

  shortcutd(router: Router): RunningShortcutd {
    const r = this.running.get(router);
    if (r === undefined) throw new Error(`shortcutd was not started on ${router}`);
    return r;
  }

  async start(router: Router): Promise<void> {
    const log = join(this.logs, `${router}.log`);
    const r = new RunningShortcutd(this.lab.node(router), router, this.programs, log);
    this.running.set(router, r);
    await until(`shortcutd on ${router} answers`, 20_000, async () => {
      if (r.exit !== undefined) throw new Error(r.lastWords());
      return (await r.status()) !== undefined;
    });
  }

  /** Ends shortcutd on the spokes. */
  async quiet(): Promise<void> {
    await Promise.all(
      SPOKES.map(async (s) => {
        const r = this.running.get(s);
        if (r === undefined) return;
        await r.signal("SIGTERM");
        await until(`shortcutd on ${s} ends`, 25_000, () => r.exit !== undefined);
        await r.leave();
        this.running.delete(s);
      }),
    );
  }

  async restart(): Promise<void> {
    await this.quiet();
    await Promise.all(SPOKES.map((s) => this.start(s)));
  }

  async status(spoke: Router): Promise<StatusReport | undefined> {
    return this.shortcutd(spoke).status();
  }

  /** Starts shortcutd on both spokes and waits until the traffic has its shortcut, or both have given the attempt up. */
  async attempt(): Promise<Attempt> {
    await this.quiet();
    await this.forget();
    await this.overlayWorks();
    // what the change of NATs has cost is known to be lost by then
    await this.packets(RATE / 2);
    const since = Date.now();
    const before = this.flows.read();
    await Promise.all(SPOKES.map((s) => this.start(s)));
    const ended = await until("an end of the attempt", 40_000, async () => {
      const [a, c] = await Promise.all(
        SPOKES.map(async (s) =>
          (await this.status(s))?.shortcuts.find((x) => x.owner === SPOKE[other(s)].overlay),
        ),
      );
      if (a?.stage === "direct" && c?.stage === "direct") {
        const by = await Promise.all(
          SPOKES.map((s) => this.sh(s, `ip -o route get ${SPOKE[other(s)].hostAddress}`)),
        );
        if (by.every((route) => route.includes(" dev shortcut0"))) return a;
      }
      const rests = a?.stage === "backoff" && this.shortcutd("a").event("connecting", since) !== undefined;
      return rests && (c === undefined || c.stage === "backoff") ? a : undefined;
    });
    const path = ended.stage === "direct" ? "direct" : "hub";
    await this.packets(400);
    const after = this.flows.read();
    const began = this.shortcutd("a").event("connecting", since)?.at ?? Number.NaN;
    const at = (event: "flipped" | "backoff"): number =>
      this.shortcutd("a").event(event, began)?.at ?? Number.NaN;
    const { endpoint } = ended;
    return {
      path,
      endpoint: endpoint === undefined ? "" : `${endpoint.address} ${endpoint.port}`,
      candidate: ended.candidate,
      took: at(path === "direct" ? "flipped" : "backoff") - began,
      lost: [(after[0]?.lost ?? 0) - (before[0]?.lost ?? 0), (after[1]?.lost ?? 0) - (before[1]?.lost ?? 0)],
      tries: this.shortcutd("a").count("connecting", since),
      reason: ended.reason,
    };
  }

  /** Waits until so many more packets were sent each way, and the last of them could arrive. */
  async packets(n: number): Promise<void> {
    const before = this.flows.read();
    await until(`${n} more packets each way`, 30_000, () =>
      this.flows.read().every((d, i) => d.received >= (before[i]?.received ?? 0) + n),
    );
  }

  /** Public key of a router's overlay, from WireGuard itself. */
  async hubKey(spoke: Spoke): Promise<string> {
    return (await this.sh(spoke, `wg show ${OVERLAY} peers`)).trim();
  }

  async end(): Promise<void> {
    await this.quiet();
    for (const r of ROUTERS) await this.running.get(r)?.leave();
  }
}
