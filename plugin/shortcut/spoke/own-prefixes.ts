/**
 * What the hub attests for this router itself. Its generation comes with every keepalive and is what other ends must accept; the prefixes are asked for when it
 * changes. They say which sources may go direct, and whether this router still routes what is its own.
 */
import type { Prefix } from "../../net/address.js";
import type { Id64 } from "../../wire/control/message.js";
import type { Attested, Resolution } from "./resolutions.js";

/** A question that was not answered is put again after this. */
const PAUSE = 5_000;
/** Routes are looked up this often at most. */
const ROUTES_AGE = 100;

export interface OwnPrefixesHost {
  /** The generation that a hub last told; undefined before any did. */
  told(): Id64 | undefined;
  /** What a hub says may be the half of it: it has just come back. */
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

  /** Whether this router has routes of its own to all of them. */
  routes(now: number): boolean {
    const { known } = this;
    if (known === undefined || known.generation !== this.generation(now)) return false;
    if (now - this.routed.at >= ROUTES_AGE)
      this.routed = { at: now, yes: known.prefixes.every((p) => this.host.routesItself(p)) };
    return this.routed.yes;
  }
}
