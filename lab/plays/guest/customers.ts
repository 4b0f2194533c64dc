/**
 * The two customers of vrf.clab.yml: names, and the files that make each of them: shortcutd's,
 * BIRD's and FRR's, each in a VRF.
 */
import type { RouterName, Spoke } from "../../site/triangle.js";

export interface Customer {
  /** Of the VRF. */
  readonly name: "red" | "blue";
  readonly table: number;
  readonly overlay: string;
  readonly overlayPort: number;
  readonly lan: string;
  readonly direct: string;
  readonly directPort: number;
  /** On the spokes; the hub has BIRD for both. */
  readonly daemon: "bird" | "frr";
}

export const RED: Customer = {
  name: "red",
  table: 101,
  overlay: "wg-red",
  overlayPort: 51820,
  lan: "lan-red",
  direct: "sc-red",
  directPort: 51821,
  daemon: "bird",
};
export const BLUE: Customer = {
  name: "blue",
  table: 102,
  overlay: "wg-blue",
  overlayPort: 51830,
  lan: "lan-blue",
  direct: "sc-blue",
  directPort: 51831,
  daemon: "frr",
};
export const CUSTOMERS: readonly Customer[] = [RED, BLUE];

/** The same for both customers. */
export const SITE = {
  a: {
    overlay: "10.255.0.1",
    lan: "10.1.0.0/24",
    router: "10.1.0.1/24",
    host: "10.1.0.10",
    underlay: "192.0.2.2",
  },
  b: { overlay: "10.255.0.3", underlay: "192.0.2.66" },
  c: {
    overlay: "10.255.0.2",
    lan: "10.3.0.0/24",
    router: "10.3.0.1/24",
    host: "10.3.0.10",
    underlay: "192.0.2.130",
  },
} as const;

/** shortcutd.yaml of one instance. */
export const configFile = (c: Customer, router: RouterName, more: readonly string[]): string =>
  [
    `role: ${router === "b" ? "hub" : "spoke"}`,
    `overlay: ${c.overlay}`,
    `vrf: { name: ${c.name}, table: ${c.table} }`,
    `direct: { interface: ${c.direct}, port: ${c.directPort}, key: /var/lib/shortcutd/${c.name}.key }`,
    `control: { socket: /run/shortcutd/${c.name}.sock }`,
    ...(router === "b" ? [] : [`hubs: [${SITE.b.overlay}]`, `daemon: ${c.daemon}`, "bgp: { as: 65000 }"]),
    ...more,
    "",
  ].join("\n");

/**
 * The VRF, the LAN's interface in it, and the overlay, still without peers; `key` is the path of
 * its private key.
 */
export const interfaces = (c: Customer, router: RouterName, key: string): string[] => [
  `ip link add ${c.name} type vrf table ${c.table}`,
  // inside the VRF: where the daemon and shortcutd meet. Outside `lo` a /8 would make only the one
  // address local.
  ...["127.0.0.1", "127.0.0.2", "127.0.0.3"].map((a) => `ip address add ${a}/32 dev ${c.name}`),
  `ip link set ${c.name} up`,
  // what the VRF has no route for must not be looked up in the main table
  `ip route add unreachable default metric 4278198272 table ${c.table}`,
  ...(router === "b"
    ? []
    : [`ip link set ${c.lan} vrf ${c.name}`, `ip address add ${SITE[router].router} dev ${c.lan}`]),
  `ip link add ${c.overlay} type wireguard`,
  `wg set ${c.overlay} private-key ${key} listen-port ${c.overlayPort}`,
  `ip link set ${c.overlay} vrf ${c.name}`,
  `ip address add ${SITE[router].overlay}/24 dev ${c.overlay}`,
  `ip link set ${c.overlay} mtu 1420 up`,
];

/** Does what doc/operation.md says of bird-config/shortcut.conf in a VRF. */
export const birdInVrf = (c: Customer): string =>
  `sed -i -E '/^protocol (bgp|static) shortcut/ s/\\{/{ vrf "${c.name}";/' /etc/bird/shortcut/shortcut.conf`;

const TIMERS = "hold time 9; connect delay time 1; connect retry time 2;";

export const birdSpoke = (c: Customer, spoke: Spoke): string => `
log "/var/log/bird.log" all;
router id ${SITE[spoke].overlay};
include "shortcut/shortcut.conf";
protocol device { scan time 10; }
protocol direct { vrf "${c.name}"; ipv4; interface "${c.lan}"; }
protocol kernel { vrf "${c.name}"; kernel table ${c.table}; ipv4 { table fib4; import none; export where source != RTS_DEVICE; }; }
protocol kernel { vrf "${c.name}"; kernel table ${c.table}; ipv6 { table fib6; import none; export where source != RTS_DEVICE; }; }
protocol bgp hub {
  vrf "${c.name}";
  local ${SITE[spoke].overlay} as 65000;
  neighbor ${SITE.b.overlay} as 65000;
  direct; ${TIMERS}
  ipv4 { import all; export where source = RTS_DEVICE; next hop self; };
}
`;

export const birdHub = (): string =>
  [
    'log "/var/log/bird.log" all;',
    `router id ${SITE.b.overlay};`,
    "protocol device { scan time 10; }",
    ...CUSTOMERS.map(
      (c) => `
ipv4 table ${c.name}4;
protocol kernel { vrf "${c.name}"; kernel table ${c.table}; ipv4 { table ${c.name}4; import none; export all; }; }
template bgp ${c.name}_spoke {
  vrf "${c.name}";
  local ${SITE.b.overlay} as 65000;
  direct; rr client; ${TIMERS}
  ipv4 { table ${c.name}4; import all; export all; };
}
protocol bgp ${c.name}_a from ${c.name}_spoke { neighbor ${SITE.a.overlay} as 65000; }
protocol bgp ${c.name}_c from ${c.name}_spoke { neighbor ${SITE.c.overlay} as 65000; }`,
    ),
    "",
  ].join("\n");

/** Does what doc/operation.md says of frr-config/shortcut.conf in a VRF. */
export const frrInVrf = (c: Customer): string =>
  `sed 's/^router bgp 65000/router bgp 65000 vrf ${c.name}/; s/interface shortcut0/interface ${c.direct}/; s/interface wg0/interface ${c.overlay}/' /run/lab/frr-config/shortcut.conf > /run/shortcut.conf`;

export const frrSpoke = (c: Customer, spoke: Spoke): string => `frr defaults traditional
hostname ${spoke}
log file /var/log/frr/frr.log
service integrated-vtysh-config
!
router bgp 65000 vrf ${c.name}
 bgp router-id ${SITE[spoke].overlay}
 no bgp default ipv4-unicast
 bgp route-map delay-timer 1
 neighbor ${SITE.b.overlay} remote-as 65000
 neighbor ${SITE.b.overlay} timers 3 9
 neighbor ${SITE.b.overlay} timers connect 2
 address-family ipv4 unicast
  network ${SITE[spoke].lan}
  neighbor ${SITE.b.overlay} activate
  neighbor ${SITE.b.overlay} next-hop-self
  neighbor ${SITE.b.overlay} route-map SHORTCUT-NOT-TO-HUB out
 exit-address-family
exit
`;
