/**
 * The hub's attestation for this router itself. Its generation comes with every keepalive and is
 * what other ends must accept. The prefixes are asked for when the generation changes. They
 * determine which sources may go direct, and whether this router still routes its own prefixes.
 */
import type { Prefix } from "../../net/address.js";
import type { Id64 } from "../../wire/control/message.js";
import type { Attested, Resolution } from "./resolutions.js";

/** Milliseconds after which an unanswered question is repeated. */
const PAUSE = 5_000;
/** Milliseconds between look-ups of the routes, at least. */
const ROUTES_AGE = 100;

export interface OwnPrefixesHost {
  /** Returns the generation that a hub told last; undefined before the first. */
  told(): Id64 | undefined;
  /** Returns whether the hub's answers may be incomplete: it has just come back. */
  unsettled(now: number): boolean;
  /** Asks a hub. */
  ask(now: number, done: (now: number, r: Resolution) => void): void;
  routesItself(prefix: Prefix): boolean;
  changed(prefixes: readonly Prefix[]): void;
}

export class OwnPrefixes {
  private believed: Id64 | undefined;
  private known: Attested | undefined;
  private askedAt = Number.NEGATIVE_INFINITY;
  private routed = { at: Number.NEGATIVE_INFINITY, yes: false };

  constructor(private readonly host: OwnPrefixesHost) {}

  get prefixes(): readonly Prefix[] {
    return this.known?.prefixes ?? [];
  }

  generation(now: number): Id64 | undefined {
    const told = this.host.told();
    if (told !== undefined && (this.believed === undefined || !this.host.unsettled(now)))
      this.believed = told;
    return this.believed;
  }

  /** Asks for the prefixes if they are not those of the generation. */
  learn(now: number): void {
    const generation = this.generation(now);
    if (generation === undefined || this.known?.generation === generation || now - this.askedAt < PAUSE)
      return;
    this.askedAt = now;
    this.host.ask(now, (_, r) => {
      if (!r.ok) return;
      this.known = r;
      this.host.changed(r.prefixes);
    });
  }

  /** Returns whether this router has its own routes to all of them. */
  routes(now: number): boolean {
    const { known } = this;
    if (known === undefined || known.generation !== this.generation(now)) return false;
    if (now - this.routed.at >= ROUTES_AGE)
      this.routed = { at: now, yes: known.prefixes.every((p) => this.host.routesItself(p)) };
    return this.routed.yes;
  }
}
