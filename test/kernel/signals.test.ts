/** Signals to a running shortcutd: SIGHUP reloads what it can and says the rest, a repeated SIGTERM does not cut the stop short, and nothing is left behind. */
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { eventually, Namespace } from "./namespace.js";

const MAIN = join(process.cwd(), "dist/plugin/main.js");
const FILE = "/run/hub.yaml";
const HUB = "role: hub\noverlay: wg0\ncontrol: { socket: /run/control.sock }\ndirect: { key: /run/key }\n";

let ns: Namespace;
beforeEach(async () => {
  ns = await Namespace.create();
  ns.sh(
    "ip link add wg0 type veth peer name ve0 && ip addr add 10.255.0.1/24 dev wg0 && ip link set wg0 up && mkdir -p /run/wireguard",
  );
});
afterEach(() => ns.destroy());

const write = (text: string): void => {
  ns.run("sh", "-c", `printf '%s' "$1" > ${FILE}`, "sh", text);
};
const log = (): string => ns.sh("cat /run/log 2> /dev/null || true");
const logged = (text: string): Promise<boolean> => eventually(text, () => log().includes(text), 30_000);
const signal = (name: string): string => ns.sh(`kill -${name} $(cat /run/pid)`);

/** Starts shortcutd; its exit code is in /run/code when it has ended. */
async function start(text: string): Promise<void> {
  write(text);
  const command = `'${process.execPath}' '${MAIN}' run -c ${FILE} > /run/log 2>&1 & echo $! > /run/pid; wait $!; echo $? > /run/code`;
  ns.start("sh", "-c", command);
  await logged('"message":"started"');
}

it("SIGHUP puts a new log level in force, names what needs a restart, and refuses an invalid file", async () => {
  await start(HUB);
  const before = ns.sh("ip -o addr; nft list tables");
  write(`${HUB}log: debug\nlimits: { spokes: 5 }\n`);
  signal("HUP");
  await logged("configuration reloaded");
  expect(log()).toContain('"applied":["log"]');
  expect(log()).toContain("these changed keys have no effect until shortcutd is restarted: limits.spokes");
  write(`${HUB}log: loud\n`);
  signal("HUP");
  await logged("configuration not reloaded, nothing has changed: /run/hub.yaml:5:6: log: must be");
  ns.run("rm", FILE);
  signal("HUP");
  await logged("nothing has changed: /run/hub.yaml: ENOENT");
  expect(ns.sh("ip -o addr; nft list tables")).toBe(before);
});

it("a second SIGTERM and a SIGHUP while it stops are ignored, and the stop leaves nothing behind", async () => {
  const before = ns.sh("ip -o link; nft list tables");
  await start(HUB);
  expect(ns.sh("ip -o link")).toContain("shortcut0");
  ns.sh("p=$(cat /run/pid); kill -TERM $p; kill -INT $p; kill -HUP $p; kill -TERM $p");
  await eventually("the end", () => ns.sh("cat /run/code 2>/dev/null || true") !== "", 30_000);
  expect(ns.sh("cat /run/code").trim()).toBe("0");
  expect(log()).toContain("ignored: already stopping");
  expect(log()).toContain('"message":"stopped"');
  expect(ns.sh("ip -o link; nft list tables")).toBe(before);
});
