/** The word list of the spelling check is sorted and without repetition, so that two branches that add words merge. */
import { expect, it } from "vitest";
import { textOf } from "./markdown.js";

it("the project's words are sorted, in lower case, each once", () => {
  const words = textOf(".cspell/words.txt").trimEnd().split("\n");
  expect(words).toEqual([...new Set(words.map((w) => w.toLowerCase()))].sort());
});
