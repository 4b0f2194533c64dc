/**
 * The lab's command line: brings a topology up, tells its story, shows how to enter it, takes kept
 * labs down.
 */
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import pc from "picocolors";
import { EVENTS, runEvent } from "./plays/nat/events.js";
import { type Cell, KINDS, type Kind, pair, runMatrix, SPECIAL, writeMatrix } from "./plays/nat/matrix.js";
import { SCENARIOS, scenario } from "./plays/scenario/catalogue.js";
import { runScenario } from "./plays/scenario/run.js";
import { renderScenario } from "./plays/scenario/table.js";
import { renderFailure, renderReport } from "./plays/story/report.js";
import { runStory } from "./plays/story/run.js";
import { keptLabs, type Lab, startLab, stopKept } from "./runner/lab.js";
import { programsIn } from "./site/shortcutd.js";
import { type Daemon, ROUTERS } from "./site/triangle.js";

// This module is dist/lab/main.js.
const inRepository = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const PROGRAMS = programsIn(inRepository("dist"));

interface Options {
  topology: string;
  daemonA: Daemon;
  daemonB: Daemon;
  daemonC: Daemon;
  rate: number;
  size: number;
  story: boolean;
  keep: boolean;
  down: boolean;
  quiet: boolean;
  scenario?: string;
  natMatrix?: string | true;
  natEvent?: string;
  repeat?: number;
}

const daemon = (router: string, role: string): Option =>
  new Option(`--daemon-${router} <daemon>`, `routing daemon of ${role} ${router.toUpperCase()}`)
    .choices(["bird", "frr"])
    .default("bird");

const whole = (least: number, most: number) => (text: string) => {
  const n = Number(text);
  if (!Number.isInteger(n) || n < least || n > most)
    throw new Error(`must be a whole number from ${least} to ${most}`);
  return n;
};

function howToEnter(lab: Lab, options: Options): string {
  const ctl = `node ${PROGRAMS.shortcutctl}`;
  const talk = (d: Daemon): string =>
    d === "bird"
      ? "birdc show route table fib4 10.3.0.0/24 all"
      : "vtysh -c 'show bgp ipv4 unicast 10.3.0.0/24'";
  const lines = lab.nodes.map((n) => `  ${n.name.padEnd(8)} ${n.enterCommand}`);
  return [
    "The lab is up. To enter a node:",
    ...lines,
    "On A or C, for example:",
    `  ${ctl} status`,
    `  ${ctl} explain 10.3.0.10`,
    `  ${ctl} timeline`,
    `  ${talk(options.daemonA)}`,
    "  wg show shortcut0; ip route show 10.3.0.0/24",
    "On host-a, traffic enough for a shortcut:",
    "  ping -f -s 1200 -i 0.002 10.3.0.10",
    "Take it down with: npm run lab -- --down",
  ].join("\n");
}

async function tell(options: Options): Promise<void> {
  const daemons = { a: options.daemonA, b: options.daemonB, c: options.daemonC };
  const live = process.stdout.isTTY && !options.quiet;
  const clear = (): void => void (live && process.stdout.write("\r\x1b[2K"));
  const out = inRepository("lab/out");
  const { report, lab } = await runStory({
    topology: options.topology,
    daemons,
    programs: PROGRAMS,
    out,
    keep: options.keep,
    rate: options.rate,
    size: options.size,
    onLine: (line) => {
      if (options.quiet) return;
      clear();
      console.log(/^\s*[+-]\d/.test(line) ? line : pc.bold(line));
    },
    ...(live
      ? {
          onRate: (bits: number) =>
            void process.stdout.write(`\r\x1b[2K${pc.dim(`via the hub: ${(bits / 1e6).toFixed(1)} Mbit/s`)}`),
        }
      : {}),
  });
  clear();
  console.log(`\n${renderReport({ ...report, failures: [] })}`);
  console.log(`report: ${out}/report.json, logs of shortcutd beside it`);
  if (lab !== undefined) console.log(`\n${howToEnter(lab, options)}`);
  const by = ROUTERS.map((r) => `${daemons[r]} on ${r.toUpperCase()}`).join(", ");
  if (report.result === "ok")
    console.log(pc.green(`ok: every step happened, with ${by}, in ${report.seconds.toFixed(0)} s`));
  else {
    for (const f of report.failures) console.error(pc.red(renderFailure(f)));
    process.exitCode = 1;
  }
}

async function play(name: string, options: Options): Promise<void> {
  const found = scenario(name);
  if (name === "list") {
    const width = Math.max(...SCENARIOS.map((s) => s.name.length));
    for (const s of SCENARIOS)
      console.log(
        `${s.name.padEnd(width)}  ${s.description}${s.only === undefined ? "" : ` (${s.only} on A)`}`,
      );
    return;
  }
  if (found === undefined) throw new Error(`no scenario ${name}; --scenario list lists them`);
  if (found.only !== undefined && found.only !== options.daemonA)
    throw new Error(`scenario ${name} is for ${found.only} on A: add --daemon-a ${found.only}`);
  const out = inRepository("lab/out");
  const report = await runScenario(found, {
    topology: options.topology,
    daemons: { a: options.daemonA, b: options.daemonB, c: options.daemonC },
    programs: PROGRAMS,
    out,
    ...(options.repeat === undefined ? {} : { repeat: options.repeat }),
    onLine: (line) => void (options.quiet || console.log(line)),
  });
  console.log(`\n${renderScenario(report)}`);
  console.log(`${out}/${name}-${options.daemonA}-${options.daemonC}.svg, and .json beside it`);
  if (report.result === "ok") console.log(pc.green(`ok: ${name} in ${report.seconds.toFixed(0)} s`));
  else {
    for (const f of report.failures) console.error(pc.red(f));
    process.exitCode = 1;
  }
}

async function natMatrix(which: string | true, options: Options): Promise<void> {
  const cells = which === true ? undefined : which.split(",").map(cellOf);
  const results = await runMatrix({
    topology: inRepository("lab/topologies/nat.clab.yml"),
    programs: PROGRAMS,
    spokes: options.daemonA,
    ...(cells === undefined ? {} : { cells }),
    onLine: (line) => void (options.quiet || console.log(line)),
  });
  if (which === true) writeMatrix(inRepository("doc/nat.md"), results);
  const failed = results.filter((r) => r.problem !== "");
  if (failed.length === 0) console.log(pc.green(`ok: ${results.length} pairs as expected`));
  else {
    for (const f of failed) console.error(pc.red(`${f.cell.a} x ${f.cell.c}: ${f.problem}`));
    process.exitCode = 1;
  }
}

async function natEvent(name: string, options: Options): Promise<void> {
  const { problems } = await runEvent(name, {
    topology: inRepository("lab/topologies/nat.clab.yml"),
    programs: PROGRAMS,
    spokes: options.daemonA,
    onLine: (line) => void (options.quiet || console.log(line)),
  });
  if (problems.length === 0) console.log(pc.green(`ok: ${name}`));
  else {
    for (const p of problems) console.error(pc.red(p));
    process.exitCode = 1;
  }
}

function cellOf(text: string): Cell {
  const special = SPECIAL[text];
  if (special !== undefined) return special;
  const [a, c] = text.split(":");
  const kind = (k: string | undefined): k is Kind => k !== undefined && k in KINDS;
  if (!kind(a) || !kind(c))
    throw new Error(
      `no pair ${text}: two of ${Object.keys(KINDS).join(", ")} with a colon, or ${Object.keys(SPECIAL).join(", ")}`,
    );
  return pair(a, c);
}

async function main(): Promise<void> {
  const command = new Command("lab")
    .description(
      "Brings the triangle up in network namespaces and tells its story: traffic crosses the threshold, a shortcut appears, the operator's policy refuses it and allows it again, shortcutd stops. Exits with 1 when a step did not happen.",
    )
    .option(
      "--topology <file>",
      "containerlab topology file",
      inRepository("lab/topologies/triangle.clab.yml"),
    )
    .addOption(daemon("a", "spoke"))
    .addOption(daemon("b", "hub"))
    .addOption(daemon("c", "spoke"))
    .addOption(
      new Option("--rate <packets>", "packets per second, each way")
        .argParser(whole(500, 20_000))
        .default(2_000),
    )
    .addOption(new Option("--size <bytes>", "bytes of UDP payload").argParser(whole(200, 1_300)).default(700))
    .option("--no-story", "only bring the lab up, and take it down again unless it is kept")
    .option("--keep", "leave the lab and shortcutd up, and print how to enter each router", false)
    .option("--down", "take kept labs down", false)
    .option("--scenario <name>", "run a failure or a flip by name and draw it; `list` lists them")
    .addOption(
      new Option("--repeat <times>", "number of repetitions, for scenarios that repeat something").argParser(
        whole(1, 1_000),
      ),
    )
    .option(
      "--nat-matrix [pairs]",
      "run every pair of NATs and write the table into doc/nat.md; or run these pairs only (KIND:KIND or a name, comma separated)",
    )
    .option("--nat-event <name>", `run one event behind NATs: ${Object.keys(EVENTS).join(", ")}`)
    .option("--quiet", "print only the summary", false)
    .showHelpAfterError();
  command.parse();
  const options = command.opts<Options>();
  if (options.down) {
    const kept = keptLabs();
    for (const lab of kept) {
      await stopKept(lab);
      console.log(`down: ${lab.name} (${lab.runDir})`);
    }
    if (kept.length === 0) console.log("no kept lab");
    return;
  }
  if (options.natEvent !== undefined) return await natEvent(options.natEvent, options);
  if (options.natMatrix !== undefined) return await natMatrix(options.natMatrix, options);
  if (options.scenario !== undefined) return await play(options.scenario, options);
  if (options.story) return await tell(options);
  const env = { DAEMON_A: options.daemonA, DAEMON_B: options.daemonB, DAEMON_C: options.daemonC };
  const lab = await startLab(options.topology, { env, keep: options.keep });
  if (options.keep) console.log(howToEnter(lab, options));
  else await lab.stop();
}

main()
  .catch((e: unknown) => {
    console.error(`lab: ${e instanceof Error ? e.message : String(e)}`);
    process.exitCode = 1;
  })
  // The processes of a kept lab must not keep this one.
  .finally(() => process.exit());
