/** The plot and the catalogue of scenarios. */
import { describe, expect, it } from "vitest";
import { SCENARIOS, scenario } from "../../../../../lab/plays/scenario/catalogue.js";
import { height, plot, tickStep } from "../../../../../lab/plays/scenario/plot.js";
import { configured } from "../../../../../lab/site/site.js";
import { parseConfig } from "../../../../../plugin/config/config.js";

const slice = (at: number, way: "hub" | "direct" | "lost", sent = 20) => ({
  at,
  sent,
  hub: 0,
  direct: 0,
  lost: 0,
  duplicated: 0,
  [way]: sent,
});

const input = {
  title: "cut <both>",
  subtitle: "a & b",
  zero: 1_000,
  directions: [
    {
      name: "there",
      slices: [slice(1_000, "direct"), slice(1_010, "lost"), slice(1_020, "hub")],
    },
    { name: "back", slices: [slice(1_000, "hub"), slice(1_010, "hub"), slice(1_020, "hub", 500)] },
  ],
  events: [{ at: 1_010, name: 'the "cut"' }],
};

describe("the plot", () => {
  const svg = plot(input);

  it("draws one shape for each way that occurs, in each panel", () => {
    const shapes = (colour: string) => svg.split(`fill="${colour}" d=`).length - 1;
    // the overview and the close-up, each with both directions
    expect(shapes("#d62728")).toBe(2);
    expect(shapes("#3a9a4d")).toBe(2);
    expect(shapes("#4a7ebb")).toBe(4);
  });

  it("escapes what it was given", () => {
    expect(svg).toContain("cut &lt;both&gt;");
    expect(svg).toContain("a &amp; b");
    expect(svg).toContain("the &quot;cut&quot;");
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  it("is balanced markup", () => {
    const open: string[] = [];
    for (const [, close, name, self] of svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)) {
      if (self === "/") continue;
      if (close === "/") expect(open.pop()).toBe(name);
      else open.push(name ?? "");
    }
    expect(open).toEqual([]);
  });

  it("survives a run without a packet", () => {
    expect(plot({ ...input, directions: [{ name: "there", slices: [] }] })).not.toMatch(/NaN|Infinity/);
  });

  it("takes the axis from the middle slice, not from a burst", () => {
    expect(height([slice(0, "hub"), slice(10, "hub"), slice(20, "hub", 500)])).toBe(40);
  });

  it.each([
    [8, 12, 1],
    [1.2, 5, 0.5],
    [100, 12, 10],
  ])("marks %d s about %d times: every %d s", (span, count, step) => {
    expect(tickStep(span, count)).toBeCloseTo(step);
  });
});

describe("the catalogue", () => {
  it("has each name once, fit for a file name", () => {
    const names = SCENARIOS.map((s) => s.name);
    expect(new Set(names).size).toBe(names.length);
    for (const n of names) expect(n).toMatch(/^[a-z][a-z-]*$/);
    expect(scenario("cut-both")?.name).toBe("cut-both");
    expect(scenario("nothing-like-it")).toBeUndefined();
  });

  it("configures shortcutd with files that it accepts", () => {
    const file =
      "role: spoke\noverlay: wg0\nhubs: [10.255.0.3]\ndaemon: bird\nbgp: { as: 65000 }\ntrigger: { rate: 2 Mbit/s, for: 2 s } # low\n";
    for (const s of SCENARIOS)
      for (const lines of Object.values(s.configuration ?? {})) {
        const r = parseConfig(configured(file, lines));
        expect(r.ok ? "" : JSON.stringify(r.error), s.name).toBe("");
      }
  });

  it("puts a key in place of the lab's", () => {
    expect(configured("a: 1\nb: 2\n", ["b: 3", "c: 4"])).toBe("a: 1\nb: 3\nc: 4\n");
  });
});
