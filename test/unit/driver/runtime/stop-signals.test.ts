/** A repeated signal to stop is ignored for five seconds, and then ends a stop that hangs. */
import { expect, it } from "vitest";
import { STOP_PATIENCE, StopSignals } from "../../../../plugin/driver/runtime/stop-signals.js";

it("the first stops, a repetition is ignored, one after the patience gives up", () => {
  const signals = new StopSignals();
  expect(signals.received(1_000)).toBe("stop");
  expect(signals.received(1_000)).toBe("ignore");
  expect(signals.received(1_000 + STOP_PATIENCE - 1)).toBe("ignore");
  expect(signals.received(1_000 + STOP_PATIENCE)).toBe("give-up");
});
