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
  private pending = false;
  private readAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly host: OthersRulesHost,
    private readonly names: { readonly overlay: string; readonly direct: string },
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
    return judgeNat(this.rules.nat, this.router, this.names, this.attested);
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
    this.rules = readRuleset(await this.host.port.read(), this.names);
    this.host.changed();
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
