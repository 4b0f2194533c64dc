/**
 * Draws a picture of the documents: reads NAME.txt beside this file and writes NAME.svg. `node doc/pictures/draw.js NAME`
 * writes the file; `--print` writes to standard output instead. The text file describes its own format.
 */
import { readFileSync, writeFileSync } from "node:fs";

const BOX = { width: 84, height: 30 };
/** Distance between a line and the flow that follows it. */
const BESIDE = 7;

const STYLE = `
  text { font: 14px sans-serif; fill: #1f2328; text-anchor: middle; }
  .head { font-weight: bold; }
  .label { font-size: 12px; fill: #59636e; }
  .box { fill: #f6f8fa; stroke: #59636e; }
  .link { stroke: #8c959f; stroke-width: 2; fill: none; }
  .hub, .direct { stroke-width: 3; fill: none; stroke-linejoin: round; }
  .hub { stroke: #4a7ebb; }
  .direct { stroke: #3a9a4d; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .label { fill: #9198a1; }
    .box { fill: #212830; stroke: #9198a1; }
    .link { stroke: #656c76; }
    .hub { stroke: #79aee8; }
    .direct { stroke: #5cc773; }
  }`;

const xml = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const round = (n) => Math.round(n * 10) / 10;

/** Unit vector from one point to another, and the one to its left. */
function direction(from, to) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  return { x: (to.x - from.x) / length, y: (to.y - from.y) / length };
}

/** The corners of a line that runs beside the boxes' centres, on the right of its way. */
function beside(points) {
  return points.map((p, i) => {
    const before = i > 0 ? direction(points[i - 1], p) : undefined;
    const after = i < points.length - 1 ? direction(p, points[i + 1]) : undefined;
    const normals = [before, after].filter(Boolean).map((d) => ({ x: -d.y, y: d.x }));
    const sum = normals.reduce((a, n) => ({ x: a.x + n.x, y: a.y + n.y }), { x: 0, y: 0 });
    const scale = (BESIDE * normals.length) / (sum.x ** 2 + sum.y ** 2);
    return { x: p.x + sum.x * scale, y: p.y + sum.y * scale };
  });
}

function draw(source) {
  const boxes = new Map();
  const lines = [];
  const flows = [];
  const texts = [];
  let size = { width: 0, height: 0 };
  let title = "";
  for (const line of source.split("\n")) {
    const [word, ...rest] = line.split(" ");
    if (word === "title") title = rest.join(" ");
    else if (word === "size") size = { width: Number(rest[0]), height: Number(rest[1]) };
    else if (word === "box")
      boxes.set(rest[0], { x: Number(rest[1]), y: Number(rest[2]), text: rest.slice(3).join(" ") });
    else if (word === "path") {
      const [kind, from, to] = [rest[0], boxes.get(rest[1]), boxes.get(rest[2])];
      lines.push(`<path class="${kind}" d="M${from.x} ${from.y}L${to.x} ${to.y}"/>`);
      const across = from.y === to.y;
      const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
      const shift = from.x === to.x ? 48 : across ? 0 : from.x < to.x === from.y < to.y ? 26 : -26;
      texts.push(
        `<text class="label" x="${x + shift}" y="${y + (across ? -8 : 2)}">${xml(rest.slice(3).join(" "))}</text>`,
      );
    } else if (word === "flow") {
      const points = beside(rest.slice(1).map((name) => boxes.get(name)));
      const d = points.map((p, i) => `${i === 0 ? "M" : "L"}${round(p.x)} ${round(p.y)}`).join("");
      flows.push(`<path class="${rest[0]}" d="${d}"/>`);
    } else if (word === "text")
      texts.push(
        `<text class="${rest[0]}" x="${rest[1]}" y="${rest[2]}">${xml(rest.slice(3).join(" "))}</text>`,
      );
    else if (word !== "" && !line.startsWith("#")) throw new Error(`what is this? ${line}`);
  }
  const drawn = [...boxes.values()].map(
    ({ x, y, text }) =>
      `<rect class="box" rx="4" x="${x - BOX.width / 2}" y="${y - BOX.height / 2}" width="${BOX.width}" height="${BOX.height}"/><text x="${x}" y="${y + 5}">${xml(text)}</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" role="img">`,
    `<title>${xml(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    ...lines,
    ...flows,
    ...drawn,
    ...texts,
    "</svg>\n",
  ].join("\n");
}

const [name = "triangle", option] = process.argv.slice(2);
const svg = draw(readFileSync(new URL(`${name}.txt`, import.meta.url), "utf8"));
if (option === "--print") process.stdout.write(svg);
else writeFileSync(new URL(`${name}.svg`, import.meta.url), svg);
