/** Policy rules: `struct fib_rule_hdr` and its FRA_* attributes (linux/fib_rules.h), as far as a firewall mark needs them. */
import { ok } from "../../net/result.js";
import { Attributes, BodyWriter, type Decoded, malformed } from "./attribute.js";
import { type NetlinkRequest, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from "./message.js";
import { AF_INET, AF_INET6, RTM_DELRULE, RTM_NEWRULE } from "./route.js";

const RTM_GETRULE = 34;
const FR_ACT_TO_TBL = 1;
const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_PROTOCOL = 21;
const HEADER_LENGTH = 12;
const TABLE_UNSPEC = 0;

/** `ip rule add priority N fwmark MARK/MARK lookup TABLE protocol P`. */
export interface MarkRule {
  readonly family: 4 | 6;
  readonly priority: number;
  /** The bits of the mark that must be set. */
  readonly mark: number;
  readonly table: number;
  /** The VRF in which packets arrived; undefined: any. */
  readonly vrf: string | undefined;
  /** RTPROT_* */
  readonly protocol: number;
}

function header(family: 4 | 6, table: number, action: number): BodyWriter {
  const b = new Uint8Array(HEADER_LENGTH);
  b[0] = family === 4 ? AF_INET : AF_INET6;
  b[4] = table < 256 ? table : TABLE_UNSPEC;
  b[7] = action;
  return new BodyWriter().raw(b);
}

function body(r: MarkRule): Uint8Array {
  const w = header(r.family, r.table, FR_ACT_TO_TBL);
  if (r.vrf !== undefined) w.string(FRA_IIFNAME, r.vrf);
  return w
    .u32(FRA_PRIORITY, r.priority)
    .u32(FRA_FWMARK, r.mark)
    .u32(FRA_FWMASK, r.mark)
    .u32(FRA_TABLE, r.table)
    .u8(FRA_PROTOCOL, r.protocol)
    .finish();
}

/** RTM_NEWRULE that answers EEXIST when there is exactly this rule. */
export const addRule = (r: MarkRule): NetlinkRequest => ({
  type: RTM_NEWRULE,
  flags: NLM_F_CREATE | NLM_F_EXCL,
  payload: body(r),
});

/** Deletes the first rule of this priority, table and protocol, whatever it matches. */
export const deleteRule = (r: MarkRule): NetlinkRequest => ({
  type: RTM_DELRULE,
  flags: 0,
  payload: header(r.family, r.table, FR_ACT_TO_TBL)
    .u32(FRA_PRIORITY, r.priority)
    .u32(FRA_TABLE, r.table)
    .u8(FRA_PROTOCOL, r.protocol)
    .finish(),
});

export const dumpRules = (family: 4 | 6): NetlinkRequest => ({
  type: RTM_GETRULE,
  flags: NLM_F_DUMP,
  payload: header(family, TABLE_UNSPEC, 0).finish(),
});

/** The payload of RTM_NEWRULE of a dump. A rule of another family yields `undefined`. */
export function decodeRule(payload: Uint8Array): Decoded<MarkRule | undefined> {
  if (payload.length < HEADER_LENGTH)
    return malformed("fib_rule_hdr", `${payload.length} bytes are too short`);
  const family = payload[0] === AF_INET ? 4 : payload[0] === AF_INET6 ? 6 : undefined;
  if (family === undefined) return ok(undefined);
  const attributes = Attributes.decode(payload, HEADER_LENGTH, "fib_rule_hdr");
  if (!attributes.ok) return attributes;
  const a = attributes.value;
  const protocol = a.bytes(FRA_PROTOCOL)?.[0] ?? 0;
  return ok({
    family,
    priority: a.u32(FRA_PRIORITY) ?? 0,
    mark: a.u32(FRA_FWMARK) ?? 0,
    table: a.u32(FRA_TABLE) ?? payload[4] ?? 0,
    vrf: a.string(FRA_IIFNAME),
    protocol,
  });
}
