/**
 * Runs the story: brings the triangle up, starts shortcutd on its routers, drives traffic both
 * ways, and goes through the steps of steps.ts. A report of shortcutd is believed only when the
 * kernel shows it too. The result is a {@link Report} also when a step did not happen; then the
 * rest of the steps is left out.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Lab, LabError, startLab, until } from "../../runner/lab.js";
import { describeRepetition, MOST_REPETITIONS, repeatedWhenStarved } from "../../runner/retry.js";
import { countUnderlay, readCounters, readHub, wayOf } from "../../site/counters.js";
import type { Programs } from "../../site/shortcutd.js";
import {
  birdPolicy,
  type Daemon,
  DIRECT,
  frrPolicy,
  NODES,
  OVERLAY,
  other,
  ROUTERS,
  type RouterName,
  SPOKE,
  SPOKES,
} from "../../site/triangle.js";
import { startFlows } from "../../traffic/flows.js";
import { Phases } from "./phases.js";
import {
  type Failure,
  type Report,
  renderFailure,
  type StepOnRouter,
  type StepReport,
  seconds,
  stepLine,
} from "./report.js";
import { type Fact, Routers, StartFailed } from "./routers.js";
import { PARTS, type Part, type Step, stepOf } from "./steps.js";

export interface StoryOptions {
  readonly topology: string;
  readonly daemons: Readonly<Record<RouterName, Daemon>>;
  readonly programs: Programs;
  /** Directory for report.json and the logs of shortcutd. */
  readonly out: string;
  /** Leaves lab and shortcutd up. */
  readonly keep?: boolean;
  /** Variables for the topology in addition. */
  readonly env?: Readonly<Record<string, string>>;
  /** Called when everything is up, before the first packet of the traffic. */
  readonly onReady?: (lab: Lab) => Promise<void>;
  /** Packets per second each way, and bytes of UDP payload. */
  readonly rate?: number;
  readonly size?: number;
  /** How often a run that failed on a starved machine is repeated at most; 2 unless given. */
  readonly repetitions?: number;
  /** A line of the live timeline. */
  readonly onLine?: (line: string) => void;
  /** Every 250 ms: what the hub carries, bits per second. */
  readonly onRate?: (hubBitsPerSecond: number) => void;
}

/** A step did not happen. */
class StepFailed extends Error {
  constructor(
    readonly step: Step,
    readonly router: RouterName | undefined,
    problem: string,
  ) {
    super(problem);
  }
}

type Look = (router: RouterName) => Fact | undefined | Promise<Fact | undefined>;

/** How long the traffic stays on a way before the next part begins, milliseconds. */
const DWELL = 2_000;
const POLICY_FILE = "/etc/bird/shortcut/policy.conf";

/**
 * Tells the story and writes `report.json`. `lab` is there when it was kept. A run that failed on a
 * starved machine is told again from the beginning (runner/retry.ts).
 * @throws TopologyError, LabError when the lab itself does not come up.
 */
export async function runStory(options: StoryOptions): Promise<{ report: Report; lab: Lab | undefined }> {
  mkdirSync(options.out, { recursive: true });
  const { value, repetitions } = await repeatedWhenStarved(() => tellOnce(options), {
    // A kept lab is there to be looked at as it is.
    most: options.keep === true ? 0 : (options.repetitions ?? MOST_REPETITIONS),
    problem: ({ report }) =>
      report.result === "ok" ? undefined : report.failures.map(renderFailure).join("; "),
    onRepeat: (r) => options.onLine?.(describeRepetition(r)),
  });
  const report: Report = { ...value.report, repetitions };
  writeFileSync(join(options.out, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
  return { report, lab: value.lab };
}

async function tellOnce(
  options: StoryOptions,
): Promise<{ report: Omit<Report, "repetitions">; lab: Lab | undefined }> {
  const { a, b, c } = options.daemons;
  const env = { DAEMON_A: a, DAEMON_B: b, DAEMON_C: c, SHORTCUTD: "install", ...options.env };
  options.onLine?.(`bringing up ${options.topology}: ${a} on A, ${b} on B (hub), ${c} on C`);
  const lab = await startLab(options.topology, { env, keep: options.keep ?? false });
  try {
    const missing = NODES.filter((n) => lab.nodes.every((x) => x.name !== n));
    if (missing.length > 0) throw new LabError(`the story needs node ${missing.join(", ")} in the topology`);
    const report = await new Story(lab, options).tell();
    return { report, lab: options.keep === true ? lab : undefined };
  } finally {
    if (options.keep !== true) await lab.stop();
  }
}

class Story {
  readonly #started = new Date();
  readonly #rate: number;
  readonly #size: number;
  readonly #routers: Routers;
  readonly #phases: Phases;
  readonly #steps: StepReport[] = [];
  readonly #failures: Failure[] = [];
  #part: Part | "start" = "start";
  /**
   * Milliseconds since the epoch: from where the part's times count, and from when its facts do.
   */
  #zero = 0;
  #since = 0;
  #refusal: string | undefined;
  #leftBehind: string[] | undefined;

  constructor(
    private readonly lab: Lab,
    private readonly options: StoryOptions,
  ) {
    this.#rate = options.rate ?? 2_000;
    this.#size = options.size ?? 700;
    this.#routers = new Routers(lab, options.daemons);
    this.#phases = new Phases(lab);
  }

  async tell(): Promise<Omit<Report, "repetitions">> {
    const rates = this.#showRates();
    try {
      await this.#prepare();
      await this.#appears();
      await this.#goes();
      await this.#returns();
      if (this.options.keep !== true) await this.#stops();
    } catch (e) {
      await this.#failed(e);
    }
    clearInterval(rates);
    await this.#phases.end().catch((e: unknown) => this.#failed(e));
    await this.#routers.end().catch((e: unknown) => this.#failed(e));
    return this.#report();
  }

  // ------------------------------------------------------------------------------------------ the
  // parts

  async #prepare(): Promise<void> {
    const { lab } = this;
    for (const far of [SPOKE.c.hostAddress, "2001:db8:3::10"])
      await until(`host-a reaches ${far} through the hub`, 30_000, async () => {
        return (await lab.node("host-a").exec(["ping", "-n", "-c", "1", "-W", "1", far])).status === 0;
      });
    await countUnderlay(lab);
    await this.#routers.observe();
    await this.#routers.start(this.options.programs, this.options.out);
    this.#line("shortcutd runs on A, B and C; both spokes are registered; no shortcut");
    await this.options.onReady?.(lab);
  }

  async #appears(): Promise<void> {
    this.#begin("appears");
    this.#phases.flows = await startFlows(
      this.lab,
      { node: SPOKE.a.host, address: SPOKE.a.hostAddress },
      { node: SPOKE.c.host, address: SPOKE.c.hostAddress },
      { program: this.options.programs.traffic, rate: this.#rate, size: this.#size },
    );
    const hub = readHub(this.lab);
    await this.#phases.enter("via the hub");
    this.#line(`${this.#rate} packets/s of ${this.#size} bytes each way between host-a and host-c`);
    const threshold = stepOf("appears", "threshold");
    this.#zero = await until("threshold", threshold.deadline, () => this.#firstEvent("over-threshold")).catch(
      () => {
        throw new StepFailed(
          threshold,
          "a",
          `not within ${threshold.deadline / 1000} s: no spoke reports it`,
        );
      },
    );
    this.#line(`\n${PARTS.appears.title}; times since ${PARTS.appears.zero}`);
    await this.#step("threshold", () => {
      const now = readHub(this.lab);
      const bits = ((now.bytes - hub.bytes) * 8000) / (now.at - hub.at);
      if (bits < 2e6) return undefined;
      return { at: Date.now(), shows: `the hub's ${OVERLAY} sends ${(bits / 1e6).toFixed(1)} Mbit/s` };
    });
    await this.#phases.enter("flip to direct");
    await this.#step("resolved", (router) => this.#routers.resolvedAtHub(router));
    await this.#step("offered", (router) => this.#routers.offered(router, this.#since));
    await this.#step("selected", (router) => this.#routers.selected(router, this.#since));
    await this.#tunnel();
    await this.#phases.enter("direct");
    await this.#dwell();
  }

  /** Peer, handshake, path, flip, and the traffic itself. */
  async #tunnel(): Promise<void> {
    const peer = (router: RouterName) => this.#routers.peer(router, this.#since);
    await this.#step("peer", (router) => {
      const p = peer(router);
      const where = p?.latest.endpoint ?? "no endpoint yet";
      return p && { at: p.from, shows: `peer ${p.key.slice(0, 8)}… at ${where}` };
    });
    await this.#step("handshake", (router) => {
      const p = peer(router);
      if (p === undefined || p.latest.handshake === 0) return undefined;
      return { at: p.latest.handshake, shows: `handshake with ${p.key.slice(0, 8)}…` };
    });
    await this.#step("proven", (router) => {
      const carried = peer(router)?.carried;
      if (carried === undefined) return undefined;
      return {
        at: carried.at,
        shows: `${carried.rxBytes} bytes received, ${carried.txBytes} sent by the tunnel`,
      };
    });
    await this.#step("flipped", (router) => this.#routers.routed(router, this.#since, DIRECT));
    await this.#way("direct", "direct");
    for (const router of SPOKES) {
      const [from, to] = [SPOKE[router], SPOKE[other(router)]];
      const get = ["ip", "route", "get", to.hostAddress, "from", from.hostAddress, "iif", "eth2"];
      const route = await this.lab.node(router).must(get);
      if (!route.includes(`dev ${DIRECT}`))
        throw new StepFailed(this.#stepOf("direct"), router, `${get.join(" ")}: ${route.trim()}`);
    }
  }

  async #goes(): Promise<void> {
    await this.#phases.enter("back to the hub");
    await this.#policy("goes", true);
    await this.#step("deselected", (router) => this.#routers.deselected(router, this.#since));
    await this.#step("flipped-back", (router) => this.#routers.routed(router, this.#since, OVERLAY));
    await this.#step("peer-gone", (router) => this.#routers.peerGone(router));
    await this.#way("by-hub", "hub");
    await this.#phases.enter("refused, via the hub");
    const from = Date.now();
    // Until shortcutd has tried again and was refused, and some more.
    await this.#step("stays-refused", async () => {
      if (Date.now() - from < 2 * DWELL || this.#firstEvent("refused") === undefined) return undefined;
      const samples = this.#routers.samplesWithoutShortcut(from);
      if (samples === undefined) return undefined;
      // While a retry is under way explain says how far that has come: on a busy machine for long.
      const said = await this.#routers.explain("a");
      if (!said.includes("refused")) return undefined;
      this.#refusal = said;
      return { at: Date.now(), shows: `${samples} samples, no peer but the hub` };
    });
  }

  async #returns(): Promise<void> {
    await this.#phases.enter("flip to direct again");
    await this.#policy("returns", false);
    await this.#step("selected", (router) => this.#routers.selected(router, this.#since));
    await this.#tunnel();
    await this.#phases.enter("direct again");
    await this.#dwell();
  }

  async #stops(): Promise<void> {
    await this.#phases.enter("shortcutd stops");
    this.#begin("stops");
    this.#line(`\n${PARTS.stops.title}; times since ${PARTS.stops.zero}`);
    await Promise.all(ROUTERS.map((r) => this.#routers.shortcutd(r).signal("SIGTERM")));
    await this.#step("stopped", (router) => {
      const { exit } = this.#routers.shortcutd(router);
      if (exit === undefined) return undefined;
      if (exit.code === 0) return { at: Date.now(), shows: "status 0" };
      const words = this.#routers.shortcutd(router).lastWords();
      throw new StepFailed(this.#stepOf("stopped"), router, `status ${exit.code ?? exit.signal}: ${words}`);
    });
    const left = new Map<RouterName, string[]>();
    try {
      await this.#step("as-before", async (router) => {
        const changed = await this.#routers.changed(router);
        left.set(router, changed);
        return changed.length === 0 ? { at: Date.now(), shows: "the same" } : undefined;
      });
    } finally {
      this.#leftBehind = [...left].flatMap(([r, lines]) => lines.map((l) => `${r.toUpperCase()} ${l}`));
    }
    await this.#phases.enter("without shortcutd");
    await this.#dwell();
  }

  /** Waits until the flow goes that way, by windows of at least half a second. */
  async #way(id: string, way: "hub" | "direct"): Promise<void> {
    let before = { counters: await readCounters(this.lab), sent: this.#phases.sent, at: Date.now() };
    let said = "";
    await this.#step(
      id,
      async () => {
        if (Date.now() - before.at < 500) return undefined;
        const after = { counters: await readCounters(this.lab), sent: this.#phases.sent, at: Date.now() };
        const [x, y, packets] = [before.counters, after.counters, after.sent - before.sent];
        said = `of ${packets} packets sent in ${seconds(y.at - x.at).toFixed(1)} s the hub's ${OVERLAY} sent ${y.hubPackets - x.hubPackets}, the underlay carried ${y.there - x.there}+${y.back - x.back} directly`;
        if (wayOf(x, y, packets) === way) return { at: before.at, shows: said };
        before = after;
        return undefined;
      },
      () => said,
    );
  }

  async #policy(part: "goes" | "returns", refused: boolean): Promise<void> {
    const node = this.lab.node("a");
    this.#begin(part);
    let did: string;
    if (this.options.daemons.a === "bird") {
      node.writeFile(POLICY_FILE, birdPolicy(node.readFile(POLICY_FILE), refused));
      const said = await node.must(["birdc", "configure"]);
      if (!/Reconfig/.test(said)) throw new LabError(`birdc configure: ${said}`);
      did = `${POLICY_FILE} edited and birdc configure`;
    } else {
      await node.must(frrPolicy(refused));
      did = frrPolicy(refused)
        .slice(3)
        .filter((w) => w !== "-c")
        .join("; ");
    }
    this.#line(`\n${PARTS[part].title} (on A: ${did}); times since ${PARTS[part].zero}`);
  }

  async #dwell(): Promise<void> {
    const enough = this.#phases.sent + (2 * this.#rate * DWELL) / 1000;
    await until("the traffic goes on", DWELL * 5, () => this.#phases.sent >= enough);
  }

  // ------------------------------------------------------------------------------------------
  // steps

  #begin(part: Part): void {
    this.#part = part;
    this.#zero = Date.now();
    this.#since = this.#zero;
  }

  #stepOf(id: string): Step {
    if (this.#part === "start") throw new LabError("no part of the story has begun");
    return stepOf(this.#part, id);
  }

  /**
   * Waits for what a step wants: the event in shortcutd's timeline, and the fact in the kernel, on
   * each of its routers.
   */
  async #step(id: string, look: Look, measured: () => string = () => ""): Promise<void> {
    const step = this.#stepOf(id);
    const found = new Map<RouterName, StepOnRouter>();
    const facts = new Map<RouterName, Fact>();
    const deadline = performance.now() + step.deadline;
    for (;;) {
      const lacks = new Map<RouterName, string>();
      for (const router of step.routers) {
        if (found.has(router)) continue;
        const event =
          step.event === undefined
            ? undefined
            : this.#routers.shortcutd(router).event(step.event, this.#since);
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
      if (lacks.size === 0 || (step.any && found.size > 0)) break;
      if (step.part !== "stops") this.#routers.mustRun();
      if (performance.now() >= deadline) {
        const [router, lack] = [...lacks][0] ?? [undefined, ""];
        throw new StepFailed(step, router, `not within ${step.deadline / 1000} s: ${measured() || lack}`);
      }
      await delay(10);
    }
    const routers = step.routers.flatMap((r) => found.get(r) ?? []);
    const at = Math.max(...routers.map((r) => (r.event ?? r.kernel).at));
    const report = { part: step.part, id, title: step.title, at, routers };
    this.#steps.push(report);
    this.#line(stepLine(report));
  }

  #relative(at: number): number {
    return seconds(at - this.#zero);
  }

  #firstEvent(kind: "over-threshold" | "refused"): number | undefined {
    const found = SPOKES.flatMap((s) => this.#routers.shortcutd(s).event(kind, this.#since)?.at ?? []);
    return found.length === 0 ? undefined : Math.min(...found);
  }

  async #failed(e: unknown): Promise<void> {
    const failedStep = e instanceof StepFailed ? e : undefined;
    const router = failedStep?.router ?? (e instanceof StartFailed ? e.router : undefined);
    const asked = router === undefined || router === "b" ? "a" : router;
    // Once it has been stopped there is nobody to ask.
    const askable = failedStep !== undefined && failedStep.step.part !== "stops";
    this.#failures.push({
      part: this.#part,
      step: failedStep?.step.title ?? (this.#part === "start" ? "shortcutd starts" : "between the steps"),
      router,
      problem: messageOf(e),
      explain: askable ? await this.#routers.explain(asked).catch(messageOf) : undefined,
    });
  }

  #report(): Omit<Report, "repetitions"> {
    const subordination = this.#routers.subordination();
    const [first] = subordination.violations;
    if (first !== undefined)
      this.#failures.push({
        part: this.#part,
        step: "no peer without the daemon's selection",
        router: first.router,
        problem: `${subordination.violations.length} samples, the first at ${first.at}: ${first.problem}`,
        explain: undefined,
      });
    return {
      format: 1,
      result: this.#failures.length === 0 ? "ok" : "failed",
      started: this.#started.toISOString(),
      seconds: seconds(Date.now() - this.#started.getTime()),
      daemons: this.options.daemons,
      traffic: { packetsPerSecond: this.#rate, bytes: this.#size },
      steps: this.#steps,
      phases: this.#phases.list,
      subordination,
      refusal: this.#refusal,
      leftBehind: this.#leftBehind,
      failures: this.#failures,
    };
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
}

const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));
