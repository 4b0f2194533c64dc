/** {@link HostProbes}: the private key's file, and ports that are tried by binding them for a moment. */
import { createSocket } from "node:dgram";
import type { HostProbes, KeyState, NeededPort } from "../../driver/host-check.js";
import { PortError } from "../../driver/ports.js";
import { familyOf } from "../../net/address.js";
import { socketAnswers } from "../process/status-socket.js";
import { publicKeyOf, readPrivateKey } from "../wireguard/keys.js";

async function readKey(path: string): Promise<KeyState> {
  try {
    const key = await readPrivateKey(path);
    return key === undefined ? { kind: "absent" } : { kind: "usable", publicKey: publicKeyOf(key) };
  } catch (e) {
    if (e instanceof PortError) return { kind: "refused", error: e };
    throw e;
  }
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

export const hostProbes = (): HostProbes => ({ readKey, isTaken, isRunning: socketAnswers });
