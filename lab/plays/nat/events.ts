/**
 * Runs a shortcut through NATs as time goes by: a NAT that reboots, mappings that nobody
 * uses, and how long a path takes over a distance.
 */
import { until } from "../../runner/lab.js";
import { describeRepetition, type Repetition, repeatedWhenStarved } from "../../runner/retry.js";
import { DIRECT, SPOKE, SPOKES } from "../../site/triangle.js";
import { type NatOptions, type NatSite, natSite } from "./site.js";

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The largest value that is allowed. */
  readonly limit?: number;
}

type NatEvent = (site: NatSite, say: (line: string) => void) => Promise<Figure[]>;

async function untilDirect(site: NatSite, ms: number): Promise<void> {
  await until("both spokes route via the direct interface, and say that they are direct", ms, async () => {
    for (const s of SPOKES) {
      if ((await site.dev(s)) !== DIRECT || (await site.stage(s)) !== "direct") return false;
    }
    return true;
  });
}

/**
 * A's NAT loses every mapping and comes back with another public address, while the shortcut is
 * direct.
 */
const reboot: NatEvent = async (site, say) => {
  await site.nat("a", "masquerade");
  await site.nat("c", "masquerade");
  const first = await site.attempt();
  if (first.path !== "direct") throw new Error(`not direct: ${first.reason}`);
  say(`direct by ${first.endpoint} (${first.candidate})`);
  await site.packets(200);
  const since = Date.now();
  // with its address a masquerading NAT loses the mappings; the clock is read in between, since a
  // shell takes its time
  const said = await site.sh(
    "na",
    "ip address add 192.0.2.3/26 dev eth1; date +%s%3N; ip address del 192.0.2.2/26 dev eth1; ip address replace 192.0.2.3/26 dev eth1; ip route replace default via 192.0.2.1; sh /run/lab/lab/topologies/nat/nat.sh masquerade eth1 192.168.1.10",
  );
  const rebooted = Number(said.trim().split("\n")[0]);
  await site.forget(["na"]);
  const gone = await until("both are via the hub", 10_000, () => {
    const [a, c] = SPOKES.map((s) => site.shortcutd(s).event("flipped-back", since)?.at);
    return a === undefined || c === undefined ? undefined : { a, c };
  });
  await untilDirect(site, 60_000);
  const again = await until("A says that it is direct", 5_000, () =>
    site.shortcutd("a").event("flipped", gone.a),
  );
  const reflexive = (await site.status("a"))?.hubs[0]?.reflexive;
  if (reflexive?.address !== "192.0.2.3")
    throw new Error(`the hub sees A at ${reflexive?.address ?? "no address"}`);
  const hub = await until("the hub's own reading follows", 30_000, async () =>
    (await site.status("b"))?.registrations.find(
      (r) => r.address === SPOKE.a.overlay && r.endpoint?.address === "192.0.2.3",
    ),
  );
  say(
    `A is at ${reflexive.address} port ${reflexive.port}; the hub's rendezvous peer at ${hub.endpoint?.address ?? ""}`,
  );
  await site.packets(200);
  return [
    { name: "A via the hub", value: gone.a - rebooted, unit: "ms after the reboot", limit: 500 },
    { name: "C via the hub", value: gone.c - rebooted, unit: "ms after the reboot", limit: 1_000 },
    {
      name: "direct again",
      value: again.at - rebooted,
      unit: "ms after the reboot",
      limit: 10_000,
    },
  ];
};

/**
 * A LAN that both are on appears while they are direct through their NATs: it is used from then on,
 * and nothing is lost.
 */
const better: NatEvent = async (site, say) => {
  await site.nat("a", "masquerade");
  await site.nat("c", "masquerade");
  const first = await site.attempt();
  if (first.path !== "direct") throw new Error(`not direct: ${first.reason}`);
  say(`direct by ${first.endpoint} (${first.candidate})`);
  const before = site.flows.read();
  const since = Date.now();
  try {
    await site.sh("a", "ip address add 192.168.50.1/24 dev eth4");
    await site.sh("c", "ip address add 192.168.50.2/24 dev eth5");
    const moved = await until("A has found the LAN", 20_000, () =>
      site.shortcutd("a").event("better-path", since),
    );
    say(`better: ${moved.detail}`);
    for (const [s, from] of [
      ["a", "192.168.50.2"],
      ["c", "192.168.50.1"],
    ] as const)
      await until(`WireGuard on ${s} sends to ${from}`, 10_000, async () =>
        (await site.sh(s, `wg show ${DIRECT} endpoints`)).includes(`${from}:`),
      );
    await site.packets(400);
    const left = SPOKES.filter((s) => site.shortcutd(s).event("flipped-back", since) !== undefined);
    if (left.length > 0) throw new Error(`left the direct path: ${left.join(", ")}`);
    const lost = site.flows.read().map((d, i) => d.lost - (before[i]?.lost ?? 0));
    return [
      { name: "found", value: moved.at - since, unit: "ms after the LAN began to appear", limit: 15_000 },
      { name: "lost", value: lost.reduce((n, l) => n + l, 0), unit: "packets, both ways", limit: 0 },
    ];
  } finally {
    await site.quiet();
    await site.sh("a", "ip address del 192.168.50.1/24 dev eth4 || true");
    await site.sh("c", "ip address del 192.168.50.2/24 dev eth5 || true");
  }
};

/**
 * NATs that forget UDP after 30 s, and map at random: no mapping changes while nothing but
 * keepalives goes.
 */
const idle: NatEvent = async (site, say) => {
  for (const box of ["na", "nc"])
    await site.sh(
      box,
      "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=30 net.netfilter.nf_conntrack_udp_timeout_stream=30",
    );
  await site.nat("a", "random");
  await site.nat("c", "ei-ad");
  const first = await site.attempt();
  if (first.path !== "direct") throw new Error(`not direct: ${first.reason}`);
  say(`direct by ${first.endpoint} (${first.candidate})`);
  await site.flows.toggle();
  const seen = async (): Promise<string> => {
    const port = await site.sh("c", `wg show ${DIRECT} endpoints | grep 192.0.2.2`);
    return `${JSON.stringify((await site.status("a"))?.hubs[0]?.reflexive)} ${port.trim()}`;
  };
  const before = await seen();
  const since = performance.now();
  let changes = 0;
  // longer than the NATs remember, shorter than an idle shortcut stays
  await until(
    "50 s without traffic",
    60_000,
    async () => {
      if ((await seen()) !== before) changes++;
      return performance.now() - since > 50_000;
    },
    2_000,
  );
  const stages = await Promise.all(SPOKES.map(async (s) => (await site.status(s))?.shortcuts[0]?.stage));
  if (stages.some((s) => s !== "direct")) throw new Error(`no longer direct: ${stages.join(", ")}`);
  await site.flows.toggle();
  return [{ name: "mappings that changed", value: changes, unit: "in 50 s without traffic", limit: 0 }];
};

/** One way through the internet, milliseconds: the way via the hub passes it twice. */
const DISTANCE = 25;

/**
 * From both daemons' selection to the first packet that goes direct, in round trips of the way via
 * the hub.
 */
const distance: NatEvent = async (site, say) => {
  await site.nat("a", "ei-apd");
  await site.nat("c", "ei-apd");
  const delay = site.lab
    .node("inet")
    .spawn(
      [process.execPath, "/run/lab/dist/lab/plays/nat/delay.js", String(DISTANCE), "eth1", "eth2", "eth3"],
      {
        onLine: (line) => {
          if (line === "ready") ready = true;
        },
      },
    );
  let ready = false;
  await until("the delay is there", 10_000, () => ready);
  const offset = Number(process.hrtime.bigint()) / 1e6 - Date.now();
  const tries: { selected: number; flip: number; roundTrip: number; from: number }[] = [];
  for (let i = 0; i < 3; i++) {
    await site.overlayWorks();
    const ping = await site.sh("a", "ping -n -q -c 5 -i 0.3 10.255.0.2");
    const roundTrip = Number(/= [\d.]+\/([\d.]+)\//.exec(ping)?.[1]);
    const since = Date.now();
    const attempt = await site.attempt();
    if (attempt.path !== "direct") throw new Error(`not direct: ${attempt.reason}`);
    const at = (s: "a" | "c", e: "selected" | "flipping" | "flipped"): number =>
      site.shortcutd(s).event(e, since)?.at ?? Number.NaN;
    const selected = Math.max(at("a", "selected"), at("c", "selected"));
    const earliest = at("a", "flipped") < at("c", "flipped") ? "a" : "c";
    const flip = at(earliest, "flipped") - at(earliest, "flipping");
    tries.push({ selected: selected + offset, flip, roundTrip, from: since + offset });
  }
  await site.packets(100);
  await site.flows.stop();
  await delay.kill("SIGTERM");
  const paths = site.flows.paths();
  const changes = (paths ?? []).flatMap((p) => p.received.changes.filter((c) => c.path === "direct"));
  const trips = tries.map(({ selected, flip, roundTrip, from }) => {
    const first = Math.min(...changes.filter((c) => c.sentAt > from).map((c) => c.sentAt));
    const ms = first - selected;
    say(
      `round trip via the hub ${roundTrip.toFixed(0)} ms; from both selections to the first direct packet ${ms.toFixed(0)} ms, ${flip} ms of them the daemon's flip`,
    );
    return (ms - flip) / roundTrip;
  });
  return [
    {
      name: "both selected to first packet direct",
      value: trips.sort((x, y) => x - y)[1] ?? Number.NaN,
      unit: "round trips of the way via the hub, without the daemon's flip",
      limit: 4,
    },
  ];
};

export const EVENTS: Readonly<Record<string, { readonly description: string; readonly run: NatEvent }>> = {
  reboot: { description: "a NAT loses its mappings and its public address while direct", run: reboot },
  better: { description: "a LAN that both spokes are on appears while they are direct", run: better },
  idle: { description: "mappings that NATs forget after 30 s outlive a minute without traffic", run: idle },
  distance: { description: "how long a path takes, as a multiple of the round trip", run: distance },
};

export interface EventResult {
  readonly figures: readonly Figure[];
  /** Figures that exceed their limit, in words. */
  readonly problems: readonly string[];
  /** Runs before this one, which failed while the machine was starved. */
  readonly repetitions: readonly Repetition[];
}

/** Runs one event, at most three times. @throws Error when what was waited for did not happen. */
export async function runEvent(name: string, options: NatOptions): Promise<EventResult> {
  const event = EVENTS[name];
  if (event === undefined) throw new Error(`no event ${name}: ${Object.keys(EVENTS).join(", ")}`);
  const say = options.onLine ?? (() => undefined);
  say(`${name}: ${event.description}`);
  const { value, repetitions } = await repeatedWhenStarved(() => runOnce(event.run, options, say), {
    problem: ({ problems }) => (problems.length === 0 ? undefined : problems.join("; ")),
    onRepeat: (r) => say(describeRepetition(r)),
  });
  return { ...value, repetitions };
}

async function runOnce(
  event: NatEvent,
  options: NatOptions,
  say: (line: string) => void,
): Promise<Omit<EventResult, "repetitions">> {
  const site = await natSite(options);
  try {
    const figures = await event(site, say);
    for (const f of figures) say(`${f.name}: ${f.value.toFixed(2)} ${f.unit}`);
    const problems = figures
      .filter((f) => !(f.value <= (f.limit ?? Number.POSITIVE_INFINITY)))
      .map((f) => `${f.name}: ${f.value.toFixed(2)} ${f.unit}, allowed ${f.limit}`);
    return { figures, problems };
  } finally {
    await site.down();
  }
}
