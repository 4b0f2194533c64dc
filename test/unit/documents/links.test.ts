/** Every relative link of every document leads to a file that is there, and every anchor to a heading. */
import { existsSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, it } from "vitest";
import { anchorsOf, documents, linksOf, root, textOf } from "./markdown.js";

const external = (target: string): boolean => /^[a-z]+:/.test(target);

describe("links", () => {
  it("finds the documents", () => {
    for (const d of ["README.md", "doc/glossary.md", "lab/README.md"]) expect(documents()).toContain(d);
  });

  it.each(documents())("%s", (path) => {
    const wrong: string[] = [];
    for (const link of linksOf(textOf(path)).filter((t) => !external(t))) {
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? path : normalize(join(dirname(path), file));
      if (!existsSync(join(root, target))) wrong.push(`${link}: no such file`);
      else if (anchor !== undefined && !anchorsOf(textOf(target)).has(anchor))
        wrong.push(`${link}: no such heading`);
    }
    expect(wrong).toEqual([]);
  });

  it("says what an anchor is made of", () => {
    const text = "# One, two\n## `x` & _y_\n## One, two\n```\n# not a heading\n```\n";
    expect([...anchorsOf(text)]).toEqual(["one-two", "x--_y_", "one-two-1"]);
  });
});
