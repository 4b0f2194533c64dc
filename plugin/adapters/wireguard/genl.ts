/** The kernel's WireGuard behind generic netlink (linux/wireguard.h). The family's number is asked for each time: it costs 20 µs and survives a reloaded module. */
import { PortError } from "../../driver/ports.js";
import type { PrivateKey, PublicKey } from "../../net/key.js";
import { ENODEV, ENOENT, EOPNOTSUPP } from "../../wire/netlink/errno.js";
import { decodeFamily, getFamily } from "../../wire/netlink/genl.js";
import type { NetlinkRequest } from "../../wire/netlink/message.js";
import {
  decodeDevice,
  getDevice,
  removePeer,
  setDevice,
  setPeer,
  WG_GENL_NAME,
  type WireGuardDeviceState,
  type WireGuardPeerChange,
} from "../../wire/netlink/wireguard.js";
import { NETLINK_GENERIC, NetlinkError, netlinkDump, netlinkRequest } from "../linux/netlink.js";

/** The number of a generic-netlink family; undefined when the kernel has none of that name. */
export async function genlFamily(name: string): Promise<number | undefined> {
  const place = `generic netlink family ${name}`;
  try {
    for (const m of await netlinkRequest(NETLINK_GENERIC, getFamily(name), place)) {
      const family = decodeFamily(m.payload);
      if (!family.ok) throw new PortError(place, `${family.error.at}: ${family.error.problem}`);
      return family.value.id;
    }
  } catch (e) {
    if (!(e instanceof NetlinkError && e.errno === ENOENT)) throw e;
  }
  return undefined;
}

async function wireguardFamily(): Promise<number> {
  const id = await genlFamily(WG_GENL_NAME);
  if (id === undefined)
    throw new PortError(
      "generic netlink family wireguard",
      "the kernel has none",
      "load the module `wireguard`",
      "ENOENT",
    );
  return id;
}

async function send(requests: readonly NetlinkRequest[], place: string): Promise<void> {
  for (const r of requests) await netlinkRequest(NETLINK_GENERIC, r, place);
}

/** Undefined when the interface does not exist or is not kernel WireGuard. */
export async function genlDevice(name: string): Promise<WireGuardDeviceState | undefined> {
  const family = await genlFamily(WG_GENL_NAME);
  if (family === undefined) return undefined;
  const place = `WG_CMD_GET_DEVICE ${name}`;
  const payloads: Uint8Array[] = [];
  try {
    await netlinkDump(NETLINK_GENERIC, getDevice(family, name), place, (m) => {
      if (m.type === family) payloads.push(m.payload.slice());
    });
  } catch (e) {
    if (e instanceof NetlinkError && (e.errno === ENODEV || e.errno === EOPNOTSUPP)) return undefined;
    throw e;
  }
  const device = decodeDevice(payloads);
  if (!device.ok) throw new PortError(place, `${device.error.at}: ${device.error.problem}`);
  return device.value;
}

export async function genlSetDevice(
  name: string,
  to: { readonly privateKey?: PrivateKey; readonly listenPort?: number },
): Promise<void> {
  await send([setDevice(await wireguardFamily(), name, to)], `WG_CMD_SET_DEVICE ${name}`);
}

export async function genlSetPeer(name: string, peer: WireGuardPeerChange): Promise<void> {
  await send(setPeer(await wireguardFamily(), name, peer), `WG_CMD_SET_DEVICE ${name}: set a peer`);
}

export async function genlRemovePeer(name: string, key: PublicKey): Promise<void> {
  await send([removePeer(await wireguardFamily(), name, key)], `WG_CMD_SET_DEVICE ${name}: remove a peer`);
}
