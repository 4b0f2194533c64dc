/**
 * shortcutd's own large communities (RFC 8092), the table of doc/communities.md: functions 1 and 2
 * of the daemon's AS.
 */

import { type Address, addressBytes } from "../../net/address.js";
import type { OfferClasses, RoundTrip } from "../../shortcut/events.js";
import type { NatPrognosis } from "../../shortcut/reasons.js";
import { type LargeCommunity, largeCommunityFromParts } from "../../wire/bgp/community.js";

/** Function 1: the classes of the offer, by value. */
const OFFER_FUNCTION = 1;
const OFFER_VALUE = 1;
const PROSPECT_VALUES: Readonly<Record<NatPrognosis, number>> = {
  likely: 20,
  doubtful: 21,
  hopeless: 22,
};
/** Value of rate class 0; class N has this value plus N. */
const RATE_VALUE = 30;
const ROUND_TRIP_VALUES: Readonly<Record<RoundTrip, number>> = {
  unknown: 40,
  "not-slower": 41,
  slower: 42,
};
/** Function 2: the owner. */
const OWNER_FUNCTION = 2;

/** Returns an IPv4 address as a number; of an IPv6 address, the last 32 bits. */
export const ownerValue = (owner: Address): number =>
  addressBytes(owner)
    .slice(-4)
    .reduce((n, byte) => n * 256 + byte, 0);

export const communitiesOf = (as: number, m: OfferClasses): LargeCommunity[] => [
  ...[OFFER_VALUE, PROSPECT_VALUES[m.natPrognosis], RATE_VALUE + m.rate, ROUND_TRIP_VALUES[m.roundTrip]].map(
    (value) => largeCommunityFromParts(as, OFFER_FUNCTION, value),
  ),
  largeCommunityFromParts(as, OWNER_FUNCTION, ownerValue(m.owner)),
];
