/** The source guard follows the overlay interface that leads to the hub in use, and drops while there is none. */
import { beforeEach, describe, expect, it } from "vitest";
import { SourceGuard } from "../../../../plugin/driver/kernel/source-guard.js";
import { PortError } from "../../../../plugin/driver/ports.js";
import { address, hostPrefix, prefix } from "../../../../plugin/net/address.js";

const SELF = hostPrefix(address("10.255.1.1"));
const OWN = [prefix("10.1.0.0/24")];
const divertSpec = { vrf: undefined, mark: 0x20000000, table: 4243, priority: 900, protocol: 173 };

let to: string | undefined;
let done: string[];
let fails: boolean;
let problems: string[];
let guard: SourceGuard;

/** Lets the queued changes run, and returns what they were. */
async function changes(): Promise<string[]> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
  return done.splice(0);
}

beforeEach(() => {
  to = "wg-hub1";
  done = [];
  problems = [];
  fails = false;
  guard = new SourceGuard(
    {
      set: async (spec) => {
        if (fails) throw new PortError("nftables", "no such device");
        done.push(
          `guard ${spec.direct} ${spec.to ?? "drop"} ${spec.mark ?? "unmarked"} ${spec.sources.join(" ")}`,
        );
      },
      intact: async () => true,
      unattestedSources: async () => [{ source: address("10.77.0.1"), packets: 3 }],
      remove: async () => void done.push("no guard"),
    },
    {
      ensure: async (spec) => void done.push(`divert ${spec.to ?? "nowhere"}`),
      remove: async () => void done.push("no divert"),
    },
    divertSpec,
    "shortcut0",
    () => to,
    [SELF],
    (place, text) => problems.push(`${place}: ${text}`),
  );
});

const guardTo = (dev: string): string =>
  `guard shortcut0 ${dev} 536870912 10.1.0.0/24 10.255.1.1/32 fe80::/10`;

describe("the source guard", () => {
  it("is made when the hub has told the own prefixes, and not before", async () => {
    guard.routesChanged();
    expect(await changes()).toEqual([]);
    guard.attested(OWN);
    expect(await changes()).toEqual(["divert wg-hub1", guardTo("wg-hub1")]);
  });

  it("restores rule and route at each change of routes, and is set again only for another interface", async () => {
    guard.attested(OWN);
    await changes();
    guard.routesChanged();
    expect(await changes()).toEqual(["divert wg-hub1"]);
    to = "wg-hub2";
    guard.routesChanged();
    expect(await changes()).toEqual(["divert wg-hub2", guardTo("wg-hub2")]);
    guard.routesChanged();
    expect(await changes()).toEqual(["divert wg-hub2"]);
  });

  it("drops while there is no overlay interface, and hands over again when there is one", async () => {
    guard.attested(OWN);
    await changes();
    to = undefined;
    guard.routesChanged();
    expect(await changes()).toEqual(["divert nowhere", guardTo("drop")]);
    to = "wg-hub1";
    guard.routesChanged();
    expect(await changes()).toEqual(["divert wg-hub1", guardTo("wg-hub1")]);
  });

  it("tries again when it could not be set: the interface had just gone", async () => {
    guard.attested(OWN);
    await changes();
    to = "wg-hub2";
    fails = true;
    guard.routesChanged();
    expect(await changes()).toEqual(["divert wg-hub2"]);
    expect(problems).toEqual([expect.stringContaining("no such device")]);
    fails = false;
    guard.routesChanged();
    expect(await changes()).toEqual(["divert wg-hub2", guardTo("wg-hub2")]);
  });

  it("names the sources that it keeps on the overlay once", async () => {
    await guard.read();
    await guard.read();
    expect(problems).toEqual([
      "source guard: 10.77.0.1 is not a source that the hub attests for this router: its packets go via the overlay; announce its prefix to the hub and allow it there",
    ]);
  });
});
