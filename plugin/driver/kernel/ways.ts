/**
 * Tells by which path the direct interface's own packets leave for an endpoint. A router may send
 * everything that no other route takes into the overlay (a full tunnel), by its main table or by policy
 * rules with a firewall mark. A tunnel whose packets go through the overlay is not direct, so the kernel
 * is asked, with the mark and the port of the direct interface.
 */
import type { Endpoint } from "../../net/address.js";
import type { Path } from "../../shortcut/events.js";
import type { RoutePort } from "../ports.js";
import { asPortError } from "../runtime/task-queue.js";
import type { FibView } from "./fib-view.js";

export interface WaysConfig {
  /** The mark and the UDP port of the direct interface. */
  readonly mark: number;
  readonly port: number;
  readonly vrf: string | undefined;
}

export class Ways {
  constructor(
    private readonly routes: Pick<RoutePort, "ways">,
    private readonly fib: Pick<FibView, "overlay" | "direct" | "lookup" | "pathOf">,
    private readonly config: WaysConfig,
    private readonly problem: (place: string, text: string) => void,
  ) {}

  to(endpoint: Endpoint): Path {
    let devices: readonly string[];
    try {
      devices = this.routes.ways(endpoint, this.config);
    } catch (e) {
      const { place, message } = asPortError("routes", e);
      this.problem(place, message);
      return "other";
    }
    const { fib, config } = this;
    // any of several next hops may be used
    if (devices.includes(fib.direct)) return "direct";
    if (devices.some((dev) => fib.overlay.has(dev))) return "overlay";
    // a route that leads into the VRF is continued by the VRF's table
    if (config.vrf !== undefined && devices.includes(config.vrf))
      return fib.pathOf(fib.lookup(endpoint.address));
    return devices.length === 0 ? "none" : "other";
  }
}
