/**
 * The direct interface as a value: what it should be, what the kernel says that it is, and what differs; pure. Network
 * managers, sysctl files and operators change what they find. A difference that breaks the direct path sends the traffic back to the hub until it
 * is repaired; the others are repaired without that.
 */
import { type Address, familyOf, hostPrefix, prefixAddress } from "../../net/address.js";
import type { InterfaceSpec, InterfaceState } from "../ports.js";

export interface Difference {
  /** Names it, as part of a list. */
  readonly what: string;
  /** Whether packets are lost on the direct path because of it. */
  readonly breaks: boolean;
}

/** RFC 3704 strict mode. */
const STRICT = 1;
/** RFC 8200 §5: below it the kernel takes IPv6 off an interface. */
const IPV6_MIN_MTU = 1280;

/** IPv6 link-local addresses are a /64 with its route, all others are hosts. */
export const LINK_LOCAL_LENGTH = 64;
const isLinkLocal = (a: Address): boolean => /^fe[89ab]/.test(a);

/** The length that an address of the direct interface has there. */
export const lengthOf = (a: Address): number =>
  isLinkLocal(a) ? LINK_LOCAL_LENGTH : familyOf(a) === 4 ? 32 : 128;

/** The differences, the most important first. */
export function differences(wanted: InterfaceSpec, actual: InterfaceState): Difference[] {
  const out: Difference[] = [];
  const add = (what: string, breaks: boolean) => out.push({ what, breaks });
  if (!actual.up) add("it is down", true);
  if (actual.publicKey !== wanted.publicKey) add("it has another private key", true);
  if (actual.master !== wanted.vrf)
    add(actual.master === undefined ? `it is not in VRF ${wanted.vrf}` : `it is in ${actual.master}`, true);
  if (actual.mtu !== wanted.mtu) add(`its MTU is ${actual.mtu}, not ${wanted.mtu}`, actual.mtu < wanted.mtu);
  if (actual.ipv6 === "off-here" && wanted.mtu >= IPV6_MIN_MTU) add("IPv6 is off on it", true);
  out.push(...addressDifferences(wanted, actual));
  if (wanted.listenPort !== 0 && actual.listenPort !== wanted.listenPort)
    add(`its listen port is ${actual.listenPort}, not ${wanted.listenPort}`, false);
  if (wanted.fwmark !== undefined && actual.fwmark !== wanted.fwmark)
    add(`its firewall mark is ${actual.fwmark}, not ${wanted.fwmark}`, wanted.fwmark !== 0);
  if (actual.reversePathFilter === STRICT) add("its rp_filter is strict", true);
  return out;
}

function addressDifferences(wanted: InterfaceSpec, actual: InterfaceState): Difference[] {
  const key = (a: { readonly address: Address; readonly length: number }) => `${a.address}/${a.length}`;
  const present = new Set(actual.addresses.map(key));
  const targets = wanted.addresses
    .map(prefixAddress)
    .map((address) => ({ address, length: lengthOf(address) }))
    .filter((t) => familyOf(t.address) === 4 || actual.ipv6 === "on");
  const missing = targets.filter((t) => !present.has(key(t)));
  const known = new Set(wanted.addresses);
  const extra = actual.addresses.filter((a) => !known.has(hostPrefix(a.address)));
  return [
    ...missing.map((t) => ({ what: `its address ${key(t)} is missing`, breaks: true })),
    ...extra.map((a) => ({ what: `it has the address ${key(a)}`, breaks: false })),
  ];
}
