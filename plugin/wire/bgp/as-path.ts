/** AS paths and aggregators from bytes, with two or four octets per AS (RFC 4271 §4.3, RFC 6793). */
import { type Address, addressFromBytes } from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import type { AsPathSegment } from "./attributes.js";
import { Cursor } from "./bytes.js";

export interface Aggregator {
  readonly as: number;
  readonly address: Address;
}

const SEGMENT_TYPES = ["set", "sequence", "confed-sequence", "confed-set"] as const;

export function decodeAsPath(value: Uint8Array, octets: 2 | 4): Result<AsPathSegment[], string> {
  const cursor = new Cursor(value);
  const out: AsPathSegment[] = [];
  while (cursor.left > 0) {
    const typeCode = cursor.u8() ?? 0;
    const count = cursor.u8();
    const type = SEGMENT_TYPES[typeCode - 1];
    if (type === undefined) return err(`unrecognised segment type ${typeCode}`);
    if (count === undefined) return err("one octet is left over");
    if (count === 0) return err("a segment of length zero");
    const ases: number[] = [];
    for (let i = 0; i < count; i++) {
      const as = octets === 2 ? cursor.u16() : cursor.u32();
      if (as === undefined) return err(`a segment of ${count} ASes overruns the attribute`);
      ases.push(as);
    }
    out.push({ type, ases });
  }
  return ok(out);
}

export function decodeAggregator(value: Uint8Array, octets: 2 | 4): Aggregator | undefined {
  const cursor = new Cursor(value);
  if (value.length !== octets + 4) return undefined;
  const as = octets === 2 ? cursor.u16() : cursor.u32();
  return as === undefined ? undefined : { as, address: addressFromBytes(cursor.rest()) };
}

/** Segments count as in RFC 4271 §9.1.2.2 and RFC 5065 §5.3: a set is one, confederation segments are nothing. */
const pathLength = (path: readonly AsPathSegment[]): number =>
  path.reduce((n, s) => n + (s.type === "sequence" ? s.ases.length : s.type === "set" ? 1 : 0), 0);

/** RFC 6793 §4.2.3: the leading part that only AS_PATH has, then AS4_PATH. */
export function mergeAs4Path(
  asPath: readonly AsPathSegment[],
  as4Path: readonly AsPathSegment[],
): readonly AsPathSegment[] {
  const tail = as4Path.filter((s) => s.type === "sequence" || s.type === "set");
  let missing = pathLength(asPath) - pathLength(tail);
  if (missing < 0) return asPath;
  const head: AsPathSegment[] = [];
  for (const s of asPath) {
    if (s.type === "confed-sequence" || s.type === "confed-set") {
      if (missing > 0 || head.length === 0) head.push(s);
      continue;
    }
    if (missing === 0) break;
    const taken = s.type === "sequence" ? s.ases.slice(0, missing) : s.ases;
    head.push({ type: s.type, ases: taken });
    missing -= s.type === "sequence" ? taken.length : 1;
  }
  const last = head.at(-1);
  const first = tail[0];
  if (last?.type === "sequence" && first?.type === "sequence" && last.ases.length + first.ases.length < 256)
    return [
      ...head.slice(0, -1),
      { type: "sequence", ases: [...last.ases, ...first.ases] },
      ...tail.slice(1),
    ];
  return [...head, ...tail];
}
