/** doc/examples/bgp-speaker.ts and bird-client.ts run, against a real BIRD with the shipped configuration of a spoke. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { run as runSpeaker } from "../../doc/examples/bgp-speaker.js";
import { run as runClient } from "../../doc/examples/bird-client.js";
import { address } from "../../plugin/net/address.js";
import { eventually, Namespace } from "./namespace.js";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

/** A BIRD in a namespace, with its control socket in a directory that this process sees too. */
async function bird(
  configuration: (dir: string) => string,
): Promise<{ ns: Namespace; dir: string; birdc: (c: string) => string }> {
  const ns = await Namespace.create();
  cleanups.push(() => ns.destroy());
  const dir = mkdtempSync(join(tmpdir(), "shortcutd-examples-"));
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, "bird.conf"), configuration(dir));
  ns.run("ip", "address", "add", "10.255.0.1/24", "dev", "lo");
  ns.run("bird", "-c", join(dir, "bird.conf"), "-s", join(dir, "ctl"), "-P", join(dir, "pid"));
  const birdc = (c: string): string => ns.run("birdc", "-s", join(dir, "ctl"), ...c.split(" "));
  await eventually("birdc", () => birdc("show status").includes("up and running"));
  cleanups.push(ns.enterNetwork());
  return { ns, dir, birdc };
}

it("the BGP speaker: the daemon gets the route, and its own routes are read", async () => {
  const { dir } = await bird(
    (at) => `
log "${at}/log" all;
router id 10.255.0.1;
protocol device {}
protocol static { ipv4; route 10.99.0.0/24 unreachable; }
protocol bgp example { local as 65000; neighbor 127.0.0.2 as 65000; passive; multihop; rr client;
  graceful restart aware;
  ipv4 { import filter { print net, " ", bgp_large_community; accept; }; export where source = RTS_STATIC; };
}`,
  );
  const said: string[] = [];
  expect(await runSpeaker(address("127.0.0.1"), (line) => said.push(line))).toEqual(["10.99.0.0/24"]);
  expect(said).toContain("established");
  await eventually("BIRD has logged the route", () =>
    /203\.0\.113\.0\/24 .*65000, 1, 1/.test(readFileSync(join(dir, "log"), "utf8")),
  );
});

it("the BIRD client: nothing is missing with the shipped configuration, and a stanza is when it is taken out", async () => {
  const shipped = `
router id 10.255.0.1;
include "${repository}bird-config/shortcut.conf";
protocol device {}
protocol kernel { ipv4 { table fib4; import none; export all; }; }
protocol kernel { ipv6 { table fib6; import none; export all; }; }
protocol bgp hub { local 10.255.0.1 as 65000; neighbor 10.255.0.3 as 65000; multihop; ipv4 { import all; export none; }; }
`;
  const { dir, birdc } = await bird(() => shipped);
  const lines = await runClient(join(dir, "ctl"), "10.255.0.3");
  expect(lines[0]).toMatch(/^BIRD 2\./);
  expect(lines.filter((l) => l.startsWith("error"))).toEqual([]);
  expect(lines.at(-1)).toBe("session with 10.255.0.3: down");
  expect((await runClient(join(dir, "ctl"), "10.255.0.9")).at(-1)).toBe("session with 10.255.0.9: none");

  writeFileSync(join(dir, "bird.conf"), shipped.replace("table fib4; ", ""));
  birdc("configure");
  const broken = await eventually("the finding", async () => {
    const found = (await runClient(join(dir, "ctl"), "10.255.0.3")).filter((l) => l.startsWith("error"));
    return found.length > 0 ? found : undefined;
  });
  expect(broken.join()).toContain("fib4");
});
