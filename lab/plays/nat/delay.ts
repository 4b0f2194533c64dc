/**
 * Holds every packet that crosses a router for a while, as a distance would: packets that arrive by
 * the given interfaces go into a TUN interface, wait here, and come out of it again to be routed as
 * before. One program in the router's namespace; ends with SIGTERM.
 *   node delay.js MILLISECONDS INTERFACE...
 */
import { execFileSync } from "node:child_process";
import { constants, openSync, readSync, writeSync } from "node:fs";
import koffi from "koffi";
import { pollReadable } from "../../../plugin/adapters/linux/libc.js";

const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x1;
const IFF_NO_PI = 0x1000;
const NAME = "lag0";
const TABLE = "77";

const ioctl = koffi.load("libc.so.6").func("int ioctl(int, unsigned long, _Inout_ void *)");

const [text, ...interfaces] = process.argv.slice(2);
const ms = Number(text);
if (!(ms > 0) || interfaces.length === 0) {
  console.error("usage: delay.js MILLISECONDS INTERFACE...");
  process.exit(2);
}
const fd = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
const request = new Uint8Array(40);
request.set(new TextEncoder().encode(NAME));
new DataView(request.buffer).setUint16(16, IFF_TUN | IFF_NO_PI, true);
if (Number(ioctl(fd, TUNSETIFF, request)) < 0) throw new Error(`TUNSETIFF: errno ${koffi.errno()}`);
const ip = (...words: string[]): void => void execFileSync("ip", words);
ip("link", "set", NAME, "mtu", "1500", "txqueuelen", "10000", "up");
for (const family of ["-4", "-6"]) {
  ip(family, "route", "add", "default", "dev", NAME, "table", TABLE);
  for (const dev of interfaces) ip(family, "rule", "add", "iif", dev, "lookup", TABLE, "priority", "100");
}

const waiting: { readonly due: number; readonly packet: Uint8Array }[] = [];
const buffer = new Uint8Array(2048);
let armed = false;

function release(): void {
  armed = false;
  const now = performance.now();
  for (let first = waiting[0]; first !== undefined && first.due <= now; first = waiting[0]) {
    waiting.shift();
    try {
      writeSync(fd, first.packet);
    } catch {
      // a packet that the kernel does not take is lost, as on any link
    }
  }
  arm();
}

function arm(): void {
  const first = waiting[0];
  if (armed || first === undefined) return;
  armed = true;
  setTimeout(release, Math.max(0, first.due - performance.now()));
}

pollReadable(fd, () => {
  for (;;) {
    let n: number;
    try {
      n = readSync(fd, buffer, 0, buffer.length, null);
    } catch {
      break;
    }
    waiting.push({ due: performance.now() + ms, packet: buffer.slice(0, n) });
  }
  arm();
});
console.log("ready");
