/**
 * {@link WireGuardPort} over two backends: the kernel's WireGuard where RTM_NEWLINK knows the kind `wireguard`, else
 * wireguard-go. Which one runs an interface is read from the kernel each time, never remembered: the process may be
 * another one than the one that made it.
 */
import {
  type InterfaceSpec,
  type PeerSpec,
  PortError,
  type WireGuardDevice,
  type WireGuardPort,
} from "../../driver/ports.js";
import type { Address } from "../../net/address.js";
import type { PrivateKey, PublicKey } from "../../net/key.js";
import { EADDRINUSE } from "../../wire/netlink/errno.js";
import type { RawLink } from "../../wire/netlink/link.js";
import {
  WG_GENL_NAME,
  type WireGuardDeviceChange,
  type WireGuardDeviceState,
} from "../../wire/netlink/wireguard.js";
import { encodeRemovePeer, encodeSetDevice, encodeSetPeer } from "../../wire/uapi.js";
import {
  configureLink,
  findLink,
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
  setPeer(name: string, peer: PeerSpec): Promise<void>;
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

  constructor(private readonly options: WireGuardAdapterOptions) {
    this.go = {
      socketDirectory: options.wireguardGo?.socketDirectory ?? "/var/run/wireguard",
      command: options.wireguardGo?.command ?? ["wireguard-go"],
    };
    this.userspace = uapiBackend(this.go);
  }

  async ensure(spec: InterfaceSpec): Promise<{ created: boolean; backend: "kernel" | "uapi" }> {
    checkName(spec.name);
    const created = (await findLink(spec.name)) === undefined;
    if (created) await this.create(spec.name);
    const backend = await this.requireBackend(spec.name);
    try {
      await this.configure(spec, backend);
    } catch (e) {
      if (created) await this.destroy(spec.name).catch(() => undefined);
      throw e;
    }
    return { created, backend: backend.kind };
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
    await (await this.requireBackend(name)).setPeer(name, peer);
  }

  async removePeer(name: string, key: PublicKey): Promise<void> {
    await (await this.requireBackend(name)).removePeer(name, key);
  }

  async destroy(name: string): Promise<void> {
    const pids = wireGuardGoPids(name);
    const link = await findLink(name);
    if (link !== undefined) {
      await this.requireBackend(name);
      await removeLink(link);
    }
    await awaitWireGuardGoEnd(this.go, name, pids);
  }

  /** Undefined when no WireGuard is behind the interface. */
  private async backendOf(link: RawLink): Promise<Backend | undefined> {
    if (link.kind === WG_GENL_NAME) return kernelBackend;
    return (await this.userspace.device(link.name)) === undefined ? undefined : this.userspace;
  }

  private async requireBackend(name: string): Promise<Backend> {
    const link = await requireLink(name);
    const backend = await this.backendOf(link);
    if (backend !== undefined) return backend;
    throw new PortError(
      `interface ${name}`,
      `is ${link.kind ?? "hardware"} and no WireGuard answers for it`,
      "choose another name for the direct interface, or delete the one that is there",
      "EOPNOTSUPP",
    );
  }

  private async create(name: string): Promise<void> {
    if (!(await makeLink(name, WG_GENL_NAME))) await startWireGuardGo(this.go, name);
  }

  private async configure(spec: InterfaceSpec, backend: Backend): Promise<void> {
    const { name } = spec;
    const link = await requireLink(name);
    await setKeyAndPort(spec, backend);
    writeSysctl(4, name, "rp_filter", RP_FILTER_LOOSE);
    for (const [key, value] of [
      ["accept_ra", "0"],
      ["addr_gen_mode", ADDR_GEN_MODE_NONE],
    ] as const)
      if (readSysctl(6, name, key) !== undefined) writeSysctl(6, name, key, value);
    // before it comes up: a change of the VRF takes IPv6 addresses and routes away
    const master = spec.vrf === undefined ? 0 : (await requireLink(spec.vrf)).ifindex;
    if ((link.master ?? 0) !== master) await configureLink(link, { master });
    if (link.mtu !== spec.mtu) await configureLink(link, { mtu: spec.mtu });
    if (!link.up) await configureLink(link, { up: true });
    const skipped = await setAddresses(link, spec.addresses);
    if (skipped.length > 0) this.options.onSkippedAddresses?.(name, skipped);
  }
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
