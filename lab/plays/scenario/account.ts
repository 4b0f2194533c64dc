/**
 * From what senders sent and receivers got, by slices of time, to the figures of a scenario: how
 * long after an event the first packet of the way that was to follow was sent, and how many packets
 * of that step never arrived or arrived twice. Pure. All times are milliseconds of CLOCK_MONOTONIC,
 * at which packets were *sent*.
 */
import type { DirectionPaths } from "../../traffic/flows.js";
import type { PathName } from "../../traffic/paths.js";

export interface SliceCount {
  /** When the slice begins. */
  readonly at: number;
  readonly sent: number;
  readonly hub: number;
  readonly direct: number;
  readonly lost: number;
  readonly duplicated: number;
}

/** One row for each slice in which something was sent. */
export function slices(paths: DirectionPaths): SliceCount[] {
  const received = new Map(paths.received.slices.map((s) => [s.slice, s]));
  return paths.sent.map(([slice, sent]) => {
    const { hub = 0, direct = 0, duplicated = 0 } = received.get(slice) ?? {};
    return {
      at: slice * paths.width,
      sent,
      hub,
      direct,
      lost: Math.max(0, sent - hub - direct),
      duplicated,
    };
  });
}

export interface StepFigures {
  readonly sent: number;
  readonly lost: number;
  readonly duplicated: number;
  /**
   * From the event to the first packet on the way that was to follow, when the packets stayed on it
   * until the next event; 0 when they were on it already, and undefined when they were not on it in
   * the end.
   */
  readonly settled: number | undefined;
  /** From the first to the last slice with a lost packet, inclusive. */
  readonly outage: number;
  /** From the event to the first slice with a lost packet; undefined when none was lost. */
  readonly lostAfter: number | undefined;
}

/** The figures of one direction for the time from `from` to `to` (the next event). */
export function figures(
  paths: DirectionPaths,
  from: number,
  to: number,
  way: PathName | undefined,
): StepFigures {
  // a slice belongs to the step in which it begins
  const mine = slices(paths).filter((s) => s.at + paths.width > from && s.at + paths.width <= to);
  const sum = (of: (s: SliceCount) => number): number => mine.reduce((n, s) => n + of(s), 0);
  const losses = mine.filter((s) => s.lost > 0);
  const [first, last] = [losses[0], losses.at(-1)];
  const before = paths.received.changes.filter((c) => c.sentAt < from).at(-1);
  const latest = paths.received.changes.filter((c) => c.sentAt >= from && c.sentAt < to).at(-1);
  const end = latest ?? before;
  // after an outage the first packets may come the same way as the last ones
  const heard = mine.find((s) => s.hub + s.direct > 0);
  const silent = heard === undefined || heard === mine[0] ? 0 : Math.max(0, heard.at - from);
  return {
    sent: sum((s) => s.sent),
    lost: sum((s) => s.lost),
    duplicated: sum((s) => s.duplicated),
    settled:
      way === undefined || end?.path !== way || heard === undefined
        ? undefined
        : latest === undefined
          ? silent
          : latest.sentAt - from,
    outage: first === undefined || last === undefined ? 0 : last.at - first.at + paths.width,
    lostAfter: first === undefined ? undefined : first.at - from,
  };
}

/**
 * Slices of `width` that is a multiple of theirs, from `from` to `to`; those without a packet are
 * left out.
 */
export function widen(
  fine: readonly SliceCount[],
  width: number,
  from = Number.NEGATIVE_INFINITY,
  to = Number.POSITIVE_INFINITY,
): SliceCount[] {
  const out = new Map<number, SliceCount>();
  for (const s of fine) {
    if (s.at < from || s.at >= to) continue;
    const at = Math.floor(s.at / width) * width;
    const b = out.get(at) ?? { at, sent: 0, hub: 0, direct: 0, lost: 0, duplicated: 0 };
    out.set(at, {
      at,
      sent: b.sent + s.sent,
      hub: b.hub + s.hub,
      direct: b.direct + s.direct,
      lost: b.lost + s.lost,
      duplicated: b.duplicated + s.duplicated,
    });
  }
  return [...out.values()].sort((a, b) => a.at - b.at);
}
