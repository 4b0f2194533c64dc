/**
 * The BIRD client: what the running BIRD lacks for shortcutd, and whether its session with the hub is up. It can only look: the
 * connection asks BIRD for restricted access first.
 *
 *     npm run build && node dist/doc/examples/bird-client.js /run/bird/bird.ctl 10.255.0.3
 */
import { fileURLToPath } from "node:url";
import { birdClient } from "../../plugin/adapters/daemons/bird.js";
import { address, prefix } from "../../plugin/net/address.js";
import { InterfaceNames } from "../../plugin/net/interface-names.js";

/** What shortcutd's own configuration would say, with its defaults. */
const EXPECTED = {
  overlay: new InterfaceNames(["wg0"]),
  overlayAddresses: [
    { address: address("10.255.0.1"), length: 24 },
    { address: address("fd00:255::1"), length: 64 },
  ],
  hubs: [address("10.255.0.3")],
  direct: "shortcut0",
  routerId: address("127.0.0.2"),
  blackboardTable: 4242,
  aliasPool4: prefix("198.18.0.0/16"),
  aliasPool6: prefix("fd53:4843:5554::/64"),
  offersSource: address("127.0.0.2"),
  feedSource: address("127.0.0.3"),
  localAs: 65000,
  password: undefined,
};

/** @returns a line for the version, for each thing that is missing, and for the session with the hub. */
export async function run(socket: string, hub: string): Promise<string[]> {
  const bird = birdClient({ socket });
  try {
    const { version, findings } = await bird.check(EXPECTED);
    const session = await bird.hubSession([address(hub)]);
    return [
      `BIRD ${version}`,
      ...findings.map((f) => `${f.severity}: ${f.problem}; remedy: ${f.remedy}`),
      `session with ${hub}: ${session}`,
    ];
  } finally {
    await bird.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [socket = "/run/bird/bird.ctl", hub = "10.255.0.3"] = process.argv.slice(2);
  // A PortError names the place, the problem and the remedy.
  await run(socket, hub).then(
    (lines) => console.log(lines.join("\n")),
    (e: unknown) => console.error(e instanceof Error ? e.message : e),
  );
}
