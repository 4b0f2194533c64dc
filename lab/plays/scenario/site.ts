/**
 * The triangle for scenarios: what an operator, a fault or the weather can do to it, which way its
 * packets come, and what of them nobody should have seen.
 */

import { until } from "../../runner/lab.js";
import { fullBuffers } from "../../site/buffer-drops.js";
import { decodeCounters } from "../../site/counters.js";
import { Site } from "../../site/site.js";
import {
  birdPolicy,
  DIRECT,
  DIRECT_PORT,
  frrPolicy,
  OVERLAY,
  type RouterName,
  SPOKE,
  SPOKES,
  type Spoke,
} from "../../site/triangle.js";
import type { Flows } from "../../traffic/flows.js";
import { outcomeOf, type PathOutcomes } from "./outcome.js";

const POLICY_FILE = "/etc/bird/shortcut/policy.conf";
const BIRD =
  "bird -u bird -g bird -c /etc/bird/bird.conf -s /run/bird/bird.ctl -P /run/bird/bird.pid < /dev/null > /var/log/bird.out 2>&1";

/**
 * Counts packets of the sites that appear on the underlay as they are, by the router that sent them
 * there.
 */
const CLEAR = `table ip clear {
  counter a {}
  counter c {}
  set sites { type ipv4_addr; flags interval; elements = { 10.1.0.0/24, 10.3.0.0/24 }; }
  chain see {
    type filter hook prerouting priority -300;
    ip daddr @sites iifname eth1 counter name a
    ip daddr @sites iifname eth3 counter name c
  }
}
`;

export class ScenarioSite extends Site {
  protected override async prepare(): Promise<void> {
    await this.lab.node("inet").must(["nft", "-f", "-"], { input: CLEAR });
    await this.markWays();
    await super.prepare();
  }

  signal(router: RouterName, signal: NodeJS.Signals): Promise<void> {
    return this.shortcutd(router).signal(signal);
  }

  // ------------------------------------------------------------------------------------------
  // traffic

  /** The flow of which an account is kept, way by way. */
  counted(rate: number, size: number): Promise<Flows> {
    return this.traffic(rate, size, { paths: 10 });
  }

  /**
   * A second pair of flows, which no account is kept of, to be held and let go: what keeps a
   * shortcut in use.
   */
  bulk(rate: number, size: number): Promise<Flows> {
    return this.startFlows({ rate, size, port: 7001, flows: [3, 4] });
  }

  /** Packets come by these ways. */
  async untilWays(ends: PathOutcomes, ms: number): Promise<void> {
    const since = Date.now();
    const before = this.flows.read();
    const wanted = [outcomeOf(ends, 0), outcomeOf(ends, 1)];
    try {
      await until(`packets come via the ${wanted.join(" and ")} path (A to C, C to A)`, ms, () =>
        this.flows.ways().every((w, i) => {
          if (wanted[i] === "any") return true;
          // a way without packets any more does not count
          const arriving = (this.flows.read()[i]?.received ?? 0) > (before[i]?.received ?? 0);
          return arriving && w.at > since + 100 && w.way === wanted[i];
        }),
      );
    } catch (e) {
      const said = await Promise.all(SPOKES.map((s) => this.explain(s).catch(() => "nothing")));
      const problem = e instanceof Error ? e.message : String(e);
      throw new Error(`${problem}; A says: ${said[0]}; C says: ${said[1]}`);
    }
  }

  /** Lets both directions run for this many milliseconds, by the packets that were sent. */
  async run(ms: number, rate: number): Promise<void> {
    const before = this.flows.read();
    const more = (ms * rate) / 1000;
    await until(`${more} packets more each way`, ms * 3 + 10_000, () =>
      this.flows.read().every((d, i) => d.sent >= (before[i]?.sent ?? 0) + more),
    );
  }

  // ------------------------------------------------------------------------------------------
  // kernel state

  /** Overrides: routes of shortcutd with metric 1. */
  async overrides(spoke: Spoke): Promise<string> {
    return (await this.sh(spoke, "ip -4 -N route show proto 173; ip -6 -N route show proto 173"))
      .split("\n")
      .filter((l) => / metric 1( |$)/.test(l))
      .join("; ");
  }

  /** Packets between the sites that a spoke sent to the underlay in the clear. */
  async inTheClear(spoke: Spoke): Promise<number> {
    const json = await this.lab.node("inet").must(["nft", "-j", "list", "counters", "table", "ip", "clear"]);
    return decodeCounters(json)[spoke] ?? Number.NaN;
  }

  fullBuffers(): number {
    return fullBuffers(this.lab);
  }

  // ------------------------------------------------------------------------------------------
  // faults

  /**
   * Drops, in the underlay, what the direct interface of `from` sends to that of `to`, by nftables
   * expressions in addition.
   */
  async cut(directions: readonly (readonly [Spoke, Spoke])[], and = ""): Promise<void> {
    const rules = directions.map(
      ([from, to]) =>
        `ip saddr ${SPOKE[from].underlay} ip daddr ${SPOKE[to].underlay} udp dport ${DIRECT_PORT} ${and} drop;`,
    );
    const input = `table ip cut {\n chain cut { type filter hook forward priority -10; ${rules.join(" ")} }\n}\n`;
    await this.lab.node("inet").must(["nft", "-f", "-"], { input });
  }

  async heal(): Promise<void> {
    await this.lab.node("inet").must(["nft", "delete", "table", "ip", "cut"]);
  }

  /** The hub carries and says nothing on the overlay any more, and lives on otherwise. */
  async silenceHub(): Promise<void> {
    const input = `table inet silent {
      chain forward { type filter hook forward priority -300; drop; }
      chain input { type filter hook input priority -300; iifname ${OVERLAY} drop; }
      chain output { type filter hook output priority -300; oifname ${OVERLAY} drop; }
    }`;
    await this.lab.node("b").must(["nft", "-f", "-"], { input });
  }

  async policy(spoke: Spoke, refused: boolean): Promise<void> {
    const node = this.lab.node(spoke);
    if (this.daemon(spoke) === "frr") await node.must(frrPolicy(refused));
    else {
      node.writeFile(POLICY_FILE, birdPolicy(node.readFile(POLICY_FILE), refused));
      await node.must(["birdc", "configure"]);
    }
  }

  async killDaemon(spoke: Spoke, which: "bird" | "bgpd" | "zebra"): Promise<void> {
    const file = which === "bird" ? "/run/bird/bird.pid" : `/run/frr/${which}.pid`;
    await this.sh(spoke, `kill -9 $(cat ${file})`);
  }

  async restartDaemon(spoke: Spoke, which: "bird" | "bgpd" | "zebra"): Promise<void> {
    if (which === "bird") await this.sh(spoke, BIRD);
    else {
      await this.sh(
        spoke,
        `/usr/lib/frr/${which} -d -A 127.0.0.1 < /dev/null > /var/log/frr/${which}.again 2>&1; vtysh -b < /dev/null > /dev/null 2>&1 || true`,
      );
    }
  }

  /** wireguard-go of one interface. */
  async killWireGuard(router: RouterName, dev: string): Promise<void> {
    await this.sh(router, `kill -9 $(pgrep -x -f 'wireguard-go ${dev}')`);
  }

  /**
   * The hub as after its power failed and came back: none of its processes' state is left, its keys
   * and files are.
   */
  async rebootHub(): Promise<void> {
    await this.end("b", "SIGKILL");
    const daemon = this.daemon("b");
    await this.sh(
      "b",
      daemon === "bird"
        ? "kill -9 $(cat /run/bird/bird.pid)"
        : "for d in bgpd staticd zebra; do kill -9 $(cat /run/frr/$d.pid); done",
    );
    await this.sh(
      "b",
      `wg showconf ${OVERLAY} | grep -v ^Endpoint > /run/${OVERLAY}.conf; for d in ${OVERLAY} ${DIRECT}; do kill -9 $(pgrep -x -f "wireguard-go $d") || true; done; nft flush ruleset`,
    );
    await until("the hub's interfaces are gone", 5_000, async () => {
      const links = await this.sh("b", "ip -br link");
      return !links.includes(OVERLAY) && !links.includes(DIRECT);
    });
    await this.sh(
      "b",
      `ip route flush proto bird; ip route flush proto bgp; wireguard-go ${OVERLAY} < /dev/null > /var/log/wireguard-go.again 2>&1; wg setconf ${OVERLAY} /run/${OVERLAY}.conf; ip address add 10.255.0.3/24 dev ${OVERLAY}; ip address add fd00:255::3/64 dev ${OVERLAY} nodad; ip address add fe80::3/64 dev ${OVERLAY} nodad; ip link set ${OVERLAY} mtu 1420 up`,
    );
    await this.sh(
      "b",
      daemon === "bird"
        ? BIRD
        : "for d in zebra staticd bgpd; do /usr/lib/frr/$d -d -A 127.0.0.1 < /dev/null > /var/log/frr/$d.again 2>&1; done; vtysh -b < /dev/null > /dev/null 2>&1 || true",
    );
    await this.start("b");
  }
}
