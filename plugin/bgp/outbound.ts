/**
 * From Adj-RIB-Out to bytes: per family the withdrawals, then the announcements grouped by equal attributes, then
 * End-of-RIB where it is due.
 */
import type { Family } from "../net/address.js";
import { encodeEndOfRib, encodeReach, encodeWithdrawals } from "../wire/bgp/update.js";
import { concat } from "../wire/bytes.js";
import type { Agreement } from "./negotiation.js";
import type { BgpProblem } from "./problem.js";
import type { AdjRibOut } from "./rib.js";

/** Messages are joined up to about this size, so that a full table does not become one write per message. */
const CHUNK_BYTES = 65_536;

function joined(messages: readonly Uint8Array[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let chunk: Uint8Array[] = [];
  let size = 0;
  for (const m of messages) {
    chunk.push(m);
    size += m.length;
    if (size < CHUNK_BYTES) continue;
    chunks.push(concat(chunk));
    chunk = [];
    size = 0;
  }
  if (chunk.length > 0) chunks.push(concat(chunk));
  return chunks;
}

/** Whole messages, joined, for all that is pending in the agreed families; it counts as sent from here on. */
export function updatesFor(
  ribOut: AdjRibOut,
  { families, send }: Agreement,
  endOfRib: ReadonlySet<Family>,
): { readonly chunks: readonly Uint8Array[]; readonly problems: readonly BgpProblem[] } {
  const out: Uint8Array[] = [];
  const problems: BgpProblem[] = [];
  for (const family of families) {
    const { withdrawn, reach } = ribOut.takeDifference(family);
    out.push(...encodeWithdrawals(family, withdrawn, send));
    for (const r of reach) {
      const messages = encodeReach(r, send);
      if (messages.ok) {
        out.push(...messages.value);
        continue;
      }
      const prefixes = r.nlri.map((n) => n.prefix);
      for (const p of prefixes) ribOut.forgetSent(p);
      // Better no route than one that is out of date.
      out.push(...encodeWithdrawals(family, r.nlri, send));
      problems.push({ kind: "unsendable", prefixes, reason: messages.error });
    }
    if (endOfRib.has(family)) out.push(encodeEndOfRib(family));
  }
  return { chunks: joined(out), problems };
}
