/**
 * The output of `shortcutctl`, as values. It is made from a driver's state without any question to
 * daemon or kernel, so it is always available. `explain` follows the steps of a shortcut, and tells
 * the stage of a destination and what blocks it.
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
import { describeRate, describeReason, type Reason, type ReasonKind } from "../shortcut/reasons.js";
import type { HubStatus } from "../shortcut/spoke/hub-link.js";

export interface StatusReport {
  readonly role: "spoke" | "hub";
  readonly address: Address;
  readonly overlay: string;
  readonly direct: string;
  readonly publicKey: string;
  readonly daemon: { readonly kind: string; readonly session: string } | undefined;
  /** Faults of the router's own interfaces that keep it from its work. */
  readonly problems: readonly Why[];
  readonly hubs: readonly HubReport[];
  /**
   * Sources whose packets go via the overlay because the hub does not attest them for this router.
   */
  readonly unattestedSources: readonly UnattestedSource[];
  /** A description of the NATs before a spoke; empty on a hub. */
  readonly nat: string;
  /** The reason why pings cannot be used, empty when they can; and the counters of pings. */
  readonly pings: { readonly obstacle: string } & PingCounts;
  readonly shortcuts: readonly ShortcutReport[];
  readonly destinations: readonly DestinationReport[];
  readonly registrations: readonly (RegistrationStatus & { readonly age: number })[];
}

/**
 * A reason: in words, empty when it is undefined, and as a code that does not change with the
 * wording.
 */
export interface Why {
  readonly reason: string;
  readonly code: ReasonKind | undefined;
}

const why = (r: Reason | undefined): Why => ({ reason: describeReason(r), code: r?.kind });

export type HubReport = Omit<HubStatus, "problem"> & { readonly problem: string };

/** A row of `status`. Times are milliseconds ago, so that no clocks have to be compared. */
export type ShortcutReport = Omit<ShortcutStatus, "since" | "retryAt" | "damping" | "reason" | "prefixes"> & {
  readonly prefixes: readonly (Omit<ShortcutStatus["prefixes"][number], "reason"> & Why)[];
  /** The present state of flap damping, and milliseconds until the path may be used again. */
  readonly penalty: number;
  readonly suppressedFor: number;
  readonly age: number;
  readonly retryIn: number | undefined;
} & Why;

export interface DestinationReport extends Why {
  readonly destination: Prefix;
  readonly owner: Address | undefined;
  readonly bitsPerSecond: number;
  readonly aboveThreshold: boolean;
  readonly stage: string;
}

export interface Explanation extends Why {
  readonly query: string;
  readonly stage: string;
  readonly age: number | undefined;
  readonly owner: Address | undefined;
  readonly rate: string;
  readonly shortcut: ShortcutReport | undefined;
  readonly underneath: string;
  /** As in {@link StatusReport.problems}. */
  readonly problems: readonly Why[];
}

const aged = (now: number, s: ShortcutStatus): ShortcutReport => {
  const { since, retryAt, damping, reason, prefixes, ...rest } = s;
  return {
    ...rest,
    ...why(reason),
    prefixes: prefixes.map((p) => ({ ...p, ...why(p.reason) })),
    age: now - since,
    retryIn: retryAt === undefined ? undefined : retryAt - now,
    penalty: Math.round(damping.penalty),
    suppressedFor: damping.suppressedFor,
  };
};

export function statusReport(driver: Driver, now: number): StatusReport {
  const { engine, config } = driver;
  const shortcuts = (engine.spoke?.shortcutStatus(now) ?? []).map((s) => aged(now, s));
  return {
    role: config.role,
    address: engine.config.self.address,
    overlay: config.overlay,
    direct: config.direct.interface,
    publicKey: engine.config.self.publicKey,
    daemon:
      config.daemon === undefined ? undefined : { kind: config.daemon.kind, session: driver.sessionText },
    problems: driver.problems.map(why),
    hubs: (engine.spoke?.hubStatus() ?? []).map((h) => ({
      ...h,
      since: now - h.since,
      problem: describeReason(h.problem),
    })),
    unattestedSources: driver.sources.unattestedSources,
    nat: engine.spoke?.natText() ?? "",
    pings: {
      obstacle: engine.pings.verdict.ok ? "" : describeReason(engine.pings.verdict.reason),
      ...engine.pings.status(),
    },
    shortcuts,
    destinations: (engine.spoke?.destinationStatus(now) ?? []).map((d) => {
      const shortcut = shortcuts.find((s) => s.owner === d.owner || covers(s, d.rate.destination));
      return {
        destination: d.rate.destination,
        owner: shortcut?.owner ?? d.owner,
        bitsPerSecond: d.rate.bitsPerSecond,
        aboveThreshold: d.rate.aboveThreshold,
        stage: shortcut?.stage ?? (d.rate.aboveThreshold ? "above threshold" : "below threshold"),
        ...(shortcut === undefined ? why(d.reason) : { reason: shortcut.reason, code: shortcut.code }),
      };
    }),
    registrations: (engine.hub?.status() ?? []).map((r) => ({ ...r, age: now - r.since })),
  };
}

const covers = (s: ShortcutReport, p: Prefix): boolean =>
  s.prefixes.some((x) => overlaps(x.prefix, p)) || hostPrefix(s.owner) === p;

/**
 * Explains the stage of an address or prefix, and what blocks it.
 *
 * @returns undefined when the query is neither an address nor a prefix.
 */
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
      : under.ok
        ? `${under.prefix} via next hop ${under.nextHop}`
        : describeReason(under.reason);
  const found = spoke?.shortcutFor(now, destination);
  const shortcut = found === undefined ? undefined : aged(now, found);
  const counted = spoke?.destinationStatus(now).find((d) => overlaps(d.rate.destination, destination));
  const rate =
    counted === undefined ? "no traffic counted" : `${describeRate(counted.rate.bitsPerSecond)} via the hub`;
  const base = { query, rate, shortcut, underneath, problems: driver.problems.map(why) };
  if (shortcut !== undefined) {
    const offer = shortcut.prefixes.find((p) => overlaps(p.prefix, destination));
    const { reason, code } = offer !== undefined && !offer.selected && offer.reason !== "" ? offer : shortcut;
    return { ...base, stage: shortcut.stage, reason, code, age: shortcut.age, owner: shortcut.owner };
  }
  if (spoke === undefined)
    return {
      ...base,
      stage: "hub",
      ...why({ kind: "hub-has-no-shortcuts" }),
      age: undefined,
      owner: undefined,
    };
  if (counted === undefined) {
    const reason: Reason = under?.ok === false ? under.reason : { kind: "no-traffic" };
    return { ...base, stage: "idle", ...why(reason), age: undefined, owner: undefined };
  }
  const stage = counted.rate.aboveThreshold ? "above threshold" : "below threshold";
  return { ...base, stage, ...why(counted.reason), age: undefined, owner: counted.owner };
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
