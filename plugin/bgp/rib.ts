/**
 * The routing information bases of one session (RFC 4271 §3.2). Adj-RIB-Out holds what the neighbour shall hear and
 * remembers what it has heard, so that only differences are sent and a change that is taken back before it left
 * costs nothing. Adj-RIB-In holds what was heard, one entry per prefix and path identifier (RFC 7911).
 */
import { type Address, type Family, familyOf, type Prefix } from "../net/address.js";
import { PrefixMap } from "../net/lpm.js";
import { attributesKey, type Nlri, type PathAttributes } from "../wire/bgp/attributes.js";
import type { Reach, Update } from "../wire/bgp/update.js";

export interface Route {
  readonly prefix: Prefix;
  readonly attributes: PathAttributes;
}

/** The changes to send for one family: withdrawals, and announcements grouped by equal attributes. */
export interface Difference {
  readonly withdrawn: readonly Nlri[];
  readonly reach: readonly Reach[];
}

/** The neighbour has some form of the route, but is to be told again. No attributes have this key. */
const TELL_AGAIN = "";

interface OutTable {
  readonly wanted: Map<Prefix, PathAttributes>;
  /** `attributesKey` of what was sent in this session. */
  readonly sent: Map<Prefix, string>;
  readonly dirty: Set<Prefix>;
}

const outTable = (): OutTable => ({ wanted: new Map(), sent: new Map(), dirty: new Set() });

export class AdjRibOut {
  private readonly tables: Readonly<Record<Family, OutTable>> = { 4: outTable(), 6: outTable() };

  get size(): number {
    return this.tables[4].wanted.size + this.tables[6].wanted.size;
  }

  get(prefix: Prefix): PathAttributes | undefined {
    return this.tables[familyOf(prefix)].wanted.get(prefix);
  }

  /** Replaces what stood for the prefix before (RFC 4271 §3.1: an implicit withdrawal). */
  announce({ prefix, attributes }: Route): void {
    const t = this.tables[familyOf(prefix)];
    t.wanted.set(prefix, attributes);
    if (t.sent.get(prefix) === attributesKey(attributes)) t.dirty.delete(prefix);
    else t.dirty.add(prefix);
  }

  withdraw(prefix: Prefix): void {
    const t = this.tables[familyOf(prefix)];
    t.wanted.delete(prefix);
    if (t.sent.has(prefix)) t.dirty.add(prefix);
    else t.dirty.delete(prefix);
  }

  /** Whether the neighbour lacks something in one of the families. */
  pending(families: Iterable<Family>): boolean {
    for (const f of families) if (this.tables[f].dirty.size > 0) return true;
    return false;
  }

  /** Takes the changes that bring the neighbour up to date; they count as sent from here on. */
  takeDifference(family: Family): Difference {
    const t = this.tables[family];
    const withdrawn: Nlri[] = [];
    const groups = new Map<string, { attributes: PathAttributes; nlri: Nlri[] }>();
    for (const prefix of t.dirty) {
      const attributes = t.wanted.get(prefix);
      if (attributes === undefined) {
        t.sent.delete(prefix);
        withdrawn.push({ prefix, pathId: 0 });
        continue;
      }
      const key = attributesKey(attributes);
      t.sent.set(prefix, key);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { attributes, nlri: [{ prefix, pathId: 0 }] });
      else group.nlri.push({ prefix, pathId: 0 });
    }
    t.dirty.clear();
    return { withdrawn, reach: [...groups.values()] };
  }

  /** A route refresh (RFC 2918): everything of the family is due again. */
  tellAgain(family: Family): void {
    const t = this.tables[family];
    for (const prefix of t.wanted.keys()) {
      t.dirty.add(prefix);
      if (t.sent.has(prefix)) t.sent.set(prefix, TELL_AGAIN);
    }
  }

  /** The announcement could not be sent: the neighbour has what it had before, at worst an older form that goes with the withdrawal. */
  forgetSent(prefix: Prefix): void {
    this.tables[familyOf(prefix)].sent.set(prefix, TELL_AGAIN);
  }

  /** The session is gone and the neighbour has forgotten everything. */
  sessionDown(): void {
    for (const family of [4, 6] as const) {
      const t = this.tables[family];
      t.sent.clear();
      t.dirty.clear();
      for (const prefix of t.wanted.keys()) t.dirty.add(prefix);
    }
  }

  *[Symbol.iterator](): IterableIterator<Route> {
    for (const family of [4, 6] as const)
      for (const [prefix, attributes] of this.tables[family].wanted) yield { prefix, attributes };
  }
}

export interface RibPath {
  /** 0 without ADD-PATH. */
  readonly pathId: number;
  readonly attributes: PathAttributes;
}

export type RouteChange =
  | { readonly kind: "announced"; readonly prefix: Prefix; readonly path: RibPath }
  | { readonly kind: "withdrawn"; readonly prefix: Prefix; readonly path: RibPath };

export class AdjRibIn {
  private paths = new PrefixMap<readonly RibPath[]>();
  private count = 0;
  /** During an enhanced refresh: what has not been heard again (RFC 7313 §4). */
  private readonly stale: Partial<Record<Family, Set<string>>> = {};

  /** Number of paths. */
  get size(): number {
    return this.count;
  }

  /** Returns all paths of exactly this prefix; an empty list without any. */
  pathsOf(prefix: Prefix): readonly RibPath[] {
    return this.paths.get(prefix) ?? [];
  }

  /** The most specific prefix that contains the address or the whole prefix, with all its paths. */
  longestMatch(
    of: Address | Prefix,
  ): { readonly prefix: Prefix; readonly paths: readonly RibPath[] } | undefined {
    const hit = this.paths.longestMatch(of);
    return hit === undefined ? undefined : { prefix: hit.prefix, paths: hit.value };
  }

  *[Symbol.iterator](): IterableIterator<readonly [Prefix, readonly RibPath[]]> {
    yield* this.paths;
  }

  /** Applies an UPDATE and returns what changed by it: repeated announcements and withdrawals of nothing do not count. */
  apply(update: Update): RouteChange[] {
    const changes: RouteChange[] = [];
    for (const n of update.withdrawn) this.remove(n.prefix, n.pathId, changes);
    for (const { attributes, nlri } of update.reach)
      for (const n of nlri) this.put(n.prefix, { pathId: n.pathId, attributes }, changes);
    return changes;
  }

  private put(prefix: Prefix, path: RibPath, changes: RouteChange[]): void {
    const before = this.paths.get(prefix);
    this.stale[familyOf(prefix)]?.delete(`${prefix} ${path.pathId}`);
    const old = before?.find((p) => p.pathId === path.pathId);
    if (old !== undefined && attributesKey(old.attributes) === attributesKey(path.attributes)) return;
    if (old === undefined) this.count++;
    const others = before?.filter((p) => p !== old) ?? [];
    this.paths.set(prefix, others.length === 0 ? [path] : [...others, path]);
    changes.push({ kind: "announced", prefix, path });
  }

  private remove(prefix: Prefix, pathId: number, changes: RouteChange[]): void {
    const before = this.paths.get(prefix);
    const old = before?.find((p) => p.pathId === pathId);
    if (before === undefined || old === undefined) return;
    this.count--;
    if (before.length === 1) this.paths.delete(prefix);
    else
      this.paths.set(
        prefix,
        before.filter((p) => p !== old),
      );
    changes.push({ kind: "withdrawn", prefix, path: old });
  }

  /** BoRR: what is not announced again until {@link endRefresh} is gone. */
  beginRefresh(family: Family): void {
    const stale = new Set<string>();
    for (const [prefix, paths] of this.paths)
      if (familyOf(prefix) === family) for (const p of paths) stale.add(`${prefix} ${p.pathId}`);
    this.stale[family] = stale;
  }

  /** EoRR: removes what was not heard again. Without a {@link beginRefresh} nothing happens. */
  endRefresh(family: Family): RouteChange[] {
    const changes: RouteChange[] = [];
    const stale = this.stale[family];
    if (stale === undefined) return changes;
    delete this.stale[family];
    if (stale.size === 0) return changes;
    for (const [prefix, paths] of [...this.paths])
      for (const p of paths) if (stale.has(`${prefix} ${p.pathId}`)) this.remove(prefix, p.pathId, changes);
    return changes;
  }

  clear(): void {
    this.paths = new PrefixMap();
    this.count = 0;
    delete this.stale[4];
    delete this.stale[6];
  }
}
