/**
 * The stages of a shortcut, and the one description of how they follow each other: {@link NEXT}. A
 * stage is an object with the data of that stage alone. It is told facts. Each method returns the
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

/**
 * The stages that may follow a stage. The types below hold every step to it; doc/operation.md is
 * checked against it.
 */
export const NEXT = {
  resolving: ["exchanging", "offered", "returning"],
  exchanging: ["offered", "returning"],
  offered: ["connecting", "refused", "returning"],
  refused: ["connecting", "returning"],
  connecting: ["direct", "returning"],
  direct: ["returning"],
  returning: ["draining", "direct"],
  draining: ["backoff"],
  backoff: ["resolving", "gone"],
  gone: [],
} as const satisfies Readonly<Record<Stage, readonly Stage[]>>;

/** The end of an attempt: the rule for the pause after it, and the reason. */
export interface Ending {
  readonly rule: TeardownRule;
  readonly reason: Reason;
  /**
   * The prefix whose offer a neighbour of the daemon would see, or through which it would lose its
   * route.
   */
  readonly blocked: Prefix | undefined;
}

/** The facts that the next stage needs from the one before. */
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

/** Makes a step back to the hub path. */
export const fallBackToHub = (reason: Reason, rule: TeardownRule, blocked?: Prefix): Step<"returning"> => ({
  to: "returning",
  reason,
  ending: { rule, reason, blocked },
});

/**
 * One stage of one shortcut. A method that a stage does not override has no effect in it, except
 * notes about the other end and the kernel. `X` are the steps that it may take.
 */
export abstract class StageState<X extends Step> {
  abstract readonly name: Stage;
  /** The time at which the stage was entered, in milliseconds. */
  since: number;
  /** The time at which the stage ends, or is checked again; milliseconds. */
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

  /** Ends the shortcut: the operator, or the state of the daemon, no longer allows it. */
  abstract stop(now: number, reason: Reason): X | undefined;

  /** Falls back to the hub path for any reason; stages that are past it stay. */
  fallBack(_reason: Reason, _rule: TeardownRule, _blocked?: Prefix): X | undefined {
    return undefined;
  }

  // --------------------------------------------------------------------- the daemon and the kernel

  /** Notes the FIB's view of one offered prefix, after the offers have noted it. */
  routeSeen(_s: RouteState): void {}

  /** Decides after a change of the FIB's view of the prefixes. */
  routeState(_now: number): X | undefined {
    return undefined;
  }

  underneathChanged(_now: number): X | undefined {
    return undefined;
  }

  /** Decides after any other change that affects the daemon's selection. */
  consider(_now: number): X | undefined {
    return undefined;
  }

  /** Takes the daemon's explanation, already noted by the offers. */
  explained(_reason: Reason): void {}

  offerUnblocked(_now: number): void {}

  /** Follows a change of routes or policy rules. */
  waysChanged(_now: number): X | undefined {
    return undefined;
  }

  directUnusable(_reason: Reason): X | undefined {
    return undefined;
  }

  /** Notes that the kernel has the peer, or answered with an error. */
  peerApplied(_now: number, error: string | undefined): X | undefined {
    this.c.peerApplied(error);
    return undefined;
  }

  peerStatus(now: number, s: PeerStatus): X | undefined {
    this.c.attempt.path.observe(now, s, false);
    this.c.announceProbes(now, { down: true, idle: false });
    return undefined;
  }

  // --------------------------------------------------------------------- the hub and the other end

  /** Takes the hub's answer: the owner's prefixes, or why not. */
  resolved(_now: number, _r: Attested | Refusal): X | undefined {
    return undefined;
  }

  /** Takes the answer to our exchange. */
  exchanged(_now: number, _outcome: Outcome): X | undefined {
    return undefined;
  }

  hubPresence(_now: number, _presence: Presence): X | undefined {
    return undefined;
  }

  /** Takes the other end's answer to our daemon's selection. */
  tellingAnswered(_now: number, _outcome: Outcome): X | undefined {
    return undefined;
  }

  /** Notes whether the other end's daemon selects. */
  selected(now: number, selected: boolean, reason: string): X | undefined {
    this.c.heardSelection(now, selected, reason);
    return undefined;
  }

  /** Notes that the other end's peer exists: the initiator may begin. */
  ready(now: number): X | undefined {
    this.c.heardReady(now);
    return undefined;
  }

  /** Notes that the other end has opened its NAT towards this end. */
  otherOpen(_now: number): void {}

  otherFlipped(_now: number): void {}

  /** Notes a message of the other end, which came over the hub path. */
  ownerHeard(_now: number): X | undefined {
    return undefined;
  }

  /** Notes that the other end knows the current candidates of this end. */
  reachabilityKnown(_now: number): X | undefined {
    return undefined;
  }

  /** Handles a change of this end's candidates, or of what this end can reach. */
  candidatesChanged(_now: number): void {}

  probe(_now: number, _event: StreamEvent): X | undefined {
    return undefined;
  }

  /** Takes an authentic ping of this attempt. */
  ping(_now: number, _from: Endpoint, _at: Address, _ping: Ping): X | undefined {
    return undefined;
  }

  /** Takes the bits per second that this router sends to the owner via the overlay. */
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
