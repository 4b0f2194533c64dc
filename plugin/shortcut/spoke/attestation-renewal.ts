/**
 * Renews attestations. No shortcut outlives what the hub attests: an attestation that has expired,
 * or that the hub withdraws, is asked for again while a shortcut uses it. A changed attestation
 * ends the shortcut. This does not apply while the hubs are away, nor while the hub that attests, or
 * the one that answers, has only just come back: then its answers may be incomplete.
 */
import type { Address } from "../../net/address.js";
import type { Shortcut } from "../machine/shortcut.js";
import type { Resolutions } from "./resolutions.js";
import type { ShortcutTable } from "./shortcut-table.js";

/** Milliseconds after which a failed renewal is repeated. */
const PAUSE = 5_000;

export interface AttestationRenewalHost {
  /** Returns whether a hub's answers may be incomplete. */
  unsettled(now: number, hub: Address | undefined): boolean;
}

export class AttestationRenewal {
  /**
   * Owners whose attestation expired while a shortcut uses it: they are asked for again, and this
   * is the next time.
   */
  private readonly asked = new Map<Address, number>();
  /** The time at which the first attestation in use expires. */
  private at: number | undefined;

  constructor(
    private readonly host: AttestationRenewalHost,
    private readonly shortcuts: Pick<ShortcutTable, "get" | "all" | "removeFinished">,
    private readonly resolutions: Resolutions,
  ) {}

  /** Returns when a shortcut's attestation expires; undefined when the shortcut uses none. */
  private dueAt(m: Shortcut): number | undefined {
    return m.resting ? undefined : (this.asked.get(m.owner) ?? this.resolutions.expiresAt(m.owner));
  }

  /** Computes the deadline again: any shortcut may have changed. */
  recomputeDeadlines(): void {
    this.at = undefined;
    for (const m of this.shortcuts.all()) {
      const at = this.dueAt(m);
      if (at !== undefined && (this.at === undefined || at < this.at)) this.at = at;
    }
  }

  pollTimeout(): number | undefined {
    return this.at;
  }

  handleTimeout(now: number): void {
    for (const owner of this.asked.keys())
      if (this.shortcuts.get(owner) === undefined) this.asked.delete(owner);
    for (const shortcut of this.shortcuts.all()) {
      const due = this.dueAt(shortcut);
      if (due !== undefined && due <= now) this.renew(now, shortcut);
    }
  }

  /** Asks the hub again for the attestation that a shortcut uses. */
  renew(now: number, shortcut: Shortcut): void {
    const { shortcuts, resolutions } = this;
    const { owner } = shortcut;
    const before = resolutions.known(owner);
    this.asked.set(owner, Number.POSITIVE_INFINITY);
    resolutions.ofOwner(now, owner, (t, r) => {
      if (shortcuts.get(owner) !== shortcut) return;
      const same = r.ok && shortcut.livesBy(r);
      const unsettled = [r.by, before?.by].some((hub) => this.host.unsettled(t, hub));
      if ((!r.ok && r.unanswered) || (!same && unsettled)) {
        resolutions.restore(now, owner, before);
        this.asked.set(owner, t + PAUSE);
        return;
      }
      this.asked.delete(owner);
      if (!r.ok) resolutions.forget(owner);
      shortcut.reattested(t, r);
      shortcuts.removeFinished(t);
    });
  }
}
