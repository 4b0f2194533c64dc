/**
 * Connectivity checks of one attempt, after RFC 8445: which of the other end's candidates does this
 * end reach, and is it heard there? Their states:
 *
 *   closed    the own daemon has not selected: nothing is sent to the other end's candidates
 *   open      pings that expire on the way have opened the own NAT towards each of them; the other
 *             end may begin
 *   checking  both daemons have selected: pings to every candidate, best first, paced, repeated
 *             until answered
 *   over      in time, or not
 *
 * A pong shows that a pair works in both directions. An unsolicited packet that reaches a Linux NAT
 * from outside changes the port of later packets from inside to that source. Therefore openings
 * come first, with a time to live that ends before the other NAT.
 */

import type { Address, Endpoint, Prefix } from "../../net/address.js";
import { formatEndpoint, sameEndpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Candidate, Epochs, Id64 } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { PairKind, Path } from "../events.js";
import type { NatForecast, Reason, Tunnelled } from "../reasons.js";
import { isUsable, priorityOf, tunnelled } from "./candidates.js";
import type { PingTarget } from "./pings.js";

export interface ChecksHost {
  /**
   * Number of hops that a datagram of this end passes until it has left its last NAT, that NAT
   * included.
   */
  readonly openTtl: number;
  sendPing(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
  randomId(): Id64;
  /** This router's overlay address: a reason that travels names it. */
  readonly self: Address;
  /** Returns the path on which the direct interface's packets go there. */
  wayTo(to: Endpoint): Path;
  onLink(): readonly Prefix[];
}

export interface ChecksEnds {
  readonly publicKey: PublicKey;
  readonly epochs: Epochs;
  readonly candidates: readonly Candidate[];
  /**
   * The prefixes that the hub attests for the other end: its addresses inside them are reached via
   * the overlay.
   */
  readonly prefixes: readonly Prefix[];
}

/** Milliseconds between the first pings to different candidates (RFC 8445 §14.2). */
const PACE = 20;
/** Milliseconds until a ping is repeated; doubles. */
const REPEAT = 100;
/**
 * A pair that works waits this long for a better one, or a quarter of its own round trip if that is
 * between.
 */
const SETTLE_LEAST = 10;
const SETTLE_MOST = 50;
/**
 * Milliseconds for which an opening holds. A NAT forgets an unanswered mapping after 30 s
 * (nf_conntrack_udp_timeout; RFC 4787 REQ-5 wants more).
 */
const OPENING_LASTS = 20_000;
const MOST_PEER_REFLEXIVE = 8;
const MOST_INSIDE = 16;
/** Number of transactions of one pair that may still be answered. */
const IN_FLIGHT = 4;
/**
 * Milliseconds between searches for a better pair while a shortcut is direct: short at first,
 * longer later.
 */
const IMPROVE_FIRST = 2_000;
const IMPROVE_EVERY = 30_000;
/**
 * Number of times that a pair is taken as the better one. After that it is not taken again, since
 * WireGuard has left it each time because of packets from another endpoint.
 */
const MOST_TAKEN = 3;

interface Pair {
  readonly to: Endpoint;
  readonly kind: Exclude<PairKind, "unknown">;
  readonly priority: number;
  /** The address at which their pings arrive: the answer must come from there. */
  source: Address | undefined;
  nextAt: number;
  tries: number;
  readonly sent: { readonly transaction: Id64; readonly at: number }[];
  /** Round trip in milliseconds; undefined until a pong came. */
  roundTrip: number | undefined;
  /** Number of times that the pair was taken. */
  taken: number;
}

/** An endpoint that is reached inside a tunnel. */
interface Inside {
  readonly to: Endpoint;
  readonly kind: Pair["kind"];
  readonly by: Tunnelled;
}

/** Words for an endpoint that `router` reaches inside a tunnel. */
export const insideReason = (router: Address, { to, by }: Pick<Inside, "to" | "by">): Reason => ({
  kind: "endpoint-via-overlay",
  router,
  endpoint: formatEndpoint(to),
  by,
});

export class Checks {
  private readonly pairs: Pair[] = [];
  private openedAt: number | undefined;
  private startedAt: number | undefined;
  private firstAnswerAt: number | undefined;
  private settled = false;
  private due: number | undefined;
  /** While direct: the pair in use, and when a better pair is searched for again. */
  private over = false;
  private using: Pair | undefined;
  private improveAt = Number.POSITIVE_INFINITY;
  /** Endpoints of the other end that this end reaches inside a tunnel: nothing is sent to them. */
  private readonly inside = new Map<string, Inside>();
  /** Whether this end's peer exists. */
  ready = false;

  constructor(
    private readonly host: ChecksHost,
    private readonly ends: ChecksEnds,
    now: number,
  ) {
    this.learn(now, ends.candidates);
  }

  /** Learns further candidates of the other end; known ones stay. */
  learn(now: number, candidates: readonly Candidate[]): void {
    for (const c of candidates) {
      if (!isUsable(c, this.ends.prefixes) || this.isInside(c, c.kind)) continue;
      const known = this.find(c);
      // a ping may have taught it already
      if (known === undefined) this.follow(now, this.add(c, c.kind));
    }
    this.recomputeDeadlines();
  }

  /** Returns whether a path to the endpoint runs inside a tunnel, and notes that. */
  private isInside(to: Endpoint, kind: Pair["kind"]): boolean {
    const key = formatEndpoint(to);
    const by = tunnelled(this.host.wayTo(to));
    if (by === undefined) this.inside.delete(key);
    else if (this.inside.size < MOST_INSIDE || this.inside.has(key))
      this.inside.set(key, { to: { address: to.address, port: to.port }, kind, by });
    return by !== undefined;
  }

  /** Follows a change of routes: an endpoint may be reached inside a tunnel now, or not any more. */
  reroute(now: number): void {
    const known = [...this.inside.values()];
    for (const p of [...this.pairs])
      if (this.isInside(p.to, p.kind)) this.pairs.splice(this.pairs.indexOf(p), 1);
    for (const { to, kind } of known)
      if (this.find(to) === undefined && !this.isInside(to, kind)) this.follow(now, this.add(to, kind));
    this.recomputeDeadlines();
  }

  /** The reason why nothing can be tried: the other end's endpoints are reached inside a tunnel. */
  get onlyInside(): Reason | undefined {
    const [first] = this.inside.values();
    return this.pairs.length === 0 && first !== undefined ? insideReason(this.host.self, first) : undefined;
  }

  /** Opens and tries a candidate that is learned late like the earlier ones. */
  private follow(now: number, p: Pair): void {
    if (this.started && !this.over) p.nextAt = now;
    else if (this.openedAt !== undefined && !this.stale(now)) this.openTowards(p);
  }

  private add(to: Endpoint, kind: Pair["kind"]): Pair {
    const priority = priorityOf(to, kind, this.host.onLink());
    const pair: Pair = {
      to: { address: to.address, port: to.port },
      kind,
      priority,
      source: undefined,
      nextAt: Number.POSITIVE_INFINITY,
      tries: 0,
      sent: [],
      roundTrip: undefined,
      taken: 0,
    };
    this.pairs.push(pair);
    this.pairs.sort((a, b) => b.priority - a.priority);
    return pair;
  }

  private find(e: Endpoint): Pair | undefined {
    return this.pairs.find((p) => sameEndpoint(p.to, e));
  }

  get started(): boolean {
    return this.startedAt !== undefined;
  }

  /** Returns whether the own NAT may have forgotten the opening. */
  stale(now: number): boolean {
    return this.openedAt === undefined || now - this.openedAt > OPENING_LASTS;
  }

  /** Opens the own NAT towards every candidate. */
  open(now: number): void {
    this.openedAt = now;
    for (const p of this.pairs) this.openTowards(p);
  }

  private openTowards(p: Pair): void {
    this.send("open", this.host.randomId(), { to: p.to, ttl: this.host.openTtl });
  }

  /** Starts pings: the other end's NAT is open. */
  start(now: number): void {
    if (this.started) return;
    this.startedAt = now;
    this.pairs.forEach((p, i) => {
      p.nextAt = now + i * PACE;
    });
    this.recomputeDeadlines();
    this.handleTimeout(now);
  }

  private send(kind: "open" | "ping", transaction: Id64, target: PingTarget): void {
    const { publicKey, epochs } = this.ends;
    this.host.sendPing(
      publicKey,
      { kind, ready: this.ready, transaction, epochs, observed: undefined },
      target,
    );
  }

  private ping(now: number, p: Pair): void {
    const transaction = this.host.randomId();
    p.sent.push({ transaction, at: now });
    if (p.sent.length > IN_FLIGHT) p.sent.shift();
    p.nextAt = now + REPEAT * 2 ** Math.min(p.tries, 4);
    p.tries++;
    this.send("ping", transaction, { to: p.to, source: p.source });
  }

  /** Takes an authentic ping or pong of the other end's current attempt. */
  receive(now: number, from: Endpoint, at: Address, ping: Ping): void {
    if (ping.kind === "pong") this.answered(now, from, ping);
    else if (ping.kind === "ping") this.asked(now, from, at, ping);
    this.recomputeDeadlines();
  }

  private asked(now: number, from: Endpoint, at: Address, ping: Ping): void {
    if (this.isInside(from, this.find(from)?.kind ?? "peer-reflexive")) return;
    let pair = this.find(from);
    if (pair === undefined) {
      const learnt = this.pairs.filter((p) => p.kind === "peer-reflexive").length;
      if (learnt >= MOST_PEER_REFLEXIVE) return;
      pair = this.add(from, "peer-reflexive");
    }
    pair.source = at;
    const { publicKey, epochs } = this.ends;
    const { ready } = this;
    const { transaction } = ping;
    this.host.sendPing(
      publicKey,
      { kind: "pong", ready, transaction, epochs, observed: from },
      { to: from, source: at },
    );
    // RFC 8445 §7.3.1.4: a ping that came in from there shows that an answer can go there
    if (this.started && pair.roundTrip === undefined && pair.sent.every((s) => now - s.at > PACE))
      this.ping(now, pair);
  }

  private answered(now: number, from: Endpoint, pong: Ping): void {
    // RFC 8445 §7.2.5.2.1: an answer from another address does not count
    const pair = this.find(from);
    const sent = pair?.sent.find((s) => s.transaction === pong.transaction);
    if (pair === undefined || sent === undefined) return;
    pair.roundTrip = now - sent.at;
    pair.nextAt = Number.POSITIVE_INFINITY;
    this.firstAnswerAt ??= now;
  }

  /** Returns the best pair that works. */
  private best(): Pair | undefined {
    return this.pairs.find((p) => p.roundTrip !== undefined);
  }

  private settledAt(): number | undefined {
    const best = this.best();
    if (best === undefined || this.firstAnswerAt === undefined) return undefined;
    if (this.pairs[0] === best) return this.firstAnswerAt;
    const wait = Math.min(SETTLE_MOST, Math.max(SETTLE_LEAST, (best.roundTrip ?? 0) / 4));
    return this.firstAnswerAt + wait;
  }

  /** Returns the pair to use, once no better one is possible or it has waited for a better one. */
  nominee(now: number): Endpoint | undefined {
    const at = this.settledAt();
    return at !== undefined && now >= at ? this.best()?.to : undefined;
  }

  // ---------------------------------------------------------------------------------- while direct

  /** Notes the pair that is used from now on; the end that `improves` looks for better ones. */
  use(now: number, e: Endpoint | undefined, improves: boolean): void {
    this.over = true;
    this.using = e && this.find(e);
    if (this.using !== undefined) this.using.taken++;
    for (const p of this.pairs) p.nextAt = Number.POSITIVE_INFINITY;
    this.improveAt = improves && this.using !== undefined ? now + IMPROVE_FIRST : Number.POSITIVE_INFINITY;
    this.recomputeDeadlines();
  }

  /**
   * Notes the endpoint to which WireGuard sends. A late packet from the pair before moves WireGuard
   * back to it.
   */
  seen(e: Endpoint): void {
    if (this.over) this.using = this.find(e) ?? this.using;
  }

  /** Looks for a better pair now: addresses have changed. */
  improveNow(now: number): void {
    if (this.improveAt !== Number.POSITIVE_INFINITY) this.improveAt = now;
    this.recomputeDeadlines();
  }

  /** Returns a pair that works and is better than the one in use. */
  better(): Endpoint | undefined {
    const best = this.best();
    if (this.using === undefined || best === undefined || best.taken >= MOST_TAKEN) return undefined;
    return best.priority > this.using.priority ? best.to : undefined;
  }

  // ------------------------------------------------------------------------------------------ time

  pollTimeout(): number | undefined {
    return this.due;
  }

  /**
   * Computes the next deadline, only when something has changed: spokes with many shortcuts ask for
   * it often.
   */
  private recomputeDeadlines(): void {
    let at = this.improveAt;
    for (const p of this.pairs) if (p.nextAt < at) at = p.nextAt;
    const settled = this.over || this.settled ? undefined : this.settledAt();
    if (settled !== undefined && settled < at) at = settled;
    this.due = !this.started || at === Number.POSITIVE_INFINITY ? undefined : at;
  }

  handleTimeout(now: number): void {
    if (!this.started || this.due === undefined || now < this.due) return;
    if (now >= this.improveAt) this.improve(now);
    if (now >= (this.settledAt() ?? Number.POSITIVE_INFINITY)) this.settled = true;
    for (const p of this.pairs) if (now >= p.nextAt) this.repeat(now, p);
    this.recomputeDeadlines();
  }

  private repeat(now: number, p: Pair): void {
    // while another pair is in use, a pair has two tries each time
    if (this.over && p.tries >= 2) p.nextAt = Number.POSITIVE_INFINITY;
    else this.ping(now, p);
  }

  private improve(now: number): void {
    this.improveAt = now + IMPROVE_EVERY;
    const least = this.using?.priority ?? Number.POSITIVE_INFINITY;
    let i = 0;
    for (const p of this.pairs) {
      if (p.priority <= least || tunnelled(this.host.wayTo(p.to)) !== undefined) continue;
      p.tries = 0;
      p.roundTrip = undefined;
      p.nextAt = now + i++ * PACE;
    }
  }

  /** Returns the result of the checks; `nat` when the NAT forecast explains it. */
  result(nat: NatForecast | undefined): Reason {
    const tried = this.list();
    const untried = [...this.inside.keys()].join(", ");
    if (tried === "") return this.onlyInside ?? { kind: "nothing-to-try", nat };
    if (this.best() !== undefined) return { kind: "answers-only", tried, nat };
    return { kind: "no-answer", tried, untried, nat };
  }

  /** Returns the candidates as text. */
  list(): string {
    return this.pairs.map((p) => `${formatEndpoint(p.to)} (${p.kind})`).join(", ");
  }

  /** Returns the kind of candidate of an endpoint. */
  kindOf(e: Endpoint): PairKind {
    return this.find(e)?.kind ?? "unknown";
  }
}
