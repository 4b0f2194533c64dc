/**
 * The BGP speaker: a session with a daemon, a route announced, and what the daemon sends. Against a BIRD on this machine that has
 *
 *     protocol bgp example { local as 65000; neighbor 127.0.0.2 as 65000; passive; multihop; ipv4 { import all; export all; }; }
 *     npm run build && node dist/doc/examples/bgp-speaker.js 127.0.0.1
 */
import { fileURLToPath } from "node:url";
import { bgpAdapter } from "../../plugin/adapters/daemons/speaker.js";
import { type Address, address, prefix } from "../../plugin/net/address.js";
import { pathAttributes } from "../../plugin/wire/bgp/attributes.js";
import { largeCommunity } from "../../plugin/wire/bgp/community.js";

/** Announces 203.0.113.0/24 to the daemon, and resolves with the prefixes that the daemon has announced by the end of its table. */
export async function run(daemon: Address, say: (line: string) => void): Promise<string[]> {
  const spec = {
    name: "example",
    localAddress: address("127.0.0.2"), // the daemon tells its neighbours apart by this
    remoteAddress: daemon,
    vrf: undefined,
    password: undefined,
    port: 179,
    localAs: 65000,
    remoteAs: 65000,
    routerId: address("127.0.0.2"),
    holdTime: 9,
    receives: true, // ask for all of the daemon's routes, and for the end of its table
  };
  let complete: (() => void) | undefined;
  const endOfTable = new Promise<void>((resolve) => {
    complete = resolve;
  });
  // Nothing here throws: the session dials again after a failure, and says why.
  const { speaker, rib } = bgpAdapter(Math.random).open(spec, {
    onState: (s) => say(s.established ? "established" : `down: ${s.reason}`),
    onRoutes: (prefixes) => say(`${prefixes.length} prefix(es) changed`),
    onEndOfRib: (family) => {
      if (family === 4) complete?.();
    },
    onProblem: (text) => say(text),
  });
  const attributes = pathAttributes({
    nextHop: address("198.18.0.1"),
    localPref: 100,
    largeCommunities: [largeCommunity("65000:1:1")],
  });
  // Announced now or while established: the session keeps its Adj-RIB-Out and sends it whenever it comes up.
  speaker.announce([{ prefix: prefix("203.0.113.0/24"), attributes }]);
  speaker.start();
  await endOfTable;
  const heard = [...rib].map(([p]) => p);
  await speaker.stop(); // sends Cease; the daemon withdraws the route
  return heard;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  console.log(await run(address(process.argv[2] ?? "127.0.0.1"), console.log));
