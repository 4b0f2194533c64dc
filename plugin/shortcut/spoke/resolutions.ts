/**
 * The hub's answers about owners: asked page by page (RFC 2332's resolution), valid until they
 * expire, withdrawn by a purge. An answer whose pages do not belong together does not count.
 */

import { type Address, contains, type Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Id64, RequestBody } from "../../wire/control/message.js";
import { generationOf } from "../control/generation.js";
import type { Outcome } from "../control/link.js";
import type { Reason } from "../reasons.js";

/** The prefixes that the hub attests for an owner. */
export interface Attested {
  /** The direct key that the owner registered: no other speaks for it. */
  readonly publicKey: PublicKey;
  readonly prefixes: readonly Prefix[];
  readonly generation: Id64;
}

/** The reason why the hub's answer does not help. */
export interface Refusal {
  readonly ok: false;
  readonly reason: Reason;
  /** Whether the hub gave no valid answer, rather than a refusal. */
  readonly unanswered: boolean;
}

/** The hub's answer about an owner. */
export type Resolution = ({ readonly ok: true } & Attested) | Refusal;

export type Owned = Attested & { readonly owner: Address };

export interface ResolutionHost {
  /** Returns a hub that answers, or why none does. */
  hub(): Address | Refusal;
  /** Told the prefixes of each answer that is complete. */
  attested(owner: Address, prefixes: readonly Prefix[]): void;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
}

const MOST_PAGES = 64;
/** Milliseconds for which an answer that has expired is kept: a hub that is away cannot give it again. */
const KEPT = 3_600_000;
const FORGET_EVERY = 60_000;

const refusal = (reason: Reason, unanswered = false): Refusal => ({ ok: false, reason, unanswered });

export class Resolutions {
  private readonly owners = new Map<Address, Attested & { readonly expires: number }>();

  private forgetAt = 0;

  constructor(private readonly host: ResolutionHost) {}

  /** Forgets answers that have expired long ago. */
  handleTimeout(now: number): void {
    if (now < this.forgetAt) return;
    this.forgetAt = now + FORGET_EVERY;
    for (const [owner, { expires }] of this.owners) if (now >= expires + KEPT) this.owners.delete(owner);
  }

  /**
   * Returns when the known answer about an owner expires, in milliseconds; undefined when nothing
   * is known.
   */
  expiresAt(owner: Address): number | undefined {
    return this.owners.get(owner)?.expires;
  }

  /** Returns the owner of a destination, as far as it is known now. */
  ownerOf(now: number, destination: Prefix): Owned | undefined {
    for (const [owner, a] of this.owners)
      if (a.expires > now && a.prefixes.some((p) => contains(p, destination))) return { owner, ...a };
    return undefined;
  }

  /** Marks known answers as expired: they are asked for again before use. */
  expire(now: number, which: Address | "all"): void {
    for (const [owner, a] of this.owners)
      if (which === "all" || which === owner) this.owners.set(owner, { ...a, expires: now });
  }

  /** Restores the earlier answer when the new one is not believed yet. */
  restore(now: number, owner: Address, before: Attested | undefined): void {
    if (before !== undefined) this.owners.set(owner, { ...before, expires: now });
  }

  forget(which: Address | "all"): void {
    if (which === "all") this.owners.clear();
    else this.owners.delete(which);
  }

  known(owner: Address): Attested | undefined {
    return this.owners.get(owner);
  }

  /** Returns an owner's prefixes through `done`: as known, or after asking the hub. */
  ofOwner(now: number, owner: Address, done: (now: number, r: Resolution) => void): void {
    const known = this.owners.get(owner);
    if (known !== undefined && known.expires > now) done(now, { ok: true, ...known });
    else this.ask(now, (page) => ({ kind: "resolve-owner", owner, page }), done);
  }

  /** Finds the owner of a destination. */
  ofDestination(
    now: number,
    destination: Prefix,
    done: (now: number, r: ({ readonly ok: true } & Owned) | Refusal) => void,
  ): void {
    this.ask(now, (page) => ({ kind: "resolve", destination, page }), done);
  }

  private ask(
    now: number,
    question: (page: number) => RequestBody,
    done: (now: number, r: ({ readonly ok: true } & Owned) | Refusal) => void,
  ): void {
    const hub = this.host.hub();
    if (typeof hub !== "string") {
      done(now, hub);
      return;
    }
    const collected: Prefix[] = [];
    const collect = (t: number, page: number, o: Outcome): void => {
      if (o.kind === "timeout") done(t, refusal({ kind: "resolution-unanswered", hub }, true));
      else if (o.body.kind === "refused")
        done(t, refusal({ kind: "resolution-refused", text: o.body.reason }));
      else if (o.body.kind !== "resolved")
        done(t, refusal({ kind: "resolution-unexpected", message: o.body.kind }));
      else {
        const { owner, publicKey, generation, lifetime, pages } = o.body;
        collected.push(...o.body.prefixes);
        if (page + 1 < pages && page < MOST_PAGES) next(t, page + 1);
        else if (generationOf(collected) !== generation)
          done(t, refusal({ kind: "resolution-changed" }, true));
        else {
          this.owners.set(owner, {
            publicKey,
            prefixes: collected,
            generation,
            expires: t + lifetime * 1000,
          });
          this.host.attested(owner, collected);
          done(t, { ok: true, publicKey, prefixes: collected, generation, owner });
        }
      }
    };
    const next = (t: number, page: number): void => {
      this.host.request(t, hub, question(page), (u, o) => collect(u, page, o));
    };
    next(now, 0);
  }
}
