/**
 * Asks one hub for the endpoint at which it sees this router's direct port. The answer from the port
 * of the hub's own direct interface gives the reflexive endpoint. The answer from a second port
 * shows the mapping's behaviour (mapping.ts). The hub is asked at once when there is reason to,
 * otherwise at the interval of a keepalive; that also holds the mapping.
 */
import { type Address, type Endpoint, sameEndpoint } from "../../net/address.js";
import type { PublicKey } from "../../net/key.js";
import type { Id64 } from "../../wire/control/message.js";
import type { Ping } from "../../wire/ping.js";
import { remoteFault } from "./endpoint-check.js";
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
  /** Whether a whole round has passed without an answer. */
  silent: boolean;
}

const REPEAT = 150;
const TRIES = 5;
/**
 * Milliseconds for which an answer is fresh enough for a new attempt: many attempts at once must
 * not ask many times.
 */
const FRESH = 1_000;
/** Dummy epochs: a hub does not count epochs. */
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

  /** Sets the hub's endpoints; an unchanged hub is left alone. */
  watch(now: number, key: PublicKey, hub: Address, ports: readonly number[]): void {
    const wanted = ports.filter((p) => p !== 0).map((port) => ({ address: hub, port }));
    const same =
      this.key === key &&
      wanted.length === this.targets.length &&
      wanted.every((w) => this.targets.some((t) => sameEndpoint(t.to, w)));
    if (same) return;
    this.key = key;
    this.targets = wanted.map((to) => ({
      to,
      observed: undefined,
      transactions: [],
      answered: false,
      silent: false,
    }));
    this.ask(now);
  }

  forget(): void {
    this.targets = [];
    this.nextAt = undefined;
  }

  /** Starts a separate round now. */
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

  /** Starts a round, unless the hub has answered within the last second or is being asked. */
  refresh(now: number): void {
    if (this.tries === 0 && now - this.answeredAt > FRESH) this.ask(now);
  }

  pollTimeout(): number | undefined {
    return this.nextAt;
  }

  handleTimeout(now: number): void {
    if (this.nextAt === undefined || now < this.nextAt) return;
    if (!this.host.pingsUsable || this.tries >= TRIES) {
      if (this.host.pingsUsable) for (const t of this.targets) t.silent = !t.answered;
      this.rest(now);
      return;
    }
    this.tries++;
    for (const t of this.targets) if (!t.answered) this.send(t);
    this.nextAt = now + REPEAT * 2 ** (this.tries - 1);
  }

  /** Ends the round; the next one asks for everything again. */
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

  /** Takes an authentic answer of the hub. Returns whether anything has changed. */
  receive(now: number, from: Endpoint, ping: Ping): boolean {
    const t = this.targets.find((x) => sameEndpoint(x.to, from) && x.transactions.includes(ping.transaction));
    if (t === undefined || ping.observed === undefined || remoteFault(ping.observed) !== undefined)
      return false;
    t.answered = true;
    t.silent = false;
    if (t === this.targets[0]) this.answeredAt = now;
    if (this.targets.every((x) => x.answered)) this.rest(now);
    const changed = !sameEndpoint(t.observed, ping.observed);
    t.observed = ping.observed;
    return changed;
  }

  /** The endpoint that the hub's direct port saw last. */
  get reflexive(): Endpoint | undefined {
    return this.targets[0]?.observed;
  }

  /** The ports of the hub from which no answer came in a whole round. */
  get silentPorts(): number[] {
    return this.targets.filter((t) => t.silent).map((t) => t.to.port);
  }

  observations(): Observation[] {
    return this.targets.flatMap((t) =>
      t.observed === undefined ? [] : [{ hub: t.to, observed: t.observed }],
    );
  }
}
