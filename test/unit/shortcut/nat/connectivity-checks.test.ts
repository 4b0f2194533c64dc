/**
 * Connectivity checks of candidates that are learned late, and when hubs are asked for this
 * router's endpoint.
 */
import { describe, expect, it } from "vitest";
import { address, type Endpoint, formatEndpoint, parseEndpoint } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import type { Path } from "../../../../plugin/shortcut/events.js";
import { Checks } from "../../../../plugin/shortcut/nat/connectivity-checks.js";
import { endpointFault, outside } from "../../../../plugin/shortcut/nat/endpoint-check.js";
import type { PingTarget } from "../../../../plugin/shortcut/nat/pings.js";
import { Observer } from "../../../../plugin/shortcut/nat/reflexive-observer.js";
import { no, type Verdict } from "../../../../plugin/shortcut/reasons.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { Candidate, Id64 } from "../../../../plugin/wire/control/message.js";
import type { Ping } from "../../../../plugin/wire/ping.js";

const endpoint = (text: string): Endpoint => {
  const e = parseEndpoint(text);
  if (e === undefined) throw new Error(text);
  return e;
};
const reflexive = (text: string): Candidate => ({ ...endpoint(text), kind: "reflexive" });
const key = publicKeyFromBytes(new Uint8Array(32).fill(7));
const HERE = address("192.168.1.2");
const SELF = address("10.255.0.1");
const BEFORE = "192.0.2.2:51821";
const NOW = "192.0.2.3:51821";

interface Sent {
  readonly ping: Omit<Ping, "bootId">;
  readonly target: PingTarget;
}

/** The check of a router without hubs and pools, which routes as `wayTo` says. */
const permits =
  (wayTo: (to: Endpoint) => Path) =>
  (to: Endpoint): Verdict => {
    const owner = { address: address("10.255.0.9"), prefixes: [] };
    const fault = endpointFault(to, { addresses: [], hubs: [], aliasPools: [] }, owner);
    if (fault !== undefined) return no({ kind: "endpoint-refused", endpoint: formatEndpoint(to), fault });
    return outside(SELF, { wayTo }, to);
  };

function pinging(): { sent: Sent[]; take: () => string[]; host: ConstructorParameters<typeof Checks>[0] } & {
  readonly observes: ConstructorParameters<typeof Observer>[0];
} {
  const sent: Sent[] = [];
  let next = 0;
  const common = {
    pingsUsable: true,
    randomId: (): Id64 => id64FromBytes(new Uint8Array(8).fill(++next)),
  };
  const note = (ping: Sent["ping"], target: PingTarget) => void sent.push({ ping, target });
  const host = {
    ...common,
    openTtl: 2,
    sendPing: (_: number, __: unknown, ping: Sent["ping"], target: PingTarget) => note(ping, target),
    answered: () => {},
    permits: permits(() => "other"),
    onLink: () => [],
  };
  const observes = {
    ...common,
    sendPing: (_: unknown, ping: Sent["ping"], target: PingTarget) => note(ping, target),
  };
  const take = (): string[] => {
    const out = sent.map((s) => `${s.ping.kind} ${formatEndpoint(s.target.to)} ttl ${s.target.ttl ?? ""}`);
    sent.length = 0;
    return out.map((o) => o.replace(/ ttl $/, ""));
  };
  return { sent, take, host, observes };
}

describe("an endpoint that is reached inside a tunnel", () => {
  const HUB_SIDE = "10.255.0.2:51821";
  const inside = (way: Path) => {
    const p = pinging();
    const ways = new Map<string, Path>([[formatEndpoint(endpoint(BEFORE)), way]]);
    const host = { ...p.host, permits: permits((to) => ways.get(formatEndpoint(to)) ?? "other") };
    const ends = {
      publicKey: key,
      epochs: { mine: 1, yours: 1 },
      candidates: [reflexive(BEFORE)],
    };
    return { ...p, ways, c: new Checks(host, ends, 0) };
  };

  it.each(["overlay", "direct"] as const)("is not tried, and is named as the reason (%s)", (by) => {
    const { c, take } = inside(by);
    c.open(0);
    c.start(10);
    c.handleTimeout(20);
    expect(take()).toEqual([]);
    const reason = { kind: "endpoint-via-overlay", router: SELF, endpoint: BEFORE, by };
    expect(c.onlyInside).toEqual(reason);
    expect(c.result(undefined)).toEqual(reason);
  });

  it("is named beside the candidates that did not answer", () => {
    const { c } = inside("overlay");
    c.learn(0, [reflexive(BEFORE), reflexive(NOW)]);
    expect(c.onlyInside).toBeUndefined();
    expect(c.result(undefined)).toMatchObject({
      kind: "no-answer",
      untried: `${BEFORE} (reached via the overlay)`,
    });
  });

  it("is not answered when a ping arrives from there, and not learned as peer-reflexive", () => {
    const { c, ways, take } = inside("other");
    c.open(0);
    c.start(10);
    take();
    ways.set(HUB_SIDE, "overlay");
    const epochs = { mine: 1, yours: 1 };
    const asked: Ping = {
      kind: "ping",
      ready: false,
      bootId: id64FromBytes(new Uint8Array(8)),
      transaction: id64FromBytes(new Uint8Array(8)),
      epochs,
      observed: undefined,
    };
    c.receive(20, endpoint(HUB_SIDE), HERE, asked);
    expect(take()).toEqual([]);
    ways.delete(HUB_SIDE);
    c.receive(30, endpoint(HUB_SIDE), HERE, asked);
    expect(take()).toContain(`pong ${HUB_SIDE}`);
  });

  it("is tried when a change of routes leads around the tunnel, and left when it leads into it", () => {
    const { c, ways, take } = inside("overlay");
    c.open(0);
    c.start(10);
    expect(take()).toEqual([]);
    ways.clear();
    c.reroute(20);
    c.handleTimeout(20);
    expect(take()).toEqual([`ping ${BEFORE}`]);
    ways.set(BEFORE, "overlay");
    c.reroute(30);
    c.handleTimeout(5_000);
    expect(take()).toEqual([]);
    expect(c.onlyInside?.kind).toBe("endpoint-via-overlay");
  });
});

describe("a candidate that is learned late", () => {
  const checks = () => {
    const p = pinging();
    const ends = {
      publicKey: key,
      epochs: { mine: 1, yours: 1 },
      candidates: [reflexive(BEFORE)],
    };
    return { ...p, c: new Checks(p.host, ends, 0) };
  };

  it("waits for the opening with the others", () => {
    const { c, take } = checks();
    c.learn(0, [reflexive(BEFORE), reflexive(NOW)]);
    expect(take()).toEqual([]);
    c.open(1);
    expect(take()).toEqual([`open ${BEFORE} ttl 2`, `open ${NOW} ttl 2`]);
  });

  it("is opened by itself, when the others have been", () => {
    const { c, take } = checks();
    c.open(0);
    take();
    c.learn(5, [reflexive(BEFORE), reflexive(NOW)]);
    expect(take()).toEqual([`open ${NOW} ttl 2`]);
  });

  it("is tried at once while others are, and nominated", () => {
    const { c, take, sent } = checks();
    c.open(0);
    c.start(10);
    take();
    c.learn(20, [reflexive(BEFORE), reflexive(NOW)]);
    expect(c.pollTimeout()).toBe(20);
    c.handleTimeout(20);
    const ping = sent.find((s) => s.target.to.address === "192.0.2.3")?.ping;
    expect(take()).toEqual([`ping ${NOW}`]);
    if (ping === undefined) throw new Error("no ping");
    c.receive(30, endpoint(NOW), HERE, { ...ping, kind: "pong", bootId: ping.transaction });
    expect(c.nominee(80)).toEqual(endpoint(NOW));
  });

  it("is left until something better is looked for, once a pair is used", () => {
    const { c, take } = checks();
    c.open(0);
    c.start(0);
    c.use(100, endpoint(BEFORE), true);
    take();
    c.learn(30_000, [reflexive(NOW)]);
    expect(take()).toEqual([]);
    expect(c.pollTimeout()).toBe(2_100);
  });
});

describe("what the other end tells later", () => {
  const told = (...texts: string[]): Candidate[] => texts.map(reflexive);
  const endpoints = (from: number, count: number): string[] =>
    Array.from({ length: count }, (_, i) => `192.0.2.${from + i}:51821`);
  const checks = (candidates: Candidate[]) => {
    const p = pinging();
    const c = new Checks(p.host, { publicKey: key, epochs: { mine: 1, yours: 1 }, candidates }, 0);
    c.open(0);
    c.start(10);
    return { ...p, c };
  };
  const asked = (from: Endpoint): Ping => ({
    kind: "ping",
    ready: false,
    bootId: id64FromBytes(new Uint8Array(8)),
    transaction: id64FromBytes(new Uint8Array(8)),
    epochs: { mine: 1, yours: 1 },
    observed: from,
  });

  it("takes the place of what it told before, and never adds up", () => {
    const { c } = checks(told(BEFORE));
    for (let i = 0; i < 100; i++) c.learn(20 + i, told(...endpoints(2 * i, 2)));
    expect(c.list()).toBe(
      endpoints(198, 2)
        .map((e) => `${e} (reflexive)`)
        .join(", "),
    );
  });

  it("is looked at up to the number that an exchange carries", () => {
    const { c } = checks([]);
    c.learn(20, told(...endpoints(1, 40)));
    expect(c.list().split(", ")).toHaveLength(12);
  });

  it("causes nothing when it is what was known", () => {
    const { c, take } = checks(told(BEFORE, NOW));
    c.use(100, endpoint(BEFORE), true);
    take();
    for (const candidates of [told(BEFORE, NOW), told(BEFORE), []])
      expect(c.learn(200, candidates)).toBe(false);
    expect(take()).toEqual([]);
    // the pair in use stays, whatever is told
    expect(c.list()).toBe(`${BEFORE} (reflexive)`);
  });

  it("starts searches for a better pair at intervals, however often it changes", () => {
    const { c, take } = checks(told(BEFORE));
    c.use(100, endpoint(BEFORE), true);
    take();
    for (let t = 200; t < 60_000; t += 50) {
      const better: Candidate = { ...endpoint(`192.0.2.${Math.floor(t / 50) % 250}:7`), kind: "host" };
      if (c.learn(t, [better, ...told(BEFORE)])) c.improveSoon(t);
      c.handleTimeout(t);
    }
    // one search in 5 s, with two tries for each pair that is better
    expect(take().filter((t) => t.startsWith("ping")).length).toBeLessThanOrEqual(2 * 13);
  });

  it("leaves what pings have taught, of which the least recently heard makes room", () => {
    const { c } = checks(told(BEFORE));
    for (let i = 0; i < 20; i++) {
      const from = endpoint(`198.51.100.${i}:${1_000 + i}`);
      c.receive(100 + i, from, HERE, asked(from));
    }
    c.learn(200, []);
    const kept = c.list().split(", ");
    expect(kept).toHaveLength(8);
    expect(kept).toContain("198.51.100.19:1019 (peer-reflexive)");
    expect(kept).not.toContain("198.51.100.0:1000 (peer-reflexive)");
  });

  it.each([
    "127.0.0.1:51821",
    "169.254.169.254:80",
    "224.0.0.1:51821",
    "255.255.255.255:51821",
    "[::1]:51821",
    "[fe80::1]:51821",
    "[::ffff:7f00:1]:51821",
  ])("is not tried, learned or answered at %s", (text) => {
    const { c, take } = checks(told(BEFORE, text));
    c.learn(20, told(BEFORE, text));
    c.receive(30, endpoint(text), HERE, asked(endpoint(text)));
    c.handleTimeout(10_000);
    expect(take().some((t) => t.includes(text))).toBe(false);
    expect(c.result(undefined)).toMatchObject({ untried: expect.stringContaining(text) });
  });
});

describe("a better pair that is found while direct", () => {
  const LAN = "192.168.1.9:51821";
  /** Is direct by {@link BEFORE}, and a ping to {@link LAN} was answered. */
  const found = () => {
    const p = pinging();
    const ends = {
      publicKey: key,
      epochs: { mine: 1, yours: 1 },
      candidates: [reflexive(BEFORE), { ...endpoint(LAN), kind: "host" } satisfies Candidate],
    };
    const c = new Checks(p.host, ends, 0);
    c.open(0);
    c.start(0);
    c.use(100, endpoint(BEFORE), true);
    p.sent.length = 0;
    c.handleTimeout(2_100);
    const ping = p.sent.find((s) => formatEndpoint(s.target.to) === LAN)?.ping;
    if (ping === undefined) throw new Error("no ping");
    c.receive(2_101, endpoint(LAN), HERE, { ...ping, kind: "pong", bootId: ping.transaction });
    return c;
  };
  const take = (c: Checks): string => {
    const better = c.better();
    if (better === undefined) return "nothing better";
    c.use(2_200, better, true);
    return formatEndpoint(better);
  };

  it("is taken once", () => {
    const c = found();
    expect([take(c), take(c)]).toEqual([LAN, "nothing better"]);
    c.seen(endpoint(LAN));
    expect(take(c)).toBe("nothing better");
  });

  it("is taken again when WireGuard has returned to the pair before, but not without limit", () => {
    const c = found();
    const taken = [1, 2, 3, 4, 5].map(() => {
      const t = take(c);
      c.seen(endpoint(BEFORE));
      return t;
    });
    expect(taken).toEqual([LAN, LAN, LAN, "nothing better", "nothing better"]);
  });

  it("is left alone when WireGuard has roamed elsewhere", () => {
    const c = found();
    take(c);
    c.seen(endpoint("198.51.100.9:1"));
    expect(take(c)).toBe("nothing better");
  });
});

describe("a hub is asked", () => {
  const HUB = "192.0.2.66";
  const observer = () => {
    const p = pinging();
    const o = new Observer(p.observes, 20_000);
    o.watch(0, key, address(HUB), [51821, 4244]);
    return { ...p, o };
  };
  const answer = (o: Observer, sent: readonly Sent[], now: number, observed: string): boolean[] =>
    [...sent].map(({ ping, target }) =>
      o.receive(now, target.to, {
        ...ping,
        kind: "observed",
        bootId: ping.transaction,
        observed: endpoint(observed),
      }),
    );
  const asked = [`observe ${HUB}:51821`, `observe ${HUB}:4244`];

  it("before an attempt, unless it has answered within a second, or is being asked", () => {
    const { o, sent, take } = observer();
    o.refresh(10);
    expect(take.call(undefined)).toEqual(asked);
    o.ask(20);
    expect(answer(o, sent, 30, BEFORE)).toEqual([true, true]);
    take();
    o.refresh(1_030);
    expect(take()).toEqual([]);
    o.refresh(1_031);
    expect(take()).toEqual(asked);
  });

  it("regardless of its last answer, where there is reason to", () => {
    const { o, sent, take } = observer();
    answer(o, sent, 5, BEFORE);
    take();
    o.ask(6);
    expect(answer(o, sent, 8, NOW)).toEqual([true, true]);
    expect(take()).toEqual(asked);
    expect(o.reflexive).toEqual(endpoint(NOW));
  });

  it("again before an attempt, when its own round was in vain", () => {
    const { o, take } = observer();
    for (let at = o.pollTimeout() ?? 0; at < 20_000; at = o.pollTimeout() ?? 20_000) o.handleTimeout(at);
    take();
    o.refresh(10_000);
    expect(take()).toEqual(asked);
  });
});
