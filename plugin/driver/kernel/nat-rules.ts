/**
 * Judges the NAT rules of others. A rule that names the overlay alone translates what passes the overlay, and would not
 * translate the same packets on the direct interface. Sources that are not attested never go direct, so a rule for
 * such sources may stand. With any other such rule the traffic stays on the overlay. The rules come as
 * libnftables-json(5); what is not understood counts as a match. Pure.
 */
import {
  type Address,
  hostPrefix,
  overlaps,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixOf,
} from "../../net/address.js";
import { no, type Verdict, YES } from "../../shortcut/reasons.js";

/** Interfaces that a rule applies to; a rule without one applies to both. */
interface Applies {
  readonly overlay: boolean;
  readonly direct: boolean;
}

/** A rule that translates packets. */
export interface NatRule extends Applies {
  readonly kind: "source" | "destination";
  /** `table ip nat, chain post`. */
  readonly place: string;
  /** The source addresses (destination addresses) of the packets that it translates; undefined: any. */
  readonly only: readonly Prefix[] | undefined;
}

export interface Ruleset {
  readonly nat: readonly NatRule[];
  /** Whether any rule needs connection tracking. */
  readonly stateful: boolean;
}

type Json = Readonly<Record<string, unknown>>;
const isRecord = (v: unknown): v is Json => typeof v === "object" && v !== null && !Array.isArray(v);
const field = (v: unknown, key: string): unknown => (isRecord(v) ? v[key] : undefined);
const listOf = (v: unknown): readonly unknown[] => (Array.isArray(v) ? (v as readonly unknown[]) : []);

const BOTH: Applies = { overlay: true, direct: true };
/** How deep jumps are followed; the kernel allows 16. */
const MOST_JUMPS = 16;

interface Names {
  /** The overlay interfaces that exist. */
  readonly overlay: readonly string[];
  readonly direct: string;
}

interface Hook {
  readonly kind: NatRule["kind"];
  /** Keys of `meta` that name the interface on the side that is translated. */
  readonly device: readonly string[];
  /** The address that decides whether a packet may go direct at all. */
  readonly address: "saddr" | "daddr";
  readonly statements: readonly string[];
  readonly targets: RegExp;
}

const HOOKS: Readonly<Record<string, Hook>> = {
  postrouting: {
    kind: "source",
    device: ["oifname", "oif"],
    address: "saddr",
    statements: ["masquerade", "snat"],
    targets: /^(?:MASQUERADE|SNAT|NETMAP)$/,
  },
  prerouting: {
    kind: "destination",
    device: ["iifname", "iif"],
    address: "daddr",
    statements: ["dnat", "redirect"],
    targets: /^(?:DNAT|REDIRECT|NETMAP)$/,
  },
};

/** The text of a name, also with a wildcard at its end. */
function nameFits(pattern: unknown, name: string | undefined): boolean {
  if (typeof pattern !== "string" || name === undefined) return false;
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
}

/** The names of one reading: with one overlay interface, or without. */
interface Pair {
  readonly overlay: string | undefined;
  readonly direct: string;
}

/** Reads the rules as they apply to one overlay interface and the direct one. */
class Reader {
  private readonly chains = new Map<string, unknown[][]>();
  private readonly sets = new Map<string, readonly unknown[]>();
  readonly nat: NatRule[] = [];
  stateful = false;

  constructor(
    rows: readonly unknown[],
    private readonly names: Pair,
  ) {
    const here: Applies = { overlay: names.overlay !== undefined, direct: true };
    const bases: { readonly key: string; readonly hook: Hook; readonly place: string }[] = [];
    for (const row of rows) {
      const rule = field(row, "rule");
      const set = field(row, "set");
      const chain = field(row, "chain");
      if (isRecord(rule)) {
        const key = keyOf(rule, "chain");
        const expressions = listOf(rule["expr"]);
        this.chains.set(key, [...(this.chains.get(key) ?? []), [...expressions]]);
        this.stateful ||= usesTracking(expressions);
      } else if (isRecord(set)) this.sets.set(keyOf(set, "name"), listOf(set["elem"]));
      else if (isRecord(chain) && chain["type"] === "nat") {
        this.stateful = true;
        const hook = HOOKS[String(chain["hook"])];
        const place = `table ${String(chain["family"])} ${String(chain["table"])}, chain ${String(chain["name"])}`;
        if (hook !== undefined) bases.push({ key: keyOf(chain, "name"), hook, place });
      }
    }
    for (const { key, hook, place } of bases) this.walk(key, hook, place, here, undefined, 0);
  }

  private walk(
    key: string,
    hook: Hook,
    place: string,
    context: Applies,
    only: readonly Prefix[] | undefined,
    depth: number,
  ): void {
    if (depth > MOST_JUMPS) return;
    let here = context;
    for (const rule of this.chains.get(key) ?? []) {
      const table = key.slice(0, key.lastIndexOf("\n"));
      const read = this.read(rule, hook, table);
      const applies = both(here, read.applies);
      if (!applies.overlay && !applies.direct) continue;
      const which = read.only ?? only;
      if (read.translates) this.nat.push({ kind: hook.kind, place, only: which, ...applies });
      for (const jump of read.jumps)
        this.walk(`${table}\n${jump.target}`, hook, place, both(applies, jump.applies), which, depth + 1);
      // a rule that looks at nothing but the interface ends the chain for it
      if (read.ends)
        here = {
          overlay: here.overlay && !read.applies.overlay,
          direct: here.direct && !read.applies.direct,
        };
    }
  }

  private read(rule: readonly unknown[], hook: Hook, table: string) {
    let applies = BOTH;
    let only: readonly Prefix[] | undefined;
    let translates = false;
    let terminal = false;
    let others = false;
    const jumps: { readonly target: string; readonly applies: Applies }[] = [];
    for (const e of rule) {
      const match = field(e, "match");
      const vmap = field(e, "vmap");
      if (isRecord(match)) {
        const device = this.deviceMatch(match, hook, table);
        const addresses = addressMatch(match, hook);
        if (device !== undefined) applies = both(applies, device);
        if (addresses !== undefined) only = addresses;
        if (device === undefined || isRecord(field(match["left"], "concat"))) others = true;
      } else if (isRecord(vmap)) jumps.push(...this.verdicts(vmap, hook, table));
      else {
        const target = field(field(e, "jump") ?? field(e, "goto"), "target");
        if (typeof target === "string") jumps.push({ target, applies: BOTH });
        translates ||= isTranslation(e, hook);
        terminal ||= ["accept", "return", "drop"].some((k) => isRecord(e) && k in e);
      }
    }
    return { applies, only, translates, jumps, ends: terminal && !others };
  }

  /** Which of the two interfaces a comparison lets through; undefined when it is about something else. */
  private deviceMatch(match: Json, hook: Hook, table: string): Applies | undefined {
    const { left, op, right } = match;
    const parts = listOf(field(left, "concat"));
    const at = parts.findIndex((p) => isDevice(p, hook));
    if (at < 0 && !isDevice(left, hook)) return undefined;
    const values = this.values(right, table).map((v) => (at < 0 ? v : listOf(field(v, "concat"))[at]));
    const fits = (name: string | undefined): boolean =>
      values.some((v) => nameFits(v, name)) !== (op === "!=");
    return { overlay: fits(this.names.overlay), direct: fits(this.names.direct) };
  }

  /** The elements of a set, by name or in place, or the one value. */
  private values(right: unknown, table: string): readonly unknown[] {
    if (typeof right === "string" && right.startsWith("@"))
      return (this.sets.get(`${table}\n${right.slice(1)}`) ?? []).map(element);
    const set = field(right, "set");
    return set === undefined ? [right] : (Array.isArray(set) ? listOf(set) : [set]).map(element);
  }

  /** The jumps of a verdict map, each with the interfaces that lead there. */
  private verdicts(vmap: Json, hook: Hook, table: string) {
    const data = vmap["data"];
    const entries =
      typeof data === "string"
        ? (this.sets.get(`${table}\n${data.slice(1)}`) ?? [])
        : listOf(field(data, "set"));
    const byDevice = isDevice(vmap["key"], hook);
    return entries.flatMap((entry) => {
      const [key, verdict] = listOf(entry);
      const target = field(field(verdict, "jump") ?? field(verdict, "goto"), "target");
      if (typeof target !== "string") return [];
      const { overlay, direct } = this.names;
      const applies = byDevice ? { overlay: nameFits(key, overlay), direct: nameFits(key, direct) } : BOTH;
      return [{ target, applies }];
    });
  }
}

const both = (a: Applies, b: Applies): Applies => ({
  overlay: a.overlay && b.overlay,
  direct: a.direct && b.direct,
});

const keyOf = (of: Json, name: string): string =>
  `${String(of["family"])}\n${String(of["table"])}\n${String(of[name])}`;

/** An element of a set may carry a comment or a counter. */
const element = (v: unknown): unknown => field(field(v, "elem"), "val") ?? v;

const isDevice = (v: unknown, hook: Hook): boolean =>
  hook.device.includes(String(field(field(v, "meta"), "key")));

function isTranslation(e: unknown, hook: Hook): boolean {
  if (!isRecord(e)) return false;
  if (hook.statements.some((s) => s in e)) return true;
  if (!("xt" in e)) return false;
  // an extension of iptables: its name is there where nft knows it
  const { name, type } = isRecord(e["xt"]) ? e["xt"] : { name: undefined, type: "target" };
  return type === "target" && (typeof name !== "string" || hook.targets.test(name));
}

/** The addresses of a comparison with the address that matters; undefined when it is about something else. */
function addressMatch({ left, op, right }: Json, hook: Hook): readonly Prefix[] | undefined {
  if (field(field(left, "payload"), "field") !== hook.address || op === "!=") return undefined;
  const set = field(right, "set");
  const prefixes = (set === undefined ? [right] : listOf(set)).map(element).map(prefixesOf);
  return prefixes.includes(undefined) ? undefined : prefixes.flatMap((p) => p ?? []);
}

function prefixesOf(v: unknown): readonly Prefix[] | undefined {
  if (typeof v === "string") {
    const address = parseAddress(v);
    return address === undefined ? undefined : [hostPrefix(address)];
  }
  const { addr, len } = (field(v, "prefix") ?? {}) as Json;
  const exact = parsePrefix(`${String(addr)}/${String(len)}`);
  if (exact !== undefined) return [exact];
  const [from, to] = listOf(field(v, "range")).map((a) => parseAddress(String(a)));
  return from === undefined || to === undefined ? undefined : [around(from, to)];
}

/** The smallest prefix around a range: more than the range, on the safe side. */
function around(from: Address, to: Address): Prefix {
  for (let length = from.includes(":") ? 128 : 32; ; length--)
    if (length === 0 || prefixOf(from, length) === prefixOf(to, length)) return prefixOf(from, length);
}

/** Whether a rule asks for the state of a connection, itself or by an extension of iptables. */
const usesTracking = (expressions: readonly unknown[]): boolean =>
  expressions.some((e) => {
    const left = field(field(e, "match"), "left") ?? field(field(e, "vmap"), "key");
    return isRecord(left) && "ct" in left;
  }) || /"name":"(?:conntrack|state|CT|connmark)"/.test(JSON.stringify(expressions));

/**
 * Reads the rules of others that translate packets of the overlay, or would those of the direct interface: once for each overlay
 * interface, since a rule may name one of them, and another rule the rest.
 */
export function readRuleset(rows: readonly unknown[], { overlay, direct }: Names): Ruleset {
  const names = overlay.length === 0 ? [undefined] : overlay;
  const readings = names.map((name) => new Reader(rows, { overlay: name, direct }));
  return { nat: readings.flatMap((r) => r.nat), stateful: readings.some((r) => r.stateful) };
}

/** Whether some rule translates sources on the direct interface: then they need not go via the overlay. */
export const translatesDirect = (rules: readonly NatRule[]): boolean =>
  rules.some((r) => r.kind === "source" && r.direct);

/**
 * Returns whether traffic may go direct. `attested` are this router's own addresses and prefixes: what goes direct has
 * one of them as source, or as destination on the way in.
 */
export function judgeNat(
  rules: readonly NatRule[],
  router: Address,
  direct: string,
  attested: readonly Prefix[],
): Verdict {
  for (const r of rules) {
    if (!r.overlay || r.direct) continue;
    if (r.only?.every((p) => !attested.some((a) => overlaps(a, p))) === true) continue;
    return no({ kind: "nat-names-overlay", router, place: r.place, what: r.kind, dev: direct });
  }
  return YES;
}
