/**
 * The story as a list: what has to happen, on which router, within which time, and what in the
 * kernel shows that it did. The first half is the life of a shortcut that the daemon wants; the
 * second what the operator's policy does to it.
 */
import type { Milestone, Stage } from "../../../plugin/shortcut/events.js";
import type { RouterName } from "../../site/triangle.js";

export type Part = "appears" | "goes" | "returns" | "stops";

export const PARTS: Readonly<Record<Part, { readonly title: string; readonly zero: string }>> = {
  appears: { title: "a shortcut appears", zero: "the threshold was crossed" },
  goes: { title: "the operator's policy refuses it", zero: "the policy was changed" },
  returns: { title: "the policy allows it again", zero: "the policy was changed" },
  stops: { title: "shortcutd stops on all three routers", zero: "SIGTERM" },
};

export interface Step {
  readonly part: Part;
  readonly id: string;
  readonly title: string;
  /** Routers on which it has to happen; with `any`, on one of them. */
  readonly routers: readonly RouterName[];
  readonly any?: true;
  /** The event of `shortcutctl timeline`; undefined when only the kernel is asked. */
  readonly event?: Stage | Milestone;
  /** The kernel state that shows it. */
  readonly kernel: string;
  /** Milliseconds after the step before. */
  readonly deadline: number;
}

const both = ["a", "c"] as const;
const ofTunnel = (part: "appears" | "returns"): Step[] => [
  {
    part,
    id: "peer",
    title: "peer created",
    routers: both,
    event: "peer-created",
    kernel: "WireGuard lists the other spoke's key on the direct interface",
    deadline: 8_000,
  },
  {
    part,
    id: "handshake",
    // No event is asked for: shortcutd polls handshakes, and a proven path overtakes the poll.
    title: "handshake",
    routers: both,
    kernel: "WireGuard's time of the latest handshake",
    deadline: 8_000,
  },
  {
    part,
    id: "proven",
    title: "path proven",
    routers: both,
    event: "path-proven",
    kernel: "WireGuard's transfer counters of the peer, both ways, exceed a full-size packet",
    deadline: 8_000,
  },
  {
    part,
    id: "flipped",
    title: "flipped to direct",
    routers: both,
    event: "flipped",
    kernel: "the FIB sends the other LAN via the direct interface",
    deadline: 5_000,
  },
  {
    part,
    id: "direct",
    title: "traffic goes direct",
    routers: ["b"],
    kernel: "the hub's overlay counters stand still, the underlay carries the flow between A and C",
    deadline: 6_000,
  },
];

export const STEPS: readonly Step[] = [
  {
    part: "appears",
    id: "threshold",
    title: "throughput over threshold",
    routers: both,
    any: true,
    event: "over-threshold",
    kernel: "the hub's overlay interface counters",
    deadline: 15_000,
  },
  {
    part: "appears",
    id: "resolved",
    title: "owner resolved at the hub",
    routers: both,
    any: true,
    event: "resolved",
    kernel: "the hub's FIB and the AllowedIPs of its overlay interface",
    deadline: 8_000,
  },
  {
    part: "appears",
    id: "offered",
    title: "offered to the daemon",
    routers: both,
    event: "offered",
    kernel: "the alias route, via the overlay",
    deadline: 8_000,
  },
  {
    part: "appears",
    id: "selected",
    title: "selected by the daemon",
    routers: both,
    event: "selected",
    kernel: "BIRD: the offer in the blackboard table; FRR: the alias is the only next hop in the FIB",
    deadline: 8_000,
  },
  ...ofTunnel("appears"),
  {
    part: "goes",
    id: "deselected",
    title: "no longer selected",
    routers: ["a"],
    kernel: "BIRD: the offer has left the blackboard table; FRR: the FIB has the hub's next hop",
    deadline: 10_000,
  },
  {
    part: "goes",
    id: "flipped-back",
    title: "flipped back",
    routers: both,
    event: "flipped-back",
    kernel: "the FIB sends the other LAN via the overlay",
    deadline: 5_000,
  },
  {
    part: "goes",
    id: "peer-gone",
    title: "peer removed",
    routers: both,
    event: "peer-removed",
    kernel: "WireGuard lists no peer but the hub on the direct interface",
    deadline: 15_000,
  },
  {
    part: "goes",
    id: "by-hub",
    title: "traffic goes via the hub",
    routers: ["b"],
    kernel: "the hub's overlay counters grow with the flow, the underlay carries nothing between A and C",
    deadline: 6_000,
  },
  {
    part: "goes",
    id: "stays-refused",
    title: "and it stays so",
    routers: ["a"],
    kernel: "every sample of the direct interfaces meanwhile: no peer but the hub",
    deadline: 10_000,
  },
  {
    part: "returns",
    id: "selected",
    title: "selected by the daemon",
    routers: ["a"],
    event: "selected",
    kernel: "BIRD: the offer in the blackboard table; FRR: the alias is the only next hop in the FIB",
    deadline: 45_000,
  },
  ...ofTunnel("returns"),
  {
    part: "stops",
    id: "stopped",
    title: "stopped in order",
    routers: ["a", "b", "c"],
    kernel: "the processes have ended with status 0",
    deadline: 20_000,
  },
  {
    part: "stops",
    id: "as-before",
    title: "the routers are as before",
    routers: ["a", "b", "c"],
    kernel:
      "links, addresses, routes of all tables, rules, nftables, overlay peers: the same as before the start",
    deadline: 10_000,
  },
];

export function stepOf(part: Part, id: string): Step {
  const found = STEPS.find((s) => s.part === part && s.id === id);
  if (found === undefined) throw new RangeError(`no step ${part}/${id}`);
  return found;
}
