/**
 * The cross-platform configuration protocol of userspace WireGuard ("UAPI", wireguard.com/xplatform), as wireguard-go
 * speaks it on its unix socket: lines of `key=value`, keys in lower-case hex, an empty line ends a request and a reply,
 * and the reply closes with `errno=N`.
 */
import {
  type Endpoint,
  formatEndpoint,
  type Prefix,
  parseAddress,
  parseEndpoint,
  parsePrefix,
  prefixOf,
} from "../net/address.js";
import {
  keyHex,
  type PrivateKey,
  type PublicKey,
  privateKeyFromBytes,
  publicKeyFromBytes,
} from "../net/key.js";
import { err, ok, type Result } from "../net/result.js";
import type {
  WireGuardDeviceChange,
  WireGuardDeviceState,
  WireGuardPeerChange,
  WireGuardPeerState,
} from "./netlink/wireguard.js";

export interface UapiError {
  /** 1-based line of the reply; 0 when the reply as a whole is at fault. */
  readonly line: number;
  readonly problem: string;
}

/** A device as UAPI tells it. The private key is there too; only its owner asks for it, to compute the public one. */
export interface UapiDevice {
  readonly privateKey: Uint8Array | undefined;
  readonly listenPort: number;
  readonly fwmark: number;
  readonly peers: readonly WireGuardPeerState[];
}

export const UAPI_GET = "get=1\n\n";

/** Whether a reply is whole: it ends with an empty line. */
export const uapiReplyComplete = (text: string): boolean => text.endsWith("\n\n");

/** `set=1` for the device itself. */
export function encodeSetDevice(to: WireGuardDeviceChange): string {
  let text = "set=1\n";
  if (to.privateKey !== undefined) text += `private_key=${keyHex(to.privateKey)}\n`;
  if (to.listenPort !== undefined) text += `listen_port=${to.listenPort}\n`;
  if (to.fwmark !== undefined) text += `fwmark=${to.fwmark}\n`;
  return `${text}\n`;
}

/** `set=1` that creates or updates one peer; what is undefined is left alone. `replace_allowed_ips` is never sent. */
export function encodeSetPeer(peer: WireGuardPeerChange): string {
  let text = `set=1\npublic_key=${keyHex(peer.publicKey)}\n`;
  if (peer.presharedKey !== undefined) text += `preshared_key=${keyHex(peer.presharedKey)}\n`;
  if (peer.endpoint !== undefined) text += `endpoint=${formatEndpoint(peer.endpoint)}\n`;
  if (peer.keepalive !== undefined) text += `persistent_keepalive_interval=${peer.keepalive}\n`;
  for (const ip of peer.addAllowedIps ?? []) text += `allowed_ip=${ip}\n`;
  return `${text}\n`;
}

export const encodeRemovePeer = (key: PublicKey): string =>
  `set=1\npublic_key=${keyHex(key)}\nremove=true\n\n`;

const hexKey = (text: string): Uint8Array | undefined =>
  /^[0-9a-f]{64}$/.test(text) ? new Uint8Array(Buffer.from(text, "hex")) : undefined;

const decimal = (text: string): number | undefined => (/^\d{1,20}$/.test(text) ? Number(text) : undefined);

/** An allowed IP without canonical form is brought to it: wireguard-go masks too. */
function allowedIp(text: string): Prefix | undefined {
  const exact = parsePrefix(text);
  if (exact !== undefined) return exact;
  const slash = text.indexOf("/");
  const a = slash < 0 ? undefined : parseAddress(text.slice(0, slash));
  const length = slash < 0 ? undefined : decimal(text.slice(slash + 1));
  if (a === undefined || length === undefined || length > (a.includes(":") ? 128 : 32)) return undefined;
  return prefixOf(a, length);
}

/** An endpoint may carry a scope (`[fe80::1%eth0]:51820`), which has no place in a configuration of ours: dropped. */
const endpoint = (text: string): Endpoint | undefined => parseEndpoint(text.replace(/%[^\]]*\]/, "]"));

interface MutablePeer {
  publicKey: PublicKey;
  endpoint: Endpoint | undefined;
  allowedIps: Prefix[];
  keepalive: number;
  seconds: number;
  nanoseconds: number;
  rxBytes: number;
  txBytes: number;
  presharedKey: PrivateKey | undefined;
}

const newPeer = (publicKey: PublicKey): MutablePeer => ({
  publicKey,
  endpoint: undefined,
  allowedIps: [],
  keepalive: 0,
  seconds: 0,
  nanoseconds: 0,
  rxBytes: 0,
  txBytes: 0,
  presharedKey: undefined,
});

const frozen = (p: MutablePeer): WireGuardPeerState => ({
  publicKey: p.publicKey,
  endpoint: p.endpoint,
  allowedIps: p.allowedIps,
  keepalive: p.keepalive,
  lastHandshake: p.seconds * 1000 + Math.floor(p.nanoseconds / 1_000_000),
  rxBytes: p.rxBytes,
  txBytes: p.txBytes,
  ...(p.presharedKey === undefined ? {} : { presharedKey: p.presharedKey }),
});

/** The errno of a reply to `set=1`: 0 for success. */
export function decodeSetReply(text: string): Result<number, UapiError> {
  const m = /^errno=(-?\d{1,10})$/m.exec(text);
  return m === null ? err({ line: 0, problem: "no errno line in the reply" }) : ok(Math.abs(Number(m[1])));
}

/** The state that the lines of a reply to `get=1` have given so far. */
interface ReplyState {
  privateKey: Uint8Array | undefined;
  listenPort: number;
  fwmark: number;
  errno: number | undefined;
  readonly peers: MutablePeer[];
}

/** Takes one value in; undefined when it is malformed. Keys of peers are passed over before the first `public_key`. */
type Take = (state: ReplyState, value: string) => true | undefined;

const ofPeer =
  (take: (peer: MutablePeer, value: string) => true | undefined): Take =>
  (state, value) => {
    const peer = state.peers.at(-1);
    return peer === undefined ? true : take(peer, value);
  };

const numberOfPeer = (key: "keepalive" | "seconds" | "nanoseconds" | "rxBytes" | "txBytes"): Take =>
  ofPeer((peer, value) => {
    const number = decimal(value);
    if (number === undefined) return undefined;
    peer[key] = number;
    return true;
  });

/** The keys that are understood: what a malformed value is not, and how the value is taken in. */
const getKeys: ReadonlyMap<string, { readonly wanted: string; readonly take: Take }> = new Map([
  [
    "private_key",
    {
      wanted: "64 hex digits",
      take: (state, value) => {
        state.privateKey = hexKey(value);
        return state.privateKey === undefined ? undefined : true;
      },
    },
  ],
  [
    "public_key",
    {
      wanted: "64 hex digits",
      take: (state, value) => {
        const bytes = hexKey(value);
        if (bytes === undefined) return undefined;
        state.peers.push(newPeer(publicKeyFromBytes(bytes)));
        return true;
      },
    },
  ],
  [
    "preshared_key",
    {
      wanted: "64 hex digits",
      take: ofPeer((peer, value) => {
        const bytes = hexKey(value);
        if (bytes === undefined) return undefined;
        peer.presharedKey = bytes.some((b) => b !== 0) ? privateKeyFromBytes(bytes) : undefined;
        return true;
      }),
    },
  ],
  [
    "errno",
    {
      wanted: "a number",
      take: (state, value) => {
        if (!/^-?\d{1,10}$/.test(value)) return undefined;
        state.errno = Math.abs(Number(value));
        return true;
      },
    },
  ],
  [
    "listen_port",
    {
      wanted: "a port",
      take: (state, value) => {
        const port = decimal(value);
        if (port === undefined || port > 65535) return undefined;
        state.listenPort = port;
        return true;
      },
    },
  ],
  [
    "fwmark",
    {
      wanted: "a number",
      take: (state, value) => {
        const mark = decimal(value);
        if (mark === undefined || mark > 0xffffffff) return undefined;
        state.fwmark = mark;
        return true;
      },
    },
  ],
  [
    "endpoint",
    {
      wanted: "an endpoint",
      take: ofPeer((peer, value) => {
        peer.endpoint = endpoint(value);
        return peer.endpoint === undefined ? undefined : true;
      }),
    },
  ],
  [
    "allowed_ip",
    {
      wanted: "a prefix",
      take: ofPeer((peer, value) => {
        const p = allowedIp(value);
        if (p === undefined) return undefined;
        peer.allowedIps.push(p);
        return true;
      }),
    },
  ],
  ["persistent_keepalive_interval", { wanted: "a number", take: numberOfPeer("keepalive") }],
  ["last_handshake_time_sec", { wanted: "a number", take: numberOfPeer("seconds") }],
  ["last_handshake_time_nsec", { wanted: "a number", take: numberOfPeer("nanoseconds") }],
  ["rx_bytes", { wanted: "a number", take: numberOfPeer("rxBytes") }],
  ["tx_bytes", { wanted: "a number", take: numberOfPeer("txBytes") }],
]);

/** A reply to `get=1`. Unknown keys are passed over, as the protocol asks; a malformed value is an error. */
export function decodeGetReply(text: string): Result<UapiDevice, UapiError> {
  const state: ReplyState = { privateKey: undefined, listenPort: 0, fwmark: 0, errno: undefined, peers: [] };
  for (const [index, line] of text.split("\n").entries()) {
    if (line === "") continue;
    const bad = (problem: string): Result<UapiDevice, UapiError> => err({ line: index + 1, problem });
    const equals = line.indexOf("=");
    if (equals < 0) return bad("no '=' in the line");
    const name = line.slice(0, equals);
    const value = line.slice(equals + 1);
    const key = getKeys.get(name);
    if (key !== undefined && key.take(state, value) === undefined) {
      // never the value of a key
      const shown = name.endsWith("_key") ? "" : ` ${JSON.stringify(value)}`;
      return bad(`${name}${shown} is not ${key.wanted}`);
    }
  }
  const { privateKey, listenPort, fwmark, errno, peers } = state;
  if (errno === undefined) return err({ line: 0, problem: "no errno line in the reply" });
  if (errno !== 0) return err({ line: 0, problem: `wireguard-go answered errno ${errno}` });
  return ok({ privateKey, listenPort, fwmark, peers: peers.map(frozen) });
}

/** {@link UapiDevice} with the public key that its owner derived from the private one. */
export const withPublicKey = (d: UapiDevice, publicKey: PublicKey | undefined): WireGuardDeviceState => ({
  publicKey,
  listenPort: d.listenPort,
  fwmark: d.fwmark,
  peers: d.peers,
});
