/** doc/examples/engine.ts runs, and a spoke registers at a hub in it. */
import { expect, it } from "vitest";
import { run } from "../../../doc/examples/engine.js";

it("the engine", () => {
  const said = run();
  expect(said.at(-1)).toMatch(/^\d+ ms: registered$/);
  // the first request has no cookie: the hub answers it without a peer
  expect(said.slice(0, 2)).toEqual(["0 ms: 10.255.0.1: send", "0 ms: 10.255.0.3: send"]);
  expect(said.some((l) => l.endsWith("10.255.0.3: peer"))).toBe(true);
});
