/**
 * What `shortcutctl` shows, as values: made from a driver's state without asking anybody, so that it is always answered. `explain` walks
 * the path of a shortcut and says at which step a destination is and why not further.
 */

import type { Driver } from "../driver/driver.js";
import type { UnattestedSource } from "../driver/ports.js";
import type { JournalEntry } from "../driver/runtime/journal.js";
import {
  type Address,
  hostPrefix,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
} from "../net/address.js";
import type { ShortcutStatus } from "../shortcut/events.js";
import type { RegistrationStatus } from "../shortcut/hub/hub.js";
import type { PingCounts } from "../shortcut/nat/pings.js";
import type { HubStatus } from "../shortcut/spoke/hub-link.js";

export interface StatusReport {
  readonly role: "spoke" | "hub";
  readonly address: Address;
  readonly overlay: string;
  readonly direct: string;
  readonly publicKey: string;
  readonly daemon: { readonly kind: string; readonly session: string } | undefined;
  readonly hubs: readonly HubStatus[];
  /** Sources whose packets go by the overlay because the hub does not attest them for this router. */
  readonly unattestedSources: readonly UnattestedSource[];
  /** How the NATs before a spoke behave, in words; empty on a hub. */
  readonly nat: string;
  /** Why pings cannot be used, empty when they can; and how many there were. */
  readonly pings: { readonly obstacle: string } & PingCounts;
  readonly shortcuts: readonly ShortcutReport[];
  readonly destinations: readonly DestinationReport[];
  readonly registrations: readonly (RegistrationStatus & { readonly age: number })[];
}

/** Times are milliseconds ago, so that no clock has to be compared. */
export type ShortcutReport = Omit<ShortcutStatus, "since" | "retryAt" | "damping"> & {
  /** Of flap damping, as of now; and milliseconds until the path may be used again. */
  readonly penalty: number;
  readonly suppressedFor: number;
  readonly age: number;
  readonly retryIn: number | undefined;
};

export interface DestinationReport {
  readonly destination: Prefix;
  readonly owner: Address | undefined;
  readonly bitsPerSecond: number;
  readonly aboveThreshold: boolean;
  readonly stage: string;
  readonly reason: string;
}

export interface Explanation {
  readonly query: string;
  readonly stage: string;
  readonly reason: string;
  readonly age: number | undefined;
  readonly owner: Address | undefined;
  readonly rate: string;
  readonly shortcut: ShortcutReport | undefined;
  readonly underneath: string;
}

const aged = (now: number, s: ShortcutStatus): ShortcutReport => {
  const { since, retryAt, damping, ...rest } = s;
  return {
    ...rest,
    age: now - since,
    retryIn: retryAt === undefined ? undefined : retryAt - now,
    penalty: Math.round(damping.penalty(now)),
    suppressedFor: damping.suppressedFor(now),
  };
};

export function statusReport(driver: Driver, now: number): StatusReport {
  const { engine, config } = driver;
  const shortcuts = (engine.spoke?.shortcutStatus() ?? []).map((s) => aged(now, s));
  return {
    role: config.role,
    address: engine.config.self.address,
    overlay: config.overlay,
    direct: config.direct.interface,
    publicKey: engine.config.self.publicKey,
    daemon:
      config.daemon === undefined ? undefined : { kind: config.daemon.kind, session: driver.sessionText },
    hubs: (engine.spoke?.hubStatus() ?? []).map((h) => ({ ...h, since: now - h.since })),
    unattestedSources: driver.sources.unattestedSources,
    nat: engine.spoke?.natText() ?? "",
    pings: { obstacle: engine.pings.obstacle, ...engine.pings.status() },
    shortcuts,
    destinations: (engine.spoke?.destinationStatus(now) ?? []).map((d) => {
      const shortcut = shortcuts.find((s) => s.owner === d.owner || covers(s, d.rate.destination));
      return {
        destination: d.rate.destination,
        owner: shortcut?.owner ?? d.owner,
        bitsPerSecond: d.rate.bitsPerSecond,
        aboveThreshold: d.rate.aboveThreshold,
        stage: shortcut?.stage ?? (d.rate.aboveThreshold ? "hot" : "below threshold"),
        reason: shortcut === undefined ? d.reason : shortcut.reason,
      };
    }),
    registrations: (engine.hub?.status() ?? []).map((r) => ({ ...r, age: now - r.since })),
  };
}

const covers = (s: ShortcutReport, p: Prefix): boolean =>
  s.prefixes.some((x) => overlaps(x.prefix, p)) || hostPrefix(s.owner) === p;

/** @returns undefined when the query is neither an address nor a prefix. */
export function explain(driver: Driver, now: number, query: string): Explanation | undefined {
  const a = parseAddress(query);
  const destination = a === undefined ? parsePrefix(query) : hostPrefix(a);
  if (destination === undefined) return undefined;
  const { engine } = driver;
  const spoke = engine.spoke;
  const under = driver.routing?.underneath(destination);
  const underneath =
    under === undefined
      ? "this router is a hub"
      : "refusal" in under
        ? under.refusal
        : `${under.prefix} by next hop ${under.nextHop}`;
  const found = spoke?.shortcutFor(now, destination);
  const shortcut = found === undefined ? undefined : aged(now, found);
  const counted = spoke?.destinationStatus(now).find((d) => overlaps(d.rate.destination, destination));
  const rate =
    counted === undefined
      ? "no traffic counted"
      : `${(counted.rate.bitsPerSecond / 1e6).toFixed(1)} Mbit/s by the hub`;
  const base = { query, rate, shortcut, underneath };
  if (shortcut !== undefined) {
    const offer = shortcut.prefixes.find((p) => overlaps(p.prefix, destination));
    const reason =
      offer !== undefined && !offer.selected && offer.reason !== "" ? offer.reason : shortcut.reason;
    return { ...base, stage: shortcut.stage, reason, age: shortcut.age, owner: shortcut.owner };
  }
  if (spoke === undefined)
    return { ...base, stage: "hub", reason: "a hub has no shortcuts", age: undefined, owner: undefined };
  if (counted === undefined) {
    const reason =
      under !== undefined && "refusal" in under
        ? under.refusal
        : "below threshold: no traffic by the overlay is counted";
    return { ...base, stage: "idle", reason, age: undefined, owner: undefined };
  }
  const stage = counted.rate.aboveThreshold ? "hot" : "below threshold";
  return { ...base, stage, reason: counted.reason, age: undefined, owner: counted.owner };
}

export type Request =
  | { readonly command: "status" }
  | { readonly command: "explain"; readonly query: string }
  | { readonly command: "timeline"; readonly since: number }
  | { readonly command: "purge"; readonly owner: string };

export type Response =
  | { readonly ok: true; readonly status: StatusReport }
  | { readonly ok: true; readonly explanation: Explanation }
  | { readonly ok: true; readonly timeline: readonly JournalEntry[] }
  | { readonly ok: true; readonly done: string }
  | { readonly ok: false; readonly error: string };

/** Decodes one request line; the error is for the client. */
export function decodeRequest(line: string): Request | { readonly error: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { error: "the request is not JSON" };
  }
  const r = (typeof value === "object" && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  switch (r["command"]) {
    case "status":
      return { command: "status" };
    case "explain":
      return typeof r["query"] === "string"
        ? { command: "explain", query: r["query"] }
        : { error: "explain needs a query" };
    case "timeline":
      return { command: "timeline", since: typeof r["since"] === "number" ? r["since"] : 0 };
    case "purge":
      return typeof r["owner"] === "string"
        ? { command: "purge", owner: r["owner"] }
        : { error: "purge needs an owner or all" };
    default:
      return { error: `unknown command ${JSON.stringify(r["command"])}: status, explain, timeline or purge` };
  }
}

export function answer(driver: Driver, now: number, request: Request): Response {
  switch (request.command) {
    case "status":
      return { ok: true, status: statusReport(driver, now) };
    case "explain": {
      const explanation = explain(driver, now, request.query);
      return explanation === undefined
        ? { ok: false, error: `${JSON.stringify(request.query)} is neither an address nor a prefix` }
        : { ok: true, explanation };
    }
    case "timeline":
      return { ok: true, timeline: driver.journal.since(request.since) };
    case "purge": {
      const owner = request.owner === "all" ? "all" : parseAddress(request.owner);
      if (owner === undefined)
        return {
          ok: false,
          error: `${JSON.stringify(request.owner)} is neither an overlay address nor "all"`,
        };
      driver.input({ kind: "purge", owner });
      return { ok: true, done: `purged ${owner}` };
    }
  }
}
