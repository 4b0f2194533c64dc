/**
 * The NAT lab with shortcutd on its routers: its NATs can be changed at any time, and every attempt
 * begins again, with routers that have just started and NATs that remember nothing. Traffic flows
 * all the while, and what of it is lost is counted.
 */
import { until } from "../../runner/lab.js";
import type { Programs } from "../../site/shortcutd.js";
import { Site } from "../../site/site.js";
import { type Daemon, DIRECT, OVERLAY, other, SPOKE, SPOKES, type Spoke } from "../../site/triangle.js";

const RATE = 400;
const SIZE = 700;
/** Brisk, so that a cell of the matrix does not take longer than it has to. */
const BRISK = ["trigger: { rate: 1 Mbit/s, for: 400 ms, interval: 200 ms }"];

const INSIDE: Readonly<Record<Spoke, string>> = { a: "192.168.1.10", c: "192.168.3.10" };
const BOX: Readonly<Record<Spoke, string>> = { a: "na", c: "nc" };

/** The daemon connects to the hub now. */
const CONNECT: Readonly<Record<Daemon, string>> = {
  bird: "birdc restart hub; birdc restart hub6",
  frr: "vtysh -c 'clear bgp *'",
};

/** How an attempt ended. */
export interface NatAttempt {
  readonly path: "direct" | "hub";
  /** The candidate that A, which starts the handshake, sends to; and its kind. */
  readonly endpoint: string;
  readonly candidate: string;
  /**
   * From both daemons' selection to A's FIB via the direct interface, milliseconds; or to the
   * verdict.
   */
  readonly took: number;
  /** Packets of the sites lost meanwhile, A to C and C to A. */
  readonly lost: readonly [number, number];
  /** Attempts to connect, as A's timeline has them. */
  readonly tries: number;
  readonly reason: string;
}

export interface NatOptions {
  readonly topology: string;
  readonly programs: Programs;
  /** BIRD unless given. */
  readonly spokes?: Daemon;
  readonly onLine?: (line: string) => void;
}

/** The lab with traffic, and shortcutd on the hub only. */
export function natSite(options: NatOptions): Promise<NatSite> {
  const { topology, programs, spokes = "bird" } = options;
  const daemons = { a: spokes, b: "bird", c: spokes } as const;
  return NatSite.up({ topology, programs, daemons, configuration: { a: BRISK, c: BRISK } });
}

export class NatSite extends Site {
  protected override async prepare(): Promise<void> {
    await this.overlayWorks();
    await this.markWays();
    await this.start("b");
    await this.traffic(RATE, SIZE, { paths: 10 });
  }

  // ------------------------------------------------------------------------------------------ NATs

  /** Gives a spoke's NAT box its behaviour. It forgets nothing by that: {@link forget}. */
  async nat(spoke: Spoke, kind: string, wan = "eth1"): Promise<void> {
    await this.sh(BOX[spoke], `sh /run/lab/lab/topologies/nat/nat.sh ${kind} ${wan} ${INSIDE[spoke]}`);
  }

  /** The NAT boxes forget every mapping. */
  async forget(boxes: readonly string[] = ["na", "nc", "ga", "gc"]): Promise<void> {
    for (const b of boxes)
      await this.lab.node(b).must([process.execPath, "/run/lab/dist/lab/plays/nat/conntrack.js"]);
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
    for (let i = 0; i < 20 && !(await this.reaches()); i++) {
      // a session that was cut off for its hold time would be tried again at leisure
      if (i % 5 === 2) for (const s of SPOKES) await this.sh(s, CONNECT[this.daemon(s)]);
    }
    if (!(await this.reaches())) throw new Error("host-a does not reach host-c through the hub");
  }

  // ------------------------------------------------------------------------------------------
  // shortcutd

  /** Ends shortcutd on the spokes. */
  async quiet(): Promise<void> {
    await Promise.all(SPOKES.map((s) => this.end(s, "SIGTERM")));
  }

  /**
   * Starts shortcutd on both spokes and waits until the traffic has its shortcut, or both have
   * given the attempt up.
   */
  async attempt(): Promise<NatAttempt> {
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
        const by = await Promise.all(SPOKES.map((s) => this.dev(s)));
        if (by.every((dev) => dev === DIRECT)) return a;
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
      candidate: ended.candidate ?? "",
      took: at(path === "direct" ? "flipped" : "backoff") - began,
      lost: [(after[0]?.lost ?? 0) - (before[0]?.lost ?? 0), (after[1]?.lost ?? 0) - (before[1]?.lost ?? 0)],
      tries: this.shortcutd("a").count("connecting", since),
      reason: ended.reason,
    };
  }

  /** Waits until this many more packets were sent each way, and the last of them could arrive. */
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
}
