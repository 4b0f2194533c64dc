/** The catalogue of daemon versions: what the README says was tried is what is run. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { VERSIONS, version } from "../../../../../lab/plays/versions/catalogue.js";

const file = (path: string): string => fileURLToPath(new URL(`../../../../../${path}`, import.meta.url));

describe("versions of the daemons", () => {
  it("are in the README's table, and no others", () => {
    const rows = readFileSync(file("README.md"), "utf8").matchAll(/^\| ((?:bird|frr)-\S+) \|/gm);
    expect([...rows].map((m) => m[1]).sort()).toEqual(VERSIONS.map((v) => v.name).sort());
  });

  it("are found by name; another name is told what there is", () => {
    expect(version("bird-3.4")).toMatchObject({ daemon: "bird", suite: "sid", package: "bird3" });
    expect(() => version("bird-1")).toThrow("no version bird-1; there are bird-2.0.12, ");
  });

  it.each([
    "lab/plays/versions/root.sh",
    "lab/plays/guest/kernel.sh",
    "lab/plays/guest/init",
    "lab/topologies/triangle/daemon.sh",
  ])("%s is valid shell", (path) => {
    expect(() => execFileSync("sh", ["-n", file(path)])).not.toThrow();
  });
});
