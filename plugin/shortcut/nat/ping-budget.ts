/**
 * The budget of pings. The other end names the endpoints to which this router sends, and no endpoint
 * has asked for that before it answers. So the number of datagrams that one owner may cause is limited,
 * and the number that any address receives, whoever named it. A ping that is answered costs nothing:
 * its token is given back. Answers to pings count for the owner alone, since each has been caused by a
 * ping of the same size.
 */
import type { Address } from "../../net/address.js";
import { TokenBuckets } from "../token-buckets.js";

/**
 * A whole attempt with all candidates and without any answer takes some 100, and the next one follows
 * after 35 s.
 */
const PER_OWNER = { perSecond: 4, burst: 160, most: 1_024 };
/** Twice that of an owner, so that one owner alone cannot use up what others need for an address that they share. */
const PER_ADDRESS = { perSecond: 8, burst: 320, most: 4_096 };
/** Tokens of an endpoint that WireGuard tries without a ping: its initiations are larger, and repeated. */
const UNTESTED = 16;

export class PingBudget {
  private readonly owners = new TokenBuckets<Address>(PER_OWNER);
  private readonly addresses = new TokenBuckets<Address>(PER_ADDRESS);

  /** Returns whether a ping, or `count` of them, may be sent to the address on behalf of the owner. */
  spend(now: number, owner: Address, to: Address, count = 1): boolean {
    return this.owners.take(now, owner, count) && this.addresses.take(now, to, count);
  }

  /** Returns whether WireGuard may try an endpoint that no ping has tested. */
  spendUntested(now: number, owner: Address, to: Address): boolean {
    return this.spend(now, owner, to, UNTESTED);
  }

  /** Returns whether a ping of the owner may be answered. */
  answer(now: number, owner: Address): boolean {
    return this.owners.take(now, owner);
  }

  /** Notes that a ping was answered. */
  answered(now: number, owner: Address, from: Address): void {
    this.owners.giveBack(now, owner);
    this.addresses.giveBack(now, from);
  }
}
