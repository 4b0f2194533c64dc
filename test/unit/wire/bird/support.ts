/** Replies as BIRD 2.0.12 gave them, byte for byte, in the triangle of the lab. */
import { readFileSync } from "node:fs";
import { type BirdReply, ReplyDecoder } from "../../../../plugin/wire/bird/reply.js";

export const recordedBytes = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`./recorded/${name}.txt`, import.meta.url)));

export function decodeAll(bytes: Uint8Array): readonly BirdReply[] {
  const r = new ReplyDecoder().push(bytes);
  if (!r.ok) throw new Error(JSON.stringify(r.error));
  return r.value;
}

export function recorded(name: string): BirdReply {
  const reply = decodeAll(recordedBytes(name)).at(-1);
  if (reply === undefined) throw new Error(`${name} holds no reply`);
  return reply;
}
