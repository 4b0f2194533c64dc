/**
 * Generic netlink (`struct genlmsghdr`, linux/genetlink.h): families are found by name through the controller
 * (GENL_ID_CTRL, CTRL_CMD_GETFAMILY); the answer's number is the message type from then on.
 */
import { ok } from "../../net/result.js";
import { Attributes, BodyWriter, type Decoded, malformed } from "./attribute.js";
import type { NetlinkRequest } from "./message.js";

const GENL_ID_CTRL = 16;
export const GENL_HDRLEN = 4;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;

/** A body that starts with `struct genlmsghdr`. */
export const genlBody = (cmd: number, version: number): BodyWriter =>
  new BodyWriter().raw(Uint8Array.of(cmd, version, 0, 0));

/** CTRL_CMD_GETFAMILY; the kernel answers ENOENT for a family that it does not have (and cannot load). */
export const getFamily = (name: string): NetlinkRequest => ({
  type: GENL_ID_CTRL,
  flags: 0,
  payload: genlBody(CTRL_CMD_GETFAMILY, 1).string(CTRL_ATTR_FAMILY_NAME, name).finish(),
});

/** The number and name in an answer to {@link getFamily}. */
export function decodeFamily(payload: Uint8Array): Decoded<{ readonly id: number; readonly name: string }> {
  if (payload.length < GENL_HDRLEN) return malformed("genlmsghdr", `${payload.length} bytes are too short`);
  const a = Attributes.decode(payload, GENL_HDRLEN, "CTRL_CMD_GETFAMILY");
  if (!a.ok) return a;
  const id = a.value.u16(CTRL_ATTR_FAMILY_ID);
  const name = a.value.string(CTRL_ATTR_FAMILY_NAME);
  if (id === undefined || name === undefined)
    return malformed("CTRL_CMD_GETFAMILY", "no CTRL_ATTR_FAMILY_ID or CTRL_ATTR_FAMILY_NAME");
  return ok({ id, name });
}
