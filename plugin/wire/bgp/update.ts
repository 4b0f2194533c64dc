/**
 * UPDATE (RFC 4271 §4.3, RFC 4760). Decoding yields one of the four outcomes of RFC 7606, with the reason in words;
 * encoding packs the prefixes that share path attributes into as few messages of at most 4096 bytes as possible.
 *
 *     withdrawn length: 2  withdrawn routes  attributes length: 2  path attributes  NLRI
 *
 * IPv4 routes use the NLRI field with NEXT_HOP, IPv6 routes MP_REACH_NLRI with the global next hop alone.
 */
import { addressBytes, type Family, familyOf } from "../../net/address.js";
import { err, ok, type Result } from "../../net/result.js";
import { concat } from "../bytes.js";
import { ATTRIBUTE, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL } from "./attribute-codes.js";
import type { FaultHandling } from "./attribute-table.js";
import { type Nlri, type PathAttributes, pathAttributes, type UpdateContext } from "./attributes.js";
import { Cursor, u16 } from "./bytes.js";
import { type AttributeFault, type DecodedAttributes, decodeAttributes } from "./decode-attributes.js";
import { encodeAttributes } from "./encode-attributes.js";
import { frame, MAX_MESSAGE, MESSAGE } from "./framer.js";
import { afiOf, decodeNlri, longestNlri, packNlri, SAFI_UNICAST } from "./nlri.js";
import { type Notification, notification } from "./notification.js";

export interface Reach {
  readonly attributes: PathAttributes;
  readonly nlri: readonly Nlri[];
}

/** Apply `withdrawn` first, then `reach`: a prefix in both is announced (RFC 4271 §4.3). */
export interface Update {
  readonly withdrawn: readonly Nlri[];
  readonly reach: readonly Reach[];
  /** The family whose initial routes are complete (RFC 4724 §2). */
  readonly endOfRib: Family | undefined;
}

export type UpdateOutcome =
  | { readonly kind: "ok"; readonly update: Update }
  /** As ok, but without the attributes that `reasons` names. */
  | { readonly kind: "attribute-discard"; readonly update: Update; readonly reasons: readonly string[] }
  /** All that the message announced is in `update.withdrawn`. */
  | { readonly kind: "treat-as-withdraw"; readonly update: Update; readonly reasons: readonly string[] }
  | {
      readonly kind: "session-reset";
      readonly notification: Notification;
      readonly reasons: readonly string[];
    };

const RANK: Readonly<Record<FaultHandling, number>> = {
  "attribute-discard": 1,
  "treat-as-withdraw": 2,
  "session-reset": 3,
};

const reset = (n: Notification, ...reasons: string[]): UpdateOutcome => ({
  kind: "session-reset",
  notification: n,
  reasons,
});

/** RFC 7606 §3 (d): what every announced route must have. */
function missing(decoded: DecodedAttributes, hasNlri: boolean): AttributeFault[] {
  const faults: AttributeFault[] = [];
  const require = (type: number, name: string): void => {
    if (!decoded.present.has(type))
      faults.push({
        handling: "treat-as-withdraw",
        reason: `${name}: missing`,
        notification: notification(3, 3, Uint8Array.of(type)),
      });
  };
  if (!hasNlri && (decoded.mpReach?.nlri.length ?? 0) === 0) return faults;
  require(ATTRIBUTE.ORIGIN, "ORIGIN");
  require(ATTRIBUTE.AS_PATH, "AS_PATH");
  if (hasNlri) require(ATTRIBUTE.NEXT_HOP, "NEXT_HOP");
  return faults;
}

interface Sections {
  readonly withdrawn: readonly Nlri[];
  readonly attributes: Uint8Array;
  readonly nlri: readonly Nlri[];
}

/** Takes the body apart; what is wrong at this level resets the session (RFC 7606 §3). */
function sectionsOf(body: Uint8Array, context: UpdateContext): Sections | { readonly reset: UpdateOutcome } {
  const cursor = new Cursor(body);
  const overrun = (field: string) => ({ reset: reset(notification(3, 1), `${field} overruns the message`) });
  const withdrawnLength = cursor.u16();
  const withdrawnBytes = withdrawnLength === undefined ? undefined : cursor.take(withdrawnLength);
  if (withdrawnBytes === undefined) return overrun("Withdrawn Routes");
  const attributesLength = cursor.u16();
  const attributes = attributesLength === undefined ? undefined : cursor.take(attributesLength);
  if (attributes === undefined) return overrun("Total Path Attribute Length");
  const addPath = context.addPath.has(4);
  const withdrawn = decodeNlri(withdrawnBytes, 4, addPath);
  if (!withdrawn.ok) return { reset: reset(notification(3, 10), `Withdrawn Routes: ${withdrawn.error}`) };
  const nlri = decodeNlri(cursor.rest(), 4, addPath);
  if (!nlri.ok) return { reset: reset(notification(3, 10), `NLRI: ${nlri.error}`) };
  return { withdrawn: withdrawn.value, attributes, nlri: nlri.value };
}

const strictest = (faults: readonly AttributeFault[]): AttributeFault | undefined =>
  faults.reduce<AttributeFault | undefined>(
    (w, f) => (w === undefined || RANK[f.handling] > RANK[w.handling] ? f : w),
    undefined,
  );

/** The announced routes: of IPv4 from the NLRI field, of others from MP_REACH_NLRI. */
function reachOf(nlri: readonly Nlri[], decoded: DecodedAttributes): Reach[] {
  const { attributes, mpReach, nextHop } = decoded;
  const reach: Reach[] = [];
  if (nlri.length > 0 && nextHop !== undefined)
    reach.push({ nlri, attributes: pathAttributes({ ...attributes, nextHop }) });
  if (mpReach !== undefined && mpReach.nlri.length > 0) {
    const { nextHop, linkLocalNextHop } = mpReach;
    reach.push({
      nlri: mpReach.nlri,
      attributes: pathAttributes({ ...attributes, nextHop, linkLocalNextHop }),
    });
  }
  return reach;
}

/** RFC 4724 §2: an empty UPDATE, or nothing but an empty MP_UNREACH_NLRI. */
function endOfRibOf(body: Uint8Array, decoded: DecodedAttributes, prefixes: number): Family | undefined {
  if (body.length === 4) return 4;
  return decoded.present.size === 1 && prefixes === 0 ? decoded.mpUnreach?.family : undefined;
}

/** Decodes the body of an UPDATE. Never throws. */
export function decodeUpdate(body: Uint8Array, context: UpdateContext): UpdateOutcome {
  const sections = sectionsOf(body, context);
  if ("reset" in sections) return sections.reset;
  const { nlri } = sections;
  const decoded = decodeAttributes(sections.attributes, context);
  const { mpReach, mpUnreach } = decoded;
  const faults = [...decoded.faults, ...missing(decoded, nlri.length > 0)];
  const worst = strictest(faults);
  const reasons = faults.map((f) => f.reason);
  const gone = [...sections.withdrawn, ...(mpUnreach?.nlri ?? [])];
  const announced = [...nlri, ...(mpReach?.nlri ?? [])];

  if (worst !== undefined && worst.handling !== "attribute-discard") {
    // RFC 7606 §5.2: without any reachable NLRI it is not certain that the routes to withdraw were all found.
    if (worst.handling === "session-reset" || announced.length === 0)
      return reset(worst.notification, ...reasons);
    const update: Update = { withdrawn: [...gone, ...announced], reach: [], endOfRib: undefined };
    return { kind: "treat-as-withdraw", reasons, update };
  }
  const update: Update = {
    withdrawn: gone,
    reach: reachOf(nlri, decoded),
    endOfRib: endOfRibOf(body, decoded, gone.length + announced.length),
  };
  return worst === undefined ? { kind: "ok", update } : { kind: "attribute-discard", update, reasons };
}

const HEADER = 19;

const updateMessage = (withdrawn: Uint8Array, attributes: Uint8Array, nlri: Uint8Array): Uint8Array =>
  frame(MESSAGE.UPDATE, concat([u16(withdrawn.length), withdrawn, u16(attributes.length), attributes, nlri]));

const NOTHING = new Uint8Array(0);

/** MP attributes always carry the extended length, so that their size does not depend on what is in them. */
const mpAttribute = (type: number, value: Uint8Array): Uint8Array =>
  concat([Uint8Array.of(FLAG_OPTIONAL | FLAG_EXTENDED_LENGTH, type), u16(value.length), value]);

/**
 * Whole messages that announce prefixes of one family with the same attributes. An error, in words, when the next hop is
 * of the other family or the attributes leave no room for a prefix.
 */
export function encodeReach(reach: Reach, context: UpdateContext): Result<Uint8Array[], string> {
  const first = reach.nlri[0];
  if (first === undefined) return ok([]);
  const family = familyOf(first.prefix);
  const addPath = context.addPath.has(family);
  if (familyOf(reach.attributes.nextHop) !== family)
    return err(`next hop ${reach.attributes.nextHop} cannot carry IPv${family} prefixes`);
  const attributes = encodeAttributes(reach.attributes, context, family === 4);
  const mpHead = concat([
    u16(afiOf(family)),
    Uint8Array.of(SAFI_UNICAST, 16),
    family === 6 ? addressBytes(reach.attributes.nextHop) : NOTHING,
    Uint8Array.of(0),
  ]);
  const overhead = HEADER + 4 + attributes.length + (family === 6 ? 4 + mpHead.length : 0);
  const room = MAX_MESSAGE - overhead;
  if (room < longestNlri(family, addPath))
    return err(`${attributes.length} bytes of path attributes leave no room for a prefix`);
  const fields = packNlri(reach.nlri, addPath, room);
  if (family === 4) return ok(fields.map((f) => updateMessage(NOTHING, attributes, f)));
  // RFC 7606 §5.1: MP_REACH_NLRI comes first.
  return ok(
    fields.map((f) => {
      const mp = mpAttribute(ATTRIBUTE.MP_REACH_NLRI, concat([mpHead, f]));
      return updateMessage(NOTHING, concat([mp, attributes]), NOTHING);
    }),
  );
}

/** Whole messages that withdraw prefixes of one family. */
export function encodeWithdrawals(
  family: Family,
  nlri: readonly Nlri[],
  context: UpdateContext,
): Uint8Array[] {
  const addPath = context.addPath.has(family);
  if (family === 4)
    return packNlri(nlri, addPath, MAX_MESSAGE - HEADER - 4).map((f) => updateMessage(f, NOTHING, NOTHING));
  const head = concat([u16(afiOf(family)), Uint8Array.of(SAFI_UNICAST)]);
  return packNlri(nlri, addPath, MAX_MESSAGE - HEADER - 4 - 4 - head.length).map((f) =>
    updateMessage(NOTHING, mpAttribute(ATTRIBUTE.MP_UNREACH_NLRI, concat([head, f])), NOTHING),
  );
}

/** End-of-RIB (RFC 4724 §2). */
export const encodeEndOfRib = (family: Family): Uint8Array =>
  family === 4
    ? updateMessage(NOTHING, NOTHING, NOTHING)
    : updateMessage(
        NOTHING,
        concat([
          Uint8Array.of(FLAG_OPTIONAL, ATTRIBUTE.MP_UNREACH_NLRI, 3),
          u16(afiOf(family)),
          Uint8Array.of(SAFI_UNICAST),
        ]),
        NOTHING,
      );
