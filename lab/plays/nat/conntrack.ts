/**
 * Forgets all connections of the network namespace that it runs in, as a NAT that reboots does:
 * IPCTNL_MSG_CT_DELETE without a tuple (linux/netfilter/nfnetlink_conntrack.h), for want of
 * conntrack(8).
 */
import { netlinkRequest } from "../../../plugin/adapters/linux/netlink.js";

const NETLINK_NETFILTER = 12;
const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_DELETE = 2;
/** struct nfgenmsg: any family, version 0. */
const ANY = new Uint8Array(4);

await netlinkRequest(
  NETLINK_NETFILTER,
  { type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, flags: 0, payload: ANY },
  "conntrack flush",
);
