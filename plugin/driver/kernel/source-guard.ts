/**
 * Only sources that the hub attests for this router pass the other end's AllowedIPs. A site may have others: a new LAN, transit from another site, a
 * loopback that nobody announces. The guard keeps them on the overlay and names them, so that an operator can announce them.
 */
import { type Address, type Prefix, prefix } from "../../net/address.js";
import type { DivertPort, DivertSpec, SourceGuardPort, UnattestedSource } from "../ports.js";
import { TaskQueue } from "../runtime/task-queue.js";

/** Probes are link-local, and WireGuard carries no other link-local traffic. */
const LINK_LOCAL = prefix("fe80::/10");
/** How many are named in the log; `status` has them all. */
const LOGGED = 16;

export class SourceGuard {
  private readonly tasks = new TaskQueue((e) => this.problem(e.place, e.message));
  private own: readonly Prefix[] | undefined;
  private begun = false;
  /** The overlay interface that the guard hands packets over to, as it stands. */
  private led: string | undefined;
  /** Whether other sources are routed into the overlay before their path is chosen. */
  private diverting = true;
  private readonly indexes = new Map<string, number>();
  private readonly logged = new Set<Address>();
  /** Sources that were sent via the overlay although their destination goes direct. */
  unattestedSources: readonly UnattestedSource[] = [];

  constructor(
    private readonly port: SourceGuardPort,
    private readonly divert: DivertPort,
    private readonly divertSpec: Omit<DivertSpec, "to">,
    private readonly direct: string,
    /** The overlay interface that leads to the hub in use; undefined: none exists now. */
    private readonly to: () => string | undefined,
    /** Host prefixes of this router on the overlay. */
    private readonly addresses: readonly Prefix[],
    private readonly problem: (place: string, text: string) => void,
  ) {}

  /** Takes the prefixes that the hub attests for this router. */
  attested(own: readonly Prefix[]): void {
    this.own = own;
    this.apply();
  }

  /** NAT rules translate sources on the direct interface as well: then the packets are looked at behind them. */
  natCoversDirect(covers: boolean): void {
    if (this.diverting !== covers) return;
    this.diverting = !covers;
    this.apply();
  }

  /**
   * Restores the policy rule and its route: another program may have removed them, or the overlay was made again. Follows the
   * overlay interface that leads to the hub.
   */
  routesChanged(): void {
    if (this.own === undefined) return;
    if (this.to() === this.led) this.divertAll();
    else this.apply();
  }

  private divertAll(): void {
    this.tasks.add("policy rule", () => this.divert.ensure({ ...this.divertSpec, to: this.to() }));
  }

  /** Sets the guard again when an interface was made again: a rule names it by its index, which has changed. */
  linkSeen(name: string, index: number): void {
    const known = this.indexes.get(name);
    this.indexes.set(name, index);
    if (known !== undefined && known !== index) this.apply();
  }

  private apply(): void {
    const { own } = this;
    if (own === undefined) return;
    const sources = [...new Set([...own, ...this.addresses, LINK_LOCAL])];
    const mark = this.diverting ? this.divertSpec.mark : undefined;
    this.divertAll();
    this.tasks.add("source guard", async () => {
      const to = this.to();
      await this.port.set({ direct: this.direct, to, sources, mark });
      this.led = to;
    });
  }

  async read(): Promise<void> {
    this.unattestedSources = await this.port.unattestedSources();
    for (const { source } of this.unattestedSources) {
      if (this.logged.has(source) || this.logged.size >= LOGGED) continue;
      this.logged.add(source);
      this.problem(
        "source guard",
        `${source} is not a source that the hub attests for this router: its packets go via the overlay; announce its prefix to the hub and allow it there`,
      );
    }
  }

  /** Sets the guard again as it was; another program has taken it away. */
  async restore(): Promise<void> {
    this.apply();
    await this.tasks.drained();
  }

  intact(): Promise<boolean> {
    return this.port.intact();
  }

  /** Removes what a former run left. */
  async begin(): Promise<void> {
    await this.port.remove();
    await this.divert.remove(this.divertSpec);
    this.begun = true;
  }

  /** Removes what this run made: not another's, when this one could not even begin. */
  async remove(): Promise<void> {
    if (!this.begun) return;
    this.own = undefined;
    await this.tasks.drained();
    await this.port.remove();
    await this.divert.remove(this.divertSpec);
  }
}
