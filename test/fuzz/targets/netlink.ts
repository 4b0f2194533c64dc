/** Targets: what the kernel sends by netlink, generic netlink and nf_tables. */
import { address, prefix } from "../../../plugin/net/address.js";
import { publicKeyFromBytes } from "../../../plugin/net/key.js";
import type { KernelRoute, RouteEvent } from "../../../plugin/wire/netlink/fib.js";
import { decodeFamily } from "../../../plugin/wire/netlink/genl.js";
import { addAddress, decodeAddress, decodeLink } from "../../../plugin/wire/netlink/link.js";
import {
  decodeMessages,
  decodeStatus,
  encodeMessage,
  type NetlinkRequest,
} from "../../../plugin/wire/netlink/message.js";
import { FibMirror } from "../../../plugin/wire/netlink/mirror.js";
import { decodeNexthop } from "../../../plugin/wire/netlink/nexthop.js";
import { decodeSetElements, tableOfDeletion } from "../../../plugin/wire/netlink/nftables.js";
import { addRoute, decodeRoute, replaceRoute } from "../../../plugin/wire/netlink/route.js";
import { addRule, decodeRule, type MarkRule } from "../../../plugin/wire/netlink/rule.js";
import {
  decodeDevice,
  decodePrivateKey,
  decodeSockaddr,
  encodeSockaddr,
  setPeer,
  type WireGuardPeerState,
} from "../../../plugin/wire/netlink/wireguard.js";
import { captured } from "../../unit/wire/netlink/captured.js";
import { checkDecoded, holds, must, same, type Target, typed } from "../target.js";

const LONGEST = 1024;
const MAIN = 254;

const message = (type: number, payload: Uint8Array, flags = 0): Uint8Array =>
  encodeMessage({ type, flags, seq: 1, portid: 1, payload });

const joined = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

const rule: MarkRule = { family: 4, priority: 900, mark: 0x2000, table: 4243, vrf: "red", protocol: 173 };
const route = { table: MAIN, prefix: prefix("10.3.0.0/24"), protocol: 173, metric: 20, ifindexes: [3] };

const messages: Target = {
  name: "netlink-message",
  longest: LONGEST,
  seeds: () => [
    captured.error,
    captured.cappedError,
    joined(message(24, captured.route.viaGateway), message(3, new Uint8Array(4), 2)),
  ],
  run: (input) => {
    const decoded = decodeMessages(input);
    typed(decoded);
    if (!decoded.ok) return;
    for (const m of decoded.value) {
      typed(decodeStatus(m));
      tableOfDeletion(m);
    }
    const again = must("encoded again", decodeMessages(joined(...decoded.value.map(encodeMessage))));
    same("decode, encode, decode", again, decoded.value);
  },
};

const routes: Target = {
  name: "netlink-route",
  longest: LONGEST,
  seeds: () => [...Object.values(captured.route), replaceRoute(route).payload, addRoute(route).payload],
  run: (input) => typed(decodeRoute(input)),
};

const links: Target = {
  name: "netlink-link",
  longest: LONGEST,
  seeds: () => Object.values(captured.link),
  run: (input) => typed(decodeLink(input)),
};

const addresses: Target = {
  name: "netlink-address",
  longest: LONGEST,
  seeds: () => [...Object.values(captured.address), addAddress(3, address("10.255.0.2"), 32, 0).payload],
  run: (input) => typed(decodeAddress(input)),
};

const nexthops: Target = {
  name: "netlink-nexthop",
  longest: LONGEST,
  seeds: () => Object.values(captured.nexthop),
  run: (input) => typed(decodeNexthop(input)),
};

const rules: Target = {
  name: "netlink-rule",
  longest: LONGEST,
  seeds: () => [addRule(rule).payload, addRule({ ...rule, family: 6, vrf: undefined }).payload],
  run: (input) =>
    checkDecoded(decodeRule(input), (r) =>
      r === undefined ? decodeRule(input) : decodeRule(addRule(r).payload),
    ),
};

const setElements: Target = {
  name: "netlink-set-elements",
  longest: LONGEST,
  seeds: () => [captured.setElements, captured.noElements],
  run: (input) => typed(decodeSetElements(input)),
};

const family: Target = {
  name: "netlink-family",
  longest: LONGEST,
  seeds: () => [captured.family],
  run: (input) => typed(decodeFamily(input)),
};

const peer = {
  publicKey: publicKeyFromBytes(new Uint8Array(32).fill(7)),
  addAllowedIps: [prefix("10.0.0.0/8"), prefix("2001:db8::/32")],
  endpoint: { address: address("192.0.2.1"), port: 51821 },
  keepalive: 25,
};

/** What a peer would be set to be, as a dump gives it. */
function setAgain(p: WireGuardPeerState): readonly Uint8Array[] {
  const { publicKey, endpoint, keepalive } = p;
  return setPeer(1, "wg0", { publicKey, endpoint, keepalive, addAllowedIps: p.allowedIps }).map(
    (r) => r.payload,
  );
}

const wireguard: Target = {
  name: "netlink-wireguard",
  longest: LONGEST,
  seeds: () =>
    [
      setPeer(1, "wg0", peer),
      setPeer(1, "wg0", { ...peer, endpoint: { address: address("2001:db8::1"), port: 1 } }),
      [...setPeer(1, "wg0", peer), ...setPeer(1, "wg0", peer)],
    ].map((requests: readonly NetlinkRequest[]) => joined(...requests.map((r) => message(20, r.payload)))),
  run: (input) => {
    const split = decodeMessages(input);
    if (!split.ok) return;
    const payloads = split.value.map((m) => m.payload);
    const device = decodeDevice(payloads);
    typed(device);
    typed(decodePrivateKey(payloads));
    if (!device.ok) return;
    for (const p of device.value.peers) {
      if (p.endpoint !== undefined) same("endpoint", decodeSockaddr(encodeSockaddr(p.endpoint)), p.endpoint);
      const again = must("encoded again", decodeDevice(setAgain(p))).peers[0];
      const { publicKey, endpoint, allowedIps, keepalive } = p;
      same(
        "decode, encode, decode",
        again && [again.publicKey, again.endpoint, again.allowedIps, again.keepalive],
        [publicKey, endpoint, allowedIps, keepalive],
      );
    }
  },
};

const keyOf = (r: KernelRoute): string => `${r.table} ${r.prefix} ${r.metric}`;

/** What follows from the events alone must be what the mirror says that it holds. */
function replay(held: Map<string, KernelRoute>, events: readonly RouteEvent[]): void {
  for (const e of events) {
    if (e.kind === "set") held.set(keyOf(e.route), e.route);
    else if (e.kind === "gone")
      holds(`gone: ${keyOf(e.route)} was not reported before`, held.delete(keyOf(e.route)));
  }
}

const mirror: Target = {
  name: "netlink-mirror",
  longest: 4096,
  seeds: () => [
    joined(
      Uint8Array.of(3),
      message(16, captured.link.ve0),
      message(20, captured.address.ve0),
      message(104, captured.nexthop.five),
      message(24, captured.route.viaGateway),
      message(24, captured.route.multipath),
      message(25, captured.route.multipath),
      message(105, captured.nexthop.five),
      message(17, captured.link.ve0),
    ),
    joined(
      Uint8Array.of(0),
      message(16, captured.link.ve0),
      message(104, captured.nexthop.five),
      message(104, captured.nexthop.six),
      message(104, captured.nexthop.group),
      message(24, captured.route.viaGateway6),
      message(24, captured.route.viaIpv6),
      message(24, captured.route.blackhole),
      message(21, captured.address.ve0),
      message(24, captured.route.viaGateway6, 0x100),
      message(24, captured.route.viaGateway, 0x800),
    ),
  ],
  run: (input) => {
    const split = decodeMessages(input.subarray(1));
    if (!split.ok) return;
    const m = new FibMirror([MAIN, 4242, 146, 252], (r) => r.type !== "other");
    const dumped = input[0] ?? 0;
    m.begin();
    for (const one of split.value.slice(0, dumped)) typed(m.load(one));
    const snapshot = m.finish();
    const held = new Map<string, KernelRoute>();
    if (snapshot.kind === "snapshot") for (const r of snapshot.routes) held.set(keyOf(r), r);
    for (const one of split.value.slice(dumped)) {
      const events = m.apply(one);
      typed(events);
      if (events.ok) replay(held, events.value);
    }
    same("routes and events", [...m.routes()].map(keyOf).sort(), [...held.keys()].sort());
  },
};

export const netlinkTargets: readonly Target[] = [
  messages,
  routes,
  links,
  addresses,
  nexthops,
  rules,
  setElements,
  family,
  wireguard,
  mirror,
];
