/**
 * Runs the story: brings the triangle up, starts shortcutd on its routers, drives traffic both ways, and goes through the
 * steps of steps.ts. What shortcutd says is believed only when the kernel shows it too. The result is a {@link Report}
 * also when a step did not happen; then the rest of the steps is left out.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PublicKey } from "../../plugin/net/key.js";
import type { StatusReport } from "../../plugin/status/report.js";
import { type DirectionCount, type Flows, startFlows } from "../flows.js";
import { type Lab, LabError, startLab, until } from "../lab.js";
import { type Counters, countUnderlay, readCounters, readHub, wayOf } from "./counters.js";
import { PeerSampler } from "./peers.js";
import {
  directionBetween,
  type Failure,
  type PhaseReport,
  type Report,
  type StepOnRouter,
  type StepReport,
  seconds,
  stepLine,
} from "./report.js";
import {
  describeRoute,
  inMain,
  isAliasRoute,
  isSelection,
  type RouteChange,
  selectionIntervals,
} from "./routes.js";
import { type Programs, RunningShortcutd } from "./shortcutd.js";
import { difference, type Snapshot, snapshot } from "./snapshot.js";
import { PARTS, type Part, type Step, stepOf } from "./steps.js";
import { checkSubordination, DRAIN_BOUND } from "./subordination.js";
import {
  birdPolicy,
  type Daemon,
  DIRECT,
  frrPolicy,
  NODES,
  OVERLAY,
  other,
  ROUTERS,
  type Router,
  SPOKE,
  SPOKES,
  type Spoke,
} from "./triangle.js";
import { type RouteWatch, watchRoutes } from "./watch.js";

export interface StoryOptions {
  readonly topology: string;
  readonly daemons: Readonly<Record<Router, Daemon>>;
  readonly programs: Programs;
  /** Directory for report.json and the logs of shortcutd. */
  readonly out: string;
  /** Leaves lab and shortcutd up. */
  readonly keep?: boolean;
  /** Packets per second each way, and bytes of UDP payload. */
  readonly rate?: number;
  readonly size?: number;
  /** A line of the live timeline. */
  readonly onLine?: (line: string) => void;
  /** Every 250 ms: what the hub carries, bits per second. */
  readonly onRate?: (hubBitsPerSecond: number) => void;
}

/** A step did not happen. */
class StepFailed extends Error {
  constructor(
    readonly step: Step,
    readonly router: Router | undefined,
    problem: string,
  ) {
    super(problem);
  }
}

/** What confirms a step on one router. */
interface Fact {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly shows: string;
}
type Look = (router: Router) => Fact | undefined | Promise<Fact | undefined>;

/** How long the traffic stays on a way before the next part begins, milliseconds. */
const DWELL = 2_000;

export async function runStory(options: StoryOptions): Promise<{ report: Report; lab: Lab | undefined }> {
  mkdirSync(options.out, { recursive: true });
  const { a, b, c } = options.daemons;
  const env = { DAEMON_A: a, DAEMON_B: b, DAEMON_C: c, SHORTCUTD: "install" };
  options.onLine?.(`bringing up ${options.topology}: ${a} on A, ${b} on B (hub), ${c} on C`);
  const lab = await startLab(options.topology, { env, keep: options.keep ?? false });
  let up = true;
  try {
    const missing = NODES.filter((n) => lab.nodes.every((x) => x.name !== n));
    if (missing.length > 0) throw new LabError(`the story needs node ${missing.join(", ")} in the topology`);
    const story = new Story(lab, options);
    const report = await story.tell();
    writeFileSync(join(options.out, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
    up = options.keep ?? false;
    return { report, lab: up ? lab : undefined };
  } finally {
    if (!up || options.keep !== true) await lab.stop();
  }
}

class Story {
  readonly #started = new Date();
  readonly #steps: StepReport[] = [];
  readonly #phases: PhaseReport[] = [];
  readonly #failures: Failure[] = [];
  readonly #watches = new Map<Router, RouteWatch>();
  readonly #samplers = new Map<Router, PeerSampler>();
  readonly #running = new Map<Router, RunningShortcutd>();
  readonly #keys = new Map<Router, PublicKey>();
  readonly #before = new Map<Router, Snapshot>();
  #flows: Flows | undefined;
  #phase: { name: string; counters: Counters; flows: readonly DirectionCount[] } | undefined;
  /** Milliseconds since the epoch: where the present part begins, and from when facts count for it. */
  #zero = 0;
  #since = 0;
  #refusal: string | undefined;
  #leftBehind: string[] | undefined;

  constructor(
    private readonly lab: Lab,
    private readonly options: StoryOptions,
  ) {}

  async tell(): Promise<Report> {
    const rates = this.#showRates();
    try {
      await this.#prepare();
      await this.#appears();
      await this.#goes();
      await this.#returns();
      if (this.options.keep !== true) await this.#stops();
    } catch (e) {
      await this.#failed(e);
    } finally {
      clearInterval(rates);
      await this.#end().catch((e: unknown) => this.#failed(e));
    }
    return this.#report();
  }

  // ------------------------------------------------------------------------------------------ the parts

  async #prepare(): Promise<void> {
    const { lab } = this;
    for (const far of [SPOKE.c.hostAddress, "2001:db8:3::10"])
      await until(`host-a reaches ${far} through the hub`, 30_000, async () => {
        return (await lab.node("host-a").exec(["ping", "-n", "-c", "1", "-W", "1", far])).status === 0;
      });
    await countUnderlay(lab);
    await Promise.all(
      ROUTERS.map(async (router) => {
        const node = lab.node(router);
        this.#before.set(router, await settled(() => snapshot(node)));
        this.#watches.set(router, await watchRoutes(node));
        this.#samplers.set(router, new PeerSampler(node, router));
      }),
    );
    for (const router of ["b", "a", "c"] as const) {
      const log = join(this.options.out, `shortcutd-${router}.log`);
      rmSync(log, { force: true });
      const { programs } = this.options;
      this.#running.set(router, new RunningShortcutd(lab.node(router), router, programs, log));
    }
    for (const router of ROUTERS)
      await until(`shortcutd on ${router.toUpperCase()} is ready`, 30_000, async () => {
        const shortcutd = this.#shortcutd(router);
        if (shortcutd.exit !== undefined) return true;
        const waits = waitsFor(await shortcutd.status());
        if (waits !== "") throw new Error(waits);
        return true;
      }).catch((e: unknown) => {
        throw new StartFailed(router, messageOf(e));
      });
    for (const router of ROUTERS) this.#mustRun(router);
    for (const router of ROUTERS) {
      const key = (await lab.node(router).must(["wg", "show", DIRECT, "public-key"])).trim();
      this.#keys.set(router, key as PublicKey);
    }
    this.#line("shortcutd runs on A, B and C; both spokes are registered; no shortcut");
  }

  async #appears(): Promise<void> {
    const { rate = 2_000, size = 700 } = this.options;
    this.#begin("appears", Date.now());
    this.#flows = await startFlows(
      this.lab,
      { node: SPOKE.a.host, address: SPOKE.a.hostAddress },
      { node: SPOKE.c.host, address: SPOKE.c.hostAddress },
      { program: this.options.programs.traffic, rate, size },
    );
    const hub = readHub(this.lab);
    await this.#enter("by the hub");
    this.#line(`${rate} packets/s of ${size} bytes each way between host-a and host-c`);
    const crossed = await until("threshold", stepOf("appears", "threshold").deadline, () =>
      this.#firstEvent("over-threshold"),
    ).catch(() => undefined);
    const threshold = stepOf("appears", "threshold");
    if (crossed === undefined)
      throw new StepFailed(threshold, "a", `not within ${threshold.deadline / 1000} s: no spoke reports it`);
    this.#zero = crossed.at;
    this.#line(`\n${PARTS.appears.title}; times since ${PARTS.appears.zero}`);
    await this.#step("appears", "threshold", () => {
      const now = readHub(this.lab);
      const bits = ((now.bytes - hub.bytes) * 8000) / (now.at - hub.at);
      return bits < 2e6
        ? undefined
        : { at: Date.now(), shows: `the hub's ${OVERLAY} sends ${(bits / 1e6).toFixed(1)} Mbit/s` };
    });
    await this.#enter("flip to direct");
    await this.#step("appears", "resolved", (router) => this.#resolvedAtHub(router));
    await this.#step("appears", "offered", (router) =>
      routeFact(this.#log(router).first(this.#since, (r) => isAliasRoute(r) && r.devices[0] === OVERLAY)),
    );
    await this.#step("appears", "selected", (router) => this.#selected(router));
    await this.#tunnel("appears");
  }

  /** Peer, handshake, path, flip, and the traffic itself. */
  async #tunnel(part: "appears" | "returns"): Promise<void> {
    const episode = (router: Router) =>
      this.#sampler(router).episode(this.#key(other(spoke(router))), this.#since);
    await this.#step(part, "peer", (router) => {
      const e = episode(router);
      return (
        e && { at: e.from, shows: `peer ${e.key.slice(0, 8)}… at ${e.latest.endpoint ?? "no endpoint yet"}` }
      );
    });
    await this.#step(part, "handshake", (router) => {
      const e = episode(router);
      if (e === undefined || e.latest.handshake === 0) return undefined;
      return { at: e.latest.handshake, shows: `handshake with ${e.key.slice(0, 8)}…` };
    });
    await this.#step(part, "proven", (router) => {
      const carried = episode(router)?.carried;
      return (
        carried && {
          at: carried.at,
          shows: `${carried.rxBytes} bytes received, ${carried.txBytes} sent by the tunnel`,
        }
      );
    });
    await this.#step(part, "flipped", (router) =>
      routeFact(this.#log(router).first(this.#since, inMain(SPOKE[other(spoke(router))].lan, DIRECT))),
    );
    await this.#way(part, "direct", "direct");
    for (const router of SPOKES) {
      const [from, to] = [SPOKE[router], SPOKE[other(router)]];
      const get = ["ip", "route", "get", to.hostAddress, "from", from.hostAddress, "iif", "eth2"];
      const route = await this.lab.node(router).must(get);
      if (!route.includes(`dev ${DIRECT}`))
        throw new StepFailed(stepOf(part, "direct"), router, `${get.join(" ")}: ${route.trim()}`);
    }
    await this.#enter(part === "appears" ? "direct" : "direct again");
    await this.#dwell();
  }

  async #goes(): Promise<void> {
    await this.#enter("back to the hub");
    await this.#policy("goes", true);
    await this.#step("goes", "deselected", (router) => {
      const to = SPOKE[other(spoke(router))].lan;
      const daemon = this.options.daemons[router];
      return routeFact(
        daemon === "bird"
          ? this.#log(router).first(
              this.#since,
              (r) => r.deleted && r.prefix === to && isSelection(daemon, { ...r, deleted: false }),
            )
          : this.#log(router).first(this.#since, (r) => inMain(to, OVERLAY)(r) && !isSelection(daemon, r)),
      );
    });
    await this.#step("goes", "flipped-back", (router) =>
      routeFact(this.#log(router).first(this.#since, inMain(SPOKE[other(spoke(router))].lan, OVERLAY))),
    );
    await this.#step("goes", "peer-gone", (router) => {
      const key = this.#key(other(spoke(router)));
      const sampler = this.#sampler(router);
      const last = sampler.episodes.filter((e) => e.key === key).at(-1);
      if (last?.until === undefined || sampler.latest === undefined) return undefined;
      return { at: last.until, shows: `${sampler.latest.length} peer: the hub` };
    });
    await this.#way("goes", "by-hub", "hub");
    await this.#enter("refused, by the hub");
    // Longer than the machine's pause after a refusal, so that shortcutd has tried again.
    const from = Date.now();
    const asked = () => this.#firstEvent("refused")?.at;
    await this.#step("goes", "stays-refused", async () => {
      if (Date.now() - from < 2 * DWELL || asked() === undefined) return undefined;
      const extra = SPOKES.filter((r) =>
        this.#sampler(r).episodes.some((e) => e.until === undefined && e.key !== this.#key("b")),
      );
      if (extra.length > 0) return undefined;
      this.#refusal = await this.#explain("a");
      const samples = SPOKES.map((r) => this.#sampler(r).samples.filter((s) => s.answered >= from).length);
      return { at: Date.now(), shows: `${samples.reduce((x, y) => x + y, 0)} samples, no peer but the hub` };
    });
  }

  async #returns(): Promise<void> {
    await this.#enter("flip to direct again");
    await this.#policy("returns", false);
    await this.#step("returns", "selected", (router) => this.#selected(router));
    await this.#tunnel("returns");
  }

  async #stops(): Promise<void> {
    await this.#enter("shortcutd stops");
    this.#begin("stops", Date.now());
    this.#line(`\n${PARTS.stops.title}; times since ${PARTS.stops.zero}`);
    await Promise.all(ROUTERS.map((r) => this.#shortcutd(r).signal("SIGTERM")));
    await this.#step("stops", "stopped", (router) => {
      const { exit } = this.#shortcutd(router);
      if (exit === undefined) return undefined;
      if (exit.code !== 0)
        throw new StepFailed(
          stepOf("stops", "stopped"),
          router,
          `status ${exit.code ?? exit.signal}: ${this.#shortcutd(router).lastWords()}`,
        );
      return { at: Date.now(), shows: "status 0" };
    });
    this.#leftBehind = [];
    const left = new Map<Router, string[]>();
    try {
      await this.#step("stops", "as-before", async (router) => {
        const diff = difference(this.#before.get(router) ?? [], await snapshot(this.lab.node(router)));
        left.set(router, diff);
        return diff.length === 0 ? { at: Date.now(), shows: "the same" } : undefined;
      });
    } finally {
      for (const [router, lines] of left)
        this.#leftBehind.push(...lines.map((l) => `${router.toUpperCase()} ${l}`));
    }
    await this.#enter("without shortcutd");
    await this.#dwell();
  }

  // ------------------------------------------------------------------------------------------ what is looked at

  async #resolvedAtHub(router: Router): Promise<Fact | undefined> {
    const to = SPOKE[other(spoke(router))];
    const hub = this.lab.node("b");
    const route = await hub.must(["ip", "route", "show", "exact", to.lan]);
    const allowed = await hub.must(["wg", "show", OVERLAY, "allowed-ips"]);
    const owner = allowed.split("\n").find((l) => l.includes(`${to.overlay}/32`)) ?? "";
    if (!route.includes(`dev ${OVERLAY}`) || !owner.includes(to.lan)) return undefined;
    return { at: Date.now(), shows: `the hub routes ${to.lan} to ${to.overlay}, whose AllowedIPs have it` };
  }

  #selected(router: Router): Fact | undefined {
    const daemon = this.options.daemons[router];
    const { lan } = SPOKE[other(spoke(router))];
    return routeFact(
      this.#log(router).first(this.#since, (r) => r.prefix === lan && isSelection(daemon, r)),
      daemon === "bird" ? "BIRD" : "FRR",
    );
  }

  /** Waits until the flow goes that way, by windows of at least half a second. */
  async #way(part: Part, id: string, way: "hub" | "direct"): Promise<void> {
    const sent = () => (this.#flows?.read() ?? []).reduce((n, d) => n + d.sent, 0);
    let before = await readCounters(this.lab);
    let sentBefore = sent();
    let began = Date.now();
    let said = "";
    await this.#step(
      part,
      id,
      async () => {
        if (Date.now() - began < 500) return undefined;
        const [after, sentAfter] = [await readCounters(this.lab), sent()];
        const packets = sentAfter - sentBefore;
        const found = wayOf(before, after, packets);
        said = `of ${packets} packets sent in ${seconds(after.at - before.at).toFixed(1)} s the hub's ${OVERLAY} sent ${after.hubPackets - before.hubPackets}, the underlay carried ${after.there - before.there}+${after.back - before.back} directly`;
        if (found === way) return { at: began, shows: said };
        [before, sentBefore, began] = [after, sentAfter, Date.now()];
        return undefined;
      },
      () => said,
    );
  }

  async #policy(part: "goes" | "returns", refused: boolean): Promise<void> {
    const node = this.lab.node("a");
    this.#begin(part, Date.now());
    let did: string;
    if (this.options.daemons.a === "bird") {
      const file = "/etc/bird/shortcut/policy.conf";
      node.writeFile(file, birdPolicy(node.readFile(file), refused));
      const said = await node.must(["birdc", "configure"]);
      if (!/Reconfig/.test(said)) throw new LabError(`birdc configure: ${said}`);
      did = `${file} edited and birdc configure`;
    } else {
      await node.must(frrPolicy(refused));
      did = `${frrPolicy(refused)
        .slice(4)
        .filter((w) => w !== "-c")
        .join("; ")}`;
    }
    this.#line(`\n${PARTS[part].title} (on A: ${did}); times since ${PARTS[part].zero}`);
  }

  // ------------------------------------------------------------------------------------------ steps and phases

  #begin(_part: Part, at: number): void {
    this.#zero = at;
    this.#since = at;
  }

  /** Waits for what a step wants: the event in shortcutd's timeline, and the fact in the kernel, on each of its routers. */
  async #step(part: Part, id: string, look: Look, missing: () => string = () => ""): Promise<void> {
    const step = stepOf(part, id);
    const found = new Map<Router, StepOnRouter>();
    const facts = new Map<Router, Fact>();
    const lacks = new Map<Router, string>();
    const enough = () => (step.any ? found.size > 0 : found.size === step.routers.length);
    const deadline = performance.now() + step.deadline;
    for (;;) {
      for (const router of step.routers) {
        if (found.has(router) || (step.any && found.size > 0)) continue;
        const event =
          step.event === undefined ? undefined : this.#shortcutd(router).event(step.event, this.#since);
        if (step.event !== undefined && event === undefined && step.any) {
          lacks.set(router, `shortcutd does not report ${step.event}`);
          continue;
        }
        const fact = facts.get(router) ?? (await look(router));
        if (fact !== undefined) facts.set(router, fact);
        if (fact === undefined) lacks.set(router, `the kernel does not show it (${step.kernel})`);
        else if (step.event !== undefined && event === undefined)
          lacks.set(router, `the kernel shows it (${fact.shows}), shortcutd does not report ${step.event}`);
        else
          found.set(router, {
            router,
            ...(event === undefined ? {} : { event: { at: this.#relative(event.at), detail: event.detail } }),
            kernel: { at: this.#relative(fact.at), shows: fact.shows },
          });
      }
      if (enough()) break;
      if (part !== "stops") for (const router of ROUTERS) this.#mustRun(router);
      if (performance.now() >= deadline) {
        const router = step.routers.find((r) => !found.has(r));
        const what = missing() || (router === undefined ? "" : (lacks.get(router) ?? ""));
        throw new StepFailed(step, router, `not within ${step.deadline / 1000} s: ${what}`);
      }
      await new Promise((done) => setTimeout(done, 10));
    }
    const routers = step.routers.flatMap((r) => found.get(r) ?? []);
    const report: StepReport = {
      part,
      id,
      title: step.title,
      at: Math.max(...routers.map((r) => (r.event ?? r.kernel).at)),
      routers,
    };
    this.#steps.push(report);
    this.#line(stepLine(report));
  }

  #mustRun(router: Router): void {
    const shortcutd = this.#shortcutd(router);
    if (shortcutd.exit === undefined) return;
    const how = shortcutd.exit.code ?? shortcutd.exit.signal;
    throw new StartFailed(router, `shortcutd has ended with status ${how}: ${shortcutd.lastWords()}`);
  }

  #relative(at: number): number {
    return seconds(at - this.#zero);
  }

  /** Ends the phase before and begins another. */
  async #enter(name: string): Promise<void> {
    const counters = await readCounters(this.lab);
    const flows = this.#flows?.read() ?? [];
    this.#close(counters, flows);
    this.#phase = { name, counters, flows };
  }

  #close(counters: Counters, flows: readonly DirectionCount[]): void {
    const p = this.#phase;
    if (p === undefined) return;
    this.#phases.push({
      name: p.name,
      seconds: seconds(counters.at - p.counters.at),
      directions: flows.flatMap((after, i) => {
        const before = p.flows[i];
        return before === undefined ? [] : [directionBetween(before, after)];
      }),
      byHub: counters.hubPackets - p.counters.hubPackets,
      direct: counters.there + counters.back - p.counters.there - p.counters.back,
    });
    this.#phase = undefined;
  }

  async #dwell(): Promise<void> {
    const enough = (this.#flows?.read()[0].sent ?? 0) + ((this.options.rate ?? 2_000) * DWELL) / 1000;
    await until("the traffic goes on", DWELL * 5, () => (this.#flows?.read()[0].sent ?? enough) >= enough);
  }

  async #failed(e: unknown): Promise<void> {
    const stepFailed = e instanceof StepFailed ? e : undefined;
    const router = stepFailed?.router ?? (e instanceof StartFailed ? e.router : undefined);
    const asked = router === undefined || router === "b" ? "a" : router;
    // Once it has been stopped there is nobody to ask.
    const askable = stepFailed !== undefined && stepFailed.step.part !== "stops";
    const explain = askable ? await this.#explain(asked).catch(messageOf) : undefined;
    const failure: Failure = {
      part: stepFailed?.step.part ?? "start",
      step: stepFailed?.step.title ?? "bring up",
      router,
      problem: messageOf(e),
      explain,
    };
    this.#failures.push(failure);
  }

  async #end(): Promise<void> {
    if (this.#flows !== undefined) {
      const flows = await this.#flows.stop();
      this.#close(await readCounters(this.lab), flows);
    }
    for (const s of this.#samplers.values()) await s.stop();
    for (const r of this.#running.values()) await r.leave();
    for (const w of this.#watches.values()) await w.stop();
  }

  #report(): Report {
    const { daemons, rate = 2_000, size = 700 } = this.options;
    const of = (router: Router) => {
      const hub = this.#keys.get("b");
      const spokes = SPOKES.flatMap((s) => this.#keys.get(s) ?? []);
      const rendezvous = new Set(router === "b" ? spokes : hub === undefined ? [] : [hub]);
      const selected = selectionIntervals(daemons[router], this.#watches.get(router)?.log.changes ?? []);
      return checkSubordination(
        // Without the keys (a start that failed) nothing can be judged.
        this.#keys.size === 0 ? [] : (this.#samplers.get(router)?.samples ?? []),
        rendezvous,
        router === "b" ? [] : selected,
      );
    };
    const checked = { a: of("a"), b: of("b"), c: of("c") };
    const violations = ROUTERS.flatMap((r) => checked[r].violations).map((v) => ({
      router: v.router,
      at: new Date(v.at).toISOString(),
      problem: v.problem,
    }));
    const [first] = violations;
    if (first !== undefined)
      this.#failures.push({
        part: "appears",
        step: "no peer without the daemon's selection",
        router: first.router,
        problem: `${violations.length} samples, the first at ${first.at}: ${first.problem}`,
        explain: undefined,
      });
    return {
      format: 1,
      result: this.#failures.length === 0 ? "ok" : "failed",
      started: this.#started.toISOString(),
      seconds: seconds(Date.now() - this.#started.getTime()),
      daemons,
      traffic: { packetsPerSecond: rate, bytes: size },
      steps: this.#steps,
      phases: this.#phases,
      subordination: {
        samples: { a: checked.a.samples, b: checked.b.samples, c: checked.c.samples },
        withShortcut: { a: checked.a.withShortcut, b: checked.b.withShortcut, c: checked.c.withShortcut },
        drainBound: DRAIN_BOUND,
        violations,
      },
      refusal: this.#refusal,
      leftBehind: this.#leftBehind,
      failures: this.#failures,
    };
  }

  // ------------------------------------------------------------------------------------------ small things

  #firstEvent(kind: "over-threshold" | "refused"): { readonly at: number } | undefined {
    const found = SPOKES.flatMap((s) => this.#shortcutd(s).event(kind, this.#since) ?? []);
    return found.sort((x, y) => x.at - y.at)[0];
  }

  async #explain(router: Spoke): Promise<string> {
    const shortcutd = this.#shortcutd(router);
    if (shortcutd.exit !== undefined) return `shortcutd has ended: ${shortcutd.lastWords()}`;
    return await shortcutd.ctl("explain", SPOKE[other(router)].hostAddress);
  }

  #showRates(): NodeJS.Timeout {
    let before: { readonly at: number; readonly bytes: number } | undefined;
    return setInterval(() => {
      try {
        const now = readHub(this.lab);
        if (before !== undefined)
          this.options.onRate?.(((now.bytes - before.bytes) * 8000) / (now.at - before.at));
        before = now;
      } catch {
        // The hub has no overlay interface yet, or is gone.
      }
    }, 250);
  }

  #line(text: string): void {
    this.options.onLine?.(text);
  }

  #shortcutd(router: Router): RunningShortcutd {
    return present(this.#running.get(router), `shortcutd on ${router} was not started`);
  }
  #sampler(router: Router): PeerSampler {
    return present(this.#samplers.get(router), `${router} is not sampled`);
  }
  #log(router: Router): RouteWatch["log"] {
    return present(this.#watches.get(router), `${router} is not watched`).log;
  }
  #key(router: Router): PublicKey {
    return present(this.#keys.get(router), `the key of ${router} is not known`);
  }
}

/** What a shortcutd that answers still waits for; empty when it is ready. */
function waitsFor(s: StatusReport | undefined): string {
  if (s === undefined) return "it does not answer on its status socket";
  if (s.role === "hub") {
    const known = s.registrations.filter((r) => r.endpoint !== undefined).length;
    return known < SPOKES.length ? `${known} of ${SPOKES.length} spokes are registered with an endpoint` : "";
  }
  if (s.daemon?.session !== "sessions established") return s.daemon?.session ?? "no daemon is configured";
  return s.hubs.every((h) => h.registered && h.reflexive !== undefined) ? "" : "not registered at the hub";
}

/** shortcutd did not come up, or is not there any more. */
class StartFailed extends Error {
  constructor(
    readonly router: Router,
    problem: string,
  ) {
    super(problem);
  }
}

function present<T>(value: T | undefined, problem: string): T {
  if (value === undefined) throw new LabError(problem);
  return value;
}

function spoke(router: Router): Spoke {
  if (router === "b") throw new LabError("B is the hub");
  return router;
}

const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

const routeFact = (r: RouteChange | undefined, by = ""): Fact | undefined =>
  r && { at: r.at, shows: `${by === "" ? "" : `${by} `}${r.deleted ? "gone: " : ""}${describeRoute(r)}` };

/** Reads until two readings in a row are the same: the daemons have converged. */
async function settled(read: () => Promise<Snapshot>): Promise<Snapshot> {
  let before: Snapshot | undefined;
  return await until(
    "the routers have settled",
    20_000,
    async () => {
      const now = await read();
      const same = before !== undefined && difference(before, now).length === 0;
      before = now;
      return same ? now : undefined;
    },
    300,
  );
}
