/**
 * Pings as this router sends and believes them: encoded, signed, counted. A ping whose boot ID nobody has, or whose MAC is wrong, is dropped
 * without a trace but a number; and as many are looked at in a second as a router with many neighbours needs, no more.
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
  /** Malformed, of nobody known, with a wrong MAC, or too many. */
  readonly dropped: number;
}

/** Where a ping goes, and how. */
export interface PingTarget {
  readonly to: Endpoint;
  /** The direct interface's, unless given. */
  readonly fromPort?: number;
  readonly source?: Address | undefined;
  readonly ttl?: number | undefined;
}

/** MACs that are checked in a second, and how many may be checked at once. */
const RATE = 2_000;
const BURST = 1_000;

export class Pings {
  /** Why pings cannot be used; empty when they can. */
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

  /** A ping that is authentic; `keyOf` knows whose boot ID it is. */
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
