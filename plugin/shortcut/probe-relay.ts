/**
 * Every probed path of one router: probes leave when they are due, what arrives is passed on with the time at which it did. It answers for the engine, so
 * it does so only under a lease: an engine that has not renewed it for two seconds hangs, and its probes must not say that all is well.
 * Sans-I/O; an adapter runs it in a thread of its own, the simulation beside the engine.
 */
import type { PublicKey } from "../net/key.js";
import type { Probe } from "../wire/probe.js";
import { type ProbeSession, ProbeStream, type StreamEvent } from "./probe-stream.js";

export type ProbeEvent = StreamEvent & { readonly key: PublicKey };

export type RelayOutput =
  | { readonly kind: "send"; readonly key: PublicKey; readonly probe: Probe }
  | { readonly kind: "event"; readonly event: ProbeEvent };

/** Milliseconds for which a router answers whose engine does nothing. */
export const LEASE = 2_000;

export class ProbeRelay {
  private readonly streams = new Map<PublicKey, ProbeStream>();
  private readonly out: RelayOutput[] = [];
  private leaseEnds: number;

  constructor(
    /** In [0, 1). */
    private readonly random: () => number,
    now: number,
  ) {
    this.leaseEnds = now + LEASE;
  }

  /** The engine is alive. */
  renew(now: number): void {
    this.leaseEnds = now + LEASE;
  }

  /** Probes a path, or goes on with what changed. */
  set(now: number, key: PublicKey, session: ProbeSession): void {
    const stream = this.streams.get(key);
    if (stream?.continues(session) === true) stream.update(now, session);
    else this.streams.set(key, new ProbeStream(session, now));
  }

  unset(key: PublicKey): void {
    this.streams.delete(key);
  }

  /** A probe that arrived from the peer with this key, at `at`. */
  receive(at: number, key: PublicKey, probe: Probe): void {
    const stream = this.streams.get(key);
    if (stream?.receive(at, probe) === true) this.settle(at, key, stream);
  }

  pollTimeout(now: number): number | undefined {
    let at: number | undefined;
    for (const s of this.streams.values()) {
      const t = s.pollTimeout(now < this.leaseEnds);
      if (t !== undefined && (at === undefined || t < at)) at = t;
    }
    return at;
  }

  /** What has arrived must have been received before. */
  handleTimeout(now: number): void {
    for (const [key, stream] of this.streams) {
      stream.handleTimeout(now);
      this.settle(now, key, stream);
    }
  }

  private settle(now: number, key: PublicKey, stream: ProbeStream): void {
    for (const event of stream.events.splice(0)) this.out.push({ kind: "event", event: { ...event, key } });
    if (now >= this.leaseEnds) return;
    const probe = stream.next(now, this.random());
    if (probe !== undefined) this.out.push({ kind: "send", key, probe });
  }

  pollOutput(): RelayOutput | undefined {
    return this.out.shift();
  }
}
