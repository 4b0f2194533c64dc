/** Each drawn picture is what doc/pictures/draw.js makes of its text file now. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { filesBelow, root, textOf } from "./markdown.js";

const names = filesBelow("doc/pictures", ".txt").map((p) => p.replace(/^.*\/|\.txt$/g, ""));

it("finds the pictures", () => expect(names).toContain("triangle"));

it.each(names)("%s", (name) => {
  const drawn = execFileSync("node", [join(root, "doc/pictures/draw.js"), name, "--print"], {
    encoding: "utf8",
  });
  const stale = `doc/pictures/${name}.svg is stale: node doc/pictures/draw.js ${name}`;
  expect(drawn === textOf(`doc/pictures/${name}.svg`), stale).toBe(true);
  expect(drawn).toContain("prefers-color-scheme: dark");
});
