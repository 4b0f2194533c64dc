/**
 * The main job on real daemons, by the story that `npm run lab` tells: over the threshold,
 * resolved, offered, selected, tunnel, flip; refused by the operator's policy, back; allowed, again
 * direct; stopped. Each step is confirmed in the kernel by the story itself; here its report is
 * held against the design's invariants.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Report, renderFailure } from "../../lab/plays/story/report.js";
import { runStory } from "../../lab/plays/story/run.js";
import { STEPS } from "../../lab/plays/story/steps.js";
import { type Programs, programsIn } from "../../lab/site/shortcutd.js";
import { build } from "./lab-build.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const topology = join(root, "lab/topologies/triangle.clab.yml");

const phase = (r: Report, name: string) => {
  const found = r.phases.find((p) => p.name === name);
  if (found === undefined) throw new Error(`no phase ${name}: ${r.phases.map((p) => p.name).join(", ")}`);
  return found;
};
const at = (r: Report, part: string, id: string): number =>
  r.steps.find((s) => s.part === part && s.id === id)?.at ?? Number.NaN;

describe("the main job", () => {
  let dir: string;
  let programs: Programs;
  let remove: (() => void) | undefined;
  beforeAll(() => {
    const pb = "plugin/wire/control/pb";
    if (!existsSync(join(root, pb))) throw new Error(`${pb} is missing: run npm run proto`);
    ({ dir, remove } = build("plugin", "lab"));
    programs = programsIn(dir);
  });
  afterAll(() => remove?.());

  it.each([
    ["bird", "frr", "bird"],
    ["frr", "bird", "frr"],
    ["bird", "bird", "frr"],
  ] as const)(
    "spokes %s, hub %s, %s",
    async (a, b, c) => {
      const lines: string[] = [];
      const out = join(dir, `out-${a}-${b}-${c}`);
      const { report } = await runStory({
        topology,
        daemons: { a, b, c },
        programs,
        out,
        onLine: (line) => lines.push(line),
        repetitions: 0,
      });
      expect(report.failures.map(renderFailure)).toEqual([]);
      expect(report.leftBehind).toEqual([]);
      expect(report.result).toBe("ok");
      expect(JSON.parse(readFileSync(join(out, "report.json"), "utf8"))).toEqual(report);
      expect(report.steps.map((s) => `${s.part}/${s.id}`)).toEqual(STEPS.map((s) => `${s.part}/${s.id}`));
      for (const s of report.steps) expect(lines.some((l) => l.includes(s.title))).toBe(true);

      // Subordination: every sample, on every router, before, during and after.
      expect(report.subordination.violations).toEqual([]);
      for (const router of ["a", "b", "c"] as const)
        expect(report.subordination.samples[router]).toBeGreaterThan(200);
      expect(report.subordination.withShortcut.a).toBeGreaterThan(50);
      expect(report.subordination.withShortcut.c).toBeGreaterThan(50);
      expect(report.subordination.withShortcut.b).toBe(0);
      expect(report.refusal).toMatch(/refused/);

      // No packet is there twice, and the flips lose next to none: a busy machine's own losses
      // are let pass.
      for (const p of report.phases)
        for (const d of p.directions) {
          expect(d.duplicated).toBe(0);
          expect(d.lost, p.name).toBeLessThan(Math.max(100, d.sent * 0.03) + p.fullBuffers);
        }
      // The hub carries it, then not, then again.
      for (const [name, way] of [
        ["via the hub", "hub"],
        ["direct", "direct"],
        ["refused, via the hub", "hub"],
        ["direct again", "direct"],
      ] as const) {
        const { byHub, direct, directions } = phase(report, name);
        const sent = directions.reduce((n, d) => n + d.sent, 0);
        expect(sent).toBeGreaterThan(2_000);
        expect(way === "hub" ? byHub : direct).toBeGreaterThan(sent * 0.85);
        expect(way === "hub" ? direct : byHub).toBeLessThan(sent * 0.05);
      }
      expect(at(report, "appears", "flipped")).toBeLessThan(5);
      expect(at(report, "goes", "peer-gone")).toBeLessThan(10);
      expect(report.leftBehind).toEqual([]);
    },
    90_000,
  );

  it("notices a peer that no daemon has selected", async () => {
    // Stands in for a shortcutd that makes a tunnel too early: on A a peer appears as soon as there
    // is an interface, and again whenever it was removed.
    const early = join(dir, "early.js");
    const rogue = Buffer.alloc(32, 7).toString("base64");
    writeFileSync(
      early,
      `import { hostname } from "node:os";
import { spawnSync } from "node:child_process";
setInterval(() => {
  if (hostname() === "a") spawnSync("wg", ["set", "shortcut0", "peer", "${rogue}"]);
}, 50);
await import("./plugin/main.js");
`,
    );
    const { report } = await runStory({
      topology,
      daemons: { a: "bird", b: "bird", c: "bird" },
      programs: { ...programs, shortcutd: early },
      out: join(dir, "out-early"),
      repetitions: 0,
    });
    expect(report.result).toBe("failed");
    expect(report.failures).toContainEqual(
      expect.objectContaining({ step: "no peer without the daemon's selection", router: "a" }),
    );
    expect(report.subordination.violations.length).toBeGreaterThan(20);
    expect(report.subordination.violations.every((v) => v.router === "a")).toBe(true);
  }, 90_000);

  it("says which step did not happen, where, and what explain says", async () => {
    const { report } = await runStory({
      topology,
      daemons: { a: "bird", b: "bird", c: "bird" },
      programs,
      out: join(dir, "out-quiet"),
      repetitions: 0,
      // 0.1 Mbit/s, below the threshold.
      rate: 100,
      size: 100,
    });
    expect(report.result).toBe("failed");
    expect(report.steps).toEqual([]);
    expect(report.failures).toMatchObject([
      {
        part: "appears",
        step: "throughput over threshold",
        router: "a",
        explain: expect.stringMatching(/below threshold/),
      },
    ]);
    expect(report.subordination.withShortcut).toEqual({ a: 0, b: 0, c: 0 });
  }, 90_000);

  it("says that shortcutd did not start, and what it said", async () => {
    const broken = join(dir, "broken.js");
    writeFileSync(broken, 'console.error("shortcutd: no such luck"); process.exit(2);\n');
    const { report } = await runStory({
      topology,
      daemons: { a: "bird", b: "bird", c: "bird" },
      programs: { ...programs, shortcutd: broken },
      out: join(dir, "out-broken"),
      repetitions: 0,
    });
    expect(report.result).toBe("failed");
    expect(report.failures).toMatchObject([{ part: "start", router: "a" }]);
    expect(report.failures[0]?.problem).toContain("no such luck");
  }, 90_000);
});
