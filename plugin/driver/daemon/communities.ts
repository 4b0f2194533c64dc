/**
 * shortcutd's own large communities (RFC 8092), the table of doc/communities.md: functions 1 and 2
 * of the daemon's AS are on offers, function 3 is on the feed, and function 4 on eBGP offers to FRR.
 */

import { type Address, addressBytes } from "../../net/address.js";
import type { OfferClasses, RoundTrip } from "../../shortcut/events.js";
import type { NatPrognosis } from "../../shortcut/reasons.js";
import type { PathAttributes } from "../../wire/bgp/attributes.js";
import {
  type LargeCommunity,
  largeCommunityFromParts,
  largeCommunityParts,
} from "../../wire/bgp/community.js";

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

/** Function 3: the index of the interface that a path of the feed leaves through (BIRD). */
const INTERFACE_FUNCTION = 3;
/** Function 4: the LOCAL_PREF of the path underneath, which an external session does not carry. */
const LOCAL_PREF_FUNCTION = 4;
/** LOCAL_PREF of what an external neighbour announces (the default of FRR). */
const DEFAULT_LOCAL_PREF = 100;

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

/** Returns the index of the interface that the feed's export filter has marked a path with. */
export function interfaceMark(as: number, { largeCommunities }: PathAttributes): number | undefined {
  for (const c of largeCommunities) {
    const [global, local, value] = largeCommunityParts(c);
    if (global === as && local === INTERFACE_FUNCTION) return value;
  }
  return undefined;
}

/** Returns the attributes without the marks that were added for the feed alone. */
export function withoutFeedMarks(as: number, attributes: PathAttributes): PathAttributes {
  const mark = `${as}:${INTERFACE_FUNCTION}:`;
  const { largeCommunities } = attributes;
  if (!largeCommunities.some((c) => c.startsWith(mark))) return attributes;
  return { ...attributes, largeCommunities: largeCommunities.filter((c) => !c.startsWith(mark)) };
}

/** Returns the mark from which the import policy restores a LOCAL_PREF that is not the default. */
export function localPrefMark(as: number, path: PathAttributes | undefined): readonly LargeCommunity[] {
  const localPref = path?.localPref;
  return localPref === undefined || localPref === DEFAULT_LOCAL_PREF
    ? []
    : [largeCommunityFromParts(as, LOCAL_PREF_FUNCTION, localPref)];
}
