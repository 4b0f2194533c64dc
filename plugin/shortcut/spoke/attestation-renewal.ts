/**
 * No shortcut outlives what the hub attests: an attestation that has run out, or that the hub takes back, is asked for again while a shortcut lives by it, and a
 * changed one ends the shortcut. Not while the hub is away, or has only just come back: then it knows the half of it.
 */
import type { Address } from "../../net/address.js";
import type { Shortcut } from "../machine/shortcut.js";
import type { Resolutions } from "./resolutions.js";
import type { ShortcutTable } from "./shortcut-table.js";

/** An attestation that could not be renewed is asked for again after this. */
const PAUSE = 5_000;

export interface AttestationRenewalHost {
  /** What a hub says may be the half of it. */
  unsettled(now: number): boolean;
}

export class AttestationRenewal {
  /** Owners whose attestation ran out while a shortcut lives by it: asked for again, and when next. */
  private readonly asked = new Map<Address, number>();
  /** When the first attestation runs out by which a shortcut lives. */
  private at: number | undefined;

  constructor(
    private readonly host: AttestationRenewalHost,
    private readonly shortcuts: Pick<ShortcutTable, "get" | "all" | "removeFinished">,
    private readonly resolutions: Resolutions,
  ) {}

  /** When a shortcut's attestation has run out; undefined for one that lives by none. */
  private dueAt(m: Shortcut): number | undefined {
    return m.resting ? undefined : (this.asked.get(m.owner) ?? this.resolutions.expiresAt(m.owner));
  }

  /** Any shortcut may have changed. */
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

  /** Asks the hub again by what a shortcut lives. */
  renew(now: number, shortcut: Shortcut): void {
    const { shortcuts, resolutions } = this;
    const { owner } = shortcut;
    const before = resolutions.known(owner);
    this.asked.set(owner, Number.POSITIVE_INFINITY);
    resolutions.ofOwner(now, owner, (t, r) => {
      if (shortcuts.get(owner) !== shortcut) return;
      const same = r.ok && shortcut.livesBy(r.generation);
      if ((!r.ok && r.unanswered) || (!same && this.host.unsettled(t))) {
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
