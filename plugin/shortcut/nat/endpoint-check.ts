/**
 * The check that every endpoint passes before anything is sent there, whatever its source: candidates
 * of the other end, endpoints that a hub has seen, sources of pings, and endpoints that were kept. An
 * endpoint of another router is a unicast address in the underlay. It is not an address of this
 * router, nor one that only tunnels reach, so a member cannot direct this router's packets to the
 * router itself, to a whole network, or into the overlay.
 */
import {
  type Address,
  addressBytes,
  addressFromBytes,
  contains,
  type Endpoint,
  familyOf,
  formatEndpoint,
  type Prefix,
  prefix,
} from "../../net/address.js";
import type { InterfaceAddress, RoutingView } from "../events.js";
import { type EndpointFault, no, type Tunnelled, type Verdict, YES } from "../reasons.js";

/** Addresses that no other router has as its endpoint (RFC 6890, RFC 1112, RFC 919, RFC 4291). */
const NEVER: readonly (readonly [Prefix, EndpointFault])[] = (
  [
    ["0.0.0.0/8", "unspecified"],
    ["127.0.0.0/8", "loopback"],
    ["169.254.0.0/16", "link-local"],
    ["224.0.0.0/4", "multicast"],
    ["255.255.255.255/32", "broadcast"],
    ["240.0.0.0/4", "reserved"],
    ["::/128", "unspecified"],
    ["::1/128", "loopback"],
    ["::/96", "ipv4-mapped"],
    ["::ffff:0:0/96", "ipv4-mapped"],
    ["100::/64", "reserved"],
    ["fe80::/10", "link-local"],
    ["fec0::/10", "reserved"],
    ["ff00::/8", "multicast"],
  ] as const
).map(([p, fault]) => [prefix(p), fault]);

/** IPv6 addresses that carry an IPv4 address, and its place (RFC 6052 §2.1, RFC 3056 §2). */
const CARRIERS: readonly (readonly [Prefix, at: number])[] = [
  [prefix("64:ff9b::/96"), 12],
  [prefix("2002::/16"), 2],
];

/** Returns the IPv4 address to which a translator or relay sends what goes to this address. */
function carried(a: Address): Address | undefined {
  const at = CARRIERS.find(([p]) => contains(p, a))?.[1];
  return at === undefined ? undefined : addressFromBytes(addressBytes(a).slice(at, at + 4));
}

/** Returns why no router can be reached there from elsewhere; undefined when one may be. */
export function addressFault(a: Address): EndpointFault | undefined {
  const fault = NEVER.find(([p]) => contains(p, a))?.[1];
  const inner = fault === undefined ? carried(a) : undefined;
  return inner === undefined ? fault : addressFault(inner);
}

/** The same for an endpoint that somebody else has told. */
export const remoteFault = (e: Endpoint): EndpointFault | undefined =>
  e.port < 1 || e.port > 65_535 ? "port" : addressFault(e.address);

/** This router, as far as it decides which endpoints may be those of others. */
export interface EndpointView {
  readonly addresses: readonly InterfaceAddress[];
  /** Overlay addresses of the hubs. */
  readonly hubs: readonly Address[];
  readonly aliasPools: readonly Prefix[];
}

/** The other end: its overlay address, and the prefixes that the hub attests for it. */
export interface EndpointOwner {
  readonly address: Address;
  readonly prefixes: readonly Prefix[];
}

/** The last address of an IPv4 network, and the first, which older hosts also took as broadcast (RFC 1812 §4.2.3.1). */
function isBroadcast(a: Address, { address, length }: InterfaceAddress): boolean {
  if (familyOf(a) === 6 || familyOf(address) === 6 || length > 30) return false;
  const bits = (x: Address): number => {
    const [b0 = 0, b1 = 0, b2 = 0, b3 = 0] = addressBytes(x);
    return ((b0 << 24) | (b1 << 16) | (b2 << 8) | b3) >>> 0;
  };
  const host = 2 ** (32 - length);
  const [mine, theirs] = [bits(address), bits(a)];
  if (Math.floor(mine / host) !== Math.floor(theirs / host)) return false;
  return theirs % host === 0 || theirs % host === host - 1;
}

/** Returns why an endpoint is not one of the other end; undefined when it may be. */
export function endpointFault(
  e: Endpoint,
  here: EndpointView,
  owner: EndpointOwner,
): EndpointFault | undefined {
  const fault = remoteFault(e);
  if (fault !== undefined) return fault;
  const a = carried(e.address) ?? e.address;
  const among = (prefixes: readonly Prefix[]): boolean => prefixes.some((p) => contains(p, a));
  if (here.addresses.some((x) => x.address === a)) return "own-address";
  if (here.addresses.some((x) => isBroadcast(a, x))) return "broadcast";
  if (a === owner.address || here.hubs.includes(a)) return "overlay";
  if (among(here.aliasPools)) return "alias-pool";
  return among(owner.prefixes) ? "attested" : undefined;
}

/** Returns the tunnel inside which a path runs; undefined when it runs in the underlay, or nowhere. */
export function tunnelled(routing: Pick<RoutingView, "wayTo">, to: Endpoint): Tunnelled | undefined {
  const way = routing.wayTo(to);
  return way === "overlay" || way === "direct" ? way : undefined;
}

/** Returns whether a path to an endpoint runs outside the tunnels of the overlay; `router` is named in the reason. */
export function outside(router: Address, routing: Pick<RoutingView, "wayTo">, to: Endpoint): Verdict {
  const by = tunnelled(routing, to);
  return by === undefined
    ? YES
    : no({ kind: "endpoint-via-overlay", router, endpoint: formatEndpoint(to), by });
}
