/**
 * Connectivity checks of candidates that are learned late, and when hubs are asked for this
 * router's endpoint.
 */
import { describe, expect, it } from "vitest";
import { address, type Endpoint, formatEndpoint, parseEndpoint } from "../../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import type { Path } from "../../../../plugin/shortcut/events.js";
import { Checks } from "../../../../plugin/shortcut/nat/connectivity-checks.js";
import type { PingTarget } from "../../../../plugin/shortcut/nat/pings.js";
import { Observer } from "../../../../plugin/shortcut/nat/reflexive-observer.js";
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

function pinging(): { sent: Sent[]; take: () => string[]; host: ConstructorParameters<typeof Checks>[0] } & {
  readonly observes: ConstructorParameters<typeof Observer>[0];
} {
  const sent: Sent[] = [];
  let next = 0;
  const common = {
    pingsUsable: true,
    sendPing: (_: unknown, ping: Sent["ping"], target: PingTarget) => void sent.push({ ping, target }),
    randomId: (): Id64 => id64FromBytes(new Uint8Array(8).fill(++next)),
  };
  const host = { ...common, openTtl: 2, self: SELF, wayTo: (): Path => "other", onLink: () => [] };
  const take = (): string[] => {
    const out = sent.map((s) => `${s.ping.kind} ${formatEndpoint(s.target.to)} ttl ${s.target.ttl ?? ""}`);
    sent.length = 0;
    return out.map((o) => o.replace(/ ttl $/, ""));
  };
  return { sent, take, host, observes: common };
}

describe("an endpoint that is reached inside a tunnel", () => {
  const HUB_SIDE = "10.255.0.2:51821";
  const inside = (way: Path) => {
    const p = pinging();
    const ways = new Map<string, Path>([[formatEndpoint(endpoint(BEFORE)), way]]);
    const host = { ...p.host, wayTo: (to: Endpoint): Path => ways.get(formatEndpoint(to)) ?? "other" };
    const ends = {
      publicKey: key,
      epochs: { mine: 1, yours: 1 },
      candidates: [reflexive(BEFORE)],
      prefixes: [],
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
    c.learn(0, [reflexive(NOW)]);
    expect(c.onlyInside).toBeUndefined();
    expect(c.result(undefined)).toMatchObject({ kind: "no-answer", untried: BEFORE });
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
      prefixes: [],
    };
    return { ...p, c: new Checks(p.host, ends, 0) };
  };

  it("waits for the opening with the others", () => {
    const { c, take } = checks();
    c.learn(0, [reflexive(NOW)]);
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
    c.learn(20, [reflexive(NOW)]);
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

describe("a better pair that is found while direct", () => {
  const LAN = "192.168.1.9:51821";
  /** Is direct by {@link BEFORE}, and a ping to {@link LAN} was answered. */
  const found = () => {
    const p = pinging();
    const ends = {
      publicKey: key,
      epochs: { mine: 1, yours: 1 },
      candidates: [reflexive(BEFORE), { ...endpoint(LAN), kind: "host" } satisfies Candidate],
      prefixes: [],
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
