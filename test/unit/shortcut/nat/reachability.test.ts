/** Candidates, mapping behaviour, and the number of NATs to open. */
import { describe, expect, it } from "vitest";
import { address, type Endpoint, parseEndpoint, prefix } from "../../../../plugin/net/address.js";
import { InterfaceNames } from "../../../../plugin/net/interface-names.js";
import { publicKeyFromBytes } from "../../../../plugin/net/key.js";
import { onLink, ownCandidates, priorityOf } from "../../../../plugin/shortcut/nat/candidates.js";
import { HopCount } from "../../../../plugin/shortcut/nat/hop-count.js";
import {
  describeMapping,
  judgeMapping,
  natPrognosisOf,
  type Observation,
} from "../../../../plugin/shortcut/nat/mapping.js";
import type { PingTarget } from "../../../../plugin/shortcut/nat/pings.js";
import { Reachability } from "../../../../plugin/shortcut/nat/reachability.js";
import { id64FromBytes } from "../../../../plugin/wire/control/codec.js";
import type { Mapping } from "../../../../plugin/wire/control/message.js";

const endpoint = (text: string): Endpoint => {
  const e = parseEndpoint(text);
  if (e === undefined) throw new Error(text);
  return e;
};
const at = (dev: string, text: string, length: number) => ({ dev, address: address(text), length });

describe("what a router offers", () => {
  const sources = {
    configured: [],
    addresses: [],
    excludedDevices: new Set(["wg0", "shortcut0"]),
    denied: [],
    reflexive: [],
    port: 51821,
  };
  const offered = (given: Partial<Parameters<typeof ownCandidates>[0]>) =>
    ownCandidates({ ...sources, ...given }).map((c) => `${c.kind} ${c.address} ${c.port}`);

  it("is in order: configured, own addresses with public ones and IPv6 first, what hubs see", () => {
    expect(
      offered({
        configured: [endpoint("198.51.100.7:9")],
        addresses: [
          at("eth0", "192.168.1.2", 24),
          at("eth0", "2001:db8::2", 64),
          at("eth1", "203.0.113.4", 24),
        ],
        reflexive: [endpoint("192.0.2.2:51821"), endpoint("192.0.2.2:40000")],
      }),
    ).toEqual([
      "configured 198.51.100.7 9",
      "host 2001:db8::2 51821",
      "host 203.0.113.4 51821",
      "host 192.168.1.2 51821",
      "reflexive 192.0.2.2 51821",
      "reflexive 192.0.2.2 40000",
    ]);
  });

  it.each([
    ["loopback", at("lo", "127.0.0.1", 8)],
    ["IPv6 loopback", at("lo", "::1", 128)],
    ["link-local", at("eth0", "169.254.3.4", 16)],
    ["IPv6 link-local", at("eth0", "fe80::1", 64)],
    ["the overlay's", at("wg0", "10.255.0.1", 24)],
    ["the direct interface's", at("shortcut0", "10.255.0.1", 32)],
    ["what others reach via the overlay", at("eth2", "10.1.0.1", 24)],
    ["what the operator denies", at("eth3", "172.20.1.1", 24)],
  ])("never %s", (_, a) => {
    expect(offered({ addresses: [a], denied: [prefix("10.1.0.0/24"), prefix("172.20.0.0/16")] })).toEqual([]);
  });

  it("never what is on an interface of the overlay that a pattern names, nor its prefix", () => {
    const addresses = [at("wg-hub7", "203.0.113.4", 31), at("wgx", "203.0.113.9", 24)];
    const excludedDevices = new InterfaceNames(["wg-*", "shortcut0"]);
    expect(offered({ addresses, excludedDevices })).toEqual(["host 203.0.113.9 51821"]);
    expect(onLink(addresses, excludedDevices)).toEqual(["203.0.113.0/24"]);
  });

  it("is limited to what an exchange carries, with room for what hubs see", () => {
    const addresses = Array.from({ length: 40 }, (_, i) => at("eth0", `203.0.113.${i + 1}`, 24));
    const list = offered({ addresses, reflexive: [endpoint("192.0.2.2:1")] });
    expect(list).toHaveLength(12);
    expect(list.at(-1)).toBe("reflexive 192.0.2.2 1");
  });

  it("once each", () => {
    expect(
      offered({ addresses: [at("eth0", "192.0.2.2", 24)], reflexive: [endpoint("192.0.2.2:51821")] }),
    ).toEqual(["host 192.0.2.2 51821"]);
  });
});

describe("what is tried first", () => {
  it("the same LAN, then what is configured, IPv6, public, private, and what hubs see", () => {
    const here = onLink([at("eth0", "192.168.1.2", 24), at("wg0", "10.255.0.1", 24)], new Set(["wg0"]));
    const p = (text: string, kind: Parameters<typeof priorityOf>[1]) =>
      priorityOf(endpoint(text), kind, here);
    const order = [
      p("192.168.1.9:1", "host"),
      p("192.0.2.9:1", "configured"),
      p("[2001:db8::9]:1", "host"),
      p("192.0.2.9:1", "host"),
      p("192.168.7.9:1", "host"),
      p("192.0.2.9:1", "peer-reflexive"),
      p("192.0.2.9:1", "reflexive"),
    ];
    expect(order).toEqual([...order].sort((a, b) => b - a));
    expect(new Set(order).size).toBe(order.length);
  });
});

describe("the mapping behaviour (RFC 4787)", () => {
  const seen = (hub: string, observed: string) => ({ hub: endpoint(hub), observed: endpoint(observed) });
  const judged = (...o: ReturnType<typeof seen>[]) =>
    judgeMapping(o, [address("192.168.1.2"), address("192.0.2.2")], 51821);

  it.each<[string, ReturnType<typeof seen>[], Mapping]>([
    ["nothing", [], "unknown"],
    ["one port of one hub", [seen("192.0.2.66:51821", "198.51.100.2:51821")], "unknown"],
    [
      "two ports of one hub, the same",
      [seen("192.0.2.66:51821", "198.51.100.2:40000"), seen("192.0.2.66:4244", "198.51.100.2:40000")],
      "endpoint-independent",
    ],
    [
      "two ports of one hub, different",
      [seen("192.0.2.66:51821", "198.51.100.2:40000"), seen("192.0.2.66:4244", "198.51.100.2:40001")],
      "address-and-port-dependent",
    ],
    [
      "two hubs, different only between them",
      [
        seen("192.0.2.66:51821", "198.51.100.2:40000"),
        seen("192.0.2.66:4244", "198.51.100.2:40000"),
        seen("203.0.113.5:51821", "198.51.100.2:40001"),
      ],
      "address-dependent",
    ],
    ["the own address and port", [seen("192.0.2.66:51821", "192.0.2.2:51821")], "none"],
  ])("by %s", (_, observations, mapping) => {
    expect(judged(...observations).mapping).toBe(mapping);
  });

  it("says whether the port is kept, and when one address cannot tell more", () => {
    const v = judged(
      seen("192.0.2.66:51821", "198.51.100.2:51821"),
      seen("192.0.2.66:4244", "198.51.100.2:51821"),
    );
    expect(describeMapping(v)).toBe("endpoint-independent mapping (keeps the port, seen by one hub address)");
  });

  it("of both ends forecasts a path, or no path", () => {
    const hard = "address-and-port-dependent";
    expect(natPrognosisOf("endpoint-independent", "endpoint-independent", false)).toBe("likely");
    expect(natPrognosisOf(hard, "endpoint-independent", false)).toBe("doubtful");
    expect(natPrognosisOf(hard, "none", false)).toBe("likely");
    expect(natPrognosisOf(hard, "address-dependent", false)).toBe("hopeless");
    expect(natPrognosisOf(hard, hard, true)).toBe("doubtful");
  });
});

describe("an opening travels", () => {
  const HUB = endpoint("192.0.2.66:51821");
  const ttl = (...hops: (string | undefined)[]) => {
    const h = new HopCount();
    h.begin(HUB);
    hops.forEach((hop, i) => {
      if (hop !== undefined) h.exceeded(address(hop), HUB, i + 1);
    });
    return h.openTtl;
  };
  it.each<[string, (string | undefined)[], number]>([
    ["one hop where the router itself is the NAT", ["192.0.2.1"], 1],
    ["past one NAT", ["192.168.1.1", "192.0.2.1"], 2],
    ["past two", ["192.168.1.1", "100.64.0.1", "198.51.100.1"], 3],
    ["past one when no router answers", [], 2],
    ["past those that answer when the rest is silent", ["192.168.1.1", "10.0.0.1"], 3],
    ["past one when the first is silent", [undefined, "192.0.2.1"], 2],
  ])("%s", (_, hops, want) => {
    expect(ttl(...hops)).toBe(want);
  });

  it("whatever unknown routers say", () => {
    const h = new HopCount();
    h.begin(HUB);
    h.exceeded(address("8.8.8.8"), endpoint("192.0.2.67:51821"), 1);
    h.exceeded(address("8.8.8.8"), HUB, 0);
    h.exceeded(address("8.8.8.8"), HUB, 200);
    expect(h.openTtl).toBe(2);
    expect(h.begin(endpoint("[2001:db8::1]:1"))).toBe(false);
  });
});

describe("where this router may be reached", () => {
  const key = publicKeyFromBytes(new Uint8Array(32).fill(1));
  const lan = [at("eth0", "192.168.1.2", 24)];
  const HUB = "198.51.100.1:51821";
  const seen = (hub: string, observed: string) => ({ hub: endpoint(hub), observed: endpoint(observed) });

  function router(pingsUsable = true) {
    const link = { reflexive: undefined as Endpoint | undefined, list: [] as Observation[], asked: 0 };
    const sent: number[] = [];
    const host = {
      pingsUsable,
      sendPing: (_: unknown, __: unknown, { ttl }: PingTarget) => void sent.push(ttl ?? 0),
      randomId: () => id64FromBytes(new Uint8Array(8)),
    };
    const config = {
      port: 51821,
      denied: [],
      excludedDevices: new Set(["wg0"]),
      publicEndpoints: [endpoint("203.0.113.7:51821")],
      hubs: [],
      aliasPools: [],
    };
    const links = [
      {
        get reflexive() {
          return link.reflexive;
        },
        observations: () => link.list,
        observe: () => void link.asked++,
        observeAgain: () => void link.asked++,
      },
    ];
    return { link, sent, where: new Reachability(host, config, links, () => [prefix("10.1.0.0/24")]) };
  }
  const kinds = (w: Reachability) => w.candidates().map((c) => `${c.kind} ${c.address}`);

  it("has changed when an address, a hub's view or the NAT's behaviour has, and not the first time", () => {
    const { where, link } = router();
    expect(where.changed()).toBe(false);
    expect(where.learn(lan)).toBe(true);
    expect(where.changed()).toBe(true);
    expect(where.learn([...lan])).toBe(false);
    expect(where.changed()).toBe(false);
    link.reflexive = endpoint("192.0.2.2:40000");
    expect(where.changed()).toBe(true);
    link.list = [seen(HUB, "192.0.2.2:40000"), seen("198.51.100.1:51822", "192.0.2.2:40001")];
    expect(where.changed()).toBe(true);
    expect(where.mapping).toBe("address-and-port-dependent");
    expect(where.changed()).toBe(false);
  });

  it("is, without pings, only where a hub or the operator has seen it to work", () => {
    for (const pings of [true, false]) {
      const { where, link } = router(pings);
      where.learn([...lan, at("eth1", "10.1.0.1", 24)]);
      link.reflexive = endpoint("192.0.2.2:40000");
      expect(kinds(where)).toEqual([
        "configured 203.0.113.7",
        ...(pings ? ["host 192.168.1.2"] : []),
        "reflexive 192.0.2.2",
      ]);
    }
  });

  it("is measured up to the last NAT, and described in words", () => {
    const { where, sent } = router();
    expect(where.openTtl).toBe(2);
    where.measureHops({ publicKey: key, endpoint: endpoint(HUB) });
    expect(sent).toEqual([1, 2, 3, 4, 5]);
    where.exceeded(address("192.168.1.1"), endpoint(HUB), 1);
    where.exceeded(address("100.64.0.1"), endpoint(HUB), 2);
    where.exceeded(address("198.51.100.9"), endpoint(HUB), 3);
    expect(where.openTtl).toBe(3);
    expect(where.describe()).toBe(
      "NAT behaviour unknown; path to the hub: 192.168.1.1, 100.64.0.1, 198.51.100.9",
    );
    const silent = router(false);
    silent.where.measureHops({ publicKey: key, endpoint: endpoint(HUB) });
    expect(silent.sent).toEqual([]);
    expect(silent.where.describe()).toBe("pings unavailable: NAT behaviour unknown");
  });
});
