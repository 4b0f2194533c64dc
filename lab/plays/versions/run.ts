/**
 * Runs the story of the triangle with one version of a routing daemon on all three routers, each in
 * a Debian root of its own, and says of each part whether it happened. shortcutd itself runs in the
 * node as ever and finds the daemon's socket by path.
 */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Lab } from "../../runner/lab.js";
import type { Programs } from "../../site/shortcutd.js";
import { SPOKES } from "../../site/triangle.js";
import type { Report } from "../story/report.js";
import { runStory } from "../story/run.js";
import { STEPS } from "../story/steps.js";
import type { Version } from "./catalogue.js";

/** The columns of the table, and which parts of the story each stands for. */
export const COLUMNS = ["checks ok", "direct", "policy away", "policy back", "stopped"] as const;
export type Column = (typeof COLUMNS)[number];
const PART = {
  direct: "appears",
  "policy away": "goes",
  "policy back": "returns",
  stopped: "stops",
} as const;

export type VersionResult =
  | {
      readonly kind: "run";
      /** The daemon's own version string. */
      readonly version: string;
      readonly columns: Readonly<Record<Column, boolean>>;
      /** Empty when every column is true. */
      readonly problems: readonly string[];
      readonly report: Report | undefined;
    }
  /** Debian's mirror has no such suite or package, or cannot be reached. */
  | { readonly kind: "skipped"; readonly reason: string };

export interface VersionOptions {
  /** Directory of this repository, with `lab/` and the configuration files. */
  readonly repository: string;
  readonly programs: Programs;
  /** Directory for the report and the logs. */
  readonly out: string;
  readonly onLine?: (line: string) => void;
}

/** The status of root.sh when the root cannot be had for no fault of ours. */
const NOT_TO_BE_HAD = 3;
const ROOT_TIMEOUT = 600_000;

/**
 * The root of a version, built when it is not there yet; a string that says why it cannot be had.
 */
function rootOf(
  v: Version,
  repository: string,
): Promise<{ readonly path: string } | { readonly skipped: string }> {
  const script = join(repository, "lab/plays/versions/root.sh");
  return new Promise((resolve, reject) => {
    execFile(
      "sh",
      [script, v.suite, v.package],
      { encoding: "utf8", timeout: ROOT_TIMEOUT, killSignal: "SIGTERM" },
      (error, stdout, stderr) => {
        if (error === null) return resolve({ path: stdout.trim() });
        const said = stderr.trim().split("\n");
        if (error.code === NOT_TO_BE_HAD) return resolve({ skipped: said.slice(-3).join("; ") });
        reject(new Error(`${script} ${v.suite} ${v.package}: ${said.at(-1) ?? error.message}`));
      },
    );
  });
}

/** Lists the findings of `shortcutd check --daemon` on the spokes: every finding, warnings too. */
async function check(lab: Lab, programs: Programs): Promise<string[]> {
  const problems: string[] = [];
  for (const spoke of SPOKES) {
    const argv = ["check", "--daemon", "-c", "/etc/shortcutd/shortcutd.yaml"];
    const r = await lab.node(spoke).exec([process.execPath, programs.shortcutd, ...argv]);
    const said = (r.stdout + r.stderr).split("\n").filter((l) => /(error|warning): /.test(l));
    if (r.status !== 0 && said.length === 0) said.push((r.stdout + r.stderr).trim());
    problems.push(...said.map((l) => `${spoke.toUpperCase()}: check: ${l}`));
  }
  return problems;
}

async function versionOf(lab: Lab, v: Version): Promise<string> {
  const argv = v.daemon === "bird" ? ["birdc", "show", "status"] : ["vtysh", "-c", "show version"];
  const said = await lab.node("a").must(argv);
  return /(?:BIRD|FRRouting) (\S+)/.exec(said)?.[1] ?? "unknown";
}

const happened = (report: Report, column: keyof typeof PART): boolean => {
  const wanted = STEPS.filter((s) => s.part === PART[column]);
  return wanted.every((s) => report.steps.some((r) => r.part === s.part && r.id === s.id));
};

/** @throws Error when the root cannot be built for another reason than what the mirror has. */
export async function runVersion(v: Version, options: VersionOptions): Promise<VersionResult> {
  const root = await rootOf(v, options.repository);
  if ("skipped" in root) return { kind: "skipped", reason: root.skipped };
  const problems: string[] = [];
  let found = "unknown";
  let checked = false;
  let report: Report | undefined;
  try {
    const told = await runStory({
      topology: join(options.repository, "lab/topologies/triangle.clab.yml"),
      daemons: { a: v.daemon, b: v.daemon, c: v.daemon },
      env: { DAEMON_ROOT_A: root.path, DAEMON_ROOT_B: root.path, DAEMON_ROOT_C: root.path },
      programs: options.programs,
      out: options.out,
      ...(options.onLine === undefined ? {} : { onLine: options.onLine }),
      onReady: async (lab) => {
        // of an earlier run, which was repeated
        problems.length = 0;
        found = await versionOf(lab, v);
        if (!found.startsWith(v.expected)) problems.push(`it is ${found}, not ${v.expected}`);
        const lacks = await check(lab, options.programs);
        checked = lacks.length === 0;
        problems.push(...lacks);
      },
    });
    report = told.report;
    // the daemon's own words for it: what birdc or bgpd answered was understood
    const why = v.daemon === "bird" ? "BIRD: rejected by import filter" : "FRR: rejected by route-map";
    if (report.refusal !== undefined && !report.refusal.includes(why))
      problems.push(`explain does not say "${why}": ${report.refusal}`);
    for (const f of report.failures)
      problems.push(`${f.part}: ${f.step}: ${f.router?.toUpperCase() ?? ""} ${f.problem} ${f.explain ?? ""}`);
  } catch (e) {
    problems.push(e instanceof Error ? e.message : String(e));
  }
  const of = (column: keyof typeof PART): boolean => report !== undefined && happened(report, column);
  return {
    kind: "run",
    version: found,
    columns: {
      "checks ok": checked,
      direct: of("direct"),
      "policy away": of("policy away"),
      "policy back": of("policy back"),
      stopped: of("stopped"),
    },
    problems,
    report,
  };
}

/** The directory of this repository, for what is run from `dist/lab/versions`. */
export const repositoryOf = (module: string): string => fileURLToPath(new URL("../../../..", module));
