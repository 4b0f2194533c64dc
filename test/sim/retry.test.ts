/**
 * A path that failed and is whole again: both ends try at times of their own, and one that comes
 * too early must not put the other off.
 */
import { expect, it } from "vitest";
import { areDirect, areOnHub, checkedWorld, drive, until } from "./script.js";

it("is direct again after the pause of two seconds, nine times of ten without a second one", () => {
  const took = Array.from({ length: 60 }, (_, i) => {
    const { w, a, c } = checkedWorld({ seed: i + 1, spokes: 2, loss: 0 });
    drive(a, c);
    drive(c, a);
    until(w, 120_000, () => areDirect(a, c), 20);
    w.run(w.now + 1_000 + w.random() * 1_000);
    w.broken.add(w.linkKey(a, c));
    until(w, 5_000, () => areOnHub(a, c), 5);
    w.broken.clear();
    return until(w, 60_000, () => areDirect(a, c), 20);
  }).sort((x, y) => x - y);
  // drain, pause and a quarter of it, and what the simulation's daemons take
  expect(took[53]).toBeLessThan(5_000);
  expect(took.at(-1)).toBeLessThan(8_000);
});
