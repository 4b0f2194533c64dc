/** A changed file for a running shortcutd: which keys take effect, which are named as needing a restart, and for how long. */
import { describe, expect, it } from "vitest";
import { Reloads } from "../../../plugin/config/reload.js";

const BASE = ["role: spoke", "overlay: wg0", "hubs: [10.255.0.1]", "daemon: bird", "bgp: { as: 65000 }"];
const text = (...more: string[]) => [...BASE, ...more, ""].join("\n");

function next(reloads: Reloads, file: string) {
  const r = reloads.next(file);
  if (!r.ok) throw new Error(JSON.stringify(r.error));
  return r.value;
}

describe("a reload", () => {
  it("of the same content changes nothing, however it is written", () => {
    const same = text("# a comment", "log: info", "trigger:", "  rate: 10000 kbit/s");
    expect(next(new Reloads(text()), same)).toMatchObject({ applied: [], needRestart: [] });
  });

  it("applies thresholds, timers and the log level", () => {
    const file = text("log: debug", "trigger: { rate: 1 Mbit/s, for: 1 s }", "timers: { idle: 2 min }");
    const r = next(new Reloads(text()), file);
    expect(r.applied).toEqual(["trigger.rate", "trigger.for", "timers.idle", "log"]);
    expect(r.needRestart).toEqual([]);
    expect(r.config.trigger.rate).toBe(1e6);
  });

  it("applies pins", () => {
    const key = `${"A".repeat(43)}=`;
    const r = next(new Reloads(text(`pins: { 10.255.0.4: ${key} }`)), text(`pins: { 10.255.0.5: ${key} }`));
    expect(r.applied).toEqual(["pins.10.255.0.4", "pins.10.255.0.5"]);
    expect(r.needRestart).toEqual([]);
    expect([...r.config.pins]).toEqual([["10.255.0.5", [key]]]);
  });

  it("names the keys that need a restart: changed, added and removed ones", () => {
    const started = new Reloads(text("address: 10.255.0.2", "direct: { port: 1234 }"));
    const r = next(
      started,
      text("direct: { port: 1235, max-round-trip: {} }", "deny-candidates: [10.0.0.0/8]"),
    );
    expect(r.applied).toEqual([]);
    expect([...r.needRestart].sort()).toEqual([
      "address",
      "deny-candidates",
      "direct.max-round-trip.margin",
      "direct.max-round-trip.ratio",
      "direct.port",
    ]);
  });

  it("needs a restart for another overlay interface, but not where the same is written as a list", () => {
    const other = (overlay: string) => text().replace("overlay: wg0", `overlay: ${overlay}`);
    expect(next(new Reloads(text()), other("[wg0]"))).toMatchObject({ applied: [], needRestart: [] });
    for (const overlay of ["[wg0, wg1]", '"wg0*"'])
      expect(next(new Reloads(text()), other(overlay)).needRestart).toEqual(["overlay"]);
  });

  it("names them at every reload until they are as they were at the start", () => {
    const reloads = new Reloads(text());
    const changed = text("consent: one-way", "log: warn");
    expect(next(reloads, changed)).toMatchObject({ applied: ["log"], needRestart: ["consent"] });
    expect(next(reloads, changed)).toMatchObject({ applied: [], needRestart: ["consent"] });
    expect(next(reloads, text())).toMatchObject({ applied: ["log"], needRestart: [] });
  });

  it("with an invalid file changes nothing", () => {
    const reloads = new Reloads(text());
    const r = reloads.next(text("log: loud"));
    expect(r).toMatchObject({ ok: false, error: [{ line: 6, key: "log" }] });
    expect(next(reloads, text("log: warn")).applied).toEqual(["log"]);
  });
});
