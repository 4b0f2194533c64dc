/**
 * Finds what a running FRR lacks of frr-config/. Pure: parsed configuration in, findings out. The
 * two peer groups are found by their listen ranges, so their names may differ. The audit judges
 * what they do.
 */

import {
  type Address,
  addressBits,
  contains,
  type Family,
  hostPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixLength,
  prefixOf,
} from "../../../net/address.js";
import { InterfaceNames } from "../../../net/interface-names.js";
import type {
  BgpInstance,
  ConfiguredNeighbor,
  NeighborFamily,
  RouteMapEntry,
  RunningConfig,
} from "../../../wire/frr/running-config.js";
import type { DaemonExpectation, DaemonFinding } from "../../ports.js";

export interface FrrConfigFacts {
  /** The configuration of bgpd. */
  readonly config: RunningConfig;
  /** The configurations of other daemons. */
  readonly elsewhere: readonly Pick<RunningConfig, "redistributions" | "ospfNetworks">[];
  /** The BGP identifier in use; undefined when it is not known. */
  readonly routerId: Address | undefined;
  /** Families in which zebra resolves next hops by a default route. */
  readonly resolvesViaDefault: readonly Family[];
  /** `8.4.4`; undefined when it is not known. */
  readonly version: string | undefined;
}

const FILE = "shortcut.conf";
const ALIASES = "SHORTCUT-ALIASES";
const NO_ALIAS = "SHORTCUT-NO-ALIAS";
const NOT_TO_HUB = "SHORTCUT-NOT-TO-HUB";

/**
 * Compares a running FRR with frr-config/. `offersAs` is checked only when given: under eBGP it is
 * the hub's AS.
 */
export function auditFrr(
  facts: FrrConfigFacts,
  expect: DaemonExpectation,
  offersAs?: number,
): DaemonFinding[] {
  const { bgp, routeMaps } = facts.config;
  const load = `load frr-config/${FILE} with your AS: \`sed 's/65000/${expect.localAs}/g' ${FILE} > /tmp/s.conf && vtysh -f /tmp/s.conf && vtysh -c 'write memory'\``;
  if (bgp === undefined)
    return [
      {
        severity: "error",
        problem: `bgpd has no BGP instance in ${expect.vrf === undefined ? "the default VRF" : `VRF ${expect.vrf}`}`,
        remedy: `\`router bgp ${expect.localAs}${expect.vrf === undefined ? "" : ` vrf ${expect.vrf}`}\` in your own configuration, then ${load}`,
      },
    ];
  const audit = new Audit(facts, bgp, expect, offersAs);
  if (bgp.as !== expect.localAs)
    audit.find(
      `bgpd runs AS ${bgp.as}; shortcutd's configuration says AS ${expect.localAs}`,
      `bgp.as: ${bgp.as} in shortcutd's configuration, or \`router bgp ${expect.localAs}\``,
    );
  const offers = audit.listenRange(expect.offersSource);
  const feed = audit.listenRange(expect.feedSource);
  if (offers === undefined && feed === undefined && !routeMaps.has("SHORTCUT-IN")) {
    audit.find(
      `FRR has nothing of shortcutd's configuration: no \`bgp listen range\` for ${expect.offersSource} and ${expect.feedSource}, no route-map SHORTCUT-IN`,
      load,
    );
    return audit.findings;
  }
  if (offers === undefined) audit.noListenRange(expect.offersSource, "SHORTCUT", "the offers session");
  else audit.offers(offers);
  if (feed === undefined) audit.noListenRange(expect.feedSource, "SHORTCUT-FEED", "the feed");
  else audit.feed(feed);
  audit.routerId();
  audit.nexthopTracking();
  audit.aliases();
  audit.redistribution();
  audit.ospfNetworks();
  audit.towardsHub([offers, feed]);
  return audit.findings;
}

class Audit {
  readonly findings: DaemonFinding[] = [];
  private readonly families: readonly (readonly [Family, DaemonFinding["severity"]])[];

  constructor(
    private readonly facts: FrrConfigFacts,
    private readonly bgp: BgpInstance,
    private readonly expect: DaemonExpectation,
    private readonly offersAs: number | undefined,
  ) {
    this.families =
      expect.aliasPool6 === undefined
        ? [[4, "error"]]
        : [
            [4, "error"],
            [6, "warning"],
          ];
  }

  find(problem: string, remedy: string, severity: DaemonFinding["severity"] = "error"): void {
    this.findings.push({ severity, problem, remedy });
  }

  /** As {@link find}, where both families have the same flaw. */
  private once(problem: string, remedy: string, severity: DaemonFinding["severity"]): void {
    if (!this.findings.some((f) => f.problem === problem)) this.find(problem, remedy, severity);
  }

  /** Quotes lines of the router's own stanza, as the shipped file has them. */
  private line(...lines: string[]): string {
    return `${FILE}, router bgp ${this.bgp.as}: ${lines.map((l) => `\`${l}\``).join(", ")}`;
  }

  private familyLine(family: Family, ...lines: string[]): string {
    return `${FILE}, router bgp ${this.bgp.as}, address-family ipv${family} unicast: ${lines.map((l) => `\`${l}\``).join(", ")}`;
  }

  /** Returns the name of the group whose longest range contains the source. */
  listenRange(source: Address): string | undefined {
    const host = hostPrefix(source);
    const holding = this.bgp.listenRanges.filter((l) => contains(l.range, host));
    return holding.sort((a, b) => prefixLength(b.range) - prefixLength(a.range))[0]?.group;
  }

  noListenRange(source: Address, group: string, what: string): void {
    this.find(
      `bgpd accepts no session from ${source}: ${what} cannot come up`,
      this.line(`bgp listen range ${hostPrefix(source)} peer-group ${group}`),
    );
  }

  private group(name: string): ConfiguredNeighbor | undefined {
    const g = this.bgp.neighbors.get(name);
    if (g === undefined || !g.isGroup)
      this.find(
        `peer group ${name} of the listen range is missing`,
        this.line(`neighbor ${name} peer-group`),
      );
    return g;
  }

  /** Returns a family of a group when it is activated; otherwise adds a finding. */
  private active(g: ConfiguredNeighbor, family: Family, severity: DaemonFinding["severity"]) {
    const f = g.families[family];
    if (f?.flags.has("activate") === true) return f;
    this.find(
      `peer group ${g.name} is not activated for IPv${family} unicast`,
      this.familyLine(family, `neighbor ${g.name} activate`),
      severity,
    );
    return undefined;
  }

  /** Compares the passwords, without naming them: a session between two that differ gets no answer. */
  private password({ name, flags }: ConfiguredNeighbor): void {
    const own = this.expect.password;
    const theirs = [...flags].find((f) => f.startsWith("password "))?.slice(9) ?? "";
    if (own === undefined || own === theirs) return;
    const file = "the file of bgp.password-file";
    this.find(
      theirs === ""
        ? `peer group ${name} has no password, and shortcutd has one: the session cannot come up`
        : own === ""
          ? `peer group ${name} has a password, and shortcutd has none: the session cannot come up`
          : `peer group ${name} has another password than shortcutd: the session cannot come up`,
      own === ""
        ? `README: put it into ${file}, or \`no neighbor ${name} password\``
        : `${this.line(`neighbor ${name} password PASSWORD`)} with what is in ${file}`,
    );
  }

  /** Checks that an alias that has gone takes its offers with it, instead of a default route. */
  nexthopTracking(): void {
    const { vrf } = this.expect;
    for (const family of this.facts.resolvesViaDefault) {
      const ip = family === 4 ? "ip" : "ipv6";
      this.find(
        `zebra resolves IPv${family} next hops by a default route: where an alias has gone, its prefixes would leave by the default route, unencrypted`,
        `your own configuration, ${vrf === undefined ? "at the top" : `in \`vrf ${vrf}\``}: \`no ${ip} nht resolve-via-default\``,
        family === 6 && this.expect.aliasPool6 === undefined ? "warning" : "error",
      );
    }
  }

  /** Checks that offers over the routes of hubs with another AS than the session's are accepted. FRR has enforced the first AS since 10. */
  private firstAs(g: ConfiguredNeighbor): void {
    const major = Number(this.facts.version?.split(".")[0] ?? 0);
    if (major < 10 || g.flags.has("no enforce-first-as")) return;
    const others = [...this.bgp.neighbors.values()].filter((n) => {
      const as = this.remoteAsOf(n);
      return (
        this.isOnOverlay(n) &&
        as !== undefined &&
        as !== "internal" &&
        as !== String(this.bgp.as) &&
        as !== g.remoteAs
      );
    });
    const sure = others.filter((n) => this.remoteAsOf(n) !== "external");
    if (others.length === 0) return;
    this.find(
      `bgpd refuses offers over the routes of ${others.map((n) => n.name).join(", ")}${sure.length === 0 ? " if its AS is not" : ", whose AS is not"} that of peer group ${g.name}, ${g.remoteAs ?? "none"}: FRR ${this.facts.version ?? ""} enforces the first AS`,
      `shortcut-ebgp.conf, router bgp ${this.bgp.as}: \`no neighbor ${g.name} enforce-first-as\``,
      sure.length === 0 ? "warning" : "error",
    );
  }

  /** Checks that the import policy restores each LOCAL_PREF that the router's own route-maps set. */
  private localPrefs(map: string): void {
    const { routeMaps } = this.facts.config;
    const inbound = new Set(
      [...this.bgp.neighbors.values()].flatMap((n) =>
        this.families.flatMap(([f]) => n.families[f]?.routeMapIn ?? []),
      ),
    );
    const valuesOf = (entries: readonly RouteMapEntry[]): readonly string[] =>
      entries
        .flatMap((e) => this.setsOf(e))
        .flatMap((set) => /^local-preference (\d+)$/.exec(set)?.[1] ?? []);
    const used = [...inbound].filter((m) => m !== map).flatMap((m) => valuesOf(routeMaps.get(m) ?? []));
    const restored = new Set(
      (routeMaps.get(map) ?? []).flatMap((e) =>
        valuesOf([e]).filter((value) =>
          e.matches.some((m) =>
            this.permits(/^large-community (\S+)/.exec(m)?.[1] ?? "", `${this.expect.localAs}:4:${value}`),
          ),
        ),
      ),
    );
    const marked = [...new Set(used)].filter((value) => value !== "100");
    const [first] = marked;
    const deleted = (routeMaps.get(map) ?? [])
      .flatMap((e) => this.setsOf(e))
      .flatMap((set) => /^large-comm-list (\S+) delete$/.exec(set)?.[1] ?? []);
    if (first !== undefined && !deleted.some((l) => this.permits(l, `${this.expect.localAs}:4:${first}`)))
      this.once(
        `route-map ${map} does not delete ${this.expect.localAs}:4:${first}, which offers over routes with local-preference ${first} carry: neighbours would receive it`,
        `${FILE} with your AS: \`bgp large-community-list expanded SHORTCUT-OWN seq 10 permit ^${this.expect.localAs}:[1-4]:[0-9]+$\``,
        "warning",
      );
    const lost = marked.filter((value) => !restored.has(value));
    if (lost.length > 0)
      this.once(
        `route-map ${map} does not restore local-preference ${lost.join(", ")}, which your own route-maps set: an iBGP neighbour would hear it change with an offer`,
        `shortcut-ebgp.conf has the entry for 200; for ${lost[0]}: \`bgp large-community-list standard SHORTCUT-LP-${lost[0]} seq 10 permit ${this.expect.localAs}:4:${lost[0]}\`, and in an entry of route-map ${map} before the others \`match large-community SHORTCUT-LP-${lost[0]}\`, \`set local-preference ${lost[0]}\`, \`on-match next\``,
        "warning",
      );
  }

  offers(name: string): void {
    const g = this.group(name);
    if (g === undefined) return;
    this.password(g);
    const { localAs } = this.expect;
    const { remoteAs } = g;
    const wanted = this.offersAs ?? localAs;
    const internal = remoteAs === "internal" || remoteAs === String(this.bgp.as);
    if (remoteAs === undefined)
      this.find(`peer group ${name} has no remote AS`, this.line(`neighbor ${name} remote-as ${wanted}`));
    else if (
      this.offersAs !== undefined &&
      !(internal && wanted === this.bgp.as) &&
      remoteAs !== String(wanted) &&
      !(remoteAs === "external" && wanted !== this.bgp.as)
    )
      this.find(
        `peer group ${name} has remote AS ${remoteAs}; shortcutd speaks as AS ${wanted} on the offers session`,
        this.line(`neighbor ${name} remote-as ${wanted}`),
      );
    if (remoteAs !== undefined && !internal) this.firstAs(g);
    if (remoteAs !== undefined && !internal && ![...g.flags].some((f) => f.startsWith("ebgp-multihop")))
      this.find(
        `peer group ${name} is eBGP without ebgp-multihop: its neighbour is on no connected subnet, no session comes up`,
        `shortcut-ebgp.conf, router bgp ${this.bgp.as}: \`neighbor ${name} ebgp-multihop 2\``,
      );
    if (!g.flags.has("graceful-restart-disable"))
      this.find(
        `graceful restart is not disabled for peer group ${name}: offers of a dead shortcutd may be kept`,
        this.line(`neighbor ${name} graceful-restart-disable`),
        this.bgp.gracefulRestart ? "error" : "warning",
      );
    for (const [family, severity] of this.families) {
      const f = this.active(g, family, severity);
      if (f === undefined) continue;
      this.offersFamily(g, f, family, severity);
      if (remoteAs !== undefined && !internal && f.routeMapIn !== undefined) this.localPrefs(f.routeMapIn);
    }
  }

  private offersFamily(
    g: ConfiguredNeighbor,
    f: NeighborFamily,
    family: Family,
    severity: DaemonFinding["severity"],
  ): void {
    if (f.routeMapIn === undefined)
      this.find(
        `peer group ${g.name} has no import policy for IPv${family}: an offer would tie with the route underneath`,
        this.familyLine(family, `neighbor ${g.name} route-map SHORTCUT-IN in`),
        severity,
      );
    else this.importMap(f.routeMapIn, family, severity);
    if (!f.flags.has("soft-reconfiguration inbound"))
      this.find(
        `refused IPv${family} offers of peer group ${g.name} are not kept: FRR cannot say why an offer was refused`,
        this.familyLine(family, `neighbor ${g.name} soft-reconfiguration inbound`),
        "warning",
      );
    if (f.routeMapOut === undefined)
      this.find(
        `bgpd sends its whole IPv${family} table on the offers session`,
        this.familyLine(family, `neighbor ${g.name} route-map SHORTCUT-DENY out`),
        "warning",
      );
  }

  private importMap(name: string, family: Family, severity: DaemonFinding["severity"]): void {
    const entries = this.facts.config.routeMaps.get(name);
    if (entries === undefined) {
      this.find(
        `route-map ${name}, the import policy of offers, is not defined: bgpd refuses everything`,
        `${FILE}: \`route-map ${name} permit 10\` and what follows`,
        severity,
      );
      return;
    }
    const other = family === 4 ? "ipv6 " : "ip ";
    const permits = entries.filter(
      (e) => e.action === "permit" && !e.continues && !e.matches.some((m) => m.startsWith(`${other}address`)),
    );
    // with another AS than the daemon's everything would differ
    if (this.bgp.as === this.expect.localAs) this.communities(name, permits, severity);
    this.nextHops(name, permits, family);
    const sets = permits.flatMap((e) => this.setsOf(e));
    const entry = `${FILE}, route-map ${name} permit ${permits[0]?.sequence ?? 10}`;
    if (permits.length === 0) this.find(`route-map ${name} permits no IPv${family} offer`, entry, "warning");
    else if (!sets.some((s) => /^(weight [1-9]|distance |local-preference )/.test(s)))
      this.find(
        `route-map ${name} does not make an IPv${family} offer win: it would tie with the route underneath, half the flows direct`,
        `${entry}: \`set weight 100\`; over OSPF or static routes \`set distance 105\` as well`,
        severity,
      );
    else if (!sets.some((s) => /^large-comm-list \S+ delete$/.test(s) || s === "large-community none"))
      this.find(
        `route-map ${name} leaves shortcutd's large communities on IPv${family} offers: neighbours would receive them`,
        `${entry}: \`set large-comm-list SHORTCUT-OWN delete\``,
        "warning",
      );
  }

  /**
   * Checks that offers carry what the import policy asks for, and that its list of our communities has the AS of ours. The two lists are the
   * same for both families, so only one finding is made of each.
   */
  private communities(
    map: string,
    permits: readonly RouteMapEntry[],
    severity: DaemonFinding["severity"],
  ): void {
    const own = `${this.expect.localAs}:1:1`;
    const asked = permits.flatMap((e) =>
      e.matches.flatMap((m) => /^large-community (\S+)/.exec(m)?.[1] ?? []),
    );
    const deleted = permits
      .flatMap((e) => this.setsOf(e))
      .flatMap((s) => /^large-comm-list (\S+) delete$/.exec(s)?.[1] ?? []);
    if (asked.length > 0 && asked.length === permits.length && !asked.some((l) => this.permits(l, own)))
      this.once(
        `route-map ${map} asks for large-community-list ${asked[0]}, which ${this.listed(asked[0] ?? "")}; offers carry ${own}: no offer passes`,
        `${FILE} with your AS: \`bgp large-community-list standard ${asked[0]} seq 10 permit ${own}\``,
        severity,
      );
    const deletes = deleted[0];
    const marks = [own, `${this.expect.localAs}:2:1`];
    const left = marks.find((m) => !deleted.some((l) => this.permits(l, m)));
    if (deletes !== undefined && left !== undefined)
      this.once(
        `route-map ${map} deletes what large-community-list ${deletes} matches, and that does not match ${left}: neighbours would receive shortcutd's large communities`,
        `${FILE} with your AS: \`bgp large-community-list expanded ${deletes} seq 10 permit ^${this.expect.localAs}:[1-4]:[0-9]+$\``,
        "warning",
      );
  }

  /** Checks that offers are imported only with an alias as next hop. */
  private nextHops(map: string, permits: readonly RouteMapEntry[], family: Family): void {
    const ip = family === 4 ? "ip" : "ipv6";
    const clause = new RegExp(`^${ip} next-hop prefix-list (\\S+)`);
    const open = permits.find((e) => !e.matches.some((m) => clause.test(m)));
    if (open !== undefined)
      this.find(
        `route-map ${map} permit ${open.sequence} takes IPv${family} offers with any next hop: a local user who opens the session could lead packets elsewhere`,
        `${FILE}, route-map ${map} permit ${open.sequence}: \`match ${ip} next-hop prefix-list ${ALIASES}\``,
        "warning",
      );
  }

  /** Returns whether the first entry of a list that matches one community permits it. */
  private permits(name: string, community: string): boolean {
    const list = this.facts.config.communityLists.get(name);
    const hit = list?.entries.find((e) =>
      list.expanded ? matchesExpression(e.value, community) : e.value === community,
    );
    return hit?.action === "permit";
  }

  private listed(name: string): string {
    const values = this.facts.config.communityLists.get(name)?.entries.map((e) => e.value) ?? [];
    return values.length === 0 ? "does not exist" : `has ${values.join(", ")}`;
  }

  routerId(): void {
    const { routerId } = this.facts;
    if (routerId === undefined || routerId !== this.expect.routerId) return;
    this.find(
      `bgpd's router ID ${routerId} is also the BGP identifier of the offers session: BGP refuses a session between equals`,
      "bgp.router-id in shortcutd's configuration: remove it (its default is 127.0.0.2), or take an address that no router has",
    );
  }

  private setsOf(e: RouteMapEntry): readonly string[] {
    const called = e.call === undefined ? [] : (this.facts.config.routeMaps.get(e.call) ?? []);
    return [...e.sets, ...called.flatMap((c) => c.sets)];
  }

  feed(name: string): void {
    const g = this.group(name);
    if (g === undefined) return;
    this.password(g);
    const { as } = this.bgp;
    if (g.remoteAs !== "internal" && g.remoteAs !== String(as))
      this.find(
        `peer group ${name} of the feed has ${g.remoteAs === undefined ? "no remote AS" : `remote AS ${g.remoteAs}`}; the feed is always iBGP`,
        this.line(`neighbor ${name} remote-as ${as}`),
      );
    for (const [family, severity] of this.families) {
      const f = this.active(g, family, severity);
      if (f === undefined) continue;
      if (!f.flags.has("route-reflector-client"))
        this.find(
          `peer group ${name} is not a route reflector client for IPv${family}: routes learned over iBGP are not sent to shortcutd`,
          this.familyLine(family, `neighbor ${name} route-reflector-client`),
          severity,
        );
      if (!f.flags.has("addpath-tx-all-paths"))
        this.find(
          `peer group ${name} is sent only best IPv${family} paths: the route underneath is lost while an offer is selected`,
          this.familyLine(family, `neighbor ${name} addpath-tx-all-paths`),
          severity,
        );
      if (f.routeMapOut === undefined)
        this.find(
          `the IPv${family} feed has no export policy: offers come back on it`,
          this.familyLine(family, `neighbor ${name} route-map SHORTCUT-FEED-OUT out`),
          "warning",
        );
      else this.feedMap(f.routeMapOut, family, severity);
    }
  }

  private feedMap(name: string, family: Family, severity: DaemonFinding["severity"]): void {
    const other = family === 4 ? "ipv6 " : "ip ";
    const entries = this.facts.config.routeMaps.get(name);
    const permits = entries?.filter((e) => e.action === "permit") ?? [];
    if (permits.some((e) => !e.matches.some((m) => m.startsWith(other)))) return;
    const lack =
      entries === undefined
        ? "is not defined"
        : `permits no ${permits.length === 0 ? "" : `IPv${family} `}route`;
    this.once(
      `route-map ${name}, the export policy of the feed, ${lack}: shortcutd is fed none, and never makes a shortcut`,
      `${FILE}: \`route-map SHORTCUT-FEED-OUT permit 1000\``,
      severity,
    );
  }

  private pool(family: Family): Prefix | undefined {
    return family === 4 ? this.expect.aliasPool4 : this.expect.aliasPool6;
  }

  /**
   * Returns whether the first entry of the list that matches host routes of the pool permits them.
   */
  private covers(list: string, family: Family, pool: Prefix): boolean {
    for (const entry of this.facts.config.prefixLists[family].get(list) ?? []) {
      const m = /^(permit|deny) (\S+)(?: ge (\d+))?(?: le (\d+))?$/.exec(entry);
      const prefix = m?.[2] === "any" ? undefined : parsePrefix(m?.[2] ?? "");
      if (m === null || (prefix === undefined && m[2] !== "any")) continue;
      const upTo =
        m[4] !== undefined || m[3] !== undefined || m[2] === "any"
          ? Number(m[4] ?? addressBits(family))
          : prefixLength(prefix ?? pool);
      if ((prefix === undefined || contains(prefix, pool)) && upTo === addressBits(family))
        return m[1] === "permit";
    }
    return false;
  }

  aliases(): void {
    for (const [family, severity] of this.families) {
      const pool = this.pool(family);
      if (pool === undefined || this.covers(ALIASES, family, pool)) continue;
      const ip = family === 4 ? "ip" : "ipv6";
      this.find(
        `prefix-list ${ALIASES} does not cover the alias pool ${pool}: aliases and offers may leak`,
        `${FILE}: \`${ip} prefix-list ${ALIASES} seq 10 permit ${pool} le ${addressBits(family)}\``,
        severity,
      );
    }
  }

  /**
   * Returns whether a route-map denies what `clause` matches by a prefix-list of the alias pool,
   * itself or through a call.
   */
  private refuses(map: string | undefined, clause: RegExp, family: Family, depth = 0): boolean {
    if (map === undefined || depth > 8) return false;
    const pool = this.pool(family) ?? this.expect.aliasPool4;
    return (this.facts.config.routeMaps.get(map) ?? []).some((e) => {
      if (e.call !== undefined && this.refuses(e.call, clause, family, depth + 1)) return true;
      if (e.action !== "deny") return false;
      return e.matches.some((m) => {
        const list = clause.exec(m)?.[1];
        return list !== undefined && (list === ALIASES || this.covers(list, family, pool));
      });
    });
  }

  redistribution(): void {
    const all = [this.facts.config, ...this.facts.elsewhere].flatMap((c) => c.redistributions);
    for (const r of all) {
      if (r.source !== "kernel" && r.source !== "connected") continue;
      const family: Family = /ipv6|ospf6|ripng/.test(r.where) ? 6 : 4;
      const ip = family === 4 ? /^ip address prefix-list (\S+)/ : /^ipv6 address prefix-list (\S+)/;
      const keepsAliases = this.refuses(r.routeMap, ip, family);
      const keepsOthers =
        r.source === "kernel"
          ? this.refusesOverlay(r.routeMap)
          : this.refusesInterface(r.routeMap, (dev) => dev === this.expect.direct);
      if (r.source === "kernel" ? keepsAliases && keepsOthers : keepsAliases || keepsOthers) continue;
      const leaks =
        r.source === "connected"
          ? "the direct interface's address"
          : keepsAliases
            ? `routes with which shortcutd keeps a prefix on ${this.expect.overlay}`
            : "alias next hops";
      const by = r.routeMap === undefined ? "without a route-map" : `by route-map ${r.routeMap}`;
      const { overlay } = this.expect;
      const entries =
        overlay.open || overlay.patterns.length > 1
          ? "an entry with `match metric 1` alone"
          : `\`match interface ${overlay}\` and \`match metric 1\``;
      const entry =
        r.source === "kernel" && keepsAliases ? `; in ${NO_ALIAS} ${entries} (deny 40 of ${FILE})` : "";
      this.find(
        `${r.where} redistributes ${r.source} routes ${by}: ${leaks} would leak to neighbours`,
        `your own configuration, ${r.where}: \`redistribute ${r.source} route-map ${NO_ALIAS}\`, or \`call ${NO_ALIAS}\` in your route-map${entry}`,
      );
    }
  }

  /** Checks that OSPF does not begin on the direct interface, which carries the overlay address too. */
  ospfNetworks(): void {
    const addresses = this.expect.overlayAddresses.map((a) => a.address);
    for (const { where, prefix } of [this.facts.config, ...this.facts.elsewhere].flatMap(
      (c) => c.ospfNetworks,
    ))
      if (addresses.some((a) => contains(prefix, a)))
        this.find(
          `${where} runs on every interface with an address of ${prefix}, so on ${this.expect.direct} too: spokes would become OSPF neighbours there`,
          `your own configuration, ${where}: \`no network ${prefix} area ...\`, and \`ip ospf area ...\` in \`interface ${this.expect.overlay}\``,
          "warning",
        );
  }

  /** Returns whether a route-map denies our routes on each overlay interface that the configuration names. */
  private refusesOverlay(map: string | undefined): boolean {
    const { overlay } = this.expect;
    return overlay.patterns.every((pattern) => {
      const one = new InterfaceNames([pattern]);
      return this.refusesInterface(map, (dev) => one.has(dev));
    });
  }

  /**
   * Returns whether a route-map denies an interface, itself or through a call. A further match of the metric is that of
   * our routes; alone it denies them on every interface.
   */
  private refusesInterface(map: string | undefined, isMeant: (dev: string) => boolean, depth = 0): boolean {
    if (map === undefined || depth > 8) return false;
    return (this.facts.config.routeMaps.get(map) ?? []).some((e) => {
      if (e.call !== undefined && this.refusesInterface(e.call, isMeant, depth + 1)) return true;
      const meant = e.matches.filter((m) => m.startsWith("interface ") && isMeant(m.slice(10)));
      const everywhere = e.matches.length === 1 && e.matches[0] === "metric 1";
      return (
        e.action === "deny" &&
        (everywhere || (meant.length > 0 && e.matches.every((m) => meant.includes(m) || m === "metric 1")))
      );
    });
  }

  /** Returns a neighbour's family with what it has of its peer group; undefined when it is not activated. */
  private activated(n: ConfiguredNeighbor, family: Family): NeighborFamily | undefined {
    const group = n.group === undefined ? undefined : this.bgp.neighbors.get(n.group)?.families[family];
    const own = n.families[family];
    if (own?.flags.has("no activate") === true) return undefined;
    if (own?.flags.has("activate") !== true && group?.flags.has("activate") !== true) return undefined;
    return {
      flags: new Set([...(group?.flags ?? []), ...(own?.flags ?? [])]),
      routeMapIn: own?.routeMapIn ?? group?.routeMapIn,
      routeMapOut: own?.routeMapOut ?? group?.routeMapOut,
    };
  }

  private remoteAsOf(n: ConfiguredNeighbor): string | undefined {
    return n.remoteAs ?? this.bgp.neighbors.get(n.group ?? "")?.remoteAs;
  }

  /** Returns whether the session with a neighbour is iBGP, and on the overlay or with an address of `hubs`. */
  private isInternalHub(n: ConfiguredNeighbor): boolean {
    const remoteAs = this.remoteAsOf(n);
    return (remoteAs === "internal" || remoteAs === String(this.bgp.as)) && this.isOnOverlay(n);
  }

  /** Returns whether a neighbour is on an overlay interface, or has an address of `hubs`. */
  private isOnOverlay(n: ConfiguredNeighbor): boolean {
    const { hubs, overlay, overlayAddresses } = this.expect;
    if (n.isGroup) return false;
    const address = parseAddress(n.name);
    if (address === undefined) return overlay.has(n.name);
    if (n.interfaceName !== undefined) return overlay.has(n.interfaceName);
    return (
      hubs.includes(address) || overlayAddresses.some((a) => contains(prefixOf(a.address, a.length), address))
    );
  }

  /**
   * Checks that every hub is sent no offers, in each family of its session. Where no neighbour is known to be a hub, one must be.
   */
  towardsHub(own: readonly (string | undefined)[]): void {
    const others = [...this.bgp.neighbors.values()].filter(
      (n) => !own.includes(n.name) && !own.includes(n.group),
    );
    // An external neighbour is sent its own routes back, so an offer changes nothing for it.
    if (others.length === 0 || (this.offersAs ?? this.expect.localAs) !== this.expect.localAs) return;
    const hubs = others.filter((n) => this.isInternalHub(n));
    for (const n of hubs)
      for (const [family] of this.families) {
        const f = this.activated(n, family);
        if (f !== undefined) this.towardsOne(n.name, family, f.routeMapOut);
      }
    if (hubs.length > 0) return;
    const kept = others.some((n) =>
      ([4, 6] as const).some((family) => this.filtersOffers(n.families[family]?.routeMapOut, family)),
    );
    if (!kept)
      this.find(
        "no neighbour's outgoing route-map filters offers: the hub would receive the offer that replaced its own route",
        `your own configuration, towards each hub: \`neighbor HUB route-map ${NOT_TO_HUB} out\``,
        "warning",
      );
  }

  private filtersOffers(map: string | undefined, family: Family): boolean {
    const clause = family === 4 ? /^ip next-hop prefix-list (\S+)/ : /^ipv6 next-hop prefix-list (\S+)/;
    return this.refuses(map, clause, family);
  }

  private towardsOne(hub: string, family: Family, map: string | undefined): void {
    if (this.filtersOffers(map, family)) return;
    const place = `your own configuration, router bgp ${this.bgp.as}, address-family ipv${family} unicast`;
    if (map !== undefined && !this.facts.config.routeMaps.has(map))
      this.find(
        `the outgoing route-map ${map} of ${hub} is not defined: the hub is sent no IPv${family} route`,
        `${place}: load ${FILE}, or \`no neighbor ${hub} route-map ${map} out\``,
      );
    else
      this.find(
        `${map === undefined ? `${hub} has no outgoing route-map` : `the outgoing route-map ${map} of ${hub} does not filter offers`} for IPv${family}: the hub would receive the offer that replaced its own route`,
        `${place}: ${map === undefined ? `\`neighbor ${hub} route-map ${NOT_TO_HUB} out\`` : `\`call ${NOT_TO_HUB}\` in each permit entry of route-map ${map}`}`,
        "warning",
      );
  }
}

/** Whether a large community matches an expression of FRR, which are POSIX with `_` for a boundary. */
function matchesExpression(expression: string, community: string): boolean {
  try {
    return new RegExp(expression.replaceAll("_", "(?:^|$|[ ,{}()])")).test(community);
  } catch {
    return true;
  }
}
