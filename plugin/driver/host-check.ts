/**
 * Judges the host that shortcutd is to run on: the overlay interfaces and their addresses, the direct interface, the private key, the ports, and what
 * the alias pools would hide. Pure, apart from {@link readHost}, which asks the ports.
 */
import type { Config, DaemonConfig } from "../config/config.js";
import { type Address, contains, familyOf, overlaps, type Prefix, prefixLength } from "../net/address.js";
import type { PublicKey } from "../net/key.js";
import { RTPROT_FORMER, RTPROT_SHORTCUTD } from "./kernel/fib-view.js";
import {
  ConfigMismatch,
  existingOverlays,
  isNear,
  overlayLinks,
  overlayOf,
  type PlacedAddress,
} from "./overlay.js";
import {
  type HostPort,
  type KernelLink,
  type KernelRoute,
  PortError,
  type RoutePort,
  type WireGuardDevice,
  type WireGuardPort,
} from "./ports.js";

/** One thing that is wrong on the host. */
export interface HostFinding {
  readonly subject: "process" | "overlay" | "key" | "password" | "direct interface" | "alias pool" | "port";
  readonly severity: "error" | "warning";
  /** `interface wg0`, `private key /var/lib/shortcutd/private.key`. */
  readonly place: string;
  readonly problem: string;
  readonly remedy: string;
}

/** A UDP port that shortcutd needs: the key of the configuration that sets it, and where it is bound. */
export interface NeededPort {
  readonly key: "control.port" | "direct.port" | "direct.observe-port";
  readonly port: number;
  /** Undefined: on every address. */
  readonly address: Address | undefined;
}

/** The private key of the direct interface. */
export type KeyState =
  | { readonly kind: "absent" }
  | { readonly kind: "usable"; readonly publicKey: PublicKey }
  | { readonly kind: "refused"; readonly error: PortError };

/** The password of the sessions with the daemon. */
export type PasswordState =
  | { readonly kind: "absent" | "usable" }
  | { readonly kind: "refused"; readonly error: PortError };

/** Capabilities (capabilities(7)) that shortcutd uses, by their numbers, and what it lacks without. */
const CAPABILITIES = [
  { name: "CAP_NET_ADMIN", bit: 12, severity: "error", lacks: "it can change neither interfaces nor routes" },
  { name: "CAP_NET_RAW", bit: 13, severity: "warning", lacks: "no pings: NAT behaviour stays unknown" },
  { name: "CAP_SYS_NICE", bit: 23, severity: "warning", lacks: "probes are late on a busy machine" },
] as const;
const NET_BIND_SERVICE = 10;
/** Ports below this are privileged, unless net.ipv4.ip_unprivileged_port_start says otherwise. */
const FIRST_FREE_PORT = 1024;

/** Questions that only a check asks. */
export interface HostProbes {
  readKey(path: string): Promise<KeyState>;
  readPassword(at: DaemonConfig["password"]): PasswordState;
  /** The effective capabilities of this process, as bits. */
  capabilities(): bigint;
  /** Whether another program has the port. */
  isTaken(port: NeededPort): Promise<boolean>;
  /** Whether a shortcutd runs with this control socket: ports and direct interface are its own then. */
  isRunning(socket: string): Promise<boolean>;
}

/** One overlay interface. */
export interface OverlayFacts {
  readonly name: string;
  /** Undefined: there is no WireGuard behind it. */
  readonly device: WireGuardDevice | undefined;
  readonly reversePathFilter: number | undefined;
}

export interface HostFacts {
  readonly links: readonly KernelLink[];
  readonly addresses: readonly PlacedAddress[];
  /** The overlay interfaces that exist. */
  readonly overlay: readonly OverlayFacts[];
  readonly direct: WireGuardDevice | undefined;
  /** Of the table that routes packets. */
  readonly routes: readonly KernelRoute[];
  readonly key: KeyState;
  readonly capabilities: bigint;
  /** Undefined on a hub, which has no sessions. */
  readonly password: PasswordState | undefined;
  /** shortcutd runs already. */
  readonly running: boolean;
  readonly taken: readonly NeededPort[];
}

interface HostPorts {
  readonly routes: Pick<RoutePort, "links" | "addresses" | "allAddresses" | "dump">;
  readonly wireguard: Pick<WireGuardPort, "device">;
  readonly host: Pick<HostPort, "reversePathFilter">;
  readonly probes: HostProbes;
}

/** Ports that this configuration needs. `self` is the router's overlay address, if it is known. */
export function neededPorts(config: Config, self: Address | undefined): NeededPort[] {
  const ports: NeededPort[] = [{ key: "direct.port", port: config.direct.port, address: undefined }];
  if (self !== undefined) ports.push({ key: "control.port", port: config.control.port, address: self });
  if (config.role === "hub")
    ports.push({ key: "direct.observe-port", port: config.direct.observePort, address: undefined });
  return ports;
}

export async function readHost(
  config: Config,
  { routes, wireguard, host, probes }: HostPorts,
): Promise<HostFacts> {
  const [links, addresses, table, running, key] = await Promise.all([
    routes.links(),
    routes.allAddresses(),
    routes.dump(config.fibTable),
    probes.isRunning(config.control.socket),
    probes.readKey(config.direct.key),
  ]);
  const has = (name: string): boolean => links.some((l) => l.name === name);
  const device = async (name: string): Promise<WireGuardDevice | undefined> =>
    has(name) ? wireguard.device(name).catch(() => undefined) : undefined;
  const direct = await device(config.direct.interface);
  const needed = running ? [] : neededPorts(config, selfOf(config, links, addresses));
  // a direct interface that is there has its port already
  const asked = needed.filter((p) => p.key !== "direct.port" || direct?.listenPort !== p.port);
  const taken = await Promise.all(asked.map(async (p) => ((await probes.isTaken(p)) ? [p] : [])));
  return {
    links,
    addresses,
    overlay: await Promise.all(
      existingOverlays(config, links).map(async ({ name }) => ({
        name,
        device: await device(name),
        reversePathFilter: host.reversePathFilter(name),
      })),
    ),
    direct,
    routes: table,
    key,
    capabilities: probes.capabilities(),
    password: config.daemon && probes.readPassword(config.daemon.password),
    running,
    taken: taken.flat(),
  };
}

/** This router's address, where it can be told and is usable. */
function selfOf(
  config: Config,
  links: readonly KernelLink[],
  addresses: readonly PlacedAddress[],
): Address | undefined {
  try {
    return overlayOf(config, links, addresses).self;
  } catch (e) {
    if (e instanceof PortError) return undefined;
    throw e;
  }
}

/** Whether a start finds it itself: it takes the ports, and takes over a direct interface that a crash left. */
export const isFoundAtStart = (f: HostFinding): boolean =>
  f.subject === "port" || f.subject === "direct interface";

/** Everything that is wrong, errors first. */
export function hostFindings(config: Config, facts: HostFacts): HostFinding[] {
  const all = [
    ...privilegeFindings(config, facts),
    ...overlayFindings(config, facts),
    ...keyFindings(facts),
    ...passwordFindings(config, facts),
    ...directFindings(config, facts),
    ...poolFindings(config, facts),
    ...portFindings(facts),
  ];
  return [...all.filter((f) => f.severity === "error"), ...all.filter((f) => f.severity === "warning")];
}

const ofError = (subject: HostFinding["subject"], e: PortError): HostFinding => ({
  subject,
  severity: "error",
  place: e.place,
  problem: e.problem,
  remedy: e.remedy,
});

function overlayFindings(config: Config, facts: HostFacts): HostFinding[] {
  let links: readonly KernelLink[];
  try {
    links = overlayLinks(config, facts.links);
  } catch (e) {
    if (e instanceof PortError) return [ofError("overlay", e)];
    throw e;
  }
  const interfaces = links.flatMap((link) => interfaceFindings(config, facts, link));
  // the addresses of an interface that is down are not known
  const known = links.every((l) => l.up);
  return [...absenceFindings(config, links), ...interfaces, ...identityFindings(config, facts, links, known)];
}

/** Interfaces of the configuration that are not there while that may be so. */
function absenceFindings({ overlay }: Config, links: readonly KernelLink[]): HostFinding[] {
  const missing = overlay.patterns.filter((p) => !p.endsWith("*") && !links.some((l) => l.name === p));
  const out: HostFinding[] = missing.map((name) => ({
    subject: "overlay",
    severity: "warning",
    place: `interface ${name}`,
    problem: "does not exist: nothing goes by it before it does",
    remedy: "bring it up (wg-quick up, systemd-networkd, …), or remove it from `overlay`",
  }));
  if (links.length > 0 || missing.length === overlay.patterns.length) return out;
  const patterns = overlay.patterns.filter((p) => p.endsWith("*")).join(", ");
  return [
    ...out,
    {
      subject: "overlay",
      severity: "warning",
      place: `interface ${patterns}`,
      problem: "none exists as yet: nothing goes by the overlay before",
      remedy: "bring the overlay's interfaces up (wg-quick up, systemd-networkd, …), or correct `overlay`",
    },
  ];
}

/** One overlay interface. */
function interfaceFindings(config: Config, facts: HostFacts, { name, up }: KernelLink): HostFinding[] {
  const of = facts.overlay.find((o) => o.name === name);
  const found = (severity: HostFinding["severity"], problem: string, remedy: string): HostFinding => ({
    subject: "overlay",
    severity,
    place: `interface ${name}`,
    problem,
    remedy,
  });
  const out: HostFinding[] = [];
  if (of?.device === undefined)
    out.push(
      found(
        // other programs make interfaces whose names a pattern fits
        config.overlay.patterns.includes(name) ? "error" : "warning",
        "is not a WireGuard interface, or the wireguard-go behind it does not answer",
        `name the overlay's WireGuard interface in \`overlay\`; \`wg show ${name}\` must answer`,
      ),
    );
  if (!up)
    return [
      ...out,
      found("warning", "is down: no shortcut is made before it is up", `\`ip link set ${name} up\``),
    ];
  if (config.role === "hub") return out;
  if (of?.reversePathFilter === 1)
    out.push(
      found(
        "warning",
        "has a strict reverse path filter (rp_filter is 1): no shortcut is made",
        `\`sysctl net.ipv4.conf.${name}.rp_filter=2\`, and net.ipv4.conf.all.rp_filter at most 2 but not 1`,
      ),
    );
  else if (of?.reversePathFilter === 2 && isLooseInVain(config, facts, name))
    out.push(
      found(
        "warning",
        "has a loose reverse path filter (rp_filter is 2) and no IPv4 address: the kernel drops IPv4 packets that come by it while only the other end has flipped; no shortcut is made",
        `\`sysctl net.ipv4.conf.${name}.rp_filter=0\`, and net.ipv4.conf.all.rp_filter to 0 as well; or an IPv4 address on ${name}`,
      ),
    );
  return out;
}

/**
 * Whether a loose rp_filter is as good as a strict one: without an IPv4 address on the interface the kernel looks no further than
 * the interface itself (__fib_validate_source() in net/ipv4/fib_frontend.c). It does not matter where no IPv4 packets go by it.
 */
function isLooseInVain({ hubs }: Config, { addresses, routes }: HostFacts, name: string): boolean {
  if (addresses.some((a) => a.dev === name && familyOf(a.address) === 4)) return false;
  if (hubs.some((hub) => familyOf(hub) === 4)) return true;
  return routes.some((r) => familyOf(r.prefix) === 4 && r.nextHops.some((n) => n.dev === name));
}

/** This router's address. @param known whether the addresses of all overlay interfaces are */
function identityFindings(
  config: Config,
  facts: HostFacts,
  links: readonly KernelLink[],
  known: boolean,
): HostFinding[] {
  try {
    const { self } = overlayOf(config, facts.links, facts.addresses);
    const onOverlay = links.flatMap((l) => facts.addresses.filter((a) => a.dev === l.name));
    return addressFindings(config, onOverlay, self);
  } catch (e) {
    if (!(e instanceof PortError)) throw e;
    return known || e instanceof ConfigMismatch ? [ofError("overlay", e)] : [];
  }
}

/** Of several addresses one is taken: said where that is a guess. */
function addressFindings(config: Config, onOverlay: readonly PlacedAddress[], self: Address): HostFinding[] {
  const same = onOverlay.filter(
    (a) => familyOf(a.address) === familyOf(self) && !a.address.startsWith("fe80:"),
  );
  const different = [...new Set(same.map((a) => a.address))];
  if (config.address !== undefined || different.length < 2 || same.some((a) => isNear(a, config.hubs)))
    return [];
  const why = config.role === "hub" ? "" : ", and no hub is in the subnet of one";
  return [
    {
      subject: "overlay",
      severity: "warning",
      place: `interface ${config.overlay}`,
      problem: `has the addresses ${different.join(", ")}${why}: ${self} is taken for this router's`,
      remedy: "`address:` in the configuration: the one by which hubs and spokes know this router",
    },
  ];
}

function privilegeFindings(config: Config, { capabilities }: HostFacts): HostFinding[] {
  const has = (bit: number): boolean => ((capabilities >> BigInt(bit)) & 1n) === 1n;
  const remedy = (name: string): string =>
    `\`AmbientCapabilities=\` and \`CapabilityBoundingSet=\` of the unit: add ${name} (doc/shortcutd.service)`;
  const out: HostFinding[] = CAPABILITIES.filter((c) => !has(c.bit)).map((c) => ({
    subject: "process",
    severity: c.severity,
    place: "process",
    problem: `lacks ${c.name}: ${c.lacks}`,
    remedy: remedy(c.name),
  }));
  // WireGuard's own port is bound by the kernel
  const ports = [config.control.port, ...(config.role === "hub" ? [config.direct.observePort] : [])];
  const low = ports.filter((port) => port < FIRST_FREE_PORT);
  if (low.length > 0 && !has(NET_BIND_SERVICE))
    out.push({
      subject: "process",
      severity: "error",
      place: "process",
      problem: `lacks CAP_NET_BIND_SERVICE for UDP port ${low.join(" and ")}`,
      remedy: `a port of ${FIRST_FREE_PORT} or more; or ${remedy("CAP_NET_BIND_SERVICE")}`,
    });
  return out;
}

const keyFindings = ({ key }: HostFacts): HostFinding[] =>
  key.kind === "refused" ? [ofError("key", key.error)] : [];

function passwordFindings({ daemon }: Config, { password }: HostFacts): HostFinding[] {
  if (daemon === undefined || password === undefined || password.kind === "usable") return [];
  if (password.kind === "refused") return [ofError("password", password.error)];
  const name = daemon.kind === "bird" ? "BIRD" : "FRR";
  return [
    {
      subject: "password",
      severity: "warning",
      place: `password ${daemon.password.file}`,
      problem: `does not exist: while shortcutd does not run, any local user can open its sessions with ${name}`,
      remedy: `README, "Give the sessions a password": make the file, and give the password to ${name}`,
    },
  ];
}

/** The direct interface may only exist when it is ours. */
function directFindings(config: Config, { links, direct, key, running }: HostFacts): HostFinding[] {
  const name = config.direct.interface;
  if (running || !links.some((l) => l.name === name)) return [];
  if (direct?.publicKey !== undefined && key.kind === "usable" && direct.publicKey === key.publicKey)
    return [];
  return [
    {
      subject: "direct interface",
      severity: "error",
      place: `interface ${name}`,
      problem: `exists and is not shortcutd's: ${direct === undefined ? "it is not a WireGuard interface" : "its private key is another one"}`,
      remedy: "`direct.interface` in the configuration: a name that no other program uses",
    },
  ];
}

/** Routes and addresses of the router that are inside an alias pool, or around it. */
function poolFindings(config: Config, { routes, addresses }: HostFacts): HostFinding[] {
  const out: HostFinding[] = [];
  const remedy =
    "`aliases` in the configuration, and the same pools in the daemon's: prefixes that nobody uses";
  for (const pool of [config.aliases[4], config.aliases[6]]) {
    if (pool === undefined) continue;
    const place = `alias pool ${pool}`;
    const own = addresses.filter((a) => contains(pool, a.address));
    if (own.length > 0)
      out.push({
        subject: "alias pool",
        severity: "error",
        place,
        problem: `has the address ${own.map((a) => `${a.address} of ${a.dev}`).join(", ")}: it is hidden from this router`,
        remedy,
      });
    const inside = routes.filter((r) => isForeign(r) && contains(pool, r.prefix));
    const around = routes.filter((r) => isForeign(r) && isAround(r, pool));
    if (own.length === 0 && inside.length > 0)
      out.push({
        subject: "alias pool",
        severity: "error",
        place,
        problem: `overlaps the route ${listed(inside)}: aliases would hide what is there`,
        remedy,
      });
    else if (own.length === 0 && around.length > 0)
      out.push({
        subject: "alias pool",
        severity: "warning",
        place,
        problem: `is inside the route ${listed(around)}: aliases would hide what is there`,
        remedy,
      });
  }
  return out;
}

const listed = (routes: readonly KernelRoute[]): string => {
  const names = [...new Set(routes.map((r) => r.prefix))];
  return `${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}`;
};

const isForeign = (r: KernelRoute): boolean =>
  r.protocol !== RTPROT_SHORTCUTD && r.protocol !== RTPROT_FORMER && r.type !== "broadcast";

/** A default route, in whole or in halves, leads everywhere; one that discards has no destination. */
const SHORTEST = 8;
const isAround = (r: KernelRoute, pool: Prefix): boolean =>
  r.type === "unicast" &&
  prefixLength(r.prefix) >= SHORTEST &&
  overlaps(r.prefix, pool) &&
  !contains(pool, r.prefix);

const portFindings = ({ taken }: HostFacts): HostFinding[] =>
  taken.map(({ key, port, address }) => ({
    subject: "port",
    severity: "error",
    place: `UDP port ${port}${address === undefined ? "" : ` of ${address}`}`,
    problem: "is in use by another program",
    remedy: `\`ss -l -u -n -p sport = :${port}\` shows which; or another ${key} in the configuration`,
  }));
