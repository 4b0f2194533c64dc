/**
 * The schema of the configuration file, with the default of every key. doc/configuration.md lists the same keys, and a test holds the two
 * together. Defaults that depend on another key (the daemon's socket, `bgp.offers-as`) are in config.ts.
 */
import { z } from "zod";
import { address, prefix } from "../net/address.js";
import { defaultParameters } from "../shortcut/parameters.js";
import {
  addressField,
  choiceField,
  endpointField,
  fractionField,
  interfaceField,
  numberField,
  overlayField,
  pathField,
  pinsField,
  poolField,
  portField,
  prefixField,
  rateField,
  switchField,
  timeField,
  wholeField,
} from "./fields.js";

const TABLE_MAX = 4294967294;
/** SO_MARK has 32 bits. */
const MARK_MAX = 4294967295;
const AS_MAX = 4294967295;
const p = defaultParameters;

/** A mapping of known keys. */
const group = <T extends z.ZodRawShape>(shape: T) =>
  z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? undefined
        : `must be a mapping of keys: ${Object.keys(shape).join(", ")}`,
  });

const vrf = group({ name: interfaceField, table: wholeField(1, TABLE_MAX) });

const bgp = group({
  as: wholeField(1, AS_MAX),
  "offers-as": wholeField(1, AS_MAX).optional(),
  "router-id": addressField.default(address("127.0.0.2")),
  offers: addressField.default(address("127.0.0.2")),
  feed: addressField.default(address("127.0.0.3")),
  peer: addressField.optional(),
  port: portField.default(179),
  "hold-time": wholeField(3, 9).default(9),
  "accept-visible": switchField.default(false),
  "password-file": pathField.optional(),
});

const direct = group({
  interface: interfaceField.default("shortcut0"),
  port: portField.default(51821),
  key: pathField.default("/var/lib/shortcutd/private.key"),
  fwmark: wholeField(0, MARK_MAX).default(0),
  "observe-port": portField.optional(),
  "max-round-trip": group({
    ratio: numberField(0.1, 100).default(1),
    margin: timeField(0, 10_000).default(2),
  }).optional(),
});

const control = group({
  port: portField.default(4243),
  socket: pathField.default("/run/shortcutd/control.sock"),
});

const trigger = group({
  rate: rateField.default(10e6),
  for: timeField(0, 3_600_000).default(5_000),
  interval: timeField(100, 60_000).default(1_000),
  hysteresis: fractionField().default(0.3),
  mask4: wholeField(8, 32).default(24),
  mask6: wholeField(16, 128).default(64),
});

const aliases = group({
  ipv4: poolField(4, 28).default(prefix("198.18.0.0/16")),
  ipv6: poolField(6, 120).default(prefix("fd53:4843:5554::/64")),
  table: wholeField(1, TABLE_MAX).default(4242),
});

const divert = group({
  mark: wholeField(1, MARK_MAX).default(0x20000000),
  table: wholeField(1, TABLE_MAX).optional(),
  priority: wholeField(1, 32765).default(900),
});

const limits = group({
  shortcuts: wholeField(1, 10_000).default(100),
  spokes: wholeField(1, 100_000).default(10_000),
});

const timers = group({
  idle: timeField(1_000, 86_400_000).default(p.idleTimeout),
  offer: timeField(500, 60_000).default(p.offerTimeout),
  connect: timeField(1_000, 60_000).default(p.connectTimeout),
  probe: timeField(20, 10_000).default(p.probeInterval),
  "probe-multiplier": wholeField(2, 50).default(p.probeMultiplier),
  "probe-idle": timeField(20, 10_000).default(p.probeIdle),
  drain: timeField(100, 60_000).default(p.drain),
  backoff: timeField(100, 600_000).default(p.backoff),
  "backoff-max": timeField(1_000, 86_400_000).default(p.backoffMax),
  keepalive: timeField(5_000, 25_000).default(p.peerKeepalive),
  outlive: timeField(0, 86_400_000).default(p.outlive),
});

const guard = group({
  enabled: switchField.default(true),
  except: z
    .array(prefixField, { error: "must be a list of prefixes that may leave in the clear" })
    .default([]),
});

const damping = group({
  "half-life": timeField(1_000, 3_600_000).default(p.damping.halfLife),
  suppress: wholeField(1_000, 100_000).default(p.damping.suppress),
  reuse: wholeField(100, 100_000).default(p.damping.reuse),
  longest: timeField(1_000, 86_400_000).default(p.damping.longest),
});

const psk = group({ directory: pathField.optional(), required: switchField.default(false) });

export const schema = group({
  role: choiceField(["spoke", "hub"]),
  overlay: overlayField,
  vrf: vrf.optional(),
  address: addressField.optional(),
  hubs: z.array(addressField, { error: "must be a list of the hubs' overlay addresses" }).default([]),
  daemon: choiceField(["bird", "frr"]).optional(),
  bgp: bgp.optional(),
  "daemon-socket": pathField.optional(),
  direct: direct.prefault({}),
  control: control.prefault({}),
  trigger: trigger.prefault({}),
  endpoints: z.array(endpointField, { error: "must be a list of public endpoints" }).default([]),
  "deny-candidates": z
    .array(prefixField, { error: "must be a list of prefixes whose addresses are not offered" })
    .default([]),
  aliases: aliases.prefault({}),
  divert: divert.prefault({}),
  limits: limits.prefault({}),
  timers: timers.prefault({}),
  damping: damping.prefault({}),
  pins: pinsField.optional(),
  psk: psk.prefault({}),
  guard: guard.prefault({}),
  consent: choiceField(["both", "one-way"]).default("both"),
  log: choiceField(["error", "warn", "info", "debug"]).default("info"),
});

/** The file's content, complete with defaults. */
export type Parsed = z.infer<typeof schema>;

/** The schema of the value of a key, without the wrapping that makes it optional or gives it a default. */
export function unwrapped(field: unknown): unknown {
  let inner = field;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault)
    inner = inner.unwrap();
  return inner;
}

/** The keys that are allowed below `path`. */
export function allowedKeys(path: readonly PropertyKey[]): string[] {
  let at: unknown = schema;
  for (const step of path) {
    const here = unwrapped(at);
    at = here instanceof z.ZodObject ? (here.shape as Record<string, unknown>)[String(step)] : undefined;
  }
  const here = unwrapped(at);
  return here instanceof z.ZodObject ? Object.keys(here.shape as Record<string, unknown>) : [];
}
