/**
 * Shows what follows when another program changes the interfaces of a router while the traffic goes direct: packets go via the hub, the
 * kernel's state is as shortcutd made it again, and the traffic is direct again, without a manual step. The direct interface on both
 * spokes; the overlay interface on a spoke and on the hub.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ScenarioSite } from "../../lab/plays/scenario/site.js";
import { until } from "../../lab/runner/lab.js";
import { DIRECT, OVERLAY, other, type RouterName, type Spoke } from "../../lab/site/triangle.js";
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
  site.sh(spoke, "ip -4 -N route show table all proto 173 metric 99");

/** Packets arrive each way, by whichever path: no black hole. */
async function flowing(): Promise<void> {
  const before = site.flows.read().map((d) => d.received);
  await until("packets arrive each way", SOON, () =>
    site.flows.read().every((d, i) => d.received > (before[i] ?? 0) + 20),
  );
}

async function againDirect(spoke: Spoke): Promise<void> {
  for (const s of [spoke, other(spoke)]) await site.untilDev(s, DIRECT, SOON);
  await until("the alias leads to the direct interface", SOON, async () =>
    (await aliases(spoke)).includes(`dev ${DIRECT}`),
  );
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

/** As `wg-quick down; wg-quick up` does it: another interface of the same name, key, peers and addresses. */
const remade = (pause: number): string => `
  wg showconf ${OVERLAY} > /run/${OVERLAY}.conf; ip -o addr show dev ${OVERLAY} | awk '{print $4}' > /run/${OVERLAY}.addresses
  ip link del ${OVERLAY}; while [ -e /sys/class/net/${OVERLAY} ] || [ -e /run/wireguard/${OVERLAY}.sock ]; do sleep 0.05; done; sleep ${pause}
  ip link add ${OVERLAY} type wireguard 2> /dev/null || wireguard-go ${OVERLAY} < /dev/null > /var/log/wireguard-go.again 2>&1
  echo 1 > /proc/sys/net/ipv6/conf/${OVERLAY}/addr_gen_mode; wg setconf ${OVERLAY} /run/${OVERLAY}.conf
  while read -r a; do case $a in *:*) ip addr add $a dev ${OVERLAY} nodad ;; *) ip addr add $a dev ${OVERLAY} ;; esac; done < /run/${OVERLAY}.addresses
  ip link set ${OVERLAY} mtu 1420 up`;

/** The interface that the control socket is bound to, by its index and name as the kernel has them now. */
const bound = (router: RouterName): Promise<string> =>
  site.sh(router, `ss -H -u -l -n 'sport = :4243' | grep -o '10.255.0.[0-9]*%[a-z0-9]*:4243' | sort -u`);

async function boundAgain(router: RouterName): Promise<void> {
  await until("the control socket is bound to the overlay", SOON, async () =>
    (await bound(router)).includes(`%${OVERLAY}:`),
  );
}

async function problem(router: RouterName, text: string): Promise<void> {
  await until(`status says: ${text}`, SOON, async () =>
    ((await site.status(router))?.problems ?? []).some((p) => p.reason.includes(text)),
  );
}

/** The daemons connect again now. By themselves they wait: for the hold time to end, and BIRD a minute after that. */
async function reconnect(): Promise<void> {
  await site.sh("b", "for p in spoke_a spoke_a6 spoke_c spoke_c6; do birdc restart $p; done");
  await site.sh("a", "birdc restart hub; birdc restart hub6");
  await site.sh("c", "vtysh -c 'clear bgp *'");
}

async function registeredAgain(router: RouterName): Promise<void> {
  await boundAgain(router);
  await reconnect();
  await until(
    "nothing is wrong any more",
    SOON,
    async () => (await site.status(router))?.problems.length === 0,
  );
  await site.untilRegistered();
}

describe.each(["a", "c", "b"] as const)("the overlay interface of router %s", (router) => {
  const spoke = router === "b" ? "a" : router;
  const address = { a: "10.255.0.1/24", b: "10.255.0.3/24", c: "10.255.0.2/24" }[router];

  it("is made again: the control socket follows, it is registered and direct again", async () => {
    await againDirect(spoke);
    const began = Date.now();
    await site.sh(router, remade(0));
    await registeredAgain(router);
    // a new attempt needs the hub, and both ends
    await site.shortcutd(spoke).ctl("purge", "all");
    await until("a new shortcut", SOON, () => site.shortcutd(spoke).event("resolved", began) !== undefined);
    await againDirect(spoke);
    await flowing();
  });

  it("is away for a while: status and explain name it, not the hub", async () => {
    await againDirect(spoke);
    const began = Date.now();
    const back = site.sh(router, remade(6));
    await problem(router, `the overlay interface ${OVERLAY} does not exist`);
    if (router !== "b") {
      expect(await site.explain(spoke)).toContain(`the overlay interface ${OVERLAY} does not exist`);
      const hubs = (await site.status(router))?.hubs ?? [];
      expect(hubs.map((h) => h.problem)).toEqual([`the overlay interface ${OVERLAY} does not exist`]);
    }
    await back;
    await registeredAgain(router);
    await site.shortcutd(spoke).ctl("purge", "all");
    await until("a new shortcut", SOON, () => site.shortcutd(spoke).event("resolved", began) !== undefined);
    await againDirect(spoke);
  });

  it("loses this router's address, and gets it back", async () => {
    await againDirect(spoke);
    await site.sh(router, `ip addr del ${address} dev ${OVERLAY}`);
    await problem(router, `is not on ${OVERLAY}, nor on another interface that is up`);
    await site.sh(router, `ip addr add ${address} dev ${OVERLAY}`);
    await registeredAgain(router);
    await againDirect(spoke);
    await flowing();
  });

  it("is renamed, and gets its name back", async () => {
    await againDirect(spoke);
    await site.sh(router, `ip link set ${OVERLAY} down; ip link set ${OVERLAY} name other0`);
    await problem(router, `the overlay interface ${OVERLAY} does not exist`);
    await site.sh(
      router,
      `ip link set other0 name ${OVERLAY}; ip link set ${OVERLAY} up; for a in $(cat /run/${OVERLAY}.addresses); do case $a in *:*) ip addr add $a dev ${OVERLAY} nodad 2> /dev/null ;; esac; done; true`,
    );
    await registeredAgain(router);
    await againDirect(spoke);
    await flowing();
  });
});

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
