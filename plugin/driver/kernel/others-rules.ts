/**
 * Follows the nftables rules that others own, as far as they matter for what goes direct: NAT that names the overlay alone, and
 * whether connections are tracked. They are read when the kernel tells of a change.
 */
import { type Address, hostPrefix, type Prefix } from "../../net/address.js";
import type { Verdict } from "../../shortcut/reasons.js";
import type { RulesetPort } from "../ports.js";
import type { Schedule } from "../runtime/schedule.js";
import { judgeNat, type Ruleset, readRuleset, translatesDirect } from "./nat-rules.js";

/** A reload changes much at once; milliseconds until it is read. */
const SETTLE_MS = 100;
/** Milliseconds between two readings at least: some programs change rules all the time. */
const EVERY_MS = 1_000;

export interface OthersRulesHost {
  readonly port: RulesetPort;
  readonly schedule: Pick<Schedule, "later" | "attempt">;
  now(): number;
  /** The verdict, or what the rules do, may have changed. */
  changed(): void;
}

export class OthersRules {
  private rules: Ruleset = { nat: [], stateful: false };
  private attested: readonly Prefix[];
  /** The overlay interfaces that existed when the rules were read; undefined before. */
  private readFor: string | undefined;
  private pending = false;
  private readAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly host: OthersRulesHost,
    /** The interfaces, as they are now. */
    private readonly names: () => { readonly overlay: readonly string[]; readonly direct: string },
    private readonly router: Address,
    private readonly addresses: readonly Address[],
  ) {
    this.attested = addresses.map(hostPrefix);
  }

  /** Takes the prefixes that the hub attests for this router. */
  own(prefixes: readonly Prefix[]): void {
    this.attested = [...prefixes, ...this.addresses.map(hostPrefix)];
    this.host.changed();
  }

  /** Whether NAT leaves what goes direct as the overlay would have it. */
  get verdict(): Verdict {
    return judgeNat(this.rules.nat, this.router, this.names().direct, this.attested);
  }

  get translatesDirect(): boolean {
    return translatesDirect(this.rules.nat);
  }

  /** Whether rules of others look at the state of connections. */
  get stateful(): boolean {
    return this.rules.stateful;
  }

  async read(): Promise<void> {
    this.readAt = this.host.now();
    const rows = await this.host.port.read();
    const names = this.names();
    this.readFor = names.overlay.join(" ");
    this.rules = readRuleset(rows, names);
    this.host.changed();
  }

  /** Links have changed: a rule may name an overlay interface that did not exist when the rules were read. */
  linksChanged(): void {
    if (this.readFor !== undefined && this.readFor !== this.names().overlay.join(" ")) this.changedSoon();
  }

  /** Reads soon: rules have changed. */
  changedSoon(): void {
    if (this.pending) return;
    this.pending = true;
    const pause = Math.max(SETTLE_MS, this.readAt + EVERY_MS - this.host.now());
    this.host.schedule.later(pause, () => {
      this.pending = false;
      void this.host.schedule.attempt("nftables ruleset", () => this.read());
    });
  }
}
