/**
 * The configuration file: one YAML document, validated whole. Every error names line, column and key, and what is allowed there; an unknown
 * key is an error. Pure: text in, configuration or errors out. doc/configuration.md is the reference.
 */
import { isMap, isSeq, LineCounter, parseDocument, type YAMLMap } from "yaml";
import { z } from "zod";
import {
  type Address,
  address,
  type Endpoint,
  familyOf,
  type Prefix,
  parseAddress,
  parseEndpoint,
  parsePrefix,
  prefix,
  prefixLength,
} from "../net/address.js";
import { err, ok, type Result } from "../net/result.js";
import { defaultParameters, type Parameters } from "../shortcut/parameters.js";

export interface Config {
  readonly role: "spoke" | "hub";
  readonly overlay: string;
  /** The VRF that the overlay interface, the LANs and the daemon's sessions are in; undefined: none. */
  readonly vrf: { readonly name: string; readonly table: number } | undefined;
  /** The kernel table by which the overlay's packets are routed: the VRF's, else the main one. */
  readonly fibTable: number;
  /** Undefined: the overlay interface's first address. */
  readonly address: Address | undefined;
  readonly hubs: readonly Address[];
  readonly daemon: DaemonConfig | undefined;
  readonly direct: {
    readonly interface: string;
    readonly port: number;
    readonly key: string;
    /** A hub's second port, by which spokes learn how their NAT maps. */
    readonly observePort: number;
  };
  readonly control: { readonly port: number; readonly socket: string; readonly table: string };
  readonly trigger: {
    readonly rate: number;
    readonly duration: number;
    readonly hysteresis: number;
    readonly interval: number;
    readonly mask4: number;
    readonly mask6: number;
  };
  readonly publicEndpoints: readonly Endpoint[];
  /** Prefixes of which no address is offered as a candidate. */
  readonly denied: readonly Prefix[];
  readonly aliases: { readonly 4: Prefix; readonly 6: Prefix | undefined };
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
  readonly holdTime: number;
  /** Offers that a neighbour of the daemon would notice are made all the same. */
  readonly acceptVisible: boolean;
  /** BIRD's control socket, or the directory of FRR's vty sockets. */
  readonly socket: string;
  /** The VRF in which it is spoken to. */
  readonly vrf: string | undefined;
  /** Where aliases stand: BIRD's blackboard, or for FRR the table by which packets are routed. */
  readonly table: number;
}

export interface ConfigError {
  readonly line: number;
  readonly column: number;
  /** `trigger.rate`; empty for the document. */
  readonly key: string;
  readonly problem: string;
}

const invalid = (problem: string) => ({ message: problem });

const addressField = z.string({ error: "is no IP address" }).transform((text, ctx) => {
  const a = parseAddress(text);
  if (a !== undefined) return a;
  ctx.addIssue({ code: "custom", ...invalid(`${JSON.stringify(text)} is no IP address`) });
  return z.NEVER;
});

const endpointField = z.string({ error: "is no endpoint" }).transform((text, ctx) => {
  const e = parseEndpoint(text);
  if (e !== undefined) return e;
  ctx.addIssue({
    code: "custom",
    ...invalid(`${JSON.stringify(text)} is no ADDRESS:PORT (IPv6: [ADDRESS]:PORT)`),
  });
  return z.NEVER;
});

const prefixField = z.string({ error: "is no prefix" }).transform((text, ctx) => {
  const p = parsePrefix(text);
  if (p !== undefined) return p;
  ctx.addIssue({ code: "custom", ...invalid(`${JSON.stringify(text)} is no prefix without host bits`) });
  return z.NEVER;
});

const poolField = (family: 4 | 6, longest: number) =>
  z.string({ error: `is no IPv${family} prefix` }).transform((text, ctx) => {
    const p = parsePrefix(text);
    if (p !== undefined && familyOf(p) === family && prefixLength(p) <= longest) return p;
    ctx.addIssue({
      code: "custom",
      ...invalid(`${JSON.stringify(text)} is no IPv${family} prefix of at most /${longest}`),
    });
    return z.NEVER;
  });

const units: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

const rateField = z.union([z.string(), z.number()], { error: "is no rate" }).transform((value, ctx) => {
  const m = /^(\d+(?:\.\d+)?)\s*([kMG]?)bit\/s$/.exec(String(value));
  const rate = m === null ? Number.NaN : Number(m[1]) * (units[m[2] ?? ""] ?? Number.NaN);
  if (rate >= 1000) return rate;
  ctx.addIssue({
    code: "custom",
    ...invalid(`${JSON.stringify(value)} is no rate: write 10 Mbit/s (at least 1 kbit/s)`),
  });
  return z.NEVER;
});

const times: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000 };

/** Milliseconds. */
const timeField = (least: number, most: number) =>
  z.union([z.string(), z.number()], { error: "is no time" }).transform((value, ctx) => {
    const m = /^(\d+(?:\.\d+)?)\s*(ms|s|min|h)$/.exec(String(value));
    const t = m === null ? Number.NaN : Number(m[1]) * (times[m[2] ?? ""] ?? Number.NaN);
    if (t >= least && t <= most) return t;
    const text = (ms: number) => (ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`);
    ctx.addIssue({
      code: "custom",
      ...invalid(
        `${JSON.stringify(value)} is no time from ${text(least)} to ${text(most)}: write 5 s or 100 ms`,
      ),
    });
    return z.NEVER;
  });

const whole = (least: number, most: number) =>
  z
    .number({ error: `must be a whole number from ${least} to ${most}` })
    .int({ error: `must be a whole number from ${least} to ${most}` })
    .min(least, { error: `must be a whole number from ${least} to ${most}` })
    .max(most, { error: `must be a whole number from ${least} to ${most}` });

const interfaceName = z.string({ error: "must be an interface name" }).regex(/^[^\s/]{1,15}$/, {
  error: "must be an interface name of 1 to 15 characters without blanks and slashes",
});

const absolutePath = z
  .string({ error: "must be a path" })
  .regex(/^\//, { error: "must be an absolute path" });

const port = whole(1, 65535);
const oneOf = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `must be ${values.join(" or ")}` });

const bgpSchema = z.strictObject({
  as: whole(1, 4294967295),
  "offers-as": whole(1, 4294967295).optional(),
  "router-id": addressField.optional(),
  offers: addressField.optional(),
  feed: addressField.optional(),
  peer: addressField.optional(),
  port: port.optional(),
  "hold-time": whole(3, 9).optional(),
  "accept-visible": z.boolean({ error: "must be true or false" }).optional(),
});

const schema = z.strictObject({
  role: oneOf(["spoke", "hub"]),
  overlay: interfaceName,
  vrf: z.strictObject({ name: interfaceName, table: whole(1, 4294967294) }).optional(),
  address: addressField.optional(),
  hubs: z.array(addressField, { error: "must be a list of the hubs' overlay addresses" }).optional(),
  daemon: oneOf(["bird", "frr"]).optional(),
  bgp: bgpSchema.optional(),
  "daemon-socket": absolutePath.optional(),
  direct: z
    .strictObject({
      interface: interfaceName.optional(),
      port: port.optional(),
      key: absolutePath.optional(),
      "observe-port": port.optional(),
      "max-round-trip": z
        .strictObject({
          ratio: z
            .number({ error: "must be a number from 0.1 to 100" })
            .min(0.1, { error: "must be a number from 0.1 to 100" })
            .max(100, { error: "must be a number from 0.1 to 100" })
            .optional(),
          margin: timeField(0, 10_000).optional(),
        })
        .optional(),
    })
    .optional(),
  control: z.strictObject({ port: port.optional(), socket: absolutePath.optional() }).optional(),
  trigger: z
    .strictObject({
      rate: rateField.optional(),
      for: timeField(0, 3_600_000).optional(),
      interval: timeField(100, 60_000).optional(),
      hysteresis: z
        .number({ error: "must be a number between 0 and 1" })
        .gt(0, { error: "must be a number between 0 and 1" })
        .lt(1, { error: "must be a number between 0 and 1" })
        .optional(),
      mask4: whole(8, 32).optional(),
      mask6: whole(16, 128).optional(),
    })
    .optional(),
  endpoints: z.array(endpointField, { error: "must be a list of public endpoints" }).optional(),
  "deny-candidates": z
    .array(prefixField, { error: "must be a list of prefixes whose addresses are not offered" })
    .optional(),
  aliases: z
    .strictObject({
      ipv4: poolField(4, 28).optional(),
      ipv6: poolField(6, 120).optional(),
      table: whole(1, 4294967294).optional(),
    })
    .optional(),
  limits: z
    .strictObject({ shortcuts: whole(1, 10_000).optional(), spokes: whole(1, 100_000).optional() })
    .optional(),
  timers: z
    .strictObject({
      idle: timeField(1000, 86_400_000).optional(),
      offer: timeField(500, 60_000).optional(),
      connect: timeField(1000, 60_000).optional(),
      probe: timeField(20, 10_000).optional(),
      "probe-multiplier": whole(2, 50).optional(),
      "probe-idle": timeField(20, 10_000).optional(),
      drain: timeField(100, 60_000).optional(),
      backoff: timeField(100, 600_000).optional(),
      "backoff-max": timeField(1000, 86_400_000).optional(),
      keepalive: timeField(5_000, 25_000).optional(),
      outlive: timeField(0, 86_400_000).optional(),
    })
    .optional(),
  damping: z
    .strictObject({
      "half-life": timeField(1000, 3_600_000).optional(),
      suppress: whole(1000, 100_000).optional(),
      reuse: whole(100, 100_000).optional(),
      longest: timeField(1000, 86_400_000).optional(),
    })
    .optional(),
  consent: oneOf(["both", "one-way"]).optional(),
  log: oneOf(["error", "warn", "info", "debug"]).optional(),
});

type Parsed = z.infer<typeof schema>;

/** Parses and validates a configuration file. Errors come all at once, in the order of the file. */
export function parseConfig(text: string): Result<Config, readonly ConfigError[]> {
  const lines = new LineCounter();
  const doc = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  if (doc.errors.length > 0)
    return err(
      doc.errors.map((e) => ({
        ...at(e.pos[0]),
        key: "",
        problem: (e.message.split("\n")[0] ?? "").replace(/ at line.*$/, ""),
      })),
    );
  if (!isMap(doc.contents))
    return err([{ line: 1, column: 1, key: "", problem: "must be a mapping of keys: role, overlay, …" }]);
  const root = doc.contents;
  const value: unknown = doc.toJS();
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const errors = parsed.error.issues.flatMap((issue) => {
      if (issue.code !== "unrecognized_keys")
        return [
          { ...at(offsetOf(root, issue.path)), key: issue.path.join("."), problem: missing(issue.message) },
        ];
      return issue.keys.map((k) => {
        const path = [...issue.path, k];
        const problem = `unknown key; allowed here: ${allowedKeys(issue.path).join(", ")}`;
        return { ...at(offsetOf(root, path, true)), key: path.join("."), problem };
      });
    });
    return err(errors.sort((a, b) => a.line - b.line || a.column - b.column));
  }
  const rules = crossChecks(parsed.data).map((r) => ({
    ...at(offsetOf(root, r.path)),
    key: r.path.join("."),
    problem: r.problem,
  }));
  return rules.length > 0 ? err(rules) : ok(complete(parsed.data));
}

const missing = (message: string): string => (/received undefined/.test(message) ? "is missing" : message);

/** Where a key (or the nearest that exists above it) stands in the text. */
function offsetOf(root: YAMLMap, path: readonly PropertyKey[], key = false): number {
  let node: unknown = root;
  let offset = root.range?.[0] ?? 0;
  for (const [i, step] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((p) => String(p.key) === String(step));
      if (pair === undefined) return offset;
      const range = (n: unknown) => (n as { range?: readonly [number, number, number] } | null)?.range?.[0];
      offset =
        (key && i === path.length - 1 ? range(pair.key) : (range(pair.value) ?? range(pair.key))) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = (node as { range?: readonly [number, number, number] } | null)?.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}

function allowedKeys(path: readonly PropertyKey[]): string[] {
  let at: unknown = schema;
  for (const step of path) {
    const shape = at instanceof z.ZodObject ? (at.shape as Record<string, unknown>) : {};
    at = shape[String(step)];
    if (at instanceof z.ZodOptional) at = at.unwrap();
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape as Record<string, unknown>) : [];
}

function crossChecks(c: Parsed): { readonly path: string[]; readonly problem: string }[] {
  const out: { path: string[]; problem: string }[] = [];
  if (c.role === "spoke") {
    if (c.hubs === undefined || c.hubs.length === 0)
      out.push({
        path: ["hubs"],
        problem: "a spoke needs the overlay address of at least one hub: hubs: [10.255.0.1]",
      });
    if (c.daemon === undefined)
      out.push({ path: ["daemon"], problem: "a spoke needs its routing daemon: bird or frr" });
    if (c.bgp === undefined)
      out.push({ path: ["bgp"], problem: "a spoke needs the daemon's AS: bgp: { as: 65000 }" });
  } else {
    for (const key of ["hubs", "daemon", "bgp"] as const)
      if (c[key] !== undefined)
        out.push({ path: [key], problem: "is for spokes; a hub reads its FIB, not its daemon" });
  }
  const damping = defaultParameters.damping;
  if ((c.damping?.reuse ?? damping.reuse) >= (c.damping?.suppress ?? damping.suppress))
    out.push({
      path: ["damping", c.damping?.reuse === undefined ? "suppress" : "reuse"],
      problem: "reuse must be below suppress",
    });
  const blackboard = c.aliases?.table ?? BLACKBOARD_TABLE;
  if (c.vrf !== undefined && RESERVED_TABLES.has(c.vrf.table))
    out.push({ path: ["vrf", "table"], problem: "must be a table of the VRF's own: not 253, 254 or 255" });
  if (c.daemon === "bird" && c.vrf?.table === blackboard)
    out.push({
      path: ["vrf", "table"],
      problem: "must be another table than BIRD's blackboard (aliases.table)",
    });
  if (c.direct?.interface !== undefined && c.direct.interface === c.overlay)
    out.push({ path: ["direct", "interface"], problem: "must be another interface than the overlay" });
  if ((c.control?.port ?? CONTROL_PORT) === (c.direct?.port ?? DIRECT_PORT))
    out.push({
      path: c.control?.port === undefined ? ["direct", "port"] : ["control", "port"],
      problem:
        c.control?.port === undefined
          ? "must be another port than that of the control protocol"
          : "must be another port than that of the direct interface",
    });
  if (c.address !== undefined && c.hubs?.includes(c.address) === true)
    out.push({ path: ["hubs"], problem: `${c.address} is this router itself` });
  return out;
}

const DIRECT_PORT = 51821;
const CONTROL_PORT = 4243;

/** FRR knows the main table by this number (RT_TABLE_MAIN, linux/rtnetlink.h). */
export const MAIN_TABLE = 254;
const BLACKBOARD_TABLE = 4242;
/** RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL */
const RESERVED_TABLES: ReadonlySet<number> = new Set([253, MAIN_TABLE, 255]);

function complete(c: Parsed): Config {
  const p = defaultParameters;
  const fibTable = c.vrf?.table ?? MAIN_TABLE;
  const daemon: DaemonConfig | undefined =
    c.daemon === undefined || c.bgp === undefined
      ? undefined
      : {
          kind: c.daemon,
          as: c.bgp.as,
          offersAs: c.bgp["offers-as"] ?? c.bgp.as,
          routerId: c.bgp["router-id"] ?? addressLiteral("127.0.0.2"),
          offers: c.bgp.offers ?? addressLiteral("127.0.0.2"),
          feed: c.bgp.feed ?? addressLiteral("127.0.0.3"),
          peer: c.bgp.peer ?? (c.daemon === "bird" ? addressLiteral("127.0.0.1") : undefined),
          port: c.bgp.port ?? 179,
          holdTime: c.bgp["hold-time"] ?? 9,
          acceptVisible: c.bgp["accept-visible"] ?? false,
          socket: c["daemon-socket"] ?? (c.daemon === "bird" ? "/run/bird/bird.ctl" : "/run/frr"),
          vrf: c.vrf?.name,
          table: c.daemon === "bird" ? (c.aliases?.table ?? BLACKBOARD_TABLE) : fibTable,
        };
  const t = c.timers;
  const maxRoundTrip = c.direct?.["max-round-trip"];
  return {
    role: c.role,
    overlay: c.overlay,
    vrf: c.vrf,
    fibTable,
    address: c.address,
    hubs: c.hubs ?? [],
    daemon,
    direct: {
      interface: c.direct?.interface ?? "shortcut0",
      port: c.direct?.port ?? DIRECT_PORT,
      key: c.direct?.key ?? "/var/lib/shortcutd/private.key",
      observePort: c.direct?.["observe-port"] ?? (c.control?.port ?? CONTROL_PORT) + 1,
    },
    control: {
      port: c.control?.port ?? CONTROL_PORT,
      socket: c.control?.socket ?? "/run/shortcutd/control.sock",
      table: `shortcutd_${c.overlay.replace(/[^A-Za-z0-9_]/g, "_")}`,
    },
    trigger: {
      rate: c.trigger?.rate ?? 10e6,
      duration: c.trigger?.for ?? 5_000,
      hysteresis: c.trigger?.hysteresis ?? 0.3,
      interval: c.trigger?.interval ?? 1_000,
      mask4: c.trigger?.mask4 ?? 24,
      mask6: c.trigger?.mask6 ?? 64,
    },
    publicEndpoints: c.endpoints ?? [],
    denied: c["deny-candidates"] ?? [],
    aliases: {
      4: c.aliases?.ipv4 ?? prefix("198.18.0.0/16"),
      6: c.aliases?.ipv6 ?? prefix("fd53:4843:5554::/64"),
    },
    maxShortcuts: c.limits?.shortcuts ?? 100,
    maxSpokes: c.limits?.spokes ?? 10_000,
    parameters: {
      ...p,
      idleTimeout: t?.idle ?? p.idleTimeout,
      offerTimeout: t?.offer ?? p.offerTimeout,
      connectTimeout: t?.connect ?? p.connectTimeout,
      probeInterval: t?.probe ?? p.probeInterval,
      probeMultiplier: t?.["probe-multiplier"] ?? p.probeMultiplier,
      probeIdle: t?.["probe-idle"] ?? p.probeIdle,
      drain: t?.drain ?? p.drain,
      remoteHold: (c.bgp?.["hold-time"] ?? 9) * 1000,
      backoff: t?.backoff ?? p.backoff,
      backoffMax: t?.["backoff-max"] ?? p.backoffMax,
      maxRoundTrip:
        maxRoundTrip === undefined
          ? undefined
          : { ratio: maxRoundTrip.ratio ?? 1, margin: maxRoundTrip.margin ?? 2 },
      damping: {
        halfLife: c.damping?.["half-life"] ?? p.damping.halfLife,
        suppress: c.damping?.suppress ?? p.damping.suppress,
        reuse: c.damping?.reuse ?? p.damping.reuse,
        longest: c.damping?.longest ?? p.damping.longest,
      },
      outlive: t?.outlive ?? p.outlive,
      oneWay: c.consent === "one-way",
      peerKeepalive: t?.keepalive === undefined ? p.peerKeepalive : Math.round(t.keepalive / 1000),
    },
    logLevel: c.log ?? "info",
  };
}

const addressLiteral = address;

/** `FILE:LINE:COLUMN: KEY: PROBLEM`, as compilers write it. */
export const formatConfigError = (file: string, e: ConfigError): string =>
  `${file}:${e.line}:${e.column}: ${e.key === "" ? "" : `${e.key}: `}${e.problem}`;
