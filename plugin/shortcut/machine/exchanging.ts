/**
 * The stages `resolving` and `exchanging`: what the owner owns, as the hub says and never the owner itself, and who it is: keys, epochs and
 * candidates. Either end may begin; when both do, each takes the other's request for the answer to its own.
 */
import { shortKey } from "../../net/key.js";
import { unreachable } from "../../net/result.js";
import type { ExchangeBody, ReplyBody } from "../../wire/control/message.js";
import type { Correspondent, Outcome } from "../control/link.js";
import type { Attested } from "../spoke/resolutions.js";
import type { Course } from "./attempt.js";
import type { Consent } from "./offered.js";
import { busy, stale } from "./remote.js";
import type { Retreat } from "./teardown.js";
import { FAILED, FOLLOWED, ORDERLY } from "./teardown-reasons.js";

export class Contact {
  constructor(
    private readonly course: Course,
    private readonly consent: Consent,
    private readonly retreat: Retreat,
  ) {}

  /** A destination of this owner is hot and the hub has said what the owner owns. */
  startLocal(now: number, attested: Attested, why: string): void {
    this.course.attested = attested;
    this.exchange(now, why);
  }

  /** The other end asked first; what it owns is still to be learnt from the hub, never from itself. */
  private startRemote(now: number): void {
    const { course } = this;
    course.host.observeAgain(now);
    course.enter(now, "resolving", "the other end asked for a shortcut");
    course.host.resolveOwner(now, course.owner, (t, r) => {
      if (!course.in("resolving")) return;
      if ("refusal" in r) this.retreat.turnBack(t, r.refusal, FAILED);
      else {
        course.attested = r;
        if (course.them.peer === undefined) this.exchange(t, "resolved");
        else this.consent.announce(t);
      }
    });
  }

  private exchange(now: number, why: string): void {
    const { course } = this;
    course.enter(now, "exchanging", why);
    course.host.observeAgain(now);
    course.them.send(now, "exchange", { kind: "exchange", ...course.them.exchangeBody() }, (t, outcome) => {
      if (course.in("exchanging")) this.exchanged(t, outcome);
    });
  }

  private exchanged(now: number, outcome: Outcome): void {
    const { course, retreat } = this;
    if (outcome.kind === "timeout")
      retreat.turnBack(now, `${course.owner} does not answer: is shortcutd running there?`, FAILED);
    else if (outcome.body.kind === "exchanged") {
      const b = outcome.body;
      if (b.epochs.yours !== course.them.epochs.mine)
        retreat.turnBack(now, "the owner answered another attempt", FAILED);
      else {
        this.adopt(outcome.from, b);
        this.consent.announce(now);
      }
    } else {
      // an end that is busy will not be for long, and two that call each other busy must not wait ever longer
      const busyThere = outcome.body.kind === "refused" && outcome.body.code === "busy";
      if (busyThere) course.setbacks.deferrals++;
      retreat.turnBack(now, refusalText(outcome.body), busyThere ? ORDERLY : FAILED);
    }
  }

  private adopt(from: Correspondent, b: ExchangeBody): void {
    const { course } = this;
    course.them.adopt(from, b);
    course.setbacks.deferrals = 0;
    course.milestone("exchanged", `key ${shortKey(from.publicKey)}, ${b.candidates.length} candidate(s)`);
  }

  /** First contact by the other end, or the first after a pause. */
  accept(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const { course } = this;
    this.adopt(from, b);
    this.startRemote(now);
    return course.in("resolving", "offered") ? this.reply() : busy(course.reason);
  }

  private reply(): ReplyBody {
    return { kind: "exchanged", ...this.course.them.exchangeBody() };
  }

  handleExchange(now: number, from: Correspondent, b: ExchangeBody): ReplyBody {
    const { course, retreat } = this;
    const { stage, them } = course;
    switch (stage) {
      case "resolving":
      case "exchanging":
        this.adopt(from, b);
        if (stage === "exchanging" && course.attested !== undefined) {
          them.cancelRequests();
          this.consent.announce(now);
        }
        return course.in("offered", "resolving") ? this.reply() : busy(course.reason);
      case "backoff":
        if (retreat.holdsBack(now, from, b)) return busy(`holding back after: ${course.reason}`);
        course.origin = "remote";
        return this.accept(now, from, b);
      case "offered":
      case "refused":
      case "connecting":
      case "direct": {
        const { epochs, peer } = them;
        // a boot's epochs grow: what was delayed or is replayed must not take down what came after it
        if (peer?.bootId === from.bootId && b.epochs.mine < epochs.yours)
          return stale("exchange of an older epoch");
        if (!them.isAnother(from) && epochs.yours === b.epochs.mine) return this.reply();
        retreat.turnBack(now, "the other end started anew", FOLLOWED);
        retreat.otherFlipped(now);
        return busy("the former attempt is being taken down");
      }
      case "returning":
      case "draining":
      case "gone":
        if (them.peer !== undefined && them.epochs.yours !== b.epochs.mine) retreat.otherFlipped(now);
        return busy("the former attempt is being taken down");
      default:
        return unreachable(stage);
    }
  }
}

function refusalText(b: ReplyBody): string {
  return b.kind === "refused" ? `the owner refused: ${b.reason}` : `unexpected ${b.kind} of the owner`;
}
