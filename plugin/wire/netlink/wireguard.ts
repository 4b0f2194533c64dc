/**
 * The generic-netlink family `wireguard` of the kernel (linux/wireguard.h, version 1). A GET is a dump: a device whose
 * peers do not fit one message continues in the next, and a peer whose allowed IPs do not fit is repeated with the
 * rest; the reader joins them. A SET obeys the same limit in the other direction, so a long list of allowed IPs is
 * split over several messages. WGPEER_F_REPLACE_ALLOWEDIPS is never set: the kernel empties the list before it fills it again,
 * and packets in between have no peer.
 */

import {
  addressBytes,
  addressFromBytes,
  type Endpoint,
  familyOf,
  type Prefix,
  prefixAddress,
  prefixFromBytes,
  prefixLength,
} from "../../net/address.js";
import {
  keyBytes,
  type PrivateKey,
  type PublicKey,
  privateKeyFromBytes,
  publicKeyFromBytes,
} from "../../net/key.js";
import { ok } from "../../net/result.js";
import type { Milliseconds, Seconds } from "../../net/units.js";
import {
  Attributes,
  type BodyWriter,
  type Decoded,
  decodeAttributeList,
  HOST_LITTLE_ENDIAN,
  malformed,
  view,
} from "./attribute.js";
import { GENL_HDRLEN, genlBody } from "./genl.js";
import { type NetlinkRequest, NLM_F_DUMP } from "./message.js";
import { AF_INET, AF_INET6 } from "./route.js";

export const WG_GENL_NAME = "wireguard";
const WG_GENL_VERSION = 1;
const WG_KEY_LEN = 32;

const WG_CMD_GET_DEVICE = 0;
const WG_CMD_SET_DEVICE = 1;

const WGDEVICE_A_IFNAME = 2;
const WGDEVICE_A_PRIVATE_KEY = 3;
const WGDEVICE_A_PUBLIC_KEY = 4;
const WGDEVICE_A_LISTEN_PORT = 6;
const WGDEVICE_A_FWMARK = 7;
const WGDEVICE_A_PEERS = 8;

const WGPEER_F_REMOVE_ME = 1;

const WGPEER_A_PUBLIC_KEY = 1;
const WGPEER_A_PRESHARED_KEY = 2;
const WGPEER_A_FLAGS = 3;
const WGPEER_A_ENDPOINT = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME = 6;
const WGPEER_A_RX_BYTES = 7;
const WGPEER_A_TX_BYTES = 8;
const WGPEER_A_ALLOWEDIPS = 9;

const WGALLOWEDIP_A_FAMILY = 1;
const WGALLOWEDIP_A_IPADDR = 2;
const WGALLOWEDIP_A_CIDR_MASK = 3;

/** Allowed IPs per SET message: an IPv6 entry takes 44 bytes, and a netlink attribute ends at 65,535. */
export const ALLOWED_IPS_PER_MESSAGE = 1000;

/** A peer as read; the same shape from the kernel and from wireguard-go. */
export interface WireGuardPeerState {
  readonly publicKey: PublicKey;
  readonly endpoint: Endpoint | undefined;
  readonly allowedIps: readonly Prefix[];
  /** Seconds; 0 is off. */
  readonly keepalive: Seconds;
  /** Milliseconds since the epoch; 0 when there was no handshake. */
  readonly lastHandshake: Milliseconds;
  readonly rxBytes: number;
  readonly txBytes: number;
  /** Undefined: none. It goes no further than the comparison with what is wanted. */
  readonly presharedKey?: PrivateKey;
}

export interface WireGuardDeviceState {
  readonly publicKey: PublicKey | undefined;
  readonly listenPort: number;
  /** The mark of the packets that it sends in the underlay; 0: no mark. */
  readonly fwmark: number;
  readonly peers: readonly WireGuardPeerState[];
}

/** Undefined fields are left as they are. Port 0 lets WireGuard choose; mark 0: no mark. */
export interface WireGuardDeviceChange {
  readonly privateKey?: PrivateKey;
  readonly listenPort?: number;
  readonly fwmark?: number;
}

/**
 * A change of one peer; an undefined field is left as it is. `addAllowedIps` come to those that the peer has. A prefix that another
 * peer of the interface has moves to this one.
 */
export interface WireGuardPeerChange {
  readonly publicKey: PublicKey;
  readonly presharedKey?: PrivateKey | undefined;
  readonly endpoint?: Endpoint | undefined;
  readonly addAllowedIps?: readonly Prefix[] | undefined;
  readonly keepalive?: Seconds | undefined;
}

/** `struct sockaddr_in` (16 bytes) or `struct sockaddr_in6` (28 bytes): family in host order, port and address not. */
export function encodeSockaddr(endpoint: Endpoint, scopeId = 0): Uint8Array {
  const bytes = addressBytes(endpoint.address);
  const out = new Uint8Array(bytes.length === 4 ? 16 : 28);
  const v = view(out);
  v.setUint16(0, bytes.length === 4 ? AF_INET : AF_INET6, HOST_LITTLE_ENDIAN);
  v.setUint16(2, endpoint.port, false);
  out.set(bytes, bytes.length === 4 ? 4 : 8);
  if (bytes.length === 16) v.setUint32(24, scopeId, HOST_LITTLE_ENDIAN);
  return out;
}

/** The inverse of {@link encodeSockaddr}; undefined for another family, a short structure or port 0. */
export function decodeSockaddr(bytes: Uint8Array): Endpoint | undefined {
  if (bytes.length < 16) return undefined;
  const v = view(bytes);
  const family = v.getUint16(0, HOST_LITTLE_ENDIAN);
  const port = v.getUint16(2, false);
  if (port === 0) return undefined;
  if (family === AF_INET) return { address: addressFromBytes(bytes.subarray(4, 8)), port };
  if (family === AF_INET6 && bytes.length >= 28)
    return { address: addressFromBytes(bytes.subarray(8, 24)), port };
  return undefined;
}

/** WG_CMD_GET_DEVICE; `family` is the number that {@link decodeFamily} told. */
export const getDevice = (family: number, name: string): NetlinkRequest => ({
  type: family,
  flags: NLM_F_DUMP,
  payload: genlBody(WG_CMD_GET_DEVICE, WG_GENL_VERSION).string(WGDEVICE_A_IFNAME, name).finish(),
});

const setDeviceBody = (name: string): BodyWriter =>
  genlBody(WG_CMD_SET_DEVICE, WG_GENL_VERSION).string(WGDEVICE_A_IFNAME, name);

/** WG_CMD_SET_DEVICE: private key, port and mark. */
export const setDevice = (family: number, name: string, to: WireGuardDeviceChange): NetlinkRequest => {
  const w = setDeviceBody(name);
  if (to.privateKey !== undefined) w.bytes(WGDEVICE_A_PRIVATE_KEY, keyBytes(to.privateKey));
  if (to.listenPort !== undefined) w.u16(WGDEVICE_A_LISTEN_PORT, to.listenPort);
  if (to.fwmark !== undefined) w.u32(WGDEVICE_A_FWMARK, to.fwmark);
  return { type: family, flags: 0, payload: w.finish() };
};

function writeAllowedIp(w: BodyWriter, p: Prefix): void {
  w.nested(0, (a) =>
    a
      .u16(WGALLOWEDIP_A_FAMILY, familyOf(p) === 4 ? AF_INET : AF_INET6)
      .bytes(WGALLOWEDIP_A_IPADDR, addressBytes(prefixAddress(p)))
      .u8(WGALLOWEDIP_A_CIDR_MASK, prefixLength(p)),
  );
}

/** WG_CMD_SET_DEVICE with one peer: one message, and one more per {@link ALLOWED_IPS_PER_MESSAGE} allowed IPs. */
export function setPeer(family: number, name: string, peer: WireGuardPeerChange): NetlinkRequest[] {
  const out: NetlinkRequest[] = [];
  const ips = peer.addAllowedIps ?? [];
  let at = 0;
  do {
    const first = at === 0;
    const chunk = ips.slice(at, at + ALLOWED_IPS_PER_MESSAGE);
    at += ALLOWED_IPS_PER_MESSAGE;
    const w = setDeviceBody(name).nested(WGDEVICE_A_PEERS, (peers) =>
      peers.nested(0, (p) => {
        p.bytes(WGPEER_A_PUBLIC_KEY, keyBytes(peer.publicKey));
        if (first) {
          if (peer.presharedKey !== undefined) p.bytes(WGPEER_A_PRESHARED_KEY, keyBytes(peer.presharedKey));
          if (peer.endpoint !== undefined) p.bytes(WGPEER_A_ENDPOINT, encodeSockaddr(peer.endpoint));
          if (peer.keepalive !== undefined) p.u16(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, peer.keepalive);
        }
        if (chunk.length > 0)
          p.nested(WGPEER_A_ALLOWEDIPS, (a) => {
            for (const ip of chunk) writeAllowedIp(a, ip);
          });
      }),
    );
    out.push({ type: family, flags: 0, payload: w.finish() });
  } while (at < ips.length);
  return out;
}

/** WG_CMD_SET_DEVICE with WGPEER_F_REMOVE_ME. */
export const removePeer = (family: number, name: string, publicKey: PublicKey): NetlinkRequest => ({
  type: family,
  flags: 0,
  payload: setDeviceBody(name)
    .nested(WGDEVICE_A_PEERS, (peers) =>
      peers.nested(0, (p) =>
        p.bytes(WGPEER_A_PUBLIC_KEY, keyBytes(publicKey)).u32(WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME),
      ),
    )
    .finish(),
});

function decodeAllowedIp(bytes: Uint8Array): Decoded<Prefix> {
  const decoded = Attributes.decode(bytes, 0, "WGPEER_A_ALLOWEDIPS");
  if (!decoded.ok) return decoded;
  const a = decoded.value;
  const family = a.u16(WGALLOWEDIP_A_FAMILY);
  const ip = a.bytes(WGALLOWEDIP_A_IPADDR);
  const mask = a.u8(WGALLOWEDIP_A_CIDR_MASK);
  const size = family === AF_INET ? 4 : family === AF_INET6 ? 16 : 0;
  if (size === 0 || ip?.length !== size || mask === undefined || mask > size * 8)
    return malformed("WGPEER_A_ALLOWEDIPS", `family ${family}, ${ip?.length ?? 0} bytes, mask ${mask}`);
  return ok(prefixFromBytes(ip, mask));
}

function decodePeer(bytes: Uint8Array): Decoded<WireGuardPeerState> {
  const decoded = Attributes.decode(bytes, 0, "WGDEVICE_A_PEERS");
  if (!decoded.ok) return decoded;
  const a = decoded.value;
  const key = a.bytes(WGPEER_A_PUBLIC_KEY);
  if (key?.length !== WG_KEY_LEN) return malformed("WGPEER_A_PUBLIC_KEY", `${key?.length ?? 0} bytes`);
  const allowedIps: Prefix[] = [];
  const list = a.bytes(WGPEER_A_ALLOWEDIPS);
  if (list !== undefined) {
    const entries = decodeAttributeList(list, 0, "WGPEER_A_ALLOWEDIPS");
    if (!entries.ok) return entries;
    for (const entry of entries.value) {
      const ip = decodeAllowedIp(entry.payload);
      if (!ip.ok) return ip;
      allowedIps.push(ip.value);
    }
  }
  const endpoint = a.bytes(WGPEER_A_ENDPOINT);
  const preshared = a.bytes(WGPEER_A_PRESHARED_KEY);
  // struct __kernel_timespec: seconds and nanoseconds, both 64 bits.
  const seconds = a.s64(WGPEER_A_LAST_HANDSHAKE_TIME) ?? 0n;
  const nanoseconds = a.s64(WGPEER_A_LAST_HANDSHAKE_TIME, 8) ?? 0n;
  return ok({
    publicKey: publicKeyFromBytes(key),
    endpoint: endpoint === undefined ? undefined : decodeSockaddr(endpoint),
    allowedIps,
    keepalive: a.u16(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL) ?? 0,
    lastHandshake: Number(seconds * 1000n + nanoseconds / 1_000_000n),
    rxBytes: a.u64(WGPEER_A_RX_BYTES) ?? 0,
    txBytes: a.u64(WGPEER_A_TX_BYTES) ?? 0,
    ...(preshared?.length === WG_KEY_LEN && preshared.some((b) => b !== 0)
      ? { presharedKey: privateKeyFromBytes(preshared) }
      : {}),
  });
}

/** Returns the private key of one WG_CMD_GET_DEVICE dump; undefined when the interface has no key. */
export function decodePrivateKey(payloads: readonly Uint8Array[]): Decoded<PrivateKey | undefined> {
  for (const payload of payloads) {
    if (payload.length < GENL_HDRLEN) return malformed("genlmsghdr", `${payload.length} bytes are too short`);
    const decoded = Attributes.decode(payload, GENL_HDRLEN, "WG_CMD_GET_DEVICE");
    if (!decoded.ok) return decoded;
    const key = decoded.value.bytes(WGDEVICE_A_PRIVATE_KEY);
    if (key !== undefined && key.length === WG_KEY_LEN && key.some((b) => b !== 0))
      return ok(privateKeyFromBytes(key));
  }
  return ok(undefined);
}

/** Joins the payloads of all messages of one WG_CMD_GET_DEVICE dump, in order. */
export function decodeDevice(payloads: readonly Uint8Array[]): Decoded<WireGuardDeviceState> {
  let publicKey: PublicKey | undefined;
  let listenPort = 0;
  let fwmark = 0;
  const peers: WireGuardPeerState[] = [];
  for (const payload of payloads) {
    if (payload.length < GENL_HDRLEN) return malformed("genlmsghdr", `${payload.length} bytes are too short`);
    const decoded = Attributes.decode(payload, GENL_HDRLEN, "WG_CMD_GET_DEVICE");
    if (!decoded.ok) return decoded;
    const a = decoded.value;
    const key = a.bytes(WGDEVICE_A_PUBLIC_KEY);
    if (key !== undefined && key.length === WG_KEY_LEN) publicKey = publicKeyFromBytes(key);
    listenPort = a.u16(WGDEVICE_A_LISTEN_PORT) ?? listenPort;
    fwmark = a.u32(WGDEVICE_A_FWMARK) ?? fwmark;
    const list = a.bytes(WGDEVICE_A_PEERS);
    if (list === undefined) continue;
    const entries = decodeAttributeList(list, 0, "WGDEVICE_A_PEERS");
    if (!entries.ok) return entries;
    for (const entry of entries.value) {
      const peer = decodePeer(entry.payload);
      if (!peer.ok) return peer;
      const last = peers.at(-1);
      if (last?.publicKey === peer.value.publicKey)
        peers[peers.length - 1] = { ...last, allowedIps: [...last.allowedIps, ...peer.value.allowedIps] };
      else peers.push(peer.value);
    }
  }
  return ok({ publicKey, listenPort, fwmark, peers });
}
