/**
 * The output of BIRD's `show` commands, as values. The text is meant for people and differs a little between versions, so a
 * parser takes what it knows and skips lines that it does not; what is absent is undefined, never a guess. Read from the
 * output of 2.0.12 (sources: `nest/proto.c`, `nest/rt-show.c`, `proto/{bgp,pipe,static}`).
 */
import { type Address, type Prefix, parseAddress, parsePrefix } from "../../net/address.js";
import type { BirdReply } from "./reply.js";

/** Columns of `Route change stats`; undefined where BIRD prints `---`. */
export interface UpdateCounts {
  readonly received: number;
  readonly rejected: number;
  readonly filtered: number;
  readonly ignored: number;
  readonly accepted: number;
}

export interface BirdChannel {
  /** `ipv4`, `ipv6`; `main` for a pipe. */
  readonly name: string;
  readonly table: string | undefined;
  readonly peerTable: string | undefined;
  /** Of a pipe: towards `table`. `ACCEPT`, `REJECT`, `(unnamed)` or a name. */
  readonly importFilter: string | undefined;
  readonly exportFilter: string | undefined;
  readonly igpTable: string | undefined;
  /** Routes that it has imported and still has. */
  readonly imported: number | undefined;
  readonly importUpdates: UpdateCounts | undefined;
}

export interface BirdProtocol {
  readonly name: string;
  /** `BGP`, `Pipe`, `Kernel`, `Static`. */
  readonly type: string;
  /** `---` when there is more than one, or none. */
  readonly table: string;
  /** `up`, `start`, `down`, `stop`. */
  readonly state: string;
  /** `Established`, `Passive`, the last error; empty for most. */
  readonly info: string;
  /**
   * Of `show protocols all`: `Neighbor address`, `Neighbor AS`, `Session`; also `Last error`. `Local graceful restart` and
   * `Neighbor graceful restart` are there, empty, when that end has announced the capability.
   */
  readonly fields: ReadonlyMap<string, string>;
  readonly channels: readonly BirdChannel[];
}

export interface BirdRoute {
  readonly table: string;
  readonly prefix: Prefix;
  /** `unicast`, `unreachable`, `blackhole`, `prohibit`. */
  readonly type: string;
  readonly protocol: string;
  readonly primary: boolean;
  /** Primary, and the kernel refused it. */
  readonly syncError: boolean;
  readonly preference: number;
  /** `via 10.255.0.2 on wg0`, `dev wg0`. */
  readonly nextHops: readonly string[];
  /** `BGP.next_hop`, `BGP.local_pref`. */
  readonly attributes: ReadonlyMap<string, string>;
}

export interface StaticRoute {
  readonly prefix: Prefix;
  /** `via 10.255.0.3`; or `unreachable`, `blackhole`. */
  readonly targets: readonly string[];
  /** Not in its table: none of its targets can be reached. */
  readonly dormant: boolean;
}

/** `2.0.12` of `show status`; undefined when the reply has no version. */
export function parseVersion(reply: BirdReply): string | undefined {
  const line = reply.lines.find((l) => l.code === 1000);
  return line === undefined ? undefined : /^BIRD (\S+)/.exec(line.text)?.[1];
}

interface OpenChannel {
  name: string;
  fields: Map<string, string>;
}

/** `show protocols` and `show protocols all`. */
export function parseProtocols(reply: BirdReply): BirdProtocol[] {
  const out: BirdProtocol[] = [];
  let fields = new Map<string, string>();
  let channels: BirdChannel[] = [];
  let channel: OpenChannel | undefined;
  let end = "";
  const endChannel = (): void => {
    if (channel !== undefined) channels.push(channelOf(channel));
    channel = undefined;
  };
  for (const { code, text: line } of reply.lines) {
    // trimmed here: a pattern that trims takes the square of a run of blanks
    const text = line.trimEnd();
    if (code === 1002) {
      const m = /^(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*(?<=\s|$)(\d\S*(?: \d\d:\d\d:\S+)?)?\s*(.*)$/s.exec(text);
      if (m === null) continue;
      endChannel();
      fields = new Map();
      channels = [];
      const [, name = "", type = "", table = "", state = "", , info = ""] = m;
      out.push({ name, type, table, state, info, fields, channels });
    } else if (code === 1006) {
      const opening = /^ {2}Channel (\S+)/.exec(text);
      if (opening !== null) {
        endChannel();
        channel = { name: opening[1] ?? "", fields: new Map() };
        continue;
      }
      const capabilities = /^ {4}(Local|Neighbor) capabilities$/.exec(text)?.[1];
      if (capabilities !== undefined) end = capabilities;
      if (text.trim() === "Graceful restart") fields.set(`${end} graceful restart`, "");
      const colon = line.indexOf(":");
      if (colon < 1 || !/\s/.test(line.charAt(colon + 1))) continue;
      (channel?.fields ?? fields).set(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
    }
  }
  endChannel();
  return out;
}

/** The neighbour of a BGP protocol; undefined for a protocol of another type. */
export function neighbourOf({
  type,
  fields,
}: BirdProtocol): { readonly address: Address; readonly dev: string | undefined } | undefined {
  // a link-local address is followed by %IFACE
  const [text = "", dev] = (fields.get("Neighbor address") ?? "").split("%");
  const address = parseAddress(text);
  return type !== "BGP" || address === undefined ? undefined : { address, dev };
}

/** Whether each BGP protocol with one of these neighbours is Established. Of `show protocols all`. */
export function sessionsWith(
  protocols: readonly BirdProtocol[],
  isMeant: (neighbour: { readonly address: Address; readonly dev: string | undefined }) => boolean,
): boolean[] {
  return protocols.flatMap((p) => {
    const neighbour = neighbourOf(p);
    return neighbour !== undefined && isMeant(neighbour) ? [p.info === "Established"] : [];
  });
}

/** `show bfd sessions`: the addresses of the neighbours. */
export const parseBfdNeighbours = (reply: BirdReply): ReadonlySet<Address> =>
  new Set(reply.lines.flatMap((l) => parseAddress(/^\s*([0-9a-f.:]+)\s/.exec(l.text)?.[1] ?? "") ?? []));

function channelOf({ name, fields }: OpenChannel): BirdChannel {
  const igp = [...fields].find(([key]) => /^IGP IPv[46] table$/.test(key));
  return {
    name,
    table: fields.get("Table"),
    peerTable: fields.get("Peer table"),
    importFilter: fields.get("Input filter") ?? fields.get("Import filter"),
    exportFilter: fields.get("Output filter") ?? fields.get("Export filter"),
    igpTable: igp?.[1],
    imported: numberIn(fields.get("Routes"), /^(\d+) imported/),
    importUpdates: countsOf(fields.get("Import updates")),
  };
}

function numberIn(text: string | undefined, pattern: RegExp): number | undefined {
  const digits = pattern.exec(text ?? "")?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function countsOf(text: string | undefined): UpdateCounts | undefined {
  const m = /^(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$/.exec(text ?? "");
  if (m === null) return undefined;
  const [received = 0, rejected = 0, filtered = 0, ignored = 0, accepted = 0] = m.slice(1).map(Number);
  return { received, rejected, filtered, ignored, accepted };
}

/** `show symbols table`: names of routing tables. */
export function parseTables(reply: BirdReply): Set<string> {
  const out = new Set<string>();
  for (const { code, text } of reply.lines) {
    const m = code === 1010 ? /^(\S+)\s+routing table\s*$/.exec(text) : null;
    if (m?.[1] !== undefined) out.add(m[1]);
  }
  return out;
}

interface OpenRoute extends BirdRoute {
  readonly nextHops: string[];
  readonly attributes: Map<string, string>;
}

/** `show route ... [all]`, all routes of each network. */
export function parseRoutes(reply: BirdReply): BirdRoute[] {
  const out: BirdRoute[] = [];
  let table = "";
  let prefix: Prefix | undefined;
  let route: OpenRoute | undefined;
  for (const { code, text } of reply.lines) {
    if (code === 1007) {
      const heading = /^Table (\S+):$/.exec(text);
      if (heading !== null) {
        table = heading[1] ?? "";
        prefix = undefined;
        route = undefined;
        continue;
      }
      const m = /^(\S*)\s+(\S+) \[(\S+) [^\]]*\](?: ([*!]))? \((\d+)/.exec(text);
      if (m !== null) {
        if (m[1] !== "") prefix = parsePrefix(m[1] ?? "");
        route = undefined;
        if (prefix === undefined) continue;
        route = {
          table,
          prefix,
          type: m[2] ?? "",
          protocol: m[3] ?? "",
          primary: m[4] !== undefined,
          syncError: m[4] === "!",
          preference: Number(m[5]),
          nextHops: [],
          attributes: new Map(),
        };
        out.push(route);
      } else if (text.startsWith("\t")) route?.nextHops.push(text.trim());
    } else if (code === 1008 || code === 1012) {
      const m = /^\t([^:\s]+):\s?(.*)$/s.exec(text.trimEnd());
      if (m !== null) route?.attributes.set(m[1] ?? "", m[2] ?? "");
    }
  }
  return out;
}

/** `show static NAME`. */
export function parseStatics(reply: BirdReply): StaticRoute[] {
  const out: { prefix: Prefix; targets: string[]; dormant: boolean }[] = [];
  const mark = /\(dormant\)/;
  for (const { code, text } of reply.lines) {
    if (code !== 1009) continue;
    const route = out.at(-1);
    const dormant = mark.test(text);
    const words = text.replace(mark, "").trim();
    if (/^\s/.test(text)) {
      if (route === undefined) continue;
      route.dormant = dormant && (route.targets.length === 0 || route.dormant);
      route.targets.push(words);
      continue;
    }
    const [first = "", ...target] = words.split(/\s+/);
    const prefix = parsePrefix(first);
    if (prefix !== undefined)
      out.push({ prefix, targets: target.length > 0 ? [target.join(" ")] : [], dormant });
  }
  return out;
}

/** `show interfaces`: those that are up and have an address that is neither link-local nor a host's own (lo). */
export function parseInterfaces(reply: BirdReply): Set<string> {
  const out = new Set<string>();
  let name: string | undefined;
  for (const { code, text } of reply.lines) {
    if (code === 1001) name = /^(\S+) up /.exec(text)?.[1];
    else if (code === 1004 && /\bLoopback\b/.test(text)) name = undefined;
    else if (code === 1003 && name !== undefined && !/scope (?:link|host)/.test(text)) out.add(name);
  }
  return out;
}

/** `Router ID is 10.255.0.1` of `show status`. */
export function parseRouterId(reply: BirdReply): Address | undefined {
  for (const { text } of reply.lines) {
    const m = /^\s*Router ID is (\S+)/.exec(text);
    if (m !== null) return parseAddress(m[1] ?? "");
  }
  return undefined;
}

/** The value that `eval NAME` prints, without the quotes that BIRD 3 puts around a text; undefined when the name is unknown. */
export const parseValue = (reply: BirdReply): string | undefined =>
  reply.last.code === 23 ? reply.last.text.trim().replace(/^"(.*)"$/, "$1") : undefined;

/** Whether a name matches a shell pattern as BIRD compares it: `*` any text, `?` one character. */
export function matchesPattern(pattern: string, name: string): boolean {
  const expression = pattern.replaceAll(/[.+^${}()|[\]\\*?]/g, (c) =>
    c === "*" ? ".*" : c === "?" ? "." : `\\${c}`,
  );
  return new RegExp(`^${expression}$`, "s").test(name);
}

/** The number that `eval NAME` prints; undefined when it is not a number, or the name is unknown. */
export function parseNumber(reply: BirdReply): number | undefined {
  return reply.last.code === 23 && /^\d+$/.test(reply.last.text.trim()) ? Number(reply.last.text) : undefined;
}
