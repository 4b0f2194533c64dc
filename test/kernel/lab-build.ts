/**
 * JavaScript of the lab's programs for tests that need them as programs: made from the sources as they are now, so that
 * no test runs against a stale build.
 */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A directory with `lab/*.js` and what they import. */
export function buildLab(): { dir: string; remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), "shortcutd-build-"));
  writeFileSync(join(dir, "package.json"), '{"type":"module"}');
  symlinkSync(join(root, "node_modules"), join(dir, "node_modules"));
  const compilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
  };
  for (const part of ["lab", "plugin/net"]) {
    mkdirSync(join(dir, part), { recursive: true });
    for (const file of readdirSync(join(root, part)).filter((f) => f.endsWith(".ts"))) {
      const { outputText } = ts.transpileModule(readFileSync(join(root, part, file), "utf8"), {
        compilerOptions,
      });
      writeFileSync(join(dir, part, file.replace(/\.ts$/, ".js")), outputText);
    }
  }
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}
