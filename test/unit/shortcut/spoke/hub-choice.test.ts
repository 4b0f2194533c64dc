/** Shows in which order hubs are asked about a destination. */
import { expect, it } from "vitest";
import { type Address, address, prefix } from "../../../../plugin/net/address.js";
import type { UnderneathVerdict } from "../../../../plugin/shortcut/events.js";
import { byPath } from "../../../../plugin/shortcut/spoke/hub-choice.js";

const [H1, H2, H3] = ["10.255.0.1", "10.255.0.2", "10.255.0.3"].map(address) as [Address, Address, Address];
const SITE = prefix("10.3.0.0/24");
const OWNER = address("10.255.3.1");

/** The order, where each hub has an interface of its own unless it is given. */
const order = (
  under: { readonly nextHop: Address; readonly via: readonly string[] } | undefined,
  fib: Readonly<Record<string, readonly string[]>> = { [H1]: ["wg-1"], [H2]: ["wg-2"], [H3]: ["wg-3"] },
  destination = SITE,
): Address[] => {
  const verdict: UnderneathVerdict =
    under === undefined
      ? { ok: false, reason: { kind: "no-hub" }, gone: true }
      : { ok: true, prefix: SITE, ...under };
  return byPath([H1, H2, H3], destination, { underneath: () => verdict, overlayTo: (to) => fib[to] ?? [] });
};

it.each<[string, ReturnType<typeof order>, Address[]]>([
  [
    "is reached through the interface of the best path",
    order({ nextHop: address("fe80::1"), via: ["wg-2"] }),
    [H2, H1, H3],
  ],
  ["carries a share of equal paths", order({ nextHop: H3, via: ["wg-2", "wg-3"] }), [H3, H2, H1]],
  [
    "is the next hop, where several are reached through one interface",
    order({ nextHop: H2, via: ["wg0"] }, { [H1]: ["wg0"], [H2]: ["wg0"], [H3]: ["wg0"] }),
    [H2, H1, H3],
  ],
  [
    "is first in the configuration, where the next hop is the owner itself",
    order({ nextHop: OWNER, via: ["wg0"] }, { [H1]: ["wg0"], [H2]: ["wg0"], [H3]: ["wg0"] }),
    [H1, H2, H3],
  ],
  [
    "is used by the FIB, where the daemon has no route of its own underneath",
    order(undefined, { [H1]: ["wg-1"], [H2]: ["wg-2"], [OWNER]: ["wg-2"] }, prefix(`${OWNER}/32`)),
    [H2, H1, H3],
  ],
  ["is first in the configuration, where nothing is known", order(undefined), [H1, H2, H3]],
])("the hub that %s is asked first", (_, got, wanted) => {
  expect(got).toEqual(wanted);
});
