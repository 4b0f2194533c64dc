/**
 * The stages of a shortcut, and the one description of how they follow each other: {@link NEXT}. A
 * stage is an object with the data of that stage alone. It is told facts; each method returns the
 * step into the next stage, or undefined while the stage lasts. shortcut.ts takes the steps.
 */

import type { Address, Endpoint, Prefix } from "../../net/address.js";
import type { Ping } from "../../wire/ping.js";
import type { Outcome } from "../control/link.js";
import type { PeerStatus, Presence, RouteState, Stage } from "../events.js";
import type { StreamEvent } from "../probe/stream.js";
import type { Reason } from "../reasons.js";
import type { Attested, Refusal } from "../spoke/resolutions.js";
import type { Context } from "./context.js";
import type { TeardownRule } from "./teardown-reasons.js";

/** Which stages may follow a stage. The types below hold every step to it; doc/operation.md is checked against it. */
export const NEXT = {
  resolving: ["exchanging", "offered", "returning"],
  exchanging: ["offered", "returning"],
  offered: ["connecting", "refused", "returning"],
  refused: ["connecting", "returning"],
  connecting: ["direct", "returning"],
  direct: ["returning"],
  returning: ["draining"],
  draining: ["backoff"],
  backoff: ["resolving", "gone"],
  gone: [],
} as const satisfies Readonly<Record<Stage, readonly Stage[]>>;

/** How an attempt ends: the rule for the pause after it, and why. */
export interface Ending {
  readonly rule: TeardownRule;
  readonly reason: Reason;
  /** The offer of this prefix would be seen by a neighbour of the daemon, or would harm it. */
  readonly blocked: Prefix | undefined;
}

/** What the next stage must know of the one before. */
interface Entries {
  readonly resolving: { readonly reason: Reason | undefined };
  readonly exchanging: { readonly reason: Reason | undefined };
  readonly offered: { readonly reason: Reason | undefined };
  readonly refused: { readonly reason: Reason | undefined };
  readonly connecting: { readonly reason: Reason | undefined };
  readonly direct: { readonly reason: Reason | undefined };
  readonly returning: { readonly reason: Reason | undefined; readonly ending: Ending };
  readonly draining: { readonly reason: Reason | undefined; readonly ending: Ending };
  readonly backoff: { readonly reason: Reason | undefined; readonly ending: Ending };
  readonly gone: { readonly reason: Reason | undefined };
}

/** A step into a stage. */
export type Step<To extends Stage = Stage> = {
  [K in To]: { readonly to: K } & Entries[K];
}[To];

/** The steps that {@link NEXT} allows from a stage. */
export type StepsFrom<S extends Stage> = Step<(typeof NEXT)[S][number]>;

/** A step back to the hub path. */
export const fallBackToHub = (reason: Reason, rule: TeardownRule, blocked?: Prefix): Step<"returning"> => ({
  to: "returning",
  reason,
  ending: { rule, reason, blocked },
});

/**
 * One stage of one shortcut. What a stage does not override has no effect in it, beyond what is noted
 * of the other end and the kernel. `X` are the steps that it may take.
 */
export abstract class StageState<X extends Step> {
  abstract readonly name: Stage;
  /** When the stage was entered, milliseconds. */
  since: number;
  /** When the stage ends, or is looked at again; milliseconds. */
  deadline: number | undefined;

  constructor(
    protected readonly c: Context,
    now: number,
    public reason: Reason | undefined,
  ) {
    this.since = now;
  }

  /** Acts before the change of stage is announced. */
  prepare(_now: number, _from: Stage): void {}

  /** Acts right after the change of stage was announced. */
  begin(_now: number): X | undefined {
    return undefined;
  }

  /** The operator, or the daemon's end, wants no shortcut. */
  abstract stop(now: number, reason: Reason): X | undefined;

  /** The fall back to the hub path for any reason; stages that are past it stay. */
  fallBack(_reason: Reason, _rule: TeardownRule, _blocked?: Prefix): X | undefined {
    return undefined;
  }

  // -------------------------------------------------------------------------- the daemon and the kernel

  /** The FIB's view of one offered prefix, already noted by the offers. */
  routeSeen(_s: RouteState): void {}

  /** The same, for the decision that follows. */
  routeState(_now: number): X | undefined {
    return undefined;
  }

  underneathChanged(_now: number): X | undefined {
    return undefined;
  }

  /** Something that bears on the daemon's selection has changed. */
  consider(_now: number): X | undefined {
    return undefined;
  }

  /** The daemon's explanation, already noted by the offers. */
  explained(_reason: Reason): void {}

  offerUnblocked(_now: number): void {}

  directUnusable(_reason: Reason): X | undefined {
    return undefined;
  }

  /** The kernel has the peer, or answered with an error. */
  peerApplied(_now: number, error: string | undefined): X | undefined {
    this.c.peerApplied(error);
    return undefined;
  }

  peerStatus(now: number, s: PeerStatus): X | undefined {
    this.c.attempt.path.observe(now, s, false);
    this.c.announceProbes(now, { down: true, idle: false });
    return undefined;
  }

  // -------------------------------------------------------------------------- the hub and the other end

  /** The hub has said what the owner owns, or why not. */
  resolved(_now: number, _r: Attested | Refusal): X | undefined {
    return undefined;
  }

  /** The answer to our exchange. */
  exchanged(_now: number, _outcome: Outcome): X | undefined {
    return undefined;
  }

  hubPresence(_now: number, _presence: Presence): X | undefined {
    return undefined;
  }

  /** The other end's answer to what it was told of our daemon. */
  tellingAnswered(_now: number, _outcome: Outcome): X | undefined {
    return undefined;
  }

  /** The other end's daemon selects, or does not. */
  selected(now: number, selected: boolean, reason: string): X | undefined {
    this.c.heardSelection(now, selected, reason);
    return undefined;
  }

  /** The other end's peer exists: the initiator may begin. */
  ready(now: number): X | undefined {
    this.c.heardReady(now);
    return undefined;
  }

  /** The other end has opened its NAT towards this end. */
  otherOpen(_now: number): void {}

  otherFlipped(_now: number): void {}

  /** The other end knows where this end is reached now. */
  reachabilityKnown(_now: number): X | undefined {
    return undefined;
  }

  /** Where this end may be reached, or what it may reach, has changed. */
  candidatesChanged(_now: number): void {}

  probe(_now: number, _event: StreamEvent): X | undefined {
    return undefined;
  }

  /** An authentic ping of this attempt. */
  ping(_now: number, _from: Endpoint, _at: Address, _ping: Ping): X | undefined {
    return undefined;
  }

  /** Bits per second that this router sends to the owner via the overlay. */
  trafficRead(now: number, viaOverlay: number): void {
    this.c.trafficRead(now, viaOverlay, undefined, undefined);
  }

  // -------------------------------------------------------------------------- time

  pollTimeout(): number | undefined {
    return this.deadline;
  }

  handleTimeout(_now: number): X | undefined {
    return undefined;
  }
}
