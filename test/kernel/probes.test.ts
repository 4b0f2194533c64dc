/**
 * Shows that the thread of probes is replaced when it dies or hangs, and goes on where the other
 * one ended.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { probeAdapter } from "../../plugin/adapters/sockets/probes.js";
import type { PortError, ProbeSocket } from "../../plugin/driver/ports.js";
import { type Address, address } from "../../plugin/net/address.js";
import type { PublicKey } from "../../plugin/net/key.js";
import type { ProbeEvent } from "../../plugin/shortcut/probe/relay.js";
import type { ProbeSession } from "../../plugin/shortcut/probe/stream.js";
import type { Id64 } from "../../plugin/wire/control/message.js";
import type { Probe } from "../../plugin/wire/probe.js";
import { CABLE, eventually, Namespace } from "./namespace.js";

const PORT = 7003;
const ME = "own" as PublicKey;
const PEER = "peer" as PublicKey;
/** Told to forget these, the thread of the tests ends, or does nothing any more. */
const DIE = "die" as PublicKey;
const HANG = "hang" as PublicKey;
const [LEFT, RIGHT] = [address("10.0.0.1"), address("10.0.0.2")];
const built = new URL("../../dist/plugin/adapters/sockets/probe-worker.js", import.meta.url);

interface Prober {
  readonly socket: ProbeSocket;
  readonly events: ProbeEvent[];
  readonly errors: PortError[];
}

const id = (n: number): Id64 => n.toString(16).padStart(16, "0") as Id64;
const session = (mine: number, yours: number): ProbeSession => ({
  bootId: id(mine),
  peerBootId: id(yours),
  epochs: { mine, yours },
  accepted: id(9),
  flipped: false,
  down: false,
  ownsRoutes: true,
  idle: false,
  answers: false,
  interval: 100,
  idleInterval: 1_000,
  multiplier: 3,
  fullSize: 1_000,
});

let ns: Namespace;
let leave: () => void;
let dir: string;
let left: Prober;
let right: Prober;

async function prober(script: URL, dev: string, at: Address): Promise<Prober> {
  const events: ProbeEvent[] = [];
  const errors: PortError[] = [];
  const socket = await probeAdapter(script).open(
    { dev, addresses: [at], port: PORT },
    (e) => events.push(e),
    (e) => errors.push(e),
  );
  return { socket, events, errors };
}

const heardBy = (p: Prober): Probe[] => p.events.flatMap((e) => (e.kind === "heard" ? [e.probe] : []));
const lost = (p: Prober): ProbeEvent[] => p.events.filter((e) => e.kind === "lost");
const hearsOn = (who: string, p: Prober): Promise<true> => {
  const before = heardBy(p).length;
  return eventually(`${who} hears on`, () => heardBy(p).length > before + 5);
};

beforeEach(async () => {
  ns = await Namespace.create();
  ns.sh(CABLE);
  leave = ns.enterNetwork();
  dir = mkdtempSync(join(tmpdir(), "shortcutd-probes-"));
  const mortal = join(dir, "mortal.mjs");
  writeFileSync(
    mortal,
    `import { parentPort } from "node:worker_threads";
     await import(${JSON.stringify(built.href)});
     parentPort.on("message", (m) => {
       if (m.kind !== "unset") return;
       if (m.key === "${DIE}") process.exit(7);
       if (m.key === "${HANG}") for (;;);
     });`,
  );
  left = await prober(pathToFileURL(mortal), "ve0", LEFT);
  right = await prober(built, "ve1", RIGHT);
  left.socket.set(PEER, { address: RIGHT, port: PORT }, session(1, 2));
  right.socket.set(ME, { address: LEFT, port: PORT }, session(2, 1));
  await Promise.all([hearsOn("left", left), hearsOn("right", right)]);
});

afterEach(async () => {
  await Promise.all([left.socket.close(), right.socket.close()]);
  leave();
  rmSync(dir, { recursive: true, force: true });
  await ns.destroy();
});

describe("the thread of probes", () => {
  test("is scheduled in real time", () => {
    const policies = readdirSync("/proc/self/task").map((t) => {
      const stat = readFileSync(`/proc/self/task/${t}/stat`, "utf8");
      return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[38];
    });
    // one each for left and right: SCHED_RR
    expect(policies.filter((p) => p === "2")).toHaveLength(2);
  });

  test("is replaced when it dies, and the path goes on", async () => {
    const before = heardBy(right).length;
    left.socket.unset(DIE);
    await eventually("it is said", () => left.errors.length > 0);
    expect(left.errors.map((e) => e.message)).toEqual([expect.stringContaining("started again")]);
    await Promise.all([hearsOn("left", left), hearsOn("right", right)]);
    // how long a thread takes to start is the machine's affair; that it goes on where the other
    // ended is not
    const probes = heardBy(right).slice(before - 1);
    expect(probes.filter((p) => p.echo === 0)).toEqual([]);
    const sequences = probes.map((p) => p.sequence);
    expect(sequences).toEqual([...new Set(sequences)].sort((x, y) => x - y));
  });

  test("is replaced when it hangs: the other end has left the path, and hears again", async () => {
    left.socket.unset(HANG);
    await eventually("the other end takes the path for lost", () => lost(right).length > 0);
    await eventually("it is said", () => left.errors.length > 0);
    await hearsOn("right", right);
    // once, not again when it has ended
    expect(left.errors.map((e) => e.message)).toEqual([expect.stringContaining("does not answer")]);
  });
});
