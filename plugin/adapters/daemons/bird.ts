/**
 * BIRD's control socket as a DaemonPort. The connection asks for restricted access first (`restrict`), so that what is sent here
 * can only show, never change (`doc/bird.sgml`, section "Remote control"). The pure modules in driver/daemon/bird/
 * decide what the answers mean.
 */

import { auditBird, type BirdFacts } from "../../driver/daemon/bird/audit.js";
import { explainBird, type OfferFacts } from "../../driver/daemon/bird/explain.js";
import { listeners, sentAttributes } from "../../driver/daemon/bird/neighbour-view.js";
import {
  type DaemonExpectation,
  type DaemonExplanation,
  type DaemonNeighbour,
  type DaemonPort,
  type NeighbourView,
  PortError,
  type Sent,
} from "../../driver/ports.js";
import { type Address, addressBits, familyOf, type Prefix } from "../../net/address.js";
import { err, ok } from "../../net/result.js";
import type { HubSession } from "../../shortcut/events.js";
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
  parseBfdNeighbours,
  parseInterfaces,
  parseNumber,
  parseProtocols,
  parseRouterId,
  parseRoutes,
  parseStatics,
  parseTables,
  parseValue,
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

/** How BIRD's control socket is spoken to. */
export const birdProtocol: CommandProtocol<BirdReply> = {
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

/** BIRD over its control socket, which is opened when first needed. */
export const birdClient = (options: BirdOptions): DaemonPort => new BirdClient(options);

class BirdClient implements DaemonPort {
  readonly kind = "bird";
  /** BIRD's feed has every route. */
  readonly igpNextHops = undefined;
  /** The filter of BIRD's feed marks each path with its interface. */
  readonly pathInterfaces = undefined;
  private readonly place: string;
  private readonly connection: CommandConnection<BirdReply>;
  /** For questions about many prefixes: no other question waits behind them. */
  private readonly bulk: CommandConnection<BirdReply>;

  constructor(options: BirdOptions) {
    this.place = `BIRD control socket ${options.socket}`;
    const open = () =>
      new CommandConnection({
        path: options.socket,
        place: this.place,
        protocol: birdProtocol,
        timeoutMs: options.timeoutMs ?? 2_000,
        remedy,
      });
    this.connection = open();
    this.bulk = open();
  }

  async check(expect: DaemonExpectation) {
    const found = await this.facts();
    return { version: found.version, findings: auditBird(found, expect) };
  }

  async explain(prefix: Prefix, alias: Address): Promise<DaemonExplanation> {
    return explainBird(prefix, alias, await this.offerFacts(prefix, alias));
  }

  async hubSession(
    hubs: readonly Address[],
    isOnLink: (neighbour: DaemonNeighbour) => boolean = () => false,
  ): Promise<HubSession> {
    const protocols = parseProtocols(await this.show("show protocols all"));
    return summarySession(sessionsWith(protocols, (n) => hubs.includes(n.address) || isOnLink(n)));
  }

  async neighbourView(prefixes: readonly Prefix[]): Promise<NeighbourView> {
    const status = await this.bulk.ask("show status");
    const configuration = status.lines.map((l) => l.text).find((l) => /reconfiguration/.test(l)) ?? "";
    if (prefixes.length === 0) return { configuration, neighbours: new Map(), sent: new Map() };
    const all = listeners(parseProtocols(await this.bulk.ask("show protocols all")));
    const sent = new Map<Prefix, ReadonlyMap<string, Sent>>();
    for (const prefix of prefixes) sent.set(prefix, await this.sentTo(all, prefix));
    return { configuration, neighbours: new Map([...all].map(([k, l]) => [k, l.neighbour])), sent };
  }

  async close(): Promise<void> {
    await Promise.all([this.connection.close(), this.bulk.close()]);
  }

  /** `primary`: without it BIRD also shows what the filter would let pass if it were the best route. */
  private async sentTo(
    all: ReturnType<typeof listeners>,
    prefix: Prefix,
  ): Promise<ReadonlyMap<string, Sent>> {
    const to = new Map<string, Sent>();
    for (const [name, { families }] of all) {
      if (!families.has(familyOf(prefix))) continue;
      const reply = await this.bulk.ask(`show route ${prefix} primary export ${symbol(name)} all`);
      const route = isFailure(reply) ? undefined : parseRoutes(reply).find((r) => r.prefix === prefix);
      if (route !== undefined)
        to.set(name, { attributes: sentAttributes(route), visibleReason: "", isOrigin: false });
    }
    return to;
  }

  /** The reply; a runtime error (8xxx, such as `Network not found`) is an empty one. @throws PortError when BIRD does not know the command. */
  private async show(command: string): Promise<BirdReply> {
    const reply = await this.connection.ask(command);
    if (isRefused(reply))
      throw this.misunderstood(`'${command}': ${reply.last.text}`, "BIRD 2.0.12 and later are supported");
    return isFailure(reply) ? emptied(reply) : reply;
  }

  /** As `show`, for names that may not be there: BIRD calls that a syntax error. */
  private async lookUp(command: string): Promise<BirdReply> {
    const reply = await this.connection.ask(command);
    return isFailure(reply) ? emptied(reply) : reply;
  }

  private misunderstood(problem: string, remedy: string): PortError {
    return new PortError(this.place, problem, remedy, "EPROTO");
  }

  private async protocols(which: string): Promise<BirdProtocol[]> {
    return parseProtocols(await this.show(`show protocols all ${which}`));
  }

  /** Reads what the audit looks at. */
  private async facts(): Promise<BirdFacts> {
    const [status, tables, all, table, underneath, offer, aliases4, aliases6, interfaces, bfd] =
      await Promise.all([
        this.connection.ask("show status"),
        this.show("show symbols table"),
        this.show("show protocols all"),
        this.lookUp("eval SHORTCUT_TABLE"),
        this.lookUp("eval SHORTCUT_UNDERNEATH"),
        this.lookUp("eval SHORTCUT_OFFER"),
        this.lookUp("eval SHORTCUT_ALIASES4"),
        this.lookUp("eval SHORTCUT_ALIASES6"),
        this.show("show interfaces"),
        this.lookUp("show bfd sessions"),
      ]);
    const version = parseVersion(status);
    if (version === undefined)
      throw this.misunderstood(
        `'show status' has no version: ${JSON.stringify(status.last.text)}`,
        "is this BIRD 2?",
      );
    const known = parseProtocols(all);
    return {
      version,
      tables: parseTables(tables),
      protocols: new Map(known.map((p) => [p.name, p])),
      statics: await this.staticsOf(known),
      shortcutTable: parseNumber(table),
      underneath: parseValue(underneath),
      offer: parseValue(offer),
      aliases: { 4: parseValue(aliases4), 6: parseValue(aliases6) },
      routerId: parseRouterId(status),
      interfaces: parseInterfaces(interfaces),
      directs: await this.directsOf(known),
      bfd: parseBfdNeighbours(bfd),
    };
  }

  /** The interfaces of each direct protocol's routes. */
  private async directsOf(
    protocols: readonly BirdProtocol[],
  ): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
    const directs = new Map<string, ReadonlySet<string>>();
    for (const { name, type } of protocols) {
      if (type !== "Direct") continue;
      const routes = parseRoutes(await this.show(`show route protocol ${symbol(name)}`));
      const devs = routes.flatMap((r) => r.nextHops.flatMap((h) => /^dev (\S+)/.exec(h)?.[1] ?? []));
      directs.set(name, new Set(devs));
    }
    return directs;
  }

  /** The routes of our static protocols. */
  private async staticsOf(
    protocols: readonly BirdProtocol[],
  ): Promise<ReadonlyMap<string, readonly StaticRoute[]>> {
    const statics = new Map<string, readonly StaticRoute[]>();
    for (const p of protocols)
      if (p.type === "Static" && p.name.startsWith("shortcut_"))
        statics.set(p.name, parseStatics(await this.show(`show static ${symbol(p.name)}`)));
    return statics;
  }

  /** Reads what BIRD has of one offer. */
  private async offerFacts(prefix: Prefix, alias: Address): Promise<OfferFacts> {
    const fib = `fib${familyOf(prefix)}`;
    const family = familyOf(alias);
    const [session, routes, filtered, aliasRoutes, all] = await Promise.all([
      this.protocols('"shortcut"'),
      this.lookUp(`show route ${prefix} table ${fib} all`),
      this.lookUp(`show route ${prefix} table ${fib} filtered protocol shortcut all`),
      this.lookUp(`show route for ${alias}/${addressBits(family)} table shortcut${family} all`),
      this.show("show protocols"),
    ]);
    const kernels = parseProtocols(all).filter((p) => p.type === "Kernel" && p.table === fib);
    return {
      session: session[0],
      routes: parseRoutes(routes).filter((r) => r.prefix === prefix),
      filtered: parseRoutes(filtered).some((r) => r.prefix === prefix),
      aliasRoute: parseRoutes(aliasRoutes).find((r) => r.primary),
      kernels: await this.exportsTo(kernels, prefix, fib),
    };
  }

  /** Whether each kernel protocol gets the prefix, and the filter that decides. */
  private async exportsTo(
    kernels: readonly BirdProtocol[],
    prefix: Prefix,
    fib: string,
  ): Promise<OfferFacts["kernels"]> {
    const exports: { name: string; filter: string; exported: boolean }[] = [];
    for (const { name } of kernels) {
      const sent = parseRoutes(await this.show(`show route ${prefix} table ${fib} export ${symbol(name)}`));
      const [detail] = await this.protocols(quoted(name));
      exports.push({
        name,
        filter: detail?.channels[0]?.exportFilter ?? "(unknown)",
        exported: sent.some((r) => r.prefix === prefix),
      });
    }
    return exports;
  }
}

const emptied = (reply: BirdReply): BirdReply => ({ lines: [], last: reply.last });

/** A name as a pattern that matches only itself: BIRD's names hold no wildcard. */
const quoted = (name: string): string => `"${name.replaceAll(/["\n]/g, "")}"`;
/** A name where BIRD wants a symbol; quotes are for names that are not plain words. */
const symbol = (name: string): string => (/^[A-Za-z_]\w*$/.test(name) ? name : `'${name}'`);
