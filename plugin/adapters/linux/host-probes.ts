/** {@link HostProbes}: the private key's file, and ports that are tried by binding them for a moment. */
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import type { HostProbes, KeyState, NeededPort, PasswordState } from "../../driver/host-check.js";
import { PortError } from "../../driver/ports.js";
import { familyOf } from "../../net/address.js";
import { readPassword } from "../daemons/password.js";
import { userOfDirectory } from "../process/secret-file.js";
import { socketAnswers } from "../process/status-socket.js";
import { publicKeyOf, readPrivateKey } from "../wireguard/keys.js";

async function readKey(path: string): Promise<KeyState> {
  try {
    const key = readPrivateKey(path, userOfDirectory(path));
    return key === undefined ? { kind: "absent" } : { kind: "usable", publicKey: publicKeyOf(key) };
  } catch (e) {
    if (e instanceof PortError) return { kind: "refused", error: e };
    throw e;
  }
}

function readSessionPassword(at: { readonly file: string; readonly required: boolean }): PasswordState {
  try {
    const password = readPassword(at, userOfDirectory(at.file));
    return { kind: password === undefined ? "absent" : "usable" };
  } catch (e) {
    if (e instanceof PortError) return { kind: "refused", error: e };
    throw e;
  }
}

/** From proc_pid_status(5). */
function capabilities(): bigint {
  const text = readFileSync("/proc/self/status", "utf8");
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(text)?.[1] ?? "0"}`);
}

const refused = (type: "udp4" | "udp6", port: number, address: string | undefined): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket({ type, ipv6Only: type === "udp6" });
    // a family that is switched off is nobody's
    socket.once("error", (e: NodeJS.ErrnoException) => {
      socket.close();
      resolve(e.code === "EADDRINUSE");
    });
    socket.bind({ port, exclusive: true, ...(address === undefined ? {} : { address }) }, () => {
      socket.close();
      resolve(false);
    });
  });

async function isTaken({ port, address }: NeededPort): Promise<boolean> {
  if (address !== undefined) return refused(familyOf(address) === 4 ? "udp4" : "udp6", port, address);
  return (await refused("udp4", port, undefined)) || (await refused("udp6", port, undefined));
}

export const hostProbes = (): HostProbes => ({
  readKey,
  readPassword: readSessionPassword,
  capabilities,
  isTaken,
  isRunning: socketAnswers,
});
