/**
 * Keeps the interfaces over which FRR learned its BGP paths. FRR's feed does not name them: the next
 * hop of a path from a session over link-local addresses is the router itself. bgpd is asked for
 * them by prefix, before an offer is made and after each change of the feed. The answers for paths
 * that remain are kept, so that the loss of one hub asks nothing.
 */
import type { AdjRibIn } from "../../bgp/rib.js";
import type { Prefix } from "../../net/address.js";

/** The interface of each path, by the path identifier of the feed. Paths without one are absent. */
export type InterfaceByPath = ReadonlyMap<number, string>;

/** An answer of bgpd; `dev` is undefined for a path that no interface belongs to. */
export interface PathInterface {
  readonly dev: string | undefined;
}

/** Prefixes that answers are kept for. */
const MOST_PREFIXES = 16_384;

export class PathInterfaces {
  private readonly answers = new Map<Prefix, ReadonlyMap<number, PathInterface>>();
  private readonly due = new Set<Prefix>();

  constructor(
    private readonly feed: Pick<AdjRibIn, "pathsOf">,
    /** Called when there is something to ask. */
    private readonly onDue: () => void,
    private readonly most = MOST_PREFIXES,
  ) {}

  /** Returns what is known of a path; undefined when bgpd has to be asked first. */
  of(prefix: Prefix, pathId: number): PathInterface | undefined {
    const known = this.answers.get(prefix)?.get(pathId);
    if (known === undefined) this.ask(prefix);
    return known;
  }

  private ask(prefix: Prefix): void {
    if (this.due.has(prefix)) return;
    this.due.add(prefix);
    this.onDue();
  }

  /** Takes changes of the feed: answers for withdrawn paths are dropped, the others are asked for again. */
  feedChanged(prefixes: readonly Prefix[]): void {
    for (const prefix of prefixes) {
      const known = this.answers.get(prefix);
      if (known === undefined) continue;
      const paths = this.feed.pathsOf(prefix);
      if (paths.length === 0) {
        this.answers.delete(prefix);
        continue;
      }
      const standing = new Set(paths.map((p) => p.pathId));
      this.answers.set(prefix, new Map([...known].filter(([id]) => standing.has(id))));
      this.ask(prefix);
    }
  }

  /** Forgets everything: the session of the feed has ended, and path identifiers are given again. */
  clear(): void {
    this.answers.clear();
    this.due.clear();
  }

  /** Takes the next prefix to ask for. */
  next(): Prefix | undefined {
    for (const prefix of this.due) {
      this.due.delete(prefix);
      return prefix;
    }
    return undefined;
  }

  /** Notes that a question has failed: the prefix is due again, without a call of `onDue`. */
  failed(prefix: Prefix): void {
    this.due.add(prefix);
  }

  get isDue(): boolean {
    return this.due.size > 0;
  }

  /** Takes bgpd's answer. Returns whether it says anything new of the feed's paths. */
  learn(prefix: Prefix, answer: InterfaceByPath): boolean {
    const paths = this.feed.pathsOf(prefix);
    const before = this.answers.get(prefix);
    this.answers.delete(prefix);
    if (paths.length === 0) return false;
    // bgpd may know paths that the feed does not have yet
    const ids = new Set([...paths.map((p) => p.pathId), ...answer.keys()]);
    const after = new Map([...ids].map((id) => [id, { dev: answer.get(id) }] as const));
    this.answers.set(prefix, after);
    this.evict();
    return paths.some(({ pathId }) => {
      const known = before?.get(pathId);
      return known === undefined || known.dev !== after.get(pathId)?.dev;
    });
  }

  private evict(): void {
    for (const prefix of this.answers.keys()) {
      if (this.answers.size <= this.most) return;
      this.answers.delete(prefix);
    }
  }
}
