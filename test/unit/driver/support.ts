import { FibView, RTPROT_SHORTCUTD } from "../../../plugin/driver/kernel/fib-view.js";
import { type Address, prefix } from "../../../plugin/net/address.js";
import { InterfaceNames } from "../../../plugin/net/interface-names.js";
import type { KernelRoute } from "../../../plugin/wire/netlink/fib.js";

export const OVERLAY = "wg0";
export const DIRECT = "shortcut0";
export const MAIN = 254;
export const BLACKBOARD = 4242;
const BIRD = 12;
export const BGP = 186;

const INDEX: Readonly<Record<string, number>> = { [OVERLAY]: 3, [DIRECT]: 4, eth0: 2, lo: 1 };

/** `route("10.1.0.0/24", "wg0")`; several devices make a multipath route. */
export function route(
  to: string,
  dev: string | readonly string[],
  given: Partial<KernelRoute> & { readonly gateway?: Address } = {},
): KernelRoute {
  const { gateway, ...rest } = given;
  const devs = typeof dev === "string" ? [dev] : dev;
  return {
    table: MAIN,
    prefix: prefix(to),
    protocol: BIRD,
    metric: 32,
    type: "unicast",
    nextHops: devs.map((d) => ({ ifindex: INDEX[d] ?? 9, dev: d, gateway, dead: false })),
    nexthopId: 0,
    ...rest,
  };
}

export const ours = (to: string, dev: string, given: Partial<KernelRoute> = {}): KernelRoute =>
  route(to, dev, { protocol: RTPROT_SHORTCUTD, metric: 1, ...given });

export function fibOf(...routes: readonly KernelRoute[]): FibView {
  const fib = new FibView(new InterfaceNames([OVERLAY]), DIRECT, MAIN);
  fib.apply({ kind: "snapshot", routes, links: [] });
  return fib;
}
