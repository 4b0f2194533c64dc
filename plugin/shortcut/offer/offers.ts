/**
 * The offers of one shortcut, as routes in the daemon and the kernel: the alias next hop of each
 * prefix, and the path that the FIB really uses. An offer stands; or it was withdrawn and is
 * leaving, while the FIB may still use its alias; or an override holds the prefix, because the FIB
 * did not follow. All aliases of one attempt point the same way, those of former next hops too.
 * Actions of the daemon and the kernel are reported here, never assumed.
 */

import { type Address, familyOf, hostPrefix, type Prefix } from "../../net/address.js";
import type {
  Milestone,
  OfferClasses,
  Output,
  Path,
  RouteState,
  RoutingView,
  ShortcutStatus,
  Underneath,
  UnderneathVerdict,
} from "../events.js";
import { describeReason, no, type Reason, type Verdict, YES } from "../reasons.js";
import type { AliasPool } from "./alias-pool.js";
import { sameClasses } from "./offer-classes.js";

/** The services of the engine that offers use. */
export interface OffersHost {
  readonly routing: RoutingView;
  readonly aliases: AliasPool;
  emit(output: Output): void;
}

interface Offer {
  readonly prefix: Prefix;
  readonly alias: Address;
  readonly underneath: Prefix;
  classes: OfferClasses;
  selected: boolean;
  reason: Reason | undefined;
  path: Path;
  /** The refusal that was reported last, in words; empty when none stands. */
  reported: string;
}

const sameInterfaces = (a: readonly string[], b: readonly string[]): boolean =>
  [...a].sort().join() === [...b].sort().join();

const sameHop = (a: Underneath, b: Underneath): boolean =>
  a.nextHop === b.nextHop && sameInterfaces(a.via, b.via);

export class Offers {
  private readonly standing = new Map<Prefix, Offer>();
  /**
   * Withdrawn offers whose alias the FIB still showed: the alias is released when the FIB no longer
   * shows it.
   */
  private readonly leaving = new Map<Prefix, Offer>();
  private readonly overridden = new Set<Prefix>();
  /**
   * Every alias of this attempt, those of former next hops too, since the FIB may still use them; each with
   * the overlay interfaces of its next hop.
   */
  private readonly aliases = new Map<Address, readonly string[]>();
  private to: "overlay" | "direct" = "overlay";

  constructor(
    private readonly host: OffersHost,
    private readonly owner: Address,
    /**
     * Returns the owner whose shortcut offers a prefix, or is still withdrawing its offer. A daemon
     * accepts one offer for a prefix.
     */
    private readonly offeredFor: (prefix: Prefix) => Address | undefined,
  ) {}

  /** Whether no offer stands. */
  get empty(): boolean {
    return this.standing.size === 0;
  }

  /** The prefixes for which an offer stands. */
  get prefixes(): Prefix[] {
    return [...this.standing.keys()];
  }

  /** The classes of the offers that stand. */
  get classes(): OfferClasses | undefined {
    for (const o of this.standing.values()) return o.classes;
    return undefined;
  }

  /** Whether the daemon has selected at least one of them. */
  get selected(): boolean {
    for (const o of this.standing.values()) if (o.selected) return true;
    return false;
  }

  /** Whether the aliases point at the direct interface. */
  get onDirect(): boolean {
    return this.to === "direct";
  }

  /** Whether an override still holds one of the prefixes on the overlay. */
  get overriding(): boolean {
    return this.overridden.size > 0;
  }

  stands(prefix: Prefix): boolean {
    return this.standing.has(prefix);
  }

  /** Returns whether the prefix is offered, still being withdrawn, or overridden. */
  holds(prefix: Prefix): boolean {
    return this.standing.has(prefix) || this.leaving.has(prefix) || this.overridden.has(prefix);
  }

  /** Returns why the daemon selects none of them, in the daemon's terms. */
  refusal(): Reason {
    if (this.empty) return { kind: "no-offer-left" };
    for (const o of this.standing.values()) if (!o.selected && o.reason !== undefined) return o.reason;
    return { kind: "not-selected" };
  }

  /**
   * Offers every attested prefix that has a route of the daemon underneath via the overlay, and
   * withdraws the others. `keepOrphans` keeps those whose route underneath has disappeared. Returns
   * why prefixes are not offered, and the number of orphans.
   */
  update(
    attested: readonly Prefix[],
    classes: OfferClasses,
    keepOrphans = false,
  ): { readonly refusals: Reason[]; readonly orphans: number } {
    const refusals: Reason[] = [];
    const wanted = new Set<Prefix>();
    let orphans = 0;
    const found = new Map<Prefix, UnderneathVerdict>();
    for (const prefix of attested)
      if (prefix !== hostPrefix(this.owner)) found.set(prefix, this.host.routing.underneath(prefix));
    this.follow(found);
    for (const [prefix, under] of found) {
      const offered = under.ok ? this.offer(prefix, under, classes) : under;
      if (offered.ok) wanted.add(prefix);
      else if (keepOrphans && !under.ok && under.gone && this.standing.has(prefix)) {
        wanted.add(prefix);
        orphans++;
      } else refusals.push(offered.reason);
    }
    for (const offer of [...this.standing.values()]) if (!wanted.has(offer.prefix)) this.withdraw(offer);
    return { refusals, orphans };
  }

  /** Lets the aliases of all offers, withdrawn ones too, follow their routes underneath. */
  followUnderneath(): void {
    const found = new Map<Prefix, UnderneathVerdict>();
    for (const prefix of [...this.standing.keys(), ...this.leaving.keys()])
      found.set(prefix, this.host.routing.underneath(prefix));
    this.follow(found);
  }

  /**
   * Moves an alias whose offers have all got another next hop, as when a hub is lost: its route is
   * rewritten at once, and the daemon need not be told. While some offers keep the next hop, the alias
   * stays; the others get another alias.
   */
  private follow(found: ReadonlyMap<Prefix, UnderneathVerdict>): void {
    const hops = new Map<Address, Underneath[]>();
    for (const { alias, prefix } of [...this.standing.values(), ...this.leaving.values()]) {
      const under = found.get(prefix);
      if (under?.ok !== true) continue;
      const list = hops.get(alias);
      if (list === undefined) hops.set(alias, [under]);
      else list.push(under);
    }
    for (const [alias, list] of hops) {
      const [hop, ...others] = list;
      const via = this.aliases.get(alias);
      if (hop === undefined || via === undefined) continue;
      const stays = list.some((u) => sameInterfaces(u.via, via));
      if (others.every((u) => sameHop(u, hop))) this.host.aliases.move(alias, this.owner, hop);
      if (!stays) this.setAlias(alias, hop.via);
    }
  }

  private setAlias(alias: Address, via: readonly string[]): void {
    this.aliases.set(alias, via);
    this.host.emit({ kind: "alias", alias, to: this.to, via });
  }

  private offer(prefix: Prefix, u: Underneath, classes: OfferClasses): Verdict {
    const holder = this.offeredFor(prefix);
    if (holder !== undefined && holder !== this.owner)
      return no({ kind: "prefix-moved", prefix, from: holder });
    const before = this.standing.get(prefix);
    // on the direct interface the way to a hub does not matter: another alias would only disturb the daemon
    const kept = this.onDirect ? before?.alias : undefined;
    const alias = kept ?? this.host.aliases.acquire(this.owner, u, familyOf(prefix));
    if (alias === undefined) return no({ kind: "no-alias", prefix });
    const via = this.aliases.get(alias);
    if (before !== undefined && before.alias === alias && before.underneath === u.prefix) {
      this.updateOne(before, classes);
      return YES;
    }
    if (via === undefined || (kept === undefined && !sameInterfaces(via, u.via))) this.setAlias(alias, u.via);
    this.host.emit({ kind: "offer", prefix, alias, underneath: u.prefix, classes });
    this.leaving.delete(prefix);
    this.standing.set(prefix, {
      prefix,
      alias,
      underneath: u.prefix,
      classes,
      selected: before?.selected ?? false,
      reason: before === undefined ? { kind: "waiting-for-daemon" } : before.reason,
      path: before?.path ?? "none",
      reported: before?.reported ?? "",
    });
    return YES;
  }

  /** Announces again the offers whose classes have changed. */
  updateClasses(classes: OfferClasses): void {
    for (const offer of this.standing.values()) this.updateOne(offer, classes);
  }

  private updateOne(offer: Offer, classes: OfferClasses): void {
    if (sameClasses(offer.classes, classes)) return;
    offer.classes = classes;
    this.host.emit({ kind: "update-classes", prefix: offer.prefix, alias: offer.alias, classes });
  }

  private withdraw(offer: Offer): void {
    this.host.emit({ kind: "withdraw", prefix: offer.prefix });
    this.standing.delete(offer.prefix);
    this.leaving.set(offer.prefix, offer);
  }

  withdrawAll(): void {
    for (const offer of [...this.standing.values()]) this.withdraw(offer);
  }

  /** Points every alias at the overlay or at the direct interface: the flip, and the flip back. */
  point(to: "overlay" | "direct"): void {
    this.to = to;
    for (const [alias, via] of this.aliases) this.host.emit({ kind: "alias", alias, to, via });
  }

  /** Returns the prefixes, offered or leaving, that the FIB sends via the direct interface. */
  stillDirect(): Prefix[] {
    const all = [...this.standing.values(), ...this.leaving.values()];
    return all.filter((o) => o.path === "direct").map((o) => o.prefix);
  }

  /**
   * Overrides the prefixes that the FIB still sends via the direct interface: holds them on the
   * overlay.
   */
  overrideStillDirect(): void {
    for (const prefix of this.stillDirect()) this.override(prefix, true);
  }

  private override(prefix: Prefix, want: boolean): void {
    if (this.overridden.has(prefix) === want) return;
    if (want) this.overridden.add(prefix);
    else this.overridden.delete(prefix);
    this.host.emit({ kind: "override", prefix, want });
    if (want)
      this.milestone("override", `${prefix}: the FIB did not follow; an override holds it on the overlay`);
  }

  /**
   * Releases the aliases after the drain, when no traffic uses them: they are removed from the
   * kernel and free for others.
   */
  release(): void {
    for (const [alias, via] of this.aliases) {
      this.host.emit({ kind: "alias", alias, to: "absent", via });
      this.host.aliases.release(alias);
    }
    this.aliases.clear();
    this.leaving.clear();
  }

  /** Notes what daemon and FIB do with a prefix now. Returns false when it is not one of ours. */
  observe(s: RouteState): boolean {
    if (s.daemonPath !== "direct") this.override(s.prefix, false);
    const standing = this.standing.get(s.prefix);
    const offer = standing ?? this.leaving.get(s.prefix);
    if (offer === undefined) return false;
    if (offer.selected && !s.selected && standing !== undefined) this.explain(offer);
    offer.selected = s.selected;
    offer.path = s.path;
    if (s.selected) offer.reason = undefined;
    else if (s.reason !== undefined) offer.reason = s.reason;
    if (s.selected && standing !== undefined) this.report(standing, "");
    return true;
  }

  /** Reports a change of the daemon's decision about one prefix; the reason is empty when it is accepted. */
  private report(offer: Offer, reason: string): void {
    if (offer.reported === reason) return;
    offer.reported = reason;
    if (reason === "") this.milestone("offer-accepted", offer.prefix);
    else this.milestone("offer-refused", `${offer.prefix}: ${reason}`);
  }

  /** Asks the daemon about those that it does not select: why. */
  explainRefused(): void {
    for (const offer of this.standing.values()) if (!offer.selected) this.explain(offer);
  }

  private explain({ prefix, alias }: Offer): void {
    this.host.emit({ kind: "explain", prefix, alias });
  }

  /** Takes the daemon's answer. Returns false when it is no longer of interest. */
  explained(prefix: Prefix, reason: Reason): boolean {
    const offer = this.standing.get(prefix);
    if (offer === undefined || offer.selected) return false;
    offer.reason = reason;
    this.report(offer, describeReason(reason));
    return true;
  }

  /** Notes that the offers session is down: the daemon has dropped every offer. */
  dropped(reason: Reason): void {
    for (const o of this.standing.values()) {
      o.selected = false;
      o.reason = reason;
    }
  }

  rows(): ShortcutStatus["prefixes"] {
    return [...this.standing.values()].map(({ prefix, alias, selected, path, reason }) => ({
      prefix,
      alias,
      selected,
      path,
      reason,
    }));
  }

  private milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.owner, milestone, detail });
  }
}
