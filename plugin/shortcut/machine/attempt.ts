/**
 * The attempt of one shortcut, as far as all its stages share it: the stage and when it ends, the owner and what the hub attests for it, the
 * other end, and the offers. What belongs to some stages only is kept by these.
 */
import type { Address, Prefix } from "../../net/address.js";
import { ZERO_ID } from "../../wire/control/codec.js";
import type { Id64 } from "../../wire/control/message.js";
import type { Milestone, Stage } from "../events.js";
import type { ChecksHost } from "../nat/connectivity-checks.js";
import { Offers, type OffersHost } from "../offer/offers.js";
import type { Attested } from "../spoke/resolutions.js";
import { Remote, type RemoteHost } from "./remote.js";
import type { FailureHistory, TeardownRule } from "./teardown-reasons.js";
import type { TunnelHost } from "./tunnel.js";

/** What a machine needs of its engine. */
export interface ShortcutHost extends OffersHost, RemoteHost, TunnelHost, ChecksHost {
  random(): number;
  /** Whether this router has routes of its own to all prefixes that the hub attests for it. */
  routesOwn(now: number): boolean;
  /** Generation of this router's own prefixes, as the hub attests them; undefined until the hub said. */
  selfGeneration(now: number): Id64 | undefined;
  /** A route underneath went: is it the hub that went? `Shortcut.hubPresence` is told. */
  checkHubAlive(now: number): void;
  /** Asks the hub what the owner owns. */
  resolveOwner(
    now: number,
    owner: Address,
    done: (now: number, r: Attested | { readonly refusal: string }) => void,
  ): void;
  /** Whether traffic still wants this owner. */
  isHot(prefixes: readonly Prefix[]): boolean;
  /** Asks the hubs anew from where they see this router. */
  reobserve(now: number): void;
  /** The same, unless they have answered a moment ago. */
  observeAgain(now: number): void;
  directUsable(): { readonly usable: boolean; readonly reason: string };
}

/** The ways that lead from one stage into another's hands; the machine ties them together. */
export interface Ways {
  /** From anywhere: back to the overlay. */
  fallBackToHub(now: number, reason: string, ending: TeardownRule): void;
  /** The own daemon has selected: the other end may soon send. */
  openNat(now: number): void;
  /** The other end may not know where this end is reached. */
  announceReachability(now: number): void;
  /** From offered or refused: both ends offered. */
  connect(now: number): void;
}

export class Attempt {
  stage: Stage = "resolving";
  since: number;
  reason = "";
  /** When the stage ends, or is looked at again. */
  deadline: number | undefined;
  /** When offers that stand are renewed. */
  refreshAt: number | undefined;
  attested: Attested | undefined;
  readonly remote: Remote;
  readonly offers: Offers;

  constructor(
    readonly host: ShortcutHost,
    readonly owner: Address,
    public origin: "local" | "remote",
    now: number,
    /** What went wrong in a row, here and in machines before this one: it lengthens the pause. */
    readonly failures: FailureHistory,
  ) {
    this.since = now;
    this.remote = new Remote(host, owner);
    this.offers = new Offers(host, owner);
  }

  enter(now: number, stage: Stage, reason: string): void {
    const previous = this.stage;
    this.stage = stage;
    this.since = now;
    this.reason = reason;
    this.deadline = undefined;
    this.refreshAt = undefined;
    const transition = { owner: this.owner, stage, previous, reason, prefixes: this.offers.prefixes };
    this.host.emit({ kind: "transition", transition });
  }

  /** Whether the stage is one of these; after a call that may have changed it, too. */
  in(...stages: readonly Stage[]): boolean {
    return stages.includes(this.stage);
  }

  get prefixes(): readonly Prefix[] {
    return this.attested?.prefixes ?? [];
  }

  /** The generation of this router's own prefixes that the other end must accept. */
  ownGeneration(now: number): Id64 {
    return this.host.selfGeneration(now) ?? ZERO_ID;
  }

  milestone(milestone: Milestone, detail: string): void {
    this.host.emit({ kind: "milestone", owner: this.owner, milestone, detail });
  }
}
