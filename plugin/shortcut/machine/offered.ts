/**
 * The stages `offered` and `refused`: routes stand in the daemon, and both daemons must select remote; or one, where both operators let that be
 * enough. Each end tells the other of its daemon's selection, and again while traffic wants the shortcut. Consent that is taken
 * back later ends the shortcut.
 */
import type { Prefix } from "../../net/address.js";
import type { Outcome } from "../control/link.js";
import type { Attempt, Ways } from "./attempt.js";
import type { PathForecast } from "./path-forecast.js";
import { FAILED, PEER_INITIATED, PLANNED, SILENT } from "./teardown-reasons.js";

export class Offered {
  constructor(
    private readonly attempt: Attempt,
    private readonly forecast: PathForecast,
    private readonly ways: Ways,
  ) {}

  /** Offers every attested prefix that has a route of the daemon's own underneath, by the overlay. */
  announce(now: number): void {
    const { attempt, forecast } = this;
    const { offerTimeout, refresh } = attempt.host.parameters;
    attempt.enter(now, "offered", "waiting for the daemons");
    attempt.deadline = now + offerTimeout;
    attempt.refreshAt = now + refresh;
    this.ways.announceReachability(now);
    forecast.judge();
    const { refusals } = attempt.offers.update(attempt.prefixes, forecast.classes(now));
    if (attempt.offers.empty)
      this.ways.fallBackToHub(now, refusals[0] ?? `the hub attests no prefix for ${attempt.owner}`, FAILED);
  }

  /** Something that bears on selection changed: tell the other end, go forth or back. */
  consider(now: number): void {
    const { stage, offers } = this.attempt;
    switch (stage) {
      case "offered":
      case "refused": {
        if (offers.empty) {
          this.ways.fallBackToHub(now, offers.refusal(), PLANNED);
          return;
        }
        this.tellSelected(now);
        if (this.agreed) this.ways.connect(now);
        return;
      }
      case "connecting":
      case "direct":
        if (!this.agreed) this.ways.fallBackToHub(now, offers.refusal(), PLANNED);
        else if (this.oneWay) this.tellSelected(now);
        return;
      default:
        return;
    }
  }

  /** Both operators let one daemon's selection be enough. */
  get oneWay(): boolean {
    return this.attempt.host.parameters.oneWay && this.attempt.remote.oneWay;
  }

  /** Both daemons have selected; or one, and that is enough. */
  get agreed(): boolean {
    const { offers, remote } = this.attempt;
    const [here, there] = [offers.selected, remote.selected];
    return this.oneWay ? !offers.empty && (here || there) : here && there;
  }

  tellSelected(now: number, again = false): void {
    const { host, offers, remote } = this.attempt;
    const { selected } = offers;
    const { told, epochs } = remote;
    if (told.selected === selected && !again) return;
    if (selected && told.selected !== true) this.attempt.milestone("selected", offers.prefixes.join(", "));
    // before the deadline, "not yet" is no news
    if (!selected && told.selected === undefined && !again) return;
    told.selected = selected;
    if (selected) this.ways.openNat(now);
    const reason = selected ? "" : offers.refusal();
    const { oneWay } = host.parameters;
    remote.send(now, "selected", { kind: "selected", epochs, selected, reason, oneWay }, (t, o) =>
      this.afterTelling(t, o),
    );
  }

  /** What the other end says to what it was told. */
  afterTelling(now: number, outcome: Outcome): void {
    const { attempt } = this;
    if (outcome.kind === "timeout") {
      if (attempt.in("offered", "refused", "connecting"))
        this.ways.fallBackToHub(now, `${attempt.owner} fell silent`, SILENT);
    } else if (outcome.body.kind === "refused" && outcome.body.code === "stale") {
      this.ways.fallBackToHub(now, "the other end started anew", PEER_INITIATED);
    }
  }

  /** What the other end's daemon has selected. */
  handleSelected(now: number, selected: boolean, reason: string): void {
    const { attempt } = this;
    const { remote } = attempt;
    if (selected && !remote.selected) attempt.milestone("selected-by-owner", "");
    remote.selected = selected;
    remote.reason = reason;
    remote.wantedAt = now;
    if (selected || this.agreed) this.consider(now);
    else if (attempt.in("connecting", "direct"))
      this.ways.fallBackToHub(now, `the owner's daemon: ${reason}`, PLANNED);
    else if (attempt.in("refused")) attempt.reason = `the owner's daemon: ${reason}`;
  }

  /** Who sends pings, or is ready, has selected, unless one selection is enough. */
  implied(now: number): void {
    if (!this.attempt.host.parameters.oneWay) this.handleSelected(now, true, "");
  }

  explained(prefix: Prefix, reason: string): void {
    const { attempt } = this;
    if (attempt.offers.explained(prefix, reason) && attempt.in("refused")) attempt.reason = reason;
  }

  /** The deadline has come: somebody's daemon has not selected. */
  refuse(now: number): void {
    const { attempt } = this;
    const { host, offers, remote } = attempt;
    const local = offers.selected;
    const reason = local
      ? `the owner's daemon: ${remote.reason === "" ? "did not select our prefixes" : remote.reason}`
      : offers.refusal();
    attempt.enter(now, "refused", reason);
    attempt.refreshAt = now + host.parameters.refresh;
    if (!local) offers.explainAll();
    this.tellSelected(now, true);
  }

  /** Offers that stand are renewed while traffic wants remote, or while the other end says that its does. */
  refresh(now: number): void {
    const { attempt } = this;
    const { host, offers, remote } = attempt;
    const { refresh } = host.parameters;
    attempt.refreshAt = now + refresh;
    if (!attempt.in("offered", "refused")) return;
    const wantedHere = host.isHot(attempt.prefixes);
    if (wantedHere) this.tellSelected(now, true);
    const wantedThere = remote.wantedAt !== undefined && now - remote.wantedAt < 3 * refresh;
    if (!wantedHere && (attempt.origin === "local" || !wantedThere))
      this.ways.fallBackToHub(now, `below threshold; before that: ${attempt.reason}`, PLANNED);
    else if (attempt.in("refused") && !offers.selected) offers.explainAll();
  }
}
