/**
 * The one thing asked of nf_tables by netlink: the elements of a set with their counters (NFT_MSG_GETSETELEM,
 * linux/netfilter/nf_tables.h over linux/netfilter/nfnetlink.h). nfnetlink writes its integers big-endian. Everything
 * else about nftables is configuration, and `nft` writes that.
 */
import { ok } from "../../net/result.js";
import { Attributes, BodyWriter, type Decoded, decodeAttributeList, malformed } from "./attribute.js";
import { type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP } from "./message.js";

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_GETSETELEM = 13;
/** Messages that say that something of a table is gone: the table, a chain, a rule, a set. */
const DELETIONS: ReadonlySet<number> = new Set([2, 5, 8, 11]);
/** In each of them the attribute of this number is the name of the table (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, …). */
const NFTA_ANY_TABLE = 1;
/** Multicast group of nf_tables (NFNLGRP_NFTABLES, linux/netfilter/nfnetlink.h). */
export const NFNLGRP_NFTABLES = 7;
const NFNETLINK_V0 = 0;
const NFGENMSG_LENGTH = 4;
/** Families of tables (linux/netfilter.h). */
export const NFPROTO_INET = 1;
export const NFPROTO_NETDEV = 5;

const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_EXPR = 7;
const NFTA_SET_ELEM_EXPRESSIONS = 11;
const NFTA_DATA_VALUE = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_COUNTER_BYTES = 1;
const NFTA_COUNTER_PACKETS = 2;

/** Returns the name of the table of which a notification says that something was deleted; otherwise undefined. */
export function tableOfDeletion(m: Pick<NetlinkMessage, "type" | "payload">): string | undefined {
  if (m.type >> 8 !== NFNL_SUBSYS_NFTABLES || !DELETIONS.has(m.type & 0xff)) return undefined;
  const decoded = Attributes.decode(m.payload, NFGENMSG_LENGTH, "nf_tables notification");
  return decoded.ok ? decoded.value.string(NFTA_ANY_TABLE) : undefined;
}

/** An element and its counter; elements without a counter are zero. */
export interface SetElement {
  readonly key: Uint8Array;
  readonly bytes: number;
  readonly packets: number;
}

/** Dump of one set of a table. */
export const dumpSetElements = (table: string, set: string, family = NFPROTO_INET): NetlinkRequest => ({
  type: (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETSETELEM,
  flags: NLM_F_DUMP,
  payload: new BodyWriter()
    .raw(Uint8Array.of(family, NFNETLINK_V0, 0, 0))
    .string(NFTA_SET_ELEM_LIST_TABLE, table)
    .string(NFTA_SET_ELEM_LIST_SET, set)
    .finish(),
});

function counterOf(expression: Attributes): { bytes: number; packets: number } | undefined {
  if (expression.string(NFTA_EXPR_NAME) !== "counter") return undefined;
  const data = expression.nested(NFTA_EXPR_DATA);
  if (data === undefined || !data.ok) return undefined;
  return {
    bytes: data.value.be64(NFTA_COUNTER_BYTES) ?? 0,
    packets: data.value.be64(NFTA_COUNTER_PACKETS) ?? 0,
  };
}

/** NFTA_SET_ELEM_EXPR holds a single expression, NFTA_SET_ELEM_EXPRESSIONS a list of several. */
function elementCounter(element: Attributes): Decoded<{ bytes: number; packets: number }> {
  const single = element.nested(NFTA_SET_ELEM_EXPR);
  if (single !== undefined) {
    if (!single.ok) return single;
    const counter = counterOf(single.value);
    if (counter !== undefined) return ok(counter);
  }
  const several = element.bytes(NFTA_SET_ELEM_EXPRESSIONS);
  if (several !== undefined) {
    const list = decodeAttributeList(several, 0, "NFTA_SET_ELEM_EXPRESSIONS");
    if (!list.ok) return list;
    for (const item of list.value) {
      const expression = Attributes.decode(item.payload, 0, "NFTA_LIST_ELEM");
      if (!expression.ok) return expression;
      const counter = counterOf(expression.value);
      if (counter !== undefined) return ok(counter);
    }
  }
  return ok({ bytes: 0, packets: 0 });
}

/** The payload of one NFT_MSG_NEWSETELEM of a dump. */
export function decodeSetElements(payload: Uint8Array): Decoded<SetElement[]> {
  if (payload.length < NFGENMSG_LENGTH) return malformed("nfgenmsg", `${payload.length} bytes are too short`);
  const decoded = Attributes.decode(payload, NFGENMSG_LENGTH, "NFT_MSG_NEWSETELEM");
  if (!decoded.ok) return decoded;
  const list = decoded.value.bytes(NFTA_SET_ELEM_LIST_ELEMENTS);
  if (list === undefined) return ok([]);
  const entries = decodeAttributeList(list, 0, "NFTA_SET_ELEM_LIST_ELEMENTS");
  if (!entries.ok) return entries;
  const out: SetElement[] = [];
  for (const entry of entries.value) {
    const element = Attributes.decode(entry.payload, 0, "NFTA_LIST_ELEM");
    if (!element.ok) return element;
    const key = element.value.nested(NFTA_SET_ELEM_KEY);
    if (key === undefined || !key.ok) return malformed("NFTA_SET_ELEM_KEY", "missing");
    const value = key.value.bytes(NFTA_DATA_VALUE);
    if (value === undefined) return malformed("NFTA_DATA_VALUE", "missing");
    const counter = elementCounter(element.value);
    if (!counter.ok) return counter;
    out.push({ key: value, ...counter.value });
  }
  return ok(out);
}
