/**
 * The control sockets, one bound to each overlay interface (SO_BINDTODEVICE): to those that exist now. `wg-quick down; wg-quick up` makes another
 * interface of the same name, to which the socket of the first would never be bound again; an interface of a pattern may come at any time. So links
 * and addresses are followed: a socket is opened when an interface or the address is there, and while none is the reason is told. Packets are
 * sent through the interface that the FIB uses for their destination.
 */
import type { Config } from "../../config/config.js";
import type { Address, Endpoint } from "../../net/address.js";
import { describeReason, no, type Reason, type Verdict, YES } from "../../shortcut/reasons.js";
import { overlayProblem } from "../overlay.js";
import type { DatagramPort, DatagramSocket, LogPort, RoutePort } from "../ports.js";
import { asPortError } from "../runtime/task-queue.js";

export interface OverlayBindingHost {
  readonly routes: Pick<RoutePort, "links" | "allAddresses">;
  readonly datagrams: DatagramPort;
  readonly log: LogPort;
  /** The overlay interfaces through which the FIB reaches an address. */
  overlayTo(to: Address): readonly string[];
  datagram(dev: string, from: Endpoint, payload: Uint8Array): void;
  problem(place: string, text: string): void;
  /** The overlay cannot be used any more, or has another interface, or has come back. */
  changed(verdict: Verdict): void;
}

interface Bound {
  readonly ifindex: number;
  readonly socket: DatagramSocket;
}

/** An overlay interface as it is found: usable, or why it is not. */
interface Found {
  readonly ifindex: number | undefined;
  readonly verdict: Verdict;
}

export class OverlayBinding {
  /** Whether any overlay interface can be used, as last seen. */
  verdict: Verdict = YES;
  /** The interfaces that cannot be used, each with its reason. */
  private faults = new Map<string, Reason>();
  private readonly bound = new Map<string, Bound>();
  private following: Promise<void> | undefined;
  private again = false;
  private closed = false;

  constructor(
    private readonly config: Config,
    private readonly self: Address,
    private readonly host: OverlayBindingHost,
  ) {}

  /** The reasons why interfaces cannot be used, for status. */
  get problems(): readonly Reason[] {
    return [...this.faults.values()];
  }

  /** At the start. @throws PortError when the port is taken. */
  async open(): Promise<void> {
    const found = await this.find();
    for (const [dev, { ifindex, verdict }] of found)
      if (ifindex !== undefined && (verdict.ok || verdict.reason.kind === "overlay-down"))
        await this.bind(dev, ifindex);
    this.take(found);
  }

  private async bind(dev: string, ifindex: number): Promise<void> {
    const { config, host } = this;
    const socket = await host.datagrams.open(
      { dev, address: this.self, port: config.control.port },
      (from, payload) => host.datagram(dev, from, payload),
      (e) => host.problem(e.place, e.message),
    );
    this.bound.set(dev, { ifindex, socket });
  }

  private async unbind(dev: string): Promise<void> {
    const bound = this.bound.get(dev);
    this.bound.delete(dev);
    await bound?.socket.close();
  }

  send(to: Endpoint, payload: Uint8Array): void {
    const dev = this.host.overlayTo(to.address).find((d) => this.bound.has(d));
    const [only, ...others] = this.bound.keys();
    // without a route the only interface is the way, as for a host that is on-link
    const by = dev ?? (others.length === 0 && !this.config.overlay.open ? only : undefined);
    if (by !== undefined) this.bound.get(by)?.socket.send(to, payload);
  }

  /** Looks whether the overlay is what the sockets are bound to. A call while it looks leads to another look. */
  follow(): Promise<void> {
    if (this.following !== undefined) {
      this.again = true;
      return this.following;
    }
    this.following = (async () => {
      do {
        this.again = false;
        await this.look();
      } while (this.again && !this.closed);
    })().finally(() => {
      this.following = undefined;
    });
    return this.following;
  }

  private async look(): Promise<void> {
    if (this.closed) return;
    const before = { verdict: this.verdict, faults: this.faults };
    const found = await this.find();
    if (this.closed) return;
    let fresh = false;
    for (const dev of [...this.bound.keys()]) if (!found.has(dev)) await this.unbind(dev);
    for (const [dev, f] of found) {
      if (await this.rebind(dev, f, found)) fresh = true;
      if (this.closed) return;
    }
    this.take(found);
    this.tell(before, fresh);
  }

  /** Brings the socket of one interface to what was found. Returns whether it is another one now. */
  private async rebind(
    dev: string,
    { ifindex, verdict }: Found,
    found: Map<string, Found>,
  ): Promise<boolean> {
    const wasUsable = !this.faults.has(dev) && this.bound.get(dev)?.ifindex === ifindex;
    if (!verdict.ok) {
      if (verdict.reason.kind !== "overlay-down") await this.unbind(dev);
      return false;
    }
    if (wasUsable || ifindex === undefined) return false;
    await this.unbind(dev);
    if (this.closed) return false;
    try {
      await this.bind(dev, ifindex);
    } catch (e) {
      const error = asPortError("control socket", e).message;
      found.set(dev, { ifindex, verdict: no({ kind: "overlay-unbound", name: dev, error }) });
    }
    if (this.closed) await this.unbind(dev);
    return true;
  }

  private take(found: ReadonlyMap<string, Found>): void {
    this.faults = new Map(
      [...found].flatMap(([dev, { verdict }]) => (verdict.ok ? [] : [[dev, verdict.reason]])),
    );
    const [first] = this.faults.values();
    const usable = [...found.values()].some((f) => f.verdict.ok);
    const none: Reason = { kind: "overlay-missing", name: this.config.overlay.toString() };
    this.verdict = usable ? YES : no(first ?? none);
  }

  private tell(before: { verdict: Verdict; faults: ReadonlyMap<string, Reason> }, fresh: boolean): void {
    const { host, verdict } = this;
    for (const [dev, reason] of this.faults) {
      const text = describeReason(reason);
      if (text !== describeReason(before.faults.get(dev))) host.log.warn(text, { interface: dev });
    }
    for (const dev of before.faults.keys())
      if (!this.faults.has(dev) && this.bound.has(dev))
        host.log.info("bound to the overlay interface again", { interface: dev });
    const text = (v: Verdict): string => (v.ok ? "" : describeReason(v.reason));
    if (fresh || text(verdict) !== text(before.verdict)) host.changed(verdict);
  }

  /** All overlay interfaces: those that exist, and those that are named and do not. */
  private async find(): Promise<Map<string, Found>> {
    const { config, self, host } = this;
    const [links, addresses] = await Promise.all([host.routes.links(), host.routes.allAddresses()]);
    const names = new Set([
      ...config.overlay.patterns.filter((p) => !p.endsWith("*")),
      ...links.map((l) => l.name).filter((name) => config.overlay.has(name)),
    ]);
    return new Map(
      [...names].map((name) => {
        const reason = overlayProblem(config, name, self, links, addresses);
        const ifindex = links.find((l) => l.name === name)?.ifindex;
        return [name, { ifindex, verdict: reason === undefined ? YES : no(reason) }] as const;
      }),
    );
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.following?.catch(() => undefined);
    for (const dev of [...this.bound.keys()]) await this.unbind(dev);
  }
}
