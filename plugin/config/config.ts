/**
 * The configuration file: one YAML document, validated whole. Every error names line, column and key, and what is allowed there; an unknown
 * key is an error. Pure: text in, configuration or errors out. doc/configuration.md is the reference.
 *
 * schema.ts has the keys and their defaults, fields.ts the kinds of values, positions.ts the YAML, checks.ts the rules between keys.
 */
import { type Address, address, type Endpoint, type Prefix } from "../net/address.js";
import { InterfaceNames } from "../net/interface-names.js";
import type { PublicKey } from "../net/key.js";
import { err, ok, type Result } from "../net/result.js";
import { type BitsPerSecond, type Milliseconds, type Seconds, toMilliseconds } from "../net/units.js";
import type { Pins } from "../shortcut/control/trust.js";
import { defaultParameters, type Parameters } from "../shortcut/parameters.js";
import { findContradictions, MAIN_TABLE } from "./checks.js";
import { Source } from "./positions.js";
import { allowedKeys, type Parsed, schema } from "./schema.js";

export interface Config {
  readonly role: "spoke" | "hub";
  /** The interfaces of the overlay. */
  readonly overlay: InterfaceNames;
  /** The VRF that the overlay interface, the LANs and the daemon's sessions are in; undefined: none. */
  readonly vrf: { readonly name: string; readonly table: number } | undefined;
  /** The kernel table that routes the overlay's packets: the VRF's, else the main one. */
  readonly fibTable: number;
  /** Undefined: the first address of the overlay interface. It may be on any interface of the router. */
  readonly address: Address | undefined;
  readonly hubs: readonly Address[];
  readonly daemon: DaemonConfig | undefined;
  readonly direct: {
    readonly interface: string;
    readonly port: number;
    readonly key: string;
    /** The mark of its packets in the underlay; 0: no mark. */
    readonly fwmark: number;
    /** A hub's second port, from which spokes learn how their NAT maps. */
    readonly observePort: number;
  };
  readonly control: {
    readonly port: number;
    readonly socket: string;
    /** Names of our own nftables tables. */
    readonly table: string;
    readonly sourcesTable: string;
  };
  readonly trigger: {
    readonly rate: BitsPerSecond;
    readonly duration: Milliseconds;
    /** Fraction of `rate` below which a destination cools. */
    readonly hysteresis: number;
    readonly interval: Milliseconds;
    readonly mask4: number;
    readonly mask6: number;
  };
  readonly publicEndpoints: readonly Endpoint[];
  /** Prefixes of which no address is offered as a candidate. */
  readonly denied: readonly Prefix[];
  readonly aliases: { readonly 4: Prefix; readonly 6: Prefix | undefined };
  /** Prefixes of the VPN do not leave in the clear: driver/kernel/clear-guard.ts. */
  readonly guard: {
    readonly enabled: boolean;
    readonly except: readonly Prefix[];
    /** Where attested prefixes are remembered. */
    readonly file: string;
  };
  /** The direct keys that may speak for an owner, where the operator names them. */
  readonly pins: Pins;
  /** Where pre-shared keys are: a file for each owner; `required`: no shortcut without one. */
  readonly psk: { readonly directory: string | undefined; readonly required: boolean };
  /** How packets that may not go direct are led into the overlay: by a mark, and a table for it. */
  readonly divert: { readonly mark: number; readonly table: number; readonly priority: number };
  readonly maxShortcuts: number;
  readonly maxSpokes: number;
  readonly parameters: Parameters;
  readonly logLevel: "error" | "warn" | "info" | "debug";
}

export interface DaemonConfig {
  readonly kind: "bird" | "frr";
  /** The daemon's AS. */
  readonly as: number;
  /** Our end of the offers session: the hub's AS where the hub session is eBGP (FRR), else the same. */
  readonly offersAs: number;
  readonly routerId: Address;
  readonly offers: Address;
  readonly feed: Address;
  /** Where the daemon listens: 127.0.0.1 for BIRD, the overlay address for FRR when undefined. */
  readonly peer: Address | undefined;
  readonly port: number;
  readonly holdTime: Seconds;
  /** Offers that a neighbour of the daemon would notice are made nevertheless. */
  readonly acceptVisible: boolean;
  /** The password of both sessions (TCP-MD5). Where the configuration names no file, there need not be one. */
  readonly password: { readonly file: string; readonly required: boolean };
  /** BIRD's control socket, or the directory of FRR's vty sockets. */
  readonly socket: string;
  /** The VRF in which it is spoken to. */
  readonly vrf: string | undefined;
  /** Where aliases stand: BIRD's blackboard, or for FRR the table that routes packets. */
  readonly table: number;
}

export interface ConfigError {
  readonly line: number;
  readonly column: number;
  /** `trigger.rate`; empty for the document. */
  readonly key: string;
  readonly problem: string;
}

/** Parses and validates a configuration file. Errors come all at once, in the order of the file. */
export function parseConfig(text: string): Result<Config, readonly ConfigError[]> {
  const source = Source.parse(text);
  if (!source.ok) return err(source.error.map((e) => ({ ...e, key: "" })));
  const file = source.value;
  const parsed = schema.safeParse(file.value);
  if (!parsed.success) return err(inOrder(parsed.error.issues.flatMap((issue) => errorsOf(file, issue))));
  const findings = findContradictions(parsed.data, (path) => file.has(path));
  if (findings.length > 0) return err(inOrder(findings.map((f) => errorAt(file, f.path, f.problem))));
  return ok(complete(parsed.data));
}

type Issue = NonNullable<ReturnType<typeof schema.safeParse>["error"]>["issues"][number];

function errorsOf(file: Source, issue: Issue): ConfigError[] {
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((k) => {
      const allowed = allowedKeys(issue.path);
      const meant = nearest(k, allowed);
      const hint = meant === undefined ? "" : `did you mean ${meant}? `;
      const problem = `unknown key; ${hint}allowed here: ${allowed.join(", ")}`;
      return errorAt(file, [...issue.path, k], problem, true);
    });
  return [errorAt(file, issue.path, file.has(issue.path) ? issue.message : "is missing")];
}

/** The key that differs by the fewest letters, if those are few for its length. */
function nearest(key: string, allowed: readonly string[]): string | undefined {
  const distances = allowed.map((a) => [distance(key.toLowerCase(), a), a] as const);
  const [best] = distances.sort((a, b) => a[0] - b[0]);
  return best !== undefined && best[0] <= Math.min(2, Math.floor(best[1].length / 2)) ? best[1] : undefined;
}

/** Letters to insert, remove or replace (Levenshtein). Only short keys are compared. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return Number.POSITIVE_INFINITY;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const [replaced = 0, removed = 0, inserted = 0] = [row[j], row[j + 1], next[j]];
      next.push(Math.min(replaced + (letter === other ? 0 : 1), removed + 1, inserted + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

const errorAt = (
  file: Source,
  path: readonly PropertyKey[],
  problem: string,
  atKey = false,
): ConfigError => ({ ...file.positionOf(path, atKey), key: path.join("."), problem });

const inOrder = (errors: readonly ConfigError[]): ConfigError[] =>
  [...errors].sort((a, b) => a.line - b.line || a.column - b.column);

/** Each VRF needs a table of its own: addresses may be the same in all of them. */
const divertTable = (vrfTable: number | undefined): number =>
  vrfTable === undefined ? 4243 : (424_300_000 + vrfTable) % 2 ** 32;

const ownTable = (overlay: InterfaceNames): string =>
  `shortcutd_${overlay.id.replace(/[^A-Za-z0-9_]/g, "_")}`;

/** The file's terms in the program's, with the defaults that depend on other keys. */
function complete(c: Parsed): Config {
  const overlay = new InterfaceNames(c.overlay);
  return {
    role: c.role,
    overlay,
    vrf: c.vrf,
    fibTable: c.vrf?.table ?? MAIN_TABLE,
    address: c.address,
    hubs: c.hubs,
    daemon: daemonOf(c),
    direct: {
      interface: c.direct.interface,
      port: c.direct.port,
      key: c.direct.key,
      fwmark: c.direct.fwmark,
      observePort: c.direct["observe-port"] ?? c.control.port + 1,
    },
    control: {
      port: c.control.port,
      socket: c.control.socket,
      table: ownTable(overlay),
      sourcesTable: `${ownTable(overlay)}_sources`,
    },
    trigger: {
      rate: c.trigger.rate,
      duration: c.trigger.for,
      hysteresis: c.trigger.hysteresis,
      interval: c.trigger.interval,
      mask4: c.trigger.mask4,
      mask6: c.trigger.mask6,
    },
    publicEndpoints: c.endpoints,
    denied: c["deny-candidates"],
    aliases: { 4: c.aliases.ipv4, 6: c.aliases.ipv6 },
    guard: { ...c.guard, file: `${directoryOf(c.direct.key)}/guard-${overlay.id}` },
    pins: new Map(Object.entries(c.pins ?? {}) as [Address, readonly PublicKey[]][]),
    psk: { directory: c.psk.directory, required: c.psk.required },
    divert: { ...c.divert, table: c.divert.table ?? divertTable(c.vrf?.table) },
    maxShortcuts: c.limits.shortcuts,
    maxSpokes: c.limits.spokes,
    parameters: parametersOf(c),
    logLevel: c.log,
  };
}

/** Where the password of the sessions is unless the configuration says so. */
const PASSWORD_FILE = "/var/lib/shortcutd/bgp-password";

const directoryOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));

function daemonOf({ bgp, daemon: kind, ...c }: Parsed): DaemonConfig | undefined {
  if (kind === undefined || bgp === undefined) return undefined;
  const bird = kind === "bird";
  return {
    kind,
    as: bgp.as,
    offersAs: bgp["offers-as"] ?? bgp.as,
    routerId: bgp["router-id"],
    offers: bgp.offers,
    feed: bgp.feed,
    peer: bgp.peer ?? (bird ? address("127.0.0.1") : undefined),
    port: bgp.port,
    holdTime: bgp["hold-time"],
    acceptVisible: bgp["accept-visible"],
    password: { file: bgp["password-file"] ?? PASSWORD_FILE, required: bgp["password-file"] !== undefined },
    socket: c["daemon-socket"] ?? (bird ? "/run/bird/bird.ctl" : "/run/frr"),
    vrf: c.vrf?.name,
    table: bird ? c.aliases.table : (c.vrf?.table ?? MAIN_TABLE),
  };
}

function parametersOf({ bgp, consent, damping, direct, timers }: Parsed): Parameters {
  return {
    ...defaultParameters,
    idleTimeout: timers.idle,
    offerTimeout: timers.offer,
    connectTimeout: timers.connect,
    probeInterval: timers.probe,
    probeMultiplier: timers["probe-multiplier"],
    probeIdle: timers["probe-idle"],
    drain: timers.drain,
    backoff: timers.backoff,
    backoffMax: timers["backoff-max"],
    outlive: timers.outlive,
    peerKeepalive: timers.keepalive,
    remoteHold: bgp === undefined ? defaultParameters.remoteHold : toMilliseconds(bgp["hold-time"]),
    maxRoundTrip: direct["max-round-trip"],
    damping: {
      halfLife: damping["half-life"],
      suppress: damping.suppress,
      reuse: damping.reuse,
      longest: damping.longest,
    },
    oneWay: consent === "one-way",
  };
}

/** `FILE:LINE:COLUMN: KEY: PROBLEM`, as compilers write it. */
export const formatConfigError = (file: string, e: ConfigError): string =>
  `${file}:${e.line}:${e.column}: ${e.key === "" ? "" : `${e.key}: `}${e.problem}`;
