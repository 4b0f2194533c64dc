/**
 * The sending and receiving of pings: encoding, signature, counters. A ping with an unknown boot ID
 * or a wrong MAC is only counted and dropped. The number of MACs that are checked in a second is
 * limited to the need of a router with many neighbours, and of one sender to its own.
 */

import type { Address, Endpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Id64 } from "../../wire/control/message.js";
import { decodePing, encodePing, type Ping, pingMac, pingMacInput } from "../../wire/ping.js";
import { type PairSecrets, sameBytes } from "../control/pair-secrets.js";
import type { Output } from "../events.js";
import { no, type Verdict } from "../reasons.js";
import { TokenBuckets } from "../token-buckets.js";
import type { BootIds } from "./boot-ids.js";

export interface PingCounts {
  readonly sent: number;
  readonly received: number;
  /**
   * The number of pings that were malformed, from an unknown sender, with a wrong MAC, or over the
   * limit.
   */
  readonly dropped: number;
}

/** The destination of a ping, and how it is sent. */
export interface PingTarget {
  readonly to: Endpoint;
  /** The source port: that of the direct interface, unless given. */
  readonly fromPort?: number;
  readonly source?: Address | undefined;
  readonly ttl?: number | undefined;
}

/** MACs that are checked, in all: what a router with many neighbours needs. */
const ALL = { perSecond: 2_000, burst: 1_000, most: 1 };
/** Pings in the name of one sender: whoever sends in its name takes nothing from others. */
const PER_SENDER = { perSecond: 100, burst: 250, most: 16_384 };

/** A ping that is authentic, and the key of its sender. */
export interface AuthenticPing {
  readonly ping: Ping;
  readonly key: PublicKey;
}

export class Pings {
  /** Whether pings can be used; otherwise why not. */
  verdict: Verdict = no({ kind: "pings-not-open" });
  private counts = { sent: 0, received: 0, dropped: 0 };
  private readonly all = new TokenBuckets<"all">(ALL);
  private readonly senders = new TokenBuckets<Id64>(PER_SENDER);

  constructor(
    private readonly bootId: Id64,
    private readonly port: number,
    private readonly keys: PairSecrets,
    private readonly emit: (o: Output) => void,
  ) {}

  get usable(): boolean {
    return this.verdict.ok;
  }

  send(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void {
    const payload = encodePing({ ...ping, bootId: this.bootId });
    const mac = this.keys.mac(theirs, pingMacInput(payload));
    if (mac === undefined) return;
    payload.set(mac, payload.length - mac.length);
    this.counts.sent++;
    const { to, fromPort = this.port, source, ttl } = target;
    this.emit({ kind: "ping", to, fromPort, source, ttl, payload });
  }

  /** Returns a ping that is authentic, and the key under which it is; `bootIds` has the keys for a boot ID. */
  receive(
    now: number,
    payload: Uint8Array,
    bootIds: Pick<BootIds<Address>, "keysOf" | "proven">,
  ): AuthenticPing | undefined {
    const ping = this.believe(now, payload, bootIds);
    if (ping === undefined) this.counts.dropped++;
    else this.counts.received++;
    return ping;
  }

  private believe(
    now: number,
    payload: Uint8Array,
    bootIds: Pick<BootIds<Address>, "keysOf" | "proven">,
  ): AuthenticPing | undefined {
    const decoded = decodePing(payload);
    if (!decoded.ok) return undefined;
    const ping = decoded.value;
    const { bootId } = ping;
    // One look-up in an index; a boot ID that nobody claims costs no more, and no bucket of its own.
    const keys = bootIds.keysOf(bootId);
    if (keys.length === 0 || !this.senders.take(now, bootId)) return undefined;
    const input = pingMacInput(payload);
    for (const key of keys) {
      if (!this.all.take(now, "all")) return undefined;
      const mac = this.keys.mac(key, input);
      if (mac === undefined || !sameBytes(mac, pingMac(payload))) continue;
      bootIds.proven(bootId, key);
      return { ping, key };
    }
    return undefined;
  }

  status(): PingCounts {
    return { ...this.counts };
  }
}
