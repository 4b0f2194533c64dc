/**
 * The three routers as the story sees them: shortcutd on each, its routes as the kernel tells them,
 * its direct interface's peers, and what it was before. The steps ask the kernel; their questions are
 * answered here.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { PublicKey } from "../../../plugin/net/key.js";
import type { StatusReport } from "../../../plugin/status/report.js";
import { type Lab, LabError, until } from "../../runner/lab.js";
import type { Node } from "../../runner/node.js";
import { type PeerEpisode, PeerSampler } from "../../site/peers.js";
import {
  describeRoute,
  inMain,
  isAliasRoute,
  isSelection,
  type RouteChange,
  type RouteLog,
  selectionIntervals,
} from "../../site/routes.js";
import { type Programs, RunningShortcutd } from "../../site/shortcutd.js";
import { difference, type Snapshot, settledSnapshot, snapshot } from "../../site/snapshot.js";
import {
  type Daemon,
  DIRECT,
  OVERLAY,
  other,
  ROUTERS,
  type RouterName,
  SPOKE,
  SPOKES,
  type Spoke,
} from "../../site/triangle.js";
import { type RouteWatch, watchRoutes } from "../../site/watch.js";
import type { Report } from "./report.js";
import { checkSubordination, DRAIN_BOUND } from "./subordination.js";

/** Confirms a step on one router. */
export interface Fact {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly shows: string;
}

/** shortcutd did not come up, or is not there any more. */
export class StartFailed extends Error {
  constructor(
    readonly router: RouterName,
    problem: string,
  ) {
    super(problem);
  }
}

export class Routers {
  readonly #watches = new Map<RouterName, RouteWatch>();
  readonly #samplers = new Map<RouterName, PeerSampler>();
  readonly #running = new Map<RouterName, RunningShortcutd>();
  readonly #keys = new Map<RouterName, PublicKey>();
  readonly #before = new Map<RouterName, Snapshot>();

  constructor(
    private readonly lab: Lab,
    private readonly daemons: Readonly<Record<RouterName, Daemon>>,
  ) {}

  /** Remembers how each router is once its daemons have converged, and looks on from then. */
  async observe(): Promise<void> {
    await Promise.all(
      ROUTERS.map(async (router) => {
        const node = this.lab.node(router);
        this.#before.set(router, await converged(node));
        this.#watches.set(router, await watchRoutes(node));
        this.#samplers.set(router, new PeerSampler(node, router));
      }),
    );
  }

  /**
   * Starts shortcutd everywhere and waits until both spokes could have a shortcut. @throws
   * StartFailed
   */
  async start(programs: Programs, logs: string): Promise<void> {
    for (const router of ["b", "a", "c"] as const) {
      const log = join(logs, `shortcutd-${router}.log`);
      rmSync(log, { force: true });
      this.#running.set(router, new RunningShortcutd(this.lab.node(router), router, programs, log));
    }
    for (const router of ROUTERS)
      await until(`shortcutd on ${router.toUpperCase()} is ready`, 30_000, async () => {
        const shortcutd = this.shortcutd(router);
        if (shortcutd.exit !== undefined) return true;
        const waits = waitsFor(await shortcutd.status());
        if (waits !== "") throw new Error(waits);
        return true;
      }).catch((e: unknown) => {
        throw new StartFailed(router, e instanceof Error ? e.message : String(e));
      });
    this.mustRun();
    for (const router of ROUTERS) {
      const key = (await this.lab.node(router).must(["wg", "show", DIRECT, "public-key"])).trim();
      this.#keys.set(router, key as PublicKey);
    }
  }

  /** @throws StartFailed when shortcutd has ended on one of them. */
  mustRun(): void {
    for (const router of ROUTERS) {
      const { exit } = this.shortcutd(router);
      if (exit === undefined) continue;
      const words = this.shortcutd(router).lastWords();
      throw new StartFailed(router, `shortcutd has ended with status ${exit.code ?? exit.signal}: ${words}`);
    }
  }

  async end(): Promise<void> {
    for (const s of this.#samplers.values()) await s.stop();
    for (const r of this.#running.values()) await r.leave();
    for (const w of this.#watches.values()) await w.stop();
  }

  shortcutd(router: RouterName): RunningShortcutd {
    return present(this.#running.get(router), `shortcutd on ${router} was not started`);
  }

  async explain(spoke: Spoke): Promise<string> {
    const shortcutd = this.shortcutd(spoke);
    if (shortcutd.exit !== undefined) return `shortcutd has ended: ${shortcutd.lastWords()}`;
    return await shortcutd.ctl("explain", SPOKE[other(spoke)].hostAddress);
  }

  // ------------------------------------------------------------------------------------------
  // facts, from `since` on

  /** The hub routes the LAN of the other spoke to it, and lets it be the source. */
  async resolvedAtHub(router: RouterName): Promise<Fact | undefined> {
    const to = SPOKE[other(spokeOf(router))];
    const hub = this.lab.node("b");
    const route = await hub.must(["ip", "route", "show", "exact", to.lan]);
    const allowed = await hub.must(["wg", "show", OVERLAY, "allowed-ips"]);
    const owner = allowed.split("\n").find((l) => l.includes(`${to.overlay}/32`)) ?? "";
    if (!route.includes(`dev ${OVERLAY}`) || !owner.includes(to.lan)) return undefined;
    return { at: Date.now(), shows: `the hub routes ${to.lan} to ${to.overlay}, whose AllowedIPs have it` };
  }

  offered(router: RouterName, since: number): Fact | undefined {
    const isOffer = (r: RouteChange): boolean => isAliasRoute(r) && !r.deleted && r.devices[0] === OVERLAY;
    return routeFact(this.#log(router).first(since, isOffer));
  }

  selected(router: RouterName, since: number): Fact | undefined {
    const daemon = this.daemons[router];
    const { lan } = SPOKE[other(spokeOf(router))];
    const r = this.#log(router).first(since, (x) => x.prefix === lan && isSelection(daemon, x));
    return routeFact(r, daemon === "bird" ? "BIRD " : "FRR ");
  }

  deselected(router: RouterName, since: number): Fact | undefined {
    const daemon = this.daemons[router];
    const { lan } = SPOKE[other(spokeOf(router))];
    const gone = (r: RouteChange): boolean =>
      daemon === "bird"
        ? r.deleted && r.prefix === lan && isSelection(daemon, { ...r, deleted: false })
        : inMain(lan, OVERLAY)(r) && !isSelection(daemon, r);
    return routeFact(this.#log(router).first(since, gone));
  }

  /** The FIB began to send the other spoke's LAN by `dev`. */
  routed(router: RouterName, since: number, dev: string): Fact | undefined {
    return routeFact(this.#log(router).first(since, inMain(SPOKE[other(spokeOf(router))].lan, dev)));
  }

  /** The peer of the shortcut on a spoke's direct interface. */
  peer(router: RouterName, since: number): PeerEpisode | undefined {
    return this.#sampler(router).episode(this.#key(other(spokeOf(router))), since);
  }

  peerGone(router: RouterName): Fact | undefined {
    const { episodes, latest } = this.#sampler(router);
    const key = this.#key(other(spokeOf(router)));
    const until = episodes.filter((e) => e.key === key).at(-1)?.until;
    if (until === undefined || latest === undefined) return undefined;
    return { at: until, shows: latest.length === 1 ? "1 peer, the hub" : `${latest.length} peers` };
  }

  /**
   * How many samples of the spokes have been taken since, all without the peer of a shortcut;
   * undefined when one has it.
   */
  samplesWithoutShortcut(since: number): number | undefined {
    const hub = this.#key("b");
    const samples = SPOKES.flatMap((r) => this.#sampler(r).samples.filter((s) => s.asked >= since));
    return samples.every((s) => s.keys.every((k) => k === hub)) ? samples.length : undefined;
  }

  /** Lists the differences of the router from before. */
  async changed(router: RouterName): Promise<string[]> {
    return difference(this.#before.get(router) ?? [], await snapshot(this.lab.node(router)));
  }

  /** The first invariant, on every sample. */
  subordination(): Report["subordination"] {
    const hub = this.#keys.get("b");
    const spokes = SPOKES.flatMap((s) => this.#keys.get(s) ?? []);
    const of = (router: RouterName) =>
      checkSubordination(
        // Without the keys (a start that failed) nothing can be judged.
        hub === undefined ? [] : (this.#samplers.get(router)?.samples ?? []),
        new Set(router === "b" ? spokes : hub === undefined ? [] : [hub]),
        router === "b"
          ? []
          : selectionIntervals(this.daemons[router], this.#watches.get(router)?.log.changes ?? []),
      );
    const checked = { a: of("a"), b: of("b"), c: of("c") };
    return {
      samples: { a: checked.a.samples, b: checked.b.samples, c: checked.c.samples },
      withShortcut: { a: checked.a.withShortcut, b: checked.b.withShortcut, c: checked.c.withShortcut },
      drainBound: DRAIN_BOUND,
      violations: ROUTERS.flatMap((r) => checked[r].violations).map((v) => ({
        router: v.router,
        at: new Date(v.at).toISOString(),
        problem: v.problem,
      })),
    };
  }

  #sampler(router: RouterName): PeerSampler {
    return present(this.#samplers.get(router), `${router} is not sampled`);
  }
  #log(router: RouterName): RouteLog {
    return present(this.#watches.get(router), `${router} is not watched`).log;
  }
  #key(router: RouterName): PublicKey {
    return present(this.#keys.get(router), `the key of ${router} is not known`);
  }
}

/** Says what a shortcutd that answers still waits for; empty when it is ready. */
function waitsFor(s: StatusReport | undefined): string {
  if (s === undefined) return "it does not answer on its status socket";
  if (s.role === "hub") {
    const known = s.registrations.filter((r) => r.endpoint !== undefined).length;
    return known < SPOKES.length ? `${known} of ${SPOKES.length} spokes are registered with an endpoint` : "";
  }
  if (s.daemon?.session !== "sessions established") return s.daemon?.session ?? "no daemon is configured";
  return s.hubs.every((h) => h.registered && h.reflexive !== undefined) ? "" : "not registered at the hub";
}

function present<T>(value: T | undefined, problem: string): T {
  if (value === undefined) throw new LabError(problem);
  return value;
}

function spokeOf(router: RouterName): Spoke {
  if (router === "b") throw new LabError("B is the hub");
  return router;
}

const routeFact = (r: RouteChange | undefined, by = ""): Fact | undefined =>
  r && { at: r.at, shows: `${by}${r.deleted ? "gone: " : ""}${describeRoute(r)}` };

/**
 * The state once the daemons have converged: the result of the last of them, the route to the LAN
 * behind `ra`, is there, and a second later nothing has changed.
 */
const converged = (node: Node): Promise<Snapshot> =>
  settledSnapshot(node, {
    accepts: (s) => s.some((l) => l.startsWith("route: 10.1.9.0/24")),
    timeoutMs: 50_000,
    apartMs: 1_000,
  });
