/**
 * BIRD's control socket as a DaemonPort. The connection asks for restricted access first (`restrict`), so whatever is sent here
 * BIRD can only show, never change (`doc/bird.sgml`, section "Remote control"). What the answers mean is decided by the pure
 * modules `bird-audit.ts` and `bird-explain.ts`.
 */

import { auditBird, type BirdFacts } from "../../driver/daemon/bird/audit.js";
import { explainBird, type OfferFacts } from "../../driver/daemon/bird/explain.js";
import { listeners, sentAttributes } from "../../driver/daemon/bird/neighbour-view.js";
import {
  type DaemonExpectation,
  type DaemonPort,
  type NeighbourView,
  PortError,
  type Sent,
} from "../../driver/ports.js";
import { type Address, addressBits, familyOf, type Prefix } from "../../net/address.js";
import { err, ok } from "../../net/result.js";
import { summarySession } from "../../shortcut/spoke/hub-presence.js";
import {
  type BirdReply,
  describeReplyError,
  isFailure,
  isRefused,
  ReplyDecoder,
} from "../../wire/bird/reply.js";
import {
  type BirdProtocol,
  parseNumber,
  parseProtocols,
  parseRoutes,
  parseStatics,
  parseTables,
  parseVersion,
  type StaticRoute,
  sessionsWith,
} from "../../wire/bird/show.js";
import { CommandConnection, type CommandProtocol } from "./vty.js";

export interface BirdOptions {
  /** `/run/bird/bird.ctl`. */
  readonly socket: string;
  /** Milliseconds for one command; 2000 unless given. */
  readonly timeoutMs?: number;
}

const protocol: CommandProtocol<BirdReply> = {
  decoder: () => {
    const decoder = new ReplyDecoder();
    return {
      push: (bytes) => {
        const r = decoder.push(bytes);
        return r.ok ? ok(r.value) : err(describeReplyError(r.error));
      },
    };
  },
  encode: (command) => new TextEncoder().encode(`${command.replaceAll(/[\r\n]/g, " ")}\n`),
  greeting: true,
  opening: ["restrict"],
};

function remedy(code: string): string {
  switch (code) {
    case "ENOENT":
      return "is BIRD running, and is this its socket? `birdc show status` finds it by default; `daemon-socket` in the configuration names another";
    case "ECONNREFUSED":
      return "BIRD is not running: systemctl start bird";
    case "EACCES":
    case "EPERM":
      return "shortcutd may not open it: run it as root, or in the socket's group (bird)";
    case "ETIMEDOUT":
      return "BIRD is busy or stopped: does `birdc show status` answer?";
    case "ECONNRESET":
    case "EPIPE":
      return "BIRD ended or was restarted";
    case "EPROTO":
      return "is this BIRD's control socket, and BIRD 2?";
    default:
      return "";
  }
}

/** Kinds of protocol whose details the audit wants, by pattern: one question each instead of one per protocol. */
const DETAILS = ['"shortcut*"', '"fib_pipe*"'];

/** BIRD over its control socket, which is opened when first needed. */
export function birdClient(options: BirdOptions): DaemonPort {
  const place = `BIRD control socket ${options.socket}`;
  const open = () =>
    new CommandConnection({
      path: options.socket,
      place,
      protocol,
      timeoutMs: options.timeoutMs ?? 2_000,
      remedy,
    });
  const connection = open();
  /** For what may be asked of many prefixes: nothing else waits behind it. */
  const bulk = open();
  const nothing = (reply: BirdReply): BirdReply => ({ lines: [], last: reply.last });
  /** The reply; a runtime error (8xxx, such as `Network not found`) is an empty one. @throws PortError when BIRD does not know the command. */
  const show = async (command: string): Promise<BirdReply> => {
    const reply = await connection.ask(command);
    if (isRefused(reply))
      throw new PortError(
        place,
        `'${command}': ${reply.last.text}`,
        "BIRD 2.0.12 and later are supported",
        "EPROTO",
      );
    return isFailure(reply) ? nothing(reply) : reply;
  };
  /** As `show`, for names that may not be there: BIRD calls that a syntax error. */
  const lookUp = async (command: string): Promise<BirdReply> => {
    const reply = await connection.ask(command);
    return isFailure(reply) ? nothing(reply) : reply;
  };
  const protocols = async (which: string): Promise<BirdProtocol[]> =>
    parseProtocols(await show(`show protocols all ${which}`));

  const facts = async (): Promise<BirdFacts> => {
    const [status, tables, all, table, ...details] = await Promise.all([
      connection.ask("show status"),
      show("show symbols table"),
      show("show protocols"),
      lookUp("eval SHORTCUT_TABLE"),
      ...DETAILS.map(protocols),
    ]);
    const version = parseVersion(status);
    if (version === undefined)
      throw new PortError(
        place,
        `'show status' says no version: ${JSON.stringify(status.last.text)}`,
        "is this BIRD 2?",
        "EPROTO",
      );
    const listed = parseProtocols(all);
    const known = details.flat();
    for (const p of listed)
      if (p.type === "Kernel" && !known.some((k) => k.name === p.name))
        known.push(...(await protocols(quoted(p.name))));
    const statics = new Map<string, readonly StaticRoute[]>();
    for (const p of known)
      if (p.type === "Static" && p.name.startsWith("shortcut_"))
        statics.set(p.name, parseStatics(await show(`show static ${symbol(p.name)}`)));
    return {
      version,
      tables: parseTables(tables),
      protocols: new Map(known.map((p) => [p.name, p])),
      statics,
      shortcutTable: parseNumber(table),
    };
  };

  const offerFacts = async (prefix: Prefix, alias: Address): Promise<OfferFacts> => {
    const family = familyOf(prefix);
    const fib = `fib${family}`;
    const [session, routes, filtered, aliasRoutes, all] = await Promise.all([
      protocols('"shortcut"'),
      lookUp(`show route ${prefix} table ${fib} all`),
      lookUp(`show route ${prefix} table ${fib} filtered protocol shortcut all`),
      lookUp(`show route for ${alias}/${addressBits(familyOf(alias))} table shortcut${familyOf(alias)} all`),
      show("show protocols"),
    ]);
    const kernels = parseProtocols(all).filter((p) => p.type === "Kernel" && p.table === fib);
    const exports: { name: string; filter: string; exported: boolean }[] = [];
    for (const { name } of kernels) {
      const sent = parseRoutes(await show(`show route ${prefix} table ${fib} export ${symbol(name)}`));
      const [detail] = await protocols(quoted(name));
      exports.push({
        name,
        filter: detail?.channels[0]?.exportFilter ?? "(unknown)",
        exported: sent.some((r) => r.prefix === prefix),
      });
    }
    return {
      session: session[0],
      routes: parseRoutes(routes).filter((r) => r.prefix === prefix),
      filtered: parseRoutes(filtered).some((r) => r.prefix === prefix),
      aliasRoute: parseRoutes(aliasRoutes).find((r) => r.primary),
      kernels: exports,
    };
  };

  /** `primary`: without it BIRD also shows what the filter would let pass if it were the best route. */
  const neighbourView = async (prefixes: readonly Prefix[]): Promise<NeighbourView> => {
    const status = await bulk.ask("show status");
    const configuration = status.lines.map((l) => l.text).find((l) => /reconfiguration/.test(l)) ?? "";
    if (prefixes.length === 0) return { configuration, neighbours: new Map(), sent: new Map() };
    const all = listeners(parseProtocols(await bulk.ask("show protocols all")));
    const sent = new Map<Prefix, Map<string, Sent>>();
    for (const prefix of prefixes) {
      const to = new Map<string, Sent>();
      for (const [name, { families }] of all) {
        if (!families.has(familyOf(prefix))) continue;
        const reply = await bulk.ask(`show route ${prefix} primary export ${symbol(name)} all`);
        const route = isFailure(reply) ? undefined : parseRoutes(reply).find((r) => r.prefix === prefix);
        if (route !== undefined)
          to.set(name, { attributes: sentAttributes(route), visibleReason: "", isOrigin: false });
      }
      sent.set(prefix, to);
    }
    return { configuration, neighbours: new Map([...all].map(([k, l]) => [k, l.neighbour])), sent };
  };

  return {
    kind: "bird",
    neighbourView,
    check: async (expect: DaemonExpectation) => {
      const found = await facts();
      return { version: found.version, findings: auditBird(found, expect) };
    },
    explain: async (prefix, alias) => explainBird(prefix, alias, await offerFacts(prefix, alias)),
    igpNextHops: undefined,
    hubSession: async (hubs) =>
      summarySession(sessionsWith(parseProtocols(await show("show protocols all")), hubs)),
    close: async () => {
      await Promise.all([connection.close(), bulk.close()]);
    },
  };
}

/** A name as a pattern that matches only itself: BIRD's names hold no wildcard. */
const quoted = (name: string): string => `"${name.replaceAll(/["\n]/g, "")}"`;
/** A name where BIRD wants a symbol; quotes are for names that are no plain words. */
const symbol = (name: string): string => (/^[A-Za-z_]\w*$/.test(name) ? name : `'${name}'`);
