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
import { type Candidate, type Epochs, type Id64, MAX_CANDIDATES } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { PairKind } from "../events.js";
import { describeUntried, type NatForecast, type Reason, type Verdict } from "../reasons.js";
import { priorityOf } from "./candidates.js";
import type { PingTarget } from "./pings.js";

export interface ChecksHost {
  /**
   * Number of hops that a datagram of this end passes until it has left its last NAT, that NAT
   * included.
   */
  readonly openTtl: number;
  /** Sends it, unless the budget of pings is used up. */
  sendPing(now: number, theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
  /** Told that a ping to this endpoint was answered. */
  answered(now: number, from: Endpoint): void;
  randomId(): Id64;
  /** Returns whether something may be sent there: a router's endpoint outside the tunnels of the overlay. */
  permits(to: Endpoint): Verdict;
  onLink(): readonly Prefix[];
}

export interface ChecksEnds {
  readonly publicKey: PublicKey;
  readonly epochs: Epochs;
  readonly candidates: readonly Candidate[];
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
/** Number of endpoints that are learned from pings; beyond it the one that is heard least recently is dropped. */
const MOST_PEER_REFLEXIVE = 8;
/** Number of endpoints that are remembered although they must not be tried. */
const MOST_REFUSED = 16;
/** Number of transactions of one pair that may still be answered. */
const IN_FLIGHT = 4;
/**
 * Milliseconds between searches for a better pair while a shortcut is direct: short at first,
 * longer later.
 */
const IMPROVE_FIRST = 2_000;
const IMPROVE_EVERY = 30_000;
/** Milliseconds between two such searches at least, whatever the other end announces. */
const IMPROVE_PAUSE = 5_000;
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
  /** The time of the last ping that came from there. */
  heardAt: number;
}

/** An endpoint that must not be tried, and why. */
interface Refused {
  readonly to: Endpoint;
  readonly kind: Pair["kind"];
  readonly reason: Reason;
}

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
  private improvedAt = Number.NEGATIVE_INFINITY;
  /** Endpoints of the other end that must not be tried, such as one inside a tunnel: nothing is sent to them. */
  private readonly refused = new Map<string, Refused>();
  /** Whether this end's peer exists. */
  ready = false;

  constructor(
    private readonly host: ChecksHost,
    private readonly ends: ChecksEnds,
    now: number,
  ) {
    this.learn(now, ends.candidates);
  }

  /**
   * Takes the other end's candidates in the place of those that it told before. The pair in use and what
   * pings have taught stay. Returns whether there is anything new.
   */
  learn(now: number, candidates: readonly Candidate[]): boolean {
    const told = candidates.slice(0, MAX_CANDIDATES);
    const stays = (e: Endpoint, kind: Pair["kind"]): boolean =>
      kind === "peer-reflexive" || told.some((c) => sameEndpoint(c, e));
    for (const p of [...this.pairs]) if (p !== this.using && !stays(p.to, p.kind)) this.drop(p);
    for (const [key, r] of this.refused) if (!stays(r.to, r.kind)) this.refused.delete(key);
    let news = false;
    for (const c of told) {
      // a ping may have taught it already
      if (this.find(c) !== undefined || !this.admits(c, c.kind)) continue;
      news = true;
      this.follow(now, this.add(c, c.kind));
    }
    this.recomputeDeadlines();
    return news;
  }

  private drop(p: Pair): void {
    this.pairs.splice(this.pairs.indexOf(p), 1);
  }

  /** Returns whether an endpoint may be tried, and notes when it may not. */
  private admits(to: Endpoint, kind: Pair["kind"]): boolean {
    const key = formatEndpoint(to);
    const verdict = this.host.permits(to);
    if (verdict.ok) this.refused.delete(key);
    else if (
      this.refused.size < (kind === "peer-reflexive" ? MOST_PEER_REFLEXIVE : MOST_REFUSED) ||
      this.refused.has(key)
    )
      this.refused.set(key, { to: { address: to.address, port: to.port }, kind, reason: verdict.reason });
    return verdict.ok;
  }

  /** Follows a change of routes or addresses: an endpoint may be tried now, or not any more. */
  reroute(now: number): void {
    const known = [...this.refused.values()];
    for (const p of [...this.pairs]) if (!this.admits(p.to, p.kind)) this.drop(p);
    for (const { to, kind } of known)
      if (this.find(to) === undefined && this.admits(to, kind)) this.follow(now, this.add(to, kind));
    this.recomputeDeadlines();
  }

  /** The reason why nothing can be tried: the other end's endpoints are reached inside a tunnel. */
  get onlyInside(): Reason | undefined {
    if (this.pairs.length > 0) return undefined;
    return [...this.refused.values()].find((r) => r.reason.kind === "endpoint-via-overlay")?.reason;
  }

  /** Opens and tries a candidate that is learned late like the earlier ones. */
  private follow(now: number, p: Pair): void {
    if (this.started && !this.over) p.nextAt = now;
    else if (this.openedAt !== undefined && !this.stale(now)) this.openTowards(now, p);
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
      heardAt: Number.NEGATIVE_INFINITY,
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
    for (const p of this.pairs) this.openTowards(now, p);
  }

  private openTowards(now: number, p: Pair): void {
    this.send(now, "open", this.host.randomId(), { to: p.to, ttl: this.host.openTtl });
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

  private send(now: number, kind: "open" | "ping", transaction: Id64, target: PingTarget): void {
    const { publicKey, epochs } = this.ends;
    const ping = { kind, ready: this.ready, transaction, epochs, observed: undefined } as const;
    this.host.sendPing(now, publicKey, ping, target);
  }

  private ping(now: number, p: Pair): void {
    const transaction = this.host.randomId();
    p.sent.push({ transaction, at: now });
    if (p.sent.length > IN_FLIGHT) p.sent.shift();
    p.nextAt = now + REPEAT * 2 ** Math.min(p.tries, 4);
    p.tries++;
    this.send(now, "ping", transaction, { to: p.to, source: p.source });
  }

  /** Takes an authentic ping or pong of the other end's current attempt. */
  receive(now: number, from: Endpoint, at: Address, ping: Ping): void {
    if (ping.kind === "pong") this.answered(now, from, ping);
    else if (ping.kind === "ping") this.asked(now, from, at, ping);
    this.recomputeDeadlines();
  }

  private asked(now: number, from: Endpoint, at: Address, ping: Ping): void {
    let pair = this.find(from);
    if (!this.admits(from, pair?.kind ?? "peer-reflexive")) return;
    pair ??= this.learnReflexive(from);
    pair.heardAt = now;
    pair.source = at;
    const { publicKey, epochs } = this.ends;
    const { ready } = this;
    const { transaction } = ping;
    this.host.sendPing(
      now,
      publicKey,
      { kind: "pong", ready, transaction, epochs, observed: from },
      { to: from, source: at },
    );
    // RFC 8445 §7.3.1.4: a ping that came in from there shows that an answer can go there
    if (this.started && pair.roundTrip === undefined && pair.sent.every((s) => now - s.at > PACE))
      this.ping(now, pair);
  }

  /** Learns an endpoint from a ping, in the place of another one if there are too many. */
  private learnReflexive(from: Endpoint): Pair {
    const learnt = this.pairs.filter((p) => p.kind === "peer-reflexive" && p !== this.using);
    const [oldest] = learnt.sort((a, b) => a.heardAt - b.heardAt);
    if (oldest !== undefined && learnt.length >= MOST_PEER_REFLEXIVE) this.drop(oldest);
    return this.add(from, "peer-reflexive");
  }

  private answered(now: number, from: Endpoint, pong: Ping): void {
    // RFC 8445 §7.2.5.2.1: an answer from another address does not count
    const pair = this.find(from);
    const sent = pair?.sent.find((s) => s.transaction === pong.transaction);
    if (pair === undefined || sent === undefined) return;
    pair.sent.splice(pair.sent.indexOf(sent), 1);
    this.host.answered(now, from);
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

  /** Looks for a better pair soon: addresses have changed. */
  improveSoon(now: number): void {
    if (this.improveAt !== Number.POSITIVE_INFINITY)
      this.improveAt = Math.min(this.improveAt, Math.max(now, this.improvedAt + IMPROVE_PAUSE));
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
    this.improvedAt = now;
    const least = this.using?.priority ?? Number.POSITIVE_INFINITY;
    let i = 0;
    for (const p of this.pairs) {
      if (p.priority <= least || !this.host.permits(p.to).ok) continue;
      p.tries = 0;
      p.roundTrip = undefined;
      p.nextAt = now + i++ * PACE;
    }
  }

  /** Returns the result of the checks; `nat` when the NAT forecast explains it. */
  result(nat: NatForecast | undefined): Reason {
    const tried = this.list();
    const untried = [...this.refused].map(([e, { reason }]) => describeUntried(e, reason)).join(", ");
    if (tried === "") return this.onlyInside ?? this.firstRefusal ?? { kind: "nothing-to-try", nat };
    if (this.best() !== undefined) return { kind: "answers-only", tried, nat };
    return { kind: "no-answer", tried, untried, nat };
  }

  private get firstRefusal(): Reason | undefined {
    const [first] = this.refused.values();
    return first?.reason;
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
