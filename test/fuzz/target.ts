/**
 * A fuzz target: bytes in, and an exception for whatever must not happen. An input that is refused with a
 * typed error is a success.
 */
import { isDeepStrictEqual } from "node:util";
import type { Result } from "../../plugin/net/result.js";

export interface Target {
  readonly name: string;
  /** The longest input that is tried, in bytes. */
  readonly longest: number;
  /** Inputs that get far: what mutations begin with, beside the corpus. */
  readonly seeds: () => readonly Uint8Array[];
  /** Words of the format, which mutations insert. */
  readonly words?: readonly string[];
  /** Runs one input. @throws for a violation: an exception of the code itself, or {@link Violation}. */
  readonly run: (input: Uint8Array) => void | Promise<void>;
}

/** A property of the target that an input broke. */
class Violation extends Error {}

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (input: Uint8Array): string => new TextDecoder().decode(input);
export const hexOf = (input: Uint8Array): string => Buffer.from(input).toString("hex");

/** Both values are equal in all their parts. */
export function same(what: string, a: unknown, b: unknown): void {
  if (!isDeepStrictEqual(a, b))
    throw new Violation(`${what}: ${JSON.stringify(a, shown)} is not ${JSON.stringify(b, shown)}`);
}

/** Shows in JSON what has no form of its own there. */
function shown(_key: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return `bytes ${hexOf(value)}`;
  if (value instanceof Map) return [...value];
  if (value instanceof Set) return [...value];
  return value;
}

export function holds(what: string, holds: boolean): void {
  if (!holds) throw new Violation(what);
}

/** The value of a result that a valid input has given. */
export function must<T>(what: string, r: Result<T, unknown>): T {
  if (!r.ok) throw new Violation(`${what}: ${JSON.stringify(r.error, shown)}`);
  return r.value;
}

/**
 * Checks the result of a decoder: an error says something, and what was decoded is the same after it was
 * encoded and decoded again.
 */
export function checkDecoded<T>(r: Result<T, unknown>, again: (value: T) => Result<T, unknown>): void {
  if (!r.ok) {
    typed(r);
    return;
  }
  same("decode, encode, decode", must("encoded again", again(r.value)), r.value);
}

/** Checks that an error is a value with content. */
export function typed(r: Result<unknown, unknown>): void {
  if (r.ok) return;
  const text = typeof r.error === "string" ? r.error : JSON.stringify(r.error, shown);
  holds("the error is empty", text !== undefined && text !== "" && text !== "{}");
}

/** Whether a text can go to a log and a terminal: no control characters of C0 and C1. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
export const printable = (text: string): boolean => !/[\u0000-\u001f\u007f-\u009f]/.test(text);

/** Reads numbers and bytes from an input, as a program for a machine. What is missing is 0. */
export class Reader {
  private at = 0;
  constructor(private readonly input: Uint8Array) {}

  get left(): number {
    return Math.max(0, this.input.length - this.at);
  }
  byte(): number {
    return this.input[this.at++] ?? 0;
  }
  word(): number {
    return this.byte() * 256 + this.byte();
  }
  /** An index below `n`. */
  below(n: number): number {
    return this.byte() % n;
  }
  /** One element. */
  of<T>(list: readonly [T, ...T[]]): T {
    return list[this.below(list.length)] ?? list[0];
  }
  flag(): boolean {
    return (this.byte() & 1) === 1;
  }
  take(n: number): Uint8Array {
    const out = this.input.slice(this.at, this.at + n);
    this.at += n;
    return out;
  }
}
