/**
 * The stages `offered` and `refused`. Routes stand in the daemon, and both daemons must select
 * them; or one, where both operators accept one as enough. Each end tells the other of its daemon's
 * selection, and repeats that while traffic wants the shortcut.
 */

import type { Address, Endpoint } from "../../net/address.js";
import type { Ping } from "../../wire/ping.js";
import { earliest } from "../deadlines.js";
import { describeReason, type Reason } from "../reasons.js";
import { Standing } from "./active.js";
import { fallBackToHub, type Step, type StepsFrom } from "./stage.js";
import { FAILED, PLANNED } from "./teardown-reasons.js";

type FromWaiting = StepsFrom<"refused">;

/** The common part of `offered` and `refused`: the offers wait for selection. */
abstract class Waiting<X extends Step> extends Standing<X | FromWaiting> {
  /** The time at which standing offers are renewed. */
  protected refreshAt: number | undefined;

  override consider(now: number): FromWaiting | undefined {
    const { offers } = this.c;
    if (offers.empty) return fallBackToHub(offers.refusal(), PLANNED);
    this.tellSelected(now);
    return this.c.agreed ? this.connect() : undefined;
  }

  /** Goes on to `connecting`: both ends have selected. */
  private connect(): FromWaiting | undefined {
    const { spoke, attempt, offers } = this.c;
    const { remote } = attempt;
    if (remote.peer === undefined) return undefined;
    const usable = spoke.directUsable();
    if (!usable.ok) return fallBackToHub(usable.reason, FAILED);
    if (!remote.reachable) return fallBackToHub({ kind: "no-endpoint" }, FAILED);
    const here = offers.selected;
    const reason: Reason =
      here && remote.selected
        ? { kind: "both-selected" }
        : { kind: "one-way", selected: here ? "here" : "there" };
    return { to: "connecting", reason };
  }

  /** Takes a ping of the other end as its daemon's selection. */
  override ping(now: number, _from: Endpoint, _at: Address, ping: Ping): FromWaiting | undefined {
    return ping.kind === "ping" && this.c.heardImplied(now) ? this.consider(now) : undefined;
  }

  override pollTimeout(): number | undefined {
    return earliest(this.deadline, this.refreshAt);
  }

  /**
   * Renews the offers while traffic wants them here, or while the other end says that its traffic
   * does.
   */
  protected refresh(now: number): Step<"returning"> | undefined {
    const { host, spoke, offers, attempt, prefixes } = this.c;
    if (this.refreshAt === undefined || now < this.refreshAt) return undefined;
    const { refresh } = host.parameters;
    this.refreshAt = now + refresh;
    const wantedHere = spoke.traffic.aboveThreshold(prefixes);
    if (wantedHere) this.tellSelected(now, true);
    const { wantedAt } = attempt.remote;
    const wantedThere = wantedAt !== undefined && now - wantedAt < 3 * refresh;
    if (!wantedHere && (attempt.origin === "local" || !wantedThere))
      return fallBackToHub({ kind: "traffic-cooled", before: describeReason(this.reason) }, PLANNED);
    if (this.name === "refused") offers.explainRefused();
    return undefined;
  }
}

export class Offered extends Waiting<StepsFrom<"offered">> {
  override readonly name = "offered" as const;

  /** Offers every attested prefix that has a route of the daemon underneath, via the overlay. */
  override begin(now: number): Step<"returning"> | undefined {
    const { c } = this;
    const { offerTimeout, refresh } = c.host.parameters;
    this.deadline = now + offerTimeout;
    this.refreshAt = now + refresh;
    c.announceReachability(now);
    c.forecast.judge(c.attempt.remote.peer);
    const { refusals } = c.offers.update(c.prefixes, c.forecast.classes(now));
    return c.offers.empty
      ? fallBackToHub(refusals[0] ?? { kind: "nothing-attested", owner: c.owner }, FAILED)
      : undefined;
  }

  protected override refusedThere(): undefined {}

  /** Handles that a daemon has not selected in time. */
  override handleTimeout(now: number): StepsFrom<"offered"> | undefined {
    const ended = this.refresh(now);
    if (ended !== undefined || this.deadline === undefined || now < this.deadline) return ended;
    this.deadline = undefined;
    const { offers, attempt } = this.c;
    const reason: Reason = offers.selected
      ? { kind: "owner-not-selected", text: attempt.remote.reason }
      : offers.refusal();
    return { to: "refused", reason };
  }
}

export class Refused extends Waiting<StepsFrom<"refused">> {
  override readonly name = "refused" as const;

  override begin(now: number): undefined {
    const { host, offers } = this.c;
    this.refreshAt = now + host.parameters.refresh;
    offers.explainRefused();
    this.tellSelected(now, true);
  }

  override explained(reason: Reason): void {
    this.reason = reason;
  }

  protected override refusedThere(reason: Reason): undefined {
    this.reason = reason;
  }

  override handleTimeout(now: number): Step<"returning"> | undefined {
    return this.refresh(now);
  }
}
