/**
 * Shows that IPv6 may be off on one spoke, from the start or later: both ends agree where probes
 * go. BIRD on one spoke, FRR on the other.
 */
import { afterEach, describe, expect, it } from "vitest";
import { until } from "../../lab/runner/lab.js";
import type { Site } from "../../lab/site/site.js";
import { DIRECT, type Spoke } from "../../lab/site/triangle.js";
import { siteOf } from "./site.js";

let site: Site;
afterEach(() => site?.down());

const disable = (spoke: Spoke, dev: string, off: 0 | 1): Promise<string> =>
  site.sh(spoke, `sysctl -qw net.ipv6.conf.${dev}.disable_ipv6=${off}`);
const addresses6 = (spoke: Spoke): Promise<string> => site.sh(spoke, `ip -6 -o address show dev ${DIRECT}`);
/** The addresses at which a spoke receives probes. */
const probeSockets = (spoke: Spoke): Promise<string> =>
  site.sh(spoke, `ss -H -l -u -n | awk '{print $4}' | grep '%${DIRECT}.*:4243$' || true`);

describe.each(["a"] as const)("IPv6 on spoke %s", (spoke) => {
  it("is off: direct by overlay addresses; on, off and on again: direct each time", async () => {
    site = await siteOf("bird", "bird", "frr");
    await disable(spoke, "default", 1);
    await site.startAll();
    await site.traffic();
    await site.untilDirect();
    expect(await addresses6(spoke)).toBe("");
    expect(await probeSockets(spoke)).not.toContain("fe80");

    // the sockets follow; the path goes on as it was agreed
    await disable(spoke, DIRECT, 0);
    await until("the link-local address is back", 20_000, async () =>
      (await addresses6(spoke)).includes("fe80::"),
    );
    await until("probes are expected at it", 20_000, async () =>
      (await probeSockets(spoke)).includes("fe80"),
    );
    await site.untilDirect();
    await site.shortcutd(spoke).ctl("purge", "all");
    await until("a new shortcut", 30_000, async () => (await site.stage(spoke)) === "direct");
    await site.untilDirect();

    await disable(spoke, DIRECT, 1);
    await until("probes at the overlay address alone", 20_000, async () => {
      return !(await probeSockets(spoke)).includes("fe80");
    });
    await until("direct without IPv6", 30_000, async () => (await site.stage(spoke)) === "direct");
    await site.untilDirect();
  });
});
