/**
 * Kinds of values in the configuration file: addresses, prefixes, rates, times, names. Each takes what a person writes and gives a typed value, or an
 * error that says what is allowed there.
 */
import { z } from "zod";
import {
  type Address,
  addressBits,
  familyOf,
  formatEndpoint,
  hostPrefix,
  parseAddress,
  parseEndpoint,
  parsePrefix,
  prefixLength,
  prefixOf,
} from "../net/address.js";
import { isInterfacePattern } from "../net/interface-names.js";
import { type PublicKey, parsePublicKey } from "../net/key.js";
import type { BitsPerSecond, Milliseconds } from "../net/units.js";

/** A text that `parse` understands; `expected` names what is expected, as in 'is not an IP address', and `meant` what the writer may have meant. */
const parsed = <T>(
  parse: (text: string) => T | undefined,
  expected: string,
  meant: (text: string) => string | undefined = () => undefined,
) =>
  z.string({ error: `is not ${expected}` }).transform((text, ctx) => {
    const value = parse(text);
    if (value !== undefined) return value;
    const suggestion = meant(text);
    const remedy = suggestion === undefined ? "" : `: write ${suggestion}`;
    ctx.addIssue({ code: "custom", message: `${JSON.stringify(text)} is not ${expected}${remedy}` });
    return z.NEVER;
  });

/** The address and the length of `10.255.0.1/24`, which may have host bits set. */
function interfaceAddress(text: string): { readonly address: Address; readonly length: number } | undefined {
  const [, a = "", digits = ""] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const address = parseAddress(a);
  const length = Number(digits);
  return address === undefined || length > addressBits(familyOf(address)) ? undefined : { address, length };
}

function prefixSuggestion(text: string): string | undefined {
  const whole = interfaceAddress(text);
  if (whole !== undefined) return prefixOf(whole.address, whole.length);
  const host = parseAddress(text);
  return host && hostPrefix(host);
}

function endpointSuggestion(text: string): string | undefined {
  const address = parseAddress(text);
  return address && formatEndpoint({ address, port: 51821 });
}

export const addressField = parsed(parseAddress, "an IP address", (text) => interfaceAddress(text)?.address);
export const endpointField = parsed(
  parseEndpoint,
  "a valid ADDRESS:PORT (IPv6: [ADDRESS]:PORT)",
  endpointSuggestion,
);
export const prefixField = parsed(parsePrefix, "a prefix, or has host bits set", prefixSuggestion);

export const poolField = (family: 4 | 6, longest: number) =>
  parsed((text) => {
    const p = parsePrefix(text);
    return p !== undefined && familyOf(p) === family && prefixLength(p) <= longest ? p : undefined;
  }, `an IPv${family} prefix of at most /${longest}`);

const rateUnits: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };
const LOWEST_RATE: BitsPerSecond = 1e3;
const HIGHEST_RATE: BitsPerSecond = 1e12;

/** Suggests the spelling that the writer of `10 Mbps` or `10M` may have meant. */
function rateSuggestion(text: string): string {
  const [, bytes, scale = ""] = /^(\d+(?:\.\d+)?)\s*([kKMG]?)i?B[a-z]*(?:\/s|ps)$/.exec(text) ?? [];
  if (bytes !== undefined) return `${Number(bytes) * 8} ${scale === "K" ? "k" : scale}bit/s`;
  const plain = Number(text);
  if (plain >= LOWEST_RATE && plain <= HIGHEST_RATE) {
    const unit = plain >= 1e9 ? "G" : plain >= 1e6 ? "M" : "k";
    return `${plain / (rateUnits[unit] ?? 1)} ${unit}bit/s`;
  }
  const m = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:bps|bits?|bits\/s|bit\/sec)?$/i.exec(text);
  const [, number, unit = ""] = m ?? [];
  if (number === undefined || m?.[0] === number) return "10 Mbit/s";
  return `${number} ${unit.toLowerCase() === "k" ? "k" : unit.toUpperCase()}bit/s`;
}

/** Bits per second. */
export const rateField = z
  .union([z.string(), z.number()], { error: "is not a rate: write 10 Mbit/s" })
  .transform((value, ctx): BitsPerSecond => {
    const m = /^(\d+(?:\.\d+)?)\s*([kMG]?)bit\/s$/.exec(String(value));
    const rate = m === null ? Number.NaN : Number(m[1]) * (rateUnits[m[2] ?? ""] ?? Number.NaN);
    if (rate >= LOWEST_RATE && rate <= HIGHEST_RATE) return rate;
    const problem = Number.isNaN(rate) ? "is not a rate" : "is not a rate from 1 kbit/s to 1000 Gbit/s";
    ctx.addIssue({
      code: "custom",
      message: `${JSON.stringify(value)} ${problem}: write ${Number.isNaN(rate) ? rateSuggestion(String(value)) : "10 Mbit/s"}`,
    });
    return z.NEVER;
  });

const timeUnits: Readonly<Record<string, Milliseconds>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000 };
/** Units that people write, and the one of ours. */
const otherTimeUnits: Readonly<Record<string, string>> = {
  m: "min",
  mins: "min",
  minute: "min",
  minutes: "min",
  sec: "s",
  secs: "s",
  second: "s",
  seconds: "s",
  hr: "h",
  hour: "h",
  hours: "h",
  msec: "ms",
  millis: "ms",
};

/** Milliseconds of a time in parts, such as `1h30m`; or in days. */
function timeInParts(text: string): Milliseconds | undefined {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)\s*/gi)];
  if (parts.length === 0 || parts.map((p) => p[0]).join("") !== text) return undefined;
  let total = 0;
  for (const [, number, unit = ""] of parts) {
    const name = unit.toLowerCase();
    const day = /^d(?:ays?)?$/.test(name) ? 86_400_000 : undefined;
    const factor = day ?? timeUnits[otherTimeUnits[name] ?? name];
    if (factor === undefined) return undefined;
    total += Number(number) * factor;
  }
  return total;
}

function timeSuggestion(text: string): string {
  if (/^[1-9]\d*$/.test(text)) return `${text} s`;
  if (/^0(?:\.0*)?$/.test(text)) return "0 s";
  const parts = timeInParts(text);
  if (parts !== undefined && !/^\d+(?:\.\d+)?\s*[a-z]+$/i.test(text)) return timeText(parts);
  if (parts !== undefined && /d(?:ays?)?$/i.test(text)) return timeText(parts);
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(text) ?? [];
  const meant =
    otherTimeUnits[unit.toLowerCase()] ?? (unit.toLowerCase() in timeUnits ? unit.toLowerCase() : "");
  return number === undefined || meant === "" ? "5 s or 100 ms" : `${number} ${meant}`;
}

/** In the largest unit that needs no fraction. */
function timeText(time: Milliseconds): string {
  for (const unit of ["h", "min", "s"]) {
    const factor = timeUnits[unit] ?? 1;
    if (time >= factor && time % factor === 0) return `${time / factor} ${unit}`;
  }
  return `${time} ms`;
}

/** Milliseconds. */
export const timeField = (least: Milliseconds, most: Milliseconds) =>
  z
    .union([z.string(), z.number()], { error: "is not a time: write 5 s or 100 ms" })
    .transform((value, ctx): Milliseconds => {
      const m = /^(\d+(?:\.\d+)?)\s*(ms|s|min|h)$/.exec(String(value));
      const time = m === null ? Number.NaN : Number(m[1]) * (timeUnits[m[2] ?? ""] ?? Number.NaN);
      if (time >= least && time <= most) return time;
      const remedy = Number.isNaN(time) ? `: write ${timeSuggestion(String(value))}` : "";
      ctx.addIssue({
        code: "custom",
        message: `${JSON.stringify(value)} is not a time from ${timeText(least)} to ${timeText(most)}${remedy}`,
      });
      return z.NEVER;
    });

export const wholeField = (least: number, most: number) => {
  const range = `must be a whole number from ${least} to ${most}`;
  const error = ({ input }: { readonly input?: unknown }): string =>
    typeof input === "string" && /^\d+$/.test(input) ? `${range}, without quotes` : range;
  return z.number({ error }).int({ error }).min(least, { error }).max(most, { error });
};

/** A public key, or a list of them, by overlay address. */
export const pinsField = z
  .record(z.string(), z.unknown(), { error: "must be a mapping of overlay addresses to direct public keys" })
  .transform((pins, ctx): Readonly<Record<Address, readonly PublicKey[]>> => {
    const out: Record<Address, readonly PublicKey[]> = {};
    const wrong = (name: string, message: string): void =>
      void ctx.addIssue({ code: "custom", path: [name], message });
    for (const [name, value] of Object.entries(pins)) {
      const owner = parseAddress(name);
      const texts = Array.isArray(value) ? value : [value];
      const keys = texts.flatMap((t) => (typeof t === "string" ? (parsePublicKey(t) ?? []) : []));
      if (owner === undefined) wrong(name, "is not an overlay address");
      else if (keys.length === 0 || keys.length < texts.length)
        wrong(name, "must be a WireGuard public key, or a list of them: 44 characters of base64");
      else out[owner] = keys;
    }
    return out;
  });

/** A number within the limits. */
export const numberField = (least: number, most: number) => {
  const error = `must be a number from ${least} to ${most}`;
  return z.number({ error }).min(least, { error }).max(most, { error });
};

/** A fraction: neither 0 nor 1. */
export const fractionField = () => {
  const error = "must be a number between 0 and 1";
  return z.number({ error }).gt(0, { error }).lt(1, { error });
};

export const interfaceField = z.string({ error: "must be an interface name" }).regex(/^[^\s/]{1,15}$/, {
  error: "must be an interface name of 1 to 15 characters without blanks and slashes",
});

const OVERLAY = "must be a name of the overlay's WireGuard interface, a pattern (`wg-*`), or a list of them";

/** The rules of nftables grow with it. */
const MOST_NAMES = 64;

/** One name or pattern, or several; read as a list. */
export const overlayField = z
  .union([z.string(), z.array(z.string())], { error: OVERLAY })
  .transform((v) => (typeof v === "string" ? [v] : v))
  .refine((names) => names.length > 0 && names.every(isInterfacePattern), { error: OVERLAY })
  .refine((names) => names.length <= MOST_NAMES, { error: `lists more than ${MOST_NAMES}: use a pattern` })
  .refine((names) => new Set(names).size === names.length, { error: "lists an interface twice" });

export const pathField = z
  .string({ error: "must be an absolute path" })
  .regex(/^\//, { error: "must be an absolute path" });

export const portField = wholeField(1, 65535);
export const switchField = z.boolean({ error: "must be true or false" });

export const choiceField = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `must be ${values.join(" or ")}` });
