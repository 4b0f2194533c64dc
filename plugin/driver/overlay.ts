/**
 * The overlay interfaces as the kernel has them, held against the configuration: which are there, are they in the VRF that was named, and which
 * address is this router's. That one may be on any interface of the router, such as lo. Pure, apart from {@link readOverlay}, which asks the port.
 */
import type { Config } from "../config/config.js";
import {
  type Address,
  contains,
  type Family,
  familyOf,
  hostPrefix,
  type Prefix,
  prefix,
  prefixAddress,
  prefixLength,
  prefixOf,
} from "../net/address.js";
import type { Reason } from "../shortcut/reasons.js";
import { type InterfaceAddress, type KernelLink, PortError, type RoutePort } from "./ports.js";

export interface Overlay {
  /** All addresses of the overlay interfaces, or else of the one that this router's address is on, without link-local ones. */
  readonly addresses: readonly Address[];
  /** The address that hubs and spokes know this router by. */
  readonly self: Address;
  /** The smallest of the overlay interfaces. */
  readonly mtu: number;
}

/** An address, and the interface that it is on: a row of {@link RoutePort.allAddresses}. */
export interface PlacedAddress extends InterfaceAddress {
  readonly dev: string;
}

/** The configuration cannot be right on this router: a restart alone does not help. */
export class ConfigMismatch extends PortError {}

type OverlayConfig = Pick<Config, "overlay" | "address" | "hubs" | "vrf" | "direct">;

const LINK_LOCAL = prefix("fe80::/10");
/** Addresses of an interface such as lo that no other router knows this one by. */
const LOCAL = [prefix("127.0.0.0/8"), hostPrefix("::1" as Address), prefix("169.254.0.0/16"), LINK_LOCAL];
const REMEDY = "bring the overlay up first (wg-quick up, systemd-networkd, …), or correct `overlay`";
/** WireGuard's usual one: what is assumed while no overlay interface is there. */
const USUAL_MTU = 1420;

export async function readOverlay(
  config: OverlayConfig,
  routes: Pick<RoutePort, "links" | "allAddresses" | "addresses">,
): Promise<Overlay> {
  const links = await routes.links();
  const all = await routes.allAddresses();
  const onOverlay: PlacedAddress[] = [];
  for (const { name: dev } of overlayLinks(config, links)) {
    const lengths = new Map(all.filter((a) => a.dev === dev).map((a) => [a.address, a.length]));
    for (const p of await addressesOf(routes, dev)) {
      const address = prefixAddress(p);
      // an address that is not usable as yet has no length there
      onOverlay.push({ dev, address, length: lengths.get(address) ?? prefixLength(p) });
    }
  }
  return overlayOf(config, links, [...onOverlay, ...all.filter((a) => !config.overlay.has(a.dev))]);
}

/** Of an interface that may go while it is looked at. */
async function addressesOf(routes: Pick<RoutePort, "addresses">, dev: string): Promise<readonly Prefix[]> {
  try {
    return await routes.addresses(dev);
  } catch (e) {
    if (e instanceof PortError && e.code === "ENODEV") return [];
    throw e;
  }
}

/** Returns the overlay interfaces that exist, in the order of the configuration. */
export function existingOverlays({ overlay }: Pick<Config, "overlay">, links: readonly KernelLink[]) {
  const found = new Set<KernelLink>();
  const byName = links.filter((l) => overlay.has(l.name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const pattern of overlay.patterns) {
    const beginning = pattern.endsWith("*") ? pattern.slice(0, -1) : undefined;
    for (const link of byName)
      if (beginning === undefined ? link.name === pattern : link.name.startsWith(beginning)) found.add(link);
  }
  return [...found];
}

/**
 * Returns the overlay interfaces. There may be none as yet where a pattern stands for those that come and go, if this
 * router's address is known without them.
 * @throws PortError when none exists and one must, or when one is not in the VRF of the configuration.
 */
export function overlayLinks(config: OverlayConfig, links: readonly KernelLink[]): readonly KernelLink[] {
  const { overlay } = config;
  const found = existingOverlays(config, links);
  if (found.length === 0 && !(overlay.open && config.address !== undefined)) {
    const problem = overlay.open
      ? "none exists as yet"
      : overlay.patterns.length > 1
        ? "none exists"
        : "does not exist";
    throw new PortError(
      `interface ${overlay}`,
      problem,
      overlay.open ? `${REMEDY}; with \`address\`, this router's, it may come later` : REMEDY,
    );
  }
  for (const link of found) checkVrf(config.vrf, link, links);
  return found;
}

/** @throws PortError unless the overlay is in the VRF that the configuration names, and that has the table it says. */
function checkVrf(vrf: Config["vrf"], overlay: KernelLink, links: readonly KernelLink[]): void {
  const master = links.find((l) => l.ifindex === overlay.master);
  const place = `interface ${overlay.name}`;
  if (vrf === undefined) {
    if (master?.vrfTable === undefined) return;
    throw new PortError(
      place,
      `is in VRF ${master.name}`,
      `add \`vrf: { name: ${master.name}, table: ${master.vrfTable} }\` to the configuration`,
    );
  }
  if (master?.name !== vrf.name || master.vrfTable === undefined)
    throw new PortError(
      place,
      `is not in VRF ${vrf.name}${master === undefined ? "" : ` but in ${master.name}`}`,
      `\`ip link set ${overlay.name} vrf ${vrf.name}\`, or correct \`vrf\``,
    );
  if (master.vrfTable !== vrf.table)
    throw new PortError(
      `VRF ${vrf.name}`,
      `has table ${master.vrfTable}, not ${vrf.table}`,
      `vrf.table: ${master.vrfTable} in the configuration`,
    );
}

/** Whether packets of an interface, the VRF's own device too, are routed by the VRF's table, or outside any VRF by the main one. */
function isInVrf(vrf: Config["vrf"], dev: string, links: readonly KernelLink[]): boolean {
  const link = links.find((l) => l.name === dev);
  const of = link?.vrfTable !== undefined ? link : links.find((l) => l.ifindex === link?.master);
  return (of?.vrfTable === undefined ? undefined : of.name) === vrf?.name;
}

/**
 * The addresses by which other routers may know this one. The direct interface repeats those of others, and may be what
 * a crash left.
 */
const candidatesOf = (
  { vrf, direct }: OverlayConfig,
  links: readonly KernelLink[],
  rows: readonly PlacedAddress[],
): readonly PlacedAddress[] =>
  rows.filter((a) => a.dev !== direct.interface && isInVrf(vrf, a.dev, links) && !isLinkLocal(a.address));

/**
 * Chooses this router's address: the configured one, else that of the overlay in a hub's subnet, else the overlay's first of the hubs' family.
 * @param rows the addresses of all interfaces
 * @throws PortError when no interface carries it; ConfigMismatch when a hub of the list is this router.
 */
export function overlayOf(
  config: OverlayConfig,
  links: readonly KernelLink[],
  rows: readonly PlacedAddress[],
): Overlay {
  const overlay = overlayLinks(config, links);
  const all = candidatesOf(config, links, rows);
  const global = overlay.flatMap((l) => all.filter((a) => a.dev === l.name));
  const mtu = overlay.length === 0 ? USUAL_MTU : Math.min(...overlay.map((l) => l.mtu));
  const ownHub = all.find((a) => config.hubs.includes(a.address));
  if (ownHub !== undefined)
    throw new ConfigMismatch(
      `interface ${ownHub.dev}`,
      `has the address ${ownHub.address}, which \`hubs\` lists: this router cannot be its own hub`,
      "list the hubs' overlay addresses in `hubs`; on a hub write `role: hub`",
    );
  if (config.address !== undefined && !global.some((a) => a.address === config.address)) {
    const { dev } = holderOf(config.address, config, all, rows);
    const beside = all.filter((a) => a.dev === dev && (a.address === config.address || isUsual(a.address)));
    return { addresses: unique(beside), self: config.address, mtu };
  }
  const first = global[0]?.address ?? ("0.0.0.0" as Address);
  const family: Family = familyOf(config.hubs[0] ?? first);
  const near = global.find((a) => isNear(a, config.hubs));
  const self = config.address ?? (near ?? global.find((a) => familyOf(a.address) === family))?.address;
  if (self === undefined)
    throw new PortError(
      `interface ${config.overlay}`,
      `has no address of IPv${family}`,
      `${REMEDY}; or name this router's address in \`address\`: it may be on any interface, such as lo`,
    );
  return { addresses: unique(global), self, mtu };
}

/** @throws PortError when no interface has the address that the configuration names, or one of another VRF. */
function holderOf(
  self: Address,
  { vrf, direct }: OverlayConfig,
  candidates: readonly PlacedAddress[],
  rows: readonly PlacedAddress[],
): PlacedAddress {
  const holder = candidates.find((a) => a.address === self);
  if (holder !== undefined) return holder;
  const elsewhere = rows.find((a) => a.address === self && a.dev !== direct.interface);
  const add = `\`ip address add ${hostPrefix(self)} dev ${vrf?.name ?? "lo"}\`, or correct \`address\``;
  if (elsewhere === undefined)
    throw new PortError(`address ${self}`, "is on no interface of this router that is up", add);
  throw new PortError(
    `address ${self}`,
    `is on ${elsewhere.dev}, which is ${vrf === undefined ? "in a VRF" : `not in VRF ${vrf.name}`}`,
    `${add} or \`vrf\``,
  );
}

const unique = (addresses: readonly PlacedAddress[]): readonly Address[] => [
  ...new Set(addresses.map((a) => a.address)),
];

/**
 * Returns this router's addresses as the daemon's configuration has to do with them: those of the overlay interfaces with
 * their subnets, and those beside its own address without.
 */
export function addressesForDaemon(
  { overlay, address }: Pick<Config, "overlay" | "address">,
  rows: readonly PlacedAddress[],
): readonly InterfaceAddress[] {
  const own = rows.filter((a) => overlay.has(a.dev) && !isLinkLocal(a.address));
  const holder = own.some((a) => a.address === address) ? undefined : rows.find((a) => a.address === address);
  const beside = rows.filter((a) => a.dev === holder?.dev && isUsual(a.address));
  return [
    ...own.map(({ address: a, length }) => ({ address: a, length })),
    ...beside.map((a) => ({ address: a.address, length: prefixLength(hostPrefix(a.address)) })),
  ];
}

/** Whether one of the hubs is in the subnet of an address. */
export const isNear = (a: InterfaceAddress, hubs: readonly Address[]): boolean =>
  hubs.some((hub) => contains(prefixOf(a.address, a.length), hub));

/**
 * Returns the reason why one overlay interface cannot be used now. It may be deleted and made again, renamed, set down, or lose its VRF
 * at any time; and the interface that has this router's address may lose that.
 * @param rows the addresses of all interfaces that are up
 */
export function overlayProblem(
  config: OverlayConfig,
  name: string,
  self: Address,
  links: readonly KernelLink[],
  rows: readonly PlacedAddress[],
): Reason | undefined {
  const link = links.find((l) => l.name === name);
  if (link === undefined) return { kind: "overlay-missing", name };
  try {
    checkVrf(config.vrf, link, links);
  } catch {
    return { kind: "overlay-outside-vrf", name, vrf: config.vrf?.name };
  }
  if (!link.up) return { kind: "overlay-down", name };
  const there = candidatesOf(config, links, rows).some((a) => a.address === self);
  return there ? undefined : { kind: "overlay-address-missing", name, address: self };
}

const isLinkLocal = (a: Address): boolean => contains(LINK_LOCAL, a);

/** Whether other routers may know this one by it. */
const isUsual = (a: Address): boolean => !LOCAL.some((p) => contains(p, a));
