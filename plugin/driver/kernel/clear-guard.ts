/**
 * The guard against clear text: an unreachable route of the worst metric under each prefix that the hub has ever attested and that was
 * routed via the overlay. Whatever removes the daemon's own route (hub gone, overlay down, daemon dead, shortcutd dead), packets for
 * the prefix are refused, instead of following a default route into the underlay. A route that the operator has besides is never
 * hidden: where a less specific route covers the prefix, no guard stands, unless that is a default route past the overlay. Prefixes are remembered in a file
 * until the operator forgets them. The routes are removed by an orderly stop only.
 */
import { contains, type Prefix, parsePrefix, prefixLength } from "../../net/address.js";
import { PrefixMap } from "../../net/lpm.js";
import { err, ok, type Result } from "../../net/result.js";
import { type FibView, RTPROT_SHORTCUTD } from "./fib-view.js";
import type { WantedRoute } from "./reconcile.js";

/**
 * Worse than every other route of shortcutd's. zebra takes its highest byte as a distance, and with 255 every other route is better; the
 * rest is the metric by which the route-map SHORTCUT-NO-ALIAS refuses it to `redistribute kernel`.
 */
export const CLEAR_GUARD_METRIC = 0xff000002;
/** Prefixes remembered. The oldest is forgotten first. */
const MOST_PREFIXES = 10_000;

export interface ClearGuardHost {
  readonly fib: FibView;
  put(route: WantedRoute): void;
  take(route: WantedRoute): void;
  /** Writes the file. */
  save(text: string): void;
}

export interface ClearGuardRules {
  readonly enabled: boolean;
  /** Prefixes that may leave in the clear, with everything inside them. */
  readonly except: readonly Prefix[];
}

export class ClearGuard {
  private readonly known = new PrefixMap<true>();
  /** The same in the order in which they were learned. */
  private readonly order = new Set<Prefix>();
  private readonly standing = new Set<Prefix>();
  /** Whether the main table is known, so that covering routes can be seen. */
  private watching = false;

  constructor(
    private readonly host: ClearGuardHost,
    private readonly rules: ClearGuardRules,
  ) {}

  /** Takes the content of the file. Returns why it cannot be used, if so: the guard then begins without it. */
  load(text: string): Result<number, string> {
    const decoded = decodeGuarded(text);
    if (!decoded.ok) return decoded;
    for (const p of decoded.value) this.remember(p);
    return ok(decoded.value.length);
  }

  get prefixes(): readonly Prefix[] {
    return [...this.order].sort();
  }

  stands(prefix: Prefix): boolean {
    return this.standing.has(prefix);
  }

  /** The routes that should be in the kernel. */
  get routes(): readonly WantedRoute[] {
    return [...this.standing].map((p) => this.routeOf(p));
  }

  private routeOf(prefix: Prefix): WantedRoute {
    return { table: this.host.fib.main, prefix, via: [], metric: CLEAR_GUARD_METRIC };
  }

  private remember(prefix: Prefix): boolean {
    if (this.known.has(prefix)) return false;
    this.known.set(prefix, true);
    this.order.add(prefix);
    const [oldest] = this.order;
    if (this.order.size > MOST_PREFIXES && oldest !== undefined) this.drop(oldest);
    return true;
  }

  private drop(prefix: Prefix): void {
    this.known.delete(prefix);
    this.order.delete(prefix);
    this.place(prefix, false);
  }

  /** Begins: the main table is known. */
  begin(): void {
    this.watching = true;
    if (this.rules.enabled) this.touched("all");
    // what a crash left before it was switched off
    else for (const p of this.order) this.host.take(this.routeOf(p));
  }

  /**
   * Learns from prefixes that a hub attests: remembers the routes via the overlay under which they are reached. A default route via
   * the overlay is not remembered, since everything else would be refused with it.
   */
  attested(prefixes: readonly Prefix[]): void {
    if (!this.rules.enabled) return;
    let news = false;
    for (const p of prefixes) {
      const route = this.host.fib.daemonLookup(p);
      if (route === undefined || prefixLength(route.prefix) === 0) continue;
      const path = this.host.fib.pathOf(route);
      if (path !== "overlay" && path !== "direct") continue;
      if (!this.remember(route.prefix)) continue;
      news = true;
      this.weigh(route.prefix);
    }
    if (news) this.host.save(encodeGuarded([...this.order]));
  }

  /** Forgets prefixes, with everything inside them. Returns how many. */
  forget(which: Prefix | "all"): number {
    const gone = [...this.order].filter((p) => which === "all" || contains(which, p));
    for (const p of gone) this.drop(p);
    if (gone.length > 0) this.host.save(encodeGuarded([...this.order]));
    return gone.length;
  }

  /** Follows changes of the main table: puts back what somebody removed, and gives way to routes that cover. */
  touched(prefixes: readonly Prefix[] | "all"): void {
    if (!this.watching || !this.rules.enabled) return;
    if (prefixes === "all") for (const p of this.order) this.weigh(p);
    else for (const q of prefixes) for (const [p] of this.known.inside(q)) this.weigh(p);
  }

  private weigh(prefix: Prefix): void {
    const { fib } = this.host;
    const excepted = this.rules.except.some((e) => contains(e, prefix));
    const wanted = this.rules.enabled && !excepted && !fib.covered(prefix);
    const there = fib
      .routes(fib.main, prefix)
      .some((r) => r.protocol === RTPROT_SHORTCUTD && r.metric === CLEAR_GUARD_METRIC);
    if (wanted !== this.standing.has(prefix) || wanted !== there) this.place(prefix, wanted);
  }

  private place(prefix: Prefix, wanted: boolean): void {
    const stood = this.standing.has(prefix);
    if (wanted) {
      this.standing.add(prefix);
      this.host.put(this.routeOf(prefix));
    } else if (stood) {
      this.standing.delete(prefix);
      this.host.take(this.routeOf(prefix));
    }
  }

  /** Ends: removes the routes, and keeps what is remembered. */
  end(): readonly WantedRoute[] {
    this.watching = false;
    const routes = this.routes;
    this.standing.clear();
    return routes;
  }
}

/** One prefix a line, oldest first, behind a line with the version. */
export const encodeGuarded = (prefixes: readonly Prefix[]): string =>
  ["shortcutd guard 1", ...prefixes, ""].join("\n");

/** Decodes the file; an error names the line. */
export function decodeGuarded(text: string): Result<readonly Prefix[], string> {
  const [version, ...lines] = text.split("\n");
  if (version !== "shortcutd guard 1") return err("line 1: not a file of guarded prefixes, version 1");
  const out: Prefix[] = [];
  for (const [i, line] of lines.entries()) {
    if (line === "") continue;
    const p = parsePrefix(line);
    if (p === undefined || prefixLength(p) === 0)
      return err(`line ${i + 2}: ${JSON.stringify(line.slice(0, 50))} is not a prefix to guard`);
    if (out.push(p) > MOST_PREFIXES) return err(`line ${i + 2}: more than ${MOST_PREFIXES} prefixes`);
  }
  return ok(out);
}
