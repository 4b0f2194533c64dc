/**
 * Runs every probed path of one router: probes leave when they are due, and received probes are
 * passed on with their time of arrival. The relay answers for the engine only under a lease. An
 * engine that has not renewed the lease for two seconds hangs, and its probes must not report that
 * all is well. Sans-I/O; an adapter runs it in a separate thread, the simulation beside the engine.
 */
import type { PublicKey } from "../../net/key.js";
import type { Probe } from "../../wire/probe.js";
import { Deadlines } from "../deadlines.js";
import { type ProbeSession, ProbeStream, type StreamEvent } from "./stream.js";

export type ProbeEvent = StreamEvent & { readonly key: PublicKey };

export type RelayOutput =
  | { readonly kind: "send"; readonly key: PublicKey; readonly probe: Probe }
  | { readonly kind: "event"; readonly event: ProbeEvent };

/** Milliseconds for which a relay answers while its engine does nothing. */
export const LEASE = 2_000;

export class ProbeRelay {
  private readonly streams = new Map<PublicKey, ProbeStream>();
  private readonly out: RelayOutput[] = [];
  private readonly deadlines = new Deadlines<PublicKey>();
  private leaseEnds: number;
  /** Whether the deadlines were computed under a lease. */
  private leased = true;

  constructor(
    /** Returns a random number in [0, 1). */
    private readonly random: () => number,
    now: number,
  ) {
    this.leaseEnds = now + LEASE;
  }

  /** Renews the lease: the engine is alive. */
  renew(now: number): void {
    this.leaseEnds = now + LEASE;
  }

  /** Starts to probe a path, or continues with changed parameters. */
  set(now: number, key: PublicKey, session: ProbeSession): void {
    const stream = this.streams.get(key);
    if (stream?.continues(session) === true) stream.update(now, session);
    else this.streams.set(key, new ProbeStream(session, now));
    this.schedule(key);
  }

  unset(key: PublicKey): void {
    this.streams.delete(key);
    this.deadlines.set(key, undefined);
  }

  private schedule(key: PublicKey): void {
    this.deadlines.set(key, this.streams.get(key)?.pollTimeout(this.leased));
  }

  /** Takes a probe that arrived from the peer with this key, at `at`. */
  receive(at: number, key: PublicKey, probe: Probe): void {
    const stream = this.streams.get(key);
    if (stream?.receive(at, probe) === true) this.recomputeDeadline(at, key, stream);
  }

  pollTimeout(now: number): number | undefined {
    const leased = now < this.leaseEnds;
    if (leased !== this.leased) {
      this.leased = leased;
      for (const key of this.streams.keys()) this.schedule(key);
    }
    return this.deadlines.first();
  }

  /** Handles deadlines. Everything that has arrived must have been received before. */
  handleTimeout(now: number): void {
    for (const key of this.deadlines.due(now)) {
      const stream = this.streams.get(key);
      stream?.handleTimeout(now);
      if (stream !== undefined) this.recomputeDeadline(now, key, stream);
    }
  }

  private recomputeDeadline(now: number, key: PublicKey, stream: ProbeStream): void {
    for (const event of stream.events.splice(0)) this.out.push({ kind: "event", event: { ...event, key } });
    const probe = now < this.leaseEnds ? stream.next(now, this.random()) : undefined;
    if (probe !== undefined) this.out.push({ kind: "send", key, probe });
    this.schedule(key);
  }

  pollOutput(): RelayOutput | undefined {
    return this.out.shift();
  }
}
