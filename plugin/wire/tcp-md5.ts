/** `struct tcp_md5sig` of linux/tcp.h, for the socket option TCP_MD5SIG: the key of RFC 2385 for segments from and to one address. */
import type { Address } from "../net/address.js";
import { HOST_LITTLE_ENDIAN } from "./netlink/attribute.js";
import { encodeSockaddr } from "./netlink/wireguard.js";

export const IPPROTO_TCP = 6;
export const TCP_MD5SIG = 14;
/** TCP_MD5SIG_MAXKEYLEN */
export const LONGEST_PASSWORD = 80;
/** `struct sockaddr_storage` */
const ADDRESS_SIZE = 128;
const KEY_LENGTH_AT = ADDRESS_SIZE + 2;
const KEY_AT = ADDRESS_SIZE + 8;

/** Whether a text can be a password: printable, without blanks, and short enough for the kernel. Double quotes and backslashes mean other things to the daemons. */
export const isPassword = (text: string): boolean =>
  new RegExp(`^[!#-[\\]-~]{1,${LONGEST_PASSWORD}}$`).test(text);

/** For the neighbour at `address`, whatever its port. The password is one that {@link isPassword} accepts. */
export function encodeTcpMd5(address: Address, password: string): Uint8Array {
  const out = new Uint8Array(KEY_AT + LONGEST_PASSWORD);
  const key = new TextEncoder().encode(password).subarray(0, LONGEST_PASSWORD);
  out.set(encodeSockaddr({ address, port: 0 }));
  new DataView(out.buffer).setUint16(KEY_LENGTH_AT, key.length, HOST_LITTLE_ENDIAN);
  out.set(key, KEY_AT);
  return out;
}
