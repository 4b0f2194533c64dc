/**
 * The sending and receiving of pings: encoding, signature, counters. A ping with an unknown boot ID
 * or a wrong MAC is only counted and dropped. The number of pings that are examined in a second is
 * limited to the need of a router with many neighbours.
 */

import type { Address, Endpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Id64 } from "../../wire/control/message.js";
import { decodePing, encodePing, type Ping, pingMac, pingMacInput } from "../../wire/ping.js";
import { type PairSecrets, sameBytes } from "../control/pair-secrets.js";
import type { Output } from "../events.js";
import { no, type Verdict } from "../reasons.js";

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

/** Number of MACs that are checked in a second, and number that may be checked at once. */
const RATE = 2_000;
const BURST = 1_000;

export class Pings {
  /** Whether pings can be used; otherwise why not. */
  verdict: Verdict = no({ kind: "pings-not-open" });
  private counts = { sent: 0, received: 0, dropped: 0 };
  private tokens = BURST;
  private refilledAt = 0;

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

  /** Returns a ping that is authentic; `keyOf` returns the key for a boot ID. */
  receive(
    now: number,
    payload: Uint8Array,
    keyOf: (bootId: Id64) => PublicKey | undefined,
  ): Ping | undefined {
    const ping = this.believe(now, payload, keyOf);
    if (ping === undefined) this.counts.dropped++;
    else this.counts.received++;
    return ping;
  }

  private believe(
    now: number,
    payload: Uint8Array,
    keyOf: (bootId: Id64) => PublicKey | undefined,
  ): Ping | undefined {
    const ping = decodePing(payload);
    if (!ping.ok) return undefined;
    const key = keyOf(ping.value.bootId);
    if (key === undefined) return undefined;
    this.tokens = Math.min(BURST, this.tokens + ((now - this.refilledAt) * RATE) / 1000);
    this.refilledAt = now;
    if (this.tokens < 1) return undefined;
    this.tokens--;
    const mac = this.keys.mac(key, pingMacInput(payload));
    return mac !== undefined && sameBytes(mac, pingMac(payload)) ? ping.value : undefined;
  }

  status(): PingCounts {
    return { ...this.counts };
  }
}
