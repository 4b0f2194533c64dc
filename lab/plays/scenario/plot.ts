/**
 * A scenario's timeline as SVG: for each direction the packets of every slice of time, stacked by
 * the way they went, lost ones on top, with the events as numbered lines. Below the whole, each
 * event that moved or lost packets at 10 ms. Pure: values in, text out.
 */
import { type SliceCount, widen } from "./account.js";

export interface PlotInput {
  readonly title: string;
  readonly subtitle: string;
  /** Zero of the time axis; all times are milliseconds of one clock. */
  readonly zero: number;
  readonly directions: readonly { readonly name: string; readonly slices: readonly SliceCount[] }[];
  readonly events: readonly { readonly at: number; readonly name: string }[];
}

const COLOURS = { hub: "#4a7ebb", direct: "#3a9a4d", lost: "#d62728" } as const;
const WAYS = ["direct", "hub", "lost"] as const;
const WIDTH = 1200;
const LEFT = 80;
const RIGHT = 30;
const PANEL = 110;
const GAP = 26;
const WIDTHS = [10, 20, 50, 100, 200, 500, 1000, 2000];
/** Bars of the overview at most. */
const BARS = 900;
/** Milliseconds around an event in its close-up, and close-ups at most. */
const BEFORE = 200;
const AFTER = 1_000;
const CLOSE_UPS = 8;

const xml = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
const n = (value: number): string => String(Math.round(value * 10) / 10);
const text = (x: number, y: number, content: string, more = ""): string =>
  `<text x="${n(x)}" y="${n(y)}"${more === "" ? "" : ` ${more}`}>${xml(content)}</text>`;

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

interface Axis {
  readonly from: number;
  readonly to: number;
  readonly zero: number;
}

/** A step of 1, 2 or 5 times a power of ten that gives about `count` marks. */
export function tickStep(span: number, count: number): number {
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 5, 10].find((f) => f * power >= raw) ?? 10;
  return factor * power;
}

function bars(box: Box, axis: Axis, slices: readonly SliceCount[], width: number, most: number): string[] {
  const perMs = box.width / (axis.to - axis.from);
  const paths: Record<(typeof WAYS)[number], string[]> = { direct: [], hub: [], lost: [] };
  for (const s of slices) {
    let bottom = box.y + box.height;
    const x = box.x + Math.max(0, s.at - axis.from) * perMs;
    const w = Math.min(width * perMs, box.x + box.width - x);
    for (const way of WAYS) {
      const h = Math.min((s[way] / most) * box.height, bottom - box.y);
      if (h <= 0) continue;
      paths[way].push(`M${n(x)} ${n(bottom)}v${n(-h)}h${n(w)}v${n(h)}z`);
      bottom -= h;
    }
  }
  return WAYS.flatMap((way) =>
    paths[way].length === 0 ? [] : [`<path fill="${COLOURS[way]}" d="${paths[way].join("")}"/>`],
  );
}

function frame(box: Box, axis: Axis, most: number, name: string, width: number): string[] {
  const out = [
    `<rect x="${n(box.x)}" y="${n(box.y)}" width="${n(box.width)}" height="${n(box.height)}" fill="none" stroke="#999"/>`,
    text(box.x + 4, box.y - 5, `${name}: packets per ${width} ms`),
    text(box.x - 6, box.y + 9, String(most), 'text-anchor="end"'),
    text(box.x - 6, box.y + box.height, "0", 'text-anchor="end"'),
  ];
  const span = (axis.to - axis.from) / 1000;
  const step = tickStep(span, box.width > 800 ? 12 : 5);
  const first = Math.ceil((axis.from - axis.zero) / 1000 / step);
  const last = Math.floor((axis.to - axis.zero) / 1000 / step);
  for (let i = first; i <= last; i++) {
    const x = box.x + ((i * step * 1000 + axis.zero - axis.from) / (axis.to - axis.from)) * box.width;
    const y = box.y + box.height;
    out.push(`<path d="M${n(x)} ${n(y)}v4" stroke="#555"/>`);
    out.push(
      text(
        x,
        y + 15,
        `${n(i * step * 10) === "0" ? "0" : Number((i * step).toFixed(3))} s`,
        'text-anchor="middle"',
      ),
    );
  }
  return out;
}

const eventLine = (box: Box, axis: Axis, at: number, label: string): string => {
  const x = box.x + ((at - axis.from) / (axis.to - axis.from)) * box.width;
  return `<path d="M${n(x)} ${n(box.y)}v${n(box.height)}" stroke="#000" stroke-dasharray="3 2"/>${text(x + 2, box.y + 11, label, 'font-weight="bold"')}`;
};

/**
 * The height of the axis: twice the middle slice, so that a sender's catching up does not flatten
 * the rest; it is cut off.
 */
export function height(slices: readonly SliceCount[]): number {
  const sent = slices.map((s) => s.sent).sort((a, b) => a - b);
  return Math.max(1, 2 * (sent[Math.floor(sent.length / 2)] ?? 0));
}

/**
 * Whether something happened to the packets soon after: they changed their way, or some were lost.
 */
function moved(slices: readonly SliceCount[], at: number): boolean {
  const near = slices.filter((s) => s.at >= at - BEFORE && s.at < at + AFTER);
  return near.some((s) => s.lost > 0) || (near.some((s) => s.hub > 0) && near.some((s) => s.direct > 0));
}

export function plot(input: PlotInput): string {
  const { zero } = input;
  const all = input.directions.flatMap((d) => d.slices);
  const from = all.reduce((t, s) => Math.min(t, s.at), Number.POSITIVE_INFINITY);
  const to = all.reduce((t, s) => Math.max(t, s.at), Number.NEGATIVE_INFINITY) + 10;
  const body: string[] = [];
  let y = 20;
  body.push(text(10, y, input.title, 'font-size="15" font-weight="bold"'));
  y += 18;
  body.push(text(10, y, input.subtitle));
  y += 14;
  for (const [i, way] of WAYS.entries()) {
    const x = 10 + i * 110;
    body.push(`<rect x="${x}" y="${y}" width="12" height="12" fill="${COLOURS[way]}"/>`);
    body.push(text(x + 17, y + 10, way === "hub" ? "via the hub" : way));
  }
  y += 40;
  if (all.length > 0) {
    const width = WIDTHS.find((w) => (to - from) / w <= BARS) ?? 5_000;
    const axis = { from, to, zero };
    for (const d of input.directions) {
      const wide = widen(d.slices, width);
      const most = height(wide);
      const box = { x: LEFT, y, width: WIDTH - LEFT - RIGHT, height: PANEL };
      body.push(...frame(box, axis, most, d.name, width), ...bars(box, axis, wide, width, most));
      body.push(...input.events.map((e, i) => eventLine(box, axis, e.at, String(i + 1))));
      y += PANEL + GAP + 16;
    }
  }
  for (const [i, e] of input.events.entries()) {
    body.push(text(LEFT, y, `${i + 1}   ${((e.at - zero) / 1000).toFixed(2)} s   ${e.name}`));
    y += 15;
  }
  const close = input.events
    .map((e, i) => ({ ...e, number: i + 1 }))
    .filter((e) => input.directions.some((d) => moved(d.slices, e.at)))
    .slice(0, CLOSE_UPS);
  if (close.length > 0) y += 26;
  const half = (WIDTH - LEFT - RIGHT - 70) / 2;
  for (const e of close) {
    const axis = { from: e.at - BEFORE, to: e.at + AFTER, zero };
    body.push(text(10, y - 20, `${e.number}   ${e.name}`, 'font-weight="bold"'));
    for (const [i, d] of input.directions.entries()) {
      const near = d.slices.filter((s) => s.at >= axis.from && s.at < axis.to);
      const box = { x: LEFT + i * (half + 70), y, width: half, height: 80 };
      const most = height(near);
      body.push(...frame(box, axis, most, d.name, 10), ...bars(box, axis, near, 10, most));
      body.push(eventLine(box, axis, e.at, String(e.number)));
    }
    y += 80 + 64;
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${n(y)}" viewBox="0 0 ${WIDTH} ${n(y)}" font-family="sans-serif" font-size="11">`,
    `<rect width="${WIDTH}" height="${n(y)}" fill="#fff"/>`,
    ...body,
    "</svg>\n",
  ].join("\n");
}
