import { address, type Family } from "../../../plugin/net/address.js";
import {
  type PathAttributes,
  pathAttributes,
  type UpdateContext,
} from "../../../plugin/wire/bgp/attributes.js";

/** Bytes from hex; blanks and line breaks separate fields. */
export const bytes = (text: string): Uint8Array =>
  Uint8Array.from((text.replaceAll(/\s/g, "").match(/../g) ?? []).map((b) => Number.parseInt(b, 16)));

export const MARKER = "ff".repeat(16);

export const context = (given: Partial<UpdateContext> = {}): UpdateContext => ({
  sessionType: "ibgp",
  fourOctetAs: true,
  families: new Set<Family>([4, 6]),
  addPath: new Set<Family>(),
  ...given,
});

export const attributes = (given: Partial<PathAttributes> = {}): PathAttributes =>
  pathAttributes({ nextHop: address("192.0.2.1"), ...given });

/** Body of an UPDATE from its three fields in hex. */
export function updateBody(withdrawn: string, attrs: string, nlri: string): Uint8Array {
  const [w, a, n] = [bytes(withdrawn), bytes(attrs), bytes(nlri)];
  const length = (b: Uint8Array): number[] => [b.length >> 8, b.length & 0xff];
  return Uint8Array.from([...length(w), ...w, ...length(a), ...a, ...n]);
}
