/**
 * The tests that bird-config/ and frr-config/ share, each as shipped, on a real daemon in the
 * triangle: what an offer does, and what no neighbour may notice. The differences per daemon are a
 * {@link ConfigKit}.
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Lab, type Node, startLab, until } from "../../lab/runner/lab.js";
import {
  ALIAS4,
  ALIAS6,
  addDirect,
  converged,
  DIRECT,
  FAR4,
  FAR6,
  fib,
  fibFollows,
  pointAliases,
  type Source,
  startFeed,
  startOffers,
} from "./config-source.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));

/** A test of one daemon only. */
export interface ConfigCase {
  readonly what: string;
  readonly run: (bench: ConfigBench) => Promise<void>;
}

/** The differences between the two daemons. */
export interface ConfigKit {
  readonly name: string;
  readonly daemon: "bird" | "frr";
  /** The kernel table of the aliases, as iproute2 names it. */
  readonly table: string;
  /** Where the daemon listens for the offers session and for the feed. */
  readonly targets: { readonly offers: string; readonly feed: string };
  /** Gets the routes that neighbours of the router have heard, in a form that can be compared. */
  neighbours(bench: ConfigBench): Promise<string>;
  /** Both far prefixes are on the hub's own route. */
  onHub(bench: ConfigBench): Promise<boolean>;
  /** The kernel shows that both offers are selected. */
  selected(bench: ConfigBench): Promise<boolean>;
  /** Checks the answers of the daemon itself while they are. */
  saysSelected(bench: ConfigBench): Promise<void>;
  /** Refuses {@link FAR4} by one line of the operator's policy, and allows it again. */
  refuse(bench: ConfigBench): Promise<void>;
  allow(bench: ConfigBench): Promise<void>;
  /** Checks the answers of the daemon about the refused offer. */
  saysRefused(bench: ConfigBench): Promise<void>;
  /** Checks the answers of the daemon about an offer without shortcutd's community. */
  refusesUnmarked(bench: ConfigBench): Promise<void>;
  /** Prefixes of the router itself, which the feed must not have. */
  readonly notFed?: string;
  readonly before: readonly ConfigCase[];
  /** While an offer is selected. */
  readonly whileSelected: readonly ConfigCase[];
  readonly last: readonly ConfigCase[];
}

/** The router under test, its stand-ins of shortcutd's sessions, and what cases ask of them. */
export class ConfigBench {
  #offers: Source | undefined;
  #feed: Source | undefined;

  constructor(
    readonly lab: Lab,
    readonly node: Node,
    private readonly kit: ConfigKit,
  ) {}

  async startOffers(options: { readonly as?: number; readonly marked?: boolean } = {}): Promise<void> {
    const { marked = true, ...session } = options;
    this.#offers = await startOffers(this.node, { target: this.kit.targets.offers, ...session }, marked);
  }

  /** As a crash would end it. */
  async killOffers(): Promise<void> {
    await this.#offers?.kill();
  }

  async startFeed(): Promise<void> {
    this.#feed = await startFeed(this.node, { target: this.kit.targets.feed });
  }

  /** Everything that the feed has, with all attributes. */
  async fed(): Promise<string> {
    if (this.#feed === undefined) throw new Error("no feed was started");
    return this.#feed.birdc("show", "route", "all");
  }

  point = (dev: string): Promise<void> => pointAliases(this.node, dev, this.kit.table);

  /** Points both aliases at an interface, and waits until the FIB follows. */
  async flip(dev: string): Promise<void> {
    await this.point(dev);
    await fibFollows(this.node, dev);
  }

  neighbours = (): Promise<string> => this.kit.neighbours(this);

  untilOnHub = (): Promise<unknown> =>
    until("both prefixes are on the hub route", 5_000, () => this.kit.onHub(this), 5);
}

export function describeConfig(kit: ConfigKit): void {
  describe(`${kit.daemon}-config on ${kit.name}`, () => {
    let lab: Lab;
    let bench: ConfigBench;

    beforeAll(async () => {
      lab = await startLab(topology, { env: { DAEMON_A: kit.daemon, DAEMON_B: "bird", DAEMON_C: "bird" } });
      const a = lab.node("a");
      await converged(lab.node("host-a"));
      await addDirect(a);
      bench = new ConfigBench(lab, a, kit);
      await bench.point("wg0");
    });
    afterAll(() => lab?.stop());

    for (const c of kit.before) it(c.what, () => c.run(bench));

    it("feeds what lies underneath, with its attributes", async () => {
      await bench.startFeed();
      const all = await until("the feed has both far prefixes", 5_000, async () => {
        const text = await bench.fed();
        return text.includes(FAR4) && text.includes(FAR6) ? text : undefined;
      });
      for (const nextHop of ["10.255.0.2", "fd00:255::2"]) expect(all).toContain(`BGP.next_hop: ${nextHop}`);
      if (kit.notFed !== undefined) expect(all).not.toContain(kit.notFed);
    });

    it("selects an offer without moving anything, and neighbours hear nothing of it or of flips", async () => {
      const before = await bench.neighbours();
      expect(before).not.toBe("");
      expect(await kit.selected(bench)).toBe(false);
      await bench.startOffers();
      await until("the kernel shows what was selected", 5_000, () => kit.selected(bench));
      await fibFollows(bench.node, "wg0");
      for (const prefix of [FAR4, FAR6]) expect(await fib(bench.node, prefix)).not.toContain("nexthop");
      await kit.saysSelected(bench);
      const host = await lab.node("host-a").exec(["ping", "-n", "-c", "1", "-W", "2", "10.3.0.10"]);
      expect(host.status).toBe(0);
      expect(await bench.neighbours()).toBe(before);
      await bench.flip(DIRECT);
      expect(await bench.neighbours()).toBe(before);
      await bench.flip("wg0");
      expect(await bench.neighbours()).toBe(before);
    });

    it("keeps the feed on the route underneath while an offer is selected", async () => {
      const all = await bench.fed();
      for (const nextHop of ["10.255.0.2", "fd00:255::2"]) expect(all).toContain(`BGP.next_hop: ${nextHop}`);
      expect(all).not.toContain(ALIAS4);
      expect(all).not.toContain(ALIAS6);
    });

    for (const c of kit.whileSelected) it(c.what, () => c.run(bench));

    it("drops the offer by a one-line change of the policy, and takes it again", async () => {
      await bench.flip(DIRECT);
      const before = await bench.neighbours();
      await kit.refuse(bench);
      await until("the hub's route is in the FIB", 8_000, async () =>
        (await fib(bench.node, FAR4)).includes("via 10.255.0.2"),
      );
      // The other prefix is still eligible.
      expect(await fib(bench.node, FAR6)).toContain(`dev ${DIRECT}`);
      await kit.saysRefused(bench);
      await kit.allow(bench);
      await fibFollows(bench.node, DIRECT, 8_000);
      // The sessions stood through both.
      expect(await bench.neighbours()).toBe(before);
    });

    it("is back on the hub route when the session ends by kill -9", async () => {
      const before = await bench.neighbours();
      await bench.killOffers();
      await bench.untilOnHub();
      expect(await bench.neighbours()).toBe(before);
    });

    it("refuses what is not marked as an offer: it neither wins nor ties", async () => {
      await bench.startOffers({ marked: false });
      await kit.refusesUnmarked(bench);
      expect(await kit.onHub(bench)).toBe(true);
      await bench.killOffers();
    });

    for (const c of kit.last) it(c.what, () => c.run(bench));
  });
}
