/**
 * Asks one hub from where it sees this router's direct port: at the port of the hub's own direct interface, whose answer is the reflexive
 * endpoint, and at a second port, by which the mapping shows its behaviour (mapping.ts). Asked at once when there is
 * reason to, otherwise as often as a keepalive; that also holds the mapping.
 */
import { type Address, type Endpoint, sameEndpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Id64 } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import type { Observation } from "./mapping.js";
import type { PingTarget } from "./pings.js";

export interface ObserverHost {
  readonly pingsUsable: boolean;
  sendPing(theirs: PublicKey, ping: Omit<Ping, "bootId">, target: PingTarget): void;
  randomId(): Id64;
}

interface Target {
  readonly to: Endpoint;
  observed: Endpoint | undefined;
  transactions: Id64[];
  answered: boolean;
}

const REPEAT = 150;
const TRIES = 5;
/** An answer is good for this long where attempts begin: many at once shall not ask many times. */
const FRESH = 1_000;
/** No epochs: a hub counts none. */
const EPOCHS = { mine: 1, yours: 0 } as const;

export class Observer {
  private targets: Target[] = [];
  private key: PublicKey | undefined;
  private tries = 0;
  private answeredAt = Number.NEGATIVE_INFINITY;
  private nextAt: number | undefined;

  constructor(
    private readonly host: ObserverHost,
    /** Milliseconds between rounds. */
    private readonly every: number,
  ) {}

  /** The hub's endpoints; an unchanged hub is left alone. */
  watch(now: number, key: PublicKey, hub: Address, ports: readonly number[]): void {
    const wanted = ports.filter((p) => p !== 0).map((port) => ({ address: hub, port }));
    const same =
      this.key === key &&
      wanted.length === this.targets.length &&
      wanted.every((w) => this.targets.some((t) => sameEndpoint(t.to, w)));
    if (same) return;
    this.key = key;
    this.targets = wanted.map((to) => ({ to, observed: undefined, transactions: [], answered: false }));
    this.ask(now);
  }

  forget(): void {
    this.targets = [];
    this.nextAt = undefined;
  }

  /** A round of its own, now. */
  ask(now: number): void {
    if (this.targets.length === 0) return;
    this.tries = 0;
    for (const t of this.targets) {
      t.answered = false;
      t.transactions = [];
    }
    this.nextAt = now;
    this.handleTimeout(now);
  }

  /** The same, unless the hub has answered a moment ago or is being asked. */
  refresh(now: number): void {
    if (this.tries === 0 && now - this.answeredAt > FRESH) this.ask(now);
  }

  pollTimeout(): number | undefined {
    return this.nextAt;
  }

  handleTimeout(now: number): void {
    if (this.nextAt === undefined || now < this.nextAt) return;
    if (!this.host.pingsUsable || this.tries >= TRIES) {
      this.rest(now);
      return;
    }
    this.tries++;
    for (const t of this.targets) if (!t.answered) this.send(t);
    this.nextAt = now + REPEAT * 2 ** (this.tries - 1);
  }

  /** The round is over; the next asks for everything again. */
  private rest(now: number): void {
    this.tries = 0;
    for (const t of this.targets) t.answered = false;
    this.nextAt = now + this.every;
  }

  private send(t: Target): void {
    if (this.key === undefined) return;
    const transaction = this.host.randomId();
    t.transactions = [...t.transactions.slice(-3), transaction];
    const ping = { kind: "observe", ready: false, transaction, epochs: EPOCHS, observed: undefined } as const;
    this.host.sendPing(this.key, ping, { to: t.to });
  }

  /** An authentic answer of the hub; whether anything has changed. */
  receive(now: number, from: Endpoint, ping: Ping): boolean {
    const t = this.targets.find((x) => sameEndpoint(x.to, from) && x.transactions.includes(ping.transaction));
    if (t === undefined || ping.observed === undefined) return false;
    t.answered = true;
    if (t === this.targets[0]) this.answeredAt = now;
    if (this.targets.every((x) => x.answered)) this.rest(now);
    const changed = !sameEndpoint(t.observed, ping.observed);
    t.observed = ping.observed;
    return changed;
  }

  /** What the hub's direct port saw last. */
  get reflexive(): Endpoint | undefined {
    return this.targets[0]?.observed;
  }

  observations(): Observation[] {
    return this.targets.flatMap((t) =>
      t.observed === undefined ? [] : [{ hub: t.to, observed: t.observed }],
    );
  }
}
