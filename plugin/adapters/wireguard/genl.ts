/** The kernel's WireGuard behind generic netlink (linux/wireguard.h). The family's number is asked for each time: it costs 20 µs and survives a reloaded module. */
import { PortError } from "../../driver/ports.js";
import type { PrivateKey, PublicKey } from "../../net/key.js";
import type { Decoded } from "../../wire/netlink/attribute.js";
import { ENODEV, ENOENT, EOPNOTSUPP } from "../../wire/netlink/errno.js";
import { decodeFamily, getFamily } from "../../wire/netlink/genl.js";
import type { NetlinkRequest } from "../../wire/netlink/message.js";
import {
  decodeDevice,
  decodePrivateKey,
  getDevice,
  removePeer,
  setDevice,
  setPeer,
  WG_GENL_NAME,
  type WireGuardDeviceChange,
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

/** Reads the dump of one device; undefined when the interface does not exist or is not kernel WireGuard. */
async function dumpDevice(name: string): Promise<readonly Uint8Array[] | undefined> {
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
  return payloads;
}

async function decoded<T>(
  name: string,
  decode: (payloads: readonly Uint8Array[]) => Decoded<T>,
): Promise<T | undefined> {
  const payloads = await dumpDevice(name);
  if (payloads === undefined) return undefined;
  const d = decode(payloads);
  if (d.ok) return d.value;
  throw new PortError(`WG_CMD_GET_DEVICE ${name}`, `${d.error.at}: ${d.error.problem}`);
}

/** Undefined when the interface does not exist or is not kernel WireGuard. */
export const genlDevice = (name: string): Promise<WireGuardDeviceState | undefined> =>
  decoded(name, decodeDevice);

/** Undefined when the interface does not exist, is not kernel WireGuard, or has no key. */
export const genlPrivateKey = (name: string): Promise<PrivateKey | undefined> =>
  decoded(name, decodePrivateKey);

export async function genlSetDevice(name: string, to: WireGuardDeviceChange): Promise<void> {
  await send([setDevice(await wireguardFamily(), name, to)], `WG_CMD_SET_DEVICE ${name}`);
}

export async function genlSetPeer(name: string, peer: WireGuardPeerChange): Promise<void> {
  await send(setPeer(await wireguardFamily(), name, peer), `WG_CMD_SET_DEVICE ${name}: set a peer`);
}

export async function genlRemovePeer(name: string, key: PublicKey): Promise<void> {
  await send([removePeer(await wireguardFamily(), name, key)], `WG_CMD_SET_DEVICE ${name}: remove a peer`);
}
