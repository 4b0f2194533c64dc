/** {@link BgpPort}: a session of bgp/ over TCP (bgp.ts) as the driver sees it. */
import { Session } from "../../bgp/session.js";
import type { BgpPort } from "../../driver/ports.js";
import { BgpConnection } from "./bgp.js";
import { readPassword } from "./password.js";

export const bgpAdapter = (random: () => number): BgpPort => ({
  open(spec, events) {
    const session = new Session(
      {
        name: spec.name,
        localAs: spec.localAs,
        remoteAs: spec.remoteAs,
        routerId: spec.routerId,
        holdTime: spec.holdTime,
        families: [4, 6],
        addPathReceive: spec.receives,
        askEndOfRib: spec.receives,
        backoff: { minMs: 500, maxMs: 10_000 },
      },
      random,
    );
    const connection = new BgpConnection({
      session,
      localAddress: spec.localAddress,
      remoteAddress: spec.remoteAddress,
      remotePort: spec.port,
      vrf: spec.vrf,
      password: () => spec.password && readPassword(spec.password),
      onState: (s) =>
        events.onState(
          s.kind === "established"
            ? { established: true, reason: "" }
            : { established: false, reason: s.reason },
        ),
      onRoutes: (changes) => events.onRoutes([...new Set(changes.map((c) => c.prefix))]),
      onEndOfRib: (family) => events.onEndOfRib(family),
      onProblem: (_, text) => events.onProblem(text),
      onInternalError: (e) =>
        events.onProblem(`internal error: ${e instanceof Error ? e.message : String(e)}`),
    });
    return {
      rib: session.ribIn,
      speaker: {
        start: () => connection.start(),
        stop: () => connection.stop(),
        announce: (routes) => connection.announce(routes),
        withdraw: (prefixes) => connection.withdraw(prefixes),
      },
    };
  },
});
