/**
 * The hubs' answers about owners: asked page by page (RFC 2332's resolution), valid until they
 * expire, withdrawn by a purge. An answer whose pages do not belong together does not count. A hub
 * that does not answer, or does not know, leads to the next hub.
 */

import { type Address, contains, hostPrefix, type Prefix } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Id64, RequestBody } from "../../wire/control/message.js";
import { generationOf } from "../control/generation.js";
import type { Outcome } from "../control/link.js";
import type { Reason } from "../reasons.js";

/** The prefixes that a hub attests for an owner. */
export interface Attested {
  /** The hub. */
  readonly by: Address;
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
  /** The hub that was asked, if any was. */
  readonly by: Address | undefined;
}

/** The hub's answer about an owner. */
export type Resolution = ({ readonly ok: true } & Attested) | Refusal;

export type Owned = Attested & { readonly owner: Address };

export interface ResolutionHost {
  /** Returns the hubs that answer, the best for a destination first; or why none does. */
  hubs(destination: Prefix): readonly Address[] | Refusal;
  /** Told the prefixes of each answer that is complete. */
  attested(owner: Address, prefixes: readonly Prefix[]): void;
  request(now: number, to: Address, body: RequestBody, done: (now: number, outcome: Outcome) => void): Id64;
}

const MOST_PAGES = 64;
/** Milliseconds for which an answer that has expired is kept: a hub that is away cannot give it again. */
const KEPT = 3_600_000;
const FORGET_EVERY = 60_000;

type Answer = ({ readonly ok: true } & Owned) | Refusal;
type Done = (now: number, r: Answer) => void;
type Question = (page: number) => RequestBody;

const refusal = (by: Address, reason: Reason, unanswered = false): Refusal => ({
  ok: false,
  reason,
  unanswered,
  by,
});

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

  /** Marks a hub's answers as expired: it does not know any more that it gave them. */
  expireBy(now: number, hub: Address): void {
    for (const [owner, a] of this.owners) if (a.by === hub) this.owners.set(owner, { ...a, expires: now });
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

  /**
   * Returns an owner's prefixes through `done`: as known, or after asking a hub, the one first that gave
   * the last answer.
   */
  ofOwner(now: number, owner: Address, done: (now: number, r: Resolution) => void): void {
    const known = this.owners.get(owner);
    if (known !== undefined && known.expires > now) {
      done(now, { ok: true, ...known });
      return;
    }
    const hubs = this.host.hubs(hostPrefix(owner));
    const order =
      "ok" in hubs || known === undefined || !hubs.includes(known.by)
        ? hubs
        : [known.by, ...hubs.filter((h) => h !== known.by)];
    this.ask(now, order, (page) => ({ kind: "resolve-owner", owner, page }), done);
  }

  /** Asks one hub for an owner's prefixes. */
  ofOwnerAt(now: number, hub: Address, owner: Address, done: (now: number, r: Resolution) => void): void {
    this.askHub(now, hub, (page) => ({ kind: "resolve-owner", owner, page }), done);
  }

  /** Finds the owner of a destination. */
  ofDestination(now: number, destination: Prefix, done: Done): void {
    const hubs = this.host.hubs(destination);
    this.ask(now, hubs, (page) => ({ kind: "resolve", destination, page }), done);
  }

  /** Asks one hub after the other until one knows. A hub that did not answer might have known. */
  private ask(now: number, hubs: readonly Address[] | Refusal, question: Question, done: Done): void {
    if ("ok" in hubs) {
      done(now, hubs);
      return;
    }
    const [hub, ...others] = hubs;
    if (hub === undefined) {
      done(now, { ok: false, reason: { kind: "no-hub" }, unanswered: true, by: undefined });
      return;
    }
    this.askHub(now, hub, question, (t, r, final) => {
      if (r.ok || final || others.length === 0) done(t, r);
      else this.ask(t, others, question, (u, next) => done(u, next.ok || next.unanswered ? next : r));
    });
  }

  private askHub(
    now: number,
    hub: Address,
    question: Question,
    done: (now: number, r: Answer, final: boolean) => void,
  ): void {
    const collected: Prefix[] = [];
    const refuse = (t: number, reason: Reason, unanswered = false, final = false): void =>
      done(t, refusal(hub, reason, unanswered), final);
    const collect = (t: number, page: number, o: Outcome): void => {
      if (o.kind === "timeout") refuse(t, { kind: "resolution-unanswered", hub }, true);
      else if (o.body.kind === "refused")
        refuse(t, { kind: "resolution-refused", text: o.body.reason }, false, o.body.code === "ambiguous");
      else if (o.body.kind !== "resolved") refuse(t, { kind: "resolution-unexpected", message: o.body.kind });
      else {
        const { owner, publicKey, generation, lifetime, pages } = o.body;
        collected.push(...o.body.prefixes);
        if (page + 1 < pages && page < MOST_PAGES) next(t, page + 1);
        else if (generationOf(collected) !== generation) refuse(t, { kind: "resolution-changed" }, true);
        else {
          const attested: Attested = { by: hub, publicKey, prefixes: collected, generation };
          this.owners.set(owner, { ...attested, expires: t + lifetime * 1000 });
          this.host.attested(owner, collected);
          done(t, { ok: true, ...attested, owner }, true);
        }
      }
    };
    const next = (t: number, page: number): void => {
      this.host.request(t, hub, question(page), (u, o) => collect(u, page, o));
    };
    next(now, 0);
  }
}
