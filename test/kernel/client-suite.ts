/**
 * The tests that the client of BIRD and the client of FRR share: the daemon in the triangle,
 * configured as shipped, and what differs per daemon as a {@link ClientKit}. Every case begins with
 * both sessions up and both offers selected, whatever the case before it has changed.
 */
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Lab, type Node, startLab, until } from "../../lab/runner/lab.js";
import { type DaemonExpectation, type DaemonPort, PortError } from "../../plugin/driver/ports.js";
import { address, prefix } from "../../plugin/net/address.js";
import { InterfaceNames } from "../../plugin/net/interface-names.js";
import { describeReason } from "../../plugin/shortcut/reasons.js";
import {
  ALIAS4,
  ALIAS6,
  addDirect,
  converged,
  FAR4,
  FAR6,
  pointAliases,
  type Source,
  startFeed,
  startOffers,
} from "./config-source.js";

const topology = fileURLToPath(new URL("../../lab/topologies/triangle.clab.yml", import.meta.url));

/** One thing changed in the daemon's configuration, and the one finding that it must lead to. */
export interface Flaw<Change> {
  readonly what: string;
  readonly change: Change;
  readonly severity?: "warning";
  readonly problem: RegExp;
  readonly remedy: RegExp;
}

/** A test of one daemon only. It undoes its changes, also when it fails. */
export interface ClientCase {
  readonly what: string;
  readonly run: (bench: ClientBench) => Promise<void>;
}

/** The differences between the two daemons. */
export interface ClientKit<Change> {
  readonly name: "BIRD" | "FRR";
  readonly daemon: "bird" | "frr";
  readonly version: string;
  readonly blackboardTable: number;
  /** The kernel table of the aliases, as iproute2 names it. */
  readonly table: string;
  /** Where the daemon listens for the offers session and for the feed. */
  readonly targets: { readonly offers: string; readonly feed: string };
  /** Whether the sessions are up while flaws are looked for; otherwise they begin after that. */
  readonly sessionsFirst: boolean;
  /** The answers of `explain` for a selected offer, and of an offer without a session. */
  readonly selected: string;
  readonly noSession: RegExp;
  /** A client on this node's sockets. */
  open(node: Node, options?: { readonly timeoutMs?: number }): DaemonPort;
  readonly pidFile: string;
  /**
   * Names that a hung daemon's error contains: the socket, and the command that shows whether it
   * answers.
   */
  socket(node: Node): string;
  readonly askByHand: string;
  /** Waits until both sessions are established. */
  sessionsUp(bench: ClientBench): Promise<unknown>;
  apply(bench: ClientBench, change: Change): Promise<void>;
  undo(bench: ClientBench, change: Change): Promise<void>;
  readonly flaws: readonly Flaw<Change>[];
  /**
   * After the flaws; then, with both offers selected, the explanations; then the rest, which may
   * end the daemon.
   */
  readonly checks: readonly ClientCase[];
  readonly explanations: readonly ClientCase[];
  readonly last: readonly ClientCase[];
  /** Questions that are asked at once. */
  readonly questions: {
    readonly count: number;
    /** Every question with a number divisible by this is a whole check; 0 for none. */
    readonly checkEvery: number;
    /** Milliseconds for both routes to stay selected meanwhile; 0 when they do at once. */
    readonly patience: number;
  };
}

/** The router under test, and what cases ask of it. */
export class ClientBench {
  readonly expectation: DaemonExpectation;
  readonly client: DaemonPort;
  readonly #more: DaemonPort[] = [];
  #offers: Source | undefined;

  constructor(
    readonly node: Node,
    private readonly kit: Pick<
      ClientKit<unknown>,
      "open" | "blackboardTable" | "targets" | "selected" | "pidFile" | "sessionsUp"
    >,
  ) {
    this.client = kit.open(node);
    this.expectation = {
      overlay: new InterfaceNames(["wg0"]),
      overlayAddresses: [
        { address: address("10.255.0.1"), length: 24 },
        { address: address("fd00:255::1"), length: 64 },
      ],
      hubs: [address("10.255.0.3")],
      direct: "shortcut0",
      routerId: address("127.0.0.2"),
      blackboardTable: kit.blackboardTable,
      aliasPool4: prefix("198.18.0.0/16"),
      aliasPool6: prefix("fd53:4843:5554::/64"),
      offersSource: address("127.0.0.2"),
      feedSource: address("127.0.0.3"),
      localAs: 65000,
      password: "",
    };
  }

  /** The stand-ins of shortcutd's two sessions. */
  async startSources(): Promise<void> {
    this.#offers = await startOffers(this.node, { target: this.kit.targets.offers });
    await startFeed(this.node, { target: this.kit.targets.feed });
    await this.kit.sessionsUp(this);
  }

  get offers(): Source {
    if (this.#offers === undefined) throw new Error("no offers session was started");
    return this.#offers;
  }

  /** Keeps a client until the end of the test. */
  keep(client: DaemonPort): DaemonPort {
    this.#more.push(client);
    return client;
  }

  async closeKept(): Promise<void> {
    for (const c of this.#more.splice(0)) await c.close();
  }

  findings = async (client = this.client) => (await client.check(this.expectation)).findings;

  /** Waits until these are the findings: a daemon restarts a protocol that has changed. */
  finds = async (expected: readonly unknown[]): Promise<unknown> =>
    until("the findings", 10_000, async () => {
      expect(await this.findings()).toEqual(expected);
      return true;
    });

  reasonOf = async (p = FAR4, alias = ALIAS4): Promise<string> =>
    describeReason((await this.client.explain(prefix(p), address(alias))).reason);

  /** Waits until the offer is explained like this. */
  async explained(reason: string | RegExp, p = FAR4, alias = ALIAS4): Promise<void> {
    let said = "";
    await until(`explained by ${String(reason)}`, 15_000, async () => {
      said = await this.reasonOf(p, alias);
      return typeof reason === "string" ? said === reason : reason.test(said);
    }).catch((e: unknown) => {
      throw new Error(`${String(e)}; last: ${said}`);
    });
  }

  /** Waits until both sessions are up and both offers are selected. */
  async selected(): Promise<void> {
    await this.kit.sessionsUp(this);
    await this.explained(this.kit.selected);
    await this.explained(this.kit.selected, FAR6, ALIAS6);
  }

  async pid(): Promise<string> {
    return (await this.node.must(["cat", this.kit.pidFile])).trim();
  }
}

export function describeClient<Change>(kit: ClientKit<Change>): void {
  describe(`the client on ${kit.name}`, () => {
    let lab: Lab;
    let bench: ClientBench;

    beforeAll(async () => {
      lab = await startLab(topology, { env: { DAEMON_A: kit.daemon, DAEMON_B: "bird", DAEMON_C: "bird" } });
      const a = lab.node("a");
      await converged(lab.node("host-a"));
      await addDirect(a);
      await pointAliases(a, "wg0", kit.table);
      bench = new ClientBench(a, kit);
    });
    afterAll(async () => {
      await bench?.client.close();
      await lab?.stop();
    });
    afterEach(() => bench?.closeKept());

    it("finds nothing missing in what is shipped, before and while the sessions are up", async () => {
      expect(await bench.client.check(bench.expectation)).toEqual({ version: kit.version, findings: [] });
      expect(await bench.reasonOf()).toMatch(kit.noSession);
      if (!kit.sessionsFirst) return;
      await bench.startSources();
      expect(await bench.findings()).toEqual([]);
    });

    for (const { what, change, severity, problem, remedy } of kit.flaws)
      it(`finds ${what}, and nothing else`, async () => {
        try {
          await kit.apply(bench, change);
          await bench.finds([
            {
              severity: severity ?? "error",
              problem: expect.stringMatching(problem),
              remedy: expect.stringMatching(remedy),
            },
          ]);
        } finally {
          await kit.undo(bench, change);
        }
        await bench.finds([]);
      });

    for (const c of kit.checks) it(c.what, () => c.run(bench));

    describe("with both offers selected", () => {
      beforeAll(async () => {
        if (!kit.sessionsFirst) await bench.startSources();
      });
      beforeEach(() => bench.selected());

      it("explains a selected offer in both families, and finds nothing missing", async () => {
        for (const [p, alias] of [
          [FAR4, ALIAS4],
          [FAR6, ALIAS6],
        ] as const) {
          const { selected, reason } = await bench.client.explain(prefix(p), address(alias));
          expect({ selected, reason: describeReason(reason) }).toEqual({
            selected: true,
            reason: kit.selected,
          });
        }
        expect(await bench.findings()).toEqual([]);
      });

      for (const c of kit.explanations)
        it(c.what, async () => {
          await c.run(bench);
          await bench.selected();
        });

      it("answers many questions at once, each with its own answer", () => manyQuestions(bench, kit));

      it("gives up on a hung daemon after the timeout, fails what waits with it, and goes on when it does", () =>
        hungDaemon(bench, kit));
    });

    for (const c of kit.last) it(c.what, () => c.run(bench));

    it("rejects after close", async () => {
      const closed = kit.open(bench.node);
      await closed.check(bench.expectation).catch(() => undefined);
      await closed.close();
      await expect(closed.check(bench.expectation)).rejects.toMatchObject({ code: "ECANCELED" });
    });
  });
}

/**
 * Asks for both offers and for whole checks at once. @throws Error when an answer belongs to another
 * question.
 */
async function manyQuestions<Change>(bench: ClientBench, kit: ClientKit<Change>): Promise<void> {
  const { count, checkEvery, patience } = kit.questions;
  const isCheck = (i: number): boolean => checkEvery > 0 && i % checkEvery === 0;
  const ask = async (i: number): Promise<string> => {
    if (isCheck(i)) return (await bench.client.check(bench.expectation)).version;
    return i % 2 === 0 ? bench.reasonOf(FAR4, ALIAS4) : bench.reasonOf(FAR6, ALIAS6);
  };
  const expected = Array.from({ length: count }, (_, i) => (isCheck(i) ? kit.version : kit.selected));
  let took = 0;
  await until("every question has its own answer", patience, async () => {
    const since = performance.now();
    const answers = await Promise.all(expected.map((_, i) => ask(i)));
    took = performance.now() - since;
    expect(answers).toEqual(expected);
    return true;
  });
  // A program for each of the questions would take many times as long.
  expect(took).toBeLessThan(2_000);
}

async function hungDaemon<Change>(bench: ClientBench, kit: ClientKit<Change>): Promise<void> {
  const short = bench.keep(kit.open(bench.node, { timeoutMs: 300 }));
  await until("it answers", 5_000, () =>
    short.check(bench.expectation).then(
      (r) => r.version === kit.version,
      () => false,
    ),
  );
  const pid = await bench.pid();
  await bench.node.must(["kill", "-STOP", pid]);
  const since = performance.now();
  try {
    const asked = await Promise.allSettled([
      short.check(bench.expectation),
      short.explain(prefix(FAR4), address(ALIAS4)),
      short.explain(prefix(FAR6), address(ALIAS6)),
      short.check(bench.expectation),
    ]);
    expect(performance.now() - since).toBeLessThan(900);
    for (const r of asked) {
      expect(r.status).toBe("rejected");
      if (r.status !== "rejected") continue;
      expect(r.reason).toBeInstanceOf(PortError);
      for (const text of [kit.socket(bench.node), "within 300 ms", kit.askByHand])
        expect(String(r.reason)).toContain(text);
    }
  } finally {
    await bench.node.must(["kill", "-CONT", pid]);
  }
  await until("it answers again", 5_000, () =>
    short.check(bench.expectation).then(
      (r) => r.version === kit.version,
      () => false,
    ),
  );
}
