/** The generated protobuf code in the tree is that of the schema in the tree. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

it("the static protobuf code is what `npm run proto` makes of proto/shortcutd.proto now", () => {
  const fresh = mkdtempSync(join(tmpdir(), "shortcutd-proto-"));
  try {
    execFileSync("sh", ["proto/generate.sh", fresh]);
    for (const file of ["shortcutd.js", "shortcutd.d.ts"]) {
      const built = readFileSync(join("plugin/wire/control/pb", file), "utf8");
      expect(built === readFileSync(join(fresh, file), "utf8"), `${file} is stale: npm run proto`).toBe(true);
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
});
