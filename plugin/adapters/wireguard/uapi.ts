/**
 * wireguard-go behind its UAPI socket: one connection per request, as wg(8) does it. The process is started so that it
 * outlives shortcutd (its own session, no pipe to us, and its own scope where systemd runs the machine): packets must
 * keep flowing when shortcutd dies.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { unlink } from "node:fs/promises";
import { connect } from "node:net";
import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { PortError } from "../../driver/ports.js";
import { type PrivateKey, privateKeyFromBytes } from "../../net/key.js";
import { errnoName } from "../../wire/netlink/errno.js";
import type { WireGuardDeviceState } from "../../wire/netlink/wireguard.js";
import {
  decodeGetReply,
  decodeSetReply,
  UAPI_GET,
  type UapiDevice,
  uapiReplyComplete,
  withPublicKey,
} from "../../wire/uapi.js";
import { publicKeyOf } from "./keys.js";

export interface WireGuardGo {
  /** Where wireguard-go makes `IFACE.sock`: /var/run/wireguard, compiled in. */
  readonly socketDirectory: string;
  /** Program and arguments; the interface name is appended. */
  readonly command: readonly string[];
}

const REQUEST_DEADLINE_MS = 5_000;
const START_DEADLINE_MS = 10_000;
const END_DEADLINE_MS = 10_000;
const POLL_MS = 10;

/** wireguard-go lets nobody but its own user open its socket. */
const NOT_ALLOWED =
  "shortcutd may not open it: doc/shortcutd.service.d/wireguard-go.conf gives CAP_DAC_OVERRIDE; or run it as wireguard-go's user";

const socketPath = (go: WireGuardGo, name: string): string => `${go.socketDirectory}/${name}.sock`;

/** Undefined when nothing listens there. @throws PortError for any other failure. */
async function exchange(go: WireGuardGo, name: string, request: string): Promise<string | undefined> {
  const path = socketPath(go, name);
  return await new Promise((resolve, reject) => {
    let reply = "";
    const socket = connect(path);
    socket.setEncoding("utf8");
    socket.setTimeout(REQUEST_DEADLINE_MS, () => {
      socket.destroy();
      reject(new PortError(`wireguard-go socket ${path}`, "no answer", "is wireguard-go hung?", "ETIMEDOUT"));
    });
    socket.on("connect", () => socket.write(request));
    socket.on("data", (d: string) => {
      reply += d;
      if (!uapiReplyComplete(reply)) return;
      socket.end();
      resolve(reply);
    });
    socket.on("close", () => {
      reject(new PortError(`wireguard-go socket ${path}`, "closed in the middle of a reply", "", "EPIPE"));
    });
    socket.on("error", (e: Error & { code?: string }) => {
      if (e.code === "ENOENT" || e.code === "ECONNREFUSED") resolve(undefined);
      else reject(new PortError(`wireguard-go socket ${path}`, e.message, NOT_ALLOWED, e.code));
    });
  });
}

/** Asks `get=1`; undefined when no wireguard-go serves the name. */
async function getDevice(go: WireGuardGo, name: string): Promise<UapiDevice | undefined> {
  const reply = await exchange(go, name, UAPI_GET);
  if (reply === undefined) return undefined;
  const device = decodeGetReply(reply);
  if (!device.ok)
    throw new PortError(
      `wireguard-go socket ${socketPath(go, name)}`,
      `line ${device.error.line}: ${device.error.problem}`,
    );
  return device.value;
}

const privateKeyIn = ({ privateKey }: UapiDevice): PrivateKey | undefined =>
  privateKey?.some((b) => b !== 0) === true ? privateKeyFromBytes(privateKey) : undefined;

/** Undefined when no wireguard-go serves the name. */
export async function uapiDevice(go: WireGuardGo, name: string): Promise<WireGuardDeviceState | undefined> {
  const device = await getDevice(go, name);
  if (device === undefined) return undefined;
  const key = privateKeyIn(device);
  return withPublicKey(device, key && publicKeyOf(key));
}

/** Undefined when no wireguard-go serves the name, or the interface has no key. */
export async function uapiPrivateKey(go: WireGuardGo, name: string): Promise<PrivateKey | undefined> {
  const device = await getDevice(go, name);
  return device && privateKeyIn(device);
}

/** A `set=1` request. @throws PortError with the errno that wireguard-go answered. */
export async function uapiSet(go: WireGuardGo, name: string, request: string, what: string): Promise<void> {
  const place = `wireguard-go ${name}: ${what}`;
  const reply = await exchange(go, name, request);
  if (reply === undefined)
    throw new PortError(
      place,
      "nothing listens on its socket",
      "the interface is gone; it will be made again",
      "ENODEV",
    );
  const errno = decodeSetReply(reply);
  if (!errno.ok) throw new PortError(place, errno.error.problem);
  if (errno.value !== 0)
    throw new PortError(
      place,
      errnoName(errno.value),
      errno.value === 98 ? "another program has the UDP port; choose another listen port" : "",
      errnoName(errno.value),
    );
}

/**
 * Starts wireguard-go for a new interface and waits until its socket answers.
 * @throws PortError when it cannot be started or does not answer in time.
 */
export async function startWireGuardGo(go: WireGuardGo, name: string): Promise<void> {
  const [program, ...rest] = [...scope(name), ...go.command, name];
  const place = `wireguard-go ${name}`;
  if (program === undefined) throw new PortError(place, "no command is configured");
  if (!existsSync("/dev/net/tun"))
    throw new PortError(
      place,
      "/dev/net/tun does not exist",
      "load the module `tun`, or use a kernel with WireGuard",
      "ENOENT",
    );
  // There is no such interface here: another network namespace with the same /run has one.
  if ((await exchange(go, name, UAPI_GET)) !== undefined)
    throw new PortError(
      place,
      `a wireguard-go that is not of this network namespace answers on ${socketPath(go, name)}`,
      "choose another name for `direct.interface`, or give each network namespace a /run/wireguard of its own",
      "EADDRINUSE",
    );
  // A socket without its process would be taken for a running one by wireguard-go itself.
  await unlink(socketPath(go, name)).catch(() => undefined);
  const child = spawn(program, rest, {
    detached: true,
    stdio: "ignore",
    env: { PATH: SEARCH_PATH, LOG_LEVEL: "error" },
  });
  let failure: string | undefined;
  child.once("error", (e: Error & { code?: string }) => {
    failure = e.code === "ENOENT" ? `${program} is not installed` : e.message;
  });
  // By default it puts itself into the background: its first process ends with 0 once the interface is there.
  child.once("exit", (code, signal) => {
    if (code !== 0) failure = `${program} ended with ${signal ?? `exit code ${code}`}`;
  });
  child.unref();
  const deadline = performance.now() + START_DEADLINE_MS;
  for (;;) {
    if (failure !== undefined)
      throw new PortError(
        place,
        failure,
        `install wireguard-go, or run \`wireguard-go -f ${name}\` to see why`,
      );
    if ((await exchange(go, name, UAPI_GET)) !== undefined) return;
    if (performance.now() > deadline)
      throw new PortError(
        place,
        "its socket did not appear",
        `run \`wireguard-go -f ${name}\` to see why`,
        "ETIMEDOUT",
      );
    await delay(POLL_MS);
  }
}

const SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Under systemd it gets a scope of its own, where root starts it. Another user may not make one: it stays in the unit, which by
 * KillMode=process leaves it alone, and has the unit's rights and no more.
 */
function scope(name: string): string[] {
  if (!existsSync("/run/systemd/system") || process.geteuid?.() !== 0) return [];
  return ["systemd-run", "--scope", "--quiet", "--collect", `--unit=shortcutd-wireguard-${name}`, "--"];
}

/** Pids of the wireguard-go processes that serve the interface in our network namespace. */
export function wireGuardGoPids(name: string): number[] {
  const ours = readlinkSync("/proc/thread-self/ns/net");
  const out: number[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const argv = readFileSync(`/proc/${entry}/cmdline`, "utf8")
        .split("\0")
        .filter((a) => a !== "");
      if (basename(argv[0] ?? "") !== "wireguard-go" || argv.at(-1) !== name) continue;
      if (readlinkSync(`/proc/${entry}/ns/net`) === ours) out.push(Number(entry));
    } catch {
      // It ended while we looked.
    }
  }
  return out;
}

/** A zombie has no command line. */
function isAlive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
  } catch {
    return false;
  }
}

/** Waits until the processes are gone, then removes a socket that they left. @throws PortError after a deadline. */
export async function awaitWireGuardGoEnd(
  go: WireGuardGo,
  name: string,
  pids: readonly number[],
): Promise<void> {
  const deadline = performance.now() + END_DEADLINE_MS;
  while (pids.some(isAlive)) {
    if (performance.now() > deadline)
      throw new PortError(
        `wireguard-go ${name}`,
        `process ${pids.filter(isAlive).join(", ")} did not end with its interface`,
        "kill it",
        "ETIMEDOUT",
      );
    await delay(POLL_MS);
  }
  if ((await exchange(go, name, UAPI_GET)) === undefined)
    await unlink(socketPath(go, name)).catch(() => undefined);
}
