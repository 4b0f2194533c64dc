/**
 * The stages `resolving` and `exchanging`. In `resolving` the hub, never the owner itself, tells
 * the owner's prefixes. In `exchanging` the owner tells its keys, epochs and candidates. Either end
 * may begin. When both begin, each takes the other's request as the answer to its own.
 */

import { shortKey } from "../../net/key.js";
import type { ExchangeBody } from "../../wire/control/message.js";
import type { Correspondent, Outcome } from "../control/link.js";
import type { Reason } from "../reasons.js";
import type { Resolution } from "../spoke/resolutions.js";
import { Active } from "./active.js";
import type { Context } from "./context.js";
import { fallBackToHub, type StepsFrom } from "./stage.js";
import { FAILED, PLANNED } from "./teardown-reasons.js";

/** Takes the other end's statement about itself. */
export function adopt(c: Context, from: Correspondent, b: ExchangeBody): void {
  c.attempt.remote.adopt(from, b);
  c.failures.deferrals = 0;
  c.milestone("exchanged", `key ${shortKey(from.publicKey)}, ${b.candidates.length} candidate(s)`);
}

/** Returns whether the key is the one that the owner registered, as far as the hub has said. */
export const speaksForOwner = (c: Context, from: Correspondent): boolean => {
  const { attested } = c.attempt;
  return attested === undefined || attested.publicKey === from.publicKey;
};

/** Returns why this router's own configuration does not accept the other end's statement. */
export const distrust = (c: Context, from: Correspondent, b: ExchangeBody): Reason | undefined =>
  c.host.trust.refusal(from, b.epochs.mine, b.pskProof);

/**
 * The stage `resolving`: the other end asked first, and its prefixes are still to be learned from
 * the hub.
 */
export class Resolving extends Active<StepsFrom<"resolving">> {
  override readonly name = "resolving" as const;

  /** The hub was asked again, since the other end's key is not the one that was known. */
  private repeated = false;

  override begin(now: number): StepsFrom<"resolving"> | undefined {
    const { spoke, owner, later } = this.c;
    // the hub's answer may be known already, and then comes before this returns
    let asking = true;
    let known: StepsFrom<"resolving"> | undefined;
    spoke.resolutions.ofOwner(now, owner, (t, r) => {
      if (asking) known = this.resolved(t, r);
      else later.resolved(t, r);
    });
    asking = false;
    return known;
  }

  override resolved(now: number, r: Resolution): StepsFrom<"resolving"> | undefined {
    if (!r.ok) return fallBackToHub(r.reason, FAILED);
    const { attempt, owner, spoke, host } = this.c;
    const obstacle = host.trust.obstacle(owner, r.publicKey);
    if (obstacle !== undefined) return fallBackToHub(obstacle, FAILED);
    const { peer } = attempt.remote;
    if (peer !== undefined && peer.publicKey !== r.publicKey) {
      if (this.repeated) return fallBackToHub({ kind: "owner-unregistered-key", owner }, FAILED);
      this.repeated = true;
      spoke.resolutions.expire(now, owner);
      return this.begin(now);
    }
    attempt.attested = r;
    return peer === undefined
      ? { to: "exchanging", reason: { kind: "resolved" } }
      : { to: "offered", reason: { kind: "waiting-for-daemons" } };
  }
}

export class Exchanging extends Active<StepsFrom<"exchanging">> {
  override readonly name = "exchanging" as const;

  override begin(now: number): StepsFrom<"exchanging"> | undefined {
    const { c } = this;
    const { remote, attested } = c.attempt;
    if (attested === undefined) return fallBackToHub({ kind: "nothing-attested", owner: c.owner }, FAILED);
    const obstacle = c.host.trust.obstacle(c.owner, attested.publicKey);
    if (obstacle !== undefined) return fallBackToHub(obstacle, FAILED);
    c.spoke.reachability.observeAgain(now);
    const body = remote.exchangeBody(attested.publicKey);
    remote.send(now, "exchange", { kind: "exchange", ...body }, (t, o) => c.later.exchanged(t, o));
    return undefined;
  }

  override exchanged(now: number, outcome: Outcome): StepsFrom<"exchanging"> {
    const { c } = this;
    if (outcome.kind === "timeout")
      return fallBackToHub({ kind: "owner-unanswering", owner: c.owner }, FAILED);
    const b = outcome.body;
    if (b.kind === "exchanged") {
      if (b.epochs.yours !== c.attempt.remote.epochs.mine)
        return fallBackToHub({ kind: "owner-other-attempt" }, FAILED);
      if (!speaksForOwner(c, outcome.from)) {
        c.spoke.resolutions.expire(now, c.owner);
        return fallBackToHub({ kind: "owner-unregistered-key", owner: c.owner }, FAILED);
      }
      const distrusted = distrust(c, outcome.from, b);
      if (distrusted !== undefined) return fallBackToHub(distrusted, FAILED);
      adopt(c, outcome.from, b);
      return { to: "offered", reason: { kind: "waiting-for-daemons" } };
    }
    // an end that is busy will not be busy for long, and two ends that call each other busy must
    // not wait ever longer
    const busyThere = b.kind === "refused" && b.code === "busy";
    if (busyThere) c.failures.deferrals++;
    const reason: Reason =
      b.kind === "refused"
        ? { kind: "owner-refused", text: b.reason }
        : { kind: "owner-unexpected", message: b.kind };
    return fallBackToHub(reason, busyThere ? PLANNED : FAILED);
  }

  /** Takes the other end's exchange, which crossed ours, as the answer. */
  crossed(): StepsFrom<"exchanging"> | undefined {
    const { attempt } = this.c;
    if (attempt.attested === undefined) return undefined;
    attempt.remote.cancelRequests();
    return { to: "offered", reason: { kind: "waiting-for-daemons" } };
  }
}
