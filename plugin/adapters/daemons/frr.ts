/**
 * FRR as a DaemonPort: bgpd and zebra over their vty sockets, one kept connection each, in enable mode as vtysh uses them.
 * `vtysh` itself is spawned only where a socket cannot be used (another path, another group). Only `show` commands are sent. What the
 * answers mean is decided by the pure modules `frr-audit.ts` and `frr-explain.ts`.
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
  type DaemonPort,
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
  prefixAddress,
} from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import { summarySession } from "../../shortcut/spoke/hub-presence.js";
import {
  decodeAdvertised,
  decodeBgpRoute,
  decodeEstablished,
  decodeExternalLsa,
  decodeFilteredRoutes,
  decodeNeighbor,
  decodeOutgoing,
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
      `'${command}' answered what is not understood: ${r.error}`,
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
export function frrClient(options: FrrOptions): DaemonPort {
  const bgpd = new FrrDaemon("bgpd", options);
  const zebra = new FrrDaemon("zebra", options);
  let source = options.offersSource ?? address("127.0.0.2");
  /** ` vrf NAME`, where a command takes it. */
  const vrf = options.vrf === undefined ? "" : ` vrf ${options.vrf}`;
  let feed = address("127.0.0.3");
  /** For what may be asked of many prefixes: nothing else waits behind it. */
  const bulk = new FrrDaemon("bgpd", options);
  const ospfd = new FrrDaemon("ospfd", options);

  /** Running configurations of the other daemons, for what they redistribute; one that does not answer redistributes nothing. */
  const others = async (): Promise<string[]> => {
    const texts: string[] = [];
    for (const name of REDISTRIBUTING) {
      if (!existsSync(join(options.directory, `${name}.vty`))) continue;
      const daemon = new FrrDaemon(name, options);
      texts.push(await daemon.ask("show running-config").catch(() => ""));
      await daemon.close();
    }
    return texts;
  };

  const explain = async (prefix: Prefix, alias: Address) => {
    const family = familyOf(prefix);
    const [ip, bgp] = family === 4 ? ["ip", "ipv4"] : ["ipv6", "ipv6"];
    const paths = await bgpd.decoded(`show bgp${vrf} ${bgp} unicast ${prefix} json`, decodeBgpRoute);
    if (paths.some((p) => p.nextHop === alias)) {
      const routes = await zebra.decoded(`show ${ip} route${vrf} ${prefix} json`, (text) =>
        decodeZebraRoutes(text, prefix),
      );
      return explainFrr({ kind: "received", alias, paths, routes });
    }
    const neighbor = await bgpd.decoded(`show bgp${vrf} neighbors ${source} json`, (text) =>
      decodeNeighbor(text, source),
    );
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
  };

  /** Of one configuration, by family and neighbour. */
  let details: { configuration: string; readonly of: Map<string, NeighbourDetail> } = {
    configuration: "",
    of: new Map(),
  };
  const detail = async (family: Family, key: string): Promise<NeighbourDetail> => {
    const id = `${family} ${key}`;
    const known = details.of.get(id);
    if (known !== undefined) return known;
    const found = await bulk.decoded(`show bgp${vrf} neighbors ${key} json`, (t) =>
      decodeOutgoing(t, key, family),
    );
    details.of.set(id, found);
    return found;
  };
  const OSPF = "ospf";

  const neighbourView = async (prefixes: readonly Prefix[]): Promise<NeighbourView> => {
    const hasOspf = existsSync(join(options.directory, "ospfd.vty"));
    const ask = "show running-config";
    const [bgpConfig, ospfConfig] = await Promise.all([
      bulk.ask(ask),
      hasOspf ? ospfd.ask(ask).catch(() => "") : "",
    ]);
    const configuration = digestOf(bgpConfig + ospfConfig);
    const redistributesAll = /^ redistribute bgp(?!.* route-map)/m.test(ospfConfig);
    if (details.configuration !== configuration) details = { configuration, of: new Map() };
    const neighbours = new Map<string, Neighbour>();
    const sent = new Map<Prefix, ReadonlyMap<string, Sent>>();
    for (const family of new Set(prefixes.map(familyOf)))
      for (const key of await bulk.decoded(
        `show bgp${vrf} ipv${family} unicast summary json`,
        decodeEstablished,
      ))
        if (key !== source && key !== feed) neighbours.set(key, neighbourOf(key, await detail(family, key)));
    for (const prefix of prefixes) {
      const family = familyOf(prefix);
      const facts: PrefixFacts = await bulk.decoded(
        `show bgp${vrf} ipv${family} unicast ${prefix} json`,
        decodeAdvertised,
      );
      const to = new Map<string, Sent>();
      for (const [key, paths] of facts.advertisedTo)
        if (neighbours.has(key))
          to.set(key, {
            attributes: `${paths} path(s)`,
            visibleReason: visibleReason(await detail(family, key), facts),
            isOrigin: facts.tellers.has(key),
          });
      if (family === 4 && hasOspf) {
        const asked = `show ip ospf${vrf} database external ${prefixAddress(prefix)} self-originate json`;
        const lsa = await ospfd.decoded(asked, (t) => decodeExternalLsa(t, prefix)).catch(() => undefined);
        const leak =
          facts.known || !redistributesAll ? "" : "router ospf redistributes all of BGP, new prefixes too";
        if (lsa !== undefined || leak !== "")
          to.set(OSPF, { attributes: lsa, visibleReason: leak, isOrigin: false });
        neighbours.set(OSPF, {
          name: "OSPF",
          address: undefined,
          filter: "route-map of redistribute bgp in router ospf",
        });
      }
      sent.set(prefix, to);
    }
    return { configuration, neighbours, sent };
  };

  return {
    kind: "frr",
    neighbourView,
    check: async (expect: DaemonExpectation) => {
      source = expect.offersSource;
      feed = expect.feedSource;
      const [version, running, , elsewhere] = await Promise.all([
        bgpd.ask("show version"),
        bgpd.ask("show running-config"),
        zebra.ask("show version"),
        others(),
      ]);
      return {
        version: parseFrrVersion(version) ?? "unknown",
        findings: auditFrr(
          {
            config: parseRunningConfig(running, options.vrf),
            elsewhere: elsewhere.flatMap((text) => parseRunningConfig(text).redistributions),
          },
          expect,
          options.offersAs,
        ),
      };
    },
    explain,
    hubSession: async (hubs) => {
      const neighbors = await Promise.all(
        hubs.map((hub) =>
          bgpd.decoded(`show bgp${vrf} neighbors ${hub} json`, (text) => decodeNeighbor(text, hub)),
        ),
      );
      return summarySession(neighbors.flatMap((n) => (n === undefined ? [] : [n.state === "Established"])));
    },
    igpNextHops: async (prefix) => {
      const ip = familyOf(prefix) === 4 ? "ip" : "ipv6";
      const routes = await zebra.decoded(`show ${ip} route ${prefix} json`, (text) =>
        decodeZebraRoutes(text, prefix),
      );
      const [best] = routes
        .filter((r) => !NO_IGP.has(r.protocol))
        .sort((a, b) => a.distance - b.distance || a.metric - b.metric);
      return (best?.nextHops ?? []).flatMap((h) => h.gateway ?? []);
    },
    close: async () => {
      await Promise.all([bgpd, zebra, bulk, ospfd].map((d) => d.close()));
    },
  };
}

const digestOf = (text: string): string => createHash("sha256").update(text).digest("base64");
