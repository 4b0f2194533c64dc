/**
 * The stages `offered` and `refused`: routes stand in the daemon, and both daemons must select them; or one, where both operators let that be
 * enough. Each end tells the other of its daemon's selection, and again while traffic wants the shortcut. Consent that is taken
 * back later ends the shortcut.
 */
import type { Prefix } from "../../net/address.js";
import type { Outcome } from "../control/link.js";
import type { Course, Ways } from "./attempt.js";
import type { Outlook } from "./path-forecast.js";
import { FAILED, FOLLOWED, ORDERLY, SILENT } from "./teardown-reasons.js";

export class Consent {
  constructor(
    private readonly course: Course,
    private readonly outlook: Outlook,
    private readonly ways: Ways,
  ) {}

  /** Offers every attested prefix that has a route of the daemon's own underneath, by the overlay. */
  announce(now: number): void {
    const { course, outlook } = this;
    const { offerTimeout, refresh } = course.host.parameters;
    course.enter(now, "offered", "waiting for the daemons");
    course.deadline = now + offerTimeout;
    course.refreshAt = now + refresh;
    this.ways.tellWhereabouts(now);
    outlook.judge();
    const { refusals } = course.offers.update(course.prefixes, outlook.marks(now));
    if (course.offers.empty)
      this.ways.turnBack(now, refusals[0] ?? `the hub attests no prefix for ${course.owner}`, FAILED);
  }

  /** Something that bears on selection changed: tell the other end, go forth or back. */
  consider(now: number): void {
    const { stage, offers } = this.course;
    switch (stage) {
      case "offered":
      case "refused": {
        if (offers.empty) {
          this.ways.turnBack(now, offers.refusal(), ORDERLY);
          return;
        }
        this.tellSelected(now);
        if (this.agreed) this.ways.connect(now);
        return;
      }
      case "connecting":
      case "direct":
        if (!this.agreed) this.ways.turnBack(now, offers.refusal(), ORDERLY);
        else if (this.oneWay) this.tellSelected(now);
        return;
      default:
        return;
    }
  }

  /** Both operators let one daemon's selection be enough. */
  get oneWay(): boolean {
    return this.course.host.parameters.oneWay && this.course.them.oneWay;
  }

  /** Both daemons have selected; or one, and that is enough. */
  get agreed(): boolean {
    const { offers, them } = this.course;
    const [here, there] = [offers.selected, them.selected];
    return this.oneWay ? !offers.empty && (here || there) : here && there;
  }

  tellSelected(now: number, again = false): void {
    const { host, offers, them } = this.course;
    const { selected } = offers;
    const { told, epochs } = them;
    if (told.selected === selected && !again) return;
    if (selected && told.selected !== true) this.course.milestone("selected", offers.prefixes.join(", "));
    // before the deadline, "not yet" is no news
    if (!selected && told.selected === undefined && !again) return;
    told.selected = selected;
    if (selected) this.ways.openNat(now);
    const reason = selected ? "" : offers.refusal();
    const { oneWay } = host.parameters;
    them.send(now, "selected", { kind: "selected", epochs, selected, reason, oneWay }, (t, o) =>
      this.afterTelling(t, o),
    );
  }

  /** What the other end says to what it was told. */
  afterTelling(now: number, outcome: Outcome): void {
    const { course } = this;
    if (outcome.kind === "timeout") {
      if (course.in("offered", "refused", "connecting"))
        this.ways.turnBack(now, `${course.owner} fell silent`, SILENT);
    } else if (outcome.body.kind === "refused" && outcome.body.code === "stale") {
      this.ways.turnBack(now, "the other end started anew", FOLLOWED);
    }
  }

  /** What the other end's daemon has selected. */
  handleSelected(now: number, selected: boolean, reason: string): void {
    const { course } = this;
    const { them } = course;
    if (selected && !them.selected) course.milestone("selected-by-owner", "");
    them.selected = selected;
    them.reason = reason;
    them.wantedAt = now;
    if (selected || this.agreed) this.consider(now);
    else if (course.in("connecting", "direct"))
      this.ways.turnBack(now, `the owner's daemon: ${reason}`, ORDERLY);
    else if (course.in("refused")) course.reason = `the owner's daemon: ${reason}`;
  }

  /** Who sends pings, or is ready, has selected, unless one selection is enough. */
  implied(now: number): void {
    if (!this.course.host.parameters.oneWay) this.handleSelected(now, true, "");
  }

  explained(prefix: Prefix, reason: string): void {
    const { course } = this;
    if (course.offers.explained(prefix, reason) && course.in("refused")) course.reason = reason;
  }

  /** The deadline has come: somebody's daemon has not selected. */
  refuse(now: number): void {
    const { course } = this;
    const { host, offers, them } = course;
    const local = offers.selected;
    const reason = local
      ? `the owner's daemon: ${them.reason === "" ? "did not select our prefixes" : them.reason}`
      : offers.refusal();
    course.enter(now, "refused", reason);
    course.refreshAt = now + host.parameters.refresh;
    if (!local) offers.explainAll();
    this.tellSelected(now, true);
  }

  /** Offers that stand are renewed while traffic wants them, or while the other end says that its does. */
  refresh(now: number): void {
    const { course } = this;
    const { host, offers, them } = course;
    const { refresh } = host.parameters;
    course.refreshAt = now + refresh;
    if (!course.in("offered", "refused")) return;
    const wantedHere = host.isHot(course.prefixes);
    if (wantedHere) this.tellSelected(now, true);
    const wantedThere = them.wantedAt !== undefined && now - them.wantedAt < 3 * refresh;
    if (!wantedHere && (course.origin === "local" || !wantedThere))
      this.ways.turnBack(now, `below threshold; before that: ${course.reason}`, ORDERLY);
    else if (course.in("refused") && !offers.selected) offers.explainAll();
  }
}
