/**
 * The ports: everything the driver asks of the outside world, as interfaces and plain values. Adapters implement
 * them with sockets; tests implement them in memory. Values are decoded and canonical; errors are `PortError`s that
 * name the place and the remedy. Events arrive through callbacks that never throw.
 */

import type { AdjRibIn } from "../bgp/rib.js";
import type { Address, Endpoint, Family, Prefix } from "../net/address.js";
import type { InterfaceNames } from "../net/interface-names.js";
import type { PrivateKey, PublicKey } from "../net/key.js";
import type { Seconds } from "../net/units.js";
import type { HubSession } from "../shortcut/events.js";
import type { ProbeEvent } from "../shortcut/probe/relay.js";
import type { ProbeSession } from "../shortcut/probe/stream.js";
import type { Reason } from "../shortcut/reasons.js";
import type { PathAttributes } from "../wire/bgp/attributes.js";
import type { KernelLink, KernelRoute, RouteEvent } from "../wire/netlink/fib.js";
import type { WireGuardPeerChange, WireGuardPeerState } from "../wire/netlink/wireguard.js";

/** A failure outside: what was attempted, what came back, and what an operator can do about it. */
export class PortError extends Error {
  override readonly name = "PortError";
  constructor(
    /** Where: `bird control socket /run/bird/bird.ctl`, `netlink RTM_NEWROUTE 198.18.0.1/32`. */
    readonly place: string,
    readonly problem: string,
    readonly remedy: string = "",
    /** Negative errno of the kernel, or a symbolic code, when there is one. */
    readonly code: string | undefined = undefined,
  ) {
    super(`${place}: ${problem}${remedy === "" ? "" : ` (${remedy})`}`);
  }
}

// ---------------------------------------------------------------------------------------------- routes and links

export type { KernelLink, KernelRoute, RouteEvent };

/** rtnetlink. Every call rejects with a PortError that carries the kernel's own extended-ack text where it has one. */
export interface RoutePort {
  /**
   * Watches the routes of `tables` for which `keep` holds, and all links. The first event is a snapshot.
   * An overrun leads to a new snapshot, never to an exception.
   */
  watch(
    tables: readonly number[],
    keep: (route: KernelRoute) => boolean,
    onEvent: (event: RouteEvent) => void,
  ): Promise<{ close(): Promise<void>; resync(): Promise<void> }>;
  /** One table, without reading the others (NETLINK_GET_STRICT_CHK). */
  dump(table: number): Promise<readonly KernelRoute[]>;
  /** RTM_GETROUTE with RTM_F_FIB_MATCH: the FIB entry that matches; undefined without a match (ENETUNREACH). */
  lookup(destination: Address): Promise<KernelRoute | undefined>;
  /**
   * The interfaces through which the kernel sends UDP packets from this port, with this mark; none without a route. Policy rules are
   * obeyed. Answers at once.
   */
  ways(to: Endpoint, from: { readonly port: number; readonly mark: number }): readonly string[];
  /**
   * RTM_NEWROUTE with NLM_F_CREATE|NLM_F_REPLACE; interfaces without gateway, scope link; without one an
   * unreachable route. IPv6 takes the first of several: the kernel has no device-only multipath there.
   */
  replace(route: {
    table: number;
    prefix: Prefix;
    via: readonly string[];
    protocol: number;
    metric: number;
  }): Promise<void>;
  /** Resolves also when the route did not exist. */
  remove(route: { table: number; prefix: Prefix; protocol: number; metric: number }): Promise<void>;
  links(): Promise<readonly KernelLink[]>;
  /** Addresses of one interface, each as a host prefix: a Prefix has no room for host bits. */
  addresses(dev: string): Promise<readonly Prefix[]>;
  /** Of all interfaces that are up, with the lengths of their on-link prefixes. */
  allAddresses(): Promise<
    readonly { readonly dev: string; readonly address: Address; readonly length: number }[]
  >;
}

// ---------------------------------------------------------------------------------------------- state

/** A small file that outlives the process. */
export interface StatePort {
  /** Undefined before it was written first. @throws PortError when it cannot be read, or is larger than it can be. */
  load(): Promise<string | undefined>;
  /** Replaces it as a whole: a reader, or a crash, finds the old content or the new one. */
  save(text: string): Promise<void>;
}

// ---------------------------------------------------------------------------------------------- pre-shared keys

/** The file of one owner. */
export type PresharedFile =
  | { readonly ok: true; readonly key: PrivateKey }
  | { readonly ok: false; readonly problem: string };

/** A directory with a file for each owner, named by the owner's overlay address. */
export interface PresharedKeyPort {
  /** Reads all files, those that have changed from the disk. @throws PortError when the directory cannot be used. */
  read(): Promise<ReadonlyMap<Address, PresharedFile>>;
}

// ---------------------------------------------------------------------------------------------- WireGuard

export type { WireGuardPeerState as WireGuardPeer };

/** The wanted state of a peer; an undefined field is left as it is. `allowedIps` is the whole list. */
export interface PeerSpec extends Omit<WireGuardPeerChange, "addAllowedIps"> {
  readonly allowedIps?: readonly Prefix[] | undefined;
}

export interface WireGuardDevice {
  readonly name: string;
  readonly publicKey: PublicKey | undefined;
  readonly listenPort: number;
  readonly fwmark: number;
  readonly peers: readonly WireGuardPeerState[];
}

/** The proof that an interface is ours. */
export interface Owner {
  /** The ifalias of every interface of ours. */
  readonly mark: string;
  /** Of our private key. */
  readonly publicKey: PublicKey;
}

export interface InterfaceSpec extends Owner {
  readonly name: string;
  readonly privateKey: PrivateKey;
  /** 0 lets the kernel choose. */
  readonly listenPort: number;
  /** The mark of the packets that it sends in the underlay; 0: no mark. */
  readonly fwmark?: number | undefined;
  readonly mtu: number;
  /** Host prefixes. No connected route is made, but a link-local address becomes a /64 with its route. */
  readonly addresses: readonly Prefix[];
  /** The VRF that it is a member of, if any; its UDP socket is not. */
  readonly vrf?: string | undefined;
}

/** The direct interface as the kernel has it. */
export interface InterfaceState {
  readonly ifindex: number;
  readonly up: boolean;
  readonly mtu: number;
  /** The VRF or bridge that it is a member of. */
  readonly master: string | undefined;
  readonly publicKey: PublicKey | undefined;
  readonly listenPort: number;
  /** Firewall mark of its packets in the underlay; 0: none. */
  readonly fwmark: number;
  readonly peers: readonly WireGuardPeerState[];
  readonly addresses: readonly { readonly address: Address; readonly length: number }[];
  /** Its own rp_filter, without that of `all`. */
  readonly reversePathFilter: number | undefined;
  /** `off-here`: on this interface only; IPv6 is on for others. */
  readonly ipv6: "on" | "off" | "off-here";
}

/** The interface that has the name of the direct one. */
export type Claim =
  | { readonly kind: "absent" }
  | { readonly kind: "ours"; readonly state: InterfaceState }
  /** Somebody else's: nothing of it may be changed. */
  | { readonly kind: "foreign"; readonly problem: string };

/** Interfaces are changed and deleted only where they are provably ours: see kernel/ownership.ts. */
export interface WireGuardPort {
  /** Creates the interface if it is missing (kernel, else wireguard-go), then sets key, port, MTU, addresses, loose rp_filter and `up`. Idempotent. @throws ForeignInterface */
  ensure(spec: InterfaceSpec): Promise<{ created: boolean; backend: "kernel" | "uapi" }>;
  /** Reads the interface if it is ours. One of ours without the mark gets it, one that was renamed gets its name back. */
  claim(spec: InterfaceSpec): Promise<Claim>;
  /** Undefined when there is no such interface, or no WireGuard behind it. */
  device(name: string): Promise<WireGuardDevice | undefined>;
  /** Reads the interface's private key; undefined when there is no such interface, or it has no key. */
  privateKey(name: string): Promise<PrivateKey | undefined>;
  /** Packets for AllowedIPs that the peer had and keeps always find it: nothing is replaced, only the differences are written. The interface was claimed, or ensured. */
  setPeer(name: string, peer: PeerSpec): Promise<void>;
  removePeer(name: string, publicKey: PublicKey): Promise<void>;
  /** Deletes the interface (and ends a wireguard-go that ran it) if it is still ours. Idempotent. */
  destroy(name: string): Promise<void>;
}

// ---------------------------------------------------------------------------------------------- traffic, datagrams

/** Bytes that left via the overlay towards one masked destination since the counter was created. */
export interface TrafficSample {
  readonly destination: Prefix;
  readonly bytes: number;
  readonly packets: number;
}

/** From the direct interface to a LAN, or from a LAN to the direct interface. */
export const DIRECTIONS = ["from", "to"] as const;
export type Direction = (typeof DIRECTIONS)[number];

/**
 * Packets of one host of a remote site, forwarded through the direct interface since the counter was created: those of flows of
 * which a packet has passed the filters within the last minute, via the overlay or on the direct interface.
 */
export interface HostForwarding {
  readonly direction: Direction;
  readonly remote: Address;
  /** Before every filter of the forward hook. */
  readonly seen: number;
  /** The same, read after `passed`: what came in between is in this one alone, or the other would lack it and look dropped. */
  readonly seenAfter: number;
  /** After. */
  readonly passed: number;
}

/** New connections to one service. */
export interface NewFlow {
  readonly direction: Direction;
  /** The host of the remote site. */
  readonly remote: Address;
  /** Names receiver, protocol and port. */
  readonly service: string;
}

export interface ForwardingReading {
  readonly hosts: readonly HostForwarding[];
  /** New flows that were dropped on the direct interface and passed via the overlay since, each with the packets that did. */
  readonly dropped: readonly (NewFlow & { readonly packets: number })[];
  /** New flows that passed on the direct interface in the last seconds; read only when some were dropped. */
  readonly passed: readonly NewFlow[];
}

export interface TrafficPort {
  /**
   * Creates our own nftables table (replacing a leftover of the same name): per-destination counters of what leaves via the overlay, masked to
   * `mask4`/`mask6` bits, control traffic excluded; and the rule that drops forwarded control packets that did not arrive via the overlay.
   */
  setUp(spec: {
    table: string;
    /** Names and patterns (`wg-*`): an interface is covered from the moment at which it appears. */
    overlay: readonly string[];
    direct: string;
    /** Both are members of a VRF. */
    inVrf?: boolean;
    /** Firewalls look at the state of connections: new flows are judged for themselves. */
    stateful: boolean;
    /** The mark that leads packets into the overlay. */
    divertMark: number;
    controlPort: number;
    mask4: number;
    mask6: number;
    timeoutSeconds: number;
  }): Promise<void>;
  /** Returns whether the table is as it was set up; a counter's value does not matter. */
  intact(): Promise<boolean>;
  read(): Promise<readonly TrafficSample[]>;
  readForwarding(): Promise<ForwardingReading>;
  tearDown(): Promise<void>;
}

/** Tells when something of our own nftables tables is deleted, and when others' rules change. */
export interface TableWatchPort {
  /** Both are also called when notifications were lost. */
  watch(tables: readonly string[], onDeletion: () => void, onChange: () => void): { close(): void };
}

/** Packets with the bits of `mark` are routed by `table`, which leads into the overlay. */
export interface DivertSpec {
  /** The overlay interface that leads to the hub in use; undefined: none exists now. */
  readonly to: string | undefined;
  /** Only packets that arrived in this VRF; undefined: all. */
  readonly vrf: string | undefined;
  readonly mark: number;
  readonly table: number;
  /** Of the policy rule. */
  readonly priority: number;
  /** RTPROT_* of rule and route. */
  readonly protocol: number;
}

/** Routes marked packets into the overlay, by a policy rule and a table, in both families. */
export interface DivertPort {
  /**
   * Makes what is missing, replaces a route of ours that leads elsewhere, and removes earlier rules of ours into the table. With an
   * interface that is not up it does nothing, without one it removes the route.
   */
  ensure(spec: DivertSpec): Promise<void>;
  remove(spec: Omit<DivertSpec, "to">): Promise<void>;
}

/** The rules of others. */
export interface RulesetPort {
  /** The whole ruleset as libnftables-json(5), with the elements of sets of interface names; without our own tables. */
  read(): Promise<readonly unknown[]>;
}

/** A source that is not this router's to use on a direct path. */
export interface UnattestedSource {
  readonly source: Address;
  readonly packets: number;
}

/** Sends packets via the overlay that would leave via the direct interface with a source that the other end drops. */
export interface SourceGuardPort {
  /** Replaces the guard as a whole. To be repeated when one of the interfaces was made again. */
  set(spec: {
    readonly direct: string;
    /** The overlay interface that other sources are handed over to; undefined: none exists now, and they are dropped. */
    readonly to: string | undefined;
    /** The sources that may go direct. */
    readonly sources: readonly Prefix[];
    /**
     * The mark with which other sources are routed into the overlay, so that they pass its NAT too.
     * Undefined: they are handed over where they would leave.
     */
    readonly mark: number | undefined;
  }): Promise<void>;
  /** Returns whether the guard is as it was last set; also before it was set. */
  intact(): Promise<boolean>;
  /** Those of the last minutes, as many as are remembered. */
  unattestedSources(): Promise<readonly UnattestedSource[]>;
  remove(): Promise<void>;
}

export interface DatagramSocket {
  /** Fire and forget: an error is reported through `onError`. `dev` of the socket is the scope of link-local destinations. */
  send(to: Endpoint, payload: Uint8Array): void;
  close(): Promise<void>;
}

export interface DatagramPort {
  /** A UDP socket bound to `address:port` and to the interface `dev` (SO_BINDTODEVICE); rejects with PortError (EADDRINUSE names the likely culprit). */
  open(
    bind: { dev: string; address: Address; port: number },
    onDatagram: (from: Endpoint, payload: Uint8Array) => void,
    onError: (error: PortError) => void,
  ): Promise<DatagramSocket>;
}

/** Probes of the paths of one interface, sent and received where a busy event loop does not delay them. */
export interface ProbeSocket {
  /** Probes the path to the peer with this key, or goes on with what changed. */
  set(key: PublicKey, to: Endpoint, session: ProbeSession): void;
  unset(key: PublicKey): void;
  close(): Promise<void>;
}

export interface ProbePort {
  /** As {@link DatagramPort.open}, at each of the addresses; probes to a link-local address leave from the one that is. Events carry the time at which they happened; they come late while the event loop is busy. */
  open(
    bind: { dev: string; addresses: readonly Address[]; port: number },
    onEvent: (event: ProbeEvent) => void,
    onError: (error: PortError) => void,
  ): Promise<ProbeSocket>;
}

// ---------------------------------------------------------------------------------------------- pings

/** A datagram in the underlay, from a port that a WireGuard interface has. */
export interface OutgoingPing {
  readonly to: Endpoint;
  readonly fromPort: number;
  /** Undefined: the kernel chooses. IPv4 only. */
  readonly source: Address | undefined;
  /** Time to live or hop limit; undefined: the usual one. */
  readonly ttl: number | undefined;
  readonly payload: Uint8Array;
}

/** An IPv4 router said that it let one of our datagrams die: at which hop of its life, by its `ttl`. */
export interface ExceededHop {
  readonly hop: Address;
  readonly to: Endpoint;
  readonly ttl: number;
}

export interface PingSocket {
  /** Fire and forget; what cannot be sent is a ping that is lost. */
  send(ping: OutgoingPing): void;
  close(): Promise<void>;
}

/** Raw sockets beside WireGuard's own: they see only datagrams to `ports` that begin with the pings' magic. */
export interface PingPort {
  /** Takes those of `extra` for itself. Rejects with PortError: EPERM without CAP_NET_RAW, EADDRINUSE for a port of `extra`. */
  open(
    ports: {
      readonly wireguard: number;
      readonly extra: readonly number[];
      /** The mark of WireGuard's own packets: pings take the same path. 0: no mark. */
      readonly mark?: number;
    },
    onPing: (from: Endpoint, to: Endpoint, payload: Uint8Array) => void,
    onExceeded: (e: ExceededHop) => void,
    onError: (error: PortError) => void,
  ): Promise<PingSocket>;
}

// ---------------------------------------------------------------------------------------------- routing daemons

/** One thing that the daemon's configuration lacks. `remedy` quotes the line to add and the file it is in. */
export interface DaemonFinding {
  readonly severity: "error" | "warning";
  readonly problem: string;
  readonly remedy: string;
}

/** Why an offered prefix is, or is not, the daemon's choice: in the daemon's own terms. */
export interface DaemonExplanation {
  readonly selected: boolean;
  /** In the daemon's terms, such as `bird-rejected` or `frr-route-preferred`. */
  readonly reason: Reason;
}

/** A neighbour of the daemon that is up, or another protocol into which it redistributes. */
export interface Neighbour {
  /** As the operator knows it: `neighbor 10.1.8.2`, `neighbor 10.1.8.2 (protocol site_ra)`, `OSPF`. */
  readonly name: string;
  readonly address: Address | undefined;
  /** The filter that decides what it is sent, by name and direction: `outgoing route-map X`, `export filter X`. */
  readonly filter: string;
}

export interface Sent {
  /** As far as the daemon shows them; empty when it does not. Undefined: it is not sent the prefix, but would be sent an offer. */
  readonly attributes: string | undefined;
  /** It originates the prefix itself: not to get it back does no harm. */
  readonly isOrigin: boolean;
  /** Why an offer for the prefix would be seen there, whatever its attributes; empty when it would not. */
  readonly visibleReason: string;
}

/** The neighbours that the daemon sends certain prefixes to, now. */
export interface NeighbourView {
  /** Changes with the daemon's configuration. */
  readonly configuration: string;
  /** By a key of the daemon's. */
  readonly neighbours: ReadonlyMap<string, Neighbour>;
  /** By prefix and the neighbour's key; a neighbour that is not sent the prefix is not there. */
  readonly sent: ReadonlyMap<Prefix, ReadonlyMap<string, Sent>>;
}

/** A next hop as the daemon names it. */
export interface IgpNextHop {
  /** Unspecified for a route that names an interface alone. */
  readonly nextHop: Address;
  /** Undefined when the daemon does not say. */
  readonly dev: string | undefined;
}

/** A neighbour of a BGP session: by its address, its interface, or both. */
export interface DaemonNeighbour {
  readonly address: Address | undefined;
  readonly dev: string | undefined;
}

/** The control connection to BIRD or FRR. Selection itself is watched in the kernel; this explains it. */
export interface DaemonPort {
  readonly kind: "bird" | "frr";
  /** Checks that what bird-config/ or frr-config/ provides is there. Rejects only when the daemon cannot be reached. */
  check(expect: DaemonExpectation): Promise<{ version: string; findings: readonly DaemonFinding[] }>;
  explain(prefix: Prefix, alias: Address): Promise<DaemonExplanation>;
  /**
   * The daemon's own BGP session with one of these addresses, or with a neighbour that `isOnLink` takes for a hub: up if any is Established, `none` if it
   * has no such neighbour.
   */
  hubSession(
    hubs: readonly Address[],
    isOnLink?: (neighbour: DaemonNeighbour) => boolean,
  ): Promise<HubSession>;
  /**
   * Next hops of the best route for exactly this prefix that no BGP session tells of (OSPF, static), also while an offer hides it; undefined for a
   * daemon whose feed tells of every route.
   */
  readonly igpNextHops: ((prefix: Prefix) => Promise<readonly IgpNextHop[]>) | undefined;
  /**
   * Reads the interface of each BGP path of exactly this prefix, by the path identifier of the feed, where its session names one; undefined for a daemon
   * whose feed names it.
   */
  readonly pathInterfaces: ((prefix: Prefix) => Promise<ReadonlyMap<number, string>>) | undefined;
  /** Reads which neighbours these prefixes are sent to now. Without prefixes only `configuration` counts. */
  neighbourView(prefixes: readonly Prefix[]): Promise<NeighbourView>;
  close(): Promise<void>;
}

/** An address of an interface, with the length of its on-link prefix. */
export interface InterfaceAddress {
  readonly address: Address;
  readonly length: number;
}

/** The values with which the daemon's configuration must agree. */
export interface DaemonExpectation {
  readonly overlay: InterfaceNames;
  /** This router's addresses on them, and beside its identity, each with the length of its on-link prefix; empty when they are not known. */
  readonly overlayAddresses: readonly InterfaceAddress[];
  /** Of the hubs, as the configuration lists them. */
  readonly hubs: readonly Address[];
  /** The direct interface, which may not exist as yet. */
  readonly direct: string;
  /** BGP identifier of the offers session. */
  readonly routerId: Address;
  readonly blackboardTable: number;
  readonly aliasPool4: Prefix;
  readonly aliasPool6: Prefix | undefined;
  /** Addresses shortcutd dials from. */
  readonly offersSource: Address;
  readonly feedSource: Address;
  readonly localAs: number;
  /** Of both sessions, empty: none; undefined: not known. Never in a finding. */
  readonly password: string | undefined;
  /** The VRF that its sessions are in, if any. */
  readonly vrf?: string | undefined;
}

// ---------------------------------------------------------------------------------------------- time, host, BGP

/** Time as the driver needs it. */
export interface Clock {
  /** Monotonic milliseconds: what the engine runs on. */
  now(): number;
  /** Milliseconds since the epoch: for people. */
  wall(): number;
  /** Calls back after `ms`; the result cancels. */
  after(ms: number, run: () => void): () => void;
  /** Calls back when what has arrived on sockets was read: a timer that is late must not take lag for loss. */
  afterReading(run: () => void): void;
}

export interface HostPort {
  /** The rp_filter in force on an interface: the larger of `all` and its own (Documentation/networking/ip-sysctl.rst). */
  reversePathFilter(dev: string): number | undefined;
  ipv6Enabled(dev: string): boolean;
}

/** A BGP session with the daemon. */
export interface SpeakerPort {
  start(): void;
  stop(): Promise<void>;
  announce(routes: readonly { readonly prefix: Prefix; readonly attributes: PathAttributes }[]): void;
  withdraw(prefixes: readonly Prefix[]): void;
}

export interface SpeakerEvents {
  onState(state: { readonly established: boolean; readonly reason: string }): void;
  onRoutes(prefixes: readonly Prefix[]): void;
  onEndOfRib(family: Family): void;
  onProblem(text: string): void;
}

export interface BgpPort {
  /** `rib` is filled with what the daemon sends. */
  open(
    spec: {
      readonly name: string;
      readonly localAddress: Address;
      readonly remoteAddress: Address;
      /** The VRF in which it dials; undefined: none. */
      readonly vrf: string | undefined;
      /** The file that holds the password of the session. One that is not required may be absent: the session has no password then. */
      readonly password: { readonly file: string; readonly required: boolean } | undefined;
      readonly port: number;
      readonly localAs: number;
      readonly remoteAs: number;
      readonly routerId: Address;
      readonly holdTime: Seconds;
      readonly receives: boolean;
    },
    events: SpeakerEvents,
  ): { readonly speaker: SpeakerPort; readonly rib: AdjRibIn };
}

/** Structured log lines; `fields` identify the shortcut. Never a line per packet or per route. */
export interface LogPort {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}
