/**
 * The keys that go with a boot ID. A ping names its sender by the boot ID alone, and anybody may have
 * claimed it, so the MAC decides: every key that claims the boot ID is tried, up to a bound, and the
 * key that has proven it before comes first. A member that claims the boot ID of another router thus
 * does not keep that router's pings from being answered.
 */
import type { PublicKey } from "../../net/key.js";
import type { Id64 } from "../../wire/control/message.js";

/** Number of keys that are tried for one ping. */
const MOST_TRIED = 8;

interface Claim {
  readonly bootId: Id64;
  readonly key: PublicKey;
}

/** `Holder` names who claims: one boot ID each. */
export class BootIds<Holder> {
  private readonly byHolder = new Map<Holder, Claim>();
  private readonly byBootId = new Map<Id64, Claim[]>();

  /** Notes the boot ID and the key of a router, in the place of earlier ones. */
  claim(holder: Holder, bootId: Id64, key: PublicKey): void {
    const before = this.byHolder.get(holder);
    if (before?.bootId === bootId && before.key === key) return;
    this.release(holder);
    const claim = { bootId, key };
    this.byHolder.set(holder, claim);
    const others = this.byBootId.get(bootId);
    if (others === undefined) this.byBootId.set(bootId, [claim]);
    else others.push(claim);
  }

  release(holder: Holder): void {
    const claim = this.byHolder.get(holder);
    if (claim === undefined) return;
    this.byHolder.delete(holder);
    const left = this.byBootId.get(claim.bootId)?.filter((c) => c !== claim) ?? [];
    if (left.length === 0) this.byBootId.delete(claim.bootId);
    else this.byBootId.set(claim.bootId, left);
  }

  /** Returns the keys to try, in order. */
  keysOf(bootId: Id64): readonly PublicKey[] {
    return (
      this.byBootId
        .get(bootId)
        ?.slice(0, MOST_TRIED)
        .map((c) => c.key) ?? []
    );
  }

  /** Notes that the holder of the key has proven the boot ID: it is tried first from now on. */
  proven(bootId: Id64, key: PublicKey): void {
    const claims = this.byBootId.get(bootId);
    if (claims === undefined || claims[0]?.key === key) return;
    this.byBootId.set(bootId, [
      ...claims.filter((c) => c.key === key),
      ...claims.filter((c) => c.key !== key),
    ]);
  }
}
