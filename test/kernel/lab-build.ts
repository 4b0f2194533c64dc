/**
 * JavaScript for tests that need it as programs: made from the sources as they are now, so that no
 * test runs against a stale build.
 */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** A directory with the JavaScript of these folders and all below them. */
export function build(...folders: readonly string[]): { dir: string; remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), "shortcutd-build-"));
  writeFileSync(join(dir, "package.json"), '{"type":"module"}');
  symlinkSync(join(root, "node_modules"), join(dir, "node_modules"));
  const compilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
  };
  for (const folder of folders)
    for (const name of readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })) {
      const [from, to] = [join(root, folder, name), join(dir, folder, name)];
      if (name.endsWith(".d.ts") || !/\.(ts|js)$/.test(name) || name.startsWith("out/")) continue;
      mkdirSync(dirname(to), { recursive: true });
      if (name.endsWith(".js")) copyFileSync(from, to);
      else
        writeFileSync(
          to.replace(/\.ts$/, ".js"),
          ts.transpileModule(readFileSync(from, "utf8"), { compilerOptions }).outputText,
        );
    }
  const remove = (): void => rmSync(dir, { recursive: true, force: true });
  // also when the test is interrupted
  process.once("exit", remove);
  return { dir, remove };
}
