/**
 * Shows what follows when another program changes the interfaces of a router while the traffic goes direct: packets go via the hub, the
 * kernel's state is as shortcutd made it again, and the traffic is direct again, without a manual step. The direct interface on both
 * spokes; the overlay interface on a spoke and on the hub.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ScenarioSite } from "../../lab/plays/scenario/site.js";
import { until } from "../../lab/runner/lab.js";
import { DIRECT, other, type RouterName, type Spoke } from "../../lab/site/triangle.js";
import { eagerSite } from "./site.js";

/** Ten times what it takes on a machine that does nothing else. */
const SOON = 30_000;

let site: ScenarioSite;
beforeAll(async () => {
  site = await eagerSite();
  await site.startAll();
  await site.counted(400, 500);
  await site.untilDirect();
}, 120_000);
afterAll(() => site.down());

/** The direct interface as the kernel has it. Peers of shortcuts come and go with new ones. */
const DUMP = `ip -o -d link show dev ${DIRECT} | sed 's/^[0-9]*: //; s/ minmtu.*//'; ip -d link show dev ${DIRECT} | grep alias
  ip -o addr show dev ${DIRECT} | sed 's/^[0-9]*: //; s/ valid_lft.*//' | sort; ip -6 route show dev ${DIRECT} | grep fe80
  wg show ${DIRECT} private-key; wg show ${DIRECT} listen-port; wg show ${DIRECT} peers | sort
  cat /proc/sys/net/ipv6/conf/${DIRECT}/disable_ipv6 /proc/sys/net/ipv6/conf/${DIRECT}/accept_ra /proc/sys/net/ipv4/conf/${DIRECT}/rp_filter`;
const state = (router: RouterName): Promise<string> => site.sh(router, DUMP);

const aliases = (spoke: Spoke): Promise<string> =>
  site.sh(spoke, "ip -4 -N route show table all proto 99 metric 99");

/** Packets arrive each way, by whichever path: no black hole. */
async function flowing(): Promise<void> {
  const before = site.flows.read().map((d) => d.received);
  await until("packets arrive each way", SOON, () =>
    site.flows.read().every((d, i) => d.received > (before[i] ?? 0) + 20),
  );
}

async function againDirect(spoke: Spoke): Promise<void> {
  for (const s of [spoke, other(spoke)]) await site.untilDev(s, DIRECT, SOON);
  expect(await aliases(spoke)).toContain(`dev ${DIRECT}`);
  await until("packets go direct both ways", SOON, () => site.flows.ways().every((w) => w.way === "direct"));
}

const CHANGES = {
  "is set down": `ip link set ${DIRECT} down`,
  "is set down and up": `ip link set ${DIRECT} down; ip link set ${DIRECT} up`,
  "loses its addresses": `ip addr flush dev ${DIRECT}`,
  "loses its link-local address": `ip -6 addr flush dev ${DIRECT} scope link`,
  "gets a smaller MTU": `ip link set ${DIRECT} mtu 1300`,
  "gets an MTU without IPv6": `ip link set ${DIRECT} mtu 1200`,
  "gets another listen port": `wg set ${DIRECT} listen-port 5555`,
  "gets another private key": `wg genkey > /run/k; wg set ${DIRECT} private-key /run/k`,
  "loses its peers": `for p in $(wg show ${DIRECT} peers); do wg set ${DIRECT} peer $p remove; done`,
  "has IPv6 switched off": `sysctl -qw net.ipv6.conf.${DIRECT}.disable_ipv6=1`,
  "gets a strict rp_filter": `sysctl -qw net.ipv4.conf.${DIRECT}.rp_filter=1`,
  "is deleted": `ip link del ${DIRECT}`,
  "is renamed": `ip link set ${DIRECT} down; ip link set ${DIRECT} name other0`,
} as const;

describe.each(["a", "c"] as const)("the direct interface of spoke %s", (spoke) => {
  it.each(Object.entries(CHANGES))("%s", async (_, change) => {
    await againDirect(spoke);
    const before = await state(spoke);
    await site.sh(spoke, change);
    await flowing();
    await until(
      "the interface is as it was",
      SOON,
      async () => (await state(spoke).catch(String)) === before,
    );
    await againDirect(spoke);
    await flowing();
  });
});
