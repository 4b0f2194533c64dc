/**
 * {@link DivertPort}: packets with a mark are routed by a table of their own that leads into the overlay.
 * Where both stand already, nothing is written, so that the notifications of one's own changes end.
 */
import { type DivertPort, type DivertSpec, PortError } from "../../driver/ports.js";
import { prefix } from "../../net/address.js";
import { EEXIST, ENOENT } from "../../wire/netlink/errno.js";
import type { NetlinkRequest } from "../../wire/netlink/message.js";
import {
  addRoute,
  decodeRoute,
  dumpRoutes,
  type RawRoute,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  replaceRoute,
} from "../../wire/netlink/route.js";
import { addRule, decodeRule, deleteRule, dumpRules, type MarkRule } from "../../wire/netlink/rule.js";
import { findLink, ipv6Disabled, readSysctl } from "./links.js";
import { NETLINK_ROUTE, NetlinkError, netlinkDump, netlinkRequest } from "./netlink.js";
import { removeRoute } from "./routes.js";

/** Families that the kernel has. */
const families = (): readonly (4 | 6)[] =>
  readSysctl(6, "all", "disable_ipv6") === undefined ? [4] : [4, 6];
const DEFAULT = { 4: prefix("0.0.0.0/0"), 6: prefix("::/0") } as const;

async function unless(errno: number, request: NetlinkRequest, place: string): Promise<void> {
  try {
    await netlinkRequest(NETLINK_ROUTE, request, place);
  } catch (e) {
    if (!(e instanceof NetlinkError && e.errno === errno)) throw e;
  }
}

type TableOfOurs = Pick<DivertSpec, "table" | "protocol">;

/** The metric of the default route. */
const METRIC = 1;

/** The default route of the table that stands in the place of ours. */
async function defaultRoute(family: 4 | 6, table: number): Promise<RawRoute | undefined> {
  const place = `netlink RTM_GETROUTE table ${table}`;
  let found: RawRoute | undefined;
  try {
    await netlinkDump(NETLINK_ROUTE, dumpRoutes(family, table), place, (m) => {
      const route = m.type === RTM_NEWROUTE ? decodeRoute(m.payload) : undefined;
      if (route?.ok === false) throw new PortError(place, `${route.error.at}: ${route.error.problem}`);
      const r = route?.value;
      if (r?.table === table && r.prefix === DEFAULT[family] && r.metric === METRIC) found ??= r;
    });
  } catch (e) {
    // a table that never had a route does not exist
    if (!(e instanceof NetlinkError && e.errno === ENOENT)) throw e;
  }
  return found;
}

/** Leads the table's default route to an interface, in one step where it led to another. */
async function lead(family: 4 | 6, { table, protocol }: TableOfOurs, ifindex: number): Promise<void> {
  const standing = await defaultRoute(family, table);
  const route = { table, prefix: DEFAULT[family], protocol, metric: METRIC, ifindexes: [ifindex] };
  const place = `netlink RTM_NEWROUTE default table ${table}`;
  if (standing === undefined) await unless(EEXIST, addRoute(route), place);
  else if (standing.protocol === protocol && standing.nextHops[0]?.ifindex !== ifindex)
    await netlinkRequest(NETLINK_ROUTE, replaceRoute(route), place);
}

/** Rules of ours that lead into the table. */
async function rulesInto(family: 4 | 6, { table, protocol }: TableOfOurs): Promise<MarkRule[]> {
  const place = `netlink RTM_GETRULE IPv${family}`;
  const out: MarkRule[] = [];
  await netlinkDump(NETLINK_ROUTE, dumpRules(family), place, (m) => {
    const rule = m.type === RTM_NEWRULE ? decodeRule(m.payload) : undefined;
    if (rule?.ok === false) throw new PortError(place, `${rule.error.at}: ${rule.error.problem}`);
    if (rule?.value !== undefined && rule.value.table === table && rule.value.protocol === protocol)
      out.push(rule.value);
  });
  return out;
}

/** {@link DivertPort} of the network namespace that the process is in. */
export const divertAdapter = (): DivertPort => ({
  async ensure(spec) {
    const { mark, priority, protocol, table, to, vrf } = spec;
    if (to === undefined) {
      for (const family of families())
        if ((await defaultRoute(family, table))?.protocol === protocol)
          await removeRoute({ table, prefix: DEFAULT[family], protocol, metric: METRIC });
      return;
    }
    const link = await findLink(to);
    if (link?.up !== true) return;
    for (const family of families()) {
      if (family === 6 && ipv6Disabled(to)) continue;
      await lead(family, spec, link.ifindex);
      const rule = { family, priority, mark, table, vrf, protocol };
      const place = `netlink RTM_NEWRULE ${priority} table ${table}`;
      const [has, ...others] = await rulesInto(family, spec);
      const right = has?.priority === priority && has.mark === mark && has.vrf === vrf && others.length === 0;
      if (right) continue;
      for (const r of await rulesInto(family, spec)) await unless(ENOENT, deleteRule(r), place);
      await unless(EEXIST, addRule(rule), place);
    }
  },
  async remove(spec) {
    const { protocol, table } = spec;
    for (const family of families()) {
      for (const r of await rulesInto(family, spec))
        await unless(ENOENT, deleteRule(r), `netlink RTM_DELRULE table ${table}`);
      await removeRoute({ table, prefix: DEFAULT[family], protocol, metric: METRIC });
    }
  },
});
