/**
 * Holds the findings of a run of the story, as values; as tables for a terminal; and as
 * `lab/out/report.json`, which is a {@link Report} as it stands here, in JSON. Times are seconds:
 * of a step since the zero of its part (which `PARTS` in steps.ts names), of a phase its length.
 * `kernel` is the observer's own reading, `event` what shortcutd said.
 */
import Table from "cli-table3";
import { describeRepetition, type Repetition } from "../../runner/retry.js";
import type { Daemon, RouterName } from "../../site/triangle.js";
import type { DirectionCount, DirectionTotal } from "../../traffic/flows.js";
import { PARTS, type Part } from "./steps.js";

export interface StepOnRouter {
  readonly router: RouterName;
  /** From `shortcutctl timeline`. */
  readonly event?: { readonly at: number; readonly detail: string };
  readonly kernel: { readonly at: number; readonly shows: string };
}

export interface StepReport {
  readonly part: Part;
  readonly id: string;
  readonly title: string;
  /** When it had happened on all its routers. */
  readonly at: number;
  readonly routers: readonly StepOnRouter[];
}

export interface PhaseReport {
  readonly name: string;
  readonly seconds: number;
  readonly directions: readonly DirectionTotal[];
  /**
   * Packets that the hub's overlay interface sent, and that the underlay carried between the direct
   * interfaces.
   */
  readonly byHub: number;
  readonly direct: number;
  /**
   * Packets that this machine had no room for: contained in what is lost, and no router's decision.
   */
  readonly fullBuffers: number;
}

export interface Failure {
  readonly part: Part | "start";
  readonly step: string;
  readonly router: RouterName | undefined;
  readonly problem: string;
  /** The answer of `shortcutctl explain` on that router. */
  readonly explain: string | undefined;
}

export interface Report {
  readonly format: 1;
  readonly result: "ok" | "failed";
  /** ISO 8601. */
  readonly started: string;
  readonly seconds: number;
  readonly daemons: Readonly<Record<RouterName, Daemon>>;
  readonly traffic: { readonly packetsPerSecond: number; readonly bytes: number };
  readonly steps: readonly StepReport[];
  readonly phases: readonly PhaseReport[];
  /** The first invariant, on every sample of every direct interface. */
  readonly subordination: {
    readonly samples: Readonly<Record<RouterName, number>>;
    readonly withShortcut: Readonly<Record<RouterName, number>>;
    /** How long a peer may outlive the selection, milliseconds. */
    readonly drainBound: number;
    readonly violations: readonly {
      readonly router: RouterName;
      readonly at: string;
      readonly problem: string;
    }[];
  };
  /** Why A's daemon refused, in the words of `shortcutctl explain`. */
  readonly refusal: string | undefined;
  /** Differences from before the start; undefined when shortcutd was left running. */
  readonly leftBehind: readonly string[] | undefined;
  /**
   * Runs before this one, which failed while the machine was starved; empty when this was the
   * first.
   */
  readonly repetitions: readonly Repetition[];
  readonly failures: readonly Failure[];
}

/** One direction between two readings. */
export function directionBetween(before: DirectionCount, after: DirectionCount): DirectionTotal {
  return {
    from: after.from,
    to: after.to,
    sent: after.sent - before.sent,
    received: after.received - before.received,
    lost: after.lost - before.lost,
    duplicated: after.duplicated - before.duplicated,
    reordered: after.reordered - before.reordered,
    kernelDrops: after.kernelDrops - before.kernelDrops,
  };
}

export const seconds = (ms: number): number => Math.round(ms) / 1000;

/** `+0.045 s` */
const sinceZero = (s: number): string => `${s < 0 ? "-" : "+"}${Math.abs(s).toFixed(3)} s`;

/** The line of the live timeline. */
export function stepLine(step: StepReport): string {
  const facts = step.routers.map((r) => `${r.router.toUpperCase()}: ${r.kernel.shows}`);
  return `${sinceZero(step.at).padStart(10)}  ${step.title.padEnd(26)} ${facts.join("; ")}`;
}

const table = (head: string[], rows: string[][], right: readonly number[]): string => {
  const t = new Table({
    head,
    style: { head: [], border: [], compact: true },
    colAligns: head.map((_, i) => (right.includes(i) ? "right" : "left")),
  });
  t.push(...rows);
  return t.toString();
};

function stepTable(steps: readonly StepReport[]): string {
  const rows = steps.map((s, i) => {
    const before = steps[i - 1];
    // A handshake's time is WireGuard's own and exact; that of the peer, before it, is of the
    // sample that found it.
    const took = Math.max(0, before?.part === s.part ? s.at - before.at : s.at);
    return [
      before?.part === s.part ? "" : PARTS[s.part].title,
      s.title,
      s.at.toFixed(3),
      took.toFixed(3),
      s.routers.map((r) => `${r.router.toUpperCase()} ${(r.event ?? r.kernel).at.toFixed(3)}`).join("  "),
    ];
  });
  return table(["", "step", "at, s", "took, s", "per router, s"], rows, [2, 3]);
}

function phaseTable(phases: readonly PhaseReport[]): string {
  const rows = phases.flatMap((p) =>
    p.directions.map((d, i) => [
      i === 0 ? p.name : "",
      i === 0 ? p.seconds.toFixed(1) : "",
      `${d.from} → ${d.to}`,
      String(d.sent),
      String(d.lost) + (d.kernelDrops > 0 ? ` (${d.kernelDrops} in the host)` : ""),
      String(d.duplicated),
      i === 0 ? String(p.byHub) : "",
      i === 0 ? String(p.direct) : "",
      i === 0 ? String(p.fullBuffers) : "",
    ]),
  );
  return table(
    ["phase", "s", "direction", "sent", "lost", "dup.", "via the hub", "direct", "full buffers"],
    rows,
    [1, 3, 4, 5, 6, 7, 8],
  );
}

const sum = (of: Readonly<Record<RouterName, number>>): number => of.a + of.b + of.c;

/** The summary at the end of a run. */
export function renderReport(r: Report): string {
  const out = [stepTable(r.steps), phaseTable(r.phases)];
  const s = r.subordination;
  out.push(
    `${sum(s.samples)} samples of the direct interfaces' peers, ${sum(s.withShortcut)} of them with a shortcut's peer: ${
      s.violations.length === 0
        ? `none before the daemon's selection, none later than ${s.drainBound / 1000} s after it`
        : `${s.violations.length} VIOLATIONS`
    }`,
  );
  for (const v of s.violations.slice(0, 5)) out.push(`  ${v.at} ${v.router.toUpperCase()}: ${v.problem}`);
  if (r.refusal !== undefined) out.push(`A on the refusal: ${r.refusal}`);
  if (r.leftBehind !== undefined)
    out.push(
      r.leftBehind.length === 0
        ? "after the stop every router is as before the start"
        : `left behind after the stop:\n${r.leftBehind.map((l) => `  ${l}`).join("\n")}`,
    );
  for (const x of r.repetitions) out.push(describeRepetition(x));
  for (const f of r.failures) out.push(renderFailure(f));
  return out.join("\n");
}

export function renderFailure(f: Failure): string {
  const where = f.router === undefined ? "" : ` on ${f.router.toUpperCase()}`;
  const explain = f.explain === undefined ? "" : `\n  shortcutctl explain: ${f.explain}`;
  return `FAILED: ${f.part}: ${f.step}${where}: ${f.problem}${explain}`;
}
