/**
 * FRR's running configuration, as far as shortcutd depends on it: the BGP instance with its peer groups, listen ranges and policies,
 * redistribution by any protocol, route-maps and prefix lists. The text of `show running-config` is FRR's own canonical form (two
 * levels of indentation, one statement a line), so it is read by lines; statements that are not needed are skipped.
 */
import { type Family, type Prefix, parseAddress, parsePrefix } from "../../net/address.js";

/** A neighbour or a peer group, in one address family. */
export interface NeighborFamily {
  readonly flags: ReadonlySet<string>;
  readonly routeMapIn: string | undefined;
  readonly routeMapOut: string | undefined;
}

export interface ConfiguredNeighbor {
  readonly name: string;
  readonly isGroup: boolean;
  readonly group: string | undefined;
  /** A number, `internal` or `external`. */
  readonly remoteAs: string | undefined;
  /** Of a neighbour that is configured by a link-local address: `neighbor fe80::2 interface wg0`. */
  readonly interfaceName: string | undefined;
  /** A negated statement begins with `no`. */
  readonly flags: ReadonlySet<string>;
  readonly families: Readonly<Record<Family, NeighborFamily | undefined>>;
}

export interface Redistribution {
  /** `router bgp 65000`, with the address family where there is one. */
  readonly where: string;
  readonly source: string;
  readonly routeMap: string | undefined;
}

export interface RouteMapEntry {
  readonly action: "permit" | "deny";
  readonly sequence: number;
  readonly matches: readonly string[];
  readonly sets: readonly string[];
  readonly call: string | undefined;
  /** `on-match next` or `goto`: the entry decides nothing by itself. */
  readonly continues: boolean;
}

export interface BgpInstance {
  readonly as: number;
  readonly gracefulRestart: boolean;
  readonly neighbors: ReadonlyMap<string, ConfiguredNeighbor>;
  readonly listenRanges: readonly { readonly range: Prefix; readonly group: string }[];
}

/** A large-community list. Its values: communities as `65000:1:1 65000:1:2`, or a regular expression. */
export interface CommunityList {
  readonly expanded: boolean;
  readonly entries: readonly { readonly action: "permit" | "deny"; readonly value: string }[];
}

export interface RunningConfig {
  /** Of the VRF that was asked for, or of the default one. */
  readonly bgp: BgpInstance | undefined;
  readonly redistributions: readonly Redistribution[];
  readonly routeMaps: ReadonlyMap<string, readonly RouteMapEntry[]>;
  /** Entries as `permit 198.18.0.0/16 le 32`, in order. */
  readonly prefixLists: Readonly<Record<Family, ReadonlyMap<string, readonly string[]>>>;
  readonly communityLists: ReadonlyMap<string, CommunityList>;
  /** `network PREFIX area ...` of OSPF. */
  readonly ospfNetworks: readonly { readonly where: string; readonly prefix: Prefix }[];
  /** Families in which a default route resolves next hops; of zebra. */
  readonly resolvesViaDefault: readonly Family[];
}

interface OpenFamily {
  flags: Set<string>;
  routeMapIn: string | undefined;
  routeMapOut: string | undefined;
}
interface OpenNeighbor {
  name: string;
  isGroup: boolean;
  group: string | undefined;
  remoteAs: string | undefined;
  interfaceName: string | undefined;
  flags: Set<string>;
  families: Record<Family, OpenFamily | undefined>;
}
interface OpenEntry {
  action: "permit" | "deny";
  sequence: number;
  matches: string[];
  sets: string[];
  call: string | undefined;
  continues: boolean;
}

class Reader {
  as: number | undefined;
  gracefulRestart = false;
  ipv4ByDefault = true;
  readonly neighbors = new Map<string, OpenNeighbor>();
  readonly listenRanges: { range: Prefix; group: string }[] = [];
  readonly redistributions: Redistribution[] = [];
  readonly routeMaps = new Map<string, OpenEntry[]>();
  readonly prefixLists: Record<Family, Map<string, string[]>> = { 4: new Map(), 6: new Map() };
  readonly communityLists = new Map<
    string,
    { expanded: boolean; entries: { action: "permit" | "deny"; value: string }[] }
  >();
  readonly ospfNetworks: { where: string; prefix: Prefix }[] = [];
  private readonly viaDefault = new Map<Family, boolean>();
  private datacenter = false;
  private blockOfVrf = "default";
  private router: string | undefined;
  private inBgp = false;
  private family: Family | undefined;
  private otherFamily = false;
  private familyName = "";
  private entry: OpenEntry | undefined;

  constructor(private readonly vrf: string | undefined) {}

  line(raw: string): void {
    const text = raw.trim();
    if (text === "" || text === "!") return;
    if (!raw.startsWith(" ")) this.top(text);
    this.nexthopTracking(text);
    if (!raw.startsWith(" ")) return;
    if (this.entry !== undefined) this.mapLine(this.entry, text);
    else if (this.router !== undefined) this.routerLine(text);
  }

  private top(text: string): void {
    this.router = undefined;
    this.entry = undefined;
    this.inBgp = false;
    this.blockOfVrf = /^vrf (\S+)$/.exec(text)?.[1] ?? "default";
    this.leaveFamily();
    const bgp = /^router bgp (\d+)( vrf (\S+)| view \S+)?/.exec(text);
    if (text.startsWith("router ")) this.router = text;
    const isView = bgp?.[2] !== undefined && bgp[3] === undefined;
    if (bgp !== null && !isView && (bgp[3] ?? "default") === (this.vrf ?? "default")) {
      this.as = Number(bgp[1]);
      this.inBgp = true;
    }
    if (text === "bgp graceful-restart") this.gracefulRestart = true;
    const map = /^route-map (\S+) (permit|deny) (\d+)$/.exec(text);
    if (map !== null) {
      const entry: OpenEntry = {
        action: map[2] === "permit" ? "permit" : "deny",
        sequence: Number(map[3]),
        matches: [],
        sets: [],
        call: undefined,
        continues: false,
      };
      this.entry = entry;
      const name = map[1] ?? "";
      this.routeMaps.set(name, [...(this.routeMaps.get(name) ?? []), entry]);
    }
    const list = /^(ip|ipv6) prefix-list (\S+) seq \d+ (.+)$/.exec(text);
    if (list !== null) {
      const lists = this.prefixLists[list[1] === "ip" ? 4 : 6];
      const name = list[2] ?? "";
      lists.set(name, [...(lists.get(name) ?? []), list[3] ?? ""]);
    }
    this.communityList(text);
  }

  /** `[no] ip nht resolve-via-default`, at the top or in `vrf NAME`; it is the default of `frr defaults datacenter`. */
  private nexthopTracking(text: string): void {
    if (text === "frr defaults datacenter") this.datacenter = true;
    const m = /^(no )?(ip|ipv6) nht resolve-via-default$/.exec(text);
    if (m === null || this.blockOfVrf !== (this.vrf ?? "default")) return;
    this.viaDefault.set(m[2] === "ip" ? 4 : 6, m[1] === undefined);
  }

  private communityList(text: string): void {
    const m = /^bgp large-community-list (standard|expanded) (\S+) (?:seq \d+ )?(permit|deny) (.+)$/.exec(
      text,
    );
    if (m === null) return;
    const [, kind, name = "", action, value = ""] = m;
    const list = this.communityLists.get(name) ?? { expanded: kind === "expanded", entries: [] };
    list.entries.push({ action: action === "permit" ? "permit" : "deny", value });
    this.communityLists.set(name, list);
  }

  private mapLine(entry: OpenEntry, text: string): void {
    if (text.startsWith("match ")) entry.matches.push(text.slice(6));
    else if (text.startsWith("set ")) entry.sets.push(text.slice(4));
    else if (text.startsWith("call ")) entry.call = text.slice(5);
    else if (text.startsWith("on-match ")) entry.continues = true;
  }

  private leaveFamily(): void {
    this.family = undefined;
    this.otherFamily = false;
    this.familyName = "";
  }

  private routerLine(text: string): void {
    if (text.startsWith("address-family ")) {
      this.leaveFamily();
      this.familyName = `, ${text}`;
      if (text === "address-family ipv4 unicast") this.family = 4;
      else if (text === "address-family ipv6 unicast") this.family = 6;
      else this.otherFamily = true;
      return;
    }
    if (text === "exit-address-family") {
      this.leaveFamily();
      return;
    }
    const redistribute = /^redistribute (\S+)(?:.* route-map (\S+))?/.exec(text);
    if (redistribute !== null)
      this.redistributions.push({
        where: `${this.router ?? ""}${this.familyName}`,
        source: redistribute[1] ?? "",
        routeMap: redistribute[2],
      });
    const network = /^network (\S+) area /.exec(text);
    const prefix = parsePrefix(network?.[1] ?? "");
    if (prefix !== undefined) this.ospfNetworks.push({ where: this.router ?? "", prefix });
    if (this.inBgp && !this.otherFamily) this.bgpLine(text);
  }

  private bgpLine(text: string): void {
    if (text === "no bgp default ipv4-unicast") this.ipv4ByDefault = false;
    if (text === "bgp graceful-restart") this.gracefulRestart = true;
    const listen = /^bgp listen range (\S+) peer-group (\S+)$/.exec(text);
    const range = parsePrefix(listen?.[1] ?? "");
    if (range !== undefined) this.listenRanges.push({ range, group: listen?.[2] ?? "" });
    const m = /^(no )?neighbor (\S+) (.+)$/.exec(text);
    if (m === null) return;
    const [, no, name = "", rest = ""] = m;
    const n = this.neighbor(name);
    if (this.family !== undefined) this.familyLine(n, this.family, no !== undefined, rest);
    else if (no !== undefined) {
      n.flags.delete(rest);
      n.flags.add(`no ${rest}`);
    } else if (rest === "peer-group") n.isGroup = true;
    else if (rest.startsWith("peer-group ")) n.group = rest.slice(11);
    else if (rest.startsWith("remote-as ")) n.remoteAs = rest.slice(10);
    else if (rest.startsWith("interface ")) this.unnumbered(n, rest.slice(10));
    else n.flags.add(rest);
  }

  /** `neighbor wg0 interface [v6only] [remote-as internal] [peer-group HUBS]` */
  private unnumbered(n: OpenNeighbor, rest: string): void {
    if (parseAddress(n.name) !== undefined) {
      n.interfaceName = rest;
      return;
    }
    n.remoteAs = /(?:^| )remote-as (\S+)/.exec(rest)?.[1] ?? n.remoteAs;
    n.group = /(?:^| )peer-group (\S+)/.exec(rest)?.[1] ?? n.group;
  }

  private familyLine(n: OpenNeighbor, family: Family, no: boolean, rest: string): void {
    n.families[family] ??= { flags: new Set(), routeMapIn: undefined, routeMapOut: undefined };
    const f = n.families[family];
    const map = /^route-map (\S+) (in|out)$/.exec(rest);
    if (map?.[2] === "in") f.routeMapIn = map[1];
    else if (map?.[2] === "out") f.routeMapOut = map[1];
    else f.flags.add(no ? `no ${rest}` : rest);
  }

  private neighbor(name: string): OpenNeighbor {
    const known = this.neighbors.get(name);
    if (known !== undefined) return known;
    const made: OpenNeighbor = {
      name,
      isGroup: false,
      group: undefined,
      remoteAs: undefined,
      interfaceName: undefined,
      flags: new Set(),
      families: { 4: undefined, 6: undefined },
    };
    this.neighbors.set(name, made);
    return made;
  }

  done(): RunningConfig {
    if (this.ipv4ByDefault)
      for (const n of this.neighbors.values()) {
        n.families[4] ??= { flags: new Set(), routeMapIn: undefined, routeMapOut: undefined };
        if (!n.families[4].flags.has("no activate")) n.families[4].flags.add("activate");
      }
    return {
      bgp:
        this.as === undefined
          ? undefined
          : {
              as: this.as,
              gracefulRestart: this.gracefulRestart,
              neighbors: this.neighbors,
              listenRanges: this.listenRanges,
            },
      redistributions: this.redistributions,
      routeMaps: this.routeMaps,
      prefixLists: this.prefixLists,
      communityLists: this.communityLists,
      ospfNetworks: this.ospfNetworks,
      resolvesViaDefault: ([4, 6] as const).filter((f) => this.viaDefault.get(f) ?? this.datacenter),
    };
  }
}

/** Takes the text of `show running-config` of one daemon or of vtysh. `vrf`: whose BGP instance; the default VRF's when undefined. */
export function parseRunningConfig(text: string, vrf?: string): RunningConfig {
  const reader = new Reader(vrf);
  for (const line of text.split(/\r?\n/)) reader.line(line);
  return reader.done();
}
