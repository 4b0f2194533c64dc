/**
 * Faults of the network between the direct interfaces: cuts in both directions and in one, a small
 * MTU, another address of a spoke.
 */
import { SPOKE, type Spoke } from "../../site/triangle.js";
import type { Scenario, ScenarioRun } from "./scenario.js";

const cutAndHeal = async (
  run: ScenarioRun,
  directions: readonly (readonly [Spoke, Spoke])[],
  name: string,
) => {
  await run.step({
    name,
    ends: "hub",
    within: 500,
    lost: 1_000,
    dwell: 2_000,
    act: () => run.site.cut(directions),
  });
  for (const s of ["a", "c"] as const) {
    const dev = await run.site.dev(s);
    run.check(`${s.toUpperCase()}'s kernel sends via wg0`, dev === "wg0", dev);
  }
  await run.step({
    name: "the cut is healed",
    ends: "direct",
    patience: 90_000,
    lost: 0,
    dwell: 2_000,
    act: () => run.site.heal(),
  });
};

const cutBoth: Scenario = {
  name: "cut-both",
  description:
    "the underlay drops everything between the direct interfaces of A and C, both ways; later it is healed",
  script: (run) =>
    cutAndHeal(
      run,
      [
        ["a", "c"],
        ["c", "a"],
      ],
      "cut in both directions",
    ),
};

const cutOneWay: Scenario = {
  name: "cut-one-way",
  description: "the underlay drops what A's direct interface sends to C's; healed; then the other direction",
  script: async (run) => {
    await cutAndHeal(run, [["a", "c"]], "cut from A to C");
    await cutAndHeal(run, [["c", "a"]], "cut from C to A");
  },
};

const mtu: Scenario = {
  name: "mtu",
  description:
    "the underlay drops packets above 1,000 bytes between the direct interfaces: no flip, and explain says why",
  cold: true,
  script: async (run) => {
    await run.step({
      name: "large packets do not pass",
      ends: "hub",
      lost: 0,
      lasts: 20_000,
      act: () =>
        run.site.cut(
          [
            ["a", "c"],
            ["c", "a"],
          ],
          "meta length > 1000",
        ),
    });
    await run.becomes("explain on A names the full size", 15_000, async () =>
      (await run.site.explain("a")).includes("full size"),
    );
    run.figure("explain on A", (await run.site.explain("a")).replaceAll(/\s+/g, " "));
    await run.step({
      name: "large packets pass",
      ends: "direct",
      patience: 90_000,
      lost: 0,
      act: () => run.site.heal(),
    });
  },
};

const endpoint: Scenario = {
  name: "endpoint-change",
  description: "C's address in the underlay changes from 192.0.2.130 to 192.0.2.131",
  script: async (run) => {
    await run.step({
      name: "C's underlay address changes",
      ends: "direct",
      patience: 60_000,
      lost: 2_000,
      lasts: 5_000,
      act: () =>
        run.site.sh(
          "c",
          `ip address add 192.0.2.131/26 dev eth1; ip address del ${SPOKE.c.underlay}/26 dev eth1; ip address add 192.0.2.131/26 dev eth1 2>/dev/null; ip route replace default via 192.0.2.129`,
        ),
    });
    await run.becomes("A's peer has the new endpoint", 5_000, async () =>
      (await run.site.sh("a", "wg show shortcut0 endpoints")).includes("192.0.2.131:"),
    );
  },
};

export const underlay: readonly Scenario[] = [cutBoth, cutOneWay, mtu, endpoint];
