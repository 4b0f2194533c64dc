/**
 * A new configuration for a running shortcutd: which keys take effect at once, and which need a restart. At once take effect the keys that are
 * read each time they are used and decide nothing about what already stands in kernel and daemon.
 */
import { err, ok, type Result } from "../net/result.js";
import { type Config, type ConfigError, parseConfig } from "./config.js";
import { Source } from "./positions.js";
import { schema } from "./schema.js";

const RELOADABLE: ReadonlySet<string> = new Set([
  "log",
  "trigger.rate",
  "trigger.for",
  "trigger.hysteresis",
  "trigger.interval",
  "timers.idle",
  "timers.offer",
  "timers.connect",
  "timers.drain",
  "timers.backoff",
  "timers.outlive",
]);

/** Pins are named by owner. */
const reloadable = (key: string): boolean => RELOADABLE.has(key) || key.startsWith("pins.");

export interface Reload {
  /** The whole of the new file; of it only the keys of `applied` are to be put in force. */
  readonly config: Config;
  /** Keys with a new value that takes effect now. */
  readonly applied: readonly string[];
  /** Keys that differ from what shortcutd was started with, and are without effect until it is restarted. */
  readonly needRestart: readonly string[];
}

export class Reloads {
  private readonly started: ReadonlyMap<string, string>;
  private inForce: ReadonlyMap<string, string>;

  /** @param text the valid configuration that shortcutd was started with. */
  constructor(text: string) {
    this.started = settingsOf(text);
    this.inForce = this.started;
  }

  /** Compares a new file with what is in force. An invalid file changes nothing. */
  next(text: string): Result<Reload, readonly ConfigError[]> {
    const parsed = parseConfig(text);
    if (!parsed.ok) return err(parsed.error);
    const settings = settingsOf(text);
    const applied = changed(this.inForce, settings).filter(reloadable);
    const needRestart = changed(this.started, settings).filter((key) => !reloadable(key));
    this.inForce = settings;
    return ok({ config: parsed.value, applied, needRestart });
  }
}

/** Every key with its value, defaults included. */
function settingsOf(text: string): ReadonlyMap<string, string> {
  const source = Source.parse(text);
  const parsed = schema.safeParse(source.ok ? source.value.value : undefined);
  return new Map(parsed.success ? leaves("", parsed.data) : []);
}

function leaves(key: string, value: unknown): (readonly [string, string])[] {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return value === undefined ? [] : [[key, JSON.stringify(value)]];
  const below = key === "" ? "" : `${key}.`;
  return Object.entries(value).flatMap(([name, v]) => leaves(`${below}${name}`, v));
}

const changed = (a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): string[] =>
  [...new Set([...a.keys(), ...b.keys()])].filter((key) => a.get(key) !== b.get(key));
