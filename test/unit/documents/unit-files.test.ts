/** The systemd units: both say the same, and `systemd-analyze security` finds little exposed, where it is installed. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { root, textOf } from "./markdown.js";

const UNITS = ["doc/shortcutd.service", "doc/shortcutd@.service"] as const;
const DROP_IN = "doc/shortcutd.service.d/wireguard-go.conf";
const settings = (path: string): string[] =>
  textOf(path)
    .split("\n")
    .filter((l) => /^[A-Z]\w+=/.test(l));

/** The version of systemd-analyze; undefined where there is none that reads unit files by itself (250). */
function version(): number | undefined {
  try {
    const text = execFileSync("systemd-analyze", ["--version"], { encoding: "utf8" });
    const found = Number(/^systemd (\d+)/.exec(text)?.[1]);
    return found >= 250 ? found : undefined;
  } catch {
    return undefined;
  }
}
const VERSION = version();

function exposure(unit: string): number {
  const directory = mkdtempSync(join(tmpdir(), "unit-"));
  try {
    // the instance's name stands for itself
    const file = join(directory, unit.includes("@") ? "shortcutd@red.service" : "shortcutd.service");
    copyFileSync(join(root, unit), file);
    const text = execFileSync("systemd-analyze", ["security", "--offline=true", "--no-pager", file], {
      encoding: "utf8",
    });
    return Number(/Overall exposure level for \S+: ([\d.]+)/.exec(text)?.[1]);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

it("the unit and its instances differ in names alone", () => {
  const [one, instance] = UNITS.map((u) =>
    settings(u).filter((l) => !/^(Description|ExecStart|RuntimeDirectoryPreserve)=/.test(l)),
  );
  expect(instance).toEqual(one);
});

it("the file for wireguard-go adds one capability to those of the unit", () => {
  const of = (path: string, key: string): string[] => settings(path).filter((l) => l.startsWith(`${key}=`));
  for (const key of ["AmbientCapabilities", "CapabilityBoundingSet"]) {
    expect(of(UNITS[0], key)).toEqual([`${key}=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_NICE`]);
    expect(of(DROP_IN, key)).toEqual([`${key}=CAP_DAC_OVERRIDE`]);
  }
});

it.runIf(VERSION !== undefined).each(UNITS)("systemd-analyze rates %s below 3, as documented", (unit) => {
  const found = exposure(unit);
  expect(found).toBeLessThan(3);
  if (VERSION === 252) expect(textOf("doc/security.md")).toContain(`gives it ${found} of 10`);
});
