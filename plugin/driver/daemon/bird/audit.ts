/**
 * Finds what a running BIRD lacks of bird-config/. Pure: facts in, findings out. Protocols and
 * tables are looked up by the names that bird-config/ gives them. BIRD does not show `learn`,
 * `gateway recursive`, the kernel table of a kernel protocol or the interfaces of a direct protocol.
 * The constants of shortcut-defines.conf can be asked for; a direct protocol is judged by its routes.
 */

import {
  type Address,
  contains,
  difference,
  type Family,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixOf,
} from "../../../net/address.js";
import {
  type BirdChannel,
  type BirdProtocol,
  matchesPattern,
  neighbourOf,
  type StaticRoute,
} from "../../../wire/bird/show.js";
import type { DaemonExpectation, DaemonFinding } from "../../ports.js";

export interface BirdFacts {
  readonly version: string;
  readonly tables: ReadonlySet<string>;
  /** All protocols, with details. */
  readonly protocols: ReadonlyMap<string, BirdProtocol>;
  readonly statics: ReadonlyMap<string, readonly StaticRoute[]>;
  /** The values of constants by `eval`; undefined when the constant is not defined. */
  readonly shortcutTable: number | undefined;
  /** SHORTCUT_UNDERNEATH. */
  readonly underneath: string | undefined;
  /** SHORTCUT_OFFER, as `(65000, 1, 1)`. */
  readonly offer: string | undefined;
  /** SHORTCUT_ALIASES4 and SHORTCUT_ALIASES6, as BIRD prints a prefix. */
  readonly aliases: Readonly<Record<Family, string | undefined>>;
  readonly routerId: Address | undefined;
  /** Interfaces that are up and have a global address. */
  readonly interfaces: ReadonlySet<string>;
  /** By direct protocol: the interfaces whose addresses it takes. */
  readonly directs: ReadonlyMap<string, ReadonlySet<string>>;
  /** The neighbours that BFD watches. */
  readonly bfd: ReadonlySet<Address>;
}

const FILE = "shortcut.conf";
const DEFINES = "shortcut-defines.conf";
/** Types whose routes may lie underneath a shortcut. */
const ROUTE_TYPES: ReadonlySet<string> = new Set(["BGP", "OSPF", "RIP", "Babel", "Static", "L3VPN", "IS-IS"]);
const isOwn = (name: string): boolean => name.startsWith("shortcut") || name.startsWith("fib_pipe");
const BY_NAME = "looked for by the name that bird-config/ gives it";

export function auditBird(facts: BirdFacts, expect: DaemonExpectation): DaemonFinding[] {
  if (!facts.protocols.has("shortcut") && !facts.tables.has("fib4") && !facts.tables.has("shortcut4"))
    return [
      {
        severity: "error",
        problem: `BIRD has nothing of shortcutd's configuration: no tables fib4 and shortcut4, no protocol shortcut (${BY_NAME})`,
        remedy:
          'copy bird-config/*.conf to /etc/bird/shortcut/, add `include "shortcut/shortcut.conf";` to bird.conf before the kernel protocols, and `table fib4;` to the channel of the IPv4 one',
      },
    ];
  const audit = new Audit(facts, expect);
  audit.sessions();
  audit.constants();
  audit.underneath();
  audit.gracefulRestart();
  audit.directs();
  audit.family(4, expect.aliasPool4, "error");
  if (expect.aliasPool6 !== undefined) audit.family(6, expect.aliasPool6, "warning");
  return audit.findings;
}

/** Whether a filter is `none`: BIRD shows it as `REJECT`. */
const none = (filter: string | undefined): boolean => filter === "REJECT";

class Audit {
  readonly findings: DaemonFinding[] = [];
  private severity: DaemonFinding["severity"] = "error";

  constructor(
    private readonly facts: BirdFacts,
    private readonly expect: DaemonExpectation,
  ) {}

  private find(problem: string, remedy: string, severity = this.severity): void {
    this.findings.push({ severity, problem, remedy });
  }

  /** Returns a protocol of bird-config/ of the right type; otherwise adds a finding. */
  private protocol(name: string, type: string, stanza: string): BirdProtocol | undefined {
    const p = this.facts.protocols.get(name);
    if (p === undefined) {
      this.find(
        `protocol ${name} is missing (${BY_NAME})`,
        `${FILE}: ${stanza}; a protocol of another name does not replace it`,
      );
      return undefined;
    }
    if (p.type === type) return p;
    this.find(`protocol ${name} is of type ${p.type}, not ${type}`, `${FILE}: ${stanza}`);
    return undefined;
  }

  private running(p: BirdProtocol): void {
    if (p.state === "up") return;
    // a pipe shows its two tables there
    const why = p.info === "" || p.type === "Pipe" ? "" : `, ${p.info}`;
    this.find(`protocol ${p.name} is not up (${p.state}${why})`, `\`birdc enable ${p.name}\``);
  }

  sessions(): void {
    const { expect } = this;
    const offers = this.session("shortcut", expect.offersSource, "its offers");
    if (offers?.state === "down")
      this.find(
        "protocol shortcut is disabled: no shortcut will be made",
        "`birdc enable shortcut` when they are wanted again",
        "warning",
      );
    const feed = this.session("shortcut_feed", expect.feedSource, "the feed");
    if (feed?.state === "down")
      this.find(
        "protocol shortcut_feed is disabled: nothing can be offered without it",
        "`birdc enable shortcut_feed`",
      );
    const session = feed?.fields.get("Session");
    if (session?.includes("internal") === true && !session.includes("route-reflector"))
      this.find(
        "protocol shortcut_feed does not treat shortcutd as a route reflector client: routes learned over iBGP are not sent to it",
        `${FILE}, protocol shortcut_feed: \`rr client;\``,
      );
  }

  private session(name: string, source: string, what: string): BirdProtocol | undefined {
    const { localAs } = this.expect;
    const p = this.protocol(
      name,
      "BGP",
      `\`protocol bgp ${name} { local as ${localAs}; neighbor ${source} as ${localAs}; passive; multihop; ... }\``,
    );
    if (p === undefined) return undefined;
    const neighbor = p.fields.get("Neighbor address") ?? "";
    if (parseAddress(neighbor) !== source)
      this.find(
        `protocol ${name} expects its neighbour at ${neighbor || "no fixed address"}; shortcutd dials from ${source} for ${what}`,
        `${FILE}, protocol ${name}: \`neighbor ${source} as SHORTCUT_AS;\``,
      );
    const wrong = (["Local AS", "Neighbor AS"] as const).filter((k) => p.fields.get(k) !== String(localAs));
    if (wrong.length > 0)
      this.find(
        `protocol ${name} has ${wrong.map((k) => `${k.toLowerCase()} ${p.fields.get(k) ?? "unset"}`).join(" and ")}; shortcutd's configuration says AS ${localAs}`,
        `shortcut-defines.conf: \`define SHORTCUT_AS = ${localAs};\`, and \`local as SHORTCUT_AS; neighbor ... as SHORTCUT_AS;\` in ${FILE}; or bgp.as in shortcutd's configuration`,
      );
    if (p.state === "start" && ["Active", "Connect", "OpenSent"].includes(p.info.split(" ")[0] ?? ""))
      this.find(
        `protocol ${name} dials itself (${p.info}): nothing listens there, and the two connections collide`,
        `${FILE}, protocol ${name}: \`passive;\``,
        "warning",
      );
    return p;
  }

  constants(): void {
    const { shortcutTable, offer, routerId } = this.facts;
    const { blackboardTable, localAs } = this.expect;
    if (shortcutTable !== undefined && shortcutTable !== blackboardTable)
      this.find(
        `BIRD meets shortcutd in kernel table ${shortcutTable}, shortcutd's configuration says ${blackboardTable}`,
        `${DEFINES}: \`define SHORTCUT_TABLE = ${blackboardTable};\`, or aliases.table in shortcutd's configuration`,
      );
    const expected = `(${localAs}, 1, 1)`;
    const as = this.facts.protocols.get("shortcut")?.fields.get("Local AS");
    if (offer !== undefined && offer !== expected && as === String(localAs))
      this.find(
        `SHORTCUT_OFFER is ${offer}, and offers carry ${expected}: the policy refuses every offer`,
        `${DEFINES}: \`define SHORTCUT_OFFER = (SHORTCUT_AS, 1, 1);\``,
      );
    if (routerId !== undefined && routerId === this.expect.routerId)
      this.find(
        `BIRD's router ID ${routerId} is also the BGP identifier of the offers session: BGP refuses a session between equals`,
        "bgp.router-id in shortcutd's configuration: remove it (its default is 127.0.0.2), or take an address that no router has",
      );
  }

  /** The protocols on the overlay, with the address of their neighbour. */
  private towardsOverlay(): (readonly [BirdProtocol, Address])[] {
    const { hubs, overlay, overlayAddresses } = this.expect;
    const nets = overlayAddresses.map((a) => prefixOf(a.address, a.length));
    return [...this.facts.protocols.values()].flatMap((p) => {
      const neighbour = isOwn(p.name) ? undefined : neighbourOf(p);
      if (neighbour === undefined) return [];
      const { address, dev } = neighbour;
      const isMeant =
        dev === undefined
          ? hubs.includes(address) || nets.some((n) => contains(n, address))
          : overlay.has(dev);
      return isMeant ? [[p, address] as const] : [];
    });
  }

  /** Checks that routes of a dead hub do not stay for its restart time, where another hub could take over. */
  gracefulRestart(): void {
    const sessions = this.towardsOverlay();
    if (sessions.length < 2 || this.expect.hubs.length < 2) return;
    const kept = sessions.filter(
      ([p, neighbour]) =>
        p.fields.has("Local graceful restart") &&
        p.fields.has("Neighbor graceful restart") &&
        !this.facts.bfd.has(neighbour),
    );
    if (kept.length > 0)
      this.find(
        `protocol ${kept.map(([p]) => p.name).join(", ")} has graceful restart and no BFD: the routes of a dead hub stay for its restart time, although another hub has them`,
        `bird.conf, protocol bgp ${kept.map(([p]) => p.name).join(", ")}: \`graceful restart off;\`, or \`bfd;\` with a \`protocol bfd { interface "..."; }\` for ${this.expect.overlay}`,
        "warning",
      );
  }

  /** Checks that the pattern of what is fed matches something, and the sessions on the overlay. */
  underneath(): void {
    const { underneath: pattern, protocols } = this.facts;
    if (pattern === undefined) return;
    const fed = [...protocols.values()].filter((p) => !isOwn(p.name) && matchesPattern(pattern, p.name));
    const overlay = this.towardsOverlay();
    const line = (value: string): string => `${DEFINES}: \`define SHORTCUT_UNDERNEATH = "${value}";\``;
    if (!fed.some((p) => ROUTE_TYPES.has(p.type))) {
      const here =
        overlay.length === 0 ? "" : `; here: ${overlay.map(([p, a]) => `${p.name} (${a})`).join(", ")}`;
      this.find(
        `SHORTCUT_UNDERNEATH "${pattern}" matches no protocol that has routes: shortcutd is fed none, and never makes a shortcut`,
        `${line("PATTERN")} with a pattern for the names of your protocols towards the hubs${here}`,
      );
      return;
    }
    const missed = overlay.filter(([p]) => !fed.includes(p));
    if (missed.length > 0)
      this.find(
        `SHORTCUT_UNDERNEATH "${pattern}" does not match ${missed.map(([p, a]) => `${p.name} (${a})`).join(", ")}: no shortcut is made for what is learned there`,
        `${line("PATTERN")} with a pattern that matches these names too, or rename the protocols`,
        "warning",
      );
  }

  /**
   * Checks that no direct protocol announces the addresses of the direct interface. Before that exists, one that takes the addresses of every
   * interface is suspected.
   */
  directs(): void {
    const { directs, interfaces } = this.facts;
    const { direct, overlay } = this.expect;
    for (const [name, devs] of directs) {
      const place = `bird.conf, protocol direct ${name}`;
      if (devs.has(direct))
        this.find(
          `protocol ${name} takes the addresses of ${direct}: the router's overlay address would be announced as a host route`,
          `${place}: \`interface "-${direct}", "*";\`, or name the interfaces of your LANs`,
        );
      else if (
        !interfaces.has(direct) &&
        [...devs].some((d) => overlay.has(d)) &&
        [...interfaces].every((i) => devs.has(i))
      )
        this.find(
          `protocol ${name} takes the addresses of every interface, so probably those of ${direct} too, once it exists: the router's overlay address would be announced as a host route`,
          `${place}: name the interfaces of your LANs, such as \`interface "eth2";\`; with \`interface "-${direct}", "*";\` this warning goes when ${direct} exists`,
          "warning",
        );
    }
  }

  family(family: Family, pool: Prefix, severity: DaemonFinding["severity"]): void {
    this.severity = severity;
    const net = `ipv${family}`;
    for (const table of [`fib${family}`, `shortcut${family}`])
      if (!this.facts.tables.has(table))
        this.find(`table ${table} is missing (${BY_NAME})`, `${FILE}: \`${net} table ${table};\``);
    this.fibPipe(family);
    this.operatorsKernel(family);
    this.learned(family);
    this.offersChannel(family);
    this.shortcutPipe(family);
    this.blackboard(family);
    this.fallback(family, pool);
    this.feedChannel(family);
    this.severity = "error";
  }

  private pipe(name: string, from: string, to: string, exported: string): BirdChannel | undefined {
    const line = `\`protocol pipe ${name} { table ${from}; peer table ${to}; import none; export ${exported}; }\``;
    const p = this.protocol(name, "Pipe", line);
    if (p === undefined) return undefined;
    this.running(p);
    const c = p.channels[0];
    if (c === undefined) return undefined;
    if (c.table !== from || c.peerTable !== to)
      this.find(
        `pipe ${name} joins ${c.table} and ${c.peerTable}, not ${from} and ${to}`,
        `${FILE}: ${line}`,
      );
    if (none(c.exportFilter))
      this.find(`pipe ${name} exports nothing from ${from} to ${to}`, `${FILE}: ${line}`);
    if (!none(c.importFilter))
      this.find(
        `pipe ${name} also carries routes back from ${to} into ${from} (import filter ${c.importFilter})`,
        `${FILE}, protocol ${name}: \`import none;\``,
      );
    return c;
  }

  private fibPipe(family: Family): void {
    this.pipe(`fib_pipe${family}`, `master${family}`, `fib${family}`, "filter shortcut_to_kernel");
  }

  /** Kernel protocols of the operator's that are attached to fib4 or fib6. */
  private attached(family: Family): BirdProtocol[] {
    return [...this.facts.protocols.values()].filter(
      (p) => p.type === "Kernel" && !p.name.startsWith("shortcut_k") && p.table === `fib${family}`,
    );
  }

  /** Checks the way back of what a kernel protocol learns. BIRD does not show `learn`, so what it has learned decides. */
  private learned(family: Family): void {
    const importing = this.attached(family).filter((p) => !none(p.channels[0]?.importFilter));
    if (importing.length === 0) return;
    const [name, fib, master] = [`shortcut_learned${family}`, `fib${family}`, `master${family}`];
    if (this.facts.protocols.has(name)) {
      this.pipe(name, fib, master, "filter shortcut_learned");
      return;
    }
    const count = importing.reduce((n, p) => n + (p.channels[0]?.imported ?? 0), 0);
    const names = importing.map((p) => p.name).join(", ");
    this.find(
      count > 0
        ? `kernel protocol ${names} has learned ${count} routes into ${fib}, and no pipe ${name} takes them to ${master}: your neighbours do not hear them`
        : `kernel protocol ${names} imports into ${fib}, and no pipe ${name} takes what it learns to ${master}: your neighbours would not hear it`,
      `load the ${FILE} of this version, which has \`protocol pipe ${name} { table ${fib}; peer table ${master}; import none; export filter shortcut_learned; }\`; or \`import none;\` in protocol kernel ${names}`,
      count > 0 ? this.severity : "warning",
    );
  }

  private shortcutPipe(family: Family): void {
    const name = `shortcut_pipe${family}`;
    const exported = 'where proto = "shortcut"';
    const c = this.pipe(name, `fib${family}`, `shortcut${family}`, exported);
    if (c?.exportFilter === "ACCEPT")
      this.find(
        `pipe ${name} exports everything: every route would look like a selected offer`,
        `${FILE}, protocol ${name}: \`export ${exported};\``,
      );
  }

  /** Checks the one line that the operator changes in the operator's own kernel protocol. */
  private operatorsKernel(family: Family): void {
    const fib = `fib${family}`;
    const own = [...this.facts.protocols.values()].filter(
      (p) => p.type === "Kernel" && !p.name.startsWith("shortcut_k"),
    );
    const attached = this.attached(family);
    if (attached.length === 0) {
      const old = own.filter((p) => p.table === `master${family}`).map((p) => p.name);
      if (old.length > 0)
        this.find(
          `kernel protocol ${old.join(", ")} is still attached to master${family}, where no offer ever is: a selected offer would not reach the kernel`,
          `bird.conf, protocol kernel ${old.join(", ")}: \`ipv${family} { table ${fib}; ... };\` instead of master${family}`,
        );
      else
        this.find(
          `no kernel protocol takes routes from ${fib}`,
          `bird.conf: \`protocol kernel { ipv${family} { table ${fib}; export where source != RTS_DEVICE; }; }\``,
        );
    }
    for (const p of attached) {
      this.running(p);
      if (none(p.channels[0]?.exportFilter))
        this.find(
          `kernel protocol ${p.name} exports nothing from ${fib} (export none is BIRD's default)`,
          `bird.conf, protocol kernel ${p.name}: \`export where source != RTS_DEVICE;\``,
        );
    }
  }

  /** Returns a session's channel of a family; adds a finding when it is missing. */
  private channel(name: string, family: Family, stanza: string): BirdChannel | undefined {
    const p = this.facts.protocols.get(name);
    if (p === undefined || p.type !== "BGP") return undefined;
    const c = p.channels.find((x) => x.name === `ipv${family}`);
    if (c === undefined)
      this.find(
        `protocol ${name} has no ipv${family} channel`,
        `${FILE}, protocol ${name}: \`ipv${family} { ${stanza} };\``,
      );
    return c;
  }

  private offersChannel(family: Family): void {
    const stanza = `table fib${family}; import filter shortcut_policy; export none; gateway recursive; igp table shortcut${family};`;
    const c = this.channel("shortcut", family, stanza);
    if (c === undefined) return;
    const at = `${FILE}, protocol shortcut, ipv${family}`;
    if (c.table !== `fib${family}`)
      this.find(
        `offers enter table ${c.table}, not fib${family}${c.table === `master${family}` ? ": neighbours would receive them" : ""}`,
        `${at}: \`table fib${family};\``,
      );
    if (none(c.importFilter))
      this.find(
        `protocol shortcut imports no ipv${family} offer`,
        `${at}: \`import filter shortcut_policy;\``,
      );
    else this.nextHops(c.importFilter, family, at);
    if (c.importFilter === "ACCEPT")
      this.find(
        `protocol shortcut imports every ipv${family} offer as it is: without a preference above that of the route underneath it never wins`,
        `${at}: \`import filter shortcut_policy;\` (policy.conf)`,
        "warning",
      );
    if (!none(c.exportFilter))
      this.find(
        `protocol shortcut also sends ipv${family} routes on the offers session (export filter ${c.exportFilter})`,
        `${at}: \`export none;\``,
      );
    if (c.igpTable !== `shortcut${family}`)
      this.find(
        `alias next hops are looked up in ${c.igpTable ?? "no table"}, not in shortcut${family}`,
        `${at}: \`gateway recursive; igp table shortcut${family};\``,
      );
  }

  /** Checks that offers are imported only with an alias as next hop. BIRD does not show what a filter does. */
  private nextHops(filter: string | undefined, family: Family, at: string): void {
    if (filter === "ACCEPT") return;
    const name = `SHORTCUT_ALIASES${family}`;
    const pool = family === 4 ? this.expect.aliasPool4 : this.expect.aliasPool6;
    const text = this.facts.aliases[family];
    const known = parsePrefix(text ?? "");
    if (text === undefined || filter !== "shortcut_policy")
      this.find(
        `nothing shows that ipv${family} offers are imported only with an alias as next hop (${text === undefined ? `${name} is not defined` : `import filter ${filter ?? "unknown"}`}): a local user who opens the session could lead packets elsewhere`,
        text === undefined
          ? `load the ${FILE} of this version; in policy.conf \`function shortcut_decision() {\` takes the place of \`filter shortcut_policy {\``
          : `${at}: \`import filter shortcut_policy;\``,
        "warning",
      );
    else if (pool !== undefined && (known === undefined || !contains(known, pool)))
      this.find(
        `${name} is ${text}, and aliases are of ${pool}: shortcut_policy refuses offers`,
        `${FILE}: \`define ${name} = ${pool};\`, or aliases in shortcutd's configuration`,
      );
  }

  private feedChannel(family: Family): void {
    const stanza = `table master${family}; import none; export filter shortcut_underneath;`;
    const c = this.channel("shortcut_feed", family, stanza);
    if (c === undefined) return;
    const at = `${FILE}, protocol shortcut_feed, ipv${family}`;
    if (c.table !== `master${family}`)
      this.find(
        `the feed sends table ${c.table}, not master${family}: what lies underneath an offer is lost while the offer is selected`,
        `${at}: \`table master${family};\``,
      );
    if (none(c.exportFilter))
      this.find(
        `protocol shortcut_feed sends no ipv${family} route`,
        `${at}: \`export filter shortcut_underneath;\``,
      );
    if (!none(c.importFilter))
      this.find(
        `protocol shortcut_feed imports routes (import filter ${c.importFilter})`,
        `${at}: \`import none;\``,
        "warning",
      );
  }

  private blackboard(family: Family): void {
    const name = `shortcut_k${family}`;
    const stanza = `\`protocol kernel ${name} { kernel table SHORTCUT_TABLE; learn; ipv${family} { table shortcut${family}; import all; export where source = RTS_BGP; }; }\``;
    const p = this.protocol(name, "Kernel", stanza);
    if (p === undefined) return;
    this.running(p);
    const c = p.channels[0];
    const table = c?.table ?? p.table;
    if (table !== `shortcut${family}`)
      this.find(
        `kernel protocol ${name} is attached to ${table}, not to shortcut${family}`,
        `${FILE}: ${stanza}`,
      );
    if (none(c?.importFilter))
      this.find(
        `kernel protocol ${name} imports nothing: aliases stay unknown to BIRD`,
        `${FILE}, protocol ${name}: \`learn;\` and \`import all;\``,
      );
    if (none(c?.exportFilter))
      this.find(
        `kernel protocol ${name} exports nothing: shortcutd cannot see what was selected`,
        `${FILE}, protocol ${name}: \`export where source = RTS_BGP;\``,
      );
  }

  private fallback(family: Family, pool: Prefix): void {
    const name = `shortcut_fallback${family}`;
    const hub = `SHORTCUT_HUB${family}`;
    const stanza = `\`protocol static ${name} { ipv${family} { table shortcut${family}; }; route ${pool} via ${hub}; }\``;
    const p = this.protocol(name, "Static", stanza);
    if (p === undefined) return;
    this.running(p);
    if (p.table !== `shortcut${family}`)
      this.find(`protocol ${name} fills ${p.table}, not shortcut${family}`, `${FILE}: ${stanza}`);
    const routes = this.facts.statics.get(name) ?? [];
    const forwarding = routes.filter((r) => r.targets.some((t) => /^(via|dev) /.test(t)));
    const uncovered = difference(
      pool,
      forwarding.map((r) => r.prefix),
    );
    if (uncovered.length > 0)
      this.find(
        `the fallback ${name} does not cover the alias pool ${pool}: an alias that vanished would make BIRD install \`unreachable\``,
        `${FILE}, protocol ${name}: \`route ${pool} via ${hub};\``,
      );
    else if (forwarding.some((r) => r.dormant))
      this.find(
        `the fallback ${name} is dormant: BIRD knows no interface towards its next hop`,
        `shortcut-defines.conf: \`define ${hub} = \` the hub's address on the link of ${this.expect.overlay}; where it has no address of this family, ${FILE}, protocol ${name}: \`route ${pool} via fe80::1%'wg-hub1' bfd via fe80::2%'wg-hub2' bfd;\` with the hubs' own`,
        "warning",
      );
  }
}
