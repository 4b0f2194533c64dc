/**
 * Netlink attributes (`struct nlattr`, linux/netlink.h): a 16-bit length that includes the 4-byte header, a 16-bit
 * type whose two upper bits are flags, a payload, and padding to 4 bytes. Integers are in host byte order unless an
 * attribute says otherwise; nfnetlink and addresses are big-endian.
 *
 *      0        2        4                4+n
 *     +--------+--------+----------------+- - - -+
 *     | len    | type   | payload        | pad   |
 *     +--------+--------+----------------+- - - -+
 */
import { err, ok, type Result } from "../../net/result.js";

/** Bytes that do not decode: where in the message, and what is wrong with it. */
export interface NetlinkDecodeError {
  readonly at: string;
  readonly problem: string;
}
export type Decoded<T> = Result<T, NetlinkDecodeError>;

export const malformed = (
  at: string,
  problem: string,
): { readonly ok: false; readonly error: NetlinkDecodeError } => err({ at, problem });

/** NLA_F_NESTED: the payload is itself a list of attributes. */
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const NLA_HDRLEN = 4;

/** NLA_ALIGN, NLMSG_ALIGN. By arithmetic: `&` would turn a length of 2^31 and more, as garbage claims, negative. */
export const align4 = (n: number): number => Math.ceil(n / 4) * 4;

/** Host byte order: netlink never leaves the host. */
export const HOST_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

export const view = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);

/** One attribute; `type` without the flag bits. `payload` is a view into the message. */
export interface Attribute {
  readonly type: number;
  readonly payload: Uint8Array;
}

/** Every attribute from `offset` to the end, in order, duplicates included. */
export function decodeAttributeList(bytes: Uint8Array, offset: number, at: string): Decoded<Attribute[]> {
  const out: Attribute[] = [];
  const v = view(bytes);
  let i = offset;
  while (i + NLA_HDRLEN <= bytes.length) {
    const length = v.getUint16(i, HOST_LITTLE_ENDIAN);
    if (length < NLA_HDRLEN || i + length > bytes.length)
      return malformed(at, `attribute of length ${length} at byte ${i} of ${bytes.length}`);
    const type = v.getUint16(i + 2, HOST_LITTLE_ENDIAN) & NLA_TYPE_MASK;
    out.push({ type, payload: bytes.subarray(i + NLA_HDRLEN, i + length) });
    i += align4(length);
  }
  if (i < bytes.length) return malformed(at, `${bytes.length - i} trailing bytes after the attributes`);
  return ok(out);
}

/** Attributes by type with typed access. A repeated type keeps its last occurrence, as `nla_parse` does. */
export class Attributes {
  private constructor(
    private readonly byType: ReadonlyMap<number, Uint8Array>,
    private readonly at: string,
  ) {}

  static decode(bytes: Uint8Array, offset: number, at: string): Decoded<Attributes> {
    const list = decodeAttributeList(bytes, offset, at);
    if (!list.ok) return list;
    const byType = new Map<number, Uint8Array>();
    for (const a of list.value) byType.set(a.type, a.payload);
    return ok(new Attributes(byType, at));
  }

  has(type: number): boolean {
    return this.byType.has(type);
  }
  bytes(type: number): Uint8Array | undefined {
    return this.byType.get(type);
  }
  /** Undefined when absent, and when the payload is too short to hold the integer. */
  u8(type: number): number | undefined {
    return this.byType.get(type)?.[0];
  }
  u16(type: number): number | undefined {
    const b = this.byType.get(type);
    return b === undefined || b.length < 2 ? undefined : view(b).getUint16(0, HOST_LITTLE_ENDIAN);
  }
  u32(type: number): number | undefined {
    const b = this.byType.get(type);
    return b === undefined || b.length < 4 ? undefined : view(b).getUint32(0, HOST_LITTLE_ENDIAN);
  }
  /** Big-endian, as nfnetlink writes integers. */
  be32(type: number): number | undefined {
    const b = this.byType.get(type);
    return b === undefined || b.length < 4 ? undefined : view(b).getUint32(0, false);
  }
  /** A counter: exact up to 2^53. */
  u64(type: number): number | undefined {
    const b = this.byType.get(type);
    return b === undefined || b.length < 8 ? undefined : Number(view(b).getBigUint64(0, HOST_LITTLE_ENDIAN));
  }
  be64(type: number): number | undefined {
    const b = this.byType.get(type);
    return b === undefined || b.length < 8 ? undefined : Number(view(b).getBigUint64(0, false));
  }
  s64(type: number, offset = 0): bigint | undefined {
    const b = this.byType.get(type);
    return b === undefined || b.length < offset + 8
      ? undefined
      : view(b).getBigInt64(offset, HOST_LITTLE_ENDIAN);
  }
  /** A string up to its NUL, or to the end. */
  string(type: number): string | undefined {
    const b = this.byType.get(type);
    return b === undefined ? undefined : nulString(b);
  }
  nested(type: number): Decoded<Attributes> | undefined {
    const b = this.byType.get(type);
    return b === undefined ? undefined : Attributes.decode(b, 0, `${this.at}.${type}`);
  }
}

function nulString(b: Uint8Array): string {
  const end = b.indexOf(0);
  return new TextDecoder().decode(end < 0 ? b : b.subarray(0, end));
}

/** Builds a message body: fixed header, then attributes. Nesting is by callback, so it is always closed. */
export class BodyWriter {
  private buffer = new Uint8Array(128);
  private length = 0;

  private reserve(n: number): number {
    const at = this.length;
    const need = at + n;
    if (need > this.buffer.length) {
      const bigger = new Uint8Array(Math.max(need, this.buffer.length * 2));
      bigger.set(this.buffer);
      this.buffer = bigger;
    }
    this.length = need;
    return at;
  }

  /** Raw bytes, without padding: the fixed header of a message. */
  raw(bytes: Uint8Array): this {
    const at = this.reserve(bytes.length);
    this.buffer.set(bytes, at);
    return this;
  }

  bytes(type: number, payload: Uint8Array): this {
    const size = NLA_HDRLEN + payload.length;
    if (size > 0xffff)
      throw new RangeError(`attribute ${type} of ${size} bytes does not fit its 16-bit length`);
    const at = this.reserve(align4(size));
    const v = view(this.buffer);
    v.setUint16(at, size, HOST_LITTLE_ENDIAN);
    v.setUint16(at + 2, type, HOST_LITTLE_ENDIAN);
    this.buffer.set(payload, at + NLA_HDRLEN);
    return this;
  }
  flag(type: number): this {
    return this.bytes(type, new Uint8Array(0));
  }
  u8(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value));
  }
  u16(type: number, value: number): this {
    const b = new Uint8Array(2);
    view(b).setUint16(0, value, HOST_LITTLE_ENDIAN);
    return this.bytes(type, b);
  }
  u32(type: number, value: number): this {
    const b = new Uint8Array(4);
    view(b).setUint32(0, value, HOST_LITTLE_ENDIAN);
    return this.bytes(type, b);
  }
  /** NUL-terminated (NLA_NUL_STRING). */
  string(type: number, value: string): this {
    return this.bytes(type, new TextEncoder().encode(`${value}\0`));
  }
  /** Attributes within an attribute; NLA_F_NESTED is set. */
  nested(type: number, body: (w: BodyWriter) => void): this {
    const inner = new BodyWriter();
    body(inner);
    return this.bytes(type | NLA_F_NESTED, inner.finish());
  }

  get size(): number {
    return this.length;
  }
  finish(): Uint8Array {
    return this.buffer.slice(0, this.length);
  }
}
