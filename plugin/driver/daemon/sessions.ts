/**
 * Runs the two BGP sessions with the local daemon. On the feed session the daemon announces its own
 * routes; on the offers session shortcutd announces offers. The standing offers are kept here:
 * their attributes follow the route underneath, so they are announced again with every change of
 * it. The daemon counts as present only when both sessions are up and the feed is complete.
 */

import type { AdjRibIn } from "../../bgp/rib.js";
import type { DaemonConfig } from "../../config/config.js";
import { type Address, familyOf, type Prefix } from "../../net/address.js";
import type { Result } from "../../net/result.js";
import type { OfferClasses } from "../../shortcut/events.js";
import { no, type Reason, type Verdict, YES } from "../../shortcut/reasons.js";
import type { PathAttributes } from "../../wire/bgp/attributes.js";
import type { BgpPort, SpeakerPort } from "../ports.js";
import type { TaskQueue } from "../runtime/task-queue.js";

export interface DaemonSessionsEvents {
  /** Reports that a session came up or went down, or that the feed is complete. */
  onChange(): void;
  onUnderneath(prefixes: readonly Prefix[] | "all"): void;
  onProblem(place: string, text: string): void;
}

const down = (session: "offers" | "feed", text: string): Reason => ({
  kind: "session-down",
  session,
  text,
});

interface Standing {
  readonly alias: Address;
  classes: OfferClasses;
  /** Whether the offer is not announced yet. */
  held: boolean;
}

export class DaemonSessions {
  /** The routes that the daemon sent. */
  readonly feed: AdjRibIn;
  private readonly offersSpeaker: SpeakerPort;
  private readonly feedSpeaker: SpeakerPort;
  private readonly standing = new Map<Prefix, Standing>();
  private state: { readonly offers: boolean; readonly feed: boolean; readonly reason: Reason } = {
    offers: false,
    feed: false,
    reason: { kind: "not-connected" },
  };

  constructor(
    private readonly daemon: DaemonConfig,
    /** This router's overlay address: the feed must be complete for its family. */
    private readonly self: Address,
    bgp: BgpPort,
    private readonly tasks: TaskQueue,
    private readonly on: DaemonSessionsEvents,
    /** Returns the attributes of an offer, copied from the route underneath. */
    private readonly attributes: (
      prefix: Prefix,
      alias: Address,
      classes: OfferClasses,
    ) => Result<PathAttributes, string>,
  ) {
    this.offersSpeaker = bgp.open(this.spec("offers"), {
      onState: ({ established, reason }) => {
        this.change({
          offers: established,
          reason: established ? { kind: "feed-incomplete" } : down("offers", reason),
        });
      },
      onRoutes: () => {},
      onEndOfRib: () => {},
      onProblem: (text) => on.onProblem("offers session", text),
    }).speaker;
    const { speaker, rib } = bgp.open(this.spec("feed"), {
      onState: ({ established, reason }) => {
        this.change(established ? {} : { feed: false, reason: down("feed", reason) });
        if (!established) on.onUnderneath("all");
      },
      onRoutes: (prefixes) => this.underneathChanged(prefixes),
      onEndOfRib: (family) => {
        if (family !== familyOf(self)) return;
        this.change({ feed: true });
        on.onUnderneath("all");
      },
      onProblem: (text) => on.onProblem("feed session", text),
    });
    this.feedSpeaker = speaker;
    this.feed = rib;
  }

  private spec(name: "offers" | "feed"): Parameters<BgpPort["open"]>[0] {
    const d = this.daemon;
    return {
      name,
      localAddress: name === "offers" ? d.offers : d.feed,
      remoteAddress: d.peer ?? this.self,
      vrf: d.vrf,
      password: d.password,
      port: d.port,
      localAs: name === "offers" ? d.offersAs : d.as,
      remoteAs: d.as,
      routerId: name === "offers" ? d.routerId : d.feed,
      holdTime: d.holdTime,
      receives: name === "feed",
    };
  }

  private change(to: Partial<typeof this.state>): void {
    this.state = { ...this.state, ...to };
    this.on.onChange();
  }

  private underneathChanged(prefixes: readonly Prefix[]): void {
    if (!this.state.feed) return;
    // the daemon may replace its route by delete and add: what holds the prefix meanwhile follows first
    this.on.onUnderneath(prefixes);
    this.tasks.add("offers", async () => this.announceAgain());
  }

  /** Announces what has changed: attributes may be others while the route stays, and the offer follows. */
  announceAgain(): void {
    for (const prefix of this.standing.keys()) this.announce(prefix);
  }

  start(): void {
    this.offersSpeaker.start();
    this.feedSpeaker.start();
  }

  stopOffers(): Promise<void> {
    return this.offersSpeaker.stop();
  }

  stopFeed(): Promise<void> {
    return this.feedSpeaker.stop();
  }

  /** Whether the offers session is up; otherwise why the sessions are not. */
  get offersUp(): Verdict {
    return this.state.offers ? YES : no(this.state.reason);
  }

  /** Whether both sessions are up and the feed is complete; otherwise why not. */
  get established(): Verdict {
    return this.state.offers && this.state.feed ? YES : no(this.state.reason);
  }

  // ---------------------------------------------------------------------------------------- offers

  /** Returns the offered prefixes: all, or those of one alias. */
  offered(alias?: Address): Prefix[] {
    return [...this.standing].flatMap(([prefix, o]) =>
      alias === undefined || o.alias === alias ? [prefix] : [],
    );
  }

  /** Announces an offer when `allowed` resolves to true and all earlier kernel changes are done. */
  offer(prefix: Prefix, alias: Address, classes: OfferClasses, allowed: Promise<boolean> | undefined): void {
    const offer: Standing = { alias, classes, held: allowed !== undefined };
    this.standing.set(prefix, offer);
    if (allowed === undefined) {
      this.tasks.add("offers", async () => this.announce(prefix));
      return;
    }
    void allowed.then((yes) => {
      if (!yes || this.standing.get(prefix) !== offer) return;
      offer.held = false;
      this.tasks.add("offers", async () => this.announce(prefix));
    });
  }

  /** Announces an offer again with other classes, unless it is not announced yet. */
  updateClasses(prefix: Prefix, classes: OfferClasses): void {
    const offer = this.standing.get(prefix);
    if (offer === undefined) return;
    offer.classes = classes;
    this.tasks.add("offers", async () => this.announce(prefix));
  }

  withdraw(prefix: Prefix): void {
    this.standing.delete(prefix);
    this.tasks.add("offers", async () => this.offersSpeaker.withdraw([prefix]));
  }

  private announce(prefix: Prefix): void {
    const offer = this.standing.get(prefix);
    if (offer === undefined || offer.held) return;
    const attributes = this.attributes(prefix, offer.alias, offer.classes);
    if (attributes.ok) this.offersSpeaker.announce([{ prefix, attributes: attributes.value }]);
  }
}
