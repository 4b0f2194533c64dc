/**
 * An attack of a host of the site: sends many tiny datagrams that the router's policy drops, so that it looks as if the direct
 * path did not carry what is forwarded.
 *   drops.js TARGET PORT COUNT
 * Nothing else is sent meanwhile. The time to live of echo replies tells by how many routers they came: the hub is one more. Ends
 * with 0 when they come as before, with 1 when the traffic has left the direct path.
 */
import { spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";

const [target = "", portText = "", countText = ""] = process.argv.slice(2);
const count = Number(countText);
/** Datagrams of one burst, and milliseconds between two: the router looks at its counters in between. */
const BURST = 200;
const PAUSE_MS = 100;

/** The time to live of the replies of the last of some pings. */
function ttl(): number | undefined {
  const { stdout } = spawnSync("ping", ["-n", "-c", "5", "-i", "0.2", "-W", "2", target], {
    encoding: "utf8",
  });
  const found = [...stdout.matchAll(/ttl=(\d+)/g)].at(-1)?.[1];
  return found === undefined ? undefined : Number(found);
}

const before = ttl();
const socket = createSocket(target.includes(":") ? "udp6" : "udp4");
let sent = 0;
function finish(): void {
  const after = ttl();
  console.log(`${sent} datagrams; time to live ${before ?? "unknown"}, then ${after ?? "unknown"}`);
  process.exitCode = before !== undefined && before === after ? 0 : 1;
  socket.close();
}
function burst(): void {
  for (let i = 0; i < BURST && sent < count; i++, sent++)
    socket.send("x", Number(portText), target, () => undefined);
  setTimeout(sent < count ? burst : finish, PAUSE_MS);
}
burst();
