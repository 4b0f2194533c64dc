/**
 * The overlay interface as the kernel has it, held against the configuration: is it there, is it in the VRF that was named, which of its addresses is
 * this router's. Pure, apart from {@link readOverlay}, which asks the port.
 */
import type { Config } from "../config/config.js";
import {
  type Address,
  contains,
  type Family,
  familyOf,
  type Prefix,
  prefix,
  prefixAddress,
  prefixLength,
  prefixOf,
} from "../net/address.js";
import type { Reason } from "../shortcut/reasons.js";
import { type InterfaceAddress, type KernelLink, PortError, type RoutePort } from "./ports.js";

export interface Overlay {
  /** All addresses of the interface, without link-local ones. */
  readonly addresses: readonly Address[];
  /** The address that hubs and spokes know this router by. */
  readonly self: Address;
  readonly mtu: number;
}

/** The configuration cannot be right on this router: a restart alone does not help. */
export class ConfigMismatch extends PortError {}

type OverlayConfig = Pick<Config, "overlay" | "address" | "hubs" | "vrf">;

const LINK_LOCAL = prefix("fe80::/10");
const REMEDY = "bring the overlay up first (wg-quick up, systemd-networkd, …), or correct `overlay`";

export async function readOverlay(config: OverlayConfig, routes: RoutePort): Promise<Overlay> {
  const link = overlayLink(config, await routes.links());
  const own = (await routes.allAddresses()).filter((a) => a.dev === config.overlay);
  const lengths = new Map(own.map((a) => [a.address, a.length]));
  // an address that is not usable as yet has no length there
  const withLength = (p: Prefix): InterfaceAddress => {
    const address = prefixAddress(p);
    return { address, length: lengths.get(address) ?? prefixLength(p) };
  };
  return overlayOf(config, link, (await routes.addresses(config.overlay)).map(withLength));
}

/** @throws PortError when there is no such interface, or it is not in the VRF of the configuration. */
export function overlayLink(config: OverlayConfig, links: readonly KernelLink[]): KernelLink {
  const link = links.find((l) => l.name === config.overlay);
  if (link === undefined) throw new PortError(`interface ${config.overlay}`, "does not exist", REMEDY);
  checkVrf(config.vrf, link, links);
  return link;
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

/**
 * Chooses this router's address: the configured one, else that in a hub's subnet, else the interface's first of the hubs' family.
 * @throws PortError when the interface does not carry it; ConfigMismatch when a hub of the list is this router.
 */
export function overlayOf(
  config: OverlayConfig,
  link: KernelLink,
  onInterface: readonly InterfaceAddress[],
): Overlay {
  const global = onInterface.filter((a) => !isLinkLocal(a.address));
  const addresses = global.map((a) => a.address);
  const family: Family = familyOf(config.hubs[0] ?? addresses[0] ?? config.address ?? ("0.0.0.0" as Address));
  const near = global.find((a) => isNear(a, config.hubs));
  const self = config.address ?? near?.address ?? addresses.find((a) => familyOf(a) === family);
  const place = `interface ${config.overlay}`;
  if (self === undefined || !addresses.includes(self))
    throw new PortError(place, `has no address ${config.address ?? `of IPv${family}`}`, REMEDY);
  const ownHub = config.hubs.find((h) => addresses.includes(h));
  if (ownHub !== undefined)
    throw new ConfigMismatch(
      place,
      `has the address ${ownHub}, which \`hubs\` lists: this router cannot be its own hub`,
      "list the hubs' overlay addresses in `hubs`; on a hub write `role: hub`",
    );
  return { addresses, self, mtu: link.mtu };
}

/** Whether one of the hubs is in the subnet of an address. */
export const isNear = (a: InterfaceAddress, hubs: readonly Address[]): boolean =>
  hubs.some((hub) => contains(prefixOf(a.address, a.length), hub));

/**
 * Returns the reason why the overlay interface, which this router's address was on at the start, cannot be used now. It may be deleted and
 * made again, renamed, set down, or lose its address or its VRF at any time.
 */
export function overlayProblem(
  config: OverlayConfig,
  self: Address,
  links: readonly KernelLink[],
  onInterface: readonly Prefix[],
): Reason | undefined {
  const name = config.overlay;
  const link = links.find((l) => l.name === name);
  if (link === undefined) return { kind: "overlay-missing", name };
  try {
    checkVrf(config.vrf, link, links);
  } catch {
    return { kind: "overlay-outside-vrf", name, vrf: config.vrf?.name };
  }
  if (!onInterface.map(prefixAddress).includes(self))
    return { kind: "overlay-address-missing", name, address: self };
  return link.up ? undefined : { kind: "overlay-down", name };
}

const isLinkLocal = (a: Address): boolean => contains(LINK_LOCAL, a);
