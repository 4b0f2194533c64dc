/** Targets: replies of wireguard-go on its UAPI socket. */
import { keyHex } from "../../../plugin/net/key.js";
import {
  decodeGetReply,
  decodeSetReply,
  encodeSetPeer,
  uapiReplyComplete,
} from "../../../plugin/wire/uapi.js";
import { must, same, type Target, textOf, typed, utf8 } from "../target.js";

const KEY = "11".repeat(32);
const REPLY = `private_key=${"22".repeat(32)}
listen_port=12912
fwmark=51820
public_key=${KEY}
preshared_key=${"00".repeat(32)}
protocol_version=1
endpoint=[fe80::ee:1%5]:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5999999
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=111
allowed_ip=192.168.4.4/32
allowed_ip=10.0.0.7/8
something_new=yes
public_key=${"33".repeat(32)}
endpoint=192.0.2.1:51820
allowed_ip=2001:db8::/32
errno=0

`;

const get: Target = {
  name: "uapi-get",
  longest: 2048,
  seeds: () => [utf8(REPLY), utf8("errno=-13\n\n")],
  words: [
    "\n",
    "=",
    "errno=0\n\n",
    "public_key=",
    "endpoint=",
    "[::1]:1",
    "allowed_ip=",
    "0.0.0.0/0",
    "::/0",
    KEY,
    "%",
  ],
  run: (input) => {
    const text = textOf(input);
    const reply = decodeGetReply(text);
    typed(reply);
    if (!reply.ok) return;
    for (const p of reply.value.peers) {
      const { publicKey, endpoint, allowedIps, keepalive } = p;
      const set = encodeSetPeer({ publicKey, endpoint, keepalive, addAllowedIps: allowedIps });
      const lines = set.trim().split("\n").slice(1);
      const again = must("encoded again", decodeGetReply(`${lines.join("\n")}\nerrno=0\n\n`)).peers[0];
      same(
        `decode, encode, decode of ${keyHex(publicKey)}`,
        again && [again.publicKey, again.endpoint, again.allowedIps, again.keepalive],
        [publicKey, endpoint, allowedIps, keepalive],
      );
    }
  },
};

const set: Target = {
  name: "uapi-set",
  longest: 256,
  seeds: () => [utf8("errno=0\n\n"), utf8("errno=-22\n\n")],
  words: ["errno=", "\n\n", "-"],
  run: (input) => {
    const text = textOf(input);
    typed(decodeSetReply(text));
    uapiReplyComplete(text);
  },
};

export const wireguardGoTargets: readonly Target[] = [get, set];
