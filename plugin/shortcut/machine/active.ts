/**
 * The common part of the stages on the way to the direct path. Any of them may fall back to the hub
 * path. Stages in which offers stand follow the daemons' decisions at both ends.
 */

import type { Prefix } from "../../net/address.js";
import type { Outcome } from "../control/link.js";
import { describeReason, type Reason } from "../reasons.js";
import { fallBackToHub, StageState, type Step } from "./stage.js";
import { PEER_INITIATED, PLANNED, SILENT, type TeardownRule } from "./teardown-reasons.js";

/** A stage from `resolving` to `direct`. */
export abstract class Active<X extends Step> extends StageState<X | Step<"returning">> {
  override fallBack(reason: Reason, rule: TeardownRule, blocked?: Prefix): Step<"returning"> {
    return fallBackToHub(reason, rule, blocked);
  }

  override stop(_now: number, reason: Reason): Step<"returning"> {
    return fallBackToHub(reason, PLANNED);
  }
}

/** A stage from `offered` to `direct`: offers stand in the daemon. */
export abstract class Standing<X extends Step> extends Active<X> {
  /** Follows the routes underneath: offers are added and withdrawn with them. */
  override underneathChanged(now: number): X | Step<"returning"> | undefined {
    const { c } = this;
    c.offers.update(c.prefixes, c.forecast.classes(now));
    return this.consider(now);
  }

  override routeState(now: number): X | Step<"returning"> | undefined {
    return this.consider(now);
  }

  /**
   * Tells the other end whether our daemon selects, when that has changed; with `again` also when
   * it has not.
   */
  protected tellSelected(now: number, again = false): void {
    const { c } = this;
    const { offers } = c;
    const { remote } = c.attempt;
    const { selected } = offers;
    const { told, epochs } = remote;
    if (told.selected === selected && !again) return;
    if (selected && told.selected !== true) c.milestone("selected", offers.prefixes.join(", "));
    // before the deadline, "not yet" says nothing new
    if (!selected && told.selected === undefined && !again) return;
    told.selected = selected;
    if (selected) c.openNat(now);
    const reason = selected ? "" : describeReason(offers.refusal());
    const { oneWay } = c.host.parameters;
    remote.send(now, "selected", { kind: "selected", epochs, selected, reason, oneWay }, (t, o) =>
      c.later.tellingAnswered(t, o),
    );
  }

  override tellingAnswered(_now: number, outcome: Outcome): X | Step<"returning"> | undefined {
    if (outcome.kind === "timeout")
      return fallBackToHub({ kind: "owner-silent", owner: this.c.owner }, SILENT);
    if (outcome.body.kind === "refused" && outcome.body.code === "stale")
      return fallBackToHub({ kind: "owner-started-again" }, PEER_INITIATED);
    return undefined;
  }

  override selected(now: number, selected: boolean, reason: string): X | Step<"returning"> | undefined {
    this.c.heardSelection(now, selected, reason);
    return selected || this.c.agreed
      ? this.consider(now)
      : this.refusedThere({ kind: "owner-not-selected", text: reason });
  }

  /** Handles that the other end's daemon does not select, where both selections are needed. */
  protected abstract refusedThere(reason: Reason): X | Step<"returning"> | undefined;

  override ready(now: number): X | Step<"returning"> | undefined {
    return this.c.heardReady(now) ? this.consider(now) : undefined;
  }

  override candidatesChanged(now: number): void {
    this.c.announceReachability(now);
  }
}
