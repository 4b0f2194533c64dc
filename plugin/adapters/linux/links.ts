/**
 * Interfaces and their addresses by rtnetlink, and the per-interface switches of /proc/sys/net, which netlink does not
 * reach. This does what `ip link`, `ip address` and `sysctl` would do, without spawning them.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { LINK_LOCAL_LENGTH, lengthOf } from "../../driver/kernel/interface-state.js";
import { PortError } from "../../driver/ports.js";
import { type Address, familyOf, hostPrefix, type Prefix, prefixAddress } from "../../net/address.js";
import { EEXIST, ENODEV, EOPNOTSUPP } from "../../wire/netlink/errno.js";
import {
  addAddress,
  createLink,
  decodeAddress,
  decodeLink,
  deleteAddress,
  deleteLink,
  dumpAddresses,
  dumpLinks,
  getLink,
  getLinkByIndex,
  IFA_F_NODAD,
  IFA_F_NOPREFIXROUTE,
  type LinkChange,
  type RawAddress,
  type RawLink,
  RTM_NEWADDR,
  RTM_NEWLINK,
  setLink,
} from "../../wire/netlink/link.js";
import { NETLINK_ROUTE, NetlinkError, netlinkDump, netlinkRequest } from "./netlink.js";

/** All interfaces. */
export async function listLinks(): Promise<RawLink[]> {
  const place = "netlink RTM_GETLINK";
  const out: RawLink[] = [];
  await netlinkDump(NETLINK_ROUTE, dumpLinks(), place, (m) => {
    if (m.type !== RTM_NEWLINK) return;
    const link = decodeLink(m.payload);
    if (!link.ok) throw new PortError(place, `malformed answer: ${link.error.at}: ${link.error.problem}`);
    if (link.value !== undefined) out.push(link.value);
  });
  return out;
}

/** Undefined when there is no interface of that name, or of that index. */
export async function findLink(which: string | number): Promise<RawLink | undefined> {
  const place = `netlink RTM_GETLINK ${which}`;
  try {
    const request = typeof which === "string" ? getLink(which) : getLinkByIndex(which);
    for (const m of await netlinkRequest(NETLINK_ROUTE, request, place)) {
      const link = decodeLink(m.payload);
      if (!link.ok) throw new PortError(place, `malformed answer: ${link.error.at}: ${link.error.problem}`);
      if (link.value !== undefined) return link.value;
    }
  } catch (e) {
    if (e instanceof NetlinkError && e.errno === ENODEV) return undefined;
    throw e;
  }
  return undefined;
}

/** @throws PortError when there is no interface of that name. */
export async function requireLink(name: string): Promise<RawLink> {
  const link = await findLink(name);
  if (link === undefined)
    throw new PortError(`interface ${name}`, "does not exist", "create it, or correct its name", "ENODEV");
  return link;
}

/**
 * `ip link add NAME type KIND`. False when the kernel does not know the kind; an interface of that name that
 * appeared meanwhile is an error.
 */
export async function makeLink(name: string, kind: string): Promise<boolean> {
  try {
    await netlinkRequest(NETLINK_ROUTE, createLink(name, kind), `netlink RTM_NEWLINK ${name} kind ${kind}`);
    return true;
  } catch (e) {
    if (e instanceof NetlinkError && e.errno === EOPNOTSUPP) return false;
    if (e instanceof NetlinkError && e.errno === EEXIST)
      throw new PortError(`interface ${name}`, "appeared while it was being created", "try again", "EEXIST");
    throw e;
  }
}

/** Resolves also when the interface is gone already. */
export async function removeLink(link: RawLink): Promise<void> {
  try {
    await netlinkRequest(NETLINK_ROUTE, deleteLink(link.ifindex), `netlink RTM_DELLINK ${link.name}`);
  } catch (e) {
    if (!(e instanceof NetlinkError && e.errno === ENODEV)) throw e;
  }
}

export async function configureLink(link: RawLink, to: LinkChange): Promise<void> {
  await netlinkRequest(NETLINK_ROUTE, setLink(link.ifindex, to), `netlink RTM_NEWLINK ${link.name}`);
}

/** The addresses of one interface. */
export async function listAddresses(link: RawLink): Promise<RawAddress[]> {
  const place = `netlink RTM_GETADDR ${link.name}`;
  const out: RawAddress[] = [];
  await netlinkDump(NETLINK_ROUTE, dumpAddresses(link.ifindex), place, (m) => {
    if (m.type !== RTM_NEWADDR) return;
    const a = decodeAddress(m.payload);
    if (!a.ok) throw new PortError(place, `malformed answer: ${a.error.at}: ${a.error.problem}`);
    if (a.value !== undefined && a.value.ifindex === link.ifindex) out.push(a.value);
  });
  return out;
}

/** IFA_F_*: not yet, or no longer, an address to be used (if_addr.h). */
const UNUSABLE = 0x08 | 0x20 | 0x40;

/** The addresses of all interfaces that are up, but those that duplicate address detection has not released and those that are deprecated. */
export async function listAllAddresses(): Promise<{ dev: string; address: Address; length: number }[]> {
  const links = new Map((await listLinks()).filter((l) => l.up).map((l) => [l.ifindex, l.name]));
  const place = "netlink RTM_GETADDR";
  const out: { dev: string; address: Address; length: number }[] = [];
  await netlinkDump(NETLINK_ROUTE, dumpAddresses(0), place, (m) => {
    if (m.type !== RTM_NEWADDR) return;
    const a = decodeAddress(m.payload);
    if (!a.ok) throw new PortError(place, `malformed answer: ${a.error.at}: ${a.error.problem}`);
    const dev = a.value && links.get(a.value.ifindex);
    if (a.value === undefined || dev === undefined || (a.value.flags & UNUSABLE) !== 0) return;
    out.push({ dev, address: a.value.address, length: a.value.prefixLength });
  });
  return out;
}

/**
 * Makes the interface's addresses exactly `wanted`: hosts without a prefix route, link-local ones as a /64 with its
 * route, none with duplicate address detection. IPv6 addresses are left out while IPv6 is off on the interface;
 * the returned list names them.
 */
export async function setAddresses(link: RawLink, wanted: readonly Prefix[]): Promise<Address[]> {
  const targets = wanted.map((p) => {
    const address = prefixAddress(p);
    const length = lengthOf(address);
    const hasRoute = length === LINK_LOCAL_LENGTH;
    const flags =
      familyOf(address) === 4 ? IFA_F_NOPREFIXROUTE : IFA_F_NODAD | (hasRoute ? 0 : IFA_F_NOPREFIXROUTE);
    return { address, length, flags };
  });
  const present = await listAddresses(link);
  for (const a of present)
    if (!targets.some((t) => t.address === a.address && t.length === a.prefixLength))
      await netlinkRequest(
        NETLINK_ROUTE,
        deleteAddress(link.ifindex, a.address, a.prefixLength),
        `netlink RTM_DELADDR ${a.address} ${link.name}`,
      );
  const ipv6Off = ipv6Disabled(link.name);
  const skipped: Address[] = [];
  for (const t of targets) {
    if (familyOf(t.address) === 6 && ipv6Off) {
      skipped.push(t.address);
      continue;
    }
    if (present.some((a) => a.address === t.address && a.prefixLength === t.length)) continue;
    await netlinkRequest(
      NETLINK_ROUTE,
      addAddress(link.ifindex, t.address, t.length, t.flags),
      `netlink RTM_NEWADDR ${t.address}/${t.length} ${link.name}`,
    );
  }
  return skipped;
}

/** Every address of the interface as a host prefix. */
export const hostPrefixes = (addresses: readonly RawAddress[]): Prefix[] =>
  addresses.map((a) => hostPrefix(a.address));

const sysctlPath = (family: 4 | 6, dev: string, key: string): string =>
  `/proc/sys/net/ipv${family}/conf/${dev}/${key}`;

/**
 * /proc/sys/net shows the network namespace of the *thread* that reads it, and Node's asynchronous file calls run on
 * other threads than its sockets do: hence synchronous, and it is memory.
 * @throws PortError that names the path.
 */
export function writeSysctl(family: 4 | 6, dev: string, key: string, value: string): void {
  const path = sysctlPath(family, dev, key);
  try {
    writeFileSync(path, value);
  } catch (e) {
    throw new PortError(
      path,
      `cannot write ${value}: ${e instanceof Error ? e.message : String(e)}`,
      "shortcutd needs a writable /proc/sys/net (in a container: run it privileged)",
    );
  }
}

/** Undefined when the path does not exist. */
export function readSysctl(family: 4 | 6, dev: string, key: string): string | undefined {
  try {
    return readFileSync(sysctlPath(family, dev, key), "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Whether IPv6 is on for the interface; `off-here` when it was switched off for this one, and is on for others. */
export function ipv6Of(dev: string): "on" | "off" | "off-here" {
  if (!ipv6Disabled(dev)) return "on";
  const alone = readSysctl(6, dev, "disable_ipv6") !== undefined;
  return alone && !ipv6Disabled("all") && !ipv6Disabled("default") ? "off-here" : "off";
}

/** IPv6 is off for the interface: by sysctl, at boot, or because its MTU is below 1280. */
export const ipv6Disabled = (dev: string): boolean => (readSysctl(6, dev, "disable_ipv6") ?? "1") !== "0";
