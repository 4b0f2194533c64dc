/**
 * FRR as a DaemonPort: bgpd and zebra over their vty sockets, one kept connection each, in enable mode as vtysh uses them.
 * `vtysh` itself is spawned only where a socket cannot be used (another path, another group). Only `show` commands are sent. The
 * pure modules in driver/daemon/frr/ decide what the answers mean.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { auditFrr } from "../../driver/daemon/frr/audit.js";
import { explainFrr } from "../../driver/daemon/frr/explain.js";
import {
  type NeighbourDetail,
  neighbourOf,
  type PrefixFacts,
  visibleReason,
} from "../../driver/daemon/frr/neighbour-view.js";
import {
  type DaemonExpectation,
  type DaemonExplanation,
  type DaemonNeighbour,
  type DaemonPort,
  type IgpNextHop,
  type Neighbour,
  type NeighbourView,
  PortError,
  type Sent,
} from "../../driver/ports.js";
import {
  type Address,
  address,
  type Family,
  familyOf,
  type Prefix,
  parseAddress,
  prefixAddress,
} from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import type { HubSession } from "../../shortcut/events.js";
import { summarySession } from "../../shortcut/spoke/hub-presence.js";
import {
  type BgpNeighbor,
  decodeAdvertised,
  decodeBgpRoute,
  decodeEstablished,
  decodeExternalLsa,
  decodeFilteredRoutes,
  decodeNeighbor,
  decodeOutgoing,
  decodePathInterfaces,
  decodeRouterId,
  decodeSessions,
  decodeZebraRoutes,
  parseFrrVersion,
} from "../../wire/frr/json.js";
import { parseRunningConfig } from "../../wire/frr/running-config.js";
import {
  CMD_SUCCESS,
  describeVtyError,
  encodeCommand,
  VtyDecoder,
  type VtyReply,
} from "../../wire/frr/vty.js";
import { CommandConnection, type CommandProtocol } from "./vty.js";

export interface FrrOptions {
  /** Directory of the vty sockets: `/run/frr`. */
  readonly directory: string;
  /** Where the offers session dials from; what `check` is told replaces it. 127.0.0.2 unless given. */
  readonly offersSource?: Address;
  /** Our AS on the offers session, where it is not the daemon's (eBGP); checked only when given. */
  readonly offersAs?: number;
  /** The VRF whose BGP instance and routes are asked for; the default one when undefined. */
  readonly vrf?: string | undefined;
  /** Milliseconds for one command; 2000 unless given. */
  readonly timeoutMs?: number;
  /** How vtysh is called; `["vtysh"]` unless given. */
  readonly vtysh?: readonly [string, ...string[]];
}

const protocol: CommandProtocol<VtyReply> = {
  decoder: () => {
    const decoder = new VtyDecoder();
    return {
      push: (bytes) => {
        const r = decoder.push(bytes);
        return r.ok ? ok(r.value) : err(describeVtyError(r.error));
      },
    };
  },
  encode: encodeCommand,
  greeting: false,
  opening: ["enable"],
};

/** Daemons that may redistribute, beside bgpd. */
const REDISTRIBUTING = ["ospfd", "ospf6d", "isisd", "ripd", "ripngd", "eigrpd", "babeld"] as const;
type Daemon = "bgpd" | "zebra" | (typeof REDISTRIBUTING)[number];

const remedy =
  (daemon: Daemon) =>
  (code: string): string => {
    switch (code) {
      case "ENOENT":
        return `is FRR running with ${daemon}=yes in /etc/frr/daemons, and is this the directory of its sockets? \`daemon-socket\` in the configuration names another`;
      case "ECONNREFUSED":
        return `${daemon} is not running: systemctl restart frr`;
      case "EACCES":
      case "EPERM":
        return "shortcutd may not open it: run it as root, or in group frrvty";
      case "ETIMEDOUT":
        return `${daemon} is busy or stopped: does \`vtysh -d ${daemon} -c 'show version'\` answer?`;
      case "ECONNRESET":
      case "EPIPE":
        return `${daemon} ended or was restarted`;
      case "EPROTO":
        return `is this ${daemon}'s vty socket?`;
      default:
        return "";
    }
  };

/** Of zebra's routes, those that the feed tells of, and those without a next hop. */
const NO_IGP: ReadonlySet<string> = new Set(["bgp", "kernel", "connected", "local"]);

/** Where the socket is of no use but vtysh may be. */
const FALLBACK = new Set(["ENOENT", "EACCES", "EPERM"]);
const VTYSH_OUTPUT = 32 << 20;

class FrrDaemon {
  private readonly connection: CommandConnection<VtyReply>;
  readonly place: string;

  constructor(
    private readonly daemon: Daemon,
    private readonly options: FrrOptions,
  ) {
    const path = join(options.directory, `${daemon}.vty`);
    this.place = `FRR vty socket ${path}`;
    this.connection = new CommandConnection({
      path,
      place: this.place,
      protocol,
      timeoutMs: this.timeoutMs,
      remedy: remedy(daemon),
    });
  }

  private get timeoutMs(): number {
    return this.options.timeoutMs ?? 2_000;
  }

  /** The text of the reply. @throws PortError, also when the daemon does not know the command. */
  async ask(command: string): Promise<string> {
    const reply = await this.connection.ask(command).catch((e: unknown) => {
      if (e instanceof PortError && e.code !== undefined && FALLBACK.has(e.code))
        return this.viaVtysh(command, e);
      throw e;
    });
    // A look-up that finds nothing is a warning with valid JSON.
    if (reply.status === CMD_SUCCESS || reply.text.trimStart().startsWith("{")) return reply.text;
    throw new PortError(
      this.place,
      `'${command}' failed with status ${reply.status}: ${reply.text.trim().slice(0, 200)}`,
      "FRR 8.4 and later are supported",
      "EPROTO",
    );
  }

  /** @throws PortError when the reply is not what it should be. */
  async decoded<T>(command: string, decode: (text: string) => Result<T, string>): Promise<T> {
    const r = decode(await this.ask(command));
    if (r.ok) return r.value;
    throw new PortError(
      this.place,
      `'${command}' has a reply that is not understood: ${r.error}`,
      "FRR 8.4 and later are supported",
      "EPROTO",
    );
  }

  private viaVtysh(command: string, cause: PortError): Promise<VtyReply> {
    const [program, ...prefix] = this.options.vtysh ?? ["vtysh"];
    return new Promise((resolve, reject) => {
      execFile(
        program,
        [...prefix, "--vty_socket", this.options.directory, "-d", this.daemon, "-c", command],
        { encoding: "utf8", timeout: this.timeoutMs, maxBuffer: VTYSH_OUTPUT },
        (error, stdout, stderr) => {
          if (error === null) return resolve({ text: stdout, status: CMD_SUCCESS });
          const said = stderr.trim() || error.message;
          reject(
            new PortError(
              this.place,
              `${cause.problem}; vtysh does not help: ${said.slice(0, 200)}`,
              cause.remedy,
              cause.code,
            ),
          );
        },
      );
    });
  }

  close(): Promise<void> {
    return this.connection.close();
  }
}

/** FRR over its vty sockets, which are opened when first needed. */
export const frrClient = (options: FrrOptions): DaemonPort => new FrrClient(options);

/** The key of OSPF among the neighbours. */
const OSPF = "ospf";
const OSPF_NEIGHBOUR: Neighbour = {
  name: "OSPF",
  address: undefined,
  filter: "route-map of redistribute bgp in router ospf",
};

/** The part of `show running-config` of bgpd and ospfd that decides what neighbours are sent. */
interface RunningConfiguration {
  /** Changes with the configuration. */
  readonly digest: string;
  readonly hasOspf: boolean;
  /** OSPF takes every route of BGP, without a route-map. */
  readonly redistributesAll: boolean;
}

class FrrClient implements DaemonPort {
  readonly kind = "frr";
  private readonly bgpd: FrrDaemon;
  private readonly zebra: FrrDaemon;
  private readonly ospfd: FrrDaemon;
  /** For questions about many prefixes: no other question waits behind them. */
  private readonly bulk: FrrDaemon;
  /** ` vrf NAME`, where a command takes it. */
  private readonly vrf: string;
  private source: Address;
  private feed = address("127.0.0.3");
  /** Details of neighbours under one configuration, by family and neighbour. */
  private details: { readonly configuration: string; readonly of: Map<string, NeighbourDetail> } = {
    configuration: "",
    of: new Map(),
  };

  constructor(private readonly options: FrrOptions) {
    this.bgpd = new FrrDaemon("bgpd", options);
    this.zebra = new FrrDaemon("zebra", options);
    this.ospfd = new FrrDaemon("ospfd", options);
    this.bulk = new FrrDaemon("bgpd", options);
    this.vrf = options.vrf === undefined ? "" : ` vrf ${options.vrf}`;
    this.source = options.offersSource ?? address("127.0.0.2");
  }

  async check(expect: DaemonExpectation) {
    this.source = expect.offersSource;
    this.feed = expect.feedSource;
    const [version, running, zebra, elsewhere, instances] = await Promise.all([
      this.bgpd.ask("show version"),
      this.bgpd.ask("show running-config"),
      this.zebra.ask("show running-config"),
      this.otherConfigurations(),
      this.bgpd.ask("show bgp vrfs json"),
    ]);
    const facts = {
      config: parseRunningConfig(running, this.options.vrf),
      elsewhere: elsewhere.map((text) => parseRunningConfig(text)),
      routerId: decodeRouterId(instances, this.options.vrf ?? "default"),
      resolvesViaDefault: parseRunningConfig(zebra, this.options.vrf).resolvesViaDefault,
      version: parseFrrVersion(version),
    };
    return {
      version: parseFrrVersion(version) ?? "unknown",
      findings: auditFrr(facts, expect, this.options.offersAs),
    };
  }

  /** Running configurations of the other daemons, for what they redistribute; one that does not answer redistributes nothing. */
  private async otherConfigurations(): Promise<string[]> {
    const texts: string[] = [];
    for (const name of REDISTRIBUTING) {
      if (!existsSync(join(this.options.directory, `${name}.vty`))) continue;
      const daemon = new FrrDaemon(name, this.options);
      texts.push(await daemon.ask("show running-config").catch(() => ""));
      await daemon.close();
    }
    return texts;
  }

  async explain(prefix: Prefix, alias: Address): Promise<DaemonExplanation> {
    const { bgpd, source, vrf, zebra } = this;
    const family = familyOf(prefix);
    const [ip, bgp] = family === 4 ? ["ip", "ipv4"] : ["ipv6", "ipv6"];
    const paths = await bgpd.decoded(`show bgp${vrf} ${bgp} unicast ${prefix} json`, decodeBgpRoute);
    if (paths.some((p) => p.nextHop === alias)) {
      const routes = await zebra.decoded(`show ${ip} route${vrf} ${prefix} json`, (text) =>
        decodeZebraRoutes(text, prefix),
      );
      return explainFrr({ kind: "received", alias, paths, routes });
    }
    const neighbor = await this.neighbor(source);
    const filtered =
      neighbor?.state === "Established"
        ? await bgpd.decoded(
            `show bgp${vrf} ${bgp} unicast neighbors ${source} filtered-routes json`,
            decodeFilteredRoutes,
          )
        : undefined;
    return explainFrr({
      kind: "absent",
      family,
      source,
      neighbor,
      filtered: filtered === undefined ? "unknown" : filtered.has(prefix) ? "yes" : "no",
    });
  }

  private neighbor(of: Address): Promise<BgpNeighbor | undefined> {
    return this.bgpd.decoded(`show bgp${this.vrf} neighbors ${of} json`, (text) => decodeNeighbor(text, of));
  }

  async hubSession(
    hubs: readonly Address[],
    isOnLink: (neighbour: DaemonNeighbour) => boolean = () => false,
  ): Promise<HubSession> {
    const all = await this.bgpd.decoded(`show bgp${this.vrf} neighbors json`, decodeSessions);
    return summarySession(
      [...all].flatMap(([key, isUp]) => {
        const own = parseAddress(key);
        if (own === this.source || own === this.feed) return [];
        const isHub = own !== undefined && hubs.includes(own);
        return isHub || isOnLink({ address: own, dev: own === undefined ? key : undefined }) ? [isUp] : [];
      }),
    );
  }

  /** A property of the port: it may be called without its object. */
  readonly igpNextHops = async (prefix: Prefix): Promise<readonly IgpNextHop[]> => {
    const ip = familyOf(prefix) === 4 ? "ip" : "ipv6";
    const routes = await this.zebra.decoded(`show ${ip} route${this.vrf} ${prefix} json`, (text) =>
      decodeZebraRoutes(text, prefix),
    );
    const [best] = routes
      .filter((r) => !NO_IGP.has(r.protocol))
      .sort((a, b) => a.distance - b.distance || a.metric - b.metric);
    const unnamed = address(familyOf(prefix) === 4 ? "0.0.0.0" : "::");
    return (best?.nextHops ?? []).flatMap(({ gateway, dev, fib }) =>
      gateway !== undefined || fib ? [{ nextHop: gateway ?? unnamed, dev }] : [],
    );
  };

  /** A property of the port: it may be called without its object. */
  readonly pathInterfaces = async (prefix: Prefix): Promise<ReadonlyMap<number, string>> => {
    const command = `show bgp${this.vrf} ipv${familyOf(prefix)} unicast ${prefix} json`;
    const paths = await this.bgpd.decoded(command, decodePathInterfaces);
    // a neighbour that is configured by its link-local address has its interface in the configuration alone
    const unnamed = paths.some((p) => p.dev === undefined && p.peer.startsWith("fe80:"));
    const configured = unnamed
      ? parseRunningConfig(await this.bgpd.ask("show running-config"), this.options.vrf).bgp?.neighbors
      : undefined;
    return new Map(
      paths.flatMap(({ dev, pathId, peer }) => {
        const name = dev ?? configured?.get(peer)?.interfaceName;
        return name === undefined ? [] : [[pathId, name] as const];
      }),
    );
  };

  async neighbourView(prefixes: readonly Prefix[]): Promise<NeighbourView> {
    const running = await this.readConfiguration();
    if (this.details.configuration !== running.digest)
      this.details = { configuration: running.digest, of: new Map() };
    const neighbours = new Map<string, Neighbour>();
    for (const family of new Set(prefixes.map(familyOf)))
      for (const key of await this.establishedNeighbours(family))
        neighbours.set(key, neighbourOf(key, await this.detail(family, key)));
    const sent = new Map<Prefix, ReadonlyMap<string, Sent>>();
    for (const prefix of prefixes) {
      const facts = await this.prefixFacts(prefix);
      const to = await this.sentByBgp(prefix, facts, neighbours);
      if (familyOf(prefix) === 4 && running.hasOspf) {
        const byOspf = await this.sentByOspf(prefix, facts, running);
        if (byOspf !== undefined) to.set(OSPF, byOspf);
        neighbours.set(OSPF, OSPF_NEIGHBOUR);
      }
      sent.set(prefix, to);
    }
    return { configuration: running.digest, neighbours, sent };
  }

  private async readConfiguration(): Promise<RunningConfiguration> {
    const hasOspf = existsSync(join(this.options.directory, "ospfd.vty"));
    const ask = "show running-config";
    const [bgp, ospf] = await Promise.all([
      this.bulk.ask(ask),
      hasOspf ? this.ospfd.ask(ask).catch(() => "") : "",
    ]);
    return {
      digest: digestOf(bgp + ospf),
      hasOspf,
      redistributesAll: /^ redistribute bgp(?!.* route-map)/m.test(ospf),
    };
  }

  /** The neighbours of one family that are up, without our own sessions. */
  private async establishedNeighbours(family: Family): Promise<string[]> {
    const command = `show bgp${this.vrf} ipv${family} unicast summary json`;
    const established = await this.bulk.decoded(command, decodeEstablished);
    return [...established].filter((key) => key !== this.source && key !== this.feed);
  }

  private async detail(family: Family, key: string): Promise<NeighbourDetail> {
    const id = `${family} ${key}`;
    const { of } = this.details;
    const known = of.get(id);
    if (known !== undefined) return known;
    const found = await this.bulk.decoded(`show bgp${this.vrf} neighbors ${key} json`, (t) =>
      decodeOutgoing(t, key, family),
    );
    of.set(id, found);
    return found;
  }

  private prefixFacts(prefix: Prefix): Promise<PrefixFacts> {
    const command = `show bgp${this.vrf} ipv${familyOf(prefix)} unicast ${prefix} json`;
    return this.bulk.decoded(command, decodeAdvertised);
  }

  private async sentByBgp(
    prefix: Prefix,
    facts: PrefixFacts,
    neighbours: ReadonlyMap<string, Neighbour>,
  ): Promise<Map<string, Sent>> {
    const to = new Map<string, Sent>();
    for (const [key, paths] of facts.advertisedTo)
      if (neighbours.has(key))
        to.set(key, {
          attributes: `${paths} path(s)`,
          visibleReason: visibleReason(await this.detail(familyOf(prefix), key), facts),
          isOrigin: facts.tellers.has(key),
        });
    return to;
  }

  /** Reads what OSPF redistributes of the prefix; undefined: nothing, and an offer would not change that. */
  private async sentByOspf(
    prefix: Prefix,
    facts: PrefixFacts,
    { redistributesAll }: RunningConfiguration,
  ): Promise<Sent | undefined> {
    const asked = `show ip ospf${this.vrf} database external ${prefixAddress(prefix)} self-originate json`;
    const lsa = await this.ospfd.decoded(asked, (t) => decodeExternalLsa(t, prefix)).catch(() => undefined);
    const leak =
      facts.known || !redistributesAll ? "" : "router ospf redistributes all of BGP, new prefixes too";
    if (lsa === undefined && leak === "") return undefined;
    return { attributes: lsa, visibleReason: leak, isOrigin: false };
  }

  async close(): Promise<void> {
    await Promise.all([this.bgpd, this.zebra, this.bulk, this.ospfd].map((d) => d.close()));
  }
}

const digestOf = (text: string): string => createHash("sha256").update(text).digest("base64");
