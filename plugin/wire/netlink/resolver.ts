/**
 * Looks up what a route message only names: interfaces by index and nexthop objects by id (linux/nexthop.h). A group's
 * members are resolved in turn; a blackhole object makes a blackhole route.
 */
import { ok, type Result } from "../../net/result.js";
import type { NetlinkDecodeError } from "./attribute.js";
import type { KernelLink, KernelRoute, NextHop } from "./fib.js";
import { decodeLink, type RawLink, RTM_NEWLINK } from "./link.js";
import type { NetlinkMessage } from "./message.js";
import { decodeNexthop, type NexthopObject, RTM_NEWNEXTHOP } from "./nexthop.js";
import { type RawNextHop, type RawRoute, RTNH_F_DEAD, RTNH_F_LINKDOWN } from "./route.js";

/** The kernel allows no group within a group; this bounds what a malformed dump can cost. */
const MAX_GROUP_DEPTH = 4;

export const kernelLink = (l: RawLink): KernelLink => ({
  ifindex: l.ifindex,
  name: l.name,
  up: l.up,
  mtu: l.mtu,
});

export class RouteResolver {
  readonly links = new Map<number, RawLink>();
  readonly objects = new Map<number, NexthopObject>();

  clear(): void {
    this.links.clear();
    this.objects.clear();
  }

  /** Takes in RTM_NEWLINK and RTM_NEWNEXTHOP; passes over everything else. */
  load(m: NetlinkMessage): Result<void, NetlinkDecodeError> {
    if (m.type === RTM_NEWLINK) {
      const link = decodeLink(m.payload);
      if (!link.ok) return link;
      if (link.value !== undefined) this.links.set(link.value.ifindex, link.value);
    } else if (m.type === RTM_NEWNEXTHOP) {
      const object = decodeNexthop(m.payload);
      if (!object.ok) return object;
      this.objects.set(object.value.id, object.value);
    }
    return ok(undefined);
  }

  private hop(h: RawNextHop): NextHop {
    return {
      ifindex: h.ifindex,
      dev: this.links.get(h.ifindex)?.name ?? `if${h.ifindex}`,
      gateway: h.gateway,
      dead: (h.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) !== 0,
    };
  }

  private hopsOfObject(id: number, depth: number): { hops: NextHop[]; blackhole: boolean } | undefined {
    const object = this.objects.get(id);
    if (object === undefined || depth > MAX_GROUP_DEPTH) return undefined;
    switch (object.kind) {
      case "blackhole":
        return { hops: [], blackhole: true };
      case "hop":
        return { hops: [this.hop(object)], blackhole: false };
      case "group": {
        const members = object.members.map((m) => this.hopsOfObject(m, depth + 1));
        return {
          hops: members.flatMap((m) => m?.hops ?? []),
          blackhole: members.some((m) => m?.blackhole === true),
        };
      }
    }
  }

  /** The object's hops where the route names one that is known, else those in the route itself. */
  resolve(r: RawRoute): KernelRoute {
    const object = r.nexthopId === 0 ? undefined : this.hopsOfObject(r.nexthopId, 0);
    const type = object?.blackhole === true && object.hops.length === 0 ? "blackhole" : r.type;
    const forwards = type === "unicast" || type === "local" || type === "broadcast" || type === "other";
    return {
      table: r.table,
      prefix: r.prefix,
      protocol: r.protocol,
      metric: r.metric,
      type,
      // The kernel files unreachable and blackhole IPv6 routes under `lo`; nothing leaves by it.
      nextHops: forwards ? (object?.hops ?? r.nextHops.map((h) => this.hop(h))) : [],
      nexthopId: r.nexthopId,
    };
  }
}
