/**
 * Path attributes, decoded with the error handling of RFC 7606: a fault in one attribute costs the routes of this
 * UPDATE or the attribute, not the session. Each fault names the approach that the RFC prescribes for it; the UPDATE
 * decoder applies the strictest. attribute-table.ts says what each attribute is allowed to be.
 */
import type { Address } from "../../net/address.js";
import { concat } from "../bytes.js";
import { mergeAs4Path } from "./as-path.js";
import { ATTRIBUTE, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL, FLAG_TRANSITIVE } from "./attribute-codes.js";
import {
  type Collected,
  collectNothing,
  type FaultHandling,
  KNOWN_ATTRIBUTES,
  OPTIONAL_TRANSITIVE,
} from "./attribute-table.js";
import { AS_TRANS, type PathAttributes, type UpdateContext } from "./attributes.js";
import { Cursor, u16 } from "./bytes.js";
import type { MpReach, MpUnreach } from "./multiprotocol.js";
import { type Notification, notification } from "./notification.js";

export interface AttributeFault {
  readonly handling: FaultHandling;
  /** In words, with the attribute's name first. */
  readonly reason: string;
  /** The NOTIFICATION to send if the session is reset. */
  readonly notification: Notification;
}

export interface DecodedAttributes {
  /** Valid only when neither `treat-as-withdraw` nor `session-reset` is among the faults. */
  readonly attributes: Omit<PathAttributes, "nextHop" | "linkLocalNextHop">;
  readonly nextHop: Address | undefined;
  readonly mpReach: MpReach | undefined;
  readonly mpUnreach: MpUnreach | undefined;
  /** Types that were present, recognised or not, faulty or not. */
  readonly present: ReadonlySet<number>;
  readonly faults: readonly AttributeFault[];
}

/** Decodes the Path Attributes field of an UPDATE. Never throws; faults are values. */
export function decodeAttributes(bytes: Uint8Array, context: UpdateContext): DecodedAttributes {
  const decoder = new Decoder(context);
  const cursor = new Cursor(bytes);
  let inStep = true;
  while (inStep && cursor.left > 0) inStep = decoder.next(cursor);
  return decoder.finish();
}

/** One attribute as it stands in the UPDATE. */
interface Received {
  readonly flags: number;
  readonly type: number;
  readonly value: Uint8Array;
}

/** The attribute with its header, for the data field of a NOTIFICATION. */
const whole = ({ flags, type, value }: Received): Uint8Array =>
  concat([
    Uint8Array.of(flags, type),
    (flags & FLAG_EXTENDED_LENGTH) !== 0 ? u16(value.length) : Uint8Array.of(value.length),
    value,
  ]);

const carriesNlri = (type: number): boolean =>
  type === ATTRIBUTE.MP_REACH_NLRI || type === ATTRIBUTE.MP_UNREACH_NLRI;

class Decoder {
  private readonly collected: Collected = collectNothing();
  private readonly present = new Set<number>();
  private readonly faults: AttributeFault[] = [];

  constructor(private readonly context: UpdateContext) {}

  private fault(handling: FaultHandling, reason: string, n: Notification): void {
    this.faults.push({ handling, reason, notification: n });
  }

  /** Decodes the next attribute. False when it does not end within the field. */
  next(cursor: Cursor): boolean {
    const flags = cursor.u8() ?? 0;
    const type = cursor.u8();
    const length = (flags & FLAG_EXTENDED_LENGTH) !== 0 ? cursor.u16() : cursor.u8();
    const value = length === undefined ? undefined : cursor.take(length);
    if (type === undefined || value === undefined) {
      // RFC 7606 §4: the NLRI is still found by Total Attribute Length, so the session may live.
      const reason = `attribute ${type ?? "header"}: overruns the path attributes`;
      this.fault("treat-as-withdraw", reason, notification(3, 1));
      return false;
    }
    this.decode({ flags, type, value });
    return true;
  }

  private decode(received: Received): void {
    const { flags, type } = received;
    const known = KNOWN_ATTRIBUTES[type];
    const name = known?.name ?? `attribute ${type}`;
    if (this.present.has(type)) {
      if (carriesNlri(type)) this.fault("session-reset", `${name}: appears twice`, notification(3, 1));
      else this.fault("attribute-discard", `${name}: appears again`, notification(3, 1));
      return;
    }
    this.present.add(type);
    if (known === undefined) {
      this.keepUnknown(received, name);
      return;
    }
    if ((flags & OPTIONAL_TRANSITIVE) !== known.flags) {
      const reason = `${name}: flags 0x${flags.toString(16)}`;
      this.fault("treat-as-withdraw", reason, notification(3, 4, whole(received)));
      // Its NLRI are needed to treat them as withdrawn.
      if (!carriesNlri(type)) return;
    }
    const wrong = known.decode(received.value, this.collected, this.context);
    if (wrong !== undefined)
      this.fault(
        wrong.handling,
        `${name}: ${wrong.problem}`,
        notificationFor(wrong.handling, whole(received)),
      );
  }

  /** RFC 4271 §5: an unrecognised optional transitive attribute is passed on, a well-known one is an error. */
  private keepUnknown(received: Received, name: string): void {
    const { flags, type, value } = received;
    if ((flags & FLAG_OPTIONAL) === 0) {
      const reason = `${name}: unrecognised, but flagged well-known`;
      this.fault("session-reset", reason, notification(3, 2, whole(received)));
    } else if ((flags & FLAG_TRANSITIVE) !== 0) {
      const raw = { flags: flags & ~FLAG_EXTENDED_LENGTH & 0xf0, type, value: value.slice() };
      const { attributes } = this.collected;
      attributes.unknown = [...attributes.unknown, raw];
    }
  }

  finish(): DecodedAttributes {
    mergeAs4(this.collected);
    const { attributes, nextHop, mpReach, mpUnreach } = this.collected;
    return { attributes, nextHop, mpReach, mpUnreach, present: this.present, faults: this.faults };
  }
}

/** RFC 4271 §6.3: the subcode that says best what is wrong; used only when the session is reset. */
function notificationFor(handling: FaultHandling, attribute: Uint8Array): Notification {
  if (handling !== "session-reset") return notification(3, 1);
  return notification(3, 9, attribute);
}

/** RFC 6793 §4.2.3. A true 4-octet aggregator AS makes the AS4 attributes of a 2-octet neighbour obsolete. */
function mergeAs4(collected: Collected): void {
  const { attributes } = collected;
  if (collected.as4Aggregator !== undefined && attributes.aggregator !== undefined) {
    if (attributes.aggregator.as !== AS_TRANS) return;
    attributes.aggregator = collected.as4Aggregator;
  }
  if (collected.as4Path !== undefined) attributes.asPath = mergeAs4Path(attributes.asPath, collected.as4Path);
}
