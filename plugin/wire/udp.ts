/**
 * UDP datagrams as raw sockets see them (raw(7)): IPv4 with its header both ways, IPv6 without. Checksums after RFC 768
 * and RFC 1071; and the classic BPF program (socket(7), SO_ATTACH_FILTER) that keeps everything but pings from being copied
 * to user space.
 */
import { type Address, addressBytes, addressFromBytes, type Endpoint } from "../net/address.js";
import { HOST_LITTLE_ENDIAN } from "./netlink/attribute.js";

export const IPPROTO_UDP = 17;
const IPV4_HEADER = 20;
const UDP_HEADER = 8;

export interface UdpDatagram {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly payload: Uint8Array;
}

function sum(bytes: Uint8Array, start: number): number {
  let s = start;
  for (let i = 0; i < bytes.length; i += 2) s += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  return s;
}

/** RFC 768: the UDP checksum of IPv4, never 0. */
function udp4Checksum(source: Uint8Array, destination: Uint8Array, udp: Uint8Array): number {
  let s = sum(udp, sum(destination, sum(source, IPPROTO_UDP + udp.length)));
  while (s > 0xffff) s = (s & 0xffff) + (s >>> 16);
  return s === 0xffff ? 0xffff : ~s & 0xffff;
}

function udp(sourcePort: number, destinationPort: number, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(UDP_HEADER + payload.length);
  const view = new DataView(out.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  view.setUint16(4, out.length);
  out.set(payload, UDP_HEADER);
  return out;
}

/** Header and payload for an IPPROTO_UDP socket of IPv6, whose checksum the kernel fills in (IPV6_CHECKSUM). */
export const encodeUdp6 = udp;

/** A whole packet for IP_HDRINCL; the kernel fills in the header's checksum and length, and an ID of 0. */
export function encodeUdp4(
  d: UdpDatagram & {
    readonly ttl: number;
    /** Comes back in an ICMP error. */ readonly id: number;
  },
): Uint8Array {
  const source = addressBytes(d.from.address);
  const destination = addressBytes(d.to.address);
  const body = udp(d.from.port, d.to.port, d.payload);
  new DataView(body.buffer).setUint16(6, udp4Checksum(source, destination, body));
  const out = new Uint8Array(IPV4_HEADER + body.length);
  const view = new DataView(out.buffer);
  out[0] = 0x45;
  view.setUint16(2, out.length);
  view.setUint16(4, d.id);
  out[8] = d.ttl;
  out[9] = IPPROTO_UDP;
  out.set(source, 12);
  out.set(destination, 16);
  out.set(body, IPV4_HEADER);
  return out;
}

const portsOf = (view: DataView, at: number): readonly [number, number] => [
  view.getUint16(at),
  view.getUint16(at + 2),
];

/** A packet as a raw IPv4 socket receives it; undefined when it is not a whole UDP datagram. */
export function decodeUdp4(bytes: Uint8Array): UdpDatagram | undefined {
  if (bytes.length < IPV4_HEADER) return undefined;
  const header = ((bytes[0] ?? 0) & 15) * 4;
  if ((bytes[0] ?? 0) >> 4 !== 4 || header < IPV4_HEADER || bytes[9] !== IPPROTO_UDP) return undefined;
  if (bytes.length < header + UDP_HEADER) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint16(header + 4);
  const [from, to] = portsOf(view, header);
  if (from === 0 || length < UDP_HEADER || header + length > bytes.length) return undefined;
  return {
    from: { address: addressFromBytes(bytes.slice(12, 16)), port: from },
    to: { address: addressFromBytes(bytes.slice(16, 20)), port: to },
    payload: bytes.slice(header + UDP_HEADER, header + length),
  };
}

/** A datagram as a raw IPv6 socket receives it: from the UDP header on. */
export function decodeUdp6(
  bytes: Uint8Array,
): { readonly fromPort: number; readonly toPort: number; readonly payload: Uint8Array } | undefined {
  if (bytes.length < UDP_HEADER) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint16(4);
  const [fromPort, toPort] = portsOf(view, 0);
  if (fromPort === 0 || length < UDP_HEADER || length > bytes.length) return undefined;
  return { fromPort, toPort, payload: bytes.slice(UDP_HEADER, length) };
}

const ICMP_TIME_EXCEEDED = 11;

/**
 * A packet as a raw ICMP socket of IPv4 receives it: who let which of our datagrams die (RFC 792, time exceeded in
 * transit). Undefined for everything else.
 */
export function decodeTimeExceeded(
  bytes: Uint8Array,
):
  | { readonly hop: Address; readonly to: Endpoint; readonly fromPort: number; readonly id: number }
  | undefined {
  const outer = ((bytes[0] ?? 0) & 15) * 4;
  const icmp = bytes.subarray(outer);
  const inner = icmp.subarray(8);
  const header = ((inner[0] ?? 0) & 15) * 4;
  if (outer < IPV4_HEADER || header < IPV4_HEADER || inner.length < header + UDP_HEADER) return undefined;
  if (icmp[0] !== ICMP_TIME_EXCEEDED || icmp[1] !== 0 || inner[9] !== IPPROTO_UDP) return undefined;
  const view = new DataView(inner.buffer, inner.byteOffset, inner.byteLength);
  const [fromPort, toPort] = portsOf(view, header);
  return {
    hop: addressFromBytes(bytes.slice(12, 16)),
    to: { address: addressFromBytes(inner.slice(16, 20)), port: toPort },
    fromPort,
    id: view.getUint16(4),
  };
}

// linux/bpf_common.h, linux/filter.h
const LD_H_ABS = 0x28;
const LD_W_ABS = 0x20;
const LD_H_IND = 0x48;
const LD_W_IND = 0x40;
const LDX_MSH = 0xb1;
const JEQ = 0x15;
const RET = 0x06;
const WHOLE = 0xffff;

/**
 * `struct sock_filter` instructions that let pass what goes to one of the ports and whose payload begins with `magic`.
 * An IPv4 packet begins with its IP header, an IPv6 datagram with its UDP header.
 */
export function udpFilter(family: 4 | 6, ports: readonly number[], magic: number): Uint8Array {
  const program: [number, number, number, number][] = [];
  if (family === 4) program.push([LDX_MSH, 0, 0, 0]);
  program.push([family === 4 ? LD_H_IND : LD_H_ABS, 0, 0, 2]);
  ports.forEach((port, i) => {
    const last = i === ports.length - 1;
    program.push([JEQ, ports.length - 1 - i, last ? 3 : 0, port]);
  });
  program.push([family === 4 ? LD_W_IND : LD_W_ABS, 0, 0, UDP_HEADER]);
  program.push([JEQ, 0, 1, magic]);
  program.push([RET, 0, 0, WHOLE]);
  program.push([RET, 0, 0, 0]);
  return encodeFilter(program);
}

/** Lets nothing pass: for a socket that only holds a port. */
export const nothingFilter = (): Uint8Array => encodeFilter([[RET, 0, 0, 0]]);

function encodeFilter(program: readonly (readonly [number, number, number, number])[]): Uint8Array {
  const out = new Uint8Array(program.length * 8);
  const view = new DataView(out.buffer);
  program.forEach(([code, whenTrue, whenFalse, k], i) => {
    view.setUint16(8 * i, code, HOST_LITTLE_ENDIAN);
    view.setUint8(8 * i + 2, whenTrue);
    view.setUint8(8 * i + 3, whenFalse);
    view.setUint32(8 * i + 4, k, HOST_LITTLE_ENDIAN);
  });
  return out;
}
