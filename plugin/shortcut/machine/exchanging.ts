/**
 * The stages `resolving` and `exchanging`: what the owner owns, as the hub says and never the owner itself, and who it is: keys, epochs and
 * candidates. Either end may begin; when both do, each takes the other's request for the answer to its own.
 */
import { shortKey } from "../../net/key.js";
import { unreachable } from "../../net/result.js";
import type { ExchangeBody, ReplyBody } from "../../wire/control/message.js";
import type { Correspondent, Outcome } from "../control/link.js";
import type { Attested } from "../spoke/resolutions.js";
import type { Attempt } from "./attempt.js";
import type { Offered } from "./offered.js";
import { busy, stale } from "./remote.js";
import type { Teardown } from "./teardown.js";
import { FAILED, PEER_INITIATED, PLANNED } from "./teardown-reasons.js";

export class Exchanging {
  constructor(
    private readonly attempt: Attempt,
    private readonly offered: Offered,
    private readonly teardown: Teardown,
  ) {}

  /** A destination of this owner is hot and the hub has said what the owner owns. */
  startLocal(now: number, attested: Attested, why: string): void {
    this.attempt.attested = attested;
    this.exchange(now, why);
  }

  /** The other end asked first; what it owns is still to be learnt from the hub, never from itself. */
  private startRemote(now: number): void {
    const { attempt } = this;
    attempt.host.observeAgain(now);
    attempt.enter(now, "resolving", "the other end asked for a shortcut");
    attempt.host.resolveOwner(now, attempt.owner, (t, r) => {
      if (!attempt.in("resolving")) return;
      if ("refusal" in r) this.teardown.fallBackToHub(t, r.refusal, FAILED);
      else {
        attempt.attested = r;
        if (attempt.remote.peer === undefined) this.exchange(t, "resolved");
        else this.offered.announce(t);
      }
    });
  }

  private exchange(now: number, why: string): void {
    const { attempt } = this;
    attempt.enter(now, "exchanging", why);
    attempt.host.observeAgain(now);
    attempt.remote.send(
      now,
      "exchange",
      { kind: "exchange", ...attempt.remote.exchangeBody() },
      (t, outcome) => {
        if (attempt.in("exchanging")) this.exchanged(t, outcome);
      },
    );
  }

  private exchanged(now: number, outcome: Outcome): void {
    const { attempt, teardown } = this;
    if (outcome.kind === "timeout")
      teardown.fallBackToHub(now, `${attempt.owner} does not answer: is shortcutd running there?`, FAILED);
    else if (outcome.body.kind === "exchanged") {
      const b = outcome.body;
      if (b.epochs.yours !== attempt.remote.epochs.mine)
        teardown.fallBackToHub(now, "the owner answered another attempt", FAILED);
      else {
        this.adopt(outcome.from, b);
        this.offered.announce(now);
      }
    } else {
      // an end that is busy will not be for long, and two that call each other busy must not wait ever longer
      const busyThere = outcome.body.kind === "refused" && outcome.body.code === "busy";
      if (busyThere) attempt.failures.deferrals++;
      teardown.fallBackToHub(now, refusalText(outcome.body), busyThere ? PLANNED : FAILED);
    }
  }

  private adopt(from: Correspondent, b: ExchangeBody): void {
    const { attempt } = this;
    attempt.remote.adopt(from, b);
    attempt.failures.deferrals = 0;
    attempt.milestone("exchanged", `key ${shortKey(from.publicKey)}, ${b.candidates.length} candidate(s)`);
  }

  /** First exchanging by the other end, or the first after a pause. */
  accept(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const { attempt } = this;
    this.adopt(from, b);
    this.startRemote(now);
    return attempt.in("resolving", "offered") ? this.reply() : busy(attempt.reason);
  }

  private reply(): ReplyBody {
    return { kind: "exchanged", ...this.attempt.remote.exchangeBody() };
  }

  handleExchange(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const { attempt, teardown } = this;
    const { stage, remote } = attempt;
    switch (stage) {
      case "resolving":
      case "exchanging":
        this.adopt(from, b);
        if (stage === "exchanging" && attempt.attested !== undefined) {
          remote.cancelRequests();
          this.offered.announce(now);
        }
        return attempt.in("offered", "resolving") ? this.reply() : busy(attempt.reason);
      case "backoff":
        if (teardown.holdsBack(now, from, b)) return busy(`holding back after: ${attempt.reason}`);
        attempt.origin = "remote";
        return this.accept(now, from, b);
      case "offered":
      case "refused":
      case "connecting":
      case "direct": {
        const { epochs, peer } = remote;
        // a boot's epochs grow: what was delayed or is replayed must not take down what came after it
        if (peer?.bootId === from.bootId && b.epochs.mine < epochs.yours)
          return stale("exchange of an older epoch");
        if (!remote.isAnother(from) && epochs.yours === b.epochs.mine) return this.reply();
        teardown.fallBackToHub(now, "the other end started anew", PEER_INITIATED);
        teardown.otherFlipped(now);
        return busy("the former attempt is being taken down");
      }
      case "returning":
      case "draining":
      case "gone":
        if (remote.peer !== undefined && remote.epochs.yours !== b.epochs.mine) teardown.otherFlipped(now);
        return busy("the former attempt is being taken down");
      default:
        return unreachable(stage);
    }
  }
}

function refusalText(b: ReplyBody): string {
  return b.kind === "refused" ? `the owner refused: ${b.reason}` : `unexpected ${b.kind} of the owner`;
}
