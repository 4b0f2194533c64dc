/**
 * IP addresses, prefixes and UDP endpoints. Both are branded *canonical* strings (RFC 5952 for IPv6): equal
 * values are `===`, so they serve as map keys, in logs and in JSON without conversion. The only way to obtain
 * one is through the parsers and constructors below.
 */
import ipaddr from "ipaddr.js";

declare const addressBrand: unique symbol;
declare const prefixBrand: unique symbol;

/** An IPv4 or IPv6 address in canonical text, without scope. */
export type Address = string & { readonly [addressBrand]: true };
/** `ADDRESS/LENGTH` in canonical text; host bits are zero. */
export type Prefix = string & { readonly [prefixBrand]: true };
export type Family = 4 | 6;

/** A UDP endpoint. `port` is 1 to 65535. */
export interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

export const familyOf = (a: Address | Prefix): Family => (a.includes(":") ? 6 : 4);
export const addressBits = (family: Family): 32 | 128 => (family === 4 ? 32 : 128);

/** The address of 4 or 16 bytes in network order. @throws RangeError for any other length (a caller's bug). */
export function addressFromBytes(bytes: Uint8Array): Address {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Address;
  if (bytes.length === 16) return new ipaddr.IPv6(Array.from(bytes)).toRFC5952String() as Address;
  throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
}

/** 4 or 16 bytes in network order. */
export function addressBytes(address: Address): Uint8Array {
  if (familyOf(address) === 4) {
    const out = new Uint8Array(4);
    let value = 0;
    let at = 0;
    for (let i = 0; i < address.length; i++) {
      const c = address.charCodeAt(i);
      if (c === 46) {
        out[at++] = value;
        value = 0;
      } else value = value * 10 + c - 48;
    }
    out[at] = value;
    return out;
  }
  return Uint8Array.from(ipaddr.IPv6.parse(address).toByteArray());
}

/** Strict: dotted quad with four decimal parts, or RFC 4291 text without scope. Undefined for anything else. */
export function parseAddress(text: string): Address | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) {
    const bytes = ipaddr.IPv4.parse(text).toByteArray();
    return /(^|\.)0\d/.test(text) ? undefined : addressFromBytes(Uint8Array.from(bytes));
  }
  if (!text.includes(":") || text.includes("%") || !ipaddr.IPv6.isValid(text)) return undefined;
  return addressFromBytes(Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray()));
}

/** For literals in code and tests. @throws Error when the text is not an address. */
export function address(text: string): Address {
  const a = parseAddress(text);
  if (a === undefined) throw new Error(`not an IP address: ${JSON.stringify(text)}`);
  return a;
}

/** `ADDRESS/LENGTH`; undefined when malformed or when host bits are set. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const a = parseAddress(text.slice(0, slash));
  const lengthText = text.slice(slash + 1);
  if (a === undefined || !/^(0|[1-9]\d{0,2})$/.test(lengthText)) return undefined;
  const length = Number(lengthText);
  if (length > addressBits(familyOf(a))) return undefined;
  const p = prefixOf(a, length);
  return prefixAddress(p) === a ? p : undefined;
}

/** For literals in code and tests. @throws Error when the text is not a prefix, or has host bits set. */
export function prefix(text: string): Prefix {
  const p = parsePrefix(text);
  if (p === undefined) throw new Error(`not an IP prefix: ${JSON.stringify(text)}`);
  return p;
}

/** The prefix of `length` bits that contains `a`: host bits are cleared. */
export function prefixOf(a: Address, length: number): Prefix {
  const bytes = addressBytes(a);
  return prefixFromBytes(bytes, length);
}

/** As {@link prefixOf}, from 4 or 16 bytes; the argument is not modified. */
export function prefixFromBytes(bytes: Uint8Array, length: number): Prefix {
  const masked = bytes.slice();
  for (let i = length >> 3; i < masked.length; i++) {
    const keep = i === length >> 3 ? length & 7 : 0;
    masked[i] = (masked[i] ?? 0) & (0xff00 >> keep) & 0xff;
  }
  return `${addressFromBytes(masked)}/${length}` as Prefix;
}

/** The /32 or /128 of an address. */
export const hostPrefix = (a: Address): Prefix => `${a}/${addressBits(familyOf(a))}` as Prefix;
export const prefixAddress = (p: Prefix): Address => p.slice(0, p.indexOf("/")) as Address;
export const prefixLength = (p: Prefix): number => Number(p.slice(p.indexOf("/") + 1));

function sharesBits(a: Uint8Array, b: Uint8Array, length: number): boolean {
  const whole = length >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  const rest = length & 7;
  return rest === 0 || ((a[whole] ?? 0) ^ (b[whole] ?? 0)) >> (8 - rest) === 0;
}

/** Whether `outer` contains every address of `inner` (an address or a prefix; a prefix contains itself). */
export function contains(outer: Prefix, inner: Address | Prefix): boolean {
  if (familyOf(outer) !== familyOf(inner)) return false;
  const length = prefixLength(outer);
  const isPrefix = inner.includes("/");
  if (isPrefix && prefixLength(inner as Prefix) < length) return false;
  const a = addressBytes(prefixAddress(outer));
  const b = addressBytes(isPrefix ? prefixAddress(inner as Prefix) : (inner as Address));
  return sharesBits(a, b, length);
}

export const overlaps = (a: Prefix, b: Prefix): boolean => contains(a, b) || contains(b, a);

/** The two halves of a prefix. @throws RangeError for a host prefix. */
export function halves(p: Prefix): readonly [Prefix, Prefix] {
  const length = prefixLength(p);
  const bytes = addressBytes(prefixAddress(p));
  if (length >= bytes.length * 8) throw new RangeError(`${p} has no halves`);
  const upper = bytes.slice();
  upper[length >> 3] = (upper[length >> 3] ?? 0) | (0x80 >> (length & 7));
  return [prefixFromBytes(bytes, length + 1), prefixFromBytes(upper, length + 1)];
}

/**
 * Set difference: the fewest prefixes that cover all of `from` and nothing of `minus`. A /16 with one /24
 * taken out yields eight prefixes.
 */
export function difference(from: Prefix, minus: readonly Prefix[]): Prefix[] {
  const relevant = minus.filter((m) => overlaps(from, m));
  if (relevant.length === 0) return [from];
  if (relevant.some((m) => contains(m, from))) return [];
  const [low, high] = halves(from);
  return [...difference(low, relevant), ...difference(high, relevant)];
}

const compareBytes = (a: Uint8Array, b: Uint8Array): number => {
  for (let i = 0; i < a.length; i++) {
    const d = (a[i] ?? 0) - (b[i] ?? 0);
    if (d !== 0) return d;
  }
  return 0;
};

/** Total order: IPv4 before IPv6, then by value. */
export function compareAddresses(a: Address, b: Address): number {
  const fa = familyOf(a);
  const fb = familyOf(b);
  return fa !== fb ? fa - fb : compareBytes(addressBytes(a), addressBytes(b));
}

/** Total order: by address, then shorter first. */
export function comparePrefixes(a: Prefix, b: Prefix): number {
  return compareAddresses(prefixAddress(a), prefixAddress(b)) || prefixLength(a) - prefixLength(b);
}

/** `192.0.2.1:51820` or `[2001:db8::1]:51820`, as WireGuard writes it. */
export const formatEndpoint = (e: Endpoint): string =>
  familyOf(e.address) === 4 ? `${e.address}:${e.port}` : `[${e.address}]:${e.port}`;

/** The inverse of {@link formatEndpoint}; undefined when malformed or the port is not 1 to 65535. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const m = /^(?:\[([^\]]+)\]|([^:]+)):([1-9]\d{0,4})$/.exec(text);
  if (m === null) return undefined;
  const a = parseAddress(m[1] ?? m[2] ?? "");
  const port = Number(m[3]);
  if (a === undefined || port > 65535 || (m[1] !== undefined) !== (familyOf(a) === 6)) return undefined;
  return { address: a, port };
}

export const sameEndpoint = (a: Endpoint | undefined, b: Endpoint | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.address === b.address && a.port === b.port);
