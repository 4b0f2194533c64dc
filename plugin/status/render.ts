/** Formats status as text for a terminal. */

import Table from "cli-table3";
import type { Endpoint } from "../net/address.js";
import { formatEndpoint } from "../net/address.js";
import type { OfferClasses } from "../shortcut/events.js";
import { RATE_CLASSES } from "../shortcut/offer/offer-classes.js";
import { describeNat, describeRate } from "../shortcut/reasons.js";
import type { Explanation, HubExplanation, ShortcutReport, StatusReport } from "./report.js";

export function duration(ms: number): string {
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const rate = (bps: number | undefined): string => (bps === undefined ? "" : describeRate(bps));
const ms = (t: number): string => `${t.toFixed(1)} ms`;
const roundTrips = (direct: number | undefined, hub: number | undefined): string =>
  [direct === undefined ? "" : ms(direct), hub === undefined ? "" : `hub ${ms(hub)}`]
    .filter((t) => t !== "")
    .join("\n");
const endpoint = (e: Endpoint | undefined): string => (e === undefined ? "unknown" : formatEndpoint(e));
const classes = (c: OfferClasses): string => {
  const least = RATE_CLASSES[c.rate] ?? 0;
  const bounds = least === 0 ? "below 1 Mbit/s" : `${least / 1e6} Mbit/s or more`;
  const roundTrip = c.roundTrip === "unknown" ? "not measured" : c.roundTrip.replace("-", " ");
  return `owner ${c.owner}, NAT ${c.natPrognosis}, rate class ${c.rate} (${bounds}), round trip ${roundTrip}`;
};
const table = (head: string[], rows: string[][]): string => {
  const t = new Table({ head, style: { head: [], border: [] }, wordWrap: true });
  t.push(...rows);
  return t.toString();
};

/** A hub may have thousands of overlay interfaces. */
const NAMED = 8;

/** `wg-* (wg-hub1, wg-hub2)`: the interfaces in words, where they are not what the configuration says. */
function overlayText({ overlay, overlayInterfaces: all }: StatusReport): string {
  if (all.length === 0) return `${overlay} (none exists)`;
  const names = all.slice(0, NAMED).sort().join(", ");
  const text = all.length > NAMED ? `${names} and ${all.length - NAMED} more` : names;
  const configured = overlay.split(", ").sort().join(", ");
  return text === configured ? overlay : `${overlay} (${text})`;
}

export function renderStatus(s: StatusReport): string {
  const out = [
    `${s.role} ${s.address}, overlay ${overlayText(s)}, direct interface ${s.direct}, key ${s.publicKey}`,
  ];
  if (s.daemon !== undefined) out.push(`${s.daemon.kind}: ${s.daemon.session}`);
  for (const p of s.problems) out.push(`problem: ${p.reason}`);
  for (const h of s.hubs)
    out.push(
      h.registered
        ? `hub ${h.address}: registered for ${duration(h.since)}, sees this router at ${endpoint(h.reflexive)}`
        : `hub ${h.address}: ${h.problem}`,
    );
  for (const h of s.hubs) out.push(...h.obstacles);
  if (s.unattestedSources.length > 0)
    out.push(
      `sent via the overlay, since the hub does not attest the source for this router: ${s.unattestedSources.map((x) => `${x.source} (${x.packets} packets)`).join(", ")}`,
    );
  if (s.nat !== "") out.push(`NAT: ${s.nat}`);
  if (s.pings.obstacle !== "") out.push(`pings: ${s.pings.obstacle}`);
  if (s.shortcuts.length > 0)
    out.push(
      table(
        ["owner", "stage", "since", "prefixes", "endpoint", "rtt", "rate", "reason"],
        s.shortcuts.flatMap(shortcutRows),
      ),
    );
  if (s.destinations.length > 0 && s.threshold !== undefined)
    out.push(
      `above threshold: at least ${rate(s.threshold.bitsPerSecond)} for ${duration(s.threshold.duration)}, until it is below ${rate(s.threshold.until)} (trigger)`,
    );
  if (s.destinations.length > 0)
    out.push(
      table(
        ["destination", "via the hub", "owner", "stage", "blocked by"],
        s.destinations.map((d) => [d.destination, rate(d.bitsPerSecond), d.owner ?? "", d.stage, d.reason]),
      ),
    );
  if (s.registrations.length > 0)
    out.push(
      table(
        ["spoke", "last heard", "direct endpoint", "prefixes"],
        s.registrations.map((r) => [
          r.address,
          `${duration(r.age)} ago`,
          r.endpoint === undefined ? "not heard" : endpoint(r.endpoint),
          r.prefixes.join("\n"),
        ]),
      ),
    );
  if (s.registrations.some((r) => r.endpoint === undefined))
    out.push(
      `not heard: nothing of that spoke's direct interface arrives on UDP ${s.directPort}; a new registration takes seconds, and then a firewall in the underlay drops it, here or there`,
    );
  if (s.role === "spoke" && s.shortcuts.length === 0 && s.destinations.length === 0)
    out.push("no traffic via the overlay has been counted yet");
  return out.join("\n");
}

/** One row for each prefix, with its own reason. The first also has what all have in common. */
function shortcutRows(x: ShortcutReport): string[][] {
  const prefixes = x.prefixes.map((p) => ({
    text: `${p.prefix} ${p.selected ? "selected" : "not selected"}, ${p.path}`,
    reason: p.selected ? "" : p.reason,
  }));
  const [first = { text: "", reason: "" }, ...others] = prefixes;
  const reasons = [...new Set([x.reason, first.reason])].filter((r) => r !== "");
  return [
    [
      x.owner,
      x.stage,
      duration(x.age),
      first.text,
      endpoint(x.endpoint),
      roundTrips(x.roundTrip, x.hubRoundTrip),
      rate(x.bitsPerSecond),
      reasons.join("; "),
    ],
    ...others.map((p) => ["", "", "", p.text, "", "", "", p.reason]),
  ];
}

function renderHub(h: HubExplanation): string[] {
  const asked = h.resolvedBy.map((r) => `${r.spoke} (${duration(r.age)} ago)`);
  return [
    `  attested: ${h.attested.join(", ")}`,
    `  last heard: ${duration(h.heard)} ago; direct endpoint: ${endpoint(h.endpoint)}`,
    `  resolved by: ${asked.length === 0 ? "no spoke" : asked.join(", ")}`,
    "  direct: a hub is not told; ask the spokes that have resolved it",
  ];
}

export function renderExplanation(e: Explanation): string {
  const out = [`${e.query}: ${e.stage}${e.age === undefined ? "" : ` for ${duration(e.age)}`}`];
  if (e.reason !== "") out.push(`  why: ${e.reason}`);
  for (const p of e.problems) if (p.reason !== e.reason) out.push(`  problem: ${p.reason}`);
  if (e.rate !== "") out.push(`  traffic: ${e.rate}`);
  if (e.underneath !== "") out.push(`  underneath: ${e.underneath}`);
  if (e.owner !== undefined) out.push(`  owner: ${e.owner}`);
  if (e.hub !== undefined) out.push(...renderHub(e.hub));
  for (const p of e.shortcut?.prefixes ?? [])
    out.push(
      `  offer ${p.prefix} alias ${p.alias ?? "none"}: ${p.selected ? "selected" : `not selected: ${p.reason}`}; FIB: ${p.path}`,
    );
  if (e.shortcut?.endpoint !== undefined) {
    const kind = e.shortcut.candidate === undefined ? "" : ` (${e.shortcut.candidate})`;
    out.push(`  endpoint: ${formatEndpoint(e.shortcut.endpoint)}${kind}`);
  }
  if (e.shortcut?.nat !== undefined) out.push(`  ${describeNat(e.shortcut.nat)}`);
  if (e.shortcut?.classes !== undefined) out.push(`  offered as: ${classes(e.shortcut.classes)}`);
  const { roundTrip, hubRoundTrip } = e.shortcut ?? {};
  if (roundTrip !== undefined || hubRoundTrip !== undefined) {
    const text = (t: number | undefined) => (t === undefined ? "not measured" : ms(t));
    out.push(`  round trip: direct ${text(roundTrip)}, via the hub ${text(hubRoundTrip)}`);
  }
  out.push(...e.obstacles.map((o) => `  ${o}`));
  if (e.shortcut !== undefined) out.push(...renderPauses(e.shortcut));
  return out.join("\n");
}

/** Words the pauses during which the direct path is not used. */
function renderPauses({ suppressedFor, penalty, retryIn }: ShortcutReport): string[] {
  const out: string[] = [];
  if (suppressedFor > 0)
    out.push(`  the path flaps: suppressed for ${duration(suppressedFor)}, penalty ${penalty}`);
  else if (penalty > 0) out.push(`  the path has failed: penalty ${penalty}`);
  if (retryIn !== undefined) out.push(`  next try in ${duration(Math.max(0, retryIn))}`);
  return out;
}
