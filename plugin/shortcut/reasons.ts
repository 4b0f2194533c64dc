/**
 * The reasons that shortcutd gives: every reason as a value, and its one wording. A reason's kind
 * is its code in `--json` and in tests; people read {@link describeReason}. Text that a daemon or
 * the other end supplied is data of a reason. To add a reason, add a line to the table.
 */
import type { Address, Prefix } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import type { Mapping } from "../wire/control/message.js";
import type { Loss } from "./probe/stream.js";

/** The forecast from the NATs of both ends; see nat/mapping.ts. */
export type NatPrognosis = "likely" | "doubtful" | "hopeless";

/** A path inside a tunnel of the overlay. */
export type Tunnelled = "overlay" | "direct";

/** The reason why an endpoint is not one of another router; see nat/endpoint-check.ts. */
export type EndpointFault =
  | "port"
  | "unspecified"
  | "loopback"
  | "link-local"
  | "multicast"
  | "broadcast"
  | "reserved"
  | "ipv4-mapped"
  | "own-address"
  | "overlay"
  | "alias-pool"
  | "attested";

const FAULTS: Readonly<Record<EndpointFault, string>> = {
  port: "its port is 0",
  unspecified: "it is not the address of a host",
  loopback: "it is a loopback address",
  "link-local": "it is a link-local address",
  multicast: "it is a multicast address",
  broadcast: "it is a broadcast address",
  reserved: "its address is reserved",
  "ipv4-mapped": "it is an IPv4 address in IPv6 form",
  "own-address": "it is an address of this router itself",
  overlay: "it is an address of the overlay",
  "alias-pool": "it is in the alias pool",
  attested: "it is inside the owner's site, which is reached via the overlay",
};

export interface NatForecast {
  readonly here: Mapping;
  readonly there: Mapping;
  readonly prognosis: NatPrognosis;
}

/** Words a rate in bits per second. */
export const describeRate = (bitsPerSecond: number): string => `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;

const mappingName = (m: Mapping): string =>
  m === "none" ? "no NAT" : m === "unknown" ? "unknown" : `${m} mapping`;

export const describeNat = (n: NatForecast): string =>
  `NAT: ${mappingName(n.here)} here, ${mappingName(n.there)} at the owner: a direct path is ${n.prognosis}`;

const millis = (ms: number): string => `${ms.toFixed(1)} ms`;
const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
const compared = (a: number, b: number): string => `${a} ${a > b ? ">" : a < b ? "<" : "="} ${b}`;

const BIRD = "BIRD: ";
const FRR = "FRR: ";
const COOLED = "traffic fell below the threshold";
const FRR_TIED =
  "tied: multipath with the route underneath, half the flows would go direct (`set weight` in the import route-map)";

/** A lead, and what the other end said; not the lead twice, when the text begins with it. */
const led = (lead: string, text: string): string =>
  text === "" ? lead : text.startsWith(lead) ? text : `${lead}: ${text}`;

/** Wording by kind. The parameter is the data of the reason. */
const WORDS = {
  // ---------------------------------------------------------------- the trigger
  "below-threshold": (r: { readonly rate: number; readonly threshold: number }) =>
    `${(r.rate / 1e6).toFixed(1)} of ${(r.threshold / 1e6).toFixed(1)} Mbit/s`,
  /** `since` and `duration` are milliseconds. */
  "not-long-enough": (r: {
    readonly since: number;
    readonly duration: number;
    readonly rate: number;
    readonly threshold: number;
  }) =>
    `for ${(r.since / 1000).toFixed(1)} of ${r.duration / 1000} s: ${(r.rate / 1e6).toFixed(1)} of ${(r.threshold / 1e6).toFixed(1)} Mbit/s`,
  "no-traffic": () => "no traffic via the overlay is counted",
  "over-threshold": (r: { readonly rate: number; readonly destination: Prefix }) =>
    `${describeRate(r.rate)} to ${r.destination}`,
  resolving: () => "asking the hub who owns it",
  "routed-to-self": () => "the hub routes it to this router",
  "maximum-reached": (r: { readonly most: number }) => `the maximum of ${r.most} shortcuts is reached`,
  evicted: (r: { readonly destination: Prefix; readonly most: number }) =>
    `makes room for ${r.destination}: the maximum of ${r.most} shortcuts is reached`,
  /** The text is worded in hub/attestation.ts. */
  "hub-routes-to-no-owner": (r: { readonly text: string }) => r.text,

  // ---------------------------------------------------------------- hubs and resolution
  "not-registered": () => "not yet registered",
  "no-hub": () => "no hub is configured",
  "hub-silent": (r: { readonly hub: Address }) =>
    `hub ${r.hub} does not answer on the control port: is shortcutd running there, does the overlay reach it, and does its firewall let UDP control.port in?`,
  /** In the underlay: the port of the hub's direct interface, or its port for pings. */
  "hub-port-silent": (r: {
    readonly hub: Address;
    readonly port: number;
    readonly use: "direct" | "observe";
  }) =>
    r.use === "direct"
      ? `hub ${r.hub} does not answer on UDP ${r.port} (direct.port) in the underlay: a firewall drops it, and the hub cannot tell at which endpoint it sees this router`
      : `hub ${r.hub} does not answer on UDP ${r.port} (direct.observe-port) in the underlay: a firewall drops it, and how a NAT maps stays unknown`,
  "hub-refuses": (r: { readonly hub: Address; readonly text: string }) => `hub ${r.hub} refuses: ${r.text}`,
  "hub-answers": (r: { readonly hub: Address; readonly message: string }) =>
    `hub ${r.hub} answers ${r.message}`,
  "resolution-unanswered": (r: { readonly hub: Address }) => `hub ${r.hub} did not answer the resolution`,
  "resolution-refused": (r: { readonly text: string }) => led("hub", r.text),
  "resolution-unexpected": (r: { readonly message: string }) => `hub answered ${r.message}`,
  "resolution-changed": () => "the hub's routes changed during the resolution",
  resolved: () => "resolved",
  "nothing-attested": (r: { readonly owner: Address }) => `the hub attests no prefix for ${r.owner}`,
  "link-local-gone": () => "the direct interface has lost its link-local address",
  "attestation-changed": () => "the hub's routes to the owner changed",
  "hub-path-silent": () => "the direct path works again, and nothing comes over the hub path",
  "outlives-hub": (r: { readonly outlive: number }) =>
    `the hub is gone: the shortcut stays for up to ${seconds(r.outlive)}, while the owner confirms its prefixes`,
  "hub-away": (r: { readonly outlive: number }) => `the hub has been away for ${seconds(r.outlive)}`,

  // ---------------------------------------------------------------- the other end
  "asked-by-owner": () => "the other end asked for a shortcut",
  "owner-silent": (r: { readonly owner: Address }) => `${r.owner} does not answer any more`,
  "owner-unanswering": (r: { readonly owner: Address }) =>
    `${r.owner} does not answer, although it is registered at the hub: does the hub forward UDP control.port between spokes, and does no firewall drop it?`,
  "owner-refused": (r: { readonly text: string }) => led("the owner refused", r.text),
  "owner-unexpected": (r: { readonly message: string }) => `unexpected ${r.message} from the owner`,
  "owner-unregistered-key": (r: { readonly owner: Address }) =>
    `${r.owner} answers with a key that it has not registered at the hub`,
  /** The reason travels to the other end, so it names the router by its overlay address. */
  "key-not-pinned": (r: { readonly router: Address; readonly owner: Address; readonly key: PublicKey }) =>
    `pins of ${r.router} do not have the direct key ${r.key} for ${r.owner}: add it there if the owner has changed its key; otherwise a hub substitutes keys`,
  /** The same: `router` has none, `owner` has one for it. */
  "psk-missing": (r: { readonly router: Address; readonly owner: Address }) =>
    `${r.router} has no pre-shared key for ${r.owner}, which has one for it: put the same key into psk.directory at both, or at neither`,
  /** The same. */
  "psk-differs": (r: { readonly router: Address; readonly owner: Address }) =>
    `the pre-shared keys of ${r.router} and ${r.owner} differ, or a hub substitutes direct keys: compare the files in psk.directory at both ends`,
  /** The same; the problem is worded in adapters/wireguard/preshared-keys.ts. */
  "psk-unusable": (r: { readonly router: Address; readonly owner: Address; readonly problem: string }) =>
    `${r.router} cannot use its pre-shared key for ${r.owner}: ${r.problem}`,
  "overlay-key-unknown": () =>
    "the private key of the overlay interface, or the hub's peer on it, is unknown: the registration cannot be proven",
  "owner-other-attempt": () => "the owner answered another attempt",
  "owner-started-again": () => "the other end started again",
  "owner-restarted": () => "the other end restarted",
  "owner-withdrew": (r: { readonly text: string }) => led("the other end fell back to the hub path", r.text),
  "owner-flipped": () => "the other end fell back to the hub path",
  "owner-not-selected": (r: { readonly text: string }) =>
    `the owner's daemon: ${r.text === "" ? "did not select our prefixes" : r.text}`,
  "owner-unaccepting": () => "the owner no longer accepts our prefixes",
  "owner-going-back": () => "the other end falls back to the hub path",

  // ---------------------------------------------------------------- offers and selection
  "waiting-for-daemons": () => "waiting for the daemons",
  "waiting-for-daemon": () => "waiting for the daemon",
  "both-selected": () => "both daemons selected",
  "one-way": (r: { readonly selected: "here" | "there" }) =>
    `one way: ${r.selected === "here" ? "this router's" : "the owner's"} daemon selected`,
  "not-selected": () => "not selected by the daemon",
  "no-offer-left": () => "no route underneath any more",
  "prefix-moved": (r: { readonly prefix: Prefix; readonly from: Address }) =>
    `${r.prefix} moved here from ${r.from}, whose offer is still being withdrawn`,
  "no-alias": (r: { readonly prefix: Prefix }) =>
    `no alias next hop for ${r.prefix}: the pool is used up, or not configured for its family`,
  "nothing-underneath": (r: { readonly prefix: Prefix }) =>
    `no route underneath: the feed has no route for ${r.prefix}`,
  "underneath-unreached": (r: {
    readonly prefix: Prefix;
    readonly nextHop: Address;
    readonly overlay: string;
  }) => `the route underneath ${r.prefix} has next hop ${r.nextHop}, which does not leave via ${r.overlay}`,
  "interface-unknown": (r: { readonly prefix: Prefix }) =>
    `the daemon was asked for the interface of the route underneath ${r.prefix}, and has not answered yet`,
  "underneath-elsewhere": (r: { readonly prefix: Prefix; readonly overlay: string }) =>
    `the daemon routes ${r.prefix} via another interface than ${r.overlay}`,
  /** The text is worded in bgp/offer.ts. */
  "session-cannot-carry": (r: { readonly text: string }) => r.text,
  "hub-offers-nothing": () => "a hub offers nothing",
  withdrawn: () => "withdrawn",

  // ---------------------------------------------------------------- the sessions with the daemon
  "not-connected": () => "not yet connected to the daemon",
  "offers-not-established": () => "the offers session is not established yet",
  "session-down": (r: { readonly session: "offers" | "feed"; readonly text: string }) =>
    `${r.session} session: ${r.text}`,
  "feed-incomplete": () => "waiting for the daemon to send its routes",

  // ---------------------------------------------------------------- the direct path
  "no-endpoint": () =>
    "neither end knows its public endpoint yet: no hub has heard the direct interfaces (is UDP direct.port open at the hub?)",
  /** The reason travels to the other end, so it names the router by its overlay address. */
  "endpoint-via-overlay": (r: {
    readonly router: Address;
    readonly endpoint: string;
    readonly by: Tunnelled;
  }) =>
    `the endpoint ${r.endpoint} is reached via the ${r.by === "overlay" ? "overlay" : "direct interface"} of ${r.router}, so that a path to it is not direct: set direct.fwmark there, and route packets with that mark by the underlay`,
  "endpoint-refused": (r: { readonly endpoint: string; readonly fault: EndpointFault }) =>
    `${r.endpoint} is not used as an endpoint: ${FAULTS[r.fault]}`,
  "peer-not-configured": (r: { readonly error: string }) => `cannot configure the peer: ${r.error}`,
  "no-tunnel": () => "no tunnel",
  "no-handshake": (r: { readonly endpoint: Address | undefined }) =>
    `no WireGuard handshake with ${r.endpoint ?? "an unknown endpoint"}`,
  "no-probe": () =>
    "no probe arrived on the direct path, although WireGuard made a handshake: the other end's firewall drops input on its direct interface (UDP control.port), or one of the two drops output",
  "probes-unheard": () =>
    "the owner does not hear our probes on the direct path: its firewall drops input on its direct interface (UDP control.port), or packets towards it are lost",
  /** The reason travels to the other end, so it names the router by its overlay address. */
  "input-dropped": (r: { readonly router: Address }) =>
    `the firewall of ${r.router} drops input on its direct interface: packets reach WireGuard there, and no probe (UDP control.port) reaches shortcutd`,
  /** Bytes of UDP payload. */
  "full-size-dropped": (r: { readonly bytes: number }) =>
    `probes of full size (${r.bytes} bytes of UDP) do not pass the direct path`,
  "not-accepted-yet": () => "the owner does not accept our prefixes yet",
  proven: () => "proven",
  "path-proven": (r: { readonly roundTrip: number }) => `round trip ${millis(r.roundTrip)}`,
  "nothing-to-try": (r: { readonly nat: NatForecast | undefined }) =>
    `the owner offers no endpoint that could be tried${alsoNat(r.nat)}`,
  "no-answer": (r: {
    readonly tried: string;
    /** Candidates that must not be tried, and why; empty for none. */
    readonly untried: string;
    readonly nat: NatForecast | undefined;
  }) => `no answer from ${r.tried}${r.untried === "" ? "" : `; not tried: ${r.untried}`}${alsoNat(r.nat)}`,
  "answers-only": (r: { readonly tried: string; readonly nat: NatForecast | undefined }) =>
    `answers from ${r.tried}${alsoNat(r.nat)}`,
  /** `silence` is milliseconds. */
  "path-lost": (r: { readonly loss: Loss | undefined; readonly silence: number }) =>
    `the direct path failed${r.loss === undefined ? "" : `: ${lossText(r.loss, r.silence)}`}`,
  slower: (r: { readonly direct: number; readonly hub: number; readonly limit: number }) =>
    `the direct path is slower: round trip ${millis(r.direct)}, via the hub ${millis(r.hub)}, at most ${millis(r.limit)} is allowed`,
  idle: (r: { readonly timeout: number }) => `idle for ${seconds(r.timeout)}`,
  "traffic-cooled": (r: { readonly before: string }) =>
    r.before === "" || r.before.startsWith(COOLED) ? COOLED : `${COOLED}; before that: ${r.before}`,

  // ---------------------------------------------------------------- this router
  purged: () => "purged by the operator",
  stopping: () => "shortcutd stops",
  "direct-not-up": () => "the direct interface is not up yet",
  "table-missing": (r: { readonly table: string }) =>
    `the ${r.table} is missing: the firewall cannot be judged`,
  "direct-gone": (r: { readonly name: string }) => `the direct interface ${r.name} is gone`,
  /** The problem is worded in driver/kernel/ownership.ts. */
  "direct-foreign": (r: { readonly name: string; readonly problem: string }) =>
    `the interface ${r.name} ${r.problem}`,
  /** The changes are worded in driver/kernel/interface-state.ts. */
  "direct-changed": (r: { readonly name: string; readonly changes: readonly string[] }) =>
    `another program has changed the direct interface ${r.name}: ${r.changes.join(", ")}; it is being restored`,
  "overlay-missing": (r: { readonly name: string }) => `the overlay interface ${r.name} does not exist`,
  "overlay-down": (r: { readonly name: string }) => `the overlay interface ${r.name} is down`,
  "overlay-outside-vrf": (r: { readonly name: string; readonly vrf: string | undefined }) =>
    `the overlay interface ${r.name} is ${r.vrf === undefined ? "in a VRF" : `not in VRF ${r.vrf}`}`,
  "overlay-address-missing": (r: { readonly name: string; readonly address: Address }) =>
    `this router's address ${r.address} is not on ${r.name}, nor on another interface that is up`,
  "overlay-unbound": (r: { readonly name: string; readonly error: string }) =>
    `no control socket on the overlay interface ${r.name}: ${r.error}`,
  "rp-filter-strict": (r: { readonly devices: readonly string[] }) =>
    `rp_filter is strict on ${r.devices.join(" and ")}: it would drop packets while only one end has flipped; set net.ipv4.conf.{all,${r.devices.join(",")}}.rp_filter to 2 or 0`,
  /** Such an interface has no IPv4 address: the kernel judges it as if rp_filter were strict. */
  "rp-filter-loose": (r: { readonly devices: readonly string[] }) =>
    `rp_filter is loose on ${r.devices.join(" and ")} without an IPv4 address there: the kernel would drop IPv4 packets while only one end has flipped; set net.ipv4.conf.{all,${r.devices.join(",")}}.rp_filter to 0, or add an IPv4 address`,
  /** The reason travels to the other end, so it names the router by its overlay address. */
  "firewall-drops": (r: {
    readonly router: string;
    readonly direction: "from" | "to";
    readonly dev: string;
    readonly dropped: number;
    readonly seen: number;
  }) =>
    `the firewall of ${r.router} drops forwarded packets ${r.direction} ${r.dev} (${r.dropped} of ${r.seen}): allow ${r.dev} where the overlay is allowed`,
  /** The same. */
  "firewall-drops-new": (r: {
    readonly router: string;
    readonly direction: "from" | "to";
    readonly dev: string;
    readonly flows: number;
  }) =>
    `the firewall of ${r.router} drops new connections ${r.direction} ${r.dev} (${r.flows} of them passed via the overlay afterwards): allow ${r.dev} where the overlay is allowed, also for connections that are not established`,
  /** The same. */
  "nat-names-overlay": (r: {
    readonly router: Address;
    readonly place: string;
    readonly what: "source" | "destination";
    readonly dev: string;
  }) =>
    `a NAT rule of ${r.router} (${r.place}) translates the ${r.what} of packets on the overlay alone: name ${r.dev} where it names the overlay, or restrict it to ${r.what} addresses that do not go direct`,
  "pings-not-open": () => "not asked for yet",
  "pings-unavailable": (r: { readonly error: string }) => r.error,

  // ---------------------------------------------------------------- neighbours of the daemon
  "neighbour-would-see": (r: {
    readonly neighbour: string;
    readonly prefix: Prefix;
    readonly because: string;
  }) => `${r.neighbour} would see an offer for ${r.prefix}: ${r.because} (bgp.accept-visible)`,
  "neighbour-loses": (r: { readonly neighbour: string; readonly prefix: Prefix; readonly filter: string }) =>
    `${r.neighbour} is no longer sent ${r.prefix}${byFilter(r.filter)}`,
  "neighbour-gains": (r: { readonly neighbour: string; readonly prefix: Prefix; readonly filter: string }) =>
    `${r.neighbour} is sent ${r.prefix}, which it was not before${byFilter(r.filter)} (bgp.accept-visible)`,
  "neighbour-sees-change": (r: {
    readonly neighbour: string;
    readonly prefix: Prefix;
    readonly sent: string;
    readonly had: string;
  }) =>
    `${r.neighbour} is sent ${r.prefix} with other attributes: ${r.sent} instead of ${r.had} (bgp.accept-visible)`,

  // ---------------------------------------------------------------- BIRD's decision
  "bird-not-selected": () => `${BIRD}not selected`,
  "bird-kernel-filter": () =>
    "BIRD selected the offer and its kernel protocol did not install it: an export filter of the kernel protocol on fib4/fib6 drops it",
  "bird-other-device": (r: { readonly prefix: Prefix; readonly devices: string }) =>
    `${BIRD}the main table sends ${r.prefix} by ${r.devices}`,
  "bird-no-protocol": () => `${BIRD}there is no protocol shortcut`,
  "bird-disabled": () => `${BIRD}protocol shortcut is disabled`,
  "bird-session-down": (r: { readonly state: string; readonly error: string | undefined }) =>
    `${BIRD}session shortcut is not established (${r.state}${r.error === undefined ? "" : `, last error: ${r.error}`})`,
  "bird-no-channel": (r: { readonly family: number }) =>
    `${BIRD}protocol shortcut has no ipv${r.family} channel`,
  "bird-rejected": (r: { readonly filter: string }) => `${BIRD}rejected by import filter ${r.filter}`,
  "bird-invalid": () => `${BIRD}received on session shortcut and invalid`,
  "bird-not-received": () => `${BIRD}not received on session shortcut`,
  "bird-no-route": (r: { readonly prefix: Prefix }) => `${BIRD}no route for ${r.prefix} is valid`,
  "bird-other-preferred": (r: {
    readonly protocol: string;
    readonly preference: number;
    readonly offer: number;
    readonly filter: string;
  }) =>
    r.preference > r.offer
      ? `${BIRD}route of protocol ${r.protocol} preferred, preference ${r.preference} > ${r.offer}`
      : `${BIRD}route of protocol ${r.protocol} preferred at equal preference ${r.offer}; import filter ${r.filter} does not raise the offer's preference`,
  "bird-alias-unresolved": (r: { readonly alias: Address; readonly type: string; readonly family: number }) =>
    `${BIRD}selected, but alias ${r.alias} is unresolved and the route is ${r.type}: no route for it in shortcut${r.family}, not even the fallback`,
  "bird-no-kernel-protocol": (r: { readonly family: number }) =>
    `${BIRD}selected in fib${r.family}, but no kernel protocol takes routes from fib${r.family}`,
  "bird-kernel-drops": (r: {
    readonly family: number;
    readonly kernels: readonly { readonly name: string; readonly filter: string }[];
  }) =>
    `${BIRD}selected in fib${r.family}, but ${r.kernels.map((k) => `kernel protocol ${k.name} drops it (export filter ${k.filter})`).join(", ")}`,
  "bird-kernel-refused": (r: { readonly family: number }) =>
    `${BIRD}selected in fib${r.family}, but the kernel refused the route`,
  "bird-selected": (r: {
    readonly preference: number;
    readonly fallback: { readonly alias: Address; readonly by: string; readonly family: number } | undefined;
  }) =>
    `${BIRD}selected, preference ${r.preference}${
      r.fallback === undefined
        ? ""
        : `; alias ${r.fallback.alias} resolves by ${r.fallback.by} only (\`learn\` in shortcut_k${r.fallback.family}?)`
    }`,

  // ---------------------------------------------------------------- FRR's decision
  "frr-no-route": () => `${FRR}zebra has no route for the prefix in the FIB`,
  "frr-not-selected": () => `${FRR}not selected`,
  "frr-tied-fib": () =>
    `${FRR}tied, the offer is one of several next hops (multipath); set a weight in the import route-map`,
  "frr-alias-elsewhere": (r: { readonly devices: string }) => `${FRR}the alias resolves by ${r.devices}`,
  "frr-no-session": (r: { readonly source: Address }) => `${FRR}no session with ${r.source}`,
  "frr-session-down": (r: {
    readonly source: Address;
    readonly state: string;
    readonly lastReset: string | undefined;
  }) =>
    `${FRR}session with ${r.source} is not established (${r.state}${r.lastReset === undefined ? "" : `, last reset: ${r.lastReset}`})`,
  "frr-rejected": (r: { readonly map: string | undefined }) =>
    FRR + (r.map === undefined ? "rejected by the import policy" : `rejected by route-map ${r.map}`),
  "frr-not-received": (r: { readonly source: Address }) => `${FRR}not received from ${r.source}`,
  "frr-not-received-or-rejected": (r: { readonly source: Address; readonly map: string | undefined }) =>
    `${FRR}not received from ${r.source}, or rejected by ${r.map === undefined ? "its import policy" : `route-map ${r.map}`}; \`soft-reconfiguration inbound\` would tell`,
  "frr-no-path": (r: { readonly alias: Address }) => `${FRR}no path by ${r.alias}`,
  "frr-inaccessible": (r: { readonly alias: Address }) =>
    `${FRR}next hop ${r.alias} (the alias) is inaccessible`,
  "frr-no-best": () => `${FRR}bgpd has not selected a best path yet`,
  "frr-tied": () => FRR + FRR_TIED,
  "frr-path-preferred": (r: {
    /** The peer of the preferred path; undefined for the router's own route. */
    readonly peer: string | undefined;
    readonly selection: string | undefined;
    readonly weight: readonly [best: number, offer: number];
    readonly localPref: readonly [best: number, offer: number] | undefined;
  }) => {
    const whose = r.peer === undefined ? "the router's own route" : `path of ${r.peer}`;
    const reason = r.selection === undefined ? "" : ` (${r.selection})`;
    const localPref = r.localPref === undefined ? "" : `, local preference ${compared(...r.localPref)}`;
    return `${FRR}${whose} preferred${reason}: weight ${compared(...r.weight)}${localPref}`;
  },
  "frr-no-bgp-route": () => `${FRR}best in bgpd, but zebra has no BGP route for it (table-map?)`,
  "frr-route-preferred": (r: {
    readonly protocol: string;
    readonly distance: readonly [chosen: number, bgp: number];
    readonly metric: readonly [chosen: number, bgp: number];
  }) =>
    r.distance[0] === r.distance[1]
      ? `${FRR}${r.protocol} route preferred at equal distance ${r.distance[1]}, metric ${compared(...r.metric)}`
      : `${FRR}${r.protocol} route preferred, distance ${compared(...r.distance)}`,
  "frr-not-taken-over": () => `${FRR}best in bgpd, zebra has not taken it over yet`,
  "frr-alias-unresolved": (r: { readonly alias: Address }) =>
    `${FRR}best in bgpd, but zebra does not resolve next hop ${r.alias} (the alias)`,
  "frr-not-installed": () => `${FRR}selected by zebra, but not installed in the kernel`,
  "frr-selected": (r: { readonly weight: number; readonly distance: number }) =>
    `${FRR}selected, ${r.weight > 0 ? `weight ${r.weight}` : `distance ${r.distance}`}`,
} as const;

type Words = typeof WORDS;

/** The reason for a state or a decision. */
export type Reason = {
  [K in keyof Words]: { readonly kind: K } & (Parameters<Words[K]> extends [infer Data] ? Data : unknown);
}[keyof Words];

export type ReasonKind = Reason["kind"];

/** Words a reason; empty when it is undefined. */
export function describeReason(r: Reason | undefined): string {
  if (r === undefined) return "";
  const word: (data: never) => string = WORDS[r.kind];
  return word(r as never);
}

/** Every kind of reason, for tests. */
export const REASON_KINDS = Object.keys(WORDS) as readonly ReasonKind[];

function lossText(loss: Loss, silence: number): string {
  switch (loss) {
    case "silent":
      return `no probe arrived for ${Math.round(silence)} ms`;
    case "unheard":
      return `the owner has not heard our probes for ${Math.round(silence)} ms`;
    case "narrow":
      return "full-size probes do not pass any more";
  }
}

function alsoNat(nat: NatForecast | undefined): string {
  return nat === undefined ? "" : `; ${describeNat(nat)}`;
}

/** Words why an endpoint is left out, in a list of endpoints. */
export function describeUntried(endpoint: string, r: Reason): string {
  if (r.kind === "endpoint-refused") return `${endpoint} (${FAULTS[r.fault]})`;
  return r.kind === "endpoint-via-overlay" ? `${endpoint} (reached via the overlay)` : endpoint;
}

function byFilter(filter: string): string {
  return filter === "" ? "" : `: its ${filter}`;
}

/** A decision: yes; or no, with the reason. */
export type Verdict = { readonly ok: true } | { readonly ok: false; readonly reason: Reason };

export const YES: Verdict = { ok: true };
export const no = (reason: Reason): { readonly ok: false; readonly reason: Reason } => ({
  ok: false,
  reason,
});
