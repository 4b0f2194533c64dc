/**
 * Packets that a machine has no room for: userspace WireGuard and two processors are easily too
 * slow for what a lab sends.
 */
import { readFileSync } from "node:fs";
import type { Lab } from "../runner/lab.js";
import { DIRECT, OVERLAY, ROUTERS } from "./triangle.js";

/**
 * Packets that were lost for want of room on this machine, not by any router's decision: in the
 * socket buffers of the routers' userspace WireGuard, and in the queues of its interfaces.
 */
export function fullBuffers(lab: Lab): number {
  let drops = 0;
  for (const node of [...ROUTERS, "host-a", "host-c"]) {
    const { pid } = lab.node(node);
    const [head, values] = readFileSync(`/proc/${pid}/net/snmp`, "utf8")
      .split("\n")
      .filter((l) => l.startsWith("Udp:"));
    const column = head?.split(" ").indexOf("RcvbufErrors") ?? -1;
    if (column >= 0) drops += Number(values?.split(" ")[column] ?? 0);
    for (const line of readFileSync(`/proc/${pid}/net/dev`, "utf8").split("\n")) {
      const [name, counts] = line.split(":");
      // the 12th column: packets that the interface's queue had no room for
      if (name?.trim() === OVERLAY || name?.trim() === DIRECT)
        drops += Number(counts?.trim().split(/\s+/)[11] ?? 0);
    }
  }
  return drops;
}
