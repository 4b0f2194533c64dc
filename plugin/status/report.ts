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
  contains,
  type Endpoint,
  hostPrefix,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixLength,
} from "../net/address.js";
import type { ShortcutStatus } from "../shortcut/events.js";
import type { HubKnowledge, RegistrationStatus } from "../shortcut/hub/hub.js";
import type { PingCounts } from "../shortcut/nat/pings.js";
import { describeRate, describeReason, type Reason, type ReasonKind } from "../shortcut/reasons.js";
import type { DestinationStatus } from "../shortcut/spoke/destinations.js";
import type { HubStatus } from "../shortcut/spoke/hub-link.js";

export interface StatusReport {
  readonly role: "spoke" | "hub";
  readonly address: Address;
  /** Names and patterns of the configuration. */
  readonly overlay: string;
  /** Those that exist, the ones that are up first. */
  readonly overlayInterfaces: readonly string[];
  readonly direct: string;
  readonly directPort: number;
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
  /** When a destination counts as above the threshold; undefined on a hub. `until` is the rate below which it no longer does. */
  readonly threshold:
    | { readonly bitsPerSecond: number; readonly duration: number; readonly until: number }
    | undefined;
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

export type HubReport = Omit<HubStatus, "problem" | "obstacles"> & {
  readonly problem: string;
  readonly obstacles: readonly string[];
};

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

/** Facts that a hub has of a destination. Times are milliseconds ago. */
export interface HubExplanation {
  readonly attested: readonly Prefix[];
  readonly heard: number;
  readonly endpoint: Endpoint | undefined;
  readonly resolvedBy: readonly { readonly spoke: Address; readonly age: number }[];
}

export interface Explanation extends Why {
  readonly query: string;
  readonly stage: string;
  readonly age: number | undefined;
  readonly owner: Address | undefined;
  readonly rate: string;
  readonly shortcut: ShortcutReport | undefined;
  readonly underneath: string;
  /** Ports of hubs that do not answer; empty while the shortcut is direct. */
  readonly obstacles: readonly string[];
  /** Undefined on a spoke, and where the hub knows no owner. */
  readonly hub: HubExplanation | undefined;
  /** As in {@link StatusReport.problems}. */
  readonly problems: readonly Why[];
}

const aged = (now: number, s: ShortcutStatus): ShortcutReport => {
  const { since, retryAt, damping, reason, prefixes, ...rest } = s;
  // the round trip with which the path was proven has changed since: `roundTrip` is the present one
  const present = s.stage === "direct" && reason?.kind === "path-proven" ? undefined : reason;
  return {
    ...rest,
    ...why(present),
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
    overlay: config.overlay.toString(),
    overlayInterfaces: driver.fib.overlayDevices,
    direct: config.direct.interface,
    directPort: config.direct.port,
    publicKey: engine.config.self.publicKey,
    daemon:
      config.daemon === undefined ? undefined : { kind: config.daemon.kind, session: driver.sessionText },
    problems: driver.problems.map(why),
    hubs: (engine.spoke?.hubStatus() ?? []).map((h) => ({
      ...h,
      since: now - h.since,
      problem: describeReason(h.problem),
      obstacles: h.obstacles.map(describeReason),
    })),
    unattestedSources: driver.sources.unattestedSources,
    nat: engine.spoke?.natText() ?? "",
    pings: {
      obstacle: engine.pings.verdict.ok ? "" : describeReason(engine.pings.verdict.reason),
      ...engine.pings.status(),
    },
    shortcuts,
    destinations: (engine.spoke?.destinationStatus(now) ?? [])
      .filter((d) => !driver.overlayAddresses.some((a) => contains(d.rate.destination, a)))
      .map((d) => destinationReport(d, shortcuts)),
    threshold:
      engine.spoke === undefined
        ? undefined
        : {
            bitsPerSecond: config.trigger.rate,
            duration: config.trigger.duration,
            until: config.trigger.rate * config.trigger.hysteresis,
          },
    registrations: (engine.hub?.status() ?? []).map((r) => ({ ...r, age: now - r.since })),
  };
}

/** The stage of a destination without a shortcut. */
const countedStage = ({ rate, reason }: DestinationStatus): string =>
  rate.aboveThreshold
    ? "above threshold"
    : reason?.kind === "not-long-enough"
      ? "above threshold, not long enough"
      : "below threshold";

function destinationReport(d: DestinationStatus, shortcuts: readonly ShortcutReport[]): DestinationReport {
  const { destination, bitsPerSecond, aboveThreshold } = d.rate;
  const shortcut = shortcuts.find((s) => s.owner === d.owner || covers(s, destination));
  const base = { destination, bitsPerSecond, aboveThreshold, owner: shortcut?.owner ?? d.owner };
  if (shortcut === undefined) return { ...base, stage: countedStage(d), ...why(d.reason) };
  return { ...base, ...stageOf(shortcut, destination) };
}

/** The stage of one destination of an owner, and what blocks it: the daemon may refuse one prefix while others are direct. */
function stageOf(s: ShortcutReport, destination: Prefix): Why & { readonly stage: string } {
  const offers = s.prefixes.filter((p) => overlaps(p.prefix, destination));
  const offer = offers.sort((a, b) => prefixLength(b.prefix) - prefixLength(a.prefix))[0];
  if (offer === undefined || offer.selected || offer.reason === "")
    return { stage: s.stage, reason: s.reason, code: s.code };
  const others = s.prefixes.filter((p) => p.selected);
  const stage =
    others.length > 0 && (s.stage === "connecting" || s.stage === "direct")
      ? `refused (${others.map((p) => p.prefix).join(", ")} of this owner: ${s.stage})`
      : s.stage;
  return { stage, reason: offer.reason, code: offer.code };
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
      ? ""
      : under.ok
        ? `${under.prefix} via next hop ${under.nextHop}`
        : describeReason(under.reason);
  const found = spoke?.shortcutFor(now, destination);
  const shortcut = found === undefined ? undefined : aged(now, found);
  const counted = spoke?.destinationStatus(now).find((d) => overlaps(d.rate.destination, destination));
  const rate =
    spoke === undefined
      ? ""
      : counted === undefined
        ? "no traffic counted"
        : `${describeRate(counted.rate.bitsPerSecond)} via the hub`;
  const obstacles =
    shortcut?.stage === "direct"
      ? []
      : (spoke?.hubStatus() ?? []).flatMap((h) => h.obstacles.map(describeReason));
  const base = {
    query,
    rate,
    shortcut,
    underneath,
    obstacles,
    hub: undefined,
    problems: driver.problems.map(why),
  };
  if (shortcut !== undefined) {
    const { stage, reason, code } = stageOf(shortcut, destination);
    const offered = shortcut.prefixes.some((p) => overlaps(p.prefix, destination));
    const isBlockedBelow = !offered && under?.ok === false && shortcut.prefixes.length > 0;
    const block = isBlockedBelow ? why(under.reason) : { reason, code };
    return { ...base, stage, ...block, age: shortcut.age, owner: shortcut.owner };
  }
  if (engine.hub !== undefined) return { ...base, ...ofHub(engine.hub.explain(destination), now) };
  if (counted === undefined) {
    const reason: Reason = under?.ok === false ? under.reason : { kind: "no-traffic" };
    return { ...base, stage: "idle", ...why(reason), age: undefined, owner: undefined };
  }
  return {
    ...base,
    stage: countedStage(counted),
    ...why(counted.reason),
    age: undefined,
    owner: counted.owner,
  };
}

type HubPart = Why & Pick<Explanation, "stage" | "age" | "owner" | "hub">;

function ofHub(known: HubKnowledge, now: number): HubPart {
  if (known.kind !== "owner")
    return {
      stage: "no owner",
      ...why({ kind: "hub-routes-to-no-owner", text: known.text }),
      age: undefined,
      owner: undefined,
      hub: undefined,
    };
  const { owner, prefixes, heardAt, endpoint, resolvedBy } = known;
  return {
    stage: "owned",
    ...why(undefined),
    age: undefined,
    owner,
    hub: {
      attested: prefixes,
      heard: now - heardAt,
      endpoint,
      resolvedBy: resolvedBy.map(({ spoke, at }) => ({ spoke, age: now - at })),
    },
  };
}

/** A prefix that does not leave in the clear, and whether its unreachable route stands. */
export interface GuardedPrefix {
  readonly prefix: Prefix;
  readonly stands: boolean;
}

export type Request =
  | { readonly command: "status" }
  | { readonly command: "explain"; readonly query: string }
  | { readonly command: "timeline"; readonly since: number }
  | { readonly command: "purge"; readonly owner: string }
  | { readonly command: "guard" }
  | { readonly command: "forget"; readonly prefix: string };

export type Response =
  | { readonly ok: true; readonly status: StatusReport }
  | { readonly ok: true; readonly explanation: Explanation }
  | { readonly ok: true; readonly timeline: readonly JournalEntry[] }
  | { readonly ok: true; readonly done: string }
  | { readonly ok: true; readonly guard: readonly GuardedPrefix[] }
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
      return { command: "timeline", since: Number.isFinite(r["since"]) ? Number(r["since"]) : 0 };
    case "purge":
      return typeof r["owner"] === "string"
        ? { command: "purge", owner: r["owner"] }
        : { error: "purge needs an owner or all" };
    case "guard":
      return { command: "guard" };
    case "forget":
      return typeof r["prefix"] === "string"
        ? { command: "forget", prefix: r["prefix"] }
        : { error: "forget needs a prefix or all" };
    default:
      return {
        error: `unknown command ${JSON.stringify(r["command"])}: status, explain, timeline, purge, guard or forget`,
      };
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
    case "guard": {
      const { clearGuard } = driver;
      const guard = clearGuard.prefixes.map((prefix) => ({ prefix, stands: clearGuard.stands(prefix) }));
      return { ok: true, guard };
    }
    case "forget": {
      const which = request.prefix === "all" ? "all" : parsePrefix(request.prefix);
      if (which === undefined)
        return { ok: false, error: `${JSON.stringify(request.prefix)} is neither a prefix nor "all"` };
      return { ok: true, done: `forgot ${driver.clearGuard.forget(which)} prefix(es)` };
    }
  }
}
