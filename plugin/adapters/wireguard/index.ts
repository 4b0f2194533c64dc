/**
 * {@link WireGuardPort} over two backends: the kernel's WireGuard where RTM_NEWLINK knows the kind `wireguard`, else
 * wireguard-go. Which one runs an interface is read from the kernel each time, never remembered: the process may be
 * another one than the one that made it.
 */
import { allowedIpsChange } from "../../driver/kernel/allowed-ips.js";
import { ForeignInterface, foreignness } from "../../driver/kernel/ownership.js";
import {
  type Claim,
  type InterfaceSpec,
  type InterfaceState,
  type Owner,
  type PeerSpec,
  PortError,
  type WireGuardDevice,
  type WireGuardPort,
} from "../../driver/ports.js";
import type { Address, Prefix } from "../../net/address.js";
import type { PrivateKey, PublicKey } from "../../net/key.js";
import { EADDRINUSE } from "../../wire/netlink/errno.js";
import type { RawLink } from "../../wire/netlink/link.js";
import {
  WG_GENL_NAME,
  type WireGuardDeviceChange,
  type WireGuardDeviceState,
  type WireGuardPeerChange,
} from "../../wire/netlink/wireguard.js";
import { encodeRemovePeer, encodeSetDevice, encodeSetPeer } from "../../wire/uapi.js";
import {
  configureLink,
  findLink,
  ipv6Of,
  listAddresses,
  listLinks,
  makeLink,
  readSysctl,
  removeLink,
  requireLink,
  setAddresses,
  writeSysctl,
} from "../linux/links.js";
import { NetlinkError } from "../linux/netlink.js";
import { requireFreePort } from "../sockets/datagram.js";
import { genlDevice, genlPrivateKey, genlRemovePeer, genlSetDevice, genlSetPeer } from "./genl.js";
import { generatePrivateKey, publicKeyOf } from "./keys.js";
import {
  awaitWireGuardGoEnd,
  startWireGuardGo,
  uapiDevice,
  uapiPrivateKey,
  uapiSet,
  type WireGuardGo,
  wireGuardGoPids,
} from "./uapi.js";

/** Linux counts the terminating NUL. */
const IFNAMSIZ = 16;
/** RFC 3704 loose mode: the direct interface must accept packets whose way back is still via the hub. */
const RP_FILTER_LOOSE = "2";
/** IN6_ADDR_GEN_MODE_NONE: no link-local address but the one that is derived from the key. */
const ADDR_GEN_MODE_NONE = "1";

interface Backend {
  readonly kind: "kernel" | "uapi";
  device(name: string): Promise<WireGuardDeviceState | undefined>;
  privateKey(name: string): Promise<PrivateKey | undefined>;
  setDevice(name: string, to: WireGuardDeviceChange): Promise<void>;
  setPeer(name: string, peer: WireGuardPeerChange): Promise<void>;
  removePeer(name: string, key: PublicKey): Promise<void>;
}

const kernelBackend: Backend = {
  kind: "kernel",
  device: genlDevice,
  privateKey: genlPrivateKey,
  setDevice: genlSetDevice,
  setPeer: genlSetPeer,
  removePeer: genlRemovePeer,
};

const uapiBackend = (go: WireGuardGo): Backend => ({
  kind: "uapi",
  device: (name) => uapiDevice(go, name),
  privateKey: (name) => uapiPrivateKey(go, name),
  setDevice: (name, to) => uapiSet(go, name, encodeSetDevice(to), "set key and port"),
  setPeer: (name, peer) => uapiSet(go, name, encodeSetPeer(peer), "set a peer"),
  removePeer: (name, key) => uapiSet(go, name, encodeRemovePeer(key), "remove a peer"),
});

export interface WireGuardAdapterOptions {
  readonly wireguardGo?: Partial<WireGuardGo>;
  /** IPv6 is off on the interface, so these addresses were left out. */
  readonly onSkippedAddresses?: (dev: string, addresses: readonly Address[]) => void;
}

function checkName(name: string): void {
  if (name === "" || name.length >= IFNAMSIZ || /[\s/]/.test(name) || name === "." || name === "..")
    throw new PortError(
      `interface ${JSON.stringify(name)}`,
      "is not an interface name",
      `at most ${IFNAMSIZ - 1} characters without blanks and slashes`,
    );
}

/** {@link WireGuardPort} of the network namespace that the process is in. */
export const wireguardAdapter = (options: WireGuardAdapterOptions = {}): WireGuardPort =>
  new WireGuardAdapter(options);

class WireGuardAdapter implements WireGuardPort {
  private readonly go: WireGuardGo;
  private readonly userspace: Backend;
  /** By name, what proves an interface ours. */
  private readonly owners = new Map<string, Owner>();

  constructor(private readonly options: WireGuardAdapterOptions) {
    this.go = {
      socketDirectory: options.wireguardGo?.socketDirectory ?? "/var/run/wireguard",
      command: options.wireguardGo?.command ?? ["wireguard-go"],
    };
    this.userspace = uapiBackend(this.go);
  }

  async ensure(spec: InterfaceSpec): Promise<{ created: boolean; backend: "kernel" | "uapi" }> {
    const claim = await this.claim(spec);
    if (claim.kind === "foreign") throw new ForeignInterface(spec.name, claim.problem);
    const created = claim.kind === "absent";
    if (created) await this.create(spec);
    const { backend } = await this.requireOwn(spec.name);
    try {
      await this.configure(spec, backend);
    } catch (e) {
      if (created) await this.destroy(spec.name).catch(() => undefined);
      throw e;
    }
    return { created, backend: backend.kind };
  }

  async claim(spec: InterfaceSpec): Promise<Claim> {
    checkName(spec.name);
    this.owners.set(spec.name, spec);
    const link = (await findLink(spec.name)) ?? (await this.renamedBack(spec));
    if (link === undefined) return { kind: "absent" };
    const device = await this.device(spec.name);
    const problem = foreignness(spec, { ...link, device });
    if (problem !== undefined) return { kind: "foreign", problem };
    // the link or its WireGuard went while it was read
    if (device === undefined) return { kind: "absent" };
    if (link.alias !== spec.mark) await configureLink(link, { alias: spec.mark });
    return { kind: "ours", state: await stateOf(link, device) };
  }

  /** The interface with our mark that has another name than wanted: it gets the wanted one. */
  private async renamedBack({ name, mark }: InterfaceSpec): Promise<RawLink | undefined> {
    const link = (await listLinks()).find((l) => l.alias === mark);
    if (link === undefined) return undefined;
    // wireguard-go answers on a socket of the name that the interface was made with
    if (link.kind !== WG_GENL_NAME && (await this.userspace.device(name)) === undefined) {
      await removeLink(link);
      return undefined;
    }
    await configureLink(link, { up: false });
    await configureLink(link, { name });
    return findLink(name);
  }

  async device(name: string): Promise<WireGuardDevice | undefined> {
    const link = await findLink(name);
    if (link === undefined) return undefined;
    const state = await (link.kind === WG_GENL_NAME ? kernelBackend : this.userspace).device(name);
    return state === undefined ? undefined : { name, ...state };
  }

  async privateKey(name: string): Promise<PrivateKey | undefined> {
    const link = await findLink(name);
    if (link === undefined) return undefined;
    return (link.kind === WG_GENL_NAME ? kernelBackend : this.userspace).privateKey(name);
  }

  async setPeer(name: string, peer: PeerSpec): Promise<void> {
    const { backend } = await this.requireOwn(name);
    const { allowedIps, ...rest } = peer;
    if (allowedIps === undefined) {
      await backend.setPeer(name, rest);
      return;
    }
    const before = (await backend.device(name))?.peers.find((p) => p.publicKey === peer.publicKey);
    const { add, drop } = allowedIpsChange(allowedIps, before?.allowedIps ?? []);
    await backend.setPeer(name, { ...rest, addAllowedIps: add });
    if (drop.length > 0) await this.discard(backend, name, drop);
  }

  /**
   * Takes AllowedIPs from whichever peer has them: they move to a peer made for it, which is removed with them. (Linux has
   * WGALLOWEDIP_F_REMOVE_ME for it from 6.16 on, wireguard-go has not.)
   */
  private async discard(backend: Backend, name: string, prefixes: readonly Prefix[]): Promise<void> {
    const publicKey = publicKeyOf(generatePrivateKey());
    try {
      await backend.setPeer(name, { publicKey, addAllowedIps: prefixes });
    } finally {
      await backend.removePeer(name, publicKey);
    }
  }

  async removePeer(name: string, key: PublicKey): Promise<void> {
    const { backend } = await this.requireOwn(name);
    await backend.removePeer(name, key);
  }

  async destroy(name: string): Promise<void> {
    const pids = wireGuardGoPids(name);
    if ((await findLink(name)) !== undefined) await removeLink((await this.requireOwn(name)).link);
    await awaitWireGuardGoEnd(this.go, name, pids);
  }

  /** Undefined when no WireGuard is behind the interface. */
  private async backendOf(link: RawLink): Promise<Backend | undefined> {
    if (link.kind === WG_GENL_NAME) return kernelBackend;
    return (await this.userspace.device(link.name)) === undefined ? undefined : this.userspace;
  }

  /** @throws ForeignInterface unless the interface is the one that was claimed. */
  private async requireOwn(name: string): Promise<{ readonly link: RawLink; readonly backend: Backend }> {
    const link = await requireLink(name);
    const backend = await this.backendOf(link);
    const owner = this.owners.get(name);
    if (backend === undefined || owner === undefined)
      throw new ForeignInterface(name, `is ${link.kind ?? "hardware"} and no WireGuard answers for it`);
    // the mark spares a question
    const device = link.alias === owner.mark ? { publicKey: undefined } : await backend.device(name);
    const problem = foreignness(owner, { ...link, device });
    if (problem !== undefined) throw new ForeignInterface(name, problem);
    return { link, backend };
  }

  /** Makes the interface, and marks it at once: it is ours from then on, whatever becomes of its key. */
  private async create({ name, mark }: InterfaceSpec): Promise<void> {
    // one whose interface was deleted is still ending
    await awaitWireGuardGoEnd(this.go, name, wireGuardGoPids(name));
    if (!(await makeLink(name, WG_GENL_NAME))) await startWireGuardGo(this.go, name);
    await configureLink(await requireLink(name), { alias: mark });
  }

  private async configure(spec: InterfaceSpec, backend: Backend): Promise<void> {
    const { name } = spec;
    const link = await requireLink(name);
    await setKeyAndPort(spec, backend);
    // before it comes up: a change of the VRF takes IPv6 addresses and routes away
    const master = spec.vrf === undefined ? 0 : (await requireLink(spec.vrf)).ifindex;
    if ((link.master ?? 0) !== master) await configureLink(link, { master });
    if (link.mtu !== spec.mtu) await configureLink(link, { mtu: spec.mtu });
    // after the MTU: one of 1280 or more brings IPv6 back to the interface, with the settings of `default`
    setSysctls(name);
    if (!link.up) await configureLink(link, { up: true });
    const skipped = await setAddresses(link, spec.addresses);
    if (skipped.length > 0) this.options.onSkippedAddresses?.(name, skipped);
  }
}

function setSysctls(name: string): void {
  writeSysctl(4, name, "rp_filter", RP_FILTER_LOOSE);
  for (const [key, value] of [
    ["accept_ra", "0"],
    ["addr_gen_mode", ADDR_GEN_MODE_NONE],
  ] as const)
    if (readSysctl(6, name, key) !== undefined) writeSysctl(6, name, key, value);
  if (ipv6Of(name) === "off-here") writeSysctl(6, name, "disable_ipv6", "0");
}

async function stateOf(link: RawLink, device: WireGuardDevice): Promise<InterfaceState> {
  const { ifindex, name, up, mtu } = link;
  const { publicKey, listenPort, fwmark, peers } = device;
  const master =
    link.master === undefined || link.master === 0 ? undefined : (await findLink(link.master))?.name;
  const addresses = (await listAddresses(link)).map((a) => ({ address: a.address, length: a.prefixLength }));
  const own = readSysctl(4, name, "rp_filter");
  return {
    ...{ ifindex, up, mtu, master, publicKey, listenPort, fwmark, peers, addresses },
    reversePathFilter: own === undefined ? undefined : Number(own),
    ipv6: ipv6Of(name),
  };
}

async function setKeyAndPort(spec: InterfaceSpec, backend: Backend): Promise<void> {
  const { name } = spec;
  const before = await backend.device(name);
  const portChanges = spec.listenPort !== 0 && before?.listenPort !== spec.listenPort;
  // wireguard-go binds when the interface comes up and does not report that it could not.
  if (portChanges) requireFreePort(spec.listenPort, `listen port of ${name}`);
  try {
    await backend.setDevice(name, {
      privateKey: spec.privateKey,
      ...(portChanges ? { listenPort: spec.listenPort } : {}),
      ...(before?.fwmark === (spec.fwmark ?? 0) ? {} : { fwmark: spec.fwmark ?? 0 }),
    });
  } catch (e) {
    if (e instanceof NetlinkError && e.errno === EADDRINUSE)
      throw new PortError(
        `listen port of ${name}`,
        `UDP port ${spec.listenPort} is in use`,
        "choose another",
        "EADDRINUSE",
      );
    throw e;
  }
}
