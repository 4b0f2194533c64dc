/**
 * The hubs' attestations for this router itself. Each hub tells a generation with every keepalive; the
 * prefixes are asked for when it changes. Hubs may attest different sets. The other end of a shortcut
 * accepts the set of the hub that it has asked, and tells its generation. So the generation of any of
 * the sets is an acceptance, and only sources inside all of the sets may go direct. The set of a hub
 * that is away stays for as long as others may hold its answer.
 */
import type { Address, Prefix } from "../../net/address.js";
import { PrefixMap } from "../../net/lpm.js";
import type { Id64 } from "../../wire/control/message.js";
import type { Attested, Resolution } from "./resolutions.js";

/** Milliseconds after which a question is repeated that was not answered, or not with what was told. */
const PAUSE = 5_000;
/** Milliseconds between look-ups of the routes, at least. */
const ROUTES_AGE = 100;
/** Milliseconds for which the set of a hub that is away is kept, beyond the lifetime of its answers. */
const KEPT = 60_000;

/** A hub, as far as it attests this router's own prefixes. */
export interface OwnHub {
  readonly address: Address;
  /** Whether this router is registered there. */
  readonly registered: boolean;
  /** The generation that it told last; undefined before the first. */
  readonly generation: Id64 | undefined;
}

export interface OwnPrefixesHost {
  hubs(): readonly OwnHub[];
  /** Returns whether a hub's answers may be incomplete: it has just come back. */
  unsettled(now: number, hub: Address): boolean;
  /** Asks a hub. */
  ask(now: number, hub: Address, done: (now: number, r: Resolution) => void): void;
  routesItself(prefix: Prefix): boolean;
  /** Told the prefixes that may go direct. */
  changed(prefixes: readonly Prefix[]): void;
  /** For how long others may use a hub's answer, in milliseconds. */
  readonly lifetime: number;
}

interface Told {
  believed: Id64;
  known: Attested | undefined;
  askedAt: number;
  /** The last time at which the hub was there. */
  presentAt: number;
}

/** Returns what two sets of disjoint prefixes have in common. */
function intersection(a: readonly Prefix[], b: readonly Prefix[]): Prefix[] {
  const map = new PrefixMap<true>();
  for (const p of b) map.set(p, true);
  return a.flatMap((p) => (map.longestMatch(p) === undefined ? [...map.inside(p)].map(([q]) => q) : [p]));
}

export class OwnPrefixes {
  private readonly told = new Map<Address, Told>();
  private routed = { at: Number.NEGATIVE_INFINITY, yes: false };

  constructor(private readonly host: OwnPrefixesHost) {}

  private get sets(): readonly (readonly Prefix[])[] {
    return [...this.told.values()].flatMap(({ known }) => (known === undefined ? [] : [known.prefixes]));
  }

  /** The prefixes that any hub attests. */
  get prefixes(): readonly Prefix[] {
    return [...new Set(this.sets.flat())];
  }

  /** Reads what the hubs told last. */
  private read(now: number): void {
    const hubs = this.host.hubs();
    const any = hubs.some((h) => h.registered);
    for (const { address, registered, generation } of hubs) {
      if (generation === undefined) continue;
      let told = this.told.get(address);
      if (told === undefined) {
        if (!registered) continue;
        told = { believed: generation, known: undefined, askedAt: Number.NEGATIVE_INFINITY, presentAt: now };
        this.told.set(address, told);
      }
      if (!this.host.unsettled(now, address)) told.believed = generation;
      if (registered || !any) told.presentAt = now;
      else if (now - told.presentAt > this.host.lifetime + KEPT) {
        this.told.delete(address);
        this.announce();
      }
    }
  }

  /** Returns whether the other end of a shortcut, which accepts this generation, accepts what this router sends. */
  accepts(now: number, generation: Id64): boolean {
    this.read(now);
    for (const { believed, known } of this.told.values())
      if (known?.generation === generation && believed === generation) return true;
    return false;
  }

  /** Asks for the prefixes of each hub if they are not those of the generation that it told. */
  learn(now: number): void {
    this.read(now);
    const there = new Set(this.host.hubs().flatMap((h) => (h.registered ? [h.address] : [])));
    for (const [hub, told] of this.told) {
      if (told.known?.generation === told.believed || now - told.askedAt < PAUSE || !there.has(hub)) continue;
      told.askedAt = now;
      this.host.ask(now, hub, (_, r) => {
        if (!r.ok || this.told.get(hub) !== told) return;
        told.known = r;
        if (r.generation === told.believed) told.askedAt = Number.NEGATIVE_INFINITY;
        this.announce();
      });
    }
  }

  private announce(): void {
    const [first, ...others] = this.sets;
    if (first !== undefined) this.host.changed(others.reduce<readonly Prefix[]>(intersection, first));
  }

  /** Returns whether this router has its own routes to everything that a hub attests for it. */
  routes(now: number): boolean {
    this.read(now);
    const known = [...this.told.values()].filter((t) => t.known !== undefined);
    if (known.length === 0 || known.some((t) => t.known?.generation !== t.believed)) return false;
    if (now - this.routed.at >= ROUTES_AGE)
      this.routed = { at: now, yes: this.prefixes.every((p) => this.host.routesItself(p)) };
    return this.routed.yes;
  }
}
