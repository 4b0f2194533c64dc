/**
 * The triangle with a newer BIRD and a newer FRR than this Debian has, each in a Debian root of its
 * own: what `npm run test:versions` does for every version of the catalogue. Where Debian's mirror
 * does not have one, the test is skipped and says why.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { version } from "../../lab/plays/versions/catalogue.js";
import { runVersion } from "../../lab/plays/versions/run.js";
import { programs } from "./site.js";
import { note } from "./starved.js";

const repository = fileURLToPath(new URL("../..", import.meta.url));

it.for(["bird-3.1", "frr-10.3"])(
  "%s: checks, direct, policy away, policy back, stop",
  // building a root takes half of it, on a machine that has none
  { timeout: 400_000 },
  async (name, { skip }) => {
    const out = mkdtempSync(join(tmpdir(), "shortcutd-versions-"));
    try {
      const r = await runVersion(version(name), { repository, programs, out });
      if (r.kind === "skipped") {
        console.warn(`skipped: ${name}: ${r.reason}`);
        return skip(r.reason);
      }
      for (const x of r.report?.repetitions ?? []) note(x);
      expect(r.problems).toEqual([]);
      expect(Object.values(r.columns)).toEqual([true, true, true, true, true]);
      expect(r.report?.subordination.violations).toEqual([]);
      expect(r.report?.leftBehind).toEqual([]);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  },
);
