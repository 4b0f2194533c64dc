/** Replies as FRR 8.4.4 gave them in the triangle of the lab, without the terminator. */
import { readFileSync } from "node:fs";
import type { Result } from "../../../../plugin/net/result.js";

export const recorded = (name: string): string =>
  readFileSync(new URL(`./recorded/${name}.txt`, import.meta.url), "utf8");

export function must<T>(r: Result<T, unknown>): T {
  if (!r.ok) throw new Error(JSON.stringify(r.error));
  return r.value;
}
