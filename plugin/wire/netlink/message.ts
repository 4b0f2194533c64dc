/**
 * Netlink framing (`struct nlmsghdr`, linux/netlink.h; RFC 3549 section 2). A datagram holds one or more messages; a
 * dump ends with NLMSG_DONE, everything else that asked for NLM_F_ACK with NLMSG_ERROR. With NETLINK_EXT_ACK the
 * kernel appends its own explanation to errors: that text is what an operator wants to read.
 *
 *      0          4      6       8        12       16
 *     +----------+------+-------+--------+--------+- - - -
 *     | len      | type | flags | seq    | portid | body
 *     +----------+------+-------+--------+--------+- - - -
 */
import { ok } from "../../net/result.js";
import { Attributes, align4, type Decoded, HOST_LITTLE_ENDIAN, malformed, view } from "./attribute.js";

const NLMSG_HDRLEN = 16;

export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLMSG_OVERRUN = 4;

export const NLM_F_REQUEST = 0x01;
export const NLM_F_ACK = 0x04;
/** The dump was inconsistent: what it lists changed while it ran. */
export const NLM_F_DUMP_INTR = 0x10;
const NLM_F_ROOT = 0x100;
const NLM_F_MATCH = 0x200;
export const NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
/** In an NLMSG_ERROR: the request's payload was left out. */
const NLM_F_CAPPED = 0x100;
/** In an NLMSG_ERROR or NLMSG_DONE: extended-ack attributes follow. */
const NLM_F_ACK_TLVS = 0x200;

const NLMSGERR_ATTR_MSG = 1;

export interface NetlinkMessage {
  /** RTM_*, a generic-netlink family, `(subsystem << 8) | type` of nfnetlink, or NLMSG_*. */
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  /** The port of the socket that asked; 0 in a notification that nobody's request caused. */
  readonly portid: number;
  /** A view into the datagram: copy what must outlive the receive buffer. */
  readonly payload: Uint8Array;
}

/** All messages of one datagram. Trailing bytes too short for a header are an error. */
export function decodeMessages(bytes: Uint8Array): Decoded<NetlinkMessage[]> {
  const out: NetlinkMessage[] = [];
  const v = view(bytes);
  let i = 0;
  while (i < bytes.length) {
    if (i + NLMSG_HDRLEN > bytes.length)
      return malformed("nlmsghdr", `truncated at byte ${i} of ${bytes.length}`);
    const length = v.getUint32(i, HOST_LITTLE_ENDIAN);
    if (length < NLMSG_HDRLEN || i + length > bytes.length)
      return malformed("nlmsghdr", `length ${length} at byte ${i} of ${bytes.length}`);
    out.push({
      type: v.getUint16(i + 4, HOST_LITTLE_ENDIAN),
      flags: v.getUint16(i + 6, HOST_LITTLE_ENDIAN),
      seq: v.getUint32(i + 8, HOST_LITTLE_ENDIAN),
      portid: v.getUint32(i + 12, HOST_LITTLE_ENDIAN),
      payload: bytes.subarray(i + NLMSG_HDRLEN, i + length),
    });
    i += align4(length);
  }
  return ok(out);
}

/** One message, padded to 4 bytes as the kernel wants it when several follow each other. */
export function encodeMessage(m: NetlinkMessage): Uint8Array {
  const length = NLMSG_HDRLEN + m.payload.length;
  const out = new Uint8Array(align4(length));
  const v = view(out);
  v.setUint32(0, length, HOST_LITTLE_ENDIAN);
  v.setUint16(4, m.type, HOST_LITTLE_ENDIAN);
  v.setUint16(6, m.flags, HOST_LITTLE_ENDIAN);
  v.setUint32(8, m.seq, HOST_LITTLE_ENDIAN);
  v.setUint32(12, m.portid, HOST_LITTLE_ENDIAN);
  out.set(m.payload, NLMSG_HDRLEN);
  return out;
}

/** The part of a message that a request gives: {@link NetlinkMessage} without the parts that the transport fills in. */
export interface NetlinkRequest {
  readonly type: number;
  /** Without NLM_F_REQUEST and NLM_F_ACK, which the transport adds. */
  readonly flags: number;
  readonly payload: Uint8Array;
}

/** The outcome in an NLMSG_ERROR or NLMSG_DONE. */
export interface NetlinkStatus {
  /** 0 for success, else a positive errno. */
  readonly errno: number;
  /** NLMSGERR_ATTR_MSG, in the kernel's words. */
  readonly message: string | undefined;
}

/** Decodes the body of NLMSG_ERROR (`struct nlmsgerr`) or of NLMSG_DONE. */
export function decodeStatus(m: NetlinkMessage): Decoded<NetlinkStatus> {
  const what = m.type === NLMSG_DONE ? "NLMSG_DONE" : "NLMSG_ERROR";
  if (m.payload.length < 4) {
    if (m.type === NLMSG_DONE) return ok({ errno: 0, message: undefined });
    return malformed(what, `${m.payload.length} bytes are too short for an errno`);
  }
  const v = view(m.payload);
  const errno = Math.abs(v.getInt32(0, HOST_LITTLE_ENDIAN));
  if ((m.flags & NLM_F_ACK_TLVS) === 0) return ok({ errno, message: undefined });
  let offset = 4;
  if (m.type === NLMSG_ERROR) {
    if (m.payload.length < 4 + NLMSG_HDRLEN) return malformed(what, "no room for the header of the request");
    const original = v.getUint32(4, HOST_LITTLE_ENDIAN);
    offset += (m.flags & NLM_F_CAPPED) !== 0 ? NLMSG_HDRLEN : align4(original);
    if (original < NLMSG_HDRLEN || offset > m.payload.length)
      return malformed(what, `the request in it claims ${original} bytes`);
  }
  const attributes = Attributes.decode(m.payload, offset, what);
  if (!attributes.ok) return attributes;
  return ok({ errno, message: attributes.value.string(NLMSGERR_ATTR_MSG) });
}
