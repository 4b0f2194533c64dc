/**
 * A mirror of part of the kernel's FIB, fed with rtnetlink messages. It exists because notifications alone do not tell
 * what the FIB holds. The kernel removes IPv4 routes *without* RTM_DELROUTE
 *   - when their interface goes down or away (fib_sync_down_dev, net/ipv4/fib_semantics.c),
 *   - when the last IPv4 address of their interface is deleted (fib_inetaddr_event, fib_frontend.c),
 *   - when the address in their RTA_PREFSRC is deleted (fib_sync_down_addr),
 *   - when their nexthop object is deleted; and objects of an interface that loses its carrier are deleted in silence
 *     as well (nexthop_flush_dev, net/ipv4/nexthop.c).
 * The mirror does the same with what it holds, so that no route outlives its disappearance by more than one message.
 *
 * Several routes may share table, prefix and metric (`ip route append`; one fe80::/64 per interface). The first one
 * is the one that forwards, and only that one is reported.
 *
 * Filling: `begin()`, then `load` with every message of the dumps (links, addresses, nexthops, routes, in this order),
 * then `finish()` for the snapshot, then `apply` for every notification, also those that arrived during the dumps.
 */
import { type Address, familyOf } from "../../net/address.js";
import { ok, type Result } from "../../net/result.js";
import type { NetlinkDecodeError } from "./attribute.js";
import type { KernelLink, KernelRoute, RouteEvent } from "./fib.js";
import {
  decodeAddress,
  decodeLink,
  type RawLink,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_NEWADDR,
  RTM_NEWLINK,
} from "./link.js";
import { type NetlinkMessage, NLM_F_APPEND, NLM_F_REPLACE } from "./message.js";
import { decodeNexthop, type NexthopObject, RTM_DELNEXTHOP, RTM_NEWNEXTHOP } from "./nexthop.js";
import { kernelLink, RouteResolver } from "./resolver.js";
import {
  decodeRoute,
  type RawNextHop,
  type RawRoute,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_F_CLONED,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  RTNH_F_DEAD,
  RTNH_F_LINKDOWN,
} from "./route.js";

interface Slot {
  /** Every route with this table, prefix and metric, in the order of the FIB. */
  readonly routes: RawRoute[];
  /** The state that was last reported of it. */
  reported: KernelRoute | undefined;
}

const keyOf = (r: { table: number; prefix: string; metric: number }): string =>
  `${r.table} ${r.prefix} ${r.metric}`;

const sameHop = (a: RawNextHop, b: RawNextHop): boolean => a.ifindex === b.ifindex && a.gateway === b.gateway;

const sameHops = (a: readonly RawNextHop[], b: readonly RawNextHop[]): boolean =>
  a.length === b.length && a.every((x) => b.some((y) => sameHop(x, y)));

const identical = (a: RawRoute, b: RawRoute): boolean =>
  a.protocol === b.protocol &&
  a.type === b.type &&
  a.nexthopId === b.nexthopId &&
  a.prefsrc === b.prefsrc &&
  sameHops(a.nextHops, b.nextHops);

const sameObject = (a: NexthopObject, b: NexthopObject): boolean => {
  if (a.kind === "hop" && b.kind === "hop") return sameHop(a, b);
  if (a.kind === "group" && b.kind === "group")
    return a.members.length === b.members.length && a.members.every((m) => b.members.includes(m));
  return a.kind === b.kind;
};

/** rt6_qualify_for_ecmp: siblings of one IPv6 multipath route are those with a gateway of their own. */
const isIpv6Ecmp = (r: RawRoute): boolean =>
  r.nexthopId === 0 && r.nextHops.length > 0 && r.nextHops.every((h) => h.gateway !== undefined);

const sameRoute = (a: KernelRoute, b: KernelRoute): boolean =>
  a.protocol === b.protocol &&
  a.type === b.type &&
  a.nexthopId === b.nexthopId &&
  a.nextHops.length === b.nextHops.length &&
  a.nextHops.every((x, i) => {
    const y = b.nextHops[i];
    return (
      y !== undefined &&
      x.ifindex === y.ifindex &&
      x.dev === y.dev &&
      x.gateway === y.gateway &&
      x.dead === y.dead
    );
  });

export class FibMirror {
  private slots = new Map<string, Slot>();
  private readonly resolver = new RouteResolver();
  private objectReplaced = false;
  /** IPv4 addresses by interface: the last one that goes takes the interface's routes with it. */
  private addresses = new Map<number, Set<Address>>();
  /** Slots by nexthop object and by interface, so that an event costs what it touches. */
  private byNexthop = new Map<number, Set<string>>();
  private readonly tables: ReadonlySet<number>;

  constructor(
    tables: readonly number[],
    private readonly keep: (route: KernelRoute) => boolean,
  ) {
    this.tables = new Set(tables);
  }

  /** Forgets everything: a dump follows. */
  begin(): void {
    this.slots = new Map();
    this.resolver.clear();
    this.addresses = new Map();
    this.byNexthop = new Map();
  }

  /** One message of a dump. Other message types are passed over. */
  load(m: NetlinkMessage): Result<void, NetlinkDecodeError> {
    switch (m.type) {
      case RTM_NEWADDR: {
        const a = decodeAddress(m.payload);
        if (!a.ok) return a;
        if (a.value !== undefined) this.addAddress(a.value.ifindex, a.value.address);
        return ok(undefined);
      }
      case RTM_NEWROUTE: {
        const route = decodeRoute(m.payload);
        if (!route.ok) return route;
        if (route.value !== undefined && this.concerns(route.value) && this.isKept(route.value))
          this.slotFor(route.value).routes.push(route.value);
        return ok(undefined);
      }
      default:
        return this.resolver.load(m);
    }
  }

  /** The dump is complete: the snapshot that it amounts to. */
  finish(): RouteEvent {
    const routes: KernelRoute[] = [];
    for (const slot of this.slots.values()) {
      slot.reported = this.headOf(slot);
      if (slot.reported !== undefined) routes.push(slot.reported);
    }
    return { kind: "snapshot", routes, links: this.links() };
  }

  /** One notification. Several events when a link or a nexthop object takes routes with it. */
  // eslint-disable-next-line complexity -- one case for each type of message
  apply(m: NetlinkMessage): Result<RouteEvent[], NetlinkDecodeError> {
    switch (m.type) {
      case RTM_NEWLINK:
      case RTM_DELLINK: {
        const link = decodeLink(m.payload);
        if (!link.ok) return link;
        return ok(link.value === undefined ? [] : this.link(link.value, m.type === RTM_DELLINK));
      }
      case RTM_NEWADDR:
      case RTM_DELADDR: {
        const a = decodeAddress(m.payload);
        if (!a.ok) return a;
        if (a.value === undefined) return ok([]);
        const { ifindex, address } = a.value;
        const gone = m.type === RTM_DELADDR;
        const dev = this.resolver.links.get(ifindex)?.name;
        const event: RouteEvent[] = dev === undefined ? [] : [{ kind: "address", dev, address, gone }];
        if (gone) return ok([...event, ...this.addressGone(ifindex, address)]);
        this.addAddress(ifindex, address);
        return ok(event);
      }
      case RTM_NEWNEXTHOP:
      case RTM_DELNEXTHOP: {
        const object = decodeNexthop(m.payload);
        if (!object.ok) return object;
        if (m.type === RTM_NEWNEXTHOP) {
          const before = this.resolver.objects.get(object.value.id);
          if (before !== undefined && !sameObject(before, object.value)) this.objectReplaced = true;
          this.resolver.objects.set(object.value.id, object.value);
          return ok(this.refresh(this.slotsOfNexthop(object.value.id)));
        }
        return ok(this.objectsGone([object.value.id]));
      }
      case RTM_NEWROUTE:
      case RTM_DELROUTE: {
        const route = decodeRoute(m.payload);
        if (!route.ok) return route;
        if (route.value === undefined) return ok([]);
        if (!this.concerns(route.value)) return ok([{ kind: "elsewhere" }]);
        if (m.type === RTM_NEWROUTE) this.insert(route.value, m.flags);
        else this.remove(route.value);
        return ok(this.refresh([keyOf(route.value)]));
      }
      case RTM_NEWRULE:
      case RTM_DELRULE:
        return ok([{ kind: "elsewhere" }]);
      default:
        return ok([]);
    }
  }

  /**
   * Whether a nexthop object changed since the last call. Routes that `keep` refused are not held, so one that it would accept
   * *now* is not known; unless the kernel repeats routes of changed objects (net.ipv4.nexthop_compat_mode), only a
   * dump finds them.
   */
  takeObjectReplaced(): boolean {
    const was = this.objectReplaced;
    this.objectReplaced = false;
    return was;
  }

  /** The routes as last reported. */
  *routes(): IterableIterator<KernelRoute> {
    for (const slot of this.slots.values()) if (slot.reported !== undefined) yield slot.reported;
  }

  links(): KernelLink[] {
    return [...this.resolver.links.values()].map(kernelLink);
  }

  private concerns(r: RawRoute): boolean {
    return this.tables.has(r.table) && r.tos === 0 && (r.flags & RTM_F_CLONED) === 0;
  }

  private isKept(r: RawRoute): boolean {
    return this.keep(this.resolver.resolve(r));
  }

  private slotFor(r: RawRoute): Slot {
    const key = keyOf(r);
    let slot = this.slots.get(key);
    if (slot === undefined) {
      slot = { routes: [], reported: undefined };
      this.slots.set(key, slot);
    }
    if (r.nexthopId !== 0) {
      const users = this.byNexthop.get(r.nexthopId);
      if (users === undefined) this.byNexthop.set(r.nexthopId, new Set([key]));
      else users.add(key);
    }
    return slot;
  }

  /**
   * RTM_NEWROUTE. NLM_F_REPLACE takes the place of the first (IPv6: the first of its kind), NLM_F_APPEND goes to the
   * end, neither goes to the front (fib_table_insert). An IPv6 notification repeats a multipath route as a whole.
   */
  private insert(r: RawRoute, flags: number): void {
    const existing = this.slots.get(keyOf(r))?.routes ?? [];
    // A notification of before a dump repeats what the dump showed; the kernel never holds two identical routes.
    let at = existing.findIndex((x) => identical(x, r));
    if (at >= 0) {
      existing[at] = r;
      return;
    }
    const replaces = (flags & NLM_F_REPLACE) !== 0;
    if (r.family === 4) at = replaces && existing.length > 0 ? 0 : -1;
    else if (isIpv6Ecmp(r)) at = existing.findIndex(isIpv6Ecmp);
    else if (replaces) at = existing.findIndex((x) => !isIpv6Ecmp(x));
    // fib6_add_rt2node: with nothing of its own kind to replace, the first one has to go.
    if (at < 0 && replaces && existing.length > 0) at = 0;
    if (!this.isKept(r)) {
      if (at >= 0) existing.splice(at, 1);
      return;
    }
    const { routes } = this.slotFor(r);
    if (at >= 0) routes[at] = r;
    else if (r.family === 6 || (flags & NLM_F_APPEND) !== 0) routes.push(r);
    else routes.unshift(r);
  }

  /** RTM_DELROUTE. IPv6 may delete single hops of a multipath route; IPv4 names the route by its attributes. */
  private remove(r: RawRoute): void {
    const slot = this.slots.get(keyOf(r));
    if (slot === undefined) return;
    const exact = slot.routes.findIndex(
      (x) =>
        x.protocol === r.protocol &&
        x.nexthopId === r.nexthopId &&
        // The hops of an object may have changed since.
        (r.nexthopId !== 0 || sameHops(x.nextHops, r.nextHops)),
    );
    if (exact >= 0) {
      slot.routes.splice(exact, 1);
      return;
    }
    if (r.family === 6 && isIpv6Ecmp(r)) {
      const at = slot.routes.findIndex(isIpv6Ecmp);
      const x = slot.routes[at];
      if (x === undefined) return;
      const left = x.nextHops.filter((h) => !r.nextHops.some((g) => sameHop(g, h)));
      if (left.length === 0) slot.routes.splice(at, 1);
      else slot.routes[at] = { ...x, nextHops: left };
    }
  }

  private slotsOfNexthop(id: number): Set<string> {
    const keys = new Set(this.byNexthop.get(id));
    for (const object of this.resolver.objects.values())
      if (object.kind === "group" && object.members.includes(id))
        for (const key of this.byNexthop.get(object.id) ?? []) keys.add(key);
    return keys;
  }

  private objectsGone(ids: readonly number[]): RouteEvent[] {
    const touched = new Set<string>();
    for (const id of ids) {
      for (const key of this.slotsOfNexthop(id)) touched.add(key);
      this.resolver.objects.delete(id);
    }
    for (const object of [...this.resolver.objects.values()]) {
      if (object.kind !== "group" || !object.members.some((m) => ids.includes(m))) continue;
      const members = object.members.filter((m) => !ids.includes(m));
      if (members.length === 0) this.resolver.objects.delete(object.id);
      else this.resolver.objects.set(object.id, { ...object, members });
    }
    for (const key of touched) {
      const routes = this.slots.get(key)?.routes ?? [];
      for (let i = routes.length - 1; i >= 0; i--) {
        const id = routes[i]?.nexthopId ?? 0;
        if (id !== 0 && !this.resolver.objects.has(id)) routes.splice(i, 1);
      }
    }
    return this.refresh(touched);
  }

  private addAddress(ifindex: number, a: Address): void {
    if (familyOf(a) !== 4) return;
    const known = this.addresses.get(ifindex);
    if (known === undefined) this.addresses.set(ifindex, new Set([a]));
    else known.add(a);
  }

  private addressGone(ifindex: number, a: Address): RouteEvent[] {
    if (familyOf(a) !== 4) return [];
    const left = this.addresses.get(ifindex);
    left?.delete(a);
    const elsewhere = [...this.addresses.values()].some((s) => s.has(a));
    const events = elsewhere ? [] : this.drop((r) => r.family === 4 && r.prefsrc === a);
    if (left !== undefined && left.size > 0) return events;
    // Routes through nexthop objects stay: fib_sync_down_dev knows only hops that are inline.
    return [...events, ...this.killHops(ifindex, (r) => r.family === 4)];
  }

  private link(next: RawLink, gone: boolean): RouteEvent[] {
    const before = this.resolver.links.get(next.ifindex);
    if (gone) {
      this.resolver.links.delete(next.ifindex);
      this.addresses.delete(next.ifindex);
    } else this.resolver.links.set(next.ifindex, next);
    const events: RouteEvent[] = [];
    const changed =
      gone ||
      before === undefined ||
      before.up !== next.up ||
      before.mtu !== next.mtu ||
      before.master !== next.master ||
      before.name !== next.name;
    const formerName = before === undefined || before.name === next.name ? undefined : before.name;
    if (changed)
      events.push({ kind: "link", link: kernelLink(gone ? { ...next, up: false } : next), gone, formerName });
    const isDown = gone || !next.up;
    if (isDown || !next.carrier) {
      const lost = [...this.resolver.objects.values()].filter(
        (o) => o.kind === "hop" && o.ifindex === next.ifindex,
      );
      if (lost.length > 0) events.push(...this.objectsGone(lost.map((o) => o.id)));
    }
    // An unregistered device takes multipath routes along as a whole; one that is down leaves them their other hops.
    if (gone) events.push(...this.drop((r) => r.nextHops.some((h) => h.ifindex === next.ifindex)));
    else if (isDown) events.push(...this.killHops(next.ifindex, () => true));
    else if (before === undefined || before.carrier !== next.carrier || before.up !== next.up)
      events.push(...this.reviveHops(next.ifindex, next.carrier));
    else if (before.name !== next.name) events.push(...this.refresh(this.slots.keys()));
    return events;
  }

  private drop(of: (r: RawRoute) => boolean): RouteEvent[] {
    const touched: string[] = [];
    for (const [key, slot] of this.slots) {
      const before = slot.routes.length;
      for (let i = before - 1; i >= 0; i--) {
        const r = slot.routes[i];
        if (r !== undefined && of(r)) slot.routes.splice(i, 1);
      }
      if (slot.routes.length !== before) touched.push(key);
    }
    return this.refresh(touched);
  }

  /** RTNH_F_DEAD on every hop by the interface; a route whose hops are all dead is flushed. */
  private killHops(ifindex: number, of: (r: RawRoute) => boolean): RouteEvent[] {
    const touched: string[] = [];
    for (const [key, slot] of this.slots) {
      for (let i = slot.routes.length - 1; i >= 0; i--) {
        const r = slot.routes[i];
        if (r === undefined || r.nexthopId !== 0 || !of(r) || !r.nextHops.some((h) => h.ifindex === ifindex))
          continue;
        const nextHops = r.nextHops.map((h) =>
          h.ifindex === ifindex ? { ...h, flags: h.flags | RTNH_F_DEAD } : h,
        );
        if (nextHops.every((h) => (h.flags & RTNH_F_DEAD) !== 0)) slot.routes.splice(i, 1);
        else slot.routes[i] = { ...r, nextHops };
        touched.push(key);
      }
    }
    return this.refresh(touched);
  }

  /** fib_sync_up: the interface is up; without carrier its hops stay RTNH_F_LINKDOWN. */
  private reviveHops(ifindex: number, carrier: boolean): RouteEvent[] {
    const touched: string[] = [];
    for (const [key, slot] of this.slots)
      for (const [i, r] of slot.routes.entries()) {
        if (!r.nextHops.some((h) => h.ifindex === ifindex)) continue;
        const nextHops = r.nextHops.map((h) =>
          h.ifindex === ifindex
            ? { ...h, flags: (h.flags & ~(RTNH_F_DEAD | RTNH_F_LINKDOWN)) | (carrier ? 0 : RTNH_F_LINKDOWN) }
            : h,
        );
        slot.routes[i] = { ...r, nextHops };
        touched.push(key);
      }
    return this.refresh(touched);
  }

  private headOf(slot: Slot): KernelRoute | undefined {
    const head = slot.routes[0];
    return head === undefined ? undefined : this.resolver.resolve(head);
  }

  /** Compares the slots with what was reported of them. */
  private refresh(keys: Iterable<string>): RouteEvent[] {
    const events: RouteEvent[] = [];
    for (const key of new Set(keys)) {
      const slot = this.slots.get(key);
      if (slot === undefined) continue;
      const before = slot.reported;
      const now = this.headOf(slot);
      const kept = now !== undefined && this.keep(now) ? now : undefined;
      slot.reported = kept;
      if (slot.routes.length === 0) {
        this.slots.delete(key);
        if (before !== undefined) this.byNexthop.get(before.nexthopId)?.delete(key);
      }
      if (kept !== undefined && (before === undefined || !sameRoute(before, kept)))
        events.push({ kind: "set", route: kept });
      else if (kept === undefined && before !== undefined) events.push({ kind: "gone", route: before });
    }
    return events;
  }
}
