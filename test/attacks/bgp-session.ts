/**
 * An attack: opens the BGP session that a routing daemon keeps for shortcutd, as a local user without
 * privileges, and announces routes of its choice as offers.
 *   bgp-session.js UID SOURCE TARGET OWN_AS PASSWORD [PREFIX=NEXT_HOP]...
 * PASSWORD `-` means none. Prints `established` when the session is up and stays until it is killed.
 * Ends with 0 when the daemon refuses it, or does not answer twice.
 */
import { BgpConnection } from "../../plugin/adapters/daemons/bgp.js";
import { Session } from "../../plugin/bgp/session.js";
import { address, prefix } from "../../plugin/net/address.js";
import { pathAttributes } from "../../plugin/wire/bgp/attributes.js";
import { largeCommunity } from "../../plugin/wire/bgp/community.js";

const [uid = "", source = "", target = "", as = "", password = "-", ...routes] = process.argv.slice(2);
process.setgroups?.([]);
process.setgid?.(Number(uid));
process.setuid?.(Number(uid));

/** Of the labs. */
const DAEMON_AS = 65000;
/** Tries that fail before the attack counts as refused. */
const TRIES = 2;
let failures = 0;
const session = new Session(
  {
    name: "attack",
    localAs: Number(as),
    remoteAs: DAEMON_AS,
    routerId: address("127.0.0.2"),
    holdTime: 9,
    families: [4, 6],
    addPathReceive: false,
    askEndOfRib: false,
    backoff: { minMs: 100, maxMs: 1_000 },
  },
  Math.random,
);
const connection = new BgpConnection({
  session,
  localAddress: address(source),
  remoteAddress: address(target),
  remotePort: 179,
  password: () => (password === "-" ? undefined : password),
  onState: (s) => {
    if (s.kind === "established") console.log("established");
  },
  onProblem: (problem, text) => {
    if (problem.kind !== "connect-failed" || ++failures < TRIES) return;
    console.log(`refused: ${text}`);
    process.exit(0);
  },
});
connection.announce(
  routes.map((r) => {
    const [to = "", nextHop = ""] = r.split("=");
    return {
      prefix: prefix(to),
      attributes: pathAttributes({
        nextHop: address(nextHop),
        localPref: 100,
        largeCommunities: [largeCommunity(`${DAEMON_AS}:1:1`)],
      }),
    };
  }),
);
connection.start();
